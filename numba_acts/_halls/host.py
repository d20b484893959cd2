"""The hall of arrays in host memory: NumPy's, PyTorch's CPU tensors, and what becomes an array.

Dense NumPy arrays of floats go to the CPU kernels in few steps. Of everything else
`rules` makes a task: its operands and results become flat memory, kernels fill it, and the result
is given back as the kind that came in. Errors come before anything is written.
"""

import functools
import math
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from numba_acts._cpu import affine as cpu_affine
from numba_acts._cpu import forward, jacobian, product
from numba_acts._cpu import maxout as cpu_maxout
from numba_acts._halls import arrays, portions, rules, tensors
from numba_acts._halls.portions import each, flat, packed
from numba_acts._halls.rules import INT32, Axis, Layer, Result, Task

_ndarray, _may_share_memory = np.ndarray, np.may_share_memory
_BOOL, _NONE = np.dtype(np.bool_), np.empty(0, np.uint8)
CALLS = 1 << 12  # that are remembered, of a function


class Calls(dict[Any, Any]):
    """Plain calls that were made before: what starts a kernel again, and with what.

    What a call has checked, chosen and compiled hangs on shapes, dtypes and numbers alone; of the
    number of threads, on which some choices hang, `launch.run_tiles` knows.
    """

    def keep(self, key: Any, started: Any) -> None:
        """Remember a call by what `launch.run` has given back."""
        if started:
            if len(self) >= CALLS:
                self.clear()
            self[key] = started


_softmaxes, _products, _maxima, _gradients, _ranges = (Calls() for _ in range(5))


def forget() -> None:
    """Choose kernels anew, as tests do that have changed what the choice hangs on."""
    for calls in (_softmaxes, _products, _maxima, _gradients, _ranges):
        calls.clear()


class Call(arrays.Call):
    """One call on arrays in host memory."""

    def compute(self, kernel: Any, task: Task, *more: Any) -> Any:
        """What is given back when a kernel has filled a task's results."""
        targets, sources = list(map(self.memory, task.results)), task.operands
        if targets[0].size:
            pairs = zip(targets, task.results, strict=True)
            over = [target for target, one in pairs if one is not None and one.out is not None]
            if over:
                sources = [
                    _unshared(a, over, i < task.in_place) for i, a in enumerate(task.operands)
                ]

            def fill(*given: Any) -> None:
                kernel(*given, *more)

            portions.fill(task.layout, task.shape, sources, targets, fill, task.in_place)
        return self.given(task.results, targets)

    def memory(self, result: Result | None) -> Any:
        """The memory of a result, in the order in which it is filled."""
        if result is None:
            return None
        if result.array is not None:
            return result.array.transpose(result.order)
        return self.fresh([result.shape[axis] for axis in result.order], result.dtype)

    def given(self, results: list[Result | None], targets: list[Any]) -> Any:
        """What the caller gets: one array or several, in the order of axes that he knows."""
        pairs = zip(results, targets, strict=True)
        gifts = [self._gift(one, target) for one, target in pairs if one is not None]
        return tuple(gifts) if len(gifts) > 1 else gifts[0]

    def _gift(self, result: Result, memory: np.ndarray) -> Any:
        if result.out is not None:
            tensors.written(result.out)
            return result.out
        order = result.order
        if order != sorted(order):
            memory = memory.transpose([order.index(axis) for axis in range(len(order))])
        return self.give(memory)


def _unshared(array: Any, targets: list[np.ndarray], in_place: bool) -> Any:
    """The array, or a copy if a result is to be written over it; `in_place` it may be the same."""
    if array is None:
        return None
    shared = rules.overlaps if in_place else _may_share_memory
    for target in targets:
        if shared(array, target):
            return array.copy()
    return array


def _readable(array: np.ndarray) -> bool:
    """May kernels read it as it lies, though it is not to be written?"""
    flags = array.flags
    return flags.c_contiguous and flags.aligned


def _in_place(x: np.ndarray, where: Any) -> bool:
    """May x plainly be written over, and is no part of it the mask?"""
    return x.flags.writeable and (where is None or not _may_share_memory(x, where))


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


def _is_mask(where: Any, shape: tuple[int, ...]) -> bool:
    """Is it plainly a mask of that shape?"""
    return (
        type(where) is _ndarray
        and where.dtype is _BOOL
        and where.shape == shape
        and (where.flags.carray or _readable(where))
    )


@functools.lru_cache(1 << 12)
def _lengths_of(shape: tuple[int, ...], axis: int, dtype: np.dtype) -> tuple[int, int, int] | None:
    """(outer, n, inner) of a C-contiguous array of floats; None if it is anything else."""
    return rules.lengths(shape, axis) if arrays.is_float(dtype) else None


@functools.lru_cache(1 << 12)
def _pieces_of(shape: tuple[int, ...], axis: int, dtype: np.dtype) -> tuple[int, int, int] | None:
    """The same, of integers and bool too."""
    known = arrays.is_float(dtype) or dtype.kind in "biu" and dtype.isnative
    return rules.lengths(shape, axis) if known else None


@functools.lru_cache(1 << 12)
def _spread_of(
    shape: tuple[int, ...], pieces: int, axis: int, dtype: np.dtype, index: np.dtype
) -> tuple[tuple[int, ...], tuple[int, int, int] | None]:
    """Of floats and an index, with pieces on a new axis: the shape, and the same or None."""
    plain = arrays.is_float(dtype) and index.kind == "i" and index.isnative
    possible = 0 < pieces <= sys.maxsize and 0 not in shape
    if not plain or not possible or not -len(shape) - 1 <= axis <= len(shape):
        return shape, None
    place = axis % (len(shape) + 1)
    outer, inner = math.prod(shape[:place]), math.prod(shape[place:])
    return (*shape[:place], pieces, *shape[place:]), (outer, pieces, inner)


def ndim(name: str, array: Any) -> int:
    """How many axes an argument has."""
    return arrays.Call().admit(name, array).ndim


# ---- softmin and softmax2d --------------------------------------------------------------------


def softmax(x: Any, axis: Axis, beta: float, where: Any, out: Any) -> Any:
    """exp(βx − max βx) / Σ exp(βx − max βx) over `axis`."""
    if type(x) is _ndarray:
        shape, dtype, bare = x.shape, x.dtype, where is None
        if (
            type(axis) is int
            and (x.flags.carray or _readable(x))
            and (bare or _is_mask(where, shape))
        ):
            key = shape, dtype, axis, beta, bare
            again = _softmaxes.get(key)
            lengths = again or _lengths_of(shape, axis, dtype)
            apart = x if bare else where
            if lengths and (
                out is None
                or (out is x and _in_place(x, where))
                or _fits(out, shape, dtype, x, apart)
            ):
                y = np.empty(shape, dtype) if out is None else out
                if again:
                    start, rest = again
                    start(x, where, y, *rest)
                else:
                    mask = None if bare else where.ravel()
                    task = x.ravel(), mask, y.ravel(), *lengths, beta
                    _softmaxes.keep(key, forward.softmax(*task))
                return y
    elif plain := tensors.arrays(x, where, out):
        x, where, y = plain
        return tensors.given(softmax(x, axis, beta, where, y), out)
    call = Call()
    return call.compute(forward.softmax, rules.softmax(call, x, axis, where, out), beta)


def softmax_product(name: str, g: Any, y: Any, axis: Axis, beta: float, out: Any) -> Any:
    """β y (g − ⟨g, y⟩) over `axis`; `name` is what the public function calls g."""
    if type(g) is type(y) is _ndarray:
        shape, dtype = y.shape, y.dtype
        if (
            type(axis) is int
            and g.dtype is dtype
            and g.shape == shape
            and (g.flags.carray or _readable(g))
            and (y.flags.carray or _readable(y))
        ):
            key = shape, dtype, axis, beta
            again = _products.get(key)
            lengths = again or _lengths_of(shape, axis, dtype)
            if lengths and (out is None or _fits(out, shape, dtype, g, y)):
                dx = np.empty(shape, dtype) if out is None else out
                if again:
                    start, rest = again
                    start(g, y, dx, *rest)
                else:
                    task = g.ravel(), y.ravel(), dx.ravel(), *lengths, beta
                    _products.keep(key, product.product(*task))
                return dx
    elif plain := tensors.arrays(g, y, out):
        g, y, dx = plain
        return tensors.given(softmax_product(name, g, y, axis, beta, dx), out)
    call = Call()
    task = rules.softmax_product(call, name, g, y, axis, out)
    return call.compute(product.product, task, beta)


def softmax_jacobian(y: Any, axis: int, beta: float, out: Any) -> Any:
    """β (y_i δ_ij − y_i y_j), axes i and j in the place of `axis`."""
    call = Call()
    return call.compute(jacobian.jacobians, rules.softmax_jacobian(call, y, axis, out), beta)


def softmax_jacobian_diag(y: Any, beta: float, out: Any) -> Any:
    """β y (1 − y), number by number."""
    call = Call()
    return call.compute(jacobian.diagonals, rules.softmax_jacobian_diag(call, y, out), beta)


# ---- maxout -----------------------------------------------------------------------------------


def _maxout_plainly(x: Any, axis: Any, indexed: bool, out: Any) -> Any:
    """The common case of `maxout` and `maxout_with_index`, or None if it isn't one."""
    if type(x) is not _ndarray or type(axis) is not int or x.ndim < 2:
        return None
    if not (x.flags.carray or _readable(x)):
        return None
    shape, dtype = x.shape, x.dtype
    key = shape, dtype, axis, indexed
    again = _maxima.get(key)
    lengths = again or _pieces_of(shape, axis, dtype)
    if lengths is None or not again and lengths[1] > 1 << 31:
        return None
    axis %= len(shape)
    shape = shape[:axis] + shape[axis + 1 :]
    if out is None:
        y, index = np.empty(shape, dtype), np.empty(shape, INT32) if indexed else None
        out = (y, index) if indexed else y
    elif indexed:
        if not (type(out) is tuple and len(out) == 2 and out[0] is not out[1]):
            return None
        y, index = out
        if not (_fits(y, shape, dtype, x, x) and _fits(index, shape, INT32, x, y)):
            return None
    else:
        y, index = out, None
        if not _fits(y, shape, dtype, x, x):
            return None
    if again:
        start, rest = again
        start(x, y, index, *rest)
    else:
        winners = None if index is None else index.ravel()
        _maxima.keep(key, cpu_maxout.maxout(x.ravel(), y.ravel(), winners, *lengths))
    return out


def maxout(x: Any, axis: int, out: Any) -> Any:
    """The maxima over `axis`."""
    if type(x) is not _ndarray and (plain := tensors.arrays(x, out)):
        return tensors.given(maxout(plain[0], axis, plain[1]), out)
    done = _maxout_plainly(x, axis, False, out)
    if done is not None:
        return done
    call = Call()
    return call.compute(cpu_maxout.maxout, _first_of_equals(rules.maxout(call, x, axis, out)))


def maxout_with_index(x: Any, axis: int, index_dtype: Any, out: Any) -> Any:
    """The maxima over `axis` and the winning pieces; `out` is a pair."""
    if index_dtype is np.int32:
        if out is None and type(x) is not _ndarray and (plain := tensors.arrays(x)):
            y, index = maxout_with_index(plain[0], axis, index_dtype, None)
            return tensors.given(y), tensors.given(index)
        done = _maxout_plainly(x, axis, True, out)
        if done is not None:
            return done
    call = Call()
    task = rules.maxout_with_index(call, x, axis, index_dtype, out)
    pair = call.compute(cpu_maxout.maxout, _first_of_equals(task))
    return pair if out is None else out


def _first_of_equals(task: Task) -> Task:
    """The task with one of pieces that are all the same, by a stride of zero: the first wins."""
    (source,), place = task.operands, task.layout.first
    if source is None or source.strides[place]:
        return task
    source = source[(*[slice(None)] * place, slice(1))]
    return task._replace(operands=[source], shape=source.shape)


def maxout_vjp(g: Any, index: Any, pieces: int, axis: int, out: Any) -> Any:
    """g at the winning pieces, zeros elsewhere."""
    if type(g) is type(index) is _ndarray:
        if (
            type(axis) is type(pieces) is int
            and g.shape == index.shape
            and (g.flags.carray or _readable(g))
            and (index.flags.carray or _readable(index))
        ):
            key = g.shape, pieces, axis, g.dtype, index.dtype
            again = _gradients.get(key)
            shape, lengths = _spread_of(*key)
            if lengths and (out is None or _fits(out, shape, g.dtype, g, index)):
                dx = np.empty(shape, g.dtype) if out is None else out
                if not _are_pieces(index, pieces):
                    _check_range(index, pieces)
                if again:
                    start, rest = again
                    start(g, index, dx, *rest)
                else:
                    given = g.ravel(), index.ravel(), dx.ravel(), *lengths
                    _gradients.keep(key, cpu_maxout.vjp(*given))
                return dx
    elif plain := tensors.arrays(g, index, out):
        g, index, dx = plain
        return tensors.given(maxout_vjp(g, index, pieces, axis, dx), out)
    call = Call()
    task = rules.maxout_vjp(call, g, index, pieces, axis, out)
    return call.compute(cpu_maxout.vjp, _in_range(task))


def maxout_jacobian(index: Any, pieces: int, axis: int, dtype: Any, out: Any) -> Any:
    """Ones at the winning pieces, zeros elsewhere."""
    call = Call()
    task = rules.maxout_jacobian(call, index, pieces, axis, dtype, out)
    return call.compute(_ones, _in_range(task))


def _ones(g: None, index: np.ndarray, out: np.ndarray, *lengths: int) -> None:
    cpu_maxout.vjp(np.empty(0, out.dtype), index, out, *lengths)


def maxout_jvp(t: Any, index: Any, axis: int, out: Any) -> Any:
    """The tangents of the winning pieces."""
    call = Call()
    return call.compute(cpu_maxout.jvps, _in_range(rules.maxout_jvp(call, t, index, axis, out)))


def _in_range(task: Task) -> Task:
    """The task, whose last operand is an index of its pieces."""
    index = task.operands[-1]
    if index is not None:
        _check_range(index, task.shape[task.layout.first])
    return task


def _are_pieces(index: np.ndarray, pieces: int) -> bool:
    """Is every number of a contiguous array one of a piece?"""
    key, found = (index.size, index.dtype, pieces), np.zeros(1, np.uint8)
    if again := _ranges.get(key):
        start, rest = again
        start(index, found, None, *rest)
    else:
        _ranges.keep(key, cpu_maxout.check_range(index.ravel(), found, pieces))
    return not found[0]


def _check_range(index: np.ndarray, pieces: int) -> None:
    if index.size and not _are_pieces(packed(portions.unrepeated(index)), pieces):
        low, high = index.min(), index.max()
        raise IndexError(
            f"index must lie in [0, {pieces}), the pieces of a unit, got {low} to {high}"
        )


# ---- maxout of an affine map ------------------------------------------------------------------


def maxout_affine(x: Any, weight: Any, bias: Any, indexed: bool, index_dtype: Any, out: Any) -> Any:
    """max over i of weight[u, i]·x + bias[u, i]; if `indexed`, the winning pieces too."""
    call = Call()
    layer = rules.maxout_affine(call, x, weight, bias, indexed, index_dtype, out)
    targets = list(map(call.memory, layer.results))
    filled = [target for target in targets if target is not None]
    if filled[0].size:
        given = {name: _unshared(a, filled, in_place=False) for name, a in layer.arrays.items()}
        for some, (weights, biases) in _by_units(layer, given["weight"], given.get("bias")):
            biases = weights[:0] if biases is None else biases
            task = weights, biases, _lengths(layer, some), indexed
            _rows(layer, some, [given["x"]], filled, _affine_rows, task)
    gifts = call.given(layer.results, targets)
    return out if indexed and out is not None else gifts


def _affine_rows(
    weight: Any, bias: Any, lengths: Any, indexed: bool, x: Any, y: Any, *rest: Any
) -> None:
    cpu_affine.affine(x, weight, bias, y, rest[0] if indexed else _NONE, *lengths)


def _by_units(layer: Layer, *given: Any) -> Iterator[tuple[slice, list[Any]]]:
    """A layer's arrays, flat; some units at a time where they have to be copied."""
    copied = [a for a in given if a is not None and not portions.dense(a)]
    if not copied or not layer.units:
        yield slice(None), each(packed, given)
        return
    (units,) = layer.units
    step = max(1, portions.BYTES * units // sum(a.nbytes for a in copied))
    for start in range(0, units, step):
        some = slice(start, start + step)
        yield some, [None if a is None else packed(a[some]) for a in given]


def _lengths(layer: Layer, some: slice) -> tuple[int, int, int]:
    """Units, of some of them, pieces and d."""
    units, pieces, depth = layer.lengths
    return len(range(units)[some]), pieces, depth


def _rows(
    layer: Layer, some: slice, sources: list[Any], targets: list[Any], kernel: Any, task: Any
) -> None:
    """Have a kernel take rows of inputs, and of results those of some units."""
    x = sources[0]
    if layer.units:
        targets = [target[..., some] for target in targets]
    layout = rules.in_order(x.ndim, x.ndim - 1)
    portions.fill(layout, x.shape, sources, targets, functools.partial(kernel, *task))


def maxout_affine_vjp(g: Any, x: Any, weight: Any, index: Any) -> tuple[Any, Any, Any]:
    """(dx, dweight, dbias)."""
    call = Call()
    layer = rules.maxout_affine_vjp(call, g, x, weight, index)
    g, x, weight, index = (layer.arrays[name] for name in ("g", "x", "weight", "index"))
    _check_range(index, layer.pieces)
    number = rules.sum_dtype(layer.dtype)
    results = [np.zeros(a, number) for a in (x.shape, weight.shape, weight.shape[:-1])]
    if g.size:
        units, _, depth = layer.lengths
        gradient = _once(g.reshape(-1, units))
        inputs = _once_in_rows(x.reshape(g.size // units, depth))
        saved = inputs, packed(weight), packed(index)
        task: Any = gradient, *saved, *map(flat, results), *layer.lengths
        cpu_affine.affine_vjp(*task)
    dx, dweight, dbias = (call.give(a.astype(layer.dtype, copy=False)) for a in results)
    return dx, dweight, dbias


def _once(matrix: np.ndarray) -> tuple[np.ndarray, int, int]:
    """A matrix's numbers, flat, and how far apart its rows and columns lie: 0 if repeated."""
    some = portions.unrepeated(matrix)
    rows = some.shape[1] if matrix.strides[0] else 0
    return packed(some), rows, int(matrix.strides[1] != 0)


def _once_in_rows(matrix: np.ndarray) -> tuple[np.ndarray, int]:
    """The same of a matrix whose rows are read as they lie."""
    repeated = not matrix.strides[0]
    return packed(matrix[:1] if repeated else matrix), 0 if repeated else matrix.shape[1]


def maxout_affine_jvp(x: Any, weight: Any, index: Any, dx: Any, dweight: Any, dbias: Any) -> Any:
    """weight[u, i*]·dx + dweight[u, i*]·x + dbias[u, i*]; a tangent left out is zero."""
    call = Call()
    layer = rules.maxout_affine_jvp(call, x, weight, index, dx, dweight, dbias)
    given = layer.arrays
    _check_range(given["index"], layer.pieces)
    dy = np.zeros(layer.shape, rules.sum_dtype(layer.dtype))
    if dy.size:
        names, none = ("weight", "dweight", "dbias"), np.empty(0, dy.dtype)
        for some, parts in _by_units(layer, *map(given.get, names)):
            task = [none if part is None else part for part in parts], _lengths(layer, some)
            index = given["index"][..., some] if layer.units else given["index"]
            sources = [given["x"], given.get("dx"), index]
            _rows(layer, some, sources, [dy], _affine_tangents, task)
    return call.give(dy.astype(layer.dtype, copy=False))


def _affine_tangents(layer: Any, lengths: Any, x: Any, dx: Any, index: Any, dy: Any, *_: int):
    weight, dweight, dbias = layer
    dx = np.empty(0, dy.dtype) if dx is None else dx
    cpu_affine.affine_jvp(dx, x, weight, dweight, dbias, index, dy, *lengths)


def maxout_affine_jacobian(weight: Any, index: Any) -> Any:
    """∂y/∂x = weight[u, index[..., u], :]."""
    call = Call()
    layer = rules.maxout_affine_jacobian(call, weight, index)
    weight, index = layer.arrays["weight"], layer.arrays["index"]
    _check_range(index, layer.pieces)
    rows = call.fresh(layer.shape, layer.dtype)
    if rows.size:
        operands = packed(weight), packed(index), flat(rows)
        cpu_affine.affine_jacobian(*operands, *layer.lengths)
    return call.give(rows)
