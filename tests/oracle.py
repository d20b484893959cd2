"""The formulas in slow, obvious NumPy: the truth the tests compare with.

Every public name stands here with its own signature, less `out`. Softmin, Softmax2d and the
affine Maxout are computed in a wider float than the one given: float32 and 16-bit floats in
float64, float64 in `np.longdouble`. Maxout moves entries about and keeps their dtype.
"""

import math

import numpy as np


def softmin(x, axis=-1, *, temperature=1.0, where=None):
    return _softmax(x, axis, -1, temperature, where)


def softmin_vjp(g, y, axis=-1, *, temperature=1.0):
    return _product(g, y, axis, -1, temperature)


def softmin_jvp(t, y, axis=-1, *, temperature=1.0):
    return _product(t, y, axis, -1, temperature)


def softmin_jacobian(y, axis=-1, *, temperature=1.0):
    return _jacobian(y, axis, -1, temperature)


def softmin_jacobian_diag(y, *, temperature=1.0):
    return _slope(y, -1, temperature) * wide(y) * (1 - wide(y))


def softmax2d(x, *, channel_axis=-3, temperature=1.0, where=None):
    return _softmax(x, channel_axis, 1, temperature, where)


def softmax2d_vjp(g, y, *, channel_axis=-3, temperature=1.0):
    return _product(g, y, channel_axis, 1, temperature)


def softmax2d_jvp(t, y, *, channel_axis=-3, temperature=1.0):
    return _product(t, y, channel_axis, 1, temperature)


def softmax2d_jacobian(y, *, channel_axis=-3, temperature=1.0):
    return _jacobian(y, channel_axis, 1, temperature)


def softmax2d_jacobian_diag(y, *, temperature=1.0):
    return _slope(y, 1, temperature) * wide(y) * (1 - wide(y))


def maxout(x, axis=-1):
    return maxout_with_index(x, axis)[0]


def maxout_with_index(x, axis=-1, *, index_dtype=np.int32):
    x = np.asarray(x)
    index = np.argmax(x, axis)  # the first NaN, else the first of the largest
    return _pick(x, index, axis), np.asarray(index).astype(index_dtype)[()]


def maxout_vjp(g, index, pieces, axis=-1):
    g = np.asarray(g)
    return np.where(_winner(index, pieces, axis), np.expand_dims(g, axis), g.dtype.type(0))


def maxout_jvp(t, index, axis=-1):
    return _pick(np.asarray(t), index, axis)


def maxout_jacobian(index, pieces, axis=-1, *, dtype=np.float64):
    return _winner(index, pieces, axis).astype(dtype)


def maxout_affine(x, weight, bias=None):
    return maxout_affine_with_index(x, weight, bias)[0]


def maxout_affine_with_index(x, weight, bias=None, *, index_dtype=np.int32):
    if np.ndim(weight) == 2:
        alone = maxout_affine_with_index(x, _unit(weight), _unit(bias), index_dtype=index_dtype)
        return alone[0][..., 0][()], alone[1][..., 0][()]
    pieces = np.einsum("...d,upd->...up", wide(x), wide(weight))
    if bias is not None:
        pieces = pieces + wide(bias)
    return maxout_with_index(pieces, index_dtype=index_dtype)


def maxout_affine_vjp(g, x, weight, index):
    if np.ndim(weight) == 2:
        g, index = np.expand_dims(g, -1), np.expand_dims(index, -1)
        dx, dweight, dbias = maxout_affine_vjp(g, x, _unit(weight), index)
        return dx, dweight[0], dbias[0]
    g, x, weight = wide(g), wide(x), wide(weight)
    units, pieces, d = weight.shape
    routed = g[..., None] * _winner(index, pieces, -1)  # (..., units, pieces)
    dx = np.einsum("...up,upd->...d", routed, weight)
    batch = math.prod(x.shape[:-1])
    routed = routed.reshape(batch, units, pieces)
    dweight = np.einsum("bup,bd->upd", routed, x.reshape(batch, d))
    return dx, dweight, routed.sum(axis=0)


def maxout_affine_jvp(x, weight, index, *, dx=None, dweight=None, dbias=None):
    if np.ndim(weight) == 2:
        index = np.expand_dims(index, -1)
        tangents = {"dx": dx, "dweight": _unit(dweight), "dbias": _unit(dbias)}
        return maxout_affine_jvp(x, _unit(weight), index, **tangents)[..., 0]
    winner = _winner(index, np.shape(weight)[1], -1)
    dy = np.zeros(winner.shape)
    if dx is not None:
        dy = dy + np.einsum("...d,upd->...up", wide(dx), wide(weight))
    if dweight is not None:
        dy = dy + np.einsum("...d,upd->...up", wide(x), wide(dweight))
    if dbias is not None:
        dy = dy + wide(dbias)
    return np.where(winner, dy, 0).sum(axis=-1)


def maxout_affine_jacobian(weight, index):
    if np.ndim(weight) == 2:
        return maxout_affine_jacobian(_unit(weight), np.expand_dims(index, -1))[..., 0, :]
    weight = wide(weight)
    return weight[np.arange(len(weight)), np.asarray(index, np.int64)]


def wide(x):
    """x in a wider float; integers pass through float64, as the library converts them."""
    x = np.asarray(x)
    if x.dtype.kind in "biu" or x.dtype == np.float64:
        return x.astype(np.float64).astype(np.longdouble)
    return x if x.dtype == np.longdouble else x.astype(np.float64)


def _slope(x, sign, temperature):
    """β, a number of the dtype that x is computed in."""
    return sign / wide(x).dtype.type(temperature)


def _softmax(x, axis, sign, temperature, where):
    x, beta = wide(x), _slope(x, sign, temperature)
    where = np.broadcast_to(True if where is None else where, x.shape)
    with np.errstate(all="ignore"):
        if sign > 0:
            winner = np.max(x, axis=axis, keepdims=True, initial=-np.inf, where=where)
        else:
            winner = np.min(x, axis=axis, keepdims=True, initial=np.inf, where=where)
        weight = np.where(where, np.exp(beta * (x - winner)), 0)
        total = weight.sum(axis=axis, keepdims=True)
        total = np.where(total == 0, 1, total)  # a slice that is masked whole: 0 / 1
        return np.where(where, weight / total, 0)[()]


def _product(g, y, axis, sign, temperature):
    beta = _slope(y, sign, temperature)
    g, y = wide(g), wide(y)
    return beta * y * (g - (g * y).sum(axis=axis, keepdims=True))


def _jacobian(y, axis, sign, temperature):
    beta = _slope(y, sign, temperature)
    axis = axis % np.ndim(y)
    y = np.moveaxis(wide(y), axis, -1)
    diagonal = np.where(np.eye(y.shape[-1]), y[..., :, None], 0)
    jacobian = beta * (diagonal - y[..., :, None] * y[..., None, :])
    return np.moveaxis(jacobian, (-2, -1), (axis, axis + 1))


def _pick(x, index, axis):
    """The entry of each slice that index names."""
    index = np.expand_dims(index, axis).astype(np.int64)
    return np.take_along_axis(x, index, axis).squeeze(axis)[()]


def _winner(index, pieces, axis):
    """True at the winning piece of each slice, in the shape of x."""
    index = np.expand_dims(index, axis)
    piece = np.moveaxis(np.arange(pieces).reshape((pieces,) + (1,) * (index.ndim - 1)), 0, axis)
    return piece == index


def _unit(weight):
    """The weight of one unit alone, as a layer of one unit."""
    return None if weight is None else np.expand_dims(weight, 0)


def differences(function, x, step=1e-5):
    """∂function/∂x by central differences in float64, in the shape (*result, *x)."""
    x = np.asarray(x, np.float64)
    columns = []
    for position in np.ndindex(x.shape):
        shift = np.zeros_like(x)
        shift[position] = step
        columns.append((function(x + shift) - function(x - shift)) / (2 * step))
    jacobian = np.stack(columns, axis=-1)
    return jacobian.reshape(*jacobian.shape[:-1], *x.shape)
