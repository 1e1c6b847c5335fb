"""Sensitivity of beta: the primary analysis on parts of the record and on another scale, and other models of the same
slopes. All are reported whatever they give, none is tested.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import NamedTuple

import numpy as np
import pandas as pd
from statsmodels.regression.mixed_linear_model import MixedLM

from xlscale.cards.catalogue import data_card
from xlscale.cards.languages import ENGLISH
from xlscale.experiment.cells import NONE
from xlscale.stats import agreement, groups, language_groups, primary
from xlscale.stats.by_language import Values, bootstrap, of_languages
from xlscale.stats.slopes import FEWEST_RUNGS

# Intermediate sets and the targets that come from their own source: Debian's package descriptions, the manuals of its
# programs.
SAME_SOURCE = {
    "package_role": ("topic", "summary_choice"),
    "help_module": ("help_retrieval", "interface_tags"),
    "help_next": ("help_retrieval", "interface_tags"),
}
NOTHING_CHANGED = ("nothing", "")  # the primary analysis itself
# Studies of their own, in each of which one thing is otherwise than in the confirmatory one.
ARMS = {"fixed_rates": "one learning rate at all rungs", "cut_ladder": "rungs that were not healed"}
COLUMNS = ["change", "name", "scale", "targets", "sets", "runs", *asdict(groups.MISSING), "note"]


class Part(NamedTuple):
    """A change of the record that beta is estimated on: what it is ("set", ...), of what, and what is left."""

    change: str
    name: str
    cells: pd.DataFrame
    targets: list[str]
    fewest: int = FEWEST_RUNGS  # rungs: two give a difference, not a line


def table(
    cells: pd.DataFrame,
    languages: pd.DataFrame,
    targets: list[str],
    floors: Mapping[str, Mapping[str, float]],
    draws: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """All sensitivity analyses of beta of one family, on every one of ``groups.SCALES``; the first rows are the primary
    analysis, and of values above a floor there are no log odds.

    ``cells`` and ``languages`` are those of ``record.store``, ``floors`` as ``floors`` gives them, ``draws`` those of
    the bootstrap. Columns: change, name, scale, targets (how many), sets, runs, those of ``groups.Estimate`` (NaN where
    an analysis has no such thing), note.
    """
    rows = [
        _row(part.change, part.name, scale, len(part.targets), primary.run_slopes(*part[2:4], scale, part.fewest))
        for part in parts(cells, languages, targets, floors)
        for scale in groups.SCALES
        if not (part.change == "above" and scale == "logit")  # what is above a floor is no share of anything
    ]
    rows += list(_by_set(cells, targets))
    whole = pd.DataFrame(rows).iloc[: len(groups.SCALES)].set_index("scale")
    about = whole[["targets", "sets", "runs"]].to_dict("index")
    for row in bootstrap(Values.of(cells, languages, targets), draws, rng).to_dict("records"):
        rows.append({"change": "bootstrap", "name": row.pop("sampled")} | about[row["scale"]] | row)
    for scale in groups.SCALES:
        found = mixed_model(cells, targets, scale)
        rows.append({"change": "mixed model", "name": "", "scale": scale} | about[scale] | found)
    return pd.DataFrame(rows, columns=COLUMNS).fillna({"note": ""})


def arms(recorded: Mapping[str, pd.DataFrame], family: str) -> pd.DataFrame:
    """Beta of one family in studies of ARMS, as ``table`` has it: ``recorded`` holds the cells of each by its name, and
    of what is not recorded there is no row."""
    rows = []
    for name, cells in recorded.items():
        targets = [target for target in cells["target"].dropna().unique() if primary.family(target) == family]
        for scale in groups.SCALES if targets else ():
            found = _row("arm", name, scale, len(targets), primary.run_slopes(cells, targets, scale))
            rows.append(found | {"note": ""})
    return pd.DataFrame(rows, columns=COLUMNS)


def _row(change: str, name: str, scale: str, targets: int, runs: pd.DataFrame) -> dict[str, object]:
    about = {"change": change, "name": name, "scale": scale, "targets": targets}
    return about | {"sets": runs["set"].nunique(), "runs": len(runs)} | asdict(primary.beta(runs))


def parts(
    cells: pd.DataFrame, languages: pd.DataFrame, targets: list[str], floors: Mapping[str, Mapping[str, float]]
) -> Iterator[Part]:
    """What is left without one target, rung or group of languages at a time, or without runs that learned nothing, and
    values above each of ``floors``; where something is left, and something else is not."""
    yield Part(*NOTHING_CHANGED, cells, targets)
    for name in targets if len(targets) > 1 else ():
        yield Part("target", name, cells, [one for one in targets if one != name])
    for layers in sorted(cells["layers"].unique()):
        yield Part("rung", str(layers), cells[cells["layers"] != layers], targets, fewest=2)
    own = languages[languages["target"].isin(targets) & (languages["language"] != ENGLISH)]
    for name, inside in language_groups.within(own["language"].unique()).items():
        rest = of_languages(cells, own, lambda code, inside=inside: not inside(code))
        yield Part("languages", name, rest, [target for target in targets if target in set(rest["target"])])
    learned = ~agreement.collapsed(cells)
    if primary.family(targets[0]) == "trained":  # what is not trained learns nothing
        yield Part("collapsed", "", cells[learned], targets)
    for name, floor in floors.items():
        known = [target for target in targets if target in floor]
        if known:
            yield Part("above", name, above(cells, floor), known)


def _by_set(cells: pd.DataFrame, targets: list[str]) -> Iterator[dict[str, object]]:
    """Rows without one set at a time, and without pairs of a set and a target from the same source."""
    for scale in groups.SCALES:
        whole = primary.run_slopes(cells, targets, scale)
        for name in whole["set"].unique():
            yield _row("set", name, scale, len(targets), whole[whole["set"] != name])
        yield _row("same source", "", scale, len(targets), without_pairs(cells, targets, scale))


def without_pairs(
    cells: pd.DataFrame, targets: list[str], scale: str, pairs: Mapping[str, tuple[str, ...]] = SAME_SOURCE
) -> pd.DataFrame:
    """``primary.run_slopes`` where a set is not judged on the targets that ``pairs`` gives it."""
    sets = sorted(set(cells["condition"]) - {NONE})
    judged: dict[tuple[str, ...], list[str]] = {}  # targets -> the sets that are judged on them
    for name in sets:
        rest = tuple(target for target in targets if target not in pairs.get(name, ()))
        judged.setdefault(rest, []).append(name)
    found = [
        primary.run_slopes(cells[cells["condition"].isin([*names, NONE])], [*rest], scale)
        for rest, names in judged.items()
        if rest
    ]
    return pd.concat([runs for runs in found if len(runs)] or found, ignore_index=True)


def floors(targets: list[str]) -> dict[str, dict[str, float]]:
    """What a score may be held against: name -> target -> zero-shot value (0..1) of chance, and of character n-grams,
    which are had for bundled targets alone: the others' data need not be on a machine that reads the record."""
    from xlscale.tasks import baselines  # imports torch

    cards = [data_card(name) for name in targets]
    grams = {}
    for card in cards:
        if card.bundled and card.family in baselines.ANSWERING:
            found = baselines.summary(baselines.table(card)).set_index("baseline")
            grams[card.name] = float(found["zero_shot"][baselines.NGRAMS])
    return {baselines.CHANCE: {card.name: card.chance for card in cards}, baselines.NGRAMS: grams}


def above(cells: pd.DataFrame, floors: Mapping[str, float]) -> pd.DataFrame:
    """``cells`` with values above a floor of their target instead of above zero, at least 0.

    A floor leaves differences as they are; ratios are those of what a model adds to it.
    """
    return cells.assign(value=(cells["value"] - cells["target"].map(floors).fillna(0.0)).clip(lower=0.0))


def mixed_model(cells: pd.DataFrame, targets: list[str], scale: str = "accuracy") -> dict[str, object]:
    """beta of a crossed mixed model: slopes of (set, seed, target) with set, seed and target as random effects (REML).

    A slope is that of the gain on one target, so that on other scales than "accuracy" beta is a mean over targets of
    what the primary analysis takes of their mean. Gives estimate, low, high (per factor of ten; normal quantiles) and
    ``note``, which says so where the model did not converge, or puts a variance at zero; the interval is then that of
    the primary analysis.
    """
    tables = [primary.run_slopes(cells, [target], scale).assign(target=target) for target in targets]
    fit = _reml(pd.concat(tables, ignore_index=True))
    if not isinstance(fit, str):
        return fit | {"note": ""}
    found = primary.beta(primary.run_slopes(cells, targets, scale))
    note = f"instead of the mixed model, since {fit}: the primary analysis"
    return {"estimate": found.estimate, "low": found.low, "high": found.high, "note": note}


def _reml(slopes: pd.DataFrame) -> dict[str, float] | str:
    """Estimate, low and high of the mean slope, or why they cannot be had."""
    components = {name: f"0 + C({name})" for name in ("set", "seed", "target") if slopes[name].nunique() > 1}
    if not components:
        return "there is nothing that varies"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model = MixedLM.from_formula(
            "slope ~ 1", slopes, groups=np.ones(len(slopes)), vc_formula=components, re_formula="0"
        )
        try:
            fit = model.fit(reml=True, method="powell")
        except np.linalg.LinAlgError as error:
            return f"it did not converge ({error})"
    if zero := [name for name, value in zip(model.exog_vc.names, fit.vcomp, strict=True) if value <= 1e-9]:
        return f"the variance of {', '.join(zero)} is estimated as zero"
    if not (fit.converged and np.isfinite(fit.bse["Intercept"])):
        return f"it did not converge ({len(told)} warnings)"
    low, high = fit.conf_int(1 - groups.LEVEL).loc["Intercept"]
    return {"estimate": float(fit.params["Intercept"]), "low": float(low), "high": float(high)}
