"""Slices that are cut by chunks, in two stages: what is known of each chunk, and then the whole.

With m and s of a chunk, its extremum of x and its sum of exp(β(x − m)), a slice of the chunks c has

    M = the extremum of the m_c        S = Σ s_c exp(β(m_c − M))

and a chunk's entries have exp(β(x − M)) / S: what softmax gives for the chunk alone, as its weight
s_c exp(β(m_c − M)) is to S. A product needs Σ g y over the slice, maxout the winner of each chunk.

All of that is one number for a slice and chunk, so no chunk is ever joined with another. It is
float64, and sums of it carry their rounding errors along.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import dask.array as da
import numpy as np

from numba_acts._halls.chunks import again, blocks, check_known, folded, mapped, one_each, part

_DOUBLE, _LONG, _BOOL = np.dtype(np.float64), np.dtype(np.int64), np.dtype(np.bool_)
_RAISED = 128  # a power of two by which what will be subnormal is multiplied until it is rounded

# Chunks along a slice have one size in x and one in what is known of each: they go by their order.
_IN_ORDER = {"align_arrays": False}


# ---- softmin and softmax2d --------------------------------------------------------------------


def softmax(
    alone: Callable[..., Any],
    dtype: np.dtype,
    axes: tuple[int, ...],
    beta: float,
    x: tuple[Any, list[int]],
    *mask: tuple[Any, list[int]],
) -> Any:
    """exp(βx − max βx) / Σ exp(βx − max βx); `alone(x, where)` is that of a chunk alone."""
    every, number = x[1], _number(dtype)
    beta = _held(beta, number)
    extremum = np.maximum if beta > 0 else np.minimum
    known = partial(_extremum_and_sum, alone, number, axes, extremum)
    both = blocks(known, None, every, x, *mask, **one_each(axes))
    extrema, sums = part(both, 0, _DOUBLE), part(both, 1, _DOUBLE)
    (extreme,) = folded(partial(_reduced, extremum), [_DOUBLE], axes, extrema)
    weights = mapped(_weight, _DOUBLE, sums, extrema, extreme, beta=beta, **_IN_ORDER)
    total = mapped(_whole, _DOUBLE, *folded(_added, [_DOUBLE, _DOUBLE], axes, weights))
    finished = partial(_as_parts, alone, number, beta)
    labels = [of_array for _, of_array in (x, *mask)]
    arrays = [a for a, _ in (x, *mask)]
    first, *rest = zip(again(arrays, axes, total), labels, strict=True)
    given = [first, *((a, every) for a in (extreme, weights, total)), *rest]
    return blocks(finished, dtype, every, *given, dtype_of_result=dtype, **_IN_ORDER)


def _extremum_and_sum(
    alone: Any, number: np.dtype, axes: tuple[int, ...], extremum: np.ufunc, x: Any, *mask: Any
) -> tuple[Any, Any]:
    """A chunk's m and s; the sum of a chunk without entries, or masked whole, is 0.

    An s that is not 0 is 1 or more. It is no number where m is infinite or none: m says all then.
    """
    x, never = x.astype(number, copy=False), -np.inf if extremum is np.maximum else np.inf
    if any(x.shape[a] == 0 for a in axes):
        shape = tuple(1 if a in axes else n for a, n in enumerate(x.shape))
        none = np.zeros_like(x, _DOUBLE, shape=shape)
        return none + never, none
    largest = alone(x, *mask).max(axis=axes, keepdims=True).astype(_DOUBLE)  # exp(0) / s
    seen = np.where(mask[0], x, never) if mask else x
    m = extremum.reduce(seen, axis=axes, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        s = np.where(largest > 0, 1 / largest, largest != 0)
    return m.astype(_DOUBLE), s


def _reduced(extremum: np.ufunc, extrema: Any, axis: int) -> tuple[Any]:
    return (extremum.reduce(extrema, axis=axis, keepdims=True),)


def _weight(s: Any, m: Any, extreme: Any, beta: float) -> Any:
    """s exp(β(m − M)) of a chunk."""
    with np.errstate(all="ignore"):
        return np.where(s == 0, 0.0, s * np.exp(beta * (m - extreme)))


def _as_parts(
    alone: Any,
    number: np.dtype,
    beta: float,
    x: Any,
    extreme: Any,
    weight: Any,
    total: Any,
    *mask: Any,
    dtype_of_result: np.dtype,
) -> Any:
    """A chunk's entries as parts of their slices."""
    x = x.astype(number, copy=False)
    own = alone(x, *mask)
    with np.errstate(all="ignore"):
        share = weight / np.where(total == 0, 1.0, total)
        y = np.where(share == 0, 0.0, own * share)  # −∞ alone have no weights of their own
        subnormal = (own > 0) & (own < np.finfo(number).tiny)
        if subnormal.any():  # rounded to less than the dtype's digits: once more, from x
            m, s = (np.broadcast_to(a, x.shape)[subnormal] for a in (extreme, total))
            far = beta * (x[subnormal].astype(_DOUBLE) - m)
            y[subnormal] = np.ldexp(np.exp(far + _RAISED * math.log(2)) / s, -_RAISED)
        if mask:
            y = np.where(mask[0], y, 0.0)
        return y.astype(dtype_of_result, copy=False)


def softmax_product(dtype: np.dtype, axes: tuple[int, ...], beta: float, g: Any, y: Any) -> Any:
    """β y (g − ⟨g, y⟩)."""
    dots = mapped(partial(_dot, axes), _DOUBLE, g, y, **one_each(axes))
    dot = mapped(_whole, _DOUBLE, *folded(_added, [_DOUBLE, _DOUBLE], axes, dots))
    task = {"beta": _held(beta, _number(dtype)), "dtype_of_result": dtype}
    g, y = again([g, y], axes, dot)
    return mapped(_product, dtype, g, y, dot, **task, **_IN_ORDER)


def _dot(axes: tuple[int, ...], g: Any, y: Any) -> Any:
    """Σ g y over the slices of a chunk, in the order of C-contiguous memory wherever they lie."""
    with np.errstate(all="ignore"):
        terms = g.astype(_DOUBLE, copy=False) * y.astype(_DOUBLE, copy=False)
        rest = [a for a in range(terms.ndim) if a not in axes]
        shape = [terms.shape[a] for a in rest]
        n = math.prod(terms.shape[a] for a in axes)
        slices = terms.transpose([*rest, *axes]).reshape([*shape, n])
        sums = slices.astype(_DOUBLE, order="C", copy=False).sum(axis=-1)
    return sums.reshape([1 if a in axes else n for a, n in enumerate(terms.shape)])


def _product(g: Any, y: Any, dot: Any, beta: float, dtype_of_result: np.dtype) -> Any:
    with np.errstate(all="ignore"):
        result = beta * (y.astype(_DOUBLE, copy=False) * (g.astype(_DOUBLE, copy=False) - dot))
        return result.astype(dtype_of_result, copy=False)


def softmax_jacobian(call: Any, dtype: np.dtype, place: int, beta: float, y: Any) -> Any:
    """β (y_i δ_ij − y_i y_j): of the chunks of i and j, no sum is asked for."""
    axes, new = list(range(y.ndim)), y.ndim
    columns = [new if a == place else a for a in axes]
    number = da.arange(y.numblocks[place], chunks=1)
    given = (y, axes), (y, columns), (number, [place]), (number, [new])
    twice = [*axes[: place + 1], new, *axes[place + 1 :]]
    function = partial(_jacobian, call, place, beta, _number(dtype))
    return blocks(function, dtype, twice, *given, dtype_of_result=dtype, **_IN_ORDER)


def _jacobian(
    call: Any,
    place: int,
    beta: float,
    number: np.dtype,
    rows: Any,
    columns: Any,
    i: Any,
    j: Any,
    dtype_of_result: np.dtype,
) -> Any:
    if i[0] == j[0]:
        return call("softmax_jacobian", rows, place, beta, None)
    first = np.expand_dims(rows.astype(number, copy=False), place + 1)
    second = np.expand_dims(columns.astype(number, copy=False), place)
    with np.errstate(all="ignore"):
        result = number.type(-_held(beta, number)) * (first * second)
        return result.astype(dtype_of_result, copy=False)


# ---- maxout -----------------------------------------------------------------------------------


def maxout(call: Any, dtype: np.dtype, place: int, x: Any) -> Any:
    """The largest piece of each unit; chunks may turn out to be empty, but not all."""
    largest = partial(_largest, call, place, dtype)
    both = mapped(largest, None, x, **one_each([place]))
    parts = part(both, 0, dtype), part(both, 1, _BOOL)
    y, some = folded(partial(_larger, call), [dtype, _BOOL], [place], *parts)
    return _without(place, mapped(_of_some, dtype, y, some))


def _largest(call: Any, place: int, dtype: np.dtype, x: Any) -> tuple[Any, Any]:
    """A chunk's largest pieces, and if there are any."""
    if x.shape[place]:
        y = np.expand_dims(call("maxout", x, place, None), place)
    else:
        shape = tuple(1 if a == place else n for a, n in enumerate(x.shape))
        integers = dtype.kind in "iub"
        least = False if dtype.kind == "b" else np.iinfo(dtype).min if integers else -np.inf
        y = np.full_like(x, least, dtype, shape=shape)
    return y, np.full_like(y, x.shape[place] > 0, _BOOL)


def _larger(call: Any, y: Any, some: Any, axis: int) -> tuple[Any, Any]:
    return np.expand_dims(call("maxout", y, axis, None), axis), some.any(axis=axis, keepdims=True)


def _of_some(y: Any, some: Any) -> Any:
    if not some.all():
        raise ValueError("x must have at least one piece, got chunks that are all empty")
    return y


def maxout_with_index(
    call: Any, dtype: np.dtype, index_dtype: np.dtype, place: int, x: Any
) -> tuple[Any, Any]:
    """The same, and which piece it is: the first of equal ones, or the first NaN."""
    check_known("x", x, [place])
    x = _without_empty(place, x)
    given = (x, list(range(x.ndim))), _starts(place, x)
    winner = partial(_winner, call, place)
    both = blocks(winner, None, given[0][1], *given, **one_each([place]), **_IN_ORDER)
    parts = part(both, 0, dtype), part(both, 1, _LONG)
    y, index = folded(partial(_first_winner, call), [dtype, _LONG], [place], *parts)
    return _without(place, y), _without(place, index).astype(index_dtype)


def _winner(call: Any, place: int, x: Any, start: Any) -> tuple[Any, Any]:
    """A chunk's winners, counted from the start of the slice."""
    y, index = call("maxout_with_index", x, place, _LONG, None)
    return np.expand_dims(y, place), np.expand_dims(index + start[0], place)


def _first_winner(call: Any, y: Any, index: Any, axis: int) -> tuple[Any, Any]:
    y, chunk = call("maxout_with_index", y, axis, _LONG, None)
    index = call("maxout_jvp", index, chunk, axis, None)
    return np.expand_dims(y, axis), np.expand_dims(index, axis)


def maxout_jvp(call: Any, dtype: np.dtype, place: int, t: Any, index: Any) -> Any:
    """The tangents of the winning pieces, each from the chunk that holds it."""
    check_known("t", t, [place])
    t = _without_empty(place, t)
    every, rest = list(range(t.ndim)), [a for a in range(t.ndim) if a != place]
    given = (t, every), _starts(place, t), (index, rest)
    picked = partial(_picked, call, place)
    both = blocks(picked, None, every, *given, **one_each([place]), **_IN_ORDER)
    parts = part(both, 0, dtype), part(both, 1, _BOOL)
    found = folded(partial(_found, call), [dtype, _BOOL], [place], *parts)
    dy, inside = (_without(place, a) for a in found)
    return mapped(partial(_of_all, t.shape[place]), dtype, dy, inside, index)


def _picked(call: Any, place: int, t: Any, start: Any, index: Any) -> tuple[Any, Any]:
    """A chunk's tangents where the index lies in the chunk, anything elsewhere; and if it does."""
    own = index.astype(_LONG) - start[0]
    inside = (own >= 0) & (own < t.shape[place])
    dy = call("maxout_jvp", t, np.where(inside, own, 0), place, None)
    return np.expand_dims(dy, place), np.expand_dims(inside, place)


def _found(call: Any, dy: Any, inside: Any, axis: int) -> tuple[Any, Any]:
    dy = call("maxout_jvp", dy, inside.argmax(axis=axis), axis, None)
    return np.expand_dims(dy, axis), inside.any(axis=axis, keepdims=True)


def _of_all(pieces: int, dy: Any, inside: Any, index: Any) -> Any:
    if not inside.all():
        raise IndexError(
            f"index must lie in [0, {pieces}), the pieces of a unit, got {index.min()} to "
            f"{index.max()}"
        )
    return dy


# ---- sums, dtypes and sizes -------------------------------------------------------------------


def _added(totals: Any, lost: Any = None, *, axis: int) -> tuple[Any, Any]:
    """Sums in the order of an axis, and the rounding errors of all their steps."""
    terms = np.split(totals, totals.shape[axis], axis)
    total, terms = terms[0], terms[1:]
    with np.errstate(all="ignore"):
        errors = total * 0 if lost is None else lost.sum(axis=axis, keepdims=True)
        for term in terms:
            new = total + term
            rest = new - total
            errors = errors + ((total - (new - rest)) + (term - rest))
            total = new
    return total, errors


def _whole(total: Any, errors: Any) -> Any:
    """A sum, its errors made good; where it is infinite they are not numbers."""
    with np.errstate(all="ignore"):
        return np.where(np.isfinite(errors), total + errors, total)


def _number(dtype: np.dtype) -> np.dtype:
    """What a chunk's exponentials are computed in."""
    return np.dtype(np.float32) if dtype.itemsize < 8 else _DOUBLE


def _held(beta: float, number: np.dtype) -> float:
    """β, held within the range of a dtype, as kernels hold it."""
    most = float(np.finfo(number).max)
    return min(max(beta, -most), most)


def _starts(place: int, x: Any) -> tuple[Any, list[int]]:
    """Where each chunk begins along an axis."""
    ends = np.cumsum((0, *x.chunks[place]), dtype=_LONG)
    return da.from_array(ends[:-1], chunks=1), [place]


def _without_empty(place: int, x: Any) -> Any:
    return x.rechunk({place: tuple(n for n in x.chunks[place] if n)})


def _without(place: int, array: Any) -> Any:
    return array[(slice(None),) * place + (0,)]
