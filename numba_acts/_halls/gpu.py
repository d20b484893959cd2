"""The hall of arrays on a GPU, of any library, for the GPU kernels.

Dense arrays of floats go to the kernels in few steps. Of everything else `rules`
makes a task of descriptions. Memory comes from the caller's library, kernels go to its current
stream, and nothing waits for the host. That stream waits for those of the other arrays, and that of
an `out` for the result. What the kernels can't take as it lies, they copy themselves.
"""

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from numba_acts._dtypes import BFLOAT16
from numba_acts._halls import rules, tensors
from numba_acts._halls.libraries import Library, Torch, description, known, library_of, wing
from numba_acts._halls.repeats import keep, repeat
from numba_acts._halls.rules import INT32, Axis, Layer, Task

if TYPE_CHECKING:
    from numba_acts._cuda.launch import Memory

_FLOATS = {np.dtype(kind) for kind in "efd"} | {BFLOAT16}
_UINT8 = np.dtype(np.uint8)


# ---- any arrays -------------------------------------------------------------------------------


class Call:
    """One call on arrays of a GPU: their library, their device, their stream."""

    def __init__(self, **arguments: Any) -> None:
        present = {name: value for name, value in arguments.items() if value is not None}
        there = {name: rules.on_gpu(value) for name, value in present.items()}
        if not all(there.values()):
            places = ", ".join(
                f"{name} is {'on a GPU' if here else 'in host memory'}"
                for name, here in there.items()
            )
            raise TypeError(f"arrays must all be in one memory, but {places}")
        first = next(iter(present.values()))
        self.wing = wing()
        self.library = library_of(first)
        self.number = self.library.device(first)
        devices = {name: library_of(value).device(value) for name, value in present.items()}
        if len(set(devices.values())) > 1:
            places = ", ".join(f"{name} is on device {n}" for name, n in devices.items())
            raise TypeError(f"arrays must all be on one device, but {places}")
        self.queue = self.library.queue(first, self.number)
        for value in present.values():
            self.wing.launch.wait(self.number, self.queue.stream, self.stream(value))

    def stream(self, value: Any) -> int:
        """The stream in which an array's numbers will be ready: the call's if it names none."""
        library = library_of(value)
        own = library is self.library and library.ready(value, self.queue)
        return self.queue.stream if own else library.stream(value, self.number)

    def admit(self, name: str, value: Any, wanted: str = tensors.NUMBERS) -> np.ndarray:
        """The description of an argument, of a dtype that the kernels know."""
        array = library_of(value).describe(name, value, wanted)
        dtype = array.dtype
        admitted = dtype == BFLOAT16 or dtype.kind in "biuf" and dtype.itemsize <= 8
        if not (admitted and dtype.isnative):
            given = dtype.name if dtype.isnative else dtype.str
            raise TypeError(f"{name} must be {wanted}, got {given}")
        if array.size and any(n % dtype.itemsize for n in (array.ctypes.data, *array.strides)):
            raise ValueError(f"{name} must be aligned to its {dtype.itemsize} bytes an element")
        return array

    def dtype(self, name: str, dtype: Any) -> np.dtype:
        """The dtype that an argument names."""
        found = self.library.dtype(name, dtype)
        return BFLOAT16 if found.name == "bfloat16" else found

    def out(self, name: str, out: Any, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """The description of an `out`, which must be what the result would be."""
        if not self.library.is_own(out):
            raise TypeError(f"{name} must be a {self.library.name}, got {type(out).__name__}")
        if isinstance(self.library, Torch):
            tensors.check_out(name, out)
        array = self.admit(name, out)
        rules.check_result(name, array, shape, dtype)
        return array

    def empty(self, shape: Any, dtype: np.dtype) -> np.ndarray:
        """The description of fresh memory."""
        owner, pointer = self.library.empty(tuple(shape), None, dtype, self.queue)
        return description(pointer, shape, None, dtype, owner)

    def memory(self, array: np.ndarray) -> "Memory":
        """Contiguous memory as kernels take it."""
        pointer = array.ctypes.data
        return self.wing.launch.Memory(pointer, array.dtype, array.size, self.queue, array)

    def none(self, dtype: np.dtype = _UINT8) -> "Memory":
        """No memory."""
        return self.wing.launch.Memory(0, dtype, 0, self.queue)

    def copy(self, source: np.ndarray, target: np.ndarray) -> None:
        """Copy numbers between any strides, converting them."""
        if target.size:
            ends, starts, steps = [], [], []
            for array in (source, target):
                low, high = np.lib.array_utils.byte_bounds(array)
                size = array.itemsize
                count = (high - low) // size
                ends.append(self.wing.launch.Memory(low, array.dtype, count, self.queue, array))
                starts.append((array.ctypes.data - low) // size)
                steps.append([step // size for step in array.strides])
            self.wing.copies.copy(*ends, target.shape, *starts, *steps)

    def dense(
        self, array: np.ndarray, dtype: Any = None, apart: list[np.ndarray] | None = None
    ) -> "Memory":
        """The memory of the array; of a copy if it isn't contiguous, of the dtype, or apart."""
        dtype = array.dtype if dtype is None else dtype
        beside = not any(np.may_share_memory(array, other) for other in apart or [])
        if array.dtype == dtype and array.flags.c_contiguous and beside:
            return self.memory(array)
        fresh = self.empty(array.shape, dtype)
        self.copy(array, fresh)
        return self.memory(fresh)

    def compute(self, kernel: Any, task: Task, *more: Any, converted: bool = False) -> Any:
        """What is given back when a kernel has filled a task's results.

        It takes operands as they are, or `converted` to the first result's dtype.
        """
        results = [None if one is None else Result(self, one) for one in task.results]
        first, present = results[0], [one for one in results if one is not None]
        if first is not None and first.target.size:
            filled, operands = [one.filled for one in present], []
            for i, array in enumerate(task.operands):
                if array is None:
                    operands.append(self.none(first.target.dtype))
                    continue
                inside = i < task.in_place
                over = [f for f in filled if not inside or rules.overlaps(array, f)]
                operands.append(self.dense(array, first.target.dtype if converted else None, over))
            lengths = task.layout.lengths(task.shape)
            memory = [self.none() if one is None else one.memory for one in results]
            kernel(*operands, *memory, *lengths, *more)
        gifts = tuple(one.give() for one in present)
        return gifts if len(gifts) > 1 else gifts[0]


class Result:
    """Memory, in an order of axes, for kernels to fill: that of ``out``, or a fresh array's."""

    def __init__(self, call: Call, result: rules.Result) -> None:
        shape, dtype, order = result.shape, result.dtype, result.order
        self.call, self.array, self.given = call, result.out, result.array is not None
        array = result.array
        if array is None:
            strides = _strides(shape, dtype, order)
            self.array, pointer = call.library.empty(shape, strides, dtype, call.queue)
            array = description(pointer, shape, strides, dtype, self.array)
        self.target = array.transpose(order)
        dense = self.target.flags.c_contiguous
        self.filled = self.target if dense else call.empty(self.target.shape, dtype)

    @property
    def memory(self) -> "Memory":
        """What kernels fill."""
        return self.call.memory(self.filled)

    def give(self) -> Any:
        """The result, as the kind of array that came in."""
        if self.filled is not self.target:
            self.call.copy(self.filled, self.target)
        if self.given:
            call = self.call
            call.library.written(self.array)
            call.wing.launch.wait(call.number, call.stream(self.array), call.queue.stream)
        return self.array


def _strides(shape: Any, dtype: np.dtype, order: Any) -> tuple[int, ...]:
    """Strides of dense memory whose axes lie in this order."""
    strides, step = [0] * len(shape), dtype.itemsize
    for axis in reversed(order):
        strides[axis] = step
        step *= max(shape[axis], 1)
    return tuple(strides)


def ndim(name: str, array: Any) -> int:
    """How many axes an argument has."""
    return library_of(array).describe(name, array).ndim


# ---- dense arrays -----------------------------------------------------------------------------


class Plain:
    """A dense array of floats, and what goes with it in a call: the common case.

    Whoever finds that anything is not so plain gives None, and it is looked at with more care.
    """

    __slots__ = "dtype", "lengths", "library", "memory", "place", "queue", "shape", "value"

    def __init__(self, library: Library, value: Any, found: Any, lengths: Any, place: int) -> None:
        self.library, self.value, self.lengths, self.place = library, value, lengths, place
        pointer, self.shape, self.dtype, device = found
        self.queue = library.queue(value, device).noting()
        self.memory = _Memory()(pointer, self.dtype, math.prod(lengths), self.queue)

    @staticmethod
    def of(value: Any, axis: Any) -> "Plain | None":
        """The array, whose slices lie along an axis."""
        library = known.get(type(value))
        found = library.plain(value) if library is not None and type(axis) is int else None
        if library is None or found is None:
            return None
        pointer, shape, dtype, _ = found
        lengths = rules.lengths(shape, axis)
        if lengths is None or dtype not in _FLOATS or pointer % dtype.itemsize:
            return None
        return Plain(library, value, found, lengths, axis % len(shape))

    def beside(self, other: Any, shape: Any, kinds: str) -> "Memory | None":
        """The memory of another operand, of this shape and of one of these kinds of dtype."""
        found = self.library.plain(other) if type(other) is type(self.value) else None
        if found is None:
            return None
        pointer, given, dtype, device = found
        fits = dtype.kind in kinds and dtype.isnative and pointer % dtype.itemsize == 0
        if not fits or given != shape or device != self.queue.device:
            return None
        if not self.library.ready(other, self.queue):
            return None
        return _Memory()(pointer, dtype, math.prod(shape), self.queue)

    def result(
        self, out: Any, shape: Any, dtype: np.dtype, *apart: "Memory", in_place: Any = ()
    ) -> Any:
        """A fresh array, or `out` if it is dense and right; and its memory.

        It meets none of the memory that is to be apart, nor that of operands of its own shape, from
        which it is computed `in_place`, unless it is theirs.
        """
        make = _Memory()
        if out is None:
            if shape is self.shape and dtype is self.dtype:
                described = self.memory.pointer, shape, dtype, self.queue.device
                out, pointer = self.library.like(self.value, described, self.queue)
            else:
                out, pointer = self.library.empty(shape, None, dtype, self.queue)
            return out, make(pointer, dtype, math.prod(shape), self.queue)
        found = self.library.plain(out) if known.get(type(out)) is self.library else None
        if found is None or found[1:] != (shape, dtype, self.queue.device):
            return None
        if found[0] % dtype.itemsize or not self.library.ready(out, self.queue):
            return None
        memory = make(found[0], dtype, math.prod(shape), self.queue)
        if any(_meet(memory, other) for other in apart):
            return None
        if any(other.pointer != memory.pointer and _meet(memory, other) for other in in_place):
            return None
        return out, memory

    def give(self, call: Any, *results: Any) -> Any:
        """The results, of which the library is told that are the caller's; the call is kept."""
        arrays = tuple(array for array, _ in results)
        keep(self.library, self.queue, arrays, *call)
        for out in call[-1]:
            if out is not None:
                self.library.written(out)
        return arrays

    def without(self) -> tuple[int, ...]:
        """The shape without the slices' axis."""
        return (*self.shape[: self.place], *self.shape[self.place + 1 :])


def _meet(a: "Memory", b: "Memory") -> bool:
    """Does some memory lie in both?"""
    return -a.size * a.dtype.itemsize < a.pointer - b.pointer < b.size * b.dtype.itemsize


@functools.cache
def _Memory() -> Any:
    return wing().launch.Memory


@functools.cache
def _none() -> Any:
    """No memory, as a mask or an index."""
    return _Memory()(0, _UINT8, 0, None)


# ---- softmin and softmax2d --------------------------------------------------------------------


def softmax(x: Any, axis: Axis, beta: float, where: Any, out: Any) -> Any:
    """exp(βx − max βx) / Σ exp(βx − max βx) over `axis`."""
    given = ("softmax", beta), axis, x, (where,), (out,)
    if again := repeat(*given):
        return again[0]
    plain = Plain.of(x, axis)
    if plain is not None:
        mask = _none() if where is None else plain.beside(where, plain.shape, "b")
        if mask is not None:
            memory = plain.memory
            y = plain.result(out, plain.shape, plain.dtype, mask, in_place=(memory,))
            if y is not None:
                _softmax(memory, mask, y[1], *plain.lengths, beta)
                return plain.give(given, y)[0]
    call = Call(x=x, where=where, out=out)
    return call.compute(_softmax, rules.softmax(call, x, axis, where, out), beta)


def _softmax(x: "Memory", mask: "Memory", *more: Any) -> None:
    wing().forward.softmax(x, mask.as_dtype(_UINT8), *more)


def softmax_product(name: str, g: Any, y: Any, axis: Axis, beta: float, out: Any) -> Any:
    """β y (g − ⟨g, y⟩) over `axis`; `name` is what the public function calls g."""
    given = ("softmax_product", beta), axis, g, (y,), (out,)
    if again := repeat(*given):
        return again[0]
    plain = Plain.of(g, axis)
    saved = None if plain is None else plain.beside(y, plain.shape, "fV")
    if plain is not None and saved is not None and saved.dtype == plain.dtype:
        both = plain.memory, saved
        dx = plain.result(out, plain.shape, plain.dtype, in_place=both)
        if dx is not None:
            wing().product.product(*both, dx[1], *plain.lengths, beta)
            return plain.give(given, dx)[0]
    call = Call(**{name: g}, y=y, out=out)
    task = rules.softmax_product(call, name, g, y, axis, out)
    return call.compute(call.wing.product.product, task, beta, converted=True)


def softmax_jacobian(y: Any, axis: int, beta: float, out: Any) -> Any:
    """β (y_i δ_ij − y_i y_j), axes i and j in the place of `axis`."""
    given = ("softmax_jacobian", beta), axis, y, (), (out,)
    if again := repeat(*given):
        return again[0]
    plain = Plain.of(y, axis)
    if plain is not None:
        doubled = (*plain.shape[: plain.place + 1], *plain.shape[plain.place :])
        matrices = plain.result(out, doubled, plain.dtype, plain.memory)
        if matrices is not None:
            wing().jacobian.jacobians(plain.memory, matrices[1], *plain.lengths, beta)
            return plain.give(given, matrices)[0]
    call = Call(y=y, out=out)
    task = rules.softmax_jacobian(call, y, axis, out)
    return call.compute(call.wing.jacobian.jacobians, task, beta, converted=True)


def softmax_jacobian_diag(y: Any, beta: float, out: Any) -> Any:
    """β y (1 − y), number by number."""
    given = ("softmax_jacobian_diag", beta), -1, y, (), (out,)
    if again := repeat(*given):
        return again[0]
    plain = Plain.of(y, -1)
    if plain is not None:
        slopes = plain.result(out, plain.shape, plain.dtype, in_place=(plain.memory,))
        if slopes is not None:
            wing().jacobian.diagonals(plain.memory, slopes[1], *plain.lengths, beta)
            return plain.give(given, slopes)[0]
    call = Call(y=y, out=out)
    task = rules.softmax_jacobian_diag(call, y, out)
    return call.compute(call.wing.jacobian.diagonals, task, beta, converted=True)


# ---- maxout -----------------------------------------------------------------------------------


def maxout(x: Any, axis: int, out: Any) -> Any:
    """The maxima over `axis`."""
    given = "maxout", axis, x, (), (out,)
    if again := repeat(*given):
        return again[0]
    plain = Plain.of(x, axis)
    if plain is not None:
        best = plain.result(out, plain.without(), plain.dtype, plain.memory)
        if best is not None:
            wing().maxout.maxout(plain.memory, best[1], _none(), *plain.lengths)
            return plain.give(given, best)[0]
    call = Call(x=x, out=out)
    return call.compute(call.wing.maxout.maxout, rules.maxout(call, x, axis, out))


def maxout_with_index(x: Any, axis: int, index_dtype: Any, out: Any) -> Any:
    """The maxima over `axis` and the winning pieces; `out` is a pair."""
    first, second = rules.pair(out)
    given = "maxout_with_index", axis, x, (), (first, second)
    common = index_dtype is np.int32
    if common and (again := repeat(*given)):
        return again if out is None else out
    plain = Plain.of(x, axis) if common else None
    if plain is not None:
        shape = plain.without()
        best = plain.result(first, shape, plain.dtype, plain.memory)
        apart = () if best is None else (plain.memory, best[1])
        index = None if best is None else plain.result(second, shape, INT32, *apart)
        if index is not None:
            wing().maxout.maxout(plain.memory, best[1], index[1], *plain.lengths)
            pair = plain.give(given, best, index)
            return pair if out is None else out
    call = Call(x=x, **{"out[0]": first, "out[1]": second})
    task = rules.maxout_with_index(call, x, axis, index_dtype, out)
    pair = call.compute(call.wing.maxout.maxout, task)
    return pair if out is None else out


def maxout_vjp(g: Any, index: Any, pieces: int, axis: int, out: Any) -> Any:
    """g at the winning pieces, zeros elsewhere."""
    given = ("maxout_vjp", pieces), axis, g, (index,), (out,)
    common = type(axis) is type(pieces) is int and pieces > 0
    if common and (again := repeat(*given)):
        return again[0]
    plain = Plain.of(g, 0) if common else None
    shape = () if plain is None else plain.shape
    winners = None if plain is None else plain.beside(index, shape, "i")
    if plain is not None and winners is not None and -len(shape) - 1 <= axis <= len(shape):
        place = axis % (len(shape) + 1)
        whole = (*shape[:place], pieces, *shape[place:])
        dx = plain.result(out, whole, plain.dtype, plain.memory, winners)
        if dx is not None:
            lengths = math.prod(shape[:place]), pieces, math.prod(shape[place:])
            wing().maxout.vjp(plain.memory, winners, dx[1], *lengths)
            return plain.give(given, dx)[0]
    call = Call(g=g, index=index, out=out)
    task = rules.maxout_vjp(call, g, index, pieces, axis, out)
    return call.compute(call.wing.maxout.vjp, task)


def maxout_jacobian(index: Any, pieces: int, axis: int, dtype: Any, out: Any) -> Any:
    """Ones at the winning pieces, zeros elsewhere."""
    call = Call(index=index, out=out)
    task = rules.maxout_jacobian(call, index, pieces, axis, dtype, out)
    return call.compute(call.wing.maxout.vjp, task)


def maxout_jvp(t: Any, index: Any, axis: int, out: Any) -> Any:
    """The tangents of the winning pieces."""
    given = "maxout_jvp", axis, t, (index,), (out,)
    if again := repeat(*given):
        return again[0]
    plain = Plain.of(t, axis)
    winners = None if plain is None else plain.beside(index, plain.without(), "i")
    if plain is not None and winners is not None:
        dy = plain.result(out, plain.without(), plain.dtype, plain.memory, winners)
        if dy is not None:
            wing().maxout.jvps(plain.memory, winners, dy[1], *plain.lengths)
            return plain.give(given, dy)[0]
    call = Call(t=t, index=index, out=out)
    return call.compute(call.wing.maxout.jvps, rules.maxout_jvp(call, t, index, axis, out))


# ---- maxout of an affine map ------------------------------------------------------------------


def maxout_affine(x: Any, weight: Any, bias: Any, indexed: bool, index_dtype: Any, out: Any) -> Any:
    """max over i of weight[u, i]·x + bias[u, i]; if `indexed`, the winning pieces too."""
    first, second = rules.pair(out) if indexed else (out, None)
    call = Call(x=x, weight=weight, bias=bias, **{"out": first, "out[1]": second})
    layer = rules.maxout_affine(call, x, weight, bias, indexed, index_dtype, out)
    results = [Result(call, one) for one in layer.results if one is not None]
    if results[0].target.size:
        over = [result.filled for result in results]
        operands = _operands(call, layer, ("x", "weight", "bias"), over)
        memory = [result.memory for result in results] + ([] if indexed else [call.none()])
        call.wing.affine.affine(*operands, *memory, *layer.lengths)
    gifts = tuple(result.give() for result in results)
    return (gifts if out is None else out) if indexed else gifts[0]


def _operands(call: Call, layer: Layer, names: Any, over: Any = ()) -> list["Memory"]:
    """A layer's arrays in the dtype that they are computed in, as memory; none for one left out."""
    given = [layer.arrays.get(name) for name in names]
    dtype = layer.dtype
    return [call.none(dtype) if a is None else call.dense(a, dtype, over) for a in given]


def maxout_affine_vjp(g: Any, x: Any, weight: Any, index: Any) -> tuple[Any, Any, Any]:
    """(dx, dweight, dbias)."""
    call = Call(g=g, x=x, weight=weight, index=index)
    layer = rules.maxout_affine_vjp(call, g, x, weight, index)
    x, weight, index = (layer.arrays[name] for name in ("x", "weight", "index"))
    sums = call.wing.affine.product_dtype(layer.dtype)
    filled = [call.empty(s, sums) for s in (x.shape, weight.shape, weight.shape[:-1])]
    totals = list(map(call.memory, filled))
    if index.size:
        operands = _operands(call, layer, ("g", "x", "weight"))
        call.wing.affine.affine_vjp(*operands, call.dense(index), *totals, *layer.lengths)
    else:
        for total in totals:
            call.wing.affine.zero(total)
    results = [_fresh(call, a.shape, layer.dtype) for a in filled]
    for array, result in zip(filled, results, strict=True):
        call.copy(array, result.target)
    dx, dweight, dbias = (result.array for result in results)
    return dx, dweight, dbias


def _fresh(call: Call, shape: tuple[int, ...], dtype: np.dtype) -> Result:
    return Result(call, rules.Result(None, None, shape, dtype, list(range(len(shape)))))


def maxout_affine_jvp(x: Any, weight: Any, index: Any, dx: Any, dweight: Any, dbias: Any) -> Any:
    """weight[u, i*]·dx + dweight[u, i*]·x + dbias[u, i*]; a tangent left out is zero."""
    call = Call(x=x, weight=weight, index=index, dx=dx, dweight=dweight, dbias=dbias)
    layer = rules.maxout_affine_jvp(call, x, weight, index, dx, dweight, dbias)
    result = _fresh(call, layer.shape, layer.dtype)
    if result.target.size:
        operands = _operands(call, layer, ("dx", "x", "weight", "dweight", "dbias"))
        winners = call.dense(layer.arrays["index"])
        call.wing.affine.affine_jvp(*operands, winners, result.memory, *layer.lengths)
    return result.give()


def maxout_affine_jacobian(weight: Any, index: Any) -> Any:
    """∂y/∂x = weight[u, index[..., u], :]."""
    call = Call(weight=weight, index=index)
    layer = rules.maxout_affine_jacobian(call, weight, index)
    result = _fresh(call, layer.shape, layer.dtype)
    if result.target.size:
        operands = call.dense(layer.arrays["weight"]), call.dense(layer.arrays["index"])
        call.wing.affine.affine_jacobian(*operands, result.memory, *layer.lengths)
    return result.give()
