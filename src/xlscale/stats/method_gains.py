"""What a method of training adds to plain fine-tuning, language by language, paired by seed and by test item.

Every run of a method stands beside the plain run of its seed, which saw the same examples in the same order and answers
the same items: d(s, i) is the difference of the two scores of item i with seed s, and a gain is the mean of d. Unit of
inference: seeds and items, both taken as drawn from many; languages, and the mean over them, are these and no others.
With crossed random effects d = gain + seed + item + rest the variance of the mean over S seeds and N items is that of
seed means / S + that of items / N, the latter estimated by moments (the variance of item means less that of the rest /
S, and no less than 0). Three seeds say little of their own variance, so it is pooled over the methods of a target and
rung, for every language by itself. Methods share the plain runs, which correlates their differences by a half where all
runs vary alike, so the pooled variance counts as so many degrees of freedom as the mean of such correlated mean squares
has; those of the sum are Satterthwaite's (1946). Pooling takes the methods as equally noisy: a method whose seeds vary
three times as much as those of five others had the truth in its intervals in 82% of simulated records rather than 95%,
so the spread over a method's own seeds stands beside its interval, and nothing is claimed that a seed speaks against.
Items of one id are one item in all languages where a target is parallel. What a mean over languages is on the scale of
log odds is the log odds of the mean score.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import special

from xlscale.cards.catalogue import data_card
from xlscale.cards.languages import ENGLISH
from xlscale.core.files import XlscaleError
from xlscale.experiment.conditions import NONE
from xlscale.metrics.predictions import VALUE
from xlscale.stats import groups
from xlscale.stats.items import parallel
from xlscale.stats.slopes import holm

SCALES = ("accuracy", "logit")  # a direction is claimed only where both agree
MEAN = "mean"  # over languages
SHARED = 0.5  # correlation of two differences from the same plain run, where all runs vary alike
COLUMNS = ["target", "layers", "condition", "language", "scale", "seeds", "items", "plain", "spread", "agree"]
DIRECTIONS = ("gains", "loses", "depends on the scale", "no detectable change", "not estimable")


@dataclass(frozen=True)
class Runs:
    """The scores of all items in the runs on one target at one rung.

    ``scores``: condition -> float64 (seeds, items), 0 to 1, of conditions that have a run of every one of ``seeds``.
    ``plain``: what they are compared with, (seeds, items). ``fixed``: that has no training, and is one run for all
    seeds. ``language`` and ``item``: object (items,).
    """

    target: str
    layers: int
    seeds: tuple[int, ...]
    scores: Mapping[str, np.ndarray]
    plain: np.ndarray
    fixed: bool
    language: np.ndarray
    item: np.ndarray

    @property
    def languages(self) -> list[str]:
        """Codes, sorted; without English."""
        return sorted({*self.language} - {ENGLISH})


def read(cells: pd.DataFrame, record: Path, target: str, layers: int, baseline: str = NONE) -> Runs | None:
    """The runs on a target at one rung, with the predictions in ``record``; None without two conditions to compare.

    ``cells``: as ``store.table`` gives them. Only seeds that the baseline has a complete run of count, and a condition
    that lacks one of them, since a run failed or is yet to be made, is left out. Raises XlscaleError for a target that
    is not scored item by item, several cells of one run, and predictions that are not of the same items.
    """
    from xlscale.record import recompute  # imports torch

    above, below = VALUE[data_card(target).metric]
    if below:
        raise XlscaleError(
            f"{target}: expected a target whose score is a mean over items, got {data_card(target).metric}"
        )
    done = groups.completed(cells, target)
    done = done[(done["layers"] == layers) & ~done["placebo"].astype(bool)]
    if (twice := done.duplicated(["condition", "seed"])).any():
        raise XlscaleError(
            f"{done.loc[twice, 'cell'].iloc[0]}: expected one cell of its condition and seed, got several"
        )
    by_run = {key: own["cell"].iloc[0] for key, own in done.groupby(["condition", "seed"])}
    none = sorted(seed for condition, seed in by_run if condition == baseline)
    fixed = bool(groups.deterministic(done[done["condition"] == baseline]).all()) and bool(none)
    others = [name for name in done["condition"].unique() if name != baseline]
    seeds = sorted({seed for name, seed in by_run if name in others}) if fixed else none
    whole = [name for name in others if seeds and all((name, seed) in by_run for seed in seeds)]
    if not whole:
        return None
    wanted = {by_run[baseline, none[0] if fixed else seed] for seed in seeds}
    wanted |= {by_run[name, seed] for name in whole for seed in seeds}
    found, first = {}, None
    for cell in sorted(wanted):
        table = recompute.read_predictions(record / "predictions" / f"{cell}.parquet", ["language", "item"], [above])
        table = table.combine_chunks()
        first = table if first is None else first
        if not table.select(["language", "item"]).equals(first.select(["language", "item"])):
            raise XlscaleError(f"{cell}: item: expected those of the other runs on {target} with {layers} layers")
        found[cell] = table[above].to_numpy().astype(np.float64)
    plain = np.stack([found[by_run[baseline, none[0] if fixed else seed]] for seed in seeds])
    scores = {name: np.stack([found[by_run[name, seed]] for seed in seeds]) for name in whole}
    language, item = (np.array(first[name].to_pylist(), object) for name in ("language", "item"))
    return Runs(target, layers, tuple(seeds), scores, plain, fixed, language, item)


def gains(runs: Runs) -> pd.DataFrame:
    """The gain of every condition in every language and in the MEAN over them, on SCALES: COLUMNS, those of
    ``groups.Estimate``, and adjusted: p after Holm over the languages of a condition, of the MEAN over the conditions.

    ``items``: how many are independent; ``plain``: the score without the method; ``spread``: the standard deviation of
    the gain over seeds; ``agree``: whether it has one sign in all of them.
    """
    rows, together, one = [], parallel(runs.target), len(runs.seeds) == 1
    about = {"target": runs.target, "layers": runs.layers, "seeds": len(runs.seeds)}
    for language in (*runs.languages, MEAN):
        weights = _weights(runs, runs.languages if language == MEAN else [language])
        ids = runs.item if together else [f"{code} {item}" for code, item in zip(runs.language, runs.item, strict=True)]
        _, index = np.unique(np.array(ids, str)[weights > 0], return_inverse=True)
        plain = _shares(runs.plain, weights, index)
        about |= {"language": language, "items": index.max() + 1, "plain": plain.mean()}
        shares = {name: _shares(own, weights, index) for name, own in runs.scores.items()}
        for scale in SCALES:
            of = {name: _difference(own, plain, scale) for name, own in shares.items()}
            errors = crossed({name: z for name, (_, z) in of.items()}, 0.0 if runs.fixed else SHARED)
            for condition, (value, z) in of.items():
                spread = float("nan") if one else z.mean(1).std(ddof=1)
                signs = agree((shares[condition] - plain).mean(1))  # the same on both scales
                facts = about | {"condition": condition, "scale": scale, "spread": spread, "agree": signs}
                rows.append(facts | asdict(_at(value, *errors[condition])))
    table = pd.DataFrame(rows, columns=[*COLUMNS, *asdict(groups.MISSING)])
    whole = table["language"] == MEAN
    family = table["condition"].where(~whole, MEAN)
    return table.assign(adjusted=table.groupby([family, "scale"])["p"].transform(holm))


def _weights(runs: Runs, languages: Iterable[str]) -> np.ndarray:
    """Float64 (items,): what each adds to the mean over ``languages``, which weigh equally."""
    weights, languages = np.zeros(len(runs.language)), [*languages]
    for code in languages:
        own = runs.language == code
        weights[own] = 1 / own.sum() / len(languages)
    return weights


def _shares(scores: np.ndarray, weights: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Float64 (seeds, clusters): numbers whose mean over clusters is the weighted mean of the scores (seeds, items);
    ``index``: the cluster of each item with a weight."""
    own = scores[:, weights > 0] * weights[weights > 0]
    count = index.max() + 1
    return count * np.stack([np.bincount(index, one, count) for one in own])


def _difference(own: np.ndarray, plain: np.ndarray, scale: str) -> tuple[float, np.ndarray]:
    """The gain on a scale, and how far each seed and cluster moves it (seeds, clusters): on log odds by linearisation,
    half an item being counted as right and half as wrong so that all right is not infinitely good."""
    if scale == "accuracy":
        return float(own.mean() - plain.mean()), own - plain
    count = own.shape[1]
    means = [(count * side.mean() + 0.5) / (count + 1) for side in (own, plain)]
    slopes = [1 / (mean * (1 - mean)) for mean in means]
    return float(special.logit(means[0]) - special.logit(means[1])), slopes[0] * own - slopes[1] * plain


def crossed(parts: Mapping[str, np.ndarray], correlation: float) -> dict[str, tuple[float, float]]:
    """Name -> squared standard error of the mean of each array (seeds, items) of ``parts`` and its degrees of freedom,
    NaN and 0 with one seed; see above. ``correlation``: of the seed means of two of the arrays."""
    seeds, items = next(iter(parts.values())).shape
    if seeds < 2 or items < 2:
        return dict.fromkeys(parts, (float("nan"), 0.0))
    between = between_seeds([z.mean(1) for z in parts.values()], correlation)
    found = {}
    for name, z in parts.items():
        rest = z - z.mean(1, keepdims=True) - z.mean(0) + z.mean()
        noise = float((rest**2).sum()) / ((seeds - 1) * (items - 1))
        own = max(0.0, float(z.mean(0).var(ddof=1)) - noise / seeds) / items
        found[name] = combined(between, (own, items - 1))
    return found


def between_seeds(means: Sequence[np.ndarray], correlation: float) -> tuple[float, float]:
    """Squared standard error of a mean over seeds, pooled over ``means``, each (seeds,) and two of them correlated by
    ``correlation``, and its degrees of freedom; these are 0 with one seed."""
    seeds, several = len(means[0]), len(means)
    if seeds < 2:
        return float("nan"), 0.0
    pooled = float(np.mean([values.var(ddof=1) for values in means]))
    # The variance of a mean of correlated mean squares, each on ``seeds - 1`` degrees: two of them go by the square.
    return pooled / seeds, (seeds - 1) / (1 / several + (1 - 1 / several) * correlation**2)


def agree(seeds: np.ndarray) -> bool:
    """Whether an estimate of each seed has the sign of the others."""
    return len({*np.sign(seeds)}) == 1


def combined(*parts: tuple[float, float]) -> tuple[float, float]:
    """The sum of independent (squared standard error, degrees of freedom), with Satterthwaite's (1946), cut to a tenth:
    what follows from them alone is then computed for few."""
    total = sum(part for part, _ in parts)
    free = sum(part**2 / df for part, df in parts if part)
    return total, math.floor(10 * total**2 / free) / 10 if free else 0.0


def _at(value: float, variance: float, df: float) -> groups.Estimate:
    """An estimate; without an interval where nothing varies, which says nothing of other seeds and items."""
    return groups.with_interval(value, variance**0.5, df) if df and variance > 0 else groups.without_interval(value)


def directions(found: pd.DataFrame, keys: list[str], p: str = "adjusted") -> pd.Series:
    """What a table with a row per ``keys`` and scale lets one say: one of DIRECTIONS per ``keys``. A gain or a loss is
    claimed where ``p`` is below 1 - groups.LEVEL on all SCALES, all estimates have its sign, and the seeds agree."""
    columns = ["estimate", p, "agree"]
    return found.groupby(keys, sort=False)[columns].apply(lambda own: _direction(own["estimate"], own[p], own["agree"]))


def _direction(estimates: pd.Series, p: pd.Series, agreed: pd.Series) -> str:
    up, down, depends, nothing, unknown = DIRECTIONS
    if p.isna().any():
        return unknown
    below = (p < 1 - groups.LEVEL) & agreed.astype(bool)
    signs = {*np.sign(estimates)}
    if not below.any():
        return nothing
    return (up if signs == {1.0} else down) if below.all() and len(signs) == 1 else depends
