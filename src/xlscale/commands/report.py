"""``make report``: the answer, claims, figures, numbers and every recorded cell on one page, ``report/index.html``.

Belongs here: what of the checkout goes onto the page. All of it was made by other commands; nothing is computed anew.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from xlscale.commands import status
from xlscale.commands.options import check_out
from xlscale.commands.reproduce import HERE
from xlscale.commands.steps import READS, RECORD, Build, paper_of
from xlscale.core import manifest
from xlscale.core.files import (
    BUILT,
    NOTEBOOKS,
    PAPER,
    REPRODUCTION,
    RESULTS,
    ROOT,
    RUNS,
    XlscaleError,
    read_bytes,
    read_text,
    relative,
    write_text,
)
from xlscale.core.format import percent
from xlscale.experiment import cells, studies
from xlscale.experiment.cells import Cell
from xlscale.experiment.results import Result
from xlscale.experiment.studies import Study
from xlscale.record import store
from xlscale.report import checklist, page, rooms, typeset
from xlscale.report.behind import Behind
from xlscale.report.checklist import Row
from xlscale.report.page import About, Figure, Report
from xlscale.stats import agreement

MAIN = ("published_gain", "gains", "scaling")  # the figure that comes first: the first of these that there is
ANSWER = ("published_answer", "published_answer_breadths")
EXECUTED = "executed.ipynb"
MADE = b'<meta name="generator" content="xlscale">'  # in page.HEAD
WITH_NOTEBOOKS = (HERE, RUNS, RUNS / "verify")  # of cells that were run on this machine


def build(study: str, out: str) -> str:
    """Write ``index.html`` into the folder ``out``, by default ``report`` beside the paper; returns a line about it.

    Raises XlscaleError where the study has no paper yet, and for a folder with something else in it than such a page.
    """
    folder = Path(out).absolute() if out else BUILT.parent / "report"
    _check(folder, out)
    report = gather(study, folder)
    write_text(path := folder / "index.html", page.html(report))
    counts = f"{len(report.cells['rows'])} cells, {len(report.made['numbers'])} numbers, {len(report.figures)} figures"
    return f"{relative(path)}: {counts}, {path.stat().st_size / 1e6:.1f} MB; open it in a browser"


def _check(folder: Path, out: str) -> None:
    """Raise XlscaleError unless the page would be alone in its folder, or take an earlier one's place."""
    page_ = folder / "index.html"
    if folder.is_symlink() or not page_.is_file() or MADE not in read_bytes(page_)[:2000]:
        if folder.is_dir() and not folder.is_symlink():
            manifest.remove_remains([folder])
        check_out(folder, f"OUT={out or folder}", "a new or empty folder, or one with an earlier report")


def gather(study: str, folder: Path) -> Report:
    """What the page of a study shows; ``folder``: where it will lie, from which its links lead."""
    load = cache(studies.load)  # which makes the cells of a study once
    plan = load(study)
    paper = paper_of(study)
    made, known = typeset.merge(paper.out), store.results(void=True)
    table = store.table(known)
    plans = [*{one.name: load(one.name) for one in [*studies.published(), plan]}.values()]
    of_paper = status.paper(paper)
    notebooks = sorted({one["source"] for entries in made.values() for one in entries.values()})
    states = {one.what: one.state + (one.why and f" ({one.why})") for one in of_paper}
    drawn = [(name, one["source"], paper.out / one["file"]) for name, one in made["figures"].items()]
    figures = [Figure(*one, read_bytes(path), states.get(f"{one[1]}: figure {one[0]}", "")) for *one, path in drawn]
    return Report(
        title=(plan.published and _found(PAPER / "paper.typ", r'template\.with\("([^"]+)"')) or plan.title,
        answer=_answer(plan, made["numbers"]),
        slopes=_slopes(made["numbers"]),
        main=next((name for name in MAIN if name in made["figures"]), ""),
        figures=figures,
        claims=_claims(plan, made, of_paper, table[table["cell"].isin([*load(paper.study).conditions()])]),
        note=agreement.EXPLANATION,
        made=made,
        behind=cache(Behind(table, paper.study, load)),
        reads={name: _reads(name) for name in notebooks},
        links={name: _links(name, paper, folder) for name in notebooks},
        cells=page.cells(known, _about(known, table, plans, folder)),
        places={(kind, name): f"{typeset.CALLED[kind]} {n}" for (kind, n), name in typeset.shown(paper.out).items()},
        study="" if study == paper.study else study,
        code=rooms.rooms(),
    )


def _found(path: Path, pattern: str) -> str:
    """What the group of a pattern finds in a text of the checkout, on one line; "" where there is no such text."""
    found = re.search(pattern, read_text(path), re.DOTALL | re.MULTILINE)
    return " ".join(found[1].replace("**", "").split()) if found else ""


def _answer(plan: Study, numbers: dict[str, Any]) -> list[str]:
    """The question and its answer as the README has them, which tells of the paper alone, and the paper's numbers."""
    beginnings = ("How does", r"\*\*The answer so far") if plan.published else ()
    said = [_found(ROOT / "README.md", rf"^({beginning}.*?)\n\n") for beginning in beginnings]
    return [text for text in said if text] + [_sentence(numbers[name]["text"]) for name in ANSWER if name in numbers]


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].removesuffix('.')}."


def _slopes(numbers: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """The slopes of gains on the local ladder: name of the number -> target, and after which data."""
    found = {}
    targets, sets = (str(numbers[name]["value"]).split() if name in numbers else [] for name in ("targets", "sets"))
    for target in targets:
        named = numbers[f"{target}_title"]["text"]
        found |= {f"gainslope_{target}_{one}_summary": (named, numbers[f"{one}_title"]["text"]) for one in sets}
        found[f"gamma_{target}_summary"] = (named, "domain data minus general data")
    return {name: about for name, about in found.items() if name in numbers}


def _claims(plan: Study, made: dict[str, Any], states: Iterable[status.Status], own: pd.DataFrame) -> list[Row]:
    """The table of claims, with what this machine has found; of a study of one's own, those of papers alone. ``own``:
    the recorded cells of the paper's study."""
    if not plan.published:
        return [*checklist.of_papers(made, ("", ""))]
    states = [*states]
    old = sum(one.state in (status.STALE, status.MISSING) for one in states)
    now = (
        f"not so: {old} of {len(states)} are stale or missing; `make paper` makes them again" if old else "so it is now"
    )
    verdicts = {"make status": now, "make reproduce": _agreed()}
    compared = {"make reproduce`": len(Build(cells="stated").chosen()), "make verify N=3 ": 3}
    tolerances = {command: _tolerance(own, count) for command, count in compared.items()}
    rows = [*checklist.of_artifact(read_text(PAPER / "ARTIFACT.md"), verdicts, tolerances)]
    cost = next(((one.time, one.memory) for one in rows if one.command == checklist.REBUILDS), ("", ""))
    return [*rows, *checklist.of_papers(made, cost)]


def _agreed() -> str:
    """What the last comparison with the record said, if code, record and cells are still those; else nothing."""
    if not any(Build(cells=chosen).holds("agreement") for chosen in ("stated", "all")):
        return ""
    compared = pd.read_csv(REPRODUCTION / "agreement.csv")
    return f"{int(compared['agrees'].sum())} of {len(compared)} recomputed cells agree, on this machine"


def _tolerance(own: pd.DataFrame, comparisons: int) -> str:
    limits = agreement.limits(own, comparisons).dropna()
    if limits.empty:
        return "0"
    return f"0 on the record's type of machine, else {percent(limits.min())} to {percent(limits.max())} points"


def _about(known: dict[str, Result], table: pd.DataFrame, plans: list[Study], folder: Path) -> dict[str, About]:
    """What is known of every cell besides its result."""
    made: dict[Any, Cell] = {}
    found, lost = [], {}
    for result in known.values():
        spec = {"id": result.id, "phase": result.phase, "parameters": result.parameters}
        try:
            found.append(cells.from_spec(spec, result.id, made))
        except XlscaleError as error:  # its data or model are no longer those
            lost[result.id] = status.Status(status.STALE, result.id, str(error))
    states = lost | {one.what: one for one in status.cells(found)}
    holding: dict[str, list[str]] = {name: [] for name in known}
    tolerances: dict[str, float] = {}
    trained = [result.id for result in known.values() if result.phase != "pretrained"]
    for plan in plans:
        if not any(map(plan.may_hold, trained)):  # to make the thousands of cells of a study takes seconds
            continue
        ids = [cell.id for cell in plan.cells() if cell.id in holding]
        for name in ids:
            holding[name].append(plan.name)
        if plan.canary or not plan.published:  # as the last cell of a notebook has it: of the first study that counts
            tolerances = agreement.limits(table[table["cell"].isin(ids)], 1).dropna().to_dict() | tolerances
    executed = _executed(folder)
    return {
        name: About(state.state, state.why, tuple(holding[name]), executed.get(name, ""), tolerances.get(name))
        for name in known
        for state in [states[name]]
    }


def _executed(folder: Path) -> dict[str, str]:
    """Name of a cell -> link to its executed notebook, where this machine has run it. Names are those of folders."""
    paths = (path for place in reversed(WITH_NOTEBOOKS) for path in place.glob(f"*/{EXECUTED}"))
    return {path.parent.name: _link(path, folder) for path in paths}


def _links(name: str, paper: Build, folder: Path) -> dict[str, str]:
    """What to look at of an analysis notebook: text -> link."""
    places = {"notebook": NOTEBOOKS / f"{name}.ipynb", "as it ran here": paper.executed / f"{name}.ipynb"}
    places["data (JSON)"] = paper.out / "generated" / f"{name}.json"
    return {text: _link(path, folder) for text, path in places.items() if path.exists()}


def _link(path: Path, folder: Path) -> str:
    return quote(os.path.relpath(path, folder))


def _reads(name: str) -> str:
    """What an analysis notebook reads beside cells, in words."""
    own = [relative(path) for path in READS[name] if path not in RECORD]
    return ", ".join(own) or ("data_manifest" if RESULTS not in READS[name] else "results")
