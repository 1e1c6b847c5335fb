"""What targeted lexical injection does to words and to tasks, for ``11_methods.ipynb``.

Units: percentage points, of cosines too. Intervals speak about training randomness at one rung.
"""

from __future__ import annotations

from dataclasses import asdict
from itertools import product
from pathlib import Path

import pandas as pd

from xlscale.core.files import RESULTS
from xlscale.core.format import percent, signed
from xlscale.experiment import studies
from xlscale.metrics.lexicon import LAYERS, MEASURES, POOLINGS, WHEN, measure
from xlscale.record import store
from xlscale.report.labels import POINTS, key, label, title
from xlscale.report.numbers import Numbers
from xlscale.report.sections.results import estimate
from xlscale.stats import groups

STUDY = "lexical"
READING = ["layer", "pooling"]  # what is measured in which layer, and over which tokens
APART = "apart"  # the cosine of a pair less that of unrelated words
LAYER = {"trained": "the trained layer", "last": "the last layer"}
POOLING = {"all": "all tokens", "words": "the word alone"}


def recorded(folder: Path = RESULTS) -> pd.DataFrame:
    """The cells of STUDY, see ``store.recorded``."""
    return store.recorded(store.cells(folder), STUDY)


def unrecorded(own: pd.DataFrame) -> str:
    """A sentence that says what is missing; nothing once the study is recorded."""
    if len(own):
        return ""
    if STUDY not in studies.names():
        return f"There is no study {STUDY} here, so there is nothing to show."
    cells = len(studies.load(STUDY).cells())
    return (
        f"The study {STUDY} is not recorded: `make record STUDY={STUDY}` runs its {cells} cells, and this shows them."
    )


def words(own: pd.DataFrame, folder: Path = RESULTS) -> pd.DataFrame:
    """A row per training on word pairs, reading and measure (MEASURES and APART): layers, condition, seed, READING,
    measure, before, after; means over languages, of names that were not trained on. ``own`` is that of ``recorded``."""
    known, rows = store.results(folder), []
    done = own[(own["phase"] == "intermediate") & (own["status"] == "complete")]
    for cell in done.sort_values(["layers", "condition", "seed"]).itertuples():
        said = pd.DataFrame([score.others for score in known[cell.cell].languages.values()]).mean()
        for layer, pooling in product(LAYERS, POOLINGS):
            pairs = {what: [said[measure(what, layer, pooling, when)] for when in WHEN] for what in MEASURES}
            pairs[APART] = [one - other for one, other in zip(pairs["cosine"], pairs["unrelated"], strict=True)]
            about = (cell.layers, cell.condition, cell.seed, layer, pooling)
            rows += [(*about, what, *values) for what, values in pairs.items()]
    return pd.DataFrame(rows, columns=["layers", "condition", "seed", *READING, "measure", *WHEN])


def gains(found: pd.DataFrame) -> pd.DataFrame:
    """What training adds to each measure of ``words``: layers, condition, READING, measure, before, and those of
    ``groups.Estimate``, the interval being that of a t test over the seeds of the row; one seed gives none."""
    keys, rows = ["layers", "condition", *READING, "measure"], []
    for names, own in found.groupby(keys, sort=False):
        gain, n = own["after"] - own["before"], len(own)
        of = groups.without_interval(gain.mean())
        if n > 1:
            of = groups.with_interval(gain.mean(), gain.std() / n**0.5, n - 1)
        rows.append(dict(zip(keys, names, strict=True)) | {"before": own["before"].mean()} | asdict(of))
    return pd.DataFrame(rows, columns=[*keys, "before", *asdict(groups.MISSING)])


def add(numbers: Numbers, gained: pd.DataFrame, targets: pd.DataFrame) -> None:
    """Add the tables ``lexical_words`` and ``lexical_targets``; for every rung and condition the least and the most
    gain of the cosine that a reading makes of the same training, ``lexical_k<layers>_<condition>_least`` and ``_most``;
    and how many of the gains on targets are above and below zero. Nothing where nothing is recorded.

    ``gained`` is that of ``gains``, ``targets`` that of ``slopes.gains``.
    """
    if gained.empty:
        return
    numbers.table("lexical_words", *_words_table(gained))
    cosines = gained[gained["measure"] == "cosine"]
    for (layers, condition), own in cosines.groupby(["layers", "condition"], sort=False):
        for end, value in (("least", own["estimate"].min()), ("most", own["estimate"].max())):
            numbers.add(f"lexical_k{layers}_{key(condition)}_{end}", value, signed(value), POINTS)
    rungs = sorted(targets["layers"].unique())
    rows = []
    for (target, condition), own in targets.groupby(["target", "condition"], sort=False):
        by_rung = own.set_index("layers")
        rows.append([title(target), label(condition), *(text for k in rungs for text in estimate(by_rung.loc[k]))])
    heads = [head for k in rungs for head in (f"Gain, {k} layers", "95% interval")]
    numbers.table("lexical_targets", ["Target", "Intermediate training", *heads], rows)
    for end, sign in (("above", targets["low"] > 0), ("below", targets["high"] < 0)):
        numbers.count(f"lexical_targets_{end}", sign.sum())
    numbers.count("lexical_targets_of", targets["low"].notna().sum())


def _words_table(gained: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """A row per rung, condition and reading: cosine before, and what training adds to each measure."""
    rows = []
    for (layers, condition, layer, pooling), own in gained.groupby(["layers", "condition", *READING], sort=False):
        of = own.set_index("measure")
        shown = [percent(of.loc["cosine", "before"]), *estimate(of.loc["cosine"])]
        shown += [signed(of.loc["unrelated", "estimate"]), *estimate(of.loc["p_at_1"])]
        rows.append([str(layers), label(condition), LAYER[layer], POOLING[pooling], *shown])
    heads = ["Layers", "Trained", "Measured in", "Over", "Cosine before", "Gain", "95% interval"]
    return [*heads, "Gain of unrelated words", "Gain of P@1", "95% interval "], rows
