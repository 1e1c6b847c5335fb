"""Where the files of a source are on this machine: no network here.

A repository of the hub is looked for below the folder that XLSCALE_HUB names, as ``<owner>/<name>/<path in the
repository>``, then in the cache, where ``acquire.hub`` puts it: ``<owner>/<name>/<commit>/<path>``, and beside it
``<commit>.json``, the paths that the repository has at that commit. Of a git repository the files lie in the cache
alone, where ``acquire.git`` puts them, checked: ``<host>/<owner>/<name>/<commit>/<path>``. A folder is what its own
variable names. Labels that are kept apart lie below XLSCALE_LABELS, in the layout that ``make score LABELS=`` takes, or
in a git repository.
"""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeVar

from xlscale.cards import catalogue, pins
from xlscale.cards.schema import DataCard, ModelCard
from xlscale.cards.sources import FileSource, Gguf, Repository, SplitSource
from xlscale.core.files import CACHE, XlscaleError, below, inside, read_json, relative

HUB, LABELS = "XLSCALE_HUB", "XLSCALE_LABELS"
FETCHED = CACHE / "hub"
# How repositories lay out Parquet: as the hub converts them, then as ``datasets`` pushes them.
LAYOUTS = ("{config}/{split}/*.parquet", "{config}/{split}-*.parquet", "data/{split}-*.parquet", "{split}-*.parquet")
CONVERSION = 1  # to be raised when the conversion of a model's file changes what it writes
ONLY = "default"  # the configuration of a repository that has one: only there may its name be left out of a path


AnyCard = TypeVar("AnyCard", DataCard, ModelCard)


class Missing(XlscaleError):
    """The files of a set are at none of its places on this machine."""


def pinned(name: str, origin: Repository) -> Repository:
    """A repository of card ``name`` with the commit to be read: the card's own, else the lock's, else None.

    Raises XlscaleError where card and lock name different ones.
    """
    lock = catalogue.lock(name)
    locked = lock.revisions.get(origin.address) if lock else None
    if origin.revision and locked and origin.revision != locked:
        raise XlscaleError(
            f"{name}: revision: expected {origin.revision} of {origin.address} as in the card, got {locked} in "
            f"{relative(catalogue.lock_path(name))}; to accept the card's, delete the lock"
        )
    return origin.model_copy(update={"revision": origin.revision or locked})


def origins(card: DataCard) -> dict[str, Repository]:
    """The repositories of a card, each with the commit to be read. Raises XlscaleError as ``pinned`` does."""
    return {key: pinned(card.name, origin) for key, origin in card.source.origins.items()}


def at(card: AnyCard, commits: dict[str, str]) -> AnyCard:
    """The card with these commits of its repositories, where it names none itself."""

    def moved(origin: Repository) -> Repository:
        return origin.model_copy(update={"revision": origin.revision or commits.get(origin.address)})

    if isinstance(card, ModelCard):
        return card.model_copy(update={"source": moved(card.source)})
    known = {key: moved(origin) for key, origin in card.source.origins.items()}
    return card.model_copy(update={"source": card.source.model_copy(update={"origins": known})})


def converted(origin: Gguf) -> Path:
    """The folder that a model's file is made, in the cache."""
    return CACHE / "models" / f"gguf-{origin.sha256[:12]}-{CONVERSION}"


def own(origin: Repository) -> Path | None:
    """The folder of the user's with a repository's files, if there is one; what XLSCALE_GIT names is fetched from."""
    if origin.kind == "git":
        return None
    given = os.environ.get(HUB if origin.kind == "hub" else origin.variable)
    if not given:
        return None
    folder = below(Path(given), origin.repository) if origin.repository else Path(given)
    return folder if folder.is_dir() else None


def fetched(origin: Repository) -> Path | None:
    """Where a repository's files of its commit are downloaded to; None without a commit."""
    root = FETCHED.with_name("git") if origin.kind == "git" else FETCHED
    return root / origin.address / origin.revision if origin.kind != "folder" and origin.revision else None


def listing_path(origin: Repository) -> Path:
    """The file with the paths that a repository has at its commit."""
    return FETCHED / origin.repository / f"{origin.revision}.json"


def listing(origin: Repository) -> list[str]:
    """The paths that a repository has at its commit, of git those that are pinned; none where ``acquire.hub`` has not
    asked for them."""
    if origin.kind == "git":
        return [*pins.of(origin)]
    path = listing_path(origin)
    return [one for one in read_json(path)["files"] if inside(one)] if origin.revision and path.exists() else []


def matching(paths: list[str], patterns: list[str]) -> list[str]:
    """The paths that match the first pattern that any of them matches; ``*`` does not go over a slash."""
    for pattern in patterns:
        found = [path for path in paths if path.count("/") == pattern.count("/") and fnmatchcase(path, pattern)]
        if found:
            return sorted(found)
    return []


def patterns(place: FileSource, code: str, name: str) -> list[str]:
    """Patterns of paths, below the repository or folder, in the order in which they are tried. Raises XlscaleError for
    "**": it would look through all folders below, or mean nothing."""
    if place.files is not None:
        found = [_filled(place.files, code, name)]
    else:
        config = _filled(place.config, code, name)
        layouts = [layout for layout in LAYOUTS if "{config}" in layout or config == ONLY]
        found = [layout.format(config=config, split=place.split) for layout in layouts]
    if "**" in found[0]:
        raise XlscaleError(f"{found[0]!r}: expected '*' for a part of a name, got '**'")
    return found


def _filled(text: str, code: str, name: str) -> str:
    return text.replace("{language}", name).replace("{code}", code)


def prefix(origin: Repository) -> str:
    """What the paths of a repository begin with, in messages and locks."""
    return f"${origin.variable}/" if origin.kind == "folder" else f"{origin.address}/"


def labels(origins: dict[str, Repository], place: FileSource, code: str, name: str) -> Path | None:
    """The file with the labels of a place that keeps them apart; None where that is not on this machine."""
    if place.labels is None:
        return None
    path = _filled(place.labels, code, name)
    if place.labels_origin:
        found = _fetched(origins[place.labels_origin], [path])
        return found[0] if found else None
    given = os.environ.get(LABELS)
    apart = below(Path(given), path) if given else None
    return apart if apart and apart.is_file() else None


def label_name(origins: dict[str, Repository], place: FileSource, code: str, name: str) -> str:
    """The name, in a lock and in messages, of the file with the labels of a place."""
    root = prefix(origins[place.labels_origin]) if place.labels_origin else f"${LABELS}/"
    return root + _filled(place.labels, code, name)


def found(origins: dict[str, Repository], place: FileSource, code: str, name: str) -> list[Path]:
    """The files of a place, sorted; none where it, or the labels that it needs, are not on this machine."""
    if place.labels and not labels(origins, place, code, name):
        return []
    origin, wanted = origins[place.origin], patterns(place, code, name)
    if base := own(origin):
        for pattern in wanted:
            below(base, pattern)  # a name of a language may lead out of the folder, and so may a link in it
            if paths := sorted(path for path in base.glob(pattern) if path.is_file()):
                return [below(base, path.relative_to(base).as_posix()) for path in paths]
    return _fetched(origin, wanted)


def _fetched(origin: Repository, wanted: list[str]) -> list[Path]:
    """The files of what was downloaded: all count that the repository has at that commit, or none."""
    base = fetched(origin)
    paths = [below(base, path) for path in matching(listing(origin), wanted)] if base else []
    return paths if all(path.is_file() for path in paths) else []


def seen(origins: dict[str, Repository], place: FileSource, code: str, name: str) -> bool:
    """Whether a place is of a verified repository, and, of git, all its files have a sha256: somebody has read them."""
    origin = origins[place.origin]
    if origin.kind != "git":
        return origin.status == "verified"
    files = matching(listing(origin), patterns(place, code, name))
    return origin.status == "verified" and all(pins.of(origin)[path].sha256 for path in files)


def key(origin: Repository, path: Path) -> str:
    """A file's name in a lock: its path in its repository."""
    base = next(base for base in (own(origin), fetched(origin)) if base and path.is_relative_to(base))
    return prefix(origin) + path.relative_to(base).as_posix()


def first(origins: dict[str, Repository], part: SplitSource, code: str) -> tuple[FileSource, list[Path]]:
    """The first place of a part that is here, and its files. Raises Missing, saying what was looked for."""
    name = part.named()[code]
    for place in part.places:
        if paths := found(origins, place, code, name):
            return place, paths
    folders = dict.fromkeys(origins[place.origin] for place in part.places if origins[place.origin].kind == "folder")
    how = " ".join(dict.fromkeys(origin.how for origin in folders if origin.how and not own(origin)))
    raise Missing(
        f"{missing(part, code)}, expected {', or '.join(looked_for(origins, part, code))}" + (f"; {how}" if how else "")
    )


def missing(part: SplitSource, code: str) -> str:
    """That a set of files is not here, as messages begin."""
    return f"{part.split}, language {part.language or code!r}: not on this machine"


def looked_for(origins: dict[str, Repository], part: SplitSource, code: str) -> list[str]:
    """What would do for a set of files, as messages have it: folders that the user has named come first. Git
    repositories are left out where there is something else, since nobody puts their files in place by hand."""
    byhand = [place for place in part.places if origins[place.origin].kind != "git"] or part.places
    named = sorted(byhand, key=lambda place: not own(origins[place.origin]))
    return [told(origins, place, code, part.named()[code]) for place in named]


def told(origins: dict[str, Repository], place: FileSource, code: str, name: str) -> str:
    """The files of a place, as messages have them."""
    origin = origins[place.origin]
    text = prefix(origin) + patterns(place, code, name)[0] + (f" below ${HUB}" if origin.kind == "hub" else "")
    return text + (f" with {label_name(origins, place, code, name)}" if place.labels else "")
