"""y = exp(βx − max βx) / Σ exp(βx − max βx) and its derivative, which know only β.

Arrays come flat, as C-contiguous (outer, n, inner); a slice is the n numbers of one (outer, inner).
However a slice lies in memory and whatever runs beside it, its sums are taken in the same order, so
that it has one answer, bit for bit. The order follows from n and the dtype alone. A slice is cut
into chunks, and number ``v + V (t + T k)`` of a chunk is the v-th in the k-th vector of the t-th
lane; numbers are added over v, then over k, then over t, then over chunks, each time in pairs,
neighbours first. A chunk is shifted by its own maximum, so that no sum waits for another chunk.

A lane of that order need not be a thread: one that holds several lanes' numbers adds them in the
same pairs. Numbers that a slice has not are −inf, whose exponential adds nothing, or products of 0.

Exponentials are raised by a power of two, and their sums with them. It cancels in the quotient.
"""

import math as _math
from typing import Any, NamedTuple

import numpy as np
from numba import cuda

from numba_acts.cuda.launch import Kernel, Memory, device, planned, run, specialised
from numba_acts.cuda.math import (
    WARP,
    WIDE_BYTES,
    afresh,
    computed,
    exchange,
    exponent_law,
    factor,
    get,
    lane,
    like,
    load,
    lowered,
    maximum,
    pairs,
    put,
    raised_exp,
    store,
    store_once,
    times,
)

# Chosen by counting bytes in flight and registers for compute capability 9.0, to be tuned on one.
NUMBERS = {np.float32: 32, np.float64: 16}  # that a thread holds
CHUNK_LANES = 128  # of a whole chunk
ROW_THREADS = 128  # in a block, for rows of a warp or less
AHEAD = 16  # numbers of float32 that a thread loads before it needs the first, from several rows
TOGETHER = 8  # rows at most, for that
CHUNKS = 8  # that a block holds in registers
COLUMN_THREADS = 128  # in a block, where a thread holds a slice of its own
SHARED_THREADS = 512  # of a multiprocessor, where warps share slices
ALONE = 32  # numbers of each operand at most, for that
TOGETHER_COLUMNS = 64  # numbers of float32 in all, of neighbouring columns in a thread
JOIN_LANES = 128  # that join the sums of a slice's chunks
NARROW = 8  # columns at least that a block reads side by side: 32 bytes of float32, a sector
SPAN = 32  # numbers of a long column that a thread writes
SECTOR_BYTES = 32  # that memory moves at once
STAGED_BYTES = 256  # of a channel at most, for images that pass through shared memory
TILE_BYTES = 24 << 10  # of images that a block takes together
MEETING_BYTES = 8 << 10  # of shared memory at most, in which warps meet
JACOBIAN_THREADS = 256
CACHED = 0.4  # of the L2 cache, for long slices that are read twice while it holds them

_NOTHING = -np.inf  # the argument of an entry without weight


# ---- the order of a slice ---------------------------------------------------------------------


class Order(NamedTuple):
    """In which order n numbers are added."""

    vector: int  # V, neighbours in a vector
    lanes: int  # T
    vectors: int  # of each lane
    chunk: int  # numbers in a chunk, n if there is one
    chunks: int


def order(n: int, dtype: np.dtype, width: int, operands: int) -> Order:
    """The order of n numbers of each operand; `width` of them are accessed at once at most."""
    numbers = NUMBERS[computed(dtype)] // operands
    vector = _math.gcd(n, width)
    whole = CHUNK_LANES * numbers
    chunks = -(-n // whole)
    chunk = n if chunks == 1 else whole
    lanes = min(_power(-(-chunk // vector)), WARP)
    while lanes * numbers < chunk:
        lanes *= 2
    return Order(vector, lanes, -(-chunk // (vector * lanes)), chunk, chunks)


def _power(number: int) -> int:
    """The least power of two that is not below."""
    return 1 << (number - 1).bit_length()


def _width(*arrays: Memory) -> int:
    """How many elements of each array an access takes, at most."""
    return WIDE_BYTES // max(array.dtype.itemsize for array in arrays)


def _access(vector: int, *arrays: Memory) -> tuple[int, ...]:
    """How many elements are accessed at once, as a tuple of so many."""
    whole = all(array.aligned(vector) for array in arrays if array.size)
    return (0,) * (vector if whole else 1)


def _words(access: tuple[int, ...], dtype: Any) -> tuple[int, ...]:
    """How many numbers of an access are written to shared memory at once."""
    return access[: WIDE_BYTES // np.dtype(dtype).itemsize]


# ---- a slice ----------------------------------------------------------------------------------


@lane
def total(registers, at, step, sums, slots, vectors, vector):
    """The sum of a thread's numbers of a slice, `step` apart from `at` on; the tuples are counts.

    `sums` is room for one number of each vector.
    """
    for b in range(len(slots) * len(vectors)):
        sums[b] = pairs(registers, at + b * len(vector) * step, step, vector)
    for s in range(len(slots)):
        sums[s] = pairs(sums, s * len(vectors), 1, vectors)
    return pairs(sums, 0, 1, slots)


@lane
def largest(registers, at, step, count):
    m = registers[at]
    for e in range(1, count):
        m = maximum(m, registers[at + e * step])
    return m


@lane
def lanes_max(m, first, last):
    """The largest of the lanes whose numbers differ in the bits from `first` up to `last`."""
    distance = first
    while distance < last:
        m = maximum(m, exchange(m, distance))
        distance *= 2
    return m


@lane
def lanes_sum(s, first, last):
    """The sum over these lanes, neighbours first."""
    distance = first
    while distance < last:
        s = s + exchange(s, distance)
        distance *= 2
    return s


@lane
def take(shared, first, step, values, parts):
    """What several parts of a block have left in shared memory."""
    for a in range(len(parts)):
        values[a] = shared[first + a * step]


@lane
def meet(value, shared, writes, here, first, step, values, parts):
    """Each part of a block leaves its value `here`; all threads wait, and take those of theirs."""
    if writes:
        shared[here] = value
    cuda.syncthreads()
    take(shared, first, step, values, parts)


@lane
def shared_max(m, split, shared, where, in_warp, values, parts):
    """The largest over the threads that share a column, if it is `split` between several."""
    if split:
        writes, here, mine = where
        m = lanes_max(m, in_warp, WARP)
        meet(m, shared, writes, here, mine, in_warp, values, parts)
        m = largest(values, 0, 1, len(parts))
    return m


@lane
def shared_sum(s, split, shared, where, in_warp, values, parts):
    """The sum over these threads."""
    if split:
        writes, here, mine = where
        s = lanes_sum(s, in_warp, WARP)
        meet(s, shared, writes, here, mine, in_warp, values, parts)
        s = pairs(values, 0, 1, parts)
    return s


@lane
def finite(m, zero):
    """A shift that leaves −inf as it is: a chunk with no weight in it adds nothing."""
    return zero if m == _NOTHING else m


@lane
def within(left, most):
    """How many numbers are left, as far as it matters: few bits are quickly compared."""
    return np.int32(left if left < most else most)


# ---- reading and writing ----------------------------------------------------------------------


@lane
def fill(registers, at, vector, value):
    for v in range(len(vector)):
        registers[at + v] = value


@lane
def read(x, i, registers, at, vector, access):
    """A vector of x, at once or number by number."""
    for a in range(0, len(vector), len(access)):
        load(x, i + a, registers, at + a, access)


@lane
def read_signed(x, mask, masked, bits, i, registers, at, vector, access, sign):
    """A vector of sign·x, −inf where the mask is 0; `bits` is room for the mask's."""
    read(x, i, registers, at, vector, access)
    for v in range(len(vector)):
        registers[at + v] = registers[at + v] * sign
    if masked:
        read(mask, i, bits, 0, vector, access)
        for v in range(len(vector)):
            if bits[v] == 0:
                registers[at + v] = _NOTHING


@lane
def write(registers, at, out, i, vector, access):
    for a in range(0, len(vector), len(access)):
        store(out, i + a, registers, at + a, access)


@lane
def write_masked(registers, at, mask, masked, bits, out, i, vector, access):
    if masked:
        read(mask, i, bits, 0, vector, access)
        for v in range(len(vector)):
            if bits[v] == 0:
                registers[at + v] = 0
    write(registers, at, out, i, vector, access)


@lane
def bring(x, mask, masked, bits, sign, start, end, numbers, tile, at, thread, ways):
    """sign·x from `start` on, −inf where the mask is 0, to a tile of shared memory, in its order.

    A thread has as many accesses under way as `rounds` is long.
    """
    rounds, access, words, threads = ways
    width, step = len(access), threads * len(access)
    for first in range(thread * width, end, step * len(rounds)):
        for r in range(len(rounds)):
            i = first + r * step
            if i < end:
                place = start + i
                read_signed(x, mask, masked, bits, place, numbers, r * width, access, access, sign)
        for r in range(len(rounds)):
            i = first + r * step
            if i < end:
                write(numbers, r * width, tile, at + i, access, words)


@lane
def give(tile, mask, masked, bits, numbers, out, start, end, thread, ways):
    """A tile to `out` from `start` on, 0 where the mask is."""
    _, access, words, threads = ways
    for i in range(thread * len(access), end, threads * len(access)):
        read(tile, i, numbers, 0, access, words)
        write_masked(numbers, 0, mask, masked, bits, out, start + i, access, access)


@lane
def gather(tile, base, left, inner, lanes, slots, vectors, vector, numbers, nothing):
    """A thread's numbers of a column of a tile, as far as there are any left."""
    width = len(vector)
    for b in range(len(slots)):
        for k in range(len(vectors)):
            for v in range(width):
                i = b * width + k * (lanes * width) + v
                at = (b * len(vectors) + k) * width + v
                numbers[at] = nothing
                if i < left:
                    load(tile, base + i * inner, numbers, at, (0,))


@lane
def scatter(numbers, tile, base, left, inner, lanes, slots, vectors, vector):
    """These numbers, back to their places."""
    width = len(vector)
    for b in range(len(slots)):
        for k in range(len(vectors)):
            for v in range(width):
                i = b * width + k * (lanes * width) + v
                at = (b * len(vectors) + k) * width + v
                if i < left:
                    store(tile, base + i * inner, numbers, at, (0,))


# ---- forward ----------------------------------------------------------------------------------


def _row_threads(lanes, chunks, *others):
    return lanes * len(chunks) if lanes > WARP else ROW_THREADS


@lane
def tile_of(block, parts, partial):
    """Which row or columns a block has, and which part of them."""
    if partial:
        tile = block // parts
        return tile, block - tile * parts
    return block, block * 0


@lane
def row_of(thread, block, lanes, per_block, parts, partial, chunked):
    """A thread's first row and its chunk of it: of the block's only row, of a part, of its rows."""
    group = thread // lanes
    if chunked:
        return block, group
    if partial:
        return tile_of(block, parts, partial)
    return block * per_block + group, group * 0


@lane
def column_base(column, n, inner):
    """Where a column begins, counted through all images."""
    image = column // inner
    return image * n * inner + column - image * inner


@lane
def column_of(thread, neighbours, in_warp):
    """A thread's column in its block, its share of it, and where it meets the others."""
    mine = thread % neighbours
    where = thread % WARP < in_warp, thread // WARP * in_warp + mine, mine
    return mine, thread // neighbours, where


@lane
def images_of(block, outer, n, inner, together):
    """How many columns a block's images have, where their numbers begin, and how many they are."""
    first = block * together
    live = min(together, outer - first) * inner
    return live, first * (n * inner), live * n


@specialised(_row_threads)
def rows(lanes, chunks, together, vectors, vector, access, masked, partial, dtype):
    """Contiguous slices, held in registers: one read and one write of memory.

    Each chunk of a row has `lanes` threads: a part of a warp, which then holds several rows, and
    `together` times as many in turn, so that enough bytes are under way; a warp; or several warps,
    which meet in shared memory, as do the chunks of a row. If `partial`, a block takes one chunk of
    a longer row and leaves its maximum and sum in `out`.
    """
    width, count, warps = len(vector), len(vector) * len(vectors), (0,) * (lanes // WARP)
    per_block = ROW_THREADS // lanes if lanes <= WARP else 1
    several, chunked = lanes > WARP, len(chunks) > 1
    one, last, parts_of_row = (0,), min(lanes, WARP), max(len(warps), 1)
    room, deep, padded = together * count, len(vectors), _power(len(chunks))

    def kernel(x, mask, out, outer, n, parts, sign, high, low, floor):
        law = like(out, sign), like(out, high), like(out, low), like(out, floor)
        zero = like(out, 0.0)
        numbers = cuda.local.array(room, dtype)
        powers = cuda.local.array(count, dtype)
        sums = cuda.local.array(deep, dtype)
        values = cuda.local.array(parts_of_row, dtype)
        bits = cuda.local.array(width, np.uint8)
        shared_maxima = cuda.shared.array(WARP, dtype)
        shared_sums = cuda.shared.array(WARP, dtype)
        thread = np.int64(cuda.threadIdx.x)
        block = np.int64(cuda.blockIdx.x)
        first, chunk = row_of(thread, block, lanes, together * per_block, parts, partial, chunked)
        start = (chunk * (lanes * len(vectors)) + thread % lanes) * width
        writes, here = thread % WARP == 0, thread // WARP
        mine = thread // lanes * len(warps)
        for u in range(together):
            row = first + u * per_block
            for k in range(len(vectors)):
                i = start + k * (lanes * width)
                at = (u * len(vectors) + k) * width
                if row < outer and i < n:
                    place = row * n + i
                    read_signed(x, mask, masked, bits, place, numbers, at, vector, access, law[0])
                else:
                    fill(numbers, at, vector, _NOTHING)
        for u in range(together):
            row, at = first + u * per_block, u * count
            m = lanes_max(largest(numbers, at, 1, count), 1, last)
            if several:
                meet(m, shared_maxima, writes, here, mine, 1, values, warps)
                m = largest(values, 0, 1, len(warps))
            shift = finite(m, zero) if chunked or partial else m
            for e in range(count):
                powers[e] = raised_exp(numbers[at + e] - shift, law)
            s = lanes_sum(total(powers, 0, 1, sums, one, vectors, vector), 1, last)
            if several:
                meet(s, shared_sums, writes, here, mine, 1, values, warps)
                s = pairs(values, 0, 1, warps)
            if chunked:
                c = thread % padded  # a lane a chunk
                safe = (c if c < len(chunks) else len(chunks) - 1) * len(warps)
                take(shared_maxima, safe, 1, values, warps)
                m_c = largest(values, 0, 1, len(warps))
                take(shared_sums, safe, 1, values, warps)
                m = lanes_max(m_c, 1, padded)
                scale = lowered(raised_exp(m_c - finite(m, zero), law))
                s = times(pairs(values, 0, 1, warps), scale)
                s = lanes_sum(s if c < len(chunks) else zero, 1, padded)
                for e in range(count):
                    powers[e] = raised_exp(numbers[at + e] - m, law)
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


def _column_threads(neighbours, shares, *others):
    return neighbours * len(shares)


@specialised(_column_threads)
def columns(neighbours, shares, slots, vectors, vector, across, exact, masked, partial, dtype):
    """Slices whose numbers lie apart, held in registers: one read and one write of memory.

    Consecutive threads take consecutive columns, counted through all images, as many at once as the
    tuple `across` is long. Where a slice is too long for a thread, several share it, as the rows'
    lanes would: a thread is `neighbours` columns wide and has the numbers of as many lanes as
    `slots` is long. If `partial`, a block takes one chunk of longer slices, as in `rows`.
    """
    width, step, split = len(vector), len(across), len(shares) > 1
    count, own = len(slots) * len(vectors) * width, len(slots)
    lanes = own * len(shares)
    chunk_size = lanes * len(vectors) * width
    in_warp = min(neighbours, WARP)
    parts_of_block = (0,) * max(1, neighbours * len(shares) // WARP * in_warp // neighbours)
    room, deep, many = count * step, own * len(vectors), len(parts_of_block)
    meeting = many * neighbours

    def kernel(x, mask, out, outer, n, inner, parts, sign, high, low, floor):
        law = like(out, sign), like(out, high), like(out, low), like(out, floor)
        zero = like(out, 0.0)
        numbers = cuda.local.array(room, dtype)
        sums = cuda.local.array(deep, dtype)
        values = cuda.local.array(many, dtype)
        bits = cuda.local.array(step, np.uint8)
        shared_maxima = cuda.shared.array(meeting, dtype)
        shared_sums = cuda.shared.array(meeting, dtype)
        thread = np.int64(cuda.threadIdx.x)
        block = np.int64(cuda.blockIdx.x)
        mine, share, where = column_of(thread, neighbours, in_warp)
        tile, part = tile_of(block, parts, partial)
        column = (tile * neighbours + mine) * step
        base = column_base(column, n, inner)
        alive = column < outer * inner
        first = part * chunk_size + share * (own * width)
        for b in range(own):
            for k in range(len(vectors)):
                for v in range(width):
                    i = first + b * width + k * (lanes * width) + v
                    at = ((b * len(vectors) + k) * width + v) * step
                    if alive and (exact or i < n):
                        place = base + i * inner
                        read_signed(
                            x, mask, masked, bits, place, numbers, at, across, across, law[0]
                        )
                    else:
                        fill(numbers, at, across, _NOTHING)
        for u in range(step):
            m = largest(numbers, u, step, count)
            m = shared_max(m, split, shared_maxima, where, in_warp, values, parts_of_block)
            shift = finite(m, zero) if partial else m
            for e in range(count):
                at = e * step + u
                numbers[at] = raised_exp(numbers[at] - shift, law)
            s = total(numbers, u, step, sums, slots, vectors, vector)
            s = shared_sum(s, split, shared_sums, where, in_warp, values, parts_of_block)
            if partial:
                if share == 0 and alive:
                    put(out, 2 * (column * parts + part), m)
                    put(out, 2 * (column * parts + part) + 1, s)
            else:
                weight = like(out, 1.0) / s
                for e in range(count):
                    numbers[e * step + u] = numbers[e * step + u] * weight
        if not partial:
            first_y = numbers[0]
            base, inner, n = afresh(base, first_y), afresh(inner, first_y), afresh(n, first_y)
            for b in range(own):
                for k in range(len(vectors)):
                    for v in range(width):
                        i = first + b * width + k * (lanes * width) + v
                        at = ((b * len(vectors) + k) * width + v) * step
                        if alive and (exact or i < n):
                            place = base + i * inner
                            write_masked(
                                numbers, at, mask, masked, bits, out, place, across, across
                            )

    return kernel


def _tile_bytes(operands):
    """How much shared memory a tile of images takes, from a kernel's constants."""

    def shared(neighbours, shares, slots, vectors, vector, n, inner, together, *others):
        return operands * together * n * inner * np.dtype(others[-1]).itemsize

    return shared


@specialised(_column_threads, _tile_bytes(1))
def images(
    neighbours, shares, slots, vectors, vector, n, inner, together, rounds, access, masked, dtype
):
    """Whole images of few positions, side by side in a tile of shared memory.

    A warp that reads such channels, some 7 × 7 numbers long, one by one touches up to twice the
    sectors that they fill. A block takes `together` images instead, which lie in memory as one,
    in the widest accesses; finds their columns in the tile, by threads as in `columns`, a few at a
    time; leaves the results in their places and writes the tile as it was read.
    """
    width, split, own = len(vector), len(shares) > 1, len(slots)
    count, lanes, threads = own * len(vectors) * width, own * len(shares), neighbours * len(shares)
    in_warp = min(neighbours, WARP)
    parts_of_block = (0,) * max(1, threads // WARP * in_warp // neighbours)
    deep, many, wide = own * len(vectors), len(parts_of_block), len(access)
    meeting, room = many * neighbours, max(count, len(rounds) * wide)
    ways = rounds, access, _words(access, dtype), threads

    def kernel(x, mask, out, outer, sign, high, low, floor):
        law = like(out, sign), like(out, high), like(out, low), like(out, floor)
        nothing = like(out, _NOTHING)
        numbers = cuda.local.array(room, dtype)
        sums = cuda.local.array(deep, dtype)
        values = cuda.local.array(many, dtype)
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
        cuda.syncthreads()
        for side in range(0, live, neighbours):
            column = side + mine
            base = column_base(column, n, inner) + share * inner
            left = within(n - share, n) if column < live else np.int32(0)
            gather(tile, base, left, inner, lanes, slots, vectors, vector, numbers, nothing)
            m = largest(numbers, 0, 1, count)
            m = shared_max(m, split, shared_maxima, where, in_warp, values, parts_of_block)
            for e in range(count):
                numbers[e] = raised_exp(numbers[e] - m, law)
            s = total(numbers, 0, 1, sums, slots, vectors, vector)
            s = shared_sum(s, split, shared_sums, where, in_warp, values, parts_of_block)
            weight = like(out, 1.0) / s
            for e in range(count):
                numbers[e] = numbers[e] * weight
            scatter(numbers, tile, base, left, inner, lanes, slots, vectors, vector)
        cuda.syncthreads()
        give(tile, mask, masked, bits, numbers, out, start, end, thread, ways)

    return kernel


@specialised(lambda *constants: JOIN_LANES)
def join(warps, dtype):
    """The maxima and sums of a long slice's chunks joined, a block a slice: leaves (m, 1/s)."""
    many, lanes = len(warps), len(warps) * WARP

    def kernel(sums, out, parts, sign, high, low, floor):
        law = like(out, sign), like(out, high), like(out, low), like(out, floor)
        zero = like(out, 0.0)
        values = cuda.local.array(many, dtype)
        shared_maxima = cuda.shared.array(WARP, dtype)
        shared_sums = cuda.shared.array(WARP, dtype)
        thread = np.int64(cuda.threadIdx.x)
        block = np.int64(cuda.blockIdx.x)
        writes, here, first = thread % WARP == 0, thread // WARP, block * parts
        m = like(out, _NOTHING)
        for c in range(thread, parts, lanes):
            m = maximum(m, get(sums, 2 * (first + c)))
        m = lanes_max(m, 1, WARP)
        meet(m, shared_maxima, writes, here, 0, 1, values, warps)
        m = largest(values, 0, 1, len(warps))
        s = zero
        for c in range(thread, parts, lanes):
            scale = lowered(raised_exp(get(sums, 2 * (first + c)) - finite(m, zero), law))
            s = s + times(get(sums, 2 * (first + c) + 1), scale)
        s = lanes_sum(s, 1, WARP)
        meet(s, shared_sums, writes, here, 0, 1, values, warps)
        s = pairs(values, 0, 1, warps)
        if thread == 0:
            put(out, 2 * block, m)
            put(out, 2 * block + 1, like(out, 1.0) / s)

    return kernel


@specialised(lambda *constants: CHUNK_LANES)
def finish_rows(vectors, vector, access, masked, dtype):
    """Second reading of long contiguous slices, a block a chunk, and their result."""
    width, chunk = len(vector), CHUNK_LANES * len(vectors) * len(vector)
    count = len(vectors) * width

    def kernel(x, mask, joined_sums, out, n, parts, sign, high, low, floor):
        law = like(out, sign), like(out, high), like(out, low), like(out, floor)
        numbers = cuda.local.array(count, dtype)
        bits = cuda.local.array(width, np.uint8)
        block = np.int64(cuda.blockIdx.x)
        row = block // parts
        start = (block - row * parts) * chunk + np.int64(cuda.threadIdx.x) * width
        m, weight = get(joined_sums, 2 * row), get(joined_sums, 2 * row + 1)
        for k in range(len(vectors)):
            i = start + k * (CHUNK_LANES * width)
            if i < n:
                place, at = row * n + i, k * width
                read_signed(x, mask, masked, bits, place, numbers, at, vector, access, law[0])
        for e in range(count):
            numbers[e] = raised_exp(numbers[e] - m, law) * weight
        for k in range(len(vectors)):
            i = start + k * (CHUNK_LANES * width)
            if i < n:
                place, at = row * n + i, k * width
                write_masked(numbers, at, mask, masked, bits, out, place, vector, access)

    return kernel


@specialised(lambda *constants: COLUMN_THREADS)
def finish_columns(span, masked, dtype):
    """Second reading of long slices whose numbers lie apart: a thread a span of a column."""
    one, many = (0,), len(span)

    def kernel(x, mask, joined_sums, out, outer, n, inner, spans, sign, high, low, floor):
        law = like(out, sign), like(out, high), like(out, low), like(out, floor)
        numbers = cuda.local.array(many, dtype)
        bits = cuda.local.array(1, np.uint8)
        tile = np.int64(cuda.blockIdx.x) // spans
        first = (np.int64(cuda.blockIdx.x) - tile * spans) * len(span)
        column = tile * COLUMN_THREADS + np.int64(cuda.threadIdx.x)
        base = column_base(column, n, inner)
        if column < outer * inner:
            m, weight = get(joined_sums, 2 * column), get(joined_sums, 2 * column + 1)
            for e in range(len(span)):
                if first + e < n:
                    place = base + (first + e) * inner
                    read_signed(x, mask, masked, bits, place, numbers, e, one, one, law[0])
            for e in range(len(span)):
                numbers[e] = raised_exp(numbers[e] - m, law) * weight
            for e in range(len(span)):
                if first + e < n:
                    place = base + (first + e) * inner
                    write_masked(numbers, e, mask, masked, bits, out, place, one, one)

    return kernel


# ---- product: vjp = jvp = β y (g − ⟨g, y⟩) ----------------------------------------------------


@lane
def products(ours, theirs, terms, at, step, count):
    """terms[e] = g·y of a thread's numbers of a slice."""
    for e in range(count):
        terms[e] = times(ours[at + e * step], theirs[at + e * step])


@specialised(_row_threads)
def product_rows(lanes, chunks, together, vectors, vector, access, partial, dtype):
    """Contiguous slices, by threads as in `rows`: one read of g and of y and one write."""
    width, count, warps = len(vector), len(vector) * len(vectors), (0,) * (lanes // WARP)
    per_block = ROW_THREADS // lanes if lanes <= WARP else 1
    several, chunked = lanes > WARP, len(chunks) > 1
    one, last, parts_of_row = (0,), min(lanes, WARP), max(len(warps), 1)
    room, deep, padded = together * count, len(vectors), _power(len(chunks))

    def kernel(g, y, out, outer, n, parts, beta):
        scale, zero = like(y, beta), like(y, 0.0)
        ours = cuda.local.array(room, dtype)
        theirs = cuda.local.array(room, dtype)
        terms = cuda.local.array(count, dtype)
        sums = cuda.local.array(deep, dtype)
        values = cuda.local.array(parts_of_row, dtype)
        shared_sums = cuda.shared.array(WARP, dtype)
        thread = np.int64(cuda.threadIdx.x)
        block = np.int64(cuda.blockIdx.x)
        first, chunk = row_of(thread, block, lanes, together * per_block, parts, partial, chunked)
        start = (chunk * (lanes * len(vectors)) + thread % lanes) * width
        writes, here = thread % WARP == 0, thread // WARP
        mine = thread // lanes * len(warps)
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
            s = lanes_sum(total(terms, 0, 1, sums, one, vectors, vector), 1, last)
            if several:
                meet(s, shared_sums, writes, here, mine, 1, values, warps)
                s = pairs(values, 0, 1, warps)
            if chunked:
                c = thread % padded  # a lane a chunk
                safe = (c if c < len(chunks) else len(chunks) - 1) * len(warps)
                take(shared_sums, safe, 1, values, warps)
                s = pairs(values, 0, 1, warps)
                s = lanes_sum(s if c < len(chunks) else zero, 1, padded)
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


@specialised(_column_threads)
def product_columns(neighbours, shares, slots, vectors, vector, across, exact, partial, dtype):
    """Slices whose numbers lie apart, by threads as in `columns`: one read each and one write."""
    width, step, split = len(vector), len(across), len(shares) > 1
    count, own = len(slots) * len(vectors) * width, len(slots)
    lanes = own * len(shares)
    chunk_size = lanes * len(vectors) * width
    in_warp = min(neighbours, WARP)
    parts_of_block = (0,) * max(1, neighbours * len(shares) // WARP * in_warp // neighbours)
    room, deep, many = count * step, own * len(vectors), len(parts_of_block)
    meeting = many * neighbours

    def kernel(g, y, out, outer, n, inner, parts, beta):
        scale = like(y, beta)
        ours = cuda.local.array(room, dtype)
        theirs = cuda.local.array(room, dtype)
        terms = cuda.local.array(count, dtype)
        sums = cuda.local.array(deep, dtype)
        values = cuda.local.array(many, dtype)
        shared_sums = cuda.shared.array(meeting, dtype)
        thread = np.int64(cuda.threadIdx.x)
        block = np.int64(cuda.blockIdx.x)
        mine, share, where = column_of(thread, neighbours, in_warp)
        tile, part = tile_of(block, parts, partial)
        column = (tile * neighbours + mine) * step
        base = column_base(column, n, inner)
        alive = column < outer * inner
        first = part * chunk_size + share * (own * width)
        left = within(n - first, chunk_size) if alive else np.int32(0)
        base = base + first * inner
        for b in range(own):
            for k in range(len(vectors)):
                for v in range(width):
                    i = b * width + k * (lanes * width) + v
                    at = ((b * len(vectors) + k) * width + v) * step
                    if alive if exact else i < left:
                        read(g, base + i * inner, ours, at, across, across)
                        read(y, base + i * inner, theirs, at, across, across)
                    else:
                        fill(ours, at, across, 0)
                        fill(theirs, at, across, 0)
        for u in range(step):
            products(ours, theirs, terms, u, step, count)
            s = total(terms, 0, 1, sums, slots, vectors, vector)
            s = shared_sum(s, split, shared_sums, where, in_warp, values, parts_of_block)
            if partial:
                if share == 0 and alive:
                    put(out, column * parts + part, s)
            else:
                for e in range(count):
                    at = e * step + u
                    theirs[at] = theirs[at] * scale * (ours[at] - s)
        if not partial:
            base, inner = afresh(base, s), afresh(inner, s)
            for b in range(own):
                for k in range(len(vectors)):
                    for v in range(width):
                        i = b * width + k * (lanes * width) + v
                        at = ((b * len(vectors) + k) * width + v) * step
                        if alive if exact else i < left:
                            write(theirs, at, out, base + i * inner, across, across)

    return kernel


@specialised(_column_threads, _tile_bytes(2))
def product_images(
    neighbours, shares, slots, vectors, vector, n, inner, together, rounds, access, dtype
):
    """Whole images of few positions, by threads as in `images`, in a tile of g and one of y."""
    width, split, own = len(vector), len(shares) > 1, len(slots)
    count, lanes, threads = own * len(vectors) * width, own * len(shares), neighbours * len(shares)
    in_warp = min(neighbours, WARP)
    parts_of_block = (0,) * max(1, threads // WARP * in_warp // neighbours)
    deep, many, whole = own * len(vectors), len(parts_of_block), together * n * inner
    meeting, room = many * neighbours, max(count, len(rounds) * len(access))
    ways = rounds, access, _words(access, dtype), threads

    def kernel(g, y, out, outer, beta):
        scale, zero, unsigned = like(y, beta), like(y, 0.0), like(y, 1.0)
        ours = cuda.local.array(room, dtype)
        theirs = cuda.local.array(count, dtype)
        terms = cuda.local.array(count, dtype)
        sums = cuda.local.array(deep, dtype)
        values = cuda.local.array(many, dtype)
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
        cuda.syncthreads()
        for side in range(0, live, neighbours):
            column = side + mine
            base = column_base(column, n, inner) + share * inner
            left = within(n - share, n) if column < live else np.int32(0)
            gather(tile, base, left, inner, lanes, slots, vectors, vector, ours, zero)
            gather(tile, whole + base, left, inner, lanes, slots, vectors, vector, theirs, zero)
            products(ours, theirs, terms, 0, 1, count)
            s = total(terms, 0, 1, sums, slots, vectors, vector)
            s = shared_sum(s, split, shared_sums, where, in_warp, values, parts_of_block)
            for e in range(count):
                theirs[e] = theirs[e] * scale * (ours[e] - s)
            scatter(theirs, tile, base, left, inner, lanes, slots, vectors, vector)
            if split:
                cuda.syncthreads()  # all have taken this turn's sums before the next turn's come
        cuda.syncthreads()
        give(tile, g, False, bits, ours, out, start, end, thread, ways)

    return kernel


@specialised(lambda *constants: JOIN_LANES)
def product_join(warps, dtype):
    """The sums of a long slice's chunks added, a block a slice."""
    many, lanes = len(warps), len(warps) * WARP

    def kernel(sums, out, parts):
        values = cuda.local.array(many, dtype)
        shared_sums = cuda.shared.array(WARP, dtype)
        thread = np.int64(cuda.threadIdx.x)
        block = np.int64(cuda.blockIdx.x)
        s = like(out, 0.0)
        for c in range(thread, parts, lanes):
            s = s + get(sums, block * parts + c)
        s = lanes_sum(s, 1, WARP)
        meet(s, shared_sums, thread % WARP == 0, thread // WARP, 0, 1, values, warps)
        if thread == 0:
            put(out, block, pairs(values, 0, 1, warps))

    return kernel


@specialised(lambda *constants: CHUNK_LANES)
def product_finish_rows(vectors, vector, access, dtype):
    """Second reading of long contiguous slices, a block a chunk, and their product."""
    width, chunk = len(vector), CHUNK_LANES * len(vectors) * len(vector)
    count = len(vectors) * width

    def kernel(g, y, sums, out, n, parts, beta):
        scale = like(y, beta)
        ours = cuda.local.array(count, dtype)
        theirs = cuda.local.array(count, dtype)
        block = np.int64(cuda.blockIdx.x)
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
def product_finish_columns(span, dtype):
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


# ---- Jacobian: β (y_i δ_ij − y_i y_j) ---------------------------------------------------------


@specialised(lambda *constants: JACOBIAN_THREADS)
def jacobian_rows(lanes, vector, dtype):
    """Matrices of contiguous slices: `lanes` threads write row i of one; y comes from caches."""
    width, per_block = len(vector), JACOBIAN_THREADS // lanes

    def kernel(y, out, outer, n, beta):
        scale = like(y, beta)
        numbers = cuda.local.array(width, dtype)
        thread = np.int64(cuda.threadIdx.x)
        row = np.int64(cuda.blockIdx.x) * per_block + thread // lanes
        if row < outer * n:
            first = row // n * n
            i, mine = row - first, like(y, get(y, row))
            for j in range(thread % lanes * width, n, lanes * width):
                load(y, first + j, numbers, 0, vector)
                for v in range(width):
                    if i == j + v:
                        numbers[v] = scale * (mine * (like(y, 1.0) - mine))
                    else:
                        numbers[v] = -scale * (mine * numbers[v])
                store_once(out, row * n + j, numbers, 0, vector)

    return kernel


@specialised(lambda *constants: JACOBIAN_THREADS)
def jacobian_columns(vector, dtype):
    """Matrices of slices whose numbers lie apart: a thread writes row i of some neighbours'."""
    width = len(vector)

    def kernel(y, out, outer, n, inner, beta):
        scale = like(y, beta)
        numbers = cuda.local.array(width, dtype)
        mine = cuda.local.array(width, dtype)
        thread = np.int64(cuda.blockIdx.x) * JACOBIAN_THREADS + np.int64(cuda.threadIdx.x)
        unit = thread * width // inner
        p = thread * width - unit * inner
        if unit < outer * n:
            first = unit // n * n
            i = unit - first
            load(y, unit * inner + p, mine, 0, vector)
            for j in range(n):
                load(y, (first + j) * inner + p, numbers, 0, vector)
                for v in range(width):
                    if i == j:
                        numbers[v] = scale * (mine[v] * (like(y, 1.0) - mine[v]))
                    else:
                        numbers[v] = -scale * (mine[v] * numbers[v])
                store_once(out, (unit * n + j) * inner + p, numbers, 0, vector)

    return kernel


@specialised(lambda *constants: JACOBIAN_THREADS)
def diagonal(vector, dtype):
    """β y (1 − y), number by number."""
    width = len(vector)

    def kernel(y, out, size, beta):
        scale = like(y, beta)
        numbers = cuda.local.array(width, dtype)
        thread = np.int64(cuda.blockIdx.x) * JACOBIAN_THREADS + np.int64(cuda.threadIdx.x)
        if thread * width < size:
            load(y, thread * width, numbers, 0, vector)
            for v in range(width):
                numbers[v] = scale * (numbers[v] * (like(y, 1.0) - numbers[v]))
            store_once(out, thread * width, numbers, 0, vector)

    return kernel


# ---- which traversal --------------------------------------------------------------------------


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
    law, masked = exponent_law(beta, dtype), mask.size > 0
    ordered = order(n, out.dtype, _width(x, out), 1)
    if inner == 1 and ordered.chunks <= CHUNKS:
        access = _access(ordered.vector, x, mask, out)
        kernel, blocks = _rows(rows, 1, ordered, access, outer, (masked, False, dtype))
        return kernel, blocks, (outer, n, 1, *law)
    together = _together(1, ordered, (x, mask, out), outer, n, inner)
    if together:
        given = 1, ordered, (x, mask, out), outer, n, inner, together, (masked, dtype)
        kernel, blocks = _images(images, *given)
        return kernel, blocks, (outer, *law)
    if inner > 1 and ordered.chunks == 1:
        kernel, blocks = _columns(columns, ordered, (x, mask, out), outer, n, inner, masked)
        return kernel, blocks, (outer, n, inner, 1, *law)
    return None, 0, ()


def _long_softmax(
    x: Memory, mask: Memory, out: Memory, outer: int, n: int, inner: int, beta: float
) -> None:
    """Chunks, their join, and the second reading, while a cache holds what was read."""
    dtype = computed(out.dtype)
    law, masked = exponent_law(beta, dtype), mask.size > 0
    ordered = order(n, out.dtype, _width(x, out), 1)
    access = _access(ordered.vector, x, mask, out)
    parts = ordered.chunks
    for first, images in _batches(out, outer, n, inner):
        given, bits, into = (a.past(first) if a.size else a for a in (x, mask, out))
        slices = images * inner
        sums, stats = (out.queue.empty(2 * slices * count, dtype) for count in (parts, 1))
        if inner == 1:
            one = ordered._replace(chunks=1)
            kernel, _ = _rows(rows, 1, one, access, images, (masked, True, dtype))
            run(kernel, slices * parts, given, bits, sums, images, n, parts, *law)
        else:
            arrays = given, bits, into
            kernel, blocks = _columns(columns, ordered, arrays, images, n, inner, masked)
            run(kernel, blocks, given, bits, sums, images, n, inner, parts, *law)
        run(join(_warps(), dtype), slices, sums, stats, parts, *law)
        if inner == 1:
            kernel = finish_rows(_tuple(ordered.vectors), *_vectors(ordered, access), masked, dtype)
            run(kernel, slices * parts, given, bits, stats, into, n, parts, *law)
        else:
            spans = -(-n // SPAN)
            blocks = -(-slices // COLUMN_THREADS) * spans
            kernel = finish_columns(_tuple(SPAN), masked, dtype)
            run(kernel, blocks, given, bits, stats, into, images, n, inner, spans, *law)


def product(g: Memory, y: Memory, out: Memory, outer: int, n: int, inner: int, beta: float):
    """Fill `out` with β y (g − ⟨g, y⟩), the product of the Jacobian with g."""
    plan = planned(_product, (g, y, out), outer, n, inner, beta)
    if plan[0] is None:
        _long_product(g, y, out, outer, n, inner, beta)
    else:
        run(*plan)


def _product(g: Memory, y: Memory, out: Memory, outer: int, n: int, inner: int, beta: float) -> Any:
    """As `_softmax`."""
    dtype = computed(out.dtype)
    scale = factor(beta, dtype)
    ordered = order(n, out.dtype, _width(g, y, out), 2)
    if inner == 1 and ordered.chunks <= CHUNKS:
        access = _access(ordered.vector, g, y, out)
        kernel, blocks = _rows(product_rows, 2, ordered, access, outer, (False, dtype))
        return kernel, blocks, (outer, n, 1, scale)
    together = _together(2, ordered, (g, y, out), outer, n, inner)
    if together:
        given = 2, ordered, (g, y, out), outer, n, inner, together, (dtype,)
        kernel, blocks = _images(product_images, *given)
        return kernel, blocks, (outer, scale)
    if inner > 1 and ordered.chunks == 1:
        kernel, blocks = _columns(product_columns, ordered, (g, y, out), outer, n, inner)
        return kernel, blocks, (outer, n, inner, 1, scale)
    return None, 0, ()


def _long_product(
    g: Memory, y: Memory, out: Memory, outer: int, n: int, inner: int, beta: float
) -> None:
    """As `_long_softmax`."""
    dtype = computed(out.dtype)
    scale = factor(beta, dtype)
    ordered = order(n, out.dtype, _width(g, y, out), 2)
    access = _access(ordered.vector, g, y, out)
    parts = ordered.chunks
    for first, images in _batches(out, outer, n, inner):
        given, saved, into = (a.past(first) for a in (g, y, out))
        slices = images * inner
        sums, dots = (out.queue.empty(slices * count, dtype) for count in (parts, 1))
        if inner == 1:
            one = ordered._replace(chunks=1)
            kernel, _ = _rows(product_rows, 2, one, access, images, (True, dtype))
            run(kernel, slices * parts, given, saved, sums, images, n, parts, scale)
        else:
            arrays = given, saved, into
            kernel, blocks = _columns(product_columns, ordered, arrays, images, n, inner)
            run(kernel, blocks, given, saved, sums, images, n, inner, parts, scale)
        run(product_join(_warps(), dtype), slices, sums, dots, parts)
        if inner == 1:
            constants = _tuple(ordered.vectors), *_vectors(ordered, access)
            kernel = product_finish_rows(*constants, dtype)
            run(kernel, slices * parts, given, saved, dots, into, n, parts, scale)
        else:
            spans = -(-n // SPAN)
            blocks = -(-slices // COLUMN_THREADS) * spans
            kernel = product_finish_columns(_tuple(SPAN), dtype)
            run(kernel, blocks, given, saved, dots, into, images, n, inner, spans, scale)


def jacobians(y: Memory, out: Memory, outer: int, n: int, inner: int, beta: float):
    """Fill `out`, (outer, n, n, inner), with β (y_i δ_ij − y_i y_j)."""
    run(*planned(_jacobians, (y, out), outer, n, inner, beta))


def _jacobians(y: Memory, out: Memory, outer: int, n: int, inner: int, beta: float) -> Any:
    """The kernel, its blocks and its further arguments."""
    dtype = computed(out.dtype)
    scale = factor(beta, dtype)
    vector = _access(_math.gcd(inner if inner > 1 else n, _width(y, out)), y, out)
    if inner == 1:
        lanes = min(_power(-(-n // len(vector))), JACOBIAN_THREADS)
        blocks = -(-outer * n // (JACOBIAN_THREADS // lanes))
        return jacobian_rows(lanes, vector, dtype), blocks, (outer, n, scale)
    blocks = -(-outer * n * inner // (JACOBIAN_THREADS * len(vector)))
    return jacobian_columns(vector, dtype), blocks, (outer, n, inner, scale)


def diagonals(y: Memory, out: Memory, beta: float):
    """Fill `out` with β y (1 − y)."""
    run(*planned(_diagonals, (y, out), y.size, beta))


def _diagonals(y: Memory, out: Memory, size: int, beta: float) -> Any:
    """As `_jacobians`."""
    dtype = computed(out.dtype)
    vector = _access(_math.gcd(size, _width(y, out)), y, out)
    blocks = -(-size // (JACOBIAN_THREADS * len(vector)))
    return diagonal(vector, dtype), blocks, (size, factor(beta, dtype))


def _tuple(length: int) -> tuple[int, ...]:
    return (0,) * length


def _warps() -> tuple[int, ...]:
    return _tuple(JOIN_LANES // WARP)


def _vectors(ordered: Order, access: tuple[int, ...]) -> tuple[Any, Any]:
    """The vector of an order, and in how many accesses it is read."""
    return _tuple(ordered.vector), access


def _rows(
    kernel: Any, operands: int, ordered: Order, access: Any, outer: int, more: tuple[Any, ...]
) -> tuple[Kernel, int]:
    """The kernel for rows of an order, and how many blocks there are."""
    together = 1
    if ordered.lanes <= WARP:
        loaded = operands * ordered.vectors * ordered.vector * np.dtype(more[-1]).itemsize
        together = min(TOGETHER, max(1, 4 * AHEAD // loaded))
    per_block = ROW_THREADS // ordered.lanes * together if ordered.lanes <= WARP else 1
    constants = ordered.lanes, _tuple(ordered.chunks), together, _tuple(ordered.vectors)
    chosen = kernel(*constants, *_vectors(ordered, access), *more)
    return chosen, -(-outer // per_block)


def _shared(ordered: Order, n: int, operands: int, dtype: Any) -> tuple[int, int, int]:
    """Columns of a block, how many threads share one, and how many lanes each of them has."""
    if _alone(n, dtype):
        return COLUMN_THREADS, 1, n // ordered.vector
    numbers = ordered.lanes * ordered.vectors * ordered.vector
    shares = _power(-(-numbers // (NUMBERS[dtype] // operands)))
    return min(WARP, SHARED_THREADS // shares), shares, ordered.lanes // shares


def _alone(n: int, dtype: Any) -> bool:
    """May a thread hold a whole slice?"""
    return n * np.dtype(dtype).itemsize <= 4 * ALONE


def _columns(
    kernel: Any, ordered: Order, arrays: Any, outer: int, n: int, inner: int, masked: Any = None
) -> tuple[Kernel, int]:
    """The kernel for columns of an order, and how many blocks there are.

    Where they are fewer than the multiprocessors, blocks take fewer columns.
    """
    dtype = computed(arrays[-1].dtype)
    operands, across, exact = 1 if masked is not None else 2, 1, _alone(n, dtype)
    neighbours, shares, slots = _shared(ordered, n, operands, dtype)
    if exact:
        room = 4 * TOGETHER_COLUMNS // (np.dtype(dtype).itemsize * operands * n)
        across = _math.gcd(inner, _width(*arrays))
        while across > max(room, 1):
            across //= 2
        across = len(_access(across, *arrays))

    def blocks() -> int:
        return -(-outer * inner // (neighbours * across)) * ordered.chunks

    narrow, wanted = max(NARROW, WARP // shares), device(arrays[-1].queue.device).multiprocessors
    while neighbours > narrow and blocks() < wanted:
        neighbours //= 2
    constants = neighbours, _tuple(shares), _tuple(slots), _tuple(ordered.vectors)
    partial = ordered.chunks > 1
    more = (partial, dtype) if masked is None else (masked, partial, dtype)
    chosen = kernel(*constants, _tuple(ordered.vector), _tuple(across), exact, *more)
    return chosen, blocks()


def _together(operands: int, ordered: Order, arrays: Any, outer: int, n: int, inner: int) -> int:
    """How many images a block takes through shared memory; 0 if they are better read in place.

    That is so where channels fill whole sectors, or are so long that few sectors are shared; where
    an image doesn't fit; and where blocks are fewer than the multiprocessors, or come in several
    turns and leave more than a quarter of the room in them empty.
    """
    found, width = device(arrays[-1].queue.device), _width(*arrays)
    channel = inner * arrays[-1].dtype.itemsize
    image = operands * n * inner * np.dtype(computed(arrays[-1].dtype)).itemsize
    room = found.shared - MEETING_BYTES
    fits = ordered.chunks == 1 and image <= room
    if inner == 1 or channel % SECTOR_BYTES == 0 or channel > STAGED_BYTES or not fits:
        return 0
    together = max(1, min(TILE_BYTES // image, outer // found.multiprocessors))
    filling = width // _math.gcd(width, n * inner)  # images fill whole accesses
    if together >= filling:
        together -= together % filling
    elif filling * image <= min(2 * TILE_BYTES, room):
        together = filling
    blocks = -(-outer // together)
    at_once = found.multiprocessors * _resident(together * image, blocks, arrays)
    turns = -(-blocks // at_once)
    busy = blocks >= found.multiprocessors and (turns == 1 or 4 * blocks >= 3 * turns * at_once)
    return together if busy else 0


def _resident(tile: int, blocks: int, arrays: Any) -> int:
    """How many blocks a multiprocessor has at once, for their tiles of so many bytes."""
    found = device(arrays[-1].queue.device)
    return min(found.shared // tile, -(-blocks // found.multiprocessors))


def _images(
    kernel: Any,
    operands: int,
    ordered: Order,
    arrays: Any,
    outer: int,
    n: int,
    inner: int,
    together: int,
    more: Any,
) -> tuple[Kernel, int]:
    """The kernel for images that pass through shared memory, and how many blocks there are.

    The fewer tiles a multiprocessor has room for, the more threads a block has.
    """
    dtype, blocks = more[-1], -(-outer // together)
    neighbours, shares, slots = _shared(ordered, n, operands, dtype)
    tile = operands * together * n * inner * np.dtype(dtype).itemsize
    most, narrow = SHARED_THREADS // _resident(tile, blocks, arrays), max(NARROW, WARP // shares)
    while shares > 1 and neighbours > narrow and neighbours * shares > most:
        neighbours //= 2
    access = _access(_math.gcd(_width(*arrays), n * inner * _math.gcd(together, outer)), *arrays)
    rounds = _tuple(NUMBERS[dtype] // operands // len(access))
    constants = neighbours, _tuple(shares), _tuple(slots), _tuple(ordered.vectors)
    places = _tuple(ordered.vector), n, inner, together, rounds, access
    return kernel(*constants, *places, *more), blocks


def _batches(out: Memory, outer: int, n: int, inner: int) -> Any:
    """Images of long slices, as many at once as the last cache may keep between two readings."""
    cached = int(CACHED * device(out.queue.device).cache)
    together = max(1, cached // (n * inner * out.dtype.itemsize))
    for first in range(0, outer, together):
        yield first * n * inner, min(together, outer - first)
