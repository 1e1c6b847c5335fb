"""A record in words and tables: labels, number formats, the study's design, and result tables for the paper.

Everything that the paper's text says about cells is computed here; missing and failed cells are shown as missing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from xlscale.cards import catalogue
from xlscale.core.files import XlscaleError, digest
from xlscale.experiment.cells import NONE, SHUFFLED
from xlscale.experiment.results import Result
from xlscale.record import store
from xlscale.stats import groups as g
from xlscale.stats.slopes import Ladder, conditions, rungs_of, sizes, targets

MISSING = "missing"
METRICS = {
    "accuracy": "accuracy",
    "p_at_1": "precision at 1",
    "f1": "F1",
    "span_f1": "span F1",
    "token_accuracy": "token accuracy",
    "mining_f1": "F1 of pairs",
    "map_at_20": "mAP@20",
}
# What marks a set beside a target whose own data it holds: no primary test.
DOUBLES = ", holds data of this target"
MINUS = "\N{MINUS SIGN}"
DIRECTIONS = ("increased", "decreased", "no detectable change", "not estimable")
# What a training run is made of: column, how to print it.
_RECIPE = ("examples", "epochs", "learning_rate", "batch_size", "max_length", "test_items")

_RATES = {
    "same": "are the same at every rung",
    "fall": "fall as depth grows",
    "rise": "rise as depth grows",
    "differ": "differ between rungs",
}


def percent(value: float, digits: int = 1) -> str:
    """0.7312 as "73.1"; NaN as "missing"."""
    return MISSING if pd.isna(value) else f"{100 * value:.{digits}f}"


def signed(value: float, digits: int = 1, factor: float = 100) -> str:
    """A difference of proportions in points with its sign, 0.012 as "+1.2"; NaN as "missing"."""
    if pd.isna(value):
        return MISSING
    text = f"{factor * value:+.{digits}f}"
    # A sign before a rounded zero would claim a direction.
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)


def interval(low: float, high: float, digits: int = 1, factor: float = 100) -> str:
    """An interval in points; "none" where it cannot be had, "exact" for a point."""
    if pd.isna(low):
        return "none"
    return "exact" if low == high else f"{signed(low, digits, factor)} to {signed(high, digits, factor)}"


def probability(p: float) -> str:
    """A p value: "0.032", "<0.001"; "none" for NaN."""
    return "none" if pd.isna(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def share(value: float) -> str:
    """A level or a power, 0.999 as "99.9%"."""
    return f"{100 * value:g}%"


def rate(value: float) -> str:
    """A learning rate without an exponent, 2e-5 as "0.00002"."""
    return np.format_float_positional(value, trim="-")


def millions(count: float) -> str:
    """A count of parameters as "21.3 million"."""
    return MISSING if pd.isna(count) else f"{count / 1e6:.1f} million"


def listing(words: Iterable[Any]) -> str:
    """Words in a row: "a", "a and b", "a, b and c"; "none" for nothing."""
    words = [str(word) for word in words]
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else "none"


def layers(*counts: int) -> str:
    """Rungs with their noun: "1 layer", "1, 2 and 4 layers"."""
    return f"{listing(counts)} layer{'' if counts == (1,) else 's'}"


def direction(low: float, high: float, words: tuple[str, str, str, str] = DIRECTIONS) -> str:
    """What an interval says of a sign, in words for: above zero, below zero, neither, and no interval."""
    up, down, neither, unknown = words
    if pd.isna(low):
        return unknown
    return up if low > 0 else down if high < 0 else neither


def title(name: str) -> str:
    """The title on a data card, or the name where there is no card."""
    return catalogue.data_card(name).title if name in catalogue.names("data") else name


def metric(name: str) -> str:
    """The primary metric on a data card in words, "value" where there is no card."""
    return METRICS[catalogue.data_card(name).metric] if name in catalogue.names("data") else "value"


def label(condition: str, doubles: bool = False) -> str:
    """A condition for a legend: the data set's title and type, whether its labels were shuffled, and DOUBLES if so."""
    if condition == NONE:
        return "no intermediate training"
    name = condition.removesuffix(SHUFFLED)
    kind = f" ({catalogue.data_card(name).type})" if name in catalogue.names("data") else ""
    return title(name) + kind + (SHUFFLED if condition.endswith(SHUFFLED) else "") + (DOUBLES if doubles else "")


def slug(condition: str) -> str:
    """A condition as a part of a key: "squad_wiki, shuffled labels" is "squad_wiki_shuffled"."""
    return re.sub(r"[^a-z0-9]+", "_", condition.replace(SHUFFLED, "_shuffled").lower())


def require(cells: pd.DataFrame, where: str) -> pd.DataFrame:
    """``cells``; raises XlscaleError with one line when the target phase has no complete cell."""
    if cells.empty or g.completed(cells).empty:
        raise XlscaleError(f"{where}: no complete cell of the target phase: expected a record; run 'make reproduce'")
    return cells


def with_missing(cells: pd.DataFrame, expected: Sequence[Any]) -> pd.DataFrame:
    """The cells of a study: recorded ones, and a row with status "missing" for each expected one that is not there.

    ``expected`` holds ``cells.Cell`` objects; recorded cells of other studies are left out.
    """
    wanted = [cell.id for cell in expected]
    known = cells[cells["cell"].isin(wanted)]
    absent = {cell.id: _absent(cell) for cell in expected if cell.id not in set(known["cell"])}
    if not absent:
        return known.reset_index(drop=True)
    missing = store.table(absent).assign(status=MISSING)
    missing = missing.reindex(columns=cells.columns).astype(cells.dtypes.to_dict(), errors="ignore")
    return pd.concat([known, missing], ignore_index=True)


def _absent(cell: Any) -> Result:
    """A cell without a result, in the form of one, so that ``record`` alone says what its columns are."""
    return Result(
        id=cell.id,
        phase=cell.phase,
        parent=None,
        parameters=cell.parameters.model_dump(),
        reads=dict(cell.reads),
        status="failed",
        reason="not in the record",
        fingerprint=digest(None),
    )


def counts(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells by phase (rows) and status (columns complete, failed, missing)."""
    table = pd.crosstab(cells["phase"], cells["status"])
    return table.reindex(columns=["complete", "failed", MISSING], fill_value=0).rename_axis(columns=None)


def design(cells: pd.DataFrame, languages: pd.DataFrame) -> dict[str, tuple[Any, str, str]]:
    """What was run, as key -> (value, text, unit) for ``paper.Numbers.add``: ladder, seeds, sizes, recipes, cost."""
    done = g.completed(cells)
    names = targets(cells)
    rungs = sizes(cells[cells["layers"].isin({k for name in names for k in rungs_of(cells, name)})])
    sets = [name for name in conditions(cells) if name != NONE and not name.endswith(SHUFFLED)]
    seeds = sorted(done.loc[~g.deterministic(done), "seed"].unique())
    total = cells["total_parameters"]
    hours = cells["wall_seconds"].sum() / 3600
    memory = cells["peak_memory_gb"].max()
    ratio = rungs.iloc[-1] / rungs.iloc[0]
    status = counts(cells).sum()
    found = {
        "targets": (" ".join(names), listing(map(title, names)), ""),
        "sets": (" ".join(sets), listing(map(label, sets)), ""),
        "layers": (" ".join(map(str, rungs.index)), layers(*rungs.index), ""),
        "smallest": (int(rungs.index[0]), layers(rungs.index[0]), ""),
        "largest": (int(rungs.index[-1]), layers(rungs.index[-1]), ""),
        "non_embedding_smallest": (rungs.iloc[0], millions(rungs.iloc[0]), "parameters"),
        "non_embedding_largest": (rungs.iloc[-1], millions(rungs.iloc[-1]), "parameters"),
        "non_embedding_ratio": (ratio, MISSING if pd.isna(ratio) else f"{ratio:.1f}", ""),
        "total_smallest": (total.min(), millions(total.min()), "parameters"),
        "total_largest": (total.max(), millions(total.max()), "parameters"),
        "seeds": (len(seeds), str(len(seeds)), ""),
        "hours": (hours, f"{hours:.1f}", "hours"),
        "peak_memory": (memory, MISSING if pd.isna(memory) else f"{memory:.1f}", "GB"),
        "machines": (" | ".join(sorted(cells["machine"].dropna().unique())), _machines(cells), ""),
    }
    found |= {f"cells_{name}": (int(count), str(int(count)), "cells") for name, count in status.items()}
    found |= {f"{name}_title": (label(name), label(name), "") for name in sets}
    asked = cells[cells["phase"] == "target"]
    found |= _recipe(asked[asked["condition"] != NONE], "intermediate_", "intermediate_")
    for name in names:
        found |= _recipe(asked[asked["target"] == name], "", f"{name}_")
        found |= _target(name, languages[languages["target"] == name])
    found["rates"] = (rates(found), _RATES[rates(found)], "")
    return found


def rates(recipes: dict[str, tuple[Any, str, str]]) -> str:
    """How learning rates change along the ladder, over all training phases: "same", "fall", "rise" or "differ"."""
    values = [value for name, (value, _, _) in recipes.items() if name.endswith("learning_rate")]
    steps = {
        np.sign(later - earlier)
        for value in values
        for earlier, later in pairwise(float(pair.rpartition(":")[2]) for pair in value.split())
    }
    if steps <= {0}:
        return "same"
    return "fall" if steps <= {-1, 0} else "rise" if steps <= {0, 1} else "differ"


def _machines(cells: pd.DataFrame) -> str:
    return "; ".join(sorted(cells["machine"].dropna().unique())) or "a machine that the record does not name"


def _recipe(cells: pd.DataFrame, prefix: str, key: str) -> dict[str, tuple[Any, str, str]]:
    """The values of each hyperparameter: one where all rungs share it, else each with its rung."""
    found = {}
    for name in _RECIPE:
        rows = cells.dropna(subset=[prefix + name]) if prefix + name in cells else cells.iloc[:0]
        by_rung = {k: sorted(part[prefix + name].unique()) for k, part in rows.groupby("layers")}
        write = rate if name == "learning_rate" else "{:,.0f}".format
        distinct = {tuple(values) for values in by_rung.values()}
        if len(distinct) > 1:
            text = listing(f"{' or '.join(map(write, values))} at {layers(k)}" for k, values in by_rung.items())
            value = " ".join(f"{k}:{v:g}" for k, values in by_rung.items() for v in values)
        else:
            values = next(iter(distinct), ())
            text, value = listing(map(write, values)), " ".join(f"{v:g}" for v in values)
        found[key + name] = (value, text, "")
    return found


def _target(name: str, rows: pd.DataFrame) -> dict[str, tuple[Any, str, str]]:
    """Title, metric, chance, number of zero-shot languages and test items of one target."""
    rows = rows[rows["language"] != "en"]
    items = rows.groupby("language")["n"].max()
    found = {
        f"{name}_title": (title(name), title(name), ""),
        f"{name}_zero_shot_languages": (len(items), str(len(items)), "languages"),
        f"{name}_zero_shot_items": (int(items.sum()), f"{int(items.sum()):,}", "items"),
        f"{name}_metric": (metric(name), metric(name), ""),
    }
    if name in catalogue.names("data"):
        chance = catalogue.data_card(name).chance
        found[f"{name}_chance"] = (chance, percent(chance), "%")
    return found


def results_table(cells: pd.DataFrame, target: str) -> tuple[list[str], list[list[str]]]:
    """Header and rows: mean value in percent per condition (rows) and rung (columns)."""
    own = cells[(cells["phase"] == "target") & (cells["target"] == target)]
    return means_table(Ladder(cells, target).groups, conditions(own), rungs_of(cells, target), doubled(own))


def doubled(cells: pd.DataFrame) -> set[str]:
    """Conditions whose set holds data of the target's own; ``cells`` are those of one target."""
    return {*cells.loc[cells["doubles"].astype(bool), "condition"]}


def means_table(
    groups: pd.DataFrame, names: Sequence[str], rungs: Sequence[int], own_data: Collection[str] = ()
) -> tuple[list[str], list[list[str]]]:
    """Header and rows: the means of ``groups`` (by condition and layers) in percent, a column per rung.

    Names in ``own_data`` are marked as sets that hold data of the target's own.
    A mean over fewer runs than its condition has elsewhere says so; no complete run is "missing".
    """
    rows = []
    for condition in names:
        row = [label(condition, condition in own_data)]
        for k in rungs:
            if (condition, k) not in groups.index:
                row.append(MISSING)
                continue
            group = groups.loc[(condition, k)]
            usual = groups.loc[condition, "n"].max()
            row.append(percent(group["mean"]) + (f" ({group['n']} of {usual} runs)" if group["n"] < usual else ""))
        rows.append(row)
    return ["Intermediate training", *map(layers, rungs)], rows
