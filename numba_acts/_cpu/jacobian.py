"""β (y_i δ_ij − y_i y_j), the Jacobian in full, and its diagonal."""

import numpy as np

from numba_acts._cpu.caches import FAR_FROM
from numba_acts._cpu.exponential import factor_law
from numba_acts._cpu.lanes import LANES, choose, equals, fill, lane_places
from numba_acts._cpu.launch import kernel, run
from numba_acts._cpu.memory import (
    get,
    load,
    load_some,
    load_up_to,
    operand,
    results,
    settle,
    store,
    store_some,
    store_up_to,
)
from numba_acts._cpu.slices import WORTH


@kernel
def jacobian(y, out, n, inner, beta, far, start, stop):
    """Row i of each slice's matrix, written once in the order of memory; a unit is a slice's i.

    The last eight numbers of a row may overlap those before.
    """
    length = n if inner == 1 else inner
    count = min(LANES, length)
    y, out = operand(y, out), results(out, length, out.size if count == LANES else 0, far)
    factor = factor_law(y, beta)
    one = fill(factor, 1.0)
    negative = fill(factor, 0.0) - factor
    for unit in range(start, stop):
        outer = unit // n
        row = unit - outer * n
        here = unit * inner
        slices = outer * n * inner
        if inner == 1:
            first = unit * n
            mine = fill(factor, get(y, here))
            own = factor * (mine * (one - mine))
            for start_column in range(0, n, LANES):
                j = min(start_column, n - count)
                v = negative * (mine * load_up_to(y, slices + j, count))
                v = choose(equals(lane_places(), np.int32(row - j)), own, v)
                store_up_to(out, first + j, count, v)
        else:
            for j in range(n):
                first = (unit * n + j) * inner
                there = slices + j * inner
                for start_column in range(0, inner, LANES):
                    i = min(start_column, inner - count)
                    mine = load_up_to(y, here + i, count)
                    v = factor * (mine * (one - mine))
                    if j != row:
                        v = negative * (mine * load_up_to(y, there + i, count))
                    store_up_to(out, first + i, count, v)
    settle(out)


@kernel
def diagonal(y, out, beta, far, start, stop):
    """β y (1 − y), number by number; a unit is eight of them."""
    y, out = operand(y, out), results(out, LANES, out.size, far)
    factor = factor_law(y, beta)
    one = fill(factor, 1.0)
    last = min(stop * LANES, y.size)
    whole = last & -LANES
    for i in range(start * LANES, whole, LANES):
        v = load(y, i)
        store(out, i, factor * (v * (one - v)))
    if whole < last:
        v = load_some(y, whole, last - whole)
        store_some(out, whole, last - whole, factor * (v * (one - v)))
    settle(out)


# ---- which traversal --------------------------------------------------------------------------


def jacobians(y, out, outer, n, inner, beta):
    """Fill `out`, (outer, n, n, inner), with β (y_i δ_ij − y_i y_j)."""
    run(jacobian, outer * n, out.size * WORTH[out.itemsize], (y, out), n, inner, beta, FAR_FROM)


def diagonals(y, out, outer, n, inner, beta):
    """Fill `out` with β y (1 − y)."""
    run(diagonal, -(-y.size // LANES), y.size * WORTH[out.itemsize], (y, out), beta, FAR_FROM)
