"""Answers to questions: exact match and token F1, after the normalisation of SQuAD or of MLQA.

XTREME scores XQuAD and TyDiQA with the former, in every language, and MLQA with the latter, by language.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Literal

_SQUAD_ARTICLES = re.compile(r"\b(a|an|the)\b")
_SQUAD_PUNCTUATION = str.maketrans("", "", string.punctuation)
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


def normalise_squad(text: str) -> str:
    """Lower case, no ASCII punctuation, no English articles, single spaces (SQuAD v1.1, Rajpurkar et al. 2016)."""
    return " ".join(_SQUAD_ARTICLES.sub(" ", text.lower().translate(_SQUAD_PUNCTUATION)).split())


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


def normaliser(name: Literal["squad", "mlqa"], language: str) -> Callable[[str], str]:
    """The normalisation of that name for answers in ``language``, whatever its script and region."""
    return normalise_squad if name == "squad" else partial(normalise_mlqa, language=language.partition("_")[0])


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
