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

import numpy as np
from numba import prange

from numba_acts.cpu.launch import PARALLEL_FROM, parallel, run, serial
from numba_acts.cpu.math import (
    LANES,
    as_float,
    choose,
    computed,
    divide,
    equals,
    exponent_law,
    extract,
    factor_law,
    fill,
    gather,
    get,
    head,
    lane,
    lanes_max,
    lanes_sum,
    load,
    load_some,
    lowered,
    maximum,
    put,
    raised_exp,
    scatter,
    scratch,
    splat,
    store,
    store_some,
    where,
)

# Tuned on two cores of an AMD Zen 3, 32 KB of L1 and 512 KB of L2 cache each.
SHORT = 16  # rows of at most so many numbers are taken eight at a time
CHUNK = 4096  # numbers of a slice that are held in scratch memory at once
BLOCK = 4 * LANES  # numbers that are added in pairs before the rounding errors are carried
GROUP = 64 * CHUNK  # numbers of a long slice that one thread sums
TILE_BYTES = 1 << 17  # scratch memory for a tile of columns
TILE_GROUPS = 128  # at most so many groups of eight columns in a tile
BATCH = 1 << 19  # numbers of long slices that are read twice while a cache holds them

_NOTHING = -np.inf  # the shifted argument of an entry without weight


# ---- a slice ----------------------------------------------------------------------------------


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
def four_along(z, start, count):
    """Four of each lane's numbers, from `start` on, added in pairs."""
    if start + BLOCK <= count:
        low = load(z, start) + load(z, start + 8)
        return low + (load(z, start + 16) + load(z, start + 24))
    numbers = load(z, start)
    for i in range(start + LANES, count, LANES):
        numbers = numbers + load(z, i)
    return numbers


@lane
def exponentials_along(z, count, m, law):
    """Replace z[:count] by exp(z − m), raised; returns the sum, in every lane, and its errors."""
    zero = fill(m, 0.0)
    total = lost = zero
    for start in range(0, count, BLOCK):
        for i in range(start, min(start + BLOCK, count), LANES):
            store(z, i, raised_exp(load(z, i) - m, law))
        total, lost = add(total, lost, four_along(z, start, count))
    return lanes_sum(total), lanes_sum(lost)


@lane
def folded(lanes, first):
    """Eight numbers from each of eight lanes, added in the order of `lanes_sum`."""
    even = (load(lanes, first) + load(lanes, first + 32)) + (
        load(lanes, first + 16) + load(lanes, first + 48)
    )
    odd = (load(lanes, first + 8) + load(lanes, first + 40)) + (
        load(lanes, first + 24) + load(lanes, first + 56)
    )
    return even + odd


@lane
def clear(lanes, zero):
    for j in range(0, 2 * LANES * LANES, LANES):
        store(lanes, j, zero)


@lane
def add_across(z, first, n, lanes):
    """Add n numbers of eight slices each, as `exponentials_along` does; `lanes` holds the sums."""
    for start in range(0, n, BLOCK):
        for j in range(min(LANES, n - start)):
            left = n - start - j
            i = first + (start + j) * LANES
            numbers = load(z, i)
            if left > 3 * LANES:
                numbers = (numbers + load(z, i + 64)) + (load(z, i + 128) + load(z, i + 192))
            elif left > 2 * LANES:
                numbers = (numbers + load(z, i + 64)) + load(z, i + 128)
            elif left > LANES:
                numbers = numbers + load(z, i + 64)
            at = j * LANES
            total, lost = add(load(lanes, at), load(lanes, at + 64), numbers)
            store(lanes, at, total)
            store(lanes, at + 64, lost)


@lane
def sums_across(z, first, n, zero, lanes):
    """The sums of eight slices of n numbers, and their errors."""
    clear(lanes, zero)
    add_across(z, first, n, lanes)
    return folded(lanes, 0), folded(lanes, 64)


@lane
def exponentials_across(z, first, n, m, law, lanes):
    """Eight slices at once: replace z by exp(z − m), raised; returns the sums and their errors."""
    for i in range(first, first + n * LANES, LANES):
        store(z, i, raised_exp(load(z, i) - m, law))
    return sums_across(z, first, n, fill(m, 0.0), lanes)


@lane
def max_across(z, first, n):
    m = load(z, first)
    for i in range(first + LANES, first + n * LANES, LANES):
        m = maximum(load(z, i), m)
    return m


@lane
def finite(m):
    """A shift that leaves −inf as it is: a chunk with no weight in it adds nothing."""
    return choose(equals(m, fill(m, _NOTHING)), fill(m, 0.0), m)


@lane
def merge(m, total, lost, m2, total2, lost2, law):
    """Two parts of a slice, each shifted by its own maximum, under their common one."""
    both = maximum(m2, m)
    old = lowered(raised_exp(m - finite(both), law))
    new = lowered(raised_exp(m2 - finite(both), law))
    total, lost = add(total * old, lost * old + lost2 * new, total2 * new)
    return both, total, lost


# ---- reading and writing ----------------------------------------------------------------------


@lane
def read(x, mask, i, sign):
    z = as_float(load(x, i)) * sign
    return where(load(mask, i), z, _NOTHING) if mask.size else z


@lane
def read_some(x, mask, i, count, sign):
    """`count` numbers, and −inf in the other lanes."""
    z = head(as_float(load_some(x, i, count)) * sign, count, _NOTHING)
    return where(load_some(mask, i, count), z, _NOTHING) if mask.size else z


@lane
def write(y, mask, out, i):
    store(out, i, where(load(mask, i), y, 0.0) if mask.size else y)


@lane
def write_some(y, mask, out, i, count):
    store_some(out, i, count, where(load_some(mask, i, count), y, 0.0) if mask.size else y)


@lane
def read_row(x, mask, first, n, sign, z):
    """z[:n] = sign·x, padded with −inf to a multiple of eight; returns the maximum."""
    whole = n & -LANES
    m = fill(splat(sign), _NOTHING)
    for i in range(0, whole, LANES):
        v = read(x, mask, first + i, sign)
        store(z, i, v)
        m = maximum(v, m)
    if whole < n:
        v = read_some(x, mask, first + whole, n - whole, sign)
        store(z, whole, v)
        m = maximum(v, m)
    return lanes_max(m)


@lane
def padded(n):
    return (n + LANES - 1) & -LANES


@lane
def softmax_row(x, mask, out, first, n, law, z):
    m = read_row(x, mask, first, n, law[0], z)
    total, lost = exponentials_along(z, padded(n), m, law)
    weight = divide(fill(m, 1.0), finish(total, lost))
    whole = n & -LANES
    for i in range(0, whole, LANES):
        write(load(z, i) * weight, mask, out, first + i)
    if whole < n:
        write_some(load(z, whole) * weight, mask, out, first + whole, n - whole)


@lane
def softmax_eight_rows(x, mask, out, first, n, law, z, lanes):
    for k in range(n):
        v = as_float(gather(x, first + k, n)) * law[0]
        store(z, k * LANES, where(gather(mask, first + k, n), v, _NOTHING) if mask.size else v)
    m = max_across(z, 0, n)
    total, lost = exponentials_across(z, 0, n, m, law, lanes)
    weight = divide(fill(m, 1.0), finish(total, lost))
    for k in range(n):
        y = load(z, k * LANES) * weight
        scatter(out, first + k, n, where(gather(mask, first + k, n), y, 0.0) if mask.size else y)


# ---- forward ----------------------------------------------------------------------------------


@serial
def rows(x, mask, out, n, inner, beta, start, stop):
    """Slices that are contiguous, of at most `CHUNK` numbers: one read and one write of memory.

    Up to `SHORT` numbers a row would not fill the lanes: eight rows go across them. Longer rows go
    along, through scratch memory that stays in the first cache.
    """
    law = exponent_law(x, beta)
    z = scratch(x, LANES * CHUNK if n <= SHORT else padded(n))
    row = start
    if n <= SHORT:
        lanes = scratch(x, 2 * LANES * LANES)
        while row + LANES <= stop:
            softmax_eight_rows(x, mask, out, row * n, n, law, z, lanes)
            row += LANES
    for r in range(row, stop):
        softmax_row(x, mask, out, r * n, n, law, z)


@parallel
def rows_parallel(x, mask, out, n, inner, beta, units, threads):
    for p in prange(threads):
        t = np.int64(p)
        rows(x, mask, out, n, inner, beta, t * units // threads, (t + 1) * units // threads)


@serial
def columns(x, mask, out, n, inner, groups, beta, start, stop):
    """Slices whose numbers lie apart, at most `CHUNK` of them: one read and one write of memory.

    A tile of neighbouring columns is copied, row by row as memory likes it, to scratch memory that
    stays in the second cache, eight columns side by side; so rows 2^k bytes apart do no harm. A
    unit is a tile, of `groups` times eight columns.
    """
    law = exponent_law(x, beta)
    tile = scratch(x, groups * n * LANES)
    weights = scratch(x, groups * LANES)
    lanes = scratch(x, 2 * LANES * LANES)
    width = groups * LANES
    tiles = (inner + width - 1) // width
    for unit in range(start, stop):
        outer = unit // tiles
        column = (unit - outer * tiles) * width
        count = min(width, inner - column)
        whole = count // LANES
        rest = count - whole * LANES
        first = outer * n * inner + column
        for k in range(n):
            i = first + k * inner
            for g in range(whole):
                store(tile, (g * n + k) * LANES, read(x, mask, i + g * LANES, law[0]))
            if rest:
                v = read_some(x, mask, i + whole * LANES, rest, law[0])
                store(tile, (whole * n + k) * LANES, v)
        for g in range(whole + (rest > 0)):
            m = max_across(tile, g * n * LANES, n)
            total, lost = exponentials_across(tile, g * n * LANES, n, m, law, lanes)
            store(weights, g * LANES, divide(fill(m, 1.0), finish(total, lost)))
        for k in range(n):
            i = first + k * inner
            for g in range(whole):
                y = load(tile, (g * n + k) * LANES) * load(weights, g * LANES)
                write(y, mask, out, i + g * LANES)
            if rest:
                y = load(tile, (whole * n + k) * LANES) * load(weights, whole * LANES)
                write_some(y, mask, out, i + whole * LANES, rest)


@parallel
def columns_parallel(x, mask, out, n, inner, groups, beta, units, threads):
    for p in prange(threads):
        t = np.int64(p)
        start, stop = t * units // threads, (t + 1) * units // threads
        columns(x, mask, out, n, inner, groups, beta, start, stop)


@serial
def long_sums(x, mask, sums, n, inner, beta, base, start, stop):
    """First reading of slices of more than `CHUNK` numbers: their maxima and sums, by groups.

    A unit is one group of one bundle: of one slice, or of eight neighbouring ones where they are
    not contiguous. It leaves 24 numbers in `sums`: eight maxima, sums and corrections. Units are
    numbered from `base` on, the first in `sums`.
    """
    law = exponent_law(x, beta)
    groups = (n + GROUP - 1) // GROUP
    bundles = padded(inner) // LANES
    z = scratch(x, CHUNK * (1 if inner == 1 else LANES))
    lanes = scratch(x, 2 * LANES * LANES)
    for unit in range(start, stop):
        bundle = (base + unit) // groups
        group = (base + unit - bundle * groups) * GROUP
        outer = bundle // bundles
        column = (bundle - outer * bundles) * LANES
        count = min(LANES, inner - column)
        m = fill(splat(law[0]), _NOTHING)
        total = lost = fill(m, 0.0)
        for chunk in range(group, min(group + GROUP, n), CHUNK):
            size = min(CHUNK, n - chunk)
            first = (outer * n + chunk) * inner + column
            if inner == 1:
                m2 = read_row(x, mask, first, size, law[0], z)
                total2, lost2 = exponentials_along(z, padded(size), finite(m2), law)
            else:
                for k in range(size):
                    i = first + k * inner
                    if count == LANES:
                        store(z, k * LANES, read(x, mask, i, law[0]))
                    else:
                        store(z, k * LANES, read_some(x, mask, i, count, law[0]))
                m2 = max_across(z, 0, size)
                total2, lost2 = exponentials_across(z, 0, size, finite(m2), law, lanes)
            m, total, lost = merge(m, total, lost, m2, total2, lost2, law)
        store(sums, unit * 3 * LANES, m)
        store(sums, unit * 3 * LANES + LANES, total)
        store(sums, unit * 3 * LANES + 2 * LANES, lost)


@parallel
def long_sums_parallel(x, mask, sums, n, inner, beta, base, units, threads):
    for p in prange(threads):
        t = np.int64(p)
        start, stop = t * units // threads, (t + 1) * units // threads
        long_sums(x, mask, sums, n, inner, beta, base, start, stop)


@serial
def long_writes(x, mask, sums, out, n, inner, beta, base, start, stop):
    """Second reading of long slices: the sums of all groups are joined, the result written."""
    law = exponent_law(x, beta)
    groups = (n + GROUP - 1) // GROUP
    bundles = padded(inner) // LANES
    for unit in range(start, stop):
        bundle = (base + unit) // groups
        group = (base + unit - bundle * groups) * GROUP
        outer = bundle // bundles
        column = (bundle - outer * bundles) * LANES
        count = min(LANES, inner - column)
        m = fill(splat(law[0]), _NOTHING)
        total = lost = fill(m, 0.0)
        for g in range(bundle * groups - base, (bundle + 1) * groups - base):
            i = g * 3 * LANES
            m2, total2, lost2 = load(sums, i), load(sums, i + LANES), load(sums, i + 2 * LANES)
            m, total, lost = merge(m, total, lost, m2, total2, lost2, law)
        weight = divide(fill(m, 1.0), finish(total, lost))
        size = min(GROUP, n - group)
        first = (outer * n + group) * inner + column
        if inner == 1:
            whole = size & -LANES
            for i in range(first, first + whole, LANES):
                write(raised_exp(read(x, mask, i, law[0]) - m, law) * weight, mask, out, i)
            i, count, step, rest = first + whole, size - whole, 1, size > whole
        else:
            i, step, rest = first, inner, size
        for _ in range(rest):
            if count == LANES:
                write(raised_exp(read(x, mask, i, law[0]) - m, law) * weight, mask, out, i)
            else:
                y = raised_exp(read_some(x, mask, i, count, law[0]) - m, law) * weight
                write_some(y, mask, out, i, count)
            i += step


@parallel
def long_writes_parallel(x, mask, sums, out, n, inner, beta, base, units, threads):
    for p in prange(threads):
        t = np.int64(p)
        start, stop = t * units // threads, (t + 1) * units // threads
        long_writes(x, mask, sums, out, n, inner, beta, base, start, stop)


# ---- product: vjp = jvp = β y (g − ⟨g, y⟩) ----------------------------------------------------


@lane
def term(g, y, i, end):
    """g·y for eight numbers, or those before `end`."""
    if i + LANES <= end:
        return load(g, i) * load(y, i)
    return head(load_some(g, i, end - i) * load_some(y, i, end - i), end - i, 0.0)


@lane
def dot_along(g, y, first, n, zero):
    """⟨g, y⟩ over n contiguous numbers, in every lane, and its errors."""
    total = lost = zero
    end = first + n
    for i in range(first, end, BLOCK):
        four = term(g, y, i, end)
        if i + 8 < end:
            four = four + term(g, y, i + 8, end)
        if i + 24 < end:
            four = four + (term(g, y, i + 16, end) + term(g, y, i + 24, end))
        elif i + 16 < end:
            four = four + term(g, y, i + 16, end)
        total, lost = add(total, lost, four)
    return lanes_sum(total), lanes_sum(lost)


@lane
def product_contiguous(g, y, out, first, n, dot, factor):
    whole = first + (n & -LANES)
    for i in range(first, whole, LANES):
        store(out, i, load(y, i) * factor * (load(g, i) - dot))
    rest = first + n - whole
    if rest:
        v = load_some(y, whole, rest) * factor * (load_some(g, whole, rest) - dot)
        store_some(out, whole, rest, v)


@lane
def product_strided(g, y, out, first, step, n, count, dot, factor):
    for k in range(n):
        i = first + k * step
        if count == LANES:
            store(out, i, load(y, i) * factor * (load(g, i) - dot))
        else:
            v = load_some(y, i, count) * factor * (load_some(g, i, count) - dot)
            store_some(out, i, count, v)


@serial
def product_rows(g, y, out, n, inner, beta, start, stop):
    """Contiguous slices of at most `GROUP` numbers; their second reading is from a cache."""
    factor = factor_law(y, beta)
    zero = fill(factor, 0.0)
    lanes = scratch(y, 2 * LANES * LANES)
    tile_g, tile_y = scratch(y, LANES * SHORT), scratch(y, LANES * SHORT)
    products = scratch(y, LANES * SHORT)
    row = start
    if n <= SHORT:
        while row + LANES <= stop:
            first = row * n
            for k in range(n):
                store(tile_g, k * LANES, gather(g, first + k, n))
                store(tile_y, k * LANES, gather(y, first + k, n))
            for i in range(0, n * LANES, LANES):
                store(products, i, load(tile_g, i) * load(tile_y, i))
            dot = finish(*sums_across(products, 0, n, zero, lanes))
            for k in range(n):
                v = load(tile_y, k * LANES) * factor * (load(tile_g, k * LANES) - dot)
                scatter(out, first + k, n, v)
            row += LANES
    for r in range(row, stop):
        total, lost = dot_along(g, y, r * n, n, zero)
        product_contiguous(g, y, out, r * n, n, finish(total, lost), factor)


@parallel
def product_rows_parallel(g, y, out, n, inner, beta, units, threads):
    for p in prange(threads):
        t = np.int64(p)
        product_rows(g, y, out, n, inner, beta, t * units // threads, (t + 1) * units // threads)


@serial
def product_columns(g, y, out, n, inner, groups, beta, start, stop):
    """Slices whose numbers lie apart, at most `CHUNK` of them, by tiles as in `columns`."""
    factor = factor_law(y, beta)
    zero = fill(factor, 0.0)
    lanes = scratch(y, 2 * LANES * LANES)
    tile_g, tile_y = scratch(y, groups * n * LANES), scratch(y, groups * n * LANES)
    products = scratch(y, n * LANES)
    dots = scratch(y, groups * LANES)
    width = groups * LANES
    tiles = (inner + width - 1) // width
    for unit in range(start, stop):
        outer = unit // tiles
        column = (unit - outer * tiles) * width
        count = min(width, inner - column)
        whole = count // LANES
        rest = count - whole * LANES
        first = outer * n * inner + column
        for k in range(n):
            i = first + k * inner
            for b in range(whole):
                store(tile_g, (b * n + k) * LANES, load(g, i + b * LANES))
                store(tile_y, (b * n + k) * LANES, load(y, i + b * LANES))
            if rest:
                b = (whole * n + k) * LANES
                store(tile_g, b, load_some(g, i + whole * LANES, rest))
                store(tile_y, b, load_some(y, i + whole * LANES, rest))
        for b in range(whole + (rest > 0)):
            at = b * n * LANES
            for i in range(0, n * LANES, LANES):
                store(products, i, load(tile_g, at + i) * load(tile_y, at + i))
            store(dots, b * LANES, finish(*sums_across(products, 0, n, zero, lanes)))
        for k in range(n):
            i = first + k * inner
            for b in range(whole + (rest > 0)):
                at = (b * n + k) * LANES
                v = load(tile_y, at) * factor * (load(tile_g, at) - load(dots, b * LANES))
                if b < whole:
                    store(out, i + b * LANES, v)
                else:
                    store_some(out, i + b * LANES, rest, v)


@parallel
def product_columns_parallel(g, y, out, n, inner, groups, beta, units, threads):
    for p in prange(threads):
        t = np.int64(p)
        start, stop = t * units // threads, (t + 1) * units // threads
        product_columns(g, y, out, n, inner, groups, beta, start, stop)


@serial
def long_dots(g, y, sums, n, inner, base, start, stop):
    """First reading of longer slices: ⟨g, y⟩ by groups; a unit leaves 16 numbers in `sums`."""
    zero = fill(load_some(y, 0, 1), 0.0)
    lanes = scratch(y, 2 * LANES * LANES)
    products = scratch(y, LANES * (CHUNK if inner > 1 else 1))
    groups = (n + GROUP - 1) // GROUP
    bundles = padded(inner) // LANES
    for unit in range(start, stop):
        bundle = (base + unit) // groups
        group = (base + unit - bundle * groups) * GROUP
        outer = bundle // bundles
        column = (bundle - outer * bundles) * LANES
        first = (outer * n + group) * inner + column
        size = min(GROUP, n - group)
        if inner == 1:
            total, lost = dot_along(g, y, first, size, zero)
        else:
            count = min(LANES, inner - column)
            clear(lanes, zero)
            for chunk in range(0, size, CHUNK):
                length = min(CHUNK, size - chunk)
                for k in range(length):
                    i = first + (chunk + k) * inner
                    store(products, k * LANES, term(g, y, i, i + count))
                add_across(products, 0, length, lanes)
            total, lost = folded(lanes, 0), folded(lanes, 64)
        store(sums, unit * 2 * LANES, total)
        store(sums, unit * 2 * LANES + LANES, lost)


@parallel
def long_dots_parallel(g, y, sums, n, inner, base, units, threads):
    for p in prange(threads):
        t = np.int64(p)
        start, stop = t * units // threads, (t + 1) * units // threads
        long_dots(g, y, sums, n, inner, base, start, stop)


@serial
def long_products(g, y, sums, out, n, inner, beta, base, start, stop):
    """Second reading of longer slices: their groups' sums are joined, the product written."""
    factor = factor_law(y, beta)
    groups = (n + GROUP - 1) // GROUP
    bundles = padded(inner) // LANES
    for unit in range(start, stop):
        bundle = (base + unit) // groups
        group = (base + unit - bundle * groups) * GROUP
        outer = bundle // bundles
        column = (bundle - outer * bundles) * LANES
        first = (outer * n + group) * inner + column
        size = min(GROUP, n - group)
        total = lost = fill(factor, 0.0)
        for s in range(bundle * groups - base, (bundle + 1) * groups - base):
            total, lost = add(
                total, lost + load(sums, (2 * s + 1) * LANES), load(sums, 2 * s * LANES)
            )
        dot = finish(total, lost)
        if inner == 1:
            product_contiguous(g, y, out, first, size, dot, factor)
        else:
            count = min(LANES, inner - column)
            product_strided(g, y, out, first, inner, size, count, dot, factor)


@parallel
def long_products_parallel(g, y, sums, out, n, inner, beta, base, units, threads):
    for p in prange(threads):
        t = np.int64(p)
        start, stop = t * units // threads, (t + 1) * units // threads
        long_products(g, y, sums, out, n, inner, beta, base, start, stop)


# ---- Jacobian: β (y_i δ_ij − y_i y_j) ---------------------------------------------------------


@serial
def jacobian(y, out, n, inner, beta, start, stop):
    """Row i of each slice's matrix, written once in the order of memory; a unit is a slice's i."""
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


@parallel
def jacobian_parallel(y, out, n, inner, beta, units, threads):
    for p in prange(threads):
        t = np.int64(p)
        jacobian(y, out, n, inner, beta, t * units // threads, (t + 1) * units // threads)


@serial
def diagonal(y, out, beta, start, stop):
    """β y (1 − y), number by number; a unit is eight of them."""
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


@parallel
def diagonal_parallel(y, out, beta, units, threads):
    for p in prange(threads):
        t = np.int64(p)
        diagonal(y, out, beta, t * units // threads, (t + 1) * units // threads)


# ---- which traversal --------------------------------------------------------------------------


small_rows = rows


def softmax(x, mask, out, outer, n, inner, beta):
    """Fill `out` with y. `mask` holds bytes, or none for no mask."""
    if inner == 1 and x.size < PARALLEL_FROM and n <= CHUNK:
        small_rows(x, mask, out, n, inner, beta, 0, outer)  # as `run` would, a call sooner
    elif n > CHUNK:
        for sums, base, units, work in _batches(out, outer, n, inner):
            task = units, work, x, mask, sums
            run(long_sums, long_sums_parallel, *task, n, inner, beta, base)
            run(long_writes, long_writes_parallel, *task, out, n, inner, beta, base)
    elif inner == 1:
        run(rows, rows_parallel, outer, x.size, x, mask, out, n, inner, beta)
    else:
        groups, tiles = _tiles(out, n, inner, 1)
        task = outer * tiles, x.size, x, mask, out
        run(columns, columns_parallel, *task, n, inner, groups, beta)


def product(g, y, out, outer, n, inner, beta):
    """Fill `out` with β y (g − ⟨g, y⟩), the product of the Jacobian with g."""
    if n > (GROUP if inner == 1 else CHUNK):
        for sums, base, units, work in _batches(out, outer, n, inner):
            task = units, work, g, y, sums
            run(long_dots, long_dots_parallel, *task, n, inner, base)
            run(long_products, long_products_parallel, *task, out, n, inner, beta, base)
    elif inner == 1:
        run(product_rows, product_rows_parallel, outer, y.size, g, y, out, n, inner, beta)
    else:
        groups, tiles = _tiles(out, n, inner, 2)
        task = outer * tiles, y.size, g, y, out
        run(product_columns, product_columns_parallel, *task, n, inner, groups, beta)


def jacobians(y, out, outer, n, inner, beta):
    """Fill `out`, (outer, n, n, inner), with β (y_i δ_ij − y_i y_j)."""
    run(jacobian, jacobian_parallel, outer * n, out.size, y, out, n, inner, beta)


def diagonals(y, out, beta):
    """Fill `out` with β y (1 − y)."""
    run(diagonal, diagonal_parallel, -(-y.size // LANES), y.size, y, out, beta)


def _tiles(out, n, inner, arrays):
    """How many groups of eight columns a tile has, and how many tiles there are."""
    fit = TILE_BYTES // (n * LANES * arrays * computed(out).itemsize)
    groups = max(1, min(fit, TILE_GROUPS, -(-inner // LANES)))
    return groups, -(-inner // (groups * LANES))


def _batches(out, outer, n, inner):
    """Long slices, as many at once as the last cache may keep between their two readings."""
    bundles, groups = outer * -(-inner // LANES), -(-n // GROUP)
    numbers = n * min(inner, LANES)
    batch = min(bundles, max(1, BATCH // numbers))
    sums = np.empty(batch * groups * 3 * LANES, computed(out))
    for first in range(0, bundles, batch):
        count = min(batch, bundles - first)
        yield sums, first * groups, count * groups, count * numbers
