"""What the design of the confirmatory study can see, for ``10_design.ipynb``: error rates of its primary test and of
naive ones, coverage, and the smallest slope that is found. In points per factor of ten in non-embedding parameters.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from xlscale.core import cache
from xlscale.core.files import ROOT, XlscaleError, relative
from xlscale.core.format import percent, slug
from xlscale.experiment.studies import Study
from xlscale.record import store
from xlscale.report.numbers import Numbers
from xlscale.stats import groups, simulation, slopes
from xlscale.stats.simulation import PRIMARY

BAND = (0.03, 0.07)  # rates at which a test at 5% may reject a true null, to be called calibrated here
_BAND = " to ".join(percent(end, 0) for end in BAND)
SPREADS = (1.0, 2.0, 3.0)  # between the slopes of sets
NAMES = {
    PRIMARY: "sets and seeds random",
    "clustered by set": "clustered by set",
    "mixed model": "mixed model of sets, z",
    "runs": "least squares over runs",
    "items": "test items, z",
}
FAMILIES = {"trained": simulation.Scenario(), "retrieval": simulation.SCENARIOS["retrieval"]}


def sizes(study: Study, record: Path = ROOT / "results") -> list[int]:
    """Non-embedding parameters of the study's rungs, by default from the committed record, which holds them whatever
    study's paper is built. Raises XlscaleError when one is not recorded."""
    (model, layers), *_ = study.models.items()
    cells = store.cells(record)
    known = slopes.sizes(cells[cells["model"] == model])
    if missing := set(layers) - set(known.dropna().index):
        raise XlscaleError(f"{relative(record)}: expected a cell of {model} with {min(missing)} layers, got none")
    return [int(known[k]) for k in layers]


def error_rates(study: Study, rungs: list[int], replications: int, seed: int) -> pd.DataFrame:
    """``simulation.error_rates`` at the layout of a study; kept for as long as layout, rungs and code are the same.
    Raises XlscaleError where there is nothing to simulate."""
    runs = simulation.layout(study)
    if replications < 1:
        raise XlscaleError(f"replications: expected at least 1, got {replications}")
    if runs.empty or runs["set"].nunique() < 2 or len(rungs) < 2:
        raise XlscaleError(f"study: expected several intermediate sets and rungs, {study.name} has not")
    make = partial(simulation.error_rates, runs, rungs, replications, seed)
    return cache.table("error_rates", [runs.to_dict("records"), rungs, replications, seed], make)


def detectable(study: Study, rungs: list[int], replications: int, seed: int) -> pd.DataFrame:
    """``simulation.detectable`` by spread and family, for one test and for the stricter of Holm's two: columns spread,
    family, tests, slope."""
    runs = simulation.layout(study)
    make = partial(_detectable, runs, rungs, replications, seed)
    return cache.table("detectable", [runs.to_dict("records"), rungs, replications, seed], make)


def _detectable(runs: pd.DataFrame, rungs: list[int], replications: int, seed: int) -> pd.DataFrame:
    rows = []
    for spread in SPREADS:
        for family, scenario in FAMILIES.items():
            own, rng = replace(scenario, spread=spread), np.random.default_rng(seed)
            records = simulation.simulate(own, runs, np.array(rungs), 0.0, replications, rng)
            for tests in (1, 2):
                found = simulation.detectable(records, 1 - (1 - groups.LEVEL) / tests)
                rows.append({"spread": spread, "family": family, "tests": tests, "slope": found})
    return pd.DataFrame(rows)


def add(numbers: Numbers, found: pd.DataFrame, reach: pd.DataFrame, replications: int) -> None:
    """Add the tables ``error_rates`` and ``detectable``, and the extremes of the primary test and of the naive ones."""
    table = found.pivot(index="scenario", columns="analysis", values="rejected").reindex(found["scenario"].unique())
    own = found[found["analysis"] == PRIMARY].set_index("scenario")
    rows = [
        [name, *(percent(table.loc[name].get(one), missing="") for one in NAMES), percent(own["covered"][name])]
        for name in table.index
    ]
    numbers.table("error_rates", ["Scenario", *NAMES.values(), "Coverage of the first"], rows)
    wide = reach.pivot(index="spread", columns=["family", "tests"], values="slope")
    heads = [f"{family}{', Holm' if tests == 2 else ''}" for family, tests in wide.columns]
    cells = [[f"{spread:.0f}", *map("{:.1f}".format, row)] for spread, *row in wide.itertuples()]
    numbers.table("detectable", ["Spread of sets", *heads], cells)
    for end, pick in (("lowest", min), ("highest", max)):
        numbers.add(f"error_rate_{end}", pick(own["rejected"]), percent(pick(own["rejected"])), "%")
        numbers.add(f"coverage_{end}", pick(own["covered"]), percent(pick(own["covered"])), "%")
    for one in NAMES:
        if one != PRIMARY:
            highest = table[one].max()
            numbers.add(f"error_rate_{slug(one)}_highest", highest, percent(highest), "%")
    numbers.count("simulation_replications", replications, "records per scenario")
    numbers.words("calibrated", _verdict(own))
    numbers.words("calibrated_band", _BAND)


def _verdict(own: pd.DataFrame) -> str:
    """What the rates of the primary test say of it, in a sentence."""
    inside = own["rejected"].between(*BAND)
    if inside.all():
        return f"in all {len(own)} scenarios the primary test rejects a true null in {_BAND}% of the records"
    outside = ", ".join(own.index[~inside])
    return f"the primary test rejects a true null in {_BAND}% of the records, except in: {outside}"
