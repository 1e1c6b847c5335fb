"""The audit of claims: ``paper/claims.yaml`` against the published scores and the local record.

No verdict is written down: it follows from the checks. A claim is contradicted if a deciding check fails, supported (or
reproduced, where the local record decides) if all of them hold, and undecidable where one finds nothing to look at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pandas as pd

from xlscale.core.files import PAPER, XlscaleError, relative
from xlscale.core.strict import Name, Strict, parse, read_yaml
from xlscale.experiment.cells import SHUFFLED
from xlscale.report.describe import listing, percent, signed

if TYPE_CHECKING:
    from xlscale.report.typeset import Numbers

FILE = PAPER / "claims.yaml"
SUPPORTED = "supported by published numbers"
REPRODUCED = "reproduced locally"
CONTRADICTED = "contradicted"
UNDECIDABLE = "undecidable from what is public"
PHASES = ("pretrained", "intermediate", "target")
LOCAL = ("phases", "local_gains")
Select = dict[str, str | list[str]]


class Check(Strict):
    """One check; see the head of ``paper/claims.yaml`` for the kinds and what each of them needs."""

    kind: Literal["value", "difference", "share", "largest", "count", "matches", "phases", "local_gains"]
    role: Literal["decides", "context"] = "decides"
    say: str = ""
    select: Select = {}
    than: Select = {}
    expected: float | int | None = None
    tolerance: float = 0.0
    at_least: float | None = None
    at_most: float | None = None
    by: str = ""
    name: str = ""
    column: str = ""
    pattern: str = ""


class Claim(Strict):
    """A claim, whose it is, in which version of the paper, and the checks."""

    id: Name
    paper: Name
    version: Literal["first", "final", "both"]
    claim: str
    would_decide: str
    checks: list[Check]


class Claims(Strict):
    """``paper/claims.yaml``; ``papers`` gives the short name of every paper."""

    papers: dict[Name, str]
    claims: list[Claim]


@dataclass(frozen=True)
class Finding:
    """``holds``: None where there is nothing to look at; ``text``: what was found, in words."""

    holds: bool | None
    text: str


@dataclass(frozen=True)
class Evidence:
    """What checks look at: ``scores.table``, and of the record ``record.cells`` and ``stats.slopes.gains``."""

    scores: pd.DataFrame
    cells: pd.DataFrame
    gains: pd.DataFrame


def load(path: Path = FILE) -> Claims:
    """Read and check the claims. Raises XlscaleError naming file, claim and field."""
    where = relative(path)
    found = parse(Claims, read_yaml(path), where)
    ids = [claim.id for claim in found.claims]
    for claim in found.claims:
        if claim.paper not in found.papers:
            raise XlscaleError(f"{where}: {claim.id}: paper: expected one of {', '.join(found.papers)}")
        if ids.count(claim.id) > 1:
            raise XlscaleError(f"{where}: {claim.id}: id: expected every id once")
        if not any(check.role == "decides" for check in claim.checks):
            raise XlscaleError(f"{where}: {claim.id}: checks: expected at least one that decides")
        for check in claim.checks:
            missing = [name for name in _NEEDS[check.kind] if getattr(check, name) in ("", None, {})]
            if missing:
                raise XlscaleError(f"{where}: {claim.id}: {missing[0]}: expected one in a check of kind {check.kind!r}")
    return found


_NEEDS: dict[str, tuple[str, ...]] = {
    "value": ("select",),
    "difference": ("select", "than"),
    "share": ("select",),
    "largest": ("select", "by", "name"),
    "count": ("select", "by", "expected"),
    "matches": ("select", "column", "pattern"),
    "phases": (),
    "local_gains": (),
}


def chosen(scores: pd.DataFrame, select: Select) -> pd.DataFrame:
    """The rows whose columns all match. Raises XlscaleError for a column that there is not."""
    keep = pd.Series(True, index=scores.index)
    for column, wanted in select.items():
        if column not in scores:
            raise XlscaleError(f"claims.yaml: select: unknown column {column!r}")
        patterns = [wanted] if isinstance(wanted, str) else wanted
        fits = {text: any(fnmatchcase(str(text), one) for one in patterns) for text in scores[column].unique()}
        keep &= scores[column].map(fits)
    return scores[keep]


def _within(check: Check, value: float) -> bool:
    """Whether a value is as claimed; a check without a limit only reports."""
    # Half a unit of the last place that is printed: differences of printed numbers are not exact in binary.
    slack = check.tolerance + 1e-9
    fits = check.expected is None or abs(value - check.expected) <= slack
    fits &= check.at_least is None or value >= check.at_least - 1e-9
    return fits and (check.at_most is None or value <= check.at_most + 1e-9)


def _limit(check: Check, write: Callable[[float], str]) -> str:
    limits = {"claimed": check.expected, "at least": check.at_least, "at most": check.at_most}
    parts = [f"{word} {write(limit)}" for word, limit in limits.items() if limit is not None]
    return f" ({', '.join(parts)})" if parts else ""


def _points(value: float) -> str:
    return f"{signed(value)} points"


def _value(check: Check, rows: pd.DataFrame, evidence: Evidence) -> Finding:
    mean = float(rows["score"].mean())
    if (rows["measure"] == "similarity").all():
        return Finding(_within(check, mean), f"{mean:.5g}" + _limit(check, "{:.5g}".format))
    write = _points if (rows["measure"] == "difference").all() else percent
    return Finding(_within(check, mean), write(mean) + _limit(check, write))


def _difference(check: Check, rows: pd.DataFrame, evidence: Evidence) -> Finding:
    other = chosen(evidence.scores, check.than)
    if other.empty:
        return Finding(None, "")
    value = float(rows["score"].mean() - other["score"].mean())
    if (rows["measure"] == "similarity").all():
        return Finding(_within(check, value), f"{value:+.3f}" + _limit(check, "{:+.3f}".format))
    return Finding(_within(check, value), _points(value) + _limit(check, _points))


def _share(check: Check, rows: pd.DataFrame, evidence: Evidence) -> Finding:
    above = int((rows["score"] > 0).sum())
    spread = f"{_points(rows['score'].min())} to {signed(rows['score'].max())}"
    return Finding(_within(check, above / len(rows)), f"{above} of {len(rows)} above zero ({spread})")


def _largest(check: Check, rows: pd.DataFrame, evidence: Evidence) -> Finding:
    means = rows.groupby(check.by)["score"].mean().sort_values(ascending=False)
    if check.name not in means:
        return Finding(None, "")
    place = list(means.index).index(check.name) + 1
    write = _points if (rows["measure"] == "difference").all() else percent
    own = f"{check.name} is number {place} of {len(means)} ({write(means[check.name])})"
    return Finding(place == 1, own if place == 1 else f"{own}; first is {means.index[0]} ({write(means.iloc[0])})")


def _count(check: Check, rows: pd.DataFrame, evidence: Evidence) -> Finding:
    count = rows[check.by].nunique()
    return Finding(count == check.expected, f"{count} (claimed {check.expected:g})")


def _matches(check: Check, rows: pd.DataFrame, evidence: Evidence) -> Finding:
    fits = [fnmatchcase(text, check.pattern) for text in rows[check.column]]
    others = sorted({text for text, fit in zip(rows[check.column], fits, strict=True) if not fit})
    example = "" if all(fits) else f"; not so: {others[0]}" + (f" and {len(others) - 1} more" if others[1:] else "")
    return Finding(all(fits), f"{sum(fits)} of {len(fits)}{example}")


def _phases(check: Check, rows: pd.DataFrame, evidence: Evidence) -> Finding:
    done = evidence.cells[evidence.cells["status"] == "complete"]["phase"].value_counts()
    found = [phase for phase in PHASES if phase in done]
    if len(found) < len(PHASES):
        return Finding(None, "")
    return Finding(True, "complete cells: " + listing(f"{done[phase]} {phase}" for phase in PHASES))


def _local_gains(check: Check, rows: pd.DataFrame, evidence: Evidence) -> Finding:
    real = evidence.gains[~evidence.gains["condition"].str.endswith(SHUFFLED)].dropna(subset=["estimate"])
    if real.empty:
        return Finding(None, "")
    above, below = int((real["low"] > 0).sum()), int((real["high"] < 0).sum())
    text = f"local ladder: of {len(real)} gains (set, target and rung), {above} above zero and {below} below"
    return Finding(above > 0 and not below, text)


_KINDS: dict[str, Callable[[Check, pd.DataFrame, Evidence], Finding]] = {
    "value": _value,
    "difference": _difference,
    "share": _share,
    "largest": _largest,
    "count": _count,
    "matches": _matches,
    "phases": _phases,
    "local_gains": _local_gains,
}


def run(check: Check, evidence: Evidence) -> Finding:
    """What a check finds; nothing where no score is selected."""
    rows = evidence.scores
    if check.kind not in LOCAL:
        rows = chosen(evidence.scores, check.select)
        if rows.empty:
            return Finding(None, "")
    found = _KINDS[check.kind](check, rows, evidence)
    return Finding(found.holds, f"{check.say}: {found.text}" if check.say and found.text else found.text)


def verdict(claim: Claim, findings: list[Finding]) -> str:
    """What follows from the findings of a claim's checks."""
    deciding = [(check, found) for check, found in zip(claim.checks, findings, strict=True) if check.role == "decides"]
    if any(found.holds is False for _, found in deciding):
        return CONTRADICTED
    if any(found.holds is None for _, found in deciding):
        return UNDECIDABLE
    kinds = {REPRODUCED if check.kind in LOCAL else SUPPORTED for check, _ in deciding}
    return "; ".join(sorted(kinds, reverse=True))


def audit(claims: Claims, evidence: Evidence) -> pd.DataFrame:
    """A row per claim: id, paper, version, claim, verdict, found (text), would_decide ("" unless undecidable)."""
    rows = []
    for claim in claims.claims:
        findings = [run(check, evidence) for check in claim.checks]
        told = verdict(claim, findings)
        found = "; ".join(found.text for found in findings if found.text)
        missing = claim.would_decide if told == UNDECIDABLE else ""
        rows.append((claim.id, claims.papers[claim.paper], claim.version, claim.claim, told, found, missing))
    columns = ["id", "paper", "version", "claim", "verdict", "found", "would_decide"]
    return pd.DataFrame(rows, columns=columns)


def add(numbers: Numbers, table: pd.DataFrame) -> None:
    """The audit's table and the numbers of claims by verdict, for the paper."""
    for key, words in (("supported", SUPPORTED), ("reproduced", REPRODUCED), ("contradicted", CONTRADICTED),
                       ("undecidable", UNDECIDABLE)):  # fmt: skip
        count = int(table["verdict"].str.contains(words, regex=False).sum())
        numbers.add(f"claims_{key}", count, str(count), "claims")
        numbers.add(f"claims_{key}_word", None, words)
    numbers.add("claims_total", len(table), str(len(table)), "claims")
    numbers.add("claims_papers", table["paper"].nunique(), str(table["paper"].nunique()), "papers")
    rows = []
    for row in table.itertuples():
        rest = f"Would decide it: {row.would_decide}" if row.would_decide else ""
        version = "" if row.version == "both" else f" [{row.version} version]"
        rows.append([row.paper, row.claim + version, row.verdict, ". ".join(filter(None, [row.found, rest])) or "–"])
        numbers.add(f"claim_{row.id}", None, row.verdict)
    numbers.table("claims", ["Paper", "Claim", "Verdict", "Found"], rows)
