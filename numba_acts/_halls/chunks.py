"""Dask arrays chunk by chunk: how they are cut, and functions of the chunks that meet.

What is `folded` has one order for one way of cutting, whatever Dask's scheduler, workers and
configuration are.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import dask
import dask.array as da
import numpy as np
from dask.blockwise import Blockwise
from dask.graph_manipulation import bind
from dask.utils import parse_bytes

MANY = 2
TOGETHER = 16  # parts of a slice that one task folds: it never holds those of all chunks


def joined(array: Any, axes: tuple[int, ...]) -> Any:
    """The array with one chunk along these axes."""
    cut = {a: -1 for a in axes if len(array.chunks[a]) > 1}
    check_known("an array whose chunks are to be joined", array, cut)
    return array.rechunk(cut) if cut else array


def in_one_piece(array: Any) -> Any:
    """The array without cuts beside a single number: empty chunks would broadcast to that."""
    cut = (a for a, chunk in enumerate(array.chunks) if len(chunk) > 1 and sum(chunk) <= 1)
    return array.rechunk(dict.fromkeys(cut, -1))


def are_cut(array: Any, axes: Iterable[int]) -> bool:
    """Do some of these axes go through more than one chunk?"""
    return any(len(array.chunks[a]) > 1 for a in axes)


def unknown(chunk: Any) -> bool:
    """Are some sizes of an axis not known before it is computed?"""
    return any(n != n for n in chunk)


def check_known(name: str, array: Any, axes: Iterable[int]) -> None:
    """Refuse an array where sizes have to be known."""
    for a in axes:
        if unknown(array.chunks[a]):
            raise ValueError(
                f"{name} must have chunks of known sizes along axis {a}, got {array.chunks[a]}: "
                "call its compute_chunk_sizes()"
            )


def cut_like(name: str, array: Any, chunks: Any, why: str) -> Any:
    """The array in such chunks, whose shape it must have."""
    shape = tuple(map(sum, chunks))
    wrong = f"{name} must have {why} {shape}, got {array.shape}"
    if array.ndim != len(chunks):
        raise ValueError(wrong)
    known = {}
    for a, (own, other) in enumerate(zip(array.chunks, chunks, strict=True)):
        if not unknown(own) and not unknown(other):
            known[a] = other
            if sum(own) != shape[a]:
                raise ValueError(wrong)
        elif len(own) != len(other) or not (unknown(own) and unknown(other)):
            raise ValueError(
                f"{wrong}: along axis {a}, whose sizes are not all known, they are cut otherwise, "
                f"into {len(own)} and {len(other)} chunks: call compute_chunk_sizes()"
            )
    return array.rechunk(known)


def broadcasting(name: str, array: Any, x: Any) -> Any:
    """The array in x's chunks along its own axes, but for those of length 1."""
    behind = x.ndim - array.ndim
    shapes = zip(array.shape, x.shape[max(behind, 0) :], strict=False)
    if behind < 0 or any(1 != n != m and n == n and m == m for n, m in shapes):
        raise ValueError(f"{name} must broadcast to x's shape {x.shape}, got shape {array.shape}")
    chunks = (
        own if own == (1,) else other
        for own, other in zip(array.chunks, x.chunks[behind:], strict=True)
    )
    return cut_like(name, array, tuple(chunks), "chunks like x's, of shape")


def mapped(function: Callable[..., Any], dtype: Any, *arrays: Any, **task: Any) -> Any:
    """The function of each chunk, for arrays that are cut alike."""
    axes = list(range(arrays[0].ndim))
    return blocks(function, dtype, axes, *((array, axes) for array in arrays), **task)


def blocks(function: Callable[..., Any], dtype: Any, axes: list[int], *operands: Any, **task: Any):
    """The function of the chunks that meet, where `axes` name what goes together.

    With a dtype of None, chunks are tuples, from which `part` takes arrays.
    """
    meta = np.empty((0,) * len(axes), np.float64 if dtype is None else dtype)
    flat = itertools.chain.from_iterable(operands)
    task |= {"function": function, "whole": dtype is None, "concatenate": True}
    return da.blockwise(_chunk, axes, *flat, meta=meta, dtype=meta.dtype, **task)


def _chunk(*arrays: Any, function: Callable[..., Any], whole: bool, **task: Any) -> Any:
    result = function(*arrays, **task)
    # a number is an array of rank 0 here
    return result if whole or not isinstance(result, np.generic) else np.asarray(result)


def part(pairs: Any, which: int, dtype: np.dtype) -> Any:
    """One array of chunks that are tuples."""
    return mapped(_taken, dtype, pairs, which=which)


def _taken(pair: Any, which: int) -> Any:
    return pair[which]


def one_each(axes: Iterable[int]) -> dict[str, Any]:
    """What `blocks` is told of chunks that have one number along these axes."""
    return {"adjust_chunks": {a: 1 for a in axes}}


def folded(
    function: Callable[..., Any], dtypes: Sequence[np.dtype], axes: Iterable[int], *arrays: Any
) -> list[Any]:
    """Arrays whose chunks have one number along `axes`, folded until it is one along the whole.

    The function takes some of the numbers along one axis, in order, and gives a tuple of arrays
    with one in their place.
    """
    for axis in axes:
        while (count := len(arrays[0].chunks[axis])) > 1:
            some = tuple(min(TOGETHER, count - k) for k in range(0, count, TOGETHER))
            # No chunk of `arrays` is computed where it is folded: rechunking stands between.
            near = [array.rechunk({axis: some}, method="tasks") for array in arrays]
            several = mapped(function, None, *near, axis=axis, **one_each([axis]))
            arrays = tuple(part(several, i, dtype) for i, dtype in enumerate(dtypes))
    return list(arrays)


def again(arrays: Sequence[Any], axes: Iterable[int], behind: Any) -> Sequence[Any]:
    """The same arrays for a second reading, which is to come after `behind` is computed.

    Chunks that come straight from where they lie or are made, by steps of one chunk each, are read
    or made again, so that none is held meanwhile: where those of a slice of the first array take as
    much as `MANY` chunks of the size that Dask itself makes, or are of unknown size. Any part of
    the result then asks for all of it. Others are held, as making them may take long.
    """
    graphs = [array.dask for array in arrays]
    straight = all(
        isinstance(layer, Blockwise) or not graph.dependencies[name]
        for graph in graphs
        for name, layer in graph.layers.items()
    )
    x, few = arrays[0], MANY * parse_bytes(dask.config.get("array.chunk-size"))
    lengths = [n if a in axes else max(x.chunks[a]) for a, n in enumerate(x.shape)]
    if not straight or math.prod(lengths) * x.dtype.itemsize < few:
        return arrays
    return bind(list(arrays), behind, seed=behind.name)
