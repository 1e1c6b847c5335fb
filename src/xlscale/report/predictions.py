"""Predictions with the texts that they are of: what was read, what is right, what was said, as HTML.

Belongs here: what an item, its gold and its prediction look like to a person, by task family. Texts are read from the
user's own copy of the data set, which the record does not hold; each has its own direction, and nothing in it is
markup or a formula.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

from xlscale import tasks
from xlscale.cards.languages import ENGLISH
from xlscale.cards.schema import DataCard
from xlscale.core.format import DASH
from xlscale.data import words
from xlscale.metrics import spans
from xlscale.report.markup import Markup, fill, join

RANKED = 3  # candidates of a ranking that are shown, best first
NOTHING = fill("<i>nothing</i>")
Row = Mapping[str, Any]


class Shown(NamedTuple):
    """An item: what was read, and what is right."""

    text: Markup
    gold: Markup


class Texts:
    """The items of one split of a data set. Raises XlscaleError where its file is not on this machine."""

    def __init__(self, card: DataCard, split: str = "test"):
        self.card, self._task = card, tasks.of(card)
        rows = self._task.rows()[split].to_pandas()
        self._rows = {(row["language"], row["item"]): row for row in rows.to_dict("records")}
        self._show, self._say = _FAMILIES[card.family]

    def item(self, language: str, item: str) -> Shown:
        """An item and its gold. Raises KeyError for one that the split does not have."""
        return self._show(self, self._rows[language, item])

    def said(self, language: str, item: str, prediction: str) -> Markup:
        """What a prediction stands for. Raises KeyError as ``item`` does."""
        return self._say(self, self._rows[language, item], prediction)

    @cached_property
    def english(self) -> dict[tuple[str | None, str], str]:
        """(pool, group) -> the English text, which retrieval and mining search."""
        rows = (row for row in self._rows.values() if row["language"] == ENGLISH)
        return {(row.get("pool"), row["group"]): row["text"] for row in rows}

    @cached_property
    def answering(self) -> dict[str, list[Row]]:
        """Group of a query -> the candidates of a ranking that answer it."""
        found: dict[str, list[Row]] = {}
        for row in self._rows.values():
            for group in row["relevant"] if row["role"] == "candidate" else ():
                found.setdefault(group, []).append(row)
        return found

    def _label(self, row: Row) -> Shown:
        parts = [row["text"], *([row["second"]] if row.get("second") is not None else [])]
        return Shown(_paragraphs(parts), fill("{}", row["label"]))

    def _named(self, row: Row, prediction: str) -> Markup:
        return fill("{}", prediction)

    def _choices(self, row: Row) -> Shown:
        items = join(fill('<li dir="auto">{}</li>', choice) for choice in row["choices"])
        return Shown(fill("{}<ol>{}</ol>", _one(row["text"]), items), self._choice(row, str(row["answer"])))

    def _choice(self, row: Row, prediction: str) -> Markup:
        known = prediction.isdecimal() and int(prediction) < len(row["choices"])
        text = _one(row["choices"][int(prediction)]) if known else Markup()
        return fill("{}{}", f"{int(prediction) + 1}. " if known else prediction, text)

    def _tags(self, row: Row) -> Shown:
        return Shown(_one(row["text"]), self._tagged(row, " ".join(row["tags"])))

    def _tagged(self, row: Row, prediction: str) -> Markup:
        tags = prediction.split()
        if len(tags) != len(row["tokens"]):
            return fill("{}", prediction)
        if self.card.tags == "plain":
            return _each_tagged(row["tokens"], tags, list(row["tags"]))
        return fill('<span dir="auto">{}</span>', marked(row["text"], row["tokens"], tags))

    def _question(self, row: Row) -> Shown:
        answers, context = list(row["answers"]), row["context"]
        start = row["answer_starts"][0] if answers else 0
        end = start + (len(answers[0]) if answers else 0)
        parts = context[:start], context[start:end], context[end:]
        text = fill(
            '<b dir="auto">{}</b><p dir="auto" style="margin:0">{}<mark>{}</mark>{}</p>', row["question"], *parts
        )
        return Shown(text, _paragraphs(dict.fromkeys(answers)) if answers else NOTHING)

    def _answer(self, row: Row, prediction: str) -> Markup:
        try:
            text = self._task.answer(prediction, row["context"])
        except ValueError:  # no place in the context: of another version of the data
            text = prediction
        return _one(text) if text else NOTHING

    def _query(self, row: Row) -> Shown:
        return Shown(_one(row["text"]), self._found(row, row["group"]))

    def _found(self, row: Row, prediction: str) -> Markup:
        text = self.english.get((row.get("pool"), prediction))
        return _one(text) if text is not None else fill("{}", prediction) if prediction else NOTHING

    def _mined(self, row: Row) -> Shown:
        other = self.english.get((row.get("pool"), row["group"]))
        return Shown(_one(row["text"]), NOTHING if other is None else _one(other))

    def _ranked(self, row: Row) -> Shown:
        right = self.answering.get(row["group"], [])
        return Shown(_one(row["text"]), _paragraphs(one["text"] for one in right[:RANKED]))

    def _best(self, row: Row, prediction: str) -> Markup:
        keys = [tuple(name.partition(":")[::2]) for name in prediction.split()[:RANKED]]
        texts = (self._rows[key]["text"] if key in self._rows else ":".join(key) for key in keys)
        return join(fill('<li dir="auto">{}</li>', text) for text in texts)

    def _word(self, row: Row) -> Shown:
        return Shown(_one(row["text"]), _one(row["source"]))


# family -> how an item and how a prediction is shown
_FAMILIES: dict[str, tuple[Callable[[Texts, Row], Shown], Callable[[Texts, Row, str], Markup]]] = {
    "classification": (Texts._label, Texts._named),
    "multiple_choice": (Texts._choices, Texts._choice),
    "tagging": (Texts._tags, Texts._tagged),
    "span_qa": (Texts._question, Texts._answer),
    "retrieval": (Texts._query, Texts._found),
    "mining": (Texts._mined, Texts._found),
    "ranking": (Texts._ranked, Texts._best),
    "lexicon": (Texts._word, Texts._named),
}


def _one(text: str) -> Markup:
    return fill('<span dir="auto">{}</span>', text)


def _paragraphs(texts: Iterable[str]) -> Markup:
    return join(fill('<p dir="auto" style="margin:0">{}</p>', text) for text in texts) or fill(DASH)


def marked(text: str, tokens: Iterable[str], tags: list[str]) -> Markup:
    """A text with the spans of its tags (B-, I-, O) marked, each with its type."""
    tokens = list(tokens)
    begins = words.starts(text, tokens)
    parts, done = [], 0
    for kind, first, last in spans.of(tags):
        start, end = begins[first], begins[last - 1] + len(tokens[last - 1])
        parts.append(fill("{}<mark>{}</mark><sub>{}</sub>", text[done:start], text[start:end], kind))
        done = end
    return join([*parts, fill("{}", text[done:])])


def _each_tagged(tokens: Iterable[str], tags: list[str], gold: list[str]) -> Markup:
    """Every word with its tag; marked where that is not the one of ``gold``."""
    one, wrong = "{}<sub>{}</sub> ", "<mark>{}<sub>{}</sub></mark> "
    each = zip(tokens, tags, gold, strict=True)
    parts = (fill(one if mine == true else wrong, word, mine) for word, mine, true in each)
    return fill('<span dir="auto">{}</span>', join(parts))
