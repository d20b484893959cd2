"""The pictures of the pages, drawn by the library itself: ``python -m website.figures FOLDER``.

Each function below draws one picture; `files` gives all of them as SVG: light and dark, wide and
narrow, in English and in Chinese.
"""

import base64
import functools
import importlib.util
import io
import json
import re
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
from matplotlib.colors import ListedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullLocator
from PIL import Image

import numba_acts as na
from benchmarks import figures as measured
from benchmarks import tables
from benchmarks.figures import Look
from website.assets import MODULES

ROOT = Path(__file__).parents[1]
FOLDER = "assets/figures"
# what figures say, in Chinese by the English; the interactive ones have the same table
CHINESE = json.loads((ROOT / "website/words.json").read_text("utf-8"))
Array = np.ndarray

# All is drawn in float32, which needs the fewest kernels.
NUMBERS = np.array([0.0, 0.5, 1.2, 2.0, 3.5], np.float32)
SOFT = 150.0  # a temperature at which the clusters of the photograph overlap


def significant(value: float, digits: int = 2) -> str:
    """Return a number with its significant digits; only a true zero is 0."""
    if value == 0:
        return "0"
    if abs(value) < 1e-4:
        mantissa, _, exponent = f"{value:.0e}".partition("e")
        return f"{mantissa}e{int(exponent)}".replace("-", "−")
    return f"{value:#.{digits}g}".rstrip(".").replace("-", "−")


def softmin_temperature(look: Look) -> Figure:
    """The weights of five numbers over the temperature."""
    temperatures = np.geomspace(0.05, 50, 240)
    y = np.stack([na.softmin(NUMBERS, temperature=float(t)) for t in temperatures])
    figure = look.figure(3.4, 3.6)
    axes = figure.add_subplot()
    for i, curve in enumerate(y.T):
        (line,) = axes.plot(temperatures, curve, color=look.colours["series"][i])
        line.set_label(f"$y_{i + 1}$,  $x_{i + 1} = {NUMBERS[i]:g}$")
        # its name, where it stands apart from the others
        at, beside, side = [
            (70, (5, 3), "left"),
            (84, (-4, 2), "right"),
            (80, (-3, 2), "right"),
            (101, (-3, 2), "right"),
            (140, (5, -8), "left"),
        ][i]
        axes.annotate(
            f"$y_{i + 1}$",
            (temperatures[at], curve[at]),
            beside,
            textcoords="offset points",
            color=line.get_color(),
            ha=side,
        )
    axes.axhline(1 / len(NUMBERS), color=look.colours["quiet"], linewidth=0.8, linestyle=":")
    axes.set(xscale="log", xlim=(0.05, 50), ylim=(-0.02, 1.02), ylabel=look.say("weight"))
    axes.set_xlabel(f"{look.say('temperature')} $T$")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.grid(axis="y")
    axes.legend(loc="upper right")
    return figure


def _matrix(
    axes: Axes, matrix: Array, look: Look, limit: float, rows: list[str], columns: list[str]
) -> None:
    """Draw a matrix as squares with their numbers, red for negative and blue for positive.

    The strength of a colour is the root of the number's share of `limit`, so that small numbers are
    seen and a limit may serve matrices of different sizes.
    """
    for (i, j), value in np.ndenumerate(matrix):
        colour = look.colours["negative" if value < 0 else "positive"]
        strength = 0.6 * min(abs(float(value)) / limit, 1) ** 0.5
        face = to_rgba(colour, strength)
        axes.add_patch(Rectangle((j, i), 1, 1, facecolor=face, edgecolor=look.colours["grid"]))
        text = significant(float(value))
        axes.text(j + 0.5, i + 0.5, text, ha="center", va="center_baseline", fontsize=8)
    axes.set(xlim=(0, len(matrix)), ylim=(len(matrix), 0), aspect="equal")
    centres = np.arange(len(matrix)) + 0.5
    axes.set_xticks(centres, columns)
    axes.set_yticks(centres, rows)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _named(letter: str, count: int) -> list[str]:
    """Return the names of some numbers: x₁, x₂ …."""
    return [f"${letter}_{i + 1}$" for i in range(count)]


def softmin_jacobian(look: Look) -> Figure:
    """Softmin's Jacobian at three temperatures, in one scale of colours."""
    figure, panels = look.panels(3, 3.0, 9.6)
    found = {}
    for temperature in (0.3, 1.0, 4.0):
        y = na.softmin(NUMBERS, temperature=temperature)
        found[temperature] = na.softmin_jacobian(y, temperature=temperature)
    limit = max(float(np.abs(jacobian).max()) for jacobian in found.values())
    for axes, (temperature, jacobian) in zip(panels, found.items(), strict=True):
        _matrix(axes, jacobian, look, limit, _named("y", 5), _named("x", 5))
        axes.set_title(f"$T = {temperature:g}$")
    return figure


def _units(look: Look) -> dict[str, tuple[Array, Array]]:
    """Return the units of the figures: weights (pieces, 1) and biases, by name."""
    touch, level = np.linspace(-1.6, 1.6, 5, dtype=np.float32), np.zeros(2, np.float32)
    two, five = look.say("two pieces"), look.say("five pieces")
    return {
        f"$|x|$, {two}": (np.array([[-1], [1]], np.float32), level),
        f"ReLU, {two}": (np.array([[0], [1]], np.float32), level),
        f"$x^2$, {five}": (2 * touch[:, None], -(touch**2)),
    }


def _label(axes: Axes, text: str, at: tuple[float, float], right: float, up: float) -> None:
    """Write a label some points beside a place."""
    axes.annotate(text, at, (right, up), textcoords="offset points", ha="center")


def _runs(index: Array) -> list[slice]:
    """Return the stretches in which one piece wins."""
    steps = [0, *(np.flatnonzero(np.diff(index)) + 1), len(index)]
    return [slice(a, b) for a, b in zip(steps, steps[1:], strict=False)]


def maxout_shapes(look: Look) -> Figure:
    """Three maxout units above their pieces, whose numbers stand where they win."""
    x = np.linspace(-2, 2, 401, dtype=np.float32)
    figure, panels = look.panels(3, 2.9, 8.4)
    for axes, (name, (weight, bias)) in zip(panels, _units(look).items(), strict=True):
        for slope, start in zip(weight[:, 0], bias, strict=True):
            axes.plot(x, slope * x + start, color=look.colours["quiet"], linewidth=1, alpha=0.75)
        y, index = na.maxout_affine_with_index(x[:, None], weight, bias)
        axes.plot(x, y, color=look.colours["series"][0], linewidth=2.6)
        if "x^2" in name:
            target = {"color": look.colours["series"][1], "linestyle": (0, (2, 2))}
            axes.plot(x, x**2, linewidth=1.6, zorder=3, **target)
        runs = _runs(index)
        top = 4.0 if "x^2" in name else 2.0
        for run in runs:
            # above the unit nothing else is drawn
            shown = np.flatnonzero(y[run] <= 0.95 * top) + run.start
            middle = shown[len(shown) // 2]
            side = -np.sign(weight[index[middle], 0])
            _label(axes, f"{index[middle] + 1}", (x[middle], y[middle]), 8 * side, 4)
        for run in runs[1:]:
            tie = x[run.start - 1 : run.start + 1].mean(), y[run.start]
            axes.plot(*tie, "o", color=look.colours["series"][0], markersize=5)
        if len(runs) == 2:
            _label(axes, look.say("tie"), tie, 0, 15)
        axes.set(title=name, xlim=(-2, 2), ylim=(-0.5 * top, 1.05 * top), xlabel="$x$")
        axes.grid()
    figure.axes[0].set_ylabel("$h(x)$")
    return figure


def maxout_gradient(look: Look) -> Figure:
    """The gradients of the same units, a step for each piece."""
    x = np.linspace(-2, 2, 401, dtype=np.float32)
    figure, panels = look.panels(3, 2.5, 7.2)
    for axes, (name, (weight, bias)) in zip(panels, _units(look).items(), strict=True):
        if "x^2" in name:
            target = {"color": look.colours["series"][1], "linestyle": (0, (2, 2))}
            axes.plot(x, 2 * x, linewidth=1.6, **target)
        _, index = na.maxout_affine_with_index(x[:, None], weight, bias)
        gradient, _, _ = na.maxout_affine_vjp(np.ones_like(x), x[:, None], weight, index)
        for run in _runs(index):
            part, slope = x[run], gradient[run, 0]
            axes.plot(part, slope, color=look.colours["series"][0], linewidth=2.6)
            _label(axes, f"{index[run][0] + 1}", (part[0], slope[0]), 5, 3)
        top = 4.0 if "x^2" in name else 1.0
        axes.set(title=name, xlim=(-2, 2), ylim=(-1.25 * top, 1.35 * top), xlabel="$x$")
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


def _images(
    look: Look, figure: Figure, panels: list[Axes], images: dict[str, tuple[Array, dict[str, Any]]]
) -> None:
    """Draw images, each with its title."""
    for axes, (title, (image, options)) in zip(panels, images.items(), strict=True):
        drawn = axes.imshow(image, interpolation="none", **options)
        axes.set_title(look.say(title))
        axes.axis("off")
        if "cmap" in options:
            bar = figure.colorbar(drawn, ax=axes, shrink=0.72, pad=0.02)
            bar.outline.set_visible(False)


def softmax2d_photograph(look: Look) -> Figure:
    """A photograph's logits, probabilities and uncertainty."""
    found = _clustered(5, SOFT)
    darkest = found["r"][0]
    figure, panels = look.panels(4, 5.2, 10.2, columns=2)
    images = {
        "photograph": (found["photo"], {}),
        "logits of one cluster": (found["logits"][0], {"cmap": "viridis", "vmin": -5000}),
        "its probabilities": (darkest, {"cmap": "viridis", "vmin": 0, "vmax": 1}),
        "entropy of all five, in bits": (found["entropy"], {"cmap": "magma", "vmin": 0}),
    }
    _images(look, figure, panels, images)
    return figure


def softmax2d_jacobian(look: Look) -> Figure:
    """One position's block of the Jacobian, and where it is."""
    found = _clustered(5, SOFT)
    # the position that is least certain, away from the border
    inside = found["entropy"][20:-20, 20:-20]
    row, column = np.array(np.unravel_index(np.argmax(inside), inside.shape)) + 20
    y = found["r"][:, row : row + 1, column : column + 1]
    jacobian = na.softmax2d_jacobian(y, temperature=SOFT)[:, :, 0, 0] * SOFT
    figure, (left, right) = look.panels(2, 3.2, 6.2, ratios=(1.35, 1))
    left.imshow(found["photo"], interpolation="none")
    left.plot(column, row, "o", markersize=15, markerfacecolor="none", markeredgecolor="#fffffe")
    left.plot(column, row, "o", markersize=12, markerfacecolor="none", markeredgecolor="#000000")
    left.set_title(look.say("position {row}, {column}").format(row=row, column=column))
    left.axis("off")
    clusters = [
        f"{letter} {significant(float(p))}" for letter, p in zip("ABCDE", y.flat, strict=True)
    ]
    _matrix(right, jacobian, look, 0.25, clusters, list("ABCDE"))
    right.set_title(look.say("its Jacobian, times the temperature"))
    right.set(xlabel=look.say("logit of cluster"), ylabel=look.say("probability of cluster"))
    return figure


def photograph(look: Look) -> Figure:
    """The photograph, its segmentation, its uncertainty."""
    found = _clustered(8, 40.0)
    figure, panels = look.panels(3, 2.35, 7.4)
    images = {
        "photograph": (found["photo"], {}),
        "most probable cluster": (found["palette"][found["r"].argmax(0)], {}),
        "entropy in bits": (found["entropy"], {"cmap": "magma", "vmin": 0}),
    }
    _images(look, figure, panels, images)
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


def digits(look: Look) -> Figure:
    """The learning curve of the digits, and the pieces of the first layer."""
    losses, accuracies, weight = _trained()
    figure, (left, right) = look.panels(2, 3.4, 7.0, ratios=(1, 1.15))
    epochs = np.arange(1, len(losses) + 1)
    error = 1 - np.array(accuracies)
    loss_ink, error_ink = look.colours["series"][:2]
    left.semilogy(epochs, losses, color=loss_ink)
    left.semilogy(epochs, error, color=error_ink)
    left.text(epochs[8], losses[8] * 1.5, look.say("training loss, nats"), color=loss_ink)
    left.text(epochs[12], error[12] * 1.6, look.say("held-out error"), color=error_ink)
    left.text(epochs[-1], error[-1] * 1.3, f"{error[-1]:.1%}", ha="right", va="bottom")
    left.set(xlabel=look.say("epoch"), title=look.say("learning"))
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
    # transparent for zero, and so right on any paper
    ends = [to_rgba(look.colours[sign]) for sign in ("negative", "positive")]
    shades = [(*ends[k > 128][:3], abs(k - 128) / 128) for k in range(257)]
    heat = ListedColormap(shades, bad=(0, 0, 0, 0))
    tones = mosaic[:-2, :-6]
    right.imshow(tones, interpolation="none", cmap=heat, vmin=-limit, vmax=limit)
    right.set_title(look.say("twelve units, four pieces each"))
    right.axis("off")
    return figure


def card_maxout(look: Look) -> Figure:
    """A unit of four pieces, for the home page."""
    touch = np.array([-1.5, -0.45, 0.5, 1.5], np.float32)
    weight, bias = 2 * touch[:, None], -(touch**2)
    x = np.linspace(-2, 2, 401, dtype=np.float32)
    figure, axes = _card()
    for i, (slope, start) in enumerate(zip(weight[:, 0], bias, strict=True)):
        axes.plot(x, slope * x + start, color=look.colours["series"][i], linewidth=1.6)
    y = na.maxout_affine(x[:, None], weight, bias)
    axes.plot(x, y, color=look.colours["text"], linewidth=3.2, solid_joinstyle="round")
    axes.set(xlim=(-2, 2), ylim=(-1.6, 3.6))
    return figure


def card_softmin(look: Look) -> Figure:
    """Numbers and their weights, for the home page."""
    x = np.array([2.2, 1.1, 0.3, 1.6, 2.9, 0.8, 2.4], np.float32)
    figure, axes = _card()
    place = np.arange(len(x))
    axes.bar(place, 4.2 * na.softmin(x, temperature=0.6), 0.72, color=look.colours["series"][0])
    axes.plot(place, x, "o-", color=look.colours["series"][1], linewidth=1.6, markersize=6)
    axes.set(xlim=(-0.6, len(x) - 0.4), ylim=(0, 3.2))
    return figure


def card_softmax2d(look: Look) -> Figure:
    """The photograph in the mixed colours of its clusters, for the home page."""
    found = _clustered(5, SOFT)
    image = np.einsum("khw,kc->hwc", found["r"], found["palette"])
    figure, axes = _card()
    half = image.shape[1] // 2
    axes.imshow(
        np.concatenate([found["photo"][:, :half] / 255, image[:, half:]], axis=1),
        interpolation="none",
    )
    axes.set_aspect("auto")
    axes.axvline(half, color=look.colours["paper"], linewidth=2)
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


def accuracy(look: Look) -> Figure:
    """Softmin's error and the textbook's, over the length of a slice."""
    errors = _errors()
    figure = look.figure(3.2, 3.4)
    axes = figure.add_subplot()
    series = {"numba_acts": ("numba_acts", 0), "numpy": (look.say("textbook NumPy, shifted"), 1)}
    for name, (label, colour) in series.items():
        ink = look.colours["series"][colour]
        axes.plot(LENGTHS, errors[name], "oD"[colour] + "-", markersize=4, color=ink, label=label)
    axes.axhline(1, color=look.colours["quiet"], linewidth=1)
    axes.text(1.1, 1.03, look.say("the bound"), va="bottom")
    axes.set(xscale="log", xlim=(0.9, 1.2e6), ylim=(0, 1.2), xlabel=look.say("length of the slice"))
    axes.set_ylabel(look.say("worst error / bound"))
    axes.grid(axis="y")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def softmin_still(look: Look) -> Figure:
    """The interactive figure of softmin as it begins."""
    x = np.array([0.4, 1.0, 2.2, 3.0, 3.6], np.float32)
    y = na.softmin(x)
    figure, (left, right) = look.panels(2, 3.6, 7.4)
    place = np.arange(1, 6)
    bars = left.bar(place - 0.25, x, 0.3, color=look.colours["quiet"], label=look.say("numbers"))
    left.bar_label(bars, _named("x", 5), padding=2)
    bars = left.bar(
        place + 0.25, y, 0.3, color=look.colours["series"][:5], label=look.say("weights")
    )
    left.bar_label(
        bars,
        [f"$y_{i}$\n{significant(float(p))}" for i, p in enumerate(y, 1)],
        padding=2,
        fontsize=9,
    )
    left.xaxis.set_major_locator(NullLocator())
    left.set_title(f"{look.say('numbers')} $x$, {look.say('weights')} $y$")
    _matrix(right, na.softmin_jacobian(y), look, 0.25, _named("y", 5), _named("x", 5))
    right.set_title(look.say("Jacobian"))
    return figure


def maxout_still(look: Look) -> Figure:
    """The interactive figure of maxout as it begins: the pieces of |x| and their slopes."""
    x = np.linspace(-2, 2, 401, dtype=np.float32)
    weight, bias = np.array([[-1], [1]], np.float32), np.zeros(2, np.float32)
    y, index = na.maxout_affine_with_index(x[:, None], weight, bias)
    figure, (left, right) = look.panels(2, 3.2, 6.6)
    for i, slope in enumerate(weight[:, 0]):
        ink = look.colours["series"][i]
        left.plot(x, slope * x, color=ink)
        left.annotate(
            f"{i + 1}",
            (-1.5 * slope, -1.5),
            (-9 * slope, 0),
            textcoords="offset points",
            ha="center",
        )
        right.plot(x[index == i], np.full((index == i).sum(), slope), color=ink, linewidth=3)
        _label(right, f"{i + 1}", (slope, slope), 0, 4)
    left.plot(x, y, color=look.colours["text"], linewidth=3.4, zorder=1)
    _label(left, look.say("tie"), (0, 0), 0, 12)
    left.set(title=look.say("h(x): the largest of the pieces"), xlim=(-2, 2), xlabel="$x$")
    right.set(title=look.say("dh/dx: the slope of the piece that wins"), xlim=(-2, 2), ylim=(-2, 2))
    right.set_xlabel("$x$")
    left.grid()
    right.grid()
    return figure


def softmax2d_still(look: Look) -> Figure:
    """Classes on a grid and one position's Jacobian, as the interactive figure begins."""
    places = np.stack(np.meshgrid(np.arange(8), np.arange(8), indexing="ij"), -1)
    centres = np.array([(2, 2), (5, 5), (1, 6)])
    distances = np.linalg.norm(places - centres[:, None, None], axis=-1)
    y = na.softmax2d((2.6 - 0.75 * distances).astype(np.float32))
    figure, (left, right) = look.panels(2, 3.6, 7.4)
    for h, w in np.ndindex(8, 8):
        most = y[:, h, w].argmax()
        face = to_rgba(look.colours["series"][most], 0.6 * y[most, h, w])
        left.add_patch(Rectangle((w, h), 1, 1, facecolor=face, edgecolor=look.colours["grid"]))
        left.text(w + 0.5, h + 0.5, "ABC"[most], ha="center", va="center_baseline")
    h, w = 3, 4
    ring = {"facecolor": "none", "edgecolor": look.colours["text"], "linewidth": 2.5, "zorder": 3}
    left.add_patch(Rectangle((w, h), 1, 1, **ring))
    left.set(xlim=(0, 8), ylim=(8, 0), aspect="equal", title=look.say("most probable cluster"))
    left.axis("off")
    names = [f"{name} {significant(float(p))}" for name, p in zip("ABC", y[:, h, w], strict=True)]
    block = na.softmax2d_jacobian(y)[:, :, h, w]
    _matrix(right, block, look, 0.25, names, list("ABC"))
    right.set_title(look.say("Jacobian"))
    return figure


# without words, and no wider than a phone
CARDS = {
    "card-maxout": card_maxout,
    "card-softmin": card_softmin,
    "card-softmax2d": card_softmax2d,
}
PICTURES = {
    "accuracy": accuracy,
    "softmin-temperature": softmin_temperature,
    "softmin-jacobian": softmin_jacobian,
    "maxout-shapes": maxout_shapes,
    "maxout-gradient": maxout_gradient,
    "softmax2d-photograph": softmax2d_photograph,
    "softmax2d-jacobian": softmax2d_jacobian,
    "photograph": photograph,
    "digits": digits,
    "maxout-still": maxout_still,
    "softmin-still": softmin_still,
    "softmax2d-still": softmax2d_still,
}


def results() -> dict[str, measured.Draw]:
    """Return the pictures of measured results, by name: none where nothing was measured."""
    return {
        f"{name}-{picture}": draw
        for name, file in tables.load().items()
        for picture, draw in measured.pictures(file).items()
    }


@functools.cache
def use_fonts() -> None:
    """Let matplotlib draw in the fonts of the pages."""
    matplotlib.use("Agg")
    folder = Path(tempfile.mkdtemp())
    for family, alphabet in {
        "source-sans-3": "latin",
        "noto-sans-sc": "chinese-simplified",
    }.items():
        name = f"{family}-{alphabet}-400-normal"
        font = TTFont(MODULES / f"@fontsource/{family}/files/{name}.woff")
        font.flavor = None
        font.save(folder / f"{name}.ttf")
        font_manager.fontManager.addfont(folder / f"{name}.ttf")


def languages(name: str) -> list[str]:
    """Return the languages that a picture is drawn in; words of results are names and numbers."""
    return ["en", "zh"] if name in PICTURES or name.endswith("-headline") else ["en"]


def widths(name: str) -> list[str]:
    """Return the widths that a picture is drawn in."""
    return ["any"] if name in CARDS else ["wide", "narrow"]


def address(name: str, language: str, width: str, scheme: str) -> str:
    """Return where a picture is: the one in English where it has no other words."""
    narrow = "-narrow" if width == "narrow" else ""
    tongue = f".{language}" if language != "en" and language in languages(name) else ""
    return f"{FOLDER}/{name}{narrow}{tongue}-{scheme}.svg"


@functools.cache
def drawn(name: str, language: str = "en", width: str = "wide") -> str:
    """Return a picture in light."""
    use_fonts()
    look = Look(width == "narrow", CHINESE if language == "zh" else None)
    return _compressed(measured.svg((CARDS | PICTURES | results())[name], look))


def size(name: str, language: str, width: str) -> tuple[int, int]:
    """Return the width and height of a picture in pixels."""
    language = language if language in languages(name) else "en"
    points = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', drawn(name, language, width))
    assert points is not None
    return round(float(points[1]) * 4 / 3), round(float(points[2]) * 4 / 3)


def _compressed(drawing: str) -> str:
    """Return a picture with its pixels as WebP: photographs with loss, the small ones without."""

    def webp(found: re.Match[str]) -> str:
        file = io.BytesIO()
        image = Image.open(io.BytesIO(base64.b64decode(found[1])))
        image.save(file, "webp", lossless=image.width * image.height < 20_000, quality=80, method=6)
        return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"

    return re.sub(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)", webp, drawing)


@functools.cache
def files() -> dict[str, str]:
    """Return all pictures, and the words that the interactive ones share with them, by address."""
    table = json.dumps(CHINESE, ensure_ascii=False)
    found = {"assets/javascripts/words.js": f"const CHINESE = {table};\n"}
    for name in CARDS | PICTURES | results():
        for language in languages(name):
            for width in widths(name):
                light = drawn(name, language, width)
                found[address(name, language, width, "light")] = light
                found[address(name, language, width, "dark")] = measured.darkened(light)
    return found


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for path, content in files().items():
        (folder / Path(path).name).write_text(content, encoding="utf-8")
