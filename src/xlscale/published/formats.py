"""Result files of other harnesses as rows of a source: lm-evaluation-harness, EuroEval and MTEB.

What such a file does not say (the source's key, the family, what the model was trained on) is given beside it. Nothing
is guessed: what cannot be read as one score in one language is left out, and named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from xlscale.acquire.external import readers
from xlscale.cards.languages import ENGLISH, canonical
from xlscale.core.files import XlscaleError, printable, read_json, relative
from xlscale.core.json_text import once
from xlscale.core.strict import SHORT

Row = dict[str, str]
Reader = Callable[[Any, Path], Iterator["Row | str"]]  # rows, and what was left out: one line each
# The first of these that a task has is read; others are named.
_HARNESS = ("acc", "exact_match", "f1", "mcc", "em")
_MOST = 10**15  # parameters
_NONE = "no language"
_LANGUAGE = re.compile(r"(.+)_([a-z]{2}|[a-z]{3}_[A-Z][a-z]{3})")
_CROSSED = re.compile(r"(mlqa)_([a-z]{2})_([a-z]{2})")  # the language of the context, and of the question
# Of the names of the harness's tasks, those that end in something else that looks like the code of a language.
_OTHERWISE = re.compile(
    r"(\w+_)?(agieval_(jec_qa_ca|lsat_ar|sat_en)|csatqa_li|polemo2_in|matreshka_yes_no|transliteration_dr_ar)"
    r"|xnli_eu_mt|(zho)?blimp_.+"
)
_EUROEVAL = {"named-entity-recognition": "ner", "reading-comprehension": "reading_comprehension"}
_MAIN = {"ner": "test_micro_f1_no_misc", "reading_comprehension": "test_f1"}
# What says how a record was made, and what counts where it says nothing: without the first, prompting and fine-tuning
# cannot be told apart.
_FLAGS = {"generative": None, "few_shot": True, "validation_split": False}
_EUROEVAL_METRIC = "primary metric (NER micro-F1 no-MISC; RC F1; MC tasks MCC)"
_EUROEVAL_REGIME = "few-shot (EuroEval default; some models zero-shot - see note in model name)"


def read(path: Path) -> tuple[list[Row], list[str]]:
    """The rows of a .json or .jsonl file, and a line for each result that was left out.

    Raises XlscaleError for a file that is in none of the three formats, naming what each is known by.
    """
    records = readers.objects(path) if path.suffix == ".jsonl" else [read_json(path)]
    rows: list[Row] = []
    left: list[str] = []
    for n, record in enumerate(records, 1):
        reader = _reader(record)
        if reader is None:
            known = (
                "results and configs (lm-evaluation-harness), dataset and results (EuroEval), or task_name and scores"
            )
            raise XlscaleError(f"{relative(path)}:{n}: expected an object with {known} (MTEB)")
        with readers.expecting(Path(f"{path}:{n}"), f"what {_NAMES[reader]} writes"):
            found = list(reader(record, path))
        rows += [one for one in found if isinstance(one, dict)]
        left += [printable(one) for one in found if isinstance(one, str)]
    return rows, left


def _reader(record: Any) -> Reader | None:
    if not isinstance(record, dict):
        return None
    for fields, reader in ((("results", "configs"), _harness), (("dataset", "results"), _euroeval)):
        if all(field in record for field in fields):
            return reader
    return _mteb if {"task_name", "scores"} <= record.keys() else None


def _harness(record: Any, path: Path) -> Iterator[Row | str]:
    config = record.get("config") or {}
    arguments = config.get("model_args") or {}
    if isinstance(arguments, str):
        arguments = once([tuple(part.split("=", 1)) for part in arguments.split(",") if "=" in part])
    model = record.get("model_name") or arguments.get("pretrained") or ""
    for name in ("peft", "delta"):  # trained parts, which the name of the model does not say
        model = f"{model} + {_text(arguments[name], name)}" if arguments.get(name) else model
    groups = {name for name, parts in (record.get("group_subtasks") or {}).items() if parts}
    if limit := config.get("limit"):
        yield f"limit {SHORT.repr(limit)}: these are scores of a part of each task's items"
    for name, values in record["results"].items():
        if (crossed := _CROSSED.fullmatch(name)) and crossed[2] != crossed[3]:
            yield f"{name}: left out: two languages at the end of its name"
            continue
        task, language = named(name)
        if name in groups or not language:
            yield f"{name}: left out: {'a group of tasks' if name in groups else 'no language at the end of its name'}"
            continue
        metrics = [key for key in values if key.split(",")[0] in _HARNESS]
        metrics.sort(key=lambda key: _HARNESS.index(key.split(",")[0]))
        if not metrics:
            yield f"{name}: left out: none of its metrics is one of {', '.join(_HARNESS)}"
            continue
        for other in metrics[1:]:
            yield f"{name}: {metrics[0]} is read, {other} is not"
        metric, chosen = metrics[0].split(",") if "," in metrics[0] else (metrics[0], "none")
        shots = (record.get("n-shot") or {}).get(name, 0)
        if type(shots) is not int or shots < 0:
            raise ValueError(f"n-shot: expected a whole number, got {SHORT.repr(shots)}")
        yield {
            **_about(path, model, _count(config.get("model_num_parameters")), name),
            "table": "lm-evaluation-harness JSON",
            "regime": prompted(shots),
            "task": task,
            "metric": measured(metric, chosen),
            "language": language,
            "value": _number(values[metrics[0]]),
            "stderr": _number(values.get(f"{metric}_stderr,{chosen}", values.get(f"{metric}_stderr"))),
        }


def named(name: str) -> tuple[str, str]:
    """A task of lm-evaluation-harness without the code of a language at its end, and that language; the name itself and
    nothing where it ends in none, or in two."""
    crossed = _CROSSED.fullmatch(name)
    place = None if _OTHERWISE.fullmatch(name) else crossed or _LANGUAGE.fullmatch(name)
    language = _canonical(place[2]) if place and not (crossed and crossed[2] != crossed[3]) else ""
    return (place[1], language) if language else (name, "")


def prompted(shots: int) -> str:
    """The regime of a score that was obtained by prompting with so many examples."""
    return f"few-shot-{shots}" if shots else "zero-shot-prompted"


def measured(metric: str, chosen: str) -> str:
    """What a source calls a metric of lm-evaluation-harness behind the filter ``chosen``; of some the unit is known."""
    told = metric if chosen == "none" else f"{metric}, {chosen}"
    return f"{told} ({'fraction, ' if metric.removesuffix('_norm') in _HARNESS else ''}lm-eval-harness)"


def _euroeval(record: Any, path: Path) -> Iterator[Row | str]:
    task = _EUROEVAL.get(record["task"], record["task"].replace("-", "_"))
    model, label = _text(record["model"], "model"), f"{task} ({_text(record['dataset'], 'dataset')})"
    languages = _languages(record["languages"])
    main, total = _MAIN.get(task, "test_mcc"), record["results"]["total"]
    why = ""
    if record.get("generative") is False:
        why = "the model was fine-tuned on the task"
    elif len(languages) != 1 or _NONE in languages:
        why = f"expected one language, got {', '.join(sorted(languages)) or 'none'}"
    elif main not in total:
        why = f"expected {main} among its results"
    elif wrong := [name for name, usual in _FLAGS.items() if type(record.get(name, usual)) is not bool]:
        why = f"{wrong[0]}: expected true or false, got {SHORT.repr(record.get(wrong[0]))}"
    if why:
        yield f"{model}: {label}: left out: {why}"
        return
    split = " (val)" if record.get("validation_split") else ""
    yield {
        **_about(path, model + split, _count(record.get("num_model_parameters")), record["dataset"]),
        "table": "EuroEval records",
        "regime": _EUROEVAL_REGIME if record.get("few_shot", True) else "zero-shot-prompted",
        "task": label,
        "metric": _EUROEVAL_METRIC,
        "language": languages.pop(),
        "value": _number(total[main]),
        "stderr": _number(total.get(f"{main}_se")),
    }


def _mteb(record: Any, path: Path) -> Iterator[Row | str]:
    about = path.with_name("model_meta.json")
    meta = read_json(about) if about.exists() else {}
    name, splits = _text(record["task_name"], "task_name"), record["scores"]
    split = "test" if "test" in splits else next(iter(splits), "test")
    for other in splits:
        if other != split:
            yield f"{name}: the split {split} is read, {other} is not"
    for scores in splits[split]:
        codes, part = _languages(scores["languages"]), _text(scores["hf_subset"], "hf_subset")
        codes = codes - {ENGLISH} if len(codes) == 2 else codes
        if len(codes) != 1 or _NONE in codes:
            yield f"{name} ({part}): left out: expected one language, or one and English"
            continue
        yield {
            **_about(path, meta.get("name") or "", _count(meta.get("n_parameters")), f"{name}, {part}"),
            "table": "MTEB results",
            "regime": "zero-shot retrieval (no task training)",
            "task": name,
            "metric": "main score (fraction, MTEB)",
            "language": codes.pop(),
            "value": _number(scores["main_score"]),
        }


def _languages(codes: Any) -> set[str]:
    """The languages of a list of codes, "no language" for what is none's."""
    if not isinstance(codes, list):
        raise ValueError(f"languages: expected a list of codes, got {SHORT.repr(codes)}")
    return {_canonical(code) or _NONE for code in codes}


def _canonical(code: str) -> str:
    """The code of a language as a source writes it; nothing for what is the code of none."""
    try:
        return canonical(code)
    except ValueError:
        return ""


def _text(text: Any, field: str) -> str:
    if not isinstance(text, str):
        raise ValueError(f"{field}: expected a text, got {SHORT.repr(text)}")
    return text


def _about(path: Path, model: Any, params: str, what: str) -> Row:
    return {
        "model": _text(model, "model"),
        "params": params,
        "where_read": f"{path.name}, {what}",
        "quality": "primary",
    }


def _count(number: Any) -> str:
    """A number of parameters as a source writes it; nothing where it is not known. Raises ValueError beyond _MOST."""
    if not isinstance(number, int | float) or number < 1e6:
        return ""
    if number > _MOST:
        raise ValueError(f"number of parameters: expected at most {_MOST:g}, got {SHORT.repr(number)}")
    return f"{number / 1e9:.4g}B" if number >= 1e9 else f"{number / 1e6:.4g}M"


def _number(value: Any) -> str:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return ""
    try:
        return repr(float(value))
    except OverflowError:
        raise ValueError(f"expected a number as a score, got {SHORT.repr(value)}") from None


_NAMES: dict[Reader, str] = {_harness: "lm-evaluation-harness", _euroeval: "EuroEval", _mteb: "MTEB"}
