"""The one way from data to HTML, a template whose values are escaped, unless this made them; and to Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

from xlscale.core.files import HIDDEN, printable

# What may mean something within a line of Markdown; of an underscore that is not within a word.
_MEANS = re.compile(r"[\\`*{}\[\]<>#|~&$!]|(?<![^\W_])_|_(?![^\W_])")


class Markup(str):
    """HTML that ``fill`` or ``join`` has made."""


def fill(template: str, *values: object) -> Markup:
    """``template`` with ``values`` in the place of its ``{}``: Markup as it is, all else as text, escaped."""
    return Markup(template.format(*(value if isinstance(value, Markup) else _text(str(value)) for value in values)))


def join(parts: Iterable[Markup]) -> Markup:
    """Pieces of markup, one after another."""
    return Markup("".join(parts))


def plain(markup: Markup) -> Markup:
    """Markup for a notebook, where MathJax would take what stands between two dollar signs for a formula."""
    return fill('<div class="mathjax_ignore tex2jax_ignore">{}</div>', markup)


def markdown(text: str) -> str:
    """Data as one line of Markdown that says what they are: no mark, no markup, no cell of a table."""
    return _MEANS.sub(r"\\\g<0>", printable(" ".join(text.split())))


def _text(value: str) -> str:
    return escape(HIDDEN.sub(lambda match: printable(match[0]), value)).replace("\n", "<br>")
