"""The files that a card's rows are made of, held against its lock and against the pins of git repositories.

A lock names the files of the places that its rows were made of. The same set may come from another place, such as
XTREME's download in place of the original's git repository: then the rows say whether it is the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from xlscale.acquire import git, remote
from xlscale.cards import catalogue, pins, places
from xlscale.cards.schema import DataCard
from xlscale.cards.sources import FileSource, Lock, Repository, SplitSource
from xlscale.core.files import XlscaleError, relative, sha256_file
from xlscale.core.progress import bar

# A part and language, the place that it is read from, and the files: name in the lock -> path.
Found = tuple[SplitSource, str, FileSource, dict[str, Path]]


def files(card: DataCard) -> Iterator[tuple[str, Path]]:
    """Name in the lock and path of every file that a card's rows are made of, on this machine. Raises XlscaleError."""
    for *_, found in _sets(card, places.origins(card)):
        yield from found.items()


def _sets(card: DataCard, origins: dict[str, Repository]) -> Iterator[Found]:
    for part in card.source.parts:
        for code, name in part.named().items():
            place, paths = places.first(origins, part, code)
            found = {places.key(origins[place.origin], path): path for path in paths}
            if beside := places.labels(origins, place, code, name):
                found[places.label_name(origins, place, code, name)] = beside
            yield part, code, place, found


def hashes(card: DataCard) -> dict[str, tuple[int, str]]:
    """Bytes and sha256 of the files: name in the lock -> both.

    Of each part and language they are all that the lock pins, and no others; or they are from another place than the
    lock's, and then only the rows that are made of them can tell. Raises XlscaleError naming the file that is neither,
    that is not as the lock, or the table of pins, says, or that is a pointer of git-LFS.
    """
    known, where = catalogue.lock(card.name), relative(catalogue.lock_path(card.name))
    origins = places.origins(card)
    sets = [*_sets(card, origins)]
    here = {name: path for *_, found in sets for name, path in found.items()}
    if known and (names := _strange(sets, origins, known)):
        one = min(names)
        more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
        said = f"{one} is here and not there" if one in here else f"{one} is there and not here"
        raise XlscaleError(f"{card.name}: files: expected those of {where}, {said}{more}")
    pinned = {name: (pins.FILE, sha256) for name, sha256 in _pinned(card).items()}
    pinned |= {name: (where, sha256) for name, (_, sha256) in known.files.items()} if known else {}
    found: dict[str, tuple[int, str]] = {}
    for key, path in bar(sorted(here.items()), desc=f"{card.name}: hashes", unit="file"):
        git.expect_content(path, relative(path))
        found[key] = path.stat().st_size, sha256_file(path)
        if key in pinned and pinned[key][1] != found[key][1]:
            table, sha256 = pinned[key]
            raise XlscaleError(
                f"{relative(path)}: sha256: expected {sha256} as in {relative(table)}, got {found[key][1][:16]}"
                f"{remote.again(path, card.name)}"
            )
    return found


def elsewhere(card: DataCard) -> bool:
    """Whether files of a locked card are from another place than those that were locked: only its rows can tell whether
    it is the same set."""
    return {name for name, _ in files(card)} != catalogue.locked(card.name).files.keys()


def _strange(sets: list[Found], origins: dict[str, Repository], lock: Lock) -> set[str]:
    """Files that are here and not in the lock, or there and not here, and do not stand for each other: names."""
    strange: set[str] = set()
    left = {*lock.files}
    for part, code, place, found in sets:
        locked = _locked(lock, origins, part, code, place)
        if locked:  # of this place
            strange |= locked ^ found.keys()
        else:
            locked = {name for other in part.places for name in _locked(lock, origins, part, code, other)}
            strange |= set() if locked else {*found}
        left -= locked
    return strange | left


def _locked(lock: Lock, origins: dict[str, Repository], part: SplitSource, code: str, place: FileSource) -> set[str]:
    """The files of a lock that are those of a place, for one language of a part: names."""
    origin, name = origins[place.origin], part.named()[code]
    start = places.prefix(origin)
    paths = [one.removeprefix(start) for one in lock.files if one.startswith(start)]
    found = {start + path for path in places.matching(paths, places.patterns(place, code, name))}
    labels = {places.label_name(origins, place, code, name)} if found and place.labels else set()
    return found | (labels & lock.files.keys())


def _pinned(card: DataCard) -> dict[str, str]:
    """sha256 of the files of git repositories that somebody has seen, by their names in the lock."""
    known = [origin for origin in card.source.origins.values() if origin.kind == "git"]
    return {
        places.prefix(origin) + path: pin.sha256
        for origin in known
        for path, pin in pins.of(origin).items()
        if pin.sha256
    }
