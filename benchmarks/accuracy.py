"""``python -m benchmarks accuracy``: errors against a reference of higher precision."""

from typing import Any

import numpy as np

from benchmarks import peers, timing
from benchmarks.cases import Case

LENGTHS = 1, 2, 10, 100, 1000, 4096, 4097, 10**5, 10**6
SCALES = 1.0, 30.0, 1e4


def main(arguments: list[str]) -> int:
    """Softmin's largest errors, ours and the peers', over the length and the scale of its input.

    In units of the bound 4 eps (1 + |d|) y with d = (x − min x)/T, and relative to y.
    """
    rng = np.random.default_rng(0)
    lines: list[dict[str, Any]] = []
    print(f"{'dtype':8} {'n':>8} {'scale':>6}   largest error in units of the bound")
    for dtype in "float32", "float64":
        for n in LENGTHS:
            for scale in SCALES:
                x = (scale * rng.normal(size=(4, n))).astype(dtype)
                worst = errors(x)
                shown = "   ".join(f"{name} {share:.2f}" for name, (share, _) in worst.items())
                print(f"{dtype:8} {n:8} {scale:6g}   {shown}", flush=True)
                line = {"function": "softmin", "dtype": dtype, "length": n, "scale": scale}
                for name, (share, relative) in worst.items():
                    lines.append(line | {"library": name, "worst": share, "relative": relative})
    print(f"written to {timing.save('accuracy', lines)}")
    return 0


def errors(x: np.ndarray) -> dict[str, tuple[float, float]]:
    """Each library's largest error on x: as a share of the bound, and relative to the result."""
    wide = x.astype(np.longdouble)
    distance = wide - wide.min(-1, keepdims=True)
    exact = np.exp(-distance)
    exact /= exact.sum(-1, keepdims=True)
    info = np.finfo(x.dtype)
    bound = 4 * info.eps * (1 + distance) * exact + info.smallest_subnormal
    normal = exact > info.smallest_normal
    arrays = {"x": x, "g": x, "y": x, "out": np.empty_like(x)}
    worst = {}
    for name, call in peers.calls(
        Case("softmin", "forward", x.shape, dtype=x.dtype.name), arrays
    ).items():
        result = call()
        error = np.abs(
            peers.values(getattr(call, "values", lambda r=result: r)()).reshape(exact.shape) - exact
        )
        relative = np.max(error[normal] / exact[normal])
        worst[name] = float(np.max(error / bound)), float(relative)
    return worst
