"""The hall of Dask arrays: the public calls, lazily, chunk by chunk.

Slices that are cut by chunks go to `stages`; a layer's pieces and d are joined to one chunk first.
What is known before computing, shapes and dtypes above all, is checked at once; an index out of
range is found when its chunk is computed. Arrays whose chunks have unknown sizes go together if
they are cut into as many.
"""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import dask.array as da
import numpy as np

from numba_acts._halls import rules, stages
from numba_acts._halls.arrays import Call
from numba_acts._halls.chunks import (
    TOGETHER,
    are_cut,
    blocks,
    broadcasting,
    check_known,
    cut_like,
    in_one_piece,
    joined,
    mapped,
    part,
)
from numba_acts._halls.rules import RESULT, WITHOUT_D, Axis

# Axes of a layer: the batch's are 0, 1, ...; then come units, pieces and d.
_UNITS, _PIECES, _DEPTH = -1, -2, -3


class Hall:
    """The functions of a hall. Each chunk goes to `call`, with the name of its function."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call

    def ndim(self, name: str, array: Any) -> int:
        """How many axes an argument has."""
        return _admit(name, array)[0].ndim

    # ---- softmin and softmax2d ----------------------------------------------------------------

    def softmax(self, x: Any, axis: Axis, beta: float, where: Any, out: Any) -> Any:
        """exp(βx − max βx) / Σ exp(βx − max βx) over `axis`."""
        x, dtype = _admit("x", x, out)
        over = rules.slice_axes(axis, x.ndim)
        dtype, every = rules.float_dtype(dtype), list(range(x.ndim))
        task = {"axis": axis, "beta": beta, "out": None}
        if where is None:
            given, weights = [(x, every)], partial(self.call, "softmax", where=None, **task)
        else:
            mask, kind = _admit("where", where)
            rules.boolean_mask(Call(), np.empty(0, kind), (0,))
            mask = broadcasting("where", mask, x)
            of_mask = every[x.ndim - mask.ndim :]
            own = zip(of_mask, mask.chunks, strict=True)
            full = [a - x.ndim for a, chunks in own if chunks != (1,)]
            given = [(x, every), (mask, of_mask)]
            weights = partial(_masked, self.call, full, **task)
        if are_cut(x, over):
            return stages.softmax(weights, dtype, over, beta, *given)
        return blocks(weights, dtype, every, *given)

    def softmax_product(self, name: str, g: Any, y: Any, axis: Axis, beta: float, out: Any) -> Any:
        """β y (g − ⟨g, y⟩) over `axis`."""
        (g, first), (y, second) = _admit(name, g, out), _admit("y", y)
        over = rules.slice_axes(axis, y.ndim)
        g = cut_like(name, g, y.chunks, "y's shape")
        dtype = rules.common_float(first, second)
        if are_cut(y, over):
            return stages.softmax_product(dtype, over, beta, g, y)
        product = partial(self.call, "softmax_product", name)
        return mapped(product, dtype, g, y, axis=axis, beta=beta, out=None)

    def softmax_jacobian(self, y: Any, axis: int, beta: float, out: Any) -> Any:
        """β (y_i δ_ij − y_i y_j), axes i and j in the place of `axis`."""
        y, dtype = _admit("y", y, out)
        place, dtype = rules.one_axis(axis, y.ndim), rules.float_dtype(dtype)
        return stages.softmax_jacobian(self.call, dtype, place, beta, y)

    def softmax_jacobian_diag(self, y: Any, beta: float, out: Any) -> Any:
        """β y (1 − y), number by number."""
        y, dtype = _admit("y", y, out)
        diagonal = partial(self.call, "softmax_jacobian_diag")
        return mapped(diagonal, rules.float_dtype(dtype), y, beta=beta, out=None)

    # ---- maxout -------------------------------------------------------------------------------

    def maxout(self, x: Any, axis: int, out: Any) -> Any:
        """The largest piece of each unit."""
        x, dtype = _admit("x", x, out)
        place, axes, rest = _pieces(x, axis)
        if are_cut(x, [place]):
            return stages.maxout(self.call, dtype, place, x)
        return blocks(partial(self.call, "maxout"), dtype, rest, (x, axes), axis=axis, out=None)

    def maxout_with_index(self, x: Any, axis: int, index_dtype: Any, out: Any) -> Any:
        """The same, and which piece it is."""
        x, dtype = _admit("x", x, out)
        place, axes, rest = _pieces(x, axis)
        kind = rules.dtype_of_index(Call(), index_dtype, x.shape[place])
        if are_cut(x, [place]):
            return stages.maxout_with_index(self.call, dtype, kind, place, x)
        task = {"axis": axis, "index_dtype": kind, "out": None}
        both = blocks(partial(self.call, "maxout_with_index"), None, rest, (x, axes), **task)
        return part(both, 0, dtype), part(both, 1, kind)

    def maxout_vjp(self, g: Any, index: Any, pieces: int, axis: int, out: Any) -> Any:
        """g at the winning pieces, zeros elsewhere."""
        g, dtype = _admit("g", g, out)
        index = _index(index)
        g = cut_like("g", g, index.chunks, "index's shape")
        axes, spread, task = _spread(index, pieces, axis)
        vjp = partial(self.call, "maxout_vjp")
        return blocks(vjp, dtype, spread, (g, axes), (index, axes), **task)

    def maxout_jacobian(self, index: Any, pieces: int, axis: int, dtype: Any, out: Any) -> Any:
        """Ones at the winning pieces, zeros elsewhere."""
        _admit("index", index, out)
        index, kind = _index(index), Call().dtype("dtype", dtype)
        axes, spread, task = _spread(index, pieces, axis)
        jacobian = partial(self.call, "maxout_jacobian", dtype=kind)
        return blocks(jacobian, kind, spread, (index, axes), **task)

    def maxout_jvp(self, t: Any, index: Any, axis: int, out: Any) -> Any:
        """The tangents of the winning pieces."""
        t, dtype = _admit("t", t, out)
        place, axes, rest = _pieces(t, axis)
        chunks = tuple(t.chunks[a] for a in rest)
        index = cut_like("index", _index(index), chunks, f"t's shape without axis {axis},")
        if are_cut(t, [place]):
            return stages.maxout_jvp(self.call, dtype, place, t, index)
        jvp = partial(self.call, "maxout_jvp")
        return blocks(jvp, dtype, rest, (t, axes), (index, rest), axis=axis, out=None)

    # ---- maxout of an affine map --------------------------------------------------------------

    def maxout_affine(
        self, x: Any, weight: Any, bias: Any, indexed: bool, index_dtype: Any, out: Any
    ) -> Any:
        """max over i of weight[u, i]·x + bias[u, i]; if `indexed`, the winning pieces too."""
        given = {"x": x, "weight": weight} | ({} if bias is None else {"bias": bias})
        arrays, dtypes = _layer(given, out)
        dtype = rules.common(*dtypes)
        x, weight = arrays["x"], arrays["weight"]
        operands = [(x, _batch(x) + [_DEPTH]), (weight, _of_weight(weight))]
        task: dict[str, Any] = {"indexed": indexed, "index_dtype": None, "out": None}
        if bias is None:
            task["bias"] = None
        else:
            bias = cut_like("bias", arrays["bias"], weight.chunks[:-1], WITHOUT_D)
            operands.append((bias, _of_weight(weight)[:-1]))
        rows = _batch(x) + _of_weight(weight)[:-2]
        affine = partial(self.call, "maxout_affine")
        if not indexed:
            return blocks(affine, dtype, rows, *operands, **task)
        task["index_dtype"] = kind = rules.dtype_of_index(Call(), index_dtype, weight.shape[-2])
        both = blocks(affine, None, rows, *operands, **task)
        return part(both, 0, dtype), part(both, 1, kind)

    def maxout_affine_vjp(self, g: Any, x: Any, weight: Any, index: Any) -> tuple[Any, Any, Any]:
        """(dx, dweight, dbias): each chunk's sums over its rows, then the sums of those."""
        arrays, dtypes = _layer({"g": g, "x": x, "weight": weight})
        dtype = rules.common(*dtypes)
        x, weight = arrays["x"], arrays["weight"]
        whole = {a: -1 for a in range(weight.ndim)}
        weight = weight.rechunk(whole)
        of_x, of_weight = _batch(x) + [_DEPTH], _of_weight(weight)
        rows = _batch(x) + of_weight[:-2]
        chunks = x.chunks[:-1] + weight.chunks[:-2]
        g = cut_like("g", arrays["g"], chunks, RESULT)
        index = cut_like("index", _index(index), chunks, RESULT)
        given = (g, rows), (x, of_x), (weight, of_weight), (index, rows)
        sums = np.dtype(np.float32) if dtype.itemsize == 2 and dtype.kind not in "iu" else dtype
        parts = blocks(partial(_affine_vjp, self.call), None, _batch(x), *given, number=sums)
        dx = blocks(_first, dtype, of_x, (parts, _batch(x)), (x, of_x), number=dtype)
        one_each = {a: 1 for a in _batch(x)}
        totals = []
        for which, kept in ((1, of_weight), (2, of_weight[:-1])):
            operands = (parts, _batch(x)), (weight, of_weight)
            task: dict[str, Any] = {"which": which, "adjust_chunks": one_each}
            total = blocks(_stacked, sums, _batch(x) + kept, *operands, **task)
            if batch := tuple(_batch(x)):
                total = total.sum(axis=batch, dtype=sums, split_every=TOGETHER)
            totals.append(total.astype(dtype))
        return dx, totals[0], totals[1]

    def maxout_affine_jvp(
        self, x: Any, weight: Any, index: Any, dx: Any, dweight: Any, dbias: Any
    ) -> Any:
        """weight[u, i*]·dx + dweight[u, i*]·x + dbias[u, i*]; a tangent left out is zero."""
        given = {"dx": dx, "dweight": dweight, "dbias": dbias}
        tangents = {name: t for name, t in given.items() if t is not None}
        arrays, dtypes = _layer({"x": x, "weight": weight} | tangents)
        dtype = rules.common(*dtypes)
        x, weight = arrays["x"], arrays["weight"]
        of_x, of_weight = _batch(x) + [_DEPTH], _of_weight(weight)
        rows = _batch(x) + of_weight[:-2]
        index = cut_like("index", _index(index), x.chunks[:-1] + weight.chunks[:-2], RESULT)
        operands = [(x, of_x), (weight, of_weight), (index, rows)]
        places = {
            "dx": (of_x, x, "x's shape"),
            "dweight": (of_weight, weight, "weight's shape"),
            "dbias": (of_weight[:-1], weight[..., 0], WITHOUT_D),
        }
        for name in tangents:
            axes, like, whose = places[name]
            operands.append((cut_like(name, arrays[name], like.chunks, whose), axes))
        tangent = partial(_affine_jvp, self.call, tuple(tangents))
        return blocks(tangent, dtype, rows, *operands)

    def maxout_affine_jacobian(self, weight: Any, index: Any) -> Any:
        """∂y/∂x = weight[u, index[..., u], :]."""
        arrays, (dtype,) = _layer({"weight": weight})
        weight, index = arrays["weight"], _index(index)
        units = weight.chunks[:-2]
        batch = list(range(index.ndim - len(units)))
        if units and (not index.ndim or index.shape[-1] != weight.shape[0]):
            raise ValueError(
                f"index must have shape (..., units) with weight's {weight.shape[0]} units, "
                f"got {index.shape}"
            )
        index = cut_like("index", index, index.chunks[: len(batch)] + units, RESULT)
        rows = batch + _of_weight(weight)[:-2]
        operands = (weight, _of_weight(weight)), (index, rows)
        jacobian = partial(self.call, "maxout_affine_jacobian")
        return blocks(jacobian, dtype, [*rows, _DEPTH], *operands)


# ---- the functions of a chunk -----------------------------------------------------------------


def _masked(call: Any, full: list[int], x: Any, where: Any, **task: Any) -> Any:
    """`full` are the axes along which a mask's chunk must not broadcast."""
    if any(where.shape[a] != x.shape[a] for a in full):
        raise ValueError(
            f"where must broadcast to x's shape, but of chunks that meet where has shape "
            f"{where.shape}, x {x.shape}"
        )
    return call("softmax", x, where=where, **task)


def _affine_vjp(call: Any, g: Any, x: Any, weight: Any, index: Any, number: Any) -> Any:
    """The three gradients of one chunk; of sixteen-bit floats unrounded."""
    g, x, weight = (a.astype(number, copy=False) for a in (g, x, weight))
    return call("maxout_affine_vjp", g, x, weight, index)


def _first(parts: Any, x: Any, number: Any) -> Any:
    return parts[0].astype(number)


def _stacked(parts: Any, weight: Any, which: int) -> Any:
    batch = parts[0].ndim - 1
    return parts[which].reshape((1,) * batch + parts[which].shape)


def _affine_jvp(call: Any, names: Any, x: Any, weight: Any, index: Any, *tangents: Any) -> Any:
    given = {"dx": None, "dweight": None, "dbias": None} | dict(zip(names, tangents, strict=True))
    return call("maxout_affine_jvp", x, weight, index, **given)


# ---- arguments --------------------------------------------------------------------------------


def _pieces(x: Any, axis: int) -> tuple[int, list[int], list[int]]:
    """The pieces' axis of an array, all of its axes, and those without the pieces'."""
    place = rules.one_axis(axis, x.ndim)
    if x.shape[place] == 0:
        raise ValueError(f"x must have at least one piece on axis {axis}, got shape {x.shape}")
    axes = list(range(x.ndim))
    return place, axes, [a for a in axes if a != place]


def _spread(index: Any, pieces: int, axis: int) -> tuple[list[int], list[int], dict[str, Any]]:
    """The axes of an index, those with the pieces', and what a chunk's function takes."""
    count, place = rules.piece_count(pieces), rules.one_axis(axis, index.ndim + 1)
    axes = list(range(index.ndim))
    task = {"pieces": count, "axis": axis, "out": None, "new_axes": {index.ndim: count}}
    return axes, [*axes[:place], index.ndim, *axes[place:]], task


def _layer(given: dict[str, Any], out: Any = None) -> tuple[dict[str, Any], list[np.dtype]]:
    """A layer's arrays, pieces and d in one chunk each, and their dtypes."""
    admitted = {name: _admit(name, value, out) for name, value in given.items()}
    arrays = {name: array for name, (array, _) in admitted.items()}
    weight = arrays["weight"]
    check_known("weight", weight, range(weight.ndim))
    rules.layer_weight(Call(), _like(weight))
    arrays["weight"] = weight = joined(weight, (weight.ndim - 2, weight.ndim - 1))
    if "x" in arrays:
        x = arrays["x"]
        check_known("x", x, range(x.ndim)[-1:])
        rules.layer_inputs(Call(), _like(x), weight.shape[-1])
        arrays["x"] = joined(x, (x.ndim - 1,))
    return arrays, [dtype for _, dtype in admitted.values()]


def _batch(x: Any) -> list[int]:
    return list(range(x.ndim - 1))


def _of_weight(weight: Any) -> list[int]:
    return [_UNITS, _PIECES, _DEPTH][-weight.ndim :]


def _admit(name: str, value: Any, out: Any = None) -> tuple[Any, np.dtype]:
    """An argument as a Dask array, and the dtype that its chunks will have."""
    for given in itertools.chain([out], out if isinstance(out, tuple) else []):
        if given is not None:
            raise TypeError(
                "out must be None for Dask arrays, which are computed later, "
                f"got {type(given).__name__}"
            )
    array = value if isinstance(value, da.Array) else da.from_array(Call().admit(name, value))
    if isinstance(array._meta, np.ma.MaskedArray):
        Call().admit(name, array._meta)  # which refuses it
    return in_one_piece(array), Call().admit(name, np.empty(0, array.dtype)).dtype


def _like(array: Any) -> np.ndarray:
    """An array of the same shape for a check that looks at no number; it takes no memory."""
    return np.broadcast_to(np.zeros(()), [1 if n != n else n for n in array.shape])


def _index(index: Any) -> Any:
    array, dtype = _admit("index", index)
    rules.integer_index(Call(), np.empty(0, dtype))
    return array
