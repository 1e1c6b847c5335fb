"""Random prediction and label folders of XTREME-R or XTREME, in the true sizes, for measuring and testing the scorer.

Predictions are correct at a rate of 70 to 90%, so that every metric has something to count. Sizes, and which of them
are unverified, are in score_sizes.yaml.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.random import Generator

from xlscale.xtreme.benchmark import Benchmark, Task

Sizes = dict[str, Any]  # of a task, as score_sizes.yaml states them
SIZES = Path(__file__).resolve().parent / "score_sizes.yaml"
CONTEXT = 800  # characters of a paragraph; XQuAD's English ones have 785 on average, counted
CORRECT = 0.7  # share of predictions that are the true ones
# First character and number of characters of a script, to write words with.
SCRIPTS = {
    "latin": (0x61, 26), "greek": (0x3B1, 25), "cyrillic": (0x430, 32), "arabic": (0x627, 36),
    "devanagari": (0x905, 50), "bengali": (0x995, 32), "telugu": (0xC15, 34), "thai": (0xE01, 46),
    "hangul": (0xAC00, 2000), "han": (0x4E00, 3000),
}  # fmt: skip
SCRIPT_OF = {
    "el": "greek", "ru": "cyrillic", "ar": "arabic", "hi": "devanagari", "bn": "bengali", "te": "telugu", "th": "thai",
    "ko": "hangul", "zh": "han",
}  # fmt: skip
DECORATION = ["the ", "a ", "der ", "los ", "là ", "ال", "«", "“", "。", "、", "।", ", ", "-", "$", "US ", "1,5 "]


def make(benchmark: Benchmark, folder: Path, generator: Generator, limit: int | None = None) -> None:
    """Write ``folder``/predictions and ``folder``/labels for every task; at most ``limit`` items per file."""
    sizes = yaml.safe_load(SIZES.read_text(encoding="utf-8"))
    for task in benchmark.tasks:
        for language in task.languages:
            own = sizes[task.name]
            items = own["items"] if isinstance(own["items"], int) else own["items"][language]
            files = FORMATS[task.format](task, language, min(items, limit or items), own, generator)
            for side, text in zip(("labels", "predictions"), files, strict=True):
                path = folder / side / task.name / task.file.format(language=language)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")


def _changed(gold: np.ndarray, choices: int, rate: float, generator: Generator) -> np.ndarray:
    """``gold`` with entries drawn anew from ``range(choices)`` at ``rate``."""
    return np.where(generator.random(len(gold)) < rate, generator.integers(choices, size=len(gold)), gold)


def _labels(task: Task, language: str, items: int, sizes: Sizes, generator: Generator) -> tuple[str, str]:
    gold = generator.integers(len(task.labels), size=items)
    return _lines(task, gold), _lines(task, _changed(gold, len(task.labels), 1 - CORRECT, generator))


def _lines(task: Task, codes: np.ndarray) -> str:
    names = np.array(task.labels)[codes]
    if task.format == "json_labels":
        names = [json.dumps({"label": int(name)}) for name in names]
    return "\n".join(names) + "\n"


def _indices(task: Task, language: str, items: int, sizes: Sizes, generator: Generator) -> tuple[str, str]:
    gold = generator.permutation(items)
    return tuple("\n".join(map(str, side)) + "\n" for side in (gold, _changed(gold, items, 1 - CORRECT, generator)))


def _tags(task: Task, language: str, items: int, sizes: Sizes, generator: Generator) -> tuple[str, str]:
    lengths = 1 + generator.poisson(sizes["tokens"][language] - 1, size=items)
    ends = np.cumsum(lengths)
    if "O" in task.labels:
        gold = _entities(task.labels, int(ends[-1]), ends, generator)
    else:
        frequencies = 1 / np.arange(1, len(task.labels) + 1)
        gold = generator.choice(len(task.labels), size=ends[-1], p=frequencies / frequencies.sum())
    predicted = _changed(gold, len(task.labels), 0.1, generator)
    names = np.array(task.labels)
    return tuple(
        "\n\n".join("\n".join(sentence) for sentence in np.split(names[side], ends[:-1])) + "\n\n"
        for side in (gold, predicted)
    )


def _entities(labels: list[str], tokens: int, ends: np.ndarray, generator: Generator) -> np.ndarray:
    """BIO tags in which an entity begins at a token out of four and goes on with probability one half."""
    kinds = sorted({label[2:] for label in labels if label != "O"})
    begins, goes_on = generator.random(tokens) < 0.25, generator.random(tokens) < 0.5
    kind = generator.integers(len(kinds), size=tokens)
    starts = np.zeros(tokens, bool)
    starts[0] = starts[ends[:-1]] = True
    gold = np.full(tokens, labels.index("O"))
    inside = [labels.index(f"I-{name}") for name in kinds]
    for i in range(tokens):
        if begins[i]:
            gold[i] = labels.index(f"B-{kinds[kind[i]]}")
        elif goes_on[i] and not starts[i] and gold[i - 1] != labels.index("O"):
            gold[i] = inside[kinds.index(labels[gold[i - 1]][2:])]
    return gold


def _answers(task: Task, language: str, items: int, sizes: Sizes, generator: Generator) -> tuple[str, str]:
    first, number = SCRIPTS[SCRIPT_OF.get(language, "latin")]
    letters = generator.integers(first, first + number, size=200_000).astype(np.uint32)
    letters[generator.random(len(letters)) < 0.18] = ord(" ")
    text = letters.tobytes().decode("utf-32-le")
    gold = _pieces(text, items, 15, generator)
    correct = generator.random(items) < CORRECT
    both = zip(gold, correct, _near(gold, text, generator), strict=True)
    predicted = [answer if is_correct else other for answer, is_correct, other in both]
    ids = [f"{generator.integers(2**63):016x}{i:06d}" for i in range(items)]
    questions = [{"question": f"{one} ?", "id": key, "answers": [{"answer_start": 0, "text": one}]}
                 for key, one in zip(ids, gold, strict=True)]  # fmt: skip
    of_one = sizes.get("questions", 1)
    parts = [questions[first : first + of_one] for first in range(0, items, of_one)]
    contexts = _pieces(text, len(parts), CONTEXT, generator)
    paragraphs = [{"context": context, "qas": part} for context, part in zip(contexts, parts, strict=True)]
    labels = {"version": "1.1", "data": [{"title": "", "paragraphs": [paragraph]} for paragraph in paragraphs]}
    return json.dumps(labels, indent=1) + "\n", json.dumps(dict(zip(ids, predicted, strict=True)), indent=1) + "\n"


def _pieces(text: str, items: int, length: int, generator: Generator) -> list[str]:
    """Stretches of ``text`` around ``length`` characters, one of four with something that normalisation takes away."""
    starts = generator.integers(len(text) - 2 * length, size=items)
    lengths = generator.integers(max(2, length // 2), 2 * length, size=items)
    heads = generator.integers(4 * len(DECORATION), size=items)
    return [
        (DECORATION[head] if head < len(DECORATION) else "") + (text[start : start + size].strip() or "x")
        for start, size, head in zip(starts, lengths, heads, strict=True)
    ]


def _near(gold: list[str], text: str, generator: Generator) -> list[str]:
    """Wrong answers: some share words with the true one."""
    others = _pieces(text, len(gold), 15, generator)
    return [f"{one.split()[-1]} {other}" for one, other in zip(gold, others, strict=True)]


def _pairs(task: Task, language: str, items: int, sizes: Sizes, generator: Generator) -> tuple[str, str]:
    target = generator.permutation(items)
    sides = target, _changed(target, items, 1 - CORRECT, generator)
    return tuple("".join(f"{language}-{i:09d}\ten-{one:09d}\n" for i, one in enumerate(side)) for side in sides)


def _ranking(task: Task, language: str, items: int, sizes: Sizes, generator: Generator) -> tuple[str, str]:
    relevant, candidates = sizes.get("relevant", 1), sizes["candidates"]
    size, gold, ranked = 20 + relevant, {}, {}
    for i in range(items):
        key = f"{generator.integers(2**63):016x}{i:06d}_{language}"
        if candidates < 10**5:
            found = generator.choice(candidates, size=size, replace=False, shuffle=False)
        else:
            found = np.unique(generator.integers(candidates, size=10 + size))[:size]
        names = [f"Q{one}" for one in generator.permutation(found)]
        gold[key] = names[:relevant]
        ranked[key] = [str(one) for one in generator.permutation(names)[:20]]
    return json.dumps(gold) + "\n", json.dumps(ranked) + "\n"


FORMATS = {
    "labels": _labels,
    "json_labels": _labels,
    "indices": _indices,
    "tags": _tags,
    "answers": _answers,
    "pairs": _pairs,
    "ranking": _ranking,
}
