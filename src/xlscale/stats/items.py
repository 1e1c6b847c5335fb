"""Item by item: the predictions after intermediate training against those without, of the same target, rung and seeds.

The statistics are those by which two folders of predictions are compared (``xtreme.paired``): items are drawn with what
all runs predicted for them, parallel ones together in all languages. So an interval speaks of other items, for these
sets, seeds and languages, and of nothing else.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from xlscale.cards.catalogue import data_card
from xlscale.cards.languages import ENGLISH
from xlscale.core.files import XlscaleError
from xlscale.experiment.cells import NONE
from xlscale.metrics.predictions import VALUE
from xlscale.stats import groups, primary
from xlscale.xtreme import benchmark, paired
from xlscale.xtreme.items import Items

DRAWS = 1000
MEAN = "mean"  # over languages
KEY = ["language", "item"]
EACH = ["items", "a", "b", "difference", "low", "high", "p", "adjusted"]


def compare(cells: pd.DataFrame, record: Path, targets: list[str], layers: int, draws: int = DRAWS) -> pd.DataFrame:
    """Differences at one rung, a row per target and language, and one for the MEAN over languages; English is left out.

    Scores are means over the runs that have both: every (set, seed) with true labels, and none with the same seed.
    Columns: target, layers, runs, language, items, a (after intermediate training), b (without), difference, low, high
    (all in points), p, adjusted (Holm over the languages of the target; NaN of the mean). Raises XlscaleError for
    predictions in ``record`` that cannot be read, or are not of the same items.
    """
    rows = []
    for target in targets:
        pairs, runs = _pairs(cells, record, target, layers)
        languages, mean = paired.compare(pairs, parallel(target), draws)
        about = {"target": target, "layers": layers, "runs": runs}
        rows += [about | {"language": code} | asdict(one) for code, one in (languages | {MEAN: mean}).items() if one]
    table = pd.DataFrame(rows, columns=["target", "layers", "runs", "language", *EACH])
    return table.astype({"adjusted": float})


def two(
    target: str, one: Path, other: Path, draws: int = DRAWS
) -> tuple[dict[str, paired.Difference], paired.Difference | None]:
    """Differences of two prediction tables of a target, by language, English left out, and of the mean over them.

    Raises XlscaleError where they cannot be read or are not of the same items.
    """
    return paired.compare(_stacked(target, [one], [other]), parallel(target), draws)


def parallel(target: str) -> bool:
    """Whether equal ids of a target's items are one item in several languages: as the benchmark that its card
    names says of the task or of the one that it varies, and of what is in none, yes."""
    card = data_card(target)
    of = data_card(card.variant_of) if card.variant_of else card
    tasks = [task for name in (*card.benchmarks, *of.benchmarks) for task in benchmark.load(name).tasks]
    return next((task.parallel for task in tasks if task.name in (target, of.name)), True)


def _pairs(cells: pd.DataFrame, record: Path, target: str, layers: int) -> tuple[dict[str, paired.Pair], int]:
    """Language -> what its items add to the score after intermediate training and without, a metric per run; and the
    number of runs."""
    runs = _runs(cells, target, layers)
    if runs.empty:
        return {}, 0
    sides = [[record / "predictions" / f"{cell}.parquet" for cell in runs[side]] for side in ("own", "none")]
    return _stacked(target, *sides), len(runs)


def _stacked(target: str, one: list[Path], other: list[Path]) -> dict[str, paired.Pair]:
    """Language -> what its items add to the score by the tables ``one`` and ``other``, a metric per table."""
    from xlscale.record import recompute  # imports torch

    scores = [score for score in VALUE[data_card(target).metric] if score]
    read: dict[Path, pa.Table] = {}
    for path in dict.fromkeys([*one, *other]):
        found = recompute.read_predictions(path, KEY, scores).combine_chunks()
        first = next(iter(read.values()), found)
        if not found.select(KEY).equals(first.select(KEY)):  # cells leave items in the order of their data set
            raise XlscaleError(f"{path.stem}: item: expected those of the other runs on {target}")
        read[path] = found
    sides = [[np.stack([read[path][score] for path in side]) for score in scores] for side in (one, other)]
    languages, ids = (np.array(first[name].to_pylist(), object) for name in KEY)
    pairs = {}
    for language in sorted({*languages} - {ENGLISH}):
        own = languages == language
        pairs[language] = tuple(Items.of(ids[own], *(part[:, own] for part in side)) for side in sides)
    return pairs


def _runs(cells: pd.DataFrame, target: str, layers: int) -> pd.DataFrame:
    """Cells of runs with true labels (own), and what they are compared with (none), as the primary analysis does."""
    done = groups.completed(cells, target)
    done = done[(done["layers"] == layers) & ~done["placebo"].astype(bool)]
    none = done[done["condition"] == NONE].set_index("seed")["cell"]
    own = done[done["condition"] != NONE].sort_values(["condition", "seed"])
    once = primary.family(target) == "retrieval"  # what is not trained was run once
    baseline = next(iter(none), None) if once else own["seed"].map(none)
    return pd.DataFrame({"own": own["cell"], "none": baseline}).dropna()
