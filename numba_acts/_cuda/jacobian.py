"""β (y_i δ_ij − y_i y_j), the Jacobian in full, and its diagonal."""

import math
from typing import Any

import numpy as np
from numba import cuda

from numba_acts._cuda.exponential import factor
from numba_acts._cuda.launch import Memory, planned, run, specialised
from numba_acts._cuda.memory import computed, get, like, load, store_once
from numba_acts._cuda.slices import access_of, power, width_of

JACOBIAN_THREADS = 256


@specialised(lambda *constants: JACOBIAN_THREADS)
def jacobian_rows(lanes, vector, dtype):
    """Matrices of contiguous slices: `lanes` threads write row i of one; y comes from caches."""
    width, per_block = len(vector), JACOBIAN_THREADS // lanes

    def kernel(y, out, outer, n, beta):
        scale = like(y, beta)
        numbers = cuda.local.array(width, dtype)
        thread = np.int64(cuda.threadIdx.x)
        row = np.int64(cuda.blockIdx.x) * per_block + thread // lanes
        if row < outer * n:
            first = row // n * n
            i, mine = row - first, like(y, get(y, row))
            for j in range(thread % lanes * width, n, lanes * width):
                load(y, first + j, numbers, 0, vector)
                for v in range(width):
                    if i == j + v:
                        numbers[v] = scale * (mine * (like(y, 1.0) - mine))
                    else:
                        numbers[v] = -scale * (mine * numbers[v])
                store_once(out, row * n + j, numbers, 0, vector)

    return kernel


@specialised(lambda *constants: JACOBIAN_THREADS)
def jacobian_columns(vector, dtype):
    """Matrices of slices whose numbers lie apart: a thread writes row i of some neighbours'."""
    width = len(vector)

    def kernel(y, out, outer, n, inner, beta):
        scale = like(y, beta)
        numbers = cuda.local.array(width, dtype)
        mine = cuda.local.array(width, dtype)
        thread = np.int64(cuda.blockIdx.x) * JACOBIAN_THREADS + np.int64(cuda.threadIdx.x)
        unit = thread * width // inner
        p = thread * width - unit * inner
        if unit < outer * n:
            first = unit // n * n
            i = unit - first
            load(y, unit * inner + p, mine, 0, vector)
            for j in range(n):
                load(y, (first + j) * inner + p, numbers, 0, vector)
                for v in range(width):
                    if i == j:
                        numbers[v] = scale * (mine[v] * (like(y, 1.0) - mine[v]))
                    else:
                        numbers[v] = -scale * (mine[v] * numbers[v])
                store_once(out, (unit * n + j) * inner + p, numbers, 0, vector)

    return kernel


@specialised(lambda *constants: JACOBIAN_THREADS)
def diagonal(vector, dtype):
    """β y (1 − y), number by number."""
    width = len(vector)

    def kernel(y, out, size, beta):
        scale = like(y, beta)
        numbers = cuda.local.array(width, dtype)
        thread = np.int64(cuda.blockIdx.x) * JACOBIAN_THREADS + np.int64(cuda.threadIdx.x)
        if thread * width < size:
            load(y, thread * width, numbers, 0, vector)
            for v in range(width):
                numbers[v] = scale * (numbers[v] * (like(y, 1.0) - numbers[v]))
            store_once(out, thread * width, numbers, 0, vector)

    return kernel


# ---- which traversal -------------------------------------------------------------------------


def jacobians(y: Memory, out: Memory, outer: int, n: int, inner: int, beta: float):
    """Fill `out`, (outer, n, n, inner), with β (y_i δ_ij − y_i y_j)."""
    run(*planned(_jacobians, (y, out), outer, n, inner, beta))


def _jacobians(y: Memory, out: Memory, outer: int, n: int, inner: int, beta: float) -> Any:
    """The kernel, its blocks and its further arguments."""
    dtype = computed(out.dtype)
    scale = factor(beta, dtype)
    vector = access_of(math.gcd(inner if inner > 1 else n, width_of(y, out)), y, out)
    if inner == 1:
        lanes = min(power(-(-n // len(vector))), JACOBIAN_THREADS)
        blocks = -(-outer * n // (JACOBIAN_THREADS // lanes))
        return jacobian_rows(lanes, vector, dtype), blocks, (outer, n, scale)
    blocks = -(-outer * n * inner // (JACOBIAN_THREADS * len(vector)))
    return jacobian_columns(vector, dtype), blocks, (outer, n, inner, scale)


def diagonals(y: Memory, out: Memory, outer: int, n: int, inner: int, beta: float):
    """Fill `out` with β y (1 − y)."""
    run(*planned(_diagonals, (y, out), y.size, beta))


def _diagonals(y: Memory, out: Memory, size: int, beta: float) -> Any:
    """As `_jacobians`."""
    dtype = computed(out.dtype)
    vector = access_of(math.gcd(size, width_of(y, out)), y, out)
    blocks = -(-size // (JACOBIAN_THREADS * len(vector)))
    return diagonal(vector, dtype), blocks, (size, factor(beta, dtype))
