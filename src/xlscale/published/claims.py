"""The audit of claims: ``paper/claims.yaml`` against the published scores and the local record.

No verdict is written down: it follows from the checks. A claim is contradicted (not reproduced, where the local record
decides) if a deciding check fails, supported (or reproduced) if all of them hold, and undecidable where one has nothing
to look at. What the paper says of it is in ``report.sections.claims``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from xlscale.core.files import PAPER, XlscaleError, relative
from xlscale.core.strict import SHORT, Name, Strict, parse, read_yaml
from xlscale.experiment.conditions import SHUFFLED
from xlscale.published.scores import NOT_TEXT

FILE = PAPER / "claims.yaml"
SUPPORTED = "supported by published numbers"
REPRODUCED, NOT_REPRODUCED = "reproduced locally", "not reproduced locally"
CONTRADICTED = "contradicted"
UNDECIDABLE = "undecidable from what is public"
LOCAL = ("local_gains",)
Select = dict[str, str | list[str]]


class Check(Strict):
    """One check; see the head of ``paper/claims.yaml`` for the kinds and what each of them needs."""

    kind: Literal["value", "difference", "share", "largest", "count", "matches", "local_gains"]
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
    """A claim, the paper and version that make it, and the checks."""

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
    """What a check found. ``holds``: None where there is nothing to look at; then there are no ``facts``.

    ``facts`` depend on the kind of check:

    - value, difference: value and unit ("points", "similarity" or "percent")
    - share: above, of (numbers of rows), low, high (least and greatest difference)
    - largest: rank, of, value, first (who is), first_value, unit
    - count: count
    - matches: fit, of (numbers of rows), others (texts that do not match, sorted)
    - local_gains: of, above, below (numbers of gains)
    """

    holds: bool | None
    facts: dict[str, Any] = field(default_factory=dict)


NOTHING = Finding(None)


@dataclass(frozen=True)
class Evidence:
    """What checks look at: ``scores.table``, and ``stats.slopes.gains`` of the record."""

    scores: pd.DataFrame
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
            if fault := _fault(check) or _fault_of_limits(check):
                raise XlscaleError(f"{where}: {claim.id}: {fault}")
    return found


def _fault(check: Check) -> str:
    """The field that a kind of check needs or does not read, and what is expected; nothing if all is well."""
    needs, of_kind = _NEEDS[check.kind], f"in a check of kind {check.kind!r}"
    if missing := [name for name in needs if getattr(check, name) in ("", None, {})]:
        return f"{missing[0]}: expected one {of_kind}"
    read = {"kind", "role", "say", *needs, *(_LIMITS if check.kind in _SCALES else ())}
    if unread := sorted(check.model_fields_set - read):
        return f"{unread[0]}: expected none {of_kind}, which reads {', '.join(sorted(read))}"
    compared = {"matches": "column", "largest": "by"}.get(check.kind, "")  # with a text
    if compared and getattr(check, compared) in NOT_TEXT:
        return f"{compared}: expected a column of texts {of_kind}, got {SHORT.repr(getattr(check, compared))}"
    return ""


def _fault_of_limits(check: Check) -> str:
    """The limit by which no finding could be judged, and what is expected; nothing if all is well."""
    if check.kind == "count" and (check.expected < 1 or check.expected % 1):
        return f"expected: expected a whole number from 1, got {SHORT.repr(check.expected)}"
    if check.kind not in _SCALES:
        return ""
    low, high = _SCALES[check.kind]
    limits = {name: getattr(check, name) for name in _LIMITS if name in check.model_fields_set}
    for name, limit in limits.items():
        least = 0 if name == "tolerance" else low
        if limit is not None and not least <= limit <= high:
            return f"{name}: expected a number from {least} to {high}, got {SHORT.repr(limit)}"
    if check.expected is None and "tolerance" in limits:
        return "tolerance: expected none without the value in 'expected' that it is of"
    if None not in (check.at_least, check.at_most) and check.at_least > check.at_most:
        return f"at_least: expected at most at_most, {check.at_most:g}, got {check.at_least:g}"
    if check.role == "decides" and {check.expected, check.at_least, check.at_most} == {None}:
        return "expected: expected one, at_least or at_most in a check that decides, which else would always hold"
    return ""


_NEEDS: dict[str, tuple[str, ...]] = {
    "value": ("select",),
    "difference": ("select", "than"),
    "share": ("select",),
    "largest": ("select", "by", "name"),
    "count": ("select", "by", "expected"),
    "matches": ("select", "column", "pattern"),
    "local_gains": (),
}
_LIMITS = ("expected", "tolerance", "at_least", "at_most")
# Of the kinds that read these: from where to where their limits are. Differences are from -1, and so are cosines.
_SCALES = {"value": (-1, 1), "difference": (-1, 1), "share": (0, 1)}


def chosen(scores: pd.DataFrame, select: Select) -> pd.DataFrame:
    """The rows whose columns all match. Raises XlscaleError for an unknown column."""
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
    # The slack allows for differences of printed numbers, which are not exact in binary.
    fits = check.expected is None or abs(value - check.expected) <= check.tolerance + 1e-9
    fits &= check.at_least is None or value >= check.at_least - 1e-9
    return fits and (check.at_most is None or value <= check.at_most + 1e-9)


def _unit(rows: pd.DataFrame) -> str:
    of = {"similarity": "similarity", "difference": "points"}
    return next((unit for measure, unit in of.items() if (rows["measure"] == measure).all()), "percent")


def _value(check: Check, rows: pd.DataFrame, evidence: Evidence) -> Finding:
    mean = float(rows["score"].mean())
    return Finding(_within(check, mean), {"value": mean, "unit": _unit(rows)})


def _difference(check: Check, rows: pd.DataFrame, evidence: Evidence) -> Finding:
    other = chosen(evidence.scores, check.than)
    if other.empty:
        return NOTHING
    value = float(rows["score"].mean() - other["score"].mean())
    unit = "similarity" if _unit(rows) == "similarity" else "points"
    return Finding(_within(check, value), {"value": value, "unit": unit})


def _share(check: Check, rows: pd.DataFrame, evidence: Evidence) -> Finding:
    scores = rows["score"]
    above = int((scores > 0).sum())
    facts = {"above": above, "of": len(rows), "low": scores.min(), "high": scores.max()}
    return Finding(_within(check, above / len(rows)), facts)


def _largest(check: Check, rows: pd.DataFrame, evidence: Evidence) -> Finding:
    means = rows.groupby(check.by)["score"].mean().sort_values(ascending=False)
    if check.name not in means:
        return NOTHING
    rank = int((means > means[check.name]).sum()) + 1  # the first of equals is all of them
    facts = {"rank": rank, "of": len(means), "value": means[check.name], "unit": _unit(rows)}
    return Finding(rank == 1, facts | {"first": means.index[0], "first_value": means.iloc[0]})


def _count(check: Check, rows: pd.DataFrame, evidence: Evidence) -> Finding:
    count = rows[check.by].nunique()
    return Finding(count == check.expected, {"count": count})


def _matches(check: Check, rows: pd.DataFrame, evidence: Evidence) -> Finding:
    fits = rows[check.column].map(lambda text: fnmatchcase(text, check.pattern))
    others = sorted(rows.loc[~fits, check.column].unique())
    return Finding(not others, {"fit": int(fits.sum()), "of": len(rows), "others": others})


def _local_gains(check: Check, rows: pd.DataFrame, evidence: Evidence) -> Finding:
    real = evidence.gains[~evidence.gains["condition"].str.endswith(SHUFFLED)].dropna(subset=["estimate"])
    if real.empty:
        return NOTHING
    above, below = int((real["low"] > 0).sum()), int((real["high"] < 0).sum())
    return Finding(above > 0 and not below, {"of": len(real), "above": above, "below": below})


_KINDS: dict[str, Callable[[Check, pd.DataFrame, Evidence], Finding]] = {
    "value": _value,
    "difference": _difference,
    "share": _share,
    "largest": _largest,
    "count": _count,
    "matches": _matches,
    "local_gains": _local_gains,
}


def run(check: Check, evidence: Evidence) -> Finding:
    """What a check finds; nothing where no score is selected."""
    for column in filter(None, (check.by, check.column)):
        if column not in evidence.scores:
            raise XlscaleError(f"claims.yaml: by, column: unknown column {column!r}")
    rows = evidence.scores if check.kind in LOCAL else chosen(evidence.scores, check.select)
    return NOTHING if rows.empty and check.kind not in LOCAL else _KINDS[check.kind](check, rows, evidence)


def verdict(claim: Claim, findings: list[Finding]) -> str:
    """What follows from the findings of a claim's checks."""
    deciding = [(check, found) for check, found in zip(claim.checks, findings, strict=True) if check.role == "decides"]
    failed = [check for check, found in deciding if found.holds is False]
    if failed:  # that a small ladder does not show it contradicts nobody
        return NOT_REPRODUCED if all(check.kind in LOCAL for check in failed) else CONTRADICTED
    if any(found.holds is None for _, found in deciding):
        return UNDECIDABLE
    kinds = {REPRODUCED if check.kind in LOCAL else SUPPORTED for check, _ in deciding}
    return "; ".join(sorted(kinds, reverse=True))
