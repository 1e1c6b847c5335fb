"""The headline figure: how gains of others change from 7B to 70B. Readable without colour; no local run is on its axes.

An arrow runs from the gain at a series' smallest size in the window to that at its largest. Names are in the margin,
wrapped, and rows are as high as their names; above what a page holds they become smaller.
"""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xlscale.core.format import size_range
from xlscale.published import changes, coding
from xlscale.published.scales import DEPENDS, GROWS, NOT_KNOWN, SHRINKS
from xlscale.report.figures import style

LAYER = "published layer"
# Direction on the three scales: how its arrow is drawn, in greys that printing tells apart.
LOOKS = {
    GROWS: {"color": "#0b5394", "linestyle": "-"},
    SHRINKS: {"color": "#c0504d", "linestyle": "-"},
    DEPENDS: {"color": "0.45", "linestyle": (0, (2.2, 1.2))},
    NOT_KNOWN: {"color": "0.45", "linestyle": (0, (0.8, 1.0))},
}
MARKERS = {GROWS: "^", SHRINKS: "v", DEPENDS: "o", NOT_KNOWN: "x"}
_WRAP, _MOST, _TEXT = 50, 4, 5.5  # characters of a line, lines and points of a name in the margin
_PITCH, _HIGHEST, _AXIS = 0.097, 6.4, 0.62  # inches: of a line of names, of all of them at most, of what is around them
_BELOW = 2.5  # inches of the panels below
_ORDER = [coding.ENGLISH, coding.MANY, coding.ANOTHER, coding.TESTED, coding.NOT_STATED]
_BASE_COLOURS = {"English": "black", "the tested language": "0.55"}


def headline(table: pd.DataFrame, contrasts: pd.DataFrame) -> Figure:
    """Arrows of all series, in two columns; below them the change against the base's score, and data of one domain
    minus general data within one base.

    ``table`` is that of ``changes.changes``, ``contrasts`` that of ``within.levels`` of ``within.breadth`` in the
    window; either may be empty.
    """
    rows = _lines(table)
    half = sum(row["lines"] for row in rows) / 2 + 1
    columns = _columns(rows, half)
    most = max(sum(row["lines"] for row in column) for column in columns)
    names = min(_PITCH * max(most, 8), _HIGHEST)
    height, scale = names + _AXIS, names / (_PITCH * max(most, 8))
    limits = _limits(table)
    with style.look():
        fig = Figure(figsize=(style.WIDTH, height + _BELOW), layout="constrained")
        above, below = fig.subfigures(2, 1, height_ratios=[height, _BELOW])
        for ax, column in zip(above.subplots(1, 2), columns, strict=True):
            _arrows(ax, column, limits, most, scale)
        left, right = below.subplots(1, 2, width_ratios=[1, 1.15])
        _against_base(left, table)
        _contrasts(right, contrasts)
        _legend(fig, table)
        text = "arrows from the gain at 7B or so to that at 70B or so; bars: 95% t intervals of the change"
        style.note(fig, f"{LAYER}: {text}, over tasks or languages", size=7)
    return fig


def _lines(table: pd.DataFrame) -> list[dict]:
    """What is written down the margin: headings of groups (series: None), and under each its series sorted by the
    base's score at the smallest size."""
    twice = table.duplicated(["family", "training", "data_language"], keep=False)
    found = []
    groups = table.assign(twice=twice).groupby(changes.GROUP)
    for (language, breadth), own in sorted(groups, key=lambda group: place(*group[0])):
        found.append({"text": heading(language, breadth), "lines": 1.5, "series": None})
        for row in own.sort_values(["base_small", "study"], na_position="last").itertuples():
            family = style.wrapped(row.family, _WRAP, 1)  # its sizes stay in sight
            more = f"; {row.protocol}" if row.twice or row.group == "finetuned" else ""
            name = f"{family} {_sizes(row.smallest, row.largest)}, {row.training}{more}"
            text = style.wrapped(name, _WRAP, _MOST)
            lines = text.count("\n") + 1
            found.append({"text": text, "lines": lines + 0.3 * (lines > 1), "series": row})
    return found


def place(language: str, breadth: str) -> tuple[int, str, str]:
    """Where a group stands: the languages that the question is about first, and one domain before many."""
    return (
        _ORDER.index(language) if language in _ORDER else len(_ORDER),
        "" if breadth == "one" else breadth,
        language,
    )


def _sizes(smallest: float, largest: float) -> str:
    """As ``size_range``, short: "7–70B"."""
    return size_range(smallest, largest).replace("B to ", "–")


def heading(language: str, breadth: str) -> str:
    """A group of ``changes.GROUP`` in words."""
    if language == coding.NOT_CODED:
        return f"data {language}"
    of = {"one": "one domain", "many": "many domains", "unknown": "domains not stated"}
    known = {"English": "English", "not stated": "language not stated"}
    return f"{known.get(language, f'language: {language}')}, {of.get(breadth, breadth)}"


def _columns(rows: list[dict], half: float) -> tuple[list[dict], list[dict]]:
    """The rows in two columns; a group that goes on in the second has its heading there again."""
    left: list[dict] = []
    used = 0.0
    while rows[len(left) :] and used + rows[len(left)]["lines"] <= half:
        used += rows[len(left)]["lines"]
        left.append(rows[len(left)])
    if left and left[-1]["series"] is None:  # no heading at the foot of a column
        left.pop()
    right = rows[len(left) :]
    if right and right[0]["series"] is not None:
        last = next(row for row in reversed(left) if row["series"] is None)
        right = [last | {"text": f"{last['text']} (continued)"}, *right]
    return left, right


def _limits(table: pd.DataFrame) -> tuple[float, float]:
    """Limits in points for both columns, that hold all arrows."""
    ends = pd.concat([table["gain_small"], table["gain_large"]])
    low, high = (100 * ends.min(), 100 * ends.max()) if len(ends) else (-10.0, 10.0)
    room = 0.08 * (high - low) + 1
    return low - room, high + room


def _arrows(ax: Axes, rows: list[dict], limits: tuple[float, float], lines: float, scale: float) -> None:
    ax.axvline(0, color="0.6", linewidth=0.6, zorder=1)
    at, ticks = 0.0, []
    for row in rows:
        ticks.append(at + row["lines"] / 2)
        at += row["lines"]
        if row["series"] is not None:
            ax.axhline(ticks[-1], color="0.9", linewidth=0.3, zorder=0)
            _arrow(ax, row["series"], ticks[-1], limits)
    ax.set_ylim(max(lines, 8), 0)
    ax.set_xlim(*limits)
    ax.set_yticks(ticks, [row["text"] for row in rows], fontsize=_TEXT * scale, linespacing=0.85)
    for label, row in zip(ax.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if row["series"] is None else "normal")
    ax.tick_params(axis="y", length=0, pad=2)
    ax.tick_params(axis="x", labelsize=7)
    ax.set_xlabel("gain (points above chance)", fontsize=7.5)
    sns.despine(ax=ax, left=True)


def _arrow(ax: Axes, row, at: float, limits: tuple[float, float]) -> None:
    """One series: the mark of its direction at the small size, the arrow to the large one, and behind its head a bar:
    the interval of the change, cut at the edge of the panel."""
    look = LOOKS[row.direction]
    small, large = 100 * row.gain_small, 100 * row.gain_large
    if pd.notna(row.gain_low):
        low, high = small + 100 * row.gain_low, small + 100 * row.gain_high
        ends = max(low, limits[0]), min(high, limits[1])
        ax.plot(ends, [at, at], color="0.72", linewidth=2.6, solid_capstyle="butt", zorder=2)
    mark = {"marker": MARKERS[row.direction], "markersize": 2.6, "markerfacecolor": "white", "markeredgewidth": 0.6}
    ax.plot(small, at, color=look["color"], zorder=5, **mark)
    shape = {"arrowstyle": "-|>,head_width=0.1,head_length=0.2", "shrinkA": 0, "shrinkB": 0, "linewidth": 0.9, **look}
    ax.annotate("", (large, at), (small, at), arrowprops=shape, zorder=4)


def _against_base(ax: Axes, table: pd.DataFrame) -> None:
    """The change against the base's score; English data are filled black, those in the tested language grey."""
    ax.axhline(0, color="0.6", linewidth=0.6, zorder=1)
    for (direction, language), own in table.groupby(["direction", "data_language"], sort=True):
        face = _BASE_COLOURS.get(language, "white")
        of = {"marker": MARKERS[direction], "markerfacecolor": face, "markeredgecolor": "black", "markeredgewidth": 0.5}
        ax.plot(100 * own["base_small"], 100 * own["gain"], linestyle="", markersize=3.8, **of)
    ax.set_xlabel("score of the base at the smaller size (%)", fontsize=7.5)
    ax.set_ylabel("change of the gain (points)", fontsize=7.5)
    ax.tick_params(labelsize=7)
    sns.despine(ax=ax)


def _contrasts(ax: Axes, table: pd.DataFrame) -> None:
    """Data of one domain minus general data from the same base: a row per training and size, with its interval."""
    ax.axvline(0, color="0.6", linewidth=0.6, zorder=1)
    names = []
    for at, row in enumerate(table.sort_values(["study", "family", "training", "protocol", "size"]).itertuples()):
        if pd.notna(row.gain_low):
            ax.plot([100 * row.gain_low, 100 * row.gain_high], [at, at], color="0.6", linewidth=1.6, zorder=2)
        ax.plot(100 * row.gain, at, marker="D", markersize=3.2, color="black", zorder=3)
        text = f"{row.family} {size_range(row.size, row.size)}, {row.training}, {row.protocol}"
        names.append(style.wrapped(text, 52, 2))
    ax.set_yticks(range(len(names)), names, fontsize=5.2, linespacing=0.95)
    ax.set_ylim(max(len(names), 1) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0, pad=2)
    ax.tick_params(axis="x", labelsize=7)
    ax.set_xlabel("one domain minus general data,\nfrom one base (points)", fontsize=7.5)
    sns.despine(ax=ax, left=True)


def _legend(fig: Figure, table: pd.DataFrame) -> None:
    titles = {GROWS: "grows on all three scales", SHRINKS: "shrinks on all", DEPENDS: DEPENDS, NOT_KNOWN: NOT_KNOWN}
    handles = {}
    for word, title in titles.items():
        if (table["direction"] == word).any():
            plain = {"markerfacecolor": "white", "markersize": 4, "markeredgewidth": 0.6, "linewidth": 1.1}
            handles[title] = style.handle(marker=MARKERS[word], **LOOKS[word], **plain)
    filled = {"marker": "o", "markersize": 4, "markeredgecolor": "black", "markeredgewidth": 0.5}
    for language, face in (*_BASE_COLOURS.items(), ("other or not stated", "white")):
        handles[f"data: {language}"] = style.handle(markerfacecolor=face, **filled)
    style.legend(fig, handles, 4, size=6.8)
