"""Figures of XTREME-R's own test items: the small model's rungs beside models of others, and gains along the rungs."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xlscale.cards import catalogue
from xlscale.experiment.conditions import NONE, SHUFFLED
from xlscale.published import scale
from xlscale.report.figures import style
from xlscale.report.labels import label

_GREYS = ("0.85", "0.6", "0.35", "black")


def tasks(found: pd.DataFrame, others: pd.DataFrame) -> Figure:
    """A row per task: scores without intermediate training of every rung (filled, the darker the larger) and of models
    of others (open), chance as a tick.

    ``found`` and ``others`` are those of ``sections.xtreme.scores`` and ``beside``.
    """
    own = found[found["condition"] == NONE]
    targets = list(dict.fromkeys(own["target"]))
    rungs = sorted(own["layers"].unique())
    greys = dict(zip(rungs, _GREYS[-len(rungs) :] if rungs else (), strict=False))
    models = style.markers(list(dict.fromkeys(others["model"])))
    with style.look():
        fig, (ax,) = style.panels(1, 1, 1.2 + 0.28 * max(len(targets), 3))
        for at, name in enumerate(targets):
            card = catalogue.data_card(name)
            rows = own[own["target"] == name]
            for layers, score in zip(rows["layers"], rows["score"], strict=True):
                ax.plot(100 * score, at, "o", markersize=5.5, color=greys[layers], markeredgecolor="black", zorder=4)
            for other in others[others["task"] == rows["task"].iloc[0]].itertuples():
                ax.plot(100 * other.score, at, markersize=5, linestyle="", **_open(models[other.model]))
            ax.plot(100 * card.chance, at, "|", color="0.4", markersize=11, zorder=2)
        ax.set_yticks(range(len(targets)), [catalogue.data_card(name).title for name in targets])
        ax.set_ylim(len(targets) - 0.5, -0.5)
        ax.set_xlim(-2, 102)
        ax.set_xlabel("mean score over all tested languages (%)")
        ax.grid(axis="both")
        sns.despine(ax=ax)
        mine = {
            f"{layers} layers": style.handle(marker="o", color=grey, markeredgecolor="black", markersize=5.5)
            for layers, grey in greys.items()
        }
        theirs = {name: style.handle(markersize=5, **_open(of)) for name, of in models.items()}
        chance = {"chance": style.handle(marker="|", color="0.4", markersize=11)}
        style.legend(fig, mine | theirs | chance, columns=4)
        style.note(fig, "local layer, filled: one seed; published layer, open: trained on the benchmark's own data")
    return fig


def _open(of: dict[str, str]) -> dict[str, str]:
    return of | {"markerfacecolor": "white", "markeredgecolor": of["color"]}


_SHUFFLED = {"linestyle": "--", "markerfacecolor": "white"}
_HEADINGS = {"trained": "targets with training", "retrieval": "retrieval without training"}


def gains(gained: pd.DataFrame) -> Figure:
    """A panel per family of targets: the mean gain over its tasks at every rung, after each set (solid, filled) with
    its interval over tasks, and after its shuffled labels (dashed, open). ``gained`` is that of
    ``sections.xtreme_changes.rows``."""
    names = [name for name in dict.fromkeys(gained["condition"]) if not name.endswith(SHUFFLED)]
    rungs, looks = sorted(gained["layers"].unique()), style.markers(names)
    with style.look():
        fig, axes = style.panels(1, len(_HEADINGS), 2.3)
        for ax, (family, heading) in zip(axes, _HEADINGS.items(), strict=True):
            own = gained[gained["family"] == family]
            ax.axhline(0, color="0.4", linewidth=0.8, zorder=1)
            for number, name in enumerate(names):
                places = [rung + 0.08 * (number - (len(names) - 1) / 2) for rung in range(len(rungs))]
                _line(ax, places, _over_tasks(own, name + SHUFFLED, rungs)[:1], looks[name] | _SHUFFLED)
                _line(ax, places, _over_tasks(own, name, rungs), looks[name])
            ax.set_xticks(range(len(rungs)), [str(rung) for rung in rungs])
            ax.set_xlabel("layers")
            ax.set_title(f"{heading} ({own['target'].nunique()} tasks)")
            ax.grid(axis="y")
            sns.despine(ax=ax)
        axes[0].set_ylabel("mean gain (points)")
        handles = {label(name): style.handle(markersize=4.5, **looks[name]) for name in names}
        handles["its labels shuffled"] = style.handle(marker="o", color="0.4", **_SHUFFLED)
        style.legend(fig, handles, columns=3)
        text = "points above chance, one seed, languages other than English; bars: 95% t intervals over tasks"
        style.note(fig, f"local layer: {text}")
    return fig


def _over_tasks(gained: pd.DataFrame, condition: str, rungs: list[int]) -> list[list[float]]:
    """Means over tasks in points at every rung, lower and upper ends of their intervals; NaN where there are none."""
    own = gained[gained["condition"] == condition]
    found = [scale.mean_with_interval(own.loc[own["layers"] == rung, "gain"]) for rung in rungs]
    return [[100 * value for value in values] for values in zip(*found, strict=True)]


def _line(ax: Axes, places: list[float], values: list[list[float]], look: dict[str, str]) -> None:
    ax.plot(places, values[0], linewidth=1.1, markersize=4.5, **look)
    if values[1:]:
        ax.vlines(places, *values[1:], color=look["color"], linewidth=0.9, zorder=2)
