"""Debian's packages, and its indexes: which packages there are, and their descriptions in many languages (DDTP)."""

from __future__ import annotations

import io
import lzma
import re
import tarfile
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from debian.arfile import ArError, ArFile
from debian.deb822 import Packages

from xlscale.core.files import XlscaleError, one_line, relative

# Scripts written without spaces between words: a line break there is no space either.
_DENSE = re.compile(r"(?<=[\u3000-\u9fff\uff00-\uffef]) (?=[\u3000-\u9fff\uff00-\uffef])")


Descriptions = dict[tuple[str, str], str]  # (package, md5) -> description


class Entry(NamedTuple):
    """A binary package: the source package it was built from, its archive section, the md5 of its description, and its
    tags (debtags)."""

    source: str
    section: str
    description: str
    tags: frozenset[str]


@cache  # several sets are built from the same indexes, and the parser is not fast
def packages(path: Path) -> dict[str, Entry]:
    """Binary package -> Entry, from a ``Packages`` index."""
    return {
        stanza["Package"]: Entry(
            source=stanza.get("Source", stanza["Package"]).split()[0],
            section=stanza["Section"].rpartition("/")[2],
            description=stanza["Description-md5"],
            tags=frozenset(tag.strip() for tag in stanza.get("Tag", "").split(",")) - {""},
        )
        for stanza in _stanzas(path, ("Package", "Source", "Section", "Description-md5", "Tag"))
        if "Description-md5" in stanza
    }


@cache
def descriptions(path: Path, language: str) -> Descriptions:
    """(binary package, md5 of the English description) -> description, from a ``Translation-<language>`` index.

    The md5 tells which English text was translated, so that translations of outdated texts can be left out.
    """
    field = f"Description-{language}"
    return {
        (stanza["Package"], stanza["Description-md5"]): stanza[field]
        for stanza in _stanzas(path, ("Package", "Description-md5", field))
        if field in stanza
    }


def by_source(
    files: Sequence[Path], names: Mapping[str, str], sections: Collection[str]
) -> tuple[dict[str, Entry], Descriptions, dict[str, Descriptions], dict[str, list[str]]]:
    """What topics and summaries are made of: the packages, their English descriptions, those in other languages (our
    code -> descriptions; ``names``: our code -> the index's), and the packages of every source (source -> binary
    packages in ``sections`` that are described in English)."""
    paths = {path.name.partition("-")[2].partition("-")[2]: path for path in files}
    index, english = packages(paths["Packages"]), descriptions(paths["Translation-en"], "en")
    translated = {code: descriptions(paths[f"Translation-{name}"], name) for code, name in names.items()}
    members = defaultdict(list)
    for package, entry in index.items():
        if entry.section in sections and (package, entry.description) in english:
            members[entry.source].append(package)
    return index, english, translated, members


def short_and_long(description: str) -> tuple[str, str]:
    """A description's synopsis, and the running text of its long part (lists and verbatim lines left out)."""
    synopsis, *lines = description.split("\n")
    paragraphs, current = [], []
    for line in [*lines, " ."]:
        if line.strip() == ".":
            paragraphs.append(" ".join(current))
            current = []
        elif not line.startswith("  ") and not line.lstrip().startswith(("*", "-", "+", "o ")):
            current.append(line.strip())
    return _tidy(synopsis), _tidy(" ".join(part for part in paragraphs if part))


def cut(text: str, limit: int) -> str:
    """At most ``limit`` characters, cut between words where the script has words."""
    if len(text) <= limit:
        return text
    head, _, tail = text[: limit + 1].rpartition(" ")
    return head if len(tail) < 40 else text[:limit]


def _tidy(text: str) -> str:
    return _DENSE.sub("", " ".join(text.split()))


def _stanzas(path: Path, fields: Collection[str]) -> Iterator[Mapping[str, str]]:
    """The stanzas of an index, with these of their fields; continuation lines keep their leading space."""
    with open(path, "rb") as lines:
        yield from Packages.iter_paragraphs(lines, fields=[*fields], use_apt_pkg=False)


def deb_files(path: Path) -> Iterator[tuple[str, bytes]]:
    """The regular files in a Debian package as (path without the leading "./", content), in the package's order.

    Nothing is unpacked to disk. Raises XlscaleError when the file is not a whole package.
    """
    try:
        packed = next((member for member in ArFile(path) if member.name.startswith("data.tar")), None)
        raw = packed.read() if packed else b""
        if not packed or len(raw) < packed.size:
            raise EOFError("no whole member data.tar")
        with tarfile.open(fileobj=io.BytesIO(raw), mode="r|*") as data:
            for member in data:
                if member.isfile():
                    yield member.name.removeprefix("./"), data.extractfile(member).read()
    except (ArError, OSError, tarfile.TarError, lzma.LZMAError, EOFError, ValueError) as error:
        raise XlscaleError(f"{relative(path)}: expected a whole Debian package (.deb): {one_line(error)}") from None
