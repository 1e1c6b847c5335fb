"""Figures of the published layer: readable without colour, with no line across regimes.

Filled markers are authors' own numbers, open ones secondary transcriptions. The window from 7B to 70B is shaded.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from xlscale.core.format import signed, size_range
from xlscale.published import gains, scale
from xlscale.published.scores import WINDOW
from xlscale.report.figures import style

LAYER = "published layer"
TYPES = {"general": "o", "domain": "^", "mixed": "s", "unclassified": "D"}
TYPE_TITLES = {
    "general": "general data",
    "domain": "domain-specific data",
    "mixed": "mixed data",
    "unclassified": "not classified",
}
_SHADE = "0.88"
_OPEN = "secondary transcription (open)"
_LABELLED = 7  # lines of a panel that can carry their names
_NAME, _ROW = 34, 48  # characters of a name in a panel, which end before 7B, and of a line of one in the margin


def by_regime(published: pd.DataFrame) -> Figure:
    """Gain against parameters over all sizes, a panel per regime.

    ``published`` is that of ``gains.published``. A line joins the sizes of one series only.
    """
    names = list(published.groupby("panel")["order"].min().sort_values().index)
    with style.look():
        rows = max(-(-len(names) // 2), 1)
        fig, axes = style.panels(rows, 2, 0.9 + 1.75 * rows, sharex=True)
        smallest = min([*published["size"], WINDOW[0]]) / 2
        largest = max([*published["size"], WINDOW[1]]) * 2
        for ax, panel in zip(axes, names, strict=False):
            ax.axvspan(*WINDOW, color=_SHADE, linewidth=0, zorder=0)
            ax.axhline(0, color="0.4", linewidth=0.7, zorder=1)
            _draw_series(ax, published[published["panel"] == panel])
            ax.margins(y=0.12)
            _size_axis(ax, style.wrapped(panel, 48, 3), smallest, largest)
            ax.yaxis.set_major_locator(MaxNLocator(5))
        for ax in axes[len(names) :]:
            ax.axis("off")
        fig.supylabel("gain over the same model without it (points, chance-corrected)", fontsize=8.5)
        for ax in axes[max(len(names) - 2, 0) : len(names)]:
            ax.set_xlabel("total parameters (log scale)")
        handles = _type_handles(published)
        if len(axes) > len(names):  # there is room for it in the panel that is not needed
            axes[-1].legend(handles.values(), handles.keys(), loc="center", frameon=False, fontsize=7.5)
        else:
            _legend(fig, handles)
        _note(fig, f"{LAYER}: points are means over tasks; lines join the sizes of one series")
    return fig


def _size_axis(ax: Axes, title: str, smallest: float, largest: float) -> None:
    """A panel's title, and parameters on its horizontal axis."""
    ax.set_xscale("log")
    ax.set_xlim(smallest, largest)
    ax.set_title(title, fontsize=8)
    ax.tick_params(labelbottom=True)
    sns.despine(ax=ax)


def _draw_series(ax: Axes, own: pd.DataFrame) -> None:
    keys = ["study", "family", "training", "type", "regime", "secondary", "data_language"]
    labels = {}
    for (_, family, training, kind, _, secondary, _), rows in own.groupby(keys, sort=True):
        _line(ax, rows, kind, secondary)
        if rows["size"].nunique() >= 2:
            first = rows.loc[rows["size"].idxmin()]
            labels[f"{family}, {training}"] = (first["size"], 100 * first["gain"])
    if len(labels) <= _LABELLED:
        _labels(ax, labels)


def _labels(ax: Axes, labels: dict[str, tuple[float, float]]) -> None:
    """Names at the left edge, as high as the first point of their series and no nearer to each other than a line of
    text, each with a thin line to that point."""
    low, high = ax.get_ylim()
    step, before = (high - low) * 0.11, -math.inf
    for text, point in sorted(labels.items(), key=lambda item: item[1][1]):
        before = max(point[1], before + step, low + step / 2)
        ax.annotate(
            style.wrapped(text, _NAME, 1), point, (0.02, before), textcoords=ax.get_yaxis_transform(), fontsize=5.5,
            va="center", zorder=4, in_layout=False,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
            arrowprops={"arrowstyle": "-", "color": "0.55", "linewidth": 0.4, "shrinkA": 0, "shrinkB": 3},
        )  # fmt: skip


def _colours() -> dict[str, str]:
    return dict(zip(TYPES, sns.color_palette("colorblind", len(TYPES)).as_hex(), strict=True))


def _line(ax: Axes, rows: pd.DataFrame, kind: str, secondary: bool) -> None:
    """The gains of one series."""
    rows = rows.sort_values("size")
    joined = "-" if rows.get("balanced", pd.Series(True, index=rows.index)).all() else ""
    of = _filled({"marker": TYPES[kind], "color": _colours()[kind]}, secondary)
    of |= {"markeredgecolor": of["color"], "markersize": 3.6, "markeredgewidth": 0.8}
    # Mixed data are the most common: they lie below the rest, and light.
    of |= {"alpha": 0.55, "zorder": 2} if kind == "mixed" else {"zorder": 3}
    ax.plot(rows["size"], 100 * rows["gain"], linestyle=joined, linewidth=0.7, **of)


def _filled(of: dict[str, str], secondary: bool) -> dict:
    """The style ``of`` a marker, open for a secondary transcription."""
    return {**of, "markerfacecolor": "white" if secondary else of["color"]}


def _type_handles(published: pd.DataFrame) -> dict[str, Line2D | Patch]:
    shown = {*published["type"]}
    handles = {TYPE_TITLES[kind]: {"marker": TYPES[kind], "color": _colours()[kind]} for kind in TYPES if kind in shown}
    return _handles(handles) | _open(published) | _window()


def _handles(styles: dict[str, dict], **more: float | str) -> dict[str, Line2D | Patch]:
    return {name: style.handle(markersize=4.5, **of, **more) for name, of in styles.items()}


def _open(rows: pd.DataFrame) -> dict[str, Line2D]:
    """The entry of a legend for secondary transcriptions, where there are any."""
    found = style.handle(marker="o", markersize=4.5, markerfacecolor="white", color="black")
    return {_OPEN: found} if rows["secondary"].any() else {}


def _window() -> dict[str, Patch]:
    return {"7B to 70B": Patch(color=_SHADE)}


def finetuned(levels: pd.DataFrame) -> Figure:
    """Fine-tuned models without intermediate training against parameters: first the mean over tasks of every family
    with three sizes or more, with its slope over all sizes and over the last two; then a panel per task.

    ``levels`` is that of ``scale.levels``, of one regime. Scores of tasks are the source's own, in percent; the mean is
    of chance-corrected ones.
    """
    several = levels.groupby(["study", "family", "task"])["size"].transform("nunique") >= 2
    tasks = levels.loc[several, ["task", "task_title"]].drop_duplicates().sort_values("task_title")
    styles = style.markers(sorted(levels.loc[levels["task"].isin(tasks["task"]), "family"].unique()))
    with style.look():
        rows = -(-(len(tasks) + 1) // 4)
        fig, axes = style.panels(rows, 4, 0.9 + 1.75 * rows, sharex=True)
        _bends(axes[0], levels, styles)
        for ax, task in zip(axes[1:], tasks.itertuples(), strict=False):
            own = levels[levels["task"] == task.task]
            for (_, family, secondary), part in own.groupby(["study", "family", "secondary"]):
                mean = part.groupby("size")["score"].mean()
                ax.plot(mean.index, 100 * mean, markersize=3.4, linewidth=0.8, **_filled(styles[family], secondary))
            ax.set_title(task.task_title)
        used = axes[: len(tasks) + 1]
        for ax in used:
            ax.axvspan(*WINDOW, color=_SHADE, linewidth=0, zorder=0)
            _size_axis(ax, ax.get_title(), levels["size"].min() / 1.5, WINDOW[1] * 1.3)
            ax.tick_params(labelsize=6.5)
        for ax in axes[len(used) :]:
            ax.set_visible(False)
        fig.supylabel("zero-shot score (%; first panel: points above chance)", fontsize=8)
        for ax in used[-4:]:
            ax.set_xlabel("total parameters (log scale)", fontsize=7)
        lines = {
            "least squares, all sizes": Line2D([], [], color="0.3", linestyle="--", linewidth=0.9),
            "the last two sizes": Line2D([], [], color="0.3", linewidth=1.6),
        }
        _legend(fig, _handles(styles) | _open(levels) | lines | _window())
        _note(fig, f"{LAYER}: fine-tuned in English, without intermediate training; lines join one study's family")
    return fig


def _bends(ax: Axes, levels: pd.DataFrame, styles: dict[str, dict[str, str]]) -> None:
    """Means over the tasks that all sizes of a family have; a dashed line through all sizes, a solid one through the
    last two, and both slopes."""
    whole = scale.slopes(levels, scale.LEVELS, "corrected").set_index(scale.LEVELS)
    last = scale.slopes(scale.last_step(levels, scale.LEVELS), scale.LEVELS, "corrected").set_index(scale.LEVELS)
    texts = []
    for key, own in gains.balanced(levels, scale.LEVELS).groupby(scale.LEVELS, dropna=False):
        family = own["family"].iloc[0]
        if key not in whole.index or whole.loc[key, "sizes"] < 3 or not own["balanced"].all() or family not in styles:
            continue
        mean = (
            100
            * gains.points(gains.by_task(own, scale.LEVELS, "corrected"), scale.LEVELS, "corrected").set_index("size")[
                "corrected"
            ]
        )
        x = np.log10(mean.index.to_numpy(dtype=float))
        line = np.polyval(np.polyfit(x, mean, 1), x)
        ax.plot(mean.index, mean, linestyle="", markersize=3.4, **_filled(styles[family], own["secondary"].iloc[0]))
        ax.plot(mean.index, line, color="0.3", linestyle="--", linewidth=0.9, zorder=1)
        ax.plot(mean.index[-2:], mean.iloc[-2:], color="0.3", linewidth=1.6, zorder=1)
        slopes = [signed(table.loc[key, "slope"]) for table in (whole, last)]
        texts.append(f"{family}: {slopes[0]} a decade,\n{slopes[1]} from {size_range(*[mean.index[-2]] * 2)}")
    ax.text(0.97, 0.04, "\n".join(texts), transform=ax.transAxes, ha="right", va="bottom", fontsize=5.8)
    ax.set_title("mean over tasks")


def forest(slopes: pd.DataFrame) -> Figure:
    """Slope within each family from 7B to 70B: a row per series, grouped by regime.

    ``slopes`` is that of ``scale.slopes`` with ``window``; intervals are over tasks, and missing where there are too
    few.
    """
    table = slopes.sort_values(["order", "regime", "study", "family"]).reset_index(drop=True)
    styles = style.markers(list(dict.fromkeys(table["protocol"])))
    labels = [
        f"{style.wrapped(row.family, _ROW, 1)} {size_range(row.smallest, row.largest)} ({study})"
        for row, study in zip(table.itertuples(), table["study"].str.partition(",")[0], strict=True)
    ]
    names, places, lines = _rows(labels)
    with style.look():
        fig, (ax,) = style.panels(1, 1, 1.0 + 0.155 * max(lines, 3))
        ax.axvline(0, color="0.4", linewidth=0.7, zorder=1)
        for at, row in zip(places, table.itertuples(), strict=True):
            of = styles[row.protocol]
            ax.plot([100 * row.low, 100 * row.high], [at, at], color=of["color"], linewidth=0.9, zorder=2)
            ax.plot(100 * row.slope, at, markersize=4, linestyle="", **_filled(of, row.secondary))
        _margin(ax, names, places, lines)
        ax.set_xlabel("change of the chance-corrected score (points per factor of ten in parameters)")
        sns.despine(ax=ax)
        _legend(fig, _handles(styles, linestyle="-", linewidth=0.9) | _open(table), columns=4)
        _note(fig, f"{LAYER}: prompted, without further training; bars are 95% t intervals over tasks or languages")
    return fig


def _rows(labels: list[str]) -> tuple[list[str], list[float], float]:
    """A row for each estimate: its label, wrapped, and its place from the top, in lines; and how many lines there are.
    A row is as high as its label."""
    names = [style.wrapped(label, _ROW, 2) for label in labels]
    places, lines = [], 0.0
    for name in names:
        high = 1 + 0.6 * name.count("\n")
        places.append(lines + high / 2)
        lines += high
    return names, places, lines


def _margin(ax: Axes, names: list[str], places: list[float], lines: float) -> None:
    """Labels of rows, the first at the top."""
    ax.set_yticks(places, names, fontsize=6.5, linespacing=0.85)
    ax.set_ylim(lines + 0.1, -0.1)
    ax.grid(axis="x")


def influence(funnel: pd.DataFrame, leave_out: pd.DataFrame) -> Figure:
    """Left: how far the slope of the gain on one task is from its regime's mean, against its standard error. Right: the
    slopes of the meta-regressions, whole and without each source.

    ``funnel`` is that of ``scale.by_task_and_series``; ``leave_out`` has label, whole (bool), slope, low, high.
    """
    styles = style.markers(sorted(funnel["protocol"].unique()))
    rows = _rows(list(leave_out["label"]))
    with style.look():
        fig = Figure(figsize=(style.WIDTH, 1.4 + 0.16 * max(rows[-1], 14)), layout="constrained")
        left, right = fig.subplots(1, 2, width_ratios=[1, 1.1])
        for (name, secondary), own in funnel.groupby(["protocol", "secondary"]):
            of = _filled(styles[name], secondary)
            left.plot(100 * own["distance"], 100 * own["se"], markersize=4, linestyle="", **of)
        top = 110 * funnel["se"].max() if len(funnel) else 1.0
        for sign in (-1.96, 0, 1.96):
            left.plot([0, sign * top], [0, top], color="0.5", linewidth=0.7, linestyle="--" if sign else "-", zorder=0)
        left.set_ylim(top, 0)
        left.set_xlabel("slope of the gain on one task,\nless its regime's mean (points per factor of ten)")
        left.set_ylabel("standard error over languages (points)")
        _leave_out(right, leave_out, rows)
        for ax in (left, right):
            sns.despine(ax=ax)
        _legend(fig, _handles(styles) | _open(funnel), columns=4)
        _note(fig, f"{LAYER}: left, dashed: 95% if only languages varied; right: 95% t intervals over families")
    return fig


def _leave_out(ax: Axes, table: pd.DataFrame, rows: tuple[list[str], list[float], float]) -> None:
    ax.axvline(0, color="0.4", linewidth=0.7, zorder=1)
    for at, row in zip(rows[1], table.itertuples(), strict=True):
        ax.plot([row.low, row.high], [at, at], color="black", linewidth=1.2 if row.whole else 0.7)
        ax.plot(row.slope, at, marker="D" if row.whole else "o", color="black", markersize=4, linestyle="")
    _margin(ax, *rows)
    ax.set_xlabel("slope of the meta-regression\n(points per factor of ten)")


def _legend(fig: Figure, handles: dict[str, Line2D | Patch], columns: int = 3) -> None:
    style.legend(fig, {style.wrapped(name, 104 // columns): of for name, of in handles.items()}, columns, size=7)


def _note(fig: Figure, text: str) -> None:
    style.note(fig, text, size=7.5)
