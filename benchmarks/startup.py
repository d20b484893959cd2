"""``python -m benchmarks startup``: the import, and the first call in a new process."""

import os
import statistics
import subprocess
import sys
import tempfile

from benchmarks import timing

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
    "softmin, in @njit code": "numba.njit(lambda x: na.softmin(x))(x)",
    "softmin_vjp, in @njit code": "numba.njit(lambda x: na.softmin_vjp(x, x))(x)",
    "maxout_affine, in @njit code": "numba.njit(lambda x, w: na.maxout_affine(x, w))(x, weight)",
}
FIRST_CALL = """
import time, numba, numpy as np, numba_acts as na
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


def main(arguments: list[str]) -> int:
    """What the import adds to Numba's, and the first call in a new process, cold and warm."""
    plain, both = (
        statistics.median(_fresh(IMPORT.format(modules=modules)) for _ in range(7))
        for modules in ("numba", "numba, numba_acts")
    )
    print(f"import numba {plain:.3f} s; numba_acts adds {(both - plain) * 1e3:.0f} ms")
    print(f"\n{'first call of':28} {'cold cache':>10} {'warm cache':>10}")
    lines = []
    for name, call in FIRST_CALLS.items():
        with tempfile.TemporaryDirectory() as folder:
            cold, warm = (
                _fresh(FIRST_CALL.format(call=call), NUMBA_CACHE_DIR=folder) for _ in range(2)
            )
        print(f"{name:28} {cold:8.2f} s {warm:8.2f} s", flush=True)
        lines.append({"call": name, "cold": cold, "warm": warm})
    measured = {"import_numba": plain, "import_adds": both - plain, "first_calls": lines}
    print(f"written to {timing.save('startup', measured)}")
    return 0


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
