"""What is the same for arrays of every kind: dtypes, axes, shapes, orders, and what is refused.

A function here has the name of a hall's, and makes a `Task` of its arguments or says what is wrong
with them. The hall's `Call` admits arguments, as NumPy arrays whose shapes, strides and
addresses are true; their numbers may be anywhere, and are not looked at.
"""

import functools
import math
import numbers
import operator
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from numba_acts._dtypes import BFLOAT16, held
from numba_acts._halls import tensors

Axis = int | tuple[int, ...] | None

INT32 = np.dtype(np.int32)


class Call(Protocol):
    """One call on arrays of a kind."""

    def admit(self, name: str, value: Any, wanted: str = tensors.NUMBERS) -> np.ndarray:
        """The array behind an argument, or what describes it."""

    def dtype(self, name: str, dtype: Any) -> np.dtype:
        """The dtype behind an argument that names one."""

    def out(self, name: str, out: Any, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """The array behind an `out`, which must be what the result would be."""


class Result(NamedTuple):
    """What a call gives: `out`, or a fresh array, in an order of axes that kernels fill."""

    out: Any
    array: np.ndarray | None  # behind `out`
    shape: tuple[int, ...]
    dtype: np.dtype
    order: list[int]


class Task(NamedTuple):
    """What a kernel is to do: fill results from operands, slice by slice.

    Operands and `shape`, of arrays with the slices' axis, are in the layout's order of axes. The
    first `in_place` operands may be the very memory of the result.
    """

    layout: "Layout"
    shape: Sequence[int]
    operands: list[np.ndarray | None]
    results: list[Result | None]
    in_place: int = 0


# ---- where an array is ------------------------------------------------------------------------


def on_gpu(value: Any) -> bool:
    """Does an argument live on a GPU?"""
    kind = type(value)
    if kind in _ON_GPU:
        return True
    there = getattr(value, "is_cuda", None)  # PyTorch's, which needs no interface to tell
    if type(there) is not bool:
        there = hasattr(value, "__cuda_array_interface__")
        if there and kind.__module__.partition(".")[0] in ("cupy", "numba"):
            _ON_GPU.add(kind)  # arrays of other types may be, or not
    return there


_ON_GPU: set[type] = set()  # types whose arrays always are, as far as they have been met


# ---- dtypes -----------------------------------------------------------------------------------


def shown(value: Any) -> str:
    """An argument as an error shows it."""
    return f"{type(value).__name__} {value!r}"


def _named(dtype: np.dtype) -> Any:
    """A dtype as an error shows it; tensors of bfloat16 have one with a field of that name."""
    return dtype.names[0] if dtype.names else dtype


def _told_apart(dtypes: Iterable[np.dtype]) -> set[np.dtype]:
    """The dtypes that differ: a tensor's bfloat16 is that of the arrays beside it."""
    found = set(dtypes)
    return found - {BFLOAT16} if any(dtype.name == "bfloat16" for dtype in found) else found


def float_dtype(dtype: np.dtype) -> np.dtype:
    """What softmin and softmax2d give for a dtype: floats keep theirs, the rest is float64."""
    return np.dtype(np.float64) if dtype.kind in "iub" else dtype


def common_float(*dtypes: np.dtype) -> np.dtype:
    """The floating dtype of operands together; float32 for sixteen-bit floats that differ."""
    floats = set(map(float_dtype, _told_apart(dtypes)))
    if len(floats) == 1:
        return floats.pop()
    double = np.dtype(np.float64)
    return double if double in floats else np.dtype(np.float32)


def common(*dtypes: np.dtype) -> np.dtype:
    """The dtype of an affine map: integers stay integers, floats of two kinds meet in the wider."""
    found = _told_apart(dtypes)
    if found == {np.dtype(np.bool_)}:
        raise TypeError("x and weight must not all be bool, which has no sum: convert them first")
    if len(found) == 1:
        return found.pop()
    if all(dtype.kind in "iub" for dtype in found):
        return np.result_type(*found)
    return common_float(*found)


def sum_dtype(dtype: np.dtype) -> np.dtype:
    """What sums of products are taken in: integers wrap as NumPy's do, from 64 bits."""
    return dtype if dtype.kind not in "iub" else np.dtype(np.int64)


def dtype_of_index(call: Call, index_dtype: Any, pieces: int) -> np.dtype:
    """The dtype that is asked for an index, which must hold that of every piece."""
    dtype = call.dtype("index_dtype", index_dtype)
    if dtype.kind not in "iu":
        raise TypeError(f"index_dtype must be an integer dtype, got {dtype}")
    if pieces - 1 > np.iinfo(dtype).max:
        raise ValueError(f"index_dtype must hold indices up to {pieces - 1}, got {dtype}")
    return dtype


# ---- numbers and axes -------------------------------------------------------------------------


def integer(name: str, value: Any) -> int:
    """An argument that must be an int."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an int, got {shown(value)}") from None


def one_axis(axis: Any, ndim: int) -> int:
    """One axis, counted from the front."""
    number = integer("axis", axis)
    if not -ndim <= number < ndim:
        raise np.exceptions.AxisError(number, ndim)
    return number % ndim


def slice_axes(given: Axis, ndim: int) -> tuple[int, ...]:
    """The axes of a slice, in order; an array of rank 0 is one slice of one number."""
    if given is None:
        return tuple(range(ndim))
    if not isinstance(given, tuple):
        alone = ndim == 0 and integer("axis", given) in (0, -1)
        return () if alone else (one_axis(given, ndim),)
    found = tuple(sorted(one_axis(a, ndim) for a in given))
    if len(set(found)) < len(found):
        raise ValueError(f"axis must not hold a duplicate, got {given!r}")
    return found


def channel_axis(name: str, ndim: int, channel_axis: Any) -> int:
    """The channel axis of an image, or of a batch of them, of so many axes."""
    if ndim not in (3, 4):
        raise ValueError(
            f"{name} must have 3 axes, which mean (C, H, W), or 4, (N, C, H, W), got {ndim}; "
            "channel_axis=-1 says that C is last"
        )
    if type(channel_axis) is not int and not isinstance(channel_axis, np.integer):
        raise TypeError(f"channel_axis must be the int -3 or -1, got {shown(channel_axis)}")
    if channel_axis not in (-3, -1):
        raise ValueError(
            f"channel_axis must be -3, for (C, H, W), or -1, for (H, W, C), got {channel_axis}"
        )
    return int(channel_axis)


def inverse_temperature(temperature: Any) -> float:
    """1/temperature, checked."""
    if type(temperature) is not float:
        temperature = _number(temperature)
    if 0.0 < temperature < math.inf:
        return 1.0 / temperature
    raise ValueError(f"temperature must be finite and above 0, got {temperature!r}")


def _number(temperature: Any) -> float:
    scalar = isinstance(temperature, numbers.Real) or getattr(temperature, "ndim", None) == 0
    torch = tensors.module(temperature)
    if torch is not None:
        tensors.check(torch, "temperature", temperature)
    if not scalar:
        raise TypeError(f"temperature must be a number, got {shown(temperature)}")
    try:
        return float(temperature)
    except OverflowError:
        return math.inf
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"temperature must be a number, got {shown(temperature)}") from None


def piece_count(pieces: Any) -> int:
    """How many pieces a unit is said to have."""
    count = integer("pieces", pieces)
    if count < 1:
        raise ValueError(f"pieces must be at least 1, got {count}")
    if count > sys.maxsize:
        raise ValueError(f"pieces must be the length of an axis, got {count}")
    return count


# ---- shapes and orders ------------------------------------------------------------------------


class Layout:
    """The order of an array's axes in which slices are (outer, n, inner) of its memory.

    That is the order of its strides, so that no dense array is copied. Where the axes of a slice
    would not stand together they come last.
    """

    def __init__(self, array: np.ndarray, axes: tuple[int, ...]) -> None:
        ndim = array.ndim
        order = list(range(ndim))
        if not array.flags.c_contiguous:
            by_stride = sorted(order, key=lambda axis: -abs(array.strides[axis]))
            if array.transpose(by_stride).flags.c_contiguous:
                order = by_stride
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
def in_order(ndim: int, axis: int) -> Layout:
    """The order of axes of C-contiguous arrays."""
    return Layout(np.empty((1,) * ndim), (axis,))


@functools.lru_cache(1 << 12)
def lengths(shape: tuple[int, ...], axis: int) -> tuple[int, int, int] | None:
    """(outer, n, inner) of a C-contiguous array; None if it is empty or has no such axis."""
    if 0 in shape or not -len(shape) <= axis < len(shape):
        return None
    axis %= len(shape)
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


def overlaps(array: np.ndarray, target: np.ndarray) -> bool:
    """Do two arrays share memory other than number for number?"""
    if array is target or not np.may_share_memory(array, target):
        return False
    return not (
        array.ctypes.data == target.ctypes.data
        and array.strides == target.strides
        and array.itemsize == target.itemsize
    )


def check_result(name: str, array: np.ndarray, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Refuse an `out` that is not what the result would be."""
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    if held(array.dtype) != held(dtype):
        raise ValueError(f"{name} must have dtype {_named(dtype)}, got {_named(array.dtype)}")
    if not array.flags.writeable:
        raise ValueError(f"{name} must be writeable, got a read-only array")
    if 0 in array.strides and array.size > 1:
        if any(n > 1 and not step for n, step in zip(array.shape, array.strides, strict=True)):
            raise ValueError(f"{name} must be writeable, got an array broadcast to {shape}")


def pair(out: Any) -> Any:
    """The two arrays of an `out` for a result with its index."""
    if out is None:
        return None, None
    if not isinstance(out, tuple) or len(out) != 2 or out[0] is None or out[1] is None:
        raise TypeError(f"out must be a pair (y, index) of arrays, got {shown(out)}")
    return out


def _result(
    call: Call, name: str, out: Any, shape: tuple[int, ...], dtype: np.dtype, order: list[int]
) -> Result:
    array = None if out is None else call.out(name, out, shape, dtype)
    return Result(out, array, shape, dtype, order)


def _both(
    call: Call, outs: Any, shape: tuple[int, ...], dtypes: Sequence[np.dtype], order: list[int]
) -> list[Result | None]:
    """A result and its index."""
    one, other = (
        _result(call, f"out[{i}]", given, shape, dtype, order)
        for i, (given, dtype) in enumerate(zip(outs, dtypes, strict=True))
    )
    if one.array is not None and other.array is not None:
        if np.shares_memory(one.array, other.array):
            raise ValueError("out must be two arrays that do not share memory")
    return [one, other]


def _in_shape(name: str, array: np.ndarray, shape: tuple[int, ...], whose: str) -> np.ndarray:
    if array.shape != shape:
        raise ValueError(f"{name} must have {whose} {shape}, got {array.shape}")
    return array


# ---- softmin and softmax2d --------------------------------------------------------------------


def softmax(call: Call, x: Any, axis: Axis, where: Any, out: Any) -> Task:
    """x and a mask; a float for each number."""
    array = call.admit("x", x)
    layout = Layout(array, slice_axes(axis, array.ndim))
    covers = None if where is None else boolean_mask(call, where, array.shape)
    dtype = float_dtype(array.dtype)
    result = _result(call, "out", out, array.shape, dtype, layout.order)
    return _slices(layout, array.shape, [array, covers], result, in_place=1)


def boolean_mask(call: Call, where: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A mask, broadcast to the shape."""
    mask = call.admit("where", where, tensors.BOOLS)
    if mask.dtype != np.bool_:
        raise TypeError(f"where must be a boolean mask, got dtype {_named(mask.dtype)}")
    try:
        return np.broadcast_to(mask, shape)
    except ValueError:
        raise ValueError(
            f"where must broadcast to x's shape {shape}, got shape {mask.shape}"
        ) from None


def softmax_product(call: Call, name: str, g: Any, y: Any, axis: Axis, out: Any) -> Task:
    """A cotangent or tangent, and y; a float for each number."""
    first, second = call.admit(name, g), call.admit("y", y)
    _in_shape(name, first, second.shape, "y's shape")
    layout = Layout(second, slice_axes(axis, second.ndim))
    dtype = common_float(first.dtype, second.dtype)
    result = _result(call, "out", out, second.shape, dtype, layout.order)
    return _slices(layout, second.shape, [first, second], result, in_place=2)


def softmax_jacobian(call: Call, y: Any, axis: Any, out: Any) -> Task:
    """y; the slices' axis twice."""
    array = call.admit("y", y)
    layout = Layout(array, (one_axis(axis, array.ndim),))
    (place,) = layout.axes
    shape = (*array.shape[: place + 1], *array.shape[place:])
    result = _result(call, "out", out, shape, float_dtype(array.dtype), layout.doubled())
    return _slices(layout, array.shape, [array], result)


def softmax_jacobian_diag(call: Call, y: Any, out: Any) -> Task:
    """y, number by number."""
    array = call.admit("y", y)
    layout = Layout(array, ())
    result = _result(call, "out", out, array.shape, float_dtype(array.dtype), layout.order)
    return _slices(layout, array.shape, [array], result, in_place=1)


def _slices(
    layout: Layout, shape: Any, arrays: list[Any], *results: Result | None, in_place: int = 0
) -> Task:
    """Arrays of one shape, in the layout's order of axes."""
    order = layout.order
    ordered = [None if a is None else a.transpose(order) for a in arrays]
    return Task(layout, [shape[a] for a in order], ordered, list(results), in_place)


# ---- maxout -----------------------------------------------------------------------------------


def maxout(call: Call, x: Any, axis: int, out: Any) -> Task:
    """Pieces; the largest of each unit, and no index."""
    array, layout, shape = _pieces(call, x, axis)
    result = _result(call, "out", out, shape, array.dtype, layout.reduced())
    return _slices(layout, array.shape, [array], result, None)


def maxout_with_index(call: Call, x: Any, axis: int, dtype: Any, out: Any) -> Task:
    """Pieces; the largest of each unit, and which it is."""
    outs = pair(out)
    array, layout, shape = _pieces(call, x, axis)
    dtypes = array.dtype, dtype_of_index(call, dtype, array.shape[layout.axes[0]])
    return _slices(
        layout, array.shape, [array], *_both(call, outs, shape, dtypes, layout.reduced())
    )


def _pieces(call: Call, x: Any, axis: Any) -> tuple[np.ndarray, Layout, tuple[int, ...]]:
    array = call.admit("x", x)
    place = one_axis(axis, array.ndim)
    shape = array.shape
    if shape[place] == 0:
        raise ValueError(f"x must have at least one piece on axis {axis}, got shape {shape}")
    return array, Layout(array, (place,)), shape[:place] + shape[place + 1 :]


def integer_index(call: Call, index: Any) -> np.ndarray:
    """An index of integers."""
    array = call.admit("index", index, tensors.INTEGERS)
    if array.dtype.kind not in "iu":
        raise TypeError(f"index must be of an integer dtype, got {_named(array.dtype)}")
    return array


def maxout_vjp(call: Call, g: Any, index: Any, pieces: Any, axis: Any, out: Any) -> Task:
    """A cotangent and an index of its shape; pieces on a new axis."""
    array, chosen = call.admit("g", g), integer_index(call, index)
    _in_shape("g", array, chosen.shape, "index's shape")
    return _spread(call, array, chosen, pieces, axis, array.dtype, out)


def maxout_jacobian(call: Call, index: Any, pieces: Any, axis: Any, dtype: Any, out: Any) -> Task:
    """An index, and ones, which stand for None; pieces on a new axis."""
    chosen = integer_index(call, index)
    return _spread(call, None, chosen, pieces, axis, call.dtype("dtype", dtype), out)


def _spread(
    call: Call, g: Any, chosen: np.ndarray, pieces: Any, axis: Any, dtype: np.dtype, out: Any
) -> Task:
    count, place = piece_count(pieces), one_axis(axis, chosen.ndim + 1)
    shape = (*chosen.shape[:place], count, *chosen.shape[place:])
    layout = in_order(len(shape), place)
    result = _result(call, "out", out, shape, dtype, layout.order)
    return Task(layout, shape, [g, chosen], [result])


def maxout_jvp(call: Call, t: Any, index: Any, axis: Any, out: Any) -> Task:
    """A tangent of all pieces and an index; the winners' tangents."""
    tangent = call.admit("t", t)
    place = one_axis(axis, tangent.ndim)
    chosen = integer_index(call, index)
    shape = tangent.shape[:place] + tangent.shape[place + 1 :]
    _in_shape("index", chosen, shape, f"t's shape without axis {axis},")
    layout = in_order(tangent.ndim, place)
    result = _result(call, "out", out, shape, tangent.dtype, layout.reduced())
    return Task(layout, tangent.shape, [tangent, chosen], [result])


# ---- maxout of an affine map ------------------------------------------------------------------

RESULT = "the result's shape (..., units)"
WITHOUT_D = "weight's shape without d,"


class Layer(NamedTuple):
    """A call on an affine layer: its arrays by name, what they are computed in, and its sizes."""

    arrays: dict[str, np.ndarray]
    dtype: np.dtype
    units: tuple[int, ...]  # one axis, or none for one unit alone
    pieces: int
    depth: int
    shape: tuple[int, ...]  # of the result
    results: list[Result | None] = []

    @property
    def lengths(self) -> tuple[int, int, int]:
        """Units, pieces and d, as kernels take them."""
        return math.prod(self.units), self.pieces, self.depth


def layer_weight(call: Call, weight: Any) -> np.ndarray:
    """A layer's weight."""
    array = call.admit("weight", weight)
    if array.ndim not in (2, 3) or array.shape[-2] == 0:
        raise ValueError(
            "weight must have shape (units, pieces, d), or (pieces, d) for one unit, with at least "
            f"one piece, got {array.shape}"
        )
    return array


def layer_inputs(call: Call, x: Any, depth: int) -> np.ndarray:
    """What a layer of this d is applied to."""
    array = call.admit("x", x)
    if array.ndim == 0 or array.shape[-1] != depth:
        raise ValueError(f"x must have shape (..., d) with weight's d = {depth}, got {array.shape}")
    return array


def layer_index(call: Call, given: Any, units: tuple[int, ...]) -> np.ndarray:
    """An index of a layer's results."""
    array = integer_index(call, given)
    if units and array.shape[-1:] != units:
        raise ValueError(
            f"index must have shape (..., units) with weight's {units[0]} units, got {array.shape}"
        )
    return array


def _arguments(call: Call, x: Any, weight: Any) -> tuple[dict[str, np.ndarray], tuple[int, ...]]:
    """A layer's inputs and weight by name, and the shape of its result."""
    array = layer_weight(call, weight)
    arrays = {"x": layer_inputs(call, x, array.shape[-1]), "weight": array}
    return arrays, arrays["x"].shape[:-1] + array.shape[:-2]


def _winners(call: Call, index: Any, weight: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return _in_shape("index", layer_index(call, index, weight.shape[:-2]), shape, RESULT)


def _layer(arrays: dict[str, np.ndarray], shape: tuple[int, ...]) -> Layer:
    dtype = common(*(array.dtype for name, array in arrays.items() if name != "index"))
    *units, pieces, depth = arrays["weight"].shape
    return Layer(arrays, dtype, tuple(units), pieces, depth, shape)


def maxout_affine(
    call: Call, x: Any, weight: Any, bias: Any, indexed: bool, index_dtype: Any, out: Any
) -> Layer:
    """Inputs, weight and bias; the largest of each unit and, if `indexed`, which it is."""
    outs = pair(out) if indexed else None
    arrays, shape = _arguments(call, x, weight)
    if bias is not None:
        like = arrays["weight"].shape[:-1]
        arrays["bias"] = _in_shape("bias", call.admit("bias", bias), like, WITHOUT_D)
    layer, order = _layer(arrays, shape), list(range(len(shape)))
    if indexed:
        dtypes = layer.dtype, dtype_of_index(call, index_dtype, layer.pieces)
        return layer._replace(results=_both(call, outs, shape, dtypes, order))
    return layer._replace(results=[_result(call, "out", out, shape, layer.dtype, order), None])


def maxout_affine_vjp(call: Call, g: Any, x: Any, weight: Any, index: Any) -> Layer:
    """A cotangent and what the result came from; gradients of x, weight and bias."""
    arrays, shape = _arguments(call, x, weight)
    arrays["g"] = _in_shape("g", call.admit("g", g), shape, RESULT)
    arrays["index"] = _winners(call, index, arrays["weight"], shape)
    return _layer(arrays, shape)


def maxout_affine_jvp(
    call: Call, x: Any, weight: Any, index: Any, dx: Any, dweight: Any, dbias: Any
) -> Layer:
    """What the result came from and tangents, of which some may be None; that of the result."""
    arrays, shape = _arguments(call, x, weight)
    array = arrays["weight"]
    arrays["index"] = _winners(call, index, array, shape)
    for name, value, like, whose in (
        ("dx", dx, arrays["x"].shape, "x's shape"),
        ("dweight", dweight, array.shape, "weight's shape"),
        ("dbias", dbias, array.shape[:-1], WITHOUT_D),
    ):
        if value is not None:
            arrays[name] = _in_shape(name, call.admit(name, value), like, whose)
    return _layer(arrays, shape)


def maxout_affine_jacobian(call: Call, weight: Any, index: Any) -> Layer:
    """A weight and an index; the winners' weights."""
    array = layer_weight(call, weight)
    *units, pieces, depth = array.shape
    chosen = layer_index(call, index, tuple(units))
    arrays = {"weight": array, "index": chosen}
    return Layer(arrays, array.dtype, tuple(units), pieces, depth, (*chosen.shape, depth))
