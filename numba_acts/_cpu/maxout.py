"""The maximum over the pieces of a unit, the piece that reaches it, and the gradient it selects.

Arrays come flat, as C-contiguous (outer, pieces, inner), results as (outer, inner). Everywhere the
first NaN wins, and otherwise the first of the largest pieces.
"""

from typing import Any

import numpy as np

from numba_acts._cpu.caches import FAR_FROM, SECOND
from numba_acts._cpu.lanes import (
    LANES,
    any_equal,
    beats,
    choose,
    equals,
    extract,
    fill,
    lane,
    lane_places,
    lanes_max,
    lanes_sum,
    maximum,
    splat,
    transposed,
)
from numba_acts._cpu.launch import crew, kernel, run, run_tiles
from numba_acts._cpu.memory import (
    PAGE,
    WIDE_BYTES,
    eight,
    elements,
    fetch,
    fetch_ahead,
    four,
    gather,
    get,
    is_bool,
    largest_pieces,
    lines,
    load,
    load_some,
    load_up_to,
    load_wide,
    memory,
    narrow,
    page_for,
    past_line,
    pour,
    pour_rest,
    put,
    release,
    results,
    settle,
    spread,
    store,
    store_some,
    way_to,
    wide_lanes,
    winners,
)
from numba_acts._cpu.slices import place, span_for, widest

# Tuned on two cores of an AMD Zen 3.
FEW = 8  # units of at most so many contiguous pieces have code of their own for that number
SPAN = 1024  # neighbouring positions that one unit of work handles at most
PART = 1 << 18  # pieces of a long unit, at least, that a thread takes
BLOCK = 1 << 12  # pieces whose maximum is found before the next, to be searched for it at the end
LONG, LONG_ALONE = 1 << 7, 1 << 9  # pieces from which a unit goes along; without its index
ROWS = 8  # pieces that lie apart that are read along at a time
SWEPT = SECOND // 2  # in arrays of so many bytes, as they are compared, which a cache hardly holds
COUNTED = 1 << 30  # pieces that are counted in the 32 bits of a lane, from a start in 64


# ---- the maximum ------------------------------------------------------------------------------


@lane
def first_max(values, indices):
    """The winner among eight lanes, each of which holds the winner of its own pieces."""
    best, index = extract(values, 0), extract(indices, 0)
    for j in range(1, LANES):
        v, i = extract(values, j), extract(indices, j)
        tie = v == best or (v != v and best != best)
        if v > best or (v != v and best == best) or (tie and i < index):
            best, index = v, i
    return best, index


@lane
def challenge(best, winner, v, i):
    wins = beats(v, best)
    return choose(wins, v, best), choose(wins, i, winner)


@lane
def along_some(x, first, pieces):
    """The winner of contiguous pieces, at most `COUNTED` of them, eight at a time."""
    best = load_some(x, first, min(LANES, pieces))
    places = lane_places()
    winner = places
    for i in range(LANES, pieces, LANES):
        count = min(LANES, pieces - i)
        v = load_up_to(x, first + i, count)
        best, winner = challenge(best, winner, v, places + i)
    return first_max(best, winner)


@lane
def along(x, first, pieces):
    """The winner of one unit of contiguous pieces."""
    best, winner = get(x, first), np.int64(0)
    for start in range(0, pieces, COUNTED):
        v, i = along_some(x, first + start, min(COUNTED, pieces - start))
        if v > best or (v != v and best == best):
            best, winner = v, start + np.int64(i)
    return best, winner


@lane
def fetch_square(x, first):
    """Ask for as many numbers of the units to come as were read of these."""
    for i in range(0, LANES * LANES, LANES):
        fetch(x, first + i)


@lane
def across(x, first, pieces):
    """The winners of eight units of at least eight contiguous pieces, one unit in each lane."""
    best, winner = gather(x, first, pieces), splat(np.int32(0))
    for start in range(0, pieces, LANES):
        k = min(start, pieces - LANES)  # the last eight may meet pieces again, which win nothing
        a, b, c, d, e, f, g, h = transposed(eight(x, first + k, pieces))
        fetch_square(x, first + LANES * (pieces + start))
        i = fill(winner, k)
        best, winner = challenge(best, winner, a, i)
        best, winner = challenge(best, winner, b, i + 1)
        best, winner = challenge(best, winner, c, i + 2)
        best, winner = challenge(best, winner, d, i + 3)
        best, winner = challenge(best, winner, e, i + 4)
        best, winner = challenge(best, winner, f, i + 5)
        best, winner = challenge(best, winner, g, i + 6)
        best, winner = challenge(best, winner, h, i + 7)
    return best, winner


@lane
def larger(new, old):
    """The larger of each of eight vectors."""
    a, b, c, d, e, f, g, h = new
    i, j, k, m, n, o, p, q = old
    low = maximum(a, i), maximum(b, j), maximum(c, k), maximum(d, m)
    return *low, maximum(e, n), maximum(f, o), maximum(g, p), maximum(h, q)


@lane
def added(vectors):
    a, b, c, d, e, f, g, h = vectors
    return ((a + b) + (c + d)) + ((e + f) + (g + h))


@lane
def largest(x, first, pieces):
    """The maxima of eight such units, and whether they are certain.

    Each unit goes along the lanes, which are transposed once. A NaN, which the sum shows, or a
    zero, whose sign is that of the first, takes a closer look.
    """
    best = eight(x, first, pieces)
    total = added(best)
    for start in range(LANES, pieces, LANES):
        new = eight(x, first + min(start, pieces - LANES), pieces)
        fetch_square(x, first + LANES * (pieces + start))
        best = larger(new, best)
        total = total + added(new)
    a, b, c, d, e, f, g, h = transposed(best)
    top = maximum(maximum(maximum(a, b), maximum(c, d)), maximum(maximum(e, f), maximum(g, h)))
    zero, one = fill(top, 0), fill(top, 1)
    doubts = choose(equals(total, total), zero, one) + choose(equals(top, zero), one, zero)
    return top, extract(lanes_sum(doubts), 0) == 0


@lane
def largest_wide(x, first, step, steps, last, wide):
    """The maxima of four wide vectors, `step` after `step`, at most `last`; was there no NaN?"""
    a, b, c, d = four(x, first, wide)
    total = (a + b) + (c + d)
    for k in range(1, steps):
        e, f, g, h = four(x, first + min(k * step, last), wide)
        a, b, c, d = maximum(e, a), maximum(f, b), maximum(g, c), maximum(h, d)
        total = total + ((e + f) + (g + h))
    total = extract(lanes_sum(total), 0)  # no number if there is a NaN
    return a, b, c, d, total == total


@lane
def along_wide(x, first, pieces, wide):
    """The largest of one unit's contiguous pieces, and the block of them that reached it first.

    And whether they are certain: there is no NaN.
    """
    step = 4 * wide
    best, winner, certain = get(x, first), np.int64(0), True
    for start in range(0, pieces, BLOCK):
        size = min(BLOCK, max(step, pieces - start))
        block = min(start, pieces - size)  # the last may meet pieces again, which win nothing
        steps, last = (size + step - 1) // step, size - step
        a, b, c, d, numbers = largest_wide(x, first + block, step, steps, last, wide)
        top = extract(lanes_max(maximum(maximum(a, b), maximum(c, d))), 0)
        certain = certain and numbers
        if top > best:
            best, winner = top, block
    return best, winner, certain


@lane
def search(x, first, start, pieces, number, wide):
    """The first piece from `start` on that is a number; how many pieces there are if none is."""
    while start + wide < pieces and not any_equal(load_wide(x, first + start), number):
        start += wide
    while start < pieces and get(x, first + start) != number:
        start += 1
    return start


@lane
def write_along(x, out, index, u, pieces):
    """Write the winner of one unit of contiguous pieces."""
    first, wide = u * pieces, wide_lanes(x)
    value, piece, certain = get(x, first), np.int64(0), is_bool(x)
    if certain:  # no piece is larger than True
        found = search(x, first, np.int64(0), pieces, value * 0 + 1, wide)
        if found < pieces:
            value, piece = get(x, first + found), found
    elif pieces >= 4 * wide:
        value, piece, certain = along_wide(x, first, pieces, wide)
        if certain and (index is not None or value == 0):  # which zero it is tells the place
            piece = search(x, first, piece, pieces, value, wide)
            value = get(x, first + piece)
    if not certain:
        value, piece = along(x, first, pieces)
    put(out, u, value)
    note_one(index, u, piece)


@lane
def winners_across(x, out, index, u, pieces):
    """Write the winners of eight units of at least eight contiguous pieces."""
    if index is None:
        best, certain = largest(x, u * pieces, pieces)
        if certain:
            store(out, u, best)
            return
    best, winner = across(x, u * pieces, pieces)
    store(out, u, best)
    note(index, u, winner)


@lane
def note(index, i, winner):
    """Keep the winners of eight units, if anyone wants them."""
    if index is not None:
        store(index, i, winner)


@lane
def note_some(index, i, count, winner):
    if index is not None:
        store_some(index, i, count, winner)


@lane
def note_one(index, i, piece):
    if index is not None:
        put(index, i, piece)


@lane
def winners_of_few(x, out, index, u, pieces):
    """Write the winners of eight units of few contiguous pieces."""
    if index is None:
        store(out, u, largest_pieces(x, u * len(pieces), pieces))
    else:
        best, winner = winners(x, u * len(pieces), pieces)
        store(out, u, best)
        store(index, u, winner)


@kernel
def few(x, out, index, pieces, far, start, stop):
    """Few contiguous pieces, a tuple of their number: eight units at a time, by shuffles."""
    whole, step, run = start + ((stop - start) & -LANES), start | LANES, out.size
    if whole < stop:
        rows(x, out, index, len(pieces), whole, stop)
    x, out, index = elements(x), results(out, step, run, far), results(index, step, run, far)
    for u in range(start, whole, LANES):
        fetch_ahead(x, u * len(pieces), LANES * len(pieces))
        winners_of_few(x, out, index, u, pieces)
    settle(out)
    settle(index)


@kernel
def rows(x, out, index, pieces, start, stop):
    """Contiguous pieces, any number of them: eight units across the lanes, the rest along."""
    x, out, index = elements(x), elements(out), elements(index)
    alone = index is None and not is_bool(x)
    most = max(4 * wide_lanes(x), LONG_ALONE if alone else LONG) - 1
    whole = start + ((stop - start) & -LANES) if LANES <= pieces <= most else start
    for u in range(start, whole, LANES):
        winners_across(x, out, index, u, pieces)
    for u in range(whole, stop):
        write_along(x, out, index, u, pieces)


@kernel
def columns_further(x, out, index, pieces, inner, start, stop):
    """The pieces beyond `COUNTED`, which win if they beat what the others reached; unit by unit."""
    x, out, index = elements(x), elements(out), elements(index)
    for u in range(start, stop):
        outer = u // inner
        first = outer * pieces * inner + u - outer * inner
        best, winner = get(out, u), np.int64(0)
        for i in range(COUNTED, pieces):
            v = get(x, first + i * inner)
            if v > best or (v != v and best == best):
                best, winner = v, np.int64(i)
        if winner > 0:
            put(out, u, best)
            note_one(index, u, winner)


@lane
def sweep(x, first, pieces, inner, count, maxima, wide):
    """The maxima of so many columns of at least `ROWS` pieces; was there no NaN?

    Some rows at a time are read along, as memory likes it.
    """
    for c in range(0, count, wide):
        store(maxima, c, load_wide(x, first + c))
    total = fill(load_wide(x, first), 0)
    for start in range(0, pieces, ROWS):
        row = first + min(start, pieces - ROWS) * inner  # the last may meet pieces again
        for i in range(row, row + count, wide):
            a, b, c, d = four(x, i, inner)
            e, f, g, h = four(x, i + ROWS // 2 * inner, inner)
            total = total + (((a + b) + (c + d)) + ((e + f) + (g + h)))
            low = maximum(maximum(d, c), maximum(b, a))  # of equals the first: it may be −0
            high = maximum(maximum(h, g), maximum(f, e))
            old = load_wide(maxima, i - row)
            store(maxima, i - row, maximum(maximum(high, low), old))
    numbers = extract(lanes_sum(total), 0)
    return numbers == numbers


@lane
def columns_swept(x, out, outer, pieces, inner, column, stop_column, maxima, wide):
    """`columns_wide` of many pieces."""
    count = (stop_column - column) // wide * wide
    if count and not sweep(x, outer * pieces * inner + column, pieces, inner, count, maxima, wide):
        return column
    for c in range(0, count, wide):
        store(out, outer * inner + column + c, load_wide(maxima, c))
    return column + count


@lane
def columns_wide(x, out, outer, pieces, inner, column, stop_column, wide):
    """Write the maxima of columns, a hundred or so side by side; returns the first column left.

    The first that have a NaN are left, and those after them.
    """
    step = 4 * wide
    for c in range(column, stop_column - step + 1, step):
        first, last = outer * pieces * inner + c, pieces * inner
        a, b, c_, d, numbers = largest_wide(x, first, inner, pieces, last, wide)
        if not numbers:
            return c
        there = outer * inner + c
        store(out, there, a)
        store(out, there + wide, b)
        store(out, there + 2 * wide, c_)
        store(out, there + 3 * wide, d)
    return column + (stop_column - column) // step * step


@lane
def span_of(unit, inner, span, past):
    """Of which outer position a unit of work has columns, and from where to where."""
    first, columns = place(unit, 1, inner, span, past)
    outer = first // inner
    column = first - outer * inner
    return outer, column, column + columns


@kernel
def columns(x, out, index, pieces, inner, span, far, start, stop):
    """Pieces that lie apart: eight neighbouring units across the lanes; a unit of work: `span`."""
    given = x, out, index
    x, run = elements(x), min(span, inner)
    out = results(out, inner, run, far)
    past = past_line(out) if index is None else past_line(out) & -4  # 16 bytes of an index
    index, counted = results(index, inner | past, run, far), min(pieces, COUNTED)
    numbers, wide = splat(np.int32(0)), wide_lanes(x)
    swept = pieces >= ROWS and x.size >= SWEPT // WIDE_BYTES * wide
    maxima = memory(x, widest(run, past) if swept else 0)
    for unit in range(start, stop):
        outer, column, stop_column = span_of(unit, inner, span, past)
        # The last eight may overlap those before; another unit's not where these are not yet right.
        count = min(LANES, stop_column - column if counted < pieces else inner)
        certain = column
        if index is None:
            where = outer, pieces, inner, column, stop_column
            if swept:
                certain = columns_swept(x, out, *where, maxima, wide)
            else:
                certain = columns_wide(x, out, *where, wide)
        for start_column in range(certain, stop_column, LANES):
            c = min(start_column, stop_column - count)
            first = outer * pieces * inner + c
            there = outer * inner + c
            best = load_up_to(x, first, count)
            winner = numbers
            for i in range(1, counted):
                at = first + i * inner
                v = load_up_to(x, at, count)
                wins = beats(v, best)
                best = choose(wins, v, best)
                winner = choose(wins, fill(winner, i), winner)
            if count == LANES:
                store(out, there, best)
                note(index, there, winner)
            else:
                store_some(out, there, count, best)
                note_some(index, there, count, winner)
        if counted < pieces:
            first = outer * inner
            columns_further(*given, pieces, inner, first + column, first + stop_column)
    release(maxima)
    settle(out)
    settle(index)


# ---- the gradient -----------------------------------------------------------------------------


@lane
def extremes(index, first, last):
    """The least and the largest of some indices, eight of each."""
    some = min(LANES, last - first)
    least = most = load_some(index, last - some, some)
    for i in range(first, last - LANES, LANES):
        v = load(index, i)
        least, most = choose(beats(least, v), v, least), maximum(v, most)
    return least, most


@kernel
def outside(index, found, nothing, pieces, start, stop):
    """found[...] = 1 if an index is not in [0, pieces); a unit is `SPAN` of them.

    With `nothing` it has as many arrays as what can be started again.
    """
    index, found = elements(index), elements(found)
    first, last = start * SPAN, min(stop * SPAN, index.size)
    if first < last:
        least, most = extremes(index, first, last)
        for j in range(LANES):
            if extract(least, j) < 0 or extract(most, j) >= pieces:
                put(found, 0, np.uint8(1))


@lane
def cotangent(g, i, count, like):
    """Numbers of `g`; ones if it is empty, as the Jacobian wants them."""
    if g.size == 0:
        return fill(like, 1)
    return load_up_to(g, i, count)


@kernel
def vjp_few(g, index, out, pieces, far, start, stop):
    """Few contiguous pieces, a tuple of their number: eight units are written at a time."""
    whole, count = start + ((stop - start) & -LANES), len(pieces)
    if whole < stop:
        vjp_rows(g, index, out, count, whole, stop)
    g, index, near, out = elements(g), elements(index), elements(out), lines(out, far)
    one = fill(load_some(near, 0, 1), 1)
    page = page_for(out, PAGE, out.far)
    together = PAGE // count & -LANES if out.far else max(whole - start, LANES)
    for first in range(start, whole, together):
        stop_unit = min(first + together, whole)
        into, at = way_to(out, near, page, first * count)
        for u in range(first, stop_unit, LANES):
            v = load(g, u) if g.size else one
            spread(into, at + (u - first) * count, pieces, v, narrow(load(index, u)))
        if out.far:
            pour(page, out, first * count, (stop_unit - first) * count, start * count)
    if out.far:
        pour_rest(page, out, start * count, whole * count)
    release(page)
    settle(out)


@lane
def put_zeros(out, first, last, zero):
    whole = first + ((last - first) & -LANES)
    for i in range(first, whole, LANES):
        store(out, i, zero)
    for i in range(whole, last):
        put(out, i, extract(zero, 0))


@kernel
def vjp_rows(g, index, out, pieces, start, stop):
    """Contiguous pieces: a span of zeros, in cache, then each unit's winner."""
    g, index, out = elements(g), elements(index), elements(out)
    zero = fill(load_some(out, 0, 1), 0)
    one = fill(zero, 1)
    step = max(1, SPAN // pieces)
    for unit in range(start, stop, step):
        last = min(unit + step, stop)
        put_zeros(out, unit * pieces, last * pieces, zero)
        for u in range(unit, last):
            put(out, u * pieces + np.intp(get(index, u)), get(g, u) if g.size else extract(one, 0))


@kernel
def vjp_columns(g, index, out, pieces, inner, span, far, start, stop):
    """Pieces that lie apart: each of them is written whole, a `span` at a time."""
    g, index, out = elements(g), elements(index), results(out, inner, min(span, inner), far)
    zero = fill(load_some(out, 0, 1), 0)
    past = past_line(out)
    count = min(LANES, inner)  # the last eight may overlap those before
    for unit in range(start, stop):
        outer, column, stop_column = span_of(unit, inner, span, past)
        for i in range(pieces):
            for start_column in range(column, stop_column, LANES):
                c = min(start_column, stop_column - count)
                here = outer * inner + c
                at = (outer * pieces + i) * inner + c
                v = cotangent(g, here, count, zero)
                if count == LANES:
                    store(out, at, choose(equals(narrow(load(index, here)), i), v, zero))
                else:
                    selected = choose(equals(narrow(load_some(index, here, count)), i), v, zero)
                    store_some(out, at, count, selected)
    settle(out)


@kernel
def vjp_many(g, index, out, pieces, inner, start, stop):
    """Pieces that lie apart, more than `COUNTED`: zeros, then each unit's winner."""
    g, index, out = elements(g), elements(index), elements(out)
    zero = fill(load_some(out, 0, 1), 0)
    one = fill(zero, 1)
    for outer in range(start, stop):
        put_zeros(out, outer * pieces * inner, (outer + 1) * pieces * inner, zero)
        for u in range(outer * inner, (outer + 1) * inner):
            at = (outer * pieces + np.intp(get(index, u))) * inner + u - outer * inner
            put(out, at, get(g, u) if g.size else extract(one, 0))


@kernel
def jvp(tangent, index, out, pieces, inner, start, stop):
    """The winner's tangent; a unit is one number of the result."""
    tangent, index, out = elements(tangent), elements(index), elements(out)
    for u in range(start, stop):
        outer = u // inner
        piece = outer * pieces + np.intp(get(index, u))
        put(out, u, get(tangent, piece * inner + (u - outer * inner)))


# ---- which traversal --------------------------------------------------------------------------


def maxout(x, out, index, outer, pieces, inner):
    """Fill `out` with the maxima, and `index`, unless it is None, with the winning pieces.

    What `run` gives back, if it is all.
    """
    data, work = (x, out, index), _work(x, out) if index is None else x.size
    if inner == 1 and outer < (count := min(crew(work), pieces // PART)):
        for u in range(outer):
            one = None if index is None else index[u : u + 1]
            _divided(x[u * pieces : (u + 1) * pieces], out[u : u + 1], one, count)
        return None
    far = far_from(pieces, index)
    if inner == 1 and pieces <= FEW:
        return run(few, outer, work, (*data, (0,) * pieces), far)
    if inner == 1:
        started = run(rows, outer, work, data, pieces)
        return started if outer >= pieces // PART else None  # however many threads there are
    choice, count = (maxout, (outer, pieces, inner)), crew(work)
    span = span_for(outer, inner, SPAN, count)
    units, numbers = outer * -(-inner // span), (pieces, inner, span, far)
    return run_tiles(choice, count, columns, units, work, data, *numbers)


def far_from(pieces, index):
    """From how many bytes on maxima, or their index, go around the caches.

    With the pieces they would take all of the last one; of more than seven they are a small part.
    """
    return 2 * FAR_FROM // min(pieces + (1 if index is None else 2), 8)


def _work(x, out):
    """What is read, and the maxima that are written: half of it is what a copy of it would move."""
    number = max(4, x.itemsize) if x.dtype.kind in "fV" else x.itemsize  # bytes, as it is compared
    return (x.size + out.size) * number // 8


def _divided(x, out, index, count):
    """One unit by parts, two for each thread and the rest: their winners, of those the winner."""
    size = x.size // (2 * count)
    whole, rest = x.size // size, x.size % size
    best = np.empty(whole + (rest > 0), out.dtype)
    front: Any = None
    back: Any = None
    winner: Any = None
    if index is not None:
        winners, winner = np.empty(best.size, index.dtype), np.empty(1, index.dtype)
        front, back = winners[:whole], winners[whole:]
    run(rows, whole, x.size, (x[: whole * size], best[:whole], front), size)
    if rest:
        run(rows, 1, rest, (x[whole * size :], best[whole:], back), rest)
    run(rows, 1, best.size, (best, out, winner), best.size)
    if index is not None:
        part = winner[0].item()
        index[0] = part * size + winners[part].item()


def vjp(g, index, out, outer, pieces, inner):
    """Fill `out` with g at the winning pieces and zeros elsewhere; an empty g stands for ones."""
    data = g, index, out
    if inner == 1 and pieces <= FEW:
        return run(vjp_few, outer, out.size, (*data, (0,) * pieces), FAR_FROM)
    if inner == 1:
        return run(vjp_rows, outer, out.size, data, pieces)
    if pieces > COUNTED:
        return run(vjp_many, outer, out.size, data, pieces, inner)
    choice, count = (vjp, (outer, pieces, inner)), crew(out.size)
    span = span_for(outer, inner, SPAN, count)
    units, numbers = outer * -(-inner // span), (pieces, inner, span, FAR_FROM)
    return run_tiles(choice, count, vjp_columns, units, out.size, data, *numbers)


def jvps(tangent, index, out, outer, pieces, inner):
    """Fill `out` with the tangents of the winning pieces."""
    run(jvp, index.size, index.size, (tangent, index, out), pieces, inner)


def check_range(index, found, pieces):
    """Set `found[0]` if an index is none of a piece. What `run` gives back."""
    spans = -(-index.size // SPAN)
    return run(outside, spans, index.size // 4, (index, found, None), pieces)  # quick work
