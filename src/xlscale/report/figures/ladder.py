"""The figures: one look, readable without colour, and the same bytes for the same numbers.

Every condition has its own marker and line style; every figure says which layer of evidence it shows and what its
intervals are. Functions take the DataFrames of ``xlscale.record`` and return a matplotlib Figure.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from xlscale.cards import catalogue
from xlscale.core.files import PAPER, atomic
from xlscale.experiment.cells import NONE, SHUFFLED
from xlscale.report.describe import label, layers, metric, share, title
from xlscale.stats import groups
from xlscale.stats.slopes import conditions, gains, rungs_of, sizes, targets

if TYPE_CHECKING:
    from IPython.display import SVG

LOCAL = "local layer"
WIDTH = 6.3  # inches: the text width of the paper
_STYLE = {
    "font.family": ["Source Sans 3", "DejaVu Sans"],
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.labelsize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "grid.linewidth": 0.4,
    "svg.fonttype": "path",
    "svg.hashsalt": "xlscale",
    "pdf.fonttype": 42,
}
_ROWS = 25  # languages in one column of a dot plot
_RING = "#c1121f"
_ENDS = ({"marker": "o", "markersize": 4, "markerfacecolor": "white"}, {"marker": "o", "markersize": 4})
_CHANCE = Line2D([], [], color="0.4", linewidth=0.9, linestyle=":")
_MARKERS = ("s", "^", "D", "v", "P", "X")


@contextmanager
def look() -> Iterator[None]:
    """The style of all figures, with the paper's own sans-serif."""
    for path in sorted((PAPER / "fonts").glob("SourceSans3_*.ttf")):
        font_manager.fontManager.addfont(path)
    with sns.axes_style("ticks"), mpl.rc_context(_STYLE):
        yield


def save(fig: Figure, stem: Path) -> Path:
    """Write ``stem``.svg and ``stem``.pdf atomically and without dates; returns the SVG's path."""
    for suffix, metadata in (("pdf", {"CreationDate": None, "ModDate": None}), ("svg", {"Date": None})):
        # The hash salt has to hold while saving, not only while drawing.
        with look(), atomic(Path(stem).with_suffix(f".{suffix}")) as temporary:
            fig.savefig(temporary, format=suffix, metadata=metadata)
    return Path(stem).with_suffix(".svg")


def show(fig: Figure) -> SVG:
    """The figure for a notebook, drawn as it is saved."""
    from IPython.display import SVG

    buffer = StringIO()
    with look():
        fig.savefig(buffer, format="svg", metadata={"Date": None})
    return SVG(buffer.getvalue())


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


def scaling(cells: pd.DataFrame, layer: str = LOCAL) -> Figure:
    """Value against log10 non-embedding parameters: a panel per target, runs as markers, lines through the means.

    A line is broken at a rung where its condition has no complete run.
    """
    with look():
        fig, panels = _panels(cells, height=4.2)
        for target, ax in panels.items():
            own, rungs = groups.completed(cells, target), rungs_of(cells, target)
            for name, style in styles(cells).items():
                rows = own[own["condition"] == name]
                x, y = _place(cells, rows)
                line = pd.DataFrame({"x": x, "y": y}).groupby(rows["layers"]).mean().reindex(rungs)
                ax.plot(line["x"], line["y"], linewidth=1.1, zorder=3, **{**style, "marker": ""})
                ax.plot(x, y, markersize=4.2, markeredgewidth=0.8, zorder=4, **{**style, "linestyle": ""})
            _rungs(ax, sizes(cells).reindex(rungs).dropna())
            _chance(ax, target)
            ax.set_title(title(target))
            ax.set_ylabel(f"{metric(target)} (%)")
        _legend(fig, styles(cells), {"chance": _CHANCE})
        _note(
            fig, f"{layer}: markers are single runs (means over zero-shot languages), lines join the means over seeds"
        )
    return fig


def overlay(recorded: pd.DataFrame, recomputed: pd.DataFrame, layer: str = LOCAL) -> Figure:
    """The scaling figure of the record with this machine's runs drawn over it as red rings."""
    fig = scaling(recorded, layer)
    with look():
        for target, ax in zip(targets(recorded), fig.axes, strict=False):
            x, y = _place(recorded, groups.completed(recomputed, target))
            ax.scatter(x, y, s=70, facecolors="none", edgecolors=_RING, linewidths=1.3, zorder=5)
        ring = Line2D([], [], linestyle="", marker="o", markersize=8, markerfacecolor="none", color=_RING)
        _legend(fig, styles(recorded), {"recomputed on this machine": ring, "chance": _CHANCE})
    return fig


def _place(cells: pd.DataFrame, rows: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Coordinates of runs; conditions stand a little apart sideways, so that equal values stay visible."""
    names = conditions(cells)
    shift = rows["condition"].map({name: 1.025 ** (i - (len(names) - 1) / 2) for i, name in enumerate(names)})
    return rows["non_embedding_parameters"] * shift.astype(float), 100 * rows["value"]


def gain(cells: pd.DataFrame, layer: str = LOCAL) -> Figure:
    """Gain over no intermediate training per rung and condition, in points, with t intervals over seeds."""
    with look():
        fig, panels = _panels(cells, height=3.3)
        table, look_of = gains(cells), styles(cells)
        shown = [name for name in look_of if name != NONE]
        for target, ax in panels.items():
            own, rungs = table[table["target"] == target], rungs_of(cells, target)
            ax.axhline(0, color="0.4", linewidth=0.8)
            for index, name in enumerate(shown):
                rows = own[own["condition"] == name]
                at = rows["layers"].map(rungs.index) + (index - (len(shown) - 1) / 2) * 0.16
                # Where there is no interval this is NaN, and no bar is drawn.
                half = 100 * (rows["high"] - rows["estimate"])
                style = {**look_of[name], "linestyle": "none", "markersize": 4.5}
                ax.errorbar(at, 100 * rows["estimate"], yerr=half, elinewidth=0.9, capsize=2, **style)
            ax.set_xticks(range(len(rungs)), [str(k) for k in rungs])
            ax.set_xlim(-0.5, len(rungs) - 0.5)
            ax.set_xlabel("layers")
            ax.set_ylabel("gain over none (percentage points)")
            ax.set_title(title(target))
            ax.grid(axis="y")
            sns.despine(ax=ax)
        _legend(fig, {name: {**look_of[name], "linestyle": "none"} for name in shown}, {})
        _note(fig, f"{layer}: bars are {share(groups.LEVEL)} t intervals from the variance between seeds at that rung")
    return fig


def languages(values: pd.DataFrame, condition: str = NONE, layer: str = LOCAL) -> Figure:
    """Zero-shot value per language, smallest against largest rung with runs, means over seeds, sorted by the largest.

    ``values`` is ``record.languages()``. A target with many languages takes several columns.
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
    with look():
        fig = Figure(figsize=(WIDTH, 1.3 + 0.135 * _ROWS), layout="constrained")
        axes = fig.subplots(1, max(len(columns), 1), squeeze=False)[0]
        for ax, (target, table) in zip(axes, columns, strict=False):
            _dots(ax, 100 * table)
            _chance(ax, target, vertical=True)
            ax.set_title(title(target))
            ax.set_xlabel(f"{metric(target)} (%)")
        shapes = dict(zip(map(layers, ends), _ENDS, strict=False))
        handles = {name: Line2D([], [], color="black", linestyle="", **style) for name, style in shapes.items()}
        _legend(fig, {}, handles | {"chance": _CHANCE}, columns=3)
        _note(fig, f"{layer}: {label(condition)}; means over seeds; English is left out")
    return fig


def healing(table: pd.DataFrame, layer: str = LOCAL) -> Figure:
    """``stats.healing.summary``: a panel per thing measured, rungs as rows, from cut (open) to healed (filled)."""
    with look():
        names = list(dict.fromkeys(table["what"]))
        fig = Figure(figsize=(WIDTH, 1.1 + 1.45 * -(-len(names) // 2)), layout="constrained")
        axes = fig.subplots(-(-len(names) // 2), 2, squeeze=False).ravel()
        for ax, name in zip(axes, names, strict=False):
            rows = table[table["what"] == name].set_index("layers")
            _dots(ax, 100 * rows[["cut", "healed"]])
            ax.axvline(100 * rows["whole"].iloc[0], color="0.4", linewidth=0.9, linestyle="--", zorder=1)
            ax.set_ylim(len(rows) - 0.5, -0.5)
            ax.set_ylabel("layers")
            ax.set_title(name)
            if rows[["cut", "healed"]].max(axis=None) > 1:  # shares of variance: 100% is what a constant misses
                ax.set_xscale("log")
                ax.set_xlim(10, 2000)
                ax.set_xlabel("% of the whole model's variance (log scale)")
            else:
                ax.set_xlabel("%")
        shapes = dict(zip(("cut", "healed"), _ENDS, strict=True))
        handles = {name: Line2D([], [], color="black", linestyle="", **style) for name, style in shapes.items()}
        whole = Line2D([], [], color="0.4", linewidth=0.9, linestyle="--")
        _legend(fig, {}, handles | {"whole model": whole}, columns=3)
        _note(fig, f"{layer}: text whose language or register was in no training text; means over languages")
    return fig


def _dots(ax: Axes, table: pd.DataFrame) -> None:
    at = np.arange(len(table))
    ax.hlines(at, table.min(axis=1), table.max(axis=1), color="0.75", linewidth=1, zorder=1)
    for rung, style in zip(table.columns, _ENDS, strict=False):
        ax.plot(table[rung], at, color="black", linestyle="", **style)
    ax.set_yticks(at, table.index, fontsize=7)
    ax.set_ylim(_ROWS - 0.2, -0.8)
    ax.set_xlim(0, 102)
    ax.grid(axis="x")
    sns.despine(ax=ax)


def _panels(cells: pd.DataFrame, height: float) -> tuple[Figure, dict[str, Axes]]:
    names = targets(cells)
    # A Figure of its own, outside pyplot: nothing to close, and the same in a notebook and in a script.
    fig = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = fig.subplots(1, max(len(names), 1), squeeze=False)[0]
    return fig, dict(zip(names, axes, strict=False))


def _rungs(ax: Axes, x: pd.Series) -> None:
    ax.set_xscale("log")
    ax.set_xlim(x.min() / 1.2, x.max() * 1.2)  # all rungs asked for, also those without a run
    ax.xaxis.set_major_locator(FixedLocator(x))
    ax.xaxis.set_major_formatter(FixedFormatter([f"{value / 1e6:.1f}" for value in x]))
    ax.xaxis.set_minor_locator(NullLocator())
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
    for old in fig.legends:
        old.remove()
    handles = {label(name): Line2D([], [], markersize=5, linewidth=1.2, **style) for name, style in look_of.items()}
    handles |= extra
    fig.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns, frameon=False)


def _note(fig: Figure, text: str) -> None:
    fig.suptitle(text, x=0.005, ha="left", fontsize=8, style="normal", color="0.25")
