"""JSON in a text, such as a line of a file or a value of a table, read as strictly as ``files.read_json`` reads a file.

Belongs here: what those share who have the text already, and tell themselves where it stands.
"""

from __future__ import annotations

import json
import math
from typing import Any

from xlscale.core.files import once, one_line


def parsed(text: str) -> Any:
    """The value of JSON. Raises ValueError where it is broken, an object has a key twice or a number is not finite, and
    RecursionError."""
    return json.loads(text, object_pairs_hook=once, parse_constant=_finite, parse_float=_finite)


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"expected a finite number, got {one_line(text, 60)}")
    return value


def is_integer(value: Any) -> bool:
    """Whether a value is a whole number: to Python, true is 1."""
    return isinstance(value, int) and not isinstance(value, bool)
