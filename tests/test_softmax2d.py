"""Softmax2d and its derivatives."""

import cases
import numpy as np
import oracle
import pytest

from numba_acts import (
    softmax2d,
    softmax2d_jacobian,
    softmax2d_jacobian_diag,
    softmax2d_jvp,
    softmax2d_vjp,
)

INFINITY = np.inf
MEGABYTE = 2**20
LAYOUTS = pytest.mark.parametrize(
    ("shape", "channel_axis"),
    [((3, 4, 5), -3), ((2, 3, 4, 5), -3), ((4, 5, 3), -1), ((2, 4, 5, 3), -1)],
)


def check(x, channel_axis=-3, **keywords):
    """Softmax2d of x, compared with the oracle."""
    keywords["channel_axis"] = channel_axis
    y = softmax2d(x, **keywords)
    cases.assert_agrees(y, "softmax2d", (x,), keywords)
    return y


# Values ----------------------------------------------------------------------------------------


def test_larger_entries_weigh_more():
    x = np.array([1.0, 2.0, 3.0]).reshape(3, 1, 1)
    e = np.exp([1.0, 2.0, 3.0])
    np.testing.assert_allclose(softmax2d(x)[:, 0, 0], e / e.sum(), rtol=1e-15)


def test_every_position_has_its_own_distribution(rng):
    x = rng.normal(size=(2, 3, 4, 5))
    y = softmax2d(x)
    for image in range(2):
        for row in range(4):
            for column in range(5):
                e = np.exp(x[image, :, row, column])
                want = e / e.sum()
                np.testing.assert_allclose(y[image, :, row, column], want, rtol=1e-14)


def test_three_dimensions_are_one_image(rng):
    x = rng.normal(size=(3, 4, 5))
    np.testing.assert_array_equal(softmax2d(x), softmax2d(x[None])[0])


def test_channels_last_is_the_same_image(rng):
    for shape in [(3, 4, 5), (2, 3, 4, 5), (2, 21, 40, 50)]:
        x = rng.normal(size=shape)
        last = np.ascontiguousarray(np.moveaxis(x, -3, -1))
        y = np.moveaxis(softmax2d(last, channel_axis=-1), -1, -3)
        np.testing.assert_array_equal(y, softmax2d(x))


def test_temperature_divides_the_input(rng):
    x = rng.normal(size=(3, 4, 5))
    np.testing.assert_allclose(softmax2d(x, temperature=4.0), softmax2d(x / 4), rtol=1e-14)


def test_lists_and_memory_maps(tmp_path):
    x = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    x.tofile(tmp_path / "x")
    y = softmax2d(np.memmap(tmp_path / "x", np.float32, "r", shape=(3, 2, 2)))
    assert type(y) is np.ndarray and y.dtype == np.float32
    np.testing.assert_array_equal(y, softmax2d(x))
    np.testing.assert_array_equal(softmax2d(x.tolist()), softmax2d(x.astype(np.float64)))


# Derivatives -----------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@LAYOUTS
def test_products_are_those_of_the_differences(shape, channel_axis, temperature, rng):
    x, g, t = rng.normal(size=(3, *shape))
    how = {"channel_axis": channel_axis, "temperature": temperature}
    jacobian = oracle.differences(lambda x: softmax2d(x, **how), x)
    y = softmax2d(x, **how)
    dx, dy = softmax2d_vjp(g, y, **how), softmax2d_jvp(t, y, **how)
    np.testing.assert_allclose(dx, np.tensordot(g, jacobian, x.ndim), atol=1e-8)
    np.testing.assert_allclose(dy, np.tensordot(jacobian, t, x.ndim), atol=1e-8)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize(
    ("shape", "channel_axis", "blocks", "diagonal"),
    [
        ((3, 2, 4), -3, "chwdhw->cdhw", "cchw->chw"),
        ((2, 3, 2, 4), -3, "nchwndhw->ncdhw", "ncchw->nchw"),
        ((2, 4, 3), -1, "hwchwd->hwcd", "hwcc->hwc"),
        ((2, 2, 4, 3), -1, "nhwcnhwd->nhwcd", "nhwcc->nhwc"),
    ],
)
def test_jacobian_is_that_of_the_differences(
    shape, channel_axis, blocks, diagonal, temperature, rng
):
    x = rng.normal(size=shape)
    how = {"channel_axis": channel_axis, "temperature": temperature}
    y = softmax2d(x, **how)
    jacobian = softmax2d_jacobian(y, **how)
    differences = oracle.differences(lambda x: softmax2d(x, **how), x)
    np.testing.assert_allclose(jacobian, np.einsum(blocks, differences), atol=1e-8)
    got = softmax2d_jacobian_diag(y, temperature=temperature)
    np.testing.assert_allclose(got, np.einsum(diagonal, jacobian), atol=1e-15)


@LAYOUTS
def test_products_are_adjoint(shape, channel_axis, rng):
    x, g, t = rng.normal(size=(3, *shape))
    how = {"channel_axis": channel_axis, "temperature": 0.5}
    y = softmax2d(x, **how)
    dx, dy = softmax2d_vjp(g, y, **how), softmax2d_jvp(t, y, **how)
    np.testing.assert_allclose(np.vdot(g, dy), np.vdot(dx, t), rtol=1e-12)


def test_products_are_those_of_the_jacobian(rng):
    x, g = rng.normal(size=(2, 2, 3, 4, 5))
    y = softmax2d(x, temperature=2.0)
    jacobian = softmax2d_jacobian(y, temperature=2.0)
    dx = softmax2d_vjp(g, y, temperature=2.0)
    np.testing.assert_allclose(dx, np.einsum("nchw,ncdhw->ndhw", g, jacobian), atol=1e-15)
    dy = softmax2d_jvp(g, y, temperature=2.0)
    np.testing.assert_allclose(dy, np.einsum("ncdhw,ndhw->nchw", jacobian, g), atol=1e-15)


def test_jacobian_is_negative_off_the_diagonal():
    y = softmax2d(np.array([0.0, 1.0, 2.0]).reshape(3, 1, 1))
    jacobian = softmax2d_jacobian(y)[:, :, 0, 0]
    y = y[:, 0, 0]
    np.testing.assert_allclose(jacobian, np.diag(y) - np.outer(y, y), atol=1e-16)
    assert (jacobian[~np.eye(3, dtype=bool)] < 0).all()


# NaN and infinities ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", cases.FLOATS)
@pytest.mark.parametrize("channels", [1, 2, 9, 100])
def test_nan_in_a_channel_fills_its_position(channels, dtype, rng):
    for channel in {0, channels // 2, channels - 1}:
        x = cases.numbers(rng, (channels, 6, 7), dtype)
        x[channel, 2, 3] = np.nan
        for y in (
            softmax2d(x),
            np.moveaxis(softmax2d(np.moveaxis(x, 0, -1).copy(), channel_axis=-1), -1, 0),
        ):
            wrong = np.isnan(y)
            assert wrong[:, 2, 3].all()
            assert wrong.sum() == channels


@pytest.mark.parametrize("dtype", cases.FLOATS)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 20.0])
@pytest.mark.parametrize(
    ("x", "finite"),
    [
        ([-INFINITY, 1.0, 2.0], [1, 2]),
        ([1.0, -INFINITY, 2.0, -INFINITY], [0, 2]),
        ([1.0, -INFINITY], [0]),
        ([-INFINITY], []),
        ([-INFINITY, -INFINITY], []),
        ([INFINITY], []),
        ([INFINITY, 1.0, 2.0], []),
        ([1.0, 2.0, INFINITY], []),
        ([-INFINITY, 1.0, INFINITY], []),
        ([INFINITY, INFINITY], []),
        ([-INFINITY, np.nan], []),
    ],
)
def test_minus_infinity_weighs_nothing_and_the_rest_is_nan(x, finite, temperature, dtype):
    x = np.array(x).astype(cases.as_dtype(dtype)).reshape(-1, 1, 1)
    y = check(x, temperature=temperature)
    if finite:
        want = np.zeros_like(x)
        want[finite] = softmax2d(x[finite], temperature=temperature)
        np.testing.assert_array_equal(y, want)
    else:
        assert np.isnan(y).all()


@pytest.mark.parametrize("dtype", cases.FLOATS)
def test_largest_numbers_do_not_overflow(dtype):
    largest = {"float16": 65504.0, "float64": 1.7e308}.get(dtype, 3.3e38)
    x = np.array([-largest, largest, -largest]).astype(cases.as_dtype(dtype))
    y = softmax2d(x.reshape(3, 1, 1))
    np.testing.assert_array_equal(y.reshape(3), [0, 1, 0])


# Masks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [*cases.FLOATS, "int8", "uint8", "bool"])
def test_masked_channels_are_as_if_absent(dtype, rng):
    x = cases.numbers(rng, (9, 6, 7), dtype)
    where = np.array([True, False, True, True, False, False, True, True, False])
    y = softmax2d(x, where=where[:, None, None])
    assert (y[~where] == 0).all()
    want = oracle.softmax2d(x[where])
    error = cases.softmax_error(want, (x[where],), {"axis": -3})
    cases.assert_within(y[where], want, error, y.dtype)


@pytest.mark.parametrize("hidden", [np.nan, INFINITY, -INFINITY, 1e30])
def test_what_lies_under_a_mask_does_not_matter(hidden, rng):
    x = rng.normal(size=(2, 5, 6, 7)).astype(np.float32)
    where = rng.random((2, 5, 6, 7)) < 0.7
    where[:, :, 2, 3] = False
    want = softmax2d(x, where=where)
    x[~where] = hidden
    np.testing.assert_array_equal(softmax2d(x, where=where), want)
    assert (want[~where] == 0).all()


def test_masked_pixels_are_zero_and_have_no_gradient(rng):
    x, g = rng.normal(size=(2, 2, 3, 6, 7))
    where = rng.random((6, 7)) < 0.5
    y = softmax2d(x, where=where)
    assert (y[..., ~where] == 0).all()
    np.testing.assert_array_equal(y[..., where], softmax2d(x)[..., where])
    for product in (softmax2d_vjp, softmax2d_jvp):
        dx = product(g, y)
        assert (dx[..., ~where] == 0).all()
        assert (dx[..., where] != 0).all()
    assert (softmax2d_jacobian(y)[..., ~where] == 0).all()


def test_gradient_under_a_mask_is_that_of_the_differences(rng):
    x, g = rng.normal(size=(2, 4, 3, 2))
    where = rng.random((4, 3, 2)) < 0.6
    jacobian = oracle.differences(lambda x: softmax2d(x, where=where), x)
    dx = softmax2d_vjp(g, softmax2d(x, where=where))
    np.testing.assert_allclose(dx, np.tensordot(g, jacobian, 3), atol=1e-9)


def test_mask_broadcasts_over_channels_last(rng):
    x = rng.normal(size=(2, 6, 7, 3))
    where = rng.random((2, 6, 7, 1)) < 0.5
    y = softmax2d(x, channel_axis=-1, where=where)
    np.testing.assert_array_equal(y.sum(axis=-1) > 0, where[..., 0])
    check(x, -1, where=where)


# Integers and 16-bit floats --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "dtype"),
    [
        ([0, 1, 200], "uint8"),
        ([-128, 127], "int8"),
        ([-(2**63), 2**63 - 1], "int64"),
        ([2**53, 2**53 + 1], "int64"),
        ([2**64 - 1, 2**64 - 2, 0], "uint64"),
        ([False, True, True], "bool"),
    ],
)
def test_integers_are_converted_before_anything_else(x, dtype):
    x = np.array(x, dtype).reshape(-1, 1, 1)
    y = check(x)
    assert y.dtype == np.float64
    np.testing.assert_array_equal(y, softmax2d(x.astype(np.float64)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("shape", [(70_000, 1, 1), (70_000, 1, 3)])
def test_channels_past_the_largest_float16(shape, dtype):
    dtype = cases.as_dtype(dtype)
    y = softmax2d(np.full(shape, 2.0).astype(dtype))
    assert (y == np.float64(1 / 70_000).astype(dtype)).all()


# Accuracy --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4])
@pytest.mark.parametrize("channels", [1, 10, 1000, 100_000, 1_000_000])
def test_error_is_within_the_bound(channels, scale, dtype, rng):
    check((scale * rng.normal(size=(channels, 1, 2))).astype(dtype))
    check((scale * rng.normal(size=(1, 1, channels))).astype(dtype), -1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("temperature", [1e-3, 0.1, 10.0, 1e3])
@pytest.mark.parametrize("offset", [0.0, -1e6])
def test_error_is_within_the_bound_at_every_temperature(offset, temperature, dtype, rng):
    x = (offset + rng.normal(size=(21, 30, 31))).astype(dtype)
    check(x, temperature=temperature)


# Memory ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 21, 170, 170)])
@pytest.mark.parametrize("channel_axis", [-3, -1])
def test_out_may_be_the_input(channel_axis, shape, dtype, rng):
    x = cases.numbers(rng, shape, dtype)
    want = softmax2d(x, channel_axis=channel_axis)
    assert softmax2d(x, channel_axis=channel_axis, out=x) is x
    np.testing.assert_array_equal(x, want)


@pytest.mark.parametrize("position", [0, 1])
@pytest.mark.parametrize("function", [softmax2d_vjp, softmax2d_jvp])
def test_out_may_be_an_argument_of_the_product(function, position, rng):
    g, y = rng.normal(size=(3, 4, 5)), softmax2d(rng.normal(size=(3, 4, 5)))
    want = function(g, y)
    out = (g, y)[position]
    assert function(g, y, out=out) is out
    np.testing.assert_array_equal(out, want)


@pytest.mark.parametrize("shape", [(5, 6, 7), (22, 230, 230)])
@pytest.mark.parametrize("shift", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)])
@pytest.mark.parametrize("forwards", [True, False])
def test_out_may_overlap_the_input(forwards, shift, shape, rng):
    buffer = rng.normal(size=[n + 1 for n in shape]).astype(np.float32)
    x = buffer[tuple(slice(n) for n in shape)]
    out = buffer[tuple(slice(s, n + s) for n, s in zip(shape, shift, strict=True))]
    if not forwards:
        x, out = out, x
    want = softmax2d(x.copy())
    assert softmax2d(x, out=out) is out
    np.testing.assert_array_equal(out, want)


def test_diagonal_in_place(rng):
    y = softmax2d(rng.normal(size=(3, 4, 5)))
    want = softmax2d_jacobian_diag(y)
    assert softmax2d_jacobian_diag(y, out=y) is y
    np.testing.assert_array_equal(y, want)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize(
    ("shape", "channel_axis"),
    [((64, 512, -1), -3), ((4, 21, 512, -1), -3), ((4096, 32, -1), -3), ((512, 1024, -1), -1)],
)
def test_memory_beyond_the_result(shape, channel_axis, dtype, peak_memory):
    entries = 64 * MEGABYTE // np.dtype(dtype).itemsize
    length = entries // abs(np.prod(shape))
    x = np.ones((*shape[:-1], length), dtype)
    how = {"channel_axis": channel_axis}
    assert peak_memory(lambda: softmax2d(x, **how)) < x.nbytes + MEGABYTE
    out = np.empty_like(x)
    assert peak_memory(lambda: softmax2d(x, **how, out=out)) < MEGABYTE
    assert peak_memory(lambda: softmax2d_vjp(x, x, **how, out=out)) < MEGABYTE
    assert peak_memory(lambda: softmax2d_jvp(x, x, **how)) < x.nbytes + MEGABYTE


def test_memory_of_the_jacobian(peak_memory):
    y = np.ones((21, 256, 256), np.float32)
    assert peak_memory(lambda: softmax2d_jacobian(y)) < 21 * y.nbytes + MEGABYTE
