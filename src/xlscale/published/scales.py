"""One gain on three scales, and what may be said of a change: only what does not depend on the scale.

Of a base score and a tuned one, both from 0 to 1:

- ``gain``: the difference, chance-corrected, so that 1 is the way from guessing to perfect
- ``share``: that difference as a share of the error that the base left, (tuned - base) / (1 - base); correcting for
  chance changes nothing of it
- ``log_odds``: log odds of the tuned score less those of the base, of scores as they are, kept finite as elsewhere

All are taken of means over the languages of a task: of single languages some scores are 0, whose log odds nobody knows.
Equal points are a larger share where less was left, so the scales can disagree on how a gain changes with size.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from xlscale.stats.groups import transform

SCALES = ("gain", "share", "log_odds")
TITLES = {"gain": "points above chance", "share": "share of the remaining error", "log_odds": "log odds"}
GROWS, SHRINKS, DEPENDS, NOT_KNOWN = "grows", "shrinks", "depends on the scale", "not known"


def add(rows: pd.DataFrame) -> pd.DataFrame:
    """``rows`` with ``share`` and ``log_odds`` of ``base_score`` and ``score`` (0..1): NaN where only a difference is
    known, and ``share`` where the base left no error."""
    base, score = rows["base_score"].to_numpy(), rows["score"].to_numpy()  # thousands of small tables are given
    left = np.where(base < 1, 1 - base, np.nan)
    return rows.assign(share=(score - base) / left, log_odds=transform(score, "logit") - transform(base, "logit"))


def direction(changes: dict[str, float]) -> str:
    """What may be said of a change, from its value on every scale: that the gain grows or shrinks only if all agree."""
    values = [changes[name] for name in SCALES]
    if any(pd.isna(value) for value in values):
        return NOT_KNOWN
    if all(value > 0 for value in values):
        return GROWS
    return SHRINKS if all(value < 0 for value in values) else DEPENDS
