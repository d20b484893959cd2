"""Operands of other dtypes and repeated ones: the numbers of plain ones, and no memory for them."""

import functools

import cases
import numpy as np
import pytest

import numba_acts as na
from numba_acts._halls import portions

KILOBYTE = 1 << 10
OTHERS = {
    "float64": lambda a: a.astype(np.float64),
    "float16": lambda a: a.astype(np.float16),
    "int64": lambda a: (2 * a).astype(np.int64),
    "uint8": lambda a: np.abs(2 * a).astype(np.uint8),
    "bool": lambda a: (a > 0).view(np.uint8).__mul__(np.uint8(2)).view(bool),
}
REPEATED = {
    "rows": lambda a: np.broadcast_to(a[:1], a.shape),
    "columns": lambda a: np.broadcast_to(a[..., :1], a.shape),
    "one number": lambda a: np.broadcast_to(a.reshape(-1)[0], a.shape),
}


def operands(name, shape):
    """Arguments of float32, and the places of those that are arrays of numbers."""
    case = cases.Case(name, shape, "float32")
    arguments, keywords = cases.MAKERS[name](cases.generator(), case)
    return list(arguments), keywords, [
        i for i, a in enumerate(arguments) if isinstance(a, np.ndarray) and a.dtype.kind == "f"
    ]  # fmt: skip


def shape_of(name, small):
    if "affine" in name:
        return ((30, 9), (4, 3, 9)) if small else ((40_000, 20), (16, 3, 20))
    if "softmax2d" in name:
        return (2, 5, 6, 7) if small else (2, 8, 200, 250)
    if name.endswith("jacobian"):
        return (6, 5) if small else (60_000, 5)
    if name == "maxout_vjp":
        return (60, 9) if small else (400_000, 3)
    return (60, 9) if small else (4000, 200)


NAMES = [name for name in na.__all__ if name not in ("maxout_jacobian", "maxout_affine_jacobian")]


def as_tuple(result):
    return result if isinstance(result, tuple) else (result,)


@pytest.mark.parametrize("change", [*OTHERS, *REPEATED])
@pytest.mark.parametrize("name", NAMES)
def test_bits_are_those_of_a_plain_operand(name, change, monkeypatch):
    """Of the result's dtype and contiguous; in portions of a few numbers."""
    monkeypatch.setattr(portions, "BYTES", 300)
    arguments, keywords, places = operands(name, shape_of(name, small=True))
    for place in places:
        given = list(arguments)
        given[place] = (OTHERS | REPEATED)[change](arguments[place])
        plain = list(given)
        if change in REPEATED:
            plain[place] = np.array(given[place])
        elif name not in ("maxout", "maxout_with_index", "maxout_vjp", "maxout_jvp"):
            number = as_tuple(getattr(na, name)(*given, **keywords))[0].dtype
            plain = [a.astype(number) if isinstance(a, np.ndarray) and a.dtype.kind in "fiub"
                     and i in places else a for i, a in enumerate(given)]  # fmt: skip
        got, want = (as_tuple(getattr(na, name)(*a, **keywords)) for a in (given, plain))
        for one, other in zip(got, want, strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("change", [*OTHERS, *REPEATED])
@pytest.mark.parametrize("name", NAMES)
def test_memory_beyond_the_result(name, change, peak_memory):
    arguments, keywords, places = operands(name, shape_of(name, small=False))
    if name == "maxout_affine_vjp":  # a weight's copy, and that of x repeated along d, are allowed
        places = [0, 1] if change != "columns" else [0]
    for place in places:
        given = list(arguments)
        given[place] = (OTHERS | REPEATED)[change](arguments[place])
        results = as_tuple(getattr(na, name)(*given, **keywords))
        size = sum(result.nbytes for result in results)
        if results[0].dtype.kind == "i":  # integers' gradients are summed in 64 bits
            size += sum(8 * result.size for result in results)
        call = functools.partial(getattr(na, name), *given, **keywords)
        assert peak_memory(call) < size + 900 * KILOBYTE


def test_one_slice_of_equal_numbers(peak_memory):
    """However long, it is not written out."""
    x = np.broadcast_to(np.float32(2.0), 10**7)
    assert na.maxout_with_index(x) == (2.0, 0)
    assert peak_memory(lambda: na.maxout(x)) < 100 * KILOBYTE
    g, y = x, np.full(10**7, 1e-7, np.float32)
    want = na.softmin_vjp(np.array(g), y)
    np.testing.assert_array_equal(na.softmin_vjp(g, y), want)
    assert peak_memory(lambda: na.softmin_vjp(g, y)) < y.nbytes + 400 * KILOBYTE


@pytest.mark.parametrize("portion", [1, 300, 1 << 19])
def test_results_that_lie_over_operands(portion, monkeypatch, rng):
    """`out` is an operand, or overlaps one, while the other has to be copied."""
    monkeypatch.setattr(portions, "BYTES", portion)
    y = na.softmin(rng.normal(size=(20, 7)))
    row = rng.normal(size=7)
    g = np.broadcast_to(row, y.shape)
    want = na.softmin_vjp(np.array(g), y)
    out = y.copy()
    np.testing.assert_array_equal(na.softmin_vjp(g, out, out=out), want)
    out = np.array(g)
    np.testing.assert_array_equal(na.softmin_vjp(out, y, out=out), want)
    memory = np.zeros(2 * y.size + 7)
    shifted = memory[7 : 7 + y.size].reshape(y.shape)
    shifted[...] = y
    out = memory[: y.size].reshape(y.shape)
    np.testing.assert_array_equal(na.softmin_vjp(g, shifted, out=out), want)
    strided = np.zeros((20, 14))[:, ::2]
    strided[...] = y
    np.testing.assert_array_equal(na.softmin_vjp(g, strided, out=strided), want)
    mask = rng.random(7) < 0.6
    x = rng.normal(size=(20, 7))
    want = na.softmin(x, where=np.broadcast_to(mask, x.shape).copy())
    np.testing.assert_array_equal(na.softmin(x, where=mask, out=x), want)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("repeated", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)])
def test_pieces_that_are_repeated(repeated, axis, monkeypatch, rng):
    monkeypatch.setattr(portions, "BYTES", 100)
    shape = [1 if a in repeated else n for a, n in enumerate((4, 5, 6))]
    x = np.broadcast_to(rng.normal(size=shape), (4, 5, 6))
    y, index = na.maxout_with_index(x, axis)
    np.testing.assert_array_equal(y, x.max(axis))
    np.testing.assert_array_equal(index, x.argmax(axis))
    np.testing.assert_array_equal(na.maxout(x, axis), y)
    g, winners = np.broadcast_to(y[:1, :1], y.shape), np.broadcast_to(index[:1, :1], y.shape)
    plain = np.array(g), np.array(winners), x.shape[axis], axis
    np.testing.assert_array_equal(na.maxout_vjp(g, winners, *plain[2:]), na.maxout_vjp(*plain))
    dy = na.maxout_jvp(x, winners, axis)
    np.testing.assert_array_equal(dy, na.maxout_jvp(np.array(x), plain[1], axis))


@pytest.mark.parametrize("units", [(), (4,)])
@pytest.mark.parametrize("depth", [0, 1, 7])
def test_affine_in_portions(depth, units, monkeypatch, rng):
    x, weight = rng.normal(size=(3, 5, depth)), rng.normal(size=(*units, 2, depth))
    bias = rng.normal(size=weight.shape[:-1])
    want, index = na.maxout_affine_with_index(x, weight, bias)
    tangent = {"dx": x, "dweight": weight, "dbias": bias}
    dy = na.maxout_affine_jvp(x, weight, index, **tangent)
    monkeypatch.setattr(portions, "BYTES", 64)

    def apart(a):
        """The same numbers, every second of its memory's."""
        wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]) if a.ndim else (), a.dtype)
        view = wide[..., ::2] if a.ndim else wide
        view[...] = a
        return view

    out = apart(np.zeros_like(want)), apart(np.zeros_like(index))
    assert na.maxout_affine_with_index(apart(x), apart(weight), apart(bias), out=out) is out
    np.testing.assert_array_equal(out[0], want)
    np.testing.assert_array_equal(out[1], index)
    given = {name: apart(a) for name, a in tangent.items()}
    got = na.maxout_affine_jvp(apart(x), apart(weight), apart(index), **given)
    np.testing.assert_array_equal(got, dy)
