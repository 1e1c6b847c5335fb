"""Gains over no intermediate training by groups of languages (script, and whether the model saw them): of the sets of
the primary analysis, and of the few runs of an exploratory study.

Both give ``Gains``; what their intervals are differs.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import NamedTuple

import pandas as pd

from xlscale.cards.languages import ENGLISH
from xlscale.experiment.cells import NONE
from xlscale.stats import groups, language_groups, primary
from xlscale.stats.by_language import Values, of_languages
from xlscale.stats.slopes import Ladder, conditions, rungs_of

KEYS = ["script", "seen"]


class Gains(NamedTuple):
    """``groups``: script, seen, languages (how many), layers, and those of ``groups.Estimate``. ``languages``: script,
    seen, language, layers, gain. All gains in 0..1."""

    groups: pd.DataFrame
    languages: pd.DataFrame


def of_sets(cells: pd.DataFrame, languages: pd.DataFrame, targets: list[str]) -> Gains:
    """Means over the sets and targets of the primary analysis, at each rung, with its intervals: they speak of sets
    and seeds like these. A target counts in the groups that it has languages of."""
    values = Values.of(cells, languages, targets)
    gains = pd.DataFrame(values.gains("accuracy").reshape(len(values.runs), -1))
    mean = gains.groupby(values.runs["set"].to_numpy()).mean().mean().to_numpy().reshape(-1, len(values.columns))
    found = pd.DataFrame(mean.T, index=values.columns, columns=values.weights.index.rename("layers"))
    shown = _with_groups(found.groupby("language").mean().stack().rename("gain").reset_index())

    def estimates(own: pd.DataFrame) -> pd.DataFrame:
        there = [target for target in targets if target in set(own["target"])]
        return primary.mean_gains(primary.run_gains(own, there, "accuracy"))

    return Gains(_by_group(cells, languages, shown, estimates), shown)


def of_seeds(cells: pd.DataFrame, languages: pd.DataFrame, target: str) -> Gains:
    """Means over the sets of one target, with true labels, at each rung, with t intervals from the variance between
    seeds at that rung."""
    own = cells[cells["target"] == target]
    names = [one for one in conditions(own[~own["placebo"].astype(bool)]) if one != NONE]
    spoken = languages[(languages["target"] == target) & languages["condition"].isin([*names, NONE])]
    spoken = spoken[spoken["language"] != ENGLISH]
    means = spoken.groupby(["language", "layers", "condition"])["value"].mean().unstack()
    means = means.reindex(columns=[*names, NONE])
    gain = means[names].mean(axis=1, skipna=False) - means[NONE]
    shown = _with_groups(gain.dropna().rename("gain").reset_index())
    signs = dict.fromkeys(names, 1 / len(names)) | {NONE: -1.0} if names else {}

    def estimates(part: pd.DataFrame) -> pd.DataFrame:
        ladder = Ladder(part, target)
        rows = [{"layers": layers} | asdict(ladder.at(signs, layers)) for layers in rungs_of(cells, target)]
        return pd.DataFrame(rows)

    return Gains(_by_group(own, languages, shown, estimates), shown)


def _with_groups(shown: pd.DataFrame) -> pd.DataFrame:
    of = pd.DataFrame([language_groups.of(code) for code in shown["language"]], index=shown.index, columns=KEYS)
    return of.join(shown)


def _by_group(cells, languages, shown, estimates) -> pd.DataFrame:
    """``estimates`` of the cells with their mean over each group as value, in the order of the scripts."""
    rows = []
    for script in language_groups.SCRIPTS:
        for seen in (True, False):
            count = shown.loc[(shown["script"] == script) & (shown["seen"] == seen), "language"].nunique()
            if count:
                own = of_languages(cells, languages, lambda code, of=(script, seen): language_groups.of(code) == of)
                rows.append(estimates(own).assign(script=script, seen=seen, languages=count))
    columns = [*KEYS, "languages", "layers", *asdict(groups.MISSING)]
    return pd.concat(rows, ignore_index=True)[columns] if rows else pd.DataFrame(columns=columns)
