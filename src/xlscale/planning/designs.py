"""What a study would take if it had other numbers of sets and seeds: GPU-hours, by the plan of its own cells."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import pandas as pd

from xlscale.cards.catalogue import model_card
from xlscale.core.files import XlscaleError
from xlscale.experiment.studies import Study
from xlscale.planning import plan
from xlscale.planning.hardware import Hardware


class Design(NamedTuple):
    """Intermediate sets, seeds of each, and blocks of seeds that sets take turns with."""

    sets: int
    seeds: int
    blocks: int


def of(study: Study) -> Design:
    """The design of a study. Raises XlscaleError unless all its sets have as many seeds, in blocks of that many."""
    seeds: dict[str, set[int]] = {}
    for cell in study.cells():
        if cell.phase == "intermediate" and not cell.parameters.placebo:
            seeds.setdefault(cell.parameters.intermediate, set()).add(cell.parameters.seed)
    blocks = {*map(frozenset, seeds.values())}
    if len({*map(len, blocks)}) != 1 or sum(map(len, blocks)) != len(frozenset().union(*blocks)):
        raise XlscaleError(f"study: expected as many seeds of every set, in blocks, in {study.name}")
    return Design(len(seeds), len(next(iter(blocks))), len(blocks))


def parts(study: Study, hardware: Hardware) -> pd.DataFrame:
    """A row per model of a study, named by it: its ``parameters`` outside the word embeddings, and the GPU-hours of
    what runs are made of: ``pretrained``, which is run once; ``intermediate`` training on a set, a mean over sets;
    ``target``, training and evaluation on all targets after one of these, or after none; ``spared``, what of that is
    run once for all seeds without intermediate training, since nothing trains.

    By the lengths that are stated, so that it is the same on every machine. Raises XlscaleError for a model whose size
    is not known, or of which something fits nowhere.
    """
    rows = []
    for name in study.models:
        cells = [cell for cell in study.cells() if cell.parameters.model == name]
        # A cell per target, condition and seed; of targets without training fewer, as one baseline serves all seeds.
        runs = Counter(cell.parameters.target for cell in cells if cell.phase == "target")
        if not (size := model_card(name).parameters) or not runs:
            raise XlscaleError(f"study: expected models with known sizes in {study.name}, got {name!r}")
        costs = plan.table(cells, hardware, count=False)
        if costs["hours"].isna().any():
            raise XlscaleError(f"study: expected models that fit on {hardware.title} in {study.name}, {name} does not")
        hours = (costs["hours"] * costs["cells"]).groupby([costs["phase"], costs["data"]]).sum()
        target = hours["target"] / pd.Series(runs)
        rows.append(
            {
                "model": name,
                "parameters": size.non_embedding,
                "pretrained": hours["pretrained"].sum(),
                "intermediate": hours["intermediate"].sum() / sum(cell.phase == "intermediate" for cell in cells),
                "target": target.sum(),
                "spared": target[pd.Series(runs) < max(runs.values())].sum(),
            }
        )
    return pd.DataFrame(rows).set_index("model")


def hours(parts: pd.DataFrame, design: Design) -> float:
    """GPU-hours of a design: its sets with their seeds, a placebo of every set with one seed, and all seeds without
    intermediate training."""
    after, baselines = design.sets * (design.seeds + 1), design.blocks * design.seeds
    per_model = parts["pretrained"] + after * parts["intermediate"] + (after + baselines) * parts["target"]
    return float((per_model - (baselines - 1) * parts["spared"]).sum())
