"""How many scores are left after each criterion, from what was read to the series of the window from 7B to 70B.

What was searched, where, and by which criteria is in ``data_manifest/published/search.md``.
"""

from __future__ import annotations

import pandas as pd

from xlscale.published import changes, gains, scale
from xlscale.published import scores as sc


def flow(scores: pd.DataFrame) -> pd.DataFrame:
    """A row per step: step, scores (number left; of pairs once there is a base), left_out (number), studies (number),
    series (number, NaN before there are any). ``scores`` is the table of ``scores.table``."""
    left, steps = scores, [("read and recorded", scores)]
    for name, keep in sc.criteria(scores).items():
        left = left[keep[left.index]]
        steps.append((name, left))
    tuned = left[(left["type"] != "none") & left["size"].notna()]
    steps.append(("of a tuned model whose size is known", tuned))
    steps.append(("whose base was scored in the same study", gains.matched(scores)))
    pairs = gains.pairs(scores)
    steps.append(("in one metric per task, by language where there are languages", pairs))
    pairs = gains.estimable(pairs)
    steps.append((f"whose base is {100 * gains.FLOOR:.0f} points or more above chance", pairs))
    steps.append(("between 7B and 70B, of sizes that differ enough", scale.inside(pairs, gains.SERIES)))
    steps.append(("at the smallest and largest size, over the same tasks and languages", changes.ends(pairs)))
    rows, before = [], len(scores)
    for name, table in steps:
        series = table.groupby(gains.SERIES, dropna=False).ngroups if "base" in table else float("nan")
        rows.append((name, len(table), before - len(table), table["study"].nunique(), series))
        before = len(table)
    return pd.DataFrame(rows, columns=["step", "scores", "left_out", "studies", "series"])
