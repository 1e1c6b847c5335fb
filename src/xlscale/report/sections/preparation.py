"""What was settled before the confirmatory runs, for ``08_preparation.ipynb``: learning rates, and what sets teach."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from xlscale.cards import catalogue
from xlscale.core.files import RESULTS, XlscaleError
from xlscale.core.format import percent, rate
from xlscale.experiment import studies
from xlscale.record import store, tuning
from xlscale.report.labels import metric, title
from xlscale.report.numbers import Numbers

SUITE = "suite"  # the study that trains the whole model on every intermediate set once


def rates(folder: Path = RESULTS) -> pd.DataFrame:
    """``tuning.tried`` of both phases, with ``phase``; empty where a tuning study is not recorded."""
    try:
        return pd.concat([tuning.tried(phase, folder).assign(phase=phase) for phase in tuning.STUDY])
    except XlscaleError:
        return pd.DataFrame(columns=["phase", "model", "layers", "rate", "score", "sets", "failed", "chosen"])


def add_rates(numbers: Numbers, found: pd.DataFrame, folder: Path = RESULTS) -> None:
    """Add a table per phase, a row per model and rung: the score at every rate tried, and the one that was chosen."""
    for phase, part in found.groupby("phase", sort=False):
        tried = sorted(part["rate"].unique())
        rows = []
        for (model, layers), rung in part.groupby(["model", "layers"]):
            scores = rung.set_index("rate")
            cells = [percent(scores["score"][value]) if not scores["failed"][value] else "failed" for value in tried]
            rows.append([model, str(layers), *cells, rate(scores.index[scores["chosen"]][0])])
        numbers.table(f"rates_{phase}", ["Model", "Layers", *map(rate, tried), "Chosen"], rows)
        edge = part["chosen"] & part["rate"].isin([tried[0], tried[-1]])
        numbers.count(f"rates_{phase}_at_edge", edge.sum())
        plan = studies.load(tuning.STUDY[phase])
        own = store.cells(folder).set_index("cell").loc[[cell.id for cell in plan.cells() if cell.phase == phase]]
        hours = float(own[["train_seconds", "eval_seconds"]].sum().sum() / 3600)
        numbers.count(f"rates_{phase}_trainings", len(own))
        numbers.add(f"rates_{phase}_cpu_hours", hours, f"{hours:.1f}", unit="CPU-hours")


def suite(folder: Path = RESULTS) -> pd.DataFrame:
    """English held-out score of every intermediate set after training the whole model on it: set, type, family, metric,
    chance, value (0 to 1); empty where the study SUITE is not recorded."""
    trained = {
        cell.id: cell.parameters.intermediate for cell in studies.load(SUITE).cells() if cell.phase != "pretrained"
    }
    known = store.cells(folder).set_index("cell")["value"].reindex([*trained])
    rows = []
    for cell, value in known.dropna().items():
        card = catalogue.data_card(trained[cell])
        rows.append((card.name, card.type, card.family, card.metric, card.chance, value))
    return pd.DataFrame(rows, columns=["set", "type", "family", "metric", "chance", "value"])


def add_suite(numbers: Numbers, found: pd.DataFrame) -> None:
    """Add the table ``learnt``: what the whole model learned from each set, in percent, beside chance."""
    rows = []
    for row in found.sort_values(["family", "type", "set"]).itertuples():
        about = [title(row.set), row.type, row.family.replace("_", " "), metric(row.set)]
        rows.append([*about, percent(row.chance), percent(row.value)])
    numbers.table("learnt", ["Intermediate training", "Type", "Family", "Metric", "Chance", "Score"], rows)
