"""``make status``: which figures, numbers and cells are what the present code and data give, without computing any.

What the states mean, MEANS says. A notebook's numbers say what they were made from (see ``steps``); a receipt, or a run
of a cell in ``runs/``, says that this machine has made them too. A user's own cards and studies make nothing stale.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from xlscale.commands.reproduce import HERE
from xlscale.commands.steps import CARDS, MADE_FROM, Build, paper_of
from xlscale.core.checkout import git
from xlscale.core.files import ROOT, RUNS, STUDIES, XlscaleError, read_json, relative, sha256_file
from xlscale.experiment import results, studies
from xlscale.experiment.cells import Cell
from xlscale.experiment.results import Result
from xlscale.record import canary, store
from xlscale.report import typeset

FRESH, UNVERIFIED, STALE, MISSING = STATES = ("fresh", "unverified", "stale", "missing")
MEANS = {
    FRESH: "made on this machine from what is here now",
    UNVERIFIED: "made from what is here now, as hashes tell; `make reproduce` makes it again on this machine",
    STALE: "not wrong, but what it was made from has changed; `make paper` makes figures and numbers again",
    MISSING: "not there; `make paper` makes figures and numbers, `make record` runs cells",
}
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
    build = paper_of(study)
    made, found = paper(build), cells(chosen)
    print(f"Paper of study {build.study} in {relative(build.out)}:", *_shown(made), sep="\n")
    counts = Counter(one.state for one in found)
    print(f"Cells of study {study}: {', '.join(f'{counts[state]} {state}' for state in STATES if counts[state])}")
    named = [one for one in found if one.state in (STALE, MISSING)]
    for one in named[:SHOWN]:
        print(one)
    if len(named) > SHOWN:
        print(f"  and {len(named) - SHOWN} more")
    print(*(f"{state}: {MEANS[state]}" for state in STATES if state in {one.state for one in made + found}), sep="\n")


def _shown(found: list[Status]) -> list[str]:
    """A line for each; a reason that is that of the line above is not told again."""
    above = ["", *(one.why for one in found[:-1])]
    pairs = zip(found, above, strict=True)
    return [str(one._replace(why="as above") if one.why and one.why == why else one) for one, why in pairs]


def paper(build: Build) -> list[Status]:
    """The status of what every notebook makes, in the order of the steps, and of the PDF."""
    found = [one for name in build.notebooks for one in _notebook(build, name)]
    stale = sorted({one.what.partition(":")[0] for one in found if one.state in (STALE, MISSING)})
    pdf, what = build.out / "paper.pdf", "paper.pdf"
    if not pdf.exists():
        return [*found, Status(MISSING, what)]
    if not stale and (
        (build.receipt("paper").exists() and not build.holds("paper")) or not typeset.of_this_text(build.out)
    ):
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
    here = build.holds(name) or _by_hand(name, now, made)
    state = STALE if changed else FRESH if here else UNVERIFIED
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


def _by_hand(name: str, now: dict[str, str], made: dict[str, Any]) -> bool:
    """Whether `make notebook` has made the same on this machine, from what is here now."""
    folder = RUNS / "by-hand" / name
    try:
        again = typeset.generated(folder / "generated" / f"{name}.json")
        return read_json(folder / MADE_FROM) == now and all(again[kind] == made[kind] for kind in typeset.KINDS)
    except XlscaleError:
        return False


def _changed(now: dict[str, str], before: dict[str, str]) -> str:
    return ", ".join(part for part in now | before if now.get(part) != before.get(part))


@cache
def _own() -> frozenset[Path]:
    """The cards and studies of this checkout that are its user's own, which the paper does not read: those that git
    does not know."""
    command = ("ls-files", "--others", "-z", "--", *map(str, (*CARDS, STUDIES)))
    try:
        found = git(*command).decode(errors="surrogateescape").split("\0")
    except XlscaleError:
        return frozenset()
    return frozenset(ROOT / name for name in found if name)


def cells(chosen: list[Cell], runs: Sequence[Path] = (HERE, RUNS)) -> list[Status]:
    """The status of the recorded results of cells, which may have been run again in one of ``runs``."""
    every = store.results(void=True)
    counting = store.results()
    known: dict[tuple[str, str, str], bool] = {}

    def accepted(result: Result) -> bool:  # the stamps are read once per code, not for each of thousands of cells
        if (key := canary.key(result)) not in known:
            known[key] = canary.accepted(result)
        return known[key]

    return [_cell(cell, every.get(cell.id), cell.id in counting, accepted, runs) for cell in chosen]


def _cell(
    cell: Cell, recorded: Result | None, counts: bool, accepted: Callable[[Result], bool], runs: Sequence[Path]
) -> Status:
    if recorded is None:
        return Status(MISSING, cell.id, "not in the record")
    if not counts:
        return Status(STALE, cell.id, "the present code gives something else")
    if not accepted(recorded):
        return Status(STALE, cell.id, "its code has changed, and no canary has been run")
    mine, folder = _run_here(cell, runs)
    if mine is None:
        return Status(UNVERIFIED, cell.id)
    if (mine.status, mine.predictions_sha256) == (recorded.status, recorded.predictions_sha256):
        return Status(FRESH, cell.id)
    here, there = (one.environment.get("machine") for one in (mine, recorded))
    if here != there:
        return Status(UNVERIFIED, cell.id)
    return Status(STALE, cell.id, f"{relative(folder)} has other predictions")


def _run_here(cell: Cell, runs: Sequence[Path]) -> tuple[Result | None, Path]:
    """The result of a cell on this machine, the first of ``runs`` that has one, and its folder."""
    for place in runs:
        try:
            if mine := results.result_of(cell, place):
                return mine, place / cell.id
        except XlscaleError:
            continue
    return None, RUNS
