"""Sensitivity of beta: the primary analysis on parts of the record and on other scales, and other models of the same
slopes. Each is reported whatever it gives, none is tested.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict

import numpy as np
import pandas as pd
from babel.core import get_global
from statsmodels.regression.mixed_linear_model import MixedLM

from xlscale.cards.languages import ENGLISH
from xlscale.experiment.cells import NONE
from xlscale.stats import groups, primary

# Intermediate sets and the targets that come from their own source: Debian's package descriptions, the manuals of its
# programs.
SAME_SOURCE = {
    "package_role": ("topic", "summary_choice"),
    "help_module": ("help_retrieval", "interface_tags"),
    "help_next": ("help_retrieval", "interface_tags"),
}
LEVELS = ("set", "target", "language")  # what a bootstrap samples


def latin(code: str) -> bool:
    """Whether a language, by its code in the data, is written in Latin script."""
    language, *parts = code.split("_")
    given = next((part for part in parts if len(part) == 4), None)
    return (given or get_global("likely_subtags")[language].split("_")[1]).title() == "Latn"


SCRIPTS = {"in Latin script": latin, "in other scripts": lambda code: not latin(code)}


def of_languages(cells: pd.DataFrame, languages: pd.DataFrame, keep: Callable[[str], bool]) -> pd.DataFrame:
    """``cells`` with the mean over the zero-shot languages that ``keep`` takes as value; without those that have none.

    ``languages``: as ``record.store.languages`` gives them.
    """
    chosen = languages[[code != ENGLISH and keep(code) for code in languages["language"]]]
    return cells.assign(value=cells["cell"].map(chosen.groupby("cell")["value"].mean())).dropna(subset="value")


def left_out(
    cells: pd.DataFrame, languages: pd.DataFrame, groups_of: Mapping[str, Callable[[str], bool]], targets: list[str]
) -> pd.DataFrame:
    """beta of one family without one set, target, rung, or group of languages at a time, and without pairs of a set and
    a target from the same source.

    ``groups_of``: name of a group of languages -> whether a code is in it. Two rungs give a difference, not a line.
    Columns: left_out ("set", ...), name, scale, and those of ``groups.Estimate``.
    """
    rows = []
    for scale in primary.SCALES:
        for what, name, runs in _parts(cells, languages, groups_of, targets, scale):
            rows.append({"left_out": what, "name": name, "scale": scale} | asdict(primary.beta(runs)))
    return pd.DataFrame(rows, columns=["left_out", "name", "scale", *asdict(groups.MISSING)])


def _parts(cells, languages, groups_of, targets, scale) -> Iterator[tuple[str, str, pd.DataFrame]]:
    whole = primary.run_slopes(cells, targets, scale)
    yield "nothing", "", whole
    for name in whole["set"].unique():
        yield "set", name, whole[whole["set"] != name]
    for name in targets if len(targets) > 1 else ():
        yield "target", name, primary.run_slopes(cells, [one for one in targets if one != name], scale)
    for layers in sorted(cells["layers"].unique()):
        yield "rung", str(layers), primary.run_slopes(cells[cells["layers"] != layers], targets, scale, fewest=2)
    for name, inside in groups_of.items():
        rest = of_languages(cells, languages, lambda code, inside=inside: not inside(code))
        yield "languages", name, primary.run_slopes(rest, targets, scale)
    yield "same source", "", without_pairs(cells, targets, scale)


def without_pairs(
    cells: pd.DataFrame, targets: list[str], scale: str, pairs: Mapping[str, tuple[str, ...]] = SAME_SOURCE
) -> pd.DataFrame:
    """``primary.run_slopes`` where a set is not judged on the targets that ``pairs`` gives it."""
    found = []
    for name in sorted(set(cells["condition"]) - {NONE}):
        own = cells[cells["condition"].isin([name, NONE])]
        rest = [target for target in targets if target not in pairs.get(name, ())]
        found += [primary.run_slopes(own, rest, scale)] if rest else []
    return pd.concat([runs for runs in found if len(runs)], ignore_index=True)


def above(cells: pd.DataFrame, floors: Mapping[str, float]) -> pd.DataFrame:
    """``cells`` with values above a floor of their target instead of above zero, at least 0.

    A floor leaves differences as they are; ratios are those of what a model adds to it.
    """
    return cells.assign(value=(cells["value"] - cells["target"].map(floors).fillna(0.0)).clip(lower=0.0))


def language_slopes(cells: pd.DataFrame, languages: pd.DataFrame, targets: list[str]) -> pd.DataFrame:
    """Slope of the gain (0..1 per factor of ten) of every set, mean over seeds: a row per set, a column per (target,
    language); NaN where no run has all rungs."""
    spoken = languages[languages["target"].isin(targets) & (languages["language"] != ENGLISH)]
    found = {}
    for (target, language), own in spoken.groupby(["target", "language"]):
        values = cells.assign(value=cells["cell"].map(own.set_index("cell")["value"])).dropna(subset="value")
        found[target, language] = primary.run_slopes(values, [target]).groupby("set")["slope"].mean()
    return pd.DataFrame(found).rename_axis(columns=["target", "language"])


def bootstrap(slopes: pd.DataFrame, draws: int, rng: np.random.Generator, level: float = groups.LEVEL) -> pd.DataFrame:
    """Percentile intervals of beta when sets, targets and languages are sampled again, each alone and all at once.

    ``slopes``: as ``language_slopes`` gives them. A language is drawn with all its targets. Languages weigh equally in
    a target, targets in a set, sets in beta. Columns: sampled, estimate, low, high (0..1 per factor of ten).
    """
    values, present = slopes.fillna(0.0).to_numpy(), slopes.notna().to_numpy(dtype=float)
    targets, target_of = np.unique(slopes.columns.get_level_values("target"), return_inverse=True)
    codes, language_of = np.unique(slopes.columns.get_level_values("language"), return_inverse=True)
    of_target = np.eye(len(targets))[target_of]  # column x target

    def beta(sets: np.ndarray, targets: np.ndarray, languages: np.ndarray) -> np.ndarray:
        weight = languages[:, language_of]
        total, count = (np.einsum("dc,sc,ct->dst", weight, part, of_target) for part in (values, present))
        means = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
        of_sets = _weighted(means, targets[:, None])
        return _weighted(of_sets, sets)

    sampled = {name: (name,) for name in LEVELS} | {"all three": LEVELS}
    shape = {"set": len(slopes), "target": len(targets), "language": len(codes)}
    once = [np.ones((1, shape[name])) for name in LEVELS]
    rows = []
    for name, levels in sampled.items():
        found = []
        for start in range(0, draws, 500):
            count = min(500, draws - start)
            weights = [
                rng.multinomial(shape[one], np.full(shape[one], 1 / shape[one]), count).astype(float)
                if one in levels
                else np.ones((count, shape[one]))
                for one in LEVELS
            ]
            found.append(beta(*weights))
        low, high = np.nanquantile(np.concatenate(found), [(1 - level) / 2, (1 + level) / 2])
        rows.append({"sampled": name, "estimate": float(beta(*once)[0]), "low": float(low), "high": float(high)})
    return pd.DataFrame(rows)


def _weighted(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted mean of the last axis over what is there; NaN where nothing is."""
    weights = np.where(np.isnan(values), 0.0, weights)
    total, found = weights.sum(axis=-1), (np.nan_to_num(values) * weights).sum(axis=-1)
    return np.divide(found, total, out=np.full_like(total, np.nan), where=total > 0)


def mixed_model(cells: pd.DataFrame, targets: list[str]) -> dict[str, object]:
    """beta of a crossed mixed model: slopes of (set, seed, target) with set, seed and target as random effects (REML).

    Gives estimate, low, high (0..1 per factor of ten; normal quantiles) and ``note``, which says so where the model did
    not converge, or puts a variance at zero; the interval is then that of the primary analysis.
    """
    tables = [primary.run_slopes(cells, [target]).assign(target=target) for target in targets]
    table = pd.concat(tables, ignore_index=True)
    parts = {name: f"0 + C({name})" for name in ("set", "seed", "target") if table[name].nunique() > 1}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model = MixedLM.from_formula("slope ~ 1", table, groups=np.ones(len(table)), vc_formula=parts, re_formula="0")
        fit = model.fit(reml=True, method="powell")
    zero = [name for name, value in zip(model.exog_vc.names, fit.vcomp, strict=True) if value <= 1e-9]
    if fit.converged and not zero and np.isfinite(fit.bse["Intercept"]):
        low, high = fit.conf_int(1 - groups.LEVEL).loc["Intercept"]
        return {"estimate": float(fit.params["Intercept"]), "low": float(low), "high": float(high), "note": ""}
    why = f"the variance of {', '.join(zero)} is estimated as zero" if zero else "it did not converge"
    if not zero and told:
        why += f" ({len(told)} warnings)"
    found = primary.beta(primary.run_slopes(cells, targets))
    note = f"instead of the mixed model, since {why}: the primary analysis"
    return {"estimate": found.estimate, "low": found.low, "high": found.high, "note": note}
