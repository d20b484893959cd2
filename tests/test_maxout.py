"""Maxout, plain and of an affine map, and its derivatives."""

import cases
import numpy as np
import oracle
import pytest

from numba_acts import (
    maxout,
    maxout_affine,
    maxout_affine_jacobian,
    maxout_affine_jvp,
    maxout_affine_vjp,
    maxout_affine_with_index,
    maxout_jacobian,
    maxout_jvp,
    maxout_vjp,
    maxout_with_index,
    softmin,
    softmin_vjp,
)
from numba_acts._cpu import maxout as maxout_room

INFINITY = np.inf
MEGABYTE = 2**20
INDEX_DTYPES = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


# Values ----------------------------------------------------------------------------------------


def test_largest_piece_of_every_unit():
    x = [[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [10, 11, 12]]]
    np.testing.assert_array_equal(maxout(x), [[3, 6], [9, 12]])


def test_index_names_the_winner(rng):
    x = rng.normal(size=(5, 6, 7))
    for axis in (0, 1, 2, -1, -2, -3):
        y, index = maxout_with_index(x, axis)
        np.testing.assert_array_equal(index, np.argmax(x, axis))
        np.testing.assert_array_equal(y, np.max(x, axis))
        np.testing.assert_array_equal(y, maxout(x, axis))


def test_index_past_2_to_the_31():
    """Numbers that nobody has written take no memory."""
    pieces, winner = 2**31 + 10, 2**31 + 5
    x = np.zeros(pieces, np.int8)
    x[winner] = 7
    assert maxout_with_index(x, index_dtype=np.int64) == (7, winner)
    assert maxout_with_index(x, index_dtype=np.uint32) == (7, winner)
    assert maxout(x) == 7
    assert maxout_jvp(x, np.int64(winner)) == 7
    with pytest.raises(ValueError, match=f"index_dtype must hold indices up to {pieces - 1}"):
        maxout_with_index(x)
    with pytest.raises(IndexError, match=rf"index must lie in \[0, {pieces}\)"):
        maxout_jvp(x, np.int64(pieces))


DOUBTS = {  # what is among the numbers
    "numbers alone": [],
    "NaN": [np.nan],
    "NaN and infinities": [np.nan, INFINITY, -INFINITY],
    "both infinities": [INFINITY, -INFINITY],
    "zeros of both signs are the largest": [0.0, -0.0],
}


def around(length):
    """Shapes with an axis of maxout, or columns beside each other, of that length."""
    return [((3, length), 1), ((length, 3), 0), ((5, length), 0), ((2, 3, length), 1)]


@pytest.mark.parametrize("doubt", DOUBTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_wide_vectors_find_the_first_largest(dtype, doubt, rng):
    """Many numbers at a time, where the maximum is certain; the bits of the first, where it is not.

    Lengths about one, two, four wide vectors of each dtype.
    """
    for length in (1, 31, 32, 63, 64, 65, 127, 128, 129, 255, 256, 300):
        for shape, axis in [
            ((3, length), 1),
            ((length, 3), 0),
            ((5, length), 0),
            ((2, 3, length), 1),
        ]:
            x = -1 - rng.random(shape).astype(dtype)
            for value in DOUBTS[doubt]:
                x[rng.random(shape) < rng.choice([0.02, 0.3])] = value
            y, (best, index) = maxout(x, axis), maxout_with_index(x, axis)
            want = np.take_along_axis(x, np.expand_dims(x.argmax(axis), axis), axis)
            for got in (y, best):
                assert got.tobytes() == np.squeeze(want, axis).tobytes(), (shape, axis)
            np.testing.assert_array_equal(index, x.argmax(axis))


@pytest.mark.parametrize("dtype", [np.int8, np.float32])
@pytest.mark.parametrize("pieces", [2 * maxout_room.PART, 3 * maxout_room.PART + 1])
def test_long_rows_in_parts(pieces, dtype, rng):
    """The first of equal ones, the first NaN, in each part of rows that threads share."""
    for rows in (1, 2):
        for _ in range(4):
            x = rng.integers(-100, 100, (rows, pieces)).astype(dtype)
            for at in rng.integers(0, pieces, (3, rows)):
                x[np.arange(rows), at] = rng.choice([np.nan, 101]) if dtype == np.float32 else 101
            y, index = maxout_with_index(x)
            np.testing.assert_array_equal(index, x.argmax(1))
            np.testing.assert_array_equal(y, x.max(1))
            np.testing.assert_array_equal(maxout(x), y)


@pytest.mark.parametrize("dtype", [np.int8, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("rows", [1, 9])
def test_rows_by_blocks(rows, dtype, rng):
    """The first of equal ones in a block, in two of them, in the last, which overlaps."""
    block, kind = maxout_room.BLOCK, np.dtype(dtype).kind
    ends = block, block + 1, 2 * block - 1, 3 * block + 77
    for pieces in (63, 64, 128, 255, 256, 511, 512, 700, 2048, *ends):
        for largest in (50, 101, 0):  # met often, now and then; zeros of both signs
            x = rng.integers(-100, 51, (rows, pieces)).astype(dtype)
            x = np.minimum(x, dtype(largest))
            if largest == 101:
                x[np.arange(rows), rng.integers(0, pieces, (2, rows))] = 101
            if largest == 0 and kind == "f":
                x *= rng.choice(np.array([-1, 1], dtype), x.shape) ** (x == 0)
            y, index = maxout_with_index(x)
            np.testing.assert_array_equal(index, x.argmax(1))
            want = np.take_along_axis(x, index[:, None].astype(int), 1)[:, 0]
            assert y.tobytes() == maxout(x).tobytes() == want.tobytes()
            if kind == "f":
                x[np.arange(rows), rng.integers(0, pieces, rows)] = np.nan
                np.testing.assert_array_equal(maxout_with_index(x)[1], x.argmax(1))
                assert np.isnan(maxout(x)).all()


@pytest.mark.parametrize("pieces", [3, 9, 127, 255, 256, 300, 5000])
@pytest.mark.parametrize("byte", [1, 2, 255])
def test_the_first_true(pieces, byte, rng):
    """Any byte but 0 is True, and nothing is larger."""
    at = rng.integers(0, pieces, 17)
    x = np.arange(pieces) >= at[:, None]
    x[5] = False
    x[6], x[6, -1] = False, True
    at[5:7] = 0, pieces - 1
    x.view(np.uint8)[...] *= np.uint8(byte)
    for axis in (1, 0):
        y, index = maxout_with_index(x if axis else x.T.copy(), axis)
        np.testing.assert_array_equal(index, at)
        alone = maxout(x if axis else x.T.copy(), axis)
        want = (np.arange(17) != 5).tobytes()  # True is stored as 1
        assert y.tobytes() == alone.tobytes() == want


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint16", "int64", "float16", "float32", "float64"]
)
@pytest.mark.parametrize("pieces", [maxout_room.ROWS, maxout_room.ROWS + 1, 61])
def test_columns_from_further_away(pieces, dtype, rng):
    """Many rows are read along at a time; a NaN wants a closer look."""
    inner = maxout_room.SWEPT // pieces + maxout_room.SPAN + 7
    x = rng.integers(-100, 50, (pieces, inner)).astype(dtype)
    if x.dtype.kind == "f":
        x[:, :: inner // 3] = rng.choice([0.0, -0.0, -1.0], x[:, :: inner // 3].shape)
        x[rng.integers(0, pieces, 2), rng.integers(inner // 2, inner, 2)] = np.nan
        x[-1, 1], x[:, 2] = np.inf, -np.inf
    y, index = maxout_with_index(x, 0)
    alone = maxout(x, 0)
    assert alone.tobytes() == y.tobytes()
    assert y.tobytes() == np.take_along_axis(x, index[None].astype(int), 0)[0].tobytes()
    np.testing.assert_array_equal(y, x.max(0))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("first", [0.0, -0.0])
@pytest.mark.parametrize("pieces", [(0, 1), (1, 2), (2, 3), (0, 4), (3, 5), (6, 7), (4, 8), (1, 9)])
def test_zeros_of_columns_from_further_away(pieces, dtype, first):
    """The first of two zeros wins, among pieces that are less."""
    x = np.full((10, maxout_room.SWEPT // 10 + 1), -1, dtype)
    x[pieces[0], 50:], x[pieces[1]] = first, -first
    want = np.where(np.arange(x.shape[1]) < 50, x.dtype.type(-first), x.dtype.type(first))
    assert maxout(x, 0).tobytes() == want.tobytes()


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint32, np.int64, np.bool_])
def test_wide_vectors_of_integers(dtype, rng):
    for shape, axis in [
        ((3, 700), 1),
        ((700, 3), 0),
        ((5, 700), 0),
        ((2, 3, 700), 1),
        ((16, 64), 1),
    ]:
        x = rng.integers(0, 256, shape, np.uint8).astype(dtype)
        if np.dtype(dtype).kind == "i":
            x -= 100  # some slices have 0 for their largest
        np.testing.assert_array_equal(maxout(x, axis), x.max(axis))


@pytest.mark.parametrize("index_dtype", INDEX_DTYPES)
@pytest.mark.parametrize("pieces", [2, 5, 40])
def test_index_dtype(pieces, index_dtype, rng):
    x = rng.normal(size=(9, pieces))
    _, index = maxout_with_index(x, index_dtype=index_dtype)
    assert index.dtype == index_dtype
    np.testing.assert_array_equal(index, np.argmax(x, axis=1))
    g, t = rng.normal(size=9), rng.normal(size=(9, pieces))
    cases.assert_agrees(maxout_vjp(g, index, pieces), "maxout_vjp", (g, index, pieces), {})
    cases.assert_agrees(maxout_jvp(t, index), "maxout_jvp", (t, index), {})
    want = oracle.maxout_jacobian(index, pieces)
    np.testing.assert_array_equal(maxout_jacobian(index, pieces), want)


def test_results_in_mapped_files_of_several_index_dtypes(tmp_path, rng):
    """On all threads, whose kernels are told apart by dtypes: an array of any class has one."""
    x = rng.normal(size=(30_000, 3))
    for index_dtype in (np.int64, np.int8, np.int32):
        path = tmp_path / np.dtype(index_dtype).name
        y, index = np.empty(30_000), np.memmap(path, index_dtype, "w+", shape=30_000)
        maxout_with_index(x, index_dtype=index_dtype, out=(y, index))
        np.testing.assert_array_equal(index, np.argmax(x, axis=1))


def test_index_dtype_may_be_a_type():
    assert maxout_with_index([[1.0, 2.0]], index_dtype=np.uint8)[1].dtype == np.uint8
    assert maxout_with_index([[1.0, 2.0]])[1].dtype == np.int32


@pytest.mark.parametrize(
    ("x", "y", "index"),
    [
        ([3, 1, 3], 3, 0),
        ([1, 3, 3], 3, 1),
        ([2, 2, 2, 2, 2, 2, 2, 2, 2], 2, 0),
        ([-1, 0, 0, -1, 0], 0, 1),
    ],
)
@pytest.mark.parametrize("dtype", [*cases.FLOATS, "int8", "int64"])
def test_first_of_equal_pieces_wins(x, y, index, dtype):
    x = np.array(x).astype(cases.as_dtype(dtype))
    for repeated, axis in ((np.tile(x, (40, 1)), 1), (np.tile(x[:, None], (1, 40)), 0)):
        got = maxout_with_index(repeated, axis)
        np.testing.assert_array_equal(got[0], np.full(40, y))
        np.testing.assert_array_equal(got[1], np.full(40, index))
        dx = maxout_vjp(np.ones(40), got[1], len(x), axis)
        np.testing.assert_array_equal(np.take(dx, index, axis), 1)
        assert dx.sum() == 40


@pytest.mark.parametrize("dtype", cases.FLOATS)
@pytest.mark.parametrize("x", [[-0.0, 0.0], [0.0, -0.0], [-0.0, 0.0, -0.0], [-1.0, -0.0, 0.0]])
def test_zeros_of_both_signs_are_equal(x, dtype):
    first = x.index(0.0)
    x = np.array(x).astype(cases.as_dtype(dtype))
    for repeated, axis in ((np.tile(x, (40, 1)), 1), (np.tile(x[:, None], (1, 40)), 0)):
        y, index = maxout_with_index(repeated, axis)
        np.testing.assert_array_equal(index, np.full(40, first))
        np.testing.assert_array_equal(y, np.zeros(40))
        np.testing.assert_array_equal(maxout(repeated, axis), np.zeros(40))


@pytest.mark.parametrize("dtype", cases.FLOATS)
@pytest.mark.parametrize(
    ("x", "index"),
    [
        ([np.nan, 1.0], 0),
        ([1.0, np.nan], 1),
        ([1.0, np.nan, 2.0, np.nan], 1),
        ([INFINITY, np.nan], 1),
        ([np.nan, INFINITY], 0),
        ([-INFINITY, np.nan, INFINITY], 1),
        ([np.nan, np.nan, np.nan], 0),
        ([np.nan], 0),
        ([5.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, np.nan, 9.0], 8),
    ],
)
def test_first_nan_wins_wherever_it_stands(x, index, dtype):
    x = np.array(x).astype(cases.as_dtype(dtype))
    for repeated, axis in ((np.tile(x, (40, 1)), 1), (np.tile(x[:, None], (1, 40)), 0)):
        got = maxout_with_index(repeated, axis)
        assert np.isnan(got[0]).all()
        np.testing.assert_array_equal(got[1], np.full(40, index))
        assert np.isnan(maxout(repeated, axis)).all()


@pytest.mark.parametrize("dtype", cases.FLOATS)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("n", [2, 3, 8, 17, 300])
def test_nan_of_either_sign_wins(n, sign, dtype):
    """A NaN whose sign bit is set is a NaN all the same."""
    for position in {0, n // 2, n - 1}:
        x = np.zeros((6, n)).astype(cases.as_dtype(dtype))
        x[3, position] = np.copysign(np.nan, sign)
        y, index = maxout_with_index(x)
        assert np.isnan(y[3]) and index[3] == position
        assert np.isnan(maxout(x)[3])
        assert np.isnan(y).sum() == 1


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # NumPy's, of signalling NaNs
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_every_sixteen_bit_number_comes_through(dtype):
    """A NaN with any bits stays one, through maxout and through the arithmetic of softmin."""
    x = np.arange(1 << 16, dtype=np.uint16).view(cases.as_dtype(dtype))
    for pieces, axis in ((x[:, None], 1), (x[None], 0), (np.tile(x, (9, 1)), 0)):
        np.testing.assert_array_equal(maxout(pieces, axis).astype(np.float64), x.astype(np.float64))
    nans = x[np.isnan(x)]
    y = np.ones((len(nans), 9)).astype(x.dtype)
    y[:, 4] = nans
    assert np.isnan(softmin(y)).all() and np.isnan(softmin(np.ascontiguousarray(y.T), 0)).all()
    assert np.isnan(softmin_vjp(y, y)).all()


@pytest.mark.parametrize("dtype", cases.FLOATS)
@pytest.mark.parametrize(
    ("x", "y", "index"),
    [
        ([1.0, INFINITY, 2.0], INFINITY, 1),
        ([-INFINITY, -INFINITY], -INFINITY, 0),
        ([-INFINITY, -1.0], -1.0, 1),
        ([-INFINITY], -INFINITY, 0),
        ([INFINITY, INFINITY], INFINITY, 0),
    ],
)
def test_infinities_are_ordinary_numbers(x, y, index, dtype):
    x = np.array(x).astype(cases.as_dtype(dtype))
    for repeated, axis in ((np.tile(x, (40, 1)), 1), (np.tile(x[:, None], (1, 40)), 0)):
        got = maxout_with_index(repeated, axis)
        np.testing.assert_array_equal(got[0], np.full(40, y))
        np.testing.assert_array_equal(got[1], np.full(40, index))
        np.testing.assert_array_equal(maxout(repeated, axis), np.full(40, y))


@pytest.mark.parametrize(
    ("x", "dtype"),
    [
        ([0, 1, 200, 255], "uint8"),
        ([-128, 127, -1], "int8"),
        ([-128, -128], "int8"),
        ([2**53, 2**53 + 1, 2**53 - 1], "int64"),
        ([2**63 - 2, 2**63 - 1], "int64"),
        ([-(2**63), -(2**63) + 1], "int64"),
        ([2**64 - 2, 2**64 - 1, 0], "uint64"),
        ([2**31, 2**32 - 1, 1], "uint32"),
        ([False, True, True], "bool"),
        ([False, False], "bool"),
    ],
)
def test_integers_are_kept(x, dtype):
    x = np.array(x, dtype)
    y, index = maxout_with_index(x)
    assert y.dtype == dtype and maxout(x).dtype == dtype
    assert int(y) == int(maxout(x)) == max(int(v) for v in x)
    assert index == [int(v) for v in x].index(int(y))


def test_smallest_float16_numbers_are_not_lost():
    x = np.array([2.0**-24, 2.0**-23, -(2.0**-24)], np.float16)
    assert maxout(x) == np.float16(2.0**-23)
    np.testing.assert_array_equal(maxout_jvp(x, 0), np.float16(2.0**-24))


def test_results_of_rank_zero_are_scalars():
    y, index = maxout_with_index([1.0, 3.0])
    assert isinstance(y, np.float64) and isinstance(index, np.int32)
    assert isinstance(maxout(np.array([1, 3], np.float32)), np.float32)
    assert isinstance(maxout([1, 3]), np.dtype(int).type)
    assert isinstance(maxout_jvp([1.0, 3.0], 1), np.float64)
    np.testing.assert_array_equal(maxout_vjp(2.0, 1, 3), [0, 2, 0])
    np.testing.assert_array_equal(maxout_jacobian(1, 3), [0, 1, 0])


def test_lists_and_memory_maps(tmp_path):
    x = np.array([[3.0, 1.0], [0.5, 0.25]], np.float32)
    x.tofile(tmp_path / "x")
    y = maxout(np.memmap(tmp_path / "x", np.float32, "r", shape=(2, 2)))
    assert type(y) is np.ndarray and y.dtype == np.float32
    np.testing.assert_array_equal(y, [3.0, 0.5])
    np.testing.assert_array_equal(maxout(x.tolist()), [3.0, 0.5])


# Derivatives -----------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2])
def test_derivatives_are_those_of_the_differences(axis, rng):
    x, t = rng.normal(size=(2, 2, 3, 4))
    y, index = maxout_with_index(x, axis)
    g = rng.normal(size=y.shape)
    pieces = x.shape[axis]
    jacobian = oracle.differences(lambda x: maxout(x, axis), x)
    dx = maxout_vjp(g, index, pieces, axis)
    dy = maxout_jvp(t, index, axis)
    np.testing.assert_allclose(dx, np.tensordot(g, jacobian, 2), atol=1e-9)
    np.testing.assert_allclose(dy, np.tensordot(jacobian, t, 3), atol=1e-9)
    np.testing.assert_allclose(np.vdot(g, dy), np.vdot(dx, t), rtol=1e-13)
    winner = maxout_jacobian(index, pieces, axis)
    np.testing.assert_allclose(winner, jacobian.sum(axis=(0, 1)), atol=1e-9)
    np.testing.assert_array_equal(dx, winner * np.expand_dims(g, axis))
    np.testing.assert_array_equal(dy, (winner * t).sum(axis=axis))


@pytest.mark.parametrize("dtype", [*cases.FLOATS, "int8", "int32", "bool"])
def test_jacobian_has_the_dtype_asked_for(dtype):
    dtype = cases.as_dtype(dtype)
    jacobian = maxout_jacobian(np.array([0, 2]), 3, dtype=dtype)
    assert jacobian.dtype == dtype
    np.testing.assert_array_equal(jacobian, [[1, 0, 0], [0, 0, 1]])


def test_losers_get_zero_even_from_nan_and_infinity():
    dx = maxout_vjp(np.array([np.nan, INFINITY, -INFINITY]), np.array([0, 1, 2]), 3)
    np.testing.assert_array_equal(dx, np.diag([np.nan, INFINITY, -INFINITY]))
    dy = maxout_jvp(np.array([[1.0, np.nan], [INFINITY, 2.0]]), np.array([0, 1]))
    np.testing.assert_array_equal(dy, [1.0, 2.0])


def test_pieces_may_exceed_the_winners():
    np.testing.assert_array_equal(maxout_vjp([5.0], [0], 4), [[5.0, 0, 0, 0]])


def test_index_is_not_changed(rng):
    index = rng.integers(0, 5, (6, 7))
    before = index.copy()
    maxout_vjp(rng.normal(size=(6, 7)), index, 5)
    maxout_jvp(rng.normal(size=(6, 7, 5)), index)
    np.testing.assert_array_equal(index, before)


# Memory ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(9, 7), (1_000_000, 2)])
@pytest.mark.parametrize("piece", [0, 1])
def test_out_may_be_a_piece_of_the_input(piece, shape, rng):
    x = rng.normal(size=shape).astype(np.float32)
    y, index = (np.array(a) for a in maxout_with_index(x))
    saved = x.copy()
    assert maxout(x, out=x[:, piece]).base is x
    np.testing.assert_array_equal(x[:, piece], y)
    x[...] = saved
    winners = np.empty(shape[0], np.int32)
    maxout_with_index(x, out=(x[:, piece], winners))
    np.testing.assert_array_equal(x[:, piece], y)
    np.testing.assert_array_equal(winners, index)


@pytest.mark.parametrize("shape", [(9, 7), (7, 9), (1000, 1100)])
def test_out_may_overlap_the_input_over_the_first_axis(shape, rng):
    x = rng.normal(size=shape).astype(np.float32)
    want = maxout(x, 0)
    saved = x.copy()
    for start in (0, 1, shape[1] // 2, x.size - shape[1]):
        out = x.reshape(-1)[start : start + shape[1]]
        maxout(x, 0, out=out)
        np.testing.assert_array_equal(out, want)
        x[...] = saved


def test_gradient_may_overlap_its_cotangent(rng):
    buffer = rng.normal(size=(9, 4))
    index = rng.integers(0, 4, 9)
    for piece in range(4):
        g = buffer[:, piece]
        want = maxout_vjp(g.copy(), index, 4)
        maxout_vjp(g, index, 4, out=buffer)
        np.testing.assert_array_equal(buffer, want)
        buffer = rng.normal(size=(9, 4))


def test_tangent_may_overlap_its_result(rng):
    t = rng.normal(size=(9, 4))
    index = rng.integers(0, 4, 9)
    want = maxout_jvp(t, index)
    maxout_jvp(t, index, out=t[:, 2])
    np.testing.assert_array_equal(t[:, 2], want)


def test_out_of_rank_zero():
    y, index = np.array(7.0), np.array(7, np.int32)
    assert maxout([1.0, 3.0], out=y) is y
    assert y == 3.0
    maxout_with_index([5.0, 3.0], out=(y, index))
    assert y == 5.0 and index == 0


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8", "uint64"])
@pytest.mark.parametrize(("shape", "axis"), [((-1, 4), 1), ((4, -1), 0), ((64, 16, -1), 1)])
def test_memory_beyond_the_result(shape, axis, dtype, peak_memory):
    entries = 64 * MEGABYTE // np.dtype(dtype).itemsize
    x = np.ones(entries, dtype).reshape(shape)
    y, index = maxout_with_index(x, axis)
    assert peak_memory(lambda: maxout(x, axis)) < y.nbytes + MEGABYTE
    both = y.nbytes + index.nbytes
    assert peak_memory(lambda: maxout_with_index(x, axis)) < both + MEGABYTE
    assert peak_memory(lambda: maxout_jvp(x, index, axis)) < y.nbytes + MEGABYTE
    pieces = x.shape[axis]
    assert peak_memory(lambda: maxout_vjp(y, index, pieces, axis)) < x.nbytes + MEGABYTE
    out = np.empty_like(x)
    assert peak_memory(lambda: maxout_vjp(y, index, pieces, axis, out=out)) < MEGABYTE


# Of an affine map ------------------------------------------------------------------------------


def layer(rng, batch=(6,), units=3, pieces=4, d=5, dtype=np.float64):
    x = rng.normal(size=(*batch, d)).astype(dtype)
    weight = rng.normal(size=(units, pieces, d)).astype(dtype)
    bias = rng.normal(size=(units, pieces)).astype(dtype)
    return x, weight, bias


def test_relu_is_a_maxout():
    x = np.array([[-2.0], [-0.5], [0.0], [3.0]])
    y = maxout_affine(x, [[0.0], [1.0]])
    np.testing.assert_array_equal(y, [0, 0, 0, 3])


def test_absolute_value_is_a_maxout():
    y, index = maxout_affine_with_index([[-2.0], [3.0]], [[1.0], [-1.0]], [0.0, 0.0])
    np.testing.assert_array_equal(y, [2, 3])
    np.testing.assert_array_equal(index, [1, 0])


def test_affine_is_the_maximum_of_the_pieces(rng):
    x, weight, bias = layer(rng)
    pieces = np.einsum("bd,upd->bup", x, weight) + bias
    y, index = maxout_affine_with_index(x, weight, bias)
    np.testing.assert_allclose(y, pieces.max(axis=-1), rtol=1e-13)
    np.testing.assert_array_equal(index, pieces.argmax(axis=-1))
    np.testing.assert_array_equal(maxout_affine(x, weight, bias), y)


def test_no_bias_is_a_bias_of_zero(rng):
    x, weight, bias = layer(rng)
    zero = np.zeros_like(bias)
    np.testing.assert_array_equal(maxout_affine(x, weight), maxout_affine(x, weight, zero))
    for got, want in zip(
        maxout_affine_with_index(x, weight),
        maxout_affine_with_index(x, weight, zero),
        strict=True,
    ):
        np.testing.assert_array_equal(got, want)


def test_one_unit_is_a_layer_of_one(rng):
    x, weight, bias = layer(rng, batch=(2, 6), units=1)
    y, index = maxout_affine_with_index(x, weight[0], bias[0])
    want, winners = maxout_affine_with_index(x, weight, bias)
    assert y.shape == index.shape == (2, 6)
    np.testing.assert_array_equal(y, want[..., 0])
    np.testing.assert_array_equal(index, winners[..., 0])


def test_one_sample_and_one_unit_give_scalars(rng):
    x, weight, bias = layer(rng, batch=(), units=1, dtype=np.float32)
    y, index = maxout_affine_with_index(x, weight[0], bias[0])
    assert isinstance(y, np.float32) and isinstance(index, np.int32)
    assert isinstance(maxout_affine(x, weight[0], bias[0]), np.float32)
    assert isinstance(maxout_affine_jvp(x, weight[0], index, dx=x), np.float32)


def test_affine_keeps_the_batch_shape(rng):
    x, weight, bias = layer(rng, batch=(2, 3, 4))
    y = maxout_affine(x, weight, bias)
    assert y.shape == (2, 3, 4, 3)
    flat = maxout_affine(x.reshape(24, 5), weight, bias)
    np.testing.assert_array_equal(y.reshape(24, 3), flat)


@pytest.mark.parametrize("dtype", cases.FLOATS)
@pytest.mark.parametrize("d", [1, 2, 7, 64, 1000])
def test_affine_error_is_within_the_bound(d, dtype, rng):
    arguments = layer(rng, batch=(30,), units=7, d=d, dtype=cases.as_dtype(dtype))
    y = maxout_affine(*arguments)
    cases.assert_agrees(y, "maxout_affine", arguments, {})
    got, index = maxout_affine_with_index(*arguments)
    np.testing.assert_array_equal(got, y)
    # The piece that won is the largest but for rounding errors: its true value stands for y.
    x, weight, bias = (oracle.wide(a) for a in arguments)
    pieces = np.einsum("bd,upd->bup", x, weight) + bias
    chosen = np.take_along_axis(pieces, index[..., None].astype(int), -1)[..., 0]
    error = cases.affine_error(chosen, arguments, {})
    np.testing.assert_array_less(pieces.max(axis=-1) - chosen, 2 * 2.0**-23 * error + 1e-300)
    cases.assert_within(y, chosen, error, y.dtype)


@pytest.mark.parametrize("dtype", cases.FLOATS)
def test_affine_first_of_equal_pieces_wins(dtype):
    dtype = cases.as_dtype(dtype)
    x = np.arange(1, 8).astype(dtype)
    weight = np.array([[1], [2], [2], [0], [2]]).astype(dtype) * np.ones(7, dtype)
    y, index = maxout_affine_with_index(np.tile(x, (40, 1)), weight)
    np.testing.assert_array_equal(index, np.full(40, 1))
    np.testing.assert_array_equal(y, np.full(40, 56))


def test_affine_nan_wins():
    x = np.array([[1.0, 2.0], [np.nan, 2.0], [1.0, INFINITY]])
    weight = np.array([[5.0, 5.0], [1.0, 0.0], [2.0, np.nan]])
    y, index = maxout_affine_with_index(x, weight[:2])
    np.testing.assert_array_equal(index, [0, 0, 1])  # 0 x inf is NaN
    np.testing.assert_array_equal(y, [15.0, np.nan, np.nan])
    y, index = maxout_affine_with_index(x, weight)
    np.testing.assert_array_equal(index, [2, 0, 1])
    assert np.isnan(y).all()
    y, index = maxout_affine_with_index(x[:1], weight[:2], [0.0, np.nan])
    assert np.isnan(y).all() and index == 1


def test_affine_infinities_are_ordinary_numbers():
    x = np.array([[1.0], [-1.0]])
    y, index = maxout_affine_with_index(x, [[1.0], [INFINITY]], [0.0, 0.0])
    np.testing.assert_array_equal(y, [INFINITY, -1.0])
    np.testing.assert_array_equal(index, [1, 0])
    y, index = maxout_affine_with_index(x, [[1.0], [1.0]], [-INFINITY, -INFINITY])
    np.testing.assert_array_equal(y, [-INFINITY, -INFINITY])
    np.testing.assert_array_equal(index, [0, 0])


def test_affine_16_bit_sums_are_rounded_once():
    """Each term of 1/4096 is lost beside 1 in float16, the sum of all of them is not."""
    weight = np.full((1, 4097), 1 / 4096, np.float16)
    weight[0, 0] = 1
    y = maxout_affine(np.ones(4097, np.float16), weight)
    assert y == 2.0


@pytest.mark.parametrize("index_dtype", INDEX_DTYPES)
def test_affine_index_dtype(index_dtype, rng):
    x, weight, bias = layer(rng)
    _, index = maxout_affine_with_index(x, weight, bias, index_dtype=index_dtype)
    assert index.dtype == index_dtype
    want = oracle.maxout_affine_with_index(x, weight, bias)[1]
    np.testing.assert_array_equal(index, want)
    np.testing.assert_array_equal(
        maxout_affine_jacobian(weight, index), maxout_affine_jacobian(weight, want)
    )


@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
@pytest.mark.parametrize("units", [None, 1, 3])
def test_affine_derivatives_are_those_of_the_differences(units, batch, rng):
    x, weight, bias = layer(rng, batch, units or 1, pieces=3, d=2)
    if units is None:
        weight, bias = weight[0], bias[0]
    y, index = maxout_affine_with_index(x, weight, bias)
    g = rng.normal(size=np.shape(y))
    gradients = maxout_affine_vjp(g, x, weight, index)
    assert isinstance(gradients, tuple)
    given = {"dx": x, "dweight": weight, "dbias": bias}
    total = 0
    for position, (name, array) in enumerate(given.items()):

        def vary(other, position=position):
            arguments = [x, weight, bias]
            arguments[position] = other
            return np.asarray(maxout_affine(*arguments))

        jacobian = oracle.differences(vary, array)
        want = np.tensordot(g, jacobian, np.ndim(y))
        np.testing.assert_allclose(gradients[position], want, atol=1e-8)
        tangent = rng.normal(size=array.shape)
        dy = maxout_affine_jvp(x, weight, index, **{name: tangent})
        np.testing.assert_allclose(dy, np.tensordot(jacobian, tangent, array.ndim), atol=1e-8)
        np.testing.assert_allclose(
            np.vdot(g, dy), np.vdot(gradients[position], tangent), atol=1e-13
        )
        given[name] = tangent
        total = total + dy
    together = maxout_affine_jvp(x, weight, index, **given)
    np.testing.assert_allclose(together, total, atol=1e-13)


@pytest.mark.parametrize("units", [None, 3])
def test_affine_jacobian_is_that_of_the_differences(units, rng):
    x, weight, bias = layer(rng, (2, 3), units or 1)
    if units is None:
        weight, bias = weight[0], bias[0]
    y, index = maxout_affine_with_index(x, weight, bias)
    jacobian = maxout_affine_jacobian(weight, index)
    assert jacobian.shape == (*y.shape, 5)
    differences = oracle.differences(lambda x: maxout_affine(x, weight, bias), x)
    pattern = "ababd->abd" if units is None else "abuabd->abud"
    np.testing.assert_allclose(jacobian, np.einsum(pattern, differences), atol=1e-8)


def test_affine_jvp_without_tangents_is_zero(rng):
    x, weight, bias = layer(rng)
    index = maxout_affine_with_index(x, weight, bias)[1]
    np.testing.assert_array_equal(maxout_affine_jvp(x, weight, index), np.zeros((6, 3)))


def test_pieces_that_never_win_get_no_gradient(rng):
    x, weight, bias = layer(rng)
    bias[:, 2] = -1e6
    index = maxout_affine_with_index(x, weight, bias)[1]
    g = rng.normal(size=index.shape)
    _, dweight, dbias = maxout_affine_vjp(g, x, weight, index)
    assert (dweight[:, 2] == 0).all() and (dbias[:, 2] == 0).all()
    assert (np.delete(dbias, 2, axis=1) != 0).any()


def test_affine_out(rng):
    x, weight, bias = layer(rng)
    want, winners = maxout_affine_with_index(x, weight, bias)
    y, index = np.empty((6, 3)), np.empty((6, 3), np.int32)
    assert maxout_affine(x, weight, bias, out=y) is y
    np.testing.assert_array_equal(y, want)
    y[...] = 0
    got = maxout_affine_with_index(x, weight, bias, out=(y, index))
    assert got[0] is y and got[1] is index
    np.testing.assert_array_equal(y, want)
    np.testing.assert_array_equal(index, winners)


def test_affine_out_may_overlap_the_arguments(rng):
    x, weight, bias = layer(rng, batch=(5,), units=5, d=5)
    want = maxout_affine(x, weight, bias)
    saved = x.copy()
    maxout_affine(x, weight, bias, out=x)
    np.testing.assert_array_equal(x, want)
    weights = weight[:, 0].copy()
    weight[:, 0] = weights
    out = weight[:, 0]
    maxout_affine(saved, weight, bias, out=out)
    np.testing.assert_array_equal(out, want)


def test_affine_memory_beyond_the_result(peak_memory):
    """The pieces of all samples would take 64 MB."""
    x = np.ones((16_384, 64), np.float32)
    weight = np.ones((256, 4, 64), np.float32)
    out = np.empty((16_384, 256), np.float32)
    index = np.empty((16_384, 256), np.int32)
    assert peak_memory(lambda: maxout_affine(x, weight, out=out)) < MEGABYTE
    both = (out, index)
    assert peak_memory(lambda: maxout_affine_with_index(x, weight, out=both)) < MEGABYTE
    index[...] = 1
    gradients = x.nbytes + weight.nbytes + weight.nbytes // 64
    peak = peak_memory(lambda: maxout_affine_vjp(out, x, weight, index))
    assert peak < gradients + MEGABYTE
    peak = peak_memory(lambda: maxout_affine_jvp(x, weight, index, dx=x, dweight=weight))
    assert peak < out.nbytes + MEGABYTE


def test_an_infinite_cotangent_stays_with_its_unit():
    g = np.ones((1, 17))
    g[0, 0] = np.inf
    x, weight, index = np.ones((1, 3)), np.ones((17, 1, 3)), np.zeros((1, 17), np.int32)
    _, dweight, dbias = maxout_affine_vjp(g, x, weight, index)
    assert np.isinf(dweight[0]).all() and np.isinf(dbias[0]).all()
    np.testing.assert_array_equal(dweight[1:], 1)
    np.testing.assert_array_equal(dbias[1:], 1)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint64", "bool"])
@pytest.mark.parametrize("pieces", [2, 4, 6, 7, 8, 9, 16, 23, 64])
def test_the_value_alone_is_that_with_the_index_to_the_last_bit(dtype, pieces, rng):
    """Without an index neighbours are compared, or units go along the lanes if there are many.

    Then a NaN or a zero wants a closer look.
    """
    x = rng.normal(scale=3, size=(40, pieces))
    x = x > 2 if dtype == "bool" else x.astype(dtype)
    if x.dtype.kind == "f":
        x[5, pieces // 2] = x[13, 0] = x[13, pieces // 3] = x[29, -1] = np.nan
        x[6:13] = rng.choice([0.0, -0.0, -1.0], (7, pieces))
        x[14] = -np.inf
        x[22, 0], x[22, -1] = np.inf, -np.inf
        x[30], x[30, pieces // 2] = -0.0, 0.0
        x[31], x[31, -1] = 0.0, -0.0
    y, index = maxout_with_index(x)
    alone = maxout(x)
    assert alone.dtype == x.dtype
    assert alone.tobytes() == y.tobytes()
    assert y.tobytes() == np.take_along_axis(x, index[:, None].astype(int), -1).tobytes()


@pytest.mark.parametrize("pieces", [1, 2, 3, 4, 5, 8, 9, 64])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_signalling_nan_in_float16_has_the_same_bits_everywhere(pieces, axis):
    """It is widened, which makes it quiet; units that come eight at a time are no exception."""
    x = np.zeros((19, pieces), np.float16)
    x.view(np.uint16)[:, pieces // 2] = 0x7C01
    x = np.ascontiguousarray(np.moveaxis(x, 1, axis))
    y, index = maxout_with_index(x, axis)
    assert (index == pieces // 2).all()
    assert (y.view(np.uint16) == 0x7E01).all()
    assert maxout(x, axis).tobytes() == y.tobytes()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(
    ("depth", "pieces", "units"), [(70, 3, 6), (130, 20, 6), (20, 3, 6), (130, 3, 60)]
)
def test_gradients_of_a_layer_are_those_of_each_row_and_of_each_unit_alone(
    depth, pieces, units, dtype, rng
):
    """Weights that many rows meet, and rows that many units meet, are copied before; few are not.

    Nor are those of many pieces. The last numbers of a row overlap those before. Sixty units come
    in several groups.
    """
    rows = 70
    x = rng.normal(size=(rows, depth)).astype(dtype)
    weight = rng.normal(size=(units, pieces, depth)).astype(dtype)
    g = rng.normal(size=(rows, units)).astype(dtype)
    index = rng.integers(0, pieces, (rows, units)).astype(np.int32)
    dx, dweight, _ = maxout_affine_vjp(g, x, weight, index)
    for r in 0, rows - 1:
        row = slice(r, r + 1)
        alone = maxout_affine_vjp(g[row], x[row], weight, index[row])[0]
        assert alone.tobytes() == dx[row].tobytes()
    unit = slice(2, 3)
    alone = maxout_affine_vjp(g[:, unit], x, weight[unit], index[:, unit])[1]
    assert alone.tobytes() == dweight[unit].tobytes()


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64"])
@pytest.mark.parametrize("rows", [20, 300])
def test_a_layer_of_integers_is_written_once_and_nothing_beyond_it(rows, dtype, rng):
    """Narrow integers come more at a time than what the number of blocks was once computed with."""
    units = 3
    x = rng.integers(0, 3, (rows, 5)).astype(dtype)
    weight = rng.integers(0, 3, (units, 2, 5)).astype(dtype)
    held = np.full(rows * units + 1000, 77, dtype)
    y = held[: rows * units].reshape(rows, units)
    maxout_affine(x, weight, out=y)
    np.testing.assert_array_equal(y, np.einsum("rd,upd->rup", x, weight).max(-1))
    assert (held[rows * units :] == 77).all()
