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
    keys = [*STRATUM, *(name for name in RECIPE if name in done and name not in STRATUM)]
    rows = []
    for stratum, means in groups.means(done, keys).groupby(level=STRATUM):
        pooled = groups.Pooled.of(means)
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


def limits(recorded: pd.DataFrame, comparisons: int, coverage: float = COVERAGE) -> pd.Series:
    """Cell id -> the tolerance (0..1) for a rerun of that recorded cell on another type of machine; NaN where no
    condition of its stratum has repeated seeds."""
    cells = recorded[recorded["value"].notna()]
    cells = cells.assign(outcome=outcome(cells))
    found = cells[STRATUM].merge(tolerances(recorded, comparisons, coverage)["tolerance"], "left", STRATUM)["tolerance"]
    found.index = pd.Index(cells["cell"])
    reach = ((cells["value"] - chance(cells["outcome"])) / 2).clip(lower=groups.NEAR_CHANCE).to_numpy()
    return found.clip(upper=reach).mask(groups.deterministic(cells).to_numpy(), ROUNDING)


def compare(recorded: pd.DataFrame, recomputed: pd.DataFrame, coverage: float = COVERAGE) -> pd.DataFrame:
    """A row per recomputed cell, both as in ``store.cells``: cell, outcome, recorded, yours, difference, tolerance,
    verdict, agrees (bool; whatever the record does not hold does not disagree).

    Verdicts: "equal", "within tolerance", "differs", "failed" (yours), "failed both times", ABSENT. Where ``machine``
    is that of the recorded cell the tolerance is 0, and where both have ``predictions_sha256`` equal means equal
    predictions. The variance is the record's alone: no run can widen the tolerance that it is judged by.
    """
    known = limits(recorded, max(len(recomputed), 1), coverage)
    before = {row["cell"]: row for row in recorded.to_dict("records")}
    rows = []
    for yours, name in zip(recomputed.to_dict("records"), outcome(recomputed), strict=True):
        old = before.get(yours["cell"])
        exact = old is not None and isinstance(old.get("machine"), str) and old["machine"] == yours.get("machine")
        limit = 0.0 if exact else known.get(yours["cell"], float("nan"))
        verdict = _verdict(old, yours, limit, exact)
        value = old["value"] if old else float("nan")
        rows.append((yours["cell"], name, value, yours["value"], yours["value"] - value, limit, verdict))
    columns = ["cell", "outcome", "recorded", "yours", "difference", "tolerance", "verdict"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(agrees=~table["verdict"].isin(["differs", "failed"]))


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
