"""β y (g − ⟨g, y⟩): the Jacobian's product with a cotangent or, as it is symmetric, a tangent.

The order of a slice's sums is told in `slices`.
"""

from typing import Any

import numpy as np
from numba import cuda

from numba_acts._cuda.exponential import factor
from numba_acts._cuda.lanes import (
    WARP,
    afresh,
    arrive_early,
    lane,
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
    gather,
    give,
    group_sum,
    images_for,
    images_of,
    images_together,
    joining_warps,
    keep,
    lanes_sum,
    order,
    place_of,
    read,
    row_of,
    row_threads,
    rows_for,
    scatter,
    send,
    sent,
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
)


@lane
def products(ours, theirs, terms, at, step, count):
    """terms[e] = g·y of a thread's numbers of a slice."""
    for e in range(count):
        terms[e] = times(ours[at + e * step], theirs[at + e * step])


@lane
def kept(tile, at, left, registers, zero, ways):
    """A thread's numbers of a chunk that are kept in a tile, to registers."""
    vectors, vector, _, words, step, apart, _ = ways
    for k in range(len(vectors)):
        if k * step < left:
            read(tile, at + k * apart, registers, k * len(vector), vector, words)
        else:
            fill(registers, k * len(vector), vector, zero)


# ---- rows ------------------------------------------------------------------------------------


@specialised(row_threads)
def rows(lanes, together, vectors, vector, access, partial, dtype):
    """Contiguous slices, by threads as in `forward`: one read of g and of y and one write."""
    width, count, warps = len(vector), len(vector) * len(vectors), (0,) * max(1, lanes // WARP)
    per_block = ROW_THREADS // lanes if lanes <= WARP else 1
    one, last = (0,), min(lanes, WARP)
    room, deep = together * count, len(vectors)

    def kernel(g, y, out, outer, n, parts, beta):
        scale = like(y, beta)
        ours = cuda.local.array(room, dtype)
        theirs = cuda.local.array(room, dtype)
        terms = cuda.local.array(count, dtype)
        sums = cuda.local.array(deep, dtype)
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
                    read(g, row * n + i, ours, at, vector, access)
                    read(y, row * n + i, theirs, at, vector, access)
                else:
                    fill(ours, at, vector, 0)
                    fill(theirs, at, vector, 0)
        for u in range(together):
            row, at = first + u * per_block, u * count
            products(ours, theirs, terms, at, 1, count)
            s = total(terms, 0, 1, sums, one, vectors, vector)
            s = group_sum(s, last, warps, shared_sums, place_of_warp)
            if partial:
                if thread == 0:
                    put(out, block, s)
            else:
                for e in range(count):
                    theirs[at + e] = theirs[at + e] * scale * (ours[at + e] - s)
                for k in range(len(vectors)):
                    i = start + k * (lanes * width)
                    if row < outer and i < n:
                        write(theirs, at + k * width, out, row * n + i, vector, access)

    return kernel


@specialised(spread_threads, spread_bytes(2), spread_blocks(2))
def spread(chunks, held, clustered, vectors, vector, access, fetches, dtype):
    """Rows of several chunks, of a block or a cluster as in `forward`: one read each, one write."""
    width, count, side = len(vector), len(vector) * len(vectors), len(chunks)
    sizes = spread_sizes(chunks, held, clustered, vectors, vector)
    own, size, step, apart, warps, in_chunk, quarters = sizes
    many, meeting = len(in_chunk), len(in_chunk) * own
    table, parted = len(quarters) * WARP, len(quarters)
    deep, words, whole, one = len(vectors), words_of(access, dtype), side * size, (0,)
    ways = vectors, vector, access, words, step, apart, fetches

    def kernel(g, y, out, n, parts, beta):
        scale, zero, unsigned = like(y, beta), like(y, 0.0), like(y, 1.0)
        ours = cuda.local.array(count, dtype)
        theirs = cuda.local.array(count, dtype)
        some = cuda.local.array(count, dtype)
        others = cuda.local.array(count, dtype)
        terms = cuda.local.array(count, dtype)
        sums = cuda.local.array(deep, dtype)
        values = cuda.local.array(many, dtype)
        joined = cuda.local.array(parted, dtype)
        bits = cuda.local.array(1, np.uint8)
        shared_sums = cuda.shared.array(meeting, dtype)
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
            left, i = within(n - later, size), base + later
            keep(g, g, False, bits, unsigned, i, left, tile, mine, some, ways)
            keep(y, y, False, bits, unsigned, i, left, tile, whole + mine, some, ways)
        left = within(n - first, size)
        for k in range(len(vectors)):
            at = k * width
            if k * step < left:
                read(g, base + first + k * step, ours, at, vector, access)
                read(y, base + first + k * step, theirs, at, vector, access)
            else:
                fill(ours, at, vector, 0)
                fill(theirs, at, vector, 0)
        warp, writes = thread // WARP, thread % WARP == 0
        products(ours, theirs, terms, 0, 1, count)
        s = lanes_sum(total(terms, 0, 1, sums, one, vectors, vector), 1, WARP)
        if writes:
            shared_sums[warp] = s
        if not held:
            fetched()
            left = within(n - later, size)
            kept(tile, mine, left, some, zero, ways)
            kept(tile, whole + mine, left, others, zero, ways)
            products(some, others, terms, 0, 1, count)
            s = lanes_sum(total(terms, 0, 1, sums, one, vectors, vector), 1, WARP)
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
            take(shared_sums, c * len(in_chunk), 1, values, in_chunk)
            s = pairs(values, 0, 1, in_chunk)
            send(all_sums, rank * own + c, to, s, clustered)
        sent(clustered)
        for q in range(len(quarters)):
            c = q * WARP + t % WARP
            joined[q] = lanes_sum(all_sums[c] if c < parts else zero, 1, WARP)
        s = pairs(joined, 0, 1, quarters)
        t = afresh(thread, s)
        row, rank, _ = cluster_place(block, clustered)
        base = row * n
        first = place_of(t, rank, own, size, width)
        later, mine = first + side * size, t * width
        left = within(n - first, size)
        for e in range(count):
            theirs[e] = theirs[e] * scale * (ours[e] - s)
        for k in range(len(vectors)):
            if k * step < left:
                write(theirs, k * width, out, base + first + k * step, vector, access)
        if not held:
            left = within(n - later, size)
            kept(tile, mine, left, some, zero, ways)
            kept(tile, whole + mine, left, others, zero, ways)
            for e in range(count):
                others[e] = others[e] * scale * (some[e] - s)
            for k in range(len(vectors)):
                if k * step < left:
                    write(others, k * width, out, base + later + k * step, vector, access)

    return kernel


# ---- columns ---------------------------------------------------------------------------------


@specialised(column_threads, blocks=column_blocks)
def columns(neighbours, shares, slots, vectors, vector, across, exact, partial, dtype):
    """Slices whose numbers lie apart, by threads as in `forward`: one read each and one write."""
    width, step, meets = len(vector), len(across), len(shares) > 1
    count, own = len(slots) * len(vectors) * width, len(slots)
    lanes = own * len(shares)
    chunk_size = lanes * len(vectors) * width
    in_warp = min(neighbours, WARP)
    parts_of_block = (0,) * max(1, neighbours * len(shares) // WARP * in_warp // neighbours)
    room, deep, many = count * step, own * len(vectors), len(parts_of_block)
    meeting = many * step
    places, words = many * neighbours * step, words_of(across, dtype)

    def kernel(g, y, out, outer, n, inner, parts, beta):
        scale = like(y, beta)
        ours = cuda.local.array(room, dtype)
        theirs = cuda.local.array(room, dtype)
        terms = cuda.local.array(count, dtype)
        sums = cuda.local.array(deep, dtype)
        values = cuda.local.array(meeting, dtype)
        dots = cuda.local.array(step, dtype)
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
                        read(g, base + i * inner, ours, at, across, across)
                        read(y, base + i * inner, theirs, at, across, across)
                    else:
                        fill(ours, at, across, 0)
                        fill(theirs, at, across, 0)
        for u in range(step):
            products(ours, theirs, terms, u, step, count)
            dots[u] = total(terms, 0, 1, sums, slots, vectors, vector)
        shared_sum(dots, meets, shared_sums, where, in_warp, values, parts_of_block, across, words)
        for u in range(step):
            if partial:
                if share == 0 and alive:
                    put(out, column * parts + part, dots[u])
            else:
                for e in range(count):
                    at = e * step + u
                    theirs[at] = theirs[at] * scale * (ours[at] - dots[u])
        if not partial:
            base, inner = afresh(base, dots[0]), afresh(inner, dots[0])
            for b in range(own):
                for k in range(len(vectors)):
                    for v in range(width):
                        i = b * width + k * (lanes * width) + v
                        at = ((b * len(vectors) + k) * width + v) * step
                        if alive and i < exact if exact else i < left:
                            write(theirs, at, out, base + i * inner, across, across)

    return kernel


@specialised(column_threads, tile_bytes(2))
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
    dtype,
):
    """Whole images of few positions, by threads as in `forward`, in a tile of g and one of y."""
    width, split, own, one = len(vector), len(shares) > 1, len(slots), (0,)
    count, lanes, threads = own * len(vectors) * width, own * len(shares), neighbours * len(shares)
    in_warp = min(neighbours, WARP)
    parts_of_block = (0,) * max(1, threads // WARP * in_warp // neighbours)
    deep, many, whole = own * len(vectors), len(parts_of_block), together * n * inner
    meeting, room = many * neighbours, max(count, len(rounds) * len(access))
    ways = rounds, access, words_of(access, dtype), threads, fetches

    def kernel(g, y, out, outer, beta):
        scale, zero, unsigned = like(y, beta), like(y, 0.0), like(y, 1.0)
        ours = cuda.local.array(room, dtype)
        theirs = cuda.local.array(count, dtype)
        terms = cuda.local.array(count, dtype)
        sums = cuda.local.array(deep, dtype)
        values = cuda.local.array(many, dtype)
        dots = cuda.local.array(1, dtype)
        bits = cuda.local.array(1, np.uint8)
        shared_sums = cuda.shared.array(meeting, dtype)
        tile = cuda.shared.array(0, dtype, alignment=WIDE_BYTES)
        thread = np.int64(cuda.threadIdx.x)
        block = np.int64(cuda.blockIdx.x)
        live, start, end = images_of(block, outer, n, inner, together)
        mine, share, where = column_of(thread, neighbours, in_warp)
        share = share * (own * width)
        bring(g, g, False, bits, unsigned, start, end, ours, tile, 0, thread, ways)
        bring(y, y, False, bits, unsigned, start, end, ours, tile, whole, thread, ways)
        fetched()
        syncthreads()
        for side in range(0, live, neighbours):
            column = side + mine
            base = column_base(column, n, inner) + share * inner
            left = within(n - share, n) if column < live else np.int32(0)
            gather(tile, base, left, inner, lanes, slots, vectors, vector, ours, unsigned, zero)
            gather(
                tile,
                whole + base,
                left,
                inner,
                lanes,
                slots,
                vectors,
                vector,
                theirs,
                unsigned,
                zero,
            )
            products(ours, theirs, terms, 0, 1, count)
            dots[0] = total(terms, 0, 1, sums, slots, vectors, vector)
            shared_sum(dots, split, shared_sums, where, in_warp, values, parts_of_block, one, one)
            for e in range(count):
                theirs[e] = theirs[e] * scale * (ours[e] - dots[0])
            scatter(theirs, tile, base, left, inner, lanes, slots, vectors, vector)
            if split:
                syncthreads()  # all have taken this turn's sums before the next turn's come
        syncthreads()
        give(tile, g, False, bits, ours, out, start, end, thread, ways)

    return kernel


# ---- long slices -----------------------------------------------------------------------------


@specialised(lambda *constants: JOIN_LANES)
def join(warps, together, dtype):
    """The sums of a long slice's chunks added, a block a slice."""
    lanes, count = len(warps) * WARP, len(together)

    def kernel(sums, out, parts):
        zero = like(out, 0.0)
        totals = cuda.local.array(count, dtype)
        shared_sums = cuda.shared.array(WARP, dtype)
        thread = np.int64(cuda.threadIdx.x)
        block = np.int64(cuda.blockIdx.x)
        s = zero
        for start in range(thread, parts, lanes * count):
            for j in range(count):
                c = start + j * lanes
                totals[j] = get(sums, block * parts + c) if c < parts else zero
            for j in range(count):
                s = s + totals[j]
        place_of_warp = thread % WARP == 0, thread // WARP
        s = group_sum(s, WARP, warps, shared_sums, place_of_warp)
        if thread == 0:
            put(out, block, s)

    return kernel


@specialised(lambda *constants: CHUNK_LANES)
def finish_rows(vectors, vector, access, dtype):
    """Second reading of long contiguous slices, a block a chunk, the last first: their product."""
    width, chunk = len(vector), CHUNK_LANES * len(vectors) * len(vector)
    count = len(vectors) * width

    def kernel(g, y, sums, out, n, parts, last, beta):
        scale = like(y, beta)
        ours = cuda.local.array(count, dtype)
        theirs = cuda.local.array(count, dtype)
        block = last - np.int64(cuda.blockIdx.x)
        row = block // parts
        start = (block - row * parts) * chunk + np.int64(cuda.threadIdx.x) * width
        s = get(sums, row)
        for k in range(len(vectors)):
            i = start + k * (CHUNK_LANES * width)
            if i < n:
                read(g, row * n + i, ours, k * width, vector, access)
                read(y, row * n + i, theirs, k * width, vector, access)
        for e in range(count):
            theirs[e] = theirs[e] * scale * (ours[e] - s)
        for k in range(len(vectors)):
            i = start + k * (CHUNK_LANES * width)
            if i < n:
                write(theirs, k * width, out, row * n + i, vector, access)

    return kernel


@specialised(lambda *constants: COLUMN_THREADS)
def finish_columns(span, dtype):
    """Second reading of long slices whose numbers lie apart: a thread a span of a column."""
    one, many = (0,), len(span)

    def kernel(g, y, sums, out, outer, n, inner, spans, beta):
        scale = like(y, beta)
        ours = cuda.local.array(many, dtype)
        theirs = cuda.local.array(many, dtype)
        tile = np.int64(cuda.blockIdx.x) // spans
        first = (np.int64(cuda.blockIdx.x) - tile * spans) * len(span)
        column = tile * COLUMN_THREADS + np.int64(cuda.threadIdx.x)
        base = column_base(column, n, inner)
        if column < outer * inner:
            s = get(sums, column)
            for e in range(len(span)):
                if first + e < n:
                    read(g, base + (first + e) * inner, ours, e, one, one)
                    read(y, base + (first + e) * inner, theirs, e, one, one)
            for e in range(len(span)):
                theirs[e] = theirs[e] * scale * (ours[e] - s)
            for e in range(len(span)):
                if first + e < n:
                    write(theirs, e, out, base + (first + e) * inner, one, one)

    return kernel


# ---- which traversal -------------------------------------------------------------------------


def product(g: Memory, y: Memory, out: Memory, outer: int, n: int, inner: int, beta: float):
    """Fill `out` with β y (g − ⟨g, y⟩), the product of the Jacobian with g."""
    plan = planned(_product, (g, y, out), outer, n, inner, beta)
    if plan[0] is None:
        _long_product(g, y, out, outer, n, inner, beta)
    else:
        run(*plan)


def _product(g: Memory, y: Memory, out: Memory, outer: int, n: int, inner: int, beta: float) -> Any:
    """The kernel, its blocks and its further arguments; None if a slice takes several."""
    dtype = computed(out.dtype)
    scale, arrays = factor(beta, dtype), (g, y, out)
    ordered = order(n, out.dtype, width_of(g, y, out), 2)
    access = access_of(ordered.vector, g, y, out)
    if inner == 1 and ordered.chunks == 1:
        kernel, blocks = rows_for(rows, 2, ordered, access, arrays, outer, (False, dtype))
        return kernel, blocks, (outer, n, 1, scale)
    if inner == 1:
        found = spread_for(spread, 2, ordered, access, arrays, outer, (dtype,))
        return (*found, (n, ordered.chunks, scale)) if found else (None, 0, ())
    together = images_together(2, ordered, arrays, outer, n, inner)
    if together:
        given = 2, ordered, arrays, outer, n, inner, together, (dtype,)
        kernel, blocks = images_for(images, *given)
        return kernel, blocks, (outer, scale)
    if ordered.chunks == 1:
        kernel, blocks = columns_for(columns, ordered, arrays, outer, n, inner)
        return kernel, blocks, (outer, n, inner, 1, scale)
    return None, 0, ()


def _long_product(
    g: Memory, y: Memory, out: Memory, outer: int, n: int, inner: int, beta: float
) -> None:
    """Chunks, their join, and the second reading."""
    dtype = computed(out.dtype)
    scale = factor(beta, dtype)
    ordered = order(n, out.dtype, width_of(g, y, out), 2)
    access = access_of(ordered.vector, g, y, out)
    parts, slices, arrays = ordered.chunks, outer * inner, (g, y, out)
    sums, dots = (out.queue.empty(slices * count, dtype) for count in (parts, 1))
    if inner == 1:
        kernel, _ = rows_for(rows, 2, ordered, access, arrays, outer, (True, dtype))
        run(kernel, slices * parts, g, y, sums, outer, n, parts, scale)
    else:
        kernel, blocks = columns_for(columns, ordered, arrays, outer, n, inner)
        run(kernel, blocks, g, y, sums, outer, n, inner, parts, scale)
    run(join(joining_warps(), as_tuple(JOINED), dtype), slices, sums, dots, parts)
    if inner == 1:
        kernel = finish_rows(as_tuple(ordered.vectors), *vectors_of(ordered, access), dtype)
        run(kernel, slices * parts, g, y, dots, out, n, parts, slices * parts - 1, scale)
    else:
        spans = -(-n // SPAN)
        blocks = -(-slices // COLUMN_THREADS) * spans
        kernel = finish_columns(as_tuple(SPAN), dtype)
        run(kernel, blocks, g, y, dots, out, outer, n, inner, spans, scale)
