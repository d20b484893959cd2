"""β (y_i δ_ij − y_i y_j), the Jacobian in full, and its diagonal."""

from numba_acts._cpu.exponential import factor_law
from numba_acts._cpu.lanes import LANES, extract, fill
from numba_acts._cpu.launch import kernel, run
from numba_acts._cpu.memory import elements, get, load, load_some, operand, put, store, store_some
from numba_acts._cpu.slices import WORTH


@kernel
def jacobian(y, out, n, inner, beta, start, stop):
    """Row i of each slice's matrix, written once in the order of memory; a unit is a slice's i."""
    y, out = operand(y, out), elements(out)
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
            whole = n & -LANES
            for j in range(0, whole, LANES):
                store(out, first + j, negative * (mine * load(y, slices + j)))
            for j in range(whole, n):
                put(out, first + j, extract(negative * (mine * fill(mine, get(y, slices + j))), 0))
            put(out, first + row, extract(factor * (mine * (one - mine)), 0))
        else:
            whole = inner & -LANES
            rest = inner - whole
            for j in range(n):
                first = (unit * n + j) * inner
                there = slices + j * inner
                for i in range(0, whole, LANES):
                    mine = load(y, here + i)
                    v = factor * (mine * (one - mine))
                    if j != row:
                        v = negative * (mine * load(y, there + i))
                    store(out, first + i, v)
                if rest:
                    mine = load_some(y, here + whole, rest)
                    v = factor * (mine * (one - mine))
                    if j != row:
                        v = negative * (mine * load_some(y, there + whole, rest))
                    store_some(out, first + whole, rest, v)


@kernel
def diagonal(y, out, beta, start, stop):
    """β y (1 − y), number by number; a unit is eight of them."""
    y, out = operand(y, out), elements(out)
    factor = factor_law(y, beta)
    one = fill(factor, 1.0)
    for i in range(start * LANES, stop * LANES, LANES):
        count = min(LANES, y.size - i)
        if count == LANES:
            v = load(y, i)
            store(out, i, factor * (v * (one - v)))
        else:
            v = load_some(y, i, count)
            store_some(out, i, count, factor * (v * (one - v)))


# ---- which traversal --------------------------------------------------------------------------


def jacobians(y, out, outer, n, inner, beta):
    """Fill `out`, (outer, n, n, inner), with β (y_i δ_ij − y_i y_j)."""
    run(jacobian, outer * n, out.size * WORTH[out.itemsize], (y, out), n, inner, beta)


def diagonals(y, out, outer, n, inner, beta):
    """Fill `out` with β y (1 − y)."""
    run(diagonal, -(-y.size // LANES), y.size * WORTH[out.itemsize], (y, out), beta)
