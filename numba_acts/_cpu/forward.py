"""y = exp(βx − max βx) / Σ exp(βx − max βx), which knows only β: softmin's, softmax2d's weights.

The order of a slice's sums is told in `slices`.
"""

import functools

from numba_acts._cpu.caches import FAR_FROM, FIRST, LAST, SECOND
from numba_acts._cpu.exponential import (
    exponent_law,
    goes_beneath,
    lowered,
    raised_exp,
    weighed,
)
from numba_acts._cpu.lanes import (
    LANES,
    choose,
    divide,
    equals,
    extract,
    fill,
    flip,
    fma,
    head,
    lane,
    lanes_max,
    lanes_sum,
    maximum,
    minimum,
    rolled,
    splat,
    where,
)
from numba_acts._cpu.launch import crew, kernel, run, run_tiles
from numba_acts._cpu.memory import (
    FAR_RUN,
    WIDE_BYTES,
    apart,
    computed,
    elements,
    fetch,
    fetch_ahead,
    fetch_to_write,
    get,
    lines,
    load,
    load_beside,
    load_some,
    load_wide,
    operand,
    page_for,
    past_line,
    pour,
    pour_rest,
    put,
    put_together,
    release,
    results,
    scratch,
    settle,
    splat_wide,
    store,
    store_some,
    way_to,
    wide_lanes,
)
from numba_acts._cpu.slices import (
    BLOCK,
    CHUNK,
    FEW,
    FEW_SPAN,
    GROUP,
    NOTHING,
    PART,
    SQUARE,
    WORTH,
    add,
    add_across,
    batches,
    by_eights,
    clear,
    finish,
    folded,
    long_place,
    padded,
    padding,
    place,
    read_eight_rows,
    sums_across,
    sums_pitch,
    widest,
    write_eight_rows,
)

# Tuned on two cores of an AMD Zen 3, 32 KB of L1 and 512 KB of L2 cache each; strips on two of an
# Intel Xeon, 48 KB and 2 MB each.
STRETCH = 4 * BLOCK  # numbers of a row that are taken at once in each of four steps
SHORT = {2: 64, 4: 64, 8: 48}  # rows of so many numbers, by their bytes, are taken by eights
SHORT_TILE = 128  # so many numbers of each of eight rows, in several groups if rows are shorter
# Scratch memory for tiles of columns: half the second cache; for the exponentials of tall ones more
# of it; for each thread so much at most.
SCRATCH = 7 << 16
TILE_BYTES = min(SECOND // 2, SCRATCH)
KEPT_BYTES = min(SECOND * 7 // 8, SCRATCH)
RING_BYTES = 1 << 10  # of a slice, at most, for which a ring of three tiles has room,
RING_FROM = LAST // 32  # in arrays of so many numbers, which come from memory and not from a cache
BESIDE = 4 * LANES  # columns, at least, of strips, by which longer ones go,
STEP, WIDE = 2 * LANES, 32 * LANES  # a multiple of the first, and in a cache at most the other
ROWS = 4  # of a strip that are compared at once,
AHEAD = 8  # and that memory is asked for ahead
TILE_GROUPS = {1: 32, 3: 64}  # at most so many groups of eight columns in one tile, in three
UNITS = 4  # units that few columns are divided into for each thread,
LEAST = 4  # of at least so many groups of eight,
SHARE = 1 << 8  # and of so many bytes of a row together, or threads would write into the same lines


# ---- a slice ----------------------------------------------------------------------------------


@lane
def exponentials(z, first, stop, m, law):
    """Replace z[first:stop] by exp(z − m), raised. (A sum in the same loop would spill.)"""
    for i in range(first, stop, LANES):
        rolled()
        store(z, i, raised_exp(load(z, i) - m, law))


@lane
def exponentials_meanwhile(z, first, stop, maxima, at, law, x, there, out, here):
    """The same side by side, while memory brings what is to be read and written next.

    `maxima` has at `at` those of eight slices, twice. Do quotients go beneath normal numbers?
    """
    step = wide_lanes(z)
    whole = stop - (stop - first) % step
    m, low, last = load_wide(maxima, at), splat_wide(z, 0.0), fill(load(maxima, at), 0.0)
    for i in range(first, whole, step):
        fetch(x, there + i - first)
        fetch_to_write(out, here + i - first)
        w = load_wide(z, i) - m
        low = minimum(w, low)
        store(z, i, raised_exp(w, law))
    if whole < stop:
        last = load(z, whole) - load(maxima, at)
        store(z, whole, raised_exp(last, law))
    return goes_beneath(low, law) or goes_beneath(last, law)


@lane
def sum_more(z, first, count, total, lost):
    """Add z[first:first + count], the next numbers of a slice, to its sum and its errors."""
    last = first + (count & -BLOCK)
    for i in range(first, last, BLOCK):
        low = load(z, i) + load(z, i + 8)
        total, lost = add(total, lost, low + (load(z, i + 16) + load(z, i + 24)))
    if last < first + count:
        numbers = load(z, last)
        for i in range(last + LANES, first + count, LANES):
            numbers = numbers + load(z, i)
        total, lost = add(total, lost, numbers)
    return total, lost


@lane
def sum_along(z, first, count, zero):
    """The sum of z[first:first + count], in every lane, and its errors."""
    total, lost = sum_more(z, first, count, zero, zero)
    return lanes_sum(total), lanes_sum(lost)


@lane
def max_across(m, z, first, step, n):
    """The largest of n vectors, `step` apart, of which m is the first."""
    m2, last = m, first + (n - 1) * step
    for i in range(first + step, last, 2 * step):  # two, or each would wait for the one before
        m = maximum(load_beside(z, i, m), m)
        m2 = maximum(load_beside(z, i + step, m), m2)
    if n % 2 == 0:
        m = maximum(load_beside(z, last, m), m)
    return maximum(m, m2)


@lane
def finite(m):
    """A shift that leaves −inf as it is: a chunk with no weight in it adds nothing."""
    return choose(equals(m, fill(m, NOTHING)), fill(m, 0.0), m)


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
def masked(y, mask, i, otherwise):
    """Numbers where the mask has True, from i on; all of them without one."""
    return where(load_beside(mask, i, y), y, otherwise) if mask is not None else y


@lane
def masked_some(y, mask, i, count, otherwise):
    return where(load_some(mask, i, count), y, otherwise) if mask is not None else y


@lane
def read(x, mask, i, sign):
    return masked(load(x, i) * sign, mask, i, NOTHING)


@lane
def read_wide(x, mask, i, sign):
    return masked(flip(load_wide(x, i), sign), mask, i, NOTHING)


@lane
def read_beneath(x, mask, i, m, sign):
    """`read_wide` less a maximum, rounded once."""
    return masked(fma(load_wide(x, i), sign, flip(m, -1.0)), mask, i, NOTHING)


@lane
def read_some(x, mask, i, count, sign):
    """`count` numbers, and −inf in the other lanes."""
    z = head(load_some(x, i, count) * sign, count, NOTHING)
    return masked_some(z, mask, i, count, NOTHING)


@lane
def read_up_to(x, mask, i, count, sign):
    return read(x, mask, i, sign) if count == LANES else read_some(x, mask, i, count, sign)


@lane
def write(y, mask, out, i):
    """Eight numbers or a wide vector."""
    store(out, i, masked(y, mask, i, 0.0))


@lane
def write_some(y, mask, out, i, count):
    store_some(out, i, count, masked_some(y, mask, i, count, 0.0))


@lane
def write_up_to(y, mask, out, i, count):
    if count == LANES:
        write(y, mask, out, i)
    else:
        write_some(y, mask, out, i, count)


@lane
def read_row(x, mask, first, n, sign, z):
    """z[:n] = sign·x, padded with −inf to a multiple of eight; returns the maximum."""
    m = fill(splat(sign), NOTHING)
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
    exponentials(z, 0, padded(n), m, law)
    total, lost = sum_along(z, 0, padded(n), fill(m, 0.0))
    weight = divide(fill(m, 1.0), finish(total, lost))
    if n < LANES:
        write_some(load(z, 0) * weight, mask, out, first, n)
        return
    for i in range(0, n & -LANES, LANES):
        write(load(z, i) * weight, mask, out, first + i)
    write(load(z, n - LANES) * weight, mask, out, first + n - LANES)


# ---- slices of two and three numbers ----------------------------------------------------------


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
    by_eights(few_slices, x, mask, out, n, inner, exponent_law(x, beta), start, stop)


# ---- rows -------------------------------------------------------------------------------------


@lane
def extremes(x, mask, first, count, sign, m, m2):
    """The largest of two vectors each and `count` numbers, pairs of wide vectors.

    Or the smallest if the sign is −1, which makes it that of the largest −x.
    """
    step = wide_lanes(x)
    if sign > 0.0:
        for i in range(first, first + count, 2 * step):  # two, or each waits for the one before
            m = maximum(masked(load_wide(x, i), mask, i, NOTHING), m)
            m2 = maximum(masked(load_wide(x, i + step), mask, i + step, NOTHING), m2)
    else:
        for i in range(first, first + count, 2 * step):
            m = minimum(masked(load_wide(x, i), mask, i, -NOTHING), m)
            m2 = minimum(masked(load_wide(x, i + step), mask, i + step, -NOTHING), m2)
    return m, m2


@lane
def largest(m, m2, sign):
    """The largest sign·x, of two vectors of extremes."""
    return lanes_max(maximum(flip(m2, sign), flip(m, sign)))


@lane
def exponentials_to(z, at, x, mask, first, count, m, low, law):
    """exp(sign·x − m), raised, of `count` numbers, wide vectors; the lowest w, of `low` too."""
    for i in range(0, count, wide_lanes(x)):
        w = read_beneath(x, mask, first + i, m, law[0])
        low = minimum(w, low)
        store(z, at + i, raised_exp(w, law))
    return low


@lane
def write_row(z, at, weight, beneath, mask, first, count, into, there):
    """Quotients, some of which may be subnormal; the mask's numbers are from `first` on."""
    if beneath:
        for i in range(0, count, wide_lanes(z)):
            y = weighed(load_wide(z, at + i), weight, True)
            store(into, there + i, masked(y, mask, first + i, 0.0))
    else:
        for i in range(0, count, wide_lanes(z)):
            y = weighed(load_wide(z, at + i), weight, None)
            store(into, there + i, masked(y, mask, first + i, 0.0))


@kernel
def rows(x, mask, out, n, inner, beta, far, start, stop):
    """Contiguous slices of more than `SHORT` and at most `CHUNK` numbers: one read and one write.

    Rows go along the lanes, through scratch memory that stays in the first cache. While one is
    exponentiated, the next is read for its maximum, the one before summed, and that before it
    written, part by part, so that none of this waits for the result of another. The last vectors of
    a row may overlap those before. Where the first cache has room for eight rows, the one after the
    next is read instead, so that no row waits for its maximum.
    """
    x, mask, near, out = operand(x, out), elements(mask), elements(out), lines(out, far)
    law = exponent_law(x, beta)
    sign, step = law[0], wide_lanes(x)
    page = page_for(out, STRETCH, out.far)
    zero, none = fill(splat(sign), 0.0), splat_wide(x, NOTHING * sign)
    room = (n & -2 * LANES) + 2 * LANES  # whole lines of a cache
    z = scratch(x, 3 * room)
    now, before, done = 0, room, 2 * room
    m = m_after = none
    weights, beneath = (none, False), False
    lead = 2 if n <= FIRST // (8 * WIDE_BYTES) * step else 1
    from_memory = x.size >= RING_FROM
    whole = n // STRETCH * STRETCH
    rest = n - whole
    ones, twos = rest & -step, rest & -2 * step
    for row in range(start - lead, stop + 2):
        first, last = row * n, row * n + n - step
        after, behind = first + lead * n, first - 2 * n
        m_next = m2_next = none
        total = lost = zero
        low = splat_wide(x, 0.0)
        for i in range(0, whole, STRETCH):
            if start <= row < stop:
                low = exponentials_to(z, now + i, x, mask, first + i, STRETCH, m, low, law)
            if row + lead < stop:
                if from_memory:
                    fetch_ahead(x, after + i, STRETCH)
                m_next, m2_next = extremes(x, mask, after + i, STRETCH, sign, m_next, m2_next)
            if start < row <= stop:
                total, lost = sum_more(z, before + i, STRETCH, total, lost)
            if row > start + 1:
                into, at = way_to(out, near, page, behind + i)
                write_row(z, done + i, *weights, mask, behind + i, STRETCH, into, at)
                if out.far:
                    pour(page, out, behind + i, STRETCH, start * n)
        if rest:
            if start <= row < stop:
                store(z, now + (n & -LANES), zero)
                low = exponentials_to(z, now + whole, x, mask, first + whole, ones, m, low, law)
                low = exponentials_to(z, now + n - step, x, mask, last, step, m, low, law)
            if row + lead < stop:
                if from_memory:
                    fetch_ahead(x, after + whole, rest)
                m_next, m2_next = extremes(x, mask, after + whole, twos, sign, m_next, m2_next)
                ends = last + lead * n - step, 2 * step
                m_next, m2_next = extremes(x, mask, *ends, sign, m_next, m2_next)
            if start < row <= stop:
                total, lost = sum_more(z, before + whole, padded(rest), total, lost)
            if row > start + 1:
                into, at = way_to(out, near, page, behind + whole)
                write_row(z, done + whole, *weights, mask, behind + whole, ones, into, at)
                end = last - 2 * n, step, into, at + rest - step
                write_row(z, done + n - step, *weights, mask, *end)
                if out.far:
                    pour(page, out, behind + whole, rest, start * n)
        m, m_after = m_after, largest(m_next, m2_next, sign)
        if lead == 1:
            m = m_after
        total = finish(lanes_sum(total), lanes_sum(lost))
        weights = splat_wide(x, extract(divide(fill(zero, 1.0), total), 0)), beneath
        beneath = goes_beneath(low, law)
        now, before, done = done, now, before
    if out.far:
        pour_rest(page, out, start * n, stop * n)
    release(z)
    release(page)
    settle(out)


@lane
def rows_across(x, mask, out, n, start, stop, law):
    """Rows eight by eight, as many as there are; which is the first of the rest."""
    zero = fill(splat(law[0]), 0.0)
    width, room = n * LANES, padded(n) * LANES
    together = max(1, SHORT_TILE // n)
    tile, lanes = scratch(x, together * room), scratch(x, 3 * SQUARE)
    weights, maxima = scratch(x, together * LANES), scratch(x, together * 2 * LANES)
    for g in range(together):
        padding(tile, g * room, LANES, n, LANES, zero)
    row = start
    while row + LANES <= stop:
        groups = min(together, (stop - row) // LANES)
        first = row * n
        for g in range(groups):
            read_eight_rows(x, mask, first + g * width, n, law[0], tile, g * room)
        for g in range(groups):
            m = max_across(load(tile, g * room), tile, g * room, LANES, n)
            store(maxima, 2 * g * LANES, m)
            store(maxima, (2 * g + 1) * LANES, m)
        beneath = False
        for g in range(groups):
            z, here, at = g * room, first + g * width, 2 * g * LANES
            ahead = x, here + groups * width, out, here
            beneath |= exponentials_meanwhile(tile, z, z + width, maxima, at, law, *ahead)
        for g in range(groups):
            total, lost = sums_across(tile, g * room, LANES, n, zero, lanes)
            store(weights, g * LANES, divide(fill(zero, 1.0), finish(total, lost)))
        for g in range(groups):
            numbers, result = (
                (tile, g * room, n, load(weights, g * LANES)),
                (mask, out, first + g * width),
            )
            if beneath:
                write_eight_rows(*numbers, True, *result)
            else:
                write_eight_rows(*numbers, None, *result)
        row += groups * LANES
    release(weights)
    release(maxima)
    release(lanes)
    release(tile)
    return row


@kernel
def short_rows(x, mask, out, n, inner, beta, far, start, stop):
    """Contiguous slices of at most `SHORT` numbers, which would hardly fill the lanes.

    They go across them, eight by eight in each of three passes, so that none waits for the result
    of the one before; the last few go along.
    """
    x, mask, out = operand(x, out), elements(mask), elements(out)
    law = exponent_law(x, beta)
    row = start
    if mask is None and (n == 2 or n == 3):
        row = few_rows(x, out, n, start, stop, law)
    if row + LANES <= stop:
        row = rows_across(x, mask, out, n, row, stop, law)
    z = scratch(x, padded(n) + LANES)
    for r in range(row, stop):
        softmax_row(x, mask, out, r * n, n, law, z)
    release(z)


# ---- columns ----------------------------------------------------------------------------------


@lane
def read_tile(x, mask, first, inner, count, done, tile, at, pitch, sign, start, stop):
    """Copy rows of `count` columns to a tile; the last eight columns may overlap those before.

    The first ones, whole wide vectors of them, may be `done`.
    """
    whole, last, step = count & -LANES, count - LANES, wide_lanes(x)
    wide_whole = count & -step
    for k in range(start, stop):
        i, z = first + k * inner, at + k * pitch
        for j in range(done, wide_whole, step):
            store(tile, z + j, read_wide(x, mask, i + j, sign))
        if wide_whole < whole:
            store(tile, z + wide_whole, read(x, mask, i + wide_whole, sign))
        if last < 0:
            store(tile, z, read_some(x, mask, i, count, sign))
        elif whole < count:
            store(tile, z + whole, read(x, mask, i + last, sign))


@lane
def write_tile(tile, at, pitch, weights, w, beneath, mask, out, first, inner, count, start, stop):
    """Write rows of a tile, times the columns' weights."""
    whole, last, step = count & -LANES, count - LANES, wide_lanes(tile)
    wide_whole = count & -step
    for k in range(start, stop):
        i, z = first + k * inner, at + k * pitch
        for j in range(0, wide_whole, step):
            y = weighed(load_wide(tile, z + j), load_wide(weights, w + j), beneath)
            write(y, mask, out, i + j)
        if wide_whole < whole:
            y = weighed(load(tile, z + wide_whole), load(weights, w + wide_whole), beneath)
            write(y, mask, out, i + wide_whole)
        if last < 0:
            write_some(weighed(load(tile, z), load(weights, w), beneath), mask, out, i, count)
        elif whole < count:
            write(
                weighed(load(tile, z + whole), load(weights, w + whole), beneath),
                mask,
                out,
                i + last,
            )


@lane
def tile_pitch(width):
    """How far a tile's rows lie apart: no large power of two, whose rows would share cache sets."""
    return width | 2 * LANES if width > LANES else width


@kernel
def columns(x, mask, out, n, inner, groups, ring, beta, far, start, stop):
    """Slices whose numbers lie apart, at most `CHUNK` of them: one read and one write of memory.

    A unit is a tile of `groups` times eight neighbouring columns. It is copied, row by row as
    memory likes it, to scratch memory in the second cache, where its rows are never 2^k bytes
    apart. In a ring of three tiles, while one is computed, a part at a time, the next is read and
    the one before written, some rows at a time, which memory has brought meanwhile.
    """
    width = groups * LANES
    x, mask, out = operand(x, out), elements(mask), results(out, inner, min(width, inner), far)
    law = exponent_law(x, beta)
    zero = fill(splat(law[0]), 0.0)
    past = past_line(out)
    pitch = tile_pitch(widest(width, past))
    size = padded(n) * pitch
    tiles, weights = scratch(x, ring * size), scratch(x, ring * pitch)
    lanes = scratch(x, 3 * SQUARE)
    for t in range(ring):
        padding(tiles, t * size, pitch, n, pitch, zero)
    step = wide_lanes(x)
    together = max(step, SHORT_TILE // n * LANES)
    lead = ring // 3  # tiles that are read ahead; one is written behind
    beneath = False
    for unit in range(start - lead, stop + 1):
        before, now, after = (unit - 1) % ring, unit % ring, (unit + lead) % ring
        first_before, count_before = place(unit - 1, n, inner, width, past)
        first, count = place(unit, n, inner, width, past)
        first_after, count_after = place(unit + lead, n, inner, width, past)
        source = x, mask, first_after, inner, count_after
        result = mask, out, first_before, inner, count_before
        parts = (count + together - 1) // together
        beneath_before, beneath = beneath, False
        for part in range(parts):
            k, end = part * n // parts, (part + 1) * n // parts
            if not lead:  # all at once
                k, end = n if part else 0, n
            if unit > start:
                numbers = tiles, before * size, pitch, weights, before * pitch
                if beneath_before:
                    write_tile(*numbers, True, *result, k, end)
                else:
                    write_tile(*numbers, None, *result, k, end)
            if unit + lead < stop:
                read_tile(*source, 0, tiles, after * size, pitch, law[0], k, end)
            if unit < start or unit == stop:
                continue
            column, stop_column = part * together, min((part + 1) * together, count)
            tile, w = now * size, now * pitch
            whole = stop_column - (stop_column - column) % step
            for j in range(column, whole, step):
                m = load_wide(tiles, tile + j)
                store(weights, w + j, max_across(m, tiles, tile + j, pitch, n))
            for j in range(whole, stop_column, LANES):
                m = load(tiles, tile + j)
                store(weights, w + j, max_across(m, tiles, tile + j, pitch, n))
            there, here, done = first_after + end * inner, first_before + end * inner, 0
            low, lowest = splat_wide(x, 0.0), zero
            for j in range(column, whole, step):
                m = load_wide(weights, w + j)
                for k in range(n):
                    if lead:
                        fetch(x, there + done)
                        fetch_to_write(out, here + done)
                        done += step
                        if done >= width:
                            there, here, done = there + inner, here + inner, 0
                    i = tile + j + k * pitch
                    v = load_wide(tiles, i) - m
                    low = minimum(v, low)
                    store(tiles, i, raised_exp(v, law))
            for j in range(whole, stop_column, LANES):
                m = load(weights, w + j)
                for i in range(tile + j, tile + j + n * pitch, pitch):
                    v = load(tiles, i) - m
                    lowest = minimum(v, lowest)
                    store(tiles, i, raised_exp(v, law))
            beneath |= goes_beneath(low, law) or goes_beneath(lowest, law)
            for j in range(column, stop_column, LANES):
                total, lost = sums_across(tiles, tile + j, pitch, n, zero, lanes)
                store(weights, w + j, divide(fill(zero, 1.0), finish(total, lost)))
    release(tiles)
    release(weights)
    release(lanes)
    settle(out)


@lane
def raise_maxima(maxima, x, mask, first, inner, count, start, stop, sign):
    """Let maxima of a strip's columns be those of more rows: of `count`, whole wide vectors."""
    step = wide_lanes(x)
    for k in range(start, stop, ROWS):
        i, some = first + k * inner, min(ROWS, stop - k)
        if some == ROWS:  # unrolled, as a loop over any number of rows takes longer
            for j in range(0, count, step):
                m = load_wide(maxima, j)
                for row in range(ROWS):
                    fetch(x, i + j + (row + AHEAD) * inner)
                    m = maximum(read_wide(x, mask, i + j + row * inner, sign), m)
                store(maxima, j, m)
        else:
            for row in range(some):
                for j in range(0, count, step):
                    m = load_wide(maxima, j)
                    m = maximum(read_wide(x, mask, i + j + row * inner, sign), m)
                    store(maxima, j, m)


@lane
def read_block(x, mask, first, inner, count, start, stop, tile, at, pitch, maxima, law):
    """exp(sign·x − m), raised, of a block of a strip's rows. Do quotients go beneath normal?"""
    step = wide_lanes(tile)
    whole, low = count - count % step, splat_wide(tile, 0.0)
    if whole < count:
        there = at - start * pitch
        read_tile(x, mask, first, inner, count, whole, tile, there, pitch, law[0], start, stop)
    for k in range(start, stop):
        i, z = first + k * inner, at + (k - start) * pitch
        for j in range(0, whole, step):
            v = read_wide(x, mask, i + j, law[0]) - load_wide(maxima, j)
            low = minimum(v, low)
            store(tile, z + j, raised_exp(v, law))
        if whole < count:
            v = load_wide(tile, z + whole) - load_wide(maxima, whole)
            low = minimum(v, low)
            store(tile, z + whole, raised_exp(v, law))
    return goes_beneath(low, law)


@kernel
def tall_columns(x, mask, out, n, inner, strip, room, beta, far, start, stop):
    """Slices whose numbers lie apart, so many that a tile of them would have short rows.

    A unit is a strip of neighbouring columns, read by wide rows, a block of them after the other:
    for the maxima, for the sums and, where scratch memory has no `room` for a block's exponentials,
    for the result. From the first time on some cache keeps it, the second if it may.
    """
    x, mask, out = operand(x, out), elements(mask), results(out, inner, min(strip, inner), far)
    law = exponent_law(x, beta)
    past = past_line(out)
    zero, width = fill(splat(law[0]), 0.0), widest(strip, past)
    pitch = tile_pitch(width)
    size = BLOCK * pitch
    blocks = max(1, min(room // size, (n + BLOCK - 1) // BLOCK))
    kept = (blocks - 1) * BLOCK  # rows; those behind have the last block, in turn
    again = blocks * BLOCK < n
    tile, maxima, weights = scratch(x, blocks * size), scratch(x, pitch), scratch(x, pitch)
    lanes = scratch(x, 3 * width * LANES)
    for unit in range(start, stop):
        first, count = place(unit, n, inner, strip, past)
        source, whole = (x, mask, first, inner), count - count % wide_lanes(x)
        for j in range(0, pitch, LANES):
            store(maxima, j, fill(zero, NOTHING))
        for j in range(0, width, LANES):
            clear(lanes, 3 * j * LANES, zero)
        for block in range(0, n, BLOCK):
            end = min(block + BLOCK, n)
            raise_maxima(maxima, *source, whole, block, end, law[0])
            if whole < count:
                there = -block * pitch
                read_tile(*source, count, whole, tile, there, pitch, law[0], block, end)
                for j in range(whole, count, LANES):
                    m = load(maxima, j)
                    store(maxima, j, max_across(m, tile, j - pitch, pitch, end - block + 1))
        beneath = False
        for block in range(0, n, BLOCK):
            end, at = min(block + BLOCK, n), min(block, kept) * pitch
            beneath |= read_block(*source, count, block, end, tile, at, pitch, maxima, law)
            padding(tile, at, pitch, end - block, width, zero)
            for j in range(0, count, LANES):
                add_across(tile, at + j, pitch, padded(end - block), lanes, 3 * j * LANES)
        for j in range(0, count, LANES):
            at = 3 * j * LANES
            total, lost = folded(lanes, at, LANES), folded(lanes, at + SQUARE, LANES)
            store(weights, j, divide(fill(zero, 1.0), finish(total, lost)))
        for block in range(0, n, BLOCK):
            end, at = min(block + BLOCK, n), min(block, kept) * pitch
            if again and block >= kept:
                read_block(*source, count, block, end, tile, at, pitch, maxima, law)
            numbers = tile, at - block * pitch, pitch, weights, 0
            result = mask, out, first, inner, count
            if beneath:
                write_tile(*numbers, True, *result, block, end)
            else:
                write_tile(*numbers, None, *result, block, end)
    release(tile)
    release(maxima)
    release(weights)
    release(lanes)
    settle(out)


# ---- long slices ------------------------------------------------------------------------------


@lane
def whole_chunk(x, mask, first, law, z, at):
    """The maximum and the sum of a contiguous chunk, whose exponentials go to z, from `at` on.

    Meanwhile memory brings the next chunk.
    """
    sign = law[0]
    m = m2 = splat_wide(x, NOTHING * sign)
    for i in range(first, first + CHUNK, STRETCH):
        fetch_ahead(x, i, STRETCH)
        m, m2 = extremes(x, mask, i, STRETCH, sign, m, m2)
    m = fill(splat(sign), extract(largest(m, m2, sign), 0))
    shift = splat_wide(x, extract(finite(m), 0))
    total = lost = fill(m, 0.0)
    for i in range(0, CHUNK, STRETCH):
        fetch_ahead(x, first + i + CHUNK, STRETCH)
        exponentials_to(z, at + i, x, mask, first + i, STRETCH, shift, shift, law)  # however low
        if i > 0:
            total, lost = sum_more(z, at + i - STRETCH, STRETCH, total, lost)
    total, lost = sum_more(z, at + CHUNK - STRETCH, STRETCH, total, lost)
    return m, (lanes_sum(total), lanes_sum(lost))


@lane
def chunk_along(x, mask, first, size, law, kept, z):
    """The maximum and the sum of a contiguous chunk; its exponentials stay in `kept`, or in z."""
    if size == CHUNK:
        if kept is None:
            return whole_chunk(x, mask, first, law, z, 0)
        return whole_chunk(x, mask, first, law, kept, first)
    m = read_row(x, mask, first, size, law[0], z)
    exponentials(z, 0, padded(size), finite(m), law)
    keep(z, size, kept, first, LANES, LANES)
    return m, sum_along(z, 0, padded(size), fill(m, 0.0))


@lane
def chunk_across(x, mask, first, inner, count, size, law, kept, z, lanes):
    """The same of `count` neighbouring slices."""
    for k in range(size):
        store(z, k * LANES, read_up_to(x, mask, first + k * inner, count, law[0]))
    m = max_across(load(z, 0), z, 0, LANES, size)
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


@lane
def long_row(x, mask, out, first, size, m, factor, law):
    """Results of a contiguous chunk by wide vectors; the first that is left."""
    step, stop = wide_lanes(out), first + size
    m, factor = splat_wide(out, extract(m, 0)), splat_wide(out, extract(factor, 0))
    for i in range(first, stop - step + 1, step):
        if x is None:
            fetch_ahead(out, i, step)
            y = lowered(lowered(load_wide(out, i) * factor))
        else:
            fetch_ahead(x, i, step)
            y = raised_exp(read_beneath(x, mask, i, m, law[0]), law) * factor
        write(y, mask, out, i)
    return stop - size % step


@kernel
def long_writes(x, mask, sums, out, n, inner, beta, base, start, stop):
    """Second reading of long slices: the sums of all groups are joined, the result written.

    Where x is None it is of the exponentials that `out` holds; else they are taken once more.
    """
    x, mask, sums, out = operand(x, out), elements(mask), elements(sums), elements(out)
    law = exponent_law(out, beta)
    groups, pitch = (n + GROUP - 1) // GROUP, sums_pitch(inner)
    m = weight = fill(splat(law[0]), 0.0)
    for unit in range(start, stop):
        group, first, count = long_place(base + unit, n, inner)
        if unit == start or group == 0:
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
            if inner == 1:
                i = long_row(x, mask, out, first, size, m, factor, law)
            for _ in range(i - first, whole, LANES):
                write(long_value(x, mask, out, i, m, factor, law), mask, out, i)
                i += step
            for k in range(whole, numbers, LANES):
                some = min(count, numbers - k)
                y = long_value_some(x, mask, out, i, some, m, factor, law)
                write_some(y, mask, out, i, some)
                i += step
            first += CHUNK * inner


# ---- which traversal --------------------------------------------------------------------------


def softmax(x, mask, out, outer, n, inner, beta):
    """Fill `out` with y. `mask` holds bytes, or is None. What `run` gives back, if it is all."""
    data, itemsize = (x, mask, out), out.itemsize
    work = out.size * WORTH[itemsize] * (2 if inner == 1 else 3)  # exponentials
    if inner == 1 and n <= CHUNK:
        one = short_rows if n <= SHORT[itemsize] else rows
        return run(one, outer, work, data, n, inner, beta, FAR_FROM)
    if n > CHUNK:
        holds = out.dtype == computed(out.dtype)  # exponentials without loss
        kept, again = (out, None) if holds else (None, x)
        for sums, base, units, part in batches(out, outer, n, inner, work):
            run(long_sums, units, part, (x, mask, kept, sums), n, inner, beta, base)
            run(long_writes, units, part, (again, mask, sums, out), n, inner, beta, base)
    elif n <= FEW and out.nbytes < FAR_FROM:
        return run(few_columns, outer * -(-inner // FEW_SPAN), work, data, n, inner, beta)
    else:
        choice, count = (softmax, (outer, n, inner, beta)), crew(work)
        of = out.dtype, outer, n, inner, count
        one, chosen = tall_columns, _strips(*of, out.nbytes >= FAR_FROM)
        if chosen is None:
            one, chosen = columns, _tiles(*of, x.size >= RING_FROM)
        units, *tuned = chosen
        numbers = n, inner, *tuned, beta, FAR_FROM
        return run_tiles(choice, count, one, units, work, data, *numbers)
    return None


def _apart(outer, inner, itemsize, count):
    """The threads, of so many, that can share columns."""
    return min(count, outer * inner * itemsize // SHARE)


@functools.lru_cache(1 << 10)
def _strips(dtype, outer, n, inner, count, far):
    """Units, each a strip; columns in it; numbers of scratch memory. None if tiles are better."""
    number = computed(dtype).itemsize
    room = KEPT_BYTES // number
    if n * number <= RING_BYTES or inner < BESIDE or not far and room // n < BESIDE:
        return None
    if far:  # runs as memory likes them, longer ones if the second cache keeps no strip
        strip, parts = FAR_RUN // dtype.itemsize, 1
        if n * FAR_RUN > SECOND - KEPT_BYTES:
            strip *= 2
    else:  # with room for all exponentials
        strip, parts = min(room // n // STEP * STEP, WIDE), UNITS
        while strip > BESIDE and tile_pitch.py_func(strip) * (-(-n // BLOCK) * BLOCK) > room:
            strip -= STEP
    count = _apart(outer, inner, dtype.itemsize, count)
    if count > 1:
        strip = min(strip, max(BESIDE, -(-inner * outer // (parts * count))))
    strip = max(1, min(strip, inner + STEP - 1) // STEP) * STEP
    return outer * -(-inner // strip), strip, room


@functools.lru_cache(1 << 10)
def _tiles(dtype, outer, n, inner, count, from_memory):
    """Units, each a tile; groups of eight columns in it; tiles held at once."""
    number, columns = computed(dtype).itemsize, -(-inner // LANES)
    ring = 3 if from_memory and FEW < n <= RING_BYTES // number else 1
    fit = TILE_BYTES // (-(-n // LANES) * SQUARE * ring * number)
    groups = min(fit, TILE_GROUPS[ring], columns)
    count = _apart(outer, inner, dtype.itemsize, count)
    if count > 1:  # tiles for several threads
        groups = min(groups, max(LEAST, -(-columns * outer // (UNITS * count))))
    while groups > 1 and tile_pitch.py_func(groups * LANES) > fit * LANES:
        groups -= 1
    groups = max(1, groups)
    return outer * -(-inner // (groups * LANES)), groups, ring
