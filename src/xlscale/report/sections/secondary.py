"""What the primary analysis rests on, and what stands beside it, as tables for ``05_significance.ipynb``: sensitivity,
targets and languages one by one, the same predictions item by item, and a second ladder. Nothing here is a primary
test.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from xlscale.core.format import DASH, listing, percent, probability
from xlscale.report.labels import layers, title
from xlscale.report.numbers import Numbers
from xlscale.report.sections.primary import DISAGREE, HOW, SCALES, UNCLAIMED, UNITS, WORDS, direction
from xlscale.report.sections.results import INTERVAL, add_estimate, estimate
from xlscale.stats import groups, language_groups, primary
from xlscale.stats.items import MEAN
from xlscale.stats.sensitivity import ARMS

# Changes of ``sensitivity.table``, in the order in which they are printed.
CHANGES = {
    "nothing": "the primary analysis",
    "set": "without {}",
    "target": "without {}",
    "rung": "without the rung of {}",
    "languages": "without languages: {}",
    "same source": "without pairs of a set and a target from one source",
    "collapsed": "without runs that learned nothing",
    "above": "above {}",
    "bootstrap": "bootstrap of {}",
    "mixed model": "crossed mixed model",
    "arm": "{}",
}
NAMES = {
    "set": title,
    "target": title,
    "rung": lambda name: layers(int(name)),
    "bootstrap": {"all three": "sets, targets and languages"}.get,
    "arm": ARMS.get,
}
CHANGE = "Slope of the gain"
# What is said of a second ladder where it is no direction.
OTHERWISE = {"": "shows no change with size that can be told from zero", DISAGREE: UNCLAIMED}


def add_sensitivity(numbers: Numbers, family: str, table: pd.DataFrame) -> None:
    """Add the table ``sensitivity_<family>``, a row per change with beta on every scale, and what became of the mixed
    model (``mixed_<family>_note``); ``table`` is that of ``sensitivity.table``."""
    lines = []
    for change in CHANGES:
        for name, own in table[table["change"] == change].groupby("name", sort=False):
            by_scale, first = own.set_index("scale"), own.iloc[0]
            shown = NAMES.get(change, str)(name) or f"{name}s"
            counts = [str(first[count]) for count in ("targets", "sets", "runs")]
            lines.append([CHANGES[change].format(shown), *counts, *(_beta(by_scale, scale) for scale in SCALES)])
    header = ["Analysis", "Targets", "Sets", "Runs", *(f"β, {name} ({INTERVAL})" for name in SCALES.values())]
    numbers.table(f"sensitivity_{family}", header, lines)
    notes = table[(table["change"] == "mixed model") & (table["note"] != "")]
    texts = [f"{SCALES[row.scale]}: {row.note}" for row in notes.itertuples()]
    numbers.words(f"mixed_{family}_note", "; ".join(texts) or "converged on all scales")


def add_second(numbers: Numbers, model: str, second: pd.DataFrame, first: pd.DataFrame) -> None:
    """Add what the ``model`` of a second ladder is called, its beta (``second_<family>_<scale>``, with ``_interval``
    and ``_detectable``), what it says in words, and the table ``second``, where that of the first ladder stands beside
    it; both are as ``primary.primary`` gives them. It is described, not tested, so that no p value is printed."""
    numbers.words("second_model", title(model).partition(",")[0])
    lines = []
    for family, own in second[second["quantity"] == "beta"].groupby("family", sort=False):
        other = first[(first["quantity"] == "beta") & (first["family"] == family)].set_index("scale")
        for _, row in own.iterrows():
            scale = row["scale"]
            texts = add_estimate(numbers, f"second_{family}_{scale}", row, UNITS[scale], **HOW[scale])
            facts = [str(row["sets"]), str(row["runs"])]
            lines.append([family, SCALES[scale], *texts, *facts, _beta(other, scale)])
        word = direction(own, "p")
        numbers.words(f"second_{family}_word", OTHERWISE.get(word, f"{word} with size"))
        numbers.words(f"second_{family}_targets", listing(map(title, own["targets"].iloc[0])))
    header = ["Family", "Scale", "β", INTERVAL, "Detectable", "Sets", "Runs", f"First ladder ({INTERVAL})"]
    numbers.table("second", header, lines)


def _beta(by_scale: pd.DataFrame, scale: str) -> str:
    """An estimate with its interval, a dash where the scale has none. What does not vary says nothing of others, so
    that its interval is none, never exact."""
    if scale not in by_scale.index or pd.isna(by_scale.loc[scale, "estimate"]):
        return DASH
    row = by_scale.loc[scale]
    ends = (row["low"], row["high"]) if row["low"] < row["high"] else (float("nan"),) * 2
    value, within = estimate({"estimate": row["estimate"], "low": ends[0], "high": ends[1]}, **HOW[scale])
    return f"{value} ({within})"


def add_targets(numbers: Numbers, targets: pd.DataFrame, languages: pd.DataFrame) -> None:
    """Add the table ``beta_targets``, a row per target, and ``beta_languages_<target>``, a row per language.

    Both are as ``by_language`` has them. p values are adjusted within a table, on each scale; "rises" and "falls" need
    both scales.
    """
    lines = []
    for target, own in targets.groupby("target", sort=False):
        tables = dict(iter(languages[languages["target"] == target].groupby("language")))
        words = {code: direction(part, "adjusted") for code, part in tables.items()}
        counts = (str(sum(word == one for word in words.values())) for one in (*WORDS.values(), DISAGREE))
        facts = [str(own.iloc[0][count]) for count in ("sets", "runs")]
        lines.append([title(target), *_tests(own), *facts, f"{', '.join(counts)} of {len(words)}"])
        rows = [[code, *_group(code), *_tests(tables[code])] for code in tables]
        numbers.table(f"beta_languages_{target}", ["Language", "Script", "Seen", *_TESTS], rows)
    header = ["Target", *_TESTS, "Sets", "Runs", "Languages"]
    numbers.table("beta_targets", header, lines)


_TESTS = [text for scale in primary.SCALES for text in (f"β, {SCALES[scale]} ({INTERVAL})", "p (BH)")] + [CHANGE]


def _tests(own: pd.DataFrame) -> list[str]:
    by_scale = own.set_index("scale")
    pairs = ((_beta(by_scale, scale), probability(by_scale.loc[scale, "adjusted"])) for scale in primary.SCALES)
    return [*(text for pair in pairs for text in pair), direction(own, "adjusted") or DASH]


def _group(code: str) -> tuple[str, str]:
    script, seen = language_groups.of(code)
    return script, "yes" if seen else "no"


def add_items(numbers: Numbers, found: pd.DataFrame) -> None:
    """Add the table ``items``, a row per target and rung with the mean over languages, and ``items_<target>``, a row
    per language; ``found`` is that of ``items.compare``, at one rung or several."""
    lines = []
    for (target, rung), own in found.groupby(["target", "layers"], sort=False):
        mean, each = own[own["language"] == MEAN].iloc[0], own[own["language"] != MEAN]
        sure = each[each["adjusted"] < 1 - groups.LEVEL]
        counts = [(sure["difference"] > 0).sum(), (sure["difference"] < 0).sum(), len(each)]
        scores = [percent(mean[side] / 100) for side in ("a", "b")]
        facts = [str(mean["runs"]), f"{mean['items']:,}"]
        lines.append(
            [title(target), str(rung), *facts, *scores, _item(mean), probability(mean["p"]), *map(str, counts)]
        )
    header = ["Target", "Layers", "Runs", "Items", "After", "Without", f"Gain ({INTERVAL})", "p"]
    numbers.table("items", [*header, "Languages: gain", "loss", "of"], lines)
    for target, own in found[found["language"] != MEAN].groupby("target", sort=False):
        rungs = sorted(own["layers"].unique())
        by_rung = {rung: own[own["layers"] == rung].set_index("language") for rung in rungs}
        rows = [
            [code, *(text for rung in rungs for text in _by_item(by_rung[rung], code))]
            for code in own["language"].unique()
        ]
        columns = [text for rung in rungs for text in (f"Gain, {layers(rung)} ({INTERVAL})", "p (Holm)")]
        numbers.table(f"items_{target}", ["Language", *columns], rows)


def _by_item(own: pd.DataFrame, code: str) -> tuple[str, str]:
    return (_item(own.loc[code]), probability(own.loc[code, "adjusted"])) if code in own.index else (DASH, DASH)


def _item(row: Mapping[str, Any]) -> str:
    """A difference in points with its interval."""
    value, within = estimate({"estimate": row["difference"], "low": row["low"], "high": row["high"]}, 1, 1)
    return f"{value} ({within})"
