"""What there is to explore, and what is chosen of it.

Belongs here: the recorded cells of a study under names that tell them apart, and the state of the explorer, a
``Choice``. Nothing here knows widgets.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from xlscale.cards.catalogue import data_card
from xlscale.core.files import RESULTS, XlscaleError
from xlscale.core.format import listing
from xlscale.experiment import studies
from xlscale.experiment.results import Result
from xlscale.record import store
from xlscale.report.labels import METRICS
from xlscale.stats import agreement, groups, slopes

KEYS = ["phase", "model", "layers", "target", "condition"]  # of runs that differ in their seed alone


@dataclass(frozen=True)
class Choice:
    """What is shown; where nothing is named, all there is. ``languages``: over which values are means, all but English
    where none is named."""

    models: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()


class Record:
    """The recorded cells of a study. Raises XlscaleError for an unknown one."""

    def __init__(self, study: str, folder: str | Path = ""):
        moved = studies.workplace(study)
        self.study, self.folder = study, Path(folder or moved.get("XLSCALE_RESULTS", RESULTS))
        self.results: dict[str, Result] = store.results(self.folder)
        self._wanted = studies.load(study).conditions()
        table = store.table({name: self.results[name] for name in self._wanted if name in self.results})
        self.cells = _told_apart(store.named(table, self._wanted)) if len(table) else table

    @cached_property
    def languages(self) -> pd.DataFrame:
        """Values per language as ``store.languages`` has them, conditions called as in ``cells``."""
        table = store.languages(self.folder)
        table = table[table["cell"].isin(self.cells["cell"])]
        return store.named(table, self.cells.set_index("cell")["condition"].to_dict())

    @cached_property
    def done(self) -> pd.DataFrame:
        """The complete target cells. Raises XlscaleError where there is none."""
        found = groups.completed(self.cells)
        if found.empty:
            expected = "expected complete cells of the target phase in the record, found none"
            raise XlscaleError(f"study {self.study}: {expected}; `make record STUDY={self.study}` runs them")
        return found

    def options(self) -> dict[str, list[str]]:
        """Field of ``Choice`` -> what there is to choose from, in reading order."""
        return {
            "models": sorted(self.done["model"].unique()),
            "targets": slopes.targets(self.done),
            "conditions": slopes.conditions(self.done),
            "languages": sorted(self.languages["language"].unique()),
        }

    def rungs(self, model: str, target: str) -> list[int]:
        """Numbers of layers at which a model is evaluated on a target."""
        own = self.done[(self.done["model"] == model) & (self.done["target"] == target)]
        return sorted(map(int, own["layers"].unique()))

    def valued(self, choice: Choice) -> pd.DataFrame:
        """All complete target cells, of whatever condition, of the models and targets that are chosen, with the mean
        over the chosen languages as value (0 to 1); without those that have none of them."""
        cells = self.done
        for name, chosen in (("model", choice.models), ("target", choice.targets)):
            cells = cells[cells[name].isin(chosen)] if chosen else cells
        if not choice.languages:
            return cells
        spoken = self.languages[self.languages["language"].isin(choice.languages)]
        return cells.assign(value=cells["cell"].map(spoken.groupby("cell")["value"].mean())).dropna(subset="value")

    def shown(self, table: pd.DataFrame, choice: Choice) -> pd.DataFrame:
        """The rows of the conditions that are chosen."""
        return table[table["condition"].isin(choice.conditions)] if choice.conditions else table


def explorable(folder: Path = RESULTS) -> list[str]:
    """Names of the studies that may have target cells in the record: of all to know it takes seconds. Studies that
    cannot be read are left out."""
    recorded, found = [name for name in store.results(folder) if name.startswith("target-")], []
    for name in studies.names():
        with suppress(XlscaleError):
            if moved := studies.workplace(name):
                known = (Path(moved["XLSCALE_RESULTS"]) / store.CELLS).exists()
            else:
                known = any(map(studies.load(name).may_hold, recorded))
            found += [name] if known else []
    return found


def task(name: str) -> str:
    """What a task is called: the title on its card."""
    return data_card(name).title


def metric(name: str) -> str:
    """A task's primary metric in words."""
    return METRICS[data_card(name).primary_metric]


def over(choice: Choice) -> str:
    """Over which languages values are means, in words."""
    return f"over {listing(choice.languages)}" if choice.languages else "over all languages but English"


def _told_apart(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells whose conditions also say in which parts of the recipe they differ, where several of one condition, rung
    and seed do: runs at other rates are no repetitions."""
    fields = [name for name in agreement.RECIPE if name in cells and name not in KEYS]
    again = cells[cells.duplicated([*KEYS, "seed"], keep=False)]
    said = cells["condition"].copy()
    for _, own in again.groupby(KEYS, dropna=False, sort=False):
        varied = [name for name in fields if own[name].nunique(dropna=False) > 1]
        for cell, recipe in own[varied].to_dict("index").items():
            said[cell] += "".join(f", {name} {value}" for name, value in recipe.items())
    return cells.assign(condition=said)
