"""What cells cost, as they measured it themselves: time, tokens, operations, memory."""

from __future__ import annotations

import pandas as pd

from xlscale.core.format import MISSING
from xlscale.report.explorer.choice import Choice, Record, task
from xlscale.report.labels import label

ABOUT = (
    "Means over runs, of the training of the target and of the intermediate training before it. Seconds are of one "
    "thread (of the processor, where no GPU is named in the record), with whatever else the machine did; operations "
    "are counted, those of heads left out; memory is the largest of the two."
)
KEYS = ["model", "target", "condition", "layers"]
COLUMNS = [*KEYS, "runs", "before", "training", "evaluation", "tokens", "operations", "memory"]
HEADS = (
    *("Model", "Task", "Training", "Layers", "Runs", "Before (s)", "Training (s)", "Evaluation (s)"),
    *("Tokens (k)", "Operations (TFLOP)", "Memory (GB)"),
)


def table(record: Record, choice: Choice) -> pd.DataFrame:
    """A row per model, task, condition and rung that is chosen: COLUMNS, in seconds, tokens, operations and GB; NaN of
    what stands before a training and is not recorded."""
    cells = record.shown(record.valued(choice), choice)
    rows = [_run(record, row) for row in cells[["cell", *KEYS]].to_dict("records")]
    each = pd.DataFrame(rows, columns=[*KEYS, *COLUMNS[len(KEYS) + 1 :]])
    grouped = each.groupby(KEYS, sort=False)
    means = grouped.agg(lambda part: part.mean(skipna=False)).assign(runs=grouped.size())
    return means.reset_index().sort_values(["model", "target", "layers"], kind="stable", ignore_index=True)[COLUMNS]


def _run(record: Record, row: dict) -> dict:
    own = record.results[row["cell"]]
    before = record.results.get(own.parent or "")
    trained = own.parameters.get("intermediate", "none") != "none"
    stages = [one for one in (own, before if trained else None) if one]
    lost = float("nan") if trained and before is None else 0.0
    return {name: row[name] for name in KEYS} | {
        "before": before.seconds.get("train", 0.0) if trained and before else lost,
        "training": own.seconds.get("train", 0.0),
        "evaluation": own.seconds.get("evaluate", 0.0),
        "tokens": sum(one.train_tokens for one in stages) + lost,
        "operations": sum(one.train_flops for one in stages) + lost,
        "memory": max(one.peak_memory_gb or float("nan") for one in stages) + lost,
    }


def printed(found: pd.DataFrame) -> list[list[str]]:
    """``table`` as it is printed, under HEADS."""
    return [
        [
            *(row.model, task(row.target), label(row.condition), str(row.layers), str(row.runs)),
            *(_number(value, ".0f") for value in (row.before, row.training, row.evaluation)),
            *(_number(row.tokens / 1e3, ",.0f"), _number(row.operations / 1e12, ",.2f"), _number(row.memory, ".2f")),
        ]
        for row in found.itertuples()
    ]


def _number(value: float, form: str) -> str:
    return MISSING if pd.isna(value) else format(value, form)
