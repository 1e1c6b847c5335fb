"""A data set of the user's from a flat file: the checked Parquet file and its card, ready to be named in a study.

Belongs here: what the card says, and writing both or neither. Files, rows and sets: ``flat_files``, ``flat_rows``,
``flat_sets``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa

from xlscale.acquire import flat_files, flat_rows, flat_sets, new_card
from xlscale.cards import catalogue
from xlscale.cards.schema import GIVEN, DataCard
from xlscale.core import manifest
from xlscale.core.files import MANIFEST, XlscaleError, relative, sha256_file, write_text
from xlscale.core.strict import YAML_LIMIT, parse
from xlscale.data import contamination, load, schema

FAMILIES = (*GIVEN,)
STATED = new_card.STATED["data"]
# What may be said beside a file: fields of the card, and columns that are the same in all rows.
FIELDS = ("name", "title", "type", *STATED, "description", "overlaps_targets", "canary", "split", "language")


def add(path: Path, family: str, given: Mapping[str, str]) -> str:
    """Check a flat file of ``family`` and write it as a data set; a report in lines.

    ``given``: what the file does not say, by FIELDS. Raises XlscaleError with a line per fault, each naming file, line,
    field and expected value; then nothing was written. What is there already is never replaced.
    """
    new_card.check_fields(given, FIELDS)
    if not path.exists():
        raise XlscaleError(f"{path}: not found, expected a file that ends in {', '.join(flat_files.SUFFIXES)}")
    with manifest.alone(manifest.LOCKS):  # nobody else writes a card of this name meanwhile
        return _add(path, family, given)


def _add(path: Path, family: str, given: Mapping[str, str]) -> str:
    name = new_card.name(path, given)
    _free_name(name)
    card, bundle = new_card.free(MANIFEST / "data" / f"{name}.yaml"), MANIFEST / "bundled" / f"{name}.parquet"
    sources = _hashes(path)
    role, rows, spans, unused = _checked(path, family, name, given)
    if other := dict(sources.items() ^ _hashes(path).items()):
        raise XlscaleError(f"{min(other)}: expected the same bytes before and after it was read; nothing was written")
    fields = new_card.head(name, given) | {"version": 1}
    fields |= {"role": role, "family": family} | _type(role, given) | flat_sets.described(family, role, rows, spans)
    fields |= {"file": f"bundled/{bundle.name}"} | _texts(sources, given)
    fields |= {"canary": given["canary"]} if given.get("canary") else {}
    fields |= {"overlaps_targets": given["overlaps_targets"].split()} if given.get("overlaps_targets") else {}
    _check_left(bundle, rows, given.get("canary") or None)
    try:
        schema.write(rows, bundle, given.get("canary") or None)
        text = _yaml(fields | {"sha256": sha256_file(bundle)}, card)
        write_text(card, text)
        catalogue.clear_caches()
        written = catalogue.data_card(name)
        load.table(written)  # as every cell does that reads it
    except BaseException:
        card.unlink(missing_ok=True)
        bundle.unlink(missing_ok=True)
        raise
    return "\n".join([*_report(written, rows, unused), *_leaks(written)])


def _check_left(bundle: Path, rows: pa.Table, canary: str | None) -> None:
    """Raise XlscaleError where a file is in the bundle's place, but for the same one, left by a run that was killed
    before it wrote the card."""
    if bundle.is_symlink() or not bundle.is_file():
        new_card.free(bundle)
        return
    with TemporaryDirectory() as folder:
        schema.write(rows, own := Path(folder) / bundle.name, canary)
        if sha256_file(bundle) != sha256_file(own):
            new_card.free(bundle)


def _free_name(name: str) -> None:
    known = [one for kind in ("data", catalogue.SOURCES, catalogue.MIXTURES) for one in catalogue.names(kind)]
    if name in known:
        raise XlscaleError(f"SET: name: expected one that no data set has, got {name!r}: it has a card already")


def _checked(path: Path, family: str, name: str, given: Mapping[str, str]) -> tuple[str, pa.Table, bool, list[str]]:
    """Role, rows, whether tags mark spans, and the columns that nothing uses. Raises XlscaleError with all faults."""
    faults = flat_files.Faults()
    told = {column: given[column] for column in ("split", "language") if given.get(column)}
    places, columns = flat_files.read(path, told, faults)
    if not places:
        faults.add(str(path), "expected a row at least, got none")
        faults.end()
    unused, complete = flat_rows.check_columns(family, columns, str(path), faults)
    if not complete:
        faults.end()
    rows = flat_rows.rows(family, places, name, faults)
    faults.end()
    role = flat_sets.role(family, rows)
    flat_sets.check(family, role, rows, str(path), faults)
    if role == "intermediate" and given.get("type") not in ("general", "domain"):
        faults.add("SET", 'type: expected general or domain of an intermediate set, as in SET="type=general"')
    faults.end()
    spans = family == "tagging" and flat_sets.bio(rows)
    return role, flat_sets.ordered(flat_sets.table(family, rows)), spans, unused


def _type(role: str, given: Mapping[str, str]) -> dict[str, str]:
    if role != "intermediate" and given.get("type"):
        raise XlscaleError(f"SET: type: expected of an intermediate set alone, this is a set of role {role}")
    return {"type": given["type"]} if role == "intermediate" else {}


def _hashes(path: Path) -> dict[Path, str]:
    """The sha256 of a file, or of the files of a folder, of those that can be read."""
    try:
        files = sorted(one for one in path.iterdir() if one.name[0] != ".") if path.is_dir() else [path]
        return {one: sha256_file(one) for one in files if one.is_file() and one.suffix in flat_files.SUFFIXES}
    except OSError as error:
        raise XlscaleError(f"{error.filename or path}: could not be read ({error.strerror or error})") from None


def _texts(sources: Mapping[Path, str], given: Mapping[str, str]) -> dict[str, str]:
    made = ", ".join(f"{one.name} (sha256 {sha256})" for one, sha256 in [*sources.items()][:4])
    more = f" and {len(sources) - 4} more files" if len(sources) > 4 else ""
    description = given.get("description") or f"Made by `make new-data` of {made}{more}"
    return {name: given.get(name) or new_card.NOT_STATED for name in STATED} | {"description": description}


def _yaml(fields: dict[str, Any], path: Path) -> str:
    """The card as text. Raises XlscaleError where it would not be one."""
    parse(DataCard, fields, relative(path))
    text = new_card.as_yaml(fields)
    if len(text.encode()) > YAML_LIMIT:
        longest = max(fields, key=lambda name: len(new_card.as_yaml({name: fields[name]})))
        told = {"labels": f"label: expected classes, got {len(fields.get('labels', ())):,} different ones"}
        told |= dict.fromkeys(("splits", "languages"), "language: expected fewer")
        what = told.get(longest, f"SET: {longest}: expected a shorter text")
        raise XlscaleError(f"{what}: a card has at most {YAML_LIMIT:,} bytes")
    return text


def _report(card: DataCard, rows: pa.Table, unused: list[str]) -> list[str]:
    counts = [
        f"{split} {', '.join(f'{language} {n}' for language, n in languages.items())}"
        for split, languages in card.splits.items()
    ]
    said = [f"{relative(MANIFEST / 'data' / f'{card.name}.yaml')}: {len(rows)} rows of role {card.role}"]
    said += [f"  {line}" for line in counts]
    if card.labels:
        said.append(f"  labels: {', '.join(card.labels[:20])}{' ...' if len(card.labels) > 20 else ''}")
    if unused:
        said.append(f"columns that were not used: {', '.join(unused[:20])}")
    return [*said, *new_card.reminder(card)]


def _leaks(card: DataCard) -> list[str]:
    """A warning for what is trained on and tested: of any set that would be a good reason for a high score."""
    return [f"warning: {line}" for line in contamination.lines(contamination.find([card]))]
