"""Do recomputed cells agree with the recorded ones? Tolerances from the seed variance, and verdicts.

On the machine type of the record a rerun gives equal predictions. On another machine floating point differs, and over
a training run small differences can grow until the run is like one with another seed; so the tolerance is a prediction
interval for the difference of two runs of one cell: t(1 - alpha / (2 m), df) * sqrt(2) * s, where s is the seed
standard deviation pooled within (rung, condition), alpha = 1 - COVERAGE and m the number of compared cells
(Bonferroni).

This is wide: it finds broken runs, not small drifts. It is far too wide for cells without training, which have no
variance of their own and borrow that of the trained cells of their outcome, although only rounding can change them.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from scipy import stats

from xlscale.experiment.cells import TargetParameters
from xlscale.stats import groups

COVERAGE = 0.999
EXPLANATION = (
    "On the machine type of the record predictions must be equal (tolerance 0). Elsewhere the tolerance is a "
    f"{COVERAGE:.1%} prediction interval for the difference of two runs, from the variance between seeds in the "
    "record, adjusted for the number of recomputed cells (Bonferroni). That is wide: it finds broken runs, not small "
    "drifts, least of all in cells without training, which borrow the tolerance of trained ones. Where the record has "
    "no repeated seeds there is no tolerance: only equal values agree."
)
EQUAL = 1e-12  # a difference that is rounding in the mean over languages, not another prediction
PRETRAINED = "udhr"  # phase 1 measures what this target measures without training, so it shares its tolerance
# Runs of one recipe that differ only in their seed; another recipe's difference is no seed variance.
RECIPE = [name for name in TargetParameters.model_fields if name != "seed"]


def tolerance(sd: float, df: int, comparisons: int, coverage: float = COVERAGE) -> float:
    """Largest |difference| of two runs to expect over ``comparisons`` cells at once; NaN without df."""
    if df < 1:
        return float("nan")
    return float(stats.t.ppf(1 - (1 - coverage) / (2 * comparisons), df) * 2**0.5 * sd)


def outcome(cells: pd.DataFrame) -> pd.Series:
    """What a cell measures, within which variance is pooled: the target, or in phase 2 the intermediate set."""
    measured = cells["target"].where(cells["phase"] == "target", cells["intermediate"])
    return measured.where(cells["phase"] != "pretrained", PRETRAINED).astype(str)


def tolerances(recorded: pd.DataFrame, comparisons: int, coverage: float = COVERAGE) -> pd.DataFrame:
    """A row per outcome: sd, df, comparisons, tolerance (0..1), note.

    Deterministic cells of an outcome borrow the tolerance of its trained ones, which is too wide for them.
    Without a replicated group there is no tolerance, only equality: ``note`` says so.
    """
    done = recorded[(recorded["status"] == "complete") & recorded["value"].notna()]
    rows = []
    for name, cells in done.groupby(outcome(done)):
        pooled = groups.Pooled.of(groups.means(cells, [name for name in RECIPE if name in cells]))
        limit = tolerance(pooled.sd, pooled.df, comparisons, coverage)
        if pooled.df:
            note = f"{coverage:.1%} prediction interval over {comparisons} cells, {pooled.df} degrees of freedom"
        else:
            note = "no repeated seeds in the record, so no tolerance: only equal values agree"
        rows.append((name, pooled.sd, pooled.df, comparisons, limit, note))
    return pd.DataFrame(rows, columns=["outcome", "sd", "df", "comparisons", "tolerance", "note"]).set_index("outcome")


def compare(recorded: pd.DataFrame, recomputed: pd.DataFrame, coverage: float = COVERAGE) -> pd.DataFrame:
    """A row per recomputed cell, both as in ``store.cells``: cell, outcome, recorded, yours, difference, tolerance,
    verdict, agrees (bool).

    Verdicts: "equal", "within tolerance", "differs", "failed" (yours), "failed both times", "not in the record". Where
    ``machine`` is that of the recorded cell the tolerance is 0, and where both have ``predictions_sha256`` equal means
    equal predictions. The variance is the record's alone: no run can widen the tolerance that it is judged by.
    """
    limits = tolerances(recorded, max(len(recomputed), 1), coverage)["tolerance"]
    before = {row["cell"]: row for row in recorded.to_dict("records")}
    rows = []
    for yours, name in zip(recomputed.to_dict("records"), outcome(recomputed), strict=True):
        old = before.get(yours["cell"])
        exact = old is not None and isinstance(old.get("machine"), str) and old["machine"] == yours.get("machine")
        limit = 0.0 if exact else limits.get(name, float("nan"))
        verdict = _verdict(old, yours, limit, exact)
        value = old["value"] if old else float("nan")
        difference = yours["value"] - value
        rows.append((yours["cell"], name, value, yours["value"], difference, limit, verdict, verdict in _GOOD))
    columns = ["cell", "outcome", "recorded", "yours", "difference", "tolerance", "verdict", "agrees"]
    return pd.DataFrame(rows, columns=columns)


_GOOD = {"equal", "within tolerance", "failed both times"}


def _verdict(old: dict[str, Any] | None, yours: dict[str, Any], limit: float, exact: bool) -> str:
    if old is None:
        return "not in the record"
    if pd.isna(yours["value"]):
        return "failed both times" if pd.isna(old["value"]) else "failed"
    difference = abs(yours["value"] - old["value"])
    if difference <= EQUAL and not (exact and _other_predictions(old, yours)):
        return "equal"
    return "within tolerance" if not exact and difference <= limit else "differs"


def _other_predictions(old: dict[str, Any], yours: dict[str, Any]) -> bool:
    digests = [row.get("predictions_sha256") for row in (old, yours)]
    return all(isinstance(digest, str) for digest in digests) and digests[0] != digests[1]
