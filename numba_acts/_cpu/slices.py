"""Slices and the order of their sums, which is one however a slice lies in memory.

Arrays come flat, as C-contiguous (outer, n, inner); a slice is the n numbers of one (outer, inner).
Whatever runs beside it, its sums are taken in the same order: number k goes to lane k mod 8, four
numbers of a lane are added in pairs, their sums one after the other with the rounding errors
carried along, and the lanes are folded at the end. So a slice has one answer, bit for bit.

Numbers are held in lanes in two ways:

* *along* a slice: lane j holds its numbers j, j + 8, j + 16, ...
* *across* slices: eight of them at once, one in each lane.

A slice of more than `CHUNK` numbers is summed chunk by chunk, each shifted by its own maximum.
"""

import numpy as np

from numba_acts._cpu.caches import LAST
from numba_acts._cpu.exponential import weighed
from numba_acts._cpu.lanes import LANES, choose, equals, fill, lane, transposed, where
from numba_acts._cpu.launch import crew
from numba_acts._cpu.memory import (
    computed,
    eight,
    gather,
    halves,
    load,
    put_eight,
    put_halves,
    scatter,
    store,
)

# Tuned on two cores of an AMD Zen 3, 32 KB of L1 and 512 KB of L2 cache each.
WORTH = {2: 1, 4: 1, 8: 2}  # the work of one number, by its bytes; with its exponential twice that
CHUNK = 4096  # numbers of a slice that are held in scratch memory at once
GROUP = 16 * CHUNK  # numbers of a long slice that one thread sums
FEW = 3  # slices of at most so many numbers are held in registers, in arrays that a cache holds,
FEW_SPAN = 4096  # so many neighbouring ones in a unit
BATCH = LAST // 64  # numbers of long slices that are read twice while a cache holds them,
GROUPS = 2  # or so many groups of them for each thread
APART = 64  # columns that one thread writes at least
SQUARE, HALF = LANES * LANES, LANES // 2
BLOCK = 4 * LANES  # numbers that are added in pairs before the rounding errors are carried
PART = 3 * LANES  # what is known of a part of a long slice: maxima, sums and their errors

NOTHING = -np.inf  # the shifted argument of an entry without weight


# ---- sums -------------------------------------------------------------------------------------


@lane
def padded(n):
    return (n + LANES - 1) & -LANES


@lane
def add(total, lost, term):
    """Add a term to a sum; `lost` carries the rounding errors."""
    new = total + term
    part = new - total
    return new, lost + ((total - (new - part)) + (term - part))


@lane
def finish(total, lost):
    """The sum, its errors made good; where it is infinite they are not numbers."""
    return total + choose(equals(lost, lost), lost, fill(lost, 0.0))


@lane
def folded(z, first, step):
    """Eight vectors, `step` apart, added in the order of `lanes_sum`."""
    even = (load(z, first) + load(z, first + 4 * step)) + (
        load(z, first + 2 * step) + load(z, first + 6 * step)
    )
    odd = (load(z, first + step) + load(z, first + 5 * step)) + (
        load(z, first + 3 * step) + load(z, first + 7 * step)
    )
    return even + odd


@lane
def clear(lanes, at, zero):
    for j in range(at, at + 2 * SQUARE, LANES):
        store(lanes, j, zero)


@lane
def add_to(lanes, j, numbers):
    total, lost = add(load(lanes, j), load(lanes, j + SQUARE), numbers)
    store(lanes, j, total)
    store(lanes, j + SQUARE, lost)


@lane
def last_across(z, first, step, left, lanes, numbers):
    """The last block of eight slices, of 8, 16, 24 or 32 numbers, added in pairs in `lanes`."""
    octet = LANES * step
    for j in range(LANES):
        store(lanes, numbers + j * LANES, load(z, first + j * step))
    if left > LANES:
        for j in range(LANES):
            more = load(z, first + octet + j * step)
            at = numbers + j * LANES
            store(lanes, at, load(lanes, at) + more)
    if left > 2 * LANES:
        for j in range(LANES):
            more = load(z, first + 2 * octet + j * step)
            if left == BLOCK:
                more = more + load(z, first + 3 * octet + j * step)
            at = numbers + j * LANES
            store(lanes, at, load(lanes, at) + more)


@lane
def add_across(z, first, step, n, lanes, at):
    """Add n numbers, a multiple of eight, of eight slices, as `sum_along` does.

    `lanes` has at `at` their sums and errors, lane by lane, and room for a square.
    """
    octet = LANES * step
    whole, numbers = n & -BLOCK, at + 2 * SQUARE
    for k in range(0, whole, BLOCK):
        for j in range(LANES):
            i = first + (k + j) * step
            low = load(z, i) + load(z, i + octet)
            high = load(z, i + 2 * octet) + load(z, i + 3 * octet)
            add_to(lanes, at + j * LANES, low + high)
    if whole < n:
        last_across(z, first + whole * step, step, n - whole, lanes, numbers)
        for j in range(0, SQUARE, LANES):
            add_to(lanes, at + j, load(lanes, numbers + j))


@lane
def sums_across(z, first, step, n, zero, lanes):
    """The sums of eight slices of n numbers, padded to a multiple of eight, and their errors."""
    if n <= LANES // 2:
        even = load(z, first) + load(z, first + 2 * step)
        return zero + (even + (load(z, first + step) + load(z, first + 3 * step))), zero
    if n <= LANES:
        return zero + folded(z, first, step), zero
    if n <= BLOCK:
        last_across(z, first, step, padded(n), lanes, 2 * SQUARE)
        return zero + folded(lanes, 2 * SQUARE, LANES), zero
    clear(lanes, 0, zero)
    add_across(z, first, step, padded(n), lanes, 0)
    return folded(lanes, 0, LANES), folded(lanes, SQUARE, LANES)


@lane
def padding(z, first, step, n, width, zero):
    """Zeros behind n rows of `width` numbers, up to a multiple of eight rows."""
    for k in range(n, padded(n)):
        for j in range(0, width, LANES):
            store(z, first + k * step + j, zero)


# ---- eight rows -------------------------------------------------------------------------------


@lane
def times(vectors, factor):
    a, b, c, d, e, f, g, h = vectors
    return (
        a * factor,
        b * factor,
        c * factor,
        d * factor,
        e * factor,
        f * factor,
        g * factor,
        h * factor,
    )


@lane
def read_square(x, first, n, sign, tile, at):
    """Eight numbers of each of eight rows."""
    put_eight(tile, at, LANES, times(transposed(eight(x, first, n)), sign))


@lane
def read_half(x, first, n, sign, tile, at):
    """Four numbers of each of eight rows."""
    a, b, c, d = transposed(halves(x, first, n))
    store(tile, at, a * sign)
    store(tile, at + LANES, b * sign)
    store(tile, at + 2 * LANES, c * sign)
    store(tile, at + 3 * LANES, d * sign)


@lane
def by_squares(n):
    """How many numbers of eight rows go by squares; the rest go by halves."""
    return n & -LANES if n < LANES or n % LANES <= HALF else n


@lane
def read_eight_rows(x, mask, first, n, sign, tile, at):
    """Eight neighbouring rows, one in each lane, times the sign; last numbers may come twice."""
    if mask is not None or n < HALF:
        for k in range(n):
            v = gather(x, first + k, n) * sign
            v = where(gather(mask, first + k, n), v, NOTHING) if mask is not None else v
            store(tile, at + k * LANES, v)
        return
    squares = by_squares(n)
    for i in range(0, squares, LANES):
        k = min(i, n - LANES)
        read_square(x, first + k, n, sign, tile, at + k * LANES)
    for i in range(squares, n, HALF):
        k = min(i, n - HALF)
        read_half(x, first + k, n, sign, tile, at + k * LANES)


@lane
def write_square(tile, at, n, weight, beneath, out, first):
    a, b, c, d, e, f, g, h = eight(tile, at, LANES)
    a, b, c, d = (
        weighed(a, weight, beneath),
        weighed(b, weight, beneath),
        weighed(c, weight, beneath),
        weighed(d, weight, beneath),
    )
    e, f, g, h = (
        weighed(e, weight, beneath),
        weighed(f, weight, beneath),
        weighed(g, weight, beneath),
        weighed(h, weight, beneath),
    )
    put_eight(out, first, n, transposed((a, b, c, d, e, f, g, h)))


@lane
def write_half(tile, at, n, weight, beneath, out, first):
    a = weighed(load(tile, at), weight, beneath)
    b = weighed(load(tile, at + LANES), weight, beneath)
    c = weighed(load(tile, at + 2 * LANES), weight, beneath)
    d = weighed(load(tile, at + 3 * LANES), weight, beneath)
    put_halves(out, first, n, transposed((a, b, c, d)))


@lane
def write_eight_rows(tile, at, n, weight, beneath, mask, out, first):
    """The inverse of `read_eight_rows`, times the rows' weights."""
    if mask is not None or n < HALF:
        for k in range(n):
            y = weighed(load(tile, at + k * LANES), weight, beneath)
            y = where(gather(mask, first + k, n), y, 0.0) if mask is not None else y
            scatter(out, first + k, n, y)
        return
    squares = by_squares(n)
    for i in range(0, squares, LANES):
        k = min(i, n - LANES)
        write_square(tile, at + k * LANES, n, weight, beneath, out, first + k)
    for i in range(squares, n, HALF):
        k = min(i, n - HALF)
        write_half(tile, at + k * LANES, n, weight, beneath, out, first + k)


# ---- places -----------------------------------------------------------------------------------


@lane
def place(unit, n, inner, width, past):
    """Where a tile begins, and how many columns it has.

    So many as the result begins `past` a line of the caches are the last tile's instead of the
    first one's: where rows and widths are whole lines, so are the tiles' rows but for the ends.
    """
    tiles = (inner + width - 1) // width
    outer = unit // tiles
    tile = unit - outer * tiles
    column = max(tile * width - past, 0)
    end = (tile + 1) * width - past if tile < tiles - 1 else inner
    return outer * n * inner + column, end - column


@lane
def widest(width, past):
    """How many columns a tile may have, rounded up by a wide vector."""
    return width + ((past + 2 * LANES - 1) & -2 * LANES)


@lane
def by_eights(slices, a, b, out, n, inner, law, start, stop):
    """Have a lane take neighbouring slices of few numbers, eight at a time, in units of a span."""
    for unit in range(start, stop):
        first, count = place(unit, n, inner, FEW_SPAN, 0)
        whole = count & -LANES
        for i in range(first, first + whole, LANES):
            slices(a, b, out, i, n, inner, LANES, law)
        if whole < count:
            slices(a, b, out, first + whole, n, inner, count - whole, law)


@lane
def long_place(unit, n, inner):
    """A group's first number in its slices, where that lies, how many numbers a vector has."""
    groups = (n + GROUP - 1) // GROUP
    bundles = padded(inner) // LANES
    bundle = unit // groups
    group = (unit - bundle * groups) * GROUP
    outer = bundle // bundles
    column = (bundle - outer * bundles) * LANES
    first = (outer * n + group) * inner + column
    return group, first, LANES if inner == 1 else min(LANES, inner - column)


@lane
def sums_pitch(inner):
    """What a group leaves: eight maxima, sums and corrections, and the maxima of its chunks."""
    return PART + GROUP // CHUNK * (1 if inner == 1 else LANES)


def span_for(outer, columns, most, count):
    """Neighbouring columns in a unit: at most `most`, or as few as leave some for `count` threads.

    Fewer than `APART` would have threads write into the same lines of a cache.
    """
    return min(most, max(APART, outer * columns // count & -LANES)) if count > 1 else most


def batches(out, outer, n, inner, work):
    """Long slices, as many at once as the last cache may keep between their two readings.

    More of them where that leaves no work for some threads.
    """
    bundles, groups = outer * -(-inner // LANES), -(-n // GROUP)
    numbers = n * min(inner, LANES)
    batch = min(bundles, max(1, BATCH // numbers, -(-GROUPS * crew(work) // groups)))
    sums = np.empty(batch * groups * sums_pitch.py_func(inner), computed(out.dtype))
    for first in range(0, bundles, batch):
        count = min(batch, bundles - first)
        yield sums, first * groups, count * groups, work * count // bundles
