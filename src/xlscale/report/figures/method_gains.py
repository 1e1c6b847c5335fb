"""The figure of training methods by language: the gain over plain fine-tuning against the distance from English."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xlscale.core.format import share, signed
from xlscale.report.figures import style
from xlscale.report.labels import layers, title
from xlscale.report.sections.method_gains import UNIT, short
from xlscale.stats import groups, language_groups
from xlscale.stats.method_gains import MEAN

OVER_PLAIN = (
    f"gain over plain fine-tuning, mean over languages; bars {share(groups.LEVEL)} intervals over seeds and items"
)
_COLUMNS = 3
_INK = {"color": "black", "markeredgecolor": "black", "markersize": 3.2, "markeredgewidth": 0.6}
_SCRIPTS = {"Latin": {"marker": "o", "markerfacecolor": "white"}}
_FILLS = ("black", "0.6", "black", "white", "0.6")


def _looks() -> dict[str, dict[str, str]]:
    others = [name for name in language_groups.SCRIPTS if name not in _SCRIPTS]
    shapes = zip(others, style.SHAPES[1:], _FILLS, strict=False)
    return _SCRIPTS | {name: {"marker": shape, "markerfacecolor": fill} for name, shape, fill in shapes}


def languages(gains: pd.DataFrame, slopes: pd.DataFrame, distance: Mapping[str, float]) -> Figure:
    """A panel per method on one target at one rung: a mark per language with its interval, at its ``distance`` from
    English, shaped by its script, and the line of ``slopes``. Both tables are parts of ``sections.method_gains.Found``;
    raises ValueError for those of several targets or rungs."""
    own = gains[(gains["language"] != MEAN) & (gains["scale"] == "accuracy")]
    ((target, rung),) = {*own[["target", "layers"]].itertuples(index=False, name=None)}
    lines = slopes[(slopes["feature"] == "syntax") & (slopes["scale"] == "accuracy")].set_index("condition")
    names, looks = [*dict.fromkeys(own["condition"])], _looks()
    with style.look():
        rows = -(-len(names) // _COLUMNS)
        fig, axes = style.panels(rows, _COLUMNS, 0.9 + 1.5 * rows, sharex=True, sharey=True)
        for ax, name in zip(axes, names, strict=False):
            part = own[own["condition"] == name]
            for script, look in looks.items():
                _marks(ax, part[part["language"].map(language_groups.script) == script], distance, look)
            _line(ax, part, distance, lines.loc[name])
            ax.axhline(0, color="0.4", linewidth=0.8, zorder=1)
            ax.set_title(short(name), fontsize=7.5)
            sns.despine(ax=ax)
        for ax in axes[len(names) :]:
            ax.set_axis_off()
        for ax in axes[max(0, len(names) - _COLUMNS) : len(names)]:
            ax.set_xlabel("distance from English (1 less cosine)")
            ax.tick_params(labelbottom=True)
        for ax in axes[: len(names) : _COLUMNS]:
            ax.set_ylabel("gain (points)")
        here = {*own["language"].map(language_groups.script)}
        handles = {name: style.handle(**_INK | look) for name, look in looks.items() if name in here}
        style.legend(fig, handles, columns=len(handles))
        bars = f"bars {share(groups.LEVEL)} intervals over seeds and items"
        style.note(fig, f"local layer: {title(target)}, {layers(rung)}; a mark per language, {bars}")
    return fig


def _marks(ax: Axes, part: pd.DataFrame, distance: Mapping[str, float], look: dict[str, str]) -> None:
    x, y = part["language"].map(distance), 100 * part["estimate"]
    ax.vlines(x, 100 * part["low"], 100 * part["high"], color="0.75", linewidth=0.5, zorder=2)
    ax.plot(x, y, linestyle="", zorder=4, **_INK | look)


def _line(ax: Axes, part: pd.DataFrame, distance: Mapping[str, float], slope: pd.Series) -> None:
    """The least-squares line through the languages, and its slope with its interval in words."""
    x, y = part["language"].map(distance).to_numpy(float), part["estimate"].to_numpy(float)
    ends = np.array([x.min(), x.max()])
    ax.plot(ends, 100 * (y.mean() + slope["estimate"] * (ends - x.mean())), color="black", linewidth=1, zorder=3)
    low, high = (signed(UNIT["syntax"] * slope[end]) for end in ("low", "high"))
    around = "" if pd.isna(slope["low"]) else f" ({low} to {high})"
    text = f"{signed(UNIT['syntax'] * slope['estimate'])}{around} per 0.1"
    ax.text(0.98, 0.02, text, transform=ax.transAxes, ha="right", va="bottom", fontsize=6.5)
