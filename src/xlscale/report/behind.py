"""What is behind a number of the paper: the recorded cells that it was made from.

Belongs here: the cells of which study a notebook reads for which of its numbers, tables and figures, and what the name
of one says about the cells that it is of. Where a name does not say it, these are all that the notebook reads for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple

import pandas as pd

from xlscale.core.files import XlscaleError
from xlscale.experiment import studies
from xlscale.experiment.conditions import NONE, SHUFFLED, plain, untreated
from xlscale.experiment.studies import Study
from xlscale.published import claims
from xlscale.record import store, tuning
from xlscale.report.labels import key

Ids = dict[str, list[str]]  # name -> ids of cells


class Read(NamedTuple):
    """Recorded cells that a notebook reads: those of a study, of the paper's where none is named; of one phase, or of
    all; if ``whole``, none before all are there, as ``store.recorded`` has it."""

    study: str = ""
    phase: str = ""
    whole: bool = False


_PRIMARY = ("primary", "failures", "sensitivity", "mixed", "beta", "items", "confirmatory")
# notebook -> how a name begins -> the cells that are read for it. The longest beginning counts; without one, there are
# none, as for numbers of data sets and of published scores.
READS: dict[str, dict[str, Read]] = {
    "04_scaling": {"": Read()},
    "05_significance": {
        "": Read(),
        **dict.fromkeys(_PRIMARY, Read("confirmatory_2", whole=True)),
        "second": Read("second_ladder", whole=True),
    },
    "07_xtreme_r": {"": Read("xtreme_r_small", "target")},
    "08_preparation": {
        **{f"rates_{phase}": Read(study, phase) for phase, study in tuning.STUDY.items()},
        "learnt": Read("suite", "intermediate"),
        "plateau": Read("plateau", whole=True),
        **dict.fromkeys(("dose", "admitted"), Read("dose", whole=True)),
        "stab": Read("stability", whole=True),
        "second": Read("second_ladder_rates", whole=True),
    },
    "10_design": dict.fromkeys(("error_rate", "coverage", "detectable"), Read("confirmatory_2")),
    "11_methods": {"methods": Read("methods"), "lexical": Read("lexical", whole=True)},
}
OWN = "the paper's own"  # study, where a notebook is run for the one that is built


@cache
def reads(notebook: str) -> dict[str, Read]:
    """READS of a notebook; of ``09_claims`` follows from the claims which of them ask the local record."""
    if notebook != "09_claims":
        return READS.get(notebook, {})
    local = (one.id for one in claims.load().claims if any(check.kind in claims.LOCAL for check in one.checks))
    return {"claims": Read(), **{f"claim_{name}": Read() for name in local}}


def runs(notebook: str, name: str) -> str:
    """The study whose recorded cells a number, table or figure is made from; "" where that is something else."""
    read = _read(notebook, name)
    return "" if read is None else read.study or OWN


def _read(notebook: str, name: str) -> Read | None:
    of = reads(notebook)
    start = max((one for one in of if name.startswith(one)), key=len, default=None)
    return None if start is None else of[start]


class Behind:
    """The cells behind numbers, tables and figures. ``known``: the record, as ``store.table`` has it; ``study``: the
    one that the paper is of; ``load``: gives a study by its name."""

    def __init__(self, known: pd.DataFrame, study: str, load: Callable[[str], Study] = studies.load):
        self._known, self._study, self._load = known, study, load
        self._own, self._named = cache(self._own), cache(self._named)  # of this record alone

    def __call__(self, notebook: str, name: str) -> list[str]:
        """Sorted ids of the recorded cells behind ``name``; none where it is made from something else.

        A value is of the runs whose mean, difference of means or slope it is. What stands beside it (an interval, what
        would have been detected, a summary) is of all runs of the target or of phase 2: it takes their variance.
        """
        if (read := _read(notebook, name)) is None:
            return []
        own = self._own(read)
        if read.study:
            return sorted(own["cell"])
        values, parts = self._named()
        if name in values:
            return sorted(values[name])
        part = max((one for one in parts if f"_{one}_" in f"_{name}_"), key=len, default=None)
        return sorted(parts[part] if part else own["cell"])

    def _own(self, read: Read) -> pd.DataFrame:
        """The recorded cells of a study, conditions as it calls them; none where there is no such study."""
        name = read.study or self._study
        try:
            wanted = self._load(name).conditions()
        except XlscaleError:
            return self._known.iloc[:0]
        known = self._known[self._known["cell"].isin(wanted)]
        if read.whole and len(known) < len(wanted):
            return known.iloc[:0]
        return store.named(known if not read.phase else known[known["phase"] == read.phase], wanted)

    def _named(self) -> tuple[Ids, Ids]:
        """Ids of the paper's cells by the name of a value, and by a part of a name: a target, or "learned"."""
        own = self._own(Read())
        second = own[(own["phase"] == "intermediate") & (own["intermediate"] != NONE)]
        values, parts = dict(_learned(second)), {"learned": [*second["cell"]]}
        for target, runs in own[own["phase"] == "target"].groupby("target"):
            values |= _of_target(str(target), runs)
            parts[str(target)] = [*runs["cell"]]
        return values, parts


def _learned(runs: pd.DataFrame) -> Iterator[tuple[str, list[str]]]:
    """The values of ``checks.add_manipulation``: what a set taught above its shuffled labels, at both ends."""
    ends = {"smallest": runs["layers"].min(), "largest": runs["layers"].max()}
    for condition in runs.loc[~runs["placebo"].astype(bool), "condition"].unique():
        both = runs[runs["condition"].isin([condition, condition + SHUFFLED])]
        for end, rung in ends.items():
            yield f"learned_{key(condition)}_{end}", [*both.loc[both["layers"] == rung, "cell"]]
        yield f"learned_{key(condition)}_change", [*both.loc[both["layers"].isin([*ends.values()]), "cell"]]


def _of_target(target: str, runs: pd.DataFrame) -> Ids:
    """The values of ``sections.results``: means, gains at both ends, slopes of both, and gamma."""
    found = {}
    ends = {"smallest": runs["layers"].min(), "largest": runs["layers"].max()}
    conditions = set(runs["condition"])
    for condition in conditions:
        name = f"{target}_{key(condition)}"
        found[f"slope_{name}"] = own = runs[runs["condition"] == condition]
        found |= {f"{name}_k{rung}": part for rung, part in own.groupby("layers")}
        for kind, other in (
            ("gainslope", untreated(condition, conditions)),
            ("gainslope_shuffled", condition + SHUFFLED),
        ):
            if other in conditions:
                found[f"{kind}_{name}"] = runs[runs["condition"].isin([condition, other])]
        if (both := found.get(f"gainslope_{name}")) is not None:
            found |= {f"gain_{name}_{end}": both[both["layers"] == rung] for end, rung in ends.items()}
    real = runs[runs["condition"].map(plain) & (runs["intermediate"] != NONE) & ~runs["overlaps"].astype(bool)]
    controlled = {*real["condition"], *(real["condition"] + SHUFFLED)}
    found |= {f"gamma_{target}": real, f"gamma_shuffled_{target}": runs[runs["condition"].isin(controlled)]}
    return {name: [*own["cell"]] for name, own in found.items()}
