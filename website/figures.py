"""The pictures of the pages, drawn by the library itself: ``python -m website.figures FOLDER``.

Each function below draws one picture; `files` gives all of them as SVG in both schemes.
"""

import functools
import importlib.util
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib
import numpy as np
from fontTools.ttLib import TTFont
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

import numba_acts as na
from benchmarks import figures as measured
from benchmarks import tables
from website.assets import MODULES

ROOT = Path(__file__).parents[1]
FOLDER = "assets/figures"
Colours = dict[str, Any]
Array = np.ndarray

# All is drawn in float32, which needs the fewest kernels.
NUMBERS = np.array([0.0, 0.5, 1.2, 2.0, 3.5], np.float32)
SOFT = 150.0  # a temperature at which the clusters of the photograph overlap


def softmin_temperature(colours: Colours) -> Figure:
    """The weights of five numbers over the temperature."""
    temperatures = np.geomspace(0.05, 50, 240)
    y = np.stack([na.softmin(NUMBERS, temperature=float(t)) for t in temperatures])
    figure = Figure((8, 3.1), layout="constrained")
    axes = figure.add_subplot()
    for i, x in enumerate(NUMBERS):
        axes.plot(temperatures, y[:, i], color=colours["series"][i])
        # a label where this curve stands apart from the others
        at = [60, 84, 98, 114, 150][i]
        axes.annotate(
            f"$x = {x:g}$",
            (temperatures[at], y[at, i]),
            [(5, 2), (-5, 3), (-5, 3), (-7, -1), (5, -9)][i],
            textcoords="offset points",
            color=colours["series"][i],
            ha=["left", "right", "right", "right", "left"][i],
            path_effects=[withStroke(linewidth=2.5, foreground=colours["paper"])],
        )
    axes.axhline(1 / len(NUMBERS), color=colours["quiet"], linewidth=0.8, linestyle=":")
    axes.set(xscale="log", xlim=(0.05, 50), ylim=(-0.02, 1.02), ylabel="weight")
    axes.set_xlabel("temperature $T$")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.grid(axis="y")
    return figure


def _heat(colours: Colours) -> LinearSegmentedColormap:
    """Red for negative, blue for positive, the paper for zero."""
    red, blue = ("#b3341f", "#1f5fa8") if colours["paper"] == "#ffffff" else ("#e8694f", "#5b9df0")
    return LinearSegmentedColormap.from_list("heat", [red, colours["paper"], blue])


def _matrix(axes: Axes, matrix: Array, colours: Colours, limit: float, names: list[str]) -> None:
    """Draw a matrix as coloured squares with their numbers."""
    axes.pcolormesh(
        matrix, cmap=_heat(colours), vmin=-limit, vmax=limit, edgecolor=colours["grid"], linewidth=1
    )
    for (i, j), value in np.ndenumerate(matrix):
        strong = abs(value) > 0.62 * limit
        ink = colours["paper"] if strong else colours["text"]
        text = f"{value:.2f}".replace("-", "−") if abs(value) >= 0.005 else "0"
        axes.text(j + 0.5, i + 0.5, text, ha="center", va="center", color=ink, fontsize=8.5)
    axes.set(xlim=(0, len(matrix)), ylim=(len(matrix), 0), aspect="equal")
    centres = np.arange(len(matrix)) + 0.5
    axes.set_xticks(centres, names)
    axes.set_yticks(centres, names)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def softmin_jacobian(colours: Colours) -> Figure:
    """Softmin's Jacobian at three temperatures."""
    figure = Figure((8, 3.0), layout="constrained")
    names = [f"{x:g}" for x in NUMBERS]
    for axes, temperature in zip(figure.subplots(1, 3), (0.3, 1.0, 4.0), strict=True):
        y = na.softmin(NUMBERS, temperature=temperature)
        jacobian = na.softmin_jacobian(y, temperature=temperature)
        _matrix(axes, jacobian, colours, float(np.abs(jacobian).max()), names)
        axes.set_title(f"$T = {temperature:g}$")
        axes.set_xlabel("input $x_j$")
    figure.axes[0].set_ylabel("weight of $x_i$")
    return figure


def _units() -> dict[str, tuple[Array, Array]]:
    """Return the units of the figures: weights (pieces, 1) and biases, by name."""
    touch, level = np.linspace(-1.6, 1.6, 5, dtype=np.float32), np.zeros(2, np.float32)
    return {
        "$|x|$, two pieces": (np.array([[-1], [1]], np.float32), level),
        "ReLU, two pieces": (np.array([[0], [1]], np.float32), level),
        "$x^2$, five pieces": (2 * touch[:, None], -(touch**2)),
    }


def maxout_shapes(colours: Colours) -> Figure:
    """Three maxout units above their pieces."""
    x = np.linspace(-2, 2, 401, dtype=np.float32)
    figure = Figure((8, 2.9), layout="constrained")
    for axes, (name, (weight, bias)) in zip(figure.subplots(1, 3), _units().items(), strict=True):
        for slope, start in zip(weight[:, 0], bias, strict=True):
            axes.plot(x, slope * x + start, color=colours["quiet"], linewidth=1, alpha=0.75)
        if "x^2" in name:
            axes.plot(x, x**2, color=colours["series"][1], linewidth=1.4, linestyle=(0, (2, 2)))
        y = na.maxout_affine(x[:, None], weight, bias)
        axes.plot(x, y, color=colours["series"][0], linewidth=2.6)
        top = 4.0 if "x^2" in name else 2.0
        axes.set(title=name, xlim=(-2, 2), ylim=(-0.5 * top, 1.05 * top), xlabel="$x$")
        axes.grid()
    figure.axes[0].set_ylabel("$h(x)$")
    return figure


def maxout_gradient(colours: Colours) -> Figure:
    """The gradients of the same units."""
    x = np.linspace(-2, 2, 401, dtype=np.float32)
    figure = Figure((8, 2.5), layout="constrained")
    for axes, (name, (weight, bias)) in zip(figure.subplots(1, 3), _units().items(), strict=True):
        if "x^2" in name:
            axes.plot(x, 2 * x, color=colours["series"][1], linewidth=1.4, linestyle=(0, (2, 2)))
        _, index = na.maxout_affine_with_index(x[:, None], weight, bias)
        gradient, _, _ = na.maxout_affine_vjp(np.ones_like(x), x[:, None], weight, index)
        steps = np.flatnonzero(np.diff(index)) + 1
        parts = zip(np.split(x, steps), np.split(gradient[:, 0], steps), strict=True)
        for part, slope in parts:
            axes.plot(part, slope, color=colours["series"][0], linewidth=2.6)
        top = 4.0 if "x^2" in name else 1.0
        axes.set(title=name, xlim=(-2, 2), ylim=(-1.25 * top, 1.25 * top), xlabel="$x$")
        axes.grid()
    figure.axes[0].set_ylabel("$dh/dx$")
    return figure


@functools.cache
def _example(name: str) -> ModuleType:
    """Load one of the programs in examples/."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@functools.cache
def _clustered(clusters: int, temperature: float) -> dict[str, Array]:
    """Return a photograph, half as large, with logits and probabilities of its clusters."""
    segment = _example("segment_photo")
    photo = segment.load_sample_image("china.jpg")[::2, ::2]
    colours = segment.lab_colours(photo)
    centres = segment.first_centres(colours, clusters, np.random.default_rng(0))
    vars(segment)["show_progress"] = lambda *_: None
    centres, r, _ = segment.cluster(colours, centres, temperature, 0.05, 200)
    order = np.argsort(segment.weighted_means(photo.astype(np.float32), r).sum(1))
    r, centres = r[order], centres[order]
    return {
        "photo": photo,
        "logits": -segment.squared_distances(colours, centres),
        "r": r,
        "palette": segment.weighted_means(photo.astype(np.float32), r) / 255,
        "entropy": segment.entropy(r),
    }


def _panels(figure: Figure, images: dict[str, tuple[Array, dict[str, Any]]], rows: int) -> None:
    """Draw images side by side, each with its title."""
    grid = figure.subplots(rows, len(images) // rows, squeeze=False)
    for axes, (title, (image, options)) in zip(grid.flat, images.items(), strict=True):
        drawn = axes.imshow(image, **options)
        axes.set_title(title)
        axes.axis("off")
        if "cmap" in options:
            bar = figure.colorbar(drawn, ax=axes, shrink=0.72, pad=0.02)
            bar.outline.set_visible(False)


def softmax2d_photograph(colours: Colours) -> Figure:
    """A photograph's logits, probabilities and uncertainty."""
    found = _clustered(5, SOFT)
    darkest = found["r"][0]
    figure = Figure((8, 5.2), layout="constrained")
    images = {
        "photograph": (found["photo"], {}),
        "logits of one cluster": (found["logits"][0], {"cmap": "viridis", "vmin": -5000}),
        "its probabilities": (darkest, {"cmap": "viridis", "vmin": 0, "vmax": 1}),
        "entropy of all five, in bits": (found["entropy"], {"cmap": "magma", "vmin": 0}),
    }
    _panels(figure, images, 2)
    return figure


def softmax2d_jacobian(colours: Colours) -> Figure:
    """One position's block of the Jacobian, and where it is."""
    found = _clustered(5, SOFT)
    # the position that is least certain, away from the border
    inside = found["entropy"][20:-20, 20:-20]
    row, column = np.array(np.unravel_index(np.argmax(inside), inside.shape)) + 20
    y = found["r"][:, row : row + 1, column : column + 1]
    jacobian = na.softmax2d_jacobian(y, temperature=SOFT)[:, :, 0, 0] * SOFT
    figure = Figure((8, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.35, 1))
    left.imshow(found["photo"])
    left.plot(column, row, "o", markersize=15, markerfacecolor="none", markeredgecolor="#ffffff")
    left.plot(column, row, "o", markersize=12, markerfacecolor="none", markeredgecolor="#000000")
    left.set_title(f"position ({row}, {column})")
    left.axis("off")
    names = [f"{p:.2f}" for p in y.ravel()]
    _matrix(right, jacobian, colours, float(np.abs(jacobian).max()), names)
    right.set(title="its Jacobian, times $T$", xlabel="logit of the cluster with probability")
    return figure


def photograph(colours: Colours) -> Figure:
    """The photograph, its segmentation, its uncertainty."""
    found = _clustered(8, 40.0)
    figure = Figure((8, 2.35), layout="constrained")
    images = {
        "photograph": (found["photo"], {}),
        "most probable cluster": (found["palette"][found["r"].argmax(0)], {}),
        "entropy in bits": (found["entropy"], {"cmap": "magma", "vmin": 0}),
    }
    _panels(figure, images, 1)
    return figure


@functools.cache
def _trained() -> tuple[list[float], list[float], Array]:
    """Train the digits of the example for some epochs."""
    digits = _example("digits")
    vars(digits)["show_progress"] = lambda *_: None
    rng = np.random.default_rng(0)
    training, held_out = digits.load_split(rng)
    network = digits.new_network(rng)
    losses, accuracies = digits.train(network, training, held_out, 60, rng)
    return losses, accuracies, network[0]


def digits(colours: Colours) -> Figure:
    """The learning curve of the digits, and the pieces of the first layer."""
    losses, accuracies, weight = _trained()
    figure = Figure((8, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    epochs = np.arange(1, len(losses) + 1)
    error = 1 - np.array(accuracies)
    left.semilogy(epochs, losses, color=colours["series"][0])
    left.semilogy(epochs, error, color=colours["series"][1])
    left.text(epochs[5], losses[5] * 1.25, "training loss, nats", color=colours["series"][0])
    left.text(epochs[12], error[12] * 1.6, "held-out error", color=colours["series"][1])
    left.text(epochs[-1], error[-1] * 1.3, f"{error[-1]:.1%}", ha="right", va="bottom")
    left.set(xlabel="epoch", title="learning")
    left.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    left.grid()
    # weights of the inner pixels: those at the border are hardly ever lit, and keep their noise
    inner = weight.reshape(-1, 4, 8, 8)[:, :, 1:-1, 1:-1]
    strongest = np.argsort(-(inner**2).sum((1, 2, 3)))[:12]
    tiles = weight[strongest].reshape(6, 2, 4, 8, 8)
    tiles = np.pad(tiles, [(0, 0), (0, 0), (0, 0), (0, 2), (0, 1)], constant_values=np.nan)
    rows = tiles.transpose(0, 3, 1, 2, 4).reshape(60, 2, 36)
    mosaic = np.pad(rows, [(0, 0), (0, 0), (0, 5)], constant_values=np.nan).reshape(60, 82)
    limit = np.nanquantile(np.abs(mosaic), 0.995)
    right.imshow(mosaic[:-2, :-6], cmap=_heat(colours), vmin=-limit, vmax=limit)
    right.set_title("twelve units, four pieces each")
    right.axis("off")
    return figure


def card_maxout(colours: Colours) -> Figure:
    """A unit of four pieces, for the home page."""
    touch = np.array([-1.5, -0.45, 0.5, 1.5], np.float32)
    weight, bias = 2 * touch[:, None], -(touch**2)
    x = np.linspace(-2, 2, 401, dtype=np.float32)
    figure, axes = _card()
    for i, (slope, start) in enumerate(zip(weight[:, 0], bias, strict=True)):
        axes.plot(x, slope * x + start, color=colours["series"][i], linewidth=1.6)
    y = na.maxout_affine(x[:, None], weight, bias)
    axes.plot(x, y, color=colours["text"], linewidth=3.2, solid_joinstyle="round")
    axes.set(xlim=(-2, 2), ylim=(-1.6, 3.6))
    return figure


def card_softmin(colours: Colours) -> Figure:
    """Numbers and their weights, for the home page."""
    x = np.array([2.2, 1.1, 0.3, 1.6, 2.9, 0.8, 2.4], np.float32)
    figure, axes = _card()
    place = np.arange(len(x))
    axes.bar(place, 4.2 * na.softmin(x, temperature=0.6), 0.72, color=colours["series"][0])
    axes.plot(place, x, "o-", color=colours["series"][1], linewidth=1.6, markersize=6)
    axes.set(xlim=(-0.6, len(x) - 0.4), ylim=(0, 3.2))
    return figure


def card_softmax2d(colours: Colours) -> Figure:
    """The photograph in the mixed colours of its clusters, for the home page."""
    found = _clustered(5, SOFT)
    image = np.einsum("khw,kc->hwc", found["r"], found["palette"])
    figure, axes = _card()
    half = image.shape[1] // 2
    axes.imshow(np.concatenate([found["photo"][:, :half] / 255, image[:, half:]], axis=1))
    axes.set_aspect("auto")
    axes.axvline(half, color=colours["paper"], linewidth=2)
    return figure


def _card() -> tuple[Figure, Axes]:
    figure = Figure((3.4, 2.1))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    return figure, axes


@functools.cache
def _errors() -> dict[str, Array]:
    """Return the worst errors of softmin and of the textbook in float32, as shares of the bound."""
    rng = np.random.default_rng(0)
    eps = np.finfo(np.float32).eps
    found = []
    for length in LENGTHS:
        x = (30 * rng.normal(size=(max(4, 4096 // length), length))).astype(np.float32)
        distance = x.astype(np.longdouble) - x.min(-1, keepdims=True)
        exact = np.exp(-distance)
        exact /= exact.sum(-1, keepdims=True)
        bound = 4 * eps * (1 + distance) * exact + np.finfo(np.float32).smallest_subnormal
        power = np.exp(x.min(-1, keepdims=True) - x)
        results = na.softmin(x), power / power.sum(-1, keepdims=True)
        found.append([float(np.max(np.abs(y - exact) / bound)) for y in results])
    return dict(zip(("numba_acts", "numpy"), np.array(found).T, strict=True))


LENGTHS = (1, 2, 3, 5, 10, 17, 32, 100, 128, 316, 1000, 3162, 10_000, 31_623, 100_000, 1_000_000)


def accuracy(colours: Colours) -> Figure:
    """Softmin's error and the textbook's, over the length of a slice."""
    errors = _errors()
    figure = Figure((8, 3.2), layout="constrained")
    axes = figure.add_subplot()
    series = {"numba_acts": ("numba_acts", 0), "numpy": ("textbook NumPy, shifted", 3)}
    for name, (label, colour) in series.items():
        ink = colours["series"][colour]
        axes.plot(LENGTHS, errors[name], "o-", markersize=4, color=ink, label=label)
    axes.axhline(1, color=colours["quiet"], linewidth=1)
    axes.text(1.1, 1.06, "the bound", color=colours["quiet"], va="bottom")
    axes.set(xscale="log", xlim=(0.9, 1.2e6), ylim=(0, None), xlabel="length of the slice")
    axes.set_ylabel("worst error / bound")
    axes.grid(axis="y")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


PICTURES = {
    "accuracy": accuracy,
    "card-maxout": card_maxout,
    "card-softmin": card_softmin,
    "card-softmax2d": card_softmax2d,
    "softmin-temperature": softmin_temperature,
    "softmin-jacobian": softmin_jacobian,
    "maxout-shapes": maxout_shapes,
    "maxout-gradient": maxout_gradient,
    "softmax2d-photograph": softmax2d_photograph,
    "softmax2d-jacobian": softmax2d_jacobian,
    "photograph": photograph,
    "digits": digits,
}


def results() -> dict[str, Any]:
    """Return the pictures of measured results, by name: none where nothing was measured."""
    return {
        f"{name}-{picture}": draw
        for name, file in tables.load().items()
        for picture, draw in measured.pictures(file).items()
    }


@functools.cache
def use_fonts() -> None:
    """Let matplotlib draw in the font of the pages."""
    matplotlib.use("Agg")
    font = TTFont(MODULES / "@fontsource/source-sans-3/files/source-sans-3-latin-400-normal.woff")
    font.flavor = None
    path = Path(tempfile.mkdtemp()) / "font.ttf"
    font.save(path)
    font_manager.fontManager.addfont(path)


@functools.cache
def files() -> dict[str, str]:
    """Return all pictures in both schemes, by address."""
    use_fonts()
    return {
        f"{FOLDER}/{name}-{scheme}.svg": measured.svg(draw, scheme)
        for name, draw in (PICTURES | results()).items()
        for scheme in measured.SCHEMES
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for address, content in files().items():
        (folder / Path(address).name).write_text(content, encoding="utf-8")
