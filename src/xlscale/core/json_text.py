"""JSON in a text, such as that of a file, of a line or of a value in a table, without surprises: each key once in an
object, and finite numbers.

Belongs here: what those share who have a text, and say themselves where it stands. Files: ``files.read_json``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any


class Repeated(ValueError):
    """A ``key`` is twice in an object: of two values one would count without a word."""

    def __init__(self, key: str):
        super().__init__(f"key {key!r}: expected once")
        self.key = key


def parsed(text: str) -> Any:
    """The value of JSON. Raises ValueError where it is broken or a number is not finite, Repeated where an object has a
    key twice, and RecursionError."""
    return json.loads(text, object_pairs_hook=once, parse_constant=_finite, parse_float=_finite)


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, for ``object_pairs_hook``. Raises Repeated naming a key that it has twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Repeated(twice(name for name, _ in pairs))
    return found


def twice(values: Iterable[str]) -> str:
    """The first value that was there before. Raises StopIteration where there is none."""
    seen: set[str] = set()
    return next(value for value in values if value in seen or seen.add(value))


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"expected a finite number, got {text[:60]}")
    return value


def is_integer(value: Any) -> bool:
    """Whether a value is a whole number: to Python, true is 1."""
    return isinstance(value, int) and not isinstance(value, bool)
