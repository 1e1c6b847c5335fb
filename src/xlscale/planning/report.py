"""A plan as people read it: tables of texts, and the lines that ``make plan`` prints."""

from __future__ import annotations

import pandas as pd

from xlscale.core.format import listing
from xlscale.planning.hardware import GIB, Hardware
from xlscale.planning.lengths import BASES

STATES = ("weights", "gradients", "optimizer", "gathered", "activations")
SAYS = {
    "counted": "counted with the model's tokenizer on the data, which are here",
    "measured": "by lengths.yaml, measured on the data with the model's vocabulary",
    "assumed": "by lengths.yaml, assumed in part: of lengths, of rows, or of tokens beside XLM-R's",
    "longest": "not known: as long as inputs may be",
}


def models(plan: pd.DataFrame, hardware: Hardware) -> pd.DataFrame:
    """A row per model and phase: what its cells take together, and on each GPU the one that takes most."""
    rows = []
    for (model, phase), part in plan.groupby(["model", "phase"], sort=False):
        placed = part[part["gpus"] > 0].sort_values(["gpus", "gpu"])
        largest = placed.iloc[-1] if len(placed) else None
        memory = {state: "-" if largest is None else f"{largest[state] / GIB:.1f}" for state in (*STATES, "gpu")}
        rows.append(
            {
                "model": model,
                "phase": phase,
                "method": listing(part["method"].drop_duplicates()).replace(" and ", "+"),
                "cells": f"{part['cells'].sum():,}",
                "GPUs": "does not fit" if (part["gpus"] == 0).any() else f"{part['gpus'].max()}",
                **memory,
                "micro-batch": "-" if largest is None else f"{largest['micro']:,}{'*' if largest['again'] else ''}",
                "PFLOP": f"{_sum(part, 'operations') / 1e15:,.0f}",
                "GPU-hours": f"{_sum(part, 'hours'):,.1f}",
                "host GiB": f"{part['host'].max() / GIB:.0f}",
                "GB kept": f"{(_sum(part, 'checkpoint') + _sum(part, 'predictions')) / 1e9:,.1f}",
                "$": f"{_sum(part, 'hours') * hardware.price_per_hour:,.0f}",
            }
        )
    return pd.DataFrame(rows).rename(columns={"gpu": "GiB"})


def sets(plan: pd.DataFrame) -> pd.DataFrame:
    """A row per phase and data set: rows and tokens of one cell, of all epochs, and how they are known."""
    rows = []
    for (phase, name), part in plan.groupby(["phase", "data"], sort=False):
        trained = part[part["train_tokens"] > 0]
        bases = {*trained["train_basis"], *part["evaluated_basis"]}
        rows.append(
            {
                "phase": phase,
                "data": name,
                "cells": f"{part['cells'].sum():,}",
                "trained rows": f"{trained['train_rows'].max():,.0f}" if len(trained) else "-",
                "M tokens": _range(trained["train_tokens"]),
                "evaluated rows": f"{part['evaluated_rows'].max():,.0f}",
                "M tokens ": _range(part["evaluated_tokens"]),
                "known": listing(basis for basis in BASES if basis in bases).replace(" and ", ", "),
            }
        )
    return pd.DataFrame(rows)


def totals(plan: pd.DataFrame, hardware: Hardware) -> dict[str, float]:
    """Of all cells that fit: ``cells``, ``hours`` of a GPU and what of them is ``starting``, ``price`` in dollars, and
    gigabytes: ``kept``, ``resume`` of the largest running cell, ``weights`` of the models in bfloat16."""
    hours = _sum(plan, "hours")
    return {
        "cells": int(plan["cells"].sum()),
        "left_out": int(plan.loc[plan["gpus"] == 0, "cells"].sum()),
        "hours": hours,
        "starting": _sum(plan, "starting"),
        "price": hours * hardware.price_per_hour,
        "kept": (_sum(plan, "checkpoint") + _sum(plan, "predictions")) / 1e9,
        "resume": float(plan["resume"].max()) / 1e9,
        "weights": float(plan.drop_duplicates("model")["download"].sum()) / 1e9,
    }


def summary(study: str, plan: pd.DataFrame, hardware: Hardware) -> str:
    """A row of the README's table of costs: the command, GPU-hours and price, memory, storage."""
    found, memory = totals(plan, hardware), plan["gpu"].max() / GIB
    price = f"{found['hours']:,.0f} GPU-hours ({hardware.title}), ${found['price']:,.0f}"
    stored = f"{found['weights']:,.0f} GB of models; {found['kept']:,.0f} GB stay on disk"
    return f"| `make sweep STUDY={study}` | {price} | {memory:.0f} GiB on a GPU | {stored} |"


def not_alone(plan: pd.DataFrame) -> list[str]:
    """A line per model and method that does not fit one GPU, with what would."""
    lines = []
    for (model, method), part in plan[plan["instead"] != ""].groupby(["model", "method"], sort=False):
        lost = part[part["gpus"] == 0]
        worst = (lost if len(lost) else part[part["gpus"] == part["gpus"].max()]).iloc[0]
        how = "does not fit" if len(lost) else f"on {worst['gpus']} GPUs, {worst['gpu'] / GIB:.0f} GiB each"
        lines.append(f"{model}, {method}: {how} ({worst['data']}); would fit: {worst['instead']}")
    return lines


def lines(title: str, plan: pd.DataFrame, hardware: Hardware) -> list[str]:
    """All that ``make plan`` prints."""
    found = totals(plan, hardware)
    known = {*plan["evaluated_basis"], *plan.loc[plan["train_tokens"] > 0, "train_basis"]}
    reached = "; ".join(
        f"{what} " + ", ".join(f"{share:.0%} from {size / 1e9:g}B" for size, share in sorted(shares.items()))
        for what, shares in hardware.utilisation.model_dump().items()
    )
    left_out = f" ({found['left_out']:,} of them do not fit and are in no sum)" if found["left_out"] else ""
    return [
        f"{title}: {found['cells']:,} cells{left_out}",
        f"on {hardware.title}: {hardware.memory_gib:g} GiB, of which {hardware.reserved_gib:g} are left free; "
        f"{hardware.teraflops:g} TFLOP/s, of which cells reach, by parameters: {reached}; 4-bit weights "
        f"{hardware.four_bit:g} times as long; ${hardware.price_per_hour:g} an hour",
        "",
        *_text(models(plan, hardware)),
        "GiB: on each GPU, of the cell that takes most. Micro-batch: tokens; *: layers are computed again. GB kept: "
        "checkpoints and predictions.",
        "",
        *_text(sets(plan)),
        *(f"{basis}: {SAYS[basis]}" for basis in BASES if basis in known),
        "",
        *not_alone(plan),
        f"in total {found['hours']:,.0f} GPU-hours, {found['starting']:,.0f} of them for starting cells; "
        f"${found['price']:,.0f}",
        f"storage: {found['weights']:,.0f} GB of models, {found['kept']:,.0f} GB of checkpoints and predictions, "
        f"{found['resume']:,.1f} GB of resume state while the largest cell runs",
    ]


def _sum(plan: pd.DataFrame, column: str) -> float:
    """Over all cells; what does not fit has no hours and counts for nothing."""
    return float((plan[column] * plan["cells"]).sum())


def _range(tokens: pd.Series) -> str:
    if not len(tokens):
        return "-"
    ends = dict.fromkeys(
        f"{value / 1e6:.2g}" if value < 1e7 else f"{value / 1e6:.0f}" for value in (tokens.min(), tokens.max())
    )
    return " to ".join(ends)


def _text(table: pd.DataFrame) -> list[str]:
    """A table as lines: words to the left, numbers to the right."""
    words = {"model", "phase", "method", "data", "known"}
    width = {name: max(len(name.strip()), *map(len, table[name])) for name in table}
    rows = [[name.strip() for name in table], *table.to_numpy().tolist()]
    return [
        "  ".join(
            value.ljust(width[name]) if name in words else value.rjust(width[name])
            for name, value in zip(table, row, strict=True)
        ).rstrip()
        for row in rows
    ]
