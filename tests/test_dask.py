"""Dask arrays in, Dask arrays out: lazily, chunk by chunk, slices that chunks cut in two stages.

What isn't summed over chunks has the bits of the NumPy call.
"""

import inspect
import itertools
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import oracle
import pytest
from cases import MAKERS, Case, as_dtype, assert_agrees, assert_rounded_once, generator
from test_processes import run

import numba_acts as na

da = pytest.importorskip("dask.array", reason="Dask is not installed")

SHAPES: dict[str | None, tuple] = {"softmax2d": (4, 6, 5, 7), "affine": ((10, 4, 8), (6, 3, 8))}
SUMMED = ["softmin", "softmin_vjp", "softmin_jvp", "softmax2d", "softmax2d_vjp", "softmax2d_jvp"]


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
        if name in SUMMED or name == "maxout_affine_vjp" and place:  # sums over chunks
            np.testing.assert_allclose(computed, other, rtol=1e-12 if dtype == "float64" else 2e-3)
        else:
            np.testing.assert_array_equal(computed, other)


@pytest.mark.parametrize("axis", [0, -1, (0, 2), None])
@pytest.mark.parametrize("chunks", [(3, 3, 3), (1, 4, 2), (2, 4, 5), (7, 1, 1)])
def test_slices_over_several_chunks_stay_cut(axis, chunks, rng):
    x, g = rng.normal(size=(2, 7, 4, 5))
    lazy, other = da.from_array(x, chunks=chunks), da.from_array(g, chunks=2)
    got = na.softmin(lazy, axis, temperature=2.0)
    assert got.chunks == lazy.chunks
    assert_agrees(got.compute(), "softmin", [x], {"axis": axis, "temperature": 2.0})
    y = na.softmin(x, axis)
    for name in ("softmin_vjp", "softmin_jvp"):
        got = getattr(na, name)(other, da.from_array(y, chunks=chunks), axis, temperature=2.0)
        assert got.chunks == lazy.chunks
        assert_agrees(got.compute(), name, [g, y], {"axis": axis, "temperature": 2.0})


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "int64", "uint8", "bool"])
def test_dtypes_of_slices_over_several_chunks(dtype, rng):
    kind = as_dtype(dtype)
    x = (8 * rng.normal(size=(40, 6))).astype(kind)
    lazy = da.from_array(x, chunks=(7, 4))
    for axis in (0, (0, 1)):
        want = na.softmin(x, axis)
        got = assert_same(na.softmin(lazy, axis), want)
        assert_agrees(got, "softmin", [x], {"axis": axis})
        got = assert_same(na.softmin_vjp(lazy, da.from_array(want, chunks=(7, 4)), axis), want)
        assert_agrees(got, "softmin_vjp", [x, want], {"axis": axis})
    wants, gots = na.maxout_with_index(x, 0), na.maxout_with_index(lazy, 0, index_dtype=np.int32)
    for got, want in zip(gots, wants, strict=True):
        np.testing.assert_array_equal(assert_same(got, want), want)
    np.testing.assert_array_equal(assert_same(na.maxout(lazy, 0), wants[0]), wants[0])
    jvp = na.maxout_jvp(lazy, gots[1], 0)
    np.testing.assert_array_equal(assert_same(jvp, wants[0]), wants[0])


def test_bfloat16_beside_a_tensor(rng):
    torch = pytest.importorskip("torch", reason="PyTorch, an extra, is not installed")
    bfloat16 = as_dtype("bfloat16")
    g, y = rng.normal(size=(6, 7)).astype(bfloat16), rng.random((6, 7)).astype(bfloat16)
    tensor = torch.from_numpy(y.astype(np.float32)).bfloat16()
    got = na.softmin_vjp(da.from_array(g, chunks=(3, 7)), tensor)
    np.testing.assert_array_equal(assert_same(got, y), na.softmin_vjp(g, y))


@pytest.mark.parametrize("module", [None, SimpleNamespace()], ids=["blocked", "half imported"])
def test_a_dask_that_is_not_there(module, monkeypatch):
    monkeypatch.setitem(sys.modules, "dask.array", module)
    assert na.softmin([0.0, 0.0]).tolist() == [0.5, 0.5]


def test_byte_swapped_and_float32_products_of_both_kinds(rng):
    x = rng.normal(size=(9, 4)).astype(">f4")
    got = na.softmin(da.from_array(x, chunks=2), 0)
    assert_same(got, na.softmin(x, 0))
    np.testing.assert_allclose(got.compute(), na.softmin(x, 0), rtol=1e-6)
    y = na.softmin(x, 0)
    got = na.softmin_vjp(x.astype(np.float16), da.from_array(y, chunks=2), 0)
    want = na.softmin_vjp(x.astype(np.float16), y, 0)
    np.testing.assert_allclose(assert_same(got, want), want, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("n", "chunk"), [(10**6, 150_000), (300_000, 300), (700, 1)])
@pytest.mark.parametrize("spread", [1e-3, 1.0, 40.0])
def test_long_slices_are_as_accurate_as_those_of_one_chunk(dtype, n, chunk, spread, rng):
    x = (spread * rng.normal(size=n)).astype(dtype)
    got = na.softmin(da.from_array(x, chunks=chunk)).compute()
    want, wide = oracle.softmin(x), oracle.wide(x)
    bound = 4 * np.finfo(dtype).eps * (1 + wide - wide.min()) * want
    assert (np.abs(got - want) <= bound + np.finfo(dtype).smallest_subnormal).all()


@pytest.mark.parametrize(("dtype", "least"), [("float32", 85.0), ("float64", 700.0)])
def test_subnormal_weights_are_rounded_once(dtype, least, rng):
    x = rng.uniform(0, 1.06 * least + 10, (400, 3)).astype(dtype)
    assert_rounded_once(na.softmin(da.from_array(x, chunks=(7, 2)), 0).compute(), x, 0)


@pytest.mark.parametrize("masked", [None, (1, 1, 0, 0), (0, 1, 0, 1), (0, 0, 0, 0)])
@pytest.mark.parametrize("sign", [-1, 1])
def test_special_values_in_every_chunk(sign, masked):
    """Slices of four, in two chunks: those of the NumPy call, which says NaN where it is due."""
    given = list(itertools.product([0.0, 1.0, np.inf, -np.inf, np.nan], repeat=4))
    x = np.array(given, np.float32).T[:, :, None]
    where = None if masked is None else np.array(masked, bool)[:, None, None]
    lazy = da.from_array(x, chunks=(2, 100, 1))
    if sign < 0:
        got, want = na.softmin(lazy, 0, where=where), na.softmin(x, 0, where=where)
    else:
        got, want = na.softmax2d(lazy, where=where), na.softmax2d(x, where=where)
    np.testing.assert_allclose(assert_same(got, want), want, rtol=1e-6)
    for function in (na.softmin_vjp, na.softmin_jvp):
        y = np.nan_to_num(want)
        got, ours = function(lazy, da.from_array(y, chunks=(2, 100, 1)), 0), function(x, y, 0)
        np.testing.assert_allclose(assert_same(got, ours), ours, rtol=1e-5, atol=1e-6)
    wants, gots = na.maxout_with_index(x, 0), na.maxout_with_index(lazy, 0)
    for one, other in zip(gots, wants, strict=True):
        np.testing.assert_array_equal(assert_same(one, other), other)


def test_first_winner_over_chunks(rng):
    """Of equal pieces, of NaNs and of zeros of both signs, with empty chunks between."""
    x = rng.integers(0, 3, (50, 20)).astype(np.float64) * np.where(
        rng.random((50, 20)) < 0.5, 1, -1
    )
    x[rng.random(x.shape) < 0.02] = np.nan
    x[:, 0], x[:, 1] = -np.inf, -0.0
    for sizes in ((7,) * 7 + (1,), (0, 20, 0, 30), (1,) * 50, (49, 0, 1)):
        lazy = da.from_array(x, chunks=(50, 6)).rechunk((sizes, 6))
        wants, gots = na.maxout_with_index(x, 0), na.maxout_with_index(lazy, 0)
        for got, want in zip(gots, wants, strict=True):
            np.testing.assert_array_equal(assert_same(got, want), want)
        t = rng.normal(size=x.shape)
        want = na.maxout_jvp(t, wants[1], 0)
        got = na.maxout_jvp(da.from_array(t, chunks=9).rechunk((sizes, 6)), gots[1], 0)
        np.testing.assert_array_equal(assert_same(got, want), want)
        got = na.softmin(lazy, 0)
        np.testing.assert_allclose(assert_same(got, x), na.softmin(x, 0), rtol=1e-12)


def test_index_out_of_range_of_pieces_over_chunks(rng):
    t = da.from_array(rng.normal(size=(3, 8)), chunks=(2, 3))
    for wrong in (8, -1):
        dy = na.maxout_jvp(t, np.array([0, 7, wrong]))
        np.testing.assert_array_equal(dy[:2].compute(), t.compute()[[0, 1], [0, 7]])
        with pytest.raises(IndexError, match=r"index must lie in \[0, 8\), the pieces of a unit"):
            dy.compute()


@pytest.mark.parametrize("name", ["softmin", "softmin_masked", "softmin_vjp", "affine_vjp"])
def test_the_order_of_sums_is_that_of_the_chunks(name, rng):
    """Neither a scheduler nor Dask's configuration changes a bit."""
    import dask

    x, g = rng.normal(size=(2, 400, 6)) * 5
    w = rng.normal(size=(3, 2, 6))
    index = na.maxout_affine_with_index(x, w)[1]

    def bits(**more):
        a, b = (da.from_array(one, chunks=(9, 4)) for one in (x, g))
        calls = {
            "softmin": lambda: na.softmin(a, None),
            "softmin_masked": lambda: na.softmin(a, 0, where=b > 0),
            "softmin_vjp": lambda: na.softmin_vjp(b, a, (0, 1)),
            "affine_vjp": lambda: na.maxout_affine_vjp(g[:, :3], a, w, index)[1],
        }
        return calls[name]().compute(**more).tobytes()

    want = bits(scheduler="synchronous")
    assert bits(scheduler="threads", num_workers=7) == want
    for config in ({"split_every": 2}, {"split_every": 64}, {"array.rechunk.threshold": 1}):
        with dask.config.set(config):
            assert bits(scheduler="threads") == want
    with dask.config.set({"optimization.fuse.active": False}):
        assert bits(scheduler="synchronous") == want


LONG: dict[str, Any] = {
    "softmin": lambda x: na.softmin(x, 0),
    "masked": lambda x: na.softmin(x, 0, where=x > 0),
    "softmin_vjp": lambda x: na.softmin_vjp(x, x, 0),
    "maxout": lambda x: na.maxout(x, 0),
    "index": lambda x: na.maxout_with_index(x, 0)[1],
    "maxout_jvp": lambda x: na.maxout_jvp(x, np.arange(3), 0),
    "softmin_jacobian": lambda x: na.softmin_jacobian(x, 0)[:8],
}


@pytest.mark.parametrize("name", LONG)
def test_chunks_of_a_slice_are_never_joined(name):
    """No task sees more than sixteen chunks' parts; none gives more than a chunk."""
    import dask
    from dask.callbacks import Callback

    count, size = (300, 5) if name != "softmin_jacobian" else (40, 5)
    x = da.random.default_rng(0).normal(size=(count * size, 3), chunks=(size, 3))
    lazy = LONG[name](x)
    (optimized,) = dask.optimize(lazy)
    needed = optimized.__dask_graph__().get_all_dependencies()
    assert max(map(len, needed.values())) <= 16
    assert len(needed) < (10 if name != "softmin_jacobian" else 3 * count) * count
    sizes = [0]

    def done(key, value, graph, state, worker):
        sizes.append(getattr(value, "size", 0))

    with Callback(posttask=done):
        lazy.persist(scheduler="synchronous")
    most = 3 * size * (size if name == "softmin_jacobian" else 1)
    assert max(sizes) <= max(most, 3 * 16)


def test_chunks_straight_from_their_source_are_read_twice():
    """If they are large, so that none is held until the sums are known; others are held."""
    import dask

    made = []

    def block(block_id):
        made.append(block_id)
        return np.full(4, float(block_id[0]))

    def computed(x):
        made.clear()
        y = na.softmin(x)
        np.testing.assert_allclose(y.compute(scheduler="synchronous").sum(), 1)
        return sorted(made)

    x = da.map_blocks(block, chunks=((4,) * 5,), dtype=np.float64, meta=np.empty(0))
    once = [(i,) for i in range(5)]
    assert computed(x) == once
    with dask.config.set({"array.chunk-size": "64 B"}):
        assert computed(x) == sorted(2 * once)
        assert computed(x.rechunk(3)) == once
        y = na.softmin(x.rechunk(3))
        assert len(na.softmin(na.softmin(y)).dask) < 400  # not doubled by each
        one, two = (na.softmin(x, temperature=t).dask for t in (1.0, 2.0))
        shared = set(one) & set(two)
        assert all(one[key] == two[key] for key in shared)


def test_a_part_of_small_slices_asks_for_no_other():
    made = []

    def block(block_id):
        made.append(block_id)
        return np.ones((1, 3))

    x = da.map_blocks(block, chunks=((1,) * 20, (3, 3)), dtype=np.float64, meta=np.empty((0, 0)))
    na.softmin(x)[0].compute(scheduler="synchronous")
    assert sorted(made) == [(0, 0), (0, 1)]


@pytest.mark.parametrize("cuts", [(0, 1, 0), (1, 0), (0, 0)])
def test_empty_chunks_beside_a_single_number(cuts, rng):
    x = rng.normal(size=(2, sum(cuts)))

    def block(block_info):
        ((_, _), (start, stop)) = block_info[None]["array-location"]
        return x[:, start:stop]

    lazy = da.map_blocks(block, chunks=((2,), cuts), dtype=np.float64, meta=np.empty((0, 0)))
    mask = np.array([[True], [False]])
    for axis in (0, 1):
        want = na.softmin(x, axis, where=mask)
        np.testing.assert_allclose(assert_same(na.softmin(lazy, axis, where=mask), want), want)
    want, index = na.maxout_with_index(x, 0)
    np.testing.assert_array_equal(assert_same(na.maxout_jvp(lazy, index, 0), want), want)


@pytest.mark.parametrize("cuts", [3, 6])
def test_masked_arrays_are_refused(cuts):
    masked = da.ma.masked_greater(da.from_array(np.arange(6.0), chunks=cuts), 3)
    plain = da.from_array(np.ones(6), chunks=cuts)
    for call in (
        lambda: na.softmin(masked),
        lambda: na.softmin_vjp(masked, plain),
        lambda: na.softmin_jacobian(masked),
        lambda: na.maxout(masked),
    ):
        with pytest.raises(TypeError, match="masked array"):
            call()


@pytest.mark.parametrize("shape", [(7, 5), (5,), (7, 1), ()])
@pytest.mark.parametrize("axis", [0, 1, None])
@pytest.mark.parametrize("in_chunks", [True, False])
def test_masks(shape, axis, in_chunks, rng):
    x, mask = rng.normal(size=(7, 5)), np.asarray(rng.random(shape) < 0.6)
    want = na.softmin(x, axis, where=mask)
    got = na.softmin(cut(x), axis, where=cut(mask) if in_chunks else mask)
    np.testing.assert_allclose(assert_same(got, want), want, rtol=1e-14)
    if in_chunks:  # a mask alone makes it lazy too, and cut in its chunks or one
        got = na.softmin(x, axis, where=da.from_array(mask, chunks=2))
        np.testing.assert_allclose(assert_same(got, want), want, rtol=1e-14)


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
        np.testing.assert_allclose(got, na.softmin(x[keep], where=some[keep]), rtol=1e-14)
        got = na.softmin(filtered(x, keep), 0, where=filtered(some, keep)).compute()
        np.testing.assert_allclose(got, na.softmin(x[keep], 0, where=some[keep]), rtol=1e-14)
    got = na.softmin(filtered(x, keep), where=mask[0]).compute()
    np.testing.assert_allclose(got, na.softmin(x[keep], where=mask[0]), rtol=1e-14)


def test_slices_over_chunks_of_unknown_sizes(rng):
    x, g = rng.normal(size=(2, 12, 5))
    keep = np.arange(12) % 3 != 1
    keep[3:6] = False  # a chunk that turns out to be empty
    unknown, other = filtered(x, keep), filtered(g, keep)
    y = na.softmin(x[keep], 0)
    for got, want in (
        (na.softmin(unknown, 0), y),
        (na.softmin(unknown, None), na.softmin(x[keep], None)),
        (na.softmin_vjp(other, unknown, 0), na.softmin_vjp(g[keep], x[keep], 0)),
        (na.softmin_jacobian(unknown, 0), na.softmin_jacobian(x[keep], 0)),
        (na.maxout(unknown, 0), na.maxout(x[keep], 0)),
    ):
        np.testing.assert_allclose(got.compute(), want, rtol=1e-12, atol=1e-15)
    with pytest.raises(ValueError, match="x must have at least one piece"):
        na.maxout(filtered(x, keep & False), 0).compute()


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
        lambda: na.maxout_with_index(unknown, 0),
        lambda: na.maxout_jvp(unknown, np.zeros(5, int), 0),
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


def test_labels_of_xarray_stay(rng):
    xr = pytest.importorskip("xarray", reason="xarray is not installed")
    x = xr.DataArray(
        cut(rng.normal(size=(7, 4, 5))), dims=("time", "unit", "piece"), coords={"time": range(7)}
    )
    y, index = xr.apply_ufunc(
        na.maxout_with_index,
        x,
        input_core_dims=[["piece"]],
        output_core_dims=[[], []],
        dask="allowed",
    )
    want = na.maxout_with_index(x.data.compute())
    for got, plain in zip((y, index), want, strict=True):
        assert got.dims == ("time", "unit") and isinstance(got.data, da.Array)
        np.testing.assert_array_equal(got.coords["time"], range(7))
        np.testing.assert_array_equal(got.compute().data, plain)


def test_on_a_cluster_of_two_processes(tmp_path):
    """The example, over an array larger than the memory of both workers, under its progress bar."""
    pytest.importorskip("distributed", reason="distributed is not installed")
    program = Path(__file__).parents[1] / "examples" / "ising_on_a_cluster.py"
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, cwd=tmp_path, timeout=300
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "2.7 times a worker's memory" in done.stdout and "100% Completed" in done.stdout
