"""Two kinds of intermediate data on one base: the same model, size, tasks and languages, in one regime of one study.

Between series of different families the data are not all that differs. Here they are: what follows compares models that
were trained from one base on one kind of data and on another. A contrast is stored as a pair like those of ``gains``,
whose "base" is the mean of the models after the other kind of data; so SCALES and ``changes`` apply to it as they are.
"""

from __future__ import annotations

import pandas as pd

from xlscale.published import changes, gains, scale
from xlscale.published import scores as sc
from xlscale.published.gains import ITEM, SERIES
from xlscale.published.scales import SCALES

CASE = ["study", "family", "regime", "protocol"]
ONE, MANY = "one", "many"
_MODEL = ["size", "base"]
_ITEM = [*_MODEL, *ITEM, "metric"]


def breadth(scores: pd.DataFrame) -> pd.DataFrame:
    """Data of one domain minus general data (breadths ONE and MANY) in the same language relation.

    A row per training on ONE, size and ITEM: the columns of ``gains.pairs`` with base_score (the mean of the models
    after MANY), score and gain (differences of gains, 0..1), and ``other`` (their trainings). Those count that have
    every size and base which the training on ONE has, over the tasks and languages (or averages) of all of them.
    """
    return _contrast(gains.matched(scores), "data_breadth", ONE, MANY, ["data_language"])


def languages(scores: pd.DataFrame) -> pd.DataFrame:
    """Data in the tested language alone minus the same kind of data that is English or holds English; as ``breadth``.

    The relation is to the language of the score, so a set counts where its own language is tested.
    """
    rows = gains.matched(scores)
    english = rows["data_languages"].str.split(" ").map(lambda codes: "en" in codes)
    rows = rows.assign(holds=english.map({True: "English", False: "none"}))
    own = rows[rows["data_language"].isin(["the tested language", "English"])]
    return _contrast(own, "holds", "none", "English", ["data_kind", "data_breadth"])


def _contrast(rows: pd.DataFrame, field: str, one: str, other: str, same: list[str]) -> pd.DataFrame:
    parts = [rows.iloc[:0].assign(other="", near_chance=False)]
    for _, own in rows[rows[field].isin([one, other])].groupby([*CASE, *same], sort=True):
        kinds = own.groupby("training")[field].first()
        for training in kinds.index[kinds == one]:
            mine = own[own["training"] == training]
            against = [name for name in kinds.index[kinds == other] if _covers(own[own["training"] == name], mine)]
            if against:
                theirs = own[own["training"].isin(against)]
                parts.append(_against(mine, theirs, len(against)).assign(other=", ".join(against)))
    return gains.estimable(pd.concat([part for part in parts if len(part)] or parts, ignore_index=True))


def _covers(theirs: pd.DataFrame, mine: pd.DataFrame) -> bool:
    """Whether something of ``mine`` was measured of ``theirs`` too at each of its sizes, from the same bases."""
    shared = mine.merge(theirs[_ITEM].drop_duplicates(), on=_ITEM)
    return len(shared[_MODEL].drop_duplicates()) == len(mine[_MODEL].drop_duplicates())


def _against(mine: pd.DataFrame, theirs: pd.DataFrame, count: int) -> pd.DataFrame:
    """Rows of one training less the mean of ``count`` others, for the items that all of these have."""
    theirs = theirs.drop_duplicates(["training", *_ITEM])
    reference = theirs.groupby(_ITEM, dropna=False).agg(
        other_score=("score", "mean"), other_gain=("gain", "mean"), trainings=("training", "nunique")
    )
    both = mine.merge(reference[reference["trainings"] == count].reset_index(), on=_ITEM)
    both = gains.near_chance(sc.one_per_language(both, SERIES))  # by the base's score, which is still there
    return both.assign(base_score=both["other_score"], gain=both["gain"] - both["other_gain"])


def levels(rows: pd.DataFrame) -> pd.DataFrame:
    """The contrast at every size, a row per SERIES, other and size: unit, units, tasks, languages, and ``<scale>``,
    ``<scale>_low``, ``<scale>_high`` for SCALES. ``rows`` is that of ``breadth`` or ``languages``."""
    keys, found = [*SERIES, "other", "base", "size"], []
    for key, own in rows.groupby(keys, sort=True, dropna=False):
        found.append(dict(zip(keys, key, strict=True)) | changes.estimates(changes.means(own), changes.by_task))
    parts = [f"{name}{part}" for name in SCALES for part in ("", "_low", "_high")]
    return pd.DataFrame(found, columns=[*keys, "unit", "units", "tasks", "languages", *parts])


def inside(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of ``levels`` in the window from 7B to 70B."""
    return table[sc.in_window(table["size"].astype(float))]


def recipes(pairs: pd.DataFrame) -> pd.DataFrame:
    """How far the gain of one base depends on the recipe, and on size, in the window: data of one language relation and
    breadth in one regime of one study, where two or more trainings have the same sizes.

    A row per such case: study, family, protocol, data_language, data_breadth, smallest, largest, trainings (number),
    between (range of the gain over trainings, mean over the two sizes), across (mean over trainings of the absolute
    change of the gain from the smallest to the largest size). ``pairs`` is that of ``gains.estimable``.
    """
    rows = scale.inside(pairs, SERIES)
    tasks = gains.by_task(gains.balanced(rows, SERIES), SERIES)
    at = gains.points(tasks, SERIES)
    case = ["study", "family", "protocol", "data_language", "data_breadth"]
    found = []
    for key, own in at.groupby(case, sort=True):
        wide = own.pivot_table(index="training", columns="size", values="gain")
        ends = wide[[wide.columns.min(), wide.columns.max()]].dropna()
        if len(ends) >= 2:
            between = float((ends.max() - ends.min()).mean())
            across = float((ends.iloc[:, 1] - ends.iloc[:, 0]).abs().mean())
            found.append((*key, ends.columns[0], ends.columns[1], len(ends), between, across))
    return pd.DataFrame(found, columns=[*case, "smallest", "largest", "trainings", "between", "across"])
