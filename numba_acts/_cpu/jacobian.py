"""β (y_i δ_ij − y_i y_j), the Jacobian in full, and its diagonal."""

from numba_acts._cpu.caches import FAR_FROM
from numba_acts._cpu.exponential import factor_law
from numba_acts._cpu.lanes import LANES, extract, fill, lane
from numba_acts._cpu.launch import kernel, run
from numba_acts._cpu.memory import (
    PAGE,
    elements,
    get,
    line_of,
    lines,
    load,
    load_some,
    load_up_to,
    load_wide,
    operand,
    page_for,
    pour,
    pour_rest,
    put,
    release,
    results,
    settle,
    splat_wide,
    store,
    store_some,
    store_up_to,
    wide_lanes,
)
from numba_acts._cpu.slices import WORTH


@lane
def along(y, first, count, mine, negative, into, at):
    """−β y_i y_j of `count` neighbouring j; the last of them may come twice."""
    some, last = min(count, LANES), count - wide_lanes(y)
    if last < 0:
        for k in range(0, count, LANES):
            i = min(k, count - some)
            v = negative * (mine * load_up_to(y, first + i, some))
            store_up_to(into, at + i, some, v)
        return
    mine, negative = splat_wide(y, extract(mine, 0)), splat_wide(y, extract(negative, 0))
    for k in range(0, last, wide_lanes(y)):
        store(into, at + k, negative * (mine * load_wide(y, first + k)))
    store(into, at + last, negative * (mine * load_wide(y, first + last)))


@lane
def across(y, here, there, count, factor, negative, into, at):
    """β y_i (δ_ij − y_j) of `count` neighbouring slices; the last of them may come twice."""
    some, one = min(count, LANES), fill(factor, 1.0)
    for k in range(0, count, LANES):
        i = min(k, count - some)
        mine = load_up_to(y, here + i, some)
        v = factor * (mine * (one - mine))
        if here != there:
            v = negative * (mine * load_up_to(y, there + i, some))
        store_up_to(into, at + i, some, v)


@kernel
def jacobian(y, out, n, inner, beta, far, start, stop):
    """Row i of each slice's matrix, written once in the order of memory; a unit is a slice's i."""
    y, near, out = operand(y, out), elements(out), lines(out, far)
    factor = factor_law(y, beta)
    one, negative = fill(factor, 1.0), fill(factor, 0.0) - factor
    length, runs = (n, 1) if inner == 1 else (inner, n)
    page = page_for(out, PAGE, out.far)
    piece, line, held, begin = length, line_of(out), 0, start * n * inner
    if out.far:
        piece = min(length, PAGE)
    for unit in range(start, stop):
        outer = unit // n
        row, here, slices = unit - outer * n, unit * inner, outer * n * inner
        mine = fill(factor, get(y, here))
        own = factor * (mine * (one - mine))
        for j in range(runs):
            c, first = 0, (unit * runs + j) * length
            while c < length:
                size = min(piece, length - c)
                into, at = near, first + c
                if out.far:
                    into, at = page, line + held
                if inner == 1:
                    along(y, slices + c, size, mine, negative, into, at)
                    if c <= row < c + size:
                        put(into, at + row - c, extract(own, 0))
                else:
                    across(y, here + c, slices + j * inner + c, size, factor, negative, into, at)
                c += size
                held += size
                if out.far and held + piece > PAGE:
                    pour(page, out, first + c - held, held, begin)
                    held = 0
    if out.far:
        end = stop * n * inner
        pour(page, out, end - held, held, begin)
        pour_rest(page, out, begin, end)
    release(page)
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
