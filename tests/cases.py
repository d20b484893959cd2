"""One table of cases for every public function, and what may differ from the oracle.

`TABLE` feeds the one test that compares the library with `oracle.py`. To test a new function,
add a maker of its arguments to `MAKERS`, its error to `ERRORS` and its lines to `TABLE`;
`test_contract.py` fails until it is there.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import oracle
import pytest

FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")

# The unit of rounding errors while computing: 16-bit floats are computed in float32.
EPSILON = {"float16": 2**-23, "bfloat16": 2**-23, "float32": 2**-23, "float64": 2**-52}
# Rounding once to a 16-bit result costs half a unit in its last place: 11 or 8 bits are kept.
ROUNDING = {"float16": 2**-11, "bfloat16": 2**-8, "float32": 0.0, "float64": 0.0}
# Below the normal numbers the spacing is fixed, and relative errors have no meaning.
SMALLEST = {
    "float16": 2.0**-24,
    "bfloat16": 2.0**-133,
    "float32": 2.0**-149,
    "float64": 2.0**-1074,
}
LARGEST = {
    "float16": 65504.0,
    "bfloat16": 2.0**128 - 2.0**119,
    "float32": 2.0**128 - 2.0**104,
    "float64": float(np.finfo(np.float64).max),
}


def as_dtype(name):
    """The dtype of that name; bfloat16 comes from ml_dtypes."""
    if name == "bfloat16":
        return np.dtype(
            pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed").bfloat16
        )
    return np.dtype(name)


# What the default run leaves out: `python -m pytest --full` has it too.
FULL = pytest.mark.full


def rarely(*values):
    """Parameters that only the full run has."""
    return [pytest.param(value, marks=FULL) for value in values]


# Arrays ----------------------------------------------------------------------------------------


def generator():
    return np.random.default_rng(1729)


def numbers(rng, shape, dtype):
    """Plain numbers; of integers the first half is small, the second fills the whole range.

    True is any byte but 0, as in the view of an image of 0 and 255.
    """
    dtype = as_dtype(dtype)
    if dtype.kind == "b":
        return rng.choice(np.array([0, 0, 1, 2, 255], np.uint8), shape).view(dtype)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        x = rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
        small = x.reshape(-1)[: x.size // 2]
        small %= 10
        return x
    return np.asarray(3 * rng.normal(size=shape)).astype(dtype)


def with_ties(rng, shape, dtype):
    """Multiples of a half between -6 and 6: exact in every dtype, and many are equal."""
    if as_dtype(dtype).kind in "biu":
        return numbers(rng, shape, dtype)
    return (rng.integers(-12, 13, shape) / 2).astype(as_dtype(dtype))


def whole_numbers(rng, shape, dtype):
    """Integers from -4 to 4: sums of their products are exact, so that ties are true ties."""
    return np.asarray(rng.integers(-4, 5, shape)).astype(as_dtype(dtype))


def distribution(rng, shape, dtype, axis):
    """A result of softmin, as it was saved for the derivatives."""
    return np.asarray(oracle.softmin(2 * rng.normal(size=shape), axis)).astype(as_dtype(dtype))


def faint(rng, shape, dtype, axis):
    """Slices of which softmin makes some weights of size, and many that are subnormal."""
    smallest = -np.log(np.longdouble(SMALLEST[dtype]))  # the distance at which weights end
    x = rng.uniform(smallest - 12, smallest + 1, shape)
    x[rng.random(shape) < 2 / shape[axis]] = 1.8  # sums stay small, as roundings do in large ones
    np.moveaxis(x, axis, -1)[..., 0] = rng.random()
    return x.astype(dtype)


# Slices, and the last of their weights in units of the smallest number.
FAINT = {"float32": ([0, 1.8, 99.3], 46), "float64": ([0, 1.6, 741.7], 13)}


NASTY = {
    "nan": [np.nan],
    "two nans": [np.nan, np.nan],
    "nan and infinities": [np.inf, np.nan, -np.inf],
    "+inf": [np.inf],
    "-inf": [-np.inf],
    "both infinities": [np.inf, -np.inf],
    "zeros of both signs": [-0.0, 0.0, -0.0],
    "a tie": [9.0, 9.0],
    "a tie below": [-9.0, -9.0],
}
NASTY_SLICES = (np.nan, np.inf, -np.inf, 0.0, -0.0)


def nasty(rng, shape, dtype):
    """Slices along the last axis with nasty entries first, in the middle and last.

    Slices of one nasty number throughout, of the largest and of the smallest numbers follow;
    every second slice is plain, so that nothing may spill over to a neighbour.
    """
    dtype = as_dtype(dtype)
    n = shape[-1]
    x = 3 * rng.normal(size=shape)
    slices = iter(x.reshape(-1, n)[::2])
    for entries in NASTY.values():
        entries = entries[:n]
        for start in (0, (n - len(entries)) // 2, n - len(entries)):
            next(slices)[start : start + len(entries)] = entries
    for entry in NASTY_SLICES:
        next(slices)[:] = entry
    name = dtype.name
    next(slices)[0] = {"float16": 65504.0, "float64": 1.7e308}.get(name, 3.3e38)
    next(slices)[-1] = -{"float16": 65504.0, "float64": 1.7e308}.get(name, 3.3e38)
    next(slices)[:] = SMALLEST[name]
    return x.astype(dtype)


def channels_first(maker):
    """The same array with its last axis, the slice, moved to where images have channels."""

    def moved(rng, shape, dtype):
        shape = (*shape[:-3], *shape[-2:], shape[-3])
        return np.moveaxis(maker(rng, shape, dtype), -1, -3).copy()

    return moved


# Memory layouts: each gives an array of equal values that lies otherwise in memory -------------


def reverse(x):
    steps = (slice(None, None, -1),) * x.ndim
    return np.ascontiguousarray(x[steps])[steps]


def take_every_second(x):
    buffer = np.full([2 * n + 1 for n in x.shape], 77).astype(x.dtype)
    view = buffer[(slice(1, None, 2),) * x.ndim]
    view[...] = x
    return view


def permute(x):
    axes = tuple(np.roll(np.arange(x.ndim), 1))
    return np.ascontiguousarray(x.transpose(axes)).transpose(np.argsort(axes))


def lock(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def swap_bytes(x):
    return x.astype(x.dtype.newbyteorder())


def misalign(x):
    view = np.ndarray(x.shape, x.dtype, bytearray(x.nbytes + 1), offset=1)
    view[...] = x
    return view


def pad_rows(x):
    """Rows that lie further apart than they are long."""
    buffer = np.full((*x.shape[:-1], x.shape[-1] + 3), 77).astype(x.dtype)
    view = buffer[..., : x.shape[-1]]
    view[...] = x
    return view


LAYOUTS: dict[str, Callable] = {
    "F": np.asfortranarray,
    "negative": reverse,
    "sliced": take_every_second,
    "transposed": permute,
    "padded": pad_rows,
    "read-only": lock,
    "byte-swapped": swap_bytes,
    "misaligned": misalign,
}


def blank(shape, dtype, layout="C"):
    """A result to be written over."""
    array = np.full(shape, 77).astype(dtype)
    return LAYOUTS[layout](array) if layout != "C" and array.ndim else array


# Arguments of each function --------------------------------------------------------------------


def _one(rng, case):
    return (case.values(rng, case.shape, case.dtype),), {}


def _product(rng, case):
    cotangent = numbers(rng, case.shape, case.dtype)
    return (cotangent, distribution(rng, case.shape, case.dtype, case.axis)), {}


def _saved(rng, case):
    return (distribution(rng, case.shape, case.dtype, case.axis),), {}


def _index(rng, case):
    pieces = case.shape[case.axis]
    index = np.argmax(rng.random(case.shape), case.axis)  # for empty results too
    return np.asarray(index, np.int32), pieces


def _maxout_vjp(rng, case):
    index, pieces = _index(rng, case)
    return (numbers(rng, index.shape, case.dtype), index, pieces), {}


def _maxout_jvp(rng, case):
    index, _ = _index(rng, case)
    return (numbers(rng, case.shape, case.dtype), index), {}


def _maxout_jacobian(rng, case):
    return _index(rng, case), {"dtype": as_dtype(case.dtype)}


def _layer(rng, case):
    """x, weight and bias, and the index of the winning pieces."""
    x, weight = (whole_numbers(rng, shape, case.dtype) for shape in case.shape)
    bias = whole_numbers(rng, weight.shape[:-1], case.dtype)
    index = oracle.maxout_affine_with_index(x, weight, bias)[1]
    return x, weight, bias, index


def _affine(rng, case):
    return _layer(rng, case)[:3], {}


def _affine_vjp(rng, case):
    x, weight, _, index = _layer(rng, case)
    return (whole_numbers(rng, index.shape, case.dtype), x, weight, index), {}


def _affine_jvp(rng, case):
    x, weight, bias, index = _layer(rng, case)
    tangents = {"dx": x, "dweight": weight, "dbias": bias}
    tangents = {name: whole_numbers(rng, a.shape, case.dtype) for name, a in tangents.items()}
    return (x, weight, index), tangents


def _affine_jacobian(rng, case):
    _, weight, _, index = _layer(rng, case)
    return (weight, index), {}


MAKERS: dict[str, Callable] = {
    "softmin": _one,
    "softmin_vjp": _product,
    "softmin_jvp": _product,
    "softmin_jacobian": _saved,
    "softmin_jacobian_diag": _saved,
    "softmax2d": _one,
    "softmax2d_vjp": _product,
    "softmax2d_jvp": _product,
    "softmax2d_jacobian": _saved,
    "softmax2d_jacobian_diag": _saved,
    "maxout": _one,
    "maxout_with_index": _one,
    "maxout_vjp": _maxout_vjp,
    "maxout_jvp": _maxout_jvp,
    "maxout_jacobian": _maxout_jacobian,
    "maxout_affine": _affine,
    "maxout_affine_with_index": _affine,
    "maxout_affine_vjp": _affine_vjp,
    "maxout_affine_jvp": _affine_jvp,
    "maxout_affine_jacobian": _affine_jacobian,
}


# What may differ, in units of EPSILON ----------------------------------------------------------


def _axis(keywords):
    return keywords.get("axis", keywords.get("channel_axis", -1))


def _steepness(keywords):
    return 1 / float(keywords.get("temperature", 1.0))


def softmax_error(want, arguments, keywords):
    """4 (1 + |βx - max βx|) y, the contract's bound; the bracket conditions the shift.

    exp(βx - max βx) is y over the largest y of the slice.
    """
    winner = np.max(want, axis=_axis(keywords), keepdims=True, initial=0)
    with np.errstate(all="ignore"):
        distance = np.where(want > 0, np.log(winner) - np.log(want), 0)
    return 4 * (1 + distance) * want


def product_error(want, arguments, keywords):
    """8 β y (|g| + Σ|g y|): a few roundings of each term and a blocked sum, before they cancel."""
    g, y = (np.abs(oracle.wide(a)) for a in arguments[:2])
    total = (g * y).sum(axis=_axis(keywords), keepdims=True)
    return 8 * _steepness(keywords) * y * (g + total)


def jacobian_error(want, arguments, keywords):
    """4 β |y_i| (δ_ij + |y_j|): one rounding for each operation, before they cancel."""
    axis = _axis(keywords)
    y = np.moveaxis(np.abs(oracle.wide(arguments[0])), axis, -1)
    terms = y[..., :, None] * y[..., None, :]
    terms = terms + np.where(np.eye(y.shape[-1]), y[..., :, None], 0)
    axis = axis % y.ndim
    return 4 * _steepness(keywords) * np.moveaxis(terms, (-2, -1), (axis, axis + 1))


def relative_error(want, arguments, keywords):
    """4 |result|: a handful of multiplications, and 1 - y, whose y is exact."""
    return 4 * np.abs(want)


def no_error(want, arguments, keywords):
    """Maxout moves entries about and computes nothing."""
    return 0


def affine_error(want, arguments, keywords):
    """(d + 2) Σ|w x|, the bound of a sum of products in any order."""
    x, weight, *bias = (np.abs(oracle.wide(a)) for a in arguments)
    pieces = np.einsum("...d,...pd->...p", x if weight.ndim == 2 else x[..., None, :], weight)
    pieces = pieces + bias[0] if bias else pieces
    return (x.shape[-1] + 2) * np.max(np.where(np.isfinite(pieces), pieces, 0), axis=-1)


def affine_vjp_error(want, arguments, keywords):
    """(terms + 2) Σ|terms|: sums over the units for x, over the batch for weight and bias."""
    g, x, weight, index = arguments
    sizes = [np.abs(oracle.wide(a)) for a in (g, x, weight)]
    largest = oracle.maxout_affine_vjp(sizes[0], sizes[1], sizes[2], index)
    units = 1 if np.ndim(weight) == 2 else len(weight)
    batch = max(np.size(g) // max(units, 1), 1)
    return tuple((n + 2) * a for n, a in zip((units, batch, batch), largest, strict=True))


def affine_jvp_error(want, arguments, keywords):
    """(2d + 3) Σ|terms|: two sums of products and an addition."""
    x, weight, index = arguments
    tangents = {k: np.abs(oracle.wide(v)) for k, v in keywords.items() if v is not None}
    sizes = (np.abs(oracle.wide(x)), np.abs(oracle.wide(weight)))
    return (2 * np.shape(x)[-1] + 3) * oracle.maxout_affine_jvp(*sizes, index, **tangents)


ERRORS: dict[str, Callable] = {
    "softmin": softmax_error,
    "softmin_vjp": product_error,
    "softmin_jvp": product_error,
    "softmin_jacobian": jacobian_error,
    "softmin_jacobian_diag": relative_error,
    "softmax2d": softmax_error,
    "softmax2d_vjp": product_error,
    "softmax2d_jvp": product_error,
    "softmax2d_jacobian": jacobian_error,
    "softmax2d_jacobian_diag": relative_error,
    "maxout": no_error,
    "maxout_with_index": no_error,
    "maxout_vjp": no_error,
    "maxout_jvp": no_error,
    "maxout_jacobian": no_error,
    "maxout_affine": affine_error,
    "maxout_affine_with_index": affine_error,
    "maxout_affine_vjp": affine_vjp_error,
    "maxout_affine_jvp": affine_jvp_error,
    "maxout_affine_jacobian": no_error,
}


def assert_agrees(got, function, arguments, keywords):
    """Compare a result with the oracle's: kind, dtype, shape and values.

    The axis must be among the keywords.
    """
    want = getattr(oracle, function)(*arguments, **keywords)
    if function in IMAGES + JACOBIANS[1:]:
        keywords = {"channel_axis": -3, **keywords}
    error = ERRORS[function](want, arguments, keywords)
    dtype = _result_dtype(function, arguments, keywords)
    scale = 0 if function in (SLICES[0], IMAGES[0]) else _steepness(keywords)
    if function.endswith("with_index"):
        index_dtype = np.dtype(keywords.get("index_dtype", np.int32))
        error, dtype = (error, 0), (dtype, index_dtype)
    elif isinstance(want, tuple):
        dtype = (dtype,) * len(want)
    else:
        got, want, error, dtype = (got,), (want,), (error,), (dtype,)
    assert isinstance(got, tuple), f"{function} gave {type(got)}, not a tuple"
    for one in zip(got, want, error, dtype, strict=True):
        assert_within(*one, scale)


def assert_within(got, want, error, dtype, scale=1):
    """`got` has the dtype and the shape of `want`, and differs by rounding errors at most.

    `error` is in units of EPSILON; `scale` tells how much the last step multiplies, hence
    how large an error below the normal numbers may have become.
    """
    dtype = np.dtype(dtype)
    assert type(got) is (np.ndarray if np.ndim(want) else dtype.type)
    assert got.dtype == dtype
    assert got.shape == np.shape(want)
    if dtype.kind in "biu":
        np.testing.assert_array_equal(got, want)
        return
    got, want = oracle.wide(got), oracle.wide(want)
    # The oracle has rounding errors too, no smaller where a long double is but a double.
    epsilon = EPSILON[dtype.name] + np.finfo(want.dtype).eps
    with np.errstate(invalid="ignore"):
        error = epsilon * error
        allowed = error + ROUNDING[dtype.name] * (np.abs(want) + error)
        allowed = allowed + (1 + scale) * SMALLEST[dtype.name] * np.any(allowed)
        good = (np.abs(got - want) <= allowed) & np.isfinite(want)
        good |= np.isinf(got) & (np.sign(got) * want + allowed > LARGEST[dtype.name])
        good |= (got == want) | (np.isnan(got) & np.isnan(want))
    if not np.all(good):
        bad = np.argwhere(~np.atleast_1d(good))
        first = tuple(bad[0]) if np.ndim(want) else ()
        allowed = np.broadcast_to(allowed, np.shape(want))
        raise AssertionError(
            f"{len(bad)} of {np.size(want)} entries are wrong, the first at {first}: "
            f"got {got[first]}, expected {want[first]} ± {allowed[first]}"
        )


def assert_rounded_once(y, x, axis, where=True):
    """Subnormal weights of softmin have the error of the exponential and half a unit at most."""
    unit, seen = SMALLEST[x.dtype.name], np.broadcast_to(where, x.shape)
    with np.errstate(invalid="ignore", over="ignore"):
        far = np.where(seen, -oracle.wide(x), -np.inf)
        far = far - far.max(axis, keepdims=True)
        total = np.exp(far).sum(axis, keepdims=True)
        want = np.exp(far - np.log(far.dtype.type(unit))) / total  # in units of the smallest
        subnormal = want < np.finfo(x.dtype).tiny / unit
        error = 4 * np.finfo(x.dtype).eps * (1 - far) * want + 0.5
        good = np.abs(oracle.wide(y) / unit - want) <= error
    assert subnormal.any()
    assert good[subnormal & seen].all()
    np.testing.assert_array_equal(y[~seen], 0)


def _result_dtype(function, arguments, keywords):
    if function == "maxout_jacobian":
        return np.dtype(keywords.get("dtype", np.float64))
    dtypes = {np.asarray(a).dtype.newbyteorder("=") for a in arguments[:2]}
    if function in PRODUCTS and len(dtypes) > 1:
        return np.dtype(np.float64 if np.dtype(np.float64) in dtypes else np.float32)
    dtype = np.asarray(arguments[0]).dtype.newbyteorder("=")
    if dtype.kind in "biu" and function.startswith("soft"):
        return np.dtype(np.float64)
    return dtype


# The table -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One call: the function, and how its arguments come about."""

    function: str
    shape: tuple
    dtype: str = "float32"
    keywords: dict = field(default_factory=dict)
    values: Callable = numbers
    mask: tuple | None = None
    layout: str = "C"

    @property
    def axis(self):
        return _axis({"channel_axis": -3, **self.keywords} if self.is_image else self.keywords)

    @property
    def size(self):
        """How many numbers the call is given."""
        shapes = self.shape if self.function in LAYERS else [self.shape]
        return sum(math.prod(shape) for shape in shapes)

    @property
    def is_common(self):
        """Is it in the default run: float32, float64 unless it is large, and some of the others?"""
        if self.dtype == "float64":
            return self.layout == "C" and self.size < 100_000
        others = self.function in ("softmin", "maxout_with_index") and self.size < 1000
        return self.dtype == "float32" or others and self.dtype in ("float16", "int8")

    @property
    def is_image(self):
        return self.function.startswith("softmax2d")

    def build(self):
        """The positional arguments and the keywords of the call."""
        rng = generator()
        arguments, more = MAKERS[self.function](rng, self)
        keywords = {**self.keywords, **more}
        if self.mask is not None:
            keywords["where"] = np.asarray(rng.random(self.mask) < 0.6)
        if self.layout != "C":
            lay = LAYOUTS[self.layout]
            arguments = tuple(_lay(lay, a) for a in arguments)
            keywords = {name: _lay(lay, a) for name, a in keywords.items()}
        return arguments, keywords

    def __str__(self):
        keywords = [f"{name}={value}" for name, value in self.keywords.items()]
        values = self.values.__name__ if self.values is not numbers else ""
        mask = f"mask={self.mask}" if self.mask is not None else ""
        layout = self.layout if self.layout != "C" else ""
        shape = str(self.shape).replace(" ", "")
        parts = [self.function, self.dtype, shape, *keywords, values, mask, layout]
        return " ".join(part for part in parts if part).replace(" ", "-")


def _lay(lay, argument):
    is_array = isinstance(argument, np.ndarray) and argument.ndim
    return lay(argument) if is_array else argument


SLICES = ("softmin", "softmin_vjp", "softmin_jvp")
IMAGES = ("softmax2d", "softmax2d_vjp", "softmax2d_jvp")
PIECES = ("maxout", "maxout_with_index", "maxout_vjp", "maxout_jvp", "maxout_jacobian")
PRODUCTS = (*SLICES[1:], *IMAGES[1:])
JACOBIANS = ("softmin_jacobian", "softmax2d_jacobian")
DIAGONALS = ("softmin_jacobian_diag", "softmax2d_jacobian_diag")
LAYERS = tuple(name for name in MAKERS if name.startswith("maxout_affine"))

# One, two, small odd and even numbers; a vector register more or less; tiles and their remainders.
LENGTHS = (1, 2, 3, 5, 7, 8, 9, 10, 16, 17, 31, 100, 128, 129, 1000, 4096, 4097, 10_000)
# The product of the dimensions behind the axis: rows are 1; columns fill vectors or do not.
INNERS = {1: (1, 1), 2: (1, 2), 7: (7, 1), 8: (2, 4), 9: (3, 3), 49: (7, 7), 100: (10, 10)}
INNERS[1030] = (10, 103)
GRID = [(n, inner) for n, inner in product(LENGTHS, INNERS) if n * inner <= 100_000]

Shapes = list[tuple[tuple[int, ...], Any]]  # shapes, and the axis of a slice

RANKS: Shapes = [
    ((7,), 0),
    *[((3, 5), axis) for axis in (0, 1, -2)],
    *[((4, 3, 5), axis) for axis in (0, 1, 2, -2)],
    *[((2, 3, 4, 5), axis) for axis in (0, 1, 2, -1)],
    *[((2, 3, 2, 4, 3), axis) for axis in (0, 2, 4, -5)],
]
SEVERAL_AXES: Shapes = [
    ((), None),
    ((), -1),
    ((7,), None),
    ((7,), (0,)),
    ((3, 5), None),
    ((3, 5), (1, 0)),
    ((3, 5), (-1,)),
    ((4, 3, 5), (0, 2)),
    ((4, 3, 5), (-1, 0)),
    ((4, 3, 5), (0, 1)),
    ((4, 3, 5), (1, 2)),
    ((4, 3, 5), None),
    ((2, 3, 4, 5), (1, 3)),
    ((2, 3, 4, 5), (0, 1, 2)),
    ((2, 3, 2, 4, 3), (1, 3)),
    ((2, 3, 2, 4, 3), (0, 2, 4)),
    ((2, 3, 2, 4, 3), None),
    ((20, 31, 40), (0, 2)),
]
# More than a million entries: many threads, over one slice, many slices, columns, blocks.
LARGE: Shapes = [
    ((1_200_000,), 0),
    ((4, 300_000), 1),
    ((300_000, 4), 1),
    ((1030, 1030), 0),
    ((1030, 1030), 1),
    ((3, 600, 700), 0),
    ((600, 21, 100), 1),
]
LARGE_IMAGES: Shapes = [((3, 21, 130, 131), -3), ((150, 90, 90), -3), ((2, 600, 900, 1), -3)]
LARGE_IMAGES += [((3, 130, 131, 21), -1)]
EMPTY: Shapes = [((0,), 0), ((0, 5), 1), ((0, 5), 0), ((5, 0), 0), ((2, 0, 3), 1), ((2, 3, 0), 1)]
EMPTY_IMAGES: list[tuple[int, ...]] = [
    (0, 3, 3),
    (3, 0, 3),
    (0, 3, 3, 3),
    (2, 0, 3, 3),
    (2, 3, 3, 0),
]

# Shapes of x and weight: one sample and many, one unit alone and a layer, d of one and of none.
AFFINE = [
    ((7,), (2, 7)),
    ((7,), (3, 2, 7)),
    ((4, 7), (5, 7)),
    ((4, 7), (3, 2, 7)),
    ((1, 1), (1, 1, 1)),
    ((2, 3, 7), (4, 5, 7)),
    ((2, 3, 7), (5, 7)),
    ((64, 33), (17, 3, 33)),
    ((130, 100), (9, 8, 100)),
    ((4, 0), (3, 2, 0)),
    ((0, 7), (3, 2, 7)),
    ((4, 7), (0, 2, 7)),
]

TABLE: list[Case] = []


def add(functions, shapes, dtypes=FLOATS, keywords=None, **more):
    """Every function on every shape in every dtype."""
    for function, shape, dtype in product(functions, shapes, dtypes):
        TABLE.append(Case(function, shape, dtype, keywords or {}, **more))


shape: tuple[int, ...]
axis: Any
mask: tuple[int, ...]
for n, inner in GRID:
    shape = (2, n, inner) if inner > 1 else (2, n)
    add(SLICES[:2], [shape], keywords={"axis": 1})
    add(PIECES[:4], [shape], keywords={"axis": 1}, values=with_ties)
    add(IMAGES[:2], [(2, n, *INNERS[inner])])
    add(IMAGES[:2], [(*INNERS[inner], n)], ["float32"], {"channel_axis": -1})

for shape, axis in RANKS:
    add([*SLICES, *JACOBIANS[:1], *PIECES], [shape], keywords={"axis": axis})
for shape, axis in SEVERAL_AXES:
    add(SLICES, [shape], keywords={"axis": axis, "temperature": 0.7})
add(DIAGONALS[:1], [(), (7,), (4, 3, 5), (1100, 1000)])
add(DIAGONALS[1:], [(3, 4, 5), (2, 3, 4, 5)])
add([*IMAGES, *JACOBIANS[1:]], [(3, 4, 5), (2, 3, 4, 5), (1, 1, 1), (21, 9, 10)])
for shape in [(4, 5, 3), (2, 4, 5, 3), (9, 9, 21)]:
    add([*IMAGES, *JACOBIANS[1:]], [shape], keywords={"channel_axis": -1, "temperature": 0.7})

for shape, axis in LARGE:
    add([*SLICES, *PIECES[:4]], [shape], keywords={"axis": axis})
for shape, axis in LARGE_IMAGES:
    add(IMAGES[:2], [shape], keywords={"channel_axis": axis})
for shape in [(1, 1), (40, 17), (30, 128), (9, 129), (1100, 33)]:
    add(JACOBIANS[:1], [shape], keywords={"axis": 1})
for shape in [(17, 50), (30, 9, 41), (100, 11, 11)]:
    add(JACOBIANS[:1], [shape], keywords={"axis": 0})
add(JACOBIANS[1:], [(2, 21, 50, 50)])
add(PIECES[4:], [(200_000, 6)])

for temperature in (1e-3, 0.3, 2.5, 1e3, 2):
    add([*SLICES, *JACOBIANS[:1]], [(5, 33)], keywords={"axis": 1, "temperature": temperature})
    add([*IMAGES, *JACOBIANS[1:]], [(3, 4, 5)], keywords={"temperature": temperature})
    add(DIAGONALS, [(3, 4, 5)], keywords={"temperature": temperature})

for shape, axis in [((4, 17), 1), ((4, 17, 9), 1), ((1000, 1100), 1)]:
    add(SLICES[:1], [shape], [*INTEGERS, "bool"], {"axis": axis})
    add(PIECES[:2], [shape], [*INTEGERS, "bool"], {"axis": axis})
add(PIECES[:2], [(6, 2), (6, 3), (6, 5, 300)], [*INTEGERS, "bool"], {"axis": 1})
add(IMAGES[:1], [(4, 6, 7), (2, 20, 170, 170)], [*INTEGERS, "bool"])
add(SLICES[:1], [()], [*INTEGERS, "bool"])

for n in (3, 4, 9, 33, 1000):
    add([*SLICES[:1], *PIECES[:2]], [(80, n)], keywords={"axis": -1}, values=nasty)
    add(IMAGES[:1], [(n, 8, 10), (2, n, 5, 8)], values=channels_first(nasty))
    add(IMAGES[:1], [(8, 10, n)], keywords={"channel_axis": -1}, values=nasty)
add([*SLICES[:1], *PIECES[:2]], [(33, 80, 1)], keywords={"axis": 0}, values=channels_first(nasty))

for mask in [(40, 5, 3), (5, 1), (40, 1, 3), (3,), (), (1, 1, 1)]:
    add(SLICES[:1], [(40, 5, 3)], keywords={"axis": 1}, mask=mask)
    add(SLICES[:1], [(40, 5, 3)], ["float32", "int8"], {"axis": (0, 2)}, mask=mask)
    add(IMAGES[:1], [(40, 5, 3)], mask=mask)
add(SLICES[:1], [(1000, 1100)], keywords={"axis": 1}, mask=(1000, 1100))
add(SLICES[:1], [(1000, 1100)], keywords={"axis": 0}, mask=(1000, 1))
add(SLICES[:1], [(400_000, 3)], keywords={"axis": 1}, mask=(400_000, 3))
add(SLICES[:1], [()], mask=())
add(IMAGES[:1], [(2, 6, 300, 320)], mask=(300, 320))

for layout in LAYOUTS:
    dtypes = ["float16", "float32", "float64"]
    if layout != "byte-swapped":  # ml_dtypes has native order alone
        dtypes.append("bfloat16")
    more: dict = {"layout": layout}
    for shape in [(3, 4, 5), (20, 33, 17)]:
        for axis in (0, 1, 2):
            add([*SLICES[:2], *PIECES[:4]], [shape], dtypes, {"axis": axis}, **more)
        add([*SLICES[:2]], [shape], ["float32"], {"axis": (0, 2)}, **more)
        add([*IMAGES[:2], *JACOBIANS, *DIAGONALS, *PIECES[4:]], [shape], dtypes, **more)
        add(SLICES[:1], [shape], ["float32"], {"axis": 1}, mask=shape, **more)
    add([*SLICES[2:], *IMAGES[2:]], [(3, 4, 5)], dtypes, **more)
    add(SLICES[:2], [(1030, 1030)], ["float32"], {"axis": 1}, **more)
    add([*SLICES[:2], *PIECES[:2]], [(1030, 1030)], ["float32"], {"axis": 0}, **more)
    add(IMAGES[:1], [(2, 21, 160, 160)], ["float32"], **more)
    add([*SLICES[:1], *PIECES[:2]], [(5, 7)], ["int16"], {"axis": 1}, **more)
    add(LAYERS, [((4, 7), (3, 2, 7)), ((64, 33), (17, 3, 33))], dtypes, **more)

for shape, axis in EMPTY:
    add(SLICES, [shape], keywords={"axis": axis})
    add(JACOBIANS[:1], [shape], keywords={"axis": axis})
    if shape[axis]:
        add(PIECES, [shape], keywords={"axis": axis})
add([*IMAGES, *JACOBIANS[1:]], EMPTY_IMAGES)
add(DIAGONALS[:1], [(0,), (2, 0)])
add(DIAGONALS[1:], [(0, 2, 2)])

add(LAYERS, AFFINE)
add(LAYERS, [((2048, 16), (160, 4, 16))], ["float32", "float16"])
