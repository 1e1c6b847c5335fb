"""Learning rates chosen by their development scores: one per phase, model and rung, the same for all data sets.

Each study of STUDY tries a grid, with a seed that no other study uses. Its cells are recorded like any others; the
chosen rates are written to ``studies/tuned.json``, which recipes with ``learning_rate: tuned`` read.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd

from xlscale.core import manifest
from xlscale.core.files import STUDIES, XlscaleError, write_json
from xlscale.experiment import studies
from xlscale.experiment.tuning import TUNED
from xlscale.record import store

STUDY = {"intermediate": "tune_intermediate", "target": "tune_target"}
TOLERANCE = 0.01  # a smaller rate that is nearly as good is safer: in the pilot the best-scoring ones went wrong
RATE = {"intermediate": "intermediate_learning_rate", "target": "learning_rate"}


def scores(cells: pd.DataFrame, phase: str) -> pd.DataFrame:
    """A row per model, rung and learning rate of ``phase``: ``score`` (0 to 1), ``sets``, ``failed``, ``chosen``.

    ``score`` is the mean over data sets of the development value, each set with equal weight (a set's seeds averaged);
    ``failed`` the number of runs without a value. Of the rates without a failed run the smallest is chosen whose score
    is within TOLERANCE of the best. Raises XlscaleError when a rung has none.
    """
    cells = cells[cells["phase"] == phase]
    cells = cells.assign(set=cells["intermediate" if phase == "intermediate" else "target"], rate=cells[RATE[phase]])
    keys = ["model", "layers", "rate"]
    by_set = cells.groupby([*keys, "set"])["value"].agg(["mean", lambda values: values.isna().sum()])
    by_set.columns = ["value", "failed"]
    found = by_set.groupby(keys).agg(score=("value", "mean"), sets=("value", "size"), failed=("failed", "sum"))
    found = found.reset_index()
    usable = found[(found["failed"] == 0) & (found["sets"] == found.groupby(keys[:2])["sets"].transform("max"))]
    near = usable["score"] >= usable.groupby(keys[:2])["score"].transform("max") - TOLERANCE
    best = usable[near].groupby(keys[:2])["rate"].min()
    if lost := sorted({*zip(found["model"], found["layers"], strict=True)} - {*best.index}):
        where = f"studies/{STUDY[phase]}.yaml: {lost[0][0]}, {lost[0][1]} layers"
        raise XlscaleError(f"{where}: learning_rate: expected one at which no run failed")
    found["chosen"] = [best[model, layers] == rate for model, layers, rate in found[keys].itertuples(index=False)]
    return found


def tried(phase: str, folder: Path | None = None) -> pd.DataFrame:
    """``scores`` of the record. Raises XlscaleError when a cell of the tuning study is not recorded."""
    wanted = [cell.id for cell in studies.load(STUDY[phase]).cells() if cell.phase == phase]
    cells = store.cells(folder) if folder else store.cells()
    cells = cells[cells["cell"].isin(wanted)]
    if len(cells) < len(wanted):
        raise XlscaleError(
            f"results/: expected {len(wanted)} cells of study {STUDY[phase]}, got {len(cells)}: make tune"
        )
    return scores(cells, phase)


def choose(folder: Path | None = None) -> dict[str, dict[str, dict[str, float]]]:
    """The chosen rates in the form of ``studies/tuned.json``: phase -> model -> layers -> rate."""
    rates: dict[str, dict[str, dict[str, float]]] = {}
    for phase in STUDY:
        found = tried(phase, folder)
        for row in found[found["chosen"]].itertuples():
            rates.setdefault(phase, {}).setdefault(row.model, {})[str(row.layers)] = float(row.rate)
    return rates


def write(folder: Path | None = None) -> Path:
    """Choose and write ``studies/tuned.json``; returns its path."""
    path = STUDIES / TUNED
    manifest.write(STUDIES, {TUNED: partial(write_json, value={"from": STUDY, "rates": choose(folder)})})
    return path
