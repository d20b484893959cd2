"""Results of benchmarks as figures: SVG that is the same for the same results.

A figure is drawn for a `Look`: a page's width, a language's words. All are drawn light; `darkened`
makes the dark one of that.
"""

import functools
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from cycler import cycler
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks import tables
from benchmarks.tables import Results, Row

# The series, in the order of their use, are told apart by eyes that lack one of the cones, too.
SCHEMES: dict[str, dict[str, Any]] = {
    "light": {
        "text": "#23272e",
        "quiet": "#666e7a",
        "grid": "#dfe2e7",
        "paper": "#ffffff",
        "negative": "#b3341f",
        "positive": "#1f5fa8",
        "series": ["#06447b", "#783001", "#338052", "#8e5cbf", "#927103", "#871d51", "#488d96"],
    },
    "dark": {
        "text": "#dfe3e8",
        "quiet": "#9aa4b0",
        "grid": "#3a414b",
        "paper": "#181b20",
        "negative": "#e8694f",
        "positive": "#5b9df0",
        "series": ["#7fb8fc", "#d08447", "#80c99d", "#a575b5", "#e6cf60", "#c36e8e", "#80c5cf"],
    },
}
LIBRARIES = ["numba_acts", "torch", "onnxruntime", "jax", "scipy", "thinc", "numpy"]
GPU_PEERS = ["numba_acts", "torch", "triton", "torch.compile", "torch.softmax", "cublas product"]
MARKERS = "oDs^vPX"
FONT = ["Source Sans 3", "DejaVu Sans"]
CHINESE_FONT = "Noto Sans SC Thin"  # as its regular weight calls itself


@dataclass(frozen=True)
class Look:
    """Whom a picture is drawn for: a page's width, and the words of a language (English: none)."""

    narrow: bool = False
    words: Mapping[str, str] | None = None

    @property
    def colours(self) -> dict[str, Any]:
        """The colours that all is drawn in."""
        return SCHEMES["light"]

    def say(self, text: str) -> str:
        """Return words in the language of the picture."""
        return text if self.words is None else self.words[text]

    def figure(self, wide: float, narrow: float | None = None) -> Figure:
        """Return an empty figure as wide as the page, of a height in inches for each width."""
        size = (4, narrow or wide) if self.narrow else (8, wide)
        return Figure(size, layout="constrained")

    def panels(
        self,
        count: int,
        wide: float,
        narrow: float,
        columns: int | None = None,
        ratios: Sequence[float] | None = None,
    ) -> tuple[Figure, list[Axes]]:
        """Return a figure of panels, one above the other on a narrow page."""
        figure, columns = self.figure(wide, narrow), self.columns(columns or count)
        shares: Any = {"height_ratios" if self.narrow else "width_ratios": ratios}
        return figure, list(
            figure.subplots(count // columns, columns, squeeze=False, **shares).flat
        )

    def columns(self, panels: int) -> int:
        """Return how many of some panels stand side by side."""
        return 1 if self.narrow else panels


@contextmanager
def drawing(look: Look) -> Iterator[Look]:
    """Set colours, fonts and the salt that makes the names inside an SVG the same every time."""
    colours = look.colours
    fonts = FONT if look.words is None else [CHINESE_FONT, *FONT]
    settings: Any = {
        "axes.axisbelow": True,
        "axes.edgecolor": look.colours["quiet"],
        "axes.facecolor": "none",
        "axes.grid": False,
        "axes.labelcolor": colours["text"],
        "axes.linewidth": 0.8,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlecolor": colours["text"],
        "axes.titlesize": 11,
        "figure.facecolor": "none",
        "font.family": [font for font in fonts if font in font_manager.get_font_names()],
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
        "xtick.color": look.colours["quiet"],
        "xtick.labelcolor": colours["text"],
        "ytick.color": look.colours["quiet"],
        "ytick.labelcolor": colours["text"],
        "axes.prop_cycle": cycler(color=colours["series"]),
    }
    with matplotlib.rc_context(settings):
        yield look


Draw = Callable[[Look], Figure]


def svg(draw: Draw, look: Look | None = None, paper: bool = False) -> str:
    """Return what `draw` draws, on light paper or on none, without a date."""
    with drawing(look or Look()) as look:
        figure, file = draw(look), io.StringIO()
        ground: Any = {"facecolor": look.colours["paper"], "transparent": False} if paper else {}
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None}, **ground)
    return file.getvalue()


def darkened(drawn: str) -> str:
    """Return a picture with each colour of the light scheme as it is in the dark one."""
    light, dark = (flat(colours) for colours in SCHEMES.values())
    swap = dict(zip(light, dark, strict=True))
    return re.sub(r"(?<=: )#[0-9a-f]{6}", lambda found: swap.get(found[0], found[0]), drawn)


def flat(colours: dict[str, Any]) -> list[str]:
    """Return all colours of a scheme in one list."""
    return [colours[key] for key in colours if key != "series"] + colours["series"]


def _style(library: str, look: Look) -> dict[str, Any]:
    places = [names.index(library) for names in (LIBRARIES, GPU_PEERS) if library in names]
    known = places[0] if places else len(MARKERS) - 1
    ours = library == "numba_acts"
    return {
        "color": look.colours["series"][known],
        "marker": MARKERS[known],
        "markersize": 7 if ours else 5.5,
        "zorder": 4 if ours else 3,
        "label": _name(library, look),
    }


def _tick(seconds: float, _: object) -> str:
    return tables.duration(seconds).replace(".00", "").replace(".0", "")


def _name(library: str, look: Look) -> str:
    """Return a library's name; what may stand after a comma are words of a language."""
    name, *words = tables.name(library).split(", ")
    return ", ".join([name, *map(look.say, words)])


def _legend(figure: Figure, handles: dict[str, Any], look: Look) -> None:
    if handles:
        room = sum(len(name.encode()) for name in handles)  # a Chinese letter is wide
        figure.legend(
            handles.values(),
            handles.keys(),
            loc="outside upper center",
            ncols=2 if look.narrow else 6 if room < 60 else 4,
        )


def multiples(rows: Sequence[Row], look: Look) -> Figure:
    """Draw the time of each case, every library's, as a multiple of the case's floor."""
    rows = [row for row in rows if tables.floor(row) and tables.medians(row)]
    lines = max(len(rows), 1)
    figure = look.figure(1.2 + 0.3 * lines, 1.7 + 0.48 * lines)
    axes = figure.add_subplot()
    handles: dict[str, Any] = {}
    seen = [1.0, 2.0]
    names = [f"{tables.label(row)}  {tables.shown(row['shape'])}  {row['dtype']}" for row in rows]
    for place, row in enumerate(rows):
        least = tables.floor(row) or 1.0
        ratios = {library: time / least for library, time in tables.medians(row).items()}
        seen += ratios.values()
        extent = [min(ratios.values()), max(ratios.values())]
        axes.plot(extent, [place] * 2, color=look.colours["grid"], linewidth=2, zorder=1)
        for library, ratio in ratios.items():
            (mark,) = axes.plot(ratio, place, linestyle="", **_style(library, look))
            handles.setdefault(str(mark.get_label()), mark)
        if look.narrow:  # no room beside the axes: above the line
            axes.text(
                0,
                place - 0.28,
                names[place],
                transform=axes.get_yaxis_transform(),
                va="bottom",
                fontsize=9.5,
                path_effects=[withStroke(linewidth=3, foreground=look.colours["paper"])],
            )
    axes.axvline(1, color=look.colours["quiet"], linewidth=1, zorder=0)
    axes.set(xscale="log", xlabel=look.say("time, as a multiple of the floor"))
    # a mark is drawn whole, at the sides as in the first and the last line
    axes.set(
        xlim=(min(seen) / 1.12, max(seen) * 1.25), ylim=(lines - 0.4, -0.9 if look.narrow else -0.6)
    )
    axes.set_yticks(range(len(rows)), [""] * len(rows) if look.narrow else names)
    axes.tick_params(axis="y", length=0)
    wide_range = max(seen) / min(seen) > (30 if look.narrow else 1000)
    axes.xaxis.set_major_locator(LogLocator(subs=(1,) if wide_range else (1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    _legend(figure, handles, look)
    return figure


def _over_size(axes: Any, title: str) -> None:
    axes.set(xscale="log", yscale="log", title=title)
    axes.grid()
    axes.yaxis.set_major_formatter(FuncFormatter(_tick))


def scaling(rows: Sequence[Row], look: Look) -> Figure:
    """Draw time over size on logarithmic axes: a panel a function and length, a line a library."""
    panels: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        panels.setdefault((row["function"], row["length"]), []).append(row)
    columns = look.columns(min(len(panels), 3) or 1)
    height = -(-len(panels) // columns) or 1
    figure = look.figure(0.6 + 2.9 * height, 1.4 + 2.4 * height)
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
                style = _style(library, look) | {"markersize": 3.5}
                style["label"] += cores
                dash = "--" if threads == 1 else "-"
                (drawn,) = axes.plot(*zip(*line, strict=True), linestyle=dash, **style)
                handles.setdefault(style["label"], drawn)
        floor = sorted({(row["elements"], row["copy"]) for row in part if row.get("copy")})
        if floor:
            best = {size: min(time for s, time in floor if s == size) for size, _ in floor}
            (drawn,) = axes.plot(
                list(best),
                list(best.values()),
                color=look.colours["quiet"],
                linewidth=1.2,
                zorder=2,
            )
            handles.setdefault("copy", drawn)
        _over_size(axes, f"{function}, slices of {length:,}")
    for axes in grid[-1]:
        axes.set_xlabel("numbers in all")
    for line in grid if look.narrow else grid[:1]:
        line[0].set_ylabel("time")
    _legend(figure, handles, look)
    return figure


def busy(rows: Sequence[Row], look: Look) -> Figure:
    """Draw the median of calls over size, and up from it the 99th percentile: a panel a load."""
    loads, works = (list(dict.fromkeys(row[key] for row in rows)) for key in ("load", "work"))
    columns = look.columns(len(loads))
    height = len(works) * len(loads) // columns
    figure = look.figure(0.6 + 2.9 * height, 1.4 + 2.2 * height)
    handles: dict[str, Any] = {}
    grid = figure.subplots(height, columns, squeeze=False, sharex=True, sharey=True)
    for line, work in zip(grid.reshape(len(works), len(loads)), works, strict=True):
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
                style = _style(base, look) | {"markersize": 3.5}
                style["label"] += f", {threads}" if threads else ""
                dash = "--" if threads else "-"
                (drawn,) = axes.plot(sizes, medians, linestyle=dash, **style)
                axes.vlines(sizes, medians, slowest, color=style["color"], linewidth=0.9)
                handles.setdefault(style["label"], drawn)
            _over_size(axes, f"{work}, {load}")
        line[0].set_ylabel("time of a call")
    for axes in grid[-1]:
        axes.set_xlabel("numbers in all")
    _legend(figure, handles, look)
    return figure


def errors(rows: Sequence[Row], look: Look) -> Figure:
    """Draw each library's worst error, as a share of the bound, over length and over scale."""
    dtypes = sorted({row["dtype"] for row in rows})
    lines, columns = max(len(dtypes), 1), look.columns(2)
    height = 2 * lines // columns
    figure = look.figure(0.6 + 2.9 * height, 1.2 + 2.4 * height)
    handles: dict[str, Any] = {}
    grid = figure.subplots(height, columns, squeeze=False, sharey=not look.narrow and "row")
    for line, dtype in zip(grid.reshape(lines, 2), dtypes, strict=False):
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
                style = _style(library, look)
                (drawn,) = axes.plot(*zip(*points, strict=True), **style)
                handles.setdefault(style["label"], drawn)
            axes.axhline(1, color=look.colours["quiet"], linewidth=1, zorder=0)
            axes.set(xscale="log", yscale="log", title=f"{dtype}, over the {over}", xlabel=over)
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.grid()
        line[0].set_ylabel("worst error / bound")
    _legend(figure, handles, look)
    return figure


def pictures(results: Results) -> dict[str, Draw]:
    """Return what there is to draw of a results file, by name."""
    found: dict[str, Draw] = {}
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
