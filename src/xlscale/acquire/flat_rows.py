"""Rows of a flat file in the terms of a task family, with all that is wrong with them.

Belongs here: which columns a family's flat file has, and what is expected of a row by itself. Of all rows together:
``flat_sets``. Files: ``flat_files``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from xlscale.acquire.external import columns as located
from xlscale.acquire.flat_files import Faults, Place, Row
from xlscale.cards.languages import ENGLISH, checked
from xlscale.cards.schema import LABEL, is_label
from xlscale.core.files import XlscaleError, one_line
from xlscale.core.json_text import is_integer
from xlscale.core.strict import SHORT, unseen
from xlscale.data import words
from xlscale.data.schema import SPLITS

# Family -> the columns that its file needs, one of those with "|" between, and others that it may have.
COLUMNS: dict[str, tuple[str, str]] = {
    "classification": ("text label", "second"),
    "multiple_choice": ("text choices|choice_0 answer", ""),
    "span_qa": ("question context answers|answer", "answer_starts answer_start article"),
    "tagging": ("tokens tags", "text"),
    "retrieval": ("text english|group", "pool"),
    "mining": ("text pool group", ""),
    "ranking": ("text role group", "second relevant"),
    "lexicon": ("source text", ""),
    "text": ("text register", ""),
}
COMMON, OTHERS = ("split", "language"), ("item", "group", "original")
# Columns that hold names: blanks around them do not count, and whole numbers are names too.
NAMES = {"split", "language", "item", "group", "label", "pool", "role", "register"}
WORDS = {"tokens", "tags", "relevant"}  # lists that may be one text, with spaces between
ROLES = ("query", "candidate", "pair")
_CHOICE = re.compile(r"choice_(0|[1-9][0-9]*)")


class Wrong(ValueError):
    """What is wrong with a row, as the field and what was expected there."""


def check_columns(family: str, given: list[str], where: str, faults: Faults) -> tuple[list[str], bool]:
    """Note the columns that are missing, all of them at once; returns those that nothing uses, and whether none is."""
    needed, more = (text.split() for text in COLUMNS[family])
    needed = [*COMMON, *needed]
    if missing := [one for one in needed if not {*one.split("|")} & {*given}]:
        there = ", ".join(map(SHORT.repr, given[:12])) or "no column"
        faults.add(where, f"columns: expected {', '.join(needed)}; missing {', '.join(missing)}, got {there}")
    known = {name for one in (*needed, *more, *OTHERS) for name in one.split("|")}
    choices = family == "multiple_choice"
    unused = [name for name in given if name not in known and not (choices and _CHOICE.fullmatch(name))]
    return unused, not missing


def rows(family: str, places: list[Place], name: str, faults: Faults) -> list[Place]:
    """The rows in the family's columns, but for those that have faults, which are noted.

    What has no ``item`` gets one by the number of its row, which ``name`` tells from those of other sets; what has no
    ``group`` is parallel to nothing.
    """
    found: list[Place] = []
    english: dict[tuple[Any, ...], str] = {}
    for number, (where, row) in enumerate(places, 1):
        before, made = len(faults.found), {}
        for part in (*_EVERY, _MADE[family]):
            try:
                made |= part(row)
            except Wrong as error:
                faults.add(where, str(error))
        if len(faults.found) > before:
            continue
        made["item"] = made["item"] or f"{name}-{number}"
        made["group"] = made["group"] or made["item"]
        if family == "retrieval" and row.get("english") is not None:
            try:
                found += _candidate(Place(where, made), row, name, english)
            except Wrong as error:
                faults.add(where, str(error))
        found.append(Place(where, made))
    return found


def _candidate(place: Place, row: Row, name: str, known: dict[tuple[Any, ...], str]) -> Iterator[Place]:
    """The English row that a row with its translation beside it asks for, if it is not there yet; the row gets the
    group of it."""
    if place.row["language"] == ENGLISH:
        raise Wrong("language: expected another than 'en' beside the column english")
    if row.get("group") is not None:
        raise Wrong("group: expected nothing beside the column english, which says what is parallel")
    text = _text(row, "english")
    key = place.row["split"], place.row.get("pool"), text
    new = key not in known
    group = known.setdefault(key, f"{name}-{ENGLISH}-{len(known) + 1}")
    place.row["group"] = group
    if new:
        yield Place(place.where, place.row | {"language": ENGLISH, "item": group, "text": text, "original": None})


def _classification(row: Row) -> Row:
    text, label = _text(row, "text"), _name(row, "label")
    if not is_label("classification", "bio", label) or unseen(label):
        raise Wrong(f"label: expected {LABEL.partition(',')[0]}, of characters that show, got {SHORT.repr(label)}")
    return {"text": text, "label": label} | _given(row, "second", _text)


def _multiple_choice(row: Row) -> Row:
    if row.get("choices") is not None:
        choices = _list(row, "choices")
    else:
        numbered = {int(match[1]): name for name in row if (match := _CHOICE.fullmatch(name))}
        known = [name for _, name in sorted(numbered.items()) if row[name] is not None]
        if known != (expected := [f"choice_{n}" for n in range(len(known))]):
            raise Wrong(f"{next(a for a, b in zip(expected, known, strict=True) if a != b)}: expected a text, got none")
        choices = [_text(row, name) for name in known]
    if len(choices) < 2:
        raise Wrong(f"choices: expected two texts or more, got {len(choices)}")
    if twice := next((one for one in choices if choices.count(one) > 1), None):
        raise Wrong(f"choices: expected each once, got {SHORT.repr(twice)} again")
    answer = row.get("answer")
    if isinstance(answer, str) and re.fullmatch(r"\s*[0-9]{1,6}\s*", answer, re.ASCII):
        answer = int(answer)
    if not is_integer(answer) or not 0 <= answer < len(choices):
        expected = f"0 to {len(choices) - 1}, the place of the right choice counted from 0"
        raise Wrong(f"answer: expected {expected}, got {SHORT.repr(answer)}")
    return {"text": _text(row, "text"), "choices": choices, "answer": answer}


def _span_qa(row: Row) -> Row:
    context = _text(row, "context")
    answers, starts = _answers(row)
    found = [_placed(context, text, start) for text, start in zip(answers, starts, strict=True)]
    return {
        "question": _text(row, "question"),
        "context": context,
        "answers": [text for text, _ in found],
        "answer_starts": [start for _, start in found],
        "article": _optional(row, "article", _text),
    }


def _answers(row: Row) -> tuple[list[str], list[int | None]]:
    """The answers, and where they are said to begin: None where that is not said."""
    given, starts = row.get("answers"), row.get("answer_starts")
    if isinstance(given, dict) and given.keys() >= {"text", "answer_start"}:  # as the hub's copies of SQuAD have it
        row, starts = {"answers": given["text"]}, given["answer_start"]
    if row.get("answers") is not None:
        answers = _list(row, "answers")
    else:
        answers = [] if row.get("answer") is None else [_text(row, "answer")]
        starts = row.get("answer_start")
        starts = None if starts is None else [starts]
    if starts is None:
        return answers, [None] * len(answers)
    if not isinstance(starts, list) or len(starts) != len(answers):
        raise Wrong(f"answer_starts: expected {len(answers)}, one per answer, got {SHORT.repr(starts)}")
    return answers, [_position(start) for start in starts]


def _position(value: Any) -> int:
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,9}\s*", value, re.ASCII):
        return int(value)
    if not is_integer(value):
        raise Wrong(f"answer_starts: expected the number of a character, from 0, got {SHORT.repr(value)}")
    return value


def _placed(context: str, text: str, start: int | None) -> tuple[str, int]:
    """An answer without blanks around it, and where it begins in the context."""
    if start is None:
        bare = text.strip()
        there = [match.start() for match in re.finditer(f"(?={re.escape(bare)})", context)] if bare else []
        if len(there) != 1:
            expected = "where it begins, as it is there more than once" if there else "a text that the context holds"
            raise Wrong(f"{'answer_starts' if there else 'answers'}: expected {expected}, got {SHORT.repr(text)}")
        return bare, there[0]
    try:
        return located.located(context, text, start)
    except XlscaleError as error:
        raise Wrong(one_line(error, 200)) from None


def _tagging(row: Row) -> Row:
    tokens, tags = _list(row, "tokens"), _list(row, "tags")
    text = " ".join(tokens) if row.get("text") is None else _text(row, "text")
    if len(tokens) != len(tags) or not tokens:
        raise Wrong(f"tags: expected {len(tokens)}, one per token, and one at least, got {len(tags)}")
    try:
        words.starts(text, tokens)
    except ValueError as error:
        raise Wrong(f"tokens: {one_line(error)}") from None
    return {"text": text, "tokens": tokens, "tags": tags}


def _ranking(row: Row) -> Row:
    role = _one_of(row, "role", ROLES)
    second = _text(row, "second") if role == "pair" else None
    answers = role == "candidate" and row.get("relevant") is not None  # many a candidate answers nothing
    if row.get("group") is not None and re.search(r"\s", group := _name(row, "group")):
        raise Wrong(f"group: expected one without spaces, which part those in relevant, got {SHORT.repr(group)}")
    return {
        "text": _text(row, "text"),
        "role": role,
        "second": second,
        "relevant": _list(row, "relevant") if answers else [],
    }


def _lexicon(row: Row) -> Row:
    return {"source": _text(row, "source"), "text": _text(row, "text")}


# What every family has: each says its own fault.
_EVERY: tuple[Callable[[Row], Row], ...] = (
    lambda row: {"split": _one_of(row, "split", SPLITS)},
    lambda row: {"language": _language(row)},
    lambda row: {"item": _optional(row, "item", _name)},
    lambda row: {"group": _optional(row, "group", _name)},
    lambda row: {"original": _optional(row, "original", _text)},
)
_MADE: dict[str, Callable[[Row], Row]] = {
    "classification": _classification,
    "multiple_choice": _multiple_choice,
    "span_qa": _span_qa,
    "tagging": _tagging,
    "retrieval": lambda row: {"text": _text(row, "text")} | _given(row, "pool", _name),
    "mining": lambda row: {"text": _text(row, "text"), "pool": _name(row, "pool")},
    "ranking": _ranking,
    "lexicon": _lexicon,
    "text": lambda row: {"text": _text(row, "text"), "register": _name(row, "register")},
}


def _text(row: Row, name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise Wrong(f"{name}: expected a text, got {'nothing' if value is None else SHORT.repr(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Wrong(f"{name}: expected whole characters, got half of one in {SHORT.repr(value)}") from None
    if "\0" in value:
        raise Wrong(f"{name}: expected text without the character U+0000, got {SHORT.repr(value)}")
    return value


def _name(row: Row, name: str) -> str:
    value = row.get(name)
    text = str(value) if is_integer(value) else _text(row, name).strip()
    if not text:
        raise Wrong(f"{name}: expected a text, got {SHORT.repr(value)}")
    return text


def _one_of(row: Row, name: str, known: tuple[str, ...]) -> str:
    if (value := _name(row, name)) not in known:
        raise Wrong(f"{name}: expected {', '.join(known[:-1])} or {known[-1]}, got {SHORT.repr(value)}")
    return value


def _language(row: Row) -> str:
    code = _name(row, "language")
    try:
        return checked(code)
    except ValueError as error:
        got = "" if repr(code) in str(error) else f", got {SHORT.repr(code)}"
        raise Wrong(f"language: {error}{got}") from None


def _optional(row: Row, name: str, read: Callable[[Row, str], str]) -> str | None:
    return None if row.get(name) is None else read(row, name)


def _given(row: Row, name: str, read: Callable[[Row, str], str]) -> Row:
    """A column that all rows of a set have, or none."""
    return {name: read(row, name)} if name in row else {}


def _list(row: Row, name: str) -> list[str]:
    value = row.get(name)
    if name in WORDS and isinstance(value, str):
        value = value.split()
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        between = " with spaces between" if name in WORDS else ""
        raise Wrong(f"{name}: expected a list of texts{between}, got {SHORT.repr(value)}")
    return [_text({name: one}, name) for one in value]
