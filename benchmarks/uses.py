"""``python -m benchmarks uses``: results in the caches and around them, read next or left alone.

A result that goes around the caches costs less where it is left alone, for its memory is not read
first, and more where what comes next reads it. Here both ways are forced for results of every size:
of softmin, its product, and maxout of four pieces.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import numba_acts as na
from benchmarks import tables, timing
from numba_acts._cpu import forward, product
from numba_acts._cpu import maxout as cpu_maxout

LENGTH = 1024  # numbers of a slice
PIECES = 4
SIZES = [1 << n for n in range(20, 28)]  # bytes of a result
ROOMS: dict[tuple[str, str], Any] = {
    ("softmin", "forward"): forward,
    ("softmin", "vjp"): product,
    ("maxout", "forward"): cpu_maxout,
}
WAYS = {"in the caches": 1 << 62, "around them": 0}


def calls_on(size: int) -> list[Callable[[], np.ndarray]]:
    """For each room a call with a result of so many bytes, made there: calls remember ways."""
    rows = size // LENGTH // 4
    x = np.random.default_rng(0).standard_normal((rows, LENGTH), np.float32)
    y, out = na.softmin(x), np.empty_like(x)
    flat_x, flat_y, flat = x.reshape(-1), y.reshape(-1), out.reshape(-1)
    pieces = np.repeat(flat_x, PIECES)

    def forwards() -> np.ndarray:
        forward.softmax(flat_x, None, flat, rows, LENGTH, 1, -1.0)
        return out

    def backwards() -> np.ndarray:
        product.product(flat_x, flat_y, flat, rows, LENGTH, 1, -1.0)
        return out

    def maxima() -> np.ndarray:
        cpu_maxout.maxout(pieces, flat, None, flat.size, PIECES, 1)
        return out

    return [forwards, backwards, maxima]


def times_of(room: Any, call: Callable[[], np.ndarray]) -> timing.Times:
    """Of both ways: the call, and the call with a maxout of its result."""
    usual = room.FAR_FROM

    def alone(far: int) -> np.ndarray:
        room.FAR_FROM = far
        return call()

    def read(far: int) -> np.ndarray:
        return na.maxout(alone(far))

    calls: dict[str, timing.Call] = {}
    for way, far in WAYS.items():
        calls[f"{way}, left alone"] = partial(alone, far)
        calls[f"{way}, read next"] = partial(read, far)
    try:
        return timing.interleaved(calls, rounds=21, budget=6)
    finally:
        room.FAR_FROM = usual


def main(arguments: list[str]) -> int:
    """Measure all sizes; print them, and write them to the processor's file."""
    least = {room: room.FAR_FROM for room in ROOMS.values()}
    least[cpu_maxout] = cpu_maxout.far_from(PIECES, None)
    rows: list[dict[str, Any]] = [
        {"function": function, "work": work, "bytes": size, "far": size >= least[room]}
        | {"times": times_of(room, call)}
        for size in SIZES
        for ((function, work), room), call in zip(ROOMS.items(), calls_on(size), strict=True)
    ]
    print(tables.uses(rows))
    print(f"written to {timing.save('uses', rows)}")
    return 0
