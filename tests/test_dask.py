"""Dask arrays in, Dask arrays out: lazily, chunk by chunk, with the bits of the NumPy call."""

import inspect
import itertools

import numpy as np
import pytest
from cases import MAKERS, Case, generator
from test_processes import run

import numba_acts as na

da = pytest.importorskip("dask.array", reason="Dask is not installed")

SHAPES: dict[str | None, tuple] = {"softmax2d": (4, 6, 5, 7), "affine": ((10, 4, 8), (6, 3, 8))}


def cut(array):
    """The array in chunks of at most three along each of its axes, slices among them."""
    return da.from_array(array, chunks=tuple(min(3, n) for n in array.shape))


def assert_same(got, want):
    assert isinstance(got, da.Array)
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    assert type(got._meta) is np.ndarray and got._meta.ndim == want.ndim
    assert got._meta.dtype == want.dtype
    computed = np.asarray(got.compute(scheduler="synchronous"))
    assert (computed.dtype, computed.shape) == (want.dtype, want.shape)
    return computed


@pytest.mark.parametrize("dtype", ["float64", "float16"])
@pytest.mark.parametrize("name", na.__all__)
def test_bits_are_those_of_the_numpy_call(name, dtype):
    kind = next((kind for kind in SHAPES if kind in name), None)
    shape = SHAPES.get(kind, (7, 4, 5))
    arguments, keywords = MAKERS[name](generator(), Case(name, shape, dtype))
    want = getattr(na, name)(*arguments, **keywords)
    arguments = [cut(a) if isinstance(a, np.ndarray) else a for a in arguments]
    keywords = {k: cut(a) if isinstance(a, np.ndarray) else a for k, a in keywords.items()}
    got = getattr(na, name)(*arguments, **keywords)
    assert isinstance(got, tuple) == isinstance(want, tuple)
    pairs = zip(got, want, strict=True) if isinstance(want, tuple) else [(got, want)]
    for place, (one, other) in enumerate(pairs):
        computed = assert_same(one, other)
        if name == "maxout_affine_vjp" and place:  # sums over the batch, in chunks of it
            np.testing.assert_allclose(computed, other, rtol=1e-12 if dtype == "float64" else 2e-3)
        else:
            np.testing.assert_array_equal(computed, other)


@pytest.mark.parametrize("axis", [0, -1, (0, 2), None])
def test_slices_over_several_chunks_are_joined(axis, rng):
    x, g = rng.normal(size=(2, 7, 4, 5))
    y = na.softmin(x, axis, temperature=2.0)
    got = na.softmin(cut(x), axis, temperature=2.0)
    np.testing.assert_array_equal(assert_same(got, y), y)
    whole = range(3) if axis is None else [axis] if isinstance(axis, int) else axis
    for a in range(3):
        joined = a in [w % 3 for w in whole]
        assert got.chunks[a] == ((x.shape[a],) if joined else cut(x).chunks[a])
    want = na.softmin_vjp(g, y, axis)
    np.testing.assert_array_equal(assert_same(na.softmin_vjp(g, cut(y), axis), want), want)


@pytest.mark.parametrize("shape", [(7, 5), (5,), (7, 1), ()])
@pytest.mark.parametrize("in_chunks", [True, False])
def test_masks(shape, in_chunks, rng):
    x, mask = rng.normal(size=(7, 5)), np.asarray(rng.random(shape) < 0.6)
    want = na.softmin(x, 0, where=mask)
    got = na.softmin(cut(x), 0, where=cut(mask) if in_chunks else mask)
    np.testing.assert_array_equal(assert_same(got, want), want)
    if in_chunks:  # a mask alone makes it lazy too
        np.testing.assert_array_equal(assert_same(na.softmin(x, 0, where=cut(mask)), want), want)


def test_axes_of_jacobians(rng):
    y = na.softmin(rng.random((4, 5, 6)), 1)
    for axis in (0, 1, 2, -2):
        want = na.softmin_jacobian(y, axis)
        np.testing.assert_array_equal(assert_same(na.softmin_jacobian(cut(y), axis), want), want)
    index = na.maxout_with_index(y, 1)[1]
    for axis in (0, 1, 2, -1):
        want = na.maxout_jacobian(index, 5, axis, dtype=np.float32)
        got = na.maxout_jacobian(cut(index), 5, axis, dtype=np.float32)
        np.testing.assert_array_equal(assert_same(got, want), want)


def test_results_of_rank_0(rng):
    x = rng.normal(size=7)
    y, index = na.maxout_with_index(cut(x), index_dtype=np.int8)
    assert (y.shape, y.dtype, index.dtype) == ((), np.float64, np.int8)
    assert (y.compute(), index.compute()) == (x.max(), x.argmax())


def test_integers_and_empty_arrays():
    x = np.arange(12, dtype=np.uint8).reshape(3, 4)
    want = na.softmin(x)
    np.testing.assert_array_equal(assert_same(na.softmin(cut(x)), want), want)
    assert assert_same(na.softmin(da.zeros((0, 4))), np.zeros((0, 4))).size == 0


def test_nothing_is_computed_before_it_is_asked_for():
    def explode(block):
        raise AssertionError("computed")

    x = da.zeros((6, 4), chunks=(2, 4)).map_blocks(explode, dtype=np.float64, meta=np.empty((0, 0)))
    y, index = na.maxout_with_index(x)
    na.maxout_vjp(y, index, 4)
    with pytest.raises(AssertionError, match="computed"):
        na.softmin(x).compute(scheduler="synchronous")


REFUSED = [
    (lambda x: na.softmin(x, out=x), TypeError, "out must be None for Dask arrays"),
    (lambda x: na.softmin(x.compute(), out=x), TypeError, "out must be None for Dask arrays"),
    (lambda x: na.maxout_with_index(x, out=(x, x)), TypeError, "out must be None"),
    (lambda x: na.softmin(x + 1j), TypeError, "x must be of dtype .* got complex128"),
    (lambda x: na.softmin(x, 2), np.exceptions.AxisError, "out of bounds"),
    (lambda x: na.softmin(x, where=x), TypeError, "where must be a boolean mask"),
    (lambda x: na.softmin(x, where=x[:, :2] > 0), ValueError, "where must broadcast"),
    (lambda x: na.softmin_vjp(x[:2], x), ValueError, "g must have y's shape"),
    (lambda x: na.softmax2d(x), ValueError, "x must have 3 axes"),
    (lambda x: na.maxout(x[:, :0]), ValueError, "at least one piece"),
    (lambda x: na.maxout_jvp(x, x[:, 0]), TypeError, "index must be of an integer dtype"),
    (lambda x: na.maxout_vjp(x, x.astype(int), 0), ValueError, "pieces must be at least 1"),
    (lambda x: na.maxout_affine(x[:, :3], x), ValueError, "x must have shape .* d = 5, got"),
    (lambda x: na.maxout_affine(x, x[0]), ValueError, "weight must have shape"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED)
def test_errors_before_anything_is_computed(call, error, message):
    x = da.zeros((4, 5), chunks=2)
    with pytest.raises(error, match=message):
        call(x)


def test_index_out_of_range_is_found_when_its_chunk_is_computed():
    index = da.from_array(np.array([0, 1, 3]), chunks=2)
    dx = na.maxout_vjp(np.ones(3), index, 3)
    np.testing.assert_array_equal(dx[:2].compute(), np.eye(3)[:2])
    with pytest.raises(IndexError, match="index must lie in"):
        dx.compute()


def test_functions_are_those_of_the_other_halls():
    from numba_acts._halls import dask, gpu, host

    lazy = dask.Hall(lambda name, *given, **more: None)
    names = {name.replace("affine_with_index", "affine") for name in na.__all__ if "maxout" in name}
    names |= {n for n in vars(host) if n.startswith("softmax")} | {"ndim"}
    for name, hall in itertools.product(names, (lazy, gpu)):
        ours, theirs = (inspect.signature(getattr(one, name)) for one in (hall, host))
        assert list(ours.parameters) == list(theirs.parameters)


def test_dask_is_not_imported_for_numpy_arrays():
    code = "import sys, numba_acts as na; na.softmin([1.0], where=[True])"
    code += "; print(*(name in sys.modules for name in ('dask', 'numba_acts._halls.dask')))"
    assert run(code) == ["False", "False"]


def filtered(array, keep):
    """Those of the first axis that are kept, in chunks of sizes that Dask does not know."""
    return cut(array)[da.from_array(keep, chunks=3)]


@pytest.mark.parametrize("name", na.__all__)
def test_chunks_of_unknown_sizes(name, rng):
    """Along the batch, as after a filter: all arrays were filtered alike."""
    kind = next((kind for kind in SHAPES if kind in name), None)
    shape = SHAPES.get(kind, (7, 4, 5))
    arguments, keywords = MAKERS[name](generator(), Case(name, shape, "float64"))
    batch = shape[0][0] if kind == "affine" else shape[0]
    keep = np.arange(batch) % 3 != 1

    def each(function):
        given = {str(i): a for i, a in enumerate(arguments)} | keywords
        changed = {
            k: function(a) if isinstance(a, np.ndarray) and len(a) == batch else a
            for k, a in given.items()
        }
        called = [v for k, v in changed.items() if k.isdigit()]
        return getattr(na, name)(*called, **{k: v for k, v in changed.items() if k in keywords})

    want, got = each(lambda a: a[keep]), each(lambda a: filtered(a, keep))
    pairs = zip(got, want, strict=True) if isinstance(want, tuple) else [(got, want)]
    for one, other in pairs:
        computed = one.compute(scheduler="synchronous")
        assert computed.dtype == other.dtype
        np.testing.assert_allclose(computed, other, rtol=1e-12)


def test_masks_of_unknown_chunks(rng):
    x, keep = rng.normal(size=(7, 5)), np.arange(7) % 3 != 1
    mask = rng.random((7, 5)) < 0.6
    for some in (mask, mask[:, :1]):
        got = na.softmin(filtered(x, keep), where=filtered(some, keep)).compute()
        np.testing.assert_array_equal(got, na.softmin(x[keep], where=some[keep]))
    got = na.softmin(filtered(x, keep), where=mask[0]).compute()
    np.testing.assert_array_equal(got, na.softmin(x[keep], where=mask[0]))


def test_masks_whose_chunks_turn_out_to_be_others(rng):
    x, mask = rng.normal(size=(6, 2)), np.array([[True], [False], [True]])
    x = da.from_array(x, chunks=2)[da.from_array(np.ones(6, bool), chunks=2)]
    mask = da.from_array(mask, chunks=1)[da.from_array(np.ones(3, bool), chunks=1)]
    with pytest.raises(ValueError, match=r"where must broadcast.*\(1, 1\), x \(2, 2\)"):
        na.softmin(x, where=mask).compute(scheduler="synchronous")


def test_sizes_that_must_be_known_are_asked_for(rng):
    x, keep = rng.normal(size=(7, 5)), np.arange(7) % 3 != 1
    unknown = filtered(x, keep)
    with_rows = da.from_array(x[keep], chunks=3)
    for call in (
        lambda: na.softmin(unknown, 0),
        lambda: na.softmin_jacobian(unknown[:, 0]),
        lambda: na.maxout(unknown, 0),
        lambda: na.softmin_vjp(with_rows, unknown),
        lambda: na.softmin_vjp(unknown, with_rows),
        lambda: na.softmin(unknown, where=with_rows > 0),
        lambda: na.softmin_vjp(unknown, filtered(x, keep).rechunk({1: 5})[:3]),
        lambda: na.maxout_affine(unknown, filtered(x, keep)),
        lambda: na.maxout_affine(unknown.T, np.ones((2, 5))),
    ):
        with pytest.raises(ValueError, match=r"compute_chunk_sizes\(\)"):
            call()
    with pytest.raises(ValueError, match=r"g must have y's shape \(nan, 5\), got \(7, 4\)"):
        na.softmin_vjp(x[:, :4], unknown)


def test_what_is_lazy_otherwise_is_not_computed_without_a_word(rng):
    delayed = pytest.importorskip("dask").delayed(rng.normal(size=(3, 4)))
    with pytest.raises(TypeError, match="x must be a Dask array or one in memory, got Delayed"):
        na.softmin(delayed)

    class Labelled:
        """As xarray's arrays around Dask's."""

        def __init__(self, data):
            self.data = data

        def __dask_graph__(self):
            return self.data.__dask_graph__() if isinstance(self.data, da.Array) else None

        def __array__(self, dtype=None, copy=None):
            return np.asarray(self.data, dtype)

    x = rng.normal(size=(3, 4))
    with pytest.raises(TypeError, match="y must be a Dask array or one in memory, got Labelled"):
        na.softmin_vjp(x, Labelled(cut(x)))
    np.testing.assert_array_equal(na.softmin(Labelled(x)), na.softmin(x))
