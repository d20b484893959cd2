"""A result has the same bits on every x86 processor that multiplies and adds in one step.

Kernels are compiled for processors of other widths, and run here.
"""

import platform
from functools import cache

import pytest
from cases import FULL
from llvmlite import binding
from test_processes import run

FEATURES = {name for name, has in binding.get_host_cpu_features().items() if has}
OTHERS = {"haswell": {"avx2", "fma", "bmi2", "f16c"}, "znver3": {"avx2", "fma", "vaes", "clzero"}}

CODE = """
import hashlib, sys
import numpy as np
import numba_acts as na
from numba_acts._cpu import forward, jacobian, maxout, product
dtype = np.dtype(sys.argv[1])
random = np.random.default_rng(0)

def numbers(*shape):
    return (4 * random.normal(size=shape)).astype(dtype)

def told(name, *results):
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(y).tobytes() for y in results))
    print(f"{dtype}:{name}:{digest.hexdigest()[:16]}")

SHAPES = [  # along each of these axes: short rows, rows, long ones; columns, few, tall, long ones
    ((13, 3), 1), ((13, 21), 1), ((11, 1001), 1), ((2, 70_001), 1),
    ((3, 2, 19), 1), ((21, 70), 0), ((300, 33), 0), ((5001, 13), 0),
]
for shape, axis in SHAPES:
    x, g = numbers(*shape), numbers(*shape)
    y = na.softmin(x, axis)
    told(f"softmin{shape}{axis}", y)
    if dtype == np.float32:
        mask = random.random(shape) < 0.7
        told(f"masked{shape}{axis}", na.softmin(x, axis, where=mask, temperature=0.7))
    told(f"vjp{shape}{axis}", na.softmin_vjp(g, y, axis))
    best, index = na.maxout_with_index(x, axis)
    told(f"maxout{shape}{axis}", best, index, na.maxout(x, axis))
    told(f"winners{shape}{axis}", na.maxout_vjp(best, index, shape[axis], axis))
y = na.softmin(numbers(13, 21))
told("jacobian", na.softmin_jacobian(y), na.softmin_jacobian_diag(y))
x, weight = numbers(33, 100), numbers(5, 3, 100)
y, index = na.maxout_affine_with_index(x, weight)
told("affine", y, index, *na.maxout_affine_vjp(y, x, weight, index))
told("tangents", na.maxout_affine_jvp(x, weight, index, dx=x))
for room in forward, jacobian, maxout, product:  # as large results go
    room.FAR_FROM = 1 << 12
for shape, axis in [((501, 5), 1), ((501, 21), 1), ((5, 2, 700), 1), ((2001, 600), 0)]:
    x, g = numbers(*shape), numbers(*shape)
    y = na.softmin(x, axis)
    told(f"far softmin{shape}{axis}", y)
    told(f"far vjp{shape}{axis}", na.softmin_vjp(g, y, axis))
    best, index = na.maxout_with_index(x, axis)
    told(f"far maxout{shape}{axis}", best, index, na.maxout_vjp(best, index, shape[axis], axis))
told("far jacobian", na.softmin_jacobian(numbers(13, 60)), na.softmin_jacobian_diag(y))
"""


@cache
def digests(dtype, processor):
    """Of each result its bits' digest, from kernels compiled for a processor."""
    as_it_is = {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": ""} if processor else {}
    return run(f"import sys; sys.argv.append({dtype!r})\n{CODE}", **as_it_is)


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64") or "fma" not in FEATURES,
    reason="not an x86 processor that multiplies and adds in one step",
)
@pytest.mark.parametrize(
    ("dtype", "processor"),
    [
        ("float32", "haswell"),
        *(
            pytest.param(dtype, processor, marks=FULL)
            for dtype in ("float32", "float64", "float16")
            for processor in OTHERS
            if (dtype, processor) != ("float32", "haswell")
        ),
    ],
)
def test_the_same_bits_as_on_this_one(dtype, processor):
    if not OTHERS[processor] <= FEATURES:
        pytest.skip(f"this processor does not run what is compiled for {processor}")
    here, there = digests(dtype, None), digests(dtype, processor)
    assert len(here) > 30
    assert there == here
