"""Do recomputed cells agree with the recorded ones? Tolerances from the seed variance, and verdicts.

On the machine type of the record a rerun gives equal predictions. On another machine floating point differs, and over
a training run small differences can grow until the run is like one with another seed. So a cell is held to a prediction
interval for the difference of two runs: t(1 - alpha / (2 m), df) * sqrt(2) * s, where s is the seed standard deviation
of the same study, target and rung, pooled within conditions, alpha = 1 - COVERAGE and m the number of compared cells
(Bonferroni). The two runs share their seed, so this is more than rounding needs.

A verdict can always fail: runs that learned nothing bring no variance, and no tolerance reaches further than half of
the way from the recorded value to chance. Cells without training vary by rounding alone and have a tolerance of their
own.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from scipy import stats

from xlscale.cards.catalogue import data_card
from xlscale.experiment.cells import PROBE, TargetParameters
from xlscale.stats import groups

COVERAGE = 0.95
ROUNDING = 0.005  # 0..1: what rounding may do to a cell without training, where nothing makes it grow
EXPLANATION = (
    "On the machine type of the record predictions must be equal (tolerance 0). Elsewhere the tolerance is a "
    f"{COVERAGE:.0%} prediction interval for the difference of two runs, from the variance between seeds of the same "
    "study, target and rung, adjusted for the number of recomputed cells (Bonferroni), and at most half of the way "
    f"from the recorded value to chance. Cells without training have a tolerance of {100 * ROUNDING:.1f} points. Where "
    "the record has no repeated seeds only equal values agree."
)
EQUAL = 1e-12  # a difference that is rounding in the mean over languages, not another prediction
ABSENT = "not in the record"
# Runs of one recipe that differ only in their seed; another recipe's difference is no seed variance.
RECIPE = [name for name in TargetParameters.model_fields if name != "seed"]
STRATUM = ["outcome", "model", "layers"]


def tolerance(sd: float, df: int, comparisons: int, coverage: float = COVERAGE) -> float:
    """Largest |difference| of two runs to expect over ``comparisons`` cells at once; NaN without df."""
    if df < 1:
        return float("nan")
    return float(stats.t.ppf(1 - (1 - coverage) / (2 * comparisons), df) * 2**0.5 * sd)


def outcome(cells: pd.DataFrame) -> pd.Series:
    """The data set that a cell is evaluated on: the target, in phase 2 the intermediate set, in phase 1 the probe."""
    measured = cells["target"].where(cells["phase"] == "target", cells["intermediate"])
    return measured.where(cells["phase"] != "pretrained", PROBE).astype(str)


def tolerances(recorded: pd.DataFrame, comparisons: int, coverage: float = COVERAGE) -> pd.DataFrame:
    """A row per STRATUM with training: sd, df, comparisons, tolerance (0..1; NaN without a replicated condition).

    ``recorded``: cells of one study. Runs that learned nothing are left out.
    """
    done = recorded[(recorded["status"] == "complete") & recorded["value"].notna()]
    done = done.assign(outcome=outcome(done))
    done = done[~groups.deterministic(done) & ~collapsed(done)]
    rows = []
    for stratum, cells in done.groupby(STRATUM):
        pooled = groups.Pooled.of(groups.means(cells, [name for name in RECIPE if name in cells]))
        limit = tolerance(pooled.sd, pooled.df, comparisons, coverage)
        rows.append((*stratum, pooled.sd, pooled.df, comparisons, limit))
    return pd.DataFrame(rows, columns=[*STRATUM, "sd", "df", "comparisons", "tolerance"]).set_index(STRATUM)


def chance(outcomes: pd.Series) -> pd.Series:
    """The score of guessing (0..1) on each data set."""
    return outcomes.map({name: data_card(name).chance for name in outcomes.unique()}).astype(float)


def collapsed(cells: pd.DataFrame) -> pd.Series:
    """Which cells learned nothing: English score, or the value where there is none, within ``groups.NEAR_CHANCE`` of
    chance."""
    return cells["english"].fillna(cells["value"]) <= chance(outcome(cells)) + groups.NEAR_CHANCE


def compare(recorded: pd.DataFrame, recomputed: pd.DataFrame, coverage: float = COVERAGE) -> pd.DataFrame:
    """A row per recomputed cell, both as in ``store.cells``: cell, outcome, recorded, yours, difference, tolerance,
    verdict, agrees (bool; whatever the record does not hold does not disagree).

    Verdicts: "equal", "within tolerance", "differs", "failed" (yours), "failed both times", ABSENT. Where ``machine``
    is that of the recorded cell the tolerance is 0, and where both have ``predictions_sha256`` equal means equal
    predictions. The variance is the record's alone: no run can widen the tolerance that it is judged by.
    """
    limits = tolerances(recorded, max(len(recomputed), 1), coverage)["tolerance"]
    before = {row["cell"]: row for row in recorded.to_dict("records")}
    untrained, guessing = groups.deterministic(recomputed), chance(outcome(recomputed))
    mine = recomputed.assign(outcome=outcome(recomputed), untrained=untrained, chance=guessing).to_dict("records")
    rows = []
    for yours in mine:
        old = before.get(yours["cell"])
        exact = old is not None and isinstance(old.get("machine"), str) and old["machine"] == yours.get("machine")
        limit = 0.0 if exact or old is None else _limit(old, yours, limits)
        verdict = _verdict(old, yours, limit, exact)
        value = old["value"] if old else float("nan")
        shown = limit if old else float("nan")
        difference = yours["value"] - value
        rows.append((yours["cell"], yours["outcome"], value, yours["value"], difference, shown, verdict))
    columns = ["cell", "outcome", "recorded", "yours", "difference", "tolerance", "verdict"]
    return pd.DataFrame(rows, columns=columns).assign(
        agrees=lambda table: ~table["verdict"].isin(["differs", "failed"])
    )


def _limit(old: dict[str, Any], yours: dict[str, Any], limits: pd.Series) -> float:
    """The tolerance of one cell on another machine than the record's, 0..1; NaN where nothing is known."""
    if yours["untrained"]:
        return ROUNDING
    limit = limits.get(tuple(yours[name] for name in STRATUM), float("nan"))
    reach = max((old["value"] - yours["chance"]) / 2, groups.NEAR_CHANCE)
    return float("nan") if pd.isna(limit) else min(limit, reach)


def _verdict(old: dict[str, Any] | None, yours: dict[str, Any], limit: float, exact: bool) -> str:
    if old is None:
        return ABSENT
    if pd.isna(yours["value"]):
        return "failed both times" if pd.isna(old["value"]) else "failed"
    difference = abs(yours["value"] - old["value"])
    if difference <= EQUAL and not (exact and _other_predictions(old, yours)):
        return "equal"
    return "within tolerance" if not exact and difference <= limit else "differs"


def _other_predictions(old: dict[str, Any], yours: dict[str, Any]) -> bool:
    digests = [row.get("predictions_sha256") for row in (old, yours)]
    return all(isinstance(digest, str) for digest in digests) and digests[0] != digests[1]
