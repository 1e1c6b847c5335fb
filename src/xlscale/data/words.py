"""Words of tagging sets: how a text is split into tokens, in every script, and how they get BIO tags.

Spans are (type, first character, last character + 1) of a text; tags are ``O``, ``B-<type>``, ``I-<type>``, one per
token (Ramshaw and Marcus 1995, IOB2). Back from tags to spans: ``metrics.spans``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

OUTSIDE = "O"
Span = tuple[str, int, int]

# Where words do not stand apart (Thai to Myanmar, Hangul jamo, Khmer, kana, Han, Hangul): a character is a token.
# Korean has spaces, but its particles follow a name without one, so that a name's end is inside what spaces enclose.
_DENSE = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]"
)


def split(text: str) -> list[tuple[int, int]]:
    """First character and last + 1 of every token, in order.

    A token is a run of letters, digits and what belongs to them (combining marks, joiners), or in a script without
    spaces one character with its marks, or one character of punctuation. White space is in no token.
    """
    tokens: list[tuple[int, int]] = []
    open_to_more = False
    for index, character in enumerate(text):
        kind = unicodedata.category(character)
        inside = kind[0] == "M" or kind == "Cf"
        word = kind[0] in "LN" and not _DENSE.match(character)
        touching = bool(tokens) and tokens[-1][1] == index
        if touching and (inside or (word and open_to_more)):
            tokens[-1] = (tokens[-1][0], index + 1)
        elif not character.isspace():
            tokens.append((index, index + 1))
            open_to_more = word
    return tokens


def starts(text: str, tokens: Sequence[str]) -> list[int]:
    """Where in ``text`` each token begins. Raises ValueError naming the first one that does not follow the others."""
    found, end = [], 0
    for token in tokens:
        start = text.find(token, end)
        if start < 0:
            raise ValueError(f"expected {token!r} in the text after character {end}")
        found.append(start)
        end = start + len(token)
    return found


def bio(kinds: Iterable[str]) -> list[str]:
    """All tags of these types of spans: O, and B- and I- of each."""
    return [OUTSIDE, *(f"{position}-{kind}" for kind in kinds for position in "BI")]


def tags(tokens: Sequence[tuple[int, int]], spans: Sequence[Span]) -> list[str] | None:
    """BIO tags of tokens; None where a span does not begin and end with a token."""
    found = [OUTSIDE] * len(tokens)
    begins, ends = ({token[side]: i for i, token in enumerate(tokens)} for side in (0, 1))
    for kind, start, end in spans:
        if start not in begins or end not in ends:
            return None
        first, last = begins[start], ends[end]
        found[first : last + 1] = [f"B-{kind}"] + [f"I-{kind}"] * (last - first)
    return found
