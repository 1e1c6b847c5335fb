"""What a card needs and this machine lacks: where it is to be had, how much it is, and getting it.

A set of files that is here, at any of its places, is asked of nobody. Of the others the first place counts that is a
repository of the hub (``acquire.hub``) or of git (``acquire.git``); before it, a git repository of which there is a
mirror on this machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from xlscale.acquire import git, hub
from xlscale.cards import pins, places
from xlscale.cards.schema import DataCard
from xlscale.cards.sources import FileSource, Repository, SplitSource
from xlscale.core.files import XlscaleError


class Wanted(NamedTuple):
    """A set of files of a repository that is not on this machine."""

    origin: Repository
    patterns: list[str]  # of paths; the first that any path matches counts
    instead: str  # what a folder of the user's would have to hold, and does not; nothing where no folder would do


def plan(card: DataCard) -> tuple[list[Wanted], dict[str, str]]:
    """The sets of files to be downloaded, and the commits of those that were, by address.

    Raises XlscaleError for a set that can only come from the user's own folders; also where a part of a repository is
    below XLSCALE_HUB and another is not.
    """
    origins = places.origins(card)
    wanted: list[Wanted] = []
    used: dict[str, str] = {}
    users: set[str] = set()  # repositories that the user provides
    for part in card.source.parts:
        for code, name in part.named().items():
            place = next((p for p in part.places if places.found(origins, p, code, name)), None)
            if place is None:
                wanted += _sets(origins, part, code)
                continue
            for key in filter(None, (place.origin, place.labels_origin)):
                if places.own(origins[key]):
                    users.add(origins[key].address)
                elif origins[key].kind != "folder":
                    used[origins[key].address] = origins[key].revision
    for one in wanted:
        if one.origin.address in users:
            raise XlscaleError(
                f"{one.origin.address}: expected all of its files below ${places.HUB} or none, {one.patterns[0]} is "
                f"not there"
            )
    return wanted, used


def fetch(card: DataCard) -> dict[str, str]:
    """Download what is missing on this machine; the commits of all that was downloaded, now or before, by address.

    Raises XlscaleError naming what could not be had.
    """
    wanted, used = plan(card)
    for origin in dict.fromkeys(one.origin for one in wanted):
        sets = [one for one in wanted if one.origin == origin]
        try:
            used[origin.address] = _get(origin, [one.patterns for one in sets])
        except XlscaleError as error:
            said = next((f"{one.instead}; " for one in sets if one.instead), "")
            raise XlscaleError(f"{said}{error}") from None
    return used


def again(path: Path, name: str) -> str:
    """What to do about a file of card ``name`` that is not the right one, as messages end: nothing where it is not in
    the cache, but the user's own."""
    downloaded = any(path.is_relative_to(root) for root in (places.FETCHED, places.FETCHED.with_name("git")))
    return f"; remove it, then `make data-fetch CARD={name}`" if downloaded else ""


def announced(card: DataCard) -> list[str]:
    """A text per repository that a fetch downloads from: how many files, how large, under which licence. Asks the hub
    for sizes. Raises XlscaleError as ``plan`` does."""
    wanted = plan(card)[0]
    found = []
    for origin in dict.fromkeys(one.origin for one in wanted):
        patterns = [one.patterns for one in wanted if one.origin == origin]
        if origin.kind == "git":
            folder = places.fetched(origin)
            files = [pins.of(origin)[one] for one in _paths(origin, patterns) if not (folder / one).is_file()]
            sizes, licences = [pin.bytes for pin in files], dict.fromkeys(pin.licence for pin in files)
        else:
            sizes, licences = hub.sizes(origin, patterns), [card.licence]
        if sizes != []:  # of a set whose labels alone are missing, the rest may be here
            found.append(f"{sized(sizes)} from {origin.address}; licence: {', '.join(licences)}")
    return found


def sized(sizes: list[int | None] | None) -> str:
    """Numbers of files and bytes, for people; None: nobody could be asked."""
    if sizes is None:
        return "files of unknown size"
    counted, unknown = f"{len(sizes)} file{'s' if len(sizes) > 1 else ''}", sizes.count(None)
    if unknown == len(sizes):
        return f"{counted} of unknown size"
    total = sum(size or 0 for size in sizes)
    size = f"{total / 1e6:,.1f} MB" if total >= 1e6 else f"{total / 1e3:,.1f} kB"
    return f"{counted}, {size}" + (f" and {unknown} of unknown size" if unknown else "")


def _sets(origins: dict[str, Repository], part: SplitSource, code: str) -> list[Wanted]:
    """What is to be downloaded for one language of a part: files, and labels where these lie in another repository."""
    name = part.named()[code]
    remote = [p for p in part.places if origins[p.origin].kind != "folder" and (p.labels_origin or not p.labels)]
    near = [p for p in remote if origins[p.origin].kind == "git" and git.mirror(origins[p.origin])]
    if not remote:
        places.first(origins, part, code)  # raises, and says what the user has to provide
    place: FileSource = [*near, *remote][0]
    origin = origins[place.origin]
    folders = [text for text in places.looked_for(origins, part, code) if text.startswith("$")]
    instead = f"{places.missing(part, code)}, expected {', or '.join(folders)}" if folders else ""
    found = [Wanted(origin, places.patterns(place, code, name), instead)]
    if place.labels_origin:
        apart = origins[place.labels_origin]
        path = places.label_name(origins, place, code, name).removeprefix(places.prefix(apart))
        found.append(Wanted(apart, [path], instead))
    return found


def _get(origin: Repository, patterns: list[list[str]]) -> str:
    if origin.kind == "hub":
        return hub.get(origin, patterns)
    git.get(origin, _paths(origin, patterns))
    return origin.revision


def _paths(origin: Repository, patterns: list[list[str]]) -> list[str]:
    """The paths of a git repository that match. Raises XlscaleError where none is pinned."""
    known = places.listing(origin)
    found = [places.matching(known, one) for one in patterns]
    if [] in found:
        missing = patterns[found.index([])][0]
        raise XlscaleError(
            f"{origin.address}: {missing}: expected in {pins.FILE.name} at commit {origin.revision[:10]}"
        )
    return [*dict.fromkeys(path for paths in found for path in paths)]
