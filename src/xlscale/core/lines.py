"""Text that people get line by line: titles, which are one line, and what commands print."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from xlscale.core.files import bounded
from xlscale.core.strict import Text

LONGEST = 200  # characters of a title


def _printed(text: str) -> str:
    if not text.isprintable():
        raise ValueError("expected one line of characters that print")
    return text


def _short(text: str) -> str:
    if not text.isprintable() or len(text) > LONGEST:
        raise ValueError(f"expected one line of at most {LONGEST} characters that print")
    return text


# What a card, a study or a benchmark says of itself and is printed: a second line would pass for what the program says.
Line = Annotated[str, AfterValidator(_printed)]
Title = Annotated[Text, AfterValidator(_short)]  # what it is called


def each_bounded(text: str) -> str:
    """Text for a terminal, of as many lines as it has, each ``bounded``."""
    return "\n".join(map(bounded, text.split("\n")))
