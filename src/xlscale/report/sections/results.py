"""Results of the local record in the paper: values, gains, slopes, gamma, tolerances (``04_scaling``,
``05_significance``).

Units: percentage points, and percentage points per factor of ten in non-embedding parameters. No text here knows the
direction of a result before it is computed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from xlscale.core.format import DASH, MISSING, interval, percent, probability, share, signed
from xlscale.experiment.conditions import NONE, SHUFFLED
from xlscale.report.labels import POINTS, direction, key, label, layers, metric, title
from xlscale.report.numbers import Numbers
from xlscale.stats import agreement, fits, groups, slopes

PER_TEN = "percentage points per factor of ten in non-embedding parameters"
INTERVAL = f"{share(groups.LEVEL)} interval"
Table = tuple[list[str], list[list[str]]]  # header and rows

_CHANGE = ("an increase with size", "a decrease with size", "no detectable change with size", "not estimable")
_GAIN = (
    "the gain rises with size",
    "the gain falls with size",
    "no detectable change of the gain with size",
    "not estimable from these cells",
)
_EFFECT = ("rose", "fell", "did not detectably change", "cannot be compared")
_DISAGREE = "no direction that holds on both scales"
_CONTRAST = ("larger with domain data", "smaller with domain data", "not detectably different", "not estimable")
_KINDS = {
    "slope": ("value", _CHANGE),
    "gainslope": ("gain over none", _GAIN),
    "gainslope_shuffled": ("gain over shuffled labels", _GAIN),
}
_HEADER = ("Estimate", INTERVAL, "Detectable", "p (Holm)", "Rungs")


def means_table(means: pd.DataFrame, names: Sequence[str], rungs: Sequence[int], own: Collection[str] = ()) -> Table:
    """``means`` (of ``groups.means``, by condition and layers) in percent: a row per condition, a column per rung.

    Conditions in ``own`` are marked: their set contains data of the target's own. A mean over fewer runs than its
    condition has at other rungs says so; without a complete run it is "missing".
    """
    rows = []
    for condition in names:
        row = [label(condition, condition in own)]
        for k in rungs:
            if (condition, k) not in means.index:
                row.append(MISSING)
                continue
            group = means.loc[(condition, k)]
            usual = means.loc[condition, "n"].max()
            row.append(percent(group["mean"]) + (f" ({group['n']} of {usual} runs)" if group["n"] < usual else ""))
        rows.append(row)
    return ["Intermediate training", *map(layers, rungs)], rows


def doubled(cells: pd.DataFrame) -> set[str]:
    """Conditions whose set contains data of the target's own; ``cells`` are those of one target."""
    return {*cells.loc[cells["overlaps"].astype(bool), "condition"]}


def add_results(numbers: Numbers, cells: pd.DataFrame) -> None:
    """Mean value per target, condition and rung (``<target>_<condition>_k<layers>``), and a table per target."""
    for target in slopes.targets(cells):
        own = cells[(cells["phase"] == "target") & (cells["target"] == target)]
        means, rungs = slopes.Ladder(cells, target).groups, slopes.rungs_of(cells, target)
        numbers.table(f"results_{target}", *means_table(means, slopes.conditions(own), rungs, doubled(own)))
        for condition in slopes.conditions(own):
            for k in rungs:
                mean = means["mean"].get((condition, k), float("nan"))
                numbers.add(f"{target}_{key(condition)}_k{k}", mean, percent(mean), "%")


def add_fits(numbers: Numbers, found: pd.DataFrame) -> None:
    """Add the table ``fits``: a line and a power law with an offset through the rungs, as description.

    ``found`` is that of ``fits.by_target``.
    """
    rows = []
    for row in found.itertuples():
        curve = [percent(row.offset), f"{row.exponent:.2f}", percent(row.rms), str(row.optima)]
        within = "none" if pd.isna(row.lowest) else f"{percent(row.lowest)} to {percent(row.highest)}"
        rows.append([title(row.target), str(row.rungs), signed(row.slope), percent(row.line_rms), *curve, within])
    header = ["Target", "Rungs", "Slope", "Misses", "Offset", "Exponent", "Misses", "Optima", "Offsets that fit"]
    numbers.table("fits", header, rows)
    numbers.add("fits_open", fits.OPEN, f"{fits.OPEN:g}", POINTS)


def add_gains(numbers: Numbers, cells: pd.DataFrame) -> None:
    """Gain over none at the lowest and the highest rung of the study: ``gain_<target>_<condition>_smallest`` and
    ``_largest``."""
    for (target, condition), rows in slopes.gains(cells).groupby(["target", "condition"]):
        for end, row in (("smallest", rows.iloc[0]), ("largest", rows.iloc[-1])):
            _add(numbers, f"gain_{target}_{key(condition)}_{end}", row, POINTS, _EFFECT)


def add_slopes(numbers: Numbers, cells: pd.DataFrame) -> None:
    """Slopes of the value and of the gains, gamma, the tables ``slopes_<target>``, ``gamma`` and ``logit``."""
    table, ratio = slopes.slopes(cells), slopes.slopes(cells, "log")
    baselines = {"gamma": NONE, "gamma_shuffled": "shuffled"}
    gammas = {kind: slopes.gamma(cells, baseline) for kind, baseline in baselines.items()}
    for kind, (quantity, words) in _KINDS.items():
        for index, row in table[table["quantity"] == quantity].iterrows():
            name = f"{kind}_{row['target']}_{key(row['condition'])}"
            _add(numbers, name, row, PER_TEN, words, ratio.loc[index])
    for kind, frame in gammas.items():
        other = slopes.gamma(cells, baselines[kind], "log")
        for index, row in frame.iterrows():
            _add(numbers, f"{kind}_{row['target']}", row, PER_TEN, _CONTRAST, other.loc[index])
    _count_words(numbers, table[table["quantity"] == "gain over none"])
    numbers.words("gamma_note", " ".join(gammas["gamma"]["note"].unique()))
    adjusted = holm_family(table, gammas["gamma"])
    numbers.count("family", adjusted.notna().sum(), "tests")
    for target, own in table.groupby("target"):
        numbers.table(f"slopes_{target}", *_slopes_table(own, adjusted))
    numbers.table("gamma", *_gamma_table(*gammas.values(), adjusted))
    numbers.table("logit", *_logit_table(cells))


def _count_words(numbers: Numbers, gains: pd.DataFrame) -> None:
    """How many slopes of real sets over none are said to rise, to fall, to have no direction that both scales share,
    and not to change: ``said_rise``, ``_fall``, ``_disagree``, ``_open``, of ``said_slopes`` in all."""
    real = gains[~gains["condition"].str.endswith(SHUFFLED)]
    names = [f"gainslope_{row.target}_{key(row.condition)}_word" for row in real.itertuples()]
    said = [numbers.numbers[name]["text"] for name in names]
    for end, word in (("rise", _GAIN[0]), ("fall", _GAIN[1]), ("disagree", _DISAGREE), ("open", _GAIN[2])):
        numbers.count(f"said_{end}", said.count(word), "slopes")
    numbers.count("said_slopes", len(said), "slopes")


def _add(
    numbers: Numbers,
    name: str,
    row: pd.Series,
    unit: str,
    words: tuple[str, str, str, str],
    ratio: pd.Series | None = None,
) -> None:
    """An estimate, its interval, what it would have detected, what it says in words, and a summary of these.

    The words follow the interval, so they are not adjusted for the number of tests. ``ratio`` is the same on the scale
    of the log ratio, where it may say something else: a direction needs both. At one rung it cannot.
    """
    add_estimate(numbers, name, row, unit)
    word = direction(row["low"], row["high"], words)
    if ratio is not None and word != direction(ratio["low"], ratio["high"], words):
        word = _DISAGREE
    numbers.words(f"{name}_word", word)
    parts = [] if word == words[3] else [f"{signed(row['estimate'])} points"]
    # Without a finding the reader has to know what could have been found.
    parts += [word] + ([f"detectable: {percent(row['detectable'])}"] if word in (words[2], _DISAGREE) else [])
    numbers.words(f"{name}_summary", ", ".join(parts))


def add_estimate(
    numbers: Numbers, name: str, row: Mapping[str, Any], unit: str, digits: int = 1, factor: float = 100
) -> list[str]:
    """Add an estimate, its interval and what it would have detected; returns the three as printed."""
    reach = row["detectable"]
    detectable = MISSING if pd.isna(reach) else f"{factor * reach:.{digits}f}"
    texts = [*estimate(row, digits, factor), detectable]
    numbers.add(name, row["estimate"], texts[0], unit)
    numbers.words(f"{name}_interval", texts[1], unit)
    numbers.add(f"{name}_detectable", reach, detectable, unit)
    return texts


def holm_family(table: pd.DataFrame, contrast: pd.DataFrame) -> pd.Series:
    """Holm-adjusted p of the primary tests: slope of the gain over none of every real set and target, every gamma.

    A set that contains data of a target's own is no test on that target. Indexed by (target, condition), with "gamma"
    for the contrast; NaN where a test could not be computed, which does not count. Primary means that it was asked
    first; no p value here confirms anything.
    """
    real = table[(table["quantity"] == "gain over none") & ~table["condition"].str.endswith(SHUFFLED)]
    real = real[~real["overlaps"].astype(bool)]
    gammas = contrast.assign(condition="gamma")
    return slopes.holm(pd.concat([rows.set_index(["target", "condition"])["p"] for rows in (real, gammas)]))


def _slopes_table(table: pd.DataFrame, adjusted: pd.Series) -> Table:
    """Slope of the gain over none and over the own shuffled control, a row per condition and baseline, in points."""
    rows = []
    for quantity, baseline in (("gain over none", NONE), ("gain over shuffled labels", "shuffled")):
        for _, row in table[table["quantity"] == quantity].iterrows():
            test = (row["target"], row["condition"]) if baseline == NONE else None
            rows.append(
                [label(row["condition"], row["overlaps"]), baseline, *estimate(row), *_rest(row, adjusted, test)]
            )
    return ["Intermediate training", "Over", *_HEADER], rows


def _gamma_table(over_none: pd.DataFrame, over_shuffled: pd.DataFrame, adjusted: pd.Series) -> Table:
    """Gamma per target: over none, and with every set taken relative to its own shuffled control."""
    rows = []
    for baseline, frame in ((NONE, over_none), ("shuffled", over_shuffled)):
        for _, row in frame.iterrows():
            test = (row["target"], "gamma") if baseline == NONE else None
            rows.append([title(row["target"]), baseline, *estimate(row), *_rest(row, adjusted, test)])
    return ["Target", "Over", *_HEADER], rows


def _logit_table(cells: pd.DataFrame) -> Table:
    """Sensitivity: the slopes of the gain over none and gamma in log odds instead of points."""
    table = slopes.slopes(cells, "logit")
    rows = []
    for _, row in table[table["quantity"] == "gain over none"].iterrows():
        rows.append([title(row["target"]), label(row["condition"], row["overlaps"]), *estimate(row, 2, 1), _rungs(row)])
    for _, row in slopes.gamma(cells, scale="logit").iterrows():
        rows.append([title(row["target"]), "γ", *estimate(row, 2, 1), _rungs(row)])
    return ["Target", "Intermediate training", "Slope (log odds)", INTERVAL, "Rungs"], rows


def estimate(row: Mapping[str, Any], digits: int = 1, factor: float = 100) -> list[str]:
    """An estimate and its interval, as printed."""
    return [signed(row["estimate"], digits, factor), interval(row["low"], row["high"], digits, factor)]


def _rest(row: pd.Series, adjusted: pd.Series, test: tuple[str, str] | None) -> list[str]:
    """Detectable effect, adjusted p (a dash for what is no primary test), rungs."""
    p = probability(adjusted[test]) if test in adjusted.index else DASH
    return [percent(row["detectable"]), p, _rungs(row)]


def _rungs(row: pd.Series) -> str:
    """The rungs that a slope rests on, or would if there were enough of them."""
    return ", ".join(map(str, row["rungs"])) or "none"


def add_tolerances(numbers: Numbers, cells: pd.DataFrame) -> None:
    """The table ``tolerances``: seed standard deviation of each data set and rung, and the largest tolerance of any of
    its trained cells when one cell is recomputed, and when all are.

    "All" are the complete cells of every phase, as many as ``agreement.compare`` counts when all are recomputed.
    """
    done = cells[(cells["status"] == "complete") & cells["value"].notna()]
    keys = [agreement.outcome(done), done["model"], done["layers"]]
    largest = []
    for comparisons in (1, max(len(done), 1)):
        limits = pd.Series(agreement.limits(done, comparisons).to_numpy(), done.index)
        largest.append(limits.mask(groups.deterministic(done)).groupby(keys).max())
    rows = []
    for stratum, row in agreement.tolerances(done, 1).iterrows():
        name, _, rung = stratum
        tolerances = [percent(limit[stratum]) for limit in largest]
        rows.append([title(name), metric(name), layers(rung), percent(row["sd"], 2), str(int(row["df"])), *tolerances])
    numbers.count("tolerance_cells", len(done), "cells")
    numbers.add("coverage", agreement.COVERAGE, share(agreement.COVERAGE))
    numbers.add("rounding", agreement.ROUNDING, percent(agreement.ROUNDING), POINTS)
    header = ["Data set", "Metric", "Rung", "Seed SD", "Degrees of freedom"]
    header += ["Tolerance, one cell", f"{len(done)} cells"]
    numbers.table("tolerances", header, rows)
