"""Slices, the order of their sums, which is one however a slice lies in memory, and its threads.

Arrays come flat, as C-contiguous (outer, n, inner); a slice is the n numbers of one (outer, inner).
Whatever runs beside it, its sums are taken in the same order, so that it has one answer, bit for
bit. The order follows from n and the dtype alone. A slice is cut into chunks, as few and as equal
as may be, and number ``v + V (t + T k)`` of a chunk is the v-th in the k-th vector of the t-th
lane; numbers are added over v, then over k, then over t, then over chunks, each time in pairs,
neighbours first. A chunk is shifted by its own maximum, so that no sum waits for another chunk.

A lane of that order need not be a thread: one that holds several lanes' numbers adds them in the
same pairs. Numbers that a slice has not are −inf, whose exponential adds nothing, or products of 0.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from numba_acts._cuda.lanes import (
    WARP,
    arrive,
    cluster_number,
    cluster_rank,
    cluster_size,
    exchange,
    lane,
    maximum,
    pairs,
    push,
    syncthreads,
    wait,
)
from numba_acts._cuda.launch import CLUSTER, Clusters, Kernel, Memory, as_tuple, device
from numba_acts._cuda.memory import WIDE_BYTES, computed, fetch, load, store, window

# Chosen for compute capability 9.0, by counting bytes in flight and registers, and by measurements.
NUMBERS = {np.float32: 32, np.float64: 16}  # that a thread holds
CHUNK_LANES = 128  # of a whole chunk
FEW = 8  # numbers of a lane at most, where there may be fewer lanes so that fewer are idle
ROW_THREADS = 128  # in a block, for rows of a warp or less
AHEAD = 16  # numbers of float32 that a thread loads before it needs the first, from several rows
TOGETHER = 8  # rows at most, for that
FROM_BLOCKS = 1  # of each multiprocessor, with so many rows, from which they are taken together
SPREAD: tuple[int, ...] = 2, 4, 8  # chunks that a block may have side by side
RESIDENT = 1024  # threads that share the registers of a multiprocessor, then; half of float64
REGISTERS = 1 << 16  # that a multiprocessor has
BESIDE = 12  # of a thread, beside its numbers that are read one by one; twice that for more arrays
COLUMN_THREADS = 128  # in a block, where a thread holds a slice of its own
ALONE = 32  # numbers of each operand at most, for that
# Numbers of float32 in all, of neighbouring columns in a thread, by operands and kind; else 64.
TOGETHER_COLUMNS = {(2, "float32"): 128, (1, "void16"): 96}
LONE_THREADS = 512  # there, where accesses are of one number and parts of sectors,
LONE_TURNS = 16  # if a multiprocessor has so many blocks at least; else half as many
# Where threads share slices, by operands: columns of a thread, if it has room for a lane of each,
# and threads of a block, or as many as fill two sectors.
ABREAST = {1: ((4, 256), (2, 512), (1, 512)), 2: ((2, 512), (1, 512))}
MOST_THREADS = 1024
LIGHT = 24  # numbers of a thread at most that leave room for a fourth block of 256
JOIN_LANES = 128  # that join the sums of a slice's chunks
JOINED = 8  # chunks that each of them has under way
NARROW = 8  # columns at least that a block reads side by side: 32 bytes of float32, a sector
SPAN = 32  # numbers of a long column that a thread writes
SECTOR_BYTES = 32  # that memory moves at once
STAGED_BYTES = 256  # of a channel at most, for images that pass through shared memory
IMAGE_THREADS = {1: 512, 2: 256}  # of a multiprocessor, for that; by operands
SMALL = 1 / 8  # of the L2 cache: images of few channels, which it puts together if threads do not
TILE_BYTES = 24 << 10  # of images that a block takes together
MEETING_BYTES = 8 << 10  # of shared memory at most, in which warps meet
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
    numbers, vector = NUMBERS[computed(dtype)] // operands, math.gcd(n, width)
    chunks = -(-n // (CHUNK_LANES * numbers))
    share = -(-n // chunks)  # as many for each chunk
    few = min(FEW, numbers)
    several = [t for t in (1, 2, 4, 8, 16, 32) if -(-share // (t * vector)) * vector <= few]
    if several:
        lanes = min(several, key=lambda t: (-(-share // (t * vector)) * t, -t))
    else:
        lanes = WARP
        while lanes * numbers < share:
            lanes *= 2
    vectors = -(-share // (vector * lanes))
    chunk = n if chunks == 1 else lanes * vectors * vector
    return Order(vector, lanes, vectors, chunk, chunks)


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
def finite(m, zero):
    """A shift that leaves −inf as it is: a chunk with no weight in it adds nothing."""
    return zero if m == NOTHING else m


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
def meet(value, shared, place):
    """The first lane of each warp leaves its value in shared memory; all threads wait for all."""
    first, warp = place
    if first:
        shared[warp] = value
    syncthreads()


@lane
def group_max(m, lanes, warps, shared, place):
    """The largest over a group: so many lanes of a warp, or several warps, which `meet`."""
    m = lanes_max(m, 1, lanes)
    if len(warps) > 1:
        meet(m, shared, place)
        m = largest(shared, 0, 1, len(warps))
    return m


@lane
def group_sum(s, lanes, warps, shared, place):
    """The sum over a group, lanes before warps, neighbours first."""
    s = lanes_sum(s, 1, lanes)
    if len(warps) > 1:
        meet(s, shared, place)
        s = pairs(shared, 0, 1, warps)
    return s


@lane
def agree(found, shared, where, in_warp, values, parts, across, words):
    """Each part of a block leaves its values of some columns, as many as `across` is long.

    All threads wait, and take those of their columns.
    """
    writes, here, mine = where
    if writes:
        write(found, 0, shared, here * len(across), across, words)
    syncthreads()
    for a in range(len(parts)):
        place = (mine + a * in_warp) * len(across)
        read(shared, place, values, a * len(across), across, words)


@lane
def shared_max(found, split, shared, where, in_warp, values, parts, across, words):
    """The largest over the threads that share each of some columns, if they are `split`."""
    if split:
        for u in range(len(across)):
            found[u] = lanes_max(found[u], in_warp, WARP)
        agree(found, shared, where, in_warp, values, parts, across, words)
        for u in range(len(across)):
            found[u] = largest(values, u, len(across), len(parts))


@lane
def shared_sum(found, split, shared, where, in_warp, values, parts, across, words):
    """The sums over these threads."""
    if split:
        for u in range(len(across)):
            found[u] = lanes_sum(found[u], in_warp, WARP)
        agree(found, shared, where, in_warp, values, parts, across, words)
        for u in range(len(across)):
            found[u] = pairs(values, u, len(across), parts)


@lane
def send(shared, place, to, value, clustered):
    """shared[place] = value in a block of the cluster, or here."""
    if clustered:
        push(shared, place, to, value)
    else:
        shared[place] = value


@lane
def sent(clustered):
    """All wait until what was sent is there."""
    if clustered:
        arrive()
        wait()
    else:
        syncthreads()


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
def keep(x, mask, masked, bits, sign, place, left, tile, at, registers, ways):
    """A thread's vectors of a chunk, as far as there are any left, to its own places in a tile.

    They come in the background as they are, or through registers, signed and masked.
    """
    vectors, vector, access, words, step, apart, fetches = ways
    there = window(tile, at)
    for k in range(len(vectors)):
        if k * step < left:
            if fetches:
                for a in range(0, len(vector), len(access)):
                    fetch(x, place + k * step + a, there, k * apart + a, access)
            else:
                i, here = place + k * step, k * len(vector)
                read_signed(x, mask, masked, bits, i, registers, here, vector, access, sign)
    if not fetches:
        for k in range(len(vectors)):
            if k * step < left:
                write(registers, k * len(vector), tile, at + k * apart, vector, words)


@lane
def bring(x, mask, masked, bits, sign, start, end, numbers, tile, at, thread, ways):
    """x from `start` on to a tile of shared memory, in its order: in the background, as it is.

    Or sign·x, −inf where the mask is 0, through registers, where a thread has as many accesses
    under way as `rounds` is long.
    """
    rounds, access, words, threads, fetches = ways
    width = len(access)
    step = threads * width
    if fetches:
        there = window(tile, at)
        for i in range(thread * width, end, step):
            fetch(x, start + i, there, i, access)
        return
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
    _, access, words, threads, _ = ways
    for i in range(thread * len(access), end, threads * len(access)):
        read(tile, i, numbers, 0, access, words)
        write_masked(numbers, 0, mask, masked, bits, out, start + i, access, access)


@lane
def gather(tile, base, left, inner, lanes, slots, vectors, vector, numbers, sign, nothing):
    """A thread's numbers of a column of a tile, signed, as far as there are any left."""
    width = len(vector)
    for b in range(len(slots)):
        for k in range(len(vectors)):
            for v in range(width):
                i = b * width + k * (lanes * width) + v
                at = (b * len(vectors) + k) * width + v
                numbers[at] = nothing
                if i < left:
                    load(tile, base + i * inner, numbers, at, (0,))
                    numbers[at] = numbers[at] * sign


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
def row_of(thread, block, lanes, per_block, parts, partial):
    """A thread's first row and its chunk of it: the block's part of one, or all of its rows."""
    if partial:
        return tile_of(block, parts, partial)
    return block * per_block + thread // lanes, thread * 0


@lane
def cluster_place(block, clustered):
    """Which row a block has, and which block of how many that have it this is."""
    if clustered:
        return cluster_number(), cluster_rank(), cluster_size()
    return block, np.int64(0), np.int64(1)


@lane
def place_of(thread, rank, own, size, width):
    """Where a thread's first vector of a row begins, if a block has `own` chunks of that size."""
    chunk = thread // CHUNK_LANES
    return (rank * own + chunk) * size + (thread - chunk * CHUNK_LANES) * width


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


def row_threads(lanes, *others):
    return lanes if lanes > WARP else ROW_THREADS


def column_threads(neighbours, shares, *others):
    return neighbours * len(shares)


def column_blocks(neighbours, shares, slots, vectors, vector, across, exact, *others):
    """How many blocks a multiprocessor has at once at least, where threads have several columns."""
    if exact or len(across) == 1 or np.dtype(others[-1]).itemsize > 4:
        return 0
    threads = column_threads(neighbours, shares)
    numbers = len(slots) * len(vectors) * len(vector) * len(across)
    return max(1, RESIDENT // threads - (threads <= 256 and numbers > LIGHT))


def tile_bytes(operands):
    """How much shared memory a tile of images takes, from a kernel's constants."""

    def shared(neighbours, shares, slots, vectors, vector, n, inner, together, *others):
        return operands * together * n * inner * np.dtype(others[-1]).itemsize

    return shared


class Spread(NamedTuple):
    """The sizes of a block that has chunks of rows; all of a cluster have the same."""

    own: int  # chunks of a block
    size: int  # numbers of each
    step: int  # between a thread's vectors
    apart: int  # between them in a tile
    warps: int  # of the chunks side by side
    in_chunk: tuple[int, ...]  # as long as a chunk has warps
    quarters: tuple[int, ...]  # as long as a warp goes over the cluster's chunks


def spread_sizes(chunks, held, clustered, vectors, vector):
    """These, from a kernel's constants."""
    side, own = len(chunks), len(chunks) * (1 if held else 2)
    in_chunk = as_tuple(CHUNK_LANES // WARP)
    quarters = as_tuple(-(-own * (CLUSTER if clustered else 1) // WARP))
    step = CHUNK_LANES * len(vector)
    return Spread(
        own, step * len(vectors), step, side * step, side * len(in_chunk), in_chunk, quarters
    )


def spread_threads(chunks, *others):
    return CHUNK_LANES * len(chunks)


def spread_bytes(operands):
    """How much shared memory a block's kept chunks take, from a kernel's constants."""

    def shared(chunks, held, clustered, vectors, vector, *others):
        numbers = CHUNK_LANES * len(chunks) * len(vectors) * len(vector)
        return 0 if held else operands * numbers * np.dtype(others[-1]).itemsize

    return shared


def spread_blocks(operands):
    """How many blocks a multiprocessor has at once at least: they share its registers."""

    def blocks(chunks, held, clustered, vectors, vector, access, fetches, *others):
        threads, numbers = RESIDENT, operands * len(vectors) * len(vector)
        if any(others[:-1]) or len(access) == 1 and clustered:  # more addresses
            threads = RESIDENT // 4 * (4 - operands)
        elif len(access) == 1:
            beside = BESIDE if held and operands == 1 else 2 * BESIDE
            threads = REGISTERS // (numbers + beside + 7 & -8)
        elif not (held or clustered):
            threads = RESIDENT // 4 * 3
        if np.dtype(others[-1]).itemsize > 4:
            threads = RESIDENT // 2
        return max(1, threads // spread_threads(chunks))

    return blocks


def fetched_by(access: Any, arrays: Any, more: Any) -> bool:
    """May numbers go to shared memory as they are, past the registers?"""
    dtype, masked = np.dtype(more[-1]), any(more[:-1])
    same = all(array.dtype == dtype for array in arrays if array.size)
    return same and not masked and len(access) * dtype.itemsize >= 4


def spread_for(
    kernel: Any, operands: int, ordered: Order, access: Any, arrays: Any, outer: int, more: Any
) -> tuple[Kernel, Any] | None:
    """The kernel for rows of several chunks and its blocks; none if they are too many.

    A block has some of the chunks side by side, in registers, and as many again in shared memory.
    Blocks of a cluster take a row together, as few as hold it, or more where there are few rows.
    """
    found = device(arrays[-1].queue.device)
    for side in SPREAD:
        tile = operands * side * ordered.chunk * np.dtype(more[-1]).itemsize
        rounds = 1 + (tile + MEETING_BYTES <= found.shared)
        size = -(-ordered.chunks // (rounds * side))
        if size <= found.clusters:
            break
    else:
        return None
    if outer * size < found.multiprocessors:
        size = min(found.clusters, -(-ordered.chunks // side))
    held = ordered.chunks <= side * size
    fetches = fetched_by(access, arrays, more)
    places = as_tuple(ordered.vectors), *vectors_of(ordered, access)
    chosen = kernel(as_tuple(side), held, size > 1, *places, fetches, *more)
    return chosen, Clusters(outer, size) if size > 1 else outer


def rows_for(
    kernel: Any, operands: int, ordered: Order, access: Any, arrays: Any, outer: int, more: Any
) -> tuple[Kernel, int]:
    """The kernel for rows of an order, and how many blocks there are."""
    together = 1
    if ordered.lanes <= WARP:
        loaded = operands * ordered.vectors * ordered.vector * np.dtype(more[-1]).itemsize
        together = min(TOGETHER, max(1, 4 * AHEAD // loaded))
        wanted = device(arrays[-1].queue.device).multiprocessors
        if outer * ordered.lanes < FROM_BLOCKS * wanted * ROW_THREADS * together:
            together = 1
    per_block = ROW_THREADS // ordered.lanes * together if ordered.lanes <= WARP else 1
    constants = ordered.lanes, together, as_tuple(ordered.vectors)
    chosen = kernel(*constants, *vectors_of(ordered, access), *more)
    return chosen, -(-outer // per_block)


def _vectors(ordered: Order, operands: int, dtype: Any, across: int) -> int:
    """How many vectors of each of so many columns a thread has room for."""
    return NUMBERS[dtype] // (operands * across * ordered.vector)


def shared_by(
    ordered: Order, operands: int, dtype: Any, across: int, threads: int
) -> tuple[int, int, int]:
    """Threads side by side in a block, threads that share a column, and lanes of each."""
    most = _vectors(ordered, operands, dtype, across)
    shares = power(-(-ordered.lanes * ordered.vectors // most))
    neighbours = max(threads // shares, min(2 * NARROW // across, MOST_THREADS // shares))
    return min(WARP, neighbours), shares, ordered.lanes // shares


def _alone(n: int, dtype: Any) -> bool:
    """May a thread hold a whole slice?"""
    return n * np.dtype(dtype).itemsize <= 4 * ALONE


def columns_for(
    kernel: Any, ordered: Order, arrays: Any, outer: int, n: int, inner: int, masked: Any = None
) -> tuple[Kernel, int]:
    """The kernel for columns of an order, and how many blocks there are.

    Where blocks are fewer than the multiprocessors, they take fewer columns.
    """
    dtype = computed(arrays[-1].dtype)
    operands, exact, partial = 1 if masked is not None else 2, _alone(n, dtype), ordered.chunks > 1
    wanted = device(arrays[-1].queue.device).multiprocessors

    def access(most: int) -> int:
        across = math.gcd(inner, width_of(*arrays))
        while across > max(most, 1):
            across //= 2
        return len(access_of(across, *arrays))

    if exact:
        room = TOGETHER_COLUMNS.get((operands, arrays[-1].dtype.name), 64)
        across = access(4 * room // (np.dtype(dtype).itemsize * operands * n))
        many = outer * inner >= LONE_TURNS * LONE_THREADS * wanted
        threads = COLUMN_THREADS if across > 1 else LONE_THREADS if many else LONE_THREADS // 2
        neighbours, shares, slots = threads, 1, ordered.lanes
    else:
        few = partial or outer * inner < WARP * wanted
        ways = ABREAST[operands][-1:] if few else ABREAST[operands]
        across, threads = next(
            (across, threads)
            for across, threads in ((access(most), threads) for most, threads in ways)
            if ordered.vectors <= _vectors(ordered, operands, dtype, across)
        )
        neighbours, shares, slots = shared_by(ordered, operands, dtype, across, threads)

    def blocks() -> int:
        return -(-outer * inner // (neighbours * across)) * ordered.chunks

    narrow = max(NARROW // across, WARP // shares)
    while neighbours > narrow and blocks() < wanted:
        neighbours //= 2
    constants = neighbours, as_tuple(shares), as_tuple(slots), as_tuple(ordered.vectors)
    more = (partial, dtype) if masked is None else (masked, partial, dtype)
    places = as_tuple(ordered.vector), as_tuple(across), n if exact else 0
    chosen = kernel(*constants, *places, *more)
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
    if _alone(n, computed(arrays[-1].dtype)) and outer * image <= SMALL * found.cache:
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
    if _alone(n, dtype):
        neighbours, shares, slots = COLUMN_THREADS, 1, ordered.lanes
    else:
        neighbours, shares, slots = shared_by(ordered, operands, dtype, 1, IMAGE_THREADS[operands])
    tile = operands * together * n * inner * np.dtype(dtype).itemsize
    most = IMAGE_THREADS[operands] // _resident(tile, blocks, arrays)
    narrow = max(NARROW, WARP // shares)
    while shares > 1 and neighbours > narrow and neighbours * shares > most:
        neighbours //= 2
    access = access_of(math.gcd(width_of(*arrays), n * inner * math.gcd(together, outer)), *arrays)
    rounds = as_tuple(NUMBERS[dtype] // operands // len(access))
    constants = neighbours, as_tuple(shares), as_tuple(slots), as_tuple(ordered.vectors)
    places = as_tuple(ordered.vector), n, inner, together, rounds, access
    fetches = fetched_by(access, arrays, more)
    return kernel(*constants, *places, fetches, *more), blocks
