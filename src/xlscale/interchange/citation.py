"""Who made this artifact, when, and how it is cited: what CITATION.cff says."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from xlscale.core.files import ROOT, relative
from xlscale.core.strict import Strict, Text, parse, read_yaml

FILE = ROOT / "CITATION.cff"


class Author(Strict):
    """An organisation, or a group of people."""

    name: Text


class Citation(Strict):
    """The fields of CITATION.cff, version 1.2.0 of the Citation File Format."""

    cff_version: Literal["1.2.0"]
    message: str
    type: Literal["software"]
    title: Text
    abstract: str
    authors: Annotated[list[Author], Field(min_length=1)]
    version: Text
    date_released: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$")]
    license: Text
    keywords: list[Text]

    @property
    def author(self) -> str:
        """The first author."""
        return self.authors[0].name

    @property
    def released(self) -> str:
        """The day of the release, as year-month-day."""
        return self.date_released


def citation() -> Citation:
    """What CITATION.cff says. Raises XlscaleError naming the field that is missing or of another kind."""
    values = read_yaml(FILE)
    named = {name.replace("-", "_"): value for name, value in values.items()} if isinstance(values, dict) else values
    return parse(Citation, named, relative(FILE))
