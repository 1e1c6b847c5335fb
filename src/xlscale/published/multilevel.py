"""All series of the window in one model: how the gain goes with size after each kind of intermediate data.

    y = a[data] + b[data] log10(size / 22B) + c base's score
        + (1 + size | family) + (1 + size | study) + (1 + size | task) [+ (1 | language)] + rest

Kinds of data are those of ``changes.GROUP``; slopes and intercepts are crossed random effects without a correlation
between the two, which statsmodels' MixedLM cannot fit for crossed groups. SCALES are taken of means over the languages
of a task, so an effect of language is fitted beside them for points alone, on single languages (BY_LANGUAGE).
Effects whose variance is estimated at zero are left out and named; a fit that does not converge is tried again without
the random slopes, then without any random effect, and says so.

A slope of one kind of data is generalised over the families in studies that have it: its interval is a t interval with
their number less one as degrees of freedom, and there is none with fewer than FEWEST_UNITS. With fewer than FEWEST_ROWS
rows nothing is fitted.
"""

from __future__ import annotations

import hashlib
from functools import partial

import numpy as np
import pandas as pd
from scipy import stats

from xlscale.core import cache
from xlscale.published import changes, scale, scales
from xlscale.published.gains import SERIES
from xlscale.published.regression import CENTRE, FEWEST_ROWS, POINTS, Components, components
from xlscale.published.scales import SCALES
from xlscale.stats.groups import LEVEL

BY_LANGUAGE = "by language"
ONE_LESS_MANY = "one domain less many, English"
_CROSSED = ("family", "study", "task")
_DIGITS = {"gain": 2, "share": 2, "log_odds": 4}  # the optimiser is exact to about that
_NAN = float("nan")


def rows(pairs: pd.DataFrame, languages: bool = False) -> pd.DataFrame:
    """What the model is fitted to: a row per series, size and task of the window (and language), with data (kind of
    data), x (log10 size less the middle), z (the base's score in points, less its mean) and SCALES.

    Rows without a base's score are left out. ``pairs`` is that of ``gains.estimable``.
    """
    keys = [*SERIES, "size", "task", *(["language"] if languages else [])]
    single = scale.inside(pairs, SERIES).groupby([*keys, *([] if languages else ["language"])], dropna=False)
    cells = single[["base_score", "score", "gain"]].mean().groupby(keys, dropna=False).mean().reset_index()
    cells = scales.add(cells.dropna(subset=["base_score"]))
    data = cells[changes.GROUP].agg(", ".join, axis=1)
    z = POINTS * (cells["base_score"] - cells["base_score"].mean())
    return cells.assign(data=data, x=np.log10(cells["size"] / CENTRE), z=z, whole=1)


def fits(pairs: pd.DataFrame) -> pd.DataFrame:
    """The model on every scale, and in points by language, with all studies and (in points) without each.

    A row per model, left_out ("": none) and term: a kind of data ("English, one"), ONE_LESS_MANY (the difference of the
    slopes of these two), or "base". Columns: value (the slope per factor of ten in points, points of the remaining
    error, or log odds; of "base" per point of its score), low, high, units (families in studies; of a difference, those
    of the kind that has fewer), series, studies and rows (numbers), fitted (random effects with a variance) and note
    (what could not be fitted). Cached by the rows.
    """
    table = rows(pairs)
    used = pd.concat([table, rows(pairs, languages=True)])[["data", *_CROSSED, "language", "x", "z", *SCALES]]
    content = hashlib.sha256(used.to_csv(index=False).encode()).hexdigest()
    return cache.table("multilevel", content, partial(_fits, pairs))


def _fits(pairs: pd.DataFrame) -> pd.DataFrame:
    table = rows(pairs)
    found = [_fit(table, name).assign(model=name, left_out="") for name in SCALES]
    found.append(_fit(rows(pairs, languages=True), "gain", ("language",)).assign(model=BY_LANGUAGE, left_out=""))
    studies = sorted(table["study"].unique())
    for study in studies if len(studies) > 1 else []:
        found.append(_fit(table[table["study"] != study], "gain").assign(model="gain", left_out=study))
    return pd.concat(found, ignore_index=True)


def _fit(table: pd.DataFrame, name: str, more: tuple[str, ...] = ()) -> pd.DataFrame:
    factor = 1.0 if name == "log_odds" else POINTS
    data = table.dropna(subset=[name])
    data = data.assign(y=factor * data[name])
    several = data.groupby("data")["x"].nunique() >= 2
    data = data[data["data"].map(several)]
    columns = ["term", "value", "low", "high", "units", "series", "studies", "rows", "fitted", "note"]
    if len(data) < FEWEST_ROWS or data["data"].nunique() < 2:
        return pd.DataFrame(columns=columns)
    found, note = _tried(data, more)
    fitted = ", ".join(key for key in found.spread if key != "rest") or "none"
    units = data.groupby("data").apply(lambda own: own.groupby(["family", "study"]).ngroups, include_groups=False)
    weights = {kind: {f"C(data)[{kind}]:x": 1.0} for kind in units.index} | {"base": {"z": 1.0}}
    one, many = "English, one", "English, many"
    if {one, many} <= {*units.index}:
        weights[ONE_LESS_MANY] = {f"C(data)[{one}]:x": 1.0, f"C(data)[{many}]:x": -1.0}
    every = data.groupby(["family", "study"]).ngroups  # which may have data of several kinds
    count = units.to_dict() | {"base": every, ONE_LESS_MANY: min(units.get(one, 0), units.get(many, 0))}
    made = []
    for term, weight in weights.items():
        w = pd.Series(weight).reindex(found.values.index, fill_value=0.0)
        value, variance = float(w @ found.values), float(w @ found.covariance @ w)
        se = variance**0.5 if variance > 0 else _NAN  # a combination that so few rows leave open
        half = stats.t.ppf((1 + LEVEL) / 2, count[term] - 1) * se if count[term] >= scale.FEWEST_UNITS else _NAN
        ends = [round(end, _DIGITS[name]) for end in (value, value - half, value + half)]
        of = data if term == "base" else data[data["data"].isin({one, many} if term == ONE_LESS_MANY else {term})]
        counts = (int(count[term]), of.groupby(SERIES, dropna=False).ngroups, of["study"].nunique(), len(data))
        made.append((term, *ends, *counts, fitted, note))
    return pd.DataFrame(made, columns=columns)


def _tried(data: pd.DataFrame, more: tuple[str, ...]) -> tuple[Components, str]:
    """The fullest model that converges, and what is missing of it."""
    names = [name for name in (*_CROSSED, *more) if data[name].nunique() >= 2]
    plain = {name: f"0 + C({name})" for name in names}
    slopes = {f"{name} slope": f"0 + C({name}):x" for name in names if name not in more}
    formula = "y ~ 0 + C(data) + C(data):x + z"
    for effects, note in ((plain | slopes, ""), (plain, "did not converge with random slopes")):
        found = components(formula, data, effects)
        if found is not None:
            return found, note
    least = components(formula, data, {})
    assert least is not None  # least squares
    return least, "did not converge with random effects"
