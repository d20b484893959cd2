"""y = exp(βx − max βx) / Σ exp(βx − max βx), which knows only β: softmin's, softmax2d's weights.

The order of a slice's sums is told in `slices`. Exponentials are raised by a power of two, and
their sums with them. It cancels in the quotient. In a slice of several chunks an entry's is
exp(βx − m_c), m_c the largest βx of its chunk, and is weighted by exp(m_c − m) / Σ.
"""

from typing import Any

import numpy as np
from numba import cuda

from numba_acts._cuda.exponential import chunk_weight, exponent_law, lowered, raised_exp, weighted
from numba_acts._cuda.lanes import (
    WARP,
    afresh,
    arrive_early,
    lane,
    maximum,
    pairs,
    syncthreads,
    times,
    wait,
)
from numba_acts._cuda.launch import Memory, as_tuple, planned, run, specialised
from numba_acts._cuda.memory import WIDE_BYTES, computed, fetched, get, like, put
from numba_acts._cuda.slices import (
    CHUNK_LANES,
    COLUMN_THREADS,
    JOIN_LANES,
    JOINED,
    NOTHING,
    ROW_THREADS,
    SPAN,
    access_of,
    bring,
    cluster_place,
    column_base,
    column_blocks,
    column_of,
    column_threads,
    columns_for,
    fill,
    finite,
    gather,
    give,
    group_max,
    group_sum,
    images_for,
    images_of,
    images_together,
    joining_warps,
    keep,
    lanes_max,
    lanes_sum,
    largest,
    order,
    place_of,
    read,
    read_signed,
    row_of,
    row_threads,
    rows_for,
    scatter,
    send,
    sent,
    shared_max,
    shared_sum,
    spread_blocks,
    spread_bytes,
    spread_for,
    spread_sizes,
    spread_threads,
    take,
    tile_bytes,
    tile_of,
    total,
    vectors_of,
    width_of,
    within,
    words_of,
    write,
    write_masked,
)


@lane
def powers_sum(numbers, shift, law, sums, vectors, vector):
    """A warp's numbers of a chunk become exp(number − shift), and this is their sum."""
    for e in range(len(vectors) * len(vector)):
        numbers[e] = raised_exp(numbers[e] - shift, law)
    return lanes_sum(total(numbers, 0, 1, sums, (0,), vectors, vector), 1, WARP)


@lane
def kept_largest(tile, at, left, registers, sign, nothing, ways):
    """The largest of a thread's numbers of a chunk that are kept in a tile, a vector at a time."""
    vectors, vector, _, words, step, apart, fetches = ways
    m = nothing
    for k in range(len(vectors)):
        if k * step < left:
            read(tile, at + k * apart, registers, 0, vector, words)
            for v in range(len(vector)):
                m = maximum(m, registers[v] * sign if fetches else registers[v])
    return m


@lane
def kept_powers_sum(tile, at, left, registers, sign, shift, law, sums, zero, ways):
    """As `powers_sum`, of these."""
    vectors, vector, _, words, step, apart, fetches = ways
    for k in range(len(vectors)):
        sums[k] = zero
        if k * step < left:
            read(tile, at + k * apart, registers, 0, vector, words)
            for v in range(len(vector)):
                number = registers[v] * sign if fetches else registers[v]
                registers[v] = raised_exp(number - shift, law)
            write(registers, 0, tile, at + k * apart, vector, words)
            sums[k] = pairs(registers, 0, 1, vector)
    return lanes_sum(pairs(sums, 0, 1, vectors), 1, WARP)


# ---- rows ------------------------------------------------------------------------------------


@specialised(row_threads)
def rows(lanes, together, vectors, vector, access, masked, partial, dtype):
    """Contiguous slices, held in registers: one read and one write of memory.

    A row has `lanes` threads: a part of a warp, which then holds several rows, and `together` times
    as many in turn, so that enough bytes are under way; a warp; or several warps, which meet in
    shared memory. If `partial`, a block takes one chunk of a longer row and leaves its maximum and
    sum in `out`.
    """
    width, count, warps = len(vector), len(vector) * len(vectors), (0,) * max(1, lanes // WARP)
    per_block = ROW_THREADS // lanes if lanes <= WARP else 1
    one, last = (0,), min(lanes, WARP)
    room, deep = together * count, len(vectors)

    def kernel(x, mask, out, outer, n, parts, sign, high, low, floor):
        law = like(out, sign), like(out, high), like(out, low), like(out, floor)
        zero = like(out, 0.0)
        numbers = cuda.local.array(room, dtype)
        powers = cuda.local.array(count, dtype)
        sums = cuda.local.array(deep, dtype)
        bits = cuda.local.array(width, np.uint8)
        shared_maxima = cuda.shared.array(WARP, dtype)
        shared_sums = cuda.shared.array(WARP, dtype)
        thread = np.int64(cuda.threadIdx.x)
        block = np.int64(cuda.blockIdx.x)
        first, chunk = row_of(thread, block, lanes, together * per_block, parts, partial)
        start = (chunk * (lanes * len(vectors)) + thread % lanes) * width
        place_of_warp = thread % WARP == 0, thread // WARP
        for u in range(together):
            row = first + u * per_block
            for k in range(len(vectors)):
                i = start + k * (lanes * width)
                at = (u * len(vectors) + k) * width
                if row < outer and i < n:
                    place = row * n + i
                    read_signed(x, mask, masked, bits, place, numbers, at, vector, access, law[0])
                else:
                    fill(numbers, at, vector, NOTHING)
        for u in range(together):
            row, at = first + u * per_block, u * count
            m = largest(numbers, at, 1, count)
            m = group_max(m, last, warps, shared_maxima, place_of_warp)
            shift = finite(m, zero) if partial else m
            for e in range(count):
                powers[e] = raised_exp(numbers[at + e] - shift, law)
            s = total(powers, 0, 1, sums, one, vectors, vector)
            s = group_sum(s, last, warps, shared_sums, place_of_warp)
            if partial:
                if thread == 0:
                    put(out, 2 * block, m)
                    put(out, 2 * block + 1, s)
            else:
                weight = like(out, 1.0) / s
                for e in range(count):
                    powers[e] = powers[e] * weight
                for k in range(len(vectors)):
                    i = start + k * (lanes * width)
                    if row < outer and i < n:
                        place, at = row * n + i, k * width
                        write_masked(powers, at, mask, masked, bits, out, place, vector, access)

    return kernel


@specialised(spread_threads, spread_bytes(1), spread_blocks(1))
def spread(chunks, held, clustered, vectors, vector, access, fetches, masked, dtype):
    """Rows of several chunks, one read and one write: a block has a row, or a cluster of blocks.

    A block has as many chunks side by side as `chunks` is long, a thread a lane of one in registers
    and, unless all are `held` there, of another in shared memory. The maxima and sums of all chunks
    go to every block of the cluster, whose warps join them each for itself.
    """
    width, count, side = len(vector), len(vector) * len(vectors), len(chunks)
    sizes = spread_sizes(chunks, held, clustered, vectors, vector)
    own, size, step, apart, warps, in_chunk, quarters = sizes
    many, meeting = len(in_chunk), len(in_chunk) * own
    table, parted = len(quarters) * WARP, len(quarters)
    deep, words = len(vectors), words_of(access, dtype)
    ways = vectors, vector, access, words, step, apart, fetches

    def kernel(x, mask, out, n, parts, sign, high, low, floor):
        law = like(out, sign), like(out, high), like(out, low), like(out, floor)
        zero, nothing = like(out, 0.0), like(out, NOTHING)
        numbers = cuda.local.array(count, dtype)
        powers = cuda.local.array(count, dtype)
        sums = cuda.local.array(deep, dtype)
        values = cuda.local.array(many, dtype)
        joined = cuda.local.array(parted, dtype)
        bits = cuda.local.array(width, np.uint8)
        shared_maxima = cuda.shared.array(meeting, dtype)
        shared_sums = cuda.shared.array(meeting, dtype)
        all_maxima = cuda.shared.array(table, dtype)
        all_sums = cuda.shared.array(table, dtype)
        tile = cuda.shared.array(0, dtype, alignment=WIDE_BYTES)
        thread = np.int64(cuda.threadIdx.x)
        block = np.int64(cuda.blockIdx.x)
        if clustered:
            arrive_early()
        row, rank, _ = cluster_place(block, clustered)
        base = row * n
        first = place_of(thread, rank, own, size, width)
        later, mine = first + side * size, thread * width
        if not held:
            left = within(n - later, size)
            keep(x, mask, masked, bits, law[0], base + later, left, tile, mine, powers, ways)
        t = afresh(thread, zero)
        first = place_of(t, rank, own, size, width)
        left = within(n - first, size)
        for k in range(len(vectors)):
            if k * step < left:
                i, at = base + first + k * step, k * width
                read_signed(x, mask, masked, bits, i, numbers, at, vector, access, law[0])
            else:
                fill(numbers, k * width, vector, nothing)
        warp, writes = t // WARP, t % WARP == 0
        m = lanes_max(largest(numbers, 0, 1, count), 1, WARP)
        if writes:
            shared_maxima[warp] = m
        if not held:
            fetched()
            t = afresh(thread, m)
            _, rank, _ = cluster_place(block, clustered)
            later, mine = place_of(t, rank, own, size, width) + side * size, t * width
            left = within(n - later, size)
            m = lanes_max(kept_largest(tile, mine, left, powers, law[0], nothing, ways), 1, WARP)
            if writes:
                shared_maxima[warps + warp] = m
        syncthreads()
        t = afresh(thread, m)
        warp, writes = t // WARP, t % WARP == 0
        take(shared_maxima, warp // many * many, 1, values, in_chunk)
        s = powers_sum(
            numbers, finite(largest(values, 0, 1, many), zero), law, sums, vectors, vector
        )
        if writes:
            shared_sums[warp] = s
        if not held:
            t = afresh(thread, s)
            _, rank, _ = cluster_place(block, clustered)
            warp, writes = t // WARP, t % WARP == 0
            later, mine = place_of(t, rank, own, size, width) + side * size, t * width
            left = within(n - later, size)
            take(shared_maxima, warps + warp // many * many, 1, values, in_chunk)
            shift = finite(largest(values, 0, 1, many), zero)
            s = kept_powers_sum(tile, mine, left, powers, law[0], shift, law, sums, zero, ways)
            if writes:
                shared_sums[warps + warp] = s
        syncthreads()
        if clustered:
            wait()
        t = afresh(thread, s)
        _, rank, ranks = cluster_place(block, clustered)
        if t < own * ranks:
            to = t // own
            c = t - to * own
            place = rank * own + c
            take(shared_maxima, c * len(in_chunk), 1, values, in_chunk)
            m = largest(values, 0, 1, len(in_chunk))
            take(shared_sums, c * len(in_chunk), 1, values, in_chunk)
            s = pairs(values, 0, 1, in_chunk)
            send(all_maxima, place, to, m, clustered)
            send(all_sums, place, to, s, clustered)
        sent(clustered)
        m = nothing
        for q in range(len(quarters)):
            c = q * WARP + t % WARP
            if c < parts:
                m = maximum(m, all_maxima[c])
        m = lanes_max(m, 1, WARP)
        for q in range(len(quarters)):
            c = q * WARP + t % WARP
            s = zero
            if c < parts:
                scale = lowered(raised_exp(all_maxima[c] - finite(m, zero), law))
                s = times(all_sums[c], scale)
            joined[q] = lanes_sum(s, 1, WARP)
        weight = like(out, 1.0) / pairs(joined, 0, 1, quarters)
        t = afresh(thread, weight)
        row, rank, _ = cluster_place(block, clustered)
        base = row * n
        warp, first = t // WARP, place_of(t, rank, own, size, width)
        later, mine = first + side * size, t * width
        take(shared_maxima, warp // many * many, 1, values, in_chunk)
        share = chunk_weight(largest(values, 0, 1, many), m, weight, law)
        left = within(n - first, size)
        for e in range(count):
            numbers[e] = weighted(numbers[e], share)
        for k in range(len(vectors)):
            if k * step < left:
                i, at = base + first + k * step, k * width
                write_masked(numbers, at, mask, masked, bits, out, i, vector, access)
        if not held:
            take(shared_maxima, warps + warp // many * many, 1, values, in_chunk)
            share = chunk_weight(largest(values, 0, 1, many), m, weight, law)
            left = within(n - later, size)
            for k in range(len(vectors)):
                if k * step < left:
                    read(tile, mine + k * apart, powers, 0, vector, words)
                    for v in range(width):
                        powers[v] = weighted(powers[v], share)
                    i = base + later + k * step
                    write_masked(powers, 0, mask, masked, bits, out, i, vector, access)

    return kernel


# ---- columns ---------------------------------------------------------------------------------


@specialised(column_threads, blocks=column_blocks)
def columns(neighbours, shares, slots, vectors, vector, across, exact, masked, partial, dtype):
    """Slices whose numbers lie apart, held in registers: one read and one write of memory.

    Consecutive threads take consecutive columns, counted through all images, as many at once as the
    tuple `across` is long. Where a slice is too long for a thread, several share it, as the rows'
    lanes would: a block is `neighbours` threads wide, and each has the numbers of as many lanes as
    `slots` is long. Where a thread has whole slices, `exact` is how long they are, else 0. If
    `partial`, a block takes one chunk of longer slices, as in `rows`.
    """
    width, step, meets = len(vector), len(across), len(shares) > 1
    count, own = len(slots) * len(vectors) * width, len(slots)
    lanes = own * len(shares)
    chunk_size = lanes * len(vectors) * width
    in_warp = min(neighbours, WARP)
    parts_of_block = (0,) * max(1, neighbours * len(shares) // WARP * in_warp // neighbours)
    room, deep, many = count * step, own * len(vectors), len(parts_of_block)
    meeting = many * step
    places, words = many * neighbours * step, words_of(across, dtype)

    def kernel(x, mask, out, outer, n, inner, parts, sign, high, low, floor):
        law = like(out, sign), like(out, high), like(out, low), like(out, floor)
        zero = like(out, 0.0)
        numbers = cuda.local.array(room, dtype)
        sums = cuda.local.array(deep, dtype)
        values = cuda.local.array(meeting, dtype)
        bits = cuda.local.array(step, np.uint8)
        maxima = cuda.local.array(step, dtype)
        totals = cuda.local.array(step, dtype)
        shared_maxima = cuda.shared.array(places, dtype, alignment=WIDE_BYTES)
        shared_sums = cuda.shared.array(places, dtype, alignment=WIDE_BYTES)
        thread = np.int64(cuda.threadIdx.x)
        block = np.int64(cuda.blockIdx.x)
        mine, share, where = column_of(thread, neighbours, in_warp)
        tile, part = tile_of(block, parts, partial)
        column = (tile * neighbours + mine) * step
        alive = column < outer * inner
        first = part * chunk_size + share * (own * width)
        base = column_base(column, n, inner) + first * inner
        left = within(n - first, chunk_size) if alive else np.int32(0)
        for b in range(own):
            for k in range(len(vectors)):
                for v in range(width):
                    i = b * width + k * (lanes * width) + v
                    at = ((b * len(vectors) + k) * width + v) * step
                    if alive and i < exact if exact else i < left:
                        place = base + i * inner
                        read_signed(
                            x, mask, masked, bits, place, numbers, at, across, across, law[0]
                        )
                    else:
                        fill(numbers, at, across, NOTHING)
        for u in range(step):
            maxima[u] = largest(numbers, u, step, count)
        shared_max(
            maxima, meets, shared_maxima, where, in_warp, values, parts_of_block, across, words
        )
        for u in range(step):
            shift = finite(maxima[u], zero) if partial else maxima[u]
            for e in range(count):
                at = e * step + u
                numbers[at] = raised_exp(numbers[at] - shift, law)
            totals[u] = total(numbers, u, step, sums, slots, vectors, vector)
        shared_sum(
            totals, meets, shared_sums, where, in_warp, values, parts_of_block, across, words
        )
        for u in range(step):
            if partial:
                if share == 0 and alive:
                    put(out, 2 * (column * parts + part), maxima[u])
                    put(out, 2 * (column * parts + part) + 1, totals[u])
            else:
                weight = like(out, 1.0) / totals[u]
                for e in range(count):
                    numbers[e * step + u] = numbers[e * step + u] * weight
        if not partial:
            first_y = numbers[0]
            base, inner = afresh(base, first_y), afresh(inner, first_y)
            for b in range(own):
                for k in range(len(vectors)):
                    for v in range(width):
                        i = b * width + k * (lanes * width) + v
                        at = ((b * len(vectors) + k) * width + v) * step
                        if alive and i < exact if exact else i < left:
                            place = base + i * inner
                            write_masked(
                                numbers, at, mask, masked, bits, out, place, across, across
                            )

    return kernel


@specialised(column_threads, tile_bytes(1))
def images(
    neighbours,
    shares,
    slots,
    vectors,
    vector,
    n,
    inner,
    together,
    rounds,
    access,
    fetches,
    masked,
    dtype,
):
    """Whole images of few positions, side by side in a tile of shared memory.

    A warp that reads such channels, some 7 × 7 numbers long, one by one touches up to twice the
    sectors that they fill. A block takes `together` images instead, which lie in memory as one,
    in the widest accesses; finds their columns in the tile, by threads as in `columns`, a few at a
    time; leaves the results in their places and writes the tile as it was read.
    """
    width, split, own, one = len(vector), len(shares) > 1, len(slots), (0,)
    count, lanes, threads = own * len(vectors) * width, own * len(shares), neighbours * len(shares)
    in_warp = min(neighbours, WARP)
    parts_of_block = (0,) * max(1, threads // WARP * in_warp // neighbours)
    deep, many, wide = own * len(vectors), len(parts_of_block), len(access)
    meeting, room = many * neighbours, max(count, len(rounds) * wide)
    ways = rounds, access, words_of(access, dtype), threads, fetches

    def kernel(x, mask, out, outer, sign, high, low, floor):
        law = like(out, sign), like(out, high), like(out, low), like(out, floor)
        nothing = like(out, NOTHING)
        numbers = cuda.local.array(room, dtype)
        sums = cuda.local.array(deep, dtype)
        values = cuda.local.array(many, dtype)
        found = cuda.local.array(1, dtype)
        bits = cuda.local.array(wide, np.uint8)
        shared_maxima = cuda.shared.array(meeting, dtype)
        shared_sums = cuda.shared.array(meeting, dtype)
        tile = cuda.shared.array(0, dtype, alignment=WIDE_BYTES)
        thread = np.int64(cuda.threadIdx.x)
        block = np.int64(cuda.blockIdx.x)
        live, start, end = images_of(block, outer, n, inner, together)
        mine, share, where = column_of(thread, neighbours, in_warp)
        share = share * (own * width)
        bring(x, mask, masked, bits, law[0], start, end, numbers, tile, 0, thread, ways)
        fetched()
        syncthreads()
        sign_left = law[0] if fetches else like(out, 1.0)
        for side in range(0, live, neighbours):
            column = side + mine
            base = column_base(column, n, inner) + share * inner
            left = within(n - share, n) if column < live else np.int32(0)
            gather(
                tile, base, left, inner, lanes, slots, vectors, vector, numbers, sign_left, nothing
            )
            found[0] = largest(numbers, 0, 1, count)
            shared_max(
                found, split, shared_maxima, where, in_warp, values, parts_of_block, one, one
            )
            for e in range(count):
                numbers[e] = raised_exp(numbers[e] - found[0], law)
            found[0] = total(numbers, 0, 1, sums, slots, vectors, vector)
            shared_sum(found, split, shared_sums, where, in_warp, values, parts_of_block, one, one)
            weight = like(out, 1.0) / found[0]
            for e in range(count):
                numbers[e] = numbers[e] * weight
            scatter(numbers, tile, base, left, inner, lanes, slots, vectors, vector)
        syncthreads()
        give(tile, mask, masked, bits, numbers, out, start, end, thread, ways)

    return kernel


# ---- long slices -----------------------------------------------------------------------------


@specialised(lambda *constants: JOIN_LANES)
def join(warps, together, dtype):
    """The maxima and sums of a long slice's chunks joined, a block a slice: leaves (m, 1/s)."""
    lanes, count = len(warps) * WARP, len(together)

    def kernel(sums, out, parts, sign, high, low, floor):
        law = like(out, sign), like(out, high), like(out, low), like(out, floor)
        zero, nothing = like(out, 0.0), like(out, NOTHING)
        maxima = cuda.local.array(count, dtype)
        totals = cuda.local.array(count, dtype)
        shared_maxima = cuda.shared.array(WARP, dtype)
        shared_sums = cuda.shared.array(WARP, dtype)
        thread = np.int64(cuda.threadIdx.x)
        block = np.int64(cuda.blockIdx.x)
        place_of_warp, first = (thread % WARP == 0, thread // WARP), block * parts
        m = nothing
        for start in range(thread, parts, lanes * count):
            for j in range(count):
                c = start + j * lanes
                maxima[j] = get(sums, 2 * (first + c)) if c < parts else nothing
            m = maximum(m, largest(maxima, 0, 1, count))
        m = group_max(m, WARP, warps, shared_maxima, place_of_warp)
        s = zero
        for start in range(thread, parts, lanes * count):
            for j in range(count):
                c = start + j * lanes
                maxima[j] = get(sums, 2 * (first + c)) if c < parts else nothing
                totals[j] = get(sums, 2 * (first + c) + 1) if c < parts else zero
            for j in range(count):
                scale = lowered(raised_exp(maxima[j] - finite(m, zero), law))
                s = s + times(totals[j], scale)
        s = group_sum(s, WARP, warps, shared_sums, place_of_warp)
        if thread == 0:
            put(out, 2 * block, m)
            put(out, 2 * block + 1, like(out, 1.0) / s)

    return kernel


@specialised(lambda *constants: CHUNK_LANES)
def finish_rows(vectors, vector, access, masked, dtype):
    """Second reading of long contiguous slices, a block a chunk, and their result.

    The last comes first: what was read last may still be in a cache.
    """
    width, chunk = len(vector), CHUNK_LANES * len(vectors) * len(vector)
    count = len(vectors) * width

    def kernel(x, mask, sums, stats, out, n, parts, last, sign, high, low, floor):
        law = like(out, sign), like(out, high), like(out, low), like(out, floor)
        numbers = cuda.local.array(count, dtype)
        bits = cuda.local.array(width, np.uint8)
        block = last - np.int64(cuda.blockIdx.x)
        row = block // parts
        start = (block - row * parts) * chunk + np.int64(cuda.threadIdx.x) * width
        m = get(sums, 2 * block)
        share = chunk_weight(m, get(stats, 2 * row), get(stats, 2 * row + 1), law)
        shift = finite(m, like(out, 0.0))
        for k in range(len(vectors)):
            i = start + k * (CHUNK_LANES * width)
            if i < n:
                place, at = row * n + i, k * width
                read_signed(x, mask, masked, bits, place, numbers, at, vector, access, law[0])
        for e in range(count):
            numbers[e] = weighted(raised_exp(numbers[e] - shift, law), share)
        for k in range(len(vectors)):
            i = start + k * (CHUNK_LANES * width)
            if i < n:
                place, at = row * n + i, k * width
                write_masked(numbers, at, mask, masked, bits, out, place, vector, access)

    return kernel


@specialised(lambda *constants: COLUMN_THREADS)
def finish_columns(span, chunk, masked, dtype):
    """Second reading of long slices whose numbers lie apart: a thread a span of one's chunk."""
    one, many = (0,), len(span)

    def kernel(x, mask, sums, stats, out, outer, n, inner, parts, spans, sign, high, low, floor):
        law = like(out, sign), like(out, high), like(out, low), like(out, floor)
        numbers = cuda.local.array(many, dtype)
        bits = cuda.local.array(1, np.uint8)
        block = np.int64(cuda.blockIdx.x)
        tile = block // spans
        first = (block - tile * spans) * many
        part = first // chunk
        column = tile * COLUMN_THREADS + np.int64(cuda.threadIdx.x)
        base = column_base(column, n, inner)
        if column < outer * inner:
            m = get(sums, 2 * (column * parts + part))
            share = chunk_weight(m, get(stats, 2 * column), get(stats, 2 * column + 1), law)
            shift = finite(m, like(out, 0.0))
            for e in range(len(span)):
                if first + e < n:
                    place = base + (first + e) * inner
                    read_signed(x, mask, masked, bits, place, numbers, e, one, one, law[0])
            for e in range(len(span)):
                numbers[e] = weighted(raised_exp(numbers[e] - shift, law), share)
            for e in range(len(span)):
                if first + e < n:
                    place = base + (first + e) * inner
                    write_masked(numbers, e, mask, masked, bits, out, place, one, one)

    return kernel


# ---- which traversal -------------------------------------------------------------------------


def softmax(x: Memory, mask: Memory, out: Memory, outer: int, n: int, inner: int, beta: float):
    """Fill `out` with y. `mask` holds bytes, or none for no mask."""
    plan = planned(_softmax, (x, mask, out), outer, n, inner, beta)
    if plan[0] is None:
        _long_softmax(x, mask, out, outer, n, inner, beta)
    else:
        run(*plan)


def _softmax(
    x: Memory, mask: Memory, out: Memory, outer: int, n: int, inner: int, beta: float
) -> Any:
    """The kernel, its blocks and its further arguments; None if a slice takes several."""
    dtype = computed(out.dtype)
    law, masked, arrays = exponent_law(beta, dtype), mask.size > 0, (x, mask, out)
    ordered = order(n, out.dtype, width_of(x, out), 1)
    access = access_of(ordered.vector, x, mask, out)
    if inner == 1 and ordered.chunks == 1:
        kernel, blocks = rows_for(rows, 1, ordered, access, arrays, outer, (masked, False, dtype))
        return kernel, blocks, (outer, n, 1, *law)
    if inner == 1:
        found = spread_for(spread, 1, ordered, access, arrays, outer, (masked, dtype))
        return (*found, (n, ordered.chunks, *law)) if found else (None, 0, ())
    together = images_together(1, ordered, arrays, outer, n, inner)
    if together:
        given = 1, ordered, arrays, outer, n, inner, together, (masked, dtype)
        kernel, blocks = images_for(images, *given)
        return kernel, blocks, (outer, *law)
    if ordered.chunks == 1:
        kernel, blocks = columns_for(columns, ordered, arrays, outer, n, inner, masked)
        return kernel, blocks, (outer, n, inner, 1, *law)
    return None, 0, ()


def _long_softmax(
    x: Memory, mask: Memory, out: Memory, outer: int, n: int, inner: int, beta: float
) -> None:
    """Chunks, their join, and the second reading."""
    dtype = computed(out.dtype)
    law, masked = exponent_law(beta, dtype), mask.size > 0
    ordered = order(n, out.dtype, width_of(x, out), 1)
    access = access_of(ordered.vector, x, mask, out)
    parts, slices, arrays = ordered.chunks, outer * inner, (x, mask, out)
    sums, stats = (out.queue.empty(2 * slices * count, dtype) for count in (parts, 1))
    if inner == 1:
        kernel, _ = rows_for(rows, 1, ordered, access, arrays, outer, (masked, True, dtype))
        run(kernel, slices * parts, x, mask, sums, outer, n, parts, *law)
    else:
        kernel, blocks = columns_for(columns, ordered, arrays, outer, n, inner, masked)
        run(kernel, blocks, x, mask, sums, outer, n, inner, parts, *law)
    run(join(joining_warps(), as_tuple(JOINED), dtype), slices, sums, stats, parts, *law)
    if inner == 1:
        kernel = finish_rows(as_tuple(ordered.vectors), *vectors_of(ordered, access), masked, dtype)
        last = slices * parts - 1
        run(kernel, slices * parts, x, mask, sums, stats, out, n, parts, last, *law)
    else:
        spans = -(-n // SPAN)
        blocks = -(-slices // COLUMN_THREADS) * spans
        kernel = finish_columns(as_tuple(SPAN), ordered.chunk, masked, dtype)
        run(kernel, blocks, x, mask, sums, stats, out, outer, n, inner, parts, spans, *law)
