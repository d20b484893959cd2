"""What must hold for every input: found by hypothesis, and compared bit for bit."""

import cases
import numba
import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from numba_acts import (
    maxout,
    maxout_affine,
    maxout_affine_jvp,
    maxout_affine_vjp,
    maxout_affine_with_index,
    maxout_jvp,
    maxout_vjp,
    maxout_with_index,
    softmax2d,
    softmax2d_vjp,
    softmin,
    softmin_jacobian,
    softmin_jvp,
    softmin_vjp,
)

FLOATS = ("float16", "float32", "float64")
SHAPES = hnp.array_shapes(max_dims=4, max_side=9)


@st.composite
def arrays(draw, largest=1e4, dtypes=FLOATS, shapes=SHAPES):
    """A finite array and one of its axes."""
    dtype = draw(st.sampled_from(dtypes))
    width = 8 * np.dtype(dtype).itemsize
    elements = st.floats(-largest, largest, width=width)
    x = draw(hnp.arrays(dtype, draw(shapes), elements=elements))
    return x, draw(st.integers(-x.ndim, x.ndim - 1))


# Softmin ---------------------------------------------------------------------------------------


@given(arrays(), st.sampled_from([0.1, 1.0, 7.0]))
def test_slices_sum_to_one(drawn, temperature):
    x, axis = drawn
    y = softmin(x, axis, temperature=temperature)
    assert (y >= 0).all() and (y <= 1).all()
    # Σ (1 + |βx - max βx|) y is at most 1 + log n; the rounding of each y to 16 bits comes on top.
    name = x.dtype.name
    n = x.shape[axis]
    allowed = 4 * (1 + np.log(n)) * cases.EPSILON[name] + cases.ROUNDING[name]
    allowed += n * cases.SMALLEST[name]
    assert (np.abs(oracle.wide(y).sum(axis=axis) - 1) <= allowed).all()


@given(st.data())
def test_smaller_entries_never_weigh_less(data):
    x, axis = data.draw(arrays(largest=20))
    y = softmin(x, axis)
    order = np.argsort(x, axis)
    ordered = np.take_along_axis(y, order, axis).astype(np.float64)
    name = x.dtype.name
    slack = 2 * (4 * (1 + 40) * cases.EPSILON[name] + cases.ROUNDING[name])
    assert (np.diff(ordered, axis=axis) <= slack * ordered.max() + cases.SMALLEST[name]).all()


@given(st.data())
def test_shift_does_not_matter(data):
    """Multiples of 1/8 and a whole shift: x + shift is exact, so only the library can err."""
    shapes = hnp.array_shapes(max_dims=3, max_side=9)
    eighths = data.draw(hnp.arrays(np.int64, shapes, elements=st.integers(-160, 160)))
    dtype = data.draw(st.sampled_from(["float32", "float64"]))
    shift = data.draw(st.integers(-(2**17), 2**17))
    x = (eighths / 8).astype(dtype)
    want = oracle.softmin(x)
    error = cases.softmax_error(want, (x,), {})
    cases.assert_within(softmin(x + x.dtype.type(shift)), want, error, dtype)


@given(st.data())
def test_gradients_sum_to_zero(data):
    x, axis = data.draw(arrays(largest=20))
    g = data.draw(hnp.arrays(x.dtype, x.shape, elements=st.integers(-9, 9)))
    y = softmin(x, axis)
    total = np.abs(oracle.wide(g) * oracle.wide(y)).sum(axis=axis)
    # β ⟨g, y⟩ (1 - Σy), and the errors of every product.
    name = x.dtype.name
    n = x.shape[axis]
    allowed = total * (20 + 4 * np.log(n)) * (cases.EPSILON[name] + 2 * cases.ROUNDING[name])
    allowed = allowed + 20 * n * cases.SMALLEST[name]
    for product in (softmin_vjp, softmin_jvp):
        assert (np.abs(oracle.wide(product(g, y, axis)).sum(axis=axis)) <= allowed).all()


@given(st.data())
def test_order_of_a_slice_does_not_matter(data):
    x, axis = data.draw(arrays())
    order = data.draw(st.permutations(range(x.shape[axis])))
    shuffled = np.take(x, order, axis)
    want = np.take(oracle.softmin(x, axis), order, axis)
    error = cases.softmax_error(want, (shuffled,), {"axis": axis})
    cases.assert_within(softmin(shuffled, axis), want, error, x.dtype)


@given(arrays(shapes=hnp.array_shapes(min_dims=3, max_dims=3, max_side=9)))
def test_softmin_is_softmax2d_of_the_negative(drawn):
    x, _ = drawn
    for axis, channel_axis in ((0, -3), (2, -1)):
        got = softmax2d(-x, channel_axis=channel_axis)
        np.testing.assert_array_equal(got, softmin(x, axis))


@given(arrays(largest=20), st.sampled_from([0.5, 1.0, 3.0]))
def test_jacobian_is_symmetric_and_its_rows_sum_to_zero(drawn, temperature):
    x, axis = drawn
    jacobian = softmin_jacobian(softmin(x, axis), axis, temperature=temperature)
    axis %= x.ndim
    jacobian = np.moveaxis(jacobian, (axis, axis + 1), (-2, -1))
    name = x.dtype.name
    jacobian = oracle.wide(jacobian)
    relative = 8 * cases.EPSILON[name] + 2 * cases.ROUNDING[name]
    transposed = np.swapaxes(jacobian, -1, -2)
    np.testing.assert_allclose(jacobian, transposed, rtol=relative, atol=8 * cases.SMALLEST[name])
    n = x.shape[axis]
    allowed = (n + 10) * (cases.EPSILON[name] + cases.ROUNDING[name]) / temperature
    assert (np.abs(jacobian.sum(axis=-1)) <= allowed).all()


# Maxout ----------------------------------------------------------------------------------------


@cases.FULL
@given(st.data())
def test_maxout_is_the_maximum_of_numpy(data):
    dtype = data.draw(st.sampled_from(["bool", *cases.INTEGERS, *FLOATS]))
    x = data.draw(hnp.arrays(dtype, SHAPES))
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    with np.errstate(invalid="ignore"):
        want, winners = np.max(x, axis), np.argmax(x, axis)
    y, index = maxout_with_index(x, axis)
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y, want)
    np.testing.assert_array_equal(index, winners)
    np.testing.assert_array_equal(maxout(x, axis), want)


@given(st.data())
def test_maxout_of_few_distinct_numbers(data):
    """Ties, zeros of both signs, NaN and infinities together."""
    numbers = st.sampled_from([0.0, -0.0, 1.0, -1.0, np.nan, np.inf, -np.inf])
    dtype = data.draw(st.sampled_from(FLOATS))
    x = data.draw(hnp.arrays(dtype, SHAPES, elements=numbers))
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    y, index = maxout_with_index(x, axis)
    np.testing.assert_array_equal(index, np.argmax(x, axis))
    np.testing.assert_array_equal(y, oracle.maxout(x, axis))
    assert maxout(x, axis).tobytes() == y.tobytes()


@given(st.data())
def test_maxout_products_are_adjoint(data):
    x, axis = data.draw(arrays(dtypes=["float64"]))
    whole = st.integers(-100, 100)
    t = data.draw(hnp.arrays(np.float64, x.shape, elements=whole))
    y, index = maxout_with_index(x, axis)
    g = data.draw(hnp.arrays(np.float64, np.shape(y), elements=whole))
    dx, dy = maxout_vjp(g, index, x.shape[axis], axis), maxout_jvp(t, index, axis)
    assert np.vdot(g, dy) == np.vdot(dx, t)  # whole numbers: no rounding


# Bit for bit -----------------------------------------------------------------------------------

LENGTHS = (1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 33, 100, 128, 1000, 4097, 70_000)


def same(one, other):
    """Equal to the last bit, the signs of zeros and of NaN included."""
    return np.ascontiguousarray(one).tobytes() == np.ascontiguousarray(other).tobytes()


def surroundings(slice_):
    """The slice along an axis among others: (array, axis, where the slice is in the result)."""
    rng = np.random.default_rng(n := slice_.size)
    # Enough slices for many threads, rows and columns in full and partial blocks.
    many = max(1_100_000 // n, 3) if n > 10 else 110_001
    everything = slice(None)
    for count in sorted({1, 2, 7, 33, min(many, 300)}):
        for position in sorted({0, count // 2, count - 1}):
            yield (count, n), 1, (position,), rng
            yield (n, count), 0, (everything, position), rng
    if n < 5000:
        yield (many, n), 1, (many - 2,), rng
        yield (n, many), 0, (everything, many // 2), rng
        yield (n, many), 0, (everything, many - 1), rng
    yield (3, n, 11), 1, (1, everything, 7), rng
    yield (2, n, 3, 5), 1, (1, everything, 2, 4), rng
    yield (2, 3, 5, n), 3, (1, 1, 2), rng


def among_others(arrays, shape, place, rng):
    """The arrays in larger ones of random numbers, some of them NaN."""
    for array in arrays:
        larger = 3 * rng.normal(size=shape)
        larger.reshape(-1)[::101] = np.nan
        larger = larger.astype(array.dtype)
        larger[place] = array
        yield larger


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("n", LENGTHS)
def test_softmin_of_a_slice_does_not_depend_on_its_surroundings(n, dtype, rng):
    x, g = (cases.numbers(rng, n, dtype) for _ in range(2))
    y = softmin(x, temperature=0.7)
    dx = softmin_vjp(g, y, temperature=0.7)
    for shape, axis, place, numbers in surroundings(x):
        (larger,) = among_others([x], shape, place, numbers)
        got = softmin(larger, axis, temperature=0.7)[place]
        assert same(got, y), f"softmin in {shape} at {place}"
        larger, weights = among_others([g, y], shape, place, numbers)
        got = softmin_vjp(larger, weights, axis, temperature=0.7)[place]
        assert same(got, dx), f"softmin_vjp in {shape} at {place}"


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("n", [n for n in LENGTHS if n < 5000])
def test_masked_slice_does_not_depend_on_its_surroundings(n, dtype, rng):
    x, where = cases.numbers(rng, n, dtype), rng.random(n) < 0.6
    y = softmin(x, where=where)
    for shape, axis, place, numbers in surroundings(x):
        (larger,) = among_others([x], shape, place, numbers)
        masks = numbers.random(shape) < 0.5
        masks[place] = where
        assert same(softmin(larger, axis, where=masks)[place], y), f"in {shape} at {place}"


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("channels", [1, 2, 3, 10, 21, 33, 150, 1000])
def test_softmax2d_of_a_position_does_not_depend_on_its_surroundings(channels, dtype, rng):
    x, g = (cases.numbers(rng, channels, dtype) for _ in range(2))
    y = softmax2d(x.reshape(-1, 1, 1)).reshape(-1)
    dx = softmax2d_vjp(g.reshape(-1, 1, 1), y.reshape(-1, 1, 1)).reshape(-1)
    everything = slice(None)
    side = 230 if channels < 30 else 40
    for shape, axis, place in [
        ((channels, 5, 7), -3, (everything, 3, 6)),
        ((channels, side, side), -3, (everything, side - 1, side - 1)),
        ((2, channels, side, 9), -3, (1, everything, 17, 8)),
        ((5, 7, channels), -1, (3, 6)),
        ((2, side, side, channels), -1, (1, 17, 30)),
    ]:
        (larger,) = among_others([x], shape, place, rng)
        assert same(softmax2d(larger, channel_axis=axis)[place], y), f"softmax2d in {shape}"
        larger, weights = among_others([g, y], shape, place, rng)
        got = softmax2d_vjp(larger, weights, channel_axis=axis)[place]
        assert same(got, dx), f"softmax2d_vjp in {shape}"


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("n", LENGTHS)
def test_maxout_of_a_slice_does_not_depend_on_its_surroundings(n, dtype, rng):
    """Zeros of both signs show which of the equal pieces gave the value."""
    x = np.copysign(np.zeros(n), rng.normal(size=n)).astype(dtype)
    y, index = maxout_with_index(x)
    assert same(maxout(x), y)
    for shape, axis, place, numbers in surroundings(x):
        (larger,) = among_others([x], shape, place, numbers)
        at = tuple(i for i in place if not isinstance(i, slice))
        ys, indices = maxout_with_index(larger, axis)
        assert same(ys[at], y) and indices[at] == index, f"in {shape} at {place}"
        assert same(maxout(larger, axis)[at], y), f"in {shape} at {place}"


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("d", [1, 3, 16, 65, 400])
def test_maxout_affine_of_a_sample_does_not_depend_on_its_batch(d, dtype, rng):
    x = cases.numbers(rng, (301, d), dtype)
    weight, bias = cases.numbers(rng, (6, 3, d), dtype), cases.numbers(rng, (6, 3), dtype)
    y, index = maxout_affine_with_index(x, weight, bias)
    for samples in (slice(0, 1), slice(300, 301), slice(5, 7), slice(100, 299)):
        got, winners = maxout_affine_with_index(x[samples], weight, bias)
        assert same(got, y[samples]) and same(winners, index[samples]), f"{samples}"
    alone, winner = maxout_affine_with_index(x[7], weight[2], bias[2])
    assert same(alone, y[7, 2]) and winner == index[7, 2]
    dx = maxout_affine_vjp(y, x, weight, index)[0]
    got = maxout_affine_vjp(y[9:10], x[9:10], weight, index[9:10])[0]
    assert same(got, dx[9:10])


def large_calls(dtype):
    """Calls that are large enough for many threads."""
    rng = np.random.default_rng(1729)
    for shape, axis in [*cases.LARGE, ((3, 500_000), 1), ((500_000, 3), 0)]:
        x, g = (cases.numbers(rng, shape, dtype) for _ in range(2))
        y, index = np.asarray(softmin(x, axis)), maxout_with_index(x, axis)[1]
        yield f"softmin {shape}", softmin, (x, axis)
        yield f"softmin_vjp {shape}", softmin_vjp, (g, y, axis)
        yield f"softmin_jvp {shape}", softmin_jvp, (g, y, axis)
        yield f"maxout_with_index {shape}", maxout_with_index, (x, axis)
        yield f"maxout_vjp {shape}", maxout_vjp, (np.take(g, 0, axis), index, shape[axis], axis)
        yield f"maxout_jvp {shape}", maxout_jvp, (g, index, axis)
    x = cases.numbers(rng, (20, 60_000), dtype)
    yield "softmin of every axis", softmin, (x, None)
    yield "softmin of two axes", softmin, (x.reshape(20, 100, 600), (0, 2))
    x = cases.numbers(rng, (3, 21, 150, 151), dtype)
    yield "softmax2d", softmax2d, (x,)
    yield "softmax2d_vjp", softmax2d_vjp, (x, np.asarray(softmax2d(x)))
    yield "softmin_jacobian", softmin_jacobian, (cases.numbers(rng, (300, 70), dtype),)
    x, weight = cases.numbers(rng, (4096, 32), dtype), cases.numbers(rng, (96, 4, 32), dtype)
    index = maxout_affine_with_index(x, weight)[1]
    g = cases.numbers(rng, index.shape, dtype)
    yield "maxout_affine", maxout_affine, (x, weight)
    yield "maxout_affine_vjp", maxout_affine_vjp, (g, x, weight, index)
    yield "maxout_affine_jvp", affine_jvp_of_x, (x, weight, index)


def affine_jvp_of_x(x, weight, index):
    return maxout_affine_jvp(x, weight, index, dx=x, dweight=weight)


@pytest.mark.parametrize("dtype", FLOATS)
def test_number_of_threads_does_not_matter(dtype):
    most = numba.get_num_threads()
    assert most > 1
    for label, function, arguments in large_calls(dtype):
        results = []
        try:
            for threads in (1, 2, most):
                numba.set_num_threads(threads)
                result = function(*arguments)
                results.append(result if isinstance(result, tuple) else (result,))
        finally:
            numba.set_num_threads(most)
        for other in results[1:]:
            assert all(map(same, results[0], other)), label
