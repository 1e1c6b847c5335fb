"""Answers to questions: labels in SQuAD's JSON, predictions as a JSON object from question id to answer.

``exact_match`` and ``f1`` normalise as SQuAD v1.1 does, in every language; ``mlqa_exact_match`` and ``mlqa_f1`` as MLQA
does, by language. XTREME scores XQuAD and TyDiQA with the former, MLQA with the latter.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

from xlscale.metrics.answers import normalise_answer
from xlscale.xtreme.benchmark import Task
from xlscale.xtreme.source import Source, line_of, same_ids, shortened

# Lewis et al. 2020, MLQA (ACL), and its evaluation script, version 1. Hindi and Chinese have none; of other languages
# MLQA says nothing, and nothing is taken from them.
_ARTICLES = {
    "en": "a an the",
    "es": "un una unos unas el la los las",
    "vi": "của là cái chiếc những",
    "de": "ein eine einen einem eines einer der die das den dem des",
}
_ARABIC_ARTICLE = "ال"  # taken out wherever it stands, inside of words too: so does the script
_HAN = re.compile("([\u4e00-\u9fa5])")


class _Punctuation(dict):
    """For ``str.translate``: Unicode's punctuation and ASCII's symbols are left out; looked up once per character."""

    def __missing__(self, code: int) -> int | None:
        character = chr(code)
        out = unicodedata.category(character).startswith("P") or character in string.punctuation
        self[code] = None if out else code
        return self[code]


_PUNCTUATION = _Punctuation()


@cache
def _articles(language: str) -> re.Pattern | None:
    words = _ARTICLES.get(language)
    return re.compile(rf"\b({'|'.join(words.split())})\b") if words else None


def normalise_mlqa(text: str, language: str) -> str:
    """Lower case, no punctuation, no articles of the language, single spaces; in Chinese each Han character apart.

    The normalisation of MLQA's evaluation (Lewis et al. 2020) in its seven languages, and the same without articles in
    any other.
    """
    text = text.lower().translate(_PUNCTUATION)
    if language == "ar":
        text = text.replace(_ARABIC_ARTICLE, " ")
    elif pattern := _articles(language):
        text = pattern.sub(" ", text)
    elif language == "zh":
        text = _HAN.sub(r" \1 ", text)
    return " ".join(text.split())


def score_answers(task: Task, predictions: Source, labels: Source) -> dict[str, float]:
    """Mean exact match and token F1 over questions, 0 to 100, of the task's normalisations.

    Raises XlscaleError for broken JSON, a question without prediction, and a prediction without question.
    """
    gold, given = read_questions(labels), read_answers(predictions)
    same_ids(predictions, given, labels, gold)
    found: dict[str, float] = {}
    ways = {"": normalise_answer, "mlqa_": partial(normalise_mlqa, language=predictions.language)}
    for prefix, normalise in ways.items():
        names = prefix + "exact_match", prefix + "f1"
        if not set(names) & set(task.metrics):
            continue
        scores = [match(given[key], answers, normalise) for key, answers in gold.items()]
        found |= {
            name: 100 * sum(part) / len(gold) for name, part in zip(names, zip(*scores, strict=True), strict=True)
        }
    return found


def match(prediction: str, answers: Sequence[str], normalise: Callable[[str], str]) -> tuple[float, float]:
    """Exact match and token F1, 0 to 1, each the greatest over ``answers`` (SQuAD, Rajpurkar et al. 2016)."""
    predicted = normalise(prediction)
    tokens = predicted.split()
    exact = best = 0.0
    for answer in map(normalise, answers):
        exact = max(exact, float(predicted == answer))
        wanted = answer.split()
        shared = len(tokens) if tokens == wanted else (Counter(tokens) & Counter(wanted)).total()
        if shared:
            precision, recall = shared / len(tokens), shared / len(wanted)
            best = max(best, 2 * precision * recall / (precision + recall))
    return exact, best


def read_answers(source: Source) -> dict[str, str]:
    """Predicted answers by question id. Raises XlscaleError for broken JSON, an id twice, what is not a string."""
    found = source.mapping()
    for key, value in found.items():
        if not isinstance(value, str):
            line = line_of(source.text(), key)
            raise source.fault(f"id {key!r}: expected a string, got {shortened(value)}", line)
    return found


def read_questions(source: Source) -> dict[str, list[str]]:
    """True answers by question id, from SQuAD's JSON or its list ``data`` alone.

    Raises XlscaleError for broken JSON, another structure, an id twice, and a question without a true answer.
    """
    text = source.text()
    value = source.parse(text)
    found: dict[str, list[str]] = {}
    try:
        articles = value["data"] if isinstance(value, dict) else value
        for question in (q for article in articles for paragraph in article["paragraphs"] for q in paragraph["qas"]):
            key, answers = question["id"], [answer["text"] for answer in question["answers"]]
            if key in found:
                raise source.fault(f"duplicate id {key!r}", line_of(text, key, occurrence=2))
            _check(source, text, key, answers)
            found[key] = answers
    except (TypeError, KeyError, AttributeError) as error:
        raise source.fault(
            f"expected SQuAD's JSON (data, paragraphs, qas, id, answers, text), {_lacks(error)}"
        ) from None
    if not found:
        raise source.fault("expected at least one question")
    return found


def _lacks(error: Exception) -> str:
    return f"without {error}" if isinstance(error, KeyError) else "got another structure"


def _check(source: Source, text: str, key: Any, answers: list[Any]) -> None:
    if not isinstance(key, str) or not all(isinstance(answer, str) for answer in answers):
        raise TypeError
    if not any(answers):
        raise source.fault(
            f"id {key!r}: no true answer; XTREME's download removes them, here they have to be there",
            line_of(text, key),
        )
