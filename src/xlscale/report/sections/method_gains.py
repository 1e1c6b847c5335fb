"""What training methods add to plain fine-tuning by language, and what goes with it, for ``11_methods.ipynb``.

Units: percentage points and log odds. Shown is what is recorded: a method on a target at a rung once all its seeds are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from xlscale.cards import typology
from xlscale.core.files import RESULTS
from xlscale.core.format import interval, listing, percent, probability, signed, slug
from xlscale.experiment import conditions, studies
from xlscale.record import store
from xlscale.report.labels import label, title
from xlscale.report.numbers import Numbers
from xlscale.stats import groups, language_groups, method_gains, method_languages
from xlscale.stats.method_gains import DIRECTIONS, MEAN

STUDY = "methods"
OVER = "wordnet_class"  # the set that some methods train on in another way
FEATURES = {"syntax": "Per tenth of distance", "script": "Other scripts less Latin"}
UNIT = {"syntax": 0.1, "script": 1.0}  # of a feature, in which a slope is printed
KEYS = ["target", "layers", "condition"]


class Found(NamedTuple):
    """``gains``: over plain fine-tuning, as ``stats.method_gains`` has them; ``over``: the same over plain training on
    OVER, of the methods that train on it otherwise; ``slopes``: as ``stats.method_languages`` has them."""

    gains: pd.DataFrame
    over: pd.DataFrame
    slopes: pd.DataFrame


def recorded(folder: Path = RESULTS) -> pd.DataFrame:
    """The recorded cells of STUDY, all or some, as ``store.cells`` has them, with the names of the study."""
    names = studies.load(STUDY).conditions() if STUDY in studies.names() else {}
    known = store.cells(folder)
    return store.named(known[known["cell"].isin(names)], names)


def state(own: pd.DataFrame) -> str:
    """A sentence that says how much of STUDY is recorded."""
    if STUDY not in studies.names():
        return f"There is no study {STUDY} here, so there is nothing to show."
    planned = len(studies.load(STUDY).cells())
    more = "" if len(own) == planned else f"; `make record STUDY={STUDY}` runs the others"
    return f"{len(own)} of {planned} cells of the study {STUDY} are recorded{more}."


def short(condition: str) -> str:
    """A condition for a figure or a narrow column: without what all of a kind have in common."""
    return label(condition).removeprefix("no intermediate training, ").replace(" (general)", "")


def compare(own: pd.DataFrame, folder: Path = RESULTS) -> Found:
    """Compare all that is recorded; ``own`` is that of ``recorded``. Raises XlscaleError as ``method_gains.read``."""
    known = typology.distances()
    features = {
        "syntax": {code: one.syntax for code, one in known.items()},
        "script": {code: float(language_groups.script(code) != "Latin") for code in known},
    }
    family = {code: one.family for code, one in known.items()}
    here = {*groups.completed(own)[["target", "layers"]].itertuples(index=False, name=None)}
    targets = studies.load(STUDY).targets if here else []
    gains, over, slopes = [], [], []
    for target, layers in sorted(here, key=lambda one: (targets.index(one[0]), one[1])):
        runs = method_gains.read(own, folder, target, layers)
        if runs is None:
            continue
        gains.append(method_gains.gains(runs))
        slopes.append(method_languages.associations(runs, features, family))
        part = own[own["condition"].map(lambda name: name.split(", ")[0] == OVER).astype(bool)]
        if (beside := method_gains.read(part, folder, target, layers, OVER)) is not None:
            over.append(method_gains.gains(beside))
    return Found(
        _all(gains, method_gains.COLUMNS), _all(over, method_gains.COLUMNS), _all(slopes, method_languages.COLUMNS)
    )


def _all(parts: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    """The tables one after another, conditions of each in the order of the study."""
    if not parts:
        return pd.DataFrame(columns=[*columns, *asdict(groups.MISSING), "adjusted"])
    order = [conditions.named(*one, placebo=False) for one in studies.load(STUDY).sets()]
    ordered = [one.sort_values("condition", key=lambda own: own.map(order.index), kind="stable") for one in parts]
    return pd.concat(ordered, ignore_index=True)


def overview(found: Found) -> pd.DataFrame:
    """Mean gains over languages in points, as ``figures.methods.targets`` takes them."""
    own = found.gains
    return own[(own["language"] == MEAN) & (own["scale"] == "accuracy")]


def largest(found: Found) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """Every target with its parts of ``gains`` and ``slopes`` at the largest rung that has some, for a figure."""
    for target, own in found.gains.groupby("target", sort=False):
        rung = own["layers"].max()
        parts = (one[(one["target"] == target) & (one["layers"] == rung)] for one in (found.gains, found.slopes))
        yield target, *parts


def add(numbers: Numbers, own: pd.DataFrame, found: Found) -> None:
    """Add the tables ``methods_gains``, ``methods_over`` and ``methods_languages``, how much is recorded, and how many
    mean gains are of each direction. Nothing where there is nothing to compare."""
    if found.gains.empty:
        return
    numbers.count("methods_cells", len(own))
    numbers.count("methods_planned", len(studies.load(STUDY).cells()))
    numbers.words("methods_over_title", title(OVER))
    shown = [target for target, *_ in largest(found)]
    numbers.add("methods_targets", " ".join(shown), listing(map(title, shown)))
    for target in shown:
        numbers.words(f"methods_{target}_title", title(target))
    source = typology.card()
    numbers.words("methods_distance", f"{source.package.name} {source.package.version}")
    means = found.gains[found.gains["language"] == MEAN]
    for words, count in method_gains.directions(means, KEYS).value_counts().reindex(DIRECTIONS, fill_value=0).items():
        numbers.count(f"methods_said_{slug(words)}", count)
    numbers.count("methods_means", len(means) // len(method_gains.SCALES))
    numbers.table("methods_gains", *_gains(means))
    if len(found.over):
        numbers.table("methods_over", *_gains(found.over[found.over["language"] == MEAN]))
    numbers.table("methods_languages", *_languages(found))


def _gains(means: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """A row per target, rung and condition: the mean gain on both scales, what could have been seen, and what is
    claimed."""
    said, rows = method_gains.directions(means, KEYS), []
    for (target, layers, condition), part in means.groupby(KEYS, sort=False):
        of = part.set_index("scale")
        points, odds = of.loc["accuracy"], of.loc["logit"]
        shown = [signed(points["estimate"]), interval(points["low"], points["high"]), percent(points["spread"])]
        shown += [signed(odds["estimate"], 2, 1), interval(odds["low"], odds["high"], 2, 1)]
        shown += [signed(points["detectable"]).removeprefix("+"), probability(of["adjusted"].max())]
        rows.append([title(target), str(layers), short(condition), *shown, said[target, layers, condition]])
    heads = ["Target", "Layers", "Training", "Gain", "95% interval", "SD", "Log odds", "95% interval ", "Detectable"]
    return [*heads, "p (Holm)", "Says"], rows


def _languages(found: Found) -> tuple[list[str], list[list[str]]]:
    """A row per target, rung and condition: how many languages gain and lose, and what goes with that."""
    each = found.gains[found.gains["language"] != MEAN]
    by_language = method_gains.directions(each, [*KEYS, "language"]).sort_index()
    by_feature = method_gains.directions(found.slopes, [*KEYS, "feature"])
    rows = []
    for key, part in found.slopes.groupby(KEYS, sort=False):
        own = by_language.loc[key]
        counts = [str(int((own == words).sum())) for words in DIRECTIONS[:3]]
        shown = []
        for feature, unit in UNIT.items():
            one = part[(part["feature"] == feature) & (part["scale"] == "accuracy")].iloc[0]
            shown += [signed(unit * one["estimate"]), interval(unit * one["low"], unit * one["high"])]
            shown.append(_SLOPES[by_feature[(*key, feature)]])
        rows.append([title(key[0]), str(key[1]), short(key[2]), f"{listing(counts[:2])} of {len(own)}", *shown])
    heads = [
        head
        for place, text in enumerate(FEATURES.values())
        for head in (text, f"95% interval{place * ' '}", f"Says{place * ' '}")
    ]
    return ["Target", "Layers", "Training", "Gain and lose", *heads], rows


# DIRECTIONS of a slope or a difference between languages rather than of a gain.
_SLOPES = dict(zip(DIRECTIONS, ("more", "less", *DIRECTIONS[2:]), strict=True))
