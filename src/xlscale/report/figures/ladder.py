"""Figures of the local layer: the ladder's values, gains and languages, and what healing did to it.

Every condition has its own marker and line style; every figure says which layer of evidence it shows and what its
intervals are. Functions take the DataFrames of ``record.store`` and return a matplotlib Figure.
"""

from __future__ import annotations

from itertools import cycle

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from xlscale.cards import catalogue
from xlscale.core.format import share
from xlscale.experiment.cells import NONE, SHUFFLED
from xlscale.report.figures import style
from xlscale.report.labels import label, layers, metric, title
from xlscale.stats import fits, groups
from xlscale.stats.slopes import conditions, gains, rungs_of, sizes, targets

LAYER = "local layer"
_ROWS = 25  # languages in one column of a dot plot
_RING = "#c1121f"
_ENDS = ({"marker": "o", "markersize": 4, "markerfacecolor": "white"}, {"marker": "o", "markersize": 4})
_CHANCE = Line2D([], [], color="0.4", linewidth=0.9, linestyle=":")
_MARKERS = ("s", "^", "D", "v", "P", "X")
_DASHES = ("-", "--", ":", "-.", (0, (1, 3)), (0, (6, 2, 1, 2)))


def styles(cells: pd.DataFrame) -> dict[str, dict]:
    """Line and marker of every condition: hue and marker by data set, open and dashed where labels were shuffled."""
    names = conditions(cells)
    sets = [name for name in names if name != NONE and not name.endswith(SHUFFLED)]
    sets += [name.removesuffix(SHUFFLED) for name in names if name.endswith(SHUFFLED)]
    sets = list(dict.fromkeys(sets))
    hues = dict(zip(sets, sns.color_palette("colorblind", len(sets)), strict=True))
    found = {}
    for name in names:
        base = name.removesuffix(SHUFFLED)
        colour = "black" if name == NONE else hues[base]
        marker = "o" if name == NONE else _MARKERS[sets.index(base) % len(_MARKERS)]
        shuffled = name.endswith(SHUFFLED)
        found[name] = {
            "color": colour,
            "marker": marker,
            "linestyle": (0, (4, 2)) if shuffled else "-",
            "markerfacecolor": "white" if shuffled else colour,
            "markeredgecolor": colour,
        }
    return found


def scaling(cells: pd.DataFrame) -> Figure:
    """Value against log10 non-embedding parameters: a panel per target, runs as markers, lines through the means.

    A line is broken at a rung where its condition has no complete run.
    """
    with style.look():
        fig, panels = _panels(cells, height=4.2)
        for target, ax in panels.items():
            own, rungs = groups.completed(cells, target), rungs_of(cells, target)
            for name, of in styles(cells).items():
                rows = own[own["condition"] == name]
                x, y = _coordinates(cells, rows)
                line = pd.DataFrame({"x": x, "y": y}).groupby(rows["layers"]).mean().reindex(rungs)
                ax.plot(line["x"], line["y"], linewidth=1.1, zorder=3, **{**of, "marker": ""})
                ax.plot(x, y, markersize=4.2, markeredgewidth=0.8, zorder=4, **{**of, "linestyle": ""})
            _rungs(ax, sizes(cells).reindex(rungs).dropna())
            _chance(ax, target)
            ax.set_title(title(target))
            ax.set_ylabel(f"{metric(target)} (%)")
        _legend(fig, styles(cells), {"chance": _CHANCE})
        text = "markers are single runs (means over zero-shot languages), lines join the means over seeds"
        style.note(fig, f"{LAYER}: {text}")
    return fig


def overlay(recorded: pd.DataFrame, recomputed: pd.DataFrame) -> Figure:
    """The scaling figure of the record with this machine's runs drawn over it as red rings."""
    fig = scaling(recorded)
    with style.look():
        for target, ax in zip(targets(recorded), fig.axes, strict=False):
            x, y = _coordinates(recorded, groups.completed(recomputed, target))
            ax.scatter(x, y, s=70, facecolors="none", edgecolors=_RING, linewidths=1.3, zorder=5)
        ring = style.handle(marker="o", markersize=8, markerfacecolor="none", color=_RING)
        _legend(fig, styles(recorded), {"recomputed on this machine": ring, "chance": _CHANCE})
    return fig


def _coordinates(cells: pd.DataFrame, rows: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Coordinates of runs; conditions stand a little apart sideways, so that equal values stay visible."""
    names = conditions(cells)
    shift = rows["condition"].map({name: 1.025 ** (i - (len(names) - 1) / 2) for i, name in enumerate(names)})
    return rows["non_embedding_parameters"] * shift.astype(float), 100 * rows["value"]


def offsets(found: dict[str, pd.DataFrame]) -> Figure:
    """How well a power law with each offset fits the errors without intermediate training: a line per target of
    ``fits.profiles``."""
    with style.look():
        fig, (ax,) = style.panels(1, 1, 2.4)
        for (name, own), dashes in zip(found.items(), cycle(_DASHES)):
            ax.plot(100 * own["offset"], 100 * own["rms"], color="black", linestyle=dashes, label=title(name))
        ax.axhline(fits.OPEN, color="0.6", linewidth=0.8)
        ax.set_xlabel("offset: error that no size removes (points)")
        ax.set_ylabel("misses the rungs by (points)")
        ax.set_ylim(bottom=0)
        ax.legend(frameon=False)
        sns.despine(ax=ax)
        style.note(fig, f"{LAYER}: the best power law for every offset, without intermediate training")
    return fig


def gain(cells: pd.DataFrame) -> Figure:
    """Gain over no intermediate training per rung and condition, in points, with t intervals over seeds."""
    with style.look():
        fig, panels = _panels(cells, height=3.3)
        table = gains(cells)
        shown = {name: {**of, "linestyle": "none"} for name, of in styles(cells).items() if name != NONE}
        for target, ax in panels.items():
            own, rungs = table[table["target"] == target], rungs_of(cells, target)
            ax.axhline(0, color="0.4", linewidth=0.8)
            for index, (name, of) in enumerate(shown.items()):
                rows = own[own["condition"] == name]
                at = rows["layers"].map(rungs.index) + (index - (len(shown) - 1) / 2) * 0.16
                # Where there is no interval this is NaN, and no bar is drawn.
                half = 100 * (rows["high"] - rows["estimate"])
                ax.errorbar(at, 100 * rows["estimate"], yerr=half, elinewidth=0.9, capsize=2, markersize=4.5, **of)
            ax.set_xticks(range(len(rungs)), [str(k) for k in rungs])
            ax.set_xlim(-0.5, len(rungs) - 0.5)
            ax.set_xlabel("layers")
            ax.set_ylabel("gain over none (percentage points)")
            ax.set_title(title(target))
            ax.grid(axis="y")
            sns.despine(ax=ax)
        _legend(fig, shown, {})
        text = f"bars are {share(groups.LEVEL)} t intervals from the variance between seeds at that rung"
        style.note(fig, f"{LAYER}: {text}")
    return fig


def languages(values: pd.DataFrame, condition: str = NONE) -> Figure:
    """Zero-shot value per language, smallest against largest rung with runs, means over seeds, sorted by the largest.

    ``values`` is that of ``store.languages``. A target with many languages takes several columns.
    """
    own = values[(values["condition"] == condition) & (values["language"] != "en") & values["value"].notna()]
    ends = sorted({own["layers"].min(), own["layers"].max()}) if len(own) else []
    columns = []
    for target, rows in own.groupby("target"):
        table = rows.pivot_table(index="language", columns="layers", values="value", aggfunc="mean")
        table = table.reindex(columns=ends).dropna(how="all")
        table = table.sort_values(ends[::-1], ascending=False, kind="stable")
        parts = np.array_split(np.arange(len(table)), -(-len(table) // _ROWS))
        columns += [(target, table.iloc[part]) for part in parts]
    with style.look():
        fig, axes = style.panels(1, max(len(columns), 1), 1.3 + 0.135 * _ROWS)
        for ax, (target, table) in zip(axes, columns, strict=False):
            _dots(ax, 100 * table)
            _chance(ax, target, vertical=True)
            ax.set_title(title(target))
            ax.set_xlabel(f"{metric(target)} (%)")
        _legend(fig, {}, _end_handles(map(layers, ends)) | {"chance": _CHANCE}, columns=3)
        style.note(fig, f"{LAYER}: {label(condition)}; means over seeds; English is left out")
    return fig


def healing(table: pd.DataFrame) -> Figure:
    """``sections.healing.summary``: a panel per measure, rungs as rows, from cut (open) to healed (filled)."""
    with style.look():
        names = list(dict.fromkeys(table["what"]))
        rows = -(-len(names) // 2)
        fig, axes = style.panels(rows, 2, 1.1 + 1.45 * rows)
        for ax, name in zip(axes, names, strict=False):
            own = table[table["what"] == name].set_index("layers")
            _dots(ax, 100 * own[["cut", "healed"]])
            ax.axvline(100 * own["whole"].iloc[0], color="0.4", linewidth=0.9, linestyle="--", zorder=1)
            ax.set_ylim(len(own) - 0.5, -0.5)
            ax.set_ylabel("layers")
            ax.set_title(name)
            if own[["cut", "healed"]].max(axis=None) > 1:  # fractions of variance: a constant explains nothing, 100%
                ax.set_xscale("log")
                ax.set_xlim(10, 2000)
                ax.set_xlabel("% of the whole model's variance (log scale)")
            else:
                ax.set_xlabel("%")
        whole = Line2D([], [], color="0.4", linewidth=0.9, linestyle="--")
        _legend(fig, {}, _end_handles(("cut", "healed")) | {"whole model": whole}, columns=3)
        text = "text whose language or register was in no training text; means over languages"
        style.note(fig, f"{LAYER}: {text}")
    return fig


def _end_handles(names) -> dict[str, Line2D]:
    """Entries of a legend for the two ends of a dot plot."""
    return {name: style.handle(color="black", **of) for name, of in zip(names, _ENDS, strict=False)}


def _dots(ax: Axes, table: pd.DataFrame) -> None:
    at = np.arange(len(table))
    ax.hlines(at, table.min(axis=1), table.max(axis=1), color="0.75", linewidth=1, zorder=1)
    for rung, of in zip(table.columns, _ENDS, strict=False):
        ax.plot(table[rung], at, color="black", linestyle="", **of)
    ax.set_yticks(at, table.index, fontsize=7)
    ax.set_ylim(_ROWS - 0.2, -0.8)
    ax.set_xlim(0, 102)
    ax.grid(axis="x")
    sns.despine(ax=ax)


def _panels(cells: pd.DataFrame, height: float) -> tuple[Figure, dict[str, Axes]]:
    names = targets(cells)
    fig, axes = style.panels(1, max(len(names), 1), height)
    return fig, dict(zip(names, axes, strict=False))


def _rungs(ax: Axes, x: pd.Series) -> None:
    style.sizes(ax, x)
    ax.set_xlim(x.min() / 1.2, x.max() * 1.2)  # all rungs of the study, also those without a run
    ax.set_xlabel("non-embedding parameters (millions, log scale)")
    ax.yaxis.set_major_locator(MaxNLocator(6))
    ax.grid(axis="y")
    top = ax.secondary_xaxis("top")
    top.xaxis.set_major_locator(FixedLocator(x))
    top.xaxis.set_major_formatter(FixedFormatter([str(k) for k in x.index]))
    top.xaxis.set_minor_locator(NullLocator())
    top.set_xlabel("layers")


def _chance(ax: Axes, target: str, vertical: bool = False) -> None:
    if target in catalogue.names("data"):
        draw = ax.axvline if vertical else ax.axhline
        draw(100 * catalogue.data_card(target).chance, color="0.4", linewidth=0.9, linestyle=":", zorder=1)


def _legend(fig: Figure, look_of: dict[str, dict], extra: dict[str, Line2D], columns: int = 2) -> None:
    handles = {label(name): Line2D([], [], markersize=5, linewidth=1.2, **of) for name, of in look_of.items()}
    style.legend(fig, handles | extra, columns)
