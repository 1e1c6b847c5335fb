"""The files of git repositories that cards read, and what each of them has to be: ``data_manifest/sources/files.tsv``.

Facts only: which file of which commit, its git blob, its sha256 and bytes where somebody has seen it, its licence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Annotated

from pydantic import Field

from xlscale.cards.sources import Repository, Revision
from xlscale.core.files import MANIFEST, XlscaleError, read_text, relative
from xlscale.core.strict import Below, Sha256, Strict, Text, parse

FILE = MANIFEST / "sources" / "files.tsv"
COLUMNS = ["repository", "commit", "path", "blob", "sha256", "bytes", "licence"]
_SIZE = re.compile("[0-9]{1,15}")


class Pin(Strict):
    """A file of a git repository at a commit. Without ``sha256`` nobody has seen it, and its git blob alone says what
    it is."""

    repository: Text  # its address: host, owner and name
    commit: Revision
    path: Below
    blob: Revision  # sha1 of a header and the bytes, as git names a file's content
    sha256: Sha256 | None
    bytes: Annotated[int, Field(ge=0)] | None
    licence: Text


def of(origin: Repository) -> Mapping[str, Pin]:
    """The files of a git repository at the commit of the card: path -> what it has to be. Raises XlscaleError for a
    broken table."""
    return _known().get((origin.address, origin.revision), {})


@cache
def _known() -> dict[tuple[str, str], dict[str, Pin]]:
    found: dict[tuple[str, str], dict[str, Pin]] = {}
    head, *lines = read_text(FILE).splitlines() or [""]
    if head.split("\t") != COLUMNS:
        raise XlscaleError(f"{relative(FILE)}, line 1: expected the columns {', '.join(COLUMNS)}")
    for number, line in enumerate(lines, 2):
        where, fields = f"{relative(FILE)}, line {number}", line.split("\t")
        if len(fields) != len(COLUMNS):
            raise XlscaleError(f"{where}: expected {len(COLUMNS)} fields, got {len(fields)}")
        values = dict(zip(COLUMNS, (field or None for field in fields), strict=True))
        size = values["bytes"]
        pin = parse(Pin, values | {"bytes": int(size) if size and _SIZE.fullmatch(size) else size}, where)
        known = found.setdefault((pin.repository, pin.commit), {})
        if pin.path in known:
            raise XlscaleError(f"{where}: path: expected each once, got {pin.path!r} again")
        known[pin.path] = pin
    return found
