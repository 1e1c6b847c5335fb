"""The figure of designs: what studies at the sizes of the question cost, against the change that they would find."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from xlscale.core.format import listing
from xlscale.report.figures import style
from xlscale.report.sections.designs import INTEREST, USUAL
from xlscale.stats import groups

_LOOKS = (("black", "-", "o"), ("0.35", "--", "s"), ("0.6", ":", "^"))  # of lines: colour, dashes, marker
_STEPS = (1, 1.5, 2, 3, 5, 7)  # ticks, times powers of ten


def designs(found: pd.DataFrame) -> Figure:
    """Two panels of the slope that is found against GPU-hours, a marker per number of sets: by spread for the first
    numbers of seeds and blocks, and by these at the usual spread. A line at INTEREST.

    ``found`` is that of ``sections.designs.table``.
    """
    by_seeds = found.set_index(["seeds", "blocks"]).sort_index(level=[0, 1])
    kinds = list(dict.fromkeys(zip(found["seeds"], found["blocks"], strict=True)))
    of_sets = listing(map(str, sorted(found["sets"].unique())))
    spreads = {f"standard deviation {spread:.0f}": by_seeds.loc[kinds[0]] for spread in found["spread"].unique()}
    spreads = {label: own[own["spread"] == float(label.split()[-1])] for label, own in spreads.items()}
    usual = by_seeds[by_seeds["spread"] == USUAL]
    with style.look():
        fig, (left, right) = style.panels(1, 2, 2.9, sharex=True, sharey=True)
        _lines(left, spreads)
        _lines(right, {f"{seeds} seeds, {blocks} blocks": usual.loc[(seeds, blocks)] for seeds, blocks in kinds})
        left.set_title("by how much sets differ", loc="left")
        right.set_title("by seeds of a set, and blocks", loc="left")
        left.set_ylabel(f"smallest slope found in {groups.POWER:.0%} of records\n(points per factor of ten)")
        left.set_ylim(0, 1.1 * max(*found["slope"], INTEREST))
        _ticks(left, found["hours"])
        style.note(
            fig, f"planned, not run; markers, from the left: {of_sets} sets; grey line: smallest effect of interest"
        )
    return fig


def _lines(ax: Axes, lines: dict[str, pd.DataFrame]) -> None:
    for (label, own), (colour, line, shape) in zip(lines.items(), _LOOKS, strict=True):
        points = own.sort_values("sets")
        look = {"marker": shape, "color": colour, "markersize": 4.5, "linewidth": 1}
        ax.plot(points["hours"], points["slope"], line, label=label, **look)
    ax.axhline(INTEREST, color="0.8", linewidth=2.5, zorder=0)
    ax.set_xlabel("GPU-hours")
    ax.legend(frameon=False, fontsize=7, loc="upper right")
    sns.despine(ax=ax)


def _ticks(ax: Axes, hours: pd.Series) -> None:
    low, high = 0.85 * hours.min(), 1.15 * hours.max()
    ticks = [step * 10**power for power in range(7) for step in _STEPS if low <= step * 10**power <= high]
    ax.set_xscale("log")
    ax.set_xlim(low, high)
    ax.set_xticks(ticks, [f"{value:,g}" for value in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
