"""Recomputed beside recorded: the table, its text, the overlaid figure, and the last cell of a phase notebook."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from xlscale.core.files import Phase
from xlscale.core.format import percent
from xlscale.experiment.results import Result
from xlscale.record import canary, store
from xlscale.stats import agreement


def table(recorded: dict[str, Result], mine: dict[str, Result]) -> pd.DataFrame:
    """One row per recomputed cell: cell, recorded, yours, tolerance, verdict, agrees; see ``stats.agreement``."""
    return agreement.compare(store.table(recorded), store.table(mine))


def markdown(title: str, table: pd.DataFrame, recorded: dict[str, Result], changed: Iterable[Phase]) -> str:
    """The agreement table as Markdown, with the machines and a remark on phases whose code has changed."""
    machines = sorted({result.environment.get("machine", "unknown") for result in recorded.values()})
    lines = [f"# Agreement with the record: {title}", ""]
    lines += [f"Machine of the record: {'; '.join(machines) or 'none'}.", ""]
    lines += ["| cell | recorded | yours | tolerance | verdict |", "| --- | ---: | ---: | ---: | --- |"]
    for row in table.itertuples():
        values = " | ".join(percent(value, 2) for value in (row.recorded, row.yours, row.tolerance))
        lines.append(f"| {row.cell} | {values} | {row.verdict} |")
    good = int(table["agrees"].sum())
    lines += ["", f"**{good} of {len(table)} recomputed cells agree.** {agreement.EXPLANATION}"]
    for phase in sorted(changed):
        lines.append(f"The code of phase {phase} has changed since the record: `make canary` tells what that means.")
    return "\n".join(lines) + "\n"


def overlay(recorded: dict[str, Result], mine: dict[str, Result], path: Path) -> None:
    """Draw the main figure with the recomputed points over the recorded ones to ``path`` (.svg and .pdf)."""
    from xlscale.report.figures import ladder, style

    style.save(ladder.overlay(store.table(recorded, "target"), store.table(mine, "target")), path)


def against_record(result: Result) -> pd.DataFrame:
    """What the last cell of a phase notebook shows: this run's value beside the recorded one, with a verdict."""
    results = store.results()
    found, recorded = table(results, {result.id: result}), results.get(result.id)
    code = "same code" if recorded and canary.accepted(recorded) else "changed since the record"
    return found.drop(columns="agrees").assign(code=code)
