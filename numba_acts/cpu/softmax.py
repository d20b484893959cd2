"""y = exp(βx − max βx) / Σ exp(βx − max βx) and its derivative, which know only β.

Arrays come flat, as C-contiguous (outer, n, inner); a slice is the n numbers of one (outer, inner).
However a slice lies in memory and whatever runs beside it, its sums are taken in the same order:
number k goes to lane k mod 8, four numbers of a lane are added in pairs, their sums one after the
other with the rounding errors carried along, and the lanes are folded at the end. So a slice has
one answer, bit for bit.

Numbers are held in lanes in two ways:

* *along* a slice: lane j holds its numbers j, j + 8, j + 16, ...
* *across* slices: eight of them at once, one in each lane.

A slice of more than `CHUNK` numbers is summed chunk by chunk, each shifted by its own maximum.
"""

import functools

import numpy as np

from numba_acts.cpu.launch import PARALLEL_FROM, alone, kernel, run
from numba_acts.cpu.math import (
    FAR_FROM,
    LANES,
    apart,
    choose,
    computed,
    divide,
    eight,
    elements,
    equals,
    exponent_law,
    extract,
    factor_law,
    fetch,
    fetch_to_write,
    fill,
    gather,
    get,
    halves,
    head,
    lane,
    lanes_max,
    lanes_sum,
    load,
    load_some,
    lowered,
    maximum,
    operand,
    put,
    put_eight,
    put_halves,
    put_together,
    raised_exp,
    release,
    results,
    rolled,
    scatter,
    scratch,
    settle,
    splat,
    store,
    store_some,
    transposed,
    where,
)

# Tuned on two cores of an AMD Zen 3, 32 KB of L1 and 512 KB of L2 cache each.
WORTH = {2: 1, 4: 1, 8: 2}  # the work of one number, by its bytes; with its exponential twice that
SHORT = {2: 192, 4: 192, 8: 96}  # rows of so many numbers, by their bytes, are taken by eights
SHORT_TILE = 128  # so many numbers of each of eight rows, in several groups if rows are shorter
SHORT_PRODUCT = 31  # the same for products, whose rows take less work
CHUNK = 4096  # numbers of a slice that are held in scratch memory at once
SQUARE, HALF = LANES * LANES, LANES // 2
BLOCK = 4 * LANES  # numbers that are added in pairs before the rounding errors are carried
GROUP = 64 * CHUNK  # numbers of a long slice that one thread sums
PART = 3 * LANES  # what is known of a part of a long slice: maxima, sums and their errors
TILE_BYTES = 1 << 18  # scratch memory for tiles of columns,
TALL_BYTES = 7 << 16  # for those that come from memory without a ring
RING_BYTES = 1 << 10  # of a slice, at most, for which a ring of three tiles has room,
RING_FROM = 1 << 20  # in arrays of so many numbers, which come from memory and not from a cache
AHEAD = 8  # rows of a tile that memory is asked for ahead, without a ring
STRIP = 1024  # at most so many neighbouring columns whose products are summed side by side
FEW_STRIP = 256  # the same for slices of at most four numbers, which the first cache holds
FEW = 3  # slices of at most so many numbers are held in registers, in arrays that a cache holds,
FEW_SPAN = 4096  # so many neighbouring ones in a unit
STRIP_NUMBERS = 1 << 18  # in a strip, so that a cache keeps them for a second reading
TILE_GROUPS = {1: 32, 3: 64}  # at most so many groups of eight columns in one tile, in three
UNITS = 8  # units that few columns are divided into, for several threads,
LEAST = 4  # each of at least so many groups of eight
BATCH = 1 << 19  # numbers of long slices that are read twice while a cache holds them

_NOTHING = -np.inf  # the shifted argument of an entry without weight


# ---- a slice ----------------------------------------------------------------------------------


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
def exponentials(z, first, stop, m, law):
    """Replace z[first:stop] by exp(z − m), raised. (A sum in the same loop would spill.)"""
    for i in range(first, stop, LANES):
        rolled()
        store(z, i, raised_exp(load(z, i) - m, law))


@lane
def exponentials_meanwhile(z, first, stop, m, law, x, there, out, here):
    """The same side by side, while memory brings what is to be read and written next."""
    for i in range(first, stop, LANES):
        fetch(x, there + i - first)
        fetch_to_write(out, here + i - first)
        store(z, i, raised_exp(load(z, i) - m, law))


@lane
def sum_along(z, first, count, zero):
    """The sum of z[first:first + count], in every lane, and its errors."""
    total = lost = zero
    last = first + (count & -BLOCK)
    for i in range(first, last, BLOCK):
        low = load(z, i) + load(z, i + 8)
        total, lost = add(total, lost, low + (load(z, i + 16) + load(z, i + 24)))
    if last < first + count:
        numbers = load(z, last)
        for i in range(last + LANES, first + count, LANES):
            numbers = numbers + load(z, i)
        total, lost = add(total, lost, numbers)
    return lanes_sum(total), lanes_sum(lost)


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
def clear(lanes, zero):
    for j in range(0, 2 * SQUARE, LANES):
        store(lanes, j, zero)


@lane
def add_to(lanes, j, numbers):
    total, lost = add(load(lanes, j), load(lanes, j + SQUARE), numbers)
    store(lanes, j, total)
    store(lanes, j + SQUARE, lost)


@lane
def last_across(z, first, step, left, lanes):
    """The last block of eight slices, of 8, 16, 24 or 32 numbers, added in pairs in `lanes`."""
    numbers, octet = 2 * SQUARE, LANES * step
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
def add_across(z, first, step, n, lanes):
    """Add n numbers, a multiple of eight, of eight slices, as `sum_along` does, to `lanes`."""
    octet = LANES * step
    whole = n & -BLOCK
    for k in range(0, whole, BLOCK):
        for j in range(LANES):
            i = first + (k + j) * step
            low = load(z, i) + load(z, i + octet)
            high = load(z, i + 2 * octet) + load(z, i + 3 * octet)
            add_to(lanes, j * LANES, low + high)
    if whole < n:
        last_across(z, first + whole * step, step, n - whole, lanes)
        for j in range(0, SQUARE, LANES):
            add_to(lanes, j, load(lanes, 2 * SQUARE + j))


@lane
def sums_across(z, first, step, n, zero, lanes):
    """The sums of eight slices of n numbers, padded to a multiple of eight, and their errors."""
    if n <= LANES // 2:
        even = load(z, first) + load(z, first + 2 * step)
        return zero + (even + (load(z, first + step) + load(z, first + 3 * step))), zero
    if n <= LANES:
        return zero + folded(z, first, step), zero
    if n <= BLOCK:
        last_across(z, first, step, padded(n), lanes)
        return zero + folded(lanes, 2 * SQUARE, LANES), zero
    clear(lanes, zero)
    add_across(z, first, step, padded(n), lanes)
    return folded(lanes, 0, LANES), folded(lanes, SQUARE, LANES)


@lane
def padding(z, first, step, n, width, zero):
    """Zeros behind n rows of `width` numbers, up to a multiple of eight rows."""
    for k in range(n, padded(n)):
        for j in range(0, width, LANES):
            store(z, first + k * step + j, zero)


@lane
def max_across(z, first, step, n):
    m = load(z, first)
    for k in range(1, n):
        m = maximum(load(z, first + k * step), m)
    return m


@lane
def finite(m):
    """A shift that leaves −inf as it is: a chunk with no weight in it adds nothing."""
    return choose(equals(m, fill(m, _NOTHING)), fill(m, 0.0), m)


@lane
def join(parts, first, count, pitch, law):
    """The maximum, the sum and its errors of parts that are each shifted by their own maximum.

    Each part is scaled once: a running sum that is scaled again and again would gather the errors.
    """
    m = load(parts, first)
    for i in range(first + pitch, first + count * pitch, pitch):
        m = maximum(load(parts, i), m)
    total = lost = fill(m, 0.0)
    for i in range(first, first + count * pitch, pitch):
        scale = lowered(raised_exp(load(parts, i) - finite(m), law))
        lost = lost + load(parts, i + 2 * LANES) * scale
        total, lost = add(total, lost, load(parts, i + LANES) * scale)
    return m, total, lost


@lane
def put_part(parts, i, m, total, lost):
    store(parts, i, m)
    store(parts, i + LANES, total)
    store(parts, i + 2 * LANES, lost)


# ---- reading and writing ----------------------------------------------------------------------


@lane
def read(x, mask, i, sign):
    z = load(x, i) * sign
    return where(load(mask, i), z, _NOTHING) if mask is not None else z


@lane
def read_some(x, mask, i, count, sign):
    """`count` numbers, and −inf in the other lanes."""
    z = head(load_some(x, i, count) * sign, count, _NOTHING)
    return where(load_some(mask, i, count), z, _NOTHING) if mask is not None else z


@lane
def read_up_to(x, mask, i, count, sign):
    return read(x, mask, i, sign) if count == LANES else read_some(x, mask, i, count, sign)


@lane
def write(y, mask, out, i):
    store(out, i, where(load(mask, i), y, 0.0) if mask is not None else y)


@lane
def write_some(y, mask, out, i, count):
    store_some(out, i, count, where(load_some(mask, i, count), y, 0.0) if mask is not None else y)


@lane
def write_up_to(y, mask, out, i, count):
    if count == LANES:
        write(y, mask, out, i)
    else:
        write_some(y, mask, out, i, count)


@lane
def read_row(x, mask, first, n, sign, z):
    """z[:n] = sign·x, padded with −inf to a multiple of eight; returns the maximum."""
    m = fill(splat(sign), _NOTHING)
    store(z, n & -LANES, m)
    if n < LANES:
        v = read_some(x, mask, first, n, sign)
        store(z, 0, v)
        return lanes_max(v)
    store(z, n, m)
    m2 = m
    pairs = n & -(2 * LANES)
    for i in range(0, pairs, 2 * LANES):  # two maxima, or each would wait for the one before
        v, v2 = read(x, mask, first + i, sign), read(x, mask, first + i + LANES, sign)
        store(z, i, v)
        store(z, i + LANES, v2)
        m, m2 = maximum(v, m), maximum(v2, m2)
    if n & LANES:
        v = read(x, mask, first + pairs, sign)
        store(z, pairs, v)
        m = maximum(v, m)
    v = read(x, mask, first + n - LANES, sign)
    store(z, n - LANES, v)
    return lanes_max(maximum(v, maximum(m2, m)))


@lane
def softmax_row(x, mask, out, first, n, law, z):
    m = read_row(x, mask, first, n, law[0], z)
    exponentials_meanwhile(z, 0, padded(n), m, law, x, first + n, out, first)
    total, lost = sum_along(z, 0, padded(n), fill(m, 0.0))
    weight = divide(fill(m, 1.0), finish(total, lost))
    if n < LANES:
        write_some(load(z, 0) * weight, mask, out, first, n)
        return
    for i in range(0, n & -LANES, LANES):
        write(load(z, i) * weight, mask, out, first + i)
    write(load(z, n - LANES) * weight, mask, out, first + n - LANES)


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
            v = where(gather(mask, first + k, n), v, _NOTHING) if mask is not None else v
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
def write_square(tile, at, n, weight, out, first):
    put_eight(out, first, n, transposed(times(eight(tile, at, LANES), weight)))


@lane
def write_half(tile, at, n, weight, out, first):
    a, b = load(tile, at) * weight, load(tile, at + LANES) * weight
    c, d = load(tile, at + 2 * LANES) * weight, load(tile, at + 3 * LANES) * weight
    put_halves(out, first, n, transposed((a, b, c, d)))


@lane
def write_eight_rows(tile, at, n, weight, mask, out, first):
    """The inverse of `read_eight_rows`, times the rows' weights."""
    if mask is not None or n < HALF:
        for k in range(n):
            y = load(tile, at + k * LANES) * weight
            y = where(gather(mask, first + k, n), y, 0.0) if mask is not None else y
            scatter(out, first + k, n, y)
        return
    squares = by_squares(n)
    for i in range(0, squares, LANES):
        k = min(i, n - LANES)
        write_square(tile, at + k * LANES, n, weight, out, first + k)
    for i in range(squares, n, HALF):
        k = min(i, n - HALF)
        write_half(tile, at + k * LANES, n, weight, out, first + k)


# ---- forward ----------------------------------------------------------------------------------


@lane
def softmax_few(a, b, c, n, law):
    """The weights of the first n of three numbers."""
    m, zero = a, fill(a, 0.0)
    if n > 1:
        m = maximum(b, m)
    if n > 2:
        m = maximum(c, m)
    a = total = raised_exp(a - m, law)
    if n > 2:
        c = raised_exp(c - m, law)
        total = total + c
    if n > 1:
        b = raised_exp(b - m, law)
        total = total + b
    weight = divide(fill(m, 1.0), zero + total)
    return a * weight, b * weight, c * weight


@lane
def few_rows(x, out, n, start, stop, law):
    """Rows of two or three numbers, eight at a time in registers; returns the first row left."""
    sign, whole = law[0], start + ((stop - start) & -LANES)
    if n == 2:
        for first in range(start * n, whole * n, LANES * n):
            a, b = apart(x, first, (0, 0))
            a, b = a * sign, b * sign
            a, b, _ = softmax_few(a, b, b, n, law)
            put_together(out, first, (a, b))
    else:
        for first in range(start * n, whole * n, LANES * n):
            a, b, c = apart(x, first, (0, 0, 0))
            a, b, c = a * sign, b * sign, c * sign
            put_together(out, first, softmax_few(a, b, c, n, law))
    return whole


@kernel
def rows(x, mask, out, n, inner, beta, start, stop):
    """Contiguous slices of more than `SHORT` and at most `CHUNK` numbers: one read and one write.

    A row goes along the lanes, through scratch memory that stays in the first cache. Meanwhile
    memory brings what comes next.
    """
    x, mask, out = operand(x, out), elements(mask), results(out, n, out.size)
    law = exponent_law(x, beta)
    z = scratch(x, padded(n) + LANES)
    for row in range(start, stop):
        softmax_row(x, mask, out, row * n, n, law, z)
    release(z)
    settle(out)


@kernel
def short_rows(x, mask, out, n, inner, beta, start, stop):
    """Contiguous slices of at most `SHORT` numbers, which would hardly fill the lanes.

    They go across them, eight by eight in each of three passes, so that none waits for the result
    of the one before; the last few go along.
    """
    x, mask, out = operand(x, out), elements(mask), elements(out)
    law = exponent_law(x, beta)
    zero = fill(splat(law[0]), 0.0)
    width, room = n * LANES, padded(n) * LANES
    together = max(1, SHORT_TILE // n)
    tile, lanes = scratch(x, together * room), scratch(x, 3 * SQUARE)
    weights = scratch(x, together * LANES)
    for g in range(together):
        padding(tile, g * room, LANES, n, LANES, zero)
    row = start
    if mask is None and (n == 2 or n == 3):
        row = few_rows(x, out, n, start, stop, law)
    while row + LANES <= stop:
        groups = min(together, (stop - row) // LANES)
        first = row * n
        for g in range(groups):
            read_eight_rows(x, mask, first + g * width, n, law[0], tile, g * room)
        for g in range(groups):
            store(weights, g * LANES, max_across(tile, g * room, LANES, n))
        for g in range(groups):
            z, m, here = g * room, load(weights, g * LANES), first + g * width
            ahead = x, here + groups * width, out, here
            exponentials_meanwhile(tile, z, z + width, m, law, *ahead)
        for g in range(groups):
            total, lost = sums_across(tile, g * room, LANES, n, zero, lanes)
            store(weights, g * LANES, divide(fill(zero, 1.0), finish(total, lost)))
        for g in range(groups):
            weight = load(weights, g * LANES)
            write_eight_rows(tile, g * room, n, weight, mask, out, first + g * width)
        row += groups * LANES
    release(weights)
    release(lanes)
    release(tile)
    z = scratch(x, padded(n) + LANES)
    for r in range(row, stop):
        softmax_row(x, mask, out, r * n, n, law, z)
    release(z)


@lane
def read_tile(x, mask, first, inner, count, tile, at, pitch, sign, start, stop, ahead):
    """Copy rows of `count` columns to a tile; the last eight columns may overlap those before.

    Memory is asked for what is read `ahead` rows later, unless that is 0.
    """
    whole, last = count & -LANES, count - LANES
    for k in range(start, stop):
        i, z = first + k * inner, at + k * pitch
        if ahead and k + ahead < stop:
            for j in range(0, count, LANES):
                fetch(x, i + j + ahead * inner)
        for j in range(0, whole, LANES):
            store(tile, z + j, read(x, mask, i + j, sign))
        if last < 0:
            store(tile, z, read_some(x, mask, i, count, sign))
        elif whole < count:
            store(tile, z + whole, read(x, mask, i + last, sign))


@lane
def write_tile(tile, at, pitch, weights, w, mask, out, first, inner, count, start, stop):
    """Write rows of a tile, times the columns' weights."""
    whole, last = count & -LANES, count - LANES
    for k in range(start, stop):
        i, z = first + k * inner, at + k * pitch
        for j in range(0, whole, LANES):
            write(load(tile, z + j) * load(weights, w + j), mask, out, i + j)
        if last < 0:
            write_some(load(tile, z) * load(weights, w), mask, out, i, count)
        elif whole < count:
            write(load(tile, z + whole) * load(weights, w + whole), mask, out, i + last)


@lane
def tile_pitch(width):
    """How far a tile's rows lie apart: no large power of two, whose rows would share cache sets."""
    return width | 2 * LANES if width > LANES else width


@lane
def place(unit, n, inner, width):
    """Where a tile begins, and how many columns it has."""
    tiles = (inner + width - 1) // width
    outer = unit // tiles
    column = (unit - outer * tiles) * width
    return outer * n * inner + column, min(width, inner - column)


@kernel
def columns(x, mask, out, n, inner, groups, ring, beta, start, stop):
    """Slices whose numbers lie apart, at most `CHUNK` of them: one read and one write of memory.

    A unit is a tile of `groups` times eight neighbouring columns. It is copied, row by row as
    memory likes it, to scratch memory in the second cache, where its rows are never 2^k bytes
    apart. In a ring of three tiles, while one is computed, a part at a time, the next is read and
    the one before written, some rows at a time, which memory has brought meanwhile.
    """
    width = groups * LANES
    x, mask, out = operand(x, out), elements(mask), results(out, inner, min(width, inner))
    law = exponent_law(x, beta)
    zero = fill(splat(law[0]), 0.0)
    pitch = tile_pitch(width)
    size = padded(n) * pitch
    tiles, weights = scratch(x, ring * size), scratch(x, ring * width)
    lanes = scratch(x, 3 * SQUARE)
    for t in range(ring):
        padding(tiles, t * size, pitch, n, width, zero)
    together = max(1, SHORT_TILE // n) * LANES
    lead = ring // 3  # tiles that are read ahead; one is written behind
    ahead = AHEAD if ring == 1 and n > AHEAD and x.size >= RING_FROM else 0
    for unit in range(start - lead, stop + 1):
        before, now, after = (unit - 1) % ring, unit % ring, (unit + lead) % ring
        first_before, count_before = place(unit - 1, n, inner, width)
        first, count = place(unit, n, inner, width)
        first_after, count_after = place(unit + lead, n, inner, width)
        source = x, mask, first_after, inner, count_after
        result = mask, out, first_before, inner, count_before
        parts = (count + together - 1) // together
        for part in range(parts):
            k, end = part * n // parts, (part + 1) * n // parts
            if not lead:  # all at once
                k, end = n if part else 0, n
            if unit > start:
                write_tile(tiles, before * size, pitch, weights, before * width, *result, k, end)
            if unit + lead < stop:
                read_tile(*source, tiles, after * size, pitch, law[0], k, end, ahead)
            if unit < start or unit == stop:
                continue
            column, stop_column = part * together, min((part + 1) * together, count)
            tile, w = now * size, now * width
            for j in range(column, stop_column, LANES):
                store(weights, w + j, max_across(tiles, tile + j, pitch, n))
            there, here, done = first_after + end * inner, first_before + end * inner, 0
            for j in range(column, stop_column, LANES):
                m = load(weights, w + j)
                for k in range(0, n, 2):  # two for each cache line
                    if lead:
                        fetch(x, there + done)
                        fetch_to_write(out, here + done)
                        done += 2 * LANES
                        if done >= width:
                            there, here, done = there + inner, here + inner, 0
                    i = tile + j + k * pitch
                    store(tiles, i, raised_exp(load(tiles, i) - m, law))
                    if k + 1 < n:
                        store(tiles, i + pitch, raised_exp(load(tiles, i + pitch) - m, law))
            for j in range(column, stop_column, LANES):
                total, lost = sums_across(tiles, tile + j, pitch, n, zero, lanes)
                store(weights, w + j, divide(fill(zero, 1.0), finish(total, lost)))
    release(tiles)
    release(weights)
    release(lanes)
    settle(out)


@lane
def few_slices(x, mask, out, i, n, inner, count, law):
    """Up to eight neighbouring slices of at most three numbers."""
    a = b = c = read_up_to(x, mask, i, count, law[0])
    if n > 1:
        b = read_up_to(x, mask, i + inner, count, law[0])
    if n > 2:
        c = read_up_to(x, mask, i + 2 * inner, count, law[0])
    a, b, c = softmax_few(a, b, c, n, law)
    write_up_to(a, mask, out, i, count)
    if n > 1:
        write_up_to(b, mask, out, i + inner, count)
    if n > 2:
        write_up_to(c, mask, out, i + 2 * inner, count)


@kernel
def few_columns(x, mask, out, n, inner, beta, start, stop):
    """Slices of one to three numbers that lie apart: read, computed in registers and written."""
    x, mask, out = operand(x, out), elements(mask), elements(out)
    law = exponent_law(x, beta)
    for unit in range(start, stop):
        first, count = place(unit, n, inner, FEW_SPAN)
        whole = count & -LANES
        for i in range(first, first + whole, LANES):
            few_slices(x, mask, out, i, n, inner, LANES, law)
        if whole < count:
            few_slices(x, mask, out, first + whole, n, inner, count - whole, law)


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


@lane
def whole_chunk(x, mask, first, law, kept):
    """The maximum and the sum of a contiguous chunk, whose exponentials go straight to `kept`."""
    sign = law[0]
    m = m2 = fill(splat(sign), _NOTHING)
    for i in range(first, first + CHUNK, 2 * LANES):
        m, m2 = maximum(read(x, mask, i, sign), m), maximum(read(x, mask, i + LANES, sign), m2)
    m = lanes_max(maximum(m2, m))
    shift = finite(m)
    for i in range(first, first + CHUNK, LANES):
        fetch(x, i + CHUNK)
        store(kept, i, raised_exp(read(x, mask, i, sign) - shift, law))
    return m, sum_along(kept, first, CHUNK, fill(m, 0.0))


@lane
def chunk_along(x, mask, first, size, law, kept, z):
    """The maximum and the sum of a contiguous chunk; its exponentials stay in `kept`, or in z."""
    if kept is not None:
        if size == CHUNK:
            return whole_chunk(x, mask, first, law, kept)
    m = read_row(x, mask, first, size, law[0], z)
    exponentials(z, 0, padded(size), finite(m), law)
    keep(z, size, kept, first, LANES, LANES)
    return m, sum_along(z, 0, padded(size), fill(m, 0.0))


@lane
def chunk_across(x, mask, first, inner, count, size, law, kept, z, lanes):
    """The same of `count` neighbouring slices."""
    for k in range(size):
        store(z, k * LANES, read_up_to(x, mask, first + k * inner, count, law[0]))
    m = max_across(z, 0, LANES, size)
    exponentials(z, 0, size * LANES, finite(m), law)
    keep(z, size * LANES, kept, first, inner, count)
    padding(z, 0, LANES, size, LANES, fill(m, 0.0))
    return m, sums_across(z, 0, LANES, size, fill(m, 0.0), lanes)


@lane
def keep(z, size, kept, first, step, count):
    """Put z[:size] where it can be kept: up to `count` of each eight, `step` apart."""
    if kept is not None:
        for i in range(0, size, LANES):
            some = min(count, size - i)
            if some == LANES:
                store(kept, first, load(z, i))
            else:
                store_some(kept, first, some, load(z, i))
            first += step


@kernel
def long_sums(x, mask, kept, sums, n, inner, beta, base, start, stop):
    """First reading of slices of more than `CHUNK` numbers: their maxima and sums, by groups.

    A unit is one group of one bundle: of one slice, or of eight neighbouring ones where they are
    not contiguous. Units are numbered from `base` on, the first in `sums`. The exponentials, each
    shifted by its chunk's maximum and raised, stay in `kept`, or not if that is None.
    """
    x, mask, kept, sums = operand(x, sums), elements(mask), elements(kept), elements(sums)
    law = exponent_law(x, beta)
    z = scratch(x, CHUNK + LANES if inner == 1 else CHUNK * LANES)
    lanes = scratch(x, 3 * SQUARE)
    parts = scratch(x, GROUP // CHUNK * PART)
    for unit in range(start, stop):
        group, first, count = long_place(base + unit, n, inner)
        at = unit * sums_pitch(inner)
        chunks = min(GROUP // CHUNK, (n - group + CHUNK - 1) // CHUNK)
        for chunk in range(chunks):
            size = min(CHUNK, n - group - chunk * CHUNK)
            if inner == 1:
                m, (total, lost) = chunk_along(x, mask, first, size, law, kept, z)
                put(sums, at + PART + chunk, extract(m, 0))
            else:
                task = first, inner, count, size
                m, (total, lost) = chunk_across(x, mask, *task, law, kept, z, lanes)
                store(sums, at + PART + chunk * LANES, m)
            put_part(parts, chunk * PART, m, total, lost)
            first += CHUNK * inner
        m, total, lost = join(parts, 0, chunks, PART, law)
        put_part(sums, at, m, total, lost)
    release(z)
    release(lanes)
    release(parts)


@lane
def long_value(x, mask, out, i, m, factor, law):
    """Eight results, from the exponentials in `out` or from x."""
    if x is None:
        return lowered(lowered(load(out, i) * factor))
    return raised_exp(read(x, mask, i, law[0]) - m, law) * factor


@lane
def long_value_some(x, mask, out, i, count, m, factor, law):
    if x is None:
        return lowered(lowered(load_some(out, i, count) * factor))
    return raised_exp(read_some(x, mask, i, count, law[0]) - m, law) * factor


@kernel
def long_writes(x, mask, sums, out, n, inner, beta, base, start, stop):
    """Second reading of long slices: the sums of all groups are joined, the result written.

    Where x is None it is of the exponentials that `out` holds; else they are taken once more.
    """
    x, mask, sums, out = operand(x, out), elements(mask), elements(sums), elements(out)
    law = exponent_law(out, beta)
    groups, pitch = (n + GROUP - 1) // GROUP, sums_pitch(inner)
    for unit in range(start, stop):
        group, first, count = long_place(base + unit, n, inner)
        m, total, lost = join(sums, unit // groups * groups * pitch, groups, pitch, law)
        weight = divide(fill(m, 1.0), lowered(finish(total, lost)))
        for chunk in range(min(GROUP // CHUNK, (n - group + CHUNK - 1) // CHUNK)):
            size = min(CHUNK, n - group - chunk * CHUNK)
            if x is None:
                at = unit * pitch + PART
                if inner == 1:
                    own = fill(m, get(sums, at + chunk))
                else:
                    own = load(sums, at + chunk * LANES)
                factor = raised_exp(own - m, law) * weight
            else:
                factor = lowered(weight)
            numbers, step = (size, LANES) if inner == 1 else (size * LANES, inner)
            whole = numbers & -LANES if count == LANES else 0
            i = first
            for _ in range(0, whole, LANES):
                write(long_value(x, mask, out, i, m, factor, law), mask, out, i)
                i += step
            for k in range(whole, numbers, LANES):
                some = min(count, numbers - k)
                y = long_value_some(x, mask, out, i, some, m, factor, law)
                write_some(y, mask, out, i, some)
                i += step
            first += CHUNK * inner


# ---- product: vjp = jvp = β y (g − ⟨g, y⟩) ----------------------------------------------------


@lane
def term(g, y, first, i, end, shelf):
    """Eight products from i on, zeros from `end` on; `shelf` has room for 16."""
    if i + LANES <= end:
        return load(g, i) * load(y, i)
    if end - first < LANES:
        return head(load_some(g, i, end - i) * load_some(y, i, end - i), end - i, 0.0)
    last = end - LANES  # eight that are there, those before i shifted out
    v = load(g, last) * load(y, last)
    store(shelf, 0, v)
    store(shelf, LANES, fill(v, 0.0))
    return load(shelf, i - last)


@lane
def dot_along(g, y, first, n, zero, shelf):
    """⟨g, y⟩ over n contiguous numbers, in every lane, and its errors."""
    total = lost = zero
    end = first + n
    last = first + (n & -BLOCK)
    for i in range(first, last, BLOCK):
        low = load(g, i) * load(y, i) + load(g, i + 8) * load(y, i + 8)
        high = load(g, i + 16) * load(y, i + 16) + load(g, i + 24) * load(y, i + 24)
        total, lost = add(total, lost, low + high)
    if last < end:
        four = term(g, y, first, last, end, shelf)
        if last + 8 < end:
            four = four + term(g, y, first, last + 8, end, shelf)
        if last + 24 < end:
            high = term(g, y, first, last + 16, end, shelf)
            four = four + (high + term(g, y, first, last + 24, end, shelf))
        elif last + 16 < end:
            four = four + term(g, y, first, last + 16, end, shelf)
        total, lost = add(total, lost, four)
    return lanes_sum(total), lanes_sum(lost)


@lane
def entry(g, y, dot, factor):
    return y * factor * (g - dot)


@lane
def product_contiguous(g, y, out, first, n, dot, factor):
    """Write n contiguous products; `out` may be g or y."""
    if n < LANES:
        v = entry(load_some(g, first, n), load_some(y, first, n), dot, factor)
        store_some(out, first, n, v)
        return
    last = first + n - LANES  # these eight may overlap those before
    v = entry(load(g, last), load(y, last), dot, factor)
    for i in range(first, last, LANES):
        fetch(g, i + n)
        fetch(y, i + n)
        store(out, i, entry(load(g, i), load(y, i), dot, factor))
    store(out, last, v)


@lane
def product_strided(g, y, out, first, step, n, count, dot, factor):
    for k in range(n):
        i = first + k * step
        if count == LANES:
            store(out, i, entry(load(g, i), load(y, i), dot, factor))
        else:
            v = entry(load_some(g, i, count), load_some(y, i, count), dot, factor)
            store_some(out, i, count, v)


@lane
def product_few_rows(g, y, out, n, start, stop, factor):
    """Rows of two or three numbers, as in `few_rows`."""
    zero, whole = fill(factor, 0.0), start + ((stop - start) & -LANES)
    if n == 2:
        for i in range(start * n, whole * n, LANES * n):
            (a, b), (p, q) = apart(g, i, (0, 0)), apart(y, i, (0, 0))
            dot = zero + (a * p + b * q)
            put_together(out, i, (entry(a, p, dot, factor), entry(b, q, dot, factor)))
    else:
        for i in range(start * n, whole * n, LANES * n):
            (a, b, c), (p, q, r) = apart(g, i, (0, 0, 0)), apart(y, i, (0, 0, 0))
            dot = zero + ((a * p + c * r) + b * q)
            first, second = entry(a, p, dot, factor), entry(b, q, dot, factor)
            put_together(out, i, (first, second, entry(c, r, dot, factor)))
    return whole


@kernel
def product_rows(g, y, out, n, inner, beta, start, stop):
    """Contiguous slices of at most `GROUP` numbers; their second reading is from a cache.

    Up to `SHORT_PRODUCT` numbers a row, eight of them go across the lanes, as in
    `short_rows`.
    """
    run = out.size if n > SHORT_PRODUCT else n  # row after row
    g, y, out = operand(g, out), operand(y, out), results(out, n, run)
    factor = factor_law(y, beta)
    zero = fill(factor, 0.0)
    row = start
    if n <= SHORT_PRODUCT:
        width, room = n * LANES, padded(n) * LANES
        together = SHORT_PRODUCT // n
        tile_g, tile_y = scratch(y, together * room), scratch(y, together * room)
        tile, dots = scratch(y, together * room), scratch(y, together * LANES)
        lanes = scratch(y, 3 * SQUARE)
        one = fill(zero, 1.0)
        for k in range(together):
            padding(tile, k * room, LANES, n, LANES, zero)
        if n == 2 or n == 3:
            row = product_few_rows(g, y, out, n, start, stop, factor)
        while row + LANES <= stop:
            groups = min(together, (stop - row) // LANES)
            first = row * n
            for k in range(groups):
                read_eight_rows(g, None, first + k * width, n, extract(one, 0), tile_g, k * room)
                read_eight_rows(y, None, first + k * width, n, extract(one, 0), tile_y, k * room)
            for k in range(groups):
                for i in range(k * room, k * room + width, LANES):
                    store(tile, i, load(tile_g, i) * load(tile_y, i))
            for k in range(groups):
                total, lost = sums_across(tile, k * room, LANES, n, zero, lanes)
                store(dots, k * LANES, finish(total, lost))
            for k in range(groups):
                dot = load(dots, k * LANES)
                for i in range(k * room, k * room + width, LANES):
                    store(tile_g, i, entry(load(tile_g, i), load(tile_y, i), dot, factor))
                write_eight_rows(tile_g, k * room, n, one, None, out, first + k * width)
            row += groups * LANES
        release(tile_g)
        release(tile_y)
        release(tile)
        release(dots)
        release(lanes)
    shelf = scratch(y, 2 * LANES)
    for r in range(row, stop):
        total, lost = dot_along(g, y, r * n, n, zero, shelf)
        product_contiguous(g, y, out, r * n, n, finish(total, lost), factor)
    release(shelf)
    settle(out)


@lane
def products(g, y, i, count):
    if count == LANES:
        return load(g, i) * load(y, i)
    return load_some(g, i, count) * load_some(y, i, count)


@kernel
def product_columns(g, y, out, n, inner, strip, beta, start, stop):
    """Slices whose numbers lie apart, at most `CHUNK` of them; the second reading is from a cache.

    A unit is a strip of neighbouring columns, whose rows are read one after the other.
    """
    g, y, out = operand(g, out), operand(y, out), results(out, inner, min(strip, inner))
    factor = factor_law(y, beta)
    zero = fill(factor, 0.0)
    totals, errors = scratch(y, LANES * strip), scratch(y, LANES * strip)
    dots = scratch(y, strip)
    for i in range(0, LANES * strip, LANES):
        store(totals, i, zero)
    octet = LANES * inner
    for unit in range(start, stop):
        first, count = place(unit, n, inner, strip)
        some, last = min(count, LANES), max(count - LANES, 0)  # the last eight may overlap
        if n > BLOCK:
            for i in range(0, LANES * strip, LANES):
                store(totals, i, zero)
                store(errors, i, zero)
        for block in range(0, n, BLOCK):
            for j in range(min(LANES, n - block)):
                row, left = first + (block + j) * inner, n - block - j
                for c in range(0, count, LANES):
                    i, at = row + min(c, last), j * strip + c
                    four = products(g, y, i, some)
                    if left > LANES:
                        four = four + products(g, y, i + octet, some)
                    if left > 3 * LANES:
                        high = products(g, y, i + 2 * octet, some)
                        four = four + (high + products(g, y, i + 3 * octet, some))
                    elif left > 2 * LANES:
                        four = four + products(g, y, i + 2 * octet, some)
                    if n <= BLOCK:
                        store(totals, at, zero + four)
                    else:
                        total, lost = add(load(totals, at), load(errors, at), four)
                        store(totals, at, total)
                        store(errors, at, lost)
        for c in range(0, count, LANES):
            if n <= 2:
                store(dots, c, load(totals, c) + load(totals, c + strip))
            else:
                total = zero + folded(totals, c, strip)
                lost = folded(errors, c, strip) if n > BLOCK else zero
                store(dots, c, finish(total, lost))
        whole = count & -LANES
        for k in range(n):
            i = first + k * inner
            if some < LANES:
                v = entry(load_some(g, i, some), load_some(y, i, some), load(dots, 0), factor)
                store_some(out, i, some, v)
                continue
            g_last, y_last = load(g, i + last), load(y, i + last)  # they may be written over
            for c in range(0, whole, LANES):
                store(out, i + c, entry(load(g, i + c), load(y, i + c), load(dots, c), factor))
            if whole < count:
                store(out, i + last, entry(g_last, y_last, load(dots, whole), factor))
    release(totals)
    release(errors)
    release(dots)
    settle(out)


@lane
def product_few(g, y, out, i, n, inner, count, factor):
    """Products of up to eight neighbouring slices of at most three numbers."""
    zero = fill(factor, 0.0)
    even, odd = zero + products(g, y, i, count), zero
    if n > 2:
        even = even + (zero + products(g, y, i + 2 * inner, count))
    if n > 1:
        odd = odd + products(g, y, i + inner, count)
    product_strided(g, y, out, i, inner, n, count, even + odd, factor)


@kernel
def product_few_columns(g, y, out, n, inner, beta, start, stop):
    """Slices of one to three numbers that lie apart."""
    g, y, out = operand(g, out), operand(y, out), elements(out)
    factor = factor_law(y, beta)
    for unit in range(start, stop):
        first, count = place(unit, n, inner, FEW_SPAN)
        whole = count & -LANES
        for i in range(first, first + whole, LANES):
            product_few(g, y, out, i, n, inner, LANES, factor)
        if whole < count:
            product_few(g, y, out, first + whole, n, inner, count - whole, factor)


@kernel
def long_dots(g, y, sums, n, inner, base, start, stop):
    """First reading of longer slices: ⟨g, y⟩ by groups; a unit leaves 16 numbers in `sums`."""
    g, y, sums = operand(g, sums), operand(y, sums), elements(sums)
    zero = fill(load_some(y, 0, 1), 0.0)
    lanes = scratch(y, 3 * SQUARE)
    tile = scratch(y, LANES * (CHUNK if inner > 1 else 1))
    for unit in range(start, stop):
        group, first, count = long_place(base + unit, n, inner)
        size = min(GROUP, n - group)
        if inner == 1:
            total, lost = dot_along(g, y, first, size, zero, lanes)
        else:
            clear(lanes, zero)
            for chunk in range(0, size, CHUNK):
                length = min(CHUNK, size - chunk)
                for k in range(length):
                    i = first + (chunk + k) * inner
                    store(tile, k * LANES, products(g, y, i, count))
                padding(tile, 0, LANES, length, LANES, zero)
                add_across(tile, 0, LANES, padded(length), lanes)
            total, lost = folded(lanes, 0, LANES), folded(lanes, SQUARE, LANES)
        store(sums, unit * 2 * LANES, total)
        store(sums, unit * 2 * LANES + LANES, lost)
    release(lanes)
    release(tile)


@kernel
def long_products(g, y, sums, out, n, inner, beta, base, start, stop):
    """Second reading of longer slices: their groups' sums are joined, the product written."""
    g, y, sums = operand(g, sums), operand(y, sums), elements(sums)
    out = results(out, n, n if inner == 1 else LANES)
    factor = factor_law(y, beta)
    groups = (n + GROUP - 1) // GROUP
    for unit in range(start, stop):
        group, first, count = long_place(base + unit, n, inner)
        size = min(GROUP, n - group)
        total = lost = fill(factor, 0.0)
        bundle = unit // groups * groups
        for s in range(bundle, bundle + groups):
            total, lost = add(
                total, lost + load(sums, (2 * s + 1) * LANES), load(sums, 2 * s * LANES)
            )
        dot = finish(total, lost)
        if inner == 1:
            product_contiguous(g, y, out, first, size, dot, factor)
        else:
            product_strided(g, y, out, first, inner, size, count, dot, factor)
    settle(out)


# ---- Jacobian: β (y_i δ_ij − y_i y_j) ---------------------------------------------------------


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


def softmax(x, mask, out, outer, n, inner, beta):
    """Fill `out` with y. `mask` holds bytes, or is None."""
    data = x, mask, out
    work = out.size * WORTH[out.itemsize] * (2 if inner == 1 else 3)  # exponentials
    if inner == 1 and n <= CHUNK:
        one = short_rows if n <= SHORT[out.itemsize] else rows
        if mask is None and work < PARALLEL_FROM:  # as `run` would, a call sooner
            alone((one, x.dtype, None, out.dtype), data, (n, inner, beta), outer)
        else:
            run(one, outer, work, data, n, inner, beta)
    elif n > CHUNK:
        holds = out.dtype == computed(out.dtype)  # exponentials without loss
        kept, again = (out, None) if holds else (None, x)
        for sums, base, units, part in _batches(out, outer, n, inner, work):
            run(long_sums, units, part, (x, mask, kept, sums), n, inner, beta, base)
            run(long_writes, units, part, (again, mask, sums, out), n, inner, beta, base)
    elif n <= FEW and out.nbytes < FAR_FROM:
        run(few_columns, outer * -(-inner // FEW_SPAN), work, data, n, inner, beta)
    else:
        units, *tiles = _tiles(out.dtype, outer, n, inner, work, x.size >= RING_FROM)
        run(columns, units, work, data, n, inner, *tiles, beta)


def product(g, y, out, outer, n, inner, beta):
    """Fill `out` with β y (g − ⟨g, y⟩), the product of the Jacobian with g."""
    data, work = (g, y, out), out.size * WORTH[out.itemsize]
    if n > (GROUP if inner == 1 else CHUNK):
        for sums, base, units, part in _batches(out, outer, n, inner, work):
            run(long_dots, units, part, (g, y, sums), n, inner, base)
            run(long_products, units, part, (g, y, sums, out), n, inner, beta, base)
    elif inner == 1 and work < PARALLEL_FROM:  # as `run` would, a call sooner
        alone((product_rows, g.dtype, y.dtype, out.dtype), data, (n, inner, beta), outer)
    elif inner == 1:
        run(product_rows, outer, work, data, n, inner, beta)
    elif n <= FEW and out.nbytes < FAR_FROM and out.itemsize > 2:
        run(product_few_columns, outer * -(-inner // FEW_SPAN), work, data, n, inner, beta)
    else:
        strip = _strip(n, inner)
        run(product_columns, outer * -(-inner // strip), work, data, n, inner, strip, beta)


def jacobians(y, out, outer, n, inner, beta):
    """Fill `out`, (outer, n, n, inner), with β (y_i δ_ij − y_i y_j)."""
    run(jacobian, outer * n, out.size * WORTH[out.itemsize], (y, out), n, inner, beta)


def diagonals(y, out, beta):
    """Fill `out` with β y (1 − y)."""
    run(diagonal, -(-y.size // LANES), y.size * WORTH[out.itemsize], (y, out), beta)


@functools.lru_cache(1 << 10)
def _tiles(dtype, outer, n, inner, work, from_memory):
    """How many tiles columns are divided into, groups of eight in each, tiles held at a time."""
    number, columns = computed(dtype).itemsize, -(-inner // LANES)
    ring = 3 if from_memory and FEW < n <= RING_BYTES // number else 1
    room = TALL_BYTES if from_memory and ring == 1 else TILE_BYTES
    fit = room // (-(-n // LANES) * SQUARE * ring * number)
    groups = min(fit, TILE_GROUPS[ring], columns)
    if work >= PARALLEL_FROM:  # tiles for several threads
        groups = min(groups, max(LEAST, -(-columns * outer // UNITS)))
    while groups > 1 and tile_pitch.py_func(groups * LANES) > fit * LANES:
        groups -= 1
    groups = max(1, groups)
    return outer * -(-inner // (groups * LANES)), groups, ring


def _strip(n, inner):
    """How many neighbouring columns of products are summed side by side."""
    fit = max(LANES, STRIP_NUMBERS // n & -LANES)
    return min(STRIP if n > 4 else FEW_STRIP, fit, -(-inner // LANES) * LANES)


def _batches(out, outer, n, inner, work):
    """Long slices, as many at once as the last cache may keep between their two readings."""
    bundles, groups = outer * -(-inner // LANES), -(-n // GROUP)
    numbers = n * min(inner, LANES)
    batch = min(bundles, max(1, BATCH // numbers))
    sums = np.empty(batch * groups * sums_pitch.py_func(inner), computed(out.dtype))
    for first in range(0, bundles, batch):
        count = min(batch, bundles - first)
        yield sums, first * groups, count * groups, work * count // bundles
