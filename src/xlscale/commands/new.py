"""The verbs ``new-data`` and ``new-model``: a card for what a user has. What is checked and written: ``acquire``."""

from __future__ import annotations

from pathlib import Path

from xlscale.commands.options import stated
from xlscale.core.files import XlscaleError
from xlscale.core.lines import each_bounded


def data(path: str, family: str, fields: str = "") -> str:
    """Make a data set of a flat file as ``new_data.add`` does. ``fields``: what the file does not say,
    "name=mine; licence=CC0-1.0". Raises XlscaleError as that does, and for a family that there is not."""
    from xlscale.acquire import new_data

    if family not in new_data.FAMILIES:
        raise XlscaleError(f"FAMILY: expected one of {', '.join(new_data.FAMILIES)}, got {family!r}")
    return each_bounded(new_data.add(Path(path), family, _drawn(stated(fields))))


def model(path: str, fields: str = "") -> str:
    """Write the card of a model as ``new_model.add`` does. ``fields``: what its folder does not say, "rungs=2 4".
    Raises XlscaleError as that does."""
    from xlscale.acquire import new_model

    return each_bounded(new_model.add(Path(path), _drawn(stated(fields))))


def _drawn(given: dict[str, str]) -> dict[str, str]:
    """What was given. Raises XlscaleError for a title that the paper's fonts cannot draw."""
    from xlscale.report import typeset

    if not (title := given.get("title", "")).isascii():
        typeset.check_titles({"SET": title})
    return given
