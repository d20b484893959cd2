"""The maximum over the pieces of a unit, the piece that reaches it, and the gradient it selects.

Arrays come flat, as C-contiguous (outer, pieces, inner), results as (outer, inner). Everywhere the
first NaN wins, and otherwise the first of the largest pieces. An index that names no piece selects
nothing.
"""

import math
from typing import Any

import numpy as np
from numba import cuda

from numba_acts._cuda.lanes import WARP, divided, exchange, lane, short, wins
from numba_acts._cuda.launch import Memory, as_tuple, planned, run, specialised
from numba_acts._cuda.memory import WIDE_BYTES, get, held, load, put, store

# Chosen by counting bytes in flight for compute capability 9.0, to be tuned on one.
FEW = 32  # units of at most so many contiguous pieces have code of their own for that number
HELD_BYTES = 320  # that a thread may hold of them
FEWEST = 8  # if they are more, a warp's load must use USED_BYTES of each line that it touches
USED_BYTES, LINE_BYTES = 8, 128
APART = 8  # pieces that lie apart are so many loaded at once
THREADS = 128  # in a block
AHEAD_BYTES = 64  # that a thread loads before it needs the first
TOGETHER = 4  # numbers of a result that a thread selects


def index_held(dtype: np.dtype) -> Any:
    """The dtype of a thread's copy of an index."""
    return np.int32 if dtype.itemsize < 4 or dtype == np.int32 else np.int64


def _blocks(threads: int) -> int:
    return -(-threads // THREADS)


def _threads(*constants: Any) -> int:
    return THREADS


# ---- the maximum ------------------------------------------------------------------------------


@lane
def first_wins(new, i, old, j):
    """Is the number of index i to replace that of index j: larger, or an equal one before it?"""
    return wins(new, old) or (i < j and (new == old or (new != new and old != old)))


@lane
def lanes_winner(best, winner, lanes):
    """The winner of all lanes of a group, and its index."""
    distance = 1
    while distance < lanes:
        other, i = exchange(best, distance), exchange(winner, distance)
        if first_wins(other, i, best, winner):
            best = other
            winner = i
        distance *= 2
    return best, winner


@lane
def read(x, i, numbers, at, count, access):
    """So many numbers, a few at once."""
    for a in range(0, count, len(access)):
        load(x, i + a, numbers, at + a, access)


@lane
def write(out, i, numbers, at, count, access):
    for a in range(0, count, len(access)):
        store(out, i + a, numbers, at + a, access)


@specialised(_threads)
def few(pieces, together, access, out_access, groups, short, indexed, biased, dtype):
    """Few contiguous pieces: a thread takes as many units as fill its widest accesses.

    One read of x and one write. With `biased`, the pieces of a layer's units are biased on the way:
    that is how an affine map's maximum follows its matrix product.
    """
    many, count, tile = len(pieces), len(together), THREADS * len(groups)
    size, room = many * count, many * count * len(groups)

    def kernel(x, bias, out, index, outer, steps):
        numbers = cuda.local.array(room, dtype)
        biases = cuda.local.array(size, dtype)
        best = cuda.local.array(count, dtype)
        winners = cuda.local.array(count, np.int32)
        block, thread = np.int64(cuda.blockIdx.x), np.int64(cuda.threadIdx.x)
        first = block * tile + thread
        for w in range(len(groups)):
            unit = (first + w * THREADS) * count
            if unit < outer:
                read(x, unit * many, numbers, w * size, size, access)
        for w in range(len(groups)):
            unit = (first + w * THREADS) * count
            if unit < outer:
                if biased:
                    row = divided(block, tile, thread + w * THREADS, steps, short)
                    step = first + w * THREADS - row * steps
                    read(bias, step * size, biases, 0, size, access)
                    for e in range(size):
                        numbers[w * size + e] = numbers[w * size + e] + biases[e]
                for u in range(count):
                    at = w * size + u * many
                    best[u] = numbers[at]
                    winners[u] = 0
                    for i in range(1, many):
                        if wins(numbers[at + i], best[u]):
                            best[u] = numbers[at + i]
                            winners[u] = i
                write(out, unit, best, 0, count, out_access)
                if indexed:
                    write(index, unit, winners, 0, count, out_access)

    return kernel


@specialised(_threads)
def rows(lanes, short, indexed, biased, dtype):
    """Contiguous pieces, any number of them: `lanes` threads of a warp a unit, which then agree."""
    per_block = THREADS // lanes

    def kernel(x, bias, out, index, outer, units, pieces):
        block, thread = np.int64(cuda.blockIdx.x), np.int64(cuda.threadIdx.x)
        unit = block * per_block + thread // lanes
        alive = unit < outer
        first = first_bias = (unit if alive else outer - 1) * pieces
        best = get(x, first)
        if biased:
            row = divided(block, per_block, thread // lanes, units, short)
            first_bias = (unit - row * units) * pieces
            best = best + get(bias, first_bias)
        winner = thread * 0
        for i in range(thread % lanes, pieces, lanes):
            v = get(x, first + i)
            if biased:
                v = v + get(bias, first_bias + i)
            if wins(v, best):
                best = v
                winner = np.int64(i)
        best, winner = lanes_winner(best, winner, lanes)
        if alive and thread % lanes == 0:
            put(out, unit, best)
            if indexed:
                put(index, unit, winner)

    return kernel


@specialised(_threads)
def columns(pieces, exact, access, short, indexed, dtype, index_dtype):
    """Pieces that lie apart: a thread takes neighbouring units, as many as an access is wide.

    It loads as many pieces at a time as the tuple `pieces` is long; if `exact`, those are all.
    """
    width, room = len(access), len(access) * len(pieces)

    def kernel(x, out, index, outer, count, inner):
        numbers = cuda.local.array(room, dtype)
        best = cuda.local.array(width, dtype)
        winners = cuda.local.array(width, index_dtype)
        block, thread = np.int64(cuda.blockIdx.x), np.int64(cuda.threadIdx.x)
        place = (block * THREADS + thread) * width
        if place < outer * inner:
            image = divided(block, THREADS, thread, inner // width, short)
            base = image * count * inner + place - image * inner
            load(x, base, best, 0, access)
            for v in range(width):
                winners[v] = 0
            for start in range(0, 1 if exact else count, len(pieces)):
                for i in range(len(pieces)):
                    if exact or start + i < count:
                        load(x, base + (start + i) * inner, numbers, i * width, access)
                for i in range(len(pieces)):
                    if exact or start + i < count:
                        for v in range(width):
                            if wins(numbers[i * width + v], best[v]):
                                best[v] = numbers[i * width + v]
                                winners[v] = start + i
            store(out, place, best, 0, access)
            if indexed:
                store(index, place, winners, 0, access)

    return kernel


# ---- the gradient -----------------------------------------------------------------------------


@specialised(_threads)
def vjp_rows(pieces, touched, access, given_access, short, ones, dtype, index_dtype):
    """Contiguous pieces: a thread writes some neighbouring numbers, of one unit or several.

    `pieces` is as long as there are of them, or empty if only the kernel's argument tells;
    `touched` as long as the units are many whose numbers those may be. What the threads read of
    units they share, caches serve.
    """
    many, width, count, one = len(pieces), len(access), len(touched), (0,)
    tile, span, whole = THREADS * width, many or width, many * count == width
    sides = 1 if whole or count == 1 else 2

    def kernel(g, index, out, outer, pieces):
        numbers = cuda.local.array(width, dtype)
        given = cuda.local.array(count, dtype)
        places = cuda.local.array(count, index_dtype)
        n = many if many else pieces
        block, thread = np.int64(cuda.blockIdx.x), np.int64(cuda.threadIdx.x)
        place, size = block * tile + thread * width, outer * n
        if place < size:
            unit, i = (block * THREADS + thread) * count, 0
            if not whole:
                unit = divided(block, tile, thread * width, n, short)
                i = place - unit * n
            for u in range(count):
                given[u] = 1
                places[u] = -1
            if len(given_access) > 1:
                read(index, unit, places, 0, count, given_access)
                if not ones:
                    read(g, unit, given, 0, count, given_access)
            else:
                for u in range(count):
                    if u == 0 or (unit + u < outer and u * n < i + width):
                        load(index, unit + u, places, u, one)
                        if not ones:
                            load(g, unit + u, given, u, one)
            for u in range(count):
                if 0 <= places[u] and places[u] < n:
                    places[u] += u * n - i
                else:
                    places[u] = -1
            for v in range(width):
                numbers[v] = 0
                for side in range(sides):
                    u = min(v // span + side, count - 1)
                    if places[u] == v:
                        numbers[v] = given[u]
            if place + width <= size:
                store(out, place, numbers, 0, access)
            else:
                for v in range(width):
                    if place + v < size:
                        store(out, place + v, numbers, v, one)

    return kernel


@specialised(_threads)
def vjp_columns(access, short, ones, dtype, index_dtype):
    """Pieces that lie apart: a thread writes all pieces of neighbouring units."""
    width = len(access)

    def kernel(g, index, out, outer, pieces, inner):
        numbers = cuda.local.array(width, dtype)
        given = cuda.local.array(width, dtype)
        winners = cuda.local.array(width, index_dtype)
        block, thread = np.int64(cuda.blockIdx.x), np.int64(cuda.threadIdx.x)
        place = (block * THREADS + thread) * width
        if place < outer * inner:
            image = divided(block, THREADS, thread, inner // width, short)
            base = image * pieces * inner + place - image * inner
            load(index, place, winners, 0, access)
            for v in range(width):
                given[v] = 1
            if not ones:
                load(g, place, given, 0, access)
            for i in range(pieces):
                for v in range(width):
                    numbers[v] = 0
                    if winners[v] == i:
                        numbers[v] = given[v]
                store(out, base + i * inner, numbers, 0, access)

    return kernel


@specialised(_threads)
def jvp(together, short, dtype, index_dtype):
    """The winner's tangent, or 0 where none is named; a thread takes several units in turn."""
    count, tile, one = len(together), THREADS * len(together), (0,)

    def kernel(tangent, index, out, size, pieces, inner):
        numbers = cuda.local.array(count, dtype)
        winners = cuda.local.array(count, index_dtype)
        block, thread = np.int64(cuda.blockIdx.x), np.int64(cuda.threadIdx.x)
        first = block * tile + thread
        for w in range(count):
            if first + w * THREADS < size:
                load(index, first + w * THREADS, winners, w, one)
        for w in range(count):
            unit = first + w * THREADS
            numbers[w] = 0
            if unit < size and 0 <= winners[w] and winners[w] < pieces:
                outer = divided(block, tile, thread + w * THREADS, inner, short)
                place = (outer * pieces + np.int64(winners[w])) * inner + unit - outer * inner
                load(tangent, place, numbers, w, one)
        for w in range(count):
            if first + w * THREADS < size:
                store(out, first + w * THREADS, numbers, w, one)

    return kernel


# ---- which traversal --------------------------------------------------------------------------


def _access(width: int, *arrays: Memory) -> tuple[int, ...]:
    """How many elements are accessed at once, a tuple of so many: the arrays' places allow it."""
    while not all(array.aligned(width) for array in arrays if array.size):
        width //= 2
    return as_tuple(width)


def _groups(pieces: int, width: int, *counts: int) -> int:
    """How many units fill whole accesses; it divides the counts, so that nothing is left over."""
    return math.gcd(width // math.gcd(pieces, width), *counts)


def maxout(x: Memory, out: Memory, index: Memory, outer: int, pieces: int, inner: int) -> None:
    """Fill `out` with the maxima, and `index`, unless it is empty, with the winning pieces."""
    if inner == 1:
        none = Memory(0, x.dtype, 0, x.queue)
        biased_maxout(x, none, out, index, outer, pieces, 1)
    else:
        run(*planned(_columns, (x, out, index), outer, pieces, inner))


def _columns(x: Memory, out: Memory, index: Memory, outer: int, pieces: int, inner: int) -> Any:
    """The kernel, its blocks and its further arguments."""
    arrays = x, out, index
    widest = max(array.dtype.itemsize for array in arrays if array.size)
    access = _access(math.gcd(inner, WIDE_BYTES // widest), *arrays)
    kinds = index.size > 0, held(x.dtype), np.int32 if pieces <= 1 << 31 else np.int64
    steps = inner // len(access)
    exact, fits = pieces <= APART, short(steps, THREADS)
    kernel = columns(as_tuple(min(pieces, APART)), exact, access, fits, *kinds)
    return kernel, _blocks(outer * steps), (outer, pieces, inner)


def biased_maxout(
    x: Memory, bias: Memory, out: Memory, index: Memory, outer: int, pieces: int, units: int
) -> None:
    """The maxima of contiguous pieces, after a bias (units, pieces) is added unless it is empty."""
    run(*planned(_rows, (x, bias, out, index), outer, pieces, units))


def _rows(
    x: Memory, bias: Memory, out: Memory, index: Memory, outer: int, pieces: int, units: int
) -> Any:
    """As `_columns`."""
    dtype, indexed, biased = held(x.dtype), index.size > 0, bias.size > 0
    itemsize = x.dtype.itemsize
    width = WIDE_BYTES // itemsize
    together = _groups(pieces, width, outer, units if biased else 0)
    while together > 1 and pieces * together * np.dtype(dtype).itemsize > HELD_BYTES:
        together //= 2
    access = _access(math.gcd(pieces * together, width), x, bias)
    step = min(pieces * together * itemsize, LINE_BYTES)  # from one thread's to the next one's
    sparse = pieces > FEWEST and len(access) * itemsize * LINE_BYTES < USED_BYTES * step
    if pieces > FEW or sparse:
        lanes = min(1 << (-(-pieces // 4) - 1).bit_length(), WARP)
        per_block = THREADS // lanes
        kernel = rows(lanes, short(units, per_block), indexed, biased, dtype)
        return kernel, -(-outer // per_block), (outer, units, pieces)
    widest = max(array.dtype.itemsize for array in (out, index) if array.size)
    out_access = _access(min(together, WIDE_BYTES // widest), out, index)
    groups = max(1, AHEAD_BYTES // (pieces * together * itemsize))
    constants = as_tuple(pieces), as_tuple(together), access, out_access, as_tuple(groups)
    steps, tile = units // together, THREADS * groups
    kernel = few(*constants, short(steps, tile), indexed, biased, dtype)
    return kernel, -(-outer // (tile * together)), (outer, steps)


def vjp(g: Memory, index: Memory, out: Memory, outer: int, pieces: int, inner: int) -> None:
    """Fill `out` with g at the winning pieces and zeros elsewhere; an empty g stands for ones."""
    run(*planned(_vjp, (g, index, out), outer, pieces, inner))


def _vjp(g: Memory, index: Memory, out: Memory, outer: int, pieces: int, inner: int) -> Any:
    """As `_columns`."""
    places = index_held(index.dtype) if pieces < 1 << 31 else np.int64
    kinds = g.size == 0, held(out.dtype), places
    width = WIDE_BYTES // out.dtype.itemsize
    if inner > 1:
        widest = max(array.dtype.itemsize for array in (out, index))
        access = _access(math.gcd(inner, WIDE_BYTES // widest), g, index, out)
        steps = inner // len(access)
        kernel = vjp_columns(access, short(steps, THREADS), *kinds)
        return kernel, _blocks(outer * steps), (outer, pieces, inner)
    access = _access(width, out)
    width = len(access)
    given, tile = 1, THREADS * width
    if width % pieces == 0:
        touched = width // pieces
        given = math.gcd(outer, touched, WIDE_BYTES // max(index.dtype.itemsize, g.dtype.itemsize))
        given = given if outer % touched == 0 else 1
    else:
        touched = 1 if pieces % width == 0 else (width + pieces - 2) // pieces + 1
    constants = as_tuple(pieces if pieces <= FEW else 0), as_tuple(touched), access
    kernel = vjp_rows(*constants, _access(given, g, index), short(pieces, tile), *kinds)
    return kernel, -(-outer * pieces // tile), (outer, pieces)


def jvps(tangent: Memory, index: Memory, out: Memory, outer: int, pieces: int, inner: int) -> None:
    """Fill `out` with the tangents of the winning pieces."""
    run(*planned(_jvps, (tangent, index, out), out.size, pieces, inner))


def _jvps(tangent: Memory, index: Memory, out: Memory, size: int, pieces: int, inner: int) -> Any:
    """As `_columns`."""
    tile = THREADS * TOGETHER
    kinds = held(out.dtype), index_held(index.dtype)
    kernel = jvp(as_tuple(TOGETHER), short(inner, tile), *kinds)
    return kernel, -(-size // tile), (size, pieces, inner)
