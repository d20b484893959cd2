"""The public names inside `@njit` code: arrays in, arrays out, on the calling thread.

A function that Numba compiles may call them as Python does, in `prange` loops too. What the types
tell is decided while compiling: wrong kinds, dtypes and ranks are a TypeError or a ValueError
there, and code that a call cannot reach (columns for contiguous slices, masks where there are none)
is left out. The kernels are those of every other call, and so are the bits.

First the functions, whose arguments' types choose what is compiled; then the choice of a kernel;
then checks and memory. In signatures here, `x` and the like are Numba types outside of compiled
code.
"""

import functools
import importlib
import inspect

import numpy as np
from numba import njit, types
from numba.core.imputils import impl_ret_borrowed
from numba.cpython.unsafe.tuple import tuple_setitem
from numba.extending import intrinsic, overload
from numba.np.arrayobj import populate_array
from numba.np.numpy_support import as_dtype, from_dtype

from numba_acts._compiler import OPTIONS
from numba_acts._cpu import affine as cpu_affine
from numba_acts._cpu import forward as cpu_forward
from numba_acts._cpu import jacobian as cpu_jacobian
from numba_acts._cpu import maxout as cpu_maxout
from numba_acts._cpu import product as cpu_product
from numba_acts._cpu import slices as cpu_slices
from numba_acts._cpu.caches import FAR_FROM
from numba_acts._cpu.lanes import LANES
from numba_acts._cpu.linked import linked
from numba_acts._cpu.memory import WIDE_BYTES
from numba_acts._dtypes import BOOL
from numba_acts._halls import rules

AxisError = np.exceptions.AxisError

# Numba itself hands over keywords so; what they were meant for can't always be seen.
BY_PLACE = (
    " (on Python 3.11 and 3.12 Numba takes keywords inside `try` for positions: name them in the "
    "signature's order, from the first on)"
)
_BOOL = from_dtype(BOOL)

_compiled = njit(**OPTIONS)
_inlined = njit(**OPTIONS, inline="always")


def compiled(name, args, kwargs):
    """What is compiled of a public function, for arguments of these types."""
    if name == "maxout_affine_jvp" and 3 < len(args) < 6:
        raise TypeError(f"dx, dweight and dbias must be keywords, or all given{BY_PLACE}")
    function = globals()[name]
    given = inspect.signature(function).bind(*args, **kwargs).arguments
    optional = [a for a, kind in given.items() if isinstance(kind, types.Optional)]
    return _either(name, given, optional[0]) if optional else function(*args, **kwargs)


_ALL_AXES = [(f"softmin{product}", "axis") for product in ("", "_vjp", "_jvp")]  # are one, None


def _either(name, given, optional):
    """Of two calls the one that serves, where only the run shows whether an argument is None."""
    parameters = inspect.signature(globals()[name]).parameters
    shown = {a: f"{a}={a}" for a in given}
    some = ", ".join((shown | {optional: f"{optional}=present({optional})"}).values())
    none = ", ".join((shown | {optional: f"{optional}=None"}).values())
    without = f"return public({none})"
    if parameters[optional].default is not None and (name, optional) not in _ALL_AXES:
        without = f"raise TypeError('{optional} must not be None')"
    names = {"public": getattr(importlib.import_module(__package__), name), "present": _present}
    source = (
        f"def either({', '.join(parameters)}):\n"
        f"    if {optional} is None:\n"
        f"        {without}\n"
        f"    return public({some})\n"
    )
    exec(source, names)
    defaults = (p.default for p in parameters.values())
    names["either"].__defaults__ = tuple(d for d in defaults if d is not inspect.Parameter.empty)
    return names["either"]


@intrinsic
def _present(typingctx, value):
    """What an optional value is, if it is not None."""

    def emit(context, builder, sig, args):
        cast = context.cast(builder, args[0], value, value.type)
        return impl_ret_borrowed(context, builder, value.type, cast)

    return value.type(value), emit


# ---- softmin and softmax2d: y = exp(βx − max βx) / Σ exp(βx − max βx) -------------------------


def softmin(x, axis=-1, temperature=1.0, where=None, out=None):
    softmax = _softmax(x, axis, where, out)
    return lambda x, axis=-1, temperature=1.0, where=None, out=None: softmax(
        x, axis, -_inverse(temperature), where, out
    )


def softmax2d(x, channel_axis=-3, temperature=1.0, where=None, out=None):
    _image("x", x)
    softmax = _softmax(x, channel_axis, where, out)
    return lambda x, channel_axis=-3, temperature=1.0, where=None, out=None: softmax(
        x, _channels(channel_axis), _inverse(temperature), where, out
    )


def _softmax(x, axis, where, out):
    dtype = _float(_dtype("x", x))
    lengths, run = _slices(x, axis), _run_softmax(_contiguous(x, axis))
    result, given = _result("out", out, x.ndim, dtype)
    beside = _beside(out)
    masked = _mask(where)

    @_inlined
    def softmax(x, axis, beta, where, out):
        outer, n, inner = lengths(x.shape, axis)
        y = result(out, x.shape)
        mask = masked(where, x.shape, y)
        if x.size:
            run(_operand(x, beside(y), True), mask, _flat(y), outer, n, inner, beta)
        return given(y, out)

    return softmax


# ---- their products: β y (g − ⟨g, y⟩) ---------------------------------------------------------


def softmin_vjp(g, y, axis=-1, temperature=1.0, out=None):
    product = _product("g", g, y, axis, out)
    return lambda g, y, axis=-1, temperature=1.0, out=None: product(
        g, y, axis, -_inverse(temperature), out
    )


def softmin_jvp(t, y, axis=-1, temperature=1.0, out=None):
    product = _product("t", t, y, axis, out)
    return lambda t, y, axis=-1, temperature=1.0, out=None: product(
        t, y, axis, -_inverse(temperature), out
    )


def softmax2d_vjp(g, y, channel_axis=-3, temperature=1.0, out=None):
    _image("y", y)
    product = _product("g", g, y, channel_axis, out)
    return lambda g, y, channel_axis=-3, temperature=1.0, out=None: product(
        g, y, _channels(channel_axis), _inverse(temperature), out
    )


def softmax2d_jvp(t, y, channel_axis=-3, temperature=1.0, out=None):
    _image("y", y)
    product = _product("t", t, y, channel_axis, out)
    return lambda t, y, channel_axis=-3, temperature=1.0, out=None: product(
        t, y, _channels(channel_axis), _inverse(temperature), out
    )


def _product(name, g, y, axis, out):
    dtypes = _dtype(name, g), _dtype("y", y)
    dtype = rules.common_float(*dtypes)
    lengths, run = _slices(y, axis), _run_product(_contiguous(y, axis))
    result, given = _result("out", out, y.ndim, dtype)
    beside = _beside(out)
    same = _same(f"{name} must have y's shape", g, y)

    @_inlined
    def product(g, y, axis, beta, out):
        same(g.shape, y.shape)
        outer, n, inner = lengths(y.shape, axis)
        dx = result(out, y.shape)
        if y.size:
            first, second = _operand(g, beside(dx), True), _operand(y, beside(dx), True)
            run(first, second, _flat(dx), outer, n, inner, beta)
        return given(dx, out)

    return product


# ---- their Jacobian: β (y_i δ_ij − y_i y_j) ---------------------------------------------------


def softmin_jacobian(y, axis=-1, temperature=1.0, out=None):
    jacobian = _jacobian(y, axis, out)
    return lambda y, axis=-1, temperature=1.0, out=None: jacobian(
        y, axis, -_inverse(temperature), out
    )


def softmax2d_jacobian(y, channel_axis=-3, temperature=1.0, out=None):
    _image("y", y)
    jacobian = _jacobian(y, channel_axis, out)
    return lambda y, channel_axis=-3, temperature=1.0, out=None: jacobian(
        y, _channels(channel_axis), _inverse(temperature), out
    )


def _jacobian(y, axis, out):
    dtype = _float(_dtype("y", y))
    lengths = _slices(y, axis, one=True)
    result, given = _result("out", out, y.ndim + 1, dtype)
    beside = _beside(out)

    @_inlined
    def jacobian(y, axis, beta, out):
        outer, n, inner = lengths(y.shape, axis)
        matrices = result(out, _with(y.shape, _place(axis, y.ndim), n))
        if y.size:
            source = _operand(y, beside(matrices), False)
            _jacobian_rows(source, _flat(matrices), n, inner, beta, _FAR, *_all(outer * n))
        return given(matrices, out)

    return jacobian


def softmin_jacobian_diag(y, temperature=1.0, out=None):
    diagonal = _diagonal(y, out)
    return lambda y, temperature=1.0, out=None: diagonal(y, -_inverse(temperature), out)


def softmax2d_jacobian_diag(y, temperature=1.0, out=None):
    _image("y", y)
    diagonal = _diagonal(y, out)
    return lambda y, temperature=1.0, out=None: diagonal(y, _inverse(temperature), out)


def _diagonal(y, out):
    dtype = _float(_dtype("y", y))
    result, given = _result("out", out, y.ndim, dtype)
    beside = _beside(out)

    @_inlined
    def diagonal(y, beta, out):
        slopes = result(out, y.shape)
        if y.size:
            source = _operand(y, beside(slopes), True)
            _jacobian_diagonal(source, _flat(slopes), beta, _FAR, *_all(-(-y.size // LANES)))
        return given(slopes, out)

    return diagonal


# ---- maxout: the largest piece, which it is, and the gradient it gets --------------------------


def maxout(x, axis=-1, out=None):
    dtype = _dtype("x", x)
    lengths, run = _slices(x, axis, one=True), _run_maxout(_contiguous(x, axis))
    result, given = _result("out", out, x.ndim - 1, dtype)
    beside = _beside(out)

    def maxout(x, axis=-1, out=None):
        outer, pieces, inner = lengths(x.shape, axis)
        _some_pieces(pieces)
        y = result(out, _without(x.shape, _place(axis, x.ndim)))
        if x.size:
            run(_operand(x, beside(y), False), _flat(y), None, outer, pieces, inner)
        return given(y, out)

    return maxout


def maxout_with_index(x, axis=-1, index_dtype=np.int32, out=None):
    dtype = _dtype("x", x)
    lengths, run = _slices(x, axis, one=True), _run_maxout(_contiguous(x, axis))
    pair, given, most = _pair(out, x.ndim - 1, dtype, index_dtype)
    beside = _beside(out)

    def maxout_with_index(x, axis=-1, index_dtype=np.int32, out=None):
        outer, pieces, inner = lengths(x.shape, axis)
        _some_pieces(pieces)
        _fits(pieces, most)
        y, index = pair(out, _without(x.shape, _place(axis, x.ndim)))
        if x.size:
            source = _operand(x, beside(y), False)
            run(
                _operand(source, beside(index), False), _flat(y), _flat(index), outer, pieces, inner
            )
        return given(y, index, out)

    return maxout_with_index


def maxout_vjp(g, index, pieces, axis=-1, out=None):
    same = _same("g must have index's shape", g, index)
    spread = _spread(index, pieces, axis, _dtype("g", g, number=True), out)

    def maxout_vjp(g, index, pieces, axis=-1, out=None):
        gradient, winners = np.asarray(g), np.asarray(index)
        same(gradient.shape, winners.shape)
        return spread(gradient, winners, pieces, axis, out)

    return maxout_vjp


def maxout_jacobian(index, pieces, axis=-1, dtype=np.float64, out=None):
    kind = _named("dtype", dtype)
    spread = _spread(index, pieces, axis, kind, out)
    return lambda index, pieces, axis=-1, dtype=np.float64, out=None: spread(
        np.empty(0, kind), np.asarray(index), pieces, axis, out
    )


def _spread(index, pieces, axis, dtype, out):
    _integers("index", index)
    if not isinstance(pieces, types.Integer):
        raise TypeError(f"pieces must be an int, got {pieces}")
    x = types.Array(types.float64, _ndim(index) + 1, "C")
    lengths, run = _slices(x, axis, one=True), _run_spread(_contiguous(x, axis))
    result, given = _result("out", out, x.ndim, dtype)
    beside = _beside(out)

    @_inlined
    def spread(g, index, pieces, axis, out):
        if pieces < 1:
            raise ValueError("pieces must be at least 1")
        shape = _with(index.shape, _place(axis, index.ndim + 1), pieces)
        outer, pieces, inner = lengths(shape, axis)
        dx = result(out, shape)
        if index.size:
            winners = _operand(index, beside(dx), False)
            _check_range(winners, pieces)
            run(_operand(g, beside(dx), False), winners, _flat(dx), outer, pieces, inner)
        return given(dx, out)

    return spread


def maxout_jvp(t, index, axis=-1, out=None):
    dtype = _dtype("t", t)
    _integers("index", index)
    lengths = _slices(t, axis, one=True)
    same = _same("index must have t's shape without the axis", index, t.ndim - 1)
    result, given = _result("out", out, t.ndim - 1, dtype)
    beside = _beside(out)

    def maxout_jvp(t, index, axis=-1, out=None):
        outer, pieces, inner = lengths(t.shape, axis)
        chosen = np.asarray(index)
        shape = _without(t.shape, _place(axis, t.ndim))
        same(chosen.shape, shape)
        dy = result(out, shape)
        if dy.size:
            winners = _operand(chosen, beside(dy), False)
            _check_range(winners, pieces)
            source = _operand(t, beside(dy), False)
            _maxout_jvp(source, winners, _flat(dy), pieces, inner, *_all(dy.size))
        return given(dy, out)

    return maxout_jvp


# ---- maxout of an affine map: y = max over i of weight[u, i]·x + bias[u, i] --------------------


def maxout_affine(x, weight, bias=None, out=None):
    affine, dtype = _affine(x, weight, bias, out)
    result, given = _result("out", out, x.ndim + weight.ndim - 3, dtype)

    def maxout_affine(x, weight, bias=None, out=None):
        y = result(out, _rows(x.shape, weight.shape))
        affine(x, weight, bias, y, np.empty(0, np.uint8))
        return given(y, out)

    return maxout_affine


def maxout_affine_with_index(x, weight, bias=None, index_dtype=np.int32, out=None):
    affine, dtype = _affine(x, weight, bias, out)
    pair, given, most = _pair(out, x.ndim + weight.ndim - 3, dtype, index_dtype)

    def maxout_affine_with_index(x, weight, bias=None, index_dtype=np.int32, out=None):
        _fits(weight.shape[-2], most)
        y, index = pair(out, _rows(x.shape, weight.shape))
        affine(x, weight, bias, y, index)
        return given(y, index, out)

    return maxout_affine_with_index


def _affine(x, weight, bias, out):
    given = [_dtype("x", x), _layer(x, weight)]
    if not _none(bias):
        given.append(_dtype("bias", bias))
    dtype = rules.common(*given)
    biases = _optional(bias, dtype, "bias must have weight's shape without d", 1, weight)
    wide = WIDE_BYTES // dtype.itemsize * cpu_affine.PANELS
    beside = _beside(out)

    @_inlined
    def affine(x, weight, bias, y, index):
        pieces, depth = weight.shape[-2:]
        given = biases(bias, weight.shape[:-1])
        if y.size:
            units = _units(weight.shape)
            x, weight, given = (
                _operand(_operand(x, beside(y), False), beside(index), False),
                _operand(_operand(weight, beside(y), False), beside(index), False),
                _operand(_operand(given, beside(y), False), beside(index), False),
            )
            blocks = -(-y.size // (units * wide))
            task = x, weight, given, _flat(y), _flat(index), units, pieces, depth
            _affine_rows(*task, np.int64(1), *_all(blocks))

    return affine, dtype


def maxout_affine_vjp(g, x, weight, index):
    _integers("index", index)
    given = [_dtype("g", g, number=True), _dtype("x", x), _layer(x, weight)]
    dtype = rules.common(*given)
    number = rules.sum_dtype(dtype)
    finished = _converted(number, dtype)
    ndim = x.ndim + weight.ndim - 3
    same = _same("g must have the result's shape (..., units)", g, ndim)
    same_index = _same("index must have the result's shape (..., units)", index, ndim)
    span, most, sums = cpu_affine.SPAN, cpu_affine.UNITS, cpu_affine.SUMS

    def maxout_affine_vjp(g, x, weight, index):
        gradient, winners = np.asarray(g), np.asarray(index)
        shape = _rows(x.shape, weight.shape)
        same(gradient.shape, shape)
        same_index(winners.shape, shape)
        pieces, depth = weight.shape[-2:]
        chosen = _dense(winners)
        _check_range(chosen, pieces)
        dx, dweight = np.zeros(x.shape, number), np.zeros(weight.shape, number)
        dbias = np.zeros(weight.shape[:-1], number)
        if winners.size:
            units = _units(weight.shape)
            flat_g, flat_x = _dense(gradient), _dense(x)
            _affine_gradient_x(
                *(flat_g, _dense(weight), chosen, _flat(dx), units, pieces, depth),
                *(units, np.int64(1), *_all(winners.size // units)),
            )
            room = max(LANES, min(span, depth))
            together = max(1, min(most, units, sums // (dweight.itemsize * pieces * room)))
            _affine_gradient_weight(
                *(flat_g, flat_x, chosen, _flat(dweight), _flat(dbias)),
                *(units, pieces, depth, units, np.int64(1), depth),
                *(together, *_all(-(-units // together))),
            )
        return finished(dx), finished(dweight), finished(dbias)

    return maxout_affine_vjp


def maxout_affine_jvp(x, weight, index, dx=None, dweight=None, dbias=None):
    _integers("index", index)
    tangents = {"dx": dx, "dweight": dweight, "dbias": dbias}
    own = {name: _dtype(name, d) for name, d in tangents.items() if not _none(d)}
    given = [_dtype("x", x), _layer(x, weight)]
    dtype = rules.common(*given, *own.values())
    number = rules.sum_dtype(dtype)
    ndim = x.ndim + weight.ndim - 3
    same = _same("index must have the result's shape (..., units)", index, ndim)
    of_x = _optional(dx, number, "dx must have x's shape", 0, x)
    of_weight = _optional(dweight, number, "dweight must have weight's shape", 0, weight)
    of_bias = _optional(dbias, number, "dbias must have weight's shape without d", 1, weight)
    result, given_back = _result("out", None, ndim, dtype)
    finished, rows = _converted(number, dtype), cpu_affine.ROWS

    def maxout_affine_jvp(x, weight, index, dx=None, dweight=None, dbias=None):
        winners = np.asarray(index)
        shape = _rows(x.shape, weight.shape)
        same(winners.shape, shape)
        pieces, depth = weight.shape[-2:]
        chosen = _dense(winners)
        _check_range(chosen, pieces)
        tangents = of_x(dx, x.shape), of_weight(dweight, weight.shape)
        biases = of_bias(dbias, weight.shape[:-1])
        dy = np.zeros(shape, number)
        if dy.size:
            units = _units(weight.shape)
            _affine_tangent(
                *(_dense(tangents[0]), _dense(x), _dense(weight)),
                *(_dense(tangents[1]), _dense(biases), chosen, _flat(dy)),
                *(units, pieces, depth, np.int64(rows), *_all(-(-dy.size // (units * rows)))),
            )
        return given_back(finished(dy), None)

    return maxout_affine_jvp


def maxout_affine_jacobian(weight, index):
    dtype = _layer(None, weight)
    _integers("index", index)
    alone = weight.ndim == 2
    if not alone and _ndim(index) == 0:
        raise ValueError("index must have shape (..., units), got a number")

    def maxout_affine_jacobian(weight, index):
        winners = np.asarray(index)
        pieces, depth = weight.shape[-2:]
        _some_pieces(pieces)
        if not alone:
            if winners.shape[-1] != weight.shape[0]:
                raise ValueError("index must have shape (..., units) with weight's units")
        chosen = _dense(winners)
        _check_range(chosen, pieces)
        jacobian = np.empty(winners.shape + (depth,), dtype)
        if jacobian.size:
            task = _dense(weight), chosen, _flat(jacobian), _units(weight.shape), pieces, depth
            _affine_selected(*task, *_all(winners.size))
        return jacobian

    return maxout_affine_jacobian


# ---- which kernel -----------------------------------------------------------------------------


@_compiled
def _all(units):
    """A kernel's last arguments; a literal 0 would be another type, and compile it once more."""
    return np.int64(0), np.int64(units)


_affine_gradient_weight = linked(cpu_affine.gradient_weight)
_affine_gradient_x = linked(cpu_affine.gradient_x)
_affine_rows = linked(cpu_affine.affine_rows)
_affine_selected = linked(cpu_affine.selected)
_affine_tangent = linked(cpu_affine.tangent)
_forward_columns = linked(cpu_forward.columns)
_forward_long_sums = linked(cpu_forward.long_sums)
_forward_long_writes = linked(cpu_forward.long_writes)
_forward_rows = linked(cpu_forward.rows)
_forward_short_rows = linked(cpu_forward.short_rows)
_jacobian_diagonal = linked(cpu_jacobian.diagonal)
_jacobian_rows = linked(cpu_jacobian.jacobian)
_maxout_columns = linked(cpu_maxout.columns)
_maxout_jvp = linked(cpu_maxout.jvp)
_maxout_outside = linked(cpu_maxout.outside)
_maxout_rows = linked(cpu_maxout.rows)
_maxout_vjp_columns = linked(cpu_maxout.vjp_columns)
_maxout_vjp_many = linked(cpu_maxout.vjp_many)
_maxout_vjp_rows = linked(cpu_maxout.vjp_rows)
_product_columns = linked(cpu_product.columns)
_product_long_dots = linked(cpu_product.long_dots)
_product_long_writes = linked(cpu_product.long_writes)
_product_rows = linked(cpu_product.rows)

_FAR, _FAR_PRODUCT = np.int64(FAR_FROM), np.int64(cpu_product.FAR_FROM)
_ALONE = np.int64(1)  # one tile at a time


@functools.cache
def _run_softmax(contiguous):
    groups_fit, most = cpu_forward.TILE_BYTES // LANES**2, cpu_forward.TILE_GROUPS[1]
    chunk, group_of = cpu_slices.CHUNK, cpu_slices.GROUP
    short, short_double = cpu_forward.SHORT[4], cpu_forward.SHORT[8]

    @_inlined
    def run(x, mask, y, outer, n, inner, beta):
        if n > chunk:  # slice after slice, each read twice
            groups = -(-n // group_of)
            sums = np.empty(groups * cpu_slices.sums_pitch(inner), y.dtype)
            for bundle in range(outer * -(-inner // LANES)):
                base = bundle * groups
                task = n, inner, beta, base
                _forward_long_sums(x, mask, y, sums, *task, *_all(groups))
                _forward_long_writes(None, mask, sums, y, *task, *_all(groups))
        elif inner == 1 and n <= (short_double if y.itemsize == 8 else short):
            _forward_short_rows(x, mask, y, n, inner, beta, _FAR, *_all(outer))
        elif inner == 1:
            _forward_rows(x, mask, y, n, inner, beta, _FAR, *_all(outer))
        elif not contiguous:
            fit = groups_fit // (-(-n // LANES) * y.itemsize)
            groups = max(1, min(fit, most, -(-inner // LANES)))
            units = outer * -(-inner // (groups * LANES))
            _forward_columns(x, mask, y, n, inner, groups, _ALONE, beta, _FAR, *_all(units))

    return run


@functools.cache
def _run_product(contiguous):
    chunk, group_of, whole = cpu_slices.CHUNK, cpu_slices.GROUP, cpu_product.WHOLE
    strip_of = _compiled(cpu_product.strip_width)

    @_inlined
    def run(g, y, dx, outer, n, inner, beta):
        if n > (whole if inner == 1 else chunk):
            groups = -(-n // group_of)
            sums = np.empty(groups * 2 * LANES, dx.dtype)
            for bundle in range(outer * -(-inner // LANES)):
                base = bundle * groups
                _product_long_dots(g, y, sums, n, inner, base, *_all(groups))
                _product_long_writes(
                    g, y, sums, dx, n, inner, beta, base, _FAR_PRODUCT, *_all(groups)
                )
        elif inner == 1:
            _product_rows(g, y, dx, n, inner, beta, _FAR_PRODUCT, *_all(outer))
        elif not contiguous:
            strip = strip_of(n, inner, dx.itemsize)
            units = outer * -(-inner // strip)
            _product_columns(g, y, dx, n, inner, strip, beta, _FAR_PRODUCT // 2, *_all(units))

    return run


@functools.cache
def _run_maxout(contiguous):
    span, far_from = cpu_maxout.SPAN, _compiled(cpu_maxout.far_from)

    @_inlined
    def run(x, y, index, outer, pieces, inner):
        if inner == 1:
            _maxout_rows(x, y, index, pieces, *_all(outer))
        elif not contiguous:
            units = outer * -(-inner // span)
            numbers = pieces, inner, np.int64(span), far_from(pieces, index)
            _maxout_columns(x, y, index, *numbers, *_all(units))

    return run


@functools.cache
def _run_spread(contiguous):
    span, counted = cpu_maxout.SPAN, cpu_maxout.COUNTED

    @_inlined
    def run(g, index, dx, outer, pieces, inner):
        if inner == 1:
            _maxout_vjp_rows(g, index, dx, pieces, *_all(outer))
        elif not contiguous:
            if pieces > counted:
                _maxout_vjp_many(g, index, dx, pieces, inner, *_all(outer))
            else:
                units = outer * -(-inner // span)
                _maxout_vjp_columns(g, index, dx, pieces, inner, np.int64(span), _FAR, *_all(units))

    return run


@_compiled
def _check_range(index, pieces):
    found = np.zeros(1, np.uint8)
    _maxout_outside(index, found, None, pieces, *_all(-(-index.size // cpu_maxout.SPAN)))
    if found[0]:
        raise IndexError("index must lie in [0, pieces)")


# ---- the types of arguments -------------------------------------------------------------------


def _none(value):
    return value is None or isinstance(value, types.NoneType)


def _ndim(kind):
    return kind.ndim if isinstance(kind, types.Array) else 0


def _dtype(name, kind, number=False):
    """The NumPy dtype of an array, or of a number where one may stand for it."""
    if isinstance(kind, types.Array):
        dtype = kind.dtype
    elif number and isinstance(kind, types.Number | types.Boolean):
        dtype = types.unliteral(kind)
    else:
        raise TypeError(f"{name} must be an array, got {kind}")
    wide = isinstance(dtype, types.Float) and dtype.bitwidth in (32, 64)
    if not wide and not isinstance(dtype, types.Integer | types.Boolean):
        raise TypeError(
            f"{name} must be of dtype float32, float64, an integer or bool in compiled code, "
            f"got {dtype}"
        )
    return as_dtype(dtype)


def _float(dtype):
    return rules.float_dtype(dtype)


def _integers(name, kind):
    if _dtype(name, kind, number=True).kind not in "iu":
        raise TypeError(f"{name} must be of an integer dtype, got {kind}")


def _named(name, dtype):
    """The dtype that an argument names."""
    if isinstance(dtype, types.DType | types.NumberClass):
        return as_dtype(dtype.dtype)
    if isinstance(dtype, types.StringLiteral):
        return np.dtype(dtype.literal_value)
    if isinstance(dtype, types.Type):
        raise TypeError(f"{name} must be a dtype, got {dtype}")
    return np.dtype(dtype)  # a default


def _layer(x, weight):
    """The dtype of a weight that fits inputs (..., d), or any."""
    dtype = _dtype("weight", weight)
    if weight.ndim not in (2, 3):
        raise ValueError(
            "weight must have shape (units, pieces, d), or (pieces, d) for one unit, "
            f"got {weight.ndim} axes"
        )
    if x is not None and (_dtype("x", x) is None or x.ndim == 0):
        raise ValueError("x must have shape (..., d), got no axis")
    return dtype


def _image(name, kind):
    _dtype(name, kind)
    if kind.ndim not in (3, 4):
        raise ValueError(
            f"{name} must have 3 axes, which mean (C, H, W), or 4, (N, C, H, W), got {kind.ndim}; "
            "channel_axis=-1 says that C is last"
        )


def _converted(given, dtype):
    if given == dtype:
        return _compiled(lambda array: array)
    return _compiled(lambda array: array.astype(dtype))


def _result(name, out, ndim, dtype):
    """Two functions: the array to be computed in, checked; and what a call gives in the end."""
    if _none(out):
        fresh = _compiled(lambda out, shape: np.empty(shape, dtype))
        return fresh, _compiled(lambda y, out: y) if ndim else _compiled(lambda y, out: y[()])
    if not isinstance(out, types.Array):
        raise TypeError(f"{name} must be an array, got {out}")
    if out.ndim != ndim or out.dtype != from_dtype(dtype):
        wanted = f"{ndim} axes and dtype {dtype}"
        raise ValueError(f"{name} must have {wanted}, got {out.ndim} axes and dtype {out.dtype}")
    if not out.mutable:
        raise ValueError(f"{name} must be writeable, got a read-only array")
    same = _same(f"{name} must have the result's shape", out, ndim)
    dense = out.layout == "C" and out.aligned

    @_compiled
    def checked(out, shape):
        same(out.shape, shape)
        return out if dense else np.empty(shape, dtype)

    @_compiled
    def given(y, out):
        if not dense:
            for place, number in np.ndenumerate(y):
                out[place] = number
        return out

    return checked, given


def _pair(out, ndim, dtype, index_dtype):
    """The same for (y, index), and the largest index that there may be."""
    kind = _named("index_dtype", index_dtype)
    if kind.kind not in "iu":
        raise TypeError(f"index_dtype must be an integer dtype, got {kind}")
    if _none(out):
        first = second = None
    elif isinstance(out, types.BaseTuple) and len(out) == 2:
        first, second = out
    else:
        raise TypeError(f"out must be a pair (y, index) of arrays, got {out}")
    for_y, given_y = _result("out[0]", first, ndim, dtype)
    for_index, given_index = _result("out[1]", second, ndim, kind)
    most = int(np.iinfo(kind).max)
    most = min(most, np.iinfo(np.int64).max)

    if first is None:

        @_compiled
        def pair(out, shape):
            return for_y(None, shape), for_index(None, shape)

        @_compiled
        def given(y, index, out):
            return given_y(y, None), given_index(index, None)

    else:

        @_compiled
        def pair(out, shape):
            y, index = for_y(out[0], shape), for_index(out[1], shape)
            if _meets(_flat(y), _flat(index)):
                raise ValueError("out must be two arrays that do not share memory")
            return y, index

        @_compiled
        def given(y, index, out):
            return given_y(y, out[0]), given_index(index, out[1])

    return pair, given, most


def _mask(where):
    """A function that broadcasts a mask to a shape, apart from the result; None for none."""
    if _none(where):
        return _compiled(lambda where, shape, y: None)
    if _dtype("where", where, number=True).kind != "b":
        raise TypeError(f"where must be a boolean mask, got {where}")

    @_compiled
    def masked(where, shape, y):
        given = np.asarray(where)
        if len(given.shape) > len(shape):
            raise ValueError("where must broadcast to x's shape")
        ahead = len(shape) - given.ndim
        for i in range(given.ndim):
            if given.shape[i] != 1 and given.shape[i] != shape[ahead + i]:
                raise ValueError("where must broadcast to x's shape")
        if given.ndim == len(shape) and given.size == y.size:
            return _operand(given, y, False)
        return _flat(_copy(np.broadcast_to(given, shape)))

    return masked


def _optional(value, dtype, message, less, kind):
    """A function that checks an argument's shape; an empty array for None."""
    if _none(value):
        return _compiled(lambda value, shape: np.empty(0, dtype))
    same = _same(message, value, kind.ndim - less)

    @_compiled
    def checked(value, shape):
        same(value.shape, shape)
        return value

    return checked


def _same(message, kind, other):
    """A function that compares two shapes, whose number of axes is known."""
    ndim = other if isinstance(other, int) else _ndim(other)
    if _ndim(kind) != ndim:
        raise ValueError(f"{message}, of {ndim} axes, got {_ndim(kind)}")

    @_compiled
    def same(shape, other):
        for i in range(ndim):
            if shape[i] != other[i]:
                raise ValueError(message)

    return same if ndim else _compiled(lambda shape, other: None)


# ---- axes -------------------------------------------------------------------------------------


def _contiguous(x, axis):
    """Is it known by type that slices are contiguous? Then columns need not be compiled."""
    value = axis.literal_value if isinstance(axis, types.IntegerLiteral) else axis
    return x.ndim < 2 or _none(axis) or value in (-1, x.ndim - 1)


def _slices(x, axis, one=False):
    """A function that gives (outer, n, inner) of a shape's slices, or raises an error."""
    if _none(axis) and not one:
        return _whole
    if isinstance(axis, types.Type) and not isinstance(axis, types.Integer):
        wanted = "an int" if one else "an int or None in compiled code"
        raise TypeError(f"axis must be {wanted}, got {axis}{BY_PLACE}")
    return _single if x.ndim == 0 and not one else _along


@_compiled
def _whole(shape, axis):
    n = 1
    for length in shape:
        n *= length
    return np.int64(1), n, np.int64(1)


@_compiled
def _single(shape, axis):
    _place(axis, 1)
    return np.int64(1), np.int64(1), np.int64(1)


@_compiled
def _along(shape, axis):
    place = _place(axis, len(shape))
    outer = inner = 1
    for i in range(len(shape)):
        if i < place:
            outer *= shape[i]
        elif i > place:
            inner *= shape[i]
    return outer, shape[place], inner


@_compiled
def _place(axis, ndim):
    number = np.int64(axis)  # of an unsigned one too, which is what prange counts in
    if number < -ndim or number >= ndim or (axis > 0) != (number > 0):
        raise AxisError("axis is out of bounds")
    return number if number >= 0 else number + ndim


@_compiled
def _channels(channel_axis):
    if channel_axis != -3 and channel_axis != -1:
        raise ValueError("channel_axis must be -3, for (C, H, W), or -1, for (H, W, C)")
    return np.int64(channel_axis)


@_compiled
def _without(shape, place):
    if len(shape) == 1:
        return ()
    rest = shape[1:]
    for i in range(len(rest)):
        rest = tuple_setitem(rest, i, shape[i + (i >= place)])
    return rest


@_compiled
def _with(shape, place, n):
    if len(shape) == 0:
        return (np.int64(n),)
    longer = (np.int64(n),) + shape
    for i in range(len(shape)):
        longer = tuple_setitem(longer, i + (i >= place), shape[i])
    return tuple_setitem(longer, place, np.int64(n))


@_compiled
def _rows(x, weight):
    """The shape of an affine layer's result."""
    if weight[-2] == 0:
        raise ValueError("weight must have at least one piece")
    if x[-1] != weight[-1]:
        raise ValueError("x must have shape (..., d) with weight's d")
    return x[:-1] + weight[:-2]


@_compiled
def _units(weight):
    return weight[0] if len(weight) == 3 else 1


# ---- values -----------------------------------------------------------------------------------


def _inverse(temperature):
    """1/temperature, checked."""


@overload(_inverse, jit_options=OPTIONS)
def _checked_inverse(temperature):
    if not isinstance(temperature, types.Float | types.Integer | types.Boolean):
        raise TypeError(f"temperature must be a number, got {temperature}")

    def inverse(temperature):
        number = 1.0 * temperature
        if not 0.0 < number < np.inf:
            raise ValueError("temperature must be finite and above 0")
        return 1.0 / number

    return inverse


@_compiled
def _some_pieces(pieces):
    if pieces == 0:
        raise ValueError("x must have at least one piece on the axis")


@_compiled
def _fits(pieces, most):
    if pieces - 1 > most:
        raise ValueError("index_dtype must hold the largest index")


# ---- memory -----------------------------------------------------------------------------------


@_compiled
def _meets(x, y):
    """Do two dense arrays share memory?"""
    start, other = x.ctypes.data, y.ctypes.data
    return start < other + y.size * y.itemsize and other < start + x.size * x.itemsize


def _beside(out):
    """A function that gives a result, if operands may share its memory: not if it is fresh."""
    return _nothing if _none(out) else _itself


_nothing = _inlined(lambda result: None)
_itself = _inlined(lambda result: result)


def _operand(x, result, in_place):
    """An argument's memory as a kernel takes it: dense, and apart from the result's.

    A kernel that works in place may have the very same memory.
    """


@overload(_operand, jit_options=OPTIONS)
def _chosen_operand(x, result, in_place):
    if _none(result):
        return lambda x, result, in_place: _dense(x)

    def operand(x, result, in_place):
        if x.flags.c_contiguous and x.ctypes.data % x.itemsize == 0:
            start, other = x.ctypes.data, result.ctypes.data
            same = in_place and start == other and x.itemsize == result.itemsize
            if same or not _meets(x, result):
                return _flat(x)
        return _flat(_copy(x))

    return operand


def _dense(x):
    """An argument's memory, copied if it doesn't lie as a kernel takes it."""


@overload(_dense, jit_options=OPTIONS)
def _chosen_dense(x):
    if x.layout == "C" and x.aligned:
        return lambda x: _flat(x)

    def dense(x):
        if x.flags.c_contiguous and x.ctypes.data % x.itemsize == 0:
            return _flat(x)
        return _flat(_copy(x))

    return dense


@_compiled
def _copy(x):
    copy, i = np.empty(x.size, x.dtype), 0
    for number in x.flat:
        copy[i] = number
        i += 1
    return copy


@intrinsic
def _flat(typingctx, array):
    """An array's memory under the type that a kernel is compiled for, and writeable."""
    kind = types.Array(_BOOL if array.dtype == types.boolean else array.dtype, 1, "C")

    def emit(context, builder, sig, args):
        source = context.make_array(array)(context, builder, args[0])
        result = context.make_array(kind)(context, builder)
        width = context.get_constant(
            types.intp, 1 if kind.dtype == _BOOL else kind.dtype.bitwidth // 8
        )
        populate_array(
            result,
            data=builder.bitcast(source.data, result.data.type),
            shape=[source.nitems],
            strides=[width],
            itemsize=width,
            meminfo=source.meminfo,
            parent=source.parent,
        )
        return impl_ret_borrowed(context, builder, kind, result._getvalue())

    return kind(array), emit
