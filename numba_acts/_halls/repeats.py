"""Calls on plain GPU arrays that were made before: started again with other addresses.

What a call has checked, chosen and compiled hangs on what its arrays are, not on where they lie. A
call that started a single kernel is kept by that, and the next like it looks at its arrays once.
"""

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from numba_acts._halls import libraries
from numba_acts._halls.libraries import Dense, Library, known

if TYPE_CHECKING:
    from numba_acts._cuda.launch import Queue

WIDEST = 16  # bytes of an access, as WIDE_BYTES of the kernels
CALLS = 4096  # that a queue keeps


class Repeat(NamedTuple):
    """A kernel, to be started again.

    It picks its addresses from the call's: those of given arrays, of fresh ones, and 0 for no
    memory. `numbers` follow. A result and another array are either the same or `apart`: not within
    so many bytes before and behind. If results are `fresh`, each has a shape and a dtype, and
    whether they are the first array's.
    """

    start: Any
    pick: Callable[[list[int]], tuple[int, ...]]
    numbers: tuple[Any, ...]
    apart: list[tuple[int, int, int, int]]
    fresh: list[tuple[Any, np.dtype, bool] | None]


def _key(library: Library, queue: "Queue", found: Dense, call: Any, others: Any) -> Any:
    """What a call is known by, and the addresses of its arrays; None if one is not plain."""
    pointer, shape, dtype, device = found
    key, pointers = [call, shape, dtype, device, pointer % WIDEST], [pointer]
    for array in others:
        if array is None:
            key.append(None)
            continue
        described = library.plain(array) if known.get(type(array)) is library else None
        if described is None or not library.ready(array, queue):
            return None
        pointer, shape, dtype, device = described
        key += shape, dtype, device, pointer % WIDEST
        if pointer in pointers:  # the same memory
            key.append(pointers.index(pointer))
        pointers.append(pointer)
    return tuple(key), pointers


def repeat(task: Any, axis: Any, first: Any, others: Any, outs: Any) -> Any:
    """The results of a call like one that was made before, started at once; or None.

    `others` are the operands beside the first, `outs` where results are to be put.
    """
    library = known.get(type(first))
    found = library.plain(first) if library is not None and type(axis) is int else None
    if library is None or found is None:
        return None
    queue = library.queue(first, found[3])
    described = _key(library, queue, found, (task, axis), others + outs)
    call = None if described is None else queue.calls.get(described[0])
    if call is None:
        return None
    pointers = described[1]
    start, pick, numbers, apart, fresh = call
    for i, j, before, behind in apart:
        # Where memory is the same it was so then; it was not shared in part.
        if before < pointers[i] - pointers[j] < behind and pointers[i] != pointers[j]:
            return None
    results = outs
    if fresh:
        results = _filled(library, queue, first, found, outs, fresh, pointers)
        if results is None:
            return None
    pointers.append(0)
    libraries.wing().launch.again(queue.device, start, pick(pointers), numbers)
    for out in outs:
        if out is not None:
            library.written(out)
    return results


def _filled(
    library: Library,
    queue: "Queue",
    first: Any,
    found: Dense,
    outs: Any,
    fresh: Any,
    pointers: list[int],
) -> Any:
    """The results, with fresh arrays in place of None; their addresses come to the others."""
    results = list(outs)
    for i, made in enumerate(fresh):
        if made is not None:
            shape, dtype, like = made
            if like:
                results[i], pointer = library.like(first, found, queue)
            else:
                results[i], pointer = library.empty(shape, None, dtype, queue)
            if pointer % WIDEST:
                return None
            pointers.append(pointer)
    return tuple(results)


def keep(
    library: Library,
    queue: "Queue",
    results: Any,
    task: Any,
    axis: Any,
    first: Any,
    others: Any,
    outs: Any,
) -> None:
    """Remember a call, if it has started one kernel, for its own arrays alone."""
    found, runs = library.plain(first), queue.runs
    if found is None or runs is None or len(runs) != 1:
        return
    described = _key(library, queue, found, (task, axis), others + outs)
    if described is None:
        return
    key, pointers = described
    given = [first, *(a for a in others if a is not None)]
    operands = len(given)
    given += [out for out in outs if out is not None]
    sizes = [library.describe("", a).nbytes for a in given]
    apart = [(i, j, -sizes[i], sizes[j]) for i in range(operands, len(given)) for j in range(i)]
    fresh: list[tuple[Any, np.dtype, bool] | None] = []
    for out, result in zip(outs, results, strict=True):
        made = library.plain(result) if out is None else None
        fresh.append(None if made is None else (*made[1:3], made[1:3] == found[1:3]))
        if made is not None:
            pointers.append(made[0])
    start, addresses, numbers = runs[0]
    pointers.append(0)
    inside = set(addresses) <= set(pointers)
    if inside and len(addresses) > 1 and not any(p % WIDEST for p in pointers[len(given) :]):
        if len(queue.calls) >= CALLS:
            queue.calls.clear()
        pick = operator.itemgetter(*map(pointers.index, addresses))
        fresh = fresh if any(fresh) else []
        queue.calls[key] = Repeat(start, pick, numbers, apart, fresh)
