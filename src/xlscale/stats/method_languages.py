"""Whether what a method adds to plain fine-tuning goes with a language's distance from English, or with its script.

A contrast of languages: the least-squares slope of the gain on a number that each language has, in every run beside the
plain run of its seed. Unit of inference: the family of languages, since relatives are alike in more than what is asked,
and the seed. The variance is that of leaving out one family at a time (the jackknife), which holds the noise of items,
too, plus that between seeds, pooled over methods as in ``method_gains``. With few families, one of them large, little
can be found, which the effect that could have been detected says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
import pandas as pd
from scipy import special

from xlscale.stats import groups
from xlscale.stats.method_gains import SCALES, SHARED, Runs, agree, between_seeds, combined
from xlscale.stats.slopes import holm

COLUMNS = ["target", "layers", "condition", "feature", "scale", "seeds", "languages", "families", "agree"]
FEWEST = 3  # families: of two, each is a jackknife of nothing but the other


def associations(runs: Runs, features: Mapping[str, Mapping[str, float]], family: Mapping[str, str]) -> pd.DataFrame:
    """The slope of the gain on each of ``features`` (name -> language -> number), for every condition and scale:
    COLUMNS, those of ``groups.Estimate`` in units of the scale per one of the feature, and adjusted: p after Holm over
    the conditions. ``family``: of every language. Without an interval where there are fewer than FEWEST families, one
    seed, or a family without which all languages are alike."""
    rows, languages = [], runs.languages
    families = np.array([family[code] for code in languages])
    for name, of in features.items():
        x = np.array([of[code] for code in languages], dtype=float)
        for scale in SCALES:
            each = {condition: by_language(runs, condition, scale) for condition in runs.scores}
            slopes = [np.array([_slope(x, run) for run in values]) for values in each.values()]
            between = between_seeds(slopes, 0.0 if runs.fixed else SHARED)
            for (condition, values), own in zip(each.items(), slopes, strict=True):
                about = (
                    runs.target,
                    runs.layers,
                    condition,
                    name,
                    scale,
                    len(runs.seeds),
                    len(x),
                    len({*families}),
                    agree(own),
                )
                found = _estimate(x, values.mean(0), families, between)
                rows.append(dict(zip(COLUMNS, about, strict=True)) | asdict(found))
    table = pd.DataFrame(rows, columns=[*COLUMNS, *asdict(groups.MISSING)])
    return table.assign(adjusted=table.groupby(["feature", "scale"])["p"].transform(holm))


def by_language(runs: Runs, condition: str, scale: str) -> np.ndarray:
    """Float64 (seeds, languages): the gain of each run in each language; on log odds half an item is counted as right
    and half as wrong."""
    found = []
    for code in runs.languages:
        own, plain = (side[:, runs.language == code] for side in (runs.scores[condition], runs.plain))
        count = own.shape[1]
        sides = [side.mean(1) for side in (own, plain)]
        if scale == "logit":
            sides = [special.logit((count * side + 0.5) / (count + 1)) for side in sides]
        found.append(sides[0] - sides[1])
    return np.stack(found, 1)


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    centred = x - x.mean()
    spread = float(centred @ centred)
    return float(centred @ y) / spread if spread > 1e-12 else float("nan")


def _estimate(x: np.ndarray, y: np.ndarray, families: np.ndarray, between: tuple[float, float]) -> groups.Estimate:
    value, names = _slope(x, y), np.unique(families)
    left = np.array([_slope(x[families != one], y[families != one]) for one in names])
    if len(names) < FEWEST or np.isnan(left).any() or not between[1]:
        return groups.without_interval(value)
    free = len(names) - 1
    jackknife = free / len(names) * float(((left - left.mean()) ** 2).sum())
    variance, df = combined((jackknife, float(free)), between)
    return groups.with_interval(value, variance**0.5, df) if variance > 0 else groups.without_interval(value)
