"""The cards that chats and networks show of a link: ``python -m website.cards FOLDER``.

Each is a PNG of 1200 × 630, drawn with the pages' font and their own pictures: one for each
function's pages, and one for all others. Formulas and pictures serve both languages.
"""

import functools
import io
import sys
from pathlib import Path, PurePosixPath

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from benchmarks.figures import Draw, Look, drawing
from website import figures

FOLDER = "assets/cards"
SIZE, DPI = (12, 6.3), 100
FUNCTIONS = {  # name, formula and derivative, and the picture beside them
    "maxout": (
        "Maxout",
        [r"$y \;=\; \max_i \; (w_i \cdot x + b_i)$", r"$\partial y / \partial x \;=\; w_{i^*}$"],
        figures.card_maxout,
    ),
    "softmin": (
        "Softmin",
        [
            r"$y_i \;=\; e^{-x_i/T} \,/\, \sum_j e^{-x_j/T}$",
            r"$\partial y_i / \partial x_j \;=\; (y_i y_j - y_i \delta_{ij}) / T$",
        ],
        figures.card_softmin,
    ),
    "softmax2d": (
        "Softmax2d",
        [
            r"$y_c \;=\; e^{x_c/T} \,/\, \sum_k e^{x_k/T}$",
            r"$\partial y_c / \partial x_k \;=\; (y_c \delta_{ck} - y_c y_k) / T$",
        ],
        figures.card_softmax2d,
    ),
}


def card(address: str) -> str:
    """Return the address of a page's card."""
    name = PurePosixPath(address).stem
    return f"{FOLDER}/{name if name in FUNCTIONS else 'home'}.png"


def _paste(figure: Figure, draw: Draw, at: tuple[float, float, float, float]) -> None:
    """Draw a picture of the pages into a part of the card: left, bottom, width and height."""
    with drawing(Look()) as look:
        picture = draw(look)
        content = io.BytesIO()
        picture.savefig(content, format="png", dpi=300)
    content.seek(0)
    axes = figure.add_axes(at)
    axes.imshow(plt.imread(content), aspect="auto")
    axes.axis("off")


def _card(title: str, lines: list[str], credit: str = "") -> Figure:
    with drawing(Look()) as look:
        colours = look.colours
        figure = Figure(SIZE, facecolor=colours["paper"])
        figure.add_artist(plt.Rectangle((0, 0), 0.012, 1, color=colours["series"][0]))
        figure.text(0.06, 0.78, title, fontsize=66, va="center")
        for height, line in zip((0.56, 0.4), lines, strict=False):
            figure.text(0.06, height, line, fontsize=29, va="center")
        figure.text(
            0.06, 0.08, f"numba_acts   {BELOW}   {credit}", fontsize=20, color=colours["quiet"]
        )
    return figure


BELOW = "Numba kernels for CPU and GPU"
CREDIT = "photograph: danielbuechele, CC BY 2.0"


def _drawn(figure: Figure) -> bytes:
    content = io.BytesIO()
    with drawing(Look()):
        figure.savefig(content, dpi=DPI, transparent=False, metadata={"Software": None})
    return content.getvalue()


@functools.cache
def files() -> dict[str, bytes]:
    """Return all cards by address."""
    figures.use_fonts()
    drawn = {}
    for name, (title, lines, picture) in FUNCTIONS.items():
        figure = _card(title, lines, CREDIT if name == "softmax2d" else "")
        _paste(figure, picture, (0.64, 0.34, 0.31, 0.365))
        drawn[name] = _drawn(figure)
    home = _card("numba_acts", ["Maxout, Softmin and Softmax2d and their derivatives"], CREDIT)
    for i, (_, _, picture) in enumerate(FUNCTIONS.values()):
        _paste(home, picture, (0.06 + 0.31 * i, 0.17, 0.27, 0.318))
    drawn["home"] = _drawn(home)
    return {f"{FOLDER}/{name}.png": content for name, content in drawn.items()}


if __name__ == "__main__":
    for address, content in files().items():
        Path(sys.argv[1], Path(address).name).write_bytes(content)
