"""``python -m benchmarks calls``: what a warm call on few numbers takes."""

import numba
import numpy as np

import numba_acts as na
from benchmarks import timing


@numba.njit
def _nothing(x):
    return None


def main(arguments: list[str]) -> int:
    """Calls on few numbers, beside PyTorch's and Numba's bare dispatch."""
    import torch

    rng = np.random.default_rng(0)
    x = rng.normal(size=32).astype(np.float32)
    out, y, pieces = np.empty_like(x), na.softmin(x), rng.normal(size=(8, 4)).astype(np.float32)
    most, index = na.maxout_with_index(pieces)
    few, more, few_out, more_out = (
        torch.from_numpy(x),
        torch.randn(1000),
        torch.empty(32),
        torch.empty(1000),
    )
    units, few_y = torch.from_numpy(pieces), torch.from_numpy(y)
    measured = {
        "softmin of 32 float32, out=": {
            "numba_acts": lambda: na.softmin(x, out=out),
            "torch": lambda: torch.softmax(few, -1, out=few_out),
        },
        "softmin of 32 float32": {
            "numba_acts": lambda: na.softmin(x),
            "torch": lambda: torch.nn.functional.softmin(few, -1),
        },
        "softmax of 1000 float32, out=": {
            "torch": lambda: torch.softmax(more, -1, out=more_out),
        },
        "softmin of a tensor of 32 float32": {
            "numba_acts": lambda: na.softmin(few),
            "torch": lambda: torch.nn.functional.softmin(few, -1),
        },
        "softmin_vjp of 32 float32": {
            "numba_acts": lambda: na.softmin_vjp(x, y),
            "torch": lambda: torch.ops.aten._softmax_backward_data(few, few_y, -1, few.dtype),
        },
        "maxout of 8 units of 4 pieces": {
            "numba_acts": lambda: na.maxout(pieces),
            "torch": lambda: torch.amax(units, -1),
        },
        "maxout_vjp of 8 units of 4 pieces": {
            "numba_acts": lambda: na.maxout_vjp(most, index, 4),
        },
        "a bare Numba dispatch": {"numba": lambda: _nothing(x)},
    }
    lines = []
    with torch.inference_mode():
        for call, libraries in measured.items():
            times = timing.interleaved(libraries, 15, 5.0)
            lines.append({"call": call, "times": times})
            shown = "   ".join(f"{name} {t['median'] * 1e6:.2f} µs" for name, t in times.items())
            print(f"{call:34} {shown}")
    print(f"written to {timing.save('calls', lines)}")
    return 0
