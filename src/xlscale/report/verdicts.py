"""Recomputed beside recorded: the table, its text, the overlaid figure, and the last cell of a phase notebook."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from xlscale.core.files import BUILT, RESULTS, Phase, relative
from xlscale.core.format import percent, signed
from xlscale.experiment import studies
from xlscale.experiment.results import Result
from xlscale.record import canary, homes, store
from xlscale.report import labels, markup
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
    machines, *said = sentences(compared, recorded, mine, changed)
    lines = [f"# Agreement with the record: {markup.markdown(title)}", "", machines, ""]
    lines += ["| cell | recorded | yours | tolerance | verdict |", "| --- | ---: | ---: | ---: | --- |"]
    for row in compared.itertuples():
        values = " | ".join(percent(value, 2) for value in (row.recorded, row.yours, row.tolerance))
        lines.append(f"| {row.cell} | {values} | {row.verdict} |")
    return "\n".join([*lines, "", *said]) + "\n"


def sentences(
    compared: pd.DataFrame, recorded: dict[str, Result], mine: dict[str, Result], changed: Iterable[Phase]
) -> list[str]:
    """The machines of the record and of this run, the verdict, and what else there is to say, as Markdown."""
    found = [f"Machine of the record: {_machines(recorded)}.\nThis machine: {_machines(mine)}."]
    found += _said(compared, recorded)
    for phase in sorted(changed):
        found.append(f"The code of phase {phase} has changed since the record: `make canary` tells what that means.")
    return found


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


def sentence(compared: pd.Series) -> str:
    """A row of ``table`` in words: the value, the recorded one, and what their difference means."""
    row, near = compared, pd.notna(compared["tolerance"])
    here, there = f"{percent(row['yours'], 2)}% here", f"{percent(row['recorded'], 2)}% in the record"
    limit = f"{percent(row['tolerance'], 2)} points" if near else "nothing, as no seed is repeated"
    said = {
        "equal": f"{here}, as in the record.",
        "within tolerance": f"{here}, {there}: within the tolerance of {limit}.",
        "differs": f"{here}, {there}: this differs, by {signed(row['difference'], 2)} points; allowed is {limit}.",
        "failed": f"failed here, {there}.",
        "failed both times": "failed here, as in the record.",
        agreement.ABSENT: f"{here}; this cell is not in the record.",
    }[row["verdict"]]
    if row["verdict"] == "differs" and row["tolerance"] == 0:
        said = f"{here}, {there}: this differs. On a machine of the record's type predictions have to be equal."
    return f"{row['cell']}: {said}"


def of_one(result: Result) -> pd.DataFrame:
    """``table`` of one run. The tolerance is that of the first recorded study that holds the cell."""
    return _beside(result, store.results(homes.of(result.id)))


def _beside(result: Result, known: dict[str, Result]) -> pd.DataFrame:
    if result.id in known:
        ids = studies.holding(result.id) or {result.id}
        known = {name: one for name, one in known.items() if name in ids}
        return table(known, {result.id: result})
    return table({}, {result.id: result})


def against_record(result: Result) -> pd.DataFrame:
    """What the last cell of a phase notebook shows: this run's value beside the recorded one, with a verdict, which is
    also printed as a sentence."""
    record = homes.of(result.id)
    known = store.results(record)
    found, recorded = _beside(result, known), known.get(result.id)
    print(sentence(found.iloc[0]))
    same = "same code" if recorded and canary.accepted(recorded, record) else "changed since the record"
    return found.drop(columns="agrees").assign(code=same if recorded else agreement.ABSENT)


def printed(result: Result) -> str:
    """What the paper prints of runs like this one, in a sentence; nothing where it prints no mean of them."""
    from xlscale.report import typeset
    from xlscale.report.behind import Behind

    p = result.parameters
    name = f"{p.get('target')}_{labels.key(store.describe(result)['condition'])}_k{p['layers']}"
    if (number := typeset.built(BUILT).get("numbers", {}).get(name)) is None:
        return ""
    runs = Behind(store.table(store.results()), studies.MAIN)(number["source"], name)
    if result.id not in runs:
        return ""
    of = f"the mean of {len(runs)} runs, this one among them" if len(runs) > 1 else "of this run alone"
    return f"The paper prints {number['text']}%, {of} ({name})."
