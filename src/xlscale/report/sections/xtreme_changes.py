"""How the gain from intermediate training changes along the rungs on XTREME-R's own items, for ``07_xtreme_r.ipynb``.

Asked as of published scores: the gain at the smallest and at the largest rung over the same tasks, on three scales, and
a direction only where all three agree. One seed, so an interval is over tasks and speaks of other tasks, not of seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from xlscale.cards import catalogue
from xlscale.core.format import DASH, interval, listing, millions, percent, signed
from xlscale.experiment.conditions import NONE, SHUFFLED
from xlscale.published import gains, scale, scales
from xlscale.published.scales import DEPENDS, GROWS, SCALES, SHRINKS
from xlscale.report.labels import POINTS, label
from xlscale.report.numbers import Numbers
from xlscale.report.sections.results import INTERVAL
from xlscale.stats.primary import family

FAMILIES = {"trained": "trained", "retrieval": "retrieval"}
OVER = {"none": "none", "placebo": "shuffled"}
# What is said of the sets of a family together, see ``verdict``.
ALL_GROW, ALL_SHRINK, MIXED, NOTHING = "all grow", "all shrink", "mixed", "nothing"


def rows(found: pd.DataFrame) -> pd.DataFrame:
    """Gains over no intermediate training, a row per target, condition and rung: target, family, condition, layers,
    base_score and score (0..1, without English), and SCALES.

    ``found`` is that of ``xtreme.scores``. A target whose base is within ``gains.FLOOR`` of chance at a rung of the
    record has no gain at any, as for published scores.
    """
    plain = found[found["condition"] == NONE].set_index(["target", "layers"])["zero_shot"]
    own = found[found["condition"] != NONE].drop(columns="score").rename(columns={"zero_shot": "score"})
    own = own.join(plain.rename("base_score"), on=["target", "layers"])
    chance = {name: catalogue.data_card(name).chance for name in own["target"].unique()}
    floor = own["target"].map(chance).astype(float)
    own = own.assign(family=own["target"].map(family), base=(own["base_score"] - floor) / (1 - floor))
    own = own[own.groupby("target")["base"].transform("min") >= gains.FLOOR]
    own = own.assign(gain=(own["score"] - own["base_score"]) / (1 - floor[own.index]))
    names = ["target", "family", "condition", "layers", "base_score", "score", "gain"]
    return scales.add(own[names].reset_index(drop=True))


def changes(gained: pd.DataFrame) -> pd.DataFrame:
    """A row per family, set and what its gain is over (``none`` or ``placebo``): smallest, largest (rungs), unit, units
    (targets that both rungs have), for SCALES ``<scale>_small``, ``<scale>_large``, ``<scale>``, ``<scale>_low`` and
    ``<scale>_high`` (NaN with fewer than ``scale.FEWEST_UNITS``), and direction. ``gained`` is that of ``rows``."""
    found: list[dict[str, Any]] = []
    for kind in FAMILIES:
        own = gained[gained["family"] == kind]
        ends = sorted(own["layers"].unique())[:: max(own["layers"].nunique() - 1, 1)]
        if len(ends) < 2:
            continue
        wide = own.pivot(index="target", columns=["condition", "layers"], values=[*SCALES])
        names = [name for name in own["condition"].unique() if not name.endswith(SHUFFLED)]
        for name in names:
            for less in OVER:
                at = [_at(wide, name, rung, less) for rung in ends]
                if all(len(part.columns) for part in at):
                    about = {"family": kind, "condition": name, "over": less, "smallest": ends[0], "largest": ends[1]}
                    found.append(about | _change(*at))
    return pd.DataFrame(found)


def _at(wide: pd.DataFrame, name: str, rung: int, less: str) -> pd.DataFrame:
    """SCALES by target of a set at a rung, less those of its placebo where ``less`` says so."""
    picked = [(one, name, rung) for one in SCALES]
    placebo = [(one, name + SHUFFLED, rung) for one in SCALES]
    if not {*picked, *(placebo if less == "placebo" else [])} <= {*wide.columns}:
        return pd.DataFrame()
    values = wide[picked].set_axis(SCALES, axis=1)
    return values - wide[placebo].set_axis(SCALES, axis=1) if less == "placebo" else values


def _change(small: pd.DataFrame, large: pd.DataFrame) -> dict[str, Any]:
    difference = (large - small).dropna()
    found: dict[str, Any] = {"unit": "task", "units": len(difference)}
    for name in SCALES:
        found[f"{name}_small"] = small.loc[difference.index, name].mean()
        found[f"{name}_large"] = large.loc[difference.index, name].mean()
        estimate = scale.mean_with_interval(difference[name])
        found |= dict(zip((name, f"{name}_low", f"{name}_high"), estimate, strict=True))
    return found | {"direction": scales.direction(found)}


def verdict(directions: pd.Series) -> str:
    """What the directions of several sets say together: ALL_GROW and ALL_SHRINK need every one of them."""
    if directions.empty:
        return NOTHING
    if directions.nunique() == 1 and directions.iloc[0] in (GROWS, SHRINKS):
        return ALL_GROW if directions.iloc[0] == GROWS else ALL_SHRINK
    return MIXED


def clear(table: pd.DataFrame) -> int:
    """How many rows of ``changes`` have an interval that is clear of zero, with one sign, on every scale."""
    up = pd.concat([table[f"{name}_low"] > 0 for name in SCALES], axis=1).all(axis=1)
    down = pd.concat([table[f"{name}_high"] < 0 for name in SCALES], axis=1).all(axis=1)
    return int((up | down).sum())


def costs(table: pd.DataFrame) -> str:
    """Whether, at the largest rung, the set that is worst for retrieval costs "more" points there than the best one
    brings the targets with training, or "no more"; "unknown" where one of these is not recorded."""
    own = table[table["over"] == "none"].groupby("family")["gain_large"].agg(["min", "max"])
    if not {*FAMILIES} <= {*own.index}:
        return "unknown"
    return "more" if -own.loc["retrieval", "min"] > max(own.loc["trained", "max"], 0) else "no more"


def add(numbers: Numbers, found: pd.DataFrame, gained: pd.DataFrame, table: pd.DataFrame) -> None:
    """Add the table ``xtreme_r_changes``, and of every family and of what gains are over, in keys
    ``xtreme_r_<family>_<none|placebo>_``: verdict (of ``verdict``), sets, grow, shrink, depend, clear, tasks, lowest
    and highest (mean change in points of a set), worst and best (mean gain at the largest rung), losses (sets whose
    gain is negative there), domain and general (mean change over sets of that type); ``xtreme_r_retrieval_costs`` (of
    ``costs``); the rungs (``xtreme_r_smallest``, ``_largest``), their parameters outside the word embeddings
    (``xtreme_r_parameters_smallest``, ``_largest``), and the targets left out because their base is near chance
    (``xtreme_r_near_chance``). Nothing where two rungs are not recorded.

    ``found`` is that of ``xtreme.scores``, ``gained`` of ``rows`` and ``table`` of ``changes``.
    """
    if table.empty:
        return
    ends = {name: int(table[name].iloc[0]) for name in ("smallest", "largest")}
    header = [
        "Targets",
        "Intermediate training",
        "Gain over",
        "Tasks",
        *(f"At {rung} layers" for rung in ends.values()),
    ]
    header += ["Change", INTERVAL, "Share", "Log odds", "The gain"]
    numbers.table("xtreme_r_changes", header, [_line(row) for _, row in table.iterrows()])
    for (kind, less), own in table.groupby(["family", "over"], sort=False):
        name = f"xtreme_r_{kind}_{less}"
        numbers.words(f"{name}_verdict", verdict(own["direction"]))
        numbers.count(f"{name}_sets", len(own), "sets")
        numbers.count(f"{name}_tasks", own["units"].max(), "tasks")
        numbers.count(f"{name}_clear", clear(own), "sets")
        for key, word in (("grow", GROWS), ("shrink", SHRINKS), ("depend", DEPENDS)):
            numbers.count(f"{name}_{key}", (own["direction"] == word).sum(), "sets")
        ends_of = {"lowest": own["gain"].min(), "highest": own["gain"].max()}
        ends_of |= {"worst": own["gain_large"].min(), "best": own["gain_large"].max()}
        for key, value in ends_of.items():
            numbers.add(f"{name}_{key}", value, signed(value), POINTS)
        numbers.count(f"{name}_losses", (own["gain_large"] < 0).sum(), "sets")
        kinds = own["condition"].map(lambda condition: catalogue.data_card(condition).type)
        for key in ("domain", "general"):
            value = own.loc[kinds == key, "gain"].mean()
            numbers.add(f"{name}_{key}", value, signed(value), POINTS)
    numbers.words("xtreme_r_retrieval_costs", costs(table))
    for name, rung in ends.items():
        numbers.count(f"xtreme_r_{name}", rung, "layers")
        size = found.loc[found["layers"] == rung, "parameters"].max()
        numbers.add(f"xtreme_r_parameters_{name}", size, millions(size), "parameters")
    numbers.add("xtreme_r_floor", gains.FLOOR, percent(gains.FLOOR, 0), POINTS)
    lost = sorted(set(found["target"]) - set(gained["target"]))
    numbers.add("xtreme_r_near_chance", len(lost), listing(catalogue.data_card(name).title for name in lost))


def _line(row: Mapping[str, Any]) -> list[str]:
    about = [FAMILIES[row["family"]], label(row["condition"]), OVER[row["over"]], str(row["units"])]
    within = DASH if pd.isna(row["gain_low"]) else interval(row["gain_low"], row["gain_high"])
    values = [signed(row[name]) for name in ("gain_small", "gain_large", "gain")]
    return [*about, *values, within, signed(row["share"]), signed(row["log_odds"], 2, 1), row["direction"]]
