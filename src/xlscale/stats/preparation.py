"""What is settled on exploratory seeds and English development rows before the confirmatory study: how long target
training goes on, which sets teach something at every rung, and whether training survives. Nothing here sees a language
other than English, or a test row.
"""

from __future__ import annotations

import pandas as pd

from xlscale.experiment.cells import NONE
from xlscale.stats import agreement

NEAR = 0.01  # of the best mean development score: the plateau
TAUGHT = 0.05  # above the placebo, at every rung: what admits a set
SURVIVES = 0.5  # of what training without intermediate training adds to chance; below that a run has collapsed


def plateau(cells: pd.DataFrame) -> pd.DataFrame:
    """A row per rung, learning rate and number of steps: score (0 to 1; mean over targets, each the mean over its
    seeds), runs, chosen.

    Of the settings of a rung whose score is within NEAR of the best one, that with the fewest steps is chosen, then
    that with the smallest rate. A setting with a failed run is never chosen.
    """
    keys = ["layers", "learning_rate", "steps"]
    own = cells[cells["phase"] == "target"].reindex(columns=[*keys, "target", "value"])
    by_target = own.groupby([*keys, "target"])["value"].agg(lambda values: values.mean(skipna=False))
    found = by_target.groupby(level=keys).agg(lambda values: values.mean(skipna=False)).rename("score").reset_index()
    found["runs"] = own.groupby(keys).size().to_numpy()
    near = found[found["score"] >= found.groupby("layers")["score"].transform("max") - NEAR]
    first = near.sort_values(["layers", "steps", "learning_rate"]).drop_duplicates("layers").index
    return found.assign(chosen=found.index.isin(first))


def dose(cells: pd.DataFrame) -> pd.DataFrame:
    """A row per intermediate set and rung: its English score, that of its placebo (0 to 1), and taught, the difference;
    NaN where one is missing. Several seeds are averaged."""
    own = cells[cells["phase"] == "intermediate"]
    scores = own.pivot_table(index=["intermediate", "layers"], columns="placebo", values="value")
    scores = scores.reindex(columns=[False, True]).set_axis(["score", "placebo"], axis="columns")
    return (
        scores.assign(taught=scores["score"] - scores["placebo"]).reset_index().rename(columns={"intermediate": "set"})
    )


def admitted(found: pd.DataFrame, rungs: list[int]) -> list[str]:
    """The sets of ``dose`` that teach at least TAUGHT more than their placebo at every one of ``rungs``; sorted."""
    wide = found.pivot(index="set", columns="layers", values="taught").reindex(columns=rungs)
    return sorted(wide.index[(wide >= TAUGHT).all(axis=1)])


def stability(cells: pd.DataFrame) -> pd.DataFrame:
    """A row per rung, target and condition: runs, collapsed (runs without a value among them), lowest, mean (0 to 1).

    A run has collapsed when its score is less than SURVIVES of the way from chance to the mean that the target has
    without intermediate training at that rung.
    """
    own = cells[cells["phase"] == "target"]
    chance = agreement.chance(own["target"])
    plain = own["value"].where(own["condition"] == NONE).groupby([own["layers"], own["target"]]).transform("mean")
    floor = chance + SURVIVES * (plain - chance)
    own = own.assign(collapsed=~(own["value"] >= floor))
    found = own.groupby(["layers", "target", "condition"]).agg(
        runs=("value", "size"), collapsed=("collapsed", "sum"), lowest=("value", "min"), mean=("value", "mean")
    )
    return found.reset_index()


def stable(found: pd.DataFrame) -> list[int]:
    """The rungs of ``stability`` at which no run collapsed, ascending."""
    collapsed = found.groupby("layers")["collapsed"].sum()
    return [int(layers) for layers in collapsed.index[collapsed == 0]]
