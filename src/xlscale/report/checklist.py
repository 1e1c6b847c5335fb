"""The claims of this artifact and those of papers, as rows of one table: what is claimed, found and expected, and the
command that checks it.

Belongs here: reading them from where they stand, ``paper/ARTIFACT.md`` and ``paper/claims.yaml``, and from the numbers
of ``09_claims``. No verdict is made here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from xlscale.core.files import XlscaleError
from xlscale.core.format import DASH
from xlscale.published import claims
from xlscale.published.claims import Check

HEADER = ["claim", "command", "time, memory", "what you should see"]  # of the table in ARTIFACT.md
REBUILDS = "`make paper`"  # the command of the claims of papers
UNKNOWN = "not checked on this machine"
_MEMORY = re.compile(r"[0-9.]+ GB")
# What has to hold of a check for which no number is stated.
_HOLDS = {"local_gains": "some gains above zero, none below", "largest": "{name} first", "matches": "all as {pattern}"}


class Row(NamedTuple):
    """A claim; texts in which code stands between backticks."""

    claim: str
    verdict: str
    command: str
    time: str
    memory: str
    expected: str
    tolerance: str


def of_artifact(text: str, verdicts: Mapping[str, str], tolerances: Mapping[str, str]) -> Iterator[Row]:
    """The claims of ``ARTIFACT.md``, of which ``text`` is. ``verdicts`` and ``tolerances``: by the beginning of a
    command, as "make verify". Raises XlscaleError where the text has no table of claims."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    if lines[:1] != [HEADER]:
        raise XlscaleError(f"paper/ARTIFACT.md: expected a table with the columns {', '.join(HEADER)}")
    command = ""
    for claim, own, cost, expected in lines[2:]:
        command = command if own == "the same" else own
        memory = _MEMORY.search(cost)
        time = cost.replace(memory[0] if memory else "", "").strip(" ,;")
        of = [next((one[key] for key in one if own.startswith(f"`{key}")), None) for one in (verdicts, tolerances)]
        yield Row(claim, of[0] or UNKNOWN, command, time, memory[0] if memory else DASH, expected, of[1] or DASH)


def of_papers(made: Mapping[str, Any], cost: tuple[str, str]) -> Iterator[Row]:
    """The claims of papers with their verdicts in ``made``, as ``typeset.merge`` has it; none where they were not
    audited. ``cost``: time and memory of REBUILDS."""
    found = claims.load()
    evidence = {claim: text for _, claim, _, text in made["tables"].get("claims", {"rows": []})["rows"]}
    for one in found.claims:
        if (verdict := made["numbers"].get(f"claim_{one.id}")) is None:
            continue
        deciding = [check for check in one.checks if check.role == "decides"]
        limits = [_number(check.tolerance) for check in deciding if check.expected is not None]
        expected, tolerance = "; ".join(map(_expected, deciding)), "; ".join(dict.fromkeys(limits)) or DASH
        said = f"{found.papers[one.paper]}: {one.claim}"
        because = next((text for claim, text in evidence.items() if claim.startswith(one.claim)), "")
        yield Row(said, "; ".join(filter(None, (verdict["text"], because))), REBUILDS, *cost, expected, tolerance)


def _expected(check: Check) -> str:
    """What a check wants, in words."""
    limits = {"": check.expected, "at least ": check.at_least, "at most ": check.at_most}
    parts = [f"{word}{_number(limit)}" for word, limit in limits.items() if limit is not None]
    parts += [_HOLDS[check.kind].format(**vars(check))] if check.kind in _HOLDS else []
    return f"{check.say}: {', '.join(parts)}" if check.say else ", ".join(parts)


def _number(value: float) -> str:
    """Without an exponent: proportions are 0 to 1, and so are tolerances."""
    return f"{value:.6f}".rstrip("0").rstrip(".")
