"""Groups of runs that differ only in their seed: means, the seed variance pooled over them, and linear contrasts.

The one model behind every interval: value = mean of its (condition, rung) + noise, where the noise of training (data
order, initialisation of heads) is independent between runs and has one variance per target. Runs without any training
are deterministic: they have no variance and bring no degrees of freedom.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import optimize, special, stats

SCALES = ("accuracy", "logit")
# Values are means of proportions; this keeps the logit of 0 and 1 finite.
LOGIT_CLIP = 1e-3


def completed(cells: pd.DataFrame, target: str | None = None) -> pd.DataFrame:
    """Complete cells of the target phase with a value, of one target or of all. Failed cells are missing, never 0."""
    keep = (cells["phase"] == "target") & (cells["status"] == "complete") & cells["value"].notna()
    if target is not None:
        keep &= cells["target"] == target
    return cells[keep]


def deterministic(cells: pd.DataFrame) -> pd.Series:
    """Which cells involve no training, hence no randomness: those are recorded with seed 0."""
    return cells["seed"] == 0


def transform(values: pd.Series, scale: str) -> pd.Series:
    """``values`` (0..1) on a scale: "accuracy" as they are, "logit" as log odds, clipped at ``LOGIT_CLIP``."""
    if scale not in SCALES:
        raise ValueError(f"scale: expected one of {SCALES}, got {scale!r}")
    return values if scale == "accuracy" else special.logit(values.clip(LOGIT_CLIP, 1 - LOGIT_CLIP))


def means(cells: pd.DataFrame, by: list[str], scale: str = "accuracy") -> pd.DataFrame:
    """A row per group of ``by``: n (runs), mean, ss (sum of squares within), fixed (bool: deterministic)."""
    values = transform(cells["value"], scale)
    # Grouping columns may hold None (no target in phase 2), which is a group like any other.
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
    """A contrast with its two-sided interval; ``detectable`` is the smallest effect seen with 80% power at 5%."""

    estimate: float
    se: float
    df: int
    low: float
    high: float
    p: float
    detectable: float


MISSING = Estimate(*[float("nan")] * 2, 0, *[float("nan")] * 4)


def contrast(groups: pd.DataFrame, weights: pd.Series, pooled: Pooled, level: float = 0.95) -> Estimate:
    """The linear contrast ``sum(w * mean)`` of group means, with a t interval from the pooled seed variance.

    ``weights`` is indexed like ``groups``; groups left out weigh nothing. The standard error is
    ``sd * sqrt(sum(w^2 / n))`` over the random groups. A contrast of deterministic groups alone is known exactly: its
    interval is a point, without degrees of freedom and p. Without df the interval is NaN.
    """
    used = groups.loc[weights.index]
    value = float((weights * used["mean"]).sum())
    leverage = float((weights**2 / used["n"])[~used["fixed"].astype(bool)].sum())
    nan = float("nan")
    if leverage == 0:
        return Estimate(value, 0.0, 0, value, value, nan, 0.0)
    if pooled.df == 0:
        return Estimate(value, nan, 0, nan, nan, nan, nan)
    se = pooled.sd * leverage**0.5
    half = stats.t.ppf((1 + level) / 2, pooled.df) * se
    # Replicates that agree to the last digit leave no variance to test against.
    p = float(2 * stats.t.sf(abs(value) / se, pooled.df)) if se > 0 else nan
    return Estimate(value, se, pooled.df, value - half, value + half, p, detectable(pooled.df) * se)


def detectable(df: int, level: float = 0.95, power: float = 0.8) -> float:
    """Smallest true effect, in standard errors, that a two-sided t-test finds with this power (noncentral t)."""
    critical = stats.t.ppf((1 + level) / 2, df)
    return float(optimize.brentq(lambda effect: stats.nct.sf(critical, df, effect) - power, 0.1, critical + 50))
