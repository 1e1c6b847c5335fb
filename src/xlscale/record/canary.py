"""What a change of code means for the record: stamps in ``results/fingerprints.json``.

When the fingerprint of a phase changes, ``make canary`` reruns a few stated cells. Equal predictions stamp the new
code as equivalent to the recorded one; different predictions void what the old code recorded for that phase.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from xlscale.core import fingerprint
from xlscale.core.files import RESULTS, Phase, read_json, relative, write_json
from xlscale.core.strict import Sha256, Strict, parse
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
    return [parse(Stamp, entry, relative(path)) for entry in read_json(path)]


def void(folder: Path = RESULTS) -> set[tuple[str, str]]:
    """(phase, fingerprint) of recorded code that the present code was found to differ from.

    Going back to the recorded code brings its cells back: the stamp is about a pair of codes.
    """
    found = set()
    for stamp in stamps(folder):
        known = accepted(stamp.phase, folder)
        if stamp.verdict == "different" and stamp.current in known and stamp.recorded not in known:
            found.add((stamp.phase, stamp.recorded))
    return found


def accepted(phase: Phase, folder: Path = RESULTS) -> set[str]:
    """Fingerprints that the present code of ``phase`` stands for: its own and all that a chain of stamps ties to it."""
    return linked(phase, fingerprint.of_phase(phase), folder)


def linked(phase: Phase, code: str, folder: Path = RESULTS) -> set[str]:
    """Fingerprints that a chain of stamps ties to ``code`` as equivalent, itself among them."""
    found = {code}
    pairs = [(s.recorded, s.current) for s in stamps(folder) if s.phase == phase and s.verdict == "equivalent"]
    while more := {code for pair in pairs if found & set(pair) for code in pair} - found:
        found |= more
    return found


def changed(found: dict[str, Result], folder: Path = RESULTS) -> dict[Phase, set[str]]:
    """phase -> recorded fingerprints that the present code is not known to be equivalent to."""
    recorded: dict[Phase, set[str]] = {}
    for result in found.values():
        recorded.setdefault(result.phase, set()).add(result.fingerprint)
    return {phase: old for phase, all_ in recorded.items() if (old := all_ - accepted(phase, folder))}


def stamp(folder: Path, pairs: list[tuple[Result, Result]]) -> list[Stamp]:
    """Compare (recorded, rerun) results of one machine type and write what follows for each phase and recorded code.

    A cell that fails now and did not before, or the other way round, has different predictions.
    """
    groups: dict[tuple[Phase, str], list[tuple[Result, Result]]] = {}
    for old, again in pairs:
        groups.setdefault((old.phase, old.fingerprint), []).append((old, again))
    new = [
        Stamp(
            phase=phase,
            recorded=code,
            current=part[0][1].fingerprint,
            verdict="equivalent" if all(_same(old, again) for old, again in part) else "different",
            cells=sorted(old.id for old, _ in part),
            machine=part[0][0].environment.get("machine", "unknown"),
        )
        for (phase, code), part in sorted(groups.items())
    ]
    write_json(Path(folder) / FILE, [s.model_dump() for s in [*stamps(folder), *new]])
    return new


def _same(old: Result, again: Result) -> bool:
    return (old.status, old.predictions_sha256) == (again.status, again.predictions_sha256)
