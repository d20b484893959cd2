"""Operands and results that kernels can't take as they lie are copied, in portions.

A kernel takes flat, C-contiguous memory. What is anything else goes through memory of a bounded
size, as many slices at a time as fit in it.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from numba_acts._halls.rules import Layout

BYTES = 1 << 19  # of memory for copies


def flat(array: np.ndarray) -> np.ndarray:
    """A contiguous array's memory as what chooses kernels cuts it: of one axis, and no subclass."""
    return np.asarray(array).ravel()


def dense(array: np.ndarray) -> bool:
    return array.flags.c_contiguous and array.flags.aligned


def unrepeated(array: np.ndarray) -> np.ndarray:
    """The array without what is repeated in it, by strides of zero."""
    return array[tuple(slice(None) if step else slice(1) for step in array.strides)]


def packed(array: np.ndarray) -> np.ndarray:
    """An array's numbers as `flat` has them; a copy if they don't lie so."""
    return flat(array if dense(array) else np.array(array, order="C"))


def _portions(layout: Layout, shape: Sequence[int], nbytes: int) -> Iterator[tuple[slice, ...]]:
    """Parts of arrays in this order, of whole slices: as many as fit in `BYTES`.

    `nbytes` are those of a slice that are copied; one slice is a part, however long it is.
    """
    room, lengths = BYTES // max(1, nbytes), [*shape[: layout.first], *shape[layout.last :]]
    steps: list[int] = []
    for length in reversed(lengths):
        steps.insert(0, max(1, min(room, length)))
        room //= length
    whole = [slice(None)] * (layout.last - layout.first)
    for corner in itertools.product(*map(range, itertools.repeat(0), lengths, steps)):
        part = [slice(at, at + step) for at, step in zip(corner, steps, strict=True)]
        yield *part[: layout.first], *whole, *part[layout.first :]


def _part_of(layout: Layout, array: np.ndarray, part: tuple[slice, ...]) -> np.ndarray:
    """A part of an array, which may be without the slices' axis, or have it twice."""
    within = part[layout.first : layout.last] * (1 + array.ndim - len(part))
    place: Any = (..., *part[: layout.first], *within, *part[layout.last :])
    return array[place]


def fill(
    layout: Layout,
    shape: Sequence[int],
    sources: list[Any],
    targets: list[Any],
    kernel: Any,
    in_place: int = 0,
) -> None:
    """Have a kernel fill the targets from the sources, all of them in this order of axes.

    It takes flat memory, and the lengths of `shape`, that of arrays with the slices' axis. What
    does not lie as it takes it is copied in portions; one of the first `in_place` sources into the
    target, where it is computed in place. None may stand for an array, and is handed on.
    """
    arrays = [a for a in (*sources, *targets) if a is not None]
    copied = [a for a in arrays if not dense(a)]
    if not copied:
        kernel(*each(flat, sources), *each(flat, targets), *layout.lengths(shape))
        return
    if layout.last < len(shape):  # parts of the others are not dense either
        copied = arrays
    candidates = enumerate(sources[:in_place])
    lands = next((i for i, a in candidates if _lands_in(a, targets[0], arrays)), None)
    nbytes = sum(a.nbytes for a in copied)
    if lands is not None:  # without memory of its own; for a cache's sake it is counted in part
        nbytes -= sources[lands].nbytes * 3 // 4
    outer, _, inner = layout.lengths(shape)
    for part in _portions(layout, shape, -(-nbytes // (outer * inner))):
        counts = [len(range(n)[some]) for n, some in zip(shape, part, strict=True)]
        lengths = layout.lengths(counts)
        _fill_part(layout, part, lengths, sources, targets, kernel, lands)


def _fill_part(
    layout: Layout,
    part: tuple[slice, ...],
    lengths: tuple[int, int, int],
    sources: list[Any],
    targets: list[Any],
    kernel: Any,
    lands: int | None,
) -> None:
    def cut(array: np.ndarray) -> np.ndarray:
        return _part_of(layout, array, part)

    given, parts = each(cut, sources), each(cut, targets)
    into = each(_memory_for, parts)
    if lands is not None:
        np.copyto(into[0], given[lands])
        given[lands] = into[0]
    kernel(*each(packed, given), *each(flat, into), *lengths)
    for filled, target in zip(into, parts, strict=True):
        if target is not None and not np.may_share_memory(filled, target):
            target[...] = filled


def each(function: Callable[[np.ndarray], np.ndarray], arrays: Sequence[Any]) -> list[Any]:
    """The function of each array; None, in the place of one, stays."""
    return [None if array is None else function(array) for array in arrays]


def _lands_in(array: np.ndarray, target: np.ndarray, arrays: list[np.ndarray]) -> bool:
    """Is a source to be copied, and can it be copied there without loss, of the others either?"""
    if dense(array) or not (array.dtype == target.dtype or np.can_cast(array.dtype, target.dtype)):
        return False
    return not any(a is not target and np.may_share_memory(a, target) for a in arrays)


def _memory_for(target: np.ndarray) -> np.ndarray:
    """Contiguous memory for a result: its own if it is, else some to be copied from."""
    return target if dense(target) else np.empty(target.shape, target.dtype)
