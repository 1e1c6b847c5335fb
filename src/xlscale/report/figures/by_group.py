"""The figure of languages: gains by script and by whether the model saw a language in pretraining."""

from __future__ import annotations

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xlscale.core.format import share
from xlscale.report.figures import style
from xlscale.report.labels import layers
from xlscale.stats import groups
from xlscale.stats.by_group import KEYS, Gains

_COUNTED = "in brackets how many languages"
OF_SETS = f"bars are the intervals of the primary analysis, over sets and seeds; {_COUNTED}"
OF_SEEDS = f"bars are {share(groups.LEVEL)} t intervals from the variance between seeds at that rung; {_COUNTED}"
_ENDS = {0: -0.18, -1: 0.18}  # the smallest and the largest rung, above and below the middle of a row
_LANGUAGE = {"color": "0.55", "marker": "|", "markersize": 5.5, "markeredgewidth": 0.7}


def _mean(index: int) -> dict[str, str | float]:
    """The marker of a mean at one of _ENDS."""
    filled = "white" if index == 0 else "black"
    return {"color": "black", "marker": "o", "markersize": 4.5, "markerfacecolor": filled}


def by_group(found: dict[str, Gains], note: str) -> Figure:
    """A panel per entry of ``found`` (title -> gains), a row per group of languages: the mean gain at the smallest
    (open) and the largest rung (filled) with its interval, and a tick per language."""
    shown = list(
        dict.fromkeys(key for one in found.values() for key in one.groups[KEYS].itertuples(index=False, name=None))
    )
    shown.sort(key=lambda key: [key[0] != "Latin", key[0] == "other scripts", key[0], not key[1]])
    rungs = sorted({int(k) for one in found.values() for k in one.groups["layers"]})
    with style.look():
        fig, axes = style.panels(1, max(len(found), 1), 1.2 + 0.42 * max(len(shown), 1), sharey=True)
        for ax, (name, gains) in zip(axes, found.items(), strict=False):
            ax.axvline(0, color="0.4", linewidth=0.8, zorder=1)
            for index in _ENDS:
                _draw(ax, gains, shown, rungs[index], index)
            ax.set_title(name)
            ax.set_xlabel("gain over none (percentage points)")
            ax.grid(axis="x")
            sns.despine(ax=ax)
        axes[0].set_yticks(range(len(shown)), [_label(key, found) for key in shown])
        axes[0].set_ylim(max(len(shown), 1) - 0.5, -0.5)
        ends = {layers(rungs[index]): style.handle(**_mean(index)) for index in _ENDS if rungs}
        ends["a language"] = style.handle(**_LANGUAGE)
        style.legend(fig, ends, columns=3)
        style.note(fig, f"local layer: {note}")
    return fig


def _draw(ax: Axes, gains: Gains, shown: list[tuple[str, bool]], rung: int, index: int) -> None:
    each, own = (part[part["layers"] == rung] for part in (gains.languages, gains.groups))
    ticks, means = (
        [shown.index(key) + _ENDS[index] for key in part[KEYS].itertuples(index=False)] for part in (each, own)
    )
    ax.plot(100 * each["gain"], ticks, linestyle="", zorder=2, **_LANGUAGE)
    # Where there is no interval this is NaN, and no bar is drawn.
    ends = 100 * np.array([own["estimate"] - own["low"], own["high"] - own["estimate"]], dtype=float)
    ax.errorbar(
        100 * own["estimate"], means, xerr=ends, linestyle="", elinewidth=1, capsize=2.2, zorder=4, **_mean(index)
    )


def _label(key: tuple[str, bool], found: dict[str, Gains]) -> str:
    """A group, and how many languages it has in each panel."""
    counts = []
    for gains in found.values():
        own = gains.groups[(gains.groups["script"] == key[0]) & (gains.groups["seen"] == key[1])]
        counts.append(int(own["languages"].max()) if len(own) else 0)
    counts = counts[:1] if len(set(counts)) == 1 else counts
    return f"{key[0]}{'' if key[1] else ', not seen'} ({' | '.join(map(str, counts))})"
