"""Results of benchmarks as figures, light and dark: SVG that is the same for the same results."""

import functools
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from cycler import cycler
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks import tables
from benchmarks.tables import Results, Row

# Colours of a scheme: text, quiet text, lines of the grid, and series in the order of their use.
SCHEMES: dict[str, dict[str, Any]] = {
    "light": {
        "text": "#23272e",
        "quiet": "#666e7a",
        "grid": "#dfe2e7",
        "paper": "#ffffff",
        "series": ["#1f5fa8", "#c2571a", "#2e7d52", "#7c4fae", "#a08000", "#b23a5e", "#4f8f97"],
    },
    "dark": {
        "text": "#dfe3e8",
        "quiet": "#9aa4b0",
        "grid": "#3a414b",
        "paper": "#181b20",
        "series": ["#7db2f3", "#f09a5c", "#7cc79b", "#bf9cee", "#d6bd55", "#ee8aa8", "#86c5cd"],
    },
}
LIBRARIES = ["numba_acts", "torch", "onnxruntime", "jax", "scipy", "thinc", "numpy"]
GPU_PEERS = ["numba_acts", "torch", "triton", "torch.compile", "torch.softmax", "cublas product"]
MARKERS = "oDs^vPX"
FONT = ["Source Sans 3", "DejaVu Sans"]


@contextmanager
def scheme(name: str) -> Iterator[dict[str, Any]]:
    """Set colours, fonts and the salt that makes the names inside an SVG the same every time."""
    colours = SCHEMES[name]
    settings: Any = {
        "axes.axisbelow": True,
        "axes.edgecolor": colours["quiet"],
        "axes.facecolor": "none",
        "axes.grid": False,
        "axes.labelcolor": colours["text"],
        "axes.linewidth": 0.8,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlecolor": colours["text"],
        "axes.titlesize": 11,
        "figure.facecolor": "none",
        "font.family": [font for font in FONT if font in font_manager.get_font_names()],
        "font.size": 10.5,
        "grid.color": colours["grid"],
        "grid.linewidth": 0.8,
        "legend.frameon": False,
        "legend.labelcolor": colours["text"],
        "lines.linewidth": 2,
        "mathtext.fontset": "cm",
        "savefig.transparent": True,
        "svg.hashsalt": "numba_acts",
        "text.color": colours["text"],
        "xtick.color": colours["quiet"],
        "xtick.labelcolor": colours["text"],
        "ytick.color": colours["quiet"],
        "ytick.labelcolor": colours["text"],
        "axes.prop_cycle": cycler(color=colours["series"]),
    }
    with matplotlib.rc_context(settings):
        yield colours


def svg(draw: Callable[[dict[str, Any]], Figure], name: str, paper: bool = False) -> str:
    """Return what `draw` draws with a scheme's colours, on its paper or on none, without a date."""
    with scheme(name) as colours:
        figure, file = draw(colours), io.StringIO()
        ground: Any = {"facecolor": colours["paper"], "transparent": False} if paper else {}
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None}, **ground)
    return file.getvalue()


def _style(library: str, colours: dict[str, Any]) -> dict[str, Any]:
    places = [names.index(library) for names in (LIBRARIES, GPU_PEERS) if library in names]
    known = places[0] if places else len(MARKERS) - 1
    ours = library == "numba_acts"
    return {
        "color": colours["series"][known],
        "marker": MARKERS[known],
        "markersize": 7 if ours else 5.5,
        "zorder": 4 if ours else 3,
        "label": tables.name(library),
    }


def _tick(seconds: float, _: object) -> str:
    return tables.duration(seconds).replace(".00", "").replace(".0", "")


def _legend(figure: Figure, handles: dict[str, Any]) -> None:
    if handles:
        figure.legend(
            handles.values(),
            handles.keys(),
            loc="outside upper center",
            ncols=6 if sum(map(len, handles)) < 60 else 4,
        )


def multiples(rows: Sequence[Row], colours: dict[str, Any]) -> Figure:
    """Draw the time of each case, every library's, as a multiple of the case's floor."""
    rows = [row for row in rows if tables.floor(row) and tables.medians(row)]
    figure = Figure((8, 1.1 + 0.36 * max(len(rows), 1)), layout="constrained")
    axes = figure.add_subplot()
    handles: dict[str, Any] = {}
    largest = 2.0
    for place, row in enumerate(rows):
        least = tables.floor(row) or 1.0
        ratios = {library: time / least for library, time in tables.medians(row).items()}
        largest = max(largest, *ratios.values())
        axes.plot(
            [min(ratios.values()), max(ratios.values())],
            [place, place],
            color=colours["grid"],
            linewidth=2,
            zorder=1,
        )
        for library, ratio in ratios.items():
            (mark,) = axes.plot(ratio, place, linestyle="", **_style(library, colours))
            handles.setdefault(tables.name(library), mark)
    axes.axvline(1, color=colours["quiet"], linewidth=1, zorder=0)
    names = [f"{tables.label(row)}  {tables.shown(row['shape'])}  {row['dtype']}" for row in rows]
    axes.set(xscale="log", xlabel="time, as a multiple of the floor", xlim=(0.8, 1.25 * largest))
    axes.set_yticks(range(len(rows)), names)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    _legend(figure, handles)
    return figure


def _over_size(axes: Any, title: str) -> None:
    axes.set(xscale="log", yscale="log", title=title)
    axes.grid()
    axes.yaxis.set_major_formatter(FuncFormatter(_tick))


def scaling(rows: Sequence[Row], colours: dict[str, Any]) -> Figure:
    """Draw time over size on logarithmic axes: a panel a function and length, a line a library."""
    panels: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        panels.setdefault((row["function"], row["length"]), []).append(row)
    columns = min(len(panels), 3) or 1
    height = -(-len(panels) // columns) or 1
    figure = Figure((8, 0.6 + 2.9 * height), layout="constrained")
    handles: dict[str, Any] = {}
    grid = figure.subplots(height, columns, squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    for axes, ((function, length), part) in zip(grid.flat, panels.items(), strict=False):
        for library in tables.libraries(part):
            for threads in sorted({row["threads"] for row in part}):
                line = sorted(
                    (row["elements"], tables.medians(row)[library])
                    for row in part
                    if row["threads"] == threads and library in tables.medians(row)
                )
                if not line:
                    continue
                cores = f", {threads} thread{'s' if threads > 1 else ''}"
                style = _style(library, colours) | {"markersize": 3.5}
                style["label"] += cores
                dash = "--" if threads == 1 else "-"
                (drawn,) = axes.plot(*zip(*line, strict=True), linestyle=dash, **style)
                handles.setdefault(style["label"], drawn)
        floor = sorted({(row["elements"], row["copy"]) for row in part if row.get("copy")})
        if floor:
            best = {size: min(time for s, time in floor if s == size) for size, _ in floor}
            (drawn,) = axes.plot(
                list(best), list(best.values()), color=colours["quiet"], linewidth=1.2, zorder=2
            )
            handles.setdefault("copy", drawn)
        _over_size(axes, f"{function}, slices of {length:,}")
    for axes in grid[-1]:
        axes.set_xlabel("numbers in all")
    grid[0, 0].set_ylabel("time")
    _legend(figure, handles)
    return figure


def busy(rows: Sequence[Row], colours: dict[str, Any]) -> Figure:
    """Draw the median of calls over size, and up from it the 99th percentile: a panel a load."""
    loads, works = (list(dict.fromkeys(row[key] for row in rows)) for key in ("load", "work"))
    figure = Figure((8, 0.6 + 2.9 * len(works)), layout="constrained")
    handles: dict[str, Any] = {}
    grid = figure.subplots(len(works), len(loads), squeeze=False, sharex=True, sharey=True)
    for line, work in zip(grid, works, strict=True):
        for axes, load in zip(line, loads, strict=True):
            part = [row for row in rows if (row["work"], row["load"]) == (work, load)]
            for library in tables.libraries(part):
                base, _, threads = library.partition(", ")
                if threads not in ("", "1 thread"):
                    continue
                points = sorted(
                    (row["elements"], *(row["times"][library][key] for key in ("median", "p99")))
                    for row in part
                    if library in row["times"]
                )
                sizes, medians, slowest = zip(*points, strict=True)
                style = _style(base, colours) | {"markersize": 3.5}
                style["label"] += f", {threads}" if threads else ""
                dash = "--" if threads else "-"
                (drawn,) = axes.plot(sizes, medians, linestyle=dash, **style)
                axes.vlines(sizes, medians, slowest, color=style["color"], linewidth=0.9)
                handles.setdefault(style["label"], drawn)
            _over_size(axes, f"{work}, {load}")
        line[0].set_ylabel("time of a call")
    for axes in grid[-1]:
        axes.set_xlabel("numbers in all")
    _legend(figure, handles)
    return figure


def errors(rows: Sequence[Row], colours: dict[str, Any]) -> Figure:
    """Draw each library's worst error, as a share of the bound, over length and over scale."""
    dtypes = sorted({row["dtype"] for row in rows})
    figure = Figure((8, 0.6 + 2.9 * max(len(dtypes), 1)), layout="constrained")
    handles: dict[str, Any] = {}
    grid = figure.subplots(max(len(dtypes), 1), 2, squeeze=False, sharey="row")
    for line, dtype in zip(grid, dtypes, strict=False):
        part = [row for row in rows if row["dtype"] == dtype]
        for axes, over in zip(line, ("length", "scale"), strict=True):
            for library in tables.libraries([{"times": {row["library"]: 0}} for row in part]):
                worst: dict[float, float] = {}
                for row in part:
                    if row["library"] == library:
                        worst[row[over]] = max(worst.get(row[over], 0.0), row["worst"])
                points = sorted((at, error) for at, error in worst.items() if error > 0)
                if not points:
                    continue
                style = _style(library, colours)
                (drawn,) = axes.plot(*zip(*points, strict=True), **style)
                handles.setdefault(tables.name(library), drawn)
            axes.axhline(1, color=colours["quiet"], linewidth=1, zorder=0)
            axes.set(xscale="log", yscale="log", title=f"{dtype}, over the {over}", xlabel=over)
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.grid()
        line[0].set_ylabel("worst error / bound")
    _legend(figure, handles)
    return figure


def pictures(results: Results) -> dict[str, Callable[[dict[str, Any]], Figure]]:
    """Return what there is to draw of a results file, by name."""
    found: dict[str, Callable[[dict[str, Any]], Figure]] = {}
    if rows := headline(results):
        found["headline"] = functools.partial(multiples, rows)
    for part, name, draw in (("cases", "{}", multiples), ("accuracy", "{}-errors", errors)):
        for function in dict.fromkeys(row["function"] for row in results.get(part, [])):
            rows = [row for row in results[part] if row["function"] == function]
            found[name.format(function)] = functools.partial(draw, rows)
    for part, draw in {"scaling": scaling, "busy": busy}.items():
        if results.get(part):
            found[part] = functools.partial(draw, results[part])
    return found


def headline(results: Results) -> list[Row]:
    """Return the cases that stand for all: the largest float32 forward call of each function."""
    chosen: dict[str, Row] = {}
    for row in results.get("cases", []):
        if row.get("work", "forward") != "forward" or row["dtype"] != "float32":
            continue
        if len(tables.medians(row)) < 2:
            continue
        best = chosen.get(row["function"])
        if best is None or row.get("bytes", 0) > best.get("bytes", 0):
            chosen[row["function"]] = row
    return list(chosen.values())
