"""How far languages are from English in their grammar: the table of ``data_manifest/languages``, and its card.

Belongs here: the schema of the card, and reading the table. How distances are made is in
``data_manifest/builders/typology.py``.
"""

from __future__ import annotations

import csv
import io
from functools import cache
from typing import Annotated

from pydantic import Field

from xlscale.cards.languages import Language
from xlscale.cards.schema import located
from xlscale.cards.sources import Package
from xlscale.core.files import MANIFEST, XlscaleError, read_text, relative, verify
from xlscale.core.lines import Title
from xlscale.core.strict import Below, Name, Sha256, Strict, Text, parse, read_yaml

CARD = MANIFEST / "languages" / "card.yaml"
COLUMNS = ("language", "code", "family", "syntax", "known")
Share = Annotated[float, Field(ge=0, le=1)]


class Distances(Strict):
    """The card of the table."""

    name: Name
    title: Title
    file: Below  # relative to data_manifest/
    sha256: Sha256
    package: Package
    licence: Text
    citation: Text
    description: Text
    limits: Text


class Distance(Strict):
    """A row of the table: ``code`` of the source, its largest ``family``, distance of ``syntax`` from English, and
    which share of the features behind it is ``known``, not predicted."""

    language: Language
    code: Annotated[str, Field(pattern=r"^[a-z]{3}$")]
    family: Text
    syntax: Share
    known: Share


def card() -> Distances:
    """The card. Raises XlscaleError where it is broken."""
    return parse(Distances, read_yaml(CARD), relative(CARD))


@cache
def distances() -> dict[str, Distance]:
    """Code of a language -> its row. Raises XlscaleError where the table is not as its card says."""
    known = card()
    path = located(MANIFEST, known.file)
    verify(path, known.sha256, known.title)
    head, *rows = csv.reader(io.StringIO(read_text(path)))
    if tuple(head) != COLUMNS:
        raise XlscaleError(f"{relative(path)}, line 1: expected the columns {', '.join(COLUMNS)}")
    found = {}
    for number, row in enumerate(rows, 2):
        where, values = f"{relative(path)}, line {number}", dict(zip(COLUMNS, row, strict=True))
        one = parse(Distance, values | {name: float(values[name]) for name in ("syntax", "known")}, where)
        found[one.language] = one
    return found
