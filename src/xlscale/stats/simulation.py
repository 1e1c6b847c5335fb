"""Records with a known truth, at the layout of a study: how often each analysis of beta finds what is not there, how
often its interval holds what is, and what the primary one can see.

A scenario says how sets, seeds and runs vary. What is simulated is the gain of a run at a rung, as the mean over the
targets of a family that the analyses start from. Everything is in points, slopes in points per factor of ten.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd
from scipy import optimize, stats

from xlscale.experiment.cells import NONE
from xlscale.experiment.studies import Study
from xlscale.stats import groups
from xlscale.stats.primary import Layout, facts_of

FAILED = 30.0  # points that a run loses on a target on which it fails


@dataclass(frozen=True)
class Scenario:
    """How a record comes about; standard deviations in points."""

    spread: float = 2.0  # between the slopes of sets
    noise: tuple[float, ...] = (2.0, 2.0, 2.0)  # of a run on one target, by rung
    pairing: float = 0.0  # correlation of two runs that share a seed, at the same rung
    formats: float = 0.0  # between the slopes of formats, whose mean over sets is zero
    failures: float = 0.0  # share of target trainings that fail at the largest rung, baselines included
    skewed: Literal["", "runs", "sets"] = ""  # what is exponential instead of normal
    missing: float = 0.0  # share of runs without a value
    shared: bool = False  # all sets have the same seeds, instead of those of the layout
    targets: int = 7
    trained: bool = True  # otherwise the baseline has no training, hence no noise


@dataclass(frozen=True)
class Records:
    """Simulated records: ``gains`` (replication x run x rung), ``runs`` as ``Layout`` takes them, and ``x``, log10 of
    the rungs' non-embedding parameters, centred."""

    gains: np.ndarray
    runs: pd.DataFrame
    x: np.ndarray

    @cached_property
    def layout(self) -> Layout:
        """The layout of ``runs``."""
        return Layout(self.runs)

    @cached_property
    def slopes(self) -> np.ndarray:
        """Least squares over the rungs: replication x run."""
        return self.gains @ self.x / (self.x**2).sum()

    def of_sets(self) -> np.ndarray:
        """Mean slope of each set: replication x set."""
        return self.slopes @ self.layout.share.T


def layout(study: Study) -> pd.DataFrame:
    """The runs with true labels of a study, as ``Layout`` takes them: set, type, format, seed."""
    planned = {
        (cell.parameters.intermediate, cell.parameters.seed)
        for cell in study.cells()
        if cell.phase == "target" and cell.parameters.intermediate != NONE and not cell.parameters.placebo
    }
    return pd.DataFrame([facts_of(name) | {"seed": seed} for name, seed in sorted(planned)])


def laid_out(names: Sequence[str], sets: int, seeds: int, blocks: int) -> pd.DataFrame:
    """The runs of so many sets with so many ``seeds`` each, as ``Layout`` takes them. Sets take turns with ``blocks``
    of seeds. They are like ``names``, drawn on evenly; where they are more than these, some stand for several."""
    at = np.linspace(0, len(names) - 1, min(sets, len(names))).round().astype(int)
    facts = [facts_of(names[index]) for index in np.resize(at, sets)]
    rows = [
        one | {"set": f"{one['set']} {number}", "seed": number % blocks * seeds + seed}
        for number, one in enumerate(facts)
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows)


def simulate(
    scenario: Scenario, runs: pd.DataFrame, sizes: np.ndarray, beta: float, replications: int, rng: np.random.Generator
) -> Records:
    """Records of ``runs`` at rungs of these non-embedding parameters whose mean slope over sets is ``beta``."""

    def draw(what: str, *shape: int) -> np.ndarray:
        return 1 - rng.standard_exponential(shape) if scenario.skewed == what else rng.standard_normal(shape)

    def lost(*shape: int) -> np.ndarray:
        failed = rng.binomial(scenario.targets, scenario.failures, shape) / scenario.targets
        return np.arange(len(sizes)) // (len(sizes) - 1) * FAILED * failed[..., None]

    if scenario.shared:
        runs = runs.assign(seed=runs.groupby("set").cumcount())
    sets, set_of = np.unique(runs["set"], return_inverse=True)
    seeds, seed_of = np.unique(runs["seed"], return_inverse=True)
    x = np.log10(sizes) - np.log10(sizes).mean()
    noise = np.array(scenario.noise) / scenario.targets**0.5
    slopes = beta + scenario.spread * draw("sets", replications, len(sets)) + scenario.formats * _of_formats(runs)
    shared = scenario.pairing**0.5 * draw("runs", replications, len(seeds), len(x))
    own = (1 - scenario.pairing) ** 0.5
    values = (shared[:, seed_of] + own * draw("runs", replications, len(runs), len(x))) * noise
    values = values - lost(replications, len(runs))
    gains = slopes[:, set_of, None] * x + values
    if scenario.trained:
        none = (shared + own * draw("runs", replications, len(seeds), len(x))) * noise - lost(replications, len(seeds))
        gains = gains - none[:, seed_of]
    gains[rng.random(gains.shape[:2]) < scenario.missing] = np.nan
    return Records(gains, runs, x)


def _of_formats(runs: pd.DataFrame) -> np.ndarray:
    """One deviation per set, the same in a format, of mean zero and standard deviation one over sets."""
    codes = runs.groupby("set")["format"].first().astype("category").cat.codes.to_numpy(dtype=float)
    return (codes - codes.mean()) / (codes.std() or 1.0)


def primary(records: Records) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Estimate, variance and degrees of freedom of beta in each record, as the primary analysis has them."""
    sets = records.runs["set"].unique()
    weights = pd.Series(1 / len(sets), index=sets)
    present = ~np.isnan(records.slopes)
    if present.all():
        return records.layout.contrast(records.slopes, weights)
    found = [
        Layout(records.runs[there]).contrast(slopes[there], weights)
        for slopes, there in zip(records.slopes, present, strict=True)
    ]
    return tuple(np.array(values) for values in zip(*found, strict=True))


def by_set(records: Records) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Standard errors clustered by set: a t test over the slopes of sets, as if these were independent."""
    slopes = records.of_sets()
    count = slopes.shape[1]
    return slopes.mean(axis=1), slopes.var(axis=1, ddof=1) / count, np.full(len(slopes), count - 1.0)


def by_run(records: Records) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least squares over the gains of all runs at all rungs, each taken as independent."""
    slopes, gains, x = records.slopes, records.gains, records.x
    estimate = slopes.mean(axis=1)
    rest = gains - gains.mean(axis=(1, 2), keepdims=True) - estimate[:, None, None] * x
    df = gains[0].size - 2.0
    variance = (rest**2).sum(axis=(1, 2)) / df / (gains.shape[1] * (x**2).sum())
    return estimate, variance, np.full(len(gains), df)


def by_item(records: Records, items: int = 8000, value: float = 0.5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A z test over test items: each of ``items`` that a run answers, ``value`` of them correctly, is taken as new, in
    every run."""
    slopes, x = records.slopes, records.x
    variance = 2 * 100**2 * value * (1 - value) / items / (slopes.shape[1] * (x**2).sum())
    return slopes.mean(axis=1), np.full(len(slopes), variance), np.full(len(slopes), np.inf)


def by_mixed_model(records: Records) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A z test in a mixed model of gains with intercept and slope of each set as random effects.

    Every set has as many runs as the others, so that the REML fit is known: the variance of a set's mean slope is that
    between sets, or, where that is smaller, what the scatter of gains around the lines of the sets gives.
    """
    slopes, x = records.of_sets(), records.x
    sets, set_of, count = np.unique(records.runs["set"], return_inverse=True, return_counts=True)
    level = records.gains.mean(axis=2) @ records.layout.share.T
    rest = records.gains - level[:, set_of, None] - slopes[:, set_of, None] * x
    within = (rest**2).sum(axis=(1, 2)) / (rest[0].size - 2 * len(sets)) / (count[0] * (x**2).sum())
    variance = np.maximum(slopes.var(axis=1, ddof=1), within) / len(sets)
    return slopes.mean(axis=1), variance, np.full(len(slopes), np.inf)


Analysis = Callable[[Records], tuple[np.ndarray, np.ndarray, np.ndarray]]
PRIMARY = "primary"
ANALYSES: dict[str, Analysis] = {
    PRIMARY: primary,
    "clustered by set": by_set,
    "runs": by_run,
    "items": by_item,
    "mixed model": by_mixed_model,
}
SCENARIOS = {
    "as expected": Scenario(),
    "sets differ little": Scenario(spread=0.5),
    "sets differ much": Scenario(spread=6.0),
    "runs of a seed alike": Scenario(pairing=0.5),
    "all sets share their seeds": Scenario(shared=True),
    "formats differ": Scenario(formats=3.0),
    "noise differs by rung": Scenario(noise=(4.0, 2.0, 1.0)),
    "2% of runs fail": Scenario(failures=0.02),
    "10% of runs fail": Scenario(failures=0.1),
    "noise is skewed": Scenario(skewed="runs"),
    "slopes of sets are skewed": Scenario(skewed="sets"),
    "5% of runs missing": Scenario(missing=0.05),
    "retrieval": Scenario(trained=False, targets=4),
    "retrieval, sets differ little": Scenario(trained=False, targets=4, spread=0.5),
}


def rates(analysis: Analysis, records: Records, beta: float) -> dict[str, float]:
    """How often an analysis rejects that the slope is zero at 1 - groups.LEVEL, how often its interval holds ``beta``,
    and the median half width of that, over the records with a variance, which it counts."""
    estimate, variance, df = analysis(records)
    known = np.isfinite(variance) & (variance > 0)
    estimate, se, df = estimate[known], variance[known] ** 0.5, df[known]
    half = stats.t.ppf((1 + groups.LEVEL) / 2, df) * se
    return {
        "rejected": float((np.abs(estimate) > half).mean()),
        "covered": float((np.abs(estimate - beta) <= half).mean()),
        "half_width": float(np.median(half)),
        "records": int(known.sum()),
    }


def error_rates(runs: pd.DataFrame, sizes: list[int], replications: int, seed: int) -> pd.DataFrame:
    """``rates`` of every analysis in every scenario where the true slope is zero: columns scenario, analysis, and
    those of ``rates``. Only the primary analysis is given records with missing runs."""
    rows = []
    for index, (name, scenario) in enumerate(SCENARIOS.items()):
        rng = np.random.default_rng([seed, index])
        records = simulate(scenario, runs, np.array(sizes), 0.0, replications, rng)
        for label, analysis in ANALYSES.items():
            if scenario.missing and label != PRIMARY:
                continue
            rows.append({"scenario": name, "analysis": label} | rates(analysis, records, 0.0))
    return pd.DataFrame(rows)


def detectable(records: Records, level: float = groups.LEVEL) -> float:
    """The smallest true slope that the primary analysis finds with groups.POWER at 1 - ``level``.

    In ``records`` the slope is zero. A true slope shifts the estimate and leaves its variance, so one set of records
    serves for all of them.
    """
    estimate, variance, df = primary(records)
    reach = stats.t.ppf((1 + level) / 2, df) * variance**0.5
    return float(
        optimize.brentq(lambda beta: (np.abs(estimate + beta) > reach).mean() - groups.POWER, 0, 20 * np.median(reach))
    )
