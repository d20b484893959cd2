"""``python -m benchmarks uses``: results in the caches and around them, read next or left alone.

A result that goes around the caches costs less where it is left alone, for its memory is not read
first, and more where what comes next reads it. Here both ways are forced for results of every size;
``FAR_FROM`` of ``numba_acts._cpu.forward`` and ``product`` is from where on results go around.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import numba_acts as na
from benchmarks import tables, timing
from numba_acts._cpu import forward, product

LENGTH = 1024  # numbers of a slice
SIZES = [1 << n for n in range(20, 28)]  # bytes of a result
ROOMS: dict[str, Any] = {"forward": forward, "vjp": product}
WAYS = {"in the caches": 1 << 62, "around them": 0}


def calls_on(size: int) -> dict[str, Callable[[], np.ndarray]]:
    """Forward and product with a result of so many bytes, by the rooms: calls remember ways."""
    rows = size // LENGTH // 4
    x = np.random.default_rng(0).standard_normal((rows, LENGTH), np.float32)
    y, out = na.softmin(x), np.empty_like(x)
    flat_x, flat_y, flat = x.reshape(-1), y.reshape(-1), out.reshape(-1)

    def forwards() -> np.ndarray:
        forward.softmax(flat_x, None, flat, rows, LENGTH, 1, -1.0)
        return out

    def backwards() -> np.ndarray:
        product.product(flat_x, flat_y, flat, rows, LENGTH, 1, -1.0)
        return out

    return {"forward": forwards, "vjp": backwards}


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
    rows: list[dict[str, Any]] = [
        {"function": "softmin", "work": work, "bytes": size, "far": size >= ROOMS[work].FAR_FROM}
        | {"times": times_of(ROOMS[work], call)}
        for size in SIZES
        for work, call in calls_on(size).items()
    ]
    print(tables.uses(rows))
    print(f"written to {timing.save('uses', rows)}")
    return 0
