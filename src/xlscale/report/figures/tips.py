"""What an SVG says: of a mark to who points at it, and of the whole figure to who does not see it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from xml.sax.saxutils import escape

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FuncFormatter

_USE = re.compile(rb'(<use [^>]*\bx="([-\d.e]+)" y="([-\d.e]+)"[^>]*)/>')


def alternative(fig: Figure) -> str:
    """A text in place of the figure: what it is of, its panels and their axes."""
    panels = [" against ".join(filter(None, (_name(ax, "y"), _name(ax, "x")))) for ax in fig.axes]
    titles = [ax.get_title() for ax in fig.axes]
    shown = [": ".join(filter(None, pair)) for pair in zip(titles, panels, strict=True)]
    return "; ".join(filter(None, [fig.get_suptitle(), *dict.fromkeys(shown)])).replace("\n", " ")


def marked(fig: Figure, shapes: Collection[str]) -> dict[str, tuple[Axes, Line2D]]:
    """The lines whose marks, of ``shapes``, are values, by the id that they get in the SVG."""
    found = {}
    for ax in fig.axes:
        for line in ax.lines:
            if line.get_marker() in shapes and len(line.get_xydata()):
                name = f"marks-{len(found) + 1}"
                line.set_gid(name)
                found[name] = ax, line
    return found


def add(svg: bytes, fig: Figure, lines: dict[str, tuple[Axes, Line2D]]) -> bytes:
    """The SVG of ``fig`` with a title in every mark of ``lines``: its panel, and where it is on both axes."""
    height = fig.get_size_inches()[1] * 72
    parts = re.split(rb'(?=<g id=")', svg)
    for number, part in enumerate(parts):
        name = re.match(rb'<g id="(marks-\d+)"', part)
        if name:
            parts[number] = _USE.sub(_titled(*lines[name[1].decode()], height), part)
    return b"".join(parts)


def _titled(ax: Axes, line: Line2D, height: float) -> Callable[[re.Match[bytes]], bytes]:
    """What gives a mark of ``line`` its title: that of the value that is drawn nearest to it."""
    data = np.asarray(line.get_xydata(), dtype=float)
    at = ax.transData.transform(data)
    places = zip(map(_values(ax.xaxis), data[:, 0]), map(_values(ax.yaxis), data[:, 1]), strict=True)
    said = [[ax.get_title(), f"{_name(ax, 'x')} {x}", f"{_name(ax, 'y')} {y}"] for x, y in places]
    texts = ["; ".join(one.strip() for one in own if one.strip()).replace("\n", " ") for own in said]

    def one(use: re.Match[bytes]) -> bytes:
        away = np.hypot(at[:, 0] - float(use[2]), height - at[:, 1] - float(use[3]))
        return use[1] + f"><title>{escape(texts[np.nanargmin(away)])}</title></use>".encode()

    return one


def _name(ax: Axes, which: str) -> str:
    """The label of an axis, of panels that share it that of any of them."""
    shared = getattr(ax, f"get_shared_{which}_axes")().get_siblings(ax)
    own = getattr(ax, f"get_{which}label")()
    return own or next(filter(None, (getattr(one, f"get_{which}label")() for one in shared)), "")


def _values(axis: Axis) -> Callable[[float], str]:
    """What says a place on an axis: as a number, or, where ticks have names of their own, as that of the nearest one,
    since marks may stand beside it."""
    formatter = axis.get_major_formatter()
    if not isinstance(formatter, FixedFormatter | FuncFormatter):
        return lambda value: f"{value:.4g}".replace("-", "\N{MINUS SIGN}")
    ticks = np.asarray(axis.get_majorticklocs(), dtype=float)
    place, names = axis.get_transform().transform, formatter.format_ticks(ticks)
    return lambda value: str(names[int(np.argmin(np.abs(place(ticks) - place(np.array([value])))))])
