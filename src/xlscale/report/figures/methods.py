"""Figures of targeted lexical injection: what a reading makes of the same training, and what targets gain by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xlscale.core.format import share
from xlscale.report.figures import style
from xlscale.report.labels import label, title
from xlscale.stats import groups

OVER_NONE = f"gain over no intermediate training; bars {share(groups.LEVEL)} intervals over seeds"
_PANELS = {"cosine": "cosine of a pair", "apart": "less unrelated words'", "p_at_1": "P@1 of the name"}
_READINGS = {
    ("trained", "all"): ("trained layer, all tokens", {"marker": "o", "markerfacecolor": "black"}),
    ("trained", "words"): ("trained layer, the word alone", {"marker": "o", "markerfacecolor": "white"}),
    ("last", "all"): ("last layer, all tokens", {"marker": "s", "markerfacecolor": "black"}),
    ("last", "words"): ("last layer, the word alone", {"marker": "s", "markerfacecolor": "white"}),
}
_INK = {"color": "black", "markeredgecolor": "black", "markersize": 4.5}
_RUNGS = ({"markerfacecolor": "white"}, {"markerfacecolor": "0.6"}, {"markerfacecolor": "black"})


def words(gained: pd.DataFrame) -> Figure:
    """A row of panels per rung, a column per measure: the gain of each condition, by the layer that is measured and the
    tokens that are pooled there. ``gained`` is that of ``sections.methods.gains``."""
    rungs, names = sorted(gained["layers"].unique()), list(dict.fromkeys(gained["condition"]))
    with style.look():
        height = 0.9 + len(rungs) * (0.5 + 0.32 * len(names))
        fig, axes = style.panels(len(rungs), len(_PANELS), height, sharex="col", sharey=True)
        places = ((layers, measure) for layers in rungs for measure in _PANELS)
        for ax, (layers, measure) in zip(axes, places, strict=True):
            own = gained[(gained["layers"] == layers) & (gained["measure"] == measure)]
            for place, (reading, (_, look)) in enumerate(_READINGS.items()):
                rows = own[(own["layer"] == reading[0]) & (own["pooling"] == reading[1])].set_index("condition")
                _estimates(ax, rows, names, 0.18 * (place - 1.5), look)
            _frame(ax, names)
            if measure == "cosine":
                ax.set_ylabel(f"{layers} layers")
        for ax, heading in zip(axes, _PANELS.values(), strict=False):
            ax.set_title(heading)
        for ax in axes[-len(_PANELS) :]:
            ax.set_xlabel("gain (percentage points)")
        style.legend(fig, {text: style.handle(**_INK | look) for text, look in _READINGS.values()}, columns=2)
        style.note(fig, f"local layer: names that were not trained on; bars {share(groups.LEVEL)} intervals over seeds")
    return fig


def targets(
    gained: pd.DataFrame, note: str = OVER_NONE, name: Callable[[str], str] | None = None, columns: int = 2
) -> Figure:
    """A panel per target: the gain of each condition, at every rung, in ``columns`` of panels. ``gained`` is that of
    ``stats.slopes.gains``; ``note`` says what gains are over and what intervals are of, ``name`` what to call a
    condition, by default by what its arm is called."""
    rungs, names = sorted(gained["layers"].unique()), list(dict.fromkeys(gained["condition"]))
    shown, looks = list(dict.fromkeys(gained["target"])), _RUNGS[-len(rungs) :]
    looks = [look | {"marker": shape} for look, shape in zip(looks, style.SHAPES, strict=False)]
    with style.look():
        rows = -(-len(shown) // columns)
        fig, axes = style.panels(rows, columns, 0.9 + rows * (0.5 + 0.26 * len(names)), sharey=True)
        for ax, target in zip(axes, shown, strict=False):
            for place, (layers, look) in enumerate(zip(rungs, looks, strict=True)):
                own = gained[(gained["target"] == target) & (gained["layers"] == layers)].set_index("condition")
                _estimates(ax, own, names, 0.25 * (place - (len(rungs) - 1) / 2), look)
            _frame(ax, names, name)
            ax.set_title(title(target))
            ax.set_xlabel("gain (points)")
        for ax in axes[len(shown) :]:
            ax.set_axis_off()
        handles = {f"{layers} layers": style.handle(**_INK | look) for layers, look in zip(rungs, looks, strict=True)}
        style.legend(fig, handles, columns=len(rungs))
        style.note(fig, f"local layer: {note}")
    return fig


def _estimates(ax: Axes, rows: pd.DataFrame, names: Sequence[str], shift: float, look: dict[str, str]) -> None:
    """Draw the estimates of conditions, ``shift`` below their lines, with their intervals as far as they have some."""
    for at, name in enumerate(names):
        if name in rows.index:
            row = rows.loc[name]
            ax.plot([100 * row["low"], 100 * row["high"]], [at + shift] * 2, color="0.5", linewidth=0.9, zorder=3)
            ax.plot(100 * row["estimate"], at + shift, linestyle="", zorder=4, **_INK | look)


def _arm(condition: str) -> str:
    return label(condition).partition(", ")[2] or label(condition)


def _frame(ax: Axes, names: Sequence[str], name: Callable[[str], str] | None = None) -> None:
    ax.axvline(0, color="0.4", linewidth=0.8)
    ax.set_yticks(range(len(names)), [*map(name or _arm, names)])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(axis="x")
    sns.despine(ax=ax)
