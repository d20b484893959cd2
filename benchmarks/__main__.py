"""Measure numba_acts: ``python -m benchmarks accuracy``, ``calls``, ``startup``, ``cuda``.

Times are taken in one process, ours and the peers' in turn, and given as medians. Nothing here is a
test: the figures depend on the machine, whose name is printed with them.
"""

import argparse
import importlib
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import timeit
from collections.abc import Callable

import numpy as np

import numba_acts as na

MODULES = {"cuda": "benchmarks.cuda", "cuda-static": "benchmarks.cuda_static"}


def main() -> None:
    """Run the part that is asked for."""
    if sys.argv[1:] and sys.argv[1] in MODULES:
        sys.exit(importlib.import_module(MODULES[sys.argv[1]]).main(sys.argv[2:]))
    parts = {"accuracy": accuracy, "calls": calls, "startup": startup}
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("part", choices=[*parts, *MODULES])
    part = parser.parse_args().part
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    parts[part]()


def accuracy() -> None:
    """Softmin's largest error in units of the bound 4 eps (1 + |d|) y, d = (x − min x)/T."""
    rng = np.random.default_rng(0)
    print(f"{'dtype':8} {'n':>8}  " + "".join(f"{f'scale {s:g}':>12}" for s in (1, 30, 1e4)))
    for dtype in (np.float32, np.float64):
        for n in (1, 2, 3, 7, 10, 16, 17, 100, 128, 1000, 4096, 4097, 10**5, 10**6):
            errors = [
                _error((scale * rng.normal(size=(4, n))).astype(dtype)) for scale in (1, 30, 1e4)
            ]
            print(f"{np.dtype(dtype).name:8} {n:8}  " + "".join(f"{e:12.2f}" for e in errors))


def _error(x: np.ndarray) -> float:
    wide = x.astype(np.longdouble)
    distance = wide - wide.min(-1, keepdims=True)
    exact = np.exp(-distance)
    exact /= exact.sum(-1, keepdims=True)
    info = np.finfo(x.dtype)
    bound = 4 * info.eps * (1 + distance) * exact + info.smallest_subnormal
    return float(np.max(np.abs(na.softmin(x) - exact) / bound))


def calls() -> None:
    """What a warm call on few numbers takes, with Numba's bare dispatch for comparison."""
    import numba
    import torch

    @numba.njit
    def nothing(x):
        return None

    x = np.random.default_rng(0).normal(size=32).astype(np.float32)
    out, y, pieces = np.empty_like(x), na.softmin(x), x.reshape(8, 4)
    tensor, few = torch.randn(1000), torch.from_numpy(x)
    result = torch.empty(1000)
    measured: dict[str, Callable[[], object]] = {
        "softmin(x, out=out), 32 numbers": lambda: na.softmin(x, out=out),
        "torch.softmax(x, -1, out=out), 1000 numbers": lambda: torch.softmax(
            tensor, -1, out=result
        ),
        "softmin(x), 32 numbers": lambda: na.softmin(x),
        "torch.nn.functional.softmin(x, -1), 32 numbers": lambda: torch.nn.functional.softmin(
            few, -1
        ),
        "softmin_vjp(g, y), 32 numbers": lambda: na.softmin_vjp(x, y),
        "maxout(x), 8 units of 4 pieces": lambda: na.maxout(pieces),
        "a bare Numba dispatch": lambda: nothing(x),
    }
    times: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(15):
        for name, call in measured.items():
            times[name].append(timeit.timeit(call, number=10_000) / 10_000)
    for name, seconds in times.items():
        print(f"{name:50} {statistics.median(seconds) * 1e6:6.2f} µs")


FIRST_CALLS = {
    "softmin": "na.softmin(x)",
    "softmin_vjp": "na.softmin_vjp(x, x)",
    "softmin_jacobian": "na.softmin_jacobian(x)",
    "softmin_jacobian_diag": "na.softmin_jacobian_diag(x)",
    "softmin, 10^6 numbers": "na.softmin(large)",
    "softmax2d": "na.softmax2d(x.reshape(4, 4, 4))",
    "softmax2d_vjp": "na.softmax2d_vjp(x.reshape(4, 4, 4), x.reshape(4, 4, 4))",
    "softmax2d, 10^6 numbers": "na.softmax2d(large.reshape(10, 400, 250))",
    "maxout_with_index": "na.maxout_with_index(x)",
    "maxout_vjp": "na.maxout_vjp(x[0], index, 4)",
    "maxout_jvp": "na.maxout_jvp(x.reshape(16, 4), np.zeros(16, int))",
    "maxout_affine": "na.maxout_affine(x, weight)",
    "maxout_affine, 10^4 rows": "na.maxout_affine(large.reshape(-1, 16), weight)",
    "maxout_affine_vjp": "na.maxout_affine_vjp(x[:, :2].copy(), x, weight, zeros)",
    "maxout_affine_jvp": "na.maxout_affine_jvp(x, weight, zeros, dx=x)",
}
FIRST_CALL = """
import time, numpy as np, numba_acts as na
x = np.random.default_rng(0).random((4, 16), np.float32)
large = np.random.default_rng(0).random((1000, 1000), np.float32)
weight, index, zeros = np.ones((2, 3, 16), np.float32), np.zeros(16, int), np.zeros((4, 2), int)
start = time.perf_counter()
{call}
print(time.perf_counter() - start)
"""


IMPORT = """
import time
start = time.perf_counter()
import {modules}
print(time.perf_counter() - start)
"""


def startup() -> None:
    """What the import adds to Numba's, and the first call in a new process, cold and warm."""
    plain, both = (
        [_fresh(IMPORT.format(modules=modules)) for _ in range(7)]
        for modules in ("numba", "numba, numba_acts")
    )
    added = statistics.median(both) - statistics.median(plain)
    print(f"import numba {statistics.median(plain):.3f} s; numba_acts adds {added * 1e3:.0f} ms")
    print(f"\n{'first call of':28} {'cold cache':>10} {'warm cache':>10}")
    for name, call in FIRST_CALLS.items():
        with tempfile.TemporaryDirectory() as folder:
            cold, warm = (
                _fresh(FIRST_CALL.format(call=call), NUMBA_CACHE_DIR=folder) for _ in range(2)
            )
        print(f"{name:28} {cold:8.2f} s {warm:8.2f} s", flush=True)


def _fresh(code: str, **environment: str) -> float:
    environment |= {"PYTHONDONTWRITEBYTECODE": ""}  # as when it is installed
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


if __name__ == "__main__":
    main()
