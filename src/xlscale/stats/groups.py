"""Groups of runs that differ only in their seed: means, the seed variance pooled over them, and linear contrasts.

The one model behind every interval: value = mean of its (condition, rung) + noise of training (choice and order of
examples, initialisation of heads), with one variance per rung. Runs without any training are deterministic: they have
no variance and bring no degrees of freedom.

Noise is treated as independent between runs, which is not quite true: runs of one seed see the same examples in the
same order and start from the same head, at every rung and in every condition. This pairing is not used. Where such runs
vary together, intervals of differences between conditions are too wide, and those of one condition's own values can be
too narrow, since fewer of the pooled runs are independent.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pandas as pd
from scipy import optimize, special, stats

LEVEL = 0.95  # of every interval; 1 - LEVEL is the size of every test
POWER = 0.8  # of the effects that are called detectable
SCALES = ("accuracy", "logit", "log")
NEAR_CHANCE = 0.05  # above chance, in proportion of the whole scale: what a run that learned nothing may score
# Values are means of proportions; this keeps the logit of 0 and 1, and the log of 0, finite.
LOGIT_CLIP = 1e-3


def completed(cells: pd.DataFrame, target: str | None = None) -> pd.DataFrame:
    """Complete cells of the target phase with a value, of one target or of all. Failed cells are missing, never 0."""
    keep = (cells["phase"] == "target") & (cells["status"] == "complete") & cells["value"].notna()
    if target is not None:
        keep &= cells["target"] == target
    return cells[keep]


def deterministic(cells: pd.DataFrame) -> pd.Series:
    """Which cells involve no training and hence no randomness: they are recorded with seed 0."""
    return cells["seed"] == 0


def transform(values: pd.Series, scale: str) -> pd.Series:
    """``values`` (0..1; a table or an array, too) on a scale: "accuracy" as they are, "logit" as log odds, "log" as
    natural logarithms; both are clipped at ``LOGIT_CLIP``."""
    if scale not in SCALES:
        raise ValueError(f"scale: expected one of {SCALES}, got {scale!r}")
    if scale == "accuracy":
        return values
    return np.log(values.clip(LOGIT_CLIP)) if scale == "log" else special.logit(values.clip(LOGIT_CLIP, 1 - LOGIT_CLIP))


def means(cells: pd.DataFrame, by: list[str], scale: str = "accuracy") -> pd.DataFrame:
    """A row per group of ``by``: n (runs), mean, ss (sum of squares within), fixed (bool: deterministic)."""
    values = transform(cells["value"], scale)
    # Grouping columns may contain None (no target in phase 2), which is a group like any other.
    grouped = cells.assign(_value=values, _fixed=deterministic(cells)).groupby(by, dropna=False, sort=True)
    table = grouped.agg(n=("_value", "size"), mean=("_value", "mean"), fixed=("_fixed", "all"))
    within = cells.assign(_square=(values - grouped["_value"].transform("mean")) ** 2).groupby(by, dropna=False)
    return table.assign(ss=within["_square"].sum())


@dataclass(frozen=True)
class Pooled:
    """Standard deviation between seeds, pooled over groups, and its degrees of freedom (0: sd is NaN)."""

    sd: float
    df: int

    @classmethod
    def of(cls, groups: pd.DataFrame) -> Pooled:
        """Pool the groups of ``means``: sqrt(sum of squares within / (runs - groups)), random groups only."""
        random = groups[~groups["fixed"].astype(bool)]
        df = int((random["n"] - 1).sum())
        return cls(float(np.sqrt(random["ss"].sum() / df)) if df else float("nan"), df)


@dataclass(frozen=True)
class Estimate:
    """A contrast with its two-sided interval at LEVEL; df is 0 without one, and need not be whole.

    ``detectable`` is the true effect that one such test would find with POWER if the variance were as estimated.
    """

    estimate: float
    se: float
    df: float
    low: float
    high: float
    p: float
    detectable: float


MISSING = Estimate(*[float("nan")] * 2, 0, *[float("nan")] * 4)


def variances(groups: pd.DataFrame, by: str) -> pd.DataFrame:
    """Seed variance of each stratum, a level ``by`` of the index of ``means``: variance (NaN without df) and df."""
    pools = {stratum: Pooled.of(part) for stratum, part in groups.groupby(level=by)}
    rows = {stratum: (pool.sd**2, pool.df) for stratum, pool in pools.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["variance", "df"]).rename_axis(by)


def contrast(groups: pd.DataFrame, weights: pd.Series, strata: pd.DataFrame, level: float = LEVEL) -> Estimate:
    """The linear contrast ``sum(w * mean)`` of group means, with a t interval from the seed variance of each stratum.

    ``weights`` is indexed like ``groups``; groups left out weigh nothing. ``strata`` is that of ``variances``. The
    squared standard error is ``sum(variance * sum(w^2 / n))``, the outer sum over strata and the inner one over their
    random groups; its degrees of freedom are Satterthwaite's (1946), which in one stratum are the stratum's. A contrast
    of deterministic groups alone is known exactly: its interval is a point, without degrees of freedom or p. Where a
    stratum has no df the interval is NaN.
    """
    place = {key: i for i, key in enumerate(groups.index)}
    used = [place[key] for key in weights.index]  # in arrays: thousands of contrasts of a few groups each
    w, stratum = weights.to_numpy(), weights.index.get_level_values(strata.index.name)
    mean, n, fixed = (groups[name].to_numpy()[used] for name in ("mean", "n", "fixed"))
    value, nan = float(w @ mean), float("nan")
    random = ~fixed.astype(bool) & (w != 0)
    if not random.any():
        return Estimate(value, 0.0, 0, value, value, nan, 0.0)
    kinds, kind_of = np.unique(stratum[random], return_inverse=True)
    leverage = np.bincount(kind_of, (w**2 / n)[random])
    own = strata.loc[kinds]
    if (own["df"] == 0).any():
        return without_interval(value)
    parts = leverage * own["variance"].to_numpy()
    se = float(parts.sum() ** 0.5)
    # Replicates that agree to the last digit leave no variance to test against or to compute df from.
    df = float(parts.sum() ** 2 / (parts**2 / own["df"].to_numpy()).sum()) if se > 0 else float(own["df"].sum())
    return with_interval(value, se, df, level)


def with_interval(value: float, se: float, df: float, level: float = LEVEL) -> Estimate:
    """A value with the t interval and test of its standard error; without a standard error above 0 there is no p."""
    half = float(stats.t.ppf((1 + level) / 2, df)) * se
    p = float(2 * stats.t.sf(abs(value) / se, df)) if se > 0 else float("nan")
    return Estimate(value, se, df, value - half, value + half, p, detectable(df) * se)


def without_interval(value: float) -> Estimate:
    """A value whose variance cannot be estimated."""
    return replace(MISSING, estimate=value)


@cache  # the same few degrees of freedom, many times
def detectable(df: float, level: float = LEVEL, power: float = POWER) -> float:
    """True effect, in standard errors, that one two-sided t-test finds with this power (noncentral t).

    The standard error is treated as known, although it is an estimate too.
    """
    critical = stats.t.ppf((1 + level) / 2, df)
    return float(optimize.brentq(lambda effect: stats.nct.sf(critical, df, effect) - power, 0.1, critical + 50))
