"""The open analysis that an analysis notebook works with: where it reads and writes, its cells, its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from xlscale.core.files import RESULTS, RUNS, XlscaleError, relative
from xlscale.engine.notebook import check_parameters
from xlscale.experiment import studies
from xlscale.experiment.studies import Study
from xlscale.record import store
from xlscale.report.numbers import Numbers
from xlscale.stats import groups


@dataclass(frozen=True)
class Analysis:
    """An analysis at work. Not made directly: see ``open_analysis``."""

    numbers: Numbers
    record: Path
    out: Path
    study: Study | None

    @cached_property
    def cells(self) -> pd.DataFrame:
        """The study's cells as ``store.cells`` has them, unrecorded ones with status "missing", conditions as the
        study calls them; without a study, all cells of the record.

        Raises XlscaleError with one line when no cell of the target phase is complete.
        """
        cells = store.cells(self.record)
        if self.study:
            cells = store.named(store.with_missing(cells, self.study.cells()), self.study.conditions())
        if cells.empty or groups.completed(cells).empty:
            where = relative(self.record)
            raise XlscaleError(
                f"{where}: no complete cell of the target phase: expected a record; run 'make reproduce'"
            )
        return cells

    @cached_property
    def languages(self) -> pd.DataFrame:
        """Values per language of these cells, as ``store.languages`` has them."""
        languages = store.languages(self.record)
        languages = languages[languages["cell"].isin(self.cells["cell"])]
        return store.named(languages, self.study.conditions()) if self.study else languages

    def finish(self) -> pd.DataFrame:
        """Write numbers and figures, say where and whether they agree with the paper, and return the comparison."""
        print(f"written: {relative(self.numbers.write(self.out))}")
        print(self.numbers.verdict())
        return self.numbers.compare()


def open_analysis(notebook: str, record: str = "", out: str = "", study: str = "") -> Analysis:
    """Open the analysis that a notebook's parameters describe.

    ``record``: folder of a record, empty for the committed one, or for the own one of a study that is not published.
    ``out``: folder of a paper, empty for one in ``runs/by-hand/``, so that exploring never touches the paper.
    ``study``: name of a study, empty for none. Raises XlscaleError when there is no such study, or papermill was given
    a parameter that the notebook does not have.
    """
    check_parameters(f"{notebook}.ipynb, cell 'parameters'")
    moved = studies.workplace(study) if study else {}
    return Analysis(
        numbers=Numbers(notebook),
        record=Path(record or moved.get("XLSCALE_RESULTS", RESULTS)),
        out=Path(out) if out else RUNS / "by-hand" / notebook,
        study=studies.load(study) if study else None,
    )
