r"""The report, the warm-up, the versions: ``python -m numba_acts [warmup | versions]``.

The report runs every public function on float32 inputs of a real size, compares each result with
its formula in float64 and times it against the lines of NumPy that people write for the same thing.

Every formula stands here once, as plain NumPy, together with its *magnitude*: the same formula with
each term taken by its absolute value. Rounding makes an error in proportion to the terms and not to
what is left of them after they cancel, so a result is right if

    |result - formula| <= 4 eps magnitude,        eps = 2**-23 for float32,

which for softmin and softmax2d is the bound 4 eps (1 + |βx - max βx|) y. What only selects numbers
has magnitude 0: it must be equal. A sum of n products, one after the other, rounds n times, up or
down by chance, which adds up to √n eps/2 (Higham and Mary, 2019); the magnitude of a long sum is
multiplied by √n/8 to allow for that.
"""

import argparse
import importlib
import importlib.util
import inspect
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numba
import numpy as np

import numba_acts
from numba_acts import _busy, _compiler, _versions
from numba_acts._cpu import forward, launch, threads
from numba_acts._halls import libraries

Array = np.ndarray
Pair = tuple[Array, Array]

EPS = float(np.finfo(np.float32).eps)


# ---- the formulas in float64, each with its magnitude -----------------------------------------


def softmax_formula(x: Array, beta: float, axis: int) -> Pair:
    """Return y = exp(βx - max βx) / Σ exp(βx - max βx)."""
    z = beta * x
    z -= z.max(axis, keepdims=True)
    y = np.exp(z)
    y /= y.sum(axis, keepdims=True)
    return y, (1 + np.abs(z)) * y


def product_formula(g: Array, y: Array, beta: float, axis: int) -> Pair:
    """Return Jᵀg = Jg = β y (g - ⟨g, y⟩)."""
    exact = beta * y * (g - (g * y).sum(axis, keepdims=True))
    return exact, abs(beta) * y * (np.abs(g) + (np.abs(g) * y).sum(axis, keepdims=True))


def jacobian_formula(y: Array, beta: float, axis: int) -> Pair:
    """Return J[i, j] = β (y_i δ_ij - y_i y_j), with axes i and j where `axis` stood."""
    y = np.moveaxis(y, axis, -1)
    outer = y[..., :, None] * y[..., None, :]
    diagonal = y[..., :, None] * np.eye(y.shape[-1])
    return tuple(
        np.moveaxis(term, (-2, -1), (axis % y.ndim, axis % y.ndim + 1))
        for term in (beta * (diagonal - outer), abs(beta) * (diagonal + outer))
    )


def diagonal_formula(y: Array, beta: float) -> Pair:
    """Return β y (1 - y), whose factors are all computed without cancellation."""
    return beta * y * (1 - y), abs(beta) * y * (1 - y)


def selected(values: Array, index: Array) -> Array:
    """Return values[..., i, index[..., i]]: each unit's winning piece."""
    return np.take_along_axis(values, index[..., None].astype(np.intp), -1)[..., 0]


def spread(g: Array, index: Array, pieces: int) -> Array:
    """Return zeros with g[..., i] at [..., i, index[..., i]]."""
    dx = np.zeros((*index.shape, pieces), g.dtype)
    np.put_along_axis(dx, index[..., None].astype(np.intp), g[..., None], -1)
    return dx


def one_hot(index: Array, pieces: int, dtype: Any) -> Array:
    """Return ones at the winning pieces, zeros elsewhere."""
    return np.eye(pieces, dtype=dtype)[index]


def winning_weights(weight: Array, index: Array) -> Array:
    """Return weight[u, index[..., u], :]."""
    return weight[np.arange(len(weight)), index]


def affine(x: Array, weight: Array, bias: Array | float) -> Array:
    """Return all pieces weight[u, i]·x + bias[u, i] of a batch of rows."""
    units, pieces, d = weight.shape
    return (x @ weight.reshape(-1, d).T).reshape(-1, units, pieces) + bias


def affine_gradient(g: Array, x: Array, weight: Array, index: Array) -> tuple[Array, ...]:
    """Return the gradients of x, weight and bias through the winning pieces."""
    units, pieces, d = weight.shape
    dz = spread(g, index, pieces)
    flat = dz.reshape(-1, units * pieces)
    return flat @ weight.reshape(-1, d), (flat.T @ x).reshape(weight.shape), dz.sum(0)


# ---- how far a result is from its formula: largest |error| / (4 eps magnitude) ----------------


def error(result: Array, exact: Array, magnitude: Array | float) -> float:
    """Return the largest error in units of the bound; infinity where something is no number."""
    if result.shape != exact.shape or result.dtype != np.float32:
        return np.inf
    bound = 4 * EPS * magnitude
    off = np.abs(result - exact)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(off == 0, 0.0, off / bound)
    largest = float(ratio.max())
    return largest if largest >= 0 else np.inf


def difference(result: Array, exact: Array) -> float:
    """Return 0 if what selects numbers selects the right ones, and infinity if not."""
    return error(result, exact, 0.0)


def double(array: Array) -> Array:
    """Return an input as the formulas take it."""
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def softmax_error(result: Array, x: Array, beta: float, axis: int) -> float:
    """Compare with the softmax formula."""
    return error(result, *softmax_formula(double(x), beta, axis))


def product_error(result: Array, g: Array, y: Array, beta: float, axis: int) -> float:
    """Compare with the product of the Jacobian and g."""
    return error(result, *product_formula(double(g), double(y), beta, axis))


def jacobian_error(result: Array, y: Array, beta: float, axis: int) -> float:
    """Compare with the Jacobian."""
    return error(result, *jacobian_formula(double(y), beta, axis))


def diagonal_error(result: Array, y: Array, beta: float) -> float:
    """Compare with the diagonal of the Jacobian."""
    return error(result, *diagonal_formula(double(y), beta))


def long(n: int) -> float:
    """Return by how much the magnitude of a sum of n products is multiplied."""
    return max(1.0, n**0.5 / 8)


def maxout_pair_error(result: Pair, x: Array) -> float:
    """Compare the maxima and the first of the pieces that reach them."""
    y, index = result
    right = index.dtype == np.int32 and np.array_equal(index, x.argmax(-1))
    return difference(y, x.max(-1)) if right else np.inf


def affine_error(result: Array, x: Array, weight: Array, bias: Array) -> float:
    """Compare with the largest piece."""
    winner = affine(double(x), double(weight), double(bias)).argmax(-1)
    return affine_pair_error((result, winner), x, weight, bias)


def affine_pair_error(result: Pair, x: Array, weight: Array, bias: Array) -> float:
    """Compare y with the largest piece and with the piece that the index names.

    Where two pieces differ by less than rounding, either may win: the index is right if its piece
    is as large as the largest, even if it is another.
    """
    y, index = result
    inputs = [double(array) for array in (x, weight, bias)]
    exact, magnitude = affine(*inputs), long(x.shape[-1]) * affine(*map(np.abs, inputs))
    return max(
        error(y, selected(exact, i), selected(magnitude, i)) for i in (index, exact.argmax(-1))
    )


def affine_gradient_error(
    result: tuple[Array, ...], g: Array, x: Array, weight: Array, index: Array
) -> float:
    """Compare the three gradients with their sums."""
    g, x, weight = (double(array) for array in (g, x, weight))
    exact = affine_gradient(g, x, weight, index)
    magnitude = affine_gradient(np.abs(g), np.abs(x), np.abs(weight), index)
    batch, units = g.shape
    terms = (units, batch, batch)
    return max(
        error(r, e, long(n) * m) for r, e, m, n in zip(result, exact, magnitude, terms, strict=True)
    )


def affine_tangent(
    x: Array, weight: Array, index: Array, *, dx: Array, dweight: Array, dbias: Array
) -> Array:
    """Return the winning pieces of weight·dx + dweight·x + dbias."""
    return selected(affine(dx, weight, dbias) + affine(x, dweight, 0.0), index)


def affine_tangent_error(
    result: Array, x: Array, weight: Array, index: Array, **tangents: Array
) -> float:
    """Compare the tangent with its sum."""
    x, weight = double(x), double(weight)
    tangents = {name: double(array) for name, array in tangents.items()}
    sizes = {name: np.abs(array) for name, array in tangents.items()}
    exact = affine_tangent(x, weight, index, **tangents)
    magnitude = affine_tangent(np.abs(x), np.abs(weight), index, **sizes)
    return error(result, exact, long(2 * x.shape[-1]) * magnitude)


# ---- the textbook: what people write in NumPy -------------------------------------------------


def textbook_softmin(x: Array) -> Array:
    """Softmin over the last axis."""
    e = np.exp(-(x - x.min(-1, keepdims=True)))
    return e / e.sum(-1, keepdims=True)


def textbook_softmax2d(x: Array) -> Array:
    """Softmax over the channels."""
    e = np.exp(x - x.max(0, keepdims=True))
    return e / e.sum(0, keepdims=True)


def textbook_softmin_product(g: Array, y: Array) -> Array:
    """The product of softmin's Jacobian."""
    return -y * (g - (g * y).sum(-1, keepdims=True))


def textbook_softmax2d_product(g: Array, y: Array) -> Array:
    """The product of softmax2d's Jacobian."""
    return y * (g - (g * y).sum(0, keepdims=True))


def textbook_softmin_jacobian(y: Array) -> Array:
    """One matrix for each row."""
    eye = np.eye(y.shape[-1], dtype=y.dtype)
    return y[:, :, None] * y[:, None, :] - y[:, :, None] * eye


def textbook_softmax2d_jacobian(y: Array) -> Array:
    """One matrix for each pixel."""
    eye = np.eye(len(y), dtype=y.dtype)
    return np.einsum("ihw,ij->ijhw", y, eye) - np.einsum("ihw,jhw->ijhw", y, y)


def textbook_affine(x: Array, weight: Array, bias: Array) -> Array:
    """The largest of all pieces."""
    return affine(x, weight, bias).max(-1)


def textbook_affine_pair(x: Array, weight: Array, bias: Array) -> Pair:
    """The largest of all pieces and which it is."""
    pieces = affine(x, weight, bias)
    return pieces.max(-1), pieces.argmax(-1)


# ---- the table --------------------------------------------------------------------------------


class Row(NamedTuple):
    """A public function on one input: what to call, the textbook of the same thing, the check.

    `textbook` takes the inputs and options as the function does; `error` takes the result first.
    """

    function: Callable[..., Any]
    shape: str
    inputs: tuple[Any, ...]
    textbook: Callable[..., Any]
    error: Callable[..., float]
    options: Mapping[str, Any] = MappingProxyType({})


def rows() -> list[Row]:
    """Return one row for each public function."""
    na = numba_acts
    rng = np.random.default_rng(0)

    def normal(*shape: int, scale: float = 1.0) -> Array:
        return rng.standard_normal(shape, np.float32) * np.float32(scale)

    # Energies of 32,768 systems with 128 states, the class scores of a photograph of 512 x 512
    # pixels, a million Maxout units, and a Maxout layer of 240 units for 1024 images of 784 pixels.
    energies = normal(32768, 128, scale=3)
    s = softmax_formula(double(energies), -1.0, -1)[0].astype(np.float32)
    gs = normal(*s.shape)

    scores = normal(21, 512, 512, scale=3)
    p = softmax_formula(double(scores), 1.0, 0)[0].astype(np.float32)
    gp = normal(*p.shape)

    units = normal(1024, 1024, 4)
    winner = units.argmax(-1).astype(np.int32)
    gu = normal(*winner.shape)

    x = normal(1024, 784)
    weight, bias = normal(240, 5, 784, scale=784**-0.5), normal(240, 5)
    chosen = affine(x, weight, bias).argmax(-1).astype(np.int32)
    ga = normal(*chosen.shape)
    tangents = {"dx": normal(1024, 784), "dweight": normal(240, 5, 784), "dbias": normal(240, 5)}

    # The Jacobians of a part, so that each result has 30 to 50 megabytes.
    s_part, p_part, chosen_part = s[:512], np.ascontiguousarray(p[:, :128, :128]), chosen[:64]

    def softmin_product_error(result: Array, g: Array, y: Array) -> float:
        return product_error(result, g, y, -1.0, -1)

    def softmax2d_product_error(result: Array, g: Array, y: Array) -> float:
        return product_error(result, g, y, 1.0, 0)

    rows_shape, map_shape, units_shape = "32768×128", "21×512×512", "1024×1024×4"
    affine_shape = "1024×784 to 240×5"
    return [
        Row(
            na.softmin,
            rows_shape,
            (energies,),
            textbook_softmin,
            lambda result, x: softmax_error(result, x, -1.0, -1),
        ),
        Row(na.softmin_vjp, rows_shape, (gs, s), textbook_softmin_product, softmin_product_error),
        Row(na.softmin_jvp, rows_shape, (gs, s), textbook_softmin_product, softmin_product_error),
        Row(
            na.softmin_jacobian,
            "512×128",
            (s_part,),
            textbook_softmin_jacobian,
            lambda result, y: jacobian_error(result, y, -1.0, -1),
        ),
        Row(
            na.softmin_jacobian_diag,
            rows_shape,
            (s,),
            lambda y: -y * (1 - y),
            lambda result, y: diagonal_error(result, y, -1.0),
        ),
        Row(
            na.softmax2d,
            map_shape,
            (scores,),
            textbook_softmax2d,
            lambda result, x: softmax_error(result, x, 1.0, 0),
        ),
        Row(
            na.softmax2d_vjp,
            map_shape,
            (gp, p),
            textbook_softmax2d_product,
            softmax2d_product_error,
        ),
        Row(
            na.softmax2d_jvp,
            map_shape,
            (gp, p),
            textbook_softmax2d_product,
            softmax2d_product_error,
        ),
        Row(
            na.softmax2d_jacobian,
            "21×128×128",
            (p_part,),
            textbook_softmax2d_jacobian,
            lambda result, y: jacobian_error(result, y, 1.0, 0),
        ),
        Row(
            na.softmax2d_jacobian_diag,
            map_shape,
            (p,),
            lambda y: y * (1 - y),
            lambda result, y: diagonal_error(result, y, 1.0),
        ),
        Row(
            na.maxout,
            units_shape,
            (units,),
            lambda x: x.max(-1),
            lambda result, x: difference(result, x.max(-1)),
        ),
        Row(
            na.maxout_with_index,
            units_shape,
            (units,),
            lambda x: (x.max(-1), x.argmax(-1)),
            maxout_pair_error,
        ),
        Row(
            na.maxout_vjp,
            units_shape,
            (gu, winner, 4),
            spread,
            lambda result, g, index, pieces: difference(result, spread(g, index, pieces)),
        ),
        Row(
            na.maxout_jvp,
            units_shape,
            (units, winner),
            selected,
            lambda result, t, index: difference(result, selected(t, index)),
        ),
        Row(
            na.maxout_jacobian,
            units_shape,
            (winner, 4),
            one_hot,
            lambda result, index, pieces, dtype: difference(result, one_hot(index, pieces, dtype)),
            {"dtype": np.float32},
        ),
        Row(na.maxout_affine, affine_shape, (x, weight, bias), textbook_affine, affine_error),
        Row(
            na.maxout_affine_with_index,
            affine_shape,
            (x, weight, bias),
            textbook_affine_pair,
            affine_pair_error,
        ),
        Row(
            na.maxout_affine_vjp,
            affine_shape,
            (ga, x, weight, chosen),
            affine_gradient,
            affine_gradient_error,
        ),
        Row(
            na.maxout_affine_jvp,
            affine_shape,
            (x, weight, chosen),
            affine_tangent,
            affine_tangent_error,
            tangents,
        ),
        Row(
            na.maxout_affine_jacobian,
            "64×784 to 240×5",
            (weight, chosen_part),
            winning_weights,
            lambda result, weight, index: difference(result, winning_weights(weight, index)),
        ),
    ]


def public_functions() -> list[str]:
    """Return the names that the report and the warm-up have to cover."""
    return [name for name in numba_acts.__all__ if inspect.isfunction(getattr(numba_acts, name))]


# ---- the report -------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """What one row gave; `problem` is empty if its check passed. Times are in seconds."""

    name: str
    shape: str
    error: float
    first: float
    warm: float
    textbook: float
    problem: str


def clock(call: Callable[[], Any], runs: int, budget: float) -> float:
    """Return the median time of at most `runs` calls, which stop after `budget` seconds."""
    times: list[float] = []
    while not times or (len(times) < runs and sum(times) < budget):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def same(a: Any, b: Any) -> bool:
    """Return whether two results have the same bits."""
    if isinstance(a, tuple):
        return all(map(same, a, b))
    return a.tobytes() == b.tobytes()


def run(row: Row) -> Outcome:
    """Call a function, check what it gives and time it against the textbook."""
    function, shape, inputs, textbook, measure, options = row
    start = time.perf_counter()
    result = function(*inputs, **options)
    first = time.perf_counter() - start
    largest = measure(result, *inputs, **options)
    problem = "" if largest <= 1 else "the error exceeds its bound"
    into = {}
    if "out" in inspect.signature(function).parameters:
        pair = isinstance(result, tuple)
        into["out"] = tuple(map(np.empty_like, result)) if pair else np.empty_like(result)
        function(*inputs, **options, **into)
        if not same(result, into["out"]):
            problem = problem or "out= gives another result"
    warm = clock(lambda: function(*inputs, **options, **into), runs=15, budget=0.5)
    plain = clock(lambda: textbook(*inputs, **options), runs=3, budget=0.2)
    return Outcome(function.__name__, shape, largest, first, warm, plain, problem)


def show_progress(done: int, total: int, note: str) -> None:
    """Redraw one line on stderr, or write plain lines where that is no terminal."""
    if sys.stderr.isatty():
        bar = f"[{'#' * (24 * done // total):<24}] {done}/{total} {note}" if done < total else ""
        print(f"\r{bar}\x1b[K", end="", file=sys.stderr, flush=True)
    elif done < total:
        print(f"{done + 1}/{total} {note}", file=sys.stderr, flush=True)


def report() -> int:
    """Print what this runs on, run all rows and print their table; return 1 if a check fails."""
    start = time.perf_counter()
    print(environment(), flush=True)
    table = rows()
    outcomes, watch = [], _busy.Watch()
    for done, row in enumerate(table):
        name = row.function.__name__
        show_progress(done, len(table), f"{name}: compiling, checking, timing")
        try:
            outcomes.append(run(row))
        except Exception as failure:  # what raises has failed its check; the others still count
            problem = f"{type(failure).__name__}: {failure}"
            outcomes.append(Outcome(name, row.shape, np.inf, np.nan, np.nan, np.nan, problem))
        watch.look()
    show_progress(len(table), len(table), "")
    print(format_table(outcomes), end="\n\n")
    if busy := watch.told():
        print(busy, "Times would be shorter on a quiet one.", end="\n\n")

    failed = [f"{o.name}: {o.problem}" for o in outcomes if o.problem]
    missing = set(public_functions()) - {o.name for o in outcomes}
    failed += [f"{name}: has no row in this report" for name in sorted(missing)]
    for line in failed:
        print(f"FAILED {line}")
    seconds = time.perf_counter() - start
    compiling = np.nansum([o.first - o.warm for o in outcomes])
    print(
        f"{len(failed)} checks failed" if failed else f"All {len(outcomes)} functions are right",
        f"in {seconds:.0f} s, of which compiling and loading kernels took {compiling:.0f} s.",
    )
    return 1 if failed else 0


def format_table(outcomes: Sequence[Outcome]) -> str:
    """Return the table and what its columns mean."""
    head = f"{'function':<26}{'shape':<20}{'error':>7}{'time':>12}{'NumPy':>12}{'faster':>9}"
    lines = [head, "-" * len(head)]
    for o in outcomes:
        off = "exact" if o.error == 0 else f"{o.error:.2f}"
        times = f"{o.warm * 1e3:>9.2f} ms{o.textbook * 1e3:>9.1f} ms{o.textbook / o.warm:>8.1f}×"
        lines.append(f"{o.name:<26}{o.shape:<20}{off:>7}{times}{'  FAILED' if o.problem else ''}")
    return "\n".join(
        [
            *lines,
            "",
            "All in float32. error: the largest, in units of its bound 4 eps m, where m is the",
            "float64 formula with every term taken by its absolute value (times √n/8 in long sums",
            "of n products); at most 1 is right.",
            "time: median of warm calls, with out= where there is one. NumPy: the textbook lines",
            "for the same.",
        ]
    )


# ---- what it runs on --------------------------------------------------------------------------


def environment() -> str:
    """Return the versions, the threads, the vector instructions and the GPU, a line each."""
    version = getattr(numba_acts, "__version__", "of unknown version")
    most = threads.most()  # which starts the threads, and so chooses their layer
    return (
        f"numba_acts {version}, numba {numba.__version__}, numpy {np.__version__}, "
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}\n"
        f"threads: {most}, of {os.cpu_count()} cores {threads.usable()} usable, "
        f"threading layer {numba.threading_layer()}\n"
        f"SIMD:    {' '.join(_versions.simd()) or 'unknown'} ({_versions.target()})\n"
        f"GPU:     {_gpu()}\n"
    )


def _gpu() -> str:
    found = _versions.gpus()
    names = ", ".join(found["devices"])
    return f"{names}; this report runs on the CPU" if names else f"none ({found['driver']})"


# ---- the warm-up ------------------------------------------------------------------------------

FLOATS = ["float16", "float32", "float64"]
if importlib.util.find_spec("ml_dtypes"):
    FLOATS.insert(1, "bfloat16")
INTEGERS = ["bool", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64))]

PIECES = (2, 3, 4, 5, 8, 12)  # of a maxout unit, in both warm-ups


def dtype_named(name: str) -> np.dtype:
    """Return the dtype of a name; NumPy itself knows no bfloat16."""
    if name != "bfloat16":
        return np.dtype(name)
    return np.dtype(importlib.import_module("ml_dtypes").bfloat16)


class Inputs(NamedTuple):
    """Arrays that calls are made on, for one dtype."""

    dtype: np.dtype
    slices: list[tuple[Any, int]]  # with their axis
    masks: list[Any]  # of the slices
    few: list[tuple[Any, int]]  # slices for a Jacobian
    flat: list[Any]
    maps: list[Any]
    part_maps: list[Any]
    units: list[tuple[Any, int, int, Any, Any]]  # pieces, axis, how many, one number, the winner
    layers: list[tuple[Any, Any, Any, Any, Any]]  # x, weight, bias, one number a unit, the winner


def calls_on(given: Inputs) -> dict[str, list[Callable[[], Any]]]:
    """Return calls of every function; of integers and bool, of those that are no derivatives."""
    na = numba_acts
    dtype, slices, masks, few, flat, maps, part_maps, units, layers = given
    masked = zip(slices, masks, strict=True)
    values: dict[str, list[Callable[[], Any]]] = {
        "softmin": [partial(na.softmin, x, axis) for x, axis in slices],
        "softmin, masked": [partial(na.softmin, x, axis, where=m) for (x, axis), m in masked],
        "softmax2d": [partial(na.softmax2d, x) for x in maps],
        "maxout": [partial(na.maxout, x, axis) for x, axis, *_ in units],
        "maxout_with_index": [partial(na.maxout_with_index, x, axis) for x, axis, *_ in units],
        "maxout_affine": [partial(na.maxout_affine, x, w, b) for x, w, b, _, _ in layers],
        "maxout_affine_with_index": [
            partial(na.maxout_affine_with_index, x, w, b) for x, w, b, _, _ in layers
        ],
    }
    if dtype.name in INTEGERS:
        return values
    return values | {
        "softmin_vjp": [partial(na.softmin_vjp, y, y, axis) for y, axis in slices],
        "softmin_jvp": [partial(na.softmin_jvp, y, y, axis) for y, axis in slices],
        "softmin_jacobian": [partial(na.softmin_jacobian, y, axis) for y, axis in few],
        "softmin_jacobian_diag": [partial(na.softmin_jacobian_diag, y) for y in flat],
        "softmax2d_vjp": [partial(na.softmax2d_vjp, y, y) for y in maps],
        "softmax2d_jvp": [partial(na.softmax2d_jvp, y, y) for y in maps],
        "softmax2d_jacobian": [partial(na.softmax2d_jacobian, y) for y in part_maps],
        "softmax2d_jacobian_diag": [partial(na.softmax2d_jacobian_diag, y) for y in part_maps],
        "maxout_vjp": [partial(na.maxout_vjp, g, i, k, axis) for _, axis, k, g, i in units],
        "maxout_jvp": [partial(na.maxout_jvp, t, i, axis) for t, axis, _, _, i in units],
        "maxout_jacobian": [
            partial(na.maxout_jacobian, i, k, axis, dtype=dtype) for _, axis, k, _, i in units
        ],
        "maxout_affine_vjp": [
            partial(na.maxout_affine_vjp, g, x, w, i) for x, w, _, g, i in layers
        ],
        "maxout_affine_jvp": [
            partial(na.maxout_affine_jvp, x, w, i, dx=x, dweight=w, dbias=b)
            for x, w, b, _, i in layers
        ],
        "maxout_affine_jacobian": [
            partial(na.maxout_affine_jacobian, w, i) for _, w, _, _, i in layers
        ],
    }


def cpu_inputs(dtype: np.dtype) -> Inputs:
    """Return inputs that need every kernel of the CPU's for one dtype.

    Some are small enough for the calling thread and some large enough for all threads, and their
    slices are contiguous, apart, and too long to be held at once.
    """

    def ones(*shape: int) -> Array:
        return np.ones(shape, dtype)

    def winners(*shape: int) -> Array:
        return np.zeros(shape, np.int32)

    slices = [
        (ones(8, 32), -1),
        (ones(8, 32), 0),
        (ones(2, 8), 0),
        (ones(2048, 128), -1),
        (ones(128, 2048), 0),
        (ones(300, 32), 0),
        (ones(1, 5000), -1),
        (ones(5000, 2), 0),
        (ones(2, 1 << 19), -1),
        (ones(1 << 15, 16), 0),
    ]
    units = [
        (ones(count, k) if axis else ones(k, count), axis, k, ones(count), winners(count))
        for k in PIECES
        for count in (8, 1 << 17)
        for axis in (-1, 0)
    ]
    layers = [
        (ones(4, 8), ones(8, 3, 8), ones(8, 3), ones(4, 8), winners(4, 8)),
        (ones(512, 32), ones(64, 4, 32), ones(64, 4), ones(512, 64), winners(512, 64)),
    ]
    return Inputs(
        dtype,
        slices,
        masks=[x > 0 for x, _ in slices],
        few=[(ones(8, 16), -1), (ones(16, 8), 0), (ones(64, 64), -1), (ones(64, 64), 0)],
        flat=[ones(8, 32), ones(2048, 128)],
        maps=[ones(4, 8, 8), ones(16, 128, 128)],
        part_maps=[ones(4, 8, 8), ones(16, 32, 32)],
        units=units,
        layers=[] if dtype == np.bool_ else layers,  # bool has no products
    )


# What GPU calls are commonly made on: a kernel is compiled for each length of rows.
ROWS = (10, 16, 21, 32, 64, 100, 128, 256, 512, 1000, 1024, 2048, 4096, 8192, 65_536)
CHANNELS = (3, 10, 19, 21, 32, 150, 1000)


def gpu_inputs(dtype: np.dtype, there: Callable[[Array], Any]) -> Inputs:
    """Return inputs of common shapes on a GPU, for one dtype; `there` makes an array of its."""

    def ones(*shape: int, kind: Any = dtype) -> Any:
        return there(np.ones(shape, kind))

    winners = partial(ones, kind=np.int32)
    slices = [(ones(8, n), -1) for n in ROWS] + [(ones(n, 64), 0) for n in (16, 1024, 5000)]
    units = [(ones(64, k), -1, k, ones(64), winners(64)) for k in PIECES]
    units += [(ones(k, 64), 0, k, ones(64), winners(64)) for k in PIECES]
    return Inputs(
        dtype,
        slices,
        masks=[ones(*x.shape, kind=np.bool_) for x, _ in slices],
        few=[(ones(64, n), -1) for n in (10, 32, 128)] + [(ones(16, 64), 0)],
        flat=[ones(64, 64)],
        maps=[ones(n, c, side, side) for n, side in ((1, 16), (256, 7)) for c in CHANNELS],
        part_maps=[ones(21, 16, 16)],
        units=units,
        layers=[(ones(4, 8), ones(8, k, 8), ones(8, k), ones(4, 8), winners(4, 8)) for k in PIECES],
    )


def warmup(names: Sequence[str], on_gpu: bool = False) -> int:
    """Compile all functions for some dtypes; print how long each took and where the cache lies."""
    inputs, kept_by, done = cpu_inputs, forward.rows, lambda: None
    if on_gpu:
        try:
            inputs, kept_by, done = _for_gpu()
        except (ImportError, RuntimeError) as missing:
            print(missing, file=sys.stderr)
            return 1
    launch.warming = True  # for several threads too, however busy the machine is
    left_out: dict[str, str] = {}

    def made(calls: list[Callable[[], Any]], function: str, before: int, total: int) -> float:
        start = time.perf_counter()
        for i, call in enumerate(calls):
            if i == 0 or sys.stderr.isatty():
                show_progress(before + i, total, function)
            try:
                call()
            except ImportError as missing:  # of what multiplies matrices on a GPU
                left_out[function] = str(missing)
        done()
        return time.perf_counter() - start

    seconds: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(names):
        calls, seconds[name], count = calls_on(inputs(dtype_named(name))), {}, 0
        total = sum(map(len, calls.values()))
        for function, some in calls.items():
            seconds[name][function] = made(some, function, count, total)
            count += len(some)
        show_progress(total, total, "")

    head = f"{'seconds':<26}" + "".join(f"{name:>10}" for name in seconds)
    print(head, "-" * len(head), sep="\n")
    for function in dict.fromkeys(function for some in seconds.values() for function in some):
        times = (f"{some[function]:.2f}" if function in some else "" for some in seconds.values())
        line = f"{function:<26}" + "".join(f"{one:>10}" for one in times)
        print(line.rstrip() + ("  left out" if function in left_out else ""))
    sums = (sum(some.values()) for some in seconds.values())
    print(f"{'all':<26}" + "".join(f"{s:>10.2f}" for s in sums), end="\n\n")
    print("Maxout: units of", ", ".join(map(str, PIECES)), "pieces.")
    for reason in dict.fromkeys(left_out.values()):
        print(f"left out: {reason}")
    folder = _compiler.folder(kept_by)
    if folder is None:
        print("Nothing was kept: there is no folder to write to, so each process compiles anew.")
        print("Set NUMBA_CACHE_DIR to a folder that can be written.")
    else:
        print(f"The kernels are kept in {folder}")
    return 0


def _for_gpu() -> tuple[Any, Any, Any]:
    """What makes a dtype's inputs, a kernel whose cache is the others', and what ends a call."""
    wing = libraries.wing()
    from numba import cuda

    kept_by = wing.affine.fill(1).dispatcher
    return partial(gpu_inputs, there=cuda.to_device), kept_by, cuda.synchronize


# ---- the command line -------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that was asked for; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m numba_acts",
        usage="python -m numba_acts [-h] [warmup [-h] [--gpu] [--dtype DTYPE ...] | "
        "versions [-h] [--json]]",
        description="Check every function of numba_acts on inputs of a real size and time it "
        "against NumPy. Exits with status 1 if a check fails.",
    )
    commands = parser.add_subparsers(dest="command", title="commands")
    text = "compile every function into the cache, so that first calls are fast"
    command = commands.add_parser(
        "warmup", prog="python -m numba_acts warmup", help=text, description=text.capitalize() + "."
    )
    command.add_argument(
        "--dtype",
        nargs="+",
        choices=FLOATS + INTEGERS,
        default=["float32", "float64"],
        help="what to compile for: %(choices)s (default: float32 float64)",
        metavar="DTYPE",
    )
    command.add_argument(
        "--gpu", action="store_true", help="the GPU's kernels, for common shapes, on this GPU"
    )
    text = "print what a report of a bug needs to say: versions, processor, threads, cache, GPU"
    told = commands.add_parser(
        "versions", prog="python -m numba_acts versions", help=text, description=f"{text}."
    )
    told.add_argument("--json", action="store_true", help="as a JSON object")
    options = parser.parse_args(arguments)
    if options.command == "versions":
        numba_acts.show_versions(as_json=options.json)
        return 0
    if options.command == "warmup" and options.gpu and (more := set(options.dtype) - set(FLOATS)):
        command.error(f"--gpu compiles for floats alone, not for {', '.join(sorted(more))}")
    return warmup(options.dtype, options.gpu) if options.command == "warmup" else report()


if __name__ == "__main__":
    sys.exit(main())
