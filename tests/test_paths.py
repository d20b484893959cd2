"""Every traversal is taken by the shapes meant for it, on one thread and on several."""

import ctypes
import ctypes.util
import itertools
import math
import platform
import sys

import cases
import ml_dtypes
import numba
import numpy as np
import oracle
import pytest

import numba_acts
from numba_acts import __main__
from numba_acts._cpu import affine, forward, jacobian, launch, maxout, product, slices, threads
from numba_acts._cpu.caches import FAR_FROM, SECOND
from numba_acts._cpu.exponential import exponent_law, raised_exp, weighed
from numba_acts._cpu.lanes import LANES
from numba_acts._cpu.memory import FAR_RUN, elements, get, lines, load, pour, put, results, store
from numba_acts._halls import host


@pytest.fixture
def taken(monkeypatch):
    """The kernels that ran, in order, as room.name."""
    names = []

    def run(kernel, *task):
        names.append(name_of(kernel))
        return launch.run(kernel, *task)

    def shared(*task):
        names[-1] += " shared"
        together(*task)

    together = launch.together
    monkeypatch.setattr(launch, "together", shared)
    for room in (forward, product, jacobian, maxout, affine):
        monkeypatch.setattr(room, "run", run)
        monkeypatch.setattr(
            room, "run_tiles", lambda choice, count, *task: run(*task), raising=False
        )
    return names


def name_of(kernel):
    return f"{kernel.py_func.__module__.rpartition('.')[2]}.{kernel.__name__}"


def of(room, names):
    """Names of kernels as `taken` has them."""
    return [f"{room}.{name}" for name in names]


FORWARD = [
    ((3, 1), -1, ["short_rows"]),
    ((30, forward.SHORT[8]), -1, ["short_rows"]),
    ((3, forward.SHORT[8] + 1), -1, ["rows"]),
    ((3, slices.CHUNK), -1, ["rows"]),
    ((20_000, 4), -1, ["short_rows shared"]),
    ((20, slices.CHUNK), -1, ["rows shared"]),
    ((3, slices.CHUNK + 1), -1, ["long_sums", "long_writes"]),
    ((1, 3 * slices.GROUP + 5), -1, ["long_sums shared", "long_writes shared"]),
    ((2, 3, 5), 1, ["few_columns"]),
    ((2, 300, 301), 0, ["few_columns shared"]),
    ((2, 4, 5), 1, ["columns"]),
    ((15, 1024), -1, ["rows"]),
    ((16, 1024), -1, ["rows shared"]),
    ((1, slices.CHUNK, 3), 1, ["columns"]),
    ((2, slices.CHUNK, 5), 1, ["columns shared"]),
    ((21, 70, 70), 0, ["columns shared"]),
    ((300, 33), 0, ["tall_columns"]),
    ((300, 500), 0, ["tall_columns shared"]),
    ((slices.CHUNK + 1, 3), 0, ["long_sums", "long_writes"]),
    ((slices.CHUNK + 1, 20), 0, ["long_sums shared", "long_writes shared"]),
]


@pytest.mark.parametrize(("shape", "axis", "expected"), FORWARD)
def test_forward(shape, axis, expected, taken, rng):
    x = rng.normal(size=shape)
    y = numba_acts.softmin(x, axis)
    assert taken == of("forward", expected)
    np.testing.assert_allclose(y, oracle.softmin(x, axis), rtol=1e-14)


def test_long_slices_are_read_twice_while_a_cache_holds_them(taken, rng):
    rows = 2 * slices.BATCH // (slices.CHUNK + 1) + 1
    x = rng.normal(size=(rows, slices.CHUNK + 1))
    y = numba_acts.softmin(x)
    twice = ["long_sums shared", "long_writes shared"] * 2
    assert taken == of("forward", [*twice, "long_sums", "long_writes"])
    np.testing.assert_allclose(y, oracle.softmin(x), rtol=1e-14)


PRODUCT = [
    ((3, product.SHORT + 1), -1, ["rows"]),
    ((3, product.WHOLE), -1, ["rows shared"]),
    ((1, product.WHOLE + 1), -1, ["long_dots shared", "long_writes shared"]),
    ((5, 1), -1, ["few_columns"]),
    ((2, 3, 5), 1, ["few_columns"]),
    ((2, 300, 301), 0, ["few_columns shared"]),
    ((2, 4, 5), 1, ["columns"]),
    ((21, 70, 70), 0, ["columns shared"]),
    ((slices.CHUNK + 1, 3), 0, ["long_dots", "long_writes"]),
    ((slices.CHUNK + 1, 20), 0, ["long_dots shared", "long_writes shared"]),
]


@pytest.mark.parametrize(("shape", "axis", "expected"), PRODUCT)
def test_product(shape, axis, expected, taken, rng):
    y, g = numba_acts.softmin(rng.normal(size=shape), axis), rng.normal(size=shape)
    taken.clear()
    dx = numba_acts.softmin_vjp(g, y, axis)
    assert taken == of("product", expected)
    np.testing.assert_allclose(dx, oracle.softmin_vjp(g, y, axis), rtol=1e-12, atol=1e-15)


LENGTHS = {*range(1, 17), 23, 25, 33, product.SHORT, forward.SHORT[8]}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("n", sorted(LENGTHS))
def test_rows_that_go_across_the_lanes_equal_those_that_go_along(n, dtype, rng):
    # Of 19 rows 16 go across, by eights, and 3 along, as one alone does.
    assert n <= forward.SHORT[np.dtype(dtype).itemsize]
    x, g = rng.normal(size=(2, 19, n)).astype(dtype)
    y = numba_acts.softmin(x)
    np.testing.assert_array_equal(y, [numba_acts.softmin(row) for row in x])
    alone = [numba_acts.softmin_vjp(*rows) for rows in zip(g, y, strict=True)]
    np.testing.assert_array_equal(numba_acts.softmin_vjp(g, y), alone)
    mask = rng.random((19, n)) < 0.7
    alone = [numba_acts.softmin(row, where=some) for row, some in zip(x, mask, strict=True)]
    np.testing.assert_array_equal(numba_acts.softmin(x, where=mask), alone)


@pytest.mark.parametrize("from_memory", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tiles_of_columns_fit_the_second_cache(dtype, from_memory):
    for n in range(1, slices.CHUNK + 1):
        for inner in (1, 49, 1 << 20):
            of = np.dtype(dtype), 1, n, inner, n * inner, from_memory
            _, groups, ring = forward._tiles.__wrapped__(*of)
            pitch = forward.tile_pitch.py_func(groups * LANES)
            assert ring * slices.padded.py_func(n) * pitch * of[0].itemsize <= max(1 << 19, SECOND)


RING = forward.RING_BYTES // 4


@pytest.mark.parametrize("from_memory", [False, True])
@pytest.mark.parametrize("inner", [1, 3, 8, 13, 16, 8 * forward.TILE_GROUPS[3] * 4 + 5])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 21, 40, RING, RING + 1])
def test_columns_equal_rows(n, inner, from_memory, monkeypatch, rng):
    # fewer than eight columns; eight that overlap the eight before; several tiles, one by one or,
    # from memory, read ahead in a ring of three; strips of products
    assert 8 * forward.TILE_GROUPS[3] * 4 > 2 * product.STRIP // 4
    monkeypatch.setattr(forward, "RING_FROM", 1 if from_memory else 1 << 60)
    for room in (forward, product):
        monkeypatch.setattr(room, "FEW", 0 if from_memory else slices.FEW)
    x, g = rng.normal(size=(2, n, inner)).astype(np.float32)
    y = numba_acts.softmin(x, 0)
    dx = numba_acts.softmin_vjp(g, y, 0)
    rows, cotangents = (np.ascontiguousarray(v.T) for v in (x, g))
    weights = numba_acts.softmin(rows)
    np.testing.assert_array_equal(y, weights.T)
    np.testing.assert_array_equal(dx, numba_acts.softmin_vjp(cotangents, weights).T)
    np.testing.assert_array_equal(numba_acts.softmin_vjp(g, y, 0, out=g), dx)
    np.testing.assert_array_equal(numba_acts.softmin(x, 0, out=x), y)


@pytest.mark.parametrize(("dtype", "n"), [("f4", RING + 1), ("f8", RING // 2 + 1), ("f2", 2000)])
def test_tall_columns_from_memory_equal_rows(dtype, n, rng):
    x = rng.normal(size=(n, forward.RING_FROM // n + 1)).astype(dtype)
    y = numba_acts.softmin(x, 0)
    np.testing.assert_array_equal(y, numba_acts.softmin(np.ascontiguousarray(x.T)).T)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int64, np.int8])
@pytest.mark.parametrize("pieces", [7, 8, 9, 16, 23, 64])
def test_pieces_that_go_across_the_lanes_equal_those_that_go_along(pieces, dtype, rng):
    assert pieces > maxout.FEW or pieces in (7, 8)  # of 19 units 16 go across
    x = np.tile(rng.integers(-3, 4, pieces).astype(dtype), (19, 1))  # with ties
    y, index = numba_acts.maxout_with_index(x)
    np.testing.assert_array_equal(y, x.max(-1))
    np.testing.assert_array_equal(index, x.argmax(-1))


@pytest.mark.parametrize(("n", "expected"), [(10, ["jacobian"]), (400, ["jacobian shared"])])
@pytest.mark.parametrize("axis", [0, 1])
def test_jacobian(n, expected, axis, taken, rng):
    y = rng.random((n, 3) if axis == 0 else (3, n))
    matrices = numba_acts.softmin_jacobian(y, axis)
    assert taken == of("jacobian", expected)
    np.testing.assert_allclose(matrices, oracle.softmin_jacobian(y, axis), rtol=1e-14)


@pytest.mark.parametrize(("n", "expected"), [(10, ["diagonal"]), (70_000, ["diagonal shared"])])
def test_diagonal(n, expected, taken, rng):
    y = rng.random(n)
    diagonal = numba_acts.softmin_jacobian_diag(y)
    assert taken == of("jacobian", expected)
    np.testing.assert_allclose(diagonal, oracle.softmin_jacobian_diag(y), rtol=1e-14)


MAXOUT = [
    ((5, maxout.FEW), -1, "few", ""),
    ((20_000, 5), -1, "few", " shared"),
    ((5, maxout.FEW + 1), -1, "rows", ""),
    ((20_000, maxout.FEW + 1), -1, "rows", " shared"),
    ((4, 3, 7), 1, "columns", ""),
    ((4, 3, 2 * maxout.SPAN + 7), 1, "columns", ""),
    ((5, 20_000), 0, "columns", " shared"),
]


@pytest.mark.parametrize(("shape", "axis", "traversal", "threads"), MAXOUT)
def test_maxout(shape, axis, traversal, threads, taken, rng):
    x = rng.normal(size=shape)
    y, index = numba_acts.maxout_with_index(x, axis)
    dx = numba_acts.maxout_vjp(y, index, shape[axis], axis)
    assert taken[0] == f"maxout.{traversal}{threads}"
    assert taken[-1] == f"maxout.vjp_{traversal}{threads}"
    np.testing.assert_array_equal(y, x.max(axis))
    np.testing.assert_array_equal(dx, np.where(x == x.max(axis, keepdims=True), x, 0))


@pytest.mark.parametrize(("rows", "threads"), [(3, ""), (3000, " shared")])
def test_affine(rows, threads, taken, rng):
    x, weight = rng.normal(size=(rows, 30)), rng.normal(size=(20, 4, 30))
    y, index = numba_acts.maxout_affine_with_index(x, weight)
    assert taken == ["affine.affine_rows" + threads]
    taken.clear()
    numba_acts.maxout_affine_vjp(y, x, weight, index)
    numba_acts.maxout_affine_jvp(x, weight, index, dx=x)
    kernels = [name for name in taken if not name.startswith("maxout.outside")]
    used = [name + threads for name in ("gradient_x", "gradient_weight", "tangent")]
    assert kernels == of("affine", used)
    np.testing.assert_allclose(y, oracle.maxout_affine(x, weight), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("units", "pieces", "depth", "rows"), [(16, 3, 2000, 40), (5, 2, 7000, 33), (9, 300, 270, 70)]
)
def test_a_layers_gradients_do_not_depend_on_who_takes_which_units(
    units, pieces, depth, rows, dtype, monkeypatch, rng
):
    x = rng.normal(size=(rows, depth)).astype(dtype)
    weight = rng.normal(size=(units, pieces, depth)).astype(dtype)
    g = rng.normal(size=(rows, units)).astype(dtype)
    index = rng.integers(0, pieces, (rows, units))
    alone = [numba_acts.maxout_affine_vjp(g, x, weight, index)]
    for count in (1, 2, 4, 16):
        monkeypatch.setattr(affine, "crew", lambda work, count=count: count)
        alone.append(numba_acts.maxout_affine_vjp(g, x, weight, index))
    for first, *others in zip(*alone, strict=True):
        for other in others:
            np.testing.assert_array_equal(other, first)
    u, i = units - 1, index[0, -1]  # the last unit's piece that won first, summed one by one
    won = index[:, u] == i
    np.testing.assert_allclose(alone[0][1][u, i], g[won, u].astype(float) @ x[won], rtol=1e-4)


def test_one_thread_is_enough_when_numba_is_told_so(taken):
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        numba_acts.softmin(np.zeros((20_000, 4)))
    finally:
        numba.set_num_threads(threads)
    assert taken == ["forward.short_rows"]


@numba.njit
def exponentials(w, z):
    law = exponent_law(w, 1.0)
    w, z = elements(w), elements(z)
    for i in range(0, w.size, LANES):
        store(z, i, raised_exp(load(w, i), law))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exponentials_that_every_quotient_rounds_to_zero_are_zero(dtype):
    """Some processors take ten times as long to round a product to zero: each masked entry's."""
    half = np.log2(np.finfo(dtype).smallest_subnormal) - 1
    log2 = np.array([half - 0.6, half - 20, -1e6, -np.inf, half - 0.4, half + 1, 0, np.nan])
    z = np.empty(LANES, dtype)
    exponentials((np.log(2) * log2).astype(dtype), z)
    assert (z[:4] == 0).all()
    power = np.log2(z[4:7].astype(np.float64))
    np.testing.assert_allclose(power[:2] - power[2], log2[4:6], rtol=0, atol=1e-4)
    assert np.isnan(z[7])


@numba.njit
def products(z, weight, beneath, out):
    z, weight, out = elements(z), elements(weight), elements(out)
    for i in range(0, z.size, LANES):
        store(out, i, weighed(load(z, i), load(weight, i), beneath))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_subnormal_quotients_are_rounded_as_the_processor_does(dtype, rng):
    kind = np.finfo(dtype)
    raised = kind.nmant + 2
    z = (2.0 ** rng.uniform(kind.minexp, raised, 80_000)).astype(dtype)
    weight = (2.0 ** rng.uniform(-raised - 20, -raised, z.size)).astype(dtype)
    least = kind.smallest_normal / weight[:40_000]
    z[:40_000] = least * 2.0 ** rng.uniform(-raised, 1, 40_000)
    z[:4], weight[4:8] = (0, np.nan, kind.smallest_normal, 2.0**raised), (np.inf, np.nan, 0, 1)
    expected, found = z * weight, np.empty_like(z)
    assert 30_000 < (expected < kind.smallest_normal).sum() < 70_000
    products(z, weight, True, found)
    np.testing.assert_array_equal(found, expected)


UNDERFLOW = {"x86_64": 0x10, "AMD64": 0x10, "aarch64": 0x08, "arm64": 0x08}  # C's FE_UNDERFLOW


@pytest.mark.skipif(
    sys.platform == "win32" or platform.machine() not in UNDERFLOW, reason="no flag is known here"
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("shape", "axis", "path"),
    [
        ((32, 5), 1, "short_rows"),
        ((40, 40), 1, "short_rows"),
        ((9, 700), 1, "rows"),
        ((30, 90), 0, "columns"),
        ((30, 90_000), 0, "columns"),  # in a ring
        ((2000, 1501), 0, "tall_columns"),
    ],
)
@pytest.mark.parametrize("deep", [0, 3, -1])
def test_no_product_underflows(deep, shape, axis, path, masked, dtype, taken, monkeypatch, rng):
    """Not even beside others that may not: the processor's flag tells it, and no value would."""
    monkeypatch.setattr(forward, "crew", lambda work: 1)
    monkeypatch.setattr(launch, "crew", lambda work: 1)
    if path == "tall_columns":
        monkeypatch.setattr(forward, "FAR_FROM", 1 << 16)
    x = rng.random(shape).astype(dtype)
    subnormal = 95 if dtype == np.float32 else 720
    some = np.moveaxis(x, axis, -1)[deep]
    if path == "tall_columns":  # in the first block alone
        some = some[: slices.BLOCK]
    some[1::3], some[2::3] = subnormal, np.inf
    mask = None
    if masked:
        mask = np.ones(shape, bool)
        np.moveaxis(mask, axis, -1)[deep, 2::4] = False
    numba_acts.softmin(x, axis, where=mask)  # compiled
    floats = ctypes.CDLL(None if sys.platform == "darwin" else ctypes.util.find_library("m"))
    flag = UNDERFLOW[platform.machine()]
    floats.feclearexcept(flag)
    y = numba_acts.softmin(x, axis, where=mask)
    assert not floats.fetestexcept(flag)
    assert set(taken) == {f"forward.{path}"}
    least = np.finfo(dtype).smallest_normal
    assert 0 < np.moveaxis(y, axis, -1)[deep, 1] < least
    products(np.full(8, least), np.full(8, dtype(0.3)), None, np.empty(8, dtype))
    assert floats.fetestexcept(flag)


@numba.njit
def goes_far(array, step, run):
    return results(array, step, run, FAR_FROM).far


@numba.njit
def is_poured(array):
    return lines(array, FAR_FROM).far


def lying_at(place, shape, dtype):
    """An empty array whose first number lies `place` bytes behind a multiple of 64."""
    size = np.empty(shape, np.uint8).size * dtype.itemsize
    held = np.empty(size + 128, np.uint8)
    first = -held.ctypes.data % 64 + place
    return held[first : first + size].view(dtype).reshape(shape)


def test_only_large_results_in_long_aligned_runs_go_around_the_caches():
    number = np.dtype(np.float32)
    large, small = FAR_FROM // number.itemsize, FAR_FROM // number.itemsize - 1
    run = FAR_RUN // number.itemsize
    assert goes_far(lying_at(0, large, number), 4, run)
    assert goes_far(lying_at(16, large, number), 1000, 1000)
    assert not goes_far(lying_at(0, small, number), 4, run)
    assert not goes_far(lying_at(0, large, number), 4, run - 1)
    assert not goes_far(lying_at(0, large, number), 1001, 1001)
    assert not goes_far(lying_at(4, large, number), 4, run)
    byte = np.dtype(np.int8)  # eight of which are only half of 16 bytes
    assert not goes_far(lying_at(0, FAR_FROM, byte), 16, FAR_RUN)
    assert is_poured(lying_at(4, large, number))
    assert is_poured(lying_at(1, FAR_FROM, byte))
    assert not is_poured(lying_at(0, small, number))
    assert not is_poured(lying_at(2, large, number))


@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (2, 3, 4), (1,) * 32])
def test_kernels_take_arrays_of_any_shape_as_flat_memory(shape):
    @numba.njit(nogil=True)
    def look(x, found):
        x, found = elements(x), elements(found)
        put(found, 0, np.int64(x.size))
        for i in range(x.size):
            put(found, i + 1, get(x, i))

    @numba.njit(nogil=True)
    def inside(pair):
        look(*pair)

    x = np.arange(math.prod(shape)).reshape(shape)
    x.setflags(write=False)
    for given in (x, x.view(np.recarray)):  # and of a subclass
        for function, wrapped in ((look, lambda *pair: pair), (inside, lambda *pair: (pair,))):
            found = np.full(x.size + 1, -1)
            entry = launch._overload(function, *wrapped(given, found)).entry_point
            entry(*wrapped(given, found))
            assert found.tolist() == [x.size, *range(x.size)]


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="other instructions")
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "int16"])
def test_stores_around_the_caches_are_instructions_of_their_own(dtype):
    @numba.njit
    def copy(x, out):
        x, out = elements(x), results(out, LANES, out.size, FAR_FROM)
        for i in range(0, x.size, LANES):
            store(out, i, load(x, i))

    kind = launch._kind(np.empty(1, ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype))
    copy.compile((kind, kind))
    assert next(iter(copy.inspect_asm().values())).count("\tvmovnt") > 0

    @numba.njit
    def poured(x, out):
        x, out = elements(x), lines(out, FAR_FROM)
        pour(x, out, 0, out.size, 0)

    poured.compile((kind, kind))
    assert next(iter(poured.inspect_asm().values())).count("\tvmovnt") > 0


FAR = [
    ("softmin", (600, 1028), -1),
    ("softmin", (3000, 212), -1),
    ("softmin", (901, 1001), -1),
    ("softmin", (3001, 67), -1),
    ("softmin", (6, 5, 1400), 1),
    ("softmin", (2003, 1028), 0),
    ("softmin", (2003, 1024), 0),
    ("softmin", (20, 2048), 0),
    ("softmin_vjp", (600, 1028), -1),
    ("softmin_vjp", (10_003, 44), -1),
    ("softmin_vjp", (901, 1001), -1),
    ("softmin_vjp", (9001, 33), -1),
    ("softmin_vjp", (50_003, 5), -1),
    ("softmin_vjp", (50_003, 4), -1),
    ("softmin_vjp", (3, 70_001), -1),
    ("softmin_vjp", (30_003, 2), -1),
    ("softmin_vjp", (30_003, 3), -1),
    ("softmin_vjp", (10_003, 21), -1),
    ("softmin_vjp", (1, 420_004), -1),
    ("softmin_vjp", (6, 5, 1404), 1),
    ("softmin_vjp", (50, 2048), 0),
    ("softmin_vjp", (300, 4096), 0),
    ("softmin_jacobian", (50, 100), -1),
    ("softmin_jacobian", (300, 17), -1),
    ("softmin_jacobian", (4000, 5), -1),
    ("softmin_jacobian", (2, 700), -1),
    ("softmin_jacobian", (3, 7, 500), 1),
    ("softmin_jacobian", (19, 7, 49), 1),
    ("softmin_jacobian", (200, 9, 3), 1),
    ("softmin_jacobian_diag", (100_003,), -1),
    ("maxout", (100_003, 5), -1),
    ("maxout", (60, 5, 1404), 1),
    ("maxout_vjp", (30_003, 5), -1),
    ("maxout_vjp", (90_003, 2), -1),
    ("maxout_vjp", (60, 5, 1404), 1),
    ("maxout_vjp", (2, 6, 8192), 1),
]


@pytest.mark.parametrize(
    ("name", "shape", "axis", "dtype"),
    [
        *((*far, dtype) for far in FAR for dtype in ("float32", "float64", "float16")),
        ("softmin", (901, 1001), -1, "bfloat16"),
        ("softmin_vjp", (10_003, 21), -1, "bfloat16"),
        ("softmin_vjp", (901, 1001), -1, "bfloat16"),
        ("softmin_jacobian", (300, 17), -1, "bfloat16"),
        ("maxout_vjp", (30_003, 5), -1, "int8"),
        ("maxout_vjp", (2, 6, 8192), 1, "int8"),
    ],
)
def test_results_are_the_same_around_the_caches(name, shape, axis, dtype, monkeypatch, rng):
    x = (9 * rng.standard_normal(shape, np.float32)).astype(cases.as_dtype(dtype))
    y, index = numba_acts.maxout_with_index(x, axis)
    task: tuple[object, ...] = x, axis
    if name == "softmin_vjp":
        task = x, numba_acts.softmin(x, axis), axis
    elif name == "softmin_jacobian_diag":
        task = (x,)
    elif name == "maxout_vjp":
        task = y, index, shape[axis], axis
    function = getattr(numba_acts, name)
    plain, mask = function(*task), rng.random(shape) < 0.5
    plain_masked = numba_acts.softmin(x, axis, where=mask) if name == "softmin" else None
    for room in (forward, product, jacobian, maxout):
        monkeypatch.setattr(room, "FAR_FROM", 1 << 16)
    host.forget()
    for place in 16, 48, 0, 16 + x.itemsize:  # multiples of 16 bytes, and none
        out = lying_at(place, plain.shape, x.dtype)
        held = out.base
        held[...] = 7
        assert out.nbytes >= 1 << 16
        function(*task, out=out)
        np.testing.assert_array_equal(out, plain)
        first = out.ctypes.data - held.ctypes.data
        assert set(held[:first]) | set(held[first + out.nbytes :]) <= {7}
    if name == "softmin":
        for place in 0, 16 + x.itemsize:
            out = numba_acts.softmin(x, axis, where=mask, out=lying_at(place, shape, x.dtype))
            np.testing.assert_array_equal(out, plain_masked)
        in_place = lying_at(16, shape, x.dtype)
        in_place[...] = x
        numba_acts.softmin(in_place, axis, out=in_place)
        np.testing.assert_array_equal(in_place, plain)
    if name == "maxout":
        for place in 16, 8:
            pair = lying_at(16, y.shape, x.dtype), lying_at(place, y.shape, index.dtype)
            numba_acts.maxout_with_index(x, axis, out=pair)
            np.testing.assert_array_equal(pair[0], y)
            np.testing.assert_array_equal(pair[1], index)


def parts_of(kernel, data, numbers, units, out, rng):
    """What `kernel` writes of `out`, part by part, and the parts as masks."""
    borders = sorted({0, units, *rng.integers(0, units, 9).tolist()})
    whole, masks = np.zeros_like(out), []
    for start, stop in itertools.pairwise(borders):
        out[...] = 99
        kernel(*data, *numbers, start, stop)
        masks.append(out != 99)
        whole[masks[-1]] = out[masks[-1]]
    return whole, masks


@pytest.mark.parametrize("place", [0, 4, 48])
@pytest.mark.parametrize(
    ("room", "path", "n", "inner", "tuned"),  # and numbers that are tuned, with those before `far`
    [
        (forward, "rows", 67, 1, [1.0]),
        (forward, "rows", 1001, 1, [1.0]),
        (forward, "tall_columns", 40, 1000, [256, 0, 1.0]),
        (forward, "tall_columns", 100, 1000, [256, 1 << 15, 1.0]),
        (forward, "columns", 40, 1000, [32, 3, 1.0]),
        (product, "rows", 4, 1, [1.0]),
        (product, "rows", 21, 1, [1.0]),
        (product, "rows", 1001, 1, [1.0]),
        (product, "columns", 40, 1000, [256, 1.0]),
        (jacobian, "jacobian", 17, 1, [1.0]),
        (jacobian, "jacobian", 5, 3, [1.0]),
        (maxout, "vjp_few", 5, 1, []),
        (maxout, "vjp_columns", 5, 2000, [256]),
    ],
)
def test_threads_write_what_is_theirs_around_the_caches(room, path, n, inner, tuned, place, rng):
    """Not even the rest of a line in which their results begin or end."""
    outer = 60
    x = rng.random((outer, n, inner), np.float32)
    index = rng.integers(0, n, (outer, inner), np.int32)
    given = {
        forward: [x, None],
        product: [x, x[::-1].copy()],
        jacobian: [x],
        maxout: [x.max(1), index],
    }[room]
    size = x.size * n if room is jacobian else x.size
    out = lying_at(place, (size,), x.dtype)
    data = [*(a if a is None else a.reshape(-1) for a in given), out]
    numbers = [(0,) * n] if path == "vjp_few" else [n, inner, *tuned]
    units = outer * (n if room is jacobian else -(-inner // 256))
    whole, masks = parts_of(getattr(room, path), data, [*numbers, 1], units, out, rng)
    assert (sum(mask.astype(int) for mask in masks) == 1).all()
    out[...] = 99
    getattr(room, path)(*data, *numbers, 1 << 62, 0, units)
    np.testing.assert_array_equal(whole, out)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize(("outer", "n", "inner"), [(1, 2000, 1501), (2, slices.CHUNK, 520)])
def test_tall_columns_equal_rows(outer, n, inner, dtype, masked, taken, monkeypatch, rng):
    monkeypatch.setattr(forward, "FAR_FROM", 1 << 16)
    monkeypatch.setattr(forward, "crew", lambda work: 2)
    x = rng.standard_normal((outer, n, inner), np.float32).astype(dtype)
    mask = rng.random(x.shape) < 0.7 if masked else None
    y = numba_acts.softmin(x, 1, where=mask)
    assert taken == ["forward.tall_columns shared"]
    rows = np.ascontiguousarray(np.swapaxes(x, 1, 2))
    across = None if mask is None else np.swapaxes(mask, 1, 2)
    weights = numba_acts.softmin(rows, where=across)
    np.testing.assert_array_equal(y, np.swapaxes(weights, 1, 2))
    np.testing.assert_array_equal(numba_acts.softmin(x, 1, where=mask, out=x), y)


def test_narrow_columns_are_left_to_one_thread():
    """Two would write into the same lines of a cache."""
    of = np.dtype(np.float32), 1, 300
    assert forward._tiles(*of, 49, 2, False)[0] == 1
    assert forward._tiles(*of, 49, 1, False)[0] == 1
    assert forward._tiles(*of, 256, 2, False)[0] >= 2


@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize("kind", ["f2", "f4", "f8"])
def test_strips_are_whole_vectors_and_their_scratch_memory_is_bounded(kind, far, monkeypatch):
    monkeypatch.setattr(forward, "SECOND", 1 << 20)
    monkeypatch.setattr(forward, "KEPT_BYTES", forward.SCRATCH)
    dtype, strips = np.dtype(kind), forward._strips.__wrapped__
    for n in (129, 257, 1000, slices.CHUNK):
        for inner in (32, 33, 49, 1000, 1 << 20):
            for count in (1, 2, 64):
                chosen = strips(dtype, 3, n, inner, count, far)
                if chosen is None:
                    assert n in (129, 257) or n == slices.CHUNK and not far
                    continue
                units, strip, room = chosen
                rows = -(-n // slices.BLOCK) * slices.BLOCK
                assert far or rows * forward.tile_pitch.py_func(strip) <= room or strip <= 32
                assert strip % forward.STEP == 0 and units == 3 * -(-inner // strip)
                assert strip - inner < forward.STEP
                number = max(4, dtype.itemsize)
                lanes, block = 3 * LANES * strip, (strip + 2 * forward.STEP) * slices.BLOCK
                assert (max(room, block) + lanes) * number <= 9 << 16
    assert strips(dtype, 1, 300, 31, 1, far) is None
    assert strips(dtype, 1, 300, 49, 2, far)[0] == 1  # or two threads would share lines


# ---- the warm-up ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "uint8", "bool"])
def test_what_is_warmed_is_compiled_before_it_is_called(dtype, monkeypatch):
    monkeypatch.setattr(launch, "_alone", {})
    monkeypatch.setattr(launch, "_together", {})
    monkeypatch.setattr(launch, "warming", True)

    def kernels():
        return set(launch._alone) | set(launch._together)

    def ones(*shape):
        return np.ones(shape, dtype)

    for some in __main__.calls_on(__main__.cpu_inputs(np.dtype(dtype))).values():
        for call in some:
            call()
    warmed = kernels()
    assert warmed == set(launch._alone) == set(launch._together)
    for n in (1, 2, 3, 8, 31, 33, 100, 1000, 4096, 10_000, 300_000):
        for rows in (1, 9, 300_000 // n):
            for x, axis in ((ones(rows, n), -1), (ones(n, rows), 0)):
                numba_acts.softmin(x, axis)
                numba_acts.softmin(x, axis, where=x > 0)
                if dtype == "float32":
                    numba_acts.softmin_vjp(x, x, axis)
    (
        numba_acts.softmax2d(ones(3, 40, 50)),
        numba_acts.softmax2d(ones(2, 150, 20, 20), where=ones(20, 20) > 0),
    )
    for k in (2, 3, 4, 5, 8, 9, 33, 1000):
        for units in (5, 300_000 // k):
            for x, axis in ((ones(units, k), -1), (ones(k, units), 0)):
                numba_acts.maxout(x, axis)
                _, index = numba_acts.maxout_with_index(x, axis)
                if dtype == "float32":
                    numba_acts.maxout_vjp(ones(units), index, k, axis)
                    numba_acts.maxout_jvp(x, index, axis)
    monkeypatch.setattr(forward, "FAR_FROM", 1 << 16)
    monkeypatch.setattr(forward, "crew", lambda work: 1)
    for mask in None, np.ones((slices.CHUNK, 70), bool):
        numba_acts.softmin(ones(slices.CHUNK, 70), 0, where=mask)
    assert kernels() == warmed


def test_warmup_for_a_gpu_is_of_floats(capsys):
    with pytest.raises(SystemExit):
        __main__.main(["warmup", "--gpu", "--dtype", "float32", "uint8"])
    assert "--gpu compiles for floats alone, not for uint8" in capsys.readouterr().err


# Calls that are remembered ----------------------------------------------------------------------


def small_calls(dtype, rng):
    """Calls on few numbers, as (function, arguments, keywords) by name."""
    x, g = rng.normal(size=(2, 5, 8)).astype(cases.as_dtype(dtype))
    best, index = numba_acts.maxout_with_index(x)
    return {
        "softmin": (numba_acts.softmin, (x,), {}),
        "axis": (numba_acts.softmin, (x, 0), {}),
        "temperature": (numba_acts.softmin, (x,), {"temperature": 0.3}),
        "masked": (numba_acts.softmin, (x,), {"where": rng.random(x.shape) < 0.6}),
        "softmax2d": (numba_acts.softmax2d, (x[None],), {}),
        "vjp": (numba_acts.softmin_vjp, (g, x), {}),
        "vjp of columns": (numba_acts.softmin_vjp, (g, x, 0), {"temperature": 2.0}),
        "maxout": (numba_acts.maxout, (x,), {}),
        "maxout of columns": (numba_acts.maxout, (x, 0), {}),
        "with index": (numba_acts.maxout_with_index, (x,), {}),
        "maxout's vjp": (numba_acts.maxout_vjp, (best, index, 8), {}),
        "on another axis": (numba_acts.maxout_vjp, (best, index, 9, 0), {}),
    }


@pytest.mark.parametrize("outs", ["fresh", "given", "views"])
@pytest.mark.parametrize("dtype", cases.FLOATS)
def test_a_call_like_one_before_is_started_at_once(dtype, outs, rng, monkeypatch):
    """The second time no kernel is chosen; all calls are made in turn, so none takes another's."""
    calls = small_calls(dtype, rng)
    first = {name: call(*given, **more) for name, (call, given, more) in calls.items()}
    for choice in ("forward.softmax", "product.product", "maxout.maxout", "maxout.vjp"):
        monkeypatch.setattr(f"numba_acts._cpu.{choice}", None)
    for name, (call, given, more) in calls.items():
        if outs != "fresh":
            more = {**more, "out": like(first[name], outs == "views")}
        given = [elsewhere(a) if isinstance(a, np.ndarray) else a for a in given]
        again = call(*given, **more)
        np.testing.assert_equal(again, first[name])
        assert "out" not in more or again is more["out"]


def elsewhere(array):
    """A copy that must not be written."""
    array = array.copy()
    array.flags.writeable = False
    return array


def like(result, view):
    """Memory for a result, a part of more if it is a view."""
    if isinstance(result, tuple):
        return tuple(like(one, view) for one in result)
    if view:
        return np.empty(result.size + 3, result.dtype)[2:-1].reshape(result.shape)
    return np.empty_like(result)


def test_a_call_like_one_before_is_checked_all_the_same(rng):
    x = rng.normal(size=(5, 8)).astype(np.float32)
    best, index = numba_acts.maxout_with_index(x)
    want = numba_acts.softmin(x)
    numba_acts.maxout_vjp(best, index, 8)
    memory = np.zeros(48, np.float32)
    given, out = memory[:40].reshape(5, 8), memory[8:].reshape(5, 8)
    given[:] = x
    got = numba_acts.softmin(given, out=out)  # which lies in x in part
    np.testing.assert_array_equal(got, want)
    given = elsewhere(x)
    with pytest.raises(ValueError, match="read-only"):
        numba_acts.softmin(given, out=given)
    np.testing.assert_array_equal(given, x)
    for wrong in np.empty((5, 8)), np.empty((8, 5), np.float32):
        with pytest.raises((TypeError, ValueError), match="out"):
            numba_acts.softmin(x, out=wrong)
    with pytest.raises(IndexError, match=r"\[0, 8\)"):
        numba_acts.maxout_vjp(best, index + 8, 8)
    given = x.copy()
    where = given.view(bool).ravel()[7:47].reshape(5, 8)  # a mask in the memory of what is replaced
    kept = where.copy()
    want = numba_acts.softmin(x, where=kept)
    np.testing.assert_array_equal(numba_acts.softmin(given, where=where, out=given), want)
    for other in (np.int32, np.float64, ">f4"):
        got = numba_acts.softmin(x.astype(other))
        np.testing.assert_allclose(got, numba_acts.softmin(x.astype(other).astype(float)), 1e-6)
    np.testing.assert_array_equal(numba_acts.softmin(x.T.copy().T), want)


def test_few_calls_are_remembered(rng, monkeypatch):
    monkeypatch.setattr(host, "CALLS", 3)
    for n in range(2, 9):
        x = rng.normal(size=(5, n)).astype(np.float32)
        for _ in range(2):
            cases.assert_agrees(numba_acts.softmin(x), "softmin", (x,), {"axis": -1})
        assert 0 < len(host._softmaxes) <= 3


@pytest.mark.parametrize("name", ["softmax", "product", "maxout", "vjp"])
def test_units_that_hang_on_the_number_of_threads_are_chosen_anew_for_others(
    name, rng, monkeypatch
):
    x = rng.normal(size=(64, launch.PARALLEL_FROM // 4)).astype(np.float32)
    best, index = numba_acts.maxout_with_index(x, 0)
    room, call = {
        "softmax": (forward, lambda: numba_acts.softmin(x, 0)),
        "product": (product, lambda: numba_acts.softmin_vjp(x, x, 0)),
        "maxout": (maxout, lambda: numba_acts.maxout(x, 0)),
        "vjp": (maxout, lambda: numba_acts.maxout_vjp(best, index, 64, 0)),
    }[name]
    expected, choose, choices = call(), getattr(room, name), []
    host.forget()

    def noted(*task):
        choices.append(task)
        return choose(*task)

    monkeypatch.setattr(room, name, noted)

    def chosen(times, most):
        """How many of some calls choose their units."""
        monkeypatch.setattr(threads, "most", lambda: most)
        choices.clear()
        for _ in range(times):
            np.testing.assert_array_equal(call(), expected)
        return len(choices)

    assert chosen(3, most=2) == 1
    assert chosen(3, most=1) == 1
    assert chosen(3, most=2) == 0
    host.forget()
    with monkeypatch.context() as others_compute:
        others_compute.setattr(room, "crew", lambda _: 1)  # until the units are chosen
        assert chosen(3, most=2) == 3
    assert chosen(3, most=2) == 1


@pytest.mark.parametrize("n", [4, 30])
def test_many_rows_like_ones_before_are_divided_by_the_threads_there_are(n, rng, monkeypatch):
    x, g = rng.normal(size=(2, launch.PARALLEL_FROM, n)).astype(np.float32)
    where = rng.random(x.shape) < 0.6
    best, index = numba_acts.maxout_with_index(x)
    calls = {
        "softmin": lambda: numba_acts.softmin(x),
        "masked": lambda: numba_acts.softmin(x, where=where),
        "vjp": lambda: numba_acts.softmin_vjp(g, x),
        "maxout": lambda: numba_acts.maxout(x),
        "maxout's vjp": lambda: numba_acts.maxout_vjp(best, index, n),
    }
    want = {name: call() for name, call in calls.items()}
    for choice in ("forward.softmax", "product.product", "maxout.maxout", "maxout.vjp"):
        monkeypatch.setattr(f"numba_acts._cpu.{choice}", None)
    together, divided = launch.together, []

    def shared(key, *task):
        divided.append(key[0].__name__)
        together(key, *task)

    monkeypatch.setattr(launch, "together", shared)
    for count in (1, 2):
        monkeypatch.setattr(launch, "crew", lambda _, count=count: count)
        assert not divided
        for name, call in calls.items():
            np.testing.assert_array_equal(call(), want[name])
    assert len([name for name in divided if name != "outside"]) == len(calls)
