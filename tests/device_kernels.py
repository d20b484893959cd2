"""Kernels of a user that call `numba_acts.cuda`, each with cases of arrays and what they must give.

Whoever runs them has a `launch(kernel, blocks, threads, *arrays)`: Numba on a GPU or in its
simulator, or a tool that executes compiled kernels on a CPU.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numba import cuda

from numba_acts import cuda as acts

BETAS = 1.0, -1.0, -0.25, 3.7


class Group(NamedTuple):
    """Threads that have a slice together, and how its kernel is started."""

    label: str
    kernel: Any  # of x, g, beta and the results y, dx, w, best, index
    threads: int  # of a block
    size: int  # numbers of a slice
    slices: int  # of a block
    dtype: Any


def of_thread(dtype: Any, n: int) -> Group:
    @cuda.jit
    def kernel(x, g, beta, y, dx, w, best, index):
        row = cuda.grid(1)
        mine = cuda.local.array(n, dtype)
        other = cuda.local.array(n, dtype)
        if row < x.shape[0]:
            for i in range(n):
                mine[i] = x[row, 0, i]
                other[i] = x[row, 1, i]
            best[row], index[row] = acts.thread_maxout(mine)
            pair = acts.thread_softmax_pair(mine, beta)
            pair = acts.merge(pair, acts.thread_softmax_pair(other, beta), beta)
            nothing = -np.inf if beta > 0 else np.inf
            pair = acts.merge((nothing, 0), acts.merge(pair, (nothing, 0.0), beta), beta)
            one = acts.weight(pair[0], (pair[0], 1), beta)
            for i in range(n):
                w[row, 0, i] = acts.weight(mine[i], pair, beta) * one
                w[row, 1, i] = acts.weight(other[i], pair, beta)
            acts.thread_softmax(mine, mine, beta)
            for i in range(n):
                y[row, i] = mine[i]
                other[i] = g[row, i]
            acts.thread_softmax_vjp(other, mine, other, beta)
            for i in range(n):
                dx[row, i] = other[i]

    return Group(f"thread {n} {dtype.__name__}", kernel, 32, n, 32, dtype)


def of_warp(dtype: Any, items: int, lanes: int, striped: bool = False) -> Group:
    arrangement = "striped" if striped else "blocked"
    group = acts.Warp(dtype, items, lanes, arrangement=arrangement)

    @cuda.jit
    def kernel(x, g, beta, y, dx, w, best, index):
        row, thread = cuda.grid(1) // lanes, cuda.grid(1) % lanes
        mine = cuda.local.array(items, dtype)
        other = cuda.local.array(items, dtype)
        live = row < x.shape[0]
        for e in range(items):
            i = e * lanes + thread if striped else thread * items + e
            mine[e] = x[row, 0, i] if live else 0
            other[e] = x[row, 1, i] if live else 0
        found, place = group.maxout(mine)
        pair = group.softmax_pair(mine, beta)
        pair = acts.merge(pair, group.softmax_pair(other, beta), beta)
        if live:
            best[row], index[row] = found, place
            for e in range(items):
                i = e * lanes + thread if striped else thread * items + e
                w[row, 0, i] = acts.weight(mine[e], pair, beta)
                w[row, 1, i] = acts.weight(other[e], pair, beta)
        group.softmax(mine, mine, beta)
        for e in range(items):
            i = e * lanes + thread if striped else thread * items + e
            other[e] = g[row, i] if live else 0
        group.softmax_vjp(other, mine, other, beta)
        if live:
            for e in range(items):
                i = e * lanes + thread if striped else thread * items + e
                y[row, i] = mine[e]
                dx[row, i] = other[e]

    label = f"warp {items} {lanes} {arrangement} {dtype.__name__}"
    return Group(label, kernel, 64, items * lanes, 64 // lanes, dtype)


def of_block(dtype: Any, threads: int, items: int, striped: bool = False) -> Group:
    arrangement = "striped" if striped else "blocked"
    block = acts.Block(dtype, threads, items, arrangement=arrangement)

    @cuda.jit
    def kernel(x, g, beta, y, dx, w, best, index):
        temp = cuda.shared.array(block.temp_storage, dtype)
        row, thread = cuda.blockIdx.x, cuda.threadIdx.x
        mine = cuda.local.array(items, dtype)
        other = cuda.local.array(items, dtype)
        for e in range(items):
            i = e * threads + thread if striped else thread * items + e
            mine[e] = x[row, 0, i]
            other[e] = x[row, 1, i]
        found, place = block.maxout(mine, temp)
        cuda.syncthreads()
        pair = block.softmax_pair(mine, beta, temp)
        cuda.syncthreads()
        pair = acts.merge(pair, block.softmax_pair(other, beta, temp), beta)
        cuda.syncthreads()
        if thread == threads - 1:
            best[row], index[row] = found, place
        for e in range(items):
            i = e * threads + thread if striped else thread * items + e
            w[row, 0, i] = acts.weight(mine[e], pair, beta)
            w[row, 1, i] = acts.weight(other[e], pair, beta)
        block.softmax(mine, mine, beta, temp)
        cuda.syncthreads()
        for e in range(items):
            i = e * threads + thread if striped else thread * items + e
            other[e] = g[row, i]
        block.softmax_vjp(other, mine, other, beta, temp)
        for e in range(items):
            i = e * threads + thread if striped else thread * items + e
            y[row, i] = mine[e]
            dx[row, i] = other[e]

    label = f"block {threads} {items} {arrangement} {dtype.__name__}"
    return Group(label, kernel, threads, items * threads, 1, dtype)


def of_integers(dtype: Any, scope: str) -> Group:
    """Maxout alone; the other results stay as they are."""
    block, warp = acts.Block(dtype, 64, 2), acts.Warp(dtype, 2, 16)

    @cuda.jit
    def by_block(x, g, beta, y, dx, w, best, index):
        temp = cuda.shared.array(block.temp_storage, dtype)
        mine = cuda.local.array(2, dtype)
        row, thread = cuda.blockIdx.x, cuda.threadIdx.x
        for e in range(2):
            mine[e] = x[row, 0, thread * 2 + e]
        found, place = block.maxout(mine, temp)
        if thread == 0:
            best[row], index[row] = found, place

    @cuda.jit
    def by_warp(x, g, beta, y, dx, w, best, index):
        mine = cuda.local.array(2, dtype)
        row, thread = cuda.grid(1) // 16, cuda.grid(1) % 16
        live = row < x.shape[0]
        for e in range(2):
            mine[e] = x[row, 0, thread * 2 + e] if live else 0
        found, place = warp.maxout(mine)
        if live:
            best[row], index[row] = found, place

    kernel, size, slices = (by_block, 128, 1) if scope == "block" else (by_warp, 32, 4)
    return Group(f"{scope} {dtype.__name__}", kernel, 64, size, slices, dtype)


def groups() -> Iterator[Group]:
    """The kernels of all scopes."""
    for dtype in np.float32, np.float64:
        for n in 1, 4, 7, 32 if dtype == np.float32 else 16:
            yield of_thread(dtype, n)
        for items, lanes in (1, 32), (4, 8), (3, 2), (2, 1), (5, 32):
            yield of_warp(dtype, items, lanes)
        yield of_warp(dtype, 3, 16, striped=True)
        for threads, items in (64, 1), (32, 3), (256, 4):
            yield of_block(dtype, threads, items)
        yield of_block(dtype, 96, 2, striped=True)
    for kind in np.int32, np.int64, np.uint32, np.uint64:
        yield of_integers(kind, "warp")
        yield of_integers(kind, "block")


# ---- what they must give ----------------------------------------------------------------------


def numbers(group: Group, rng: Any) -> tuple[Any, Any]:
    """x, two parts of each slice, and g: ordinary, far apart, equal, and of special values."""
    rows = max(11, group.slices + 5)  # of several slices a block, the last is not full
    shape = rows, 2, group.size
    if np.dtype(group.dtype).kind in "iu":
        info = np.iinfo(group.dtype)
        x = rng.integers(0, 4, shape).astype(group.dtype)
        x[0, :, -1], x[1, :, ::3], x[2] = info.max, info.min, info.min
        return x, np.zeros((rows, group.size), group.dtype)
    x = rng.normal(size=shape)
    x[1] *= 40
    x[2] = 1.5
    x[3] = np.round(x[3])
    x[4, 0, :], x[5, 1, :] = -np.inf, np.inf  # a part without weight, for one sign of beta
    x[6, 0, -1], x[6, 0, 0] = np.inf, -np.inf
    x[7, 0, group.size // 2 :] = np.nan
    x[8] = -np.inf
    x[9] = x[9] * 1e-3 + 1e4
    return x.astype(group.dtype), rng.normal(size=(rows, group.size)).astype(group.dtype)


def softmax(x: Any, beta: float) -> tuple[Any, Any]:
    """The weights along the last axis, and the error that is borne."""
    with np.errstate(all="ignore"):
        signed = np.asarray(x, np.longdouble) * np.sign(beta)
        shifted = signed - np.fmax.reduce(signed, axis=-1, keepdims=True)
        shifted = shifted * np.abs(np.longdouble(x.dtype.type(beta)))
        powers = np.exp(shifted)
        y = powers / powers.sum(axis=-1, keepdims=True)
        eps = np.finfo(x.dtype).eps
        bound = 4 * eps * (1 + np.abs(np.nan_to_num(shifted, neginf=0))) * y
    return y, bound + np.finfo(x.dtype).smallest_subnormal


def close(name: str, found: Any, wanted: Any, bound: Any) -> None:
    """Do numbers agree, where both are finite, and in what is not?"""
    wanted = np.asarray(wanted)
    same = np.isnan(found) == np.isnan(wanted)
    assert same.all(), f"{name}: NaN where none is wanted, or none where one is"
    with np.errstate(invalid="ignore"):
        off = np.abs(found - wanted) > bound
    assert not off.any(), f"{name}: {found[off][:3]}, wanted {wanted[off][:3]}"


def check(group: Group, beta: float, launch: Callable[..., None], rng: Any) -> None:
    """Run a group's kernel and compare all that it gives."""
    x, g = numbers(group, rng)
    rows, dtype = len(x), group.dtype
    y, dx, w = np.zeros_like(g), np.zeros_like(g), np.zeros_like(x)
    best, index = np.zeros(rows, dtype), np.full(rows, -1)
    blocks = -(-rows // group.slices)
    launch(group.kernel, blocks, group.threads, x, g, beta, y, dx, w, best, index)
    np.testing.assert_array_equal(best, x[:, 0].max(-1))
    np.testing.assert_array_equal(index, x[:, 0].argmax(-1))
    if np.dtype(dtype).kind in "iu":
        return
    close("y", y, *softmax(x[:, 0], beta))
    wanted, bound = softmax(x.reshape(rows, -1), beta)
    close("weights of pairs", w.reshape(rows, -1), wanted, 2 * bound)
    wide_y, wide_g = y.astype(np.longdouble), g.astype(np.longdouble)
    with np.errstate(invalid="ignore"):
        along = (wide_g * wide_y).sum(-1, keepdims=True)
        scale = np.abs(wide_g) + (np.abs(wide_g) * wide_y).sum(-1, keepdims=True)
        slope = np.longdouble(dtype(beta)) * wide_y
        info = np.finfo(dtype)  # β y may be subnormal, and is rounded before it is multiplied
        bound = 16 * info.eps * np.abs(slope) * scale + info.smallest_subnormal * (1 + scale)
        close("dx", dx, slope * (wide_g - along), bound)
