"""β (y_i δ_ij − y_i y_j), the Jacobian in full, and its diagonal."""

import math
from typing import Any

import numpy as np
from numba import cuda

from numba_acts._cuda.exponential import factor
from numba_acts._cuda.lanes import divided, short
from numba_acts._cuda.launch import Memory, as_tuple, planned, run, specialised
from numba_acts._cuda.memory import computed, like, load, store_once
from numba_acts._cuda.slices import access_of, power, width_of

JACOBIAN_THREADS = 256
ROWS = 4  # of a matrix, for which a thread reads y once


@specialised(lambda *constants: JACOBIAN_THREADS)
def jacobian_rows(rows, lanes, vector, dtype):
    """Matrices of contiguous slices: `lanes` threads write some rows of one, y being in caches."""
    together, width, per_block, one = len(rows), len(vector), JACOBIAN_THREADS // lanes, (0,)

    def kernel(y, out, outer, n, beta):
        scale = like(y, beta)
        numbers = cuda.local.array(width, dtype)
        line = cuda.local.array(width, dtype)
        mine = cuda.local.array(together, dtype)
        thread, block = np.int64(cuda.threadIdx.x), np.int64(cuda.blockIdx.x)
        groups = (n + together - 1) // together
        matrix = divided(block, per_block, thread // lanes, groups, True)
        if matrix < outer:
            i = (block * per_block + thread // lanes - matrix * groups) * together
            first = matrix * n
            for r in range(together):
                load(y, first + min(i + r, n - 1), mine, r, one)
            for j in range(thread % lanes * width, n, lanes * width):
                load(y, first + j, numbers, 0, vector)
                right = np.int32(i - j)
                for r in range(together):
                    if i + r < n:
                        for v in range(width):
                            if right == v - r:
                                line[v] = scale * (mine[r] * (like(y, 1.0) - mine[r]))
                            else:
                                line[v] = -scale * (mine[r] * numbers[v])
                        store_once(out, (first + i + r) * n + j, line, 0, vector)

    return kernel


@specialised(lambda *constants: JACOBIAN_THREADS)
def jacobian_columns(vector, short, dtype):
    """Matrices of slices whose numbers lie apart: a thread writes row i of some neighbours'."""
    width = len(vector)

    def kernel(y, out, outer, n, inner, beta):
        scale = like(y, beta)
        numbers = cuda.local.array(width, dtype)
        mine = cuda.local.array(width, dtype)
        thread, block = np.int64(cuda.threadIdx.x), np.int64(cuda.blockIdx.x)
        steps = inner // width
        matrix = divided(block, JACOBIAN_THREADS, thread, n * steps, short)
        if matrix < outer:
            step = block * JACOBIAN_THREADS + thread - matrix * (n * steps)
            i = divided(0, 1, step, steps, short)
            p = (step - i * steps) * width
            first = matrix * n
            load(y, (first + i) * inner + p, mine, 0, vector)
            for j in range(n):
                load(y, (first + j) * inner + p, numbers, 0, vector)
                for v in range(width):
                    if i == j:
                        numbers[v] = scale * (mine[v] * (like(y, 1.0) - mine[v]))
                    else:
                        numbers[v] = -scale * (mine[v] * numbers[v])
                store_once(out, ((first + i) * n + j) * inner + p, numbers, 0, vector)

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
        lanes, together = min(power(-(-n // len(vector))), JACOBIAN_THREADS), min(n, ROWS)
        blocks = -(-outer * -(-n // together) // (JACOBIAN_THREADS // lanes))
        kernel = jacobian_rows(as_tuple(together), lanes, vector, dtype)
        return kernel, blocks, (outer, n, scale)
    steps = n * inner // len(vector)
    kernel = jacobian_columns(vector, short(steps, JACOBIAN_THREADS), dtype)
    return kernel, -(-outer * steps // JACOBIAN_THREADS), (outer, n, inner, scale)


def diagonals(y: Memory, out: Memory, outer: int, n: int, inner: int, beta: float):
    """Fill `out` with β y (1 − y)."""
    run(*planned(_diagonals, (y, out), y.size, beta))


def _diagonals(y: Memory, out: Memory, size: int, beta: float) -> Any:
    """As `_jacobians`."""
    dtype = computed(out.dtype)
    vector = access_of(math.gcd(size, width_of(y, out)), y, out)
    blocks = -(-size // (JACOBIAN_THREADS * len(vector)))
    return diagonal(vector, dtype), blocks, (size, factor(beta, dtype))
