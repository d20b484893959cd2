"""``python -m benchmarks memory``: how much a call holds beyond its result."""

import tracemalloc
from typing import Any

import numpy as np

import numba_acts as na
from benchmarks import timing
from benchmarks.timing import Call


def main(arguments: list[str]) -> int:
    """The peak of what NumPy and Numba allocate in a warm call whose result is given memory."""
    rng = np.random.default_rng(0)
    rows = rng.random((4096, 4096), np.float32)
    long, image = rows.reshape(4, -1), rows.reshape(16, 1024, 1024)
    units = rows.reshape(-1, 4)
    out, most = np.empty_like(rows), np.empty(len(units), np.float32)
    long_out, image_out = out.reshape(long.shape), out.reshape(image.shape)
    measured: list[tuple[str, str, tuple[int, ...], Call]] = [
        ("softmin", "forward", rows.shape, lambda: na.softmin(rows, out=out)),
        ("softmin, axis 0", "forward", rows.shape, lambda: na.softmin(rows, 0, out=out)),
        ("softmin", "forward", long.shape, lambda: na.softmin(long, out=long_out)),
        ("softmin", "vjp", rows.shape, lambda: na.softmin_vjp(rows, rows, out=out)),
        ("softmin, axis 0", "vjp", rows.shape, lambda: na.softmin_vjp(rows, rows, 0, out=out)),
        ("softmax2d", "forward", image.shape, lambda: na.softmax2d(image, out=image_out)),
        ("softmax2d", "vjp", image.shape, lambda: na.softmax2d_vjp(image, image, out=image_out)),
        ("maxout", "forward", units.shape, lambda: na.maxout(units, out=most)),
    ]
    lines: list[dict[str, Any]] = []
    for function, work, shape, call in measured:
        beyond = peak(call)
        shown = "×".join(map(str, shape))
        print(f"{function:16} {work:8} {shown:14} {beyond / 1024:8.1f} KB", flush=True)
        line = {"function": function, "work": work, "dtype": "float32", "shape": list(shape)}
        lines.append(line | {"beyond_result": beyond})
    print(f"written to {timing.save('memory', lines)}")
    return 0


def peak(call: Call) -> int:
    """The most bytes that are held at once during a warm call."""
    call()
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
