"""XTREME-R's own test items on the small model, beside models of others, for ``07_xtreme_r.ipynb``.

Scores are means over all tested languages, English among them, as in XTREME's averages; a cell's ``value`` leaves
English out. One exploratory seed: nothing here has an interval.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from xlscale.cards import catalogue
from xlscale.cards.schema import DataCard
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
UNROUNDED = {
    "source_key": "mteb_results",
    "model": "intfloat/multilingual-e5-small",
    "task": "tatoeba",
    "metric": "accuracy",
}


@cache
def _planned() -> list[Cell]:
    return [cell for cell in studies.load(STUDY).cells() if cell.phase == "target"]


def scores(folder: Path = RESULTS) -> pd.DataFrame:
    """A row per recorded target cell of STUDY: target, task (whose variant it is, or itself), condition, layers,
    parameters (outside the word embeddings), score and zero_shot, which leaves English out (0 to 1, NaN of one that
    failed)."""
    recorded = store.results(folder)
    own = [cell for cell in _planned() if cell.id in recorded]
    languages = store.languages(folder)
    value = languages.groupby("cell")["value"].mean()
    others = languages[languages["language"] != "en"].groupby("cell")["value"].mean()
    sizes = {cell.id: getattr(recorded[cell.id], "non_embedding_parameters", None) for cell in own}
    rows = [
        (target, _task(target), cell.condition, layers, sizes[cell.id], value.get(cell.id), others.get(cell.id))
        for cell in own
        for target, layers in [(cell.parameters.target, cell.parameters.layers)]
    ]
    columns = ["target", "task", "condition", "layers", "parameters", "score", "zero_shot"]
    return pd.DataFrame(rows, columns=columns).astype({"score": float, "zero_shot": float})


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


def in_floats(published: pd.DataFrame) -> float:
    """What the model of the ladder scores on Tatoeba by UNROUNDED, with the weights that its package rounds: mean
    accuracy over XTREME-R's languages, 0 to 1."""
    names = [published[name] == value for name, value in UNROUNDED.items()]
    values = published[np.logical_and.reduce(names)].set_index("language")["score"]
    return float(values[catalogue.data_card("tatoeba").languages].mean())


def add(numbers: Numbers, found: pd.DataFrame, others: pd.DataFrame, unrounded: float) -> None:
    """Add the tables ``xtreme_r`` (scores without intermediate training, beside others'), ``xtreme_r_differs`` and
    ``xtreme_r_gains`` (at the largest rung, of every condition whose runs are all recorded), how much is recorded, and
    Tatoeba at the largest rung beside ``unrounded``, that of ``in_floats``."""
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
    if "tatoeba" in plain.index and pd.notna(whole := plain.loc["tatoeba", rungs[-1]]):
        numbers.add("xtreme_r_tatoeba", whole, percent(whole), "%")
        numbers.add("xtreme_r_tatoeba_floats", unrounded, percent(unrounded), "%")
    _add_gains(numbers, found[found["layers"] == rungs[-1]], cards)


def _add_gains(numbers: Numbers, found: pd.DataFrame, cards: list[DataCard]) -> None:
    top = found.pivot(index="condition", columns="target", values="score")
    done = found.groupby("condition").size()
    heads = [catalogue.data_card(card.variant_of).title + "*" if card.variant_of else card.title for card in cards]
    gains = [
        [label(name), *(signed(top.loc[name, card.name] - top.loc[NONE, card.name]) for card in cards)]
        for name in top.index
        if name != NONE and done[name] == len(cards)
    ]
    if gains:
        numbers.count("xtreme_r_top", int(found["layers"].iloc[0]))
        numbers.table("xtreme_r_gains", ["Intermediate training", *heads], gains)
