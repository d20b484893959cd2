"""The public names inside `@njit` code: the same bits, arguments and errors as called from Python.

Each combination of argument types is compiled, which is what takes time here: a function is
compiled once and called with many shapes.
"""

import inspect
import shutil
from collections.abc import Callable
from functools import partial
from typing import Any

import numba
import numpy as np
import oracle
import pytest
from cases import FULL, MAKERS, Case, generator, rarely
from test_processes import run

import numba_acts as na
from numba_acts import jit
from numba_acts._cpu import forward, maxout, slices


def assert_same(got, want):
    """Equal in kind, dtype, shape and bits."""
    if isinstance(want, tuple):
        assert isinstance(got, tuple)
        for one, other in zip(got, want, strict=True):
            assert_same(one, other)
        return
    want = np.asarray(want)
    if type(got) in (int, float):  # what Numba makes of numbers of any type
        got = want.dtype.type(got)
    got = np.asarray(got)
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    assert got.tobytes() == want.tobytes() or np.array_equal(got, want, equal_nan=True)


@pytest.mark.parametrize("name", na.__all__)
def test_arguments_are_those_of_the_call_from_python(name):
    plain, compiled = (inspect.signature(getattr(m, name)).parameters for m in (na, jit))
    assert [(p.name, p.default) for p in plain.values()] == [
        (p.name, p.default) for p in compiled.values()
    ]


# ---- every name ---------------------------------------------------------------------------------


SHAPES: dict[str, list] = {
    "softmax2d": [(3, 4, 5), (20, 1, 9)],
    "affine": [((5, 8), (3, 4, 8)), ((9, 33), (1, 2, 33))],
}
PLAIN = [(5, 8), (17, 3), (2, 70), (3, 0), (1, 1)]


def call_of(name, arguments, keywords):
    """An `@njit` function with a call of that name, all of its arguments by position or name."""
    function = getattr(na, name)
    if keywords == ["dx", "dweight", "dbias"]:
        return numba.njit(lambda x, w, i, a, b, c: function(x, w, i, dx=a, dweight=b, dbias=c))
    if arguments == 1:
        return numba.njit(lambda x: function(x))
    if arguments == 2:
        return numba.njit(lambda x, y: function(x, y))
    if arguments == 3:
        return numba.njit(lambda x, y, z: function(x, y, z))
    return numba.njit(lambda x, y, z, w: function(x, y, z, w))


COMMON = ("softmin", "softmin_vjp", "softmax2d", "maxout_with_index", "maxout_vjp", "maxout_affine")


@pytest.mark.parametrize("name", [*COMMON, *rarely(*(n for n in na.__all__ if n not in COMMON))])
def test_bits_are_those_of_the_call_from_python(name):
    compiled = None
    kind = next((kind for kind in SHAPES if kind in name), None)
    for shape in SHAPES.get(kind or "", PLAIN):
        if name.startswith("maxout") and 0 in shape:
            continue
        arguments, keywords = MAKERS[name](generator(), Case(name, shape, "float32"))
        keywords.pop("dtype", None)
        compiled = compiled or call_of(name, len(arguments), list(keywords))
        got = compiled(*arguments, *keywords.values())
        assert_same(got, getattr(na, name)(*arguments, **keywords))


# ---- shapes, axes, dtypes, layouts, masks, out --------------------------------------------------


@numba.njit
def along(x, axis, temperature):
    return na.softmin(x, axis, temperature=temperature)


@numba.njit
def product_along(g, y, axis):
    return na.softmin_vjp(g, y, axis, temperature=0.5)


LONG = slices.CHUNK + 3
AXES = [((5, 8), 0), ((5, 8), -1), ((3, 200), 1), ((LONG, 3), 0), ((3, LONG), 1), ((0, 3), 0)]
LAYOUTS: dict[str, Callable] = {
    "C": np.ascontiguousarray,
    "F": np.asfortranarray,
    "negative": lambda x: np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1],
    "sliced": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_axes_and_layouts(layout, rng):
    for shape, axis in AXES:
        x, g = (LAYOUTS[layout](rng.normal(size=shape)) for _ in range(2))
        y = along(x, axis, 2)
        assert_same(y, na.softmin(x, axis, temperature=2))
        if layout == "C":
            assert_same(product_along(g, y, axis), na.softmin_vjp(g, y, axis, temperature=0.5))


@pytest.mark.parametrize("dtype", ["float32", "int16", "uint8", "bool"])
def test_dtypes(dtype, rng):
    @numba.njit
    def both(x):
        return na.softmin(x), na.maxout(x)

    x = (100 * rng.normal(size=40)).astype(dtype)
    assert_same(both(x), (na.softmin(x), na.maxout(x)))


@FULL
def test_all_axes(rng):
    x = rng.normal(size=(3, 4, 5))
    assert_same(numba.njit(lambda x: na.softmin(x, None))(x), na.softmin(x, None))


@FULL
def test_special_values(rng):
    x = np.array([[np.nan, 1, 2], [np.inf, 1, 2], [-np.inf, 1, 2], [np.inf] * 3, [-0.0, 0.0, -0.0]])

    @numba.njit
    def both(x):
        return na.softmin(x), na.maxout_with_index(x, axis=1)

    assert_same(both(x), (na.softmin(x), na.maxout_with_index(x)))


@FULL
def test_masks(rng):
    @numba.njit
    def masked(x, row, whole):
        whole_row = na.softmin(x, 1, where=row), na.softmin(x, 0, where=row)
        return whole_row, (na.softmin(x, 0, where=whole), na.softmin(x, where=whole))

    x, whole = rng.normal(size=(6, 9)), rng.random((6, 9)) < 0.6
    whole[2], whole[:, 1] = False, False
    for row in (whole[0], whole[:1, 0]):
        got, full = masked(x, row, whole)
        assert_same(got, tuple(na.softmin(x, axis, where=row) for axis in (1, 0)))
        assert_same(full, tuple(na.softmin(x, axis, where=whole) for axis in (0, 1)))
    with pytest.raises(ValueError, match="where must broadcast"):
        masked(x, whole[0, :4], whole)


@numba.njit
def into(x, axis, out):
    return na.softmin(x, axis, out=out)


def test_out(rng):
    x = rng.normal(size=(6, 9))
    want = na.softmin(x, 0)
    out = np.empty_like(x)
    into(x, 0, out)
    assert_same(out, want)
    apart = np.full((12, 18), 7.0)
    into(x, 0, apart[::2, ::2])
    assert_same(apart[::2, ::2], want)
    assert (apart[1::2] == 7).all() and (apart[:, 1::2] == 7).all()
    with pytest.raises(ValueError, match="out must have the result's shape"):
        into(x, 0, np.empty((9, 6)))
    for axis in (0, 1):
        memory = np.zeros(54 + 9)
        for start in (0, 9):  # in place, and into memory that overlaps
            memory[:54] = x.ravel()
            got = into(memory[:54].reshape(6, 9), axis, memory[start : start + 54].reshape(6, 9))
            assert_same(got, na.softmin(x, axis))
            assert np.shares_memory(got, memory)


@FULL
def test_pairs(rng):
    @numba.njit
    def both(x, y, index):
        return na.maxout_with_index(x, 0, index_dtype=np.int8, out=(y, index))

    x, y, index = rng.normal(size=(200, 6)), np.empty(6), np.empty(6, np.int8)
    with pytest.raises(ValueError, match="index_dtype must hold"):
        both(x, y, index)
    got = both(x[:100], y, index)
    assert_same(got, na.maxout_with_index(x[:100], 0, index_dtype=np.int8))
    assert np.shares_memory(got[0], y) and np.shares_memory(got[1], index)
    with pytest.raises(ValueError, match="do not share memory"):
        both(x[:100], y, y.view(np.int8)[:6])


def test_a_unit_alone_is_a_number(rng):
    @numba.njit
    def there_and_back(x):
        y, index = na.maxout_with_index(x)
        return y, na.maxout_vjp(y, index, len(x)), na.maxout_jacobian(index, len(x))

    x = rng.normal(size=5)
    y, index = na.maxout_with_index(x)
    want = y, na.maxout_vjp(y, index, 5), na.maxout_jacobian(index, 5)
    assert_same(there_and_back(x), want)


# ---- errors -------------------------------------------------------------------------------------


def test_errors_while_running(rng):
    x = rng.normal(size=(4, 5))
    out = np.zeros_like(x)
    with pytest.raises(np.exceptions.AxisError, match="axis"):
        into(x, 2, out)
    for temperature in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="temperature"):
            along(x, 0, temperature)

    @numba.njit
    def back(g, index, out):
        return na.maxout_vjp(g, index, 5, out=out)

    for wrong in (-1, 5):
        with pytest.raises(IndexError, match="index must lie"):
            back(x[:, 0].copy(), np.array([0, 1, wrong, 2]), out)
    with pytest.raises(ValueError, match="g must have index's shape"):
        back(x[:3, 0].copy(), np.array([0, 1, 2, 2]), out)
    assert not out.any()


half: Any = 0.5
hot: Any = "hot"
REFUSED = [
    (lambda x: na.softmin(x + 0j), TypeError, "x must be of dtype .* got complex128"),
    (lambda x: na.softmin(x.astype(np.float16)), Exception, "float16"),
    (lambda x: na.softmin("x"), TypeError, "x must be an array"),
    (lambda x: na.softmin(x, axis=half), TypeError, "axis must be an int"),
    (lambda x: na.softmin(x, axis=(0, 1)), TypeError, "axis must be an int"),
    (lambda x: na.softmin(x, temperature=hot), TypeError, "temperature must be a number"),
    (lambda x: na.softmin(x, where=x), TypeError, "where must be a boolean mask"),
    (lambda x: na.softmin(x, out=np.empty((4, 5), np.float32)), ValueError, "out .* dtype float64"),
    (lambda x: na.softmin_vjp(x[0], x), ValueError, "g must have y's shape"),
    (lambda x: na.softmax2d(x), ValueError, "x must have 3 axes"),
    (lambda x: na.maxout_jvp(x, x[:, 0]), TypeError, "index must be of an integer dtype"),
    (lambda x: na.maxout_with_index(x, index_dtype=np.float32), TypeError, "index_dtype"),
    (lambda x: na.maxout_affine(x, x[0]), ValueError, "weight must have shape"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED)
def test_errors_while_compiling(call, error, message):
    with pytest.raises(error, match=message):
        numba.njit(call)(np.ones((4, 5)))


# ---- in a program -------------------------------------------------------------------------------


@FULL
def test_gradient_of_a_composed_function(rng):
    @numba.njit
    def soft_minimum(x, temperature):
        return (na.softmin(x, temperature=temperature) * x).sum()

    @numba.njit
    def gradient(x, temperature):
        y = na.softmin(x, temperature=temperature)
        return y + na.softmin_vjp(x, y, temperature=temperature)

    x = rng.normal(size=6)
    want = oracle.differences(lambda x: soft_minimum(x, 0.7), x)
    np.testing.assert_allclose(gradient(x, 0.7), want, rtol=1e-7, atol=1e-9)


@FULL
def test_in_parallel_loops(rng):
    @numba.njit(parallel=True, nogil=True)
    def rows(x):
        y = np.empty_like(x)
        for i in numba.prange(len(x)):
            y[i] = na.softmin(x[i])
        return y

    x = rng.normal(size=(300, 21))
    assert_same(rows(x), na.softmin(x))


@FULL
def test_kernels_are_those_of_calls_from_python(rng):
    x = rng.normal(size=(5, 7)).astype(np.float32)

    @numba.njit
    def both(x):
        return na.softmin(x), na.softmin(x, 0), na.maxout(x, 0)

    want = na.softmin(x), na.softmin(x, 0), na.maxout(x, 0)
    kernels = forward.short_rows, forward.columns, maxout.columns
    before = [list(kernel.signatures) for kernel in kernels]
    assert_same(both(x), want)
    assert [list(kernel.signatures) for kernel in kernels] == before


def test_no_index_is_none_out_of_range():
    """What lies before an empty array is not its own."""
    x, weight = np.zeros((0, 2)), np.ones((3, 5, 2))
    index = np.full((4, 3), 99)[1:1]

    @numba.njit
    def empty(x, weight, index):
        return na.maxout_affine_jvp(x, weight, index, dx=x)

    assert empty(x, weight, index).shape == (0, 3)


PROGRAM = """
import numba, numpy as np, numba_acts as na
@numba.njit(cache=True{options})
def call(x):
    return na.softmin(x)
x = np.array([1.0, 2.0, np.nan]), np.array([0.0, 0.0])
print(*call(x[0]), *call(x[1]), sum(call.stats.cache_hits.values()))
print(*na.softmin(x[0]))
"""


@pytest.mark.parametrize("options", ["", ", fastmath=True, forceinline=True"])
@FULL
def test_users_cache(options, tmp_path):
    file = tmp_path / "program.py"
    file.write_text(PROGRAM.format(options=options))
    code = f"import runpy; runpy.run_path({str(file)!r})"
    first, second = (run(code, NUMBA_CACHE_DIR=str(tmp_path / "cache")) for _ in range(2))
    values = ["nan", "nan", "nan", "0.5", "0.5"]
    assert first == [*values, "0", "nan", "nan", "nan"]
    assert second == [*values, "1", "nan", "nan", "nan"]


def test_importing_the_library_imports_no_compiled_names():
    code = "import sys, numba_acts; print('numba_acts.jit' in sys.modules)"
    assert run(code) == ["False"]


# Keywords inside `try`, which Numba hands over by position on Python 3.11 and 3.12 ---------------


@FULL
def test_keywords_in_the_signatures_order_inside_try(rng):
    x, g = rng.normal(size=(2, 2, 3, 2))

    @numba.njit
    def inside(g, x):
        try:
            y = na.softmin(x, axis=1, temperature=2.0)
            return na.softmin_vjp(g, y, axis=1, temperature=2.0)
        except Exception:  # noqa: BLE001
            return x

    y = na.softmin(x, 1, temperature=2.0)
    np.testing.assert_array_equal(inside(g, x), na.softmin_vjp(g, y, 1, temperature=2.0))


@FULL
def test_a_temperature_that_arrives_as_an_axis_is_refused(rng):
    @numba.njit
    def positional(x):
        return na.softmin(x, 2.0)  # type: ignore[call-overload]

    with pytest.raises(TypeError, match="axis must be an int.*inside `try`"):
        positional(rng.normal(size=(2, 3)))

    @numba.njit
    def boolean(x):
        return na.softmin(x, True)

    with pytest.raises(TypeError, match="axis must be an int.*inside `try`"):
        boolean(rng.normal(size=(2, 3)))


@FULL
def test_tangents_by_position_are_all_given(rng):
    x, weight = rng.normal(size=(2, 3, 2, 2))
    _, index = na.maxout_affine_with_index(x, weight)

    @numba.njit
    def some(x, weight, index, t):
        return na.maxout_affine_jvp(x, weight, index, t)  # type: ignore[call-overload]

    with pytest.raises(TypeError, match="dx, dweight and dbias must be keywords"):
        some(x, weight, index, x)

    @numba.njit
    def inside(x, weight, index, t):
        try:
            return na.maxout_affine_jvp(x, weight, index, dx=None, dweight=t, dbias=None)
        except Exception:  # noqa: BLE001
            return x

    want = na.maxout_affine_jvp(x, weight, index, dweight=weight)
    np.testing.assert_array_equal(inside(x, weight, index, weight), want)


@pytest.mark.parametrize("integer", [np.uint64, np.int8])
@FULL
def test_axes_of_other_integers(integer, rng):
    """What `prange` counts in is unsigned."""
    x = rng.normal(size=(3, 4, 5))

    @numba.njit
    def each(x, axis):
        y, index = na.maxout_with_index(x, axis)
        dx = na.maxout_vjp(y, index, x.shape[axis], axis)
        return na.softmin(x, axis), na.softmin_jacobian(x, axis), y, dx

    for axis in range(3):
        y, index = na.maxout_with_index(x, axis)
        dx = na.maxout_vjp(y, index, x.shape[axis], axis)
        want = na.softmin(x, axis), na.softmin_jacobian(x, axis), y, dx
        for one, other in zip(each(x, integer(axis)), want, strict=True):
            np.testing.assert_array_equal(one, other)
    with pytest.raises(np.exceptions.AxisError):
        each(x, integer(3))
    with pytest.raises(np.exceptions.AxisError):
        each(x, integer(np.iinfo(integer).max))


@FULL
def test_temperature_of_bool(rng):
    x = rng.normal(size=5)

    @numba.njit
    def hot(x, temperature):
        return na.softmin(x, temperature=temperature)

    np.testing.assert_array_equal(hot(x, True), na.softmin(x, temperature=True))
    with pytest.raises(ValueError, match="temperature"):
        hot(x, False)


@pytest.mark.parametrize("dtypes", [("f8", "f4"), ("i8", "f4"), ("f8", "i8")])
@FULL
def test_products_of_two_dtypes(dtypes, rng):
    @numba.njit
    def product(g, y):
        return na.softmin_vjp(g, y, 0), na.softmin_vjp(g, y, -1)

    for shape in [(3, 5), (5000, 3)]:
        g, y = ((9 * rng.random(shape)).astype(dtype) for dtype in dtypes)
        for one, axis in zip(product(g, y), (0, -1), strict=True):
            want = na.softmin_vjp(g, y, axis)
            assert one.dtype == want.dtype
            np.testing.assert_array_equal(one, want)


# ---- arguments that may be None, functions as arguments ------------------------------------------


@numba.njit
def either(x, value, given):
    """What Numba knows as optional."""
    found = None
    if given:
        found = value
    return found


@pytest.mark.parametrize("given", [True, False])
def test_optional_arguments(given, rng):
    x = rng.normal(size=(5, 7))
    mask, out, weight = x > 0, np.empty_like(x), rng.normal(size=(3, 2, 7))
    bias = rng.normal(size=(3, 2))
    y, index = na.maxout_affine_with_index(x, weight)
    softmin, vjp = partial(na.softmin, x), partial(na.softmin_vjp, x, x)
    calls: list[tuple[Any, Any, str, Any]] = [
        (lambda x, v, g: na.softmin(x, where=either(x, v, g)), softmin, "where", mask),
        (lambda x, v, g: na.softmin(x, out=either(x, v, g)), softmin, "out", out),
        (lambda x, v, g: na.softmin(x, either(x, v, g)), softmin, "axis", 0),
        (lambda x, v, g: na.softmin_vjp(x, x, axis=either(x, v, g)), vjp, "axis", 0),
    ]
    for call, function, name, value in calls:
        assert_same(numba.njit(call)(x, value, given), function(**{name: value if given else None}))
    affine = numba.njit(lambda x, w, b, g: na.maxout_affine(x, w, either(x, b, g)))
    assert_same(
        affine(x, weight, bias, given), na.maxout_affine(x, weight, bias if given else None)
    )
    tangent = numba.njit(
        lambda x, w, i, v, g: na.maxout_affine_jvp(
            x, w, i, dx=either(x, v, g), dweight=w, dbias=either(x, w[..., 0].copy(), not g)
        )
    )
    more = {"dx": x} if given else {"dbias": weight[..., 0].copy()}
    want = na.maxout_affine_jvp(x, weight, index, dweight=weight, **more)
    assert_same(tangent(x, weight, index, x, given), want)


def test_what_must_not_be_none(rng):
    x = rng.normal(size=(5, 7))
    softmin = numba.njit(lambda x, g: na.softmin(either(x, x, g)))
    assert_same(softmin(x, True), na.softmin(x))
    with pytest.raises(TypeError, match="x must not be None"):
        softmin(x, False)
    hot = numba.njit(lambda x, g: na.softmin(x, temperature=either(x, 2.0, g)))
    assert_same(hot(x, True), na.softmin(x, temperature=2.0))
    with pytest.raises(TypeError, match="temperature must not be None"):
        hot(x, False)
    along = numba.njit(lambda x, g: na.maxout(x, axis=either(x, 0, g)))
    assert_same(along(x, True), na.maxout(x, axis=0))
    with pytest.raises(TypeError, match="axis must not be None"):
        along(x, False)


@numba.njit
def applied(function, x):
    return function(x)


def test_functions_as_arguments(rng):
    x = rng.normal(size=(5, 7))
    for function in (na.softmin, na.maxout, na.softmin):
        assert_same(applied(function, x), function(x))
    assert_same(numba.njit(lambda x: applied(na.softmin, x))(x), na.softmin(x))
    assert len(applied.signatures) == 3
    with pytest.raises(numba.TypingError, match="Numba type of <class 'function'>"):
        applied(lambda x: x, x)  # a function that is not the library's is none of its business


# ---- kernels are called, not compiled again -----------------------------------------------------


def test_a_caller_has_no_code_of_kernels(rng):
    call = numba.njit(lambda x, axis: na.softmin(x, axis))
    call(rng.normal(size=(5, 7)), 1)
    (code,) = call.inspect_llvm().values()
    assert "numba_acts.columns." in code and "numba_acts.rows." in code
    assert len(code) < 200_000


HANDED = """
import numba
import numpy as np
import numba_acts as na
@numba.njit(cache=True)
def call(function, x):
    return function(x), na.softmin(x, -1)
first, second = call(na.softmin, np.array([0.0, 0.0]))
print(*first, *second, sum(call.stats.cache_hits.values()))
"""
OTHERS = "from numba_acts._cpu import linked; linked.STAMP = b'other kernels'; "


@FULL
def test_users_cache_notices_other_kernels(tmp_path):
    """And it holds what was compiled for functions that were handed over."""
    file = tmp_path / "program.py"
    file.write_text(HANDED)
    code = f"import runpy; runpy.run_path({str(file)!r})"
    hits = []
    for before in ("", "", OTHERS, ""):
        printed = run(before + code, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
        assert printed[:4] == ["0.5"] * 4
        hits.append(printed[4])
    assert hits[:3] == ["0", "1", "0"]


@FULL
def test_modules_that_are_compiled_ahead_of_time(tmp_path):
    pytest.importorskip("setuptools", reason="setuptools is not installed")
    if shutil.which("cc") is None:
        pytest.skip("no C compiler is installed")
    code = f"""
import sys, warnings
warnings.simplefilter("ignore")
import numpy as np
import numba_acts as na
from numba.pycc import CC
module = CC("ahead")
module.output_dir = {str(tmp_path)!r}
@module.export("halved", "f8[:](f8[:])")
def halved(x):
    return na.softmin(x)
module.compile()
"""
    run("import setuptools\n" + code)
    found = run(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import ahead, numpy as np; print(*ahead.halved(np.zeros(2)), 'numba_acts' in sys.modules)"
    )
    assert found == ["0.5", "0.5", "False"]
