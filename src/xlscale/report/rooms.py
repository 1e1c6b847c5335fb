"""The code by room: what each module of the package says that it is. It is read, and not imported."""

from __future__ import annotations

import ast
import re
from typing import NamedTuple

from xlscale.core.files import ROOT, read_text
from xlscale.core.fingerprint import PACKAGE

PARAGRAPHS = 2  # of what a module says: what it is, and what belongs in it


class Room(NamedTuple):
    """A folder of the package, what the README says of it, and its modules, each with its first paragraphs."""

    name: str
    about: str
    modules: list[tuple[str, str]]


def rooms() -> list[Room]:
    """All rooms, from top to bottom as the README's tree has them."""
    listed = dict(re.findall(r"^  (\w+)/ +(.+)$", read_text(ROOT / "README.md"), re.MULTILINE))
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    order = [*(name for name in listed if name in folders), *sorted(folders - listed.keys())]
    return [Room(name, listed.get(name, ""), _modules(name)) for name in order]


def _modules(room: str) -> list[tuple[str, str]]:
    found = []
    for path in sorted((PACKAGE / room).rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        if said := ast.get_docstring(ast.parse(read_text(path))):
            found.append((name, " ".join(" ".join(said.split("\n\n")[:PARAGRAPHS]).split())))
    return found
