"""The look of every figure: readable without colour, and the same bytes for the same numbers.

Figures are drawn inside ``look``, on a ``Figure`` of their own, outside pyplot: there is nothing to close, and a
notebook and a script draw the same.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib import font_manager
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, FixedLocator, LogFormatter, NullLocator

from xlscale.core.files import PAPER, atomic
from xlscale.report.figures import tips

if TYPE_CHECKING:
    from IPython.display import SVG

WIDTH = 6.3  # inches: the text width of the paper
_CANVAS = {"svg": FigureCanvasSVG, "pdf": FigureCanvasPdf}
_UNDATED = {"svg": {"Date": None}, "pdf": {"CreationDate": None, "ModDate": None}}
SHAPES = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h")
_STYLE = {
    "font.family": ["Source Sans 3", "DejaVu Sans"],
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.labelsize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "grid.linewidth": 0.4,
    "svg.fonttype": "path",
    "svg.hashsalt": "xlscale",
    "pdf.fonttype": 42,
}


_PLACES = 9  # of positions, in parts of the figure


@contextmanager
def look() -> Iterator[None]:
    """The style of all figures, with the paper's own sans-serif."""
    for path in sorted((PAPER / "fonts").glob("SourceSans3_*.ttf")):
        font_manager.fontManager.addfont(path)
    with mpl.rc_context():
        mpl.rcdefaults()  # a user's matplotlibrc has no say
        with sns.axes_style("ticks"), mpl.rc_context(_STYLE):
            yield


def _literal(fig: Figure) -> None:
    """Have every text drawn as it is: a label is data, and its dollar signs begin no formula. Powers of ten do."""
    scales = [axis for ax in fig.axes for axis in (ax.xaxis, ax.yaxis)]
    powers = [axis for axis in scales if isinstance(axis.get_major_formatter(), LogFormatter)]
    formulas = {text for axis in powers for text in axis.get_ticklabels(which="both")}
    for text in fig.findobj(Text):
        text.set_parse_math(text in formulas)


def draw(fig: Figure) -> dict[str, bytes]:
    """The figure as "svg" and "pdf", without dates.

    Each is drawn once. The layout settles over three passes: each begins where the last one ended, and measures texts
    as its format has them.
    """
    _literal(fig)
    layout, drawn, lines = fig.get_layout_engine(), {}, tips.marked(fig, SHAPES)
    about = _UNDATED | {"svg": _UNDATED["svg"] | {"Title": tips.alternative(fig)}}
    with look():  # the hash salt has to hold while saving, not only while drawing
        fig.set_dpi(72)  # points, in which both formats are measured
        for number, suffix in enumerate(("svg", "pdf", "svg")):
            canvas = _CANVAS[suffix](fig)
            layout.execute(fig)
            for ax in fig.axes:  # what processors do not agree on would show in the names of clip paths
                ax.set_position(np.round(ax.get_position().bounds, _PLACES))
                ax.set_in_layout(True)  # which that takes back
            if number:
                buffer = BytesIO()
                fig.set_layout_engine("none")
                getattr(canvas, f"print_{suffix}")(buffer, metadata=about[suffix])
                fig.set_layout_engine(layout)
                drawn[suffix] = buffer.getvalue()
    return drawn | {"svg": tips.add(drawn["svg"], fig, lines)}


def screen(fig: Figure) -> bytes:
    """The figure as SVG for a screen, where a hand waits for it: laid out once, and not the same bytes everywhere."""
    _literal(fig)
    lines = tips.marked(fig, SHAPES)
    with look():
        fig.set_dpi(72)
        FigureCanvasSVG(fig).print_svg(buffer := BytesIO(), metadata=_UNDATED["svg"])
    return tips.add(buffer.getvalue(), fig, lines)


def save(drawn: dict[str, bytes], stem: Path) -> Path:
    """Write ``stem``.svg and ``stem``.pdf, as ``draw`` gives them, atomically; returns the SVG's path."""
    for suffix, content in drawn.items():
        with atomic(Path(stem).with_suffix(f".{suffix}")) as temporary:
            temporary.write_bytes(content)
    return Path(stem).with_suffix(".svg")


def show(drawn: dict[str, bytes]) -> SVG:
    """A figure for a notebook, as it is saved."""
    from IPython.display import SVG

    return SVG(drawn["svg"].decode())


def panels(rows: int, columns: int, height: float, **options: bool) -> tuple[Figure, Sequence[Axes]]:
    """A figure as wide as the text and ``height`` inches high, and its axes row by row."""
    fig = Figure(figsize=(WIDTH, height), layout="constrained")
    return fig, fig.subplots(rows, columns, squeeze=False, **options).ravel()


def markers(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """A marker and a colour for each name, as ``Line2D`` takes them; no two names share both."""
    colours = sns.color_palette("colorblind", max(len(names), 1)).as_hex()
    return {
        name: {"marker": SHAPES[(i + i // len(SHAPES)) % len(SHAPES)], "color": colours[i % len(colours)]}
        for i, name in enumerate(names)
    }


def sizes(ax: Axes, parameters: Sequence[float]) -> None:
    """Make the horizontal axis one of sizes, on a log scale, with these and no others as ticks, in millions."""
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(parameters))
    ax.xaxis.set_major_formatter(FixedFormatter([f"{value / 1e6:.1f}" for value in parameters]))
    ax.xaxis.set_minor_locator(NullLocator())


def handle(**style) -> Line2D:
    """An entry of a legend: a marker without a line, unless ``style`` says otherwise."""
    return Line2D([], [], **{"linestyle": "", **style})


def legend(fig: Figure, handles: dict[str, Artist], columns: int, size: float = 8) -> None:
    """Put the legend below the panels, replacing any legend of the figure; ``size`` in points."""
    for old in fig.legends:
        old.remove()
    where = "outside lower center"
    fig.legend(handles.values(), handles.keys(), loc=where, ncols=columns, frameon=False, fontsize=size)


def wrapped(text: str, width: int, lines: int | None = None) -> str:
    """``text`` in lines of at most ``width`` characters; what ``lines`` of them cannot hold is cut, with three dots."""
    return "\n".join(textwrap.wrap(text, width, max_lines=lines, placeholder=" ...", break_on_hyphens=False))


def note(fig: Figure, text: str, size: float = 8) -> None:
    """Put the line above the panels that says which layer of evidence they show; ``size`` in points."""
    fig.suptitle(text, x=0.005, ha="left", fontsize=size, color="0.25")
