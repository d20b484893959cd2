"""Maxout of an affine map: a layer of units, each the largest of several affine maps.

x is (rows, d), a weight (units, pieces, d), a bias (units, pieces) or empty, y and index
(rows, units), all of them flat here. The matrix products are those of the caller's library, which
has cuBLAS; bias, maximum and index follow in one kernel. cuBLAS chooses how to sum by the number of
rows, so that here, unlike elsewhere in this library, the last bits of a row may depend on the batch
around it. Integers, which cuBLAS has no products for, have a plain kernel.

The derivatives send g to the winning pieces, (rows, units·pieces), and take products with that.
Those of weight and bias are sums over all rows, added batch after batch.
"""

import math
from typing import Any

import numpy as np
from numba import cuda

from numba_acts._cuda import maxout
from numba_acts._cuda.lanes import WARP
from numba_acts._cuda.launch import Memory, run, specialised
from numba_acts._cuda.memory import WIDE_BYTES, get, held, load, put, store

PIECES = 1 << 28  # bytes at most, of the pieces of a batch of rows: they are kept until it is done
ROWS = 128  # of a batch, or a multiple: tiles of matrix products are filled
THREADS = 128


def _threads(*constants: Any) -> int:
    return THREADS


# ---- kernels ----------------------------------------------------------------------------------


@specialised(_threads)
def integer_products(dtype):
    """A matrix product of integers, a thread an entry: any strides, sums that wrap at 64 bits."""

    def kernel(a, b, out, rows, depth, columns, a_row, a_step, b_step, b_column):
        place = np.int64(cuda.blockIdx.x) * THREADS + np.int64(cuda.threadIdx.x)
        if place < rows * columns:
            row = place // columns
            column = place - row * columns
            total = place * 0
            for k in range(depth):
                left = get(a, row * a_row + k * a_step)
                total += left * get(b, k * b_step + column * b_column)
            put(out, place, total)

    return kernel


@specialised(_threads)
def fill(kind):
    """One number everywhere; `kind` is nothing but the kernel's name."""

    def kernel(out, size, value):
        place = np.int64(cuda.blockIdx.x) * THREADS + np.int64(cuda.threadIdx.x)
        if place < size:
            put(out, place, value)

    return kernel


@specialised(_threads)
def accumulate(dtype):
    """total += part, number by number: the gradients of one batch of rows after the other."""
    one = (0,)

    def kernel(total, part, size):
        numbers = cuda.local.array(2, dtype)
        place = np.int64(cuda.blockIdx.x) * THREADS + np.int64(cuda.threadIdx.x)
        if place < size:
            load(total, place, numbers, 0, one)
            load(part, place, numbers, 1, one)
            numbers[0] += numbers[1]
            store(total, place, numbers, 0, one)

    return kernel


@specialised(_threads)
def tangent(dtype, index_dtype):
    """dy: the sum of up to three terms at the winning piece, of which an absent one is empty."""
    one = (0,)

    def kernel(first, second, dbias, index, dy, size, units, pieces, has_1, has_2, has_3):
        winner = cuda.local.array(1, index_dtype)
        numbers = cuda.local.array(2, dtype)
        place = np.int64(cuda.blockIdx.x) * THREADS + np.int64(cuda.threadIdx.x)
        if place < size:
            load(index, place, winner, 0, one)
            numbers[0] = 0
            numbers[1] = 0
            if 0 <= winner[0] and winner[0] < pieces:
                piece = np.int64(winner[0])
                if has_1:
                    load(first, place * pieces + piece, numbers, 0, one)
                if has_2:
                    load(second, place * pieces + piece, numbers, 1, one)
                    numbers[0] += numbers[1]
                if has_3:
                    load(dbias, place % units * pieces + piece, numbers, 1, one)
                    numbers[0] += numbers[1]
            store(dy, place, numbers, 0, one)

    return kernel


@specialised(_threads)
def selected(lanes, access, dtype, index_dtype):
    """The winners' weights: `lanes` threads copy those of an (r, u), or write zeros for none."""
    width, one, per_block = len(access), (0,), THREADS // lanes

    def kernel(weight, index, out, size, units, pieces, depth):
        winner = cuda.local.array(1, index_dtype)
        numbers = cuda.local.array(width, dtype)
        thread = np.int64(cuda.threadIdx.x)
        place = np.int64(cuda.blockIdx.x) * per_block + thread // lanes
        if place < size:
            load(index, place, winner, 0, one)
            there = (place % units * pieces + np.int64(winner[0])) * depth
            for k in range(thread % lanes * width, depth, lanes * width):
                for v in range(width):
                    numbers[v] = 0
                if 0 <= winner[0] and winner[0] < pieces:
                    load(weight, there + k, numbers, 0, access)
                store(out, place * depth + k, numbers, 0, access)

    return kernel


# ---- which kernels ----------------------------------------------------------------------------


def product_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype of a product of two matrices of a dtype: 16-bit floats are summed in float32."""
    if dtype.kind in "iub":
        return np.dtype(np.int64)
    return np.dtype(held(dtype))


def zero(out: Memory) -> None:
    """Fill `out` with zeros."""
    if out.size:
        value = 0 if out.dtype.kind in "iub" else 0.0
        run(fill(1), -(-out.size // THREADS), out, out.size, value)


def _multiply(a: Memory, b: Memory, out: Memory, *task: Any) -> None:
    """``out = A B``, (rows, columns), of A (rows, depth) and B (depth, columns).

    The task is rows, depth, columns, and whether A and B lie in memory as their transposes.
    """
    rows, depth, columns, a_turned, b_turned = task
    if not rows * depth * columns:
        zero(Memory(out.pointer, out.dtype, rows * columns, out.queue, out.owner))
        return
    if a.dtype.kind not in "iub":
        out.queue.multiply(a, b, out, *task)
        return
    a_strides = (1, rows) if a_turned else (depth, 1)
    b_strides = (1, depth) if b_turned else (columns, 1)
    lengths = rows, depth, columns
    kernel = integer_products(np.int64)
    run(kernel, -(-rows * columns // THREADS), a, b, out, *lengths, *a_strides, *b_strides)


def _batches(rows: int, width: int, dtype: np.dtype) -> Any:
    """Rows whose pieces take little memory, as (first, count)."""
    together = max(ROWS, PIECES // (width * dtype.itemsize) // ROWS * ROWS)
    for first in range(0, rows, together):
        yield first, min(together, rows - first)


def affine(
    x: Memory,
    weight: Memory,
    bias: Memory,
    y: Memory,
    index: Memory,
    units: int,
    pieces: int,
    depth: int,
) -> None:
    """Fill y and, unless it is empty, index; an empty bias is none."""
    rows, width, dtype = y.size // units, units * pieces, product_dtype(x.dtype)
    for first, count in _batches(rows, width, dtype):
        z = y.queue.empty(count * width, dtype)
        _multiply(x.past(first * depth), weight, z, count, depth, width, False, True)
        into, winners = y.past(first * units), index.past(first * units if index.size else 0)
        maxout.biased_maxout(z, bias, into, winners, count * units, pieces, units)


def affine_vjp(
    g: Memory,
    x: Memory,
    weight: Memory,
    index: Memory,
    dx: Memory,
    dweight: Memory,
    dbias: Memory,
    units: int,
    pieces: int,
    depth: int,
) -> None:
    """Fill dx, dweight and dbias, which are of `product_dtype`."""
    rows, width, queue = index.size // units, units * pieces, g.queue
    kind = (dweight.dtype.type,)
    for first, count in _batches(rows, width, dweight.dtype):
        routed = queue.empty(count * width, g.dtype)
        ones = queue.empty(count, g.dtype)
        given, winners = g.past(first * units), index.past(first * units)
        run(fill(1), -(-count // THREADS), ones, count, 1 if g.dtype.kind in "iub" else 1.0)
        maxout.vjp(given, winners, routed, count * units, pieces, 1)
        inputs, into = x.past(first * depth), dx.past(first * depth)
        _multiply(routed, weight, into, count, width, depth, False, False)
        for a, b, total, *task in (
            (routed, inputs, dweight, width, count, depth, True, False),
            (ones, routed, dbias, 1, count, width, False, False),
        ):
            part = total if first == 0 else queue.empty(total.size, total.dtype)
            _multiply(a, b, part, *task)
            if first:
                run(accumulate(*kind), -(-total.size // THREADS), total, part, total.size)


def affine_jvp(
    dx: Memory,
    x: Memory,
    weight: Memory,
    dweight: Memory,
    dbias: Memory,
    index: Memory,
    dy: Memory,
    units: int,
    pieces: int,
    depth: int,
) -> None:
    """Fill dy; an empty tangent is zero."""
    rows, width, dtype = dy.size // units, units * pieces, product_dtype(x.dtype)
    for first, count in _batches(rows, width, dtype):
        terms = []
        for a, b in ((dx, weight), (x, dweight)):
            present = dx.size if b is weight else dweight.size
            z = dy.queue.empty(count * width if present else 0, dtype)
            if present:
                _multiply(a.past(first * depth), b, z, count, depth, width, False, True)
            terms.append(z)
        into, winners = dy.past(first * units), index.past(first * units)
        flags = [int(a.size > 0) for a in (*terms, dbias)]
        kernel = tangent(dtype.type, maxout.index_held(index.dtype))
        size = count * units
        blocks = -(-size // THREADS)
        run(kernel, blocks, *terms, dbias, winners, into, size, units, pieces, *flags)


def affine_jacobian(
    weight: Memory, index: Memory, out: Memory, units: int, pieces: int, depth: int
) -> None:
    """Fill `out` with the winners' weights."""
    access = math.gcd(depth, WIDE_BYTES // weight.dtype.itemsize)
    while not (weight.aligned(access) and out.aligned(access)):
        access //= 2
    lanes = min(1 << (-(-depth // access) - 1).bit_length(), WARP)
    kinds = held(weight.dtype), maxout.index_held(index.dtype)
    kernel = selected(lanes, (0,) * access, *kinds)
    blocks = -(-index.size // (THREADS // lanes))
    run(kernel, blocks, weight, index, out, index.size, units, pieces, depth)
