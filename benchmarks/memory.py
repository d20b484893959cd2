"""``python -m benchmarks memory``: how much a call takes beyond its result."""

import json
import subprocess
import sys
from typing import Any

from benchmarks import timing

CASES: list[tuple[str, str, str, tuple[int, ...]]] = [
    ("softmin", "forward", "na.softmin(x, out=out)", (4096, 4096)),
    ("softmin", "forward", "na.softmin(x, axis=0, out=out)", (4096, 4096)),
    ("softmin", "forward", "na.softmin(x, out=out)", (4, 4194304)),
    ("softmin", "vjp", "na.softmin_vjp(x, x, out=out)", (4096, 4096)),
    ("softmin", "vjp", "na.softmin_vjp(x, x, axis=0, out=out)", (4096, 4096)),
    ("softmax2d", "forward", "na.softmax2d(x, out=out)", (21, 1024, 1024)),
    ("softmax2d", "vjp", "na.softmax2d_vjp(x, x, out=out)", (21, 1024, 1024)),
    ("maxout", "forward", "na.maxout(x, out=out[..., 0].copy())", (2048, 2048, 4)),
]
# The peak of the resident memory, reset after a first call that loads the kernels.
CODE = """
import json, re, numpy as np, numba_acts as na
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
def now():
    return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
x = np.random.default_rng(0).random({shape}, np.float32)
out = np.zeros_like(x)
{call}
open("/proc/self/clear_refs", "w").write("5")
before = now()
{call}
print(peak() - before)
"""


def main(arguments: list[str]) -> int:
    """The resident memory's peak in a second call, in a process of its own; Linux only."""
    lines: list[dict[str, Any]] = []
    for function, work, call, shape in CASES:
        done = subprocess.run(
            [sys.executable, "-c", CODE.format(shape=shape, call=call)],
            capture_output=True,
            text=True,
            check=True,
        )
        beyond = json.loads(done.stdout)
        print(f"{call:42} of {'×'.join(map(str, shape)):14} {beyond / 1024:8.0f} KB", flush=True)
        line = {"function": function, "work": work, "dtype": "float32", "shape": list(shape)}
        lines.append(line | {"call": call, "beyond_result": beyond})
    print(f"written to {timing.save('memory', lines)}")
    return 0
