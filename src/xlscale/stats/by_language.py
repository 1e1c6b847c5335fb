"""The runs of the primary analysis language by language: beta of each language and target, gains by groups of
languages, and the bootstrap over sets, targets and languages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from xlscale.cards.languages import ENGLISH
from xlscale.stats import groups, primary
from xlscale.stats.slopes import benjamini_hochberg, sizes, slope_weights

LEVELS = ("set", "target", "language")  # what a bootstrap samples
BLOCK = 500  # draws that are held at a time


def of_languages(cells: pd.DataFrame, languages: pd.DataFrame, keep: Callable[[str], bool]) -> pd.DataFrame:
    """``cells`` with the mean over the zero-shot languages that ``keep`` takes as value; without those that have none.

    ``languages``: as ``record.store.languages`` gives them.
    """
    kept = {code: code != ENGLISH and keep(code) for code in languages["language"].unique()}
    chosen = languages[languages["language"].map(kept).astype(bool)]
    return cells.assign(value=cells["cell"].map(chosen.groupby("cell")["value"].mean())).dropna(subset="value")


@dataclass(frozen=True)
class Values:
    """Values (0..1) of runs with true labels by rung and column, a (target, language).

    ``own`` and ``none``, what a run is compared with: float64 (runs, rungs, columns), NaN where there is none.
    ``runs``: as ``primary.Layout`` takes them. ``weights``: those of a slope, by rung (layers).
    """

    own: np.ndarray
    none: np.ndarray
    runs: pd.DataFrame
    weights: pd.Series
    columns: pd.MultiIndex

    @classmethod
    def of(cls, cells: pd.DataFrame, languages: pd.DataFrame, targets: list[str]) -> Values:
        """Of the languages, without English, of these targets. ``cells``, ``languages``: as ``record.store`` has
        them; of one model, which ``primary.run_gains`` makes sure of."""
        done = groups.completed(cells)
        done = done[done["target"].isin(targets) & ~done["placebo"].astype(bool)]
        spoken = languages[languages["cell"].isin(done["cell"]) & (languages["language"] != ENGLISH)]
        keys = ["condition", "seed", "layers", "target", "language"]
        wide = spoken.pivot(index=keys[:2], columns=keys[2:], values="value")
        columns = wide.columns.droplevel("layers").unique().sort_values()
        rungs = sorted(done["layers"].unique())
        wide = wide.reindex(
            columns=pd.MultiIndex.from_tuples([(k, *one) for k in rungs for one in columns], names=keys[2:])
        )
        own, none = primary.compared(wide)
        shape = (len(own), len(rungs), len(columns))
        runs = primary.with_facts(pd.Series(np.nan, index=own.index)).drop(columns="slope")
        weights = slope_weights(sizes(cells)[rungs])
        return cls(own.to_numpy().reshape(shape), none.to_numpy().reshape(shape), runs, weights, columns)

    def gains(self, scale: str) -> np.ndarray:
        """Gain of each run over none with the same seed, on a scale: float64 (runs, rungs, columns)."""
        return groups.transform(self.own, scale) - groups.transform(self.none, scale)

    def slopes(self, scale: str) -> pd.DataFrame:
        """Slope of the gain: a row per run, a column per (target, language); NaN where a rung is missing."""
        found = np.einsum("rkc,k->rc", self.gains(scale), self.weights.to_numpy())
        return pd.DataFrame(found, columns=self.columns)

    @cached_property
    def whole(self) -> np.ndarray:
        """Which runs have every value, as the primary analysis needs them."""
        return ~(np.isnan(self.own) | np.isnan(self.none)).any(axis=(1, 2))


def betas(values: Values) -> pd.DataFrame:
    """beta of every language of every target on the scales of the primary analysis.

    Columns: target, language, scale, those of ``groups.Estimate``, and adjusted: p after Benjamini and Hochberg (1995)
    over the languages of the target on the scale.
    """
    parts = [values.columns.to_frame(index=False).assign(scale=scale) for scale in primary.SCALES]
    found = [asdict(one) for part in parts for one in primary.betas(values.runs, values.slopes(part["scale"].iloc[0]))]
    table = pd.concat(parts, ignore_index=True).join(pd.DataFrame(found))
    return table.assign(adjusted=table.groupby(["target", "scale"])["p"].transform(benjamini_hochberg))


def of_targets(cells: pd.DataFrame, targets: list[str]) -> pd.DataFrame:
    """beta of every target alone: columns target, scale, sets, runs, those of ``groups.Estimate``, and adjusted: p
    after Benjamini and Hochberg (1995) over the targets on the scale."""
    rows = []
    for target in targets:
        for scale in primary.SCALES:
            runs = primary.run_slopes(cells, [target], scale)
            about = {"target": target, "scale": scale, "sets": runs["set"].nunique(), "runs": len(runs)}
            rows.append(about | asdict(primary.beta(runs)))
    table = pd.DataFrame(rows, columns=["target", "scale", "sets", "runs", *asdict(groups.MISSING)])
    return table.assign(adjusted=table.groupby("scale")["p"].transform(benjamini_hochberg))


def bootstrap(values: Values, draws: int, rng: np.random.Generator, level: float = groups.LEVEL) -> pd.DataFrame:
    """Percentile intervals of beta when sets, targets and languages are sampled again, each alone and all at once.

    A language is drawn with all its targets. As in the primary analysis languages weigh equally in a target, targets in
    a run, runs in a set, and sets in beta; a run counts that has every value. Columns: sampled, scale (of
    ``groups.SCALES``), estimate, low, high.
    """
    rows, draw = [], _Draw(values)
    for name, levels in {**{one: (one,) for one in LEVELS}, "all three": LEVELS}.items():
        found = []
        for start in range(0, draws, BLOCK):
            count = min(BLOCK, draws - start)
            found.append(draw.betas({one: draw.weights(one, count, rng if one in levels else None) for one in LEVELS}))
        for index, scale in enumerate(groups.SCALES):
            low, high = np.nanquantile(
                np.concatenate([part[index] for part in found]), [(1 - level) / 2, (1 + level) / 2]
            )
            about = {"sampled": name, "scale": scale, "estimate": float(draw.once[index])}
            rows.append(about | {"low": float(low), "high": float(high)})
    return pd.DataFrame(rows)


class _Draw:
    """beta, on every scale, for weights of sets, targets and languages."""

    def __init__(self, values: Values):
        whole, self.slope = values.whole, values.weights.to_numpy()
        self.sides = [side[whole].reshape(-1, len(values.columns)).T for side in (values.own, values.none)]
        sets, set_of = np.unique(values.runs["set"][whole], return_inverse=True)
        targets, self.target_of = np.unique(values.columns.get_level_values("target"), return_inverse=True)
        codes, self.language_of = np.unique(values.columns.get_level_values("language"), return_inverse=True)
        self.sizes = {"set": len(sets), "target": len(targets), "language": len(codes)}
        self.of_set = np.eye(len(sets))[set_of] / np.bincount(set_of)[set_of, None]  # run x set
        self.of_target = np.eye(len(targets))[self.target_of]  # column x target
        self.once = [float(one[0]) for one in self.betas({level: self.weights(level, 1, None) for level in LEVELS})]

    def weights(self, level: str, count: int, rng: np.random.Generator | None) -> np.ndarray:
        """How often each set, target or language is drawn: float64 (count, how many); once where nothing is drawn."""
        size = self.sizes[level]
        return rng.multinomial(size, np.full(size, 1 / size), count).astype(float) if rng else np.ones((count, size))

    def betas(self, drawn: dict[str, np.ndarray]) -> list[np.ndarray]:
        """float64 (draws,) for each of ``groups.SCALES``."""
        languages = drawn["language"][:, self.language_of]
        spoken = languages @ self.of_target  # draw x target: a target of which no language is drawn is left out
        targets = drawn["target"] * (spoken > 0)
        of_target = np.divide(
            targets / targets.sum(axis=1, keepdims=True), spoken, out=np.zeros_like(spoken), where=spoken > 0
        )
        columns = languages * of_target[:, self.target_of]
        own, none = ((columns @ side).reshape(len(columns), -1, len(self.slope)) for side in self.sides)
        sets = drawn["set"] / drawn["set"].sum(axis=1, keepdims=True)
        slopes = (
            (groups.transform(own, scale) - groups.transform(none, scale)) @ self.slope for scale in groups.SCALES
        )
        return [((one @ self.of_set) * sets).sum(axis=1) for one in slopes]
