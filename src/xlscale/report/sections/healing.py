"""What healing did to a ladder, from ``results/healing.csv`` (see ``xlscale.training.healing``), and the decision."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from xlscale.core.files import RESULTS, read_json
from xlscale.core.format import listing, percent, signed
from xlscale.report.labels import layers
from xlscale.report.numbers import Numbers

# What the decision rests on: name -> (measure, what was held out of the training text, whether larger is better).
HELD_OUT = {
    "Variance unexplained, held-out languages": ("missed", ["language"], False),
    "Variance unexplained, held-out register": ("missed", ["register"], False),
    "Nearest-neighbour agreement, held-out languages": ("nearest", ["language"], True),
    "Nearest-neighbour agreement, held-out register": ("nearest", ["register"], True),
    "UDHR P@1, all languages": ("p_at_1", ["register", "both"], True),
    "UDHR P@1, held-out languages": ("p_at_1", ["both"], True),
}


def evidence(folder: Path = RESULTS) -> pd.DataFrame:
    """The committed evidence, as ``training.healing.judge`` describes it."""
    return pd.read_csv(folder / "healing.csv", keep_default_na=False)


def summary(found: pd.DataFrame) -> pd.DataFrame:
    """A row per entry of HELD_OUT and rung: cut, healed, whole (0 to 1, or fractions of variance), gained.

    Values are means over languages, each with equal weight whatever its number of texts and registers.
    """
    rows = []
    for name, (measure, unseen, larger) in HELD_OUT.items():
        chosen = found[(found["measure"] == measure) & found["unseen"].isin(unseen)]
        by_language = chosen.groupby(["layers", "state", "language"])["value"].mean()
        means = by_language.groupby(["layers", "state"]).mean().unstack("state")
        for rung, row in means.dropna(subset=["cut", "healed"]).iterrows():
            gained = (row["healed"] > row["cut"]) == larger and row["healed"] != row["cut"]
            rows.append((name, rung, row["cut"], row["healed"], means["whole"].max(), gained))
    return pd.DataFrame(rows, columns=["what", "layers", "cut", "healed", "whole", "gained"])


def accepted(table: pd.DataFrame) -> bool:
    """Whether every rung gains in everything of HELD_OUT; only then is the healed ladder the confirmatory one."""
    return bool(len(table)) and bool(table["gained"].all())


def languages(found: pd.DataFrame) -> pd.DataFrame:
    """Change of P@1 from cut to healed: a row per language, a column per rung, ``unseen`` before them; worst first."""
    chosen = found[(found["measure"] == "p_at_1") & (found["state"] != "whole")]
    values = chosen.pivot_table(index=["language", "unseen"], columns=["layers", "state"], values="value")
    change = pd.DataFrame({k: values[k, "healed"] - values[k, "cut"] for k in values.columns.levels[0] if k in values})
    return change.loc[change.mean(axis=1).sort_values(kind="stable").index].reset_index("unseen")


def add(numbers: Numbers, found: pd.DataFrame, folder: Path = RESULTS) -> None:
    """Add the decision, what it rests on, which languages lost, and what the training cost."""
    table, change = summary(found), languages(found)
    rungs = sorted(table["layers"].unique())
    rows = []
    for what, part in table.groupby("what", sort=False):
        digits = 0 if what.startswith("Variance") else 1
        pairs = [f"{percent(row.cut, digits)} → {percent(row.healed, digits)}" for row in part.itertuples()]
        rows.append([what, *pairs, percent(part["whole"].iloc[0], digits)])
    numbers.table("healing", ["In percent", *map(layers, rungs), "Whole"], rows)
    verdict = "accepted" if accepted(table) else "not accepted"
    numbers.add("healing_verdict", verdict, verdict)
    numbers.count("healing_checks", len(table))
    numbers.count("healing_gained", table["gained"].sum())
    numbers.count("healing_languages", len(change))
    trained = found[(found["measure"] == "missed") & ~found["unseen"].isin(["language", "both"])]
    numbers.count("healing_languages_trained", trained["language"].nunique())
    lost = [f"{(change[k] < 0).sum()} ({layers(k)})" for k in rungs]
    worst = [f"{change[k].idxmin()} ({signed(change[k].min(), 0)})" for k in rungs]
    numbers.add("healing_lost", ", ".join(lost), listing(lost))
    numbers.add("healing_worst", ", ".join(worst), listing(worst))
    runs = read_json(folder / "healing.json")["runs"]
    hours = sum(run["cpu_seconds"] for run in runs.values()) / 3600
    numbers.add("healing_cpu_hours", hours, f"{hours:.1f}", unit="CPU-hours")
    numbers.table(
        "healing_runs",
        ["Layers", "Epochs", "Learning rate", "Steps", "Tokens (millions)", "TFLOP", "CPU minutes"],
        [
            [k, f"{run['epochs']}", f"{run['learning_rate']:g}", f"{run['steps']:,}", f"{run['tokens'] / 1e6:.1f}",
             f"{run['tflop']:.0f}", f"{run['cpu_seconds'] / 60:.0f}"]
            for k, run in sorted(runs.items(), key=lambda item: int(item[0]))
        ],
    )  # fmt: skip
