"""What the recorded cells took, study by study, for ``10_design.ipynb``: hours, memory, operations. Energy is not
recorded, and none is made up here."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from xlscale.core.files import RESULTS
from xlscale.core.format import DASH
from xlscale.experiment import studies
from xlscale.record import store
from xlscale.report.numbers import Numbers

_COLUMNS = ["study", "cells", "hours", "memory", "petaflop"]


def costs(folder: Path = RESULTS) -> pd.DataFrame:
    """A row per published study that has recorded cells: study (its title), cells (number), hours (of one thread),
    memory (peak, GB), petaflop (of training). A cell of several studies counts in the one of which most is recorded."""
    cells = store.cells(folder)
    parts = [(plan.title, {cell.id for cell in plan.cells()}) for plan in studies.published()]
    parts.sort(key=lambda part: -cells["cell"].isin(part[1]).sum() / max(len(part[1]), 1))
    rows, counted = [], set()
    for title, ids in parts:
        own = cells[cells["cell"].isin(ids - counted)]
        counted |= {*own["cell"]}
        if len(own):
            hours, flops = own["wall_seconds"].sum() / 3600, own["train_flops"].sum() / 1e15
            rows.append((title, len(own), hours, own["peak_memory_gb"].max(), flops))
    return pd.DataFrame(rows, columns=_COLUMNS)


def add(numbers: Numbers, table: pd.DataFrame) -> None:
    """Add the table ``compute`` and its sums: ``compute_cells``, ``compute_hours``, ``compute_petaflop``."""
    header = ["Study", "Cells", "Hours", "Peak memory (GB)", "Training (PFLOP)"]
    lines = []
    for row in table.itertuples():
        memory = DASH if pd.isna(row.memory) else f"{row.memory:.1f}"
        lines.append([row.study, f"{row.cells:,}", f"{row.hours:.1f}", memory, f"{row.petaflop:.2f}"])
    numbers.table("compute", header, lines)
    numbers.count("compute_cells", table["cells"].sum(), "cells")
    for name, unit in (("hours", "hours"), ("petaflop", "petaflop")):
        numbers.add(f"compute_{name}", table[name].sum(), f"{table[name].sum():.1f}", unit)
