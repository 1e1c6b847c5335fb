"""Slopes on log10 non-embedding parameters, gains over a baseline, and gamma, as contrasts of group means.

A slope is the least-squares slope through the rung means, each rung with equal weight: a linear contrast with weights
(x - mean x) / sum (x - mean x)^2. Its interval speaks about training randomness at these rungs, sets and languages;
it uses the seed variance of each rung, so rungs may be unequally noisy.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict

import numpy as np
import pandas as pd
from scipy import stats

from xlscale.core.files import XlscaleError
from xlscale.experiment.conditions import NONE, SHUFFLED, plain, untreated
from xlscale.stats import groups
from xlscale.xtreme import paired

KEYS = ["condition", "layers"]
# Two rungs give a difference, not a slope.
FEWEST_RUNGS = 3
TRAINING_ONLY = "The interval of γ covers training randomness only, not the choice of data sets."
NO_REPLICATION = (
    f"Only one data set is {{kinds}}: γ has no replication over data sets, so it compares data sets, not "
    f"kinds of data. {TRAINING_ONLY}"
)
LEFT_OUT = " Left out of γ because they contain a target's own data: {sets}."
NO_CONTRAST = "γ is not estimated: no data set is {kinds}."


def targets(cells: pd.DataFrame) -> list[str]:
    """Targets with at least one complete cell, sorted."""
    return sorted(groups.completed(cells)["target"].unique())


def rungs_of(cells: pd.DataFrame, target: str) -> list[int]:
    """Numbers of layers at which the study evaluates a target, complete or not, ascending."""
    return sorted({int(k) for k in cells.loc[(cells["phase"] == "target") & (cells["target"] == target), "layers"]})


def sizes(cells: pd.DataFrame) -> pd.Series:
    """Non-embedding parameters by number of layers, of all phases, ascending; NaN where no cell recorded them."""
    return cells.groupby("layers")["non_embedding_parameters"].max().astype(float)


def conditions(cells: pd.DataFrame) -> list[str]:
    """Conditions in reading order: none first, then general before domain, each followed by its shuffled control."""
    rank = {"none": 0, "general": 1, "domain": 2}
    rows = cells[cells["phase"] == "target"][["condition", "intermediate_type", "placebo"]].drop_duplicates()
    order = {row.condition: (rank.get(row.intermediate_type, 3), row.condition) for row in rows.itertuples()}
    return sorted(order, key=order.get)


def baseline_of(condition: str, baseline: str, known: Collection[str] = ()) -> str | None:
    """The condition that ``condition`` is compared with: "none" (see ``conditions.untreated``, of the conditions
    ``known``), or "shuffled" for its own shuffled control."""
    if baseline == NONE:
        return untreated(condition, known)
    trained = condition.split(", ")[0] != NONE
    return condition + SHUFFLED if trained and not condition.endswith(SHUFFLED) else None


def slope_weights(sizes: pd.Series) -> pd.Series:
    """What the least-squares slope on log10 of ``sizes`` weighs the value at each of them with; they add up to 0."""
    x = np.log10(sizes)
    centred = x - x.mean()
    return centred / (centred**2).sum()


class Ladder:
    """The groups of one target: means by (condition, layers), x by layers, seed variance by layers."""

    def __init__(self, cells: pd.DataFrame, target: str, scale: str = "accuracy"):
        own = groups.completed(cells, target)
        if own["model"].nunique() > 1:
            raise XlscaleError(f"{target}: cells of several models: expected one ladder; select a model first")
        self.groups = groups.means(own, KEYS, scale)
        self.variances = groups.variances(self.groups, "layers")
        self.x = sizes(own)
        self.present = set(self.groups.index)

    def rungs(self, names: Iterable[str]) -> list[int]:
        """Rungs at which all of these conditions have runs."""
        return [k for k in self.x.index if all((name, k) in self.present for name in names)]

    def weights(self, signs: dict[str, float], rungs: list[int]) -> pd.Series:
        """Slope weights over ``rungs``, times a factor per condition."""
        each = np.outer([*signs.values()], slope_weights(self.x[rungs]))
        return pd.Series(each.ravel(), index=pd.MultiIndex.from_product([signs, rungs], names=KEYS))

    def slope(self, signs: dict[str, float]) -> tuple[groups.Estimate, list[int]]:
        """Slope of ``sum(sign * mean)`` and the rungs it rests on; missing with fewer than ``FEWEST_RUNGS``."""
        rungs = self.rungs(signs)
        if len(rungs) < FEWEST_RUNGS:
            return groups.MISSING, rungs
        return groups.contrast(self.groups, self.weights(signs, rungs), self.variances), rungs

    def difference(self, condition: str, baseline: str, layers: int) -> groups.Estimate:
        """Mean of a condition minus that of its baseline, at one rung."""
        return self.at({condition: 1.0, baseline: -1.0}, layers)

    def at(self, signs: dict[str, float], layers: int) -> groups.Estimate:
        """``sum(sign * mean)`` at one rung; missing where a condition has no run there."""
        if not signs or layers not in self.rungs(signs):
            return groups.MISSING
        weights = pd.Series([*signs.values()], index=pd.MultiIndex.from_product([signs, [layers]], names=KEYS))
        return groups.contrast(self.groups, weights, self.variances)


def slopes(cells: pd.DataFrame, scale: str = "accuracy") -> pd.DataFrame:
    """A row per target, condition and quantity ("value", "gain over none", "gain over shuffled labels").

    Columns: target, condition, type, overlaps (the set contains the target's own data), quantity, rungs (list), and
    those of ``groups.Estimate``. The unit is the scale's (accuracy: 0..1) per factor of ten in non-embedding
    parameters.
    """
    return pd.DataFrame(_slope_rows(cells, scale), columns=[*_COLUMNS, *asdict(groups.MISSING)])


_COLUMNS = ["target", "condition", "type", "overlaps", "quantity", "rungs"]


def _slope_rows(cells: pd.DataFrame, scale: str) -> Iterator[dict]:
    for target in targets(cells):
        ladder, own = Ladder(cells, target, scale), cells[cells["target"] == target]
        facts = own.drop_duplicates("condition").set_index("condition")
        for condition in (known := conditions(own)):
            wanted = {"value": {condition: 1.0}}
            for baseline, quantity in ((NONE, "gain over none"), ("shuffled", "gain over shuffled labels")):
                if (other := baseline_of(condition, baseline, known)) is not None:
                    wanted[quantity] = {condition: 1.0, other: -1.0}
            for quantity, signs in wanted.items():
                estimate, rungs = ladder.slope(signs)
                about = (
                    target,
                    condition,
                    *facts.loc[condition, ["intermediate_type", "overlaps"]],
                    quantity,
                    rungs,
                )
                yield dict(zip(_COLUMNS, about, strict=True)) | asdict(estimate)


def gains(cells: pd.DataFrame, baseline: str = NONE, scale: str = "accuracy") -> pd.DataFrame:
    """Gain over a baseline ("none" or "shuffled") at every rung of the study: target, condition, layers, Estimate's."""
    rows = []
    for target in targets(cells):
        ladder = Ladder(cells, target, scale)
        for condition in (known := conditions(cells[cells["target"] == target])):
            if (other := baseline_of(condition, baseline, known)) is None:
                continue
            for layers in rungs_of(cells, target):
                about = {"target": target, "condition": condition, "layers": layers}
                rows.append(about | asdict(ladder.difference(condition, other, layers)))
    return pd.DataFrame(rows, columns=["target", "condition", "layers", *asdict(groups.MISSING)])


def gamma(cells: pd.DataFrame, baseline: str = NONE, scale: str = "accuracy") -> pd.DataFrame:
    """A row per target: gamma, the slope of the gain with domain data minus that with general data.

    Sets of one type are averaged with equal weight, without those that contain the target's own data; trained on in
    another way than plainly, a set does not count. Over "none" the
    baseline cancels out; over "shuffled" each set is taken relative to its own control. Columns: target, domain,
    general (lists of sets), rungs, note, Estimate's, which are NaN where one type is missing.
    """
    rows = []
    for target in targets(cells):
        ladder = Ladder(cells, target, scale)
        own = groups.completed(cells, target)
        real = own[own["condition"].map(plain).astype(bool)]
        doubled = real["overlaps"].astype(bool)
        left_out, real = sorted(real.loc[doubled, "condition"].unique()), real[~doubled]
        sets = {kind: sorted(real.loc[real["intermediate_type"] == kind, "condition"].unique()) for kind in _TYPES}
        estimate, rungs = groups.MISSING, []
        if all(sets.values()):
            estimate, rungs = ladder.slope(_gamma_signs(sets, baseline))
        about = {"target": target, "domain": sets["domain"], "general": sets["general"], "rungs": rungs}
        about["note"] = _note(sets) + (LEFT_OUT.format(sets=", ".join(left_out)) if left_out else "")
        rows.append(about | asdict(estimate))
    return pd.DataFrame(rows, columns=["target", "domain", "general", "rungs", "note", *asdict(groups.MISSING)])


_TYPES = {"domain": 1.0, "general": -1.0}


def _note(sets: dict[str, list[str]]) -> str:
    """A sentence on what the interval of gamma does not cover."""
    fewest = min(map(len, sets.values()))
    kinds = " and only one is ".join(kind for kind in reversed(_TYPES) if len(sets[kind]) == fewest)
    if fewest == 0:
        return NO_CONTRAST.format(kinds=kinds.replace("and only one is", "and none is"))
    return NO_REPLICATION.format(kinds=kinds) if fewest == 1 else TRAINING_ONLY


def _gamma_signs(sets: dict[str, list[str]], baseline: str) -> dict[str, float]:
    signs = {}
    for kind, sign in _TYPES.items():
        for name in sets[kind]:
            signs[name] = sign / len(sets[kind])
            if baseline == "shuffled":
                signs[name + SHUFFLED] = -sign / len(sets[kind])
    return signs


def holm(p: pd.Series) -> pd.Series:
    """Holm's adjusted p values (Holm 1979) over the entries that are not missing."""
    return _adjusted(p, paired.holm)


def benjamini_hochberg(p: pd.Series) -> pd.Series:
    """Adjusted p values of Benjamini and Hochberg (1995) over the entries that are not missing."""
    return _adjusted(p, stats.false_discovery_control)


def _adjusted(p: pd.Series, method: Callable[[np.ndarray], np.ndarray]) -> pd.Series:
    adjusted, known = pd.Series(float("nan"), index=p.index), p.dropna()
    if len(known):
        adjusted[known.index] = method(known.to_numpy())
    return adjusted
