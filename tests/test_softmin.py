"""Softmin and its derivatives."""

from typing import Any

import cases
import numpy as np
import oracle
import pytest

from numba_acts import (
    softmin,
    softmin_jacobian,
    softmin_jacobian_diag,
    softmin_jvp,
    softmin_vjp,
)

AXES = [0, 1, -1, (0, 2), (-1, 1), None]
INFINITY = np.inf


def check(x, axis=-1, **keywords):
    """Softmin of x, compared with the oracle."""
    y = softmin(x, axis, **keywords)
    cases.assert_agrees(y, "softmin", (x,), {"axis": axis, **keywords})
    return y


# Values ----------------------------------------------------------------------------------------


def test_smaller_entries_weigh_more():
    y = softmin([1.0, 2.0, 3.0, 4.0])
    e = np.exp([-1.0, -2.0, -3.0, -4.0])
    np.testing.assert_allclose(y, e / e.sum(), rtol=1e-15)


def test_temperature_divides_the_input(rng):
    x = rng.normal(size=(4, 6))
    np.testing.assert_allclose(softmin(x, temperature=4.0), softmin(x / 4), rtol=1e-14)


def test_temperature_may_be_any_real_number():
    x = [1.0, 2.0, 4.0]
    want = softmin(x, temperature=2.0)
    temperatures: list[Any] = [2, np.float32(2), np.int64(2), np.float64(2)]
    for temperature in temperatures:
        np.testing.assert_array_equal(softmin(x, temperature=temperature), want)


def test_tuple_axis_is_one_slice(rng):
    x = rng.normal(size=(4, 3, 5))
    y = softmin(x, (0, 2))
    for j in range(3):
        want = softmin(x[:, j].reshape(-1)).reshape(4, 5)
        np.testing.assert_allclose(y[:, j], want, rtol=1e-14)


def test_order_of_a_tuple_axis_does_not_matter(rng):
    x = rng.normal(size=(4, 3, 5))
    np.testing.assert_array_equal(softmin(x, (0, 2)), softmin(x, (-1, 0)))


def test_axis_none_is_every_axis(rng):
    x = rng.normal(size=(4, 3, 5))
    np.testing.assert_array_equal(softmin(x, None), softmin(x, (0, 1, 2)))


def test_empty_tuple_of_axes_is_every_number_alone(rng):
    x = rng.normal(size=(3, 4))
    np.testing.assert_array_equal(softmin(x, ()), np.ones((3, 4)))


@pytest.mark.parametrize("x", [2.5, 7, True, np.float32(2.5), np.array(2.5)])
@pytest.mark.parametrize("axis", [-1, None])
def test_rank_zero_gives_the_scalar_one(x, axis):
    y = softmin(x, axis)
    assert isinstance(y, np.float32 if isinstance(x, np.float32) else np.float64)
    assert y == 1.0


def test_bfloat16_in_the_other_byte_order(rng):
    """`ml_dtypes` has no conversion to it, but memory of other machines can be viewed so."""
    dtype = cases.as_dtype("bfloat16")
    x = rng.normal(size=(3, 4)).astype(dtype)
    swapped = x.byteswap().view(dtype.newbyteorder())
    assert not swapped.dtype.isnative
    y = softmin(swapped)
    assert y.tobytes() == softmin(x).tobytes() and y.dtype.isnative


@pytest.mark.parametrize("x", [np.nan, INFINITY, -INFINITY])
def test_rank_zero_that_is_not_finite_gives_nan(x):
    assert np.isnan(softmin(x))


def test_derivatives_of_rank_zero_are_scalars():
    for product in (softmin_vjp, softmin_jvp):
        assert isinstance(product(3.0, 1.0), np.float64)
        assert product(3.0, 1.0) == 0.0
    diagonal = softmin_jacobian_diag(0.25, temperature=2.0)
    assert isinstance(diagonal, np.float64)
    assert diagonal == -0.25 * 0.75 / 2


def test_lists_and_memory_maps(tmp_path):
    x = np.array([[3.0, 1.0], [0.5, 0.25]], np.float32)
    x.tofile(tmp_path / "x")
    mapped = np.memmap(tmp_path / "x", np.float32, "r", shape=(2, 2))
    y = softmin(mapped)
    assert type(y) is np.ndarray and y.dtype == np.float32
    np.testing.assert_array_equal(y, softmin(x))
    np.testing.assert_array_equal(softmin(x.tolist()), softmin(x.astype(np.float64)))


# Derivatives -----------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("axis", AXES)
def test_products_are_those_of_the_differences(axis, temperature, rng):
    x, g, t = rng.normal(size=(3, 2, 3, 4))
    jacobian = oracle.differences(lambda x: softmin(x, axis, temperature=temperature), x)
    y = softmin(x, axis, temperature=temperature)
    dx = softmin_vjp(g, y, axis, temperature=temperature)
    dy = softmin_jvp(t, y, axis, temperature=temperature)
    np.testing.assert_allclose(dx, np.tensordot(g, jacobian, 3), atol=1e-8)
    np.testing.assert_allclose(dy, np.tensordot(jacobian, t, 3), atol=1e-8)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_jacobian_is_that_of_the_differences(temperature, rng):
    x = rng.normal(size=(2, 3, 4))
    y = softmin(x, 1, temperature=temperature)
    jacobian = softmin_jacobian(y, 1, temperature=temperature)
    differences = oracle.differences(lambda x: softmin(x, 1, temperature=temperature), x)
    np.testing.assert_allclose(jacobian, np.einsum("aibajb->aijb", differences), atol=1e-8)
    diagonal = softmin_jacobian_diag(y, temperature=temperature)
    np.testing.assert_allclose(diagonal, np.einsum("aibaib->aib", differences), atol=1e-8)
    np.testing.assert_allclose(diagonal, np.einsum("aiib->aib", jacobian), atol=1e-15)


@pytest.mark.parametrize("axis", AXES)
def test_products_are_adjoint(axis, rng):
    x, g, t = rng.normal(size=(3, 5, 6, 7))
    y = softmin(x, axis, temperature=0.5)
    dx = softmin_vjp(g, y, axis, temperature=0.5)
    dy = softmin_jvp(t, y, axis, temperature=0.5)
    np.testing.assert_allclose(np.vdot(g, dy), np.vdot(dx, t), rtol=1e-12)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_products_are_those_of_the_jacobian(axis, rng):
    x, g = rng.normal(size=(2, 4, 5, 6))
    y = softmin(x, axis, temperature=2.0)
    jacobian = softmin_jacobian(y, axis, temperature=2.0)
    jacobian = np.moveaxis(jacobian, (axis % 3, axis % 3 + 1), (-2, -1))
    want = np.einsum("...ij,...j->...i", jacobian, np.moveaxis(g, axis, -1))
    for product in (softmin_vjp, softmin_jvp):
        got = product(g, y, axis, temperature=2.0)
        np.testing.assert_allclose(got, np.moveaxis(want, -1, axis), atol=1e-15)


def test_jacobian_is_positive_off_the_diagonal():
    y = softmin([0.0, 1.0, 2.0], temperature=2.0)
    jacobian = softmin_jacobian(y, temperature=2.0)
    want = (np.outer(y, y) - np.diag(y)) / 2
    np.testing.assert_allclose(jacobian, want, atol=1e-16)
    assert (jacobian[~np.eye(3, dtype=bool)] > 0).all()


def test_constant_cotangent_has_no_gradient():
    y = softmin([0.0, 1.0, 2.0])
    np.testing.assert_allclose(softmin_vjp(np.ones(3), y), 0, atol=1e-15)


def test_gradient_at_a_tie_is_shared():
    y = softmin([1.0, 1.0])
    np.testing.assert_allclose(softmin_vjp([1.0, 0.0], y), [-0.25, 0.25])


def test_nan_in_the_cotangent_reaches_its_slice_only(rng):
    g, y = rng.normal(size=(3, 40)), softmin(rng.normal(size=(3, 40)))
    g[1, 17] = np.nan
    dx = softmin_vjp(g, y)
    assert np.isnan(dx[1]).all()
    assert np.isfinite(dx[[0, 2]]).all()


# NaN and infinities ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", cases.FLOATS)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("n", [1, 2, 9, 100, 4097])
def test_nan_anywhere_fills_its_slice(n, axis, dtype, rng):
    for position in {0, n // 2, n - 1}:
        x = cases.numbers(rng, (5, n), dtype)
        x[2, position] = np.nan
        y = softmin(x if axis == 1 else np.ascontiguousarray(x.T), axis)
        y = y if axis == 1 else y.T
        assert np.isnan(y[2]).all()
        assert np.isfinite(y[[0, 1, 3, 4]]).all()


@pytest.mark.parametrize("dtype", cases.FLOATS)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 20.0])
@pytest.mark.parametrize(
    ("x", "finite"),
    [
        ([INFINITY, 1.0, 2.0], [1, 2]),
        ([1.0, INFINITY, 2.0, INFINITY], [0, 2]),
        ([1.0, INFINITY], [0]),
        ([INFINITY], []),
        ([INFINITY, INFINITY], []),
        ([-INFINITY], []),
        ([-INFINITY, 1.0, 2.0], []),
        ([1.0, 2.0, -INFINITY], []),
        ([INFINITY, 1.0, -INFINITY], []),
        ([-INFINITY, -INFINITY], []),
        ([INFINITY, np.nan], []),
    ],
)
def test_plus_infinity_weighs_nothing_and_the_rest_is_nan(x, finite, temperature, dtype):
    x = np.array(x).astype(cases.as_dtype(dtype))
    y = check(x, temperature=temperature)
    if finite:
        want = np.zeros_like(x)
        want[finite] = softmin(x[finite], temperature=temperature)
        np.testing.assert_array_equal(y, want)
    else:
        assert np.isnan(y).all()


@pytest.mark.parametrize("dtype", cases.FLOATS)
def test_largest_numbers_do_not_overflow(dtype):
    largest = {"float16": 65504.0, "float64": 1.7e308}.get(dtype, 3.3e38)
    x = np.array([largest, -largest, largest]).astype(cases.as_dtype(dtype))
    np.testing.assert_array_equal(softmin(x), [0, 1, 0])
    np.testing.assert_array_equal(softmin(x[::2]), [0.5, 0.5])


@pytest.mark.parametrize("dtype", cases.FLOATS)
@pytest.mark.parametrize("temperature", [1e-300, 1e-40, 1e-6])
def test_cold_softmin_is_the_minimum(temperature, dtype):
    x = np.array([1.0, 2.0, 1.0, INFINITY]).astype(cases.as_dtype(dtype))
    y = softmin(x, temperature=temperature)
    np.testing.assert_array_equal(y, [0.5, 0, 0.5, 0])


@pytest.mark.parametrize("dtype", cases.FLOATS)
@pytest.mark.parametrize("temperature", [1e6, 1e40, 1e300])
def test_hot_softmin_is_even(temperature, dtype):
    x = np.array([1.0, 2.0, 1.5, 1.0]).astype(cases.as_dtype(dtype))
    y = softmin(x, temperature=temperature)
    np.testing.assert_allclose(y.astype(np.float64), 0.25, rtol=1e-5)


def test_zeros_of_both_signs_are_equal():
    y = softmin(np.array([-0.0, 0.0, 0.0, -0.0], np.float32))
    np.testing.assert_array_equal(y, [0.25] * 4)


@pytest.mark.parametrize("n", [2, 3, 7, 10, 64, 1000])
def test_equal_entries_weigh_the_same(n):
    for value in (0.0, -3.5, 1e30):
        y = softmin(np.full((3, n), value, np.float32))
        assert (y == y[0, 0]).all()


# Masks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [*cases.FLOATS, "int8", "uint8", "bool"])
@pytest.mark.parametrize("axis", [0, 1])
def test_masked_entries_are_as_if_absent(axis, dtype, rng):
    x = cases.numbers(rng, (9, 9), dtype)
    where = np.array([True, False, True, True, False, False, True, True, False])
    kept = np.compress(where, x, axis)
    y = softmin(x, axis, where=where if axis == 1 else where[:, None])
    assert (np.compress(~where, y, axis) == 0).all()
    want = oracle.softmin(kept, axis)
    error = cases.softmax_error(want, (kept,), {"axis": axis})
    cases.assert_within(np.compress(where, y, axis), want, error, y.dtype)


@pytest.mark.parametrize("hidden", [np.nan, INFINITY, -INFINITY, 1e30])
@pytest.mark.parametrize("axis", [0, 1])
def test_what_lies_under_a_mask_does_not_matter(hidden, axis, rng):
    x = rng.normal(size=(6, 8)).astype(np.float32)
    where = rng.random((6, 8)) < 0.7
    where[2], where[:, 3] = False, False
    want = softmin(x, axis, where=where)
    x[~where] = hidden
    np.testing.assert_array_equal(softmin(x, axis, where=where), want)
    assert (want[~where] == 0).all()


@pytest.mark.parametrize("dtype", [*cases.FLOATS, "int32"])
@pytest.mark.parametrize("axis", [0, 1, (0, 2), None])
def test_slice_masked_whole_gives_zeros(axis, dtype, rng):
    x = cases.numbers(rng, (4, 3, 5), dtype)
    y = softmin(x, axis, where=False)
    assert y.shape == x.shape
    assert (y == 0).all()


def test_gradient_of_a_slice_masked_whole_is_zero(rng):
    x, g = rng.normal(size=(2, 4, 6))
    where = np.ones((4, 6), bool)
    where[2] = False
    y = softmin(x, where=where)
    for product in (softmin_vjp, softmin_jvp):
        dx = product(g, y)
        assert (dx[2] == 0).all()
        assert (dx[[0, 1, 3]] != 0).all()
    assert (softmin_jacobian(y)[2] == 0).all()
    assert (softmin_jacobian_diag(y)[2] == 0).all()


@pytest.mark.parametrize("axis", [0, 1, None])
def test_gradient_under_a_mask_is_that_of_the_differences(axis, rng):
    x, g = rng.normal(size=(2, 4, 5))
    where = rng.random((4, 5)) < 0.6
    where[1], where[:, 2] = False, False
    jacobian = oracle.differences(lambda x: softmin(x, axis, where=where), x)
    dx = softmin_vjp(g, softmin(x, axis, where=where), axis)
    np.testing.assert_allclose(dx, np.tensordot(g, jacobian, 2), atol=1e-9)
    assert (dx[~where] == 0).all()


def test_without_a_mask_nothing_is_special():
    x = np.full((2, 3), INFINITY)
    assert np.isnan(softmin(x)).all()
    assert np.isnan(softmin(x, where=True)).all()
    assert (softmin(x, where=False) == 0).all()


def test_mask_may_be_a_list():
    y = softmin([1.0, 5.0, 1.0], where=[True, False, True])
    np.testing.assert_array_equal(y, [0.5, 0.0, 0.5])


def test_unmasked_nan_fills_what_is_not_masked():
    x = np.array([[1.0, np.nan, 2.0], [1.0, np.nan, 2.0]])
    y = softmin(x, where=np.array([[True, True, False], [True, False, True]]))
    assert np.isnan(y[0, :2]).all()
    assert y[0, 2] == 0
    assert np.isfinite(y[1]).all()


def test_mask_is_not_changed(rng):
    where = rng.random((7, 9)) < 0.5
    before = where.copy()
    softmin(rng.normal(size=(7, 9)), where=where)
    np.testing.assert_array_equal(where, before)


# Integers and 16-bit floats --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "dtype"),
    [
        ([0, 1, 200], "uint8"),
        ([0, 255], "uint8"),
        ([-128, 127], "int8"),
        ([-128, -128, -127], "int8"),
        ([-(2**15), 2**15 - 1], "int16"),
        ([-(2**31), 2**31 - 1, -(2**31) + 1], "int32"),
        ([-(2**63), 2**63 - 1], "int64"),
        ([2**53, 2**53 + 1, 2**53 + 2], "int64"),
        ([2**64 - 1, 2**64 - 2, 0], "uint64"),
        ([2**64 - 1, 2**64 - 1], "uint64"),
        ([False, True, True], "bool"),
    ],
)
def test_integers_are_converted_before_anything_else(x, dtype):
    x = np.array(x, dtype)
    y = check(x)
    assert y.dtype == np.float64
    np.testing.assert_array_equal(y, softmin(x.astype(np.float64)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(("shape", "axis"), [((70_000,), 0), ((2, 70_000), 1), ((70_000, 3), 0)])
def test_length_past_the_largest_float16(shape, axis, dtype):
    dtype = cases.as_dtype(dtype)
    y = softmin(np.full(shape, 2.0).astype(dtype), axis)
    assert (y == np.float64(1 / 70_000).astype(dtype)).all()


def test_product_of_a_length_past_the_largest_float16():
    y = np.full(70_000, 1 / 70_000).astype(np.float16)
    g = np.full(70_000, 1000.0, np.float16)
    dx = softmin_vjp(g, y)
    cases.assert_agrees(dx, "softmin_vjp", (g, y), {})


# Accuracy --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4])
@pytest.mark.parametrize("n", [1, 10, 1000, 100_000, 1_000_000])
def test_error_is_within_the_bound(n, scale, dtype, rng):
    check((scale * rng.normal(size=n)).astype(dtype))
    check((scale * rng.normal(size=(n, 2))).astype(dtype), 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("temperature", [1e-3, 1e-2, 0.1, 10.0, 1e3])
@pytest.mark.parametrize("offset", [0.0, 1e3, -1e6])
def test_error_is_within_the_bound_at_every_temperature(offset, temperature, dtype, rng):
    x = (offset + rng.normal(size=(3, 700))).astype(dtype)
    check(x, temperature=temperature)
    check(x, 0, temperature=temperature)


@pytest.mark.parametrize("dtype", cases.FLOATS)
def test_every_distance_from_the_minimum(dtype):
    """The exponential over its whole range, to the subnormal numbers and past them."""
    distance = np.linspace(0, 760 if dtype == "float64" else 110, 20_001)
    x = np.stack([np.zeros_like(distance), distance], axis=1).astype(cases.as_dtype(dtype))
    check(x)
    check(np.ascontiguousarray(x.T), 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("distance", "temperature"), [(0.1, 1.0), (10.0, 1.0), (13.0, 1.4352865)])
def test_many_equal_entries(distance, temperature, dtype):
    """No partial sum is exact: rounding errors that all go one way must not add up."""
    x = np.zeros(1_000_003, dtype)
    x[0] = -distance
    check(x, temperature=temperature)
    check(x[:, None], 0, temperature=temperature)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("slope", [6.88242143611141e-05, -3.1e-04, 2.3e-13])
def test_many_steps_of_one_height(slope, dtype):
    """Parts of a long slice each have another maximum: errors of their scales must not add up."""
    x = (np.arange(1_000_003) // 4096 * -slope).astype(dtype)
    check(x)
    check(x[:, None], 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1000, 100_000])
def test_error_of_the_products_is_within_the_bound(n, dtype, rng):
    y = softmin(rng.normal(size=(n, 3)).astype(dtype), 0)
    g = (1 + rng.random((n, 3))).astype(dtype)
    for function in (softmin_vjp, softmin_jvp):
        got = function(g, y, 0)
        cases.assert_agrees(got, function.__name__, (g, y), {"axis": 0})


# Memory ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1])
def test_input_that_repeats_itself_without_memory(axis, rng):
    repeated = np.broadcast_to(rng.normal(size=9).astype(np.float32), (9, 9))
    x = repeated if axis == 1 else repeated.T
    np.testing.assert_array_equal(softmin(x, axis), softmin(x.copy(), axis))


def test_result_is_new_memory(rng):
    x = rng.normal(size=(3, 4))
    assert not np.shares_memory(softmin(x), x)
    assert softmin(x).flags.writeable


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("shape", [(7, 9), (1100, 1000)])
@pytest.mark.parametrize("axis", [0, 1, None])
def test_out_may_be_the_input(axis, shape, dtype, rng):
    x = cases.numbers(rng, shape, dtype)
    want = softmin(x, axis)
    assert softmin(x, axis, out=x) is x
    np.testing.assert_array_equal(x, want)


@pytest.mark.parametrize("position", [0, 1])
@pytest.mark.parametrize("axis", [0, 1, None])
@pytest.mark.parametrize("function", [softmin_vjp, softmin_jvp])
def test_out_may_be_an_argument_of_the_product(function, axis, position, rng):
    g, y = rng.normal(size=(7, 9)), softmin(rng.normal(size=(7, 9)), axis)
    want = function(g, y, axis)
    out = (g, y)[position]
    assert function(g, y, axis, out=out) is out
    np.testing.assert_array_equal(out, want)


def test_diagonal_in_place(rng):
    y = softmin(rng.normal(size=(7, 9)))
    want = softmin_jacobian_diag(y)
    assert softmin_jacobian_diag(y, out=y) is y
    np.testing.assert_array_equal(y, want)


@pytest.mark.parametrize("shape", [(8, 9), (1100, 1000)])
@pytest.mark.parametrize("axis", [0, 1, None])
@pytest.mark.parametrize("shift", [(1, 0), (0, 1), (3, 2)])
@pytest.mark.parametrize("forwards", [True, False])
def test_out_may_overlap_the_input(forwards, shift, axis, shape, rng):
    rows, columns = shape
    buffer = rng.normal(size=(rows + 3, columns + 2)).astype(np.float32)
    x = buffer[:rows, :columns]
    out = buffer[shift[0] : rows + shift[0], shift[1] : columns + shift[1]]
    if not forwards:
        x, out = out, x
    want = softmin(x.copy(), axis)
    assert softmin(x, axis, out=out) is out
    np.testing.assert_array_equal(out, want)


def test_out_may_be_the_input_backwards(rng):
    x = rng.normal(size=(8, 9))
    want = softmin(x)
    out = x[::-1, ::-1]
    softmin(x, out=out)
    np.testing.assert_array_equal(out, want)


@pytest.mark.parametrize("function", [softmin_vjp, softmin_jvp])
@pytest.mark.parametrize("axis", [0, 1])
def test_out_may_overlap_an_argument_of_the_product(function, axis, rng):
    buffer = rng.random((9, 9))
    other = rng.random((8, 9))
    for arguments in [(buffer[:-1], other), (other, buffer[:-1]), (buffer[:-1], buffer[1:])]:
        saved = buffer.copy()
        want = function(*(a.copy() for a in arguments), axis)
        function(*arguments, axis, out=buffer[1:])
        np.testing.assert_array_equal(buffer[1:], want)
        buffer[...] = saved


def test_jacobian_may_overlap_its_argument(rng):
    buffer = np.empty((3, 5, 5))
    y = buffer[:, 2]
    y[...] = softmin(rng.normal(size=(3, 5)))
    want = softmin_jacobian(y.copy())
    softmin_jacobian(y, out=buffer)
    np.testing.assert_array_equal(buffer, want)


def test_out_of_rank_zero():
    out = np.array(7.0)
    assert softmin(3.0, out=out) is out
    assert out == 1.0


MEGABYTE = 2**20


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("axis", [0, 1, 2, (0, 1), (1, 2), (0, 2), None])
def test_memory_beyond_the_result(axis, dtype, peak_memory):
    x = np.ones((64, 512, 2048 // np.dtype(dtype).itemsize), dtype)
    assert x.nbytes == 64 * MEGABYTE
    assert peak_memory(lambda: softmin(x, axis)) < x.nbytes + MEGABYTE
    out = np.empty_like(x)
    assert peak_memory(lambda: softmin(x, axis, out=out)) < MEGABYTE
    assert peak_memory(lambda: softmin_vjp(x, x, axis, out=out)) < MEGABYTE


def test_memory_of_a_mask(peak_memory):
    x = np.ones((4096, 4096), np.float32)
    where = np.arange(4096) % 3 > 0
    assert peak_memory(lambda: softmin(x, where=where)) < x.nbytes + MEGABYTE
    assert peak_memory(lambda: softmin(x, where=where[:, None])) < x.nbytes + MEGABYTE


def test_memory_of_the_diagonal(peak_memory):
    y = np.ones((4096, 4096), np.float32)
    assert peak_memory(lambda: softmin_jacobian_diag(y)) < y.nbytes + MEGABYTE


def test_memory_of_the_jacobian(peak_memory):
    y = np.ones((4096, 64), np.float32)
    assert peak_memory(lambda: softmin_jacobian(y)) < 64 * y.nbytes + MEGABYTE
