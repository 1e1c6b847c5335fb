"""Meta-regression of published scores or gains on size, one regime at a time, with random effects.

    y = a + b log10(size / 22B) + type of training + family + (family's own slope) + series + task + language + rest

Only series with several sizes take part: elsewhere size would stand for whatever else differs between models. Family,
its slope, series (a family in one study, after one training), task and language are crossed random effects (variance
components by REML, statsmodels' MixedLM). The families are what b is to be generalised over. So its interval uses
Student's t with their number less one as degrees of freedom: with so few, a normal quantile would give far too narrow
an interval. The standard error is the model's own. With fewer than FEWEST_UNITS families there is no interval: the
slope describes those families.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
from scipy import stats

from xlscale.core import cache
from xlscale.published.scale import FEWEST_UNITS
from xlscale.stats.groups import LEVEL

CENTRE = 7e9**0.5 * 70e9**0.5  # the middle of 7B to 70B on the log scale
FEWEST_ROWS = 12
_DIGITS = 2
_FLAT = 1e-2  # a standard deviation below this fraction of the residual one counts as zero
POINTS = 100.0  # responses are fitted in percentage points: optimisers like numbers near one


@dataclass(frozen=True)
class Fit:
    """Slope in points per factor of ten with its interval (NaN without one).

    ``sd_*``: standard deviations, in points, of families, their slopes, series, tasks, languages and residuals (NaN:
    not in the model, or zero). ``df``: families less one.
    """

    slope: float
    se: float
    low: float
    high: float
    df: int
    families: int
    rows: int
    sd_family: float
    sd_slope: float
    sd_series: float
    sd_task: float
    sd_language: float
    sd_rest: float
    note: str


_NAN = float("nan")
_SPREADS = ("family", "slope", "series", "task", "language")
SERIES = ["study", "family", "training"]


def several_sizes(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of series with at least two sizes, from which a slope can be estimated."""
    return rows[rows.groupby(SERIES)["size"].transform("nunique") >= 2]


def fit(rows: pd.DataFrame, value: str) -> Fit:
    """Fit one regime. ``rows`` has SERIES, size, task, language, type and ``value`` (0..1, chance-corrected).

    Where there is too little to fit, or the optimiser fails, the slope is NaN and ``note`` says why.
    """
    rows = several_sizes(rows)
    families, nothing = rows["family"].nunique(), Fit(*[_NAN] * 4, 0, 0, 0, *[_NAN] * 6, "")
    about = {"df": max(families - 1, 0), "families": families, "rows": len(rows)}
    if len(rows) < FEWEST_ROWS:
        return replace(nothing, **about, note=f"only {len(rows)} scores of series with two sizes")
    series = rows[SERIES].agg(" / ".join, axis=1)
    data = rows.assign(y=POINTS * rows[value], x=np.log10(rows["size"] / CENTRE), whole=1, series=series)
    found = _mixed(data, families)
    if found is None:
        return replace(nothing, **about, note="the optimiser did not converge")
    # The optimiser is exact to about a thousandth of a point, and may end elsewhere on another machine.
    slope, se = (round(value, _DIGITS) for value in found[:2])
    spread = {name: round(sd, _DIGITS) for name, sd in found[2].items()}
    half = stats.t.ppf((1 + LEVEL) / 2, families - 1) * se if families >= FEWEST_UNITS else _NAN
    few = "" if families >= FEWEST_UNITS else f"families: {families}; the slope describes them, without an interval"
    return Fit(slope=slope, se=se, low=slope - half, high=slope + half, **about, **spread, note=few)


def _mixed(data: pd.DataFrame, families: int) -> tuple[float, float, dict[str, float]] | None:
    """Slope, standard error and standard deviations (sd_...), or None. Effects estimated at zero are left out."""

    effects = {name: f"0 + C({name})" for name in ("family", "task", "language") if data[name].nunique() >= 2}
    if data.groupby("task")["language"].nunique().max() == 1:
        effects.pop("language", None)  # every task is in one language, so the effect of the task includes that
    if families >= 2:
        effects["slope"] = "0 + C(family):x"
    if data["series"].nunique() > families:
        effects["series"] = "0 + C(series)"
    # A type that no family has beside another says nothing that its family does not.
    types = data.groupby("family")["type"].nunique().max() >= 2
    found = components("y ~ x + C(type)" if types else "y ~ x", data, effects)
    if found is None:
        return None
    spread = {f"sd_{name}": found.spread.get(name, _NAN) for name in (*_SPREADS, "rest")}
    return float(found.values["x"]), float(found.covariance.loc["x", "x"] ** 0.5), spread


@dataclass(frozen=True)
class Components:
    """Fixed effects and their covariance, by the names of the formula's terms, and the standard deviations of the
    random effects that are not zero and of the ``rest``."""

    values: pd.Series
    covariance: pd.DataFrame
    spread: dict[str, float]


def components(formula: str, data: pd.DataFrame, effects: dict[str, str]) -> Components | None:
    """Fit a model with these crossed random effects (a formula for each name) by REML; None if it does not converge.

    Effects estimated at zero are left out and the rest is fitted again; without any it is least squares. ``data`` has
    a column whole, of ones.
    """
    import statsmodels.formula.api as smf

    effects = dict(effects)
    while effects:
        model = smf.mixedlm(formula, data, groups="whole", re_formula="0", vc_formula=effects)
        with warnings.catch_warnings():
            # The warnings are about variances at zero, which are dealt with here.
            warnings.simplefilter("ignore")
            try:
                # Powell's method needs no gradient, which is of no use where a variance is zero.
                found = model.fit(reml=True, method="powell")
            except np.linalg.LinAlgError:
                return None
        spread = dict(zip(model.exog_vc.names, map(float, np.sqrt(np.maximum(found.vcomp, 0))), strict=True))
        rest = float(found.scale**0.5)
        flat = [name for name, sd in spread.items() if sd < _FLAT * rest]
        if not flat:
            names = found.fe_params.index
            covariance = found.cov_params().loc[names, names]
            good = found.converged and np.isfinite(np.diag(covariance)).all()
            return Components(found.fe_params, covariance, spread | {"rest": rest}) if good else None
        effects = {name: text for name, text in effects.items() if name not in flat}
    plain = smf.ols(formula, data).fit()
    return Components(plain.params, plain.cov_params(), {"rest": float(plain.scale**0.5)})


def regressions(rows: pd.DataFrame, value: str) -> pd.DataFrame:
    """A row per route and regime with a series of several sizes: _BY, studies (number), secondary, fields of Fit.

    ``rows`` is that of ``gains.pairs`` or of ``scale.levels``. Fits of the same rows are cached.
    """
    return _cached("regressions", rows, value, partial(_regressions, rows, value))


def _cached(name: str, rows: pd.DataFrame, value: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    used = [*_BY, *SERIES, "size", "task", "language", "type", "secondary", value]
    content = hashlib.sha256(rows[used].to_csv(index=False).encode()).hexdigest()
    return cache.table(f"{name}-{value}", content, make)


def _regressions(rows: pd.DataFrame, value: str) -> pd.DataFrame:
    found = []
    for key, own in several_sizes(rows).groupby(_BY, sort=True):
        about = dict(zip(_BY, key, strict=True))
        about |= {"studies": own["study"].nunique(), "secondary": bool(own["secondary"].any())}
        found.append(about | asdict(fit(own, value)))
    return pd.DataFrame(found, columns=[*_BY, "studies", "secondary", *Fit.__dataclass_fields__])


_BY = ["order", "panel", "route", "regime", "protocol"]


def leave_one_out(rows: pd.DataFrame, value: str, by: str = "study") -> pd.DataFrame:
    """Every regression of ``regressions`` again without each study (or family): _BY, left_out, and the fields of Fit.

    The first row of a regime has left_out "" and is the whole fit. A regime with one level of ``by`` has no other row.
    Fits of the same rows are cached.
    """
    return _cached(f"without-a-{by}", rows, value, partial(_leave_one_out, rows, value, by))


def _leave_one_out(rows: pd.DataFrame, value: str, by: str) -> pd.DataFrame:
    found = []
    for key, own in several_sizes(rows).groupby(_BY, sort=True):
        names = sorted(own[by].unique())
        for name in ["", *(names if len(names) > 1 else [])]:
            about = dict(zip(_BY, key, strict=True)) | {"left_out": name}
            found.append(about | asdict(fit(own[own[by] != name], value)))
    return pd.DataFrame(found, columns=[*_BY, "left_out", *Fit.__dataclass_fields__])
