"""One condition against another, language by language, at one rung: the table, and the figure of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from xlscale.cards.languages import ENGLISH
from xlscale.core.files import XlscaleError
from xlscale.core.format import interval, percent, probability, share, signed
from xlscale.report.explorer.choice import Record, task
from xlscale.report.figures import style
from xlscale.report.labels import POINTS, label, layers
from xlscale.stats import groups, slopes

MEAN = "mean without English"
INTERVALS = (
    f"{share(groups.LEVEL)} t intervals of each difference from the variance between seeds in that language, pooled "
    "over all conditions of the study at that rung. p is adjusted for the number of languages (Holm); English and the "
    "mean have no part in that. Intervals are not adjusted."
)
COLUMNS = ["language", "one", "other", *asdict(groups.MISSING), "adjusted"]
HEADS = ("Language", "First (%)", "Second (%)", "Difference (points)", "95% interval", "p (Holm)")


@dataclass(frozen=True)
class Pair:
    """Two conditions of a model on a target at a rung; the difference is the first one less the second."""

    model: str
    target: str
    layers: int
    one: str
    other: str

    def __str__(self) -> str:
        return f"{task(self.target)}, {self.model}, {layers(self.layers)}: {label(self.one)} less {label(self.other)}"


def table(record: Record, pair: Pair) -> pd.DataFrame:
    """A row per language, and one for the MEAN over those that are not English: COLUMNS, values in 0 to 1, sorted by
    difference. Raises XlscaleError where a condition has no run there."""
    cells = record.done[(record.done["model"] == pair.model) & (record.done["target"] == pair.target)]
    for name in (pair.one, pair.other):
        if cells[(cells["condition"] == name) & (cells["layers"] == pair.layers)].empty:
            raise XlscaleError(f"{pair}: expected runs of {label(name)} in the record, found none at this rung")
    spoken = record.languages[record.languages["cell"].isin(cells["cell"])]
    rows = [_row(language, _valued(cells, own), pair) for language, own in spoken.groupby("language")]
    found = pd.DataFrame(rows, columns=COLUMNS)
    found["adjusted"] = slopes.holm(found["p"].where(found["language"] != ENGLISH))
    found = found.sort_values("estimate", ascending=False, ignore_index=True)
    if {*found["language"]} == {ENGLISH}:
        return found
    mean = pd.DataFrame([_row(MEAN, cells, pair)], columns=COLUMNS).astype(found.dtypes.to_dict())
    return pd.concat([found, mean], ignore_index=True)


def _valued(cells: pd.DataFrame, own: pd.DataFrame) -> pd.DataFrame:
    return cells.assign(value=cells["cell"].map(own.set_index("cell")["value"])).dropna(subset="value")


def _row(language: str, cells: pd.DataFrame, pair: Pair) -> dict:
    found = slopes.Ladder(cells, pair.target)
    sides = (found.at({name: 1.0}, pair.layers).estimate for name in (pair.one, pair.other))
    difference = found.at({pair.one: 1.0, pair.other: -1.0}, pair.layers) if pair.one != pair.other else groups.MISSING
    return dict(zip(COLUMNS, (language, *sides), strict=False)) | asdict(difference)


def figure(found: pd.DataFrame, pair: Pair) -> Figure:
    """``found``, what ``table`` gives: a line per language, the difference with its interval."""
    with style.look():
        fig, (ax,) = style.panels(1, 1, 0.9 + 0.17 * len(found))
        for at, row in enumerate(found.itertuples()):
            colour = "black" if row.language == MEAN else "0.6" if row.language == ENGLISH else "#0173b2"
            half = 100 * (row.high - row.estimate)
            of = {"fmt": "D" if row.language == MEAN else "o", "markersize": 4, "elinewidth": 0.9, "capsize": 2}
            ax.errorbar(100 * row.estimate, at, xerr=half, color=colour, **of)
        ax.axvline(0, color="0.4", linewidth=0.8)
        ax.set_yticks(range(len(found)), found["language"], fontsize=7)
        ax.set_ylim(len(found) - 0.5, -0.5)
        ax.set_xlabel(f"difference ({POINTS})")
        ax.grid(axis="x")
        sns.despine(ax=ax)
        style.note(fig, style.wrapped(f"{pair}; {share(groups.LEVEL)} t intervals over seeds", 110))
    return fig


def printed(found: pd.DataFrame) -> list[list[str]]:
    """``table`` as it is printed, under HEADS."""
    return [
        [
            *(row.language, percent(row.one), percent(row.other), signed(row.estimate)),
            *(interval(row.low, row.high), probability(row.adjusted)),
        ]
        for row in found.itertuples()
    ]
