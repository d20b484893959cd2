"""Any arrays in; contiguous slices for a wing; what comes out in the caller's own kind.

A front room hands its arguments to one function here, below. It admits the arrays (kind and dtype),
checks their shapes and ``out``, lays them out as C-contiguous (outer, n, inner), has the wing fill
the result and gives that back as the kind that came in. Errors come before anything is written.
"""

import functools
import itertools
import math
import numbers
import operator
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from numba_acts import _tensors
from numba_acts.cpu import affine as cpu_affine
from numba_acts.cpu import maxout as cpu_maxout
from numba_acts.cpu import softmax as cpu_softmax
from numba_acts.cpu.math import BFLOAT16

Axis = int | tuple[int, ...] | None

_modules = sys.modules
_FLOATS = {np.dtype(kind) for kind in "efd"}  # and bfloat16, once it is met
_NONE = np.empty(0, np.uint8)
_ndarray, _may_share_memory = np.ndarray, np.may_share_memory


# ---- what comes in, what goes out -------------------------------------------------------------


class Call:
    """One call: the kind of its arrays, which is the kind of its results."""

    torch: Any = None  # the module, if the arrays are its CPU tensors

    hall: Any = None  # the module with the same functions for arrays that live elsewhere

    def __init__(self, **arguments: Any) -> None:
        given = {name: value for name, value in arguments.items() if value is not None}
        on_gpu = {name: _on_gpu(value) for name, value in given.items()}
        if any(on_gpu.values()):
            if not all(on_gpu.values()):
                places = ", ".join(
                    f"{name} is {'on a GPU' if there else 'in host memory'}"
                    for name, there in on_gpu.items()
                )
                raise TypeError(f"arrays must all be in one memory, but {places}")
            self.hall = _device()
        dask = sys.modules.get("dask.array")
        if dask is not None and any(isinstance(a, dask.Array) for a in arguments.values()):
            self.hall = _dask()

    def admit(self, name: str, value: Any, wanted: str = _tensors.NUMBERS) -> np.ndarray:
        """The NumPy array behind an argument, in the machine's byte order."""
        if type(value) is not np.ndarray:
            value = self._array(name, value, wanted)
        dtype = value.dtype
        if dtype in _FLOATS or dtype == BFLOAT16 and self.torch is not None:
            return value
        if not dtype.isnative and dtype.names is None:
            value = value.astype(dtype.newbyteorder("="))
            dtype = value.dtype
        if dtype.name == "bfloat16":
            _FLOATS.add(dtype)
        elif dtype.kind not in "biuf" or dtype.itemsize > 8 or dtype.type.__module__ != "numpy":
            raise TypeError(f"{name} must be {wanted}, got {dtype.name}")
        return value

    def _array(self, name: str, value: Any, wanted: str) -> np.ndarray:
        torch = _tensors.module(value)
        if torch is not None:
            return self._tensor(torch, name, value, wanted)
        if isinstance(value, np.ma.MaskedArray):
            raise TypeError(
                f"{name} is a masked array, whose mask would be ignored: pass its data, and "
                "where=~mask to say which entries count"
            )
        if hasattr(type(value), "__dask_graph__") and value.__dask_graph__() is not None:
            raise TypeError(
                f"{name} must be a Dask array or one in memory, got {type(value).__name__}, which "
                "would be computed whole: pass the Dask array in it (data), or its compute()"
            )
        try:
            array = np.asarray(value)
        except ValueError as error:
            kind = type(value).__name__
            raise ValueError(f"{name} must be an array, got {kind}: {error}") from None
        if array.dtype == object and not isinstance(value, np.ndarray):
            kind = type(value).__name__ + (" of objects" if array.ndim else "")
            raise TypeError(f"{name} must be {wanted}, got {kind}")
        return array

    def _tensor(self, torch: Any, name: str, value: Any, wanted: str) -> np.ndarray:
        _tensors.check(torch, name, value, wanted)
        if value.device.type != "cpu":
            raise TypeError(f"{name} must be a tensor in host memory, got one on {value.device}")
        self.torch = torch
        value = value.resolve_conj().resolve_neg()
        try:
            if value.dtype == torch.bfloat16:
                return value.view(torch.int16).numpy().view(BFLOAT16)
            return value.numpy()
        except RuntimeError:
            raise _tensors.no_memory(name) from None

    def dtype(self, name: str, dtype: Any) -> np.dtype:
        """The dtype behind an argument that names one."""
        if self.torch is not None and isinstance(dtype, self.torch.dtype):
            return _tensors.dtype(self.torch, name, dtype)
        try:
            empty = np.empty(0, dtype)
        except TypeError:
            raise TypeError(f"{name} must be a dtype, got {_shown(dtype)}") from None
        return self.admit(name, empty).dtype

    def give(self, result: np.ndarray) -> Any:
        """A fresh result as the caller's kind."""
        if self.torch is None:
            return result if result.ndim else result[()]
        if result.dtype == BFLOAT16:
            return self.torch.from_numpy(result.view(np.int16)).view(self.torch.bfloat16)
        return self.torch.from_numpy(result)


def _traced() -> bool:
    """Is PyTorch's compiler reading this code, which it shall run instead?"""
    return sys.modules["torch"].compiler.is_compiling()


def _untraced(function: Any, *given: Any) -> Any:
    return sys.modules["torch"].compiler.disable(function)(*given)


def _on_gpu(value: Any) -> bool:
    there = getattr(value, "is_cuda", None)  # PyTorch's, which needs no interface to tell
    return there if type(there) is bool else hasattr(value, "__cuda_array_interface__")


ON_GPU: set[type] = set()  # arrays that always live there; `_device` adds the types that it meets


def _plainly_on_gpu(x: Any, *others: Any) -> bool:
    """Are all arrays of one kind, and on a GPU? A quick answer, of which False says nothing."""
    kind = type(x)
    there = kind in ON_GPU or getattr(x, "is_cuda", False) is True
    return there and all(
        other is None or type(other) is kind and (kind in ON_GPU or other.is_cuda)
        for other in others
    )


@functools.cache
def _device() -> Any:
    """The hall of arrays on a GPU, which is imported for the first of them."""
    from numba_acts import _device

    return _device


@functools.cache
def _dask() -> Any:
    """The hall of Dask arrays."""
    from numba_acts import dask

    return dask


def _shown(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"


def _float_dtype(dtype: np.dtype) -> np.dtype:
    """What softmin and softmax2d give for a dtype: floats keep theirs, the rest is float64."""
    return np.dtype(np.float64) if dtype.kind in "iub" else dtype


def _common(*dtypes: np.dtype) -> np.dtype:
    """The floating dtype of operands together; float32 for sixteen-bit floats that differ."""
    floats = {_float_dtype(dtype) for dtype in dtypes}
    if len(floats) == 1:
        return floats.pop()
    double = np.dtype(np.float64)
    return double if double in floats else np.dtype(np.float32)


def _integer(name: str, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an int, got {_shown(value)}") from None


def _axis(axis: Any, ndim: int) -> int:
    number = _integer("axis", axis)
    if not -ndim <= number < ndim:
        raise np.exceptions.AxisError(number, ndim)
    return number % ndim


def _axes(axis: Axis, ndim: int) -> tuple[int, ...]:
    """The axes of a slice, in order; an array of rank 0 is one slice of one number."""
    if axis is None:
        return tuple(range(ndim))
    if not isinstance(axis, tuple):
        alone = ndim == 0 and _integer("axis", axis) in (0, -1)
        return () if alone else (_axis(axis, ndim),)
    axes = tuple(sorted(_axis(a, ndim) for a in axis))
    if len(set(axes)) < len(axes):
        raise ValueError(f"axis must not hold a duplicate, got {axis!r}")
    return axes


def _out(out: Any, call: Call, shape: tuple[int, ...], dtype: np.dtype, name: str = "out") -> Any:
    """The array behind ``out``, which must be what the result would be."""
    if call.torch is not None and isinstance(out, call.torch.Tensor):
        _plain_tensor(name, out)
        array = call.admit(name, out)
    elif isinstance(out, np.ndarray) and not isinstance(out, np.ma.MaskedArray):
        array = out
    else:
        wanted = "a NumPy array" if call.torch is None else "a PyTorch CPU tensor"
        raise TypeError(f"{name} must be {wanted}, got {type(out).__name__}")
    return _as_result(name, array, shape, dtype)


def _plain_tensor(name: str, out: Any) -> None:
    """Numbers written to a view that negates would be read with the other sign."""
    if out.is_neg() or out.is_conj():
        raise TypeError(f"{name} must be a plain tensor, got the view of a conjugate")


def _as_result(name: str, array: np.ndarray, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """The array, which must be what the result would be."""
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    if array.dtype != dtype:
        raise ValueError(f"{name} must have dtype {dtype}, got {array.dtype}")
    if not array.flags.writeable:
        raise ValueError(f"{name} must be writeable, got a read-only array")
    if 0 in array.strides and array.size > 1:
        if any(n > 1 and not step for n, step in zip(array.shape, array.strides, strict=True)):
            raise ValueError(f"{name} must be writeable, got an array broadcast to {shape}")
    return array


# ---- memory -----------------------------------------------------------------------------------


@functools.lru_cache(1 << 12)
def _lengths(shape: tuple[int, ...], axis: int) -> tuple[int, int, int] | None:
    """(outer, n, inner) of a C-contiguous array; None if it is empty or has no such axis."""
    if 0 in shape or not -len(shape) <= axis < len(shape):
        return None
    axis %= len(shape)
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


def _flat(array: np.ndarray) -> np.ndarray:
    """A contiguous array's memory as a wing sees it: of one axis, and of no subclass."""
    return np.asarray(array).ravel()


def _dense(array: np.ndarray) -> bool:
    return array.flags.c_contiguous and array.flags.aligned


def _overlaps(array: np.ndarray, target: np.ndarray) -> bool:
    """Do two arrays share memory other than number for number?"""
    if array is target or not np.may_share_memory(array, target):
        return False
    return not (
        array.ctypes.data == target.ctypes.data
        and array.strides == target.strides
        and array.itemsize == target.itemsize
    )


def _beside(array: np.ndarray, *targets: np.ndarray) -> np.ndarray:
    """The array, or a copy if a result is to be written over it."""
    over = any(np.may_share_memory(array, target) for target in targets)
    return array.copy() if over else array


def _unrepeated(array: np.ndarray) -> np.ndarray:
    """The array without what is repeated in it, by strides of zero."""
    return array[tuple(slice(None) if step else slice(1) for step in array.strides)]


def _apart(array: np.ndarray) -> np.ndarray:
    """The array, or a copy if it isn't contiguous."""
    return array if _dense(array) else np.array(array, order="C")


# Memory for copies of operands where they are needed: as many slices at a time as go into it.
PORTION_BYTES = 1 << 19


class Layout:
    """The order of an array's axes in which slices are (outer, n, inner) of its memory.

    That is the order of its strides, so that no dense array is copied. Where the axes of a slice
    would not stand together they come last.
    """

    def __init__(self, array: np.ndarray, axes: tuple[int, ...]) -> None:
        ndim = array.ndim
        order = sorted(range(ndim), key=lambda axis: -abs(array.strides[axis]))
        if array.flags.c_contiguous or not array.transpose(order).flags.c_contiguous:
            order = list(range(ndim))
        places = [order.index(axis) for axis in axes]
        first = places[0] if places else ndim
        if places != list(range(first, first + len(axes))):
            order = [axis for axis in range(ndim) if axis not in axes] + list(axes)
            first = ndim - len(axes)
        self.order, self.axes = order, axes
        self.first, self.last = first, first + len(axes)

    def lengths(self, shape: Sequence[int]) -> tuple[int, int, int]:
        """(outer, n, inner) of an array in this order."""
        parts = shape[: self.first], shape[self.first : self.last], shape[self.last :]
        outer, n, inner = map(math.prod, parts)
        return outer, n, inner

    def portions(self, shape: Sequence[int], nbytes: int) -> Iterator[tuple[slice, ...]]:
        """Parts of arrays in this order, of whole slices: as many as fit in `PORTION_BYTES`.

        `nbytes` are those of a slice that are copied; one slice is a part, however long it is.
        """
        room, lengths = PORTION_BYTES // max(1, nbytes), [*shape[: self.first], *shape[self.last :]]
        steps: list[int] = []
        for length in reversed(lengths):
            steps.insert(0, max(1, min(room, length)))
            room //= length
        whole = [slice(None)] * (self.last - self.first)
        for corner in itertools.product(*map(range, itertools.repeat(0), lengths, steps)):
            part = [slice(at, at + step) for at, step in zip(corner, steps, strict=True)]
            yield *part[: self.first], *whole, *part[self.first :]

    def of(self, array: np.ndarray, part: tuple[slice, ...]) -> np.ndarray:
        """A part of an array, which may be without the slices' axis, or have it twice."""
        within = part[self.first : self.last] * (1 + array.ndim - len(part))
        place: Any = (..., *part[: self.first], *within, *part[self.last :])
        return array[place]

    def fill(
        self,
        shape: Sequence[int],
        sources: list[Any],
        targets: list[np.ndarray],
        kernel: Any,
        in_place: int = 0,
    ) -> None:
        """Have a kernel fill the targets from the sources, all of them in this order of axes.

        It takes flat memory, and the lengths of `shape`, that of arrays with the slices' axis. What
        does not lie as it takes it is copied in portions; one of the first `in_place` sources into
        the target, where it is computed in place.
        """
        arrays = [a for a in (*sources, *targets) if a is not None]
        copied = [a for a in arrays if not _dense(a)]
        if not copied:
            flat = [None if a is None else _flat(a) for a in (*sources, *targets)]
            kernel(*flat, *self.lengths(shape))
            return
        if self.last < len(shape):  # parts of the others are not dense either
            copied = arrays
        candidates = enumerate(sources[:in_place])
        lands = next((i for i, a in candidates if _lands_in(a, targets[0], arrays)), None)
        nbytes = sum(a.nbytes for a in copied)
        if lands is not None:  # without memory of its own; for a cache's sake it is counted in part
            nbytes -= sources[lands].nbytes * 3 // 4
        outer, _, inner = self.lengths(shape)
        for part in self.portions(shape, -(-nbytes // (outer * inner))):
            lengths = self.lengths(
                [len(range(n)[some]) for n, some in zip(shape, part, strict=True)]
            )
            self._fill_part(part, lengths, sources, targets, kernel, lands)

    def _fill_part(
        self,
        part: tuple[slice, ...],
        lengths: tuple[int, int, int],
        sources: list[Any],
        targets: list[np.ndarray],
        kernel: Any,
        lands: int | None,
    ) -> None:
        given: list[Any] = [None if a is None else self.of(a, part) for a in sources]
        parts = [self.of(target, part) for target in targets]
        into = list(map(_memory_for, parts))
        if lands is not None:
            np.copyto(into[0], given[lands])
            given[lands] = into[0]
        flat = [None if a is None else _flat(_apart(a)) for a in given]
        kernel(*flat, *map(_flat, into), *lengths)
        for filled, target in zip(into, parts, strict=True):
            _accept(filled, target)

    def reduced(self) -> list[int]:
        """The order of a result without the slices' one axis."""
        (gone,) = self.axes
        return [axis - (axis > gone) for axis in self.order if axis != gone]

    def doubled(self) -> list[int]:
        """The order of a result with a second axis behind the slices' one."""
        (twice,) = self.axes
        return [
            new
            for axis in self.order
            for new in ((axis, axis + 1) if axis == twice else (axis + (axis > twice),))
        ]


@functools.cache
def _in_order(ndim: int, axis: int) -> Layout:
    """The order of axes of C-contiguous arrays."""
    return Layout(np.empty((1,) * ndim), (axis,))


def _lands_in(array: np.ndarray, target: np.ndarray, arrays: list[np.ndarray]) -> bool:
    """Is a source to be copied, and can it be copied there without loss, of the others either?"""
    if _dense(array) or not (array.dtype == target.dtype or np.can_cast(array.dtype, target.dtype)):
        return False
    return not any(a is not target and np.may_share_memory(a, target) for a in arrays)


class Result:
    """Memory, in an order of axes, for a wing to fill: that of ``out``, or a fresh array's."""

    def __init__(self, out: Any, array: Any, shape: tuple[int, ...], dtype: Any, order: list[int]):
        self.out, self.order = out, order
        if out is None:
            self.memory = np.empty([shape[axis] for axis in order], dtype)
        else:
            self.memory = array.transpose(order)

    def give(self, call: Call) -> Any:
        """The result, in the order of axes that the caller knows."""
        if self.out is not None:
            _tensors.written(self.out)
            return self.out
        return call.give(self.memory.transpose(np.argsort(self.order)))


def _memory_for(target: np.ndarray) -> np.ndarray:
    """Contiguous memory for a result: its own if it is, else some to be copied from."""
    return target if _dense(target) else np.empty(target.shape, target.dtype)


def _accept(filled: np.ndarray, target: np.ndarray) -> None:
    if not np.may_share_memory(filled, target):
        target[...] = filled


# ---- softmin and softmax2d --------------------------------------------------------------------


def inverse_temperature(temperature: Any) -> float:
    """1/temperature, checked."""
    if type(temperature) is not float:
        temperature = _number(temperature)
    if 0.0 < temperature < math.inf:
        return 1.0 / temperature
    raise ValueError(f"temperature must be finite and above 0, got {temperature!r}")


def _number(temperature: Any) -> float:
    scalar = isinstance(temperature, numbers.Real) or getattr(temperature, "ndim", None) == 0
    torch = _tensors.module(temperature)
    if torch is not None:
        _tensors.check(torch, "temperature", temperature)
    if not scalar:
        raise TypeError(f"temperature must be a number, got {_shown(temperature)}")
    try:
        return float(temperature)
    except OverflowError:
        return math.inf
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"temperature must be a number, got {_shown(temperature)}") from None


def image_axis(name: str, image: Any, channel_axis: Any) -> int:
    """The channel axis of an image, or of a batch of them."""
    if "torch._dynamo" in _modules and _traced():
        return _untraced(image_axis, name, image, channel_axis)
    if hasattr(image, "ndim"):
        ndim = image.ndim
    else:
        call = Call(**{name: image})
        call = call.hall.Call(**{name: image}) if call.hall else call
        ndim = call.admit(name, image).ndim
    if ndim not in (3, 4):
        raise ValueError(
            f"{name} must have 3 axes, which mean (C, H, W), or 4, (N, C, H, W), got {ndim}; "
            "channel_axis=-1 says that C is last"
        )
    if type(channel_axis) is not int and not isinstance(channel_axis, np.integer):
        raise TypeError(f"channel_axis must be the int -3 or -1, got {_shown(channel_axis)}")
    if channel_axis not in (-3, -1):
        raise ValueError(
            f"channel_axis must be -3, for (C, H, W), or -1, for (H, W, C), got {channel_axis}"
        )
    return int(channel_axis)


def softmax(x: Any, axis: Axis, beta: float, where: Any, out: Any) -> Any:
    """exp(βx − max βx) / Σ exp(βx − max βx) over `axis`."""
    if "torch._dynamo" in _modules and _traced():
        return _untraced(softmax, x, axis, beta, where, out)
    # The common case, in as few steps as Python allows.
    if type(x) is _ndarray and where is None and type(axis) is int and x.flags.carray:
        shape, dtype = x.shape, x.dtype
        lengths = _lengths(shape, axis)
        if lengths is not None and dtype in _FLOATS:
            if out is None:
                y = np.empty(shape, dtype)
            elif out is x or _fits(out, shape, dtype, x, x):
                y = out
            else:
                return _softmax(x, axis, beta, where, out)
            cpu_softmax.softmax(x.ravel(), None, y.ravel(), *lengths, beta)
            return y
    elif where is None and _plainly_on_gpu(x, out):
        return _device().softmax(x, axis, beta, where, out)
    return _softmax(x, axis, beta, where, out)


def _fits(out: Any, shape: tuple[int, ...], dtype: Any, x: np.ndarray, y: np.ndarray) -> bool:
    """Is `out` plainly right: of that shape and dtype, contiguous, apart from x and y?"""
    return (
        type(out) is _ndarray
        and out.dtype is dtype
        and out.shape == shape
        and out.flags.carray
        and (
            (out.base is None and x.base is None and y.base is None)
            or not (_may_share_memory(out, x) or _may_share_memory(out, y))
        )
    )


def _softmax(x: Any, axis: Axis, beta: float, where: Any, out: Any) -> Any:
    call = Call(x=x, where=where, out=out)
    if call.hall:
        return call.hall.softmax(x, axis, beta, where, out)
    array = call.admit("x", x)
    axes = _axes(axis, array.ndim)
    dtype = _float_dtype(array.dtype)
    mask = None if where is None else _mask(Call(), where, array.shape)
    given = None if out is None else _out(out, call, array.shape, dtype)
    layout = Layout(array, axes)
    result = Result(out, given, array.shape, dtype, layout.order)
    if not array.size:
        return result.give(call)
    source, target = array.transpose(layout.order), result.memory
    if _overlaps(source, target):
        source = source.copy()
    if mask is not None:
        mask = mask.transpose(layout.order)
        mask = mask.copy() if np.may_share_memory(mask, target) else mask
    kernel = functools.partial(cpu_softmax.softmax, beta=beta)
    layout.fill(source.shape, [source, mask], [target], kernel, in_place=1)
    return result.give(call)


def _mask(call: Any, where: Any, shape: tuple[int, ...]) -> np.ndarray:
    mask = call.admit("where", where, _tensors.BOOLS)
    if mask.dtype != np.bool_:
        raise TypeError(f"where must be a boolean mask, got dtype {mask.dtype}")
    try:
        return np.broadcast_to(mask, shape)
    except ValueError:
        raise ValueError(
            f"where must broadcast to x's shape {shape}, got shape {mask.shape}"
        ) from None


def softmax_product(name: str, g: Any, y: Any, axis: Axis, beta: float, out: Any) -> Any:
    """β y (g − ⟨g, y⟩) over `axis`; `name` is what the front room calls g."""
    if "torch._dynamo" in _modules and _traced():
        return _untraced(softmax_product, name, g, y, axis, beta, out)
    if (
        type(g) is type(y) is _ndarray
        and type(axis) is int
        and g.dtype is y.dtype
        and g.shape == y.shape
        and g.flags.carray
        and y.flags.carray
    ):
        lengths, known = _lengths(y.shape, axis), y.dtype in _FLOATS
        if lengths and known and (out is None or _fits(out, y.shape, y.dtype, g, y)):
            dx = np.empty(y.shape, y.dtype) if out is None else out
            cpu_softmax.product(g.ravel(), y.ravel(), dx.ravel(), *lengths, beta)
            return dx
    elif _plainly_on_gpu(g, y, out):
        return _device().softmax_product(name, g, y, axis, beta, out)
    call = Call(**{name: g}, y=y, out=out)
    if call.hall:
        return call.hall.softmax_product(name, g, y, axis, beta, out)
    first, second = call.admit(name, g), call.admit("y", y)
    _same_shape(name, first, "y", second)
    axes = _axes(axis, second.ndim)
    dtype = _common(first.dtype, second.dtype)
    given = None if out is None else _out(out, call, second.shape, dtype)
    layout = Layout(second, axes)
    result = Result(out, given, second.shape, dtype, layout.order)
    if second.size:
        target = result.memory
        sources = [array.transpose(layout.order) for array in (first, second)]
        sources = [a.copy() if _overlaps(a, target) else a for a in sources]
        kernel = functools.partial(cpu_softmax.product, beta=beta)
        layout.fill(target.shape, sources, [target], kernel, in_place=2)
    return result.give(call)


def _same_shape(name: str, array: np.ndarray, other_name: str, other: np.ndarray) -> None:
    if array.shape != other.shape:
        raise ValueError(f"{name} must have {other_name}'s shape {other.shape}, got {array.shape}")


def softmax_jacobian(y: Any, axis: int, beta: float, out: Any) -> Any:
    """β (y_i δ_ij − y_i y_j), axes i and j in the place of `axis`."""
    if "torch._dynamo" in _modules and _traced():
        return _untraced(softmax_jacobian, y, axis, beta, out)
    call = Call(y=y, out=out)
    if call.hall:
        return call.hall.softmax_jacobian(y, axis, beta, out)
    array = call.admit("y", y)
    dtype = _common(array.dtype)
    place = _axis(axis, array.ndim)
    n = array.shape[place]
    shape = (*array.shape[:place], n, n, *array.shape[place + 1 :])
    given = None if out is None else _out(out, call, shape, dtype)
    layout = Layout(array, (place,))
    result = Result(out, given, shape, dtype, layout.doubled())
    if array.size:
        source = _beside(array.transpose(layout.order), result.memory)
        kernel = functools.partial(cpu_softmax.jacobians, beta=beta)
        layout.fill(source.shape, [source], [result.memory], kernel)
    return result.give(call)


def softmax_jacobian_diag(y: Any, beta: float, out: Any) -> Any:
    """β y (1 − y), number by number."""
    if "torch._dynamo" in _modules and _traced():
        return _untraced(softmax_jacobian_diag, y, beta, out)
    call = Call(y=y, out=out)
    if call.hall:
        return call.hall.softmax_jacobian_diag(y, beta, out)
    array = call.admit("y", y)
    dtype = _common(array.dtype)
    given = None if out is None else _out(out, call, array.shape, dtype)
    layout = Layout(array, ())
    result = Result(out, given, array.shape, dtype, layout.order)
    if array.size:
        source, target = array.transpose(layout.order), result.memory
        source = source.copy() if _overlaps(source, target) else source

        def fill(y: Any, into: Any, *lengths: int) -> None:
            cpu_softmax.diagonals(y, into, beta)

        layout.fill(source.shape, [source], [target], fill, in_place=1)
    return result.give(call)


# ---- maxout -----------------------------------------------------------------------------------


_INT32 = np.dtype(np.int32)


def _maxout_plainly(x: Any, axis: Any, indexed: bool, out: Any) -> Any:
    """The common case of `maxout` and `maxout_with_index`, or None if it isn't one."""
    if type(x) is not _ndarray or type(axis) is not int or x.ndim < 2 or not x.flags.carray:
        return None
    shape, dtype = x.shape, x.dtype
    lengths = _lengths(shape, axis)
    if lengths is None or dtype not in _FLOATS or lengths[1] > 1 << 31:
        return None
    axis %= len(shape)
    shape = shape[:axis] + shape[axis + 1 :]
    if out is None:
        y, index = np.empty(shape, dtype), np.empty(shape, _INT32) if indexed else None
        out = (y, index) if indexed else y
    elif indexed:
        if not (type(out) is tuple and len(out) == 2 and out[0] is not out[1]):
            return None
        y, index = out
        if not (_fits(y, shape, dtype, x, x) and _fits(index, shape, _INT32, x, y)):
            return None
    else:
        y, index = out, None
        if not _fits(y, shape, dtype, x, x):
            return None
    winners = None if index is None else index.ravel()
    cpu_maxout.maxout(x.ravel(), y.ravel(), winners, *lengths)
    return out


def maxout(x: Any, axis: int, out: Any) -> Any:
    """The maxima over `axis`."""
    if "torch._dynamo" in _modules and _traced():
        return _untraced(maxout, x, axis, out)
    done = _maxout_plainly(x, axis, False, out)
    if done is not None:
        return done
    if _plainly_on_gpu(x, out):
        return _device().maxout(x, axis, out)
    call = Call(x=x, out=out)
    if call.hall:
        return call.hall.maxout(x, axis, out)
    array, layout, shape = _pieces(call, x, axis)
    given = None if out is None else _out(out, call, shape, array.dtype)
    result = Result(out, given, shape, array.dtype, layout.reduced())
    _maxout(array, layout, result.memory)
    return result.give(call)


def maxout_with_index(x: Any, axis: int, index_dtype: Any, out: Any) -> Any:
    """The maxima over `axis` and the winning pieces; `out` is a pair."""
    if "torch._dynamo" in _modules and _traced():
        return _untraced(maxout_with_index, x, axis, index_dtype, out)
    if index_dtype is np.int32:
        done = _maxout_plainly(x, axis, True, out)
        if done is not None:
            return done
    if out is None and _plainly_on_gpu(x):
        return _device().maxout_with_index(x, axis, index_dtype, out)
    first, second = _pair(out)
    call = Call(x=x, **{"out[0]": first, "out[1]": second})
    if call.hall:
        return call.hall.maxout_with_index(x, axis, index_dtype, out)
    array, layout, shape = _pieces(call, x, axis)
    kind = _index_dtype(call, index_dtype, array.shape[layout.axes[0]])
    given = None if out is None else _out(first, call, shape, array.dtype, "out[0]")
    given_index = None if out is None else _out(second, call, shape, kind, "out[1]")
    _distinct(given, given_index)
    result = Result(first, given, shape, array.dtype, layout.reduced())
    index = Result(second, given_index, shape, kind, layout.reduced())
    _maxout(array, layout, result.memory, index.memory)
    pair = result.give(call), index.give(call)
    return pair if out is None else out


def _pair(out: Any) -> Any:
    if out is None:
        return None, None
    if not isinstance(out, tuple) or len(out) != 2:
        raise TypeError(f"out must be a pair (y, index) of arrays, got {_shown(out)}")
    return out


def _distinct(first: Any, second: Any) -> None:
    if first is not None and second is not None and np.shares_memory(first, second):
        raise ValueError("out must be two arrays that do not share memory")


def _pieces(call: Call, x: Any, axis: int) -> tuple[np.ndarray, Layout, tuple[int, ...]]:
    array = call.admit("x", x)
    place = _axis(axis, array.ndim)
    shape = array.shape
    if shape[place] == 0:
        raise ValueError(f"x must have at least one piece on axis {axis}, got shape {shape}")
    return array, Layout(array, (place,)), shape[:place] + shape[place + 1 :]


def _index_dtype(call: Call, index_dtype: Any, pieces: int) -> np.dtype:
    dtype = call.dtype("index_dtype", index_dtype)
    if dtype.kind not in "iu":
        raise TypeError(f"index_dtype must be an integer dtype, got {dtype}")
    if pieces - 1 > np.iinfo(dtype).max:
        raise ValueError(f"index_dtype must hold indices up to {pieces - 1}, got {dtype}")
    return dtype


def _maxout(array: np.ndarray, layout: Layout, *results: np.ndarray) -> None:
    if array.size:
        source = _beside(array.transpose(layout.order), *results)
        if not source.strides[layout.first]:  # equal pieces, of which the first wins
            source = source[(*[slice(None)] * layout.first, slice(1))]

        def fill(x: Any, y: Any, *rest: Any) -> None:
            index, *lengths = rest if len(results) > 1 else (None, *rest)
            cpu_maxout.maxout(x, y, index, *lengths)

        layout.fill(source.shape, [source], list(results), fill)


def _index(call: Call, index: Any) -> np.ndarray:
    array = call.admit("index", index, _tensors.INTEGERS)
    if array.dtype.kind not in "iu":
        raise TypeError(f"index must be of an integer dtype, got {array.dtype}")
    return array


def _check_range(index: np.ndarray, pieces: int) -> None:
    if index.size and not cpu_maxout.in_range(_flat(_apart(_unrepeated(index))), pieces):
        low, high = index.min(), index.max()
        raise IndexError(
            f"index must lie in [0, {pieces}), the pieces of a unit, got {low} to {high}"
        )


def _piece_count(pieces: Any) -> int:
    count = _integer("pieces", pieces)
    if count < 1:
        raise ValueError(f"pieces must be at least 1, got {count}")
    return count


def maxout_vjp(g: Any, index: Any, pieces: int, axis: int, out: Any) -> Any:
    """g at the winning pieces, zeros elsewhere."""
    if "torch._dynamo" in _modules and _traced():
        return _untraced(maxout_vjp, g, index, pieces, axis, out)
    if (
        type(g) is type(index) is _ndarray
        and type(axis) is type(pieces) is int
        and g.shape == index.shape
        and index.dtype.kind == "i"
        and index.dtype.isnative
        and g.flags.carray
        and index.flags.carray
        and -g.ndim - 1 <= axis <= g.ndim
        and pieces > 0
    ):
        known, place = g.dtype in _FLOATS, axis % (g.ndim + 1)
        shape = (*g.shape[:place], pieces, *g.shape[place:])
        if known and g.size and (out is None or _fits(out, shape, g.dtype, g, index)):
            dx = np.empty(shape, g.dtype) if out is None else out
            winners = index.ravel()
            _check_range(winners, pieces)
            outer, inner = math.prod(shape[:place]), math.prod(shape[place + 1 :])
            cpu_maxout.vjp(g.ravel(), winners, dx.ravel(), outer, pieces, inner)
            return dx
    elif _plainly_on_gpu(g, index, out):
        return _device().maxout_vjp(g, index, pieces, axis, out)
    call = Call(g=g, index=index, out=out)
    if call.hall:
        return call.hall.maxout_vjp(g, index, pieces, axis, out)
    array = call.admit("g", g)
    chosen = _index(call, index)
    _same_shape("g", array, "index", chosen)
    return _selected(call, array, chosen, pieces, axis, array.dtype, out)


def maxout_jacobian(index: Any, pieces: int, axis: int, dtype: Any, out: Any) -> Any:
    """Ones at the winning pieces, zeros elsewhere."""
    if "torch._dynamo" in _modules and _traced():
        return _untraced(maxout_jacobian, index, pieces, axis, dtype, out)
    call = Call(index=index, out=out)
    if call.hall:
        return call.hall.maxout_jacobian(index, pieces, axis, dtype, out)
    chosen = _index(call, index)
    kind = call.dtype("dtype", dtype)
    return _selected(call, None, chosen, pieces, axis, kind, out)


def _selected(
    call: Call, g: Any, index: np.ndarray, pieces: int, axis: int, dtype: Any, out: Any
) -> Any:
    """`g`, or ones if it is None, spread over a pieces axis put back at `axis`."""
    count = _piece_count(pieces)
    place = _axis(axis, index.ndim + 1)
    shape = (*index.shape[:place], count, *index.shape[place:])
    given = None if out is None else _out(out, call, shape, dtype)
    layout = _in_order(len(shape), place)
    result = Result(out, given, shape, dtype, layout.order)
    if index.size:
        _check_range(index, count)
        sources = [None if a is None else _beside(a, result.memory) for a in (g, index)]
        ones = np.empty(0, dtype)

        def fill(g: Any, *task: Any) -> None:
            cpu_maxout.vjp(ones if g is None else g, *task)

        layout.fill(shape, sources, [result.memory], fill)
    return result.give(call)


def maxout_jvp(t: Any, index: Any, axis: int, out: Any) -> Any:
    """The tangents of the winning pieces."""
    if "torch._dynamo" in _modules and _traced():
        return _untraced(maxout_jvp, t, index, axis, out)
    call = Call(t=t, index=index, out=out)
    if call.hall:
        return call.hall.maxout_jvp(t, index, axis, out)
    tangent = call.admit("t", t)
    place = _axis(axis, tangent.ndim)
    pieces = tangent.shape[place]
    chosen = _index(call, index)
    shape = tangent.shape[:place] + tangent.shape[place + 1 :]
    if chosen.shape != shape:
        raise ValueError(
            f"index must have t's shape without axis {axis}, {shape}, got {chosen.shape}"
        )
    given = None if out is None else _out(out, call, shape, tangent.dtype)
    layout = _in_order(tangent.ndim, place)
    result = Result(out, given, shape, tangent.dtype, layout.reduced())
    if chosen.size:
        _check_range(chosen, pieces)

        def fill(t: Any, index: Any, dy: Any, outer: int, pieces: int, inner: int) -> None:
            cpu_maxout.jvps(t, index, dy, pieces, inner)

        sources = [_beside(a, result.memory) for a in (tangent, chosen)]
        layout.fill(tangent.shape, sources, [result.memory], fill)
    return result.give(call)


# ---- maxout of an affine map ------------------------------------------------------------------


def _numbers(*dtypes: np.dtype) -> np.dtype:
    """The dtype of an affine map: integers stay integers, floats of two kinds meet in the wider."""
    found = set(dtypes)
    if found == {np.dtype(np.bool_)}:
        raise TypeError("x and weight must not all be bool, which has no sum: convert them first")
    if len(found) == 1:
        return found.pop()
    if all(dtype.kind in "iub" for dtype in found):
        return np.result_type(*found)
    return _common(*found)


def _weight(call: Call, weight: Any) -> tuple[np.ndarray, tuple[int, ...]]:
    """A weight and the shape of its units: one axis, or none for one unit alone."""
    array = call.admit("weight", weight)
    if array.ndim not in (2, 3) or array.shape[-2] == 0:
        raise ValueError(
            "weight must have shape (units, pieces, d), or (pieces, d) for one unit, with at least "
            f"one piece, got {array.shape}"
        )
    return array, array.shape[:-2]


def _like(call: Call, name: str, value: Any, shape: tuple[int, ...], why: str) -> np.ndarray:
    array = call.admit(name, value)
    if array.shape != shape:
        raise ValueError(f"{name} must have {why} {shape}, got {array.shape}")
    return array


def _inputs(call: Call, x: Any, depth: int) -> np.ndarray:
    array = call.admit("x", x)
    if array.ndim == 0 or array.shape[-1] != depth:
        raise ValueError(f"x must have shape (..., d) with weight's d = {depth}, got {array.shape}")
    return array


def maxout_affine(x: Any, weight: Any, bias: Any, indexed: bool, index_dtype: Any, out: Any) -> Any:
    """max over i of weight[u, i]·x + bias[u, i]; if `indexed`, the winning pieces too."""
    if "torch._dynamo" in _modules and _traced():
        return _untraced(maxout_affine, x, weight, bias, indexed, index_dtype, out)
    first, second = _pair(out) if indexed else (out, None)
    call = Call(x=x, weight=weight, bias=bias, **{"out": first, "out[1]": second})
    if call.hall:
        return call.hall.maxout_affine(x, weight, bias, indexed, index_dtype, out)
    weight, units = _weight(call, weight)
    pieces, depth = weight.shape[-2:]
    x = _inputs(call, x, depth)
    given = {"x": x, "weight": weight}
    if bias is not None:
        given["bias"] = _like(call, "bias", bias, weight.shape[:-1], "weight's shape without d,")
    dtype = _numbers(*(array.dtype for array in given.values()))
    shape = x.shape[:-1] + units
    order = list(range(len(shape)))
    kind = _index_dtype(call, index_dtype, pieces) if indexed else np.dtype(np.uint8)
    name = "out[0]" if indexed else "out"
    y_given = None if out is None else _out(first, call, shape, dtype, name)
    index_given = None
    if indexed and out is not None:
        index_given = _out(second, call, shape, kind, "out[1]")
    _distinct(y_given, index_given)
    y = Result(first, y_given, shape, dtype, order)
    index = Result(second, index_given, shape, kind, order) if indexed else None
    if y.memory.size:
        targets = [result.memory for result in (y, index) if result is not None]
        x, weight, *bias = (_beside(array, *targets) for array in given.values())
        for some, (weights, *biases) in _by_units(units, weight, *bias):
            lengths = len(range(math.prod(units))[some]), pieces, depth
            bias_of = biases[0] if biases else weights[:0]
            kernel = functools.partial(_affine_rows, weights, bias_of, lengths, indexed)
            parts = [target[..., some] if units else target for target in targets]
            _in_order(x.ndim, x.ndim - 1).fill(x.shape, [x], parts, kernel)
    if index is None:
        return y.give(call)
    pair = y.give(call), index.give(call)
    return pair if out is None else out


def _affine_rows(
    weight: Any, bias: Any, lengths: Any, indexed: bool, x: Any, y: Any, *rest: Any
) -> None:
    index = rest[0] if indexed else _NONE
    cpu_affine.affine(x, weight, bias, y, index, *lengths)


def _by_units(units: tuple[int, ...], *arrays: Any) -> Iterator[tuple[slice, list[Any]]]:
    """A layer's arrays, flat; some units at a time where they have to be copied."""
    copied = [a for a in arrays if a is not None and not _dense(a)]
    if not copied or not units:
        yield slice(None), [None if a is None else _flat(_apart(a)) for a in arrays]
        return
    step = max(1, PORTION_BYTES * units[0] // sum(a.nbytes for a in copied))
    for start in range(0, units[0], step):
        some = slice(start, start + step)
        yield some, [None if a is None else _flat(_apart(a[some])) for a in arrays]


def _winners(call: Call, index: Any, units: tuple[int, ...], pieces: int) -> np.ndarray:
    array = _index(call, index)
    if units and array.shape[-1:] != units:
        raise ValueError(
            f"index must have shape (..., units) with weight's {units[0]} units, got {array.shape}"
        )
    _check_range(array, pieces)
    return array


def maxout_affine_vjp(g: Any, x: Any, weight: Any, index: Any) -> tuple[Any, Any, Any]:
    """(dx, dweight, dbias)."""
    if "torch._dynamo" in _modules and _traced():
        return _untraced(maxout_affine_vjp, g, x, weight, index)
    call = Call(g=g, x=x, weight=weight, index=index)
    if call.hall:
        return call.hall.maxout_affine_vjp(g, x, weight, index)
    weight, units = _weight(call, weight)
    pieces, depth = weight.shape[-2:]
    x = _inputs(call, x, depth)
    shape = x.shape[:-1] + units
    why = "the result's shape (..., units)"
    g = _like(call, "g", g, shape, why)
    index = _like(call, "index", _winners(call, index, units, pieces), shape, why)
    dtype = _numbers(g.dtype, x.dtype, weight.dtype)
    number = _accumulated(dtype)
    results = [np.zeros(a, number) for a in (x.shape, weight.shape, weight.shape[:-1])]
    if g.size:
        count = math.prod(units)
        gradient = _once(g.reshape(-1, count))
        inputs = _once_in_rows(x.reshape(g.size // count, depth))
        saved = inputs, _flat(_apart(weight)), _flat(_apart(index))
        dx, dweight, dbias = map(_flat, results)
        cpu_affine.affine_vjp(gradient, *saved, dx, dweight, dbias, count, pieces, depth)
    dx, dweight, dbias = (call.give(result.astype(dtype, copy=False)) for result in results)
    return dx, dweight, dbias


def _once(matrix: np.ndarray) -> tuple[np.ndarray, int, int]:
    """A matrix's numbers, flat, and how far apart its rows and columns lie: 0 if repeated."""
    some = _unrepeated(matrix)
    rows = some.shape[1] if matrix.strides[0] else 0
    return _flat(_apart(some)), rows, int(matrix.strides[1] != 0)


def _once_in_rows(matrix: np.ndarray) -> tuple[np.ndarray, int]:
    """The same of a matrix whose rows are read as they lie."""
    repeated = not matrix.strides[0]
    return _flat(_apart(matrix[:1] if repeated else matrix)), 0 if repeated else matrix.shape[1]


def _accumulated(dtype: np.dtype) -> np.dtype:
    """What sums of products are taken in: integers wrap as NumPy's do, from 64 bits."""
    return dtype if dtype.kind not in "iub" else np.dtype(np.int64)


def maxout_affine_jvp(x: Any, weight: Any, index: Any, dx: Any, dweight: Any, dbias: Any) -> Any:
    """weight[u, i*]·dx + dweight[u, i*]·x + dbias[u, i*]; a tangent left out is zero."""
    if "torch._dynamo" in _modules and _traced():
        return _untraced(maxout_affine_jvp, x, weight, index, dx, dweight, dbias)
    call = Call(x=x, weight=weight, index=index, dx=dx, dweight=dweight, dbias=dbias)
    if call.hall:
        return call.hall.maxout_affine_jvp(x, weight, index, dx, dweight, dbias)
    weight, units = _weight(call, weight)
    pieces, depth = weight.shape[-2:]
    given = {"x": _inputs(call, x, depth), "weight": weight}
    shape = given["x"].shape[:-1] + units
    index = _like(
        call,
        "index",
        _winners(call, index, units, pieces),
        shape,
        "the result's shape (..., units)",
    )
    if dx is not None:
        given["dx"] = _like(call, "dx", dx, given["x"].shape, "x's shape")
    if dweight is not None:
        given["dweight"] = _like(call, "dweight", dweight, weight.shape, "weight's shape")
    if dbias is not None:
        why = "weight's shape without d,"
        given["dbias"] = _like(call, "dbias", dbias, weight.shape[:-1], why)
    dtype = _numbers(*(array.dtype for array in given.values()))
    number = _accumulated(dtype)
    dy = np.zeros(shape, number)
    if dy.size:
        names = "weight", "dweight", "dbias"
        none = np.empty(0, number)
        for some, parts in _by_units(units, *map(given.get, names)):
            layer = [none if part is None else part for part in parts]
            lengths = len(range(math.prod(units))[some]), pieces, depth
            kernel = functools.partial(_affine_tangents, layer, lengths)
            sources = [given["x"], given.get("dx"), index[..., some] if units else index]
            target = dy[..., some] if units else dy
            rows = _in_order(given["x"].ndim, given["x"].ndim - 1)
            rows.fill(given["x"].shape, sources, [target], kernel)
    return call.give(dy.astype(dtype, copy=False))


def _affine_tangents(layer: Any, lengths: Any, x: Any, dx: Any, index: Any, dy: Any, *_: int):
    weight, dweight, dbias = layer
    dx = np.empty(0, dy.dtype) if dx is None else dx
    cpu_affine.affine_jvp(dx, x, weight, dweight, dbias, index, dy, *lengths)


def maxout_affine_jacobian(weight: Any, index: Any) -> Any:
    """∂y/∂x = weight[u, index[..., u], :]."""
    if "torch._dynamo" in _modules and _traced():
        return _untraced(maxout_affine_jacobian, weight, index)
    call = Call(weight=weight, index=index)
    if call.hall:
        return call.hall.maxout_affine_jacobian(weight, index)
    weight, units = _weight(call, weight)
    pieces, depth = weight.shape[-2:]
    index = _winners(call, index, units, pieces)
    jacobian = np.empty((*index.shape, depth), weight.dtype)
    if jacobian.size:
        operands = _flat(_apart(weight)), _flat(_apart(index)), _flat(jacobian)
        cpu_affine.affine_jacobian(*operands, math.prod(units), pieces, depth)
    return call.give(jacobian)
