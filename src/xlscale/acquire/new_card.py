"""What ``new_data`` and ``new_model`` share: the name of a card, its text, and what of it only a person can say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from xlscale.cards.schema import NONE, DataCard, ModelCard
from xlscale.core.files import XlscaleError, relative

# By kind of card, what only a person can say, and nobody should have to guess.
STATED = {"data": ("licence", "citation", "limits"), "model": ("licence", "origin", "trained_on")}
NOT_STATED = "not stated"
_PLAIN = re.compile(r"[^\W\d_][\w .,;()/'%+-]*")  # a text that nobody takes for anything else than a text


def check_fields(given: Mapping[str, str], known: tuple[str, ...]) -> None:
    """Raise XlscaleError unless all that is given is known."""
    if unknown := [name for name in given if name not in known]:
        raise XlscaleError(f"SET: expected some of {', '.join(known)}, got {unknown[0]!r}")


def name(path: Path, given: Mapping[str, str]) -> str:
    """The name of a card: as it is given, or that of the file or folder. Raises XlscaleError where it cannot be one."""
    found = given.get("name") or re.sub(r"[^a-z0-9]+", "_", path.stem.lower()).strip("_")
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", found) or found == NONE:
        expected = 'a letter, then letters, digits and "_", all lower case, as in SET="name=mine"'
        raise XlscaleError(f"SET: name: expected {expected}, got {found!r}")
    return found


def head(name: str, given: Mapping[str, str]) -> dict[str, Any]:
    """The first fields of a card."""
    return {"name": name, "title": given.get("title") or name.replace("_", " ").capitalize()}


def free(path: Path) -> Path:
    """The path of a file that is to be written. Raises XlscaleError where something is there."""
    if path.exists() or path.is_symlink():
        raise XlscaleError(
            f"{relative(path)}: expected nothing there, as nothing is replaced; remove it or choose another name"
        )
    return path


class _Dumper(yaml.SafeDumper):
    """YAML in which every text is one to all readers: here a label 1e3 or 08 would be a number, elsewhere no or on a
    truth value."""


def _text(dumper: _Dumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if _PLAIN.fullmatch(text) else '"')


_Dumper.add_representer(str, _text)


def as_yaml(fields: dict[str, Any]) -> str:
    """The text of a card."""
    return yaml.dump(fields, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def not_stated(card: DataCard | ModelCard) -> str:
    """The fields of a card that were left to be stated, as messages have them; nothing where all are."""
    fields = STATED["data" if isinstance(card, DataCard) else "model"]
    return ", ".join(field for field in fields if getattr(card, field) == NOT_STATED)


def reminder(card: DataCard | ModelCard) -> list[str]:
    """A line about what is left to be stated, if anything is."""
    lacking = not_stated(card)
    said = f"{lacking}: only you can say, in the card or by SET; `make data-check CARD={card.name}` reminds you"
    return [said] if lacking else []
