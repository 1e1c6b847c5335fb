"""From a record of a source to a row of a family: what the ``columns`` of a card mean.

A specification is one of

- ``premise``, ``answers.text``: a field, dots going into nested ones (of every element, where it is a list);
- ``"{premise} What was the {question}?"``: a template over fields;
- ``[choice1, choice2]``: a list of specifications;
- ``{of: label, map: [entailment, neutral]}`` or ``{of: label, map: {"A": 0}}``: what a value stands for, element by
  element where it is a list; whole numbers index a list;
- ``{join: tokens}``: a list of words as one text, with spaces between;
- ``{constant: pair}``: the same for all;
- ``{sentence: context, of: answers.answer_start}``: the sentence of a text that holds a character.

Beside the record's own, there are the fields ``@code`` (our code of the language), ``@language`` (the source's),
``@row`` (number of the record in its part), ``@part``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from xlscale.core.files import XlscaleError
from xlscale.core.json_text import is_integer
from xlscale.core.strict import SHORT

_FIELD = re.compile(r"\{([@\w][\w.]*)\}")
# A sentence ends with a mark, quotes and brackets that close, then white space; in scripts without spaces at the mark.
_END = re.compile(r"(?:[.!?؟।]+[\"'”’)\]]*(?=\s|$))|[。！？]+[」』”’]*|\n+")

NEAR = 20  # characters that an answer may be away from where it is said to be

Record = Mapping[str, Any]


class Misplaced(XlscaleError):
    """An answer is not in its context, or not near where it is said to be."""


def field(record: Record, path: str) -> Any:
    """The field at ``path``. Raises XlscaleError naming the field and those that are there."""
    value: Any = record
    for name in path.split(".") if path not in record else [path]:
        try:
            value = [one[name] for one in value] if isinstance(value, list) else value[name]
        except (KeyError, TypeError, IndexError):
            there = ", ".join(key for key in record if not key.startswith("@"))
            raise XlscaleError(f"field {path!r}: expected in every record, found {there or 'none'}") from None
    return value


def make(spec: Any, record: Record) -> Any:
    """The value that a specification describes. Raises XlscaleError naming the field and what was expected."""
    if isinstance(spec, str):
        return filled(spec, record) if "{" in spec else field(record, spec)
    if isinstance(spec, list):
        return [make(one, record) for one in spec]
    if "constant" in spec:
        return spec["constant"]
    if "join" in spec:
        return _joined(make(spec["join"], record), spec["join"])
    if "sentence" in spec:
        return sentence(make(spec["sentence"], record), _first(make(spec["of"], record), spec["of"]))
    return _mapped(spec["map"], make(spec["of"], record), spec["of"])


def filled(template: str, record: Record) -> str:
    """The template with the fields' values in it. Raises XlscaleError for a field without one."""
    return _FIELD.sub(lambda match: as_text(record, match[1]), template)


def as_text(record: Record, name: str) -> str:
    """The field's value as text. Raises XlscaleError for what is neither a text nor a finite number: as text, a list or
    a truth value would be Python's name for it."""
    if (value := field(record, name)) is None:
        raise XlscaleError(f"field {name!r}: expected a value, got none")
    if not isinstance(value, str) and not is_integer(value) and not (isinstance(value, float) and math.isfinite(value)):
        raise XlscaleError(f"field {name!r}: expected a text or a finite number, got {SHORT.repr(value)}")
    return str(value)


def _mapped(table: list[Any] | dict[Any, Any], value: Any, name: str) -> Any:
    if isinstance(value, list):
        return [_mapped(table, one, name) for one in value]
    known = dict(enumerate(table)) if isinstance(table, list) else table
    key = value.strip() if isinstance(value, str) else value
    for one, meant in known.items():
        if _same(one, key):
            return meant
    raise XlscaleError(f"field {name!r}: expected one of {', '.join(map(str, known))}, got {SHORT.repr(value)}")


def _same(one: Any, other: Any) -> bool:
    """Whether two values are the same: to Python, true and 1.0 are 1."""
    return type(one) is type(other) and one == other


def matches(where: Mapping[str, Any], record: Record) -> bool:
    """Whether every field of ``where`` is one of its list, or matches its pattern (a template, then as file names)."""
    for name, wanted in where.items():
        value = field(record, name)
        if isinstance(wanted, list):
            found = any(_same(value, one) for one in wanted)
        else:
            found = value is not None and fnmatchcase(as_text(record, name), filled(wanted, record))
        if not found:
            return False
    return True


def sentences(text: str) -> list[tuple[int, int]]:
    """First character and last + 1 of every sentence: by marks, a rule of thumb for text that states none."""
    found, start = [], 0
    for end in [*(match.end() for match in _END.finditer(text)), len(text)]:
        begin = start + len(text[start:end]) - len(text[start:end].lstrip())
        if text[begin:end].strip():
            found.append((begin, end))
        start = end
    return found


def sentence(text: str, position: int) -> str:
    """The sentence of ``text`` that holds the character at ``position``."""
    return next((text[a:b].strip() for a, b in sentences(text) if position < b), text)


def located(context: str, text: str, start: int) -> tuple[str, int]:
    """An answer without the blanks around it, and the position of its first character in the context.

    Where it is not at ``start``, the nearest position within NEAR characters counts: some sources count bytes, or have
    changed a context after marking it. Raises Misplaced.
    """
    if not isinstance(text, str) or not is_integer(start):
        raise XlscaleError(f"answers, answer_starts: expected a text and a number, got {text!r} and {start!r}")
    bare = text.strip()
    start += len(text) - len(text.lstrip())
    if bare and start >= 0 and context[start : start + len(bare)] == bare:
        return bare, start
    low, high = max(0, start - NEAR), max(0, start + NEAR + len(bare))
    starts = [match.start() + low for match in re.finditer(f"(?={re.escape(bare)})", context[low:high])] if bare else []
    if not starts:
        raise Misplaced(f"answer_starts: expected {text!r} at character {start} of the context, or near")
    return bare, min(starts, key=lambda one: abs(one - start))


def _joined(value: Any, name: Any) -> str:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise XlscaleError(f"field {name!r}: expected a list of texts, got {str(value)[:80]}")
    return " ".join(value)


def _first(value: Any, name: Any) -> int:
    position = value[0] if isinstance(value, list) and value else value
    if not is_integer(position):
        raise XlscaleError(f"field {name!r}: expected the position of a character, got {position!r}")
    return position
