"""What a change of code means for the record: stamps in ``results/fingerprints.json``.

When the code behind recorded cells changes, ``make canary`` runs a few stated ones again. Equal predictions stamp the
new code as equivalent to the recorded one; different predictions void what the old code recorded.
"""

from __future__ import annotations

from functools import partial
from itertools import product
from pathlib import Path
from typing import Literal

from xlscale.core import manifest
from xlscale.core.files import RESULTS, Phase, XlscaleError, read_json, relative, write_json
from xlscale.core.strict import SHORT, Sha256, Strict, parse
from xlscale.experiment import cells
from xlscale.experiment.results import Result

FILE = "fingerprints.json"


class Stamp(Strict):
    """The outcome of one canary run."""

    phase: Phase
    recorded: Sha256
    current: Sha256
    verdict: Literal["equivalent", "different"]
    cells: list[str]
    machine: str


def stamps(folder: Path = RESULTS) -> list[Stamp]:
    """All stamps beside a record, oldest first; raises XlscaleError naming the file when it is broken."""
    path = Path(folder) / FILE
    if not path.exists():
        return []
    manifest.verify(path, Path(folder))
    where = relative(path)
    if not isinstance(found := read_json(path), list):
        raise XlscaleError(f"{where}: expected a list of stamps, got {SHORT.repr(found)}")
    return [parse(Stamp, entry, where) for entry in found]


def code(result: Result) -> str:
    """Fingerprint of the present code behind a recorded cell; its own where its parameters name what is not here."""
    try:
        return cells.code(result.phase, result.parameters, result.environment.get("backend"))
    except XlscaleError:
        return result.fingerprint


def key(result: Result) -> tuple[Phase, str, str]:
    """(phase, recorded code, present code) of a recorded cell."""
    return result.phase, result.fingerprint, code(result)


def void(found: dict[str, Result], folder: Path = RESULTS) -> set[str]:
    """Ids of recorded cells whose code, or one that is tied to it, the present code was found to differ from.

    Going back to the recorded code brings its cells back: the stamp is about a pair of codes.
    """
    known = stamps(folder)
    different = {(s.phase, s.recorded, s.current) for s in known if s.verdict == "different"}
    doubted = {(phase, one) for phase, recorded, _ in different for one in _tied(phase, recorded, known)}
    found = {name: result for name, result in found.items() if (result.phase, result.fingerprint) in doubted}
    voided = {
        (phase, old, new)
        for phase, old, new in _changed(found, known)  # of the rest the present code need not be known
        if {(phase, *pair) for pair in product(_tied(phase, old, known), _tied(phase, new, known))} & different
    }
    return {name for name, result in found.items() if key(result) in voided}


def accepted(result: Result, folder: Path = RESULTS) -> bool:
    """Whether the code of a result is the present one, or tied to it by a chain of stamps."""
    return result.fingerprint in linked(result.phase, code(result), folder)


def linked(phase: Phase, fingerprint: str, folder: Path = RESULTS) -> set[str]:
    """Fingerprints that a chain of stamps ties to ``fingerprint`` as equivalent, itself among them."""
    return _tied(phase, fingerprint, stamps(folder))


def _tied(phase: Phase, fingerprint: str, known: list[Stamp]) -> set[str]:
    found = {fingerprint}
    pairs = [(s.recorded, s.current) for s in known if s.phase == phase and s.verdict == "equivalent"]
    while more := {one for pair in pairs if found & set(pair) for one in pair} - found:
        found |= more
    return found


def changed(found: dict[str, Result], folder: Path = RESULTS) -> set[tuple[Phase, str, str]]:
    """(phase, recorded code, present code) of recorded cells, where the two are not known to be equivalent."""
    return _changed(found, stamps(folder))


def _changed(found: dict[str, Result], known: list[Stamp]) -> set[tuple[Phase, str, str]]:
    pairs = {key(result) for result in found.values()}
    return {(phase, old, new) for phase, old, new in pairs if old not in _tied(phase, new, known)}


def stamp(folder: Path, pairs: list[tuple[Result, Result]]) -> list[Stamp]:
    """Compare results of two codes on one type of machine, and write what follows for each phase and pair of codes.

    ``pairs``: (by the recorded code, by the present code). A cell that fails now and did not before, or the other way
    round, has different predictions. Raises XlscaleError for results of two machines.
    """
    for old, new in pairs:
        was, here = (one.environment.get("machine") for one in (old, new))
        if None not in (was, here) and was != here:
            raise XlscaleError(f"{old.id}: machine: expected {here!r}, to compare bit for bit, got {was!r}")
    groups: dict[tuple[Phase, str, str], list[tuple[Result, Result]]] = {}
    for old, new in pairs:
        groups.setdefault((old.phase, old.fingerprint, new.fingerprint), []).append((old, new))
    found = [
        Stamp(
            phase=phase,
            recorded=recorded,
            current=current,
            verdict="equivalent" if all(_same(old, new) for old, new in part) else "different",
            cells=sorted(old.id for old, _ in part),
            machine=part[0][0].environment.get("machine", "unknown"),
        )
        for (phase, recorded, current), part in sorted(groups.items())
    ]
    with manifest.alone(Path(folder)):
        all_stamps = [s.model_dump() for s in [*stamps(folder), *found]]
        manifest.write(Path(folder), {FILE: partial(write_json, value=all_stamps)})
    return found


def _same(old: Result, again: Result) -> bool:
    """Whether two runs of a cell give the same predictions, or fail for the same reason."""
    return (old.status, old.reason, old.predictions_sha256) == (again.status, again.reason, again.predictions_sha256)
