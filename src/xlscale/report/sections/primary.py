"""The primary analysis in words, numbers and tables, for ``05_significance.ipynb``. A word such as "falls" needs both
scales to agree, and a null is called one only where it is shown to be small.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd

from xlscale.core.format import DASH, listing, percent, probability
from xlscale.report.labels import POINTS, label, title
from xlscale.report.numbers import Numbers
from xlscale.report.sections.results import INTERVAL, PER_TEN, add_estimate
from xlscale.stats import groups, primary

SCALES = {"accuracy": "points", "log": "log ratio", "logit": "log odds"}
UNITS = {"accuracy": PER_TEN, "log": PER_TEN.replace(POINTS, "log ratio")}
HOW = {"accuracy": {"digits": 1, "factor": 100}, "log": {"digits": 2, "factor": 1}, "logit": {"digits": 2, "factor": 1}}
WORDS = {1: "rises", -1: "falls"}
DISAGREE = "depends on the scale"
# Verdicts where no direction is claimed.
UNCLAIMED = f"has a direction that {DISAGREE}, so that none is claimed"
SMALL, OPEN = "does not change by as much as would matter", "shows neither a change nor that there is none"


def direction(found: pd.DataFrame, p: str) -> str:
    """ "rises" or "falls" where the test in the column ``p`` is significant on both scales of the primary analysis with
    one sign, DISAGREE where on one of them or with two signs, else nothing. ``found``: a row per scale."""
    by_scale = found.set_index("scale").loc[list(primary.SCALES)]
    significant, signs = by_scale[p] < 1 - groups.LEVEL, np.sign(by_scale["estimate"])
    if not significant.any():
        return ""
    return WORDS[signs.iloc[0]] if significant.all() and signs.nunique() == 1 else DISAGREE


def verdict(rows: pd.DataFrame, bounds: dict[str, float]) -> str:
    """What the tests of one family say of beta, in words; ``rows`` are its two of ``primary.primary``, ``bounds`` the
    smallest effect of interest by scale.

    A direction needs a significant test, after Holm's correction, on both scales with one sign. Otherwise the gain is
    called unchanged where two one-sided tests reject a change as large as the bounds on both scales.
    """
    by_scale = rows.set_index("scale")
    found = by_scale.loc[list(primary.SCALES)]
    if found["p"].isna().any():
        return "cannot be tested with these runs"
    if word := direction(rows, "holm"):
        return UNCLAIMED if word == DISAGREE else f"{word} with size"
    small = [equivalent(found.loc[scale], bounds.get(scale)) < 1 - groups.LEVEL for scale in primary.SCALES]
    return SMALL if all(small) else OPEN


def together(verdicts: Collection[str]) -> str:
    """What the verdicts of all families come to, as the paper's sentences are chosen by: "change" where a direction is
    claimed for one at least, "null" where all are shown to be small, else "open"."""
    if any(verdict == f"{word} with size" for verdict in verdicts for word in WORDS.values()):
        return "change"
    return "null" if verdicts and {*verdicts} == {SMALL} else "open"


def equivalent(row: pd.Series, bound: float | None) -> float:
    """p of ``primary.equivalence`` of a row of ``primary.primary``; NaN where the plan states no bound."""
    return float("nan") if bound is None else primary.equivalence(row, bound)


def add(numbers: Numbers, table: pd.DataFrame, bounds: dict[str, dict[str, float]]) -> None:
    """Add beta and gamma of every family and scale (``beta_<family>_<scale>``, with ``_interval`` and
    ``_detectable``), a verdict per family, and the table ``primary``.

    ``table`` is that of ``primary.primary``, ``bounds`` are the smallest effects of interest by family and scale.
    """
    lines = []
    for _, row in table.iterrows():
        name, how = f"{row['quantity']}_{row['family']}_{row['scale']}", HOW[row["scale"]]
        texts = add_estimate(numbers, name, row, UNITS[row["scale"]], **how)
        small = equivalent(row, bounds.get(row["family"], {}).get(row["scale"]))
        tests = [probability(p) for p in (row["p"], row["holm"])] + [DASH if pd.isna(small) else probability(small)]
        tests = tests if row["quantity"] == "beta" else [DASH] * len(tests)
        about = [{"beta": "β", "gamma": "γ"}[row["quantity"]], row["family"], SCALES[row["scale"]]]
        lines.append([*about, *texts, *tests, str(row["sets"]), str(row["runs"])])
    header = [
        "",
        "Family",
        "Scale",
        "Estimate",
        INTERVAL,
        "Detectable",
        "p",
        "p (Holm)",
        "p (no more than matters)",
        "Sets",
        "Runs",
    ]
    numbers.table("primary", header, lines)
    verdicts = {}
    for family, own in table[table["quantity"] == "beta"].groupby("family", sort=False):
        verdicts[family] = verdict(own, bounds.get(family, {}))
        numbers.words(f"beta_{family}_word", verdicts[family])
        numbers.words(f"beta_{family}_targets", listing(map(title, own["targets"].iloc[0])))
    numbers.words("beta_verdict", together(verdicts.values()))


def add_failures(numbers: Numbers, found: pd.DataFrame) -> None:
    """Add the table ``failures`` and their share; ``found`` is that of ``primary.failures``."""
    header = {"condition": "Intermediate training", "layers": "Layers", "runs": "Runs"}
    header |= {"failed": "Failed", "collapsed": "Learned nothing"}
    rows = found.assign(condition=found["condition"].map(label))[[*header]].to_numpy()
    numbers.table("failures", [*header.values()], rows)
    share = (found["failed"] + found["collapsed"]).sum() / max(found["runs"].sum(), 1)
    numbers.add("failures_share", share, percent(share), "%")
