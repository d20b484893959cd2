"""Slices, the order of their sums, which is one however a slice lies in memory, and its threads.

Arrays come flat, as C-contiguous (outer, n, inner); a slice is the n numbers of one (outer, inner).
Whatever runs beside it, its sums are taken in the same order, so that it has one answer, bit for
bit. The order follows from n and the dtype alone. A slice is cut into chunks, and number
``v + V (t + T k)`` of a chunk is the v-th in the k-th vector of the t-th lane; numbers are added
over v, then over k, then over t, then over chunks, each time in pairs, neighbours first. A chunk is
shifted by its own maximum, so that no sum waits for another chunk.

A lane of that order need not be a thread: one that holds several lanes' numbers adds them in the
same pairs. Numbers that a slice has not are −inf, whose exponential adds nothing, or products of 0.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from numba_acts._cuda.lanes import WARP, exchange, lane, maximum, pairs, syncthreads
from numba_acts._cuda.launch import Kernel, Memory, as_tuple, device
from numba_acts._cuda.memory import WIDE_BYTES, computed, load, store

# Chosen by counting bytes in flight and registers for compute capability 9.0, to be tuned on one.
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
CACHED = 0.4  # of the L2 cache, for long slices that are read twice while it holds them
NOTHING = -np.inf  # the argument of an entry without weight


# ---- the order of a slice --------------------------------------------------------------------


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
    vector = math.gcd(n, width)
    whole = CHUNK_LANES * numbers
    chunks = -(-n // whole)
    chunk = n if chunks == 1 else whole
    lanes = min(power(-(-chunk // vector)), WARP)
    while lanes * numbers < chunk:
        lanes *= 2
    return Order(vector, lanes, -(-chunk // (vector * lanes)), chunk, chunks)


def power(number: int) -> int:
    """The least power of two that is not below."""
    return 1 << (number - 1).bit_length()


def width_of(*arrays: Memory) -> int:
    """How many elements of each array an access takes, at most."""
    return WIDE_BYTES // max(array.dtype.itemsize for array in arrays)


def access_of(vector: int, *arrays: Memory) -> tuple[int, ...]:
    """How many elements are accessed at once, as a tuple of so many."""
    whole = all(array.aligned(vector) for array in arrays if array.size)
    return (0,) * (vector if whole else 1)


def words_of(access: tuple[int, ...], dtype: Any) -> tuple[int, ...]:
    """How many numbers of an access are written to shared memory at once."""
    return access[: WIDE_BYTES // np.dtype(dtype).itemsize]


def joining_warps() -> tuple[int, ...]:
    return as_tuple(JOIN_LANES // WARP)


def vectors_of(ordered: Order, access: tuple[int, ...]) -> tuple[Any, Any]:
    """The vector of an order, and in how many accesses it is read."""
    return as_tuple(ordered.vector), access


# ---- sums and maxima -------------------------------------------------------------------------


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
    syncthreads()
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
def within(left, most):
    """How many numbers are left, as far as it matters: few bits are quickly compared."""
    return np.int32(left if left < most else most)


# ---- reading and writing ---------------------------------------------------------------------


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
                registers[at + v] = NOTHING


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


# ---- places ----------------------------------------------------------------------------------


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


# ---- which threads ---------------------------------------------------------------------------


def row_threads(lanes, chunks, *others):
    return lanes * len(chunks) if lanes > WARP else ROW_THREADS


def column_threads(neighbours, shares, *others):
    return neighbours * len(shares)


def tile_bytes(operands):
    """How much shared memory a tile of images takes, from a kernel's constants."""

    def shared(neighbours, shares, slots, vectors, vector, n, inner, together, *others):
        return operands * together * n * inner * np.dtype(others[-1]).itemsize

    return shared


def rows_for(
    kernel: Any, operands: int, ordered: Order, access: Any, outer: int, more: tuple[Any, ...]
) -> tuple[Kernel, int]:
    """The kernel for rows of an order, and how many blocks there are."""
    together = 1
    if ordered.lanes <= WARP:
        loaded = operands * ordered.vectors * ordered.vector * np.dtype(more[-1]).itemsize
        together = min(TOGETHER, max(1, 4 * AHEAD // loaded))
    per_block = ROW_THREADS // ordered.lanes * together if ordered.lanes <= WARP else 1
    constants = ordered.lanes, as_tuple(ordered.chunks), together, as_tuple(ordered.vectors)
    chosen = kernel(*constants, *vectors_of(ordered, access), *more)
    return chosen, -(-outer // per_block)


def shared_by(ordered: Order, n: int, operands: int, dtype: Any) -> tuple[int, int, int]:
    """Columns of a block, how many threads share one, and how many lanes each of them has."""
    if _alone(n, dtype):
        return COLUMN_THREADS, 1, n // ordered.vector
    numbers = ordered.lanes * ordered.vectors * ordered.vector
    shares = power(-(-numbers // (NUMBERS[dtype] // operands)))
    return min(WARP, SHARED_THREADS // shares), shares, ordered.lanes // shares


def _alone(n: int, dtype: Any) -> bool:
    """May a thread hold a whole slice?"""
    return n * np.dtype(dtype).itemsize <= 4 * ALONE


def columns_for(
    kernel: Any, ordered: Order, arrays: Any, outer: int, n: int, inner: int, masked: Any = None
) -> tuple[Kernel, int]:
    """The kernel for columns of an order, and how many blocks there are.

    Where they are fewer than the multiprocessors, blocks take fewer columns.
    """
    dtype = computed(arrays[-1].dtype)
    operands, across, exact = 1 if masked is not None else 2, 1, _alone(n, dtype)
    neighbours, shares, slots = shared_by(ordered, n, operands, dtype)
    if exact:
        room = 4 * TOGETHER_COLUMNS // (np.dtype(dtype).itemsize * operands * n)
        across = math.gcd(inner, width_of(*arrays))
        while across > max(room, 1):
            across //= 2
        across = len(access_of(across, *arrays))

    def blocks() -> int:
        return -(-outer * inner // (neighbours * across)) * ordered.chunks

    narrow, wanted = max(NARROW, WARP // shares), device(arrays[-1].queue.device).multiprocessors
    while neighbours > narrow and blocks() < wanted:
        neighbours //= 2
    constants = neighbours, as_tuple(shares), as_tuple(slots), as_tuple(ordered.vectors)
    partial = ordered.chunks > 1
    more = (partial, dtype) if masked is None else (masked, partial, dtype)
    chosen = kernel(*constants, as_tuple(ordered.vector), as_tuple(across), exact, *more)
    return chosen, blocks()


def images_together(
    operands: int, ordered: Order, arrays: Any, outer: int, n: int, inner: int
) -> int:
    """How many images a block takes through shared memory; 0 if they are better read in place.

    That is so where channels fill whole sectors, or are so long that few sectors are shared; where
    an image doesn't fit; and where blocks are fewer than the multiprocessors, or come in several
    turns and leave more than a quarter of the room in them empty.
    """
    found, width = device(arrays[-1].queue.device), width_of(*arrays)
    channel = inner * arrays[-1].dtype.itemsize
    image = operands * n * inner * np.dtype(computed(arrays[-1].dtype)).itemsize
    room = found.shared - MEETING_BYTES
    fits = ordered.chunks == 1 and image <= room
    if inner == 1 or channel % SECTOR_BYTES == 0 or channel > STAGED_BYTES or not fits:
        return 0
    together = max(1, min(TILE_BYTES // image, outer // found.multiprocessors))
    filling = width // math.gcd(width, n * inner)  # images fill whole accesses
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


def images_for(
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
    neighbours, shares, slots = shared_by(ordered, n, operands, dtype)
    tile = operands * together * n * inner * np.dtype(dtype).itemsize
    most, narrow = SHARED_THREADS // _resident(tile, blocks, arrays), max(NARROW, WARP // shares)
    while shares > 1 and neighbours > narrow and neighbours * shares > most:
        neighbours //= 2
    access = access_of(math.gcd(width_of(*arrays), n * inner * math.gcd(together, outer)), *arrays)
    rounds = as_tuple(NUMBERS[dtype] // operands // len(access))
    constants = neighbours, as_tuple(shares), as_tuple(slots), as_tuple(ordered.vectors)
    places = as_tuple(ordered.vector), n, inner, together, rounds, access
    return kernel(*constants, *places, *more), blocks


def batches(out: Memory, outer: int, n: int, inner: int) -> Any:
    """Images of long slices, as many at once as the last cache may keep between two readings."""
    cached = int(CACHED * device(out.queue.device).cache)
    together = max(1, cached // (n * inner * out.dtype.itemsize))
    for first in range(0, outer, together):
        yield first * n * inner, min(together, outer - first)
