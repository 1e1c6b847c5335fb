"""Single items: what two cells predicted for them, beside the texts and what is right.

Which items are shown is decided from predictions alone; texts are opened for those on the page.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

import pandas as pd

from xlscale.cards.catalogue import data_card
from xlscale.core.files import XlscaleError
from xlscale.core.format import MISSING, percent
from xlscale.experiment.results import Result, split_of
from xlscale.metrics.predictions import SCORES
from xlscale.record import recompute
from xlscale.report.explorer.choice import Record
from xlscale.report.labels import label, layers
from xlscale.report.markup import Markup, fill, join, plain
from xlscale.report.predictions import Texts

SIZE = 10  # items of a page
EVERY, WRONG, LOST, WON = FILTERS = (
    "all",
    "wrong in the first",
    "right in the first, wrong in the second",
    "wrong in the first, right in the second",
)
KEY = ["language", "item"]


@dataclass(frozen=True)
class Page:
    """A page of items: ids of target cells of one task, ``other`` being "" for none; ``number`` counts from 0."""

    cell: str
    other: str = ""
    language: str = ""
    only: str = EVERY
    number: int = 0


def cells(record: Record, target: str) -> dict[str, str]:
    """What the complete cells of a task, or of a phase before it, are called -> their ids."""
    complete = record.cells[record.cells["status"] == "complete"]
    own = complete[(complete["target"] == target) | (complete["phase"] == target)]
    own = own.sort_values(["model", "layers", "condition", "seed"])
    return {_called(row): row.cell for row in own.itertuples()}


def _called(row: object) -> str:
    rung = f"{row.model}, {layers(row.layers)}"
    if row.phase == "pretrained":
        return rung
    return f"{rung}, {label(row.condition)}" + (f", seed {row.seed}" if row.seed else "")


@lru_cache(maxsize=32)
def predictions(record: Record, cell: str) -> pd.DataFrame:
    """Language, item, prediction and scores of a cell. Raises XlscaleError where they cannot be read."""
    path = record.folder / "predictions" / f"{cell}.parquet"
    table = recompute.read_predictions(path, [*KEY, "prediction"], SCORES)
    return table.to_pandas().astype(dict.fromkeys([*KEY, "prediction"], str))


def selected(record: Record, page: Page) -> pd.DataFrame:
    """All items that ``page`` is of, in the order of the data set: language, item, prediction and correct (bool), of
    the other cell with the suffix _other."""
    mine = predictions(record, page.cell).assign(correct=lambda own: own["correct"] == 1)
    if page.language:
        mine = mine[mine["language"] == page.language]
    if page.other:
        theirs = predictions(record, page.other).assign(correct=lambda own: own["correct"] == 1)
        mine = mine.merge(theirs, on=KEY, suffixes=("", "_other"))
    if page.only == WRONG:
        return mine[~mine["correct"]]
    if page.only in (LOST, WON) and page.other:
        right, wrong = ("correct", "correct_other")[:: 1 if page.only == LOST else -1]
        return mine[mine[right] & ~mine[wrong]]
    return mine


@cache
def texts(target: str, split: str) -> Texts:
    """The texts of a task, from the user's copy. Raises XlscaleError, naming the command that gets it."""
    return Texts(data_card(target), split)


def table(record: Record, page: Page) -> Markup:
    """A page of items as HTML. Where the data set is not on this machine, a line says how to get it, and items are
    shown by their ids."""
    result, found = record.results[page.cell], selected(record, page)
    shown, said = found.iloc[SIZE * page.number :][:SIZE], Markup()
    try:
        known = texts(result.parameters["target"], split_of(result.phase, result.parameters))
    except XlscaleError as error:
        known, said = None, fill("<p><b>Texts are not on this machine.</b> {}</p>", error)
    heads = ["Language", "Item", "Text", "Right answer", "First"] + (["Second"] if page.other else [])
    head = join(fill('<th scope="col" style="text-align:start;padding:0.3em 0.6em">{}</th>', name) for name in heads)
    rows = join(_row(row, known, bool(page.other)) for row in shown.to_dict("records"))
    style = "border-collapse:collapse;line-height:1.35"
    body = fill('<table class="xlscale-items" style="{}"><tr>{}</tr>{}</table>', style, head, rows)
    return plain(fill("<p>{}</p>{}{}", summary(record, page, len(found)), said, body))


def summary(record: Record, page: Page, count: int) -> str:
    """A sentence on what a page is of."""
    last = min(count, SIZE * (page.number + 1))
    which = f"{SIZE * page.number + 1} to {last} of {count}" if count else "None"
    where = f" in {page.language}" if page.language else ""
    values = [_value(record.results[one], page.language) for one in (page.cell, page.other) if one]
    return f"{which} items{where} ({page.only}). Value{where}: {' and '.join(values)}."


def _value(result: Result, language: str) -> str:
    score = result.languages.get(language)
    value = score.value if score else None if language else result.value
    return MISSING if value is None else f"{percent(value)}%"


def _row(row: dict, known: Texts | None, two: bool) -> Markup:
    language, item = row["language"], row["item"]
    try:
        text, gold = known.item(language, item) if known else (Markup(), Markup())
    except KeyError:  # of another version of the data
        known, text, gold = None, fill("not in the data set"), Markup()
    sides = [_side(row, known, suffix) for suffix in ("", *(["_other"] if two else []))]
    cell = '<td style="text-align:start;vertical-align:top;padding:0.3em 0.6em">{}</td>'
    code = fill("<code>{}</code>", item)
    return fill("<tr>{}</tr>", join(fill(cell, part) for part in (language, code, text, gold, *sides)))


def _side(row: dict, known: Texts | None, suffix: str) -> Markup:
    prediction = row[f"prediction{suffix}"]
    said = known.said(row["language"], row["item"], prediction) if known else fill("{}", prediction)
    f1 = row.get(f"f1{suffix}")
    verdict = "right" if row[f"correct{suffix}"] else "wrong"
    return fill("<b>{}</b>{}<br>{}", verdict, "" if f1 is None else f", F1 {percent(f1)}", said)
