"""The figure of published gains by kind of data: how they change over the window, on every scale."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xlscale.core.format import signed
from xlscale.published import changes
from xlscale.published.scales import SCALES
from xlscale.report.figures import style
from xlscale.report.figures.window import LAYER, heading, place

_FACTOR = {"gain": 100, "share": 100, "log_odds": 1}
_UNIT = {"gain": "points above chance", "share": "% of the error left", "log_odds": "log odds"}


def by_kind(table: pd.DataFrame, groups: pd.DataFrame) -> Figure:
    """A panel per scale, a row per kind of data: the mean change of the gain (diamond, with its value) with its
    interval, and a tick for every family in a study.

    ``table`` is that of ``changes.changes``, ``groups`` that of ``changes.grouped`` of it.
    """
    rows = sorted(groups.itertuples(), key=lambda row: place(row.data_language, row.data_breadth))
    units = table.groupby([*changes.GROUP, "study", "family"])[[*SCALES]].mean()
    with style.look():
        fig, axes = style.panels(1, len(SCALES), 0.95 + 0.32 * max(len(rows), 2), sharey=True)
        for ax, name in zip(axes, SCALES, strict=True):
            _panel(ax, rows, units[name], name)
        names = [f"{heading(row.data_language, row.data_breadth)} ({row.series} | {row.units})" for row in rows]
        axes[0].set_yticks(range(len(rows)), names)
        axes[0].set_ylim(max(len(rows), 1) - 0.5, -0.5)
        style.note(fig, f"{LAYER}, 7B to 70B; in brackets the numbers of series and of families in studies")
    return fig


def _panel(ax: Axes, rows: list, units: pd.Series, name: str) -> None:
    """One scale."""
    ax.axvline(0, color="0.4", linewidth=0.8, zorder=1)
    for at, row in enumerate(rows):
        own = _FACTOR[name] * units.loc[(row.data_language, row.data_breadth)].dropna()
        ax.plot(own, [at] * len(own), linestyle="", marker="|", color="0.55", markersize=7, zorder=2)
        low, high = (_FACTOR[name] * getattr(row, f"{name}_{end}") for end in ("low", "high"))
        if pd.notna(low):
            ax.plot([low, high], [at, at], color="black", linewidth=1.4, zorder=3)
        mean = _FACTOR[name] * getattr(row, name)
        ax.plot(mean, at, marker="D", color="black", markersize=4.2, zorder=4)
        if pd.notna(mean):
            said = signed(mean, 1 if _FACTOR[name] > 1 else 2, factor=1)
            clear = {"facecolor": "white", "edgecolor": "none", "pad": 0.3}  # of ticks and of the line at zero
            place = {"textcoords": "offset points", "ha": "center", "zorder": 5}
            ax.annotate(said, (mean, at), (0, 5.5), fontsize=6.5, bbox=clear, **place)
    ax.set_xlabel(f"change of the gain\n({_UNIT[name]})")
    ax.grid(axis="x")
    sns.despine(ax=ax, left=True)
    ax.tick_params(axis="y", length=0)
