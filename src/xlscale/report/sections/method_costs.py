"""What training methods cost beside plain fine-tuning, for ``11_methods.ipynb`` and ``benchmarks/methods.md``.

Seconds of one thread and gigabytes, as cells measured them; other work on the machine is in the seconds, and not in
ratios of runs side by side, which are medians. Operations are counted, those of heads left out.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from xlscale.experiment.conditions import NONE
from xlscale.report.labels import label
from xlscale.report.numbers import Numbers
from xlscale.stats import groups

COLUMNS = ["condition", "layers", "runs", "before", "training", "time", "memory", "operations"]
HEADS = ["Training", "Layers", "Before (s)", "Target (s)", "Time", "Memory", "Operations"]
ABSENT = "Not recorded yet: `make record STUDY=methods` runs the cells that this table is made of."
KEYS = ["target", "layers", "seed"]


def costs(own: pd.DataFrame) -> pd.DataFrame:
    """Of every condition at every rung: COLUMNS. ``before`` and ``training``: mean seconds of the training before the
    target's and of that; ``time``, ``memory`` and ``operations``: of both, as a multiple of those of plain fine-tuning
    of the same target, rung and seed, medians over ``runs``. Peak memory is that of the larger of the two.

    ``own``: cells as ``sections.method_gains.recorded`` gives them; targets without training have no part in it.
    """
    done = groups.completed(own) if len(own) else own
    done = done[done["train_seconds"] > 0] if len(done) else done
    if done.empty:
        return pd.DataFrame(columns=COLUMNS)
    before = own[(own["phase"] == "intermediate") & (own["status"] == "complete")]
    names = ["train_seconds", "peak_memory_gb", "train_flops"]
    run = ["condition", "layers", "seed"]
    pairs = done.merge(before[[*run, *names]], "left", run, suffixes=("", "_before"))
    pairs = pairs[pairs["intermediate"].eq(NONE) | pairs["train_seconds_before"].notna()]
    pairs = pairs.fillna({f"{name}_before": 0.0 for name in names})
    pairs = pairs.assign(
        time=pairs["train_seconds"] + pairs["train_seconds_before"],
        memory=np.maximum(pairs["peak_memory_gb"], pairs["peak_memory_gb_before"]),
        operations=pairs["train_flops"] + pairs["train_flops_before"],
    )
    plain = pairs[pairs["condition"] == NONE].set_index(KEYS)
    rows = []
    for (condition, layers), part in pairs.groupby(["condition", "layers"], sort=False):
        beside = plain.reindex(pd.MultiIndex.from_frame(part[KEYS]))
        ratios = {name: (part[name].to_numpy() / beside[name].to_numpy(float)) for name in COLUMNS[5:]}
        seconds = {"before": part["train_seconds_before"].mean(), "training": part["train_seconds"].mean()}
        rows.append({"condition": condition, "layers": layers, "runs": len(part)} | seconds | _medians(ratios))
    return pd.DataFrame(rows, columns=COLUMNS)


def _medians(ratios: dict[str, np.ndarray]) -> dict[str, float]:
    """Medians over the runs that have a plain one beside them; NaN where none has."""
    return {name: float(pd.Series(values).median()) for name, values in ratios.items()}


def rows(found: pd.DataFrame) -> list[list[str]]:
    """The table of ``costs`` as it is printed, under HEADS."""
    ordered = found.assign(_plain=found["condition"] != NONE).sort_values(["layers", "_plain"], kind="stable")
    shown = []
    for one in ordered.itertuples():
        multiples = ("missing" if pd.isna(x) else f"{x:.2f}" for x in (one.time, one.memory, one.operations))
        shown.append([label(one.condition), str(one.layers), f"{one.before:.0f}", f"{one.training:.0f}", *multiples])
    return shown


def add(numbers: Numbers, found: pd.DataFrame) -> None:
    """Add the table ``methods_costs``; nothing where nothing is recorded."""
    if len(found):
        numbers.table("methods_costs", HEADS, rows(found))


def markdown(found: pd.DataFrame) -> str:
    """The table for a page of the documentation, or a sentence that says that nothing is recorded."""
    if found.empty:
        return ABSENT + "\n"
    lines = [HEADS, ["---"] * len(HEADS), *rows(found)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
