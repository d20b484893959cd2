"""Copies between any strides and dtypes: what kernels can't take or give as it lies."""

import itertools
from collections.abc import Sequence

import numpy as np
from numba import cuda

from numba_acts._cuda.launch import Memory, run, specialised
from numba_acts._cuda.memory import held, load, store

AXES = 5  # that one kernel walks; the host walks the others
THREADS = 256


@specialised(lambda *constants: THREADS)
def strided(dtype):
    """Five axes at most, an element a thread, in the order of the target's axes."""
    one = (0,)

    def kernel(
        source,
        target,
        size,
        s_first,
        t_first,
        n1,
        n2,
        n3,
        n4,
        s0,
        s1,
        s2,
        s3,
        s4,
        t0,
        t1,
        t2,
        t3,
        t4,
    ):
        number = cuda.local.array(1, dtype)
        place = np.int64(cuda.blockIdx.x) * THREADS + np.int64(cuda.threadIdx.x)
        if place < size:
            i3 = place // n4
            i4 = place - i3 * n4
            i2 = i3 // n3
            i3 -= i2 * n3
            i1 = i2 // n2
            i2 -= i1 * n2
            i0 = i1 // n1
            i1 -= i0 * n1
            here = s_first + i0 * s0 + i1 * s1 + i2 * s2 + i3 * s3 + i4 * s4
            there = t_first + i0 * t0 + i1 * t1 + i2 * t2 + i3 * t3 + i4 * t4
            load(source, here, number, 0, one)
            store(target, there, number, 0, one)

    return kernel


def copy(
    source: Memory,
    target: Memory,
    shape: Sequence[int],
    source_start: int,
    target_start: int,
    source_steps: Sequence[int],
    target_steps: Sequence[int],
) -> None:
    """target[...] = source[...], converted; starts and steps, the strides, are in elements."""
    axes: list[list[int]] = []
    for length, step, other in zip(shape, source_steps, target_steps, strict=True):
        if axes and (step * length, other * length) == tuple(axes[-1][1:]):
            axes[-1] = [axes[-1][0] * length, step, other]
        elif length > 1:
            axes.append([length, step, other])
    outer, inner = axes[:-AXES], [[1, 0, 0]] * (AXES - len(axes)) + axes[-AXES:]
    lengths, s, t = zip(*inner, strict=True)
    size = int(np.prod(lengths))
    kernel, blocks = strided(held(target.dtype)), -(-size // THREADS)
    for corner in itertools.product(*(range(length) for length, _, _ in outer)):
        starts = [source_start, target_start]
        for i, axis in zip(corner, outer, strict=True):
            starts = [start + i * step for start, step in zip(starts, axis[1:], strict=True)]
        run(kernel, blocks, source, target, size, *starts, *lengths[1:], *s, *t)
