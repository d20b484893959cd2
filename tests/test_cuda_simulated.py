"""The GPU kernels' own sources in Numba's simulator, in a process of their own:

``NUMBA_ENABLE_CUDASIM=1 python -m pytest tests/test_cuda_simulated.py``

A thread of the simulator takes a third of a millisecond, so shapes are small, and so are the blocks
and chunks that the kernels are made for: the sizes at the top of each file of kernels are divided.
Arrays are those of a stand-in for CuPy, in host memory.
"""

import gc
import inspect
import itertools
import os
import re
import threading
import time
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cases
import numpy as np
import oracle
import pytest

if os.environ.get("NUMBA_ENABLE_CUDASIM") != "1":
    pytest.skip("needs NUMBA_ENABLE_CUDASIM=1, see CONTRIBUTING.md", allow_module_level=True)

import standin

import numba_acts
from numba_acts._cpu import affine as cpu_affine
from numba_acts._cpu import forward as cpu_forward
from numba_acts._cpu import jacobian as cpu_jacobian
from numba_acts._cpu import maxout as cpu_maxout
from numba_acts._cpu import product as cpu_product
from numba_acts._cuda import lanes, launch, slices
from numba_acts._cuda.emit import SIMULATED
from numba_acts._halls import gpu, libraries

# Overflows and NaN are part of the cases; a GPU does not warn of them either.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


standin.install()
standin.share_memory()

slices.NUMBERS = {np.float32: 16, np.float64: 8}
slices.CHUNK_LANES, slices.SPREAD = 64, (1, 2)
slices.ABREAST = {1: ((4, 64), (2, 128), (1, 128)), 2: ((2, 128), (1, 128))}
slices.MOST_THREADS, slices.LONE_THREADS, slices.SMALL = 128, 32, 0
slices.IMAGE_THREADS = {1: 128, 2: 128}
slices.ROW_THREADS = slices.COLUMN_THREADS = 32
slices.JOIN_LANES, slices.TILE_BYTES = 64, 1000

from numba_acts._cuda import affine, copies, forward, jacobian, maxout, product  # noqa: E402

jacobian.JACOBIAN_THREADS = maxout.THREADS = affine.THREADS = copies.THREADS = 32
affine.ROWS, affine.PIECES = 4, 500
CHUNK = {1: 64 * 16, 2: 64 * 8}  # of float32, by the number of operands

ROOMS = (affine, copies, forward, jacobian, maxout, product)


@pytest.fixture
def taken(monkeypatch):
    """The kernels that ran, in order, as room.name."""
    names = []

    def run(kernel, blocks, *arguments):
        names.append(f"{kernel.function.__module__.rpartition('.')[2]}.{kernel.name}")
        launch.run(kernel, blocks, *arguments)

    for room in ROOMS:
        monkeypatch.setattr(room, "run", run)
    monkeypatch.setattr(gpu, "repeat", lambda *given: None)
    return names


def call(name, *arguments, **keywords):
    """The function on arrays of the stand-in, its result as NumPy would give it."""
    there = {key: standin.to_device(value) for key, value in keywords.items()}
    return standin.to_host(getattr(numba_acts, name)(*map(standin.to_device, arguments), **there))


# The case table --------------------------------------------------------------------------------


def small(case):
    """Can it be simulated in a moment, and can a GPU have it?"""
    possible = case.layout not in ("byte-swapped", "misaligned")
    scalars = [a for a in case.build()[0] if isinstance(a, np.generic)] if possible else []
    return possible and not scalars and case.size <= (400 if case.values is cases.nasty else 64)


def chosen():
    """Every fifth of the small cases of a function and dtype, and all that are nasty."""
    seen: dict = {}
    for case in cases.TABLE:
        if case.size <= 400 and small(case):
            key = case.function, case.dtype
            seen[key] = seen.get(key, -1) + 1
            if seen[key] % 5 == 0 or case.values is cases.nasty:
                yield case


@pytest.mark.parametrize("case", list(chosen()), ids=str)
def test_values(case):
    arguments, keywords = case.build()
    got = call(case.function, *arguments, **keywords)
    if case.function in cases.SLICES + cases.JACOBIANS[:1]:
        keywords = {"axis": case.axis, **keywords}
    cases.assert_agrees(got, case.function, arguments, keywords)


# Every traversal -------------------------------------------------------------------------------

LONG = ["rows", "join", "finish_rows"]
LONG_COLUMNS = ["columns", "join", "finish_columns"]
FORWARD = [
    ((5, 1), -1, ["rows"]),  # many rows in a thread
    ((9, 6), -1, ["rows"]),  # some lanes of a warp a row
    ((3, 200), -1, ["rows"]),  # a warp a row
    ((2, CHUNK[1]), -1, ["rows"]),  # warps that meet
    ((2, CHUNK[1] + 3), -1, ["spread"]),  # two chunks of a block, one after the other
    ((3, 3 * CHUNK[1] + 4), -1, ["spread"]),  # and side by side
    ((3, 4 * CHUNK[1] + 4), -1, LONG),
    ((2, 3, 5), 1, ["columns"]),
    ((2, 3, 8), 1, ["columns"]),  # four neighbours in a thread
    ((1, 40, 3), 1, ["columns"]),  # warps that share
    ((2, 40, 40), 1, ["columns"]),  # the same, four columns of a thread
    ((2, 300, 40), 1, ["columns"]),  # two
    ((1, 700, 3), 1, ["columns"]),  # lanes and warps that share
    ((8, 6, 7), 1, ["images"]),  # several images in a block, fewer in the last
    ((7, 6, 7), 1, ["images"]),  # that don't fill accesses
    ((2, 41, 11), 1, ["images"]),  # warps that share
    ((2, 41, 39), 1, ["images"]),  # the same, in several turns
    ((2, 600, 3), 1, ["images"]),  # lanes and warps that share
    ((2, CHUNK[1] + 3, 1, 2), 1, LONG_COLUMNS),
]


@pytest.mark.parametrize("n", [1, 2, 3])
def test_many_rows_are_taken_together(n, monkeypatch, rng):
    """A thread has several, where there are enough for all multiprocessors; no bit changes."""
    seen = []
    for room in (forward, product):
        given = room.run

        def run(kernel, *task, run=given):
            seen.append(kernel.constants[1])
            run(kernel, *task)

        monkeypatch.setattr(room, "run", run)
    monkeypatch.setattr(gpu, "repeat", lambda *given: None)
    x, g = rng.normal(size=(2, 75, n)).astype(np.float32)
    results = []
    for blocks in (1, 0):
        monkeypatch.setattr(slices, "FROM_BLOCKS", blocks)
        launch._plans.clear()
        y = call("softmin", x, -1)
        results.append((y, call("softmin_vjp", g, y, -1)))
    launch._plans.clear()
    assert seen[:2] == [1, 1] and min(seen[2:]) > 1
    np.testing.assert_array_equal(*(y for y, _ in results))
    np.testing.assert_array_equal(*(dx for _, dx in results))
    cases.assert_agrees(results[1][0], "softmin", (x,), {"axis": -1})


def test_a_small_grid_has_narrow_blocks(monkeypatch, rng):
    """No multiprocessor idles where columns are few and neighbours can be told apart."""
    threads = []
    monkeypatch.setattr(forward, "run", lambda kernel, *_: threads.append(kernel.threads))
    for columns in (8, 24, 60):
        call("softmin", rng.normal(size=(1, 40, columns)).astype(np.float32), 1)
    assert threads == [4 * 8, 4 * 16, 4 * 32]


def of(room, names):
    """Names of kernels as `taken` has them."""
    return [f"{room}.{name}" for name in names]


def assert_paths(taken, expected):
    """The kernels, as often as there were batches."""
    assert taken == expected * (len(taken) // len(expected)) and taken


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("shape", "axis", "expected"), FORWARD)
def test_forward(shape, axis, expected, masked, taken, rng):
    x = rng.normal(size=shape).astype(np.float32)
    keywords = {"where": rng.random(shape) < 0.7} if masked else {}
    y = call("softmin", x, axis, **keywords)
    assert_paths(taken, of("forward", expected))
    cases.assert_agrees(y, "softmin", (x,), {"axis": axis, **keywords})


@pytest.mark.parametrize(("dtype", "masked"), [("float32", True), ("float64", False)])
@pytest.mark.parametrize(("shape", "axis"), [path[:2] for path in FORWARD[1:]])
def test_subnormal_weights_are_rounded_once(shape, axis, masked, dtype, rng):
    x = cases.faint(rng, shape, dtype, axis)
    keywords = {"where": rng.random(shape) < 0.7} if masked else {}
    cases.assert_rounded_once(call("softmin", x, axis, **keywords), x, axis, **keywords)


@pytest.mark.parametrize("dtype", cases.FAINT)
@pytest.mark.parametrize("shape", [(1, 3, 1), (1, 3, 2), (24, 3, 7)])
def test_a_subnormal_weight(shape, dtype):
    """Alone, in columns, in images."""
    distances, units = cases.FAINT[dtype]
    x = np.broadcast_to(np.array(distances, dtype)[:, None], shape).copy()
    y = call("softmin", x, 1)
    np.testing.assert_array_equal(y[:, 2], units * cases.SMALLEST[dtype])


PRODUCT = [
    ((9, 6), -1, ["rows"]),
    ((3, 200), -1, ["rows"]),
    ((2, CHUNK[2] + 3), -1, ["spread"]),
    ((2, 3 * CHUNK[2] + 1), -1, ["spread"]),
    ((2, 4 * CHUNK[2] + 1), -1, ["rows", "join", "finish_rows"]),
    ((2, 3, 5), 1, ["columns"]),
    ((2, 3, 8), 1, ["columns"]),
    ((1, 40, 3), 1, ["columns"]),
    ((2, 40, 40), 1, ["columns"]),
    ((8, 6, 7), 1, ["images"]),
    ((7, 6, 7), 1, ["images"]),
    ((2, 41, 11), 1, ["images"]),
    ((2, 41, 39), 1, ["images"]),
    ((2, 300, 3), 1, ["images"]),
    ((1, CHUNK[2] + 3, 2), 1, LONG_COLUMNS),
]


@pytest.mark.parametrize(("shape", "axis", "expected"), PRODUCT)
def test_product(shape, axis, expected, taken, rng):
    g = rng.normal(size=shape).astype(np.float32)
    y = cases.distribution(rng, shape, "float32", axis)
    dx = call("softmin_vjp", g, y, axis)
    assert_paths(taken, of("product", expected))
    cases.assert_agrees(dx, "softmin_vjp", (g, y), {"axis": axis})


@pytest.mark.parametrize("name", ["softmin", "softmin_vjp"])
@pytest.mark.parametrize(
    ("shape", "axis"), [((1, CHUNK[2] + 3), -1), ((1, 700, 3), 1), ((2, 41, 39), 1)]
)
def test_no_warp_is_overtaken(shape, axis, name, monkeypatch, rng):
    """One that is slow to take what others have left finds it there still."""
    take = slices.take

    def take_slowly(*arguments):
        if getattr(threading.current_thread(), "thread_id", 0) // 32 == 1:
            time.sleep(0.2)
        take(*arguments)

    y = cases.distribution(rng, shape, "float32", axis)
    given = (y,) if name == "softmin" else (rng.normal(size=shape).astype(np.float32), y)
    for room in (slices, forward, product):
        monkeypatch.setattr(room, "take", take_slowly)
    cases.assert_agrees(call(name, *given, axis), name, given, {"axis": axis})


@pytest.mark.parametrize(
    ("shape", "axis", "expected"),
    [
        *[((3, n), 1, ["jacobian_rows"]) for n in (1, 2, 5, 8, 40, 70)],  # of four rows, or fewer
        ((2, 5, 4), 1, ["jacobian_columns"]),
        ((2, 3, 7), 1, ["jacobian_columns"]),
    ],
)
def test_jacobian(shape, axis, expected, taken, rng):
    y = cases.distribution(rng, shape, "float32", axis)
    matrices = call("softmin_jacobian", y, axis)
    assert taken == of("jacobian", expected)
    cases.assert_agrees(matrices, "softmin_jacobian", (y,), {"axis": axis})


def test_diagonal(taken, rng):
    y = rng.random((5, 7), np.float32)
    diagonal = call("softmin_jacobian_diag", y)
    assert taken == ["jacobian.diagonal"]
    cases.assert_agrees(diagonal, "softmin_jacobian_diag", (y,), {})


MAXOUT = [
    *[((n, k), -1, "few", "vjp_rows") for k in (1, 2, 3, 4, 5, 8) for n in (7, 40)],
    *[((8, k), -1, "few", "vjp_rows") for k in (9, 12, 32)],
    ((5, 33), -1, "rows", "vjp_rows"),
    ((3, 40), -1, "rows", "vjp_rows"),
    ((2, 3, 7), 1, "columns", "vjp_columns"),
    ((2, 12, 8), 1, "columns", "vjp_columns"),
]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8", "uint64"])
@pytest.mark.parametrize(("shape", "axis", "forth", "back"), MAXOUT)
def test_maxout(shape, axis, forth, back, dtype, taken, rng):
    x = cases.with_ties(rng, shape, dtype)
    y, index = call("maxout_with_index", x, axis)
    assert taken == of("maxout", [forth])
    cases.assert_agrees((y, index), "maxout_with_index", (x,), {"axis": axis})
    arguments = y, index, shape[axis], axis
    dx = call("maxout_vjp", *arguments)
    assert taken == of("maxout", [forth, back])
    cases.assert_agrees(dx, "maxout_vjp", arguments, {})
    dy = call("maxout_jvp", x, index, axis)
    assert taken[-1] == "maxout.jvp"
    cases.assert_agrees(dy, "maxout_jvp", (x, index, axis), {})


@pytest.fixture
def started(monkeypatch):
    """The kernels of `maxout` and `jacobian` that ran, in order."""
    kernels = []

    def run(kernel, *arguments):
        kernels.append(kernel)
        launch.run(kernel, *arguments)

    for room in (maxout, jacobian):
        monkeypatch.setattr(room, "run", run)
    monkeypatch.setattr(gpu, "repeat", lambda *given: None)
    return kernels


@pytest.mark.parametrize(
    ("dtype", "shape", "name", "lengths"),  # of the pieces, units and accesses together
    [
        ("float32", (8, 9), "few", (9, 4, 4, 4)),
        ("float32", (6, 9), "few", (9, 2, 2, 2)),
        ("float32", (7, 9), "few", (9, 1, 1, 1)),  # near enough to each other
        ("float32", (7, 12), "few", (12, 1, 4, 1)),
        ("float32", (8, 31), "few", (31, 2, 2, 2)),  # no room for four
        ("float32", (7, 31), "rows", ()),  # too narrow, too far apart
        ("float32", (7, 32), "few", (32, 1, 4, 1)),
        ("float16", (8, 9), "few", (9, 8, 8, 4)),
        ("float16", (8, 31), "rows", ()),
        ("int8", (16, 7), "few", (7, 8, 8, 4)),
        ("float64", (8, 32), "few", (32, 1, 2, 1)),
    ],
)
def test_units_together(dtype, shape, name, lengths, started, rng):
    x = cases.with_ties(rng, shape, dtype)
    cases.assert_agrees(call("maxout_with_index", x), "maxout_with_index", (x,), {})
    (kernel,) = started
    assert kernel.name == name
    assert tuple(map(len, kernel.constants[: len(lengths)])) == lengths


@pytest.mark.parametrize(
    ("dtype", "shape", "lengths"),  # pieces or 0, units touched, what is written and read at once
    [
        ("float32", (8, 1), (1, 4, 4, 4)),
        ("float32", (8, 2), (2, 2, 4, 2)),
        ("float32", (7, 2), (2, 2, 4, 1)),  # the last two numbers alone
        ("float32", (7, 3), (3, 2, 4, 1)),  # the last one
        ("float32", (7, 4), (4, 1, 4, 1)),
        ("float32", (40, 5), (5, 2, 4, 1)),
        ("float32", (7, 12), (12, 1, 4, 1)),
        ("float32", (3, 400), (0, 1, 4, 1)),
        ("float32", (3, 401), (0, 2, 4, 1)),
        ("bfloat16", (50, 3), (3, 4, 8, 1)),
        ("bfloat16", (8, 2), (2, 4, 8, 4)),
        ("int8", (50, 3), (3, 6, 16, 1)),
        ("int8", (33, 5), (5, 4, 16, 1)),
        ("float64", (5, 3), (3, 2, 2, 1)),
    ],
)
@pytest.mark.parametrize("ones", [False, True])
def test_a_gradient_is_written_whole(dtype, shape, lengths, ones, started, rng):
    pieces = shape[1]
    index = rng.integers(-1, pieces + 1, shape[0]).astype(np.int32)
    given = (index, pieces) if ones else (cases.with_ties(rng, shape[:1], dtype), index, pieces)
    name, keywords = (
        ("maxout_jacobian", {"dtype": cases.as_dtype(dtype)}) if ones else ("maxout_vjp", {})
    )
    cases.assert_agrees(call(name, *given, **keywords), name, given, keywords)
    (kernel,) = started
    assert (kernel.name, tuple(map(len, kernel.constants[:4]))) == ("vjp_rows", lengths)


def test_a_gradient_that_is_not_aligned(started, rng):
    g, index = rng.normal(size=8).astype(np.float32), np.arange(8, dtype=np.int32) % 2
    buffer = np.zeros(17, np.float32)
    place = next(i for i in range(2) if (buffer.ctypes.data + 4 * i) % 8)
    out = buffer[place : place + 16].reshape(8, 2)
    numba_acts.maxout_vjp(standin.Array(g), standin.Array(index), 2, out=standin.Array(out))
    cases.assert_agrees(out, "maxout_vjp", (g, index, 2), {})
    assert tuple(map(len, started[0].constants[:4])) == (2, 1, 1, 1)


@pytest.mark.parametrize("shape", [(70, 5), (3, 40), (3, 3, 70), (3, 3, 72)])
def test_quotients_of_64_bits(shape, monkeypatch, rng):
    """What 32 bits can't divide."""
    for room in (maxout, jacobian):
        monkeypatch.setattr(room, "short", lambda *sizes: False)
    monkeypatch.setattr(launch, "_plans", {})
    x = cases.with_ties(rng, shape, "float32")
    y, index = call("maxout_with_index", x, 1)
    cases.assert_agrees((y, index), "maxout_with_index", (x,), {"axis": 1})
    for name, given in [("vjp", (y, index, shape[1], 1)), ("jvp", (x, index, 1))]:
        cases.assert_agrees(call(f"maxout_{name}", *given), f"maxout_{name}", given, {})
    y = cases.distribution(rng, shape, "float32", 1)
    cases.assert_agrees(call("softmin_jacobian", y, 1), "softmin_jacobian", (y,), {"axis": 1})


def test_quotients_of_32_bits(rng):
    """They hold for whatever may be divided."""
    for divisor in (1, 3, 1000, 2**22 - 1, 2**23):
        assert lanes.short(divisor, 512) and not lanes.short(2**23 + 1, 512)
        for block in (0, 1, divisor - 1, divisor, 2**31 - 1, *rng.integers(2**31, size=20)):
            for offset in (0, 511):
                got = lanes.divided(int(block), 512, offset, divisor, True)
                assert got == (int(block) * 512 + offset) // divisor


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32"])
def test_affine(dtype, taken, rng):
    x, weight, bias = (
        cases.whole_numbers(rng, shape, dtype) for shape in [(9, 6), (5, 3, 6), (5, 3)]
    )
    y, index = call("maxout_affine_with_index", x, weight, bias)
    products = ["affine.integer_products"] if dtype == "int32" else []
    assert_paths(taken, [*products, "maxout.few"])
    assert len(taken) > len(products) + 1, "more than one batch of rows"
    cases.assert_agrees((y, index), "maxout_affine_with_index", (x, weight, bias), {})
    taken.clear()
    given = y, x, weight, index
    cases.assert_agrees(call("maxout_affine_vjp", *given), "maxout_affine_vjp", given, {})
    assert {"affine.fill", "maxout.vjp_rows", "affine.accumulate"} <= set(taken)
    arguments, tangents = (x, weight, index), {"dx": x, "dweight": weight, "dbias": bias}
    dy = call("maxout_affine_jvp", *arguments, **tangents)
    cases.assert_agrees(dy, "maxout_affine_jvp", arguments, tangents)
    rows = call("maxout_affine_jacobian", weight, index)
    assert taken[-1] == "affine.selected" and "affine.tangent" in taken
    cases.assert_agrees(rows, "maxout_affine_jacobian", (weight, index), {})


def test_every_kernel_has_its_path():
    """Those asserted above are all there are."""
    factories = {
        made.factory for room in ROOMS for made in vars(room).values() if hasattr(made, "factory")
    }
    made = {f"{f.__module__.rpartition('.')[2]}.{f.__name__}" for f in factories}
    tables = ("forward", FORWARD), ("product", PRODUCT)
    paths = {name for room, table in tables for *_, names in table for name in of(room, names)}
    pieces = of("maxout", ["jvp", *(name for *_, forth, back in MAXOUT for name in (forth, back))])
    layers = of("affine", ["integer_products", "fill", "accumulate", "tangent", "selected"])
    others = of("jacobian", ["jacobian_rows", "jacobian_columns", "diagonal"]) + ["copies.strided"]
    assert made == {*paths, *pieces, *others, *layers}


def test_the_simulator_is_what_ran():
    assert SIMULATED


# One answer, wherever a slice lies -------------------------------------------------------------

LENGTHS = [1, 2, 3, 4, 7, 8, 16, 17, 30, 40, 70, 130, 600, CHUNK[1] + 3, 2 * CHUNK[1] + 2]


@pytest.mark.parametrize("n", LENGTHS)
def test_a_column_has_the_bits_of_a_row(n, rng):
    x, g = rng.normal(size=(2, 1, n, 2)).astype(np.float32)
    y = call("softmin", x, 1)
    dx = call("softmin_vjp", g, y, 1)
    for column in range(2):
        alone, given = x[0, :, column].copy(), g[0, :, column].copy()
        np.testing.assert_array_equal(call("softmin", alone), y[0, :, column])
        alone = call("softmin_vjp", given, y[0, :, column].copy())
        np.testing.assert_array_equal(alone, dx[0, :, column])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize("n", [1, 3, 8, 40, 130, 250])
def test_a_staged_column_has_the_bits_of_a_row(n, dtype, taken, rng):
    outer = 2 * max(1, -(-1000 // (n * 12)))
    x, g = rng.normal(size=(2, outer, n, 3)).astype(cases.as_dtype(dtype))
    y = call("softmin", x, 1)
    dx = call("softmin_vjp", g, y, 1)
    assert taken == ["forward.images", "product.images"]
    rows = [np.ascontiguousarray(a.transpose(0, 2, 1)) for a in (x, g, y)]
    np.testing.assert_array_equal(call("softmin", rows[0]), rows[2])
    np.testing.assert_array_equal(call("softmin_vjp", *rows[1:]).transpose(0, 2, 1), dx)


@pytest.mark.parametrize("n", [4, 8, 130, 260])
def test_a_misaligned_row_has_the_same_bits(n, rng):
    x = rng.normal(size=(2, n)).astype(np.float32)
    buffer = np.empty(2 * n + 4, np.float32)
    place = next(i for i in range(4) if (buffer.ctypes.data + 4 * i) % 16 == 4)
    shifted = buffer[place : place + 2 * n].reshape(2, n)
    shifted[...] = x
    y = call("softmin", x)
    np.testing.assert_array_equal(call("softmin", shifted), y)
    np.testing.assert_array_equal(call("softmin_vjp", shifted, y), call("softmin_vjp", x, y))
    shifted_index = call("maxout_with_index", shifted)
    for got, want in zip(shifted_index, call("maxout_with_index", x), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", ["int8", "float16", "float32"])
@pytest.mark.parametrize("index_dtype", ["int8", "int32", "int64"])
def test_a_plan_serves_results_of_its_alignment(dtype, index_dtype, rng):
    """Results 64 bytes apart at first, then 16: the kernel that is remembered takes both."""
    x = cases.with_ties(rng, (32, 3), dtype)
    buffer = np.zeros(64 + 32 * 8 + 16, np.uint8)
    first = -buffer.ctypes.data % 64
    for start in (first, first + 16):
        y = np.zeros(32, x.dtype)
        index = buffer[start : start + 32 * np.dtype(index_dtype).itemsize].view(index_dtype)
        out = standin.Array(y), standin.Array(index)
        numba_acts.maxout_with_index(standin.Array(x), index_dtype=index_dtype, out=out)
        cases.assert_agrees((y, index.astype("i4")), "maxout_with_index", (x,), {})


def test_a_tile_of_images_fits_every_device(monkeypatch):
    """Beside the memory in which warps meet."""
    monkeypatch.setattr(slices, "TILE_BYTES", 24 << 10)
    for shared in (48 << 10, 64 << 10, 227 << 10):
        found = launch.Device(28, shared, 2 << 20)
        monkeypatch.setattr(slices, "device", lambda number, found=found: found)
        queue = launch.Queue(0, 0, None, None)
        for operands, n, inner in itertools.product((1, 2), range(2, 257), (3, 5, 25, 49)):
            size = 1024 * n * inner
            memory = launch.Memory(256, np.dtype(np.float32), size, queue)
            ordered = slices.order(n, memory.dtype, 4, operands)
            images = slices.images_together(operands, ordered, (memory, memory), 1024, n, inner)
            tile = operands * images * n * inner * 4
            assert tile + slices.MEETING_BYTES <= shared, (shared, operands, n, inner)


def test_long_rows_fit_every_device(monkeypatch):
    """Those that one reading is enough for: the chunks a block keeps have room in it."""
    monkeypatch.setattr(slices, "NUMBERS", {np.float32: 32, np.float64: 16})
    monkeypatch.setattr(slices, "CHUNK_LANES", 128)
    monkeypatch.setattr(slices, "SPREAD", (2, 4, 8))
    queue, longest = launch.Queue(0, 0, None, None), {}
    for shared, clusters in ((48 << 10, 1), (99 << 10, 1), (163 << 10, 1), (227 << 10, 8)):
        found = launch.Device(108, shared, 40 << 20, clusters)
        monkeypatch.setattr(slices, "device", lambda number, found=found: found)
        for operands, n in itertools.product((1, 2), range(4100, 600_000, 5236)):
            memory = launch.Memory(256, np.dtype(np.float32), 1000 * n, queue)
            ordered = slices.order(n, memory.dtype, 4, operands)
            given = operands, ordered, (0,) * 4, (memory, memory), 1000, (np.float32,)
            chosen: Any = slices.spread_for(lambda *constants: constants, *given)
            if chosen:
                constants, blocks = chosen
                side, held = len(constants[0]), constants[1]
                size = blocks.size if isinstance(blocks, launch.Clusters) else 1
                assert slices.spread_bytes(operands)(*constants) + slices.MEETING_BYTES <= shared
                assert size <= clusters
                assert ordered.chunks <= side * size * (1 if held else 2)
                longest[shared, operands] = n
    assert all(longest[227 << 10, k] > longest[163 << 10, k] > longest[99 << 10, k] for k in (1, 2))


@pytest.mark.parametrize("n", [3, 10, 40, 300])
def test_a_row_has_the_same_bits_in_any_batch(n, rng):
    x = rng.normal(size=(9, n)).astype(np.float32)
    y = call("softmin", x)
    for row in (0, 4, 8):
        np.testing.assert_array_equal(call("softmin", x[row : row + 1].copy()), y[row : row + 1])


# The hall --------------------------------------------------------------------------------------


def test_out_is_filled_and_returned(rng):
    x = rng.normal(size=(3, 5)).astype(np.float32)
    out = standin.Array(np.full((3, 5), 77, np.float32))
    assert numba_acts.softmin(standin.Array(x), out=out) is out
    np.testing.assert_array_equal(out.array, call("softmin", x))


X, Y = np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 2, 2), np.full((2, 3), 0.5, "f4")
WINNERS, MASK = np.array([1, 0], np.int32), np.arange(24).reshape(X.shape) % 3 > 0
P = cases.distribution(np.random.default_rng(0), X.shape, "float32", 1)
SHORT = [
    ("softmin", (X, 1), {}),
    ("softmin", (X, 1), {"where": MASK}),
    ("softmax2d", (X,), {"temperature": 2.0}),
    ("softmax2d", (X,), {"where": MASK}),
    ("softmin_vjp", (Y, Y), {}),
    ("softmin_jacobian", (P,), {"axis": 1}),
    ("softmax2d_jacobian", (P,), {}),
    ("softmin_jacobian_diag", (Y,), {}),
    ("softmax2d_jacobian_diag", (P,), {}),
    ("maxout", (X, 1), {}),
    ("maxout_with_index", (X, -1), {}),
    ("maxout_vjp", (Y[:, 0].copy(), WINNERS, 3), {}),
    ("maxout_vjp", (Y[:, 0].copy(), WINNERS.astype(np.int64), 3, 0), {}),
    ("maxout_jvp", (Y, WINNERS), {}),
]


@pytest.mark.parametrize(("name", "arguments", "keywords"), SHORT)
def test_dense_arrays_have_a_short_way(name, arguments, keywords, monkeypatch, rng):
    """A second call looks at its arrays once, and fills a dense `out`."""
    cases.assert_agrees(call(name, *arguments, **keywords), name, arguments, keywords)  # know them
    monkeypatch.setattr(gpu, "Call", None)
    got = call(name, *arguments, **keywords)
    cases.assert_agrees(got, name, arguments, keywords)
    out = tuple(map(np.zeros_like, got)) if isinstance(got, tuple) else np.zeros_like(got)
    there = tuple(map(standin.Array, out)) if isinstance(out, tuple) else standin.Array(out)
    moved = {key: standin.to_device(value) for key, value in keywords.items()}
    function = getattr(numba_acts, name)
    assert function(*map(standin.to_device, arguments), **moved, out=there) is there
    for filled, want in zip(
        *(a if isinstance(a, tuple) else (a,) for a in (out, got)), strict=True
    ):
        np.testing.assert_array_equal(filled, want)


def test_the_short_way_leaves_overlapping_results_to_the_long_one(rng):
    buffer = np.zeros(40, np.float32)
    y = cases.distribution(rng, (2, 3), "float32", 1)
    buffer[4:10] = y.ravel()
    given, out = (
        standin.Array(buffer[4:10].reshape(2, 3)),
        standin.Array(buffer[:18].reshape(2, 3, 3)),
    )
    numba_acts.softmin_jacobian(given, out=out)
    cases.assert_agrees(out.array, "softmin_jacobian", (y,), {})
    buffer[4:10] = y.ravel()
    best = standin.Array(buffer[4:6])
    numba_acts.maxout(given, out=best)
    np.testing.assert_array_equal(best.array, y.max(1))
    mask = np.ones((2, 12), bool)
    x, over = rng.normal(size=(2, 3)).astype(np.float32), mask.reshape(-1).view(np.float32)
    numba_acts.softmin(
        standin.Array(x),
        where=standin.Array(mask.reshape(-1)[:6].reshape(2, 3)),
        out=standin.Array(over.reshape(2, 3)),
    )
    cases.assert_agrees(over.reshape(2, 3), "softmin", (x,), {})


@pytest.mark.parametrize("layout", ["F", "sliced", "negative", "transposed", "padded"])
def test_out_of_any_layout(layout, rng):
    x = rng.normal(size=(3, 5)).astype(np.float32)
    out = cases.blank((3, 5), np.float32, layout)
    numba_acts.softmin(standin.Array(x), 0, out=standin.Array(out))
    np.testing.assert_array_equal(out, call("softmin", x, 0))


def test_in_place_and_overlapping(rng):
    x = rng.normal(size=(4, 6)).astype(np.float32)
    want = call("softmin", x[:3].copy())
    for first, second in [(0, 0), (0, 1), (1, 0)]:
        buffer = np.zeros((4, 6), np.float32)
        buffer[first : first + 3] = x[:3]
        given, out = buffer[first : first + 3], buffer[second : second + 3]
        numba_acts.softmin(standin.Array(given), out=standin.Array(out))
        np.testing.assert_array_equal(out, want)


BROADCAST = np.lib.stride_tricks.as_strided(np.empty(3, np.float32), (2, 3), (0, 4))


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"out": standin.Array(np.empty((2, 2), np.float32))}, ValueError, r"out .*\(2, 2\)"),
        ({"out": standin.Array(np.empty((2, 3)))}, ValueError, "out .*float32.*float64"),
        ({"out": standin.Array(BROADCAST)}, ValueError, "out must be writeable.*broadcast"),
        ({"out": np.empty((2, 3), np.float32)}, TypeError, "out is in host memory"),
        ({"where": np.ones((2, 3), bool)}, TypeError, "where is in host memory"),
        ({"where": [[True, False, True]] * 2}, TypeError, "where is in host memory"),
        ({"where": standin.Array(np.ones((2, 3)))}, TypeError, "boolean mask"),
        ({"where": standin.Array(np.ones(2, bool))}, ValueError, "broadcast"),
        ({"axis": 2}, np.exceptions.AxisError, "axis 2"),
        ({"temperature": 0.0}, ValueError, "temperature"),
    ],
)
def test_errors_come_before_anything_is_written(keywords, error, message, taken):
    x = standin.Array(np.zeros((2, 3), np.float32))
    with pytest.raises(error, match=message):
        numba_acts.softmin(x, **keywords)
    assert not taken


class Sometimes:
    """An array of a library whose interface is there for those on a GPU alone."""

    def __init__(self, array, there):
        self.array, self.shape, self.dtype, self.there = array, array.shape, array.dtype, there

    @property
    def __cuda_array_interface__(self):
        if not self.there:
            raise AttributeError("not on a GPU")
        return standin.Array(self.array).__cuda_array_interface__


def test_arrays_of_a_library_that_are_not_all_there():
    array = np.zeros((2, 3), np.float32)
    there, here = Sometimes(array, True), Sometimes(array, False)
    numba_acts.softmin(there, out=Sometimes(array.copy(), True))  # the type is known from here on
    for call in (
        lambda: numba_acts.softmin_vjp(here, there),
        lambda: numba_acts.softmin_vjp(there, here),
        lambda: numba_acts.softmin(here, out=there),
        lambda: numba_acts.softmin(there, out=here),
        lambda: numba_acts.softmin(there, where=here),
    ):
        with pytest.raises(TypeError, match="arrays must all be in one memory"):
            call()


class Streamed:
    """An array of nobody's, which names its stream; its memory is the host's."""

    def __init__(self, array, stream):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        described = {**standin.Array(array).__cuda_array_interface__, "strides": None}
        self.__cuda_array_interface__ = {**described, "stream": stream}


@pytest.mark.parametrize("streams", [(5, 5, 5), (5, 7, 5), (5, 7, 9), (5, None, 5)])
def test_streams_wait_for_each_other(streams, taken, monkeypatch, rng):
    """The first array's for the others', and that of `out` for the result."""

    def wait(device, stream, other):
        if stream != other:
            taken.append((stream, other))

    monkeypatch.setattr(launch, "wait", wait)
    first, *_, last = streams
    before = [(first, other) for other in streams[1:] if other not in (first, None)]
    after = [] if last == first else [(last, first)]
    g, y = rng.normal(size=(2, 3, 5)).astype(np.float32)
    for _ in range(2):  # the second time, arrays of one stream go the short way
        out = np.zeros((3, 5), np.float32)
        ours, theirs, into = map(Streamed, (g, y, out), streams)
        numba_acts.softmin_vjp(ours, theirs, out=into)
        assert taken == [*before, "product.rows", *after]
        cases.assert_agrees(out, "softmin_vjp", (g, y), {})
        taken.clear()


def test_results_keep_the_stream_of_numba_arrays(monkeypatch):
    """Numba ends a stream when nobody holds its object for it any more."""
    kept = []

    def device_array(shape, strides, dtype, device, stream):
        kept.append(stream)
        return SimpleNamespace(device_ctypes_pointer=SimpleNamespace(value=0))

    class Stream:
        def __int__(self):
            return 5

    monkeypatch.setattr(libraries, "_device_array", device_array)
    library, stream = libraries.Numba(), Stream()
    queue = library.queue(SimpleNamespace(stream=stream), 0)
    library.empty((3,), None, np.dtype(np.float32), queue)
    assert queue.stream == 5 and kept == [stream]


@pytest.mark.parametrize("dtype", [np.complex64, "M8[s]", "S3"])
def test_dtypes_that_are_refused(dtype):
    with pytest.raises(TypeError, match="x must be of dtype"):
        numba_acts.softmin(standin.Array(np.zeros(3, dtype)))


@pytest.mark.parametrize("bad", [-1, 3, 2**31 - 1, -(2**31)])
@pytest.mark.parametrize("shape", [(4, 3), (4, 12)])
def test_an_index_out_of_range_selects_nothing(bad, shape, rng):
    pieces = shape[-1]
    bad = pieces if bad == 3 else bad
    index = np.array([0, bad, 1, 2], np.int32)
    g = np.ones(4, np.float32)
    dx = call("maxout_vjp", g, index, pieces)
    np.testing.assert_array_equal(dx[1], 0)
    np.testing.assert_array_equal(dx[[0, 2, 3], [0, 1, 2]], 1)
    assert dx.sum() == 3
    dy = call("maxout_jvp", np.ones(shape, np.float32), index)
    np.testing.assert_array_equal(dy, [1, 0, 1, 1])
    jacobian = call("maxout_affine_jacobian", np.ones((pieces, 2), np.float32), index)
    np.testing.assert_array_equal(jacobian.sum(-1), [2, 0, 2, 2])


def test_results_stay_where_they_were_asked_for(rng):
    y, index = numba_acts.maxout_with_index(standin.Array(rng.normal(size=(3, 2))))
    assert type(y) is type(index) is standin.Array
    assert index.dtype == np.int32


def test_byte_swapped_arrays_are_refused_on_every_way():
    index = standin.Array(np.array([0, 1], ">i4"))
    numba_acts.maxout_vjp(standin.Array(np.ones(2)), standin.Array(np.array([0, 1])), 3)
    for out in (None, standin.Array(np.empty((2, 3)))):
        with pytest.raises(TypeError, match=r"index must be .* got >i4"):
            numba_acts.maxout_vjp(standin.Array(np.ones(2)), index, 3, out=out)


def test_rank_zero_stays_on_the_device():
    y = numba_acts.softmin(standin.Array(np.array(2.5)))
    assert type(y) is standin.Array and y.shape == () and y.array == 1.0


# The same names in _cpu and _cuda ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "here", "there"),
    [
        ("softmax", forward, cpu_forward),
        ("product", product, cpu_product),
        *[(n, jacobian, cpu_jacobian) for n in ("jacobians", "diagonals")],
        *[(n, maxout, cpu_maxout) for n in ("maxout", "vjp", "jvps")],
        *[
            (n, affine, cpu_affine)
            for n in ("affine", "affine_vjp", "affine_jvp", "affine_jacobian")
        ],
    ],
)
def test_the_same_duty_has_the_same_arguments(name, here, there):
    ours, theirs = (inspect.signature(getattr(room, name)).parameters for room in (here, there))
    assert list(ours) == list(theirs)


def test_the_oracle_is_the_judge():
    """A wrong result is found out: the comparison is not with the library itself."""
    x = np.arange(6.0).reshape(2, 3)
    with pytest.raises(AssertionError):
        cases.assert_agrees(oracle.softmin(x, 0), "softmin", (x,), {"axis": 1})


# What the guide shows -------------------------------------------------------------------------


def test_the_kernels_of_the_guide(rng):
    guide = Path(__file__).parents[1] / "docs/guides/kernels.md"
    (code,) = re.findall(r"^```python\n(.+?)^```", guide.read_text("utf-8"), re.M | re.S)
    shown: dict = {}
    exec(code, shown)
    x = rng.normal(size=(9, 30)).astype(np.float32)
    y = np.empty_like(x)
    shown["softmin_rows"][2, 64](x, y)
    np.testing.assert_allclose(y, oracle.softmin(x), rtol=1e-6)
    x = rng.normal(size=(1, 1000)).astype(np.float32)
    y = np.empty_like(x)
    shown["softmax_rows"][1, 256](x, y, 0.5)
    np.testing.assert_allclose(y, oracle.softmin(-x, temperature=2.0), rtol=2e-6)


# Calls that are made again ---------------------------------------------------------------------


REPEATED: dict[str, tuple[tuple, dict]] = {
    "softmin": (((6, 5),), {}),
    "softmin, masked": (((6, 5),), {"where": True}),
    "softmin_vjp": (((6, 5), (6, 5)), {"axis": 0}),
    "softmin_jacobian": (((4, 3),), {}),
    "softmin_jacobian_diag": (((4, 3),), {}),
    "softmax2d": (((3, 2, 2),), {}),
    "maxout": (((6, 4),), {}),
    "maxout_with_index": (((6, 4),), {}),
    "maxout_vjp": (((6,), "index"), {"pieces": 3}),
    "maxout_jvp": (((6, 4), "index"), {}),
}


@pytest.mark.parametrize("into", [False, True])
@pytest.mark.parametrize("name", REPEATED)
def test_a_call_that_is_made_again_is_the_same(name, into, rng, monkeypatch):
    shapes, keywords = REPEATED[name]
    function = name.partition(",")[0]

    def made():
        given = [
            rng.integers(0, 3, 6).astype(np.int32)
            if shape == "index"
            else rng.normal(size=shape).astype(np.float32)
            for shape in shapes
        ]
        more = {k: rng.random(shapes[0]) < 0.5 if v is True else v for k, v in keywords.items()}
        return given, more

    for _ in range(2):  # the first may be the first array of its kind
        given, more = made()
        call(function, *given, **more)
    kept = []
    original = gpu.repeat

    def repeat(*given):
        kept.append(original(*given))
        return kept[-1]

    monkeypatch.setattr(gpu, "repeat", repeat)
    for _ in range(2 + into):
        given, more = made()
        want = getattr(numba_acts, function)(*given, **more)
        if into:
            empty = standin.empty_like
            pair = isinstance(want, tuple)
            out = tuple(map(empty, want)) if pair else empty(want)
            got = getattr(numba_acts, function)(
                *map(standin.to_device, given), out=out, **there(more)
            )
            assert got is out
            got = standin.to_host(got)
        else:
            got = call(function, *given, **more)
        for a, b in zip(np.atleast_1d(got), np.atleast_1d(want), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6)
    assert kept[-1] is not None and (kept[0] is None) == into


def there(keywords):
    return {key: standin.to_device(value) for key, value in keywords.items()}


def test_a_call_made_again_is_checked_again(rng):
    memory = rng.normal(size=100).astype(np.float32)
    x, apart, shifted = (memory[i : i + 32].reshape(8, 4) for i in (0, 64, 16))
    want = numba_acts.softmin(x.copy())
    for _ in range(2):
        numba_acts.softmin(standin.Array(x), out=standin.Array(apart))
        np.testing.assert_allclose(apart, want, rtol=2e-6)
    numba_acts.softmin(standin.Array(x), out=standin.Array(shifted))  # over part of x
    np.testing.assert_allclose(shifted, want, rtol=2e-6)
    memory[:32] = rng.normal(size=32)
    for _ in range(2):
        want = numba_acts.softmin(x.copy())
        numba_acts.softmin(standin.Array(x), out=standin.Array(x))
        np.testing.assert_allclose(x, want, rtol=2e-6)
    with pytest.raises(ValueError, match="out must"):
        numba_acts.softmin(standin.Array(x), out=standin.Array(memory[:30]))
    with pytest.raises(TypeError, match="one memory"):
        numba_acts.softmin(standin.Array(x), out=x)
    with pytest.raises(TypeError, match="axis"):
        numba_acts.softmin(standin.Array(x), 1.0)  # type: ignore[call-overload]


def test_a_call_made_again_on_the_same_memory(rng):
    """What was right beside other memory is not in place."""
    x = rng.normal(size=(3, 3)).astype(np.float32)
    y = numba_acts.softmin(x)
    want, out = numba_acts.softmin_jacobian(y), np.empty((3, 3, 3), np.float32)
    for _ in range(2):
        numba_acts.softmin_jacobian(standin.Array(y), out=standin.Array(out))
        np.testing.assert_allclose(out, want, atol=1e-6)
    memory = np.zeros(27, np.float32)
    memory[:9] = y.ravel()
    inside, over = memory[:9].reshape(3, 3), memory.reshape(3, 3, 3)
    numba_acts.softmin_jacobian(standin.Array(inside), out=standin.Array(over))
    np.testing.assert_allclose(over, want, atol=1e-6)


def test_a_call_made_again_on_shifted_memory(rng):
    """Accesses that were aligned are no longer."""
    memory = np.empty(40, np.float32)
    first = -memory.ctypes.data // 4 % 4
    for start in (first, first, first + 1, first + 2):
        x = memory[start : start + 32].reshape(4, 8)
        x[...] = rng.normal(size=x.shape)
        want = numba_acts.softmin(x.copy())
        np.testing.assert_allclose(
            standin.to_host(numba_acts.softmin(standin.Array(x))), want, rtol=2e-6
        )


def test_memory_between_kernels_is_given_back(monkeypatch, rng):
    """At once, not when Python next looks for cycles."""
    owners: list = []
    empty = launch.Queue.empty

    def noted(self, size, dtype):
        memory = empty(self, size, dtype)
        owners.append(weakref.ref(memory.owner))
        return memory

    monkeypatch.setattr(launch.Queue, "empty", noted)
    x = rng.normal(size=(2, 5 * CHUNK[1])).astype(np.float32)
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            call("softmin", x)
        assert owners and not [owner for owner in owners if owner() is not None]
    finally:
        gc.enable()


def test_shapes_that_are_lists(rng):
    x = rng.normal(size=(3, 5)).astype(np.float32)

    class Listed(standin.Array):
        @property
        def __cuda_array_interface__(self):
            interface = super().__cuda_array_interface__
            return interface | {"shape": list(interface["shape"])}

    for _ in range(3):
        got = standin.to_host(numba_acts.softmin(Listed(x)))
        np.testing.assert_allclose(got, numba_acts.softmin(x), rtol=2e-6)


@pytest.mark.parametrize("dtype", ["uint8", "bool", "int8"])
@pytest.mark.parametrize(
    ("shape", "axis", "expected"),
    [((2, CHUNK[1] + 3), -1, "spread"), ((8, 6, 7), 1, "images")],
)
def test_integers_are_converted_on_their_way(shape, axis, expected, dtype, taken, rng):
    x = rng.integers(0, 2 if dtype == "bool" else 9, shape).astype(dtype)
    y = call("softmin", x, axis)
    assert f"forward.{expected}" in taken
    cases.assert_agrees(y, "softmin", (x,), {"axis": axis})


def test_bfloat16_of_cupy(rng):
    x = rng.normal(size=(6, 5)).astype(cases.as_dtype("bfloat16"))
    want = numba_acts.softmin(x)
    for _ in range(3):
        got = call("softmin", x)
        assert got.dtype == x.dtype
        np.testing.assert_array_equal(got.view(np.uint16), want.view(np.uint16))


def test_an_expanded_gradient(rng):
    y = numba_acts.softmin(rng.normal(size=(6, 5)).astype(np.float32))
    g = np.broadcast_to(np.float32(1.5), y.shape)
    want = numba_acts.softmin_vjp(g, y)
    np.testing.assert_allclose(call("softmin_vjp", g, y), want, atol=1e-6)
    index = np.arange(6).astype(np.int32) % 5
    want = numba_acts.maxout_vjp(g[:, 0], index, 5)
    np.testing.assert_array_equal(call("maxout_vjp", g[:, 0], index, 5), want)
