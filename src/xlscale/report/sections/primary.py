"""The primary analysis in words, numbers and tables, for ``05_significance.ipynb``. A word such as "falls" needs both
scales to agree, and a null is called one only where it is shown to be small.
"""

from __future__ import annotations

import pandas as pd

from xlscale.core.format import DASH, listing, percent, probability
from xlscale.report.labels import POINTS, label, title
from xlscale.report.numbers import Numbers
from xlscale.report.sections.results import INTERVAL, PER_TEN, add_estimate, estimate
from xlscale.stats import groups, primary

SCALES = {"accuracy": "points", "log": "log ratio"}
UNITS = {"accuracy": PER_TEN, "log": PER_TEN.replace(POINTS, "log ratio")}
HOW = {"accuracy": {"digits": 1, "factor": 100}, "log": {"digits": 2, "factor": 1}}
LEFT_OUT = {
    "nothing": "nothing",
    "set": "the set",
    "target": "the target",
    "rung": "the rung of layers",
    "languages": "languages:",
    "same source": "pairs of a set and a target from one source",
}


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
    alpha = 1 - groups.LEVEL
    significant, signs = found["holm"] < alpha, found["estimate"] > 0
    if significant.all() and signs.nunique() == 1:
        return "rises with size" if signs.iloc[0] else "falls with size"
    if significant.any():
        return "depends on the scale, so that no direction is claimed"
    small = [
        primary.equivalence(found.loc[scale], bounds[scale]) < alpha for scale in primary.SCALES if scale in bounds
    ]
    return "does not change by as much as would matter" if small and all(small) else "is undecided"


def add(numbers: Numbers, table: pd.DataFrame, bounds: dict[str, dict[str, float]]) -> None:
    """Add beta and gamma of every family and scale (``beta_<family>_<scale>``, with ``_interval`` and
    ``_detectable``), a verdict per family, and the table ``primary``. ``table`` is that of ``primary.primary``."""
    lines = []
    for row in table.to_dict("records"):
        name, how = f"{row['quantity']}_{row['family']}_{row['scale']}", HOW[row["scale"]]
        texts = add_estimate(numbers, name, row, UNITS[row["scale"]], **how)
        tests = [probability(row[p]) if row["quantity"] == "beta" else DASH for p in ("p", "holm")]
        about = [{"beta": "β", "gamma": "γ"}[row["quantity"]], row["family"], SCALES[row["scale"]]]
        lines.append([*about, *texts, *tests, str(row["sets"]), str(row["runs"])])
    header = ["", "Family", "Scale", "Estimate", INTERVAL, "Detectable", "p", "p (Holm)", "Sets", "Runs"]
    numbers.table("primary", header, lines)
    for family, own in table[table["quantity"] == "beta"].groupby("family", sort=False):
        numbers.words(f"beta_{family}_word", verdict(own, bounds.get(family, {})))
        numbers.words(f"beta_{family}_targets", listing(map(title, own["targets"].iloc[0])))


def add_left_out(numbers: Numbers, family: str, found: pd.DataFrame) -> None:
    """Add the table ``left_out_<family>``: beta without each part, on both scales; ``found`` as
    ``sensitivity.left_out`` has it."""
    lines = []
    for (what, name), own in found.groupby(["left_out", "name"], sort=False):
        by_scale = own.set_index("scale")
        shown = f"{LEFT_OUT[what]} {title(name) if what in ('set', 'target') else name}".strip()
        lines.append([shown, *(text for scale in SCALES for text in estimate(by_scale.loc[scale], **HOW[scale]))])
    header = ["Left out", *(text for scale in SCALES.values() for text in (f"β, {scale}", INTERVAL))]
    numbers.table(f"left_out_{family}", header, lines)


def add_models(numbers: Numbers, family: str, drawn: pd.DataFrame, mixed: dict[str, object]) -> None:
    """Add the table ``models_<family>``: beta in points with bootstrap intervals and those of the crossed mixed model,
    whose fallback is said in ``mixed_<family>_note``."""
    lines = [[f"bootstrap of {row['sampled']}", *estimate(row)] for row in drawn.to_dict("records")]
    lines.append(["crossed mixed model", *estimate(mixed)])
    numbers.table(f"models_{family}", ["Interval", "β, points", INTERVAL], lines)
    numbers.words(f"mixed_{family}_note", str(mixed["note"]) or "converged")


def add_failures(numbers: Numbers, found: pd.DataFrame) -> None:
    """Add the table ``failures`` and their share; ``found`` is that of ``primary.failures``."""
    header = {"condition": "Intermediate training", "layers": "Layers", "runs": "Runs"}
    header |= {"failed": "Failed", "collapsed": "Learned nothing"}
    rows = found.assign(condition=found["condition"].map(label))[[*header]].to_numpy()
    numbers.table("failures", [*header.values()], rows)
    share = (found["failed"] + found["collapsed"]).sum() / max(found["runs"].sum(), 1)
    numbers.add("failures_share", share, percent(share), "%")
