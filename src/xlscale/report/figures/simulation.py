"""The figure of error rates: how often each analysis finds a slope that is not there, by simulation."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from xlscale.report.figures import style
from xlscale.report.sections.simulation import BAND, NAMES
from xlscale.stats.simulation import PRIMARY


def error_rates(found: pd.DataFrame) -> Figure:
    """A row per scenario, a marker per analysis (the primary one filled), and the band of a calibrated test at 5%.

    ``found`` is that of ``sections.simulation.error_rates``.
    """
    scenarios = list(dict.fromkeys(found["scenario"]))
    looks = {
        name: of | {"markersize": 5, "markeredgecolor": of["color"], "markerfacecolor": "white"}
        for name, of in style.markers([*NAMES]).items()
    }
    looks[PRIMARY] |= {"markeredgecolor": "black", "markerfacecolor": "black"}
    with style.look():
        fig, (ax,) = style.panels(1, 1, 1.1 + 0.22 * len(scenarios))
        ax.axvspan(100 * BAND[0], 100 * BAND[1], color="0.88", zorder=0)
        for row in found.itertuples():
            at, above = scenarios.index(row.scenario), 3 + (row.analysis == PRIMARY)
            ax.plot(100 * row.rejected, at, linestyle="", zorder=above, **looks[row.analysis])
        ax.set_yticks(range(len(scenarios)), scenarios)
        ax.set_ylim(len(scenarios) - 0.5, -0.5)
        ax.set_xscale("symlog", linthresh=10)
        ax.set_xlim(0, 100)
        ax.set_xticks([0, 3, 5, 7, 10, 20, 50, 100], labels=["0", "3", "5", "7", "10", "20", "50", "100"])
        ax.set_xlabel("records in which a slope of zero is rejected at 5% (%)")
        ax.grid(axis="y")
        sns.despine(ax=ax)
        style.legend(fig, {label: style.handle(**looks[name]) for name, label in NAMES.items()}, columns=3)
        style.note(fig, "simulated records without any effect, at the layout of the confirmatory study")
    return fig
