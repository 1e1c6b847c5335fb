"""The primary analysis of ``paper/preregistration_2.md``: does the gain from intermediate training change with size?

Unit of inference: the intermediate set. A run's slope is that of its gain over no intermediate training with the same
seed; a set's is the mean over its seeds. beta is the mean over sets, gamma the mean over domain-specific sets minus
that over general ones. Sets are sampled, and so are seeds: sets that share a seed share the runs that they are compared
with. ``Layout`` adds that part to the variance between sets.
"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pandas as pd
from scipy import stats

from xlscale.cards.catalogue import data_card
from xlscale.core.files import XlscaleError
from xlscale.core.format import MISSING
from xlscale.experiment.conditions import NONE, plain
from xlscale.stats import agreement, groups
from xlscale.stats.groups import Estimate
from xlscale.stats.slopes import FEWEST_RUNGS, holm, sizes, slope_weights

# Of targets: with training on their English part, and without any; never pooled.
FAMILIES = ("trained", "retrieval")
SCALES = ("accuracy", "log")  # a direction is claimed only where both agree
TYPES = ("domain", "general")
# Smallest effect of interest, by family and scale, per factor of ten of size: a tenth of what size itself brings.
SMALLEST = {"trained": {"accuracy": 0.03, "log": 0.07}, "retrieval": {"accuracy": 0.04, "log": 0.11}}
COLUMNS = ["set", "type", "format", "seed", "slope"]
NOTHING = 1e-9  # of a variance: what rounding leaves of zero


def family(target: str) -> str:
    """The family of a target, one of ``FAMILIES``."""
    return FAMILIES[0] if data_card(target).trained else FAMILIES[1]


def run_gains(cells: pd.DataFrame, targets: list[str], scale: str) -> pd.DataFrame:
    """Gain of each run of plain training with true labels over none with the same seed, mean over ``targets``: a row
    per (condition, seed), a column per rung (layers), NaN where a run or the one that it is compared with is missing or
    failed.

    On "accuracy" a gain is the mean difference (0..1); on "log" it is the log of the ratio of the two means over
    targets. What has no training at all was run once and is the baseline of every seed. Raises XlscaleError for cells
    of several models, or several for one run.
    """
    done = groups.completed(cells)
    done = done[done["target"].isin(targets) & done["condition"].map(plain).astype(bool)]
    if done["model"].nunique() > 1:
        raise XlscaleError("cells of several models: expected one ladder; select a model first")
    keys = ["condition", "seed", "layers", "target"]
    if (twice := done.duplicated(keys)).any():
        cell = done.loc[twice, "cell"].iloc[0]
        raise XlscaleError(f"{cell}: expected one cell of its {', '.join(keys)}, got several")
    by_target = done.pivot(index=keys[:2], columns=keys[2:], values="value")
    full = pd.MultiIndex.from_product([sorted(done["layers"].unique()), targets], names=keys[2:])
    by_target = by_target.reindex(columns=full)
    own, baseline = compared(by_target)
    if scale == "accuracy":
        return _over_targets(own - baseline)
    return groups.transform(_over_targets(own), scale) - groups.transform(_over_targets(baseline), scale)


def compared(values: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The runs after intermediate training, and for each what it is compared with: none with the same seed, or, of a
    target without training, the one run of none.

    ``values``: a row per (condition, seed), columns with a level "target". Both tables have the rows of the former.
    """
    none = values[values.index.get_level_values("condition") == NONE].droplevel("condition")
    own = values.drop(index=NONE, level="condition", errors="ignore")
    baseline = none.reindex(own.index.get_level_values("seed")).set_axis(own.index)
    once = [family(target) == "retrieval" for target in values.columns.get_level_values("target")]
    baseline.loc[:, once] = np.broadcast_to(none.loc[:, once].max(), (len(own), sum(once)))
    return own, baseline


def _over_targets(values: pd.DataFrame) -> pd.DataFrame:
    """Mean over targets at each rung, NaN where one is missing."""
    return values.T.groupby(level="layers").mean(skipna=False).T


def run_slopes(
    cells: pd.DataFrame, targets: list[str], scale: str = "accuracy", fewest: int = FEWEST_RUNGS
) -> pd.DataFrame:
    """Slope on log10 non-embedding parameters of each run of ``run_gains`` that has all rungs, a row each.

    Columns: set, type, format, seed, slope (unit of the scale per factor of ten). Fewer than ``fewest`` rungs give no
    row.
    """
    gains = run_gains(cells, targets, scale).dropna()
    if gains.empty or gains.shape[1] < fewest:
        return pd.DataFrame(columns=COLUMNS)
    return with_facts(gains @ slope_weights(sizes(cells)[gains.columns]))


def mean_gains(gains: pd.DataFrame) -> pd.DataFrame:
    """The mean over sets of ``run_gains`` at each rung: layers and those of ``groups.Estimate``, the interval being
    that of ``contrast``. For figures: the test is that of the slope."""
    rows = [{"layers": layers} | asdict(beta(with_facts(gains[layers].dropna()))) for layers in gains.columns]
    return pd.DataFrame(rows, columns=["layers", *asdict(groups.MISSING)])


def with_facts(values: pd.Series) -> pd.DataFrame:
    """A value per (condition, seed) as ``Layout`` and ``contrast`` take it: COLUMNS."""
    rows = [facts_of(name) | {"seed": seed, "slope": value} for (name, seed), value in values.items()]
    return pd.DataFrame(rows, columns=COLUMNS)


def facts_of(name: str) -> dict[str, str]:
    """What the analysis knows of an intermediate set: its name, type and format."""
    card = data_card(name)
    return {"set": name, "type": card.type, "format": card.family}


def beta(runs: pd.DataFrame) -> Estimate:
    """Mean slope over sets with equal weight; ``runs`` as ``run_slopes`` gives them."""
    sets = runs["set"].unique()
    return contrast(runs, pd.Series(1 / len(sets), index=sets)) if len(sets) else groups.MISSING


def gamma(runs: pd.DataFrame) -> Estimate:
    """Mean slope over domain-specific sets minus that over general ones; missing where there is none of a type."""
    types = runs.drop_duplicates("set").set_index("set")["type"]
    counts = [int((types == one).sum()) for one in TYPES]
    if not all(counts):
        return groups.MISSING
    return contrast(runs, types.map({TYPES[0]: 1 / counts[0], TYPES[1]: -1 / counts[1]}))


def contrast(runs: pd.DataFrame, weights: pd.Series, level: float = groups.LEVEL) -> Estimate:
    """``sum(weight * mean slope of the set)`` with the t interval of ``Layout.contrast``; NaN where that has none."""
    return _estimate(*Layout(runs).contrast(runs["slope"].to_numpy(dtype=float), weights), level)


def betas(runs: pd.DataFrame, slopes: pd.DataFrame) -> list[Estimate]:
    """``beta`` of every column of ``slopes``, which has a row per row of ``runs`` and NaN where a run has no slope."""
    present = slopes.notna().to_numpy()
    patterns, pattern_of = np.unique(present, axis=1, return_inverse=True)
    found: list[Estimate] = [groups.MISSING] * slopes.shape[1]
    for index, there in enumerate(patterns.T):
        if not there.any():
            continue
        layout = Layout(runs[there])
        weights = pd.Series(1 / len(layout.sets), index=layout.sets)
        columns = np.flatnonzero(pattern_of.ravel() == index)
        parts = layout.contrast(slopes.to_numpy()[np.ix_(there, columns)].T, weights)
        for column, *own in zip(columns, *parts, strict=True):
            found[column] = _estimate(*own)
    return found


def _estimate(estimate: float, variance: float, df: float, level: float = groups.LEVEL) -> Estimate:
    """What ``Layout.contrast`` gives with its t interval."""
    if not df > 0:
        return groups.without_interval(float(estimate))
    return groups.with_interval(float(estimate), float(variance) ** 0.5, float(df), level)


class Layout:
    """Which set had which seed: the linear algebra of a two-way layout, sets by seeds, that may have gaps.

    ``runs`` has a row per run with its set, format and seed. The model of a run is ``format + set + seed + rest``, all
    but the format random and independent.
    """

    def __init__(self, runs: pd.DataFrame):
        sets, seeds = pd.get_dummies(runs["set"], dtype=float), pd.get_dummies(runs["seed"], dtype=float)
        self.sets, seeds = sets.columns, seeds.to_numpy()
        self.share = (sets / sets.sum()).to_numpy().T  # set x run: the mean over a set's seeds
        self.shared = self.share @ seeds  # set x seed: the weight of a seed in the mean of a set
        formats = pd.get_dummies(runs.groupby("set")["format"].first(), dtype=float).to_numpy()
        self.between, self.df_sets = _residual(formats)
        after_sets, df = _residual(sets.to_numpy())
        self.rest, self.df_rest = _residual(np.hstack([sets.to_numpy(), seeds]))
        self.seeds, self.df_seeds = after_sets - self.rest, df - self.df_rest
        # How often the sum of squares of seeds holds their variance.
        self.of_a_seed = np.trace(seeds.T @ after_sets @ seeds)

    def contrast(self, slopes: np.ndarray, weights: pd.Series) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Estimate, variance and degrees of freedom of ``sum(weight * mean slope of the set)``.

        ``slopes`` holds a value per run in its last axis, which is summed out; ``weights`` is indexed by set. With s2
        the mean square of the sets' means within formats, the variance is ``sum(w^2) * s2`` plus what that misses of
        the two components that are not the sets' own. Those are estimated by Henderson's method 3 (1953), fitting
        constants; a negative sum counts as zero. Degrees of freedom are Satterthwaite's (1946), at least the fewest of
        the parts that are added. They are 0, and the variance is NaN, where no format has two sets, or where s2 misses
        something and seeds cannot be told from the rest.
        """
        w = weights.reindex(self.sets).to_numpy()
        means = slopes @ self.share.T
        estimate, length = means @ w, float(w @ w)
        if self.df_sets < 1:
            return estimate, np.full_like(estimate, np.nan), np.zeros_like(estimate)
        s2 = _square(self.between, means) / self.df_sets
        # How often the variance of the contrast holds a component beyond what s2 gives it.
        held = length / self.df_sets * self.between
        seed = ((w @ self.shared) ** 2).sum() - np.trace(held @ self.shared @ self.shared.T)
        rest = w**2 @ (self.share**2).sum(axis=1) - np.trace(held @ self.share @ self.share.T)
        if max(abs(seed), abs(rest)) < NOTHING * length:
            return estimate, length * s2, np.full_like(estimate, self.df_sets)
        if min(self.df_rest, self.df_seeds) < 1:
            return estimate, np.full_like(estimate, np.nan), np.zeros_like(estimate)
        per_seed = seed / self.of_a_seed
        more = [
            (per_seed * _square(self.seeds, slopes), self.df_seeds),
            ((rest - per_seed * self.df_seeds) * _square(self.rest, slopes) / self.df_rest, self.df_rest),
        ]
        counts = sum(part for part, _ in more) > 0
        used = [(length * s2, self.df_sets), *((np.where(counts, part, 0.0), df) for part, df in more)]
        variance = sum(part for part, _ in used)
        squares = sum(part**2 / df for part, df in used)
        df = np.divide(variance**2, squares, out=np.zeros_like(variance), where=squares > 0)
        fewest = np.min([np.where(part > 0, df, np.inf) for part, df in used], axis=0)
        return estimate, variance, np.where(squares > 0, np.maximum(df, fewest), self.df_sets)


def _square(matrix: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The quadratic form of the last axis of ``values``."""
    return np.einsum("...i,...i->...", values @ matrix, values)


def _residual(design: np.ndarray) -> tuple[np.ndarray, int]:
    """The projection on what a design leaves unexplained, and its rank."""
    projection = np.eye(len(design)) - design @ np.linalg.pinv(design)
    return projection, round(np.trace(projection))


def equivalence(found: Estimate | pd.Series, bound: float) -> float:
    """p of two one-sided t tests against ``-bound`` and ``bound`` (Schuirmann 1987); NaN without an interval.

    ``found``: an estimate, or a row with its fields.
    """
    if not found.se > 0:
        return float("nan")
    return float(stats.t.sf((bound - abs(found.estimate)) / found.se, found.df))


def primary(cells: pd.DataFrame, descriptive: tuple[str, ...] = ()) -> pd.DataFrame:
    """beta and gamma of each family of targets on each scale, without the targets that are ``descriptive``.

    Columns: family, scale, quantity ("beta", "gamma"), targets (list), sets, runs, those of ``groups.Estimate``, and
    holm: p adjusted for the families (Holm 1979), for beta alone, since gamma is described and not tested.
    """
    rows = []
    known = sorted(set(groups.completed(cells)["target"]) - set(descriptive))
    for name in FAMILIES:
        targets = [target for target in known if family(target) == name]
        for scale in SCALES if targets else ():
            runs = run_slopes(cells, targets, scale)
            for quantity, estimator in (("beta", beta), ("gamma", gamma)):
                about = {"family": name, "scale": scale, "quantity": quantity, "targets": targets}
                about |= {"sets": runs["set"].nunique(), "runs": len(runs)}
                rows.append(about | asdict(estimator(runs)))
    columns = ["family", "scale", "quantity", "targets", "sets", "runs", *asdict(groups.MISSING)]
    table = pd.DataFrame(rows, columns=columns)
    tested = table[table["quantity"] == "beta"]
    adjusted = tested.groupby("scale")["p"].transform(holm)
    return table.assign(holm=adjusted.reindex(table.index))


def failures(cells: pd.DataFrame) -> pd.DataFrame:
    """Trained runs per condition and rung: condition, layers, runs, failed (no value), collapsed (learned nothing, see
    ``agreement.collapsed``). They stay in the analysis as they are: what has a value counts with it."""
    own = cells[(cells["phase"] == "target") & (cells["status"] != MISSING)]
    own = own[[family(target) == "trained" for target in own["target"]]]
    failed = own["value"].isna()
    own = own.assign(failed=failed, collapsed=agreement.collapsed(own) & ~failed)
    found = own.groupby(["condition", "layers"]).agg(
        runs=("failed", "size"), failed=("failed", "sum"), collapsed=("collapsed", "sum")
    )
    return found.reset_index()
