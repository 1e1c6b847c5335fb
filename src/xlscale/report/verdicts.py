"""Recomputed beside recorded: the table, its text, the overlaid figure, and the last cell of a phase notebook."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from xlscale.core.files import RESULTS, Phase, relative
from xlscale.core.format import percent
from xlscale.experiment import studies
from xlscale.experiment.results import Result
from xlscale.record import canary, store
from xlscale.report import markup
from xlscale.stats import agreement


def table(recorded: dict[str, Result], mine: dict[str, Result]) -> pd.DataFrame:
    """One row per recomputed cell: cell, recorded, yours, tolerance, verdict, agrees; see ``stats.agreement``."""
    return agreement.compare(store.table(recorded), store.table(mine))


def markdown(
    title: str,
    compared: pd.DataFrame,
    recorded: dict[str, Result],
    mine: dict[str, Result],
    changed: Iterable[Phase],
) -> str:
    """``table`` of these results as Markdown, with the machines and a remark on phases whose code has changed."""
    lines = [f"# Agreement with the record: {markup.markdown(title)}", ""]
    lines += [f"Machine of the record: {_machines(recorded)}.", f"This machine: {_machines(mine)}.", ""]
    lines += ["| cell | recorded | yours | tolerance | verdict |", "| --- | ---: | ---: | ---: | --- |"]
    for row in compared.itertuples():
        values = " | ".join(percent(value, 2) for value in (row.recorded, row.yours, row.tolerance))
        lines.append(f"| {row.cell} | {values} | {row.verdict} |")
    lines += ["", *_said(compared, recorded)]
    for phase in sorted(changed):
        lines.append(f"The code of phase {phase} has changed since the record: `make canary` tells what that means.")
    return "\n".join(lines) + "\n"


def compared_any(compared: pd.DataFrame) -> bool:
    """Whether any cell of ``table`` is in the record: of none, nothing is confirmed."""
    return bool((compared["verdict"] != agreement.ABSENT).any())


def _said(compared: pd.DataFrame, recorded: dict[str, Result]) -> list[str]:
    if not recorded:
        return [f"**This study has no record: nothing was compared.** `make record` makes one in {relative(RESULTS)}."]
    if not compared_any(compared):
        return ["**None of the recomputed cells is in the record: nothing was compared.**"]
    held = compared[compared["verdict"] != agreement.ABSENT]
    said = [f"**{int(held['agrees'].sum())} of {len(held)} recomputed cells agree.** {agreement.EXPLANATION}"]
    if absent := len(compared) - len(held):
        said.append(f"{absent} of the recomputed cells are not in the record: nothing is claimed about them.")
    return said


def _machines(results: dict[str, Result]) -> str:
    machines = {result.environment.get("machine", "unknown") for result in results.values()}
    return "; ".join(sorted(markup.markdown(str(name)) for name in machines)) or "none"


def overlay(recorded: dict[str, Result], mine: dict[str, Result], path: Path) -> None:
    """Draw the main figure with the recomputed points over the recorded ones to ``path`` (.svg and .pdf)."""
    from xlscale.report.figures import ladder, style

    style.save(style.draw(ladder.overlay(store.table(recorded, "target"), store.table(mine, "target"))), path)


def against_record(result: Result) -> pd.DataFrame:
    """What the last cell of a phase notebook shows: this run's value beside the recorded one, with a verdict.

    The tolerance is that of the first recorded study that holds the cell.
    """
    known = store.results()
    recorded = known.get(result.id)
    if recorded:
        ids = studies.holding(result.id)
        known = {name: one for name, one in known.items() if name in ids}
    found = table(known if recorded else {}, {result.id: result})
    same = "same code" if recorded and canary.accepted(recorded) else "changed since the record"
    return found.drop(columns="agrees").assign(code=same if recorded else agreement.ABSENT)
