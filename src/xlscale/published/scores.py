"""Published scores on one scale, 0 to 1, with the chance level of the task, numeric sizes, and the kind of each row.

Chance-corrected is (score - chance) / (1 - chance), as in Cohen's kappa (1960) with the task's uniform guess: 0 is
guessing, 1 is perfect, and below 0 is worse than guessing; such values stay as they are.
"""

from __future__ import annotations

import re

import pandas as pd

from xlscale.published import coding
from xlscale.published.tables import PER_UNIT, UNKNOWN_ORDER, Layer, load, parameters, plain

# The classes that are called 7B and 70B, as vendors count them: 6.7B (LLaMA, Llama 2) to 72.7B (Qwen2.5).
WINDOW = (6.5e9, 75e9)
# The columns of ``table`` that hold numbers or truth values.
NOT_TEXT = ("value", "stderr", "secondary", "order", "rank", "chance", "chance_known", "xtreme_r", "size", "sparse",
            "without_english", "score", "corrected")  # fmt: skip
_SPARSE_NAME = re.compile(r"\d+x\d+B|MoE|-A\d+(?:\.\d+)?B", re.IGNORECASE)
_WITHOUT_ENGLISH = re.compile(r"non-?en", re.IGNORECASE)


def table(layer: Layer | None = None) -> pd.DataFrame:
    """A row per published score, by the names of source and table; in a table as its file has them.

    Beside the columns of the results:
    - of the source: study, title, secondary (bool: neither the authors' own file nor their paper's text)
    - of the model: family, size (total parameters, NaN if unknown), sparse (bool), base_model
    - of its training: training, type, focus, route, and as coded: data_languages, data_kind, data_breadth,
      data_disclosed, and data_language (what its languages are to that of the score; "none" without training)
    - of the regime: group, order, panel, protocol (a short name)
    - of the task: task (canonical; ``task_label`` is the source's), part (the label, of sources that give the subjects
      of a test, else ""), task_title, chance, chance_known, xtreme_r (bool)
    - of the metric: unit, measure, rank (NaN: not used)
    - of the language: kind ("language", "english", "average", "other"), without_english (bool, of averages)
    - skip (text: why a row is not used)
    - score and corrected: 0..1, differences -1..1; corrected is NaN where the task has no chance level
    """
    layer = layer or load()
    # Of several rows of one score the first counts: which that is must not depend on which was added first.
    out = layer.results.sort_values(["source_key", "table"], ignore_index=True)  # which is stable
    for part in (_sources, _regimes, _training, _data, _metrics, _tasks, _models, _languages):
        out = part(out, layer)
    out["score"] = out["value"] / out["unit"].map(PER_UNIT)
    corrected = (out["score"] - out["chance"]) / (1 - out["chance"])
    corrected = corrected.mask(out["measure"] == "difference", out["score"] / (1 - out["chance"]))
    out["corrected"] = corrected.mask(out["measure"] == "corrected", out["score"])
    return out


def _sources(out: pd.DataFrame, layer: Layer) -> pd.DataFrame:
    of = layer.sources.set_index("source_key")
    for name in ("study", "title", "quality"):
        out[name] = out["source_key"].map(of[name])
    return out.assign(secondary=out["quality"] == "secondary")


def _regimes(out: pd.DataFrame, layer: Layer) -> pd.DataFrame:
    of = layer.regimes.set_index("regime")
    out["group"] = out["regime"].map(of["group"]).fillna(out["regime"])
    out["panel"] = out["regime"].map(of["title"]).fillna(out["regime"])
    out["protocol"] = out["regime"].map(of["protocol"]).fillna(out["regime"])
    out["order"] = out["regime"].map(of["order"]).astype(float).fillna(UNKNOWN_ORDER).astype(int)
    return out


def _training(out: pd.DataFrame, layer: Layer) -> pd.DataFrame:
    of = layer.training.set_index("intermediate_task")
    label = out["intermediate_task"]
    training = label.map(of["training"]).fillna(label)
    out["training"] = training.where(training != "{model}", out["model"])
    out["type"] = label.map(of["type"]).fillna("unclassified")
    out["focus"] = label.map(of["focus"]).fillna("")
    out["route"] = label.map(of["route"]).fillna("fine-tuning")
    return out


def _data(out: pd.DataFrame, layer: Layer) -> pd.DataFrame:
    of, label, plain = coding.decided(layer.coding), out["intermediate_task"], out["type"] == "none"
    for field in coding.FIELDS:
        out[f"data_{field}"] = label.map(of[field]).fillna(coding.NOT_CODED).mask(plain, "none")
    pairs = zip(out["data_languages"], out["language"], plain, strict=True)
    out["data_language"] = ["none" if base else coding.relation(coded, tested) for coded, tested, base in pairs]
    return out


def _mapped(labels: pd.Series, look_up) -> pd.DataFrame:
    """Rows of a look-up table for labels, each label looked up once."""
    of = {label: look_up(label) for label in labels.unique()}
    return pd.DataFrame([of[label] for label in labels], index=labels.index)


def _metrics(out: pd.DataFrame, layer: Layer) -> pd.DataFrame:
    found = _mapped(out["metric"], layer.metric)
    return out.assign(unit=found["unit"], measure=found["measure"], rank=pd.to_numeric(found["rank"]))


def _tasks(out: pd.DataFrame, layer: Layer) -> pd.DataFrame:
    label = out["task"]
    unknown = {"task": "", "title": "", "chance": "0", "xtreme_r": "no"}
    found = _mapped(label, lambda name: layer.task(name) or unknown)
    known = {name: layer.task(name) is not None for name in label.unique()}
    task = found["task"].where(found["task"] != "", label)
    one = [out[name] for name in ("source_key", "model", "regime", "metric", "language")]
    several = label.groupby([*one, task.rename("one_task")]).transform("nunique") > 1
    subjects = several.groupby([out["source_key"], task.rename("one_task")]).transform("any")
    return out.assign(
        task_label=label,
        task=task,
        part=label.where(subjects, ""),
        task_title=found["title"].where(found["title"] != "", label),
        chance=pd.to_numeric(found["chance"]).where(found["chance"] != ""),
        chance_known=label.map(known),
        xtreme_r=found["xtreme_r"] == "yes",
    )


def _models(out: pd.DataFrame, layer: Layer) -> pd.DataFrame:
    pairs = out[["source_key", "model"]].drop_duplicates()
    of = {(source, name): layer.model(source, name) for source, name in pairs.itertuples(index=False, name=None)}
    keys = list(zip(out["source_key"], out["model"], strict=True))
    found = pd.DataFrame([of[key] for key in keys], index=out.index, columns=["base_model", "family", "params", "skip"])
    params = found["params"].where(found["params"] != "", out["params"])
    counts = {text: parameters(text) for text in params.unique()}
    named = out["model"].str.contains(_SPARSE_NAME)
    family = found["family"].where(found["family"] != "", out["model_family"])
    return out.assign(
        base_model=found["base_model"].where(found["base_model"] != "", out["base_model"]),
        skip=found["skip"],
        size=params.map({text: count for text, (count, _) in counts.items()}).astype(float),
        sparse=params.map({text: sparse for text, (_, sparse) in counts.items()}).astype(bool) | named,
        family=_one_spelling(family),
    )


def _one_spelling(names: pd.Series) -> pd.Series:
    """The most frequent spelling of names that are the same to ``tables.plain``."""
    key = names.map(plain)
    counts = pd.DataFrame({"key": key, "name": names}).value_counts().reset_index()
    best = (
        counts.sort_values(["count", "name"], ascending=[False, True]).drop_duplicates("key").set_index("key")["name"]
    )
    return key.map(best)


def _languages(out: pd.DataFrame, layer: Layer) -> pd.DataFrame:
    language = out["language"]
    kind = pd.Series("language", index=out.index)
    kind = kind.mask(language == "en", "english").mask(language.str.startswith("avg"), "average")
    kind = kind.mask(language.isin(["mixed"]) | (out["measure"] == "similarity"), "other")
    return out.assign(kind=kind, without_english=language.str.contains(_WITHOUT_ENGLISH))


def criteria(scores: pd.DataFrame) -> dict[str, pd.Series]:
    """What rows must be for estimates to use them, in words: which rows are."""
    return {
        "not of English": scores["kind"].isin(["language", "average"]),
        "in a metric that is used": scores["rank"].notna()
        & scores["measure"].isin(["score", "corrected", "difference"]),
        "of a task whose chance level can be corrected for": scores["corrected"].notna(),
        "of a model, in the regime that is stated": scores["skip"] == "",
        "of a model that uses all of its parameters": ~scores["sparse"],
    }


def usable(scores: pd.DataFrame) -> pd.DataFrame:
    """Rows that estimates may use: those that meet all ``criteria``."""
    return scores[pd.concat(criteria(scores), axis=1).all(axis=1)]


def one_per_language(rows: pd.DataFrame, series: list[str]) -> pd.DataFrame:
    """Each score of a series once: in one metric per task, by language where all models of the series have languages.
    The subjects of a test stay apart.

    ``series`` are columns; ``model`` distinguishes the models of a series. Of several metrics the one of lowest rank
    counts, of several averages the one without English, of several sources of a study the first by name. A task for
    which some model has averages only is compared on averages, where all have one.
    """
    by, own = [*series, "task"], [*series, "task", "model"]
    rows = rows[rows["rank"] == rows.groupby(by, dropna=False)["rank"].transform("min")]
    rows = rows.assign(single=rows["kind"] == "language", average=rows["kind"] == "average")
    for kind in ("single", "average"):
        any_of_model = rows.groupby(own, dropna=False)[kind].transform("any")
        rows[f"all_{kind}"] = any_of_model.groupby([rows[name] for name in by], dropna=False).transform("all")
        rows[f"has_{kind}"] = any_of_model
    # By language; else on averages; else each model as it is, which no line will join.
    languages = rows["all_single"] | (~rows["all_average"] & rows["has_single"])
    rows = rows[rows["single"] == languages]
    better = (rows["without_english"] & rows["average"]).groupby([rows[name] for name in own], dropna=False)
    rows = rows[rows["single"] | rows["without_english"] | ~better.transform("any")]
    label = rows["language"].where(rows["single"], "average")
    helpers = [name for name in rows if name.startswith(("all_", "has_"))] + ["single", "average"]
    return rows.assign(language=label).drop_duplicates([*own, "part", "language"]).drop(columns=helpers)


def in_window(sizes: pd.Series) -> pd.Series:
    """Which sizes belong to the 7B to 70B classes."""
    return sizes.between(*WINDOW)
