"""What the audit of claims found, in words, for ``09_claims.ipynb``: a sentence per check, a row per claim."""

from __future__ import annotations

import pandas as pd

from xlscale.core.format import DASH, percent, signed
from xlscale.published import claims
from xlscale.published.claims import Check, Claims, Evidence, Finding
from xlscale.report.numbers import Numbers

_VERDICTS = {
    "supported": claims.SUPPORTED,
    "reproduced": claims.REPRODUCED,
    "not_reproduced": claims.NOT_REPRODUCED,
    "contradicted": claims.CONTRADICTED,
    "undecidable": claims.UNDECIDABLE,
}


def audit(found: Claims, evidence: Evidence) -> pd.DataFrame:
    """A row per claim: id, paper, version, claim, verdict, found (text), would_decide ("" unless undecidable)."""
    rows = []
    for claim in found.claims:
        findings = [claims.run(check, evidence) for check in claim.checks]
        verdict = claims.verdict(claim, findings)
        texts = [sentence(check, finding) for check, finding in zip(claim.checks, findings, strict=True)]
        missing = claim.would_decide if verdict == claims.UNDECIDABLE else ""
        about = (claim.id, found.papers[claim.paper], claim.version, claim.claim)
        rows.append((*about, verdict, "; ".join(filter(None, texts)), missing))
    columns = ["id", "paper", "version", "claim", "verdict", "found", "would_decide"]
    return pd.DataFrame(rows, columns=columns)


def sentence(check: Check, finding: Finding) -> str:
    """A finding in words, after what the check says of itself; "" where there was nothing to look at."""
    if finding.holds is None:
        return ""
    text = _text(check, finding.facts)
    return f"{check.say}: {text}" if check.say else text


def _text(check: Check, facts: dict) -> str:
    match check.kind:
        case "value" | "difference":
            return _valued(check, facts["value"], facts["unit"])
        case "share":
            spread = f"{_points(facts['low'])} to {signed(facts['high'])}"
            return f"{facts['above']} of {facts['of']} above zero ({spread})"
        case "largest":
            write = _points if facts["unit"] == "points" else percent
            own = f"{check.name} is number {facts['rank']} of {facts['of']} ({write(facts['value'])})"
            return own if facts["rank"] == 1 else f"{own}; first is {facts['first']} ({write(facts['first_value'])})"
        case "count":
            return f"{facts['count']} (claimed {check.expected:g})"
        case "matches":
            first, more = facts["others"][:1], len(facts["others"]) - 1
            example = f"; not so: {first[0]}" + (f" and {more} more" if more else "") if first else ""
            return f"{facts['fit']} of {facts['of']}{example}"
        case "local_gains":
            counts = f"{facts['above']} above zero and {facts['below']} below"
            return f"local ladder: of {facts['of']} gains (set, target and rung), {counts}"


def _points(value: float) -> str:
    return f"{signed(value)} points"


def _valued(check: Check, value: float, unit: str) -> str:
    """A value beside what was claimed of it."""
    similarity = "{:+.3f}" if check.kind == "difference" else "{:.5g}"
    write = {"points": _points, "percent": percent, "similarity": similarity.format}[unit]
    limits = {"claimed": check.expected, "at least": check.at_least, "at most": check.at_most}
    parts = [f"{word} {write(limit)}" for word, limit in limits.items() if limit is not None]
    return write(value) + (f" ({', '.join(parts)})" if parts else "")


def add(numbers: Numbers, table: pd.DataFrame) -> None:
    """The audit's table and the numbers of claims by verdict, for the paper."""
    for key, words in _VERDICTS.items():
        said = table["verdict"].str.split("; ").map(lambda parts, words=words: words in parts)
        numbers.count(f"claims_{key}", said.sum(), "claims")
        numbers.words(f"claims_{key}_word", words)
    numbers.count("claims_total", len(table), "claims")
    numbers.count("claims_papers", table["paper"].nunique(), "papers")
    rows = []
    for row in table.itertuples():
        rest = f"Would decide it: {row.would_decide}" if row.would_decide else ""
        version = "" if row.version == "both" else f" [{row.version} version]"
        found = ". ".join(filter(None, [row.found, rest])) or DASH
        rows.append([row.paper, row.claim + version, row.verdict, found])
        numbers.words(f"claim_{row.id}", row.verdict)
    numbers.table("claims", ["Paper", "Claim", "Verdict", "Found"], rows)
