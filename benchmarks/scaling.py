"""``python -m benchmarks scaling``: time over size, on one thread and on two."""

from typing import Any

import numba
import numpy as np

import numba_acts as na
from benchmarks import cpu, timing
from benchmarks.timing import Call

LENGTHS = 10, 128, 1024
SIZES = [10**k for k in range(2, 9)]


def main(arguments: list[str]) -> int:
    """Softmin of rows, softmax2d of 21 channels and maxout of 4 pieces, of 10² to 10⁸ elements."""
    import torch

    lines: list[dict[str, Any]] = []
    for elements in SIZES:
        for function, length in [("softmin", n) for n in LENGTHS] + [
            ("softmax2d", 21),
            ("maxout", 4),
        ]:
            rows = max(1, elements // length)
            shape = (length, 1, rows) if function == "softmax2d" else (rows, length)
            x = np.random.default_rng(0).standard_normal(shape, np.float32)
            lines += scaled(torch, function, length, x)
            for line in lines[-2:]:
                seconds = line["times"]["numba_acts"]["median"]
                print(
                    f"{function:10}{length:6}{x.size:11} on {line['threads']}: "
                    f"{seconds * 1e6:11.1f} µs {seconds / x.size * 1e9:8.3f} ns an element",
                    flush=True,
                )
    print(f"written to {timing.save('scaling', lines)}")
    return 0


def scaled(torch: Any, function: str, length: int, x: np.ndarray) -> list[dict[str, Any]]:
    """Lines for one array, on one thread and on two."""
    tensor = torch.from_numpy(x)
    out = np.empty(x.shape[:1] if function == "maxout" else x.shape, x.dtype)
    into = torch.from_numpy(out.copy())
    ours: dict[str, Call] = {
        "softmin": lambda: na.softmin(x, out=out),
        "softmax2d": lambda: na.softmax2d(x, out=out),
        "maxout": lambda: na.maxout(x, out=out),
    }

    def theirs() -> object:
        if function == "maxout":
            return torch.amax(tensor, -1, out=into)
        return torch.softmax(tensor, 0 if function == "softmax2d" else -1, out=into)

    lines = []
    for threads in 1, 2:
        measured: dict[str, Call] = {
            "numba_acts": ours[function],
            "torch": theirs,
            **cpu.copies(x.nbytes),
        }
        numba.set_num_threads(threads)
        torch.set_num_threads(threads)
        with torch.inference_mode():
            times = timing.interleaved(measured, 15, 1.5)
        copied = cpu.fastest_copy(times)
        line = {"function": function, "length": length, "elements": x.size, "threads": threads}
        lines.append(line | {"times": times, "copy": copied})
    return lines
