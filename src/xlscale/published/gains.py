"""Gains: how much better a tuned model scores than its base, at the same size, task, language, metric and regime, in
one study.

A *series* is one family after one kind of training in one regime of one study, tested in the language of its data or in
others; along it only the size changes, so its sizes are compared over the tasks and languages that all of them have.
Nothing crosses series. The unit is the same everywhere: subjects of a test count within its language, languages within
their task, tasks within their series, series within their family and study.
"""

from __future__ import annotations

import pandas as pd

from xlscale.published import scores as sc
from xlscale.published.tables import UNKNOWN_ORDER

SERIES = ["study", "family", "training", "type", "focus", "route", "regime", "protocol", "group", "panel", "order",
          "secondary", "data_language", "data_kind", "data_breadth", "data_disclosed"]  # fmt: skip
ITEM = ["task", "part", "language"]  # what one score is of
FLOOR = 0.03  # a base whose mean score on a task is less than this above chance has not learned it
PUBLISHED, _CONTINUED = "published, ", "continued pretraining, "
_SETTING = ["regime", "metric", *ITEM]


def bases(scores: pd.DataFrame) -> pd.DataFrame:
    """A row per tuned model: study, model, base (name, or "" without one), why (without one, else "").

    The base is the one that models.csv or the row names, where the study has it; else the only model of the same study,
    family and size without training.
    """
    models = scores[(scores["skip"] == "") & (scores["route"] != "embedding")]
    facts = ["study", "model", "family", "size", "type", "base_model"]
    models = models[facts].drop_duplicates()
    plain = models[models["type"] == "none"].groupby(["study", "family", "size"], dropna=False)["model"].agg(list)
    there = set(zip(scores["study"], scores["model"], strict=True))
    rows = []
    for row in models[models["type"] != "none"].drop_duplicates(["study", "model"]).itertuples(index=False):
        same = plain.get((row.study, row.family, row.size), []) if pd.notna(row.size) else []
        base = row.base_model or (same[0] if len(same) == 1 else "")
        if base and (row.study, base) not in there:
            base, same = "", []
        several = f"several models could be its base: {', '.join(same)}"
        why = "" if base else several if same else "its base was not evaluated in the same study"
        rows.append((row.study, row.model, base, why))
    return pd.DataFrame(rows, columns=["study", "model", "base", "why"])


def matched(scores: pd.DataFrame) -> pd.DataFrame:
    """Every tuned score beside that of its base, and every printed difference, in all metrics, languages and averages:
    the rows that ``pairs`` chooses from, with kind, rank, without_english and data_languages beside its columns."""
    rows = sc.usable(scores)
    tuned = rows[(rows["type"] != "none") & rows["size"].notna()]
    printed = tuned[tuned["measure"] == "difference"]
    printed = printed.assign(base=printed["model"], base_score=float("nan"), gain=printed["corrected"])
    printed["score"] = float("nan")
    tuned = tuned[tuned["measure"] != "difference"].merge(bases(scores), on=["study", "model"])
    # Models that are bases may be tuned themselves: Marco starts from an instruction-tuned model.
    base = rows[rows["measure"] != "difference"].drop_duplicates(["study", "model", *_SETTING])
    base = base[["study", "model", *_SETTING, "corrected", "score"]]
    base = base.rename(columns={"model": "base", "corrected": "base_corrected", "score": "base_score"})
    found = tuned.merge(base, on=["study", "base", *_SETTING])
    found = found.assign(gain=found["corrected"] - found["base_corrected"])
    columns = [*SERIES, "source_key", "model", "base", "size", *ITEM, "task_title", "chance", "chance_known", "metric"]
    columns += ["rank", "kind", "without_english", "data_languages", "base_score", "score", "gain"]
    both = pd.concat([printed[columns], found[columns]], ignore_index=True)
    both["family"] = both["family"].where(both["base"] == both["model"], _family_of(scores, both))
    return both


def pairs(scores: pd.DataFrame) -> pd.DataFrame:
    """A row per tuned score with a base score, and per printed difference.

    Columns: SERIES, source_key, model, base, size, ITEM, task_title, chance, chance_known, metric, base_score and score
    (0..1; NaN where only the difference is printed), gain (chance-corrected, of 1), and near_chance (bool: the base's
    mean over the languages of this task, at this size, is less than FLOOR above chance).

    ``scores`` is the table of ``scores.table``. Averages are left out where there are languages.
    """
    return near_chance(sc.one_per_language(matched(scores), SERIES).reset_index(drop=True))


def near_chance(rows: pd.DataFrame) -> pd.DataFrame:
    """``rows`` with ``near_chance``, see ``pairs``."""
    above = rows["base_score"] - rows["chance"]
    mean = above.groupby([rows[name] for name in [*SERIES, "size", "task"]], dropna=False).transform("mean")
    return rows.assign(near_chance=mean < FLOOR)


def estimable(pairs: pd.DataFrame) -> pd.DataFrame:
    """The rows from which gains are estimated: without those whose base is near chance, where a gain has all the room
    to grow with size that the base did not use."""
    return pairs[~pairs["near_chance"]]


def _family_of(scores: pd.DataFrame, found: pd.DataFrame) -> pd.Series:
    """The family of the base: CodeLlama is a Llama 2 that was trained on."""
    of = scores.drop_duplicates(["study", "model"]).set_index(["study", "model"])["family"]
    keys = pd.MultiIndex.from_frame(found[["study", "base"]])
    return pd.Series(of.reindex(keys).to_numpy(), index=found.index)


def balanced(rows: pd.DataFrame, series: list[str]) -> pd.DataFrame:
    """The rows of every series for the tasks and languages that all of its sizes have; ``balanced`` says whether there
    are any. Where there are none the rows stay as they are, and no line or slope may join them."""
    each = rows.groupby(series, sort=True, dropna=False)
    item = rows.groupby([*series, *ITEM], dropna=False)["size"].transform("nunique")
    shared = item == each["size"].transform("nunique")
    number = each.ngroup()
    even = shared.groupby(number).transform("any")
    order = number[shared | ~even].sort_values(kind="stable").index
    return rows.assign(balanced=even).loc[order].reset_index(drop=True)


def by_task(rows: pd.DataFrame, series: list[str], value: str = "gain") -> pd.DataFrame:
    """Means over languages, of each over its subjects: a row per series, size and task, with ``value``, languages
    (number) and balanced."""
    keys = [*series, "size", "task", "task_title", "balanced"]
    single = rows.groupby([*keys, "language"], sort=True, dropna=False)[value].mean().reset_index()
    grouped = single.groupby(keys, sort=True, dropna=False)
    return grouped.agg(**{value: (value, "mean"), "languages": ("language", "nunique")}).reset_index()


def points(tasks: pd.DataFrame, series: list[str], value: str = "gain") -> pd.DataFrame:
    """Means over tasks, each with equal weight: a row per series and size, with ``value``, tasks (number), languages
    (largest number of a task), low and high (of the tasks), balanced. ``tasks`` is that of ``by_task``."""
    grouped = tasks.groupby([*series, "size", "balanced"], sort=True, dropna=False)
    found = grouped.agg(
        value=(value, "mean"),
        low=(value, "min"),
        high=(value, "max"),
        tasks=("task", "nunique"),
        languages=("languages", "max"),
    )
    return found.reset_index().rename(columns={"value": value})


def harnesses(pairs: pd.DataFrame) -> pd.DataFrame:
    """The gain of one family after the same training, at the same size and in the same regime, in different studies.

    A row per such case and study, over the tasks and languages that all of its studies have: family, training, size,
    protocol, tasks (number), study, gain.
    """
    case = ["family", "training", "regime", "protocol", "size"]
    studies = pairs.groupby(case)["study"].transform("nunique")
    several = pairs[studies >= 2]
    same = several.groupby([*case, "task", "language"])["study"].transform("nunique") == studies[studies >= 2]
    single = several[same].groupby([*case, "study", "task", "language"])["gain"].mean()
    tasks = single.groupby([*case, "study", "task"]).mean().reset_index()
    found = tasks.groupby([*case, "study"]).agg(tasks=("task", "nunique"), gain=("gain", "mean")).reset_index()
    return found[["family", "training", "size", "protocol", "tasks", "study", "gain"]]


def published(scores: pd.DataFrame) -> pd.DataFrame:
    """The points of the figure over all sizes: those of ``points``, with the panel that each is drawn in.

    ``order`` is that of the panels: fine-tuned, prompted by regime, continued pretraining by regime, then unknown ones.
    """
    rows = balanced(estimable(pairs(scores)), SERIES)
    found = points(by_task(rows, SERIES), SERIES)
    continued = found["route"] == "continued pretraining"
    found["panel"] = found["panel"].where(~continued, found["panel"].str.replace(PUBLISHED, _CONTINUED))
    found["order"] = found["order"].where(~continued | (found["order"] == UNKNOWN_ORDER), found["order"] + 20)
    return found
