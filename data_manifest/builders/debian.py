"""Debian's index files: which packages there are, and their descriptions in many languages (DDTP)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

# Scripts written without spaces between words: a line break there is no space either.
_DENSE = re.compile(r"(?<=[\u3000-\u9fff\uff00-\uffef]) (?=[\u3000-\u9fff\uff00-\uffef])")


Descriptions = dict[tuple[str, str], str]  # (package, md5) -> description


class Entry(NamedTuple):
    """A binary package: the source package it was built from, its archive section, the md5 of its description."""

    source: str
    section: str
    description: str


def packages(path: Path) -> dict[str, Entry]:
    """Binary package -> Entry, from a ``Packages`` index."""
    return {
        fields["Package"]: Entry(
            source=fields.get("Source", fields["Package"]).split()[0],
            section=fields["Section"].rpartition("/")[2],
            description=fields["Description-md5"],
        )
        for fields in _stanzas(path)
        if "Description-md5" in fields
    }


def descriptions(path: Path, language: str) -> Descriptions:
    """(binary package, md5 of the English description) -> description, from a ``Translation-<language>`` index.

    The md5 tells which English text was translated, so that translations of outdated texts can be left out.
    """
    field = f"Description-{language}"
    return {
        (fields["Package"], fields["Description-md5"]): fields[field] for fields in _stanzas(path) if field in fields
    }


def by_source(
    files: Sequence[Path], names: Mapping[str, str], sections: Collection[str]
) -> tuple[dict[str, Entry], Descriptions, dict[str, Descriptions], dict[str, list[str]]]:
    """What topics and summaries are drawn from: the packages, their English descriptions, those in other languages (our
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


def _stanzas(path: Path) -> Iterator[dict[str, str]]:
    """The stanzas of a control file as field -> value; continuation lines keep their leading space."""
    with open(path, encoding="utf-8") as lines:
        fields: dict[str, str] = {}
        name = ""
        for line in lines:
            line = line.rstrip("\n")
            if not line:
                if fields:
                    yield fields
                fields = {}
            elif line[0] in " \t":
                fields[name] += "\n" + line
            else:
                name, _, value = line.partition(":")
                fields[name] = value.strip()
        if fields:
            yield fields
