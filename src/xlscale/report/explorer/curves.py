"""Values and gains against size, with intervals: the table, and the figure of it."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from xlscale.core.format import interval, percent, share, signed
from xlscale.experiment.conditions import NONE
from xlscale.report.explorer.choice import Choice, Record, metric, over, task
from xlscale.report.figures import ladder, style
from xlscale.report.labels import POINTS, label
from xlscale.stats import groups, slopes

VALUE, GAIN = QUANTITIES = ("value", "gain over no intermediate training")
INTERVALS = (
    f"{share(groups.LEVEL)} t intervals from the variance between seeds, pooled over all conditions of the study at a "
    "rung: they speak of other seeds, not of other data sets or languages. Without repeated seeds there is none."
)
COLUMNS = ["model", "target", "condition", "layers", "parameters", "runs", *asdict(groups.MISSING)]
PANELS = 3  # side by side
SPREAD = 1.16  # factor on the axis between the first and the last condition of a rung, so that all stay visible
HEADS = ("Model", "Task", "Training", "Layers", "Runs", "Value or gain", "95% interval")


def table(record: Record, choice: Choice, quantity: str = VALUE) -> pd.DataFrame:
    """A row per model, target, condition and rung that is chosen: COLUMNS, values in 0 to 1.

    Intervals are from all conditions of the study, so that they do not change with what is shown.
    """
    cells, rows = record.valued(choice), []
    for (model, target), own in cells.groupby(["model", "target"]):
        found = slopes.Ladder(own, target)
        runs = own.groupby(["condition", "layers"]).size()
        known = {*own["condition"]}
        for condition in record.shown(own, choice)["condition"].unique():
            if (signs := _signs(condition, quantity, known)) is None:
                continue
            for layers in found.rungs(signs):
                about = (model, target, condition, layers, found.x[layers], int(runs[condition, layers]))
                rows.append(dict(zip(COLUMNS, about, strict=False)) | asdict(found.at(signs, layers)))
    order = slopes.conditions(record.done)
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return frame.sort_values(
        ["model", "target", "condition", "layers"],
        key=lambda column: column.map(order.index) if column.name == "condition" else column,
        ignore_index=True,
    )


def _signs(condition: str, quantity: str, known: set[str]) -> dict[str, float] | None:
    if quantity == VALUE:
        return {condition: 1.0}
    other = slopes.baseline_of(condition, NONE, known)
    return None if other is None else {condition: 1.0, other: -1.0}


def figure(record: Record, choice: Choice, found: pd.DataFrame, quantity: str = VALUE) -> Figure:
    """``found``, what ``table`` gives, a panel per model and target: means over runs with their intervals; values also
    with the runs."""
    runs = record.shown(record.valued(choice), choice)
    keys = list(dict.fromkeys(zip(found["model"], found["target"], strict=True)))
    looks = ladder.styles(record.done)
    with style.look():
        columns = max(1, min(PANELS, len(keys)))
        rows = max(1, -(-len(keys) // columns))
        fig, axes = style.panels(rows, columns, 0.9 + 2.4 * rows)
        for (model, target), ax in zip(keys, axes, strict=False):
            own = found[(found["model"] == model) & (found["target"] == target)]
            each = runs[(runs["model"] == model) & (runs["target"] == target)]
            _panel(ax, own, each if quantity == VALUE else each.iloc[:0], looks)
            _named(ax, target, quantity)
            several = found["model"].nunique() > 1
            ax.set_title(style.wrapped(task(target) + (f", {model}" if several else ""), 84 // columns))
        for ax in axes[len(keys) :]:
            ax.set_visible(False)
        shown = {label(one): style.handle(**_line(looks[one])) for one in looks if one in {*found["condition"]}}
        style.legend(fig, shown, columns=2)
        text = f"means {over(choice)}; bars are {share(groups.LEVEL)} t intervals over seeds"
        style.note(fig, style.wrapped(f"{text}; parameters without embeddings, log scale", 100, 3))
    return fig


def _panel(ax: Axes, own: pd.DataFrame, runs: pd.DataFrame, looks: dict[str, dict]) -> None:
    names = list(own["condition"].unique())
    for index, name in enumerate(names):
        rows, of = own[own["condition"] == name], looks[name]
        aside = SPREAD ** ((index - (len(names) - 1) / 2) / len(names))
        at = rows["parameters"].astype(float) * aside
        half = (100 * (rows["high"] - rows["estimate"])).to_numpy(float)  # NaN draws no bar
        ax.errorbar(at, 100 * rows["estimate"], yerr=half, elinewidth=0.9, capsize=2, linewidth=1.1, **_line(of))
        mine = runs[runs["condition"] == name]
        x = mine["non_embedding_parameters"].astype(float) * aside
        ax.plot(x, 100 * mine["value"], ".", markersize=3, color=of["color"], alpha=0.6)
    sizes = own.drop_duplicates("layers").sort_values("layers")
    style.sizes(ax, sizes["parameters"].astype(float))
    ax.set_xticklabels([f"{x / 1e6:.1f}\n{k}" for x, k in zip(sizes["parameters"], sizes["layers"], strict=True)])
    ax.yaxis.set_major_locator(MaxNLocator(6))
    ax.grid(axis="y")
    sns.despine(ax=ax)


def _line(look: dict) -> dict:
    return look | {"markersize": 4.5}


def _named(ax: Axes, target: str, quantity: str) -> None:
    ax.set_xlabel("million parameters, layers")
    if quantity == VALUE:
        ax.set_ylabel(f"{metric(target)} (%)")
    else:
        ax.axhline(0, color="0.4", linewidth=0.8)
        ax.set_ylabel(f"gain ({POINTS})")


def printed(found: pd.DataFrame, quantity: str = VALUE) -> list[list[str]]:
    """``table`` as it is printed, under HEADS: percent, or points with their sign."""
    number = percent if quantity == VALUE else signed
    return [
        [
            *(row.model, task(row.target), label(row.condition), str(row.layers), str(row.runs)),
            *(number(row.estimate), _interval(row, quantity)),
        ]
        for row in found.itertuples()
    ]


def _interval(row: object, quantity: str) -> str:
    if quantity == GAIN or np.isnan(row.low) or row.low == row.high:
        return interval(row.low, row.high)
    return f"{percent(row.low)} to {percent(row.high)}"
