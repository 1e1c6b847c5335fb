"""XTREME-R's own test items on the small model, beside models of others, for ``07_xtreme_r.ipynb``.

Scores are means over all tested languages, English among them, as in XTREME's averages; a cell's ``value`` leaves
English out. One exploratory seed: nothing here has an interval.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pandas as pd

from xlscale.cards import catalogue
from xlscale.core.files import RESULTS
from xlscale.core.format import percent, signed
from xlscale.experiment import studies
from xlscale.experiment.cells import NONE, Cell
from xlscale.record import store
from xlscale.report.labels import METRICS, label
from xlscale.report.numbers import Numbers

STUDY = "xtreme_r_small"
# Fine-tuned in English on the benchmark's own training data, without intermediate training: source, model -> name.
BESIDE = {
    ("mgte_xtreme_r", "mBERT-base"): "mBERT",
    ("mgte_xtreme_r", "XLM-R-base"): "XLM-R base",
    ("mgte_xtreme_r", "mGTE-MLM-2048"): "mGTE base",
    ("mmbert_xtreme", "mmBERT base"): "mmBERT base",
}


@cache
def _planned() -> list[Cell]:
    return [cell for cell in studies.load(STUDY).cells() if cell.phase == "target"]


def scores(folder: Path = RESULTS) -> pd.DataFrame:
    """A row per complete target cell of STUDY: target, task (whose variant it is, or itself), condition, layers, score
    (0 to 1). Empty where nothing is recorded."""
    wanted = {cell.id for cell in _planned()}
    known = store.languages(folder)
    if known.empty:
        return pd.DataFrame(columns=["target", "condition", "layers", "score", "task"])
    own = known[known["cell"].isin(wanted)].groupby(["target", "condition", "layers"], sort=False)["value"].mean()
    found = own.rename("score").reset_index()
    found["task"] = found["target"].map(_task)
    return found


def _task(target: str) -> str:
    """The benchmark's task that a target is, or is a variant of."""
    return catalogue.data_card(target).variant_of or target


def beside(published: pd.DataFrame) -> pd.DataFrame:
    """Averages that others published of the models BESIDE: model, task, score (0 to 1), by the metric that the layer
    ranks first. ``published`` is that of ``published.scores.table``."""
    names = [BESIDE.get(key) for key in zip(published["source_key"], published["model"], strict=True)]
    own = published.assign(shown=names)
    own = own[own["shown"].notna() & (own["kind"] == "average") & own["rank"].notna()]
    first = own.sort_values("rank", kind="stable").drop_duplicates(["shown", "task"])
    return first[["shown", "task", "score"]].rename(columns={"shown": "model"}).reset_index(drop=True)


def add(numbers: Numbers, found: pd.DataFrame, others: pd.DataFrame) -> None:
    """Add the tables ``xtreme_r`` (scores without intermediate training, beside others'), ``xtreme_r_differs`` and
    ``xtreme_r_gains`` (of every condition at the largest rung), and how much is recorded."""
    numbers.count("xtreme_r_cells", len(found))
    numbers.count("xtreme_r_planned", len(_planned()))
    if found.empty:
        return
    rungs = sorted(found["layers"].unique())
    plain = found[found["condition"] == NONE].pivot(index="target", columns="layers", values="score")
    theirs = others.pivot(index="task", columns="model", values="score").reindex(columns=[*BESIDE.values()])
    cards = [catalogue.data_card(name) for name in studies.load(STUDY).targets if name in plain.index]
    rows, differs = [], []
    for card in cards:
        task = _task(card.name)
        own = [percent(plain.loc[card.name].get(rung)) for rung in rungs]
        shown = theirs.loc[task] if task in theirs.index else pd.Series(dtype=float)
        rows.append([card.title, METRICS[card.metric], *own, *(percent(shown.get(name)) for name in BESIDE.values())])
        if card.differs:
            differs.append([card.title, " ".join(card.differs.split())])
    heads = [f"{rung} layers" for rung in rungs]
    numbers.table("xtreme_r", ["Task", "Metric", *heads, *BESIDE.values()], rows)
    numbers.table("xtreme_r_differs", ["Task", "What differs from the benchmark's own task"], differs)
    top = found[found["layers"] == rungs[-1]].pivot(index="condition", columns="target", values="score")
    cards = [card for card in cards if card.name in top.columns]
    heads = [catalogue.data_card(card.variant_of).title + "*" if card.variant_of else card.title for card in cards]
    gains = [
        [label(name), *(signed(top.loc[name].get(card.name) - top.loc[NONE].get(card.name)) for card in cards)]
        for name in top.index
        if name != NONE
    ]
    numbers.count("xtreme_r_top", rungs[-1])
    numbers.table("xtreme_r_gains", ["Intermediate training", *heads], gains)
