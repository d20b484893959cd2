"""Maxout of an affine map: matrix products by NumPy's BLAS, the rest fused behind them in cache.

x is (rows, d), a weight (units·pieces, d), a bias (units·pieces) or empty, y and index (rows, units).
The pieces of all rows would be an array of (rows, units, pieces); only a block of it ever exists. A
block has a multiple of `ALIGNED` rows, zeros filling up the last one, so that the BLAS takes a row's
product by the same code wherever in a batch the row stands.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numba import prange

from numba_acts.cpu import maxout
from numba_acts.cpu.launch import parallel, run, serial
from numba_acts.cpu.math import LANES, get, load, put, store

# Tuned on two cores of an AMD Zen 3 with 32 MB of shared L3 cache.
BLOCK_BYTES = 1 << 20  # the pieces of one block of rows
GRADIENT_BYTES = 1 << 22  # the same for the gradient, which rewrites dweight once a block
ALIGNED = 16


def forward(x, weight, bias, y, index, pieces):
    """y = max over i of weight[u, i]·x + bias[u, i], and the index of the first such i."""
    weight, bias = numbers(weight), numbers(bias)
    z = _block(len(x), len(weight), BLOCK_BYTES, weight.dtype)
    for rows, block in _blocks(z, len(x)):
        _product(x[rows], weight, block)
        chosen = index[rows].ravel() if index.size else index.ravel()
        task = y[rows].ravel(), chosen, y.shape[1], pieces
        maxout.affine_maxima(block.ravel(), bias, *task)


def jvp(dx, x, weight, dweight, dbias, index, dy, pieces):
    """dy = weight[u, i*]·dx + dweight[u, i*]·x + dbias[u, i*], any of the tangents being None."""
    weight, dbias = numbers(weight), numbers(dbias)
    dweight = None if dweight is None else numbers(dweight)
    z = _block(len(index), len(weight), BLOCK_BYTES, weight.dtype)
    for rows, block in _blocks(z, len(index)):
        block[...] = 0
        if dx is not None:
            _product(dx[rows], weight, block)
        if dweight is not None:
            block += _product(x[rows], dweight, np.empty_like(block))
        task = index[rows].ravel(), dy[rows].ravel(), dy.shape[1], pieces
        maxout.affine_selection(block.ravel(), dbias, *task)


def vjp(g, x, weight, index, dx, dweight, dbias, pieces):
    """dx = Σ g weight[u, i*] over units; dweight = Σ g x, dbias = Σ g over the rows won by a piece."""
    weight = numbers(weight)
    units = g.shape[1]
    z = _block(len(x), len(weight), GRADIENT_BYTES, weight.dtype)
    sums, part = np.zeros_like(weight), np.empty_like(weight)
    bias_sums = np.zeros(len(weight), np.promote_types(weight.dtype, np.int64))
    for rows, block in _blocks(z, len(x)):
        here = index[rows].ravel()
        selected = block[: len(here) // units]
        block[len(selected) :] = 0
        flat = selected.ravel()
        maxout.vjp(numbers(g[rows]).ravel(), here, flat, len(here), pieces, 1)
        convert(np.matmul(block, weight)[: len(selected)].ravel(), dx[rows].ravel())
        sums += np.matmul(selected.T, numbers(x[rows]), out=part)
        maxout.affine_bias(g[rows].ravel(), here, bias_sums, units, pieces)
    convert(sums.ravel(), dweight.ravel())
    convert(bias_sums.astype(weight.dtype), dbias.ravel())


# ---- blocks -----------------------------------------------------------------------------------


def _block(rows: int, width: int, size: int, dtype: np.dtype) -> np.ndarray:
    most = max(1, size // max(1, width * dtype.itemsize) // ALIGNED)
    return np.empty((ALIGNED * min(most, -(-rows // ALIGNED)), width), dtype)


def _blocks(z: np.ndarray, rows: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Which rows are in a block, and the memory for their pieces, an aligned number of rows."""
    for start in range(0, rows, len(z)):
        count = min(len(z), rows - start)
        yield slice(start, start + count), z[: -(-count // ALIGNED) * ALIGNED]


def _product(x: np.ndarray, weight: np.ndarray, z: np.ndarray) -> np.ndarray:
    """x·weight for the rows of x; the rest of z is the product of zeros."""
    x = numbers(x)
    if len(x) < len(z):
        x = np.concatenate([x, np.zeros((len(z) - len(x), x.shape[1]), x.dtype)])
    return np.matmul(x, weight.T, out=z)


# ---- sixteen-bit floats -----------------------------------------------------------------------


def numbers(array: Any) -> np.ndarray:
    """An array as the BLAS computes with it: sixteen-bit floats widened to float32."""
    if array.dtype.names is None:
        return array
    wide = np.empty(array.shape, np.float32)
    convert(array.ravel(), wide.ravel())
    return wide


def convert(x: np.ndarray, out: np.ndarray) -> None:
    """Copy numbers from one held dtype to another."""
    if x.dtype == out.dtype or (x.dtype.names is None and out.dtype.names is None):
        out[...] = x
    else:
        run(conversion, conversion_parallel, -(-x.size // LANES), x.size, x, out)


@serial
def conversion(x, out, start, stop):
    """Contiguous numbers of one float format to another; a unit is eight of them."""
    whole = min(stop, x.size // LANES) * LANES
    for i in range(start * LANES, whole, LANES):
        store(out, i, load(x, i))
    for i in range(whole, min(stop * LANES, x.size)):
        put(out, i, get(x, i))


@parallel
def conversion_parallel(x, out, units, threads):
    for p in prange(threads):
        t = np.int64(p)
        conversion(x, out, t * units // threads, (t + 1) * units // threads)
