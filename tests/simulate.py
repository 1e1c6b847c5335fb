"""Records with known truth, for checking the coverage and the error rates of the statistics at a study's design."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd

from xlscale.experiment.conditions import NONE, SHUFFLED

RUNGS = {1: 1_972_608, 2: 3_747_072, 4: 7_296_000, 12: 21_491_712}  # layers -> non-embedding parameters, as the pilot
SETS = {"squad_wiki": "general", "squad_amazon": "domain"}
TRAINED, UNTRAINED = "topic", "udhr"
RATES = {1: 3e-3, 2: 1e-3, 4: 6e-4, 12: 2e-4}  # of target training by layers; half of it in intermediate training


def effects(slope: float = 0.3, gains: dict[str, float] | None = None) -> dict[str, tuple[float, float]]:
    """Condition -> (value at one million parameters, slope per factor of ten); ``gains`` adds to its slope."""
    gains = gains or {}
    names = ["none", *(name + suffix for name in SETS for suffix in ("", SHUFFLED))]
    return {name: (0.3, slope + gains.get(name, 0.0)) for name in names}


def cells(
    generator: np.random.Generator,
    sd: float | dict[int, float] = 0.01,
    seeds: tuple[int, ...] = (1, 2),
    truth: dict[str, tuple[float, float]] | None = None,
) -> pd.DataFrame:
    """The target cells of a pilot, as ``store.cells``: value = intercept + slope * log10(millions) + N(0, sd).

    ``sd`` is one for all rungs, or by number of layers.
    """
    rows = []
    spread = sd if isinstance(sd, dict) else dict.fromkeys(RUNGS, sd)
    grid = product((TRAINED, UNTRAINED), (truth or effects()).items(), RUNGS.items(), seeds)
    for target, (condition, (start, slope)), (layers, parameters), seed in grid:
        untrained = target == UNTRAINED and condition == "none"
        if untrained and seed != seeds[0]:
            continue
        noise = 0.0 if untrained else generator.normal(0, spread[layers])
        rows.append(
            _facts(target, condition, layers, 0 if untrained else seed)
            | {"value": start + slope * np.log10(parameters / 1e6) + noise}
            | {"english": 0.8 if target == TRAINED else None}
            | {"non_embedding_parameters": parameters, "total_parameters": parameters + 96_014_208}
        )
    return pd.DataFrame(rows)


def intermediate(cells: pd.DataFrame, generator: np.random.Generator, sd: float = 0.01) -> pd.DataFrame:
    """The cells of phase 2 behind ``cells``: F1 grows with depth, less with shuffled labels."""
    rows = cells[(cells["target"] == TRAINED) & (cells["condition"] != NONE)].reset_index(drop=True)
    growth = np.where(rows["placebo"], 0.05, 0.3)
    value = 0.1 + growth * np.log10(rows["non_embedding_parameters"] / 1e6) + generator.normal(0, sd, len(rows))
    nothing = dict.fromkeys(["target", "examples", "epochs", "learning_rate", "batch_size", "max_length", "test_items"])
    names = "intermediate" + rows["cell"].str.removeprefix("target")
    return rows.assign(**nothing, phase="intermediate", cell=names, value=value, english=value)


def _facts(target: str, condition: str, layers: int, seed: int) -> dict[str, object]:
    name = condition.removesuffix(SHUFFLED)
    trained = target == TRAINED
    return {
        "cell": f"target-e5_small-k{layers}-{condition}-{target}-s{seed}",
        "phase": "target",
        "model": "e5_small",
        "layers": layers,
        "intermediate": name,
        "intermediate_type": SETS.get(name, "none"),
        "placebo": condition.endswith(SHUFFLED),
        "condition": condition,
        "target": target,
        "overlaps": False,
        "seed": seed,
        "status": "complete",
        "reason": None,
        "intermediate_examples": 2000 if name in SETS else None,
        "intermediate_epochs": 2 if name in SETS else None,
        "intermediate_learning_rate": RATES[layers] / 2 if name in SETS else None,
        "intermediate_batch_size": 16 if name in SETS else None,
        "intermediate_max_length": 256 if name in SETS else None,
        "intermediate_test_items": 150 if name in SETS else None,
        "examples": 2000 if trained else None,
        "epochs": 3 if trained else None,
        "learning_rate": RATES[layers] if trained else None,
        "batch_size": 32 if trained else None,
        "max_length": 64,
        "test_items": 300,
        "train_seconds": 60.0,
        "eval_seconds": 10.0,
        "wall_seconds": 75.0,
        "train_tokens": 100_000,
        "train_flops": 1e12,
        "peak_memory_gb": 1.5,
        "fingerprint": "simulated",
        "machine": "simulated, no machine",
    }


def languages(cells: pd.DataFrame, generator: np.random.Generator, codes: list[str]) -> pd.DataFrame:
    """The per-language rows of simulated cells, as ``store.languages``; 300 items each."""
    rows = cells.drop(columns=["value", "english"]).merge(pd.DataFrame({"language": codes, "n": 300}), how="cross")
    spread = generator.normal(0, 0.08, len(codes))
    value = np.repeat(cells["value"].to_numpy(), len(codes)) + np.tile(spread, len(cells))
    return rows.assign(value=np.clip(value, 0, 1))
