"""The figure of the primary analysis: the gain from intermediate training against size, by family and scale."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from xlscale.core.format import share
from xlscale.experiment.conditions import NONE, plain
from xlscale.report.figures import style
from xlscale.report.labels import title
from xlscale.report.sections.primary import HOW
from xlscale.stats import groups, primary
from xlscale.stats.slopes import sizes

_AXES = {"accuracy": "gain (points)", "log": "gain (log ratio)"}


def gains(cells: pd.DataFrame, targets: dict[str, list[str]]) -> Figure:
    """A panel per family (rows) and scale (columns): the mean gain of each set (grey, a marker each) and over sets
    (black) at every rung, with the interval of the primary analysis. ``targets``: family -> its targets."""
    x = sizes(cells)
    markers = style.markers(sorted({*filter(plain, cells["condition"])} - {NONE}))
    grey = {"color": "0.6", "markersize": 4, "linewidth": 0.7}
    with style.look():
        fig, axes = style.panels(len(targets), len(primary.SCALES), 0.9 + 1.45 * len(targets), sharex=True)
        places = ((family, scale) for family in targets for scale in primary.SCALES)
        for ax, (family, scale) in zip(axes, places, strict=True):
            factor, found = HOW[scale]["factor"], primary.run_gains(cells, targets[family], scale)
            ax.axhline(0, color="0.4", linewidth=0.8)
            for name, own in found.groupby(level="condition"):
                ax.plot(x[own.columns], factor * own.mean(), marker=markers[name]["marker"], **grey)
            mean = primary.mean_gains(found)
            at, middle = x[mean["layers"]], factor * mean["estimate"]
            ends = [middle - factor * mean["low"], factor * mean["high"] - middle]
            ax.errorbar(at, middle, yerr=ends, color="black", marker="o", markersize=5, capsize=2.5, zorder=4)
            style.sizes(ax, at)
            ax.set_title(f"{family} targets")
            ax.set_ylabel(_AXES[scale])
        for ax in axes[-len(primary.SCALES) :]:
            ax.set_xlabel("non-embedding parameters (millions)")
        sns.despine(fig=fig)
        legend = {title(name): style.handle(marker=of["marker"], linestyle="-", **grey) for name, of in markers.items()}
        legend |= {"mean over sets": style.handle(marker="o", color="black", linestyle="-", markersize=5)}
        style.legend(fig, legend, columns=3)
        style.note(
            fig, f"local layer: lines are sets (means over seeds and targets), bars {share(groups.LEVEL)} intervals"
        )
    return fig
