"""``make status``: which figures, numbers and cells are what the present code and data give, without computing any.

fresh: made on this machine from what is here now. unverified: made from what is here now, as far as hashes tell, and
not made again on this machine. stale: made from something else, which is named. missing: not there.

A notebook's numbers say what they were made from (see ``steps``); a receipt or a cell in ``runs/reproduce/`` says that
this machine has made them too. A user's own cards and studies make nothing stale.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from xlscale.commands import checkouts
from xlscale.commands.reproduce import HERE
from xlscale.commands.steps import CARDS, Build
from xlscale.core.files import ROOT, STUDIES, XlscaleError, relative, sha256_file
from xlscale.experiment import results, studies
from xlscale.experiment.cells import Cell
from xlscale.experiment.results import Result
from xlscale.record import canary, store
from xlscale.report import typeset

FRESH, UNVERIFIED, STALE, MISSING = STATES = ("fresh", "unverified", "stale", "missing")
SHOWN = 12  # cells that are named; the rest is counted


class Status(NamedTuple):
    """The state of something, one of STATES, and what has changed or is not there."""

    state: str
    what: str
    why: str = ""

    def __str__(self) -> str:
        return f"  {self.state:<{max(map(len, STATES))}}  {self.what}{self.why and f': {self.why}'}"


def run(study: str) -> None:
    """Print the status of every figure, every notebook's numbers, the PDF and the study's cells."""
    chosen = studies.load(study).cells()
    build = Build(study) if studies.workplace(study) else Build()  # those that are published have one paper
    print(f"Paper of study {build.study} in {relative(build.out)}:", *paper(build), sep="\n")
    found = cells(chosen)
    counts = Counter(one.state for one in found)
    print(f"Cells of study {study}: {', '.join(f'{counts[state]} {state}' for state in STATES if counts[state])}")
    named = [one for one in found if one.state in (STALE, MISSING)]
    for one in named[:SHOWN]:
        print(one)
    if len(named) > SHOWN:
        print(f"  and {len(named) - SHOWN} more")


def paper(build: Build) -> list[Status]:
    """The status of what every notebook makes, in the order of the steps, and of the PDF."""
    found = [one for name in build.notebooks for one in _notebook(build, name)]
    stale = sorted({one.what.partition(":")[0] for one in found if one.state in (STALE, MISSING)})
    pdf, what = build.out / "paper.pdf", "paper.pdf"
    if not pdf.exists():
        return [*found, Status(MISSING, what)]
    if not stale and build.receipt("paper").exists() and not build.holds("paper"):
        stale = ["its text, or what is built of it"]
    if stale:
        return [*found, Status(STALE, what, ", ".join(stale))]
    return [*found, Status(FRESH if build.holds("paper") else UNVERIFIED, what)]


def _notebook(build: Build, name: str) -> list[Status]:
    """The status of the figures of a notebook, and of its numbers and tables together."""
    path = build.out / "generated" / f"{name}.json"
    if not path.exists():
        return [Status(MISSING, f"{name}: figures and numbers", relative(path))]
    try:
        made, now = typeset.generated(path), build.made_from(name)
    except XlscaleError as error:  # of a file that no notebook has left so
        return [Status(STALE, f"{name}: figures and numbers", str(error))]
    before = made.get("made_from", {})
    changed = _changed(now, before)
    if changed and before and not studies.workplace(build.study) and (own := _own()):
        changed = _changed(build.made_from(name, own), before)
    why = changed if before else "run by hand, not said from what"
    state = STALE if changed else FRESH if build.holds(name) else UNVERIFIED
    found = []
    for figure, about in made["figures"].items():
        drawn = build.out / about["file"]
        if not drawn.exists():
            found.append(Status(MISSING, f"{name}: figure {figure}", relative(drawn)))
        elif sha256_file(drawn) != about["sha256"]:
            found.append(Status(STALE, f"{name}: figure {figure}", f"{relative(drawn)}, changed by hand"))
        else:
            found.append(Status(state, f"{name}: figure {figure}", why))
    counts = f"{len(made['numbers'])} numbers and {len(made['tables'])} tables"
    return [*found, Status(state, f"{name}: {counts}", why)]


def _changed(now: dict[str, str], before: dict[str, str]) -> str:
    return ", ".join(part for part in now | before if now.get(part) != before.get(part))


@cache
def _own() -> frozenset[Path]:
    """The cards and studies of this checkout that are its user's own, which the paper does not read: those that git
    does not know."""
    command = ("ls-files", "--others", "--exclude-standard", "-z", "--", *map(str, (*CARDS, STUDIES)))
    try:
        found = checkouts.git(*command).decode(errors="surrogateescape").split("\0")
    except XlscaleError:
        return frozenset()
    return frozenset(ROOT / name for name in found if name)


def cells(chosen: list[Cell], runs: Path = HERE) -> list[Status]:
    """The status of the recorded results of cells."""
    every = store.results(void=True)
    counting = store.results()
    known: dict[tuple[str, str, str], bool] = {}

    def accepted(result: Result) -> bool:  # the stamps are read once per code, not for each of thousands of cells
        if (key := canary.key(result)) not in known:
            known[key] = canary.accepted(result)
        return known[key]

    return [_cell(cell, every.get(cell.id), cell.id in counting, accepted, runs) for cell in chosen]


def _cell(cell: Cell, recorded: Result | None, counts: bool, accepted: Callable[[Result], bool], runs: Path) -> Status:
    if recorded is None:
        return Status(MISSING, cell.id, "not in the record")
    if not counts:
        return Status(STALE, cell.id, "the present code gives something else")
    if not accepted(recorded):
        return Status(STALE, cell.id, "its code has changed, and no canary has been run")
    try:
        mine = results.result_of(cell, runs)
    except XlscaleError:
        mine = None
    if mine is None:
        return Status(UNVERIFIED, cell.id)
    if (mine.status, mine.predictions_sha256) == (recorded.status, recorded.predictions_sha256):
        return Status(FRESH, cell.id)
    here, there = (one.environment.get("machine") for one in (mine, recorded))
    if here != there:
        return Status(UNVERIFIED, cell.id)
    return Status(STALE, cell.id, f"{relative(runs / cell.id)} has other predictions")
