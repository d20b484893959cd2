"""β y (g − ⟨g, y⟩): the Jacobian's product with a cotangent or, as it is symmetric, a tangent.

The order of a slice's sums is told in `slices`.
"""

from numba_acts._cpu.caches import CORES, LAST, SECOND
from numba_acts._cpu.exponential import factor_law
from numba_acts._cpu.lanes import LANES, extract, fill, head, lane, lanes_sum, transposed
from numba_acts._cpu.launch import crew, kernel, run, run_tiles
from numba_acts._cpu.memory import (
    FAR_RUN,
    LINE,
    apart,
    elements,
    fetch_ahead,
    get,
    line_of,
    lines,
    load,
    load_some,
    load_wide,
    operand,
    page_for,
    past_line,
    pour,
    pour_rest,
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
    span_for,
    widest,
)

NEVER = 1 << 62  # bytes that no result has
# Tuned on two cores of an AMD Zen 3, 32 KB of L1 and 512 KB of L2 cache each; strips and `FAR_FROM`
# on two of an Intel Xeon, 48 KB and 2 MB each.
SHORT = BLOCK - 1  # rows of so many numbers at most are summed by eights
TOGETHER = 1024  # so many numbers in several rows that are summed first and written then
WHOLE = 64 * CHUNK  # numbers of a contiguous slice that one thread takes whole
# A result of so many bytes goes around the caches: with the two arrays that are read for it, it
# would take all of the last one. That of columns of more than `FEW` numbers does from half of that
# on: in their short runs memory that is to be written comes late.
FAR_FROM = LAST // 3
# Bytes in the rows of neighbouring columns whose products are summed side by side: while they are,
# memory brings what lies beside them. Rows of sixteen-bit numbers, which take longer to compute,
# are twice as wide; those of longer slices, of which more memory pages are read, eight times.
STRIP = FAR_RUN
# Numbers in a strip: the last cache keeps them, of two arrays and for each core, for a second
# reading. The wider its rows are, the faster memory reads them; with a second cache of 512 KB no
# more was gained.
STRIP_NUMBERS = min(SECOND // 2, LAST // (16 * CORES))


# ---- a slice ----------------------------------------------------------------------------------


@lane
def term(g, y, first, i, end, shelf):
    """Eight products from i on, zeros from `end` on; `shelf` has room for 16."""
    if i + LANES <= end:
        return load(g, i) * load(y, i)
    if i + LANES <= g.size:
        return head(load(g, i) * load(y, i), end - i, 0.0)
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
        fetch_ahead(g, i, BLOCK)
        fetch_ahead(y, i, BLOCK)
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
def dot_by_groups(g, y, first, n, zero, shelf):
    """The same, where a slice is longer than a group as the sum of its groups."""
    if n <= GROUP:
        return dot_along(g, y, first, n, zero, shelf)
    total = lost = zero
    for group in range(0, n, GROUP):
        size = min(GROUP, n - group)
        more, errors = dot_along(g, y, first + group, size, zero, shelf)
        total, lost = add(total, lost + errors, more)
    return total, lost


@lane
def entry(g, y, dot, factor):
    return y * factor * (g - dot)


@lane
def product_some(g, y, i, count, dot, factor, into, at):
    """Up to eight products."""
    if count == LANES:
        store(into, at, entry(load(g, i), load(y, i), dot, factor))
    else:
        v = entry(load_some(g, i, count), load_some(y, i, count), dot, factor)
        store_some(into, at, count, v)


@lane
def product_contiguous(g, y, first, n, dot, factor, into, at):
    """Write n contiguous products from `at` on; that may be into g or y."""
    step, last = wide_lanes(y), n - wide_lanes(y)  # the last may overlap those before
    if last < 0:
        for i in range(0, n, LANES):
            product_some(g, y, first + i, min(LANES, n - i), dot, factor, into, at + i)
        return
    g_last, y_last = load_wide(g, first + last), load_wide(y, first + last)
    dot, factor = splat_wide(y, extract(dot, 0)), splat_wide(y, extract(factor, 0))
    for i in range(0, last, step):
        v = entry(load_wide(g, first + i), load_wide(y, first + i), dot, factor)
        store(into, at + i, v)
    store(into, at + last, entry(g_last, y_last, dot, factor))


@lane
def rows_poured(g, y, first, n, count, dots, factor, near, out, page, begin):
    """Products of `count` rows, at most `TOGETHER` numbers of them or of one row at a time.

    Where the result goes around the caches, by a page of it.
    """
    piece = min(n, TOGETHER) if out.far else n
    for i in range(first, first + n, piece):
        size = min(piece, first + n - i)
        into, at = way_to(out, near, page, i)
        for r in range(count):
            dot = load(dots, r * LANES)
            product_contiguous(g, y, i + r * n, size, dot, factor, into, at + r * n)
        if out.far:
            pour(page, out, i, count * size, begin)


@lane
def product_strided(g, y, out, first, step, n, count, dot, factor):
    for i in range(first, first + n * step, step):
        product_some(g, y, i, count, dot, factor, out, i)


@lane
def products(g, y, i, count):
    if count == LANES:
        return load(g, i) * load(y, i)
    return load_some(g, i, count) * load_some(y, i, count)


# ---- rows -------------------------------------------------------------------------------------


@lane
def few_rows(g, y, out, n, start, stop, factor):
    """Rows of two or three numbers, as in `forward`."""
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


@lane
def row_products(g, y, i, n):
    """What the lanes of a row of at most 31 products come to; it is read to the end of a vector."""
    total = head(load(g, i) * load(y, i), n, 0.0)
    if n > LANES:
        total = total + head(load(g, i + 8) * load(y, i + 8), n - 8, 0.0)
    if n > 2 * LANES:
        high = head(load(g, i + 16) * load(y, i + 16), n - 16, 0.0)
        if n > 3 * LANES:
            high = high + head(load(g, i + 24) * load(y, i + 24), n - 24, 0.0)
        total = total + high
    return total


@lane
def dots_beside(g, y, i, n, zero):
    """⟨g, y⟩ of eight neighbouring rows of at most 31 numbers, one in each lane."""
    a, b, c, d, e, f, p, q = transposed(
        (
            row_products(g, y, i, n),
            row_products(g, y, i + n, n),
            row_products(g, y, i + 2 * n, n),
            row_products(g, y, i + 3 * n, n),
            row_products(g, y, i + 4 * n, n),
            row_products(g, y, i + 5 * n, n),
            row_products(g, y, i + 6 * n, n),
            row_products(g, y, i + 7 * n, n),
        )
    )
    return zero + (((a + e) + (c + p)) + ((b + f) + (d + q)))


@lane
def rows_along(g, y, near, out, page, n, start, stop, factor):
    """Rows of at most `SHORT` numbers along the lanes, by eights whose sums are taken together."""
    zero, together = fill(factor, 0.0), TOGETHER // n & -LANES
    dots = scratch(y, together)
    row, last, paged = start, min(stop, (g.size - LANES) // n), out.far or n < LANES
    while row + LANES <= last:
        count = min(together, last - row) & -LANES
        first = row * n
        for r in range(0, count, LANES):
            fetch_ahead(g, first + r * n, LANES * n)
            fetch_ahead(y, first + r * n, LANES * n)
            store(dots, r, dots_beside(g, y, first + r * n, n, zero))
        into, at = near, first
        if paged:
            into, at = page, line_of(out)
        # Last numbers may come twice; of less than eight those behind are written over next.
        end = max(n - LANES, 0)
        for r in range(count):
            dot = fill(zero, get(dots, r))
            i, j = first + r * n, at + r * n
            g_last, y_last = load(g, i + end), load(y, i + end)
            for k in range(0, end, LANES):
                store(into, j + k, entry(load(g, i + k), load(y, i + k), dot, factor))
            store(into, j + end, entry(g_last, y_last, dot, factor))
        if out.far:
            pour(page, out, first, count * n, start * n)
        elif paged:
            for i in range(0, count * n, LANES):
                store(near, first + i, load(page, at + i))
        row += count
    if out.far:
        pour_rest(page, out, start * n, row * n)
    release(dots)
    return row


@kernel
def rows(g, y, out, n, inner, beta, far, start, stop):
    """Contiguous slices of at most `WHOLE` numbers; their second reading is from a cache.

    Up to `SHORT` numbers a row, the sums of eight rows are taken side by side.
    """
    around = results(out, (start | LANES) * n, out.size, far)
    short = lines(out, far)
    long = lines(out, far if n > SHORT else NEVER)
    near = elements(out)
    g, y = operand(g, out), operand(y, out)
    factor = factor_law(y, beta)
    zero = fill(factor, 0.0)
    page = page_for(near, TOGETHER + LANES, short.far or n < LANES)
    row = start
    if n == 2 or n == 3:
        row = few_rows(g, y, around, n, start, stop, factor)
    if n < LANES:  # the same, compiled for what is known of n
        row = rows_along(g, y, near, short, page, n, row, stop, factor)
    elif n <= SHORT:
        row = rows_along(g, y, near, short, page, n, row, stop, factor)
    together = max(1, TOGETHER // n)
    shelf, dots = scratch(y, 2 * LANES), scratch(y, together * LANES)
    for first in range(row, stop, together):
        count = min(together, stop - first)
        for r in range(count):
            total, lost = dot_by_groups(g, y, (first + r) * n, n, zero, shelf)
            store(dots, r * LANES, finish(total, lost))
        rows_poured(g, y, first * n, n, count, dots, factor, near, long, page, row * n)
    if long.far:
        pour_rest(page, long, row * n, stop * n)
    release(shelf)
    release(dots)
    release(page)
    settle(short)


# ---- columns ----------------------------------------------------------------------------------


@lane
def few_slices(g, y, out, i, n, inner, count, factor):
    """Products of up to eight neighbouring slices of at most three numbers."""
    zero = fill(factor, 0.0)
    even, odd = zero + products(g, y, i, count), zero
    if n > 2:
        even = even + (zero + products(g, y, i + 2 * inner, count))
    if n > 1:
        odd = odd + products(g, y, i + inner, count)
    product_strided(g, y, out, i, inner, n, count, even + odd, factor)


@kernel
def few_columns(g, y, out, n, inner, beta, start, stop):
    """Slices of one to three numbers that lie apart."""
    g, y, out = operand(g, out), operand(y, out), elements(out)
    by_eights(few_slices, g, y, out, n, inner, factor_law(y, beta), start, stop)


@kernel
def columns(g, y, out, n, inner, strip, beta, far, start, stop):
    """Slices whose numbers lie apart, at most `CHUNK` of them; the second reading is from a cache.

    A unit is a strip of neighbouring columns, whose rows are read one after the other.
    """
    g, y, out = operand(g, out), operand(y, out), results(out, inner, min(strip, inner), far)
    factor = factor_law(y, beta)
    zero = fill(factor, 0.0)
    past = past_line(out)
    width = widest(strip, past)
    totals, errors = scratch(y, LANES * width), scratch(y, LANES * width)
    dots = scratch(y, width)
    for i in range(0, LANES * width, LANES):
        store(totals, i, zero)
    octet = LANES * inner
    for unit in range(start, stop):
        first, count = place(unit, n, inner, strip, past)
        some, last = min(count, LANES), max(count - LANES, 0)  # the last eight may overlap
        if n > BLOCK:
            for i in range(0, LANES * width, LANES):
                store(totals, i, zero)
                store(errors, i, zero)
        for block in range(0, n, BLOCK):
            for j in range(min(LANES, n - block)):
                row, left = first + (block + j) * inner, n - block - j
                for c in range(0, count, LANES):
                    i, at = row + min(c, last), j * width + c
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
                store(dots, c, load(totals, c) + load(totals, c + width))
            else:
                total = zero + folded(totals, c, width)
                lost = folded(errors, c, width) if n > BLOCK else zero
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


# ---- long slices ------------------------------------------------------------------------------


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
            clear(lanes, 0, zero)
            for chunk in range(0, size, CHUNK):
                length = min(CHUNK, size - chunk)
                for k in range(length):
                    i = first + (chunk + k) * inner
                    store(tile, k * LANES, products(g, y, i, count))
                padding(tile, 0, LANES, length, LANES, zero)
                add_across(tile, 0, LANES, padded(length), lanes, 0)
            total, lost = folded(lanes, 0, LANES), folded(lanes, SQUARE, LANES)
        store(sums, unit * 2 * LANES, total)
        store(sums, unit * 2 * LANES + LANES, lost)
    release(lanes)
    release(tile)


@kernel
def long_writes(g, y, sums, out, n, inner, beta, base, far, start, stop):
    """Second reading of longer slices: their groups' sums are joined, the product written."""
    g, y, sums, near = operand(g, sums), operand(y, sums), elements(sums), elements(out)
    out = lines(out, far if inner == 1 else NEVER)
    page, dots = page_for(out, TOGETHER, out.far), scratch(y, LANES)
    begin = end = long_place(base + start, n, inner)[1]
    factor = factor_law(y, beta)
    groups = (n + GROUP - 1) // GROUP
    dot = fill(factor, 0.0)
    for unit in range(start, stop):
        group, first, count = long_place(base + unit, n, inner)
        size = min(GROUP, n - group)
        if unit == start or group == 0:
            total = lost = fill(factor, 0.0)
            bundle = unit // groups * groups
            for s in range(bundle, bundle + groups):
                total, lost = add(
                    total, lost + load(sums, (2 * s + 1) * LANES), load(sums, 2 * s * LANES)
                )
            dot = finish(total, lost)
        if inner == 1:
            store(dots, 0, dot)
            rows_poured(g, y, first, size, 1, dots, factor, near, out, page, begin)
            end = first + size
        else:
            product_strided(g, y, near, first, inner, size, count, dot, factor)
    if out.far:
        pour_rest(page, out, begin, end)
    release(dots)
    release(page)
    settle(out)


# ---- which traversal --------------------------------------------------------------------------


def product(g, y, out, outer, n, inner, beta):
    """Fill `out` with β y (g − ⟨g, y⟩), the product of the Jacobian with g; as in `forward`."""
    data, work = (g, y, out), out.size * WORTH[out.itemsize]
    if n == 1:  # slices of one number are neighbours anyway
        outer, inner = 1, outer * inner
    if n > (WHOLE if inner == 1 else CHUNK):
        for sums, base, units, part in batches(out, outer, n, inner, work):
            run(long_dots, units, part, (g, y, sums), n, inner, base)
            run(long_writes, units, part, (g, y, sums, out), n, inner, beta, base, FAR_FROM)
        return None
    if inner == 1:
        return run(rows, outer, work, data, n, inner, beta, FAR_FROM)
    if n <= FEW and out.nbytes < FAR_FROM and out.itemsize > 2:
        return run(few_columns, outer * -(-inner // FEW_SPAN), work, data, n, inner, beta)
    choice, count = (product, (outer, n, inner, beta)), crew(work)
    width = strip_width(n, inner, out.itemsize)
    strip = span_for(outer, inner, width, count)
    units, numbers = outer * -(-inner // strip), (n, inner, strip, beta, FAR_FROM // 2)
    return run_tiles(choice, count, columns, units, work, data, *numbers)


def strip_width(n, inner, itemsize):
    """How many neighbouring columns of products are summed side by side: whole lines of caches."""
    fit = max(LANES, STRIP_NUMBERS // n & -LINE // 2)
    times = 8 if n > 8 * BLOCK else 2 if itemsize == 2 else 1
    return min(times * STRIP // itemsize, fit, -(-inner // LANES) * LANES)
