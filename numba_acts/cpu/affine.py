"""Maxout of an affine map: a layer of units, each the largest of several affine maps.

x is (rows, d), a weight (units, pieces, d), a bias (units, pieces) or empty, y and index
(rows, units), all of them flat here. Forward, every piece is needed: the products go to NumPy's BLAS
and the maximum follows behind them in cache, so that of (rows, units, pieces) only a block exists.
The derivatives need the winners alone: they touch one piece in a unit, and no product is wasted.
"""

import numpy as np
from numba import prange

from numba_acts.cpu.launch import parallel, run, serial
from numba_acts.cpu.math import (
    LANES,
    extract,
    fill,
    get,
    head,
    lane,
    lanes_sum,
    load,
    load_some,
    memory,
    put,
    store,
    store_some,
)

# Tuned on two cores of an AMD Zen 3, 32 KB of L1 and 512 KB of L2 cache each.
BLOCK_BYTES = 1 << 19  # pieces that the BLAS makes at a time
ROWS = 128  # rows of x that are kept in cache for many units
UNITS = 16  # units whose sums are kept in cache for many rows
SPAN = 128  # numbers of a row that are handled at a time


@lane
def add_scaled(sums, at, x, i, count, factor):
    """Add factor·x[i:i+count] to sums[at:at+count], which has room for a multiple of eight."""
    whole = count & -LANES
    for j in range(0, whole, LANES):
        store(sums, at + j, load(sums, at + j) + load(x, i + j) * factor)
    if whole < count:
        term = load_some(x, i + whole, count - whole) * factor
        store(sums, at + whole, load(sums, at + whole) + term)


@lane
def take_sums(sums, at, out, i, count):
    """out[i:i+count] = sums[at:at+count], and zeros in their place."""
    for j in range(0, count, LANES):
        v = load(sums, at + j)
        if count - j >= LANES:
            store(out, i + j, v)
        else:
            store_some(out, i + j, count - j, v)
        store(sums, at + j, fill(v, 0))


@lane
def dot(a, i, b, j, count):
    """a[i:i+count]·b[j:j+count], in an order that depends on the count alone."""
    zero = fill(load_some(a, i, 1), 0)
    p, q, r, s = zero, zero, zero, zero
    fours = count // (4 * LANES) * (4 * LANES)
    for k in range(0, fours, 4 * LANES):
        p = p + load(a, i + k) * load(b, j + k)
        q = q + load(a, i + k + 8) * load(b, j + k + 8)
        r = r + load(a, i + k + 16) * load(b, j + k + 16)
        s = s + load(a, i + k + 24) * load(b, j + k + 24)
    for k in range(fours, count, LANES):
        some = min(LANES, count - k)
        p = p + head(load_some(a, i + k, some) * load_some(b, j + k, some), some, 0)
    return extract(lanes_sum((p + q) + (r + s)), 0)


# ---- forward: behind the BLAS -----------------------------------------------------------------


@serial
def winners(z, bias, out, index, units, pieces, start, stop):
    """max over i of z[r, u, i] + bias[u, i] and the first such i; a unit of work is a row r."""
    for r in range(start, stop):
        for u in range(units):
            first = (r * units + u) * pieces
            best, winner = get(z, first), 0
            if bias.size:
                best = best + get(bias, u * pieces)
            for i in range(1, pieces):
                v = get(z, first + i)
                if bias.size:
                    v = v + get(bias, u * pieces + i)
                if v > best or (v != v and best == best):
                    best, winner = v, i
            put(out, r * units + u, best)
            if index.size:
                put(index, r * units + u, winner)


@parallel
def winners_parallel(z, bias, out, index, units, pieces, rows, threads):
    for p in prange(threads):
        t = np.int64(p)
        start, stop = t * rows // threads, (t + 1) * rows // threads
        winners(z, bias, out, index, units, pieces, start, stop)


# ---- derivatives: the winners alone -----------------------------------------------------------


@serial
def gradient_x(g, weight, index, dx, units, pieces, depth, start, stop):
    """dx[r] = Σ_u g[r, u] weight[u, i*]; a unit of work is a row r."""
    sums = memory(weight, SPAN)
    for j in range(0, SPAN, LANES):
        store(sums, j, fill(load(sums, j), 0))
    for span in range(0, depth, SPAN):
        count = min(SPAN, depth - span)
        for r in range(start, stop):
            for u in range(units):
                at = r * units + u
                winner = u * pieces + np.intp(index[at])
                add_scaled(sums, 0, weight, winner * depth + span, count, get(g, at))
            take_sums(sums, 0, dx, r * depth + span, count)


@parallel
def gradient_x_parallel(g, weight, index, dx, units, pieces, depth, rows, threads):
    for p in prange(threads):
        t = np.int64(p)
        start, stop = t * rows // threads, (t + 1) * rows // threads
        gradient_x(g, weight, index, dx, units, pieces, depth, start, stop)


@serial
def gradient_weight(g, x, index, dweight, dbias, units, pieces, depth, start, stop):
    """dweight[u, i*] += g[r, u] x[r] and dbias[u, i*] += g[r, u]; a unit of work is `UNITS` of u."""
    rows = index.size // units
    sums = memory(x, UNITS * pieces * SPAN)
    for j in range(0, sums.size, LANES):
        store(sums, j, fill(load(sums, j), 0))
    for group in range(start * UNITS, min(stop * UNITS, units), UNITS):
        last = min(group + UNITS, units)
        for span in range(0, depth, SPAN):
            count = min(SPAN, depth - span)
            for block in range(0, rows, ROWS):
                for u in range(group, last):
                    for r in range(block, min(block + ROWS, rows)):
                        piece = (u - group) * pieces + np.intp(index[r * units + u])
                        factor = get(g, r * units + u)
                        add_scaled(sums, piece * SPAN, x, r * depth + span, count, factor)
            for piece in range((last - group) * pieces):
                there = (group * pieces + piece) * depth + span
                take_sums(sums, piece * SPAN, dweight, there, count)
        for u in range(group, last):
            for r in range(rows):
                at = (u - group) * pieces + np.intp(index[r * units + u])
                put(sums, at, get(sums, at) + get(g, r * units + u))
        for piece in range((last - group) * pieces):
            put(dbias, group * pieces + piece, get(sums, piece))
            put(sums, piece, get(sums, piece) * 0)


@parallel
def gradient_weight_parallel(g, x, index, dweight, dbias, units, pieces, depth, groups, threads):
    for p in prange(threads):
        t = np.int64(p)
        start, stop = t * groups // threads, (t + 1) * groups // threads
        gradient_weight(g, x, index, dweight, dbias, units, pieces, depth, start, stop)


@serial
def tangent(dx, x, weight, dweight, dbias, index, dy, units, pieces, depth, start, stop):
    """dy = weight[u, i*]·dx + dweight[u, i*]·x + dbias[u, i*]; an empty tangent is zero.

    A unit of work is `ROWS` rows, for which each unit's pieces are read from memory once.
    """
    zero = extract(fill(load_some(dy, 0, 1), 0), 0)
    for block in range(start, stop):
        rows = min((block + 1) * ROWS, index.size // units)
        for u in range(units):
            for r in range(block * ROWS, rows):
                piece = u * pieces + np.intp(index[r * units + u])
                v = zero
                if dx.size:
                    v = v + dot(weight, piece * depth, dx, r * depth, depth)
                if dweight.size:
                    v = v + dot(dweight, piece * depth, x, r * depth, depth)
                if dbias.size:
                    v = v + get(dbias, piece)
                put(dy, r * units + u, v)


@parallel
def tangent_parallel(
    dx, x, weight, dweight, dbias, index, dy, units, pieces, depth, blocks, threads
):
    for p in prange(threads):
        t = np.int64(p)
        start, stop = t * blocks // threads, (t + 1) * blocks // threads
        tangent(dx, x, weight, dweight, dbias, index, dy, units, pieces, depth, start, stop)


# ---- sixteen-bit floats for the BLAS ----------------------------------------------------------


@serial
def widening(x, out, start, stop):
    """Sixteen-bit floats to float32; a unit is eight of them."""
    whole = min(stop, x.size // LANES) * LANES
    for i in range(start * LANES, whole, LANES):
        store(out, i, load(x, i))
    for i in range(whole, min(stop * LANES, x.size)):
        put(out, i, get(x, i))


@parallel
def widening_parallel(x, out, units, threads):
    for p in prange(threads):
        t = np.int64(p)
        widening(x, out, t * units // threads, (t + 1) * units // threads)


def _widened(array):
    """An array as the BLAS computes with it."""
    if array.dtype.names is None:
        return array
    wide = np.empty(array.shape, np.float32)
    task = -(-array.size // LANES), array.size, array.ravel(), wide.ravel()
    run(widening, widening_parallel, *task)
    return wide


# ---- what the hall calls ----------------------------------------------------------------------


@np.errstate(all="ignore")
def affine(x, weight, bias, y, index, units, pieces):
    """Fill y and, unless it is empty, index; x is (rows, d) and weight (units·pieces, d)."""
    weight, bias = _widened(weight), _widened(bias)
    rows = min(len(x), max(1, BLOCK_BYTES // (len(weight) * weight.itemsize)))
    products = np.empty((rows, len(weight)), weight.dtype)
    for start in range(0, len(x), rows):
        some = _widened(x[start : start + rows])
        z = np.matmul(some, weight.T, out=products[: len(some)])
        part = slice(start * units, (start + len(some)) * units)
        task = len(some), 4 * z.size, z.ravel(), bias, y[part], index[part]
        run(winners, winners_parallel, *task, units, pieces)


def affine_vjp(g, x, weight, index, dx, dweight, dbias, units, pieces, depth):
    """Fill dx, dweight and dbias."""
    work = index.size * depth
    task = index.size // units, work, g, weight, index, dx
    run(gradient_x, gradient_x_parallel, *task, units, pieces, depth)
    task = -(-units // UNITS), work, g, x, index, dweight, dbias
    run(gradient_weight, gradient_weight_parallel, *task, units, pieces, depth)


def affine_jvp(dx, x, weight, dweight, dbias, index, dy, units, pieces, depth):
    """Fill dy."""
    task = -(-dy.size // (units * ROWS)), dy.size * depth, dx, x, weight, dweight, dbias, index, dy
    run(tangent, tangent_parallel, *task, units, pieces, depth)
