"""What was run, for ``04_scaling.ipynb``: targets, sets, ladder, recipes, cost, and how learning rates were chosen.

Cells that failed or are not recorded are counted and listed; they never count as 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pandas as pd

from xlscale.cards import catalogue
from xlscale.core.format import MISSING, listing, millions, percent, rate, share
from xlscale.experiment.conditions import NONE, SHUFFLED
from xlscale.experiment.studies import Study
from xlscale.report.labels import key, label, layers, metric, title
from xlscale.report.numbers import Numbers
from xlscale.stats import groups
from xlscale.stats.slopes import conditions, rungs_of, sizes, targets

_RECIPE = ("examples", "epochs", "learning_rate", "batch_size", "max_length", "test_items")
_TRENDS = {
    "same": "are the same at every rung",
    "fall": "fall as depth grows",
    "rise": "rise as depth grows",
    "differ": "differ between rungs",
}
ByRung = dict[int, list[float]]  # layers -> the values of a hyperparameter that were used at that rung, ascending


def counts(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells by phase (rows) and status (columns complete, failed, missing)."""
    table = pd.crosstab(cells["phase"], cells["status"])
    return table.reindex(columns=["complete", "failed", MISSING], fill_value=0).rename_axis(columns=None)


def unfinished(cells: pd.DataFrame) -> pd.DataFrame:
    """Failed and missing cells with the reason: what figures and tables show as missing."""
    return cells.loc[cells["status"] != "complete", ["cell", "status", "reason"]].reset_index(drop=True)


def add_design(numbers: Numbers, cells: pd.DataFrame, languages: pd.DataFrame) -> None:
    """What was run: targets, sets, ladder, seeds, languages, recipes, cost; cells complete, failed and missing."""
    names = targets(cells)
    sets = [name for name in conditions(cells) if name != NONE and not name.endswith(SHUFFLED)]
    numbers.add("targets", " ".join(names), listing(map(title, names)))
    numbers.add("sets", " ".join(map(key, sets)), listing(map(label, sets)))
    _add_ladder(numbers, cells, names)
    _add_cost(numbers, cells)
    for name in sets:
        numbers.add(f"{key(name)}_title", label(name), label(name))
    recipes = _recipes(cells, names)
    for name, recipe in recipes.items():
        _add_recipe(numbers, name, recipe)
        if name in names:
            _add_target(numbers, name, languages[languages["target"] == name])
    trend = _trend(recipe["learning_rate"] for recipe in recipes.values())
    numbers.add("rates", trend, _TRENDS[trend])
    for name, value in {"level": groups.LEVEL, "power": groups.POWER, "alpha": 1 - groups.LEVEL}.items():
        numbers.add(name, round(value, 6), share(round(value, 6)))


def _add_ladder(numbers: Numbers, cells: pd.DataFrame, names: list[str]) -> None:
    """The rungs and their sizes, over all targets in ``names``."""
    rungs = sizes(cells[cells["layers"].isin({k for name in names for k in rungs_of(cells, name)})])
    numbers.add("layers", " ".join(map(str, rungs.index)), layers(*rungs.index))
    ends = {"smallest": 0, "largest": -1}
    for end, at in ends.items():
        numbers.add(end, int(rungs.index[at]), layers(rungs.index[at]))
    for end, at in ends.items():
        numbers.add(f"non_embedding_{end}", rungs.iloc[at], millions(rungs.iloc[at]), "parameters")
    ratio = rungs.iloc[-1] / rungs.iloc[0]
    numbers.add("non_embedding_ratio", ratio, MISSING if pd.isna(ratio) else f"{ratio:.1f}")
    total = cells["total_parameters"]
    for end, value in {"smallest": total.min(), "largest": total.max()}.items():
        numbers.add(f"total_{end}", value, millions(value), "parameters")


def _add_cost(numbers: Numbers, cells: pd.DataFrame) -> None:
    done = groups.completed(cells)
    numbers.count("seeds", done.loc[~groups.deterministic(done), "seed"].nunique())
    hours, memory = cells["wall_seconds"].sum() / 3600, cells["peak_memory_gb"].max()
    numbers.add("hours", hours, f"{hours:.1f}", "hours")
    numbers.add("peak_memory", memory, MISSING if pd.isna(memory) else f"{memory:.1f}", "GB")
    machines = sorted(cells["machine"].dropna().unique())
    numbers.add("machines", " | ".join(machines), "; ".join(machines) or "a machine that the record does not name")
    for status, count in counts(cells).sum().items():
        numbers.count(f"cells_{status}", count, "cells")


def _recipes(cells: pd.DataFrame, names: list[str]) -> dict[str, dict[str, ByRung]]:
    """Recipe (intermediate, and every target) -> hyperparameter -> its values by rung."""
    last = cells[cells["phase"] == "target"]
    rows = {"intermediate": last[last["condition"] != NONE].filter(regex="^(layers|intermediate_.*)$")}
    rows["intermediate"] = rows["intermediate"].rename(columns=lambda name: name.removeprefix("intermediate_"))
    rows |= {name: last[last["target"] == name] for name in names}
    return {name: {of: _by_rung(own, of) for of in _RECIPE} for name, own in rows.items()}


def _by_rung(cells: pd.DataFrame, name: str) -> ByRung:
    rows = cells.dropna(subset=[name]) if name in cells else cells.iloc[:0]
    return {k: sorted(part[name].unique()) for k, part in rows.groupby("layers")}


def _add_recipe(numbers: Numbers, of: str, recipe: dict[str, ByRung]) -> None:
    """The values of each hyperparameter: one where all rungs share it, else each with its rung."""
    for name, by_rung in recipe.items():
        write = rate if name == "learning_rate" else "{:,.0f}".format
        texts = {k: [write(value) for value in values] for k, values in by_rung.items()}
        if len({*map(tuple, by_rung.values())}) > 1:
            text = listing(f"{' or '.join(values)} at {layers(k)}" for k, values in texts.items())
            value = " ".join(f"{k}:{v:g}" for k, values in by_rung.items() for v in values)
        else:
            text = listing(next(iter(texts.values()), ()))
            value = " ".join(f"{v:g}" for v in next(iter(by_rung.values()), ()))
        numbers.add(f"{of}_{name}", value, text)


def _trend(rates: Iterable[ByRung]) -> str:
    """How learning rates change along the ladder, over all training phases: one of _TRENDS."""
    values = [[value for used in by_rung.values() for value in used] for by_rung in rates]
    steps = {np.sign(later - earlier) for own in values for earlier, later in pairwise(own)}
    if steps <= {0}:
        return "same"
    return "fall" if steps <= {-1, 0} else "rise" if steps <= {0, 1} else "differ"


def _add_target(numbers: Numbers, name: str, languages: pd.DataFrame) -> None:
    """Title, metric, chance, number of zero-shot languages and test items of one target."""
    items = languages[languages["language"] != "en"].groupby("language")["n"].max()
    numbers.add(f"{name}_title", title(name), title(name))
    numbers.count(f"{name}_zero_shot_languages", len(items), "languages")
    numbers.count(f"{name}_zero_shot_items", items.sum(), "items")
    numbers.add(f"{name}_metric", metric(name), metric(name))
    if name in catalogue.names("data"):
        chance = catalogue.data_card(name).chance
        numbers.add(f"{name}_chance", chance, percent(chance), "%")


def add_tuning(numbers: Numbers, study: Study | None) -> None:
    """How the study's learning rates were chosen: the table ``tuning`` and the counts that the text names."""
    tuning = study.tuning if study else None
    rows, best, single, most = [], 0, 0, 0
    for phase, rungs in tuning.tried.items() if tuning else ():
        name = getattr(tuning, phase)
        for k, values in rungs.items():
            scores = dict(zip(values, tuning.scores[phase][k], strict=True))
            used = study.recipes(phase, name, next(iter(study.models)), k, study.name)[0]["learning_rate"]
            best += scores.get(used) == max(scores.values())
            single += len(scores) == 1
            most = max(most, len(values))
            tried = ", ".join(f"{rate(value)} ({percent(score)})" for value, score in scores.items())
            rows.append([title(name), str(k), f"{tuning.examples[k]:,}", tried, rate(used)])
    numbers.table("tuning", ["Data set", "Layers", "Examples", "Tried (score)", "Used"], rows)
    for name, value in {"choices": len(rows), "single": single, "not_best": len(rows) - best, "most": most}.items():
        numbers.count(f"tuning_{name}", value)
    numbers.add("tuning_seed", tuning.seed if tuning else None, str(tuning.seed) if tuning else "not recorded")
    numbers.words("tuning_note", tuning.note if tuning else "")
    for phase in ("intermediate", "target"):
        name = getattr(tuning, phase) if tuning else None
        numbers.add(f"tuning_{phase}", name, title(name) if name else "not recorded")
