"""The manifest: the sha256 of every file that commands write and that is committed, in ``results/manifest.json``.

What follows from predictions, labels and cards is recomputed by ``record.store.check``; seconds, operations, machines,
stamps, locks, published scores and pins follow from nothing, and are held by their hashes. Whoever changes one by hand
has to change the manifest too, where it shows. Commands write these files through ``write``, which keeps it right.

A record or a folder of locks that commands begin elsewhere gets a manifest of its own. A record without one is a fault;
other folders that have none are not held. So do locks that a user adds to the committed ones, in a manifest that is
not committed: who has the committed one from elsewhere does not lose what holds them. Names in a manifest are as seen
from its folder.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

from xlscale.core.files import (
    MANIFEST,
    PAPER,
    ROOT,
    XlscaleError,
    atomic,
    bounded,
    inside,
    leads_into,
    read_json,
    relative,
    sha256_file,
    write_json,
)

_Found = TypeVar("_Found")

NAME = "manifest.json"
CELLS = "cells.parquet"  # what makes a folder a record
_taken = ContextVar("taken", default=False)
PATIENCE = 5  # seconds that are waited for another writer without a word
RECORD = ROOT / "results"
LOCKS = MANIFEST / "locks"
SOURCES = [MANIFEST / "published", LOCKS, ROOT / "studies" / "tuned.json", ROOT / "requirements.lock"]
# Made from the others by ``make paper``.
BUILT = [PAPER / name for name in ("generated", "figures", "numbers.json", "numbers.tex", "paper.pdf")]
PLACES = [RECORD, *SOURCES, *BUILT]
_REMAINS = re.compile(r"\..+?(\.\d+\.[0-9a-f]{8}\.part)+")  # as ``files.atomic`` names what it writes


def where(place: Path) -> Path:
    """The manifest that holds a folder: the checkout's for PLACES and the folders that they are in, else its own."""
    return (RECORD if any(place.is_relative_to(held) or place == held.parent for held in PLACES) else place) / NAME


def _for(place: Path, files: Iterable[str]) -> Path:
    """The manifest that is to hold files of a folder: of locks that the committed one has not, the one beside them."""
    path = where(place)
    added = place == LOCKS and not any(_name(place / name, path) in _read(path) for name in files)
    return place / NAME if added else path


def check_apart(place: Path) -> None:
    """Raise XlscaleError where a folder of one's own leads, links followed, into the record or the built paper."""
    if leads_into(place, [RECORD, PAPER]):
        real = relative(Path(os.path.realpath(place)))
        raise XlscaleError(f"{relative(place)}: expected a folder of its own, got a link to {real}")


def check(places: Iterable[Path] = PLACES) -> None:
    """Raise XlscaleError, a line per file, unless these places are as the manifest says."""
    places = [*places]
    if found := _unless_written(lambda: [*faults(places).values()], places[0]):
        raise XlscaleError("\n".join([*found, f"({_advice(where(places[0]))})"]))


def _unless_written(look: Callable[[], _Found], place: Path) -> _Found:
    """What is found wrong of a place, looked at again once nobody writes to it: half-way, nothing is as it says."""
    if found := look():
        with suppress(OSError), alone(place):  # where no lock can be made, nobody writes
            return look()
    return found


def faults(places: Iterable[Path] = PLACES) -> dict[str, str]:
    """What differs between these places, all of one manifest, and what it says: name in it -> one line, by name."""
    places = [Path(place) for place in places]
    path = where(places[0])
    here = {_name(file, path): file for file in _files(places)}
    if not path.exists():
        lost = here and (path.parent == RECORD or CELLS in here)
        return {NAME: _lost(path, here)} if lost else {}
    wanted = stated(places)
    found = {name: _fault(_path(name, path), wanted.get(name), path) for name in sorted(wanted.keys() | here.keys())}
    return {name: fault for name, fault in found.items() if fault}


def stated(places: Iterable[Path]) -> dict[str, str]:
    """What the manifest says of these places, all of one manifest: name in it -> sha256."""
    places = [Path(place) for place in places]
    path = where(places[0])
    return {name: sha for name, sha in _stated(path).items() if _within(_path(name, path), places)}


def verify(file: Path, place: Path) -> None:
    """Raise XlscaleError with one line unless a file in ``place`` is as the manifest says."""
    path = where(place)

    def look() -> str | None:
        return _fault(file, _stated(path).get(_name(file, path)), path) if path.exists() else None

    if not _taken.get() and (fault := _unless_written(look, place)):
        raise XlscaleError(f"{fault} ({_advice(path)})")


@contextmanager
def as_they_are() -> Iterator[None]:
    """Have ``verify`` take files as they are while the block runs: for who asks ``faults`` beside it."""
    before = _taken.set(True)
    try:
        yield
    finally:
        _taken.reset(before)


@contextmanager
def alone(place: Path) -> Iterator[None]:
    """Have what the manifest of ``place`` holds to oneself while the block runs, to read it and then to write; others
    wait, and say so on stderr. A process that has it may ask again."""
    from filelock import FileLock, Timeout  # here: most who import this read

    folder = where(place).parent
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"), fallback_to_soft=False, is_singleton=True)
    try:
        lock.acquire(timeout=PATIENCE)
    except Timeout:
        told = f"waiting: another command, or what it left running, has {relative(Path(lock.lock_file))}"
        print(bounded(told), file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def write(place: Path, files: Mapping[str, Callable[[Path], object]]) -> None:
    """Write files (name in the folder ``place`` -> function that writes to the path it is given) in this order, and
    their hashes.

    A crash leaves each file as it was or as it is to be, and the manifest knows both. Raises XlscaleError, and writes
    nothing, when the disk is full, a file that is to be replaced is not as the manifest says, or a record has no
    manifest. One that begins has one from then on, of whatever lies there already.
    """
    with alone(place):
        path = _for(place, files)
        begins = path.parent == place and place != LOCKS and not path.exists()
        there = _files([place]) if begins else []
        if not path.exists() and (path.parent / CELLS).exists():
            raise XlscaleError(f"{_lost(path, there or _files([path.parent]))}; nothing was changed")
        held = path.exists() or place == LOCKS or (begins and (not there or CELLS in files))
        known = _read(path) | ({_name(file, path): sha256_file(file) for file in there} if held else {})
        for name in files:
            fault = held and _fault(place / name, known.get(_name(place / name, path)), path)
            if fault and (place / name).exists():
                raise XlscaleError(f"{fault}; nothing was changed")
        remove_remains({path.parent, *((place / name).parent for name in files)})
        with ExitStack() as stack:  # which renames in the reverse order
            made = {name: stack.enter_context(atomic(place / name)) for name in reversed(files)}
            for name, make in files.items():
                make(made[name])
            coming = {_name(place / name, path): sha256_file(temporary) for name, temporary in made.items()}
            if held:
                _save(path, known, coming)
        if held:
            _save(path, known | coming)


def _advice(path: Path) -> str:
    return f"if this was changed on purpose: make manifest{'' if path.parent == RECORD else ' STUDY=...'}"


def _lost(path: Path, here: Sized) -> str:
    return f"{relative(path)}: not found, expected the hashes of {len(here)} files"


def remove_remains(folders: Iterable[Path]) -> None:
    """Remove what killed processes left of files that they were about to write, here and by ``atomic`` within
    ``atomic``; the caller has these folders to itself."""
    for part in (part for folder in folders for part in folder.glob(".*.part")):
        if _REMAINS.fullmatch(part.name) and part.is_file():
            part.unlink(missing_ok=True)


def state(places: Iterable[Path] = PLACES) -> list[str]:
    """Take these places, all of one manifest, as they are; returns the names of what was not as the manifest said."""
    places = [Path(place) for place in places]
    path = where(places[0])
    with alone(places[0]):
        left = (one.parent for place in places if place.is_dir() for one in place.rglob(".*.part"))
        remove_remains({path.parent, *left})
        changed = [name for name in faults(places) if name != NAME]
        here = {utf8(_name(file, path)): sha256_file(file) for file in _files(places)}
        others = {name: sha for name, sha in _read(path).items() if not _within(_path(name, path), places)}
        _save(path, others | here)
        if LOCKS in places:  # what was stated beside them is stated here
            (LOCKS / NAME).unlink(missing_ok=True)
    return changed


def _files(places: Iterable[Path]) -> list[Path]:
    """What is held of these places: all files but hidden ones, texts for people, and the manifest itself."""
    found = {path for place in places for path in ([place] if place.is_file() else place.rglob("*"))}
    return sorted(p for p in found if p.name[0] != "." and p.name != NAME and p.suffix != ".md" and p.is_file())


def _name(file: Path, path: Path) -> str:
    return os.path.relpath(file, path.parent).replace(os.sep, "/")


def utf8(name: str) -> str:
    """A name that every system can have. Raises XlscaleError for another one."""
    try:
        return name.encode() and name
    except UnicodeEncodeError:
        raise XlscaleError(f"{name!a}: expected a name in UTF-8") from None


def _path(name: str, path: Path) -> Path:
    return Path(os.path.normpath(path.parent / name))


def _stated(path: Path) -> dict[str, str]:
    """name -> sha256, in the committed manifest with the locks that a user has added."""
    added = _read(LOCKS / NAME) if path.parent == RECORD else {}
    there = {_name(LOCKS / name, path): sha for name, sha in added.items() if (LOCKS / name).exists()}
    return there | _read(path)


def _read(path: Path) -> dict[str, str]:
    """name -> sha256, in one manifest. A file that a command was about to replace when it died may be as it was to
    become."""
    if not path.exists():
        return {}
    content: Any = read_json(path)
    parts = [content.get(part, {}) if isinstance(content, dict) else None for part in ("files", "coming")]
    if not all(isinstance(part, dict) and all(map(_possible, part)) for part in parts):
        raise XlscaleError(f"{relative(path)}: files: expected names of files and their sha256")
    files, coming = parts
    return files | {name: sha for name, sha in coming.items() if _is(_path(name, path), sha)}


def _possible(name: str) -> bool:
    return inside("/".join(part for part in name.split("/") if part != ".."))


def _within(file: Path, places: list[Path]) -> bool:
    return any(file.is_relative_to(place) for place in places)


def _is(file: Path, sha256: str) -> bool:
    return file.is_file() and sha256_file(file) == sha256


def _fault(file: Path, stated: str | None, path: Path) -> str | None:
    said = relative(path) if path.parent == RECORD else f"its {NAME}"
    if stated is None:
        return f"{relative(file)}: expected no such file, {said} has none"
    if not file.is_file():
        return f"{relative(file)}: not found, expected as in {said}"
    found = sha256_file(file)
    return None if found == stated else f"{relative(file)}: sha256: expected {stated} as in {said}, got {found}"


def _save(path: Path, files: dict[str, str], coming: dict[str, str] | None = None) -> None:
    content = {"files": dict(sorted(files.items()))} | ({"coming": dict(sorted(coming.items()))} if coming else {})
    if not path.exists() or read_json(path) != content:
        write_json(path, content)
