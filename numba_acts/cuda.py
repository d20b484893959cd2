"""Softmax, softmin, maxout and their products, to be called from your own `numba.cuda` kernels.

It requires numba-cuda: ``from numba_acts import cuda as acts``. As in CUB, names say which threads
work together: one thread, the lanes of a `Warp`, a `Block`. Each thread passes its own numbers in a
``cuda.local.array``, which the compiler keeps in registers. β is a run-time value: 1/T for softmax,
−1/T for softmin.
"""

import functools
import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

if importlib.util.find_spec("numba_cuda") is None:
    raise ImportError(
        "numba_acts.cuda needs numba-cuda: pip install 'numba-acts[cuda]' for a driver of CUDA 13 "
        "(580 or newer), 'numba-acts[cu12]' for one of CUDA 12"
    )

from numba_acts._cuda.callers import (
    need,
    need_threads,
    numeric,
    registers,
    same_type,
    thread_rank,
)
from numba_acts._cuda.emit import SIMULATED
from numba_acts._cuda.exponential import alike, factor_of, law_of, lowered, raised_exp
from numba_acts._cuda.lanes import WARP, lane, maximum, pairs, syncthreads, times, wins
from numba_acts._cuda.maxout import first_wins, lanes_winner
from numba_acts._cuda.memory import like
from numba_acts._cuda.slices import NOTHING, finite, group_max, group_sum
from numba_acts._halls.rules import integer

MOST_ITEMS = 255  # of a thread, whose registers are as many
FLOATS = np.float32, np.float64
NUMBERS = *FLOATS, np.int32, np.int64, np.uint32, np.uint64


# ---- one thread -------------------------------------------------------------------------------


@lane
def _largest(x, count, sign):
    m = like(x, NOTHING)
    for i in range(count):
        m = maximum(m, x[i] * sign)
    return m


@lane
def _add(total, lost, term):
    """A sum with one term more, and what rounding has lost of it (Kahan)."""
    term = term - lost
    new = total + term
    return new, (new - total) - term


@lane
def _best(x, count):
    """The first of the largest, or the first NaN."""
    best, index = x[0], 0
    for i in range(1, count):
        if wins(x[i], best):
            best = x[i]
            index = i
    return best, np.int64(index)


@lane
def thread_softmax(x, out, beta):
    """y = exp(βx − max βx) / Σ exp(βx − max βx): each thread has its own slice.

    The sum is compensated, so that its error does not grow with the length.

    Parameters
    ----------
    x : array of float32 or float64, shape (n,)
        The thread's numbers, usually a ``cuda.local.array``.
    out : array of the same dtype, shape (n,)
        Where y is written; it may be `x`.
    beta : float
        β ≠ 0, rounded to the dtype of `x` and limited to its range: 1/T for softmax, −1/T for
        softmin. NaN gives NaN.

    Notes
    -----
    Special values are those of `numba_acts.softmin`: a NaN makes all weights NaN; βx = −inf has
    weight 0, and only −inf, or a +inf, gives NaN. Pad a short slice with ``-inf``
    (softmax) or ``inf`` (softmin). Another dtype is a ``TypingError`` when the kernel is compiled;
    if `out` is shorter than `x`, the kernel prints a message and ends with an error.

    Examples
    --------
    Each thread takes a row of four:

    >>> import numpy as np
    >>> from numba import cuda
    >>> from numba_acts import cuda as acts
    >>> @cuda.jit
    ... def softmin_rows(x, y):
    ...     row = cuda.grid(1)
    ...     mine = cuda.local.array(4, np.float32)
    ...     if row < x.shape[0]:
    ...         for i in range(4):
    ...             mine[i] = x[row, i]
    ...         acts.thread_softmax(mine, mine, -1.0)
    ...         for i in range(4):
    ...             y[row, i] = mine[i]
    """
    same_type(out, x)
    need(out, len(x))
    law = law_of(beta, x)
    m = _largest(x, len(x), law[0])
    total = lost = like(x, 0.0)
    for i in range(len(x)):
        out[i] = raised_exp(x[i] * law[0] - m, law)
        total, lost = _add(total, lost, out[i])
    share = like(x, 1.0) / total
    for i in range(len(x)):
        out[i] = out[i] * share


@lane
def thread_softmax_vjp(g, y, out, beta):
    """β y (g − ⟨g, y⟩): each thread has its own slice.

    Since the Jacobian is symmetric, this is its product with a cotangent or a tangent `g`.

    Parameters
    ----------
    g : array of float32 or float64, shape (n,)
        The cotangent or tangent.
    y : array of the same dtype, shape (n,)
        The result of `thread_softmax`.
    out : array of the same dtype, shape (n,)
        Where the product is written; it may be `g` or `y`.
    beta : float
        β, as it was given to `thread_softmax`.

    Notes
    -----
    If `g` or `out` is shorter than `y`, the kernel prints a message and ends with an error.
    """
    same_type(g, y)
    same_type(out, y)
    need(g, len(y))
    need(out, len(y))
    total = lost = like(y, 0.0)
    for i in range(len(y)):
        total, lost = _add(total, lost, times(g[i], y[i]))
    scale = factor_of(beta, y)
    for i in range(len(y)):
        out[i] = y[i] * scale * (g[i] - total)


@lane
def thread_softmax_pair(x, beta):
    """The pair (m, Σ exp(β(x − m))), where m is the x with the largest βx.

    Each part of a slice has such a pair. `merge` joins them, `weight` turns them into weights.

    Parameters
    ----------
    x : array of float32 or float64, shape (n,)
        The thread's numbers.
    beta : float
        β, as for `thread_softmax`.

    Returns
    -------
    tuple of two floats
        In the dtype of `x`. If all βx are −inf the sum is 0, and the pair is neutral in `merge`.
    """
    law = law_of(beta, x)
    m = _largest(x, len(x), law[0])
    shift = finite(m, like(x, 0.0))
    total = lost = like(x, 0.0)
    for i in range(len(x)):
        total, lost = _add(total, lost, raised_exp(x[i] * law[0] - shift, law))
    return m * law[0], lowered(total)


@lane
def thread_maxout(x):
    """Find the largest of a thread's numbers, and its index.

    Parameters
    ----------
    x : array of float32, float64 or integers, shape (n,)
        The thread's numbers, at least one. Another dtype is a ``TypingError`` when the kernel is
        compiled.

    Returns
    -------
    best : number
        Their maximum; NaN if there is one.
    index : int64
        Its first position, or that of the first NaN.
    """
    numeric(x)
    need(x, 1)
    return _best(x, len(x))


# ---- parts of a slice, one after the other ------------------------------------------------------


@lane
def merge(a, b, beta):
    """The pair (maximum, sum) of two parts of a slice, combined.

    Parameters
    ----------
    a, b : tuple of two floats
        Pairs from `thread_softmax_pair` or the ``softmax_pair`` of a `Warp` or `Block`. The
        neutral pair is (−inf, 0) for β > 0 and (inf, 0) for β < 0.
    beta : float
        β, as it was given there.

    Returns
    -------
    tuple of two floats
        The combined pair, in float32 if one of the four numbers is, otherwise in float64. A
        variable in a loop has one type: begin with ``(np.float32(-np.inf), np.float32(0))``.

    Notes
    -----
    It lets a kernel process a slice of any length in one reading (online softmax). A weighted sum
    computed along the way is rescaled by ``weight(m, (new_m, 1), beta)``, which is exp(β(m − m′)),
    whenever the maximum grows from m to m′.
    """
    m, s = alike(a[0], a[1], b[0], b[1]), alike(a[1], a[0], b[0], b[1])
    n, t = alike(b[0], b[1], a[0], a[1]), alike(b[1], b[0], a[0], a[1])
    law = law_of(beta, m)
    most = maximum(m * law[0], n * law[0])
    shift = finite(most, alike(0.0, most))
    s = times(s, lowered(raised_exp(m * law[0] - shift, law)))
    t = times(t, lowered(raised_exp(n * law[0] - shift, law)))
    return most * law[0], s + t


@lane
def weight(x, pair, beta):
    """exp(β(x − m)) / s: the weight of one number in the slice of a pair (m, s).

    Parameters
    ----------
    x : float32 or float64
        A number of the slice.
    pair : tuple of two floats
        The pair of the slice, from `merge` or one of the functions that return pairs.
    beta : float
        β, as it was given there.

    Returns
    -------
    float
        The weight, in float32 if `x` or a number of the pair is, else in float64.
    """
    x, m, s = alike(x, *pair), alike(pair[0], x, pair[1]), alike(pair[1], x, pair[0])
    law = law_of(beta, x)
    return lowered(raised_exp(x * law[0] - m * law[0], law) / s)


# ---- groups of threads --------------------------------------------------------------------------


class _Functions(NamedTuple):
    softmax: Any
    softmax_vjp: Any
    softmax_pair: Any
    maxout: Any


@functools.cache
def _functions(dtype: Any, items: int, lanes: int, count: int, striped: bool) -> _Functions:
    """What threads with `items` numbers each do together: lanes of a warp, or of `count` warps.

    Those meet in `storage`: maxima or products in the first `count` numbers, sums in the others.
    """
    many, warps, threads = (0,) * items, (0,) * count, lanes * count

    @lane
    def place():
        rank = thread_rank()
        return rank % WARP == 0, rank // WARP

    @lane
    def softmax(x, out, beta, storage):
        same_type(x, dtype)
        same_type(out, dtype)
        need(x, items)
        need(out, items)
        law = law_of(beta, x)
        m = _largest(x, items, law[0])
        m = group_max(m, lanes, warps, storage, place())
        for e in range(items):
            out[e] = raised_exp(x[e] * law[0] - m, law)
        s = group_sum(pairs(out, 0, 1, many), lanes, warps, storage[count:], place())
        share = like(x, 1.0) / s
        for e in range(items):
            out[e] = out[e] * share

    @lane
    def softmax_vjp(g, y, out, beta, storage):
        same_type(g, dtype)
        same_type(y, dtype)
        same_type(out, dtype)
        need(g, items)
        need(y, items)
        need(out, items)
        terms = registers.local.array(items, dtype)
        for e in range(items):
            terms[e] = times(g[e], y[e])
        s = group_sum(pairs(terms, 0, 1, many), lanes, warps, storage, place())
        scale = factor_of(beta, y)
        for e in range(items):
            out[e] = y[e] * scale * (g[e] - s)

    @lane
    def softmax_pair(x, beta, storage):
        same_type(x, dtype)
        need(x, items)
        law = law_of(beta, x)
        powers = registers.local.array(items, dtype)
        m = _largest(x, items, law[0])
        m = group_max(m, lanes, warps, storage, place())
        shift = finite(m, like(x, 0.0))
        for e in range(items):
            powers[e] = raised_exp(x[e] * law[0] - shift, law)
        s = group_sum(pairs(powers, 0, 1, many), lanes, warps, storage[count:], place())
        return m * law[0], lowered(s)

    @lane
    def maxout(x, storage):
        same_type(x, dtype)
        need(x, items)
        best, item = _best(x, items)
        rank = thread_rank() % threads
        index = item * threads + rank if striped else rank * items + item
        best, index = lanes_winner(best, index, lanes)
        if count > 1:
            first, warp = place()
            if first:
                storage[warp] = best
                storage[count + warp] = index
            syncthreads()
            best, index = storage[0], np.int64(storage[count])
            for w in range(1, count):
                other, i = storage[w], np.int64(storage[count + w])
                if first_wins(other, i, best, index):
                    best = other
                    index = i
        return best, index

    return _Functions(softmax, softmax_vjp, softmax_pair, maxout)


class Warp(_Functions):
    """Functions for a group of lanes of a warp that share a slice.

    ``Warp(dtype, items_per_thread, lanes=32, *, arrangement="blocked")`` has the device functions

    - ``softmax(x, out, beta)``: write y = exp(βx − max βx) / Σ exp(βx − max βx) to `out`, which may
      be `x`;
    - ``softmax_vjp(g, y, out, beta)``: write β y (g − ⟨g, y⟩) to `out`, which may be `g` or `y`;
    - ``softmax_pair(x, beta)``: return the pair (m, Σ exp(β(x − m))), the same to all lanes, for
      `merge` and `weight`;
    - ``maxout(x)``: return the slice's maximum and its index (int64), the same to all lanes.

    All 32 threads of a warp have to call together, so a block has whole warps; each group of
    `lanes` neighbouring threads has a slice of its own, of ``lanes * items_per_thread`` numbers. No
    shared memory is used.

    Parameters
    ----------
    dtype : dtype
        Of a thread's numbers: float32 or float64; for `maxout` also (u)int32 or (u)int64.
    items_per_thread : int
        How many numbers each thread has, 1 to 255.
    lanes : int, default 32
        How many threads share a slice: 1, 2, 4, 8, 16 or 32.
    arrangement : str, default "blocked"
        Which of equal numbers is the first, and what an index counts: number `i` of the group's
        thread `t` is the slice's ``t * items_per_thread + i`` ("blocked") or ``i * lanes + t``
        ("striped", as neighbouring threads read neighbouring memory).

    Raises
    ------
    TypeError
        If `dtype` is another one.
    ValueError
        If a number or the arrangement is another one.

    Notes
    -----
    Make it outside the kernel. Arrays are one-dimensional, of `dtype` and at least
    `items_per_thread` long: another dtype is a ``TypingError`` when the kernel is compiled, and
    with a shorter array the kernel prints a message and ends with an error. Sums go over a thread's
    numbers in pairs, neighbours first, then over the lanes so. Special values are those of
    `thread_softmax`; groups without a slice of their own may call with any numbers.

    Examples
    --------
    Eight lanes take a row of 32:

    >>> import numpy as np
    >>> from numba import cuda
    >>> from numba_acts import cuda as acts
    >>> group = acts.Warp(np.float32, items_per_thread=4, lanes=8)
    >>> @cuda.jit
    ... def softmin_rows(x, y):
    ...     row, lane = cuda.grid(1) // 8, cuda.grid(1) % 8
    ...     mine = cuda.local.array(4, np.float32)
    ...     for i in range(4):
    ...         mine[i] = x[row, 4 * lane + i] if row < x.shape[0] else 0
    ...     group.softmax(mine, mine, -1.0)
    ...     if row < x.shape[0]:
    ...         for i in range(4):
    ...             y[row, 4 * lane + i] = mine[i]
    """

    _made: Callable[[], Any]  # makes it again, where it is unpickled

    def __new__(
        cls,
        dtype: DTypeLike,
        items_per_thread: int,
        lanes: int = 32,
        *,
        arrangement: str = "blocked",
    ) -> "Warp":
        """Check the constants, and make functions for them or take those made before."""
        if integer("lanes", lanes) not in (1, 2, 4, 8, 16, 32):
            raise ValueError(f"lanes must be 1, 2, 4, 8, 16 or 32, got {lanes}")
        given = _dtype(dtype), _items(items_per_thread), int(lanes)
        self = super().__new__(cls, *_within_warp(*given, 1, _striped(arrangement)))
        self._made = functools.partial(cls, *given, arrangement=arrangement)
        return self

    def __reduce__(self) -> Any:
        return self._made, ()


@functools.cache
def _within_warp(*constants: Any) -> _Functions:
    """Threads of one warp meet nowhere: of the storage, any array, nothing is read or written."""
    on_softmax, on_softmax_vjp, on_softmax_pair, on_maxout = _functions(*constants)

    @lane
    def softmax(x, out, beta):
        on_softmax(x, out, beta, x)

    @lane
    def softmax_vjp(g, y, out, beta):
        on_softmax_vjp(g, y, out, beta, y)

    @lane
    def softmax_pair(x, beta):
        return on_softmax_pair(x, beta, x)

    @lane
    def maxout(x):
        return on_maxout(x, x)

    return _Functions(softmax, softmax_vjp, softmax_pair, maxout)


class _BlockFunctions(NamedTuple):
    softmax: Any
    softmax_vjp: Any
    softmax_pair: Any
    maxout: Any
    temp_storage: int


class Block(_BlockFunctions):
    """Functions for the threads of a block, which share one slice.

    ``Block(dtype, threads, items_per_thread, *, arrangement="blocked")`` has those of `Warp`, each
    with the shared memory that it works in as its last argument: ``softmax(x, out, beta, temp)``,
    ``softmax_vjp(g, y, out, beta, temp)``, ``softmax_pair(x, beta, temp)``, ``maxout(x, temp)``.

    All threads of the block have to call together; the slice has ``threads * items_per_thread``
    numbers.

    Parameters
    ----------
    dtype : dtype
        Of a thread's numbers: float32 or float64; for `maxout` also (u)int32 or (u)int64.
    threads : int
        How many threads a block has: a multiple of 32, up to 1024.
    items_per_thread : int
        How many numbers each thread has, 1 to 255.
    arrangement : str, default "blocked"
        As for `Warp`, with the threads of the block for lanes.

    Attributes
    ----------
    temp_storage : int
        How many numbers of `dtype` of shared memory the functions need: ``temp =
        cuda.shared.array(block.temp_storage, dtype)``.

    Raises
    ------
    TypeError
        If `dtype` is another one.
    ValueError
        If a number or the arrangement is another one.

    Notes
    -----
    Before `temp` is used again, by another of these functions too, all threads have to pass
    ``cuda.syncthreads()``. A kernel that passes an array that is too short prints a message and
    ends with an error; a launch with another number of threads is noticed in Numba's simulator
    alone. Sums go over a thread's numbers in pairs, neighbours first, then so over the lanes of a
    warp, then over warps.

    Examples
    --------
    A block takes a row of 1000:

    >>> import numpy as np
    >>> from numba import cuda
    >>> from numba_acts import cuda as acts
    >>> block = acts.Block(np.float32, threads=256, items_per_thread=4)
    >>> @cuda.jit
    ... def softmax_rows(x, y, beta):
    ...     temp = cuda.shared.array(block.temp_storage, np.float32)
    ...     mine = cuda.local.array(4, np.float32)
    ...     row, thread = cuda.blockIdx.x, cuda.threadIdx.x
    ...     for i in range(4):
    ...         j = 256 * i + thread
    ...         mine[i] = x[row, j] if j < x.shape[1] else -np.inf
    ...     block.softmax(mine, mine, beta, temp)
    ...     for i in range(4):
    ...         j = 256 * i + thread
    ...         if j < x.shape[1]:
    ...             y[row, j] = mine[i]
    """

    _made: Callable[[], Any]  # makes it again, where it is unpickled

    def __new__(
        cls,
        dtype: DTypeLike,
        threads: int,
        items_per_thread: int,
        *,
        arrangement: str = "blocked",
    ) -> "Block":
        """Check the constants, and make functions for them or take those made before."""
        if integer("threads", threads) not in range(WARP, 1025, WARP):
            raise ValueError(f"threads must be a multiple of 32 up to 1024, got {threads}")
        kind, items, count = _dtype(dtype), _items(items_per_thread), int(threads) // WARP
        functions = _within_block(kind, items, WARP, count, _striped(arrangement))
        self = super().__new__(cls, *functions, 2 * count)
        self._made = functools.partial(cls, kind, int(threads), items, arrangement=arrangement)
        return self

    def __reduce__(self) -> Any:
        return self._made, ()


@functools.cache
def _within_block(*constants: Any) -> _Functions:
    on_softmax, on_softmax_vjp, on_softmax_pair, on_maxout = _functions(*constants)
    dtype, count = constants[0], constants[3]
    room, threads = 2 * count, WARP * count

    @lane
    def check(temp):
        same_type(temp, dtype)
        need(temp, room)
        need_threads(threads)

    @lane
    def softmax(x, out, beta, temp):
        check(temp)
        on_softmax(x, out, beta, temp)

    @lane
    def softmax_vjp(g, y, out, beta, temp):
        check(temp)
        on_softmax_vjp(g, y, out, beta, temp)

    @lane
    def softmax_pair(x, beta, temp):
        check(temp)
        return on_softmax_pair(x, beta, temp)

    @lane
    def maxout(x, temp):
        check(temp)
        return on_maxout(x, temp)

    return _Functions(softmax, softmax_vjp, softmax_pair, maxout)


# ---- constants ----------------------------------------------------------------------------------


def _dtype(dtype: DTypeLike) -> Any:
    """The scalar type of a dtype that threads can have numbers of."""
    try:
        kind = None if dtype is None else np.dtype(dtype).type
    except TypeError:
        kind = None
    if kind not in NUMBERS:
        given = dtype if kind is None else np.dtype(kind).name
        raise TypeError(
            f"dtype must be float32, float64, int32, int64, uint32 or uint64, got {given}"
        )
    return kind


def _items(count: int) -> int:
    number = integer("items_per_thread", count)
    if not 1 <= number <= MOST_ITEMS:
        raise ValueError(f"items_per_thread must be 1 to {MOST_ITEMS}, got {number}")
    return number


def _striped(arrangement: str) -> bool:
    if arrangement not in ("blocked", "striped"):
        raise ValueError(f'arrangement must be "blocked" or "striped", got {arrangement!r}')
    return arrangement == "striped"


if not SIMULATED:
    from numba.cuda import types
    from numba.cuda.extending import typeof_impl

    @typeof_impl.register(Block)
    def _typeof_block(block: Block, context: Any) -> Any:
        """A block's storage is a constant to the compiler, as `cuda.shared.array` wants it."""
        *functions, storage = block
        kinds = [typeof_impl(function, context) for function in functions]
        return types.NamedTuple([*kinds, types.literal(storage)], Block)
