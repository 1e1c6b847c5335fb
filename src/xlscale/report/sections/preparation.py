"""What was settled before the confirmatory runs, for ``08_preparation.ipynb``: learning rates, steps, what sets teach,
and whether training survives."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from xlscale.cards import catalogue
from xlscale.core.files import RESULTS, XlscaleError
from xlscale.core.format import listing, percent, rate, signed
from xlscale.experiment import studies
from xlscale.record import store, tuning
from xlscale.report import labels
from xlscale.report.labels import label, metric, title
from xlscale.report.numbers import Numbers
from xlscale.stats import preparation

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
        several, rows = part["model"].nunique() > 1, []
        for (model, layers), rung in part.groupby(["model", "layers"]):
            scores = rung.set_index("rate")
            cells = [percent(scores["score"][value]) if not scores["failed"][value] else "failed" for value in tried]
            about = [*([catalogue.model_card(model).title] if several else []), str(layers)]
            rows.append([*about, *cells, rate(scores.index[scores["chosen"]][0])])
        about = [*(["Model"] if several else []), "Layers"]
        numbers.table(f"rates_{phase}", [*about, *map(rate, tried), "Chosen"], rows)
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
        about = [title(row.set), row.type, labels.family(row.family), metric(row.set)]
        rows.append([*about, percent(row.chance), percent(row.value)])
    numbers.table("learnt", ["Intermediate training", "Type", "Family", "Metric", "Chance (%)", "Score (%)"], rows)


def add_plateau(numbers: Numbers, found: pd.DataFrame, name: str = "plateau") -> None:
    """Add the table ``name``: a row per rung and learning rate, a column per number of steps, the chosen one marked.
    ``found`` is that of ``preparation.plateau``."""
    steps = sorted(found["steps"].unique())
    rows = []
    for (layers, value), own in found.groupby(["layers", "learning_rate"]):
        of_steps = own.set_index("steps")
        marks = ["*" if of_steps["chosen"].get(step, False) else "" for step in steps]
        scores = [percent(of_steps["score"].get(step), missing="failed") for step in steps]
        rows.append([str(layers), rate(value), *(score + mark for score, mark in zip(scores, marks, strict=True))])
    numbers.table(name, ["Layers", "Learning rate", *(f"{step:.0f} steps" for step in steps)], rows)
    numbers.add(f"{name}_near", preparation.NEAR, percent(preparation.NEAR, 0), "percentage points")


def add_dose(numbers: Numbers, found: pd.DataFrame, rungs: list[int]) -> None:
    """Add the table ``dose`` (points above the placebo, by set and rung; admitted or not) and the list ``admitted``.
    ``found`` is that of ``preparation.dose``, ``rungs`` are those that the rule is about."""
    layers = sorted(found["layers"].unique())
    chosen = preparation.admitted(found, rungs)
    wide = found.pivot(index="set", columns="layers", values="taught")
    order = sorted(wide.index, key=lambda name: (catalogue.data_card(name).family, name))
    rows = []
    for name in order:
        card = catalogue.data_card(name)
        taught = [signed(wide.loc[name].get(k)) for k in layers]
        rows.append([title(name), card.type, labels.family(card.family), *taught, "yes" if name in chosen else "no"])
    heads = [labels.layers(k) for k in layers]
    numbers.table("dose", ["Intermediate training", "Type", "Family", *heads, "Admitted"], rows)
    numbers.words("admitted", listing(map(title, chosen)))
    numbers.add("dose_least", preparation.TAUGHT, percent(preparation.TAUGHT, 0), "percentage points")


def add_stability(numbers: Numbers, found: pd.DataFrame) -> None:
    """Add the table ``stability``: a row per target and condition, by rung the mean, the lowest score and the number of
    collapsed runs; and the list of rungs without any. ``found`` is that of ``preparation.stability``."""
    layers = sorted(found["layers"].unique())
    rows = []
    for (target, condition), own in found.groupby(["target", "condition"]):
        of_rung = own.set_index("layers")
        texts = [
            f"{percent(row['mean'])} ({percent(row['lowest'])}; {row['collapsed']:.0f} of {row['runs']:.0f})"
            for row in (of_rung.loc[k] for k in layers)
        ]
        rows.append([title(target), label(condition), *texts])
    numbers.table("stability", ["Target", "Intermediate training", *(labels.layers(k) for k in layers)], rows)
    numbers.words("stable_rungs", listing(preparation.stable(found)))
    numbers.count("stability_runs", found["runs"].sum(), "runs")
    numbers.count("stability_collapsed", found["collapsed"].sum(), "runs")
