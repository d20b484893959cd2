"""Maxout of an affine map: a layer of units, each the largest of several affine maps.

x is (rows, d), a weight (units, pieces, d), a bias (units, pieces) or empty, y and index
(rows, units), all of them flat here. Forward, the pieces of a few rows are made in cache, where the
maximum follows at once. The derivatives need the winners alone: they touch one piece in a unit. A
matrix product by a BLAS would be neither: it writes all pieces to memory, and its bits change with
the batch around a row and with the number of threads, which would be a second pool besides.
"""

import numpy as np

from numba_acts._cpu.caches import FIRST, SECOND
from numba_acts._cpu.emit import FEATURES
from numba_acts._cpu.lanes import (
    LANES,
    beats,
    choose,
    extract,
    fill,
    fma,
    head,
    lane,
    lanes_sum,
    splat,
    transposed,
)
from numba_acts._cpu.launch import crew, kernel, run
from numba_acts._cpu.memory import (
    WIDE_BYTES,
    add_products,
    counters,
    eight,
    elements,
    four,
    gather,
    get,
    load,
    load_some,
    load_wide,
    memory,
    operand,
    put,
    put_eight,
    put_four,
    release,
    splat_wide,
    store,
    store_some,
    wide_lanes,
)
from numba_acts._dtypes import held

# Tuned on two cores of an AMD Zen 3, 32 KB of L1 and 512 KB of L2 cache each.
PRODUCTS = 1 << 15  # numbers: the pieces of a panel of rows that are made at a time
PANELS = 2  # of two registers of samples that meet the same weights
SIX = 6  # pieces whose products are summed side by side, with so many panels at once:
SIDES = 2 if "+avx512f" in FEATURES else 1  # AVX-512 has registers for two
DEPTH = 256  # numbers of each row of x in a panel at most; sums of so many are added up
ROWS = 64  # rows of x that are kept in cache for many units
OFTEN = 4  # numbers that are read so many times are copied before, to where lines begin
UNITS = 16  # units whose sums are kept in cache for many rows
LEAST = 4  # units, at least, that a panel of rows is made for
SPAN = 256  # numbers of a row that are handled at a time
# Bytes of weights of a share of the units: the second cache keeps them for all rows, or nearly so
# where it is small, for each share makes its panels of rows anew.
KEPT = max(SECOND // 2, 1 << 19)
SUMS = 1 << 18  # bytes of sums of a gradient that one thread keeps at a time


@lane
def add_scaled(sums, at, x, i, count, factor):
    """Add factor·x[i:i+count] to sums[at:at+count], which has room for a multiple of eight."""
    whole = count & -LANES
    for j in range(0, whole, LANES):
        store(sums, at + j, load(sums, at + j) + load(x, i + j) * factor)
    if whole < count:
        term = load_some(x, i + whole, count - whole) * factor
        store(sums, at + whole, load(sums, at + whole) + term)


@lane
def take_sums(sums, at, out, i, count):
    """out[i:i+count] = sums[at:at+count], and zeros in their place."""
    for j in range(0, count, LANES):
        v = load(sums, at + j)
        if count - j >= LANES:
            store(out, i + j, v)
        else:
            store_some(out, i + j, count - j, v)
        store(sums, at + j, fill(v, 0))


@lane
def dot(a, i, b, j, count):
    """a[i:i+count]·b[j:j+count], in an order that depends on the count alone."""
    zero = fill(load_some(a, i, 1), 0)
    p, q, r, s = zero, zero, zero, zero
    fours = count // (4 * LANES) * (4 * LANES)
    for k in range(0, fours, 4 * LANES):
        p = p + load(a, i + k) * load(b, j + k)
        q = q + load(a, i + k + 8) * load(b, j + k + 8)
        r = r + load(a, i + k + 16) * load(b, j + k + 16)
        s = s + load(a, i + k + 24) * load(b, j + k + 24)
    for k in range(fours, count, LANES):
        some = min(LANES, count - k)
        p = p + head(load_some(a, i + k, some) * load_some(b, j + k, some), some, 0)
    return extract(lanes_sum((p + q) + (r + s)), 0)


# ---- forward ----------------------------------------------------------------------------------


@lane
def pack(x, first, depth, samples, start, stop, panel, at, wide):
    """panel[k, s] = x[s, k] for k from start to stop; zeros fill up the samples."""
    whole, end = samples & -LANES, start + ((stop - start) & -LANES)
    for s in range(0, whole, LANES):
        row = first + s * depth
        for k in range(start, end, LANES):
            columns = transposed(eight(x, row + k, depth))
            put_eight(panel, at + (k - start) * wide + s, wide, columns)
        for k in range(end, stop):
            store(panel, at + (k - start) * wide + s, gather(x, row + k, depth))
    zero = extract(splat_wide(panel, 0), 0)
    for s in range(whole, wide):
        for k in range(start, stop):
            number = get(x, first + s * depth + k) if s < samples else zero
            put(panel, at + (k - start) * wide + s, number)


@lane
def add_six(z, at, width, sums):
    a, b, c, d, e, f = sums
    store(z, at, load_wide(z, at) + a)
    store(z, at + width, load_wide(z, at + width) + b)
    store(z, at + 2 * width, load_wide(z, at + 2 * width) + c)
    store(z, at + 3 * width, load_wide(z, at + 3 * width) + d)
    store(z, at + 4 * width, load_wide(z, at + 4 * width) + e)
    store(z, at + 5 * width, load_wide(z, at + 5 * width) + f)


@lane
def multiply(weight, first, rows, depth, start, stop, panel, size, z, width, wide):
    """z[r, s] += Σ weight[r, k] panel[k, s] over k from start to stop.

    Six rows at a time: with two registers of samples each and what they are multiplied by, they
    take sixteen; twice as many where AVX-512 has them. The last six may hold the last row more than
    once: z has room for its sums, which nobody reads.
    """
    none = splat_wide(panel, 0)
    zero = none, none, none, none, none, none
    for r in range(0, rows, SIX):
        last = rows - 1
        places = (
            first + r * depth,
            first + min(r + 1, last) * depth,
            first + min(r + 2, last) * depth,
            first + min(r + 3, last) * depth,
            first + min(r + 4, last) * depth,
            first + min(r + 5, last) * depth,
        )
        for s in range(0, width, SIDES * wide):
            here, at = s * size - start * wide, r * width + s
            sums = beside = zero
            for k in range(start, stop):
                sums = add_products(sums, load_wide(panel, here + k * wide), weight, places, k)
                if SIDES == 2:
                    samples = load_wide(panel, here + (size + k) * wide)
                    beside = add_products(beside, samples, weight, places, k)
            add_six(z, at, width, sums)
            if SIDES == 2:
                add_six(z, at + wide, width, beside)


@kernel
def affine_rows(x, weight, bias, out, index, units, pieces, depth, shares, start, stop):
    """y = max over i of weight[u, i]·x + bias[u, i]; work: a panel of rows of x, a share of units.

    The products of a panel with some units' pieces stay in the second cache, where the maximum is
    taken. Each is summed in an order of its own depth: it depends on no batch and no threads. All
    panels meet a share's weights before the next share's.
    """
    x, weight, bias = operand(x, out), operand(weight, out), operand(bias, out)
    out, index = elements(out), elements(index)
    wide = wide_lanes(x)
    width = PANELS * wide
    together = max(1, min(units, PRODUCTS // (pieces * width)))
    chunks = max(1, (depth + DEPTH - 1) // DEPTH)
    chunk = max(LANES, ((depth + chunks - 1) // chunks + LANES - 1) & -LANES)
    z, panel = memory(x, (together * pieces + SIX) * width), memory(x, chunk * width)
    rows = out.size // units
    blocks = (rows + width - 1) // width
    for work in range(start, stop):
        share = work // blocks
        block = work - share * blocks
        first = block * width
        samples = min(width, rows - first)
        first_unit, last_unit = share * units // shares, (share + 1) * units // shares
        for u in range(first_unit, last_unit, together):
            some = min(together, last_unit - u)
            for i in range(0, some * pieces * width, wide):
                store(z, i, splat_wide(z, 0))
            for k in range(0, depth, chunk):
                last = min(k + chunk, depth)
                if u == first_unit or depth > chunk:
                    for s in range(0, width, wide):
                        there, count = (first + s) * depth, max(0, min(wide, samples - s))
                        pack(x, there, depth, count, k, last, panel, s * chunk, wide)
                there = u * pieces * depth
                task = there, some * pieces, depth, k, last, panel, chunk, z, width, wide
                multiply(weight, *task)
            for unit in range(some):
                for s in range(0, samples, LANES):
                    at = unit * pieces * width + s
                    first_piece = (u + unit) * pieces
                    best = load(z, at)
                    if bias.size:
                        best = best + get(bias, first_piece)
                    winner = splat(np.int32(0))
                    for i in range(1, pieces):
                        v = load(z, at + i * width)
                        if bias.size:
                            v = v + get(bias, first_piece + i)
                        wins = beats(v, best)
                        best = choose(wins, v, best)
                        winner = choose(wins, fill(winner, i), winner)
                    for j in range(min(LANES, samples - s)):
                        there = (first + s + j) * units + u + unit
                        put(out, there, extract(best, j))
                        if index.size:
                            put(index, there, extract(winner, j))
    release(z)
    release(panel)


# ---- derivatives: the winners alone -----------------------------------------------------------


@lane
def winning(index, r, u, units, pieces):
    """The piece that won in unit u for row r, counted from the first unit's first."""
    return u * pieces + np.intp(get(index, r * units + u))


@lane
def four_more(sums, x, i, factor, wide):
    """Each of four wide vectors of sums, plus `factor` times those of x from i on."""
    a, b, c, d = sums
    p, q, r, s = four(x, i, wide)
    return fma(p, factor, a), fma(q, factor, b), fma(r, factor, c), fma(s, factor, d)


@lane
def copy_rows(source, first, pitch, count, panel, wide):
    """Copy four wide vectors of each of `count` rows one behind the other, where lines begin."""
    for i in range(count):
        put_four(panel, i * 4 * wide, wide, four(source, first + i * pitch, wide))


@lane
def add_winners(sums, block, end, group, last, g, row, column, index, units, pieces, rows, wide):
    """Add g[r, u] times four wide vectors of the winner in unit u, of a group, to each row's sums.

    `rows` tells where the group's pieces are.
    """
    source, first, pitch = rows
    for r in range(block, end):
        here = (r - block) * 4 * wide
        total = four(sums, here, wide)
        for u in range(group, last):
            piece = winning(index, r, u, units, pieces) - group * pieces
            factor = get(g, r * row + u * column)
            total = four_more(total, source, first + piece * pitch, factor, wide)
        put_four(sums, here, wide, total)


@kernel
def gradient_x(g, weight, index, dx, units, pieces, depth, row, column, start, stop):
    """dx[r] = Σ_u g[r, u] weight[u, i*]; a unit of work: four wide vectors of a block of rows.

    Rows and columns of g lie `row` and `column` numbers apart: none, if they are all the same.
    """
    g, weight = operand(g, dx), operand(weight, dx)
    index, dx = elements(index), elements(dx)
    sums = memory(weight, SPAN)
    wide, four_wide = wide_lanes(sums), 4 * wide_lanes(sums)
    kept, none = memory(weight, ROWS * four_wide), splat_wide(sums, 0)
    spans, rows = (depth + four_wide - 1) // four_wide, index.size // units
    few = max(1, min(units, FIRST // (8 * WIDE_BYTES * pieces)))
    panel = memory(weight, few * pieces * four_wide if OFTEN * pieces <= ROWS else 0)
    for j in range(0, SPAN, LANES):
        store(sums, j, fill(load(sums, j), 0))
    for work in range(start, stop):
        block = work // spans * ROWS
        end = min(block + ROWS, rows)
        if depth < four_wide:
            for r in range(block, end):
                for u in range(units):
                    there = winning(index, r, u, units, pieces) * depth
                    add_scaled(sums, 0, weight, there, depth, get(g, r * row + u * column))
                take_sums(sums, 0, dx, r * depth, depth)
            continue
        span = min(work % spans * four_wide, depth - four_wide)  # the last may overlap
        for i in range(0, (end - block) * four_wide, wide):
            store(kept, i, none)
        for group in range(0, units, few):  # whose weights the first cache keeps for all rows
            last = min(group + few, units)
            given = g, row, column, index, units, pieces
            there = group * pieces * depth + span
            if OFTEN * pieces <= end - block:
                copy_rows(weight, there, depth, (last - group) * pieces, panel, wide)
                add_winners(kept, block, end, group, last, *given, (panel, 0, four_wide), wide)
            else:
                add_winners(kept, block, end, group, last, *given, (weight, there, depth), wide)
        for r in range(block, end):
            total = four(kept, (r - block) * four_wide, wide)
            put_four(dx, r * depth + span, wide, total)
    release(kept)
    release(panel)
    release(sums)


@lane
def by_piece(g, row, column, index, units, u, pieces, first, last, rows, factors, at, starts, here):
    """Sort the rows from `first` to `last` by the piece that wins in unit u, in their order.

    Those of piece i, and their cotangents, come to stand from starts[here + i] to
    starts[here + i + 1], from `at` on.
    """
    put(starts, here, np.intp(at))
    for i in range(1, pieces + 1):
        put(starts, here + i, np.intp(0))
    for r in range(first, last):
        piece = here + 1 + np.intp(get(index, r * units + u))
        put(starts, piece, get(starts, piece) + 1)
    for i in range(here, here + pieces):
        put(starts, i + 1, get(starts, i + 1) + get(starts, i))
    for r in range(first, last):
        piece = here + np.intp(get(index, r * units + u))
        place = get(starts, piece)
        put(rows, place, np.intp(r))
        put(factors, place, get(g, r * row + u * column))
        put(starts, piece, place + 1)
    for i in range(here + pieces, here, -1):
        put(starts, i, get(starts, i - 1))
    put(starts, here, np.intp(at))


@lane
def add_rows(sums, k, room, units, pieces, starts, rows, factors, block, x, wide):
    """Add four wide vectors of each row of a block, times its factor, to its winners' sums.

    `x` tells where the block's rows are.
    """
    source, first, pitch = x
    for u in range(units):
        for i in range(pieces):
            at, here = (u * pieces + i) * room + k, u * (pieces + 1) + i
            total = four(sums, at, wide)
            for j in range(get(starts, here), get(starts, here + 1)):
                there = first + (get(rows, j) - block) * pitch
                total = four_more(total, source, there, get(factors, j), wide)
            put_four(sums, at, wide, total)


@kernel
def gradient_weight(
    g,
    x,
    index,
    dweight,
    dbias,
    units,
    pieces,
    depth,
    row,
    column,
    x_row,
    together,
    start,
    stop,
):
    """dweight[u, i*] += g[r, u] x[r], dbias[u, i*] += g[r, u]; a unit of work: `together` of u.

    Rows of x lie `x_row` numbers apart, those of g and its columns as for `gradient_x`.
    """
    g, x, index = operand(g, dweight), operand(x, dweight), elements(index)
    dweight, dbias = elements(dweight), elements(dbias)
    count = index.size // units
    wide, four_wide = wide_lanes(x), 4 * wide_lanes(x)
    fit = SUMS * wide // (WIDE_BYTES * together * pieces)  # numbers of a span
    room = max(four_wide, fit // four_wide * four_wide)
    room = max(LANES, min(room, (depth + LANES - 1) & -LANES))  # there may be no inputs
    sums = memory(x, together * pieces * room)
    panel = memory(x, ROWS * four_wide)
    rows, factors = counters(together * ROWS), memory(x, together * ROWS)
    starts = counters(together * (pieces + 1))
    zero = extract(fill(load(sums, 0), 0), 0)
    for j in range(0, sums.size, LANES):
        store(sums, j, fill(load(sums, j), 0))
    for group in range(start * together, min(stop * together, units), together):
        last = min(group + together, units)
        for span in range(0, depth, room):
            size = min(room, depth - span)
            whole = size // four_wide * four_wide
            for block in range(0, count, ROWS):
                end = min(block + ROWS, count)
                for u in range(last - group):
                    by_piece(
                        *(g, row, column),
                        *(index, units, group + u, pieces, block, end),
                        *(rows, factors, u * ROWS, starts, u * (pieces + 1)),
                    )
                for k in range(0, whole, four_wide):  # of which the block's rows stay in a cache
                    there = block * x_row + span + k
                    given = sums, k, room, last - group, pieces, starts, rows, factors, block
                    if last - group >= OFTEN:
                        copy_rows(x, there, x_row, end - block, panel, wide)
                        add_rows(*given, (panel, 0, four_wide), wide)
                    else:
                        add_rows(*given, (x, there, x_row), wide)
                if whole < size:
                    for u in range(last - group):
                        for r in range(block, end):
                            there = r * x_row + span + whole
                            piece = u * pieces + np.intp(get(index, r * units + group + u))
                            factor = get(g, r * row + (group + u) * column)
                            at = piece * room + whole
                            add_scaled(sums, at, x, there, size - whole, factor)
            for piece in range((last - group) * pieces):
                there = (group * pieces + piece) * depth + span
                take_sums(sums, piece * room, dweight, there, size)
        for u in range(group, last):
            for r in range(count):
                at = (u - group) * pieces + np.intp(get(index, r * units + u))
                put(sums, at, get(sums, at) + get(g, r * row + u * column))
        for piece in range((last - group) * pieces):
            put(dbias, group * pieces + piece, get(sums, piece))
            put(sums, piece, zero)
    release(sums)
    release(panel)
    release(rows)
    release(factors)
    release(starts)


@kernel
def tangent(dx, x, weight, dweight, dbias, index, dy, units, pieces, depth, together, start, stop):
    """dy = weight[u, i*]·dx + dweight[u, i*]·x + dbias[u, i*]; an empty tangent is zero.

    A unit of work is `together` rows, for which each unit's pieces are read from memory once.
    """
    dx, x, weight = operand(dx, dy), operand(x, dy), operand(weight, dy)
    dweight, dbias = operand(dweight, dy), operand(dbias, dy)
    index, dy = elements(index), elements(dy)
    zero = extract(fill(load_some(dy, 0, 1), 0), 0)
    for block in range(start, stop):
        rows = min((block + 1) * together, index.size // units)
        for u in range(units):
            for r in range(block * together, rows):
                piece = u * pieces + np.intp(get(index, r * units + u))
                v = zero
                if dx.size:
                    v = v + dot(weight, piece * depth, dx, r * depth, depth)
                if dweight.size:
                    v = v + dot(dweight, piece * depth, x, r * depth, depth)
                if dbias.size:
                    v = v + get(dbias, piece)
                put(dy, r * units + u, v)


@kernel
def selected(weight, index, out, units, pieces, depth, start, stop):
    """out[r, u] = weight[u, i*]; a unit of work is an (r, u)."""
    weight, index, out = elements(weight), elements(index), elements(out)
    whole = depth & -LANES
    for n in range(start, stop):
        there = ((n % units) * pieces + np.intp(get(index, n))) * depth
        for k in range(0, whole, LANES):
            store(out, n * depth + k, load(weight, there + k))
        for k in range(whole, depth):
            put(out, n * depth + k, get(weight, there + k))


# ---- which kernels ----------------------------------------------------------------------------


def wide_of(dtype):
    """How many numbers of a dtype, as they are held, a wide vector has."""
    return WIDE_BYTES // (4 if held(dtype).names else dtype.itemsize)


def affine(x, weight, bias, y, index, units, pieces, depth):
    """Fill y and, unless it is empty, index; an empty bias is none."""
    blocks, work = -(-y.size // (units * PANELS * wide_of(y.dtype))), y.size * pieces * depth // 16
    shares = max(-(-2 * crew(work) // max(1, blocks)), -(-weight.nbytes // KEPT))
    shares = min(-(-units // LEAST), shares)
    data = x, weight, bias, y, index
    run(affine_rows, blocks * shares, work, data, units, pieces, depth, shares)


def affine_vjp(g, x, weight, index, dx, dweight, dbias, units, pieces, depth):
    """Fill dx, dweight and dbias.

    g comes with how far apart its rows and its columns lie, x with how far its rows do: none if
    they are all the same.
    """
    (g, row, column), (x, x_row) = g, x
    work, lengths = index.size * depth // 8, (units, pieces, depth, row, column)
    blocks = -(-index.size // (units * ROWS)) * -(-depth // (4 * wide_of(dx.dtype)))
    run(gradient_x, blocks, work, (g, weight, index, dx), *lengths)
    fit = SUMS // (dweight.itemsize * pieces * max(LANES, min(SPAN, depth)))
    together = max(1, min(UNITS, units // crew(work), fit))
    data = g, x, index, dweight, dbias
    run(gradient_weight, -(-units // together), work, data, *lengths, x_row, together)


def affine_jvp(dx, x, weight, dweight, dbias, index, dy, units, pieces, depth):
    """Fill dy."""
    rows, work = dy.size // units, dy.size * depth // 8
    together = max(1, min(ROWS, rows // crew(work)))
    data = dx, x, weight, dweight, dbias, index, dy
    run(tangent, -(-rows // together), work, data, units, pieces, depth, together)


def affine_jacobian(weight, index, out, units, pieces, depth):
    """Fill `out` with the winners' weights."""
    run(selected, index.size, out.size, (weight, index, out), units, pieces, depth)
