"""Where the files of a source are on this machine: no network here.

A repository of the hub is looked for below the folder that XLSCALE_HUB names, then in the cache, where ``download``
puts it; both hold ``<owner>/<name>/<path in the repository>``. A folder is what its own variable names. Labels that are
kept apart lie below XLSCALE_LABELS, in the layout that ``make score LABELS=`` takes.
"""

from __future__ import annotations

import os
from pathlib import Path

from xlscale.files import CACHE, XlscaleError
from xlscale.origins import Origin, Part, Place

HUB, LABELS = "XLSCALE_HUB", "XLSCALE_LABELS"
FETCHED = CACHE / "hub"
# How repositories lay out Parquet: as the hub converts them, then as ``datasets`` pushes them.
LAYOUTS = ("{config}/{split}/*.parquet", "{config}/{split}-*.parquet", "data/{split}-*.parquet", "{split}-*.parquet")
ONLY = "default"  # the configuration of a repository that has one: only there may its name be left out of a path


def roots(origin: Origin) -> list[Path]:
    """Folders that an origin's paths may be below, those that exist."""
    if origin.kind == "folder":
        given = os.environ.get(origin.variable)
        return [Path(given)] if given and Path(given).is_dir() else []
    given = os.environ.get(HUB)
    return [root for root in ([Path(given)] if given else []) + [FETCHED] if (root / origin.repository).is_dir()]


def patterns(place: Place, code: str, name: str) -> list[str]:
    """Patterns of paths, below the repository or folder, in the order in which they are tried."""
    if place.files is not None:
        return [_filled(place.files, code, name)]
    config = _filled(place.config, code, name)
    layouts = [layout for layout in LAYOUTS if "{config}" in layout or config == ONLY]
    return [layout.format(config=config, split=place.split) for layout in layouts]


def _filled(text: str, code: str, name: str) -> str:
    return text.replace("{language}", name).replace("{code}", code)


def below(origin: Origin) -> str:
    """What the paths of an origin begin with, in messages and locks."""
    return f"{origin.repository}/" if origin.kind == "hub" else f"${origin.variable}/"


def labels(place: Place, code: str, name: str) -> Path | None:
    """The file with the labels of a place that keeps them apart; None where that is not on this machine."""
    given = os.environ.get(LABELS)
    path = Path(given) / _filled(place.labels, code, name) if given and place.labels else None
    return path if path and path.is_file() else None


def label_key(path: Path) -> str:
    """The name in a lock of a file of labels."""
    return f"${LABELS}/{path.relative_to(os.environ[LABELS]).as_posix()}"


def found(origin: Origin, place: Place, code: str, name: str) -> list[Path]:
    """The files of a place, sorted; none where it, or the labels that it needs, are not on this machine."""
    if place.labels and not labels(place, code, name):
        return []
    for root in roots(origin):
        base = root / origin.repository if origin.kind == "hub" else root
        for pattern in patterns(place, code, name):
            if paths := sorted(path for path in base.glob(pattern) if path.is_file()):
                return paths
    return []


def key(origin: Origin, path: Path) -> str:
    """A file's name in a lock: its path below its origin."""
    for root in roots(origin):
        if path.is_relative_to(root):
            inside = path.relative_to(root).as_posix()
            return inside if origin.kind == "hub" else below(origin) + inside
    return path.name


def first(origins: dict[str, Origin], part: Part, code: str) -> tuple[Place, list[Path]]:
    """The first place of a part that is here, and its files. Raises XlscaleError saying what was looked for."""
    name = part.named()[code]
    for place in part.places:
        if paths := found(origins[place.origin], place, code, name):
            return place, paths
    looked = [
        f"{below(origins[place.origin])}{patterns(place, code, name)[0]}"
        + (f" below ${HUB}" if origins[place.origin].kind == "hub" else "")
        + (f" with ${LABELS}/{_filled(place.labels, code, name)}" if place.labels else "")
        for place in part.places
    ]
    how = " ".join(dict.fromkeys(origins[place.origin].how for place in part.places if origins[place.origin].how))
    raise XlscaleError(
        f"{part.split}, language {part.language or code!r}: not on this machine, expected {', or '.join(looked)}"
        + (f"; {how}" if how else "")
    )
