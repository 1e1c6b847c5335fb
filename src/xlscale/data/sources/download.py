"""Files from the Hugging Face hub: which revision, which files, into the cache. Parquet and plain files; no scripts.

The first fetch of a repository takes what is there now, and the lock pins that commit. The hub's own conversion to
Parquet (branch refs/convert/parquet) serves repositories that hold nothing but a loading script.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

from xlscale import cards
from xlscale.cards import DataCard, ModelCard
from xlscale.data.sources import places
from xlscale.files import XlscaleError
from xlscale.origins import Origin

BRANCHES = ("main", "refs/convert/parquet")
TIMEOUT = 10  # seconds, of a question; a download may take as long as it does


def api() -> Any:
    """The hub's client, allowed to use the network."""
    os.environ["HF_HUB_OFFLINE"] = "0"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import HfApi, constants

    constants.HF_HUB_OFFLINE = False  # read once, at import, which a notebook's kernel may have done before
    return HfApi()


@cache
def commit(origin: Origin, revision: str, kind: str = "dataset") -> tuple[str, list[str]]:
    """The commit that ``revision`` of a repository is now, and the paths in it. Raises XlscaleError with one line."""
    try:
        info = api().repo_info(
            origin.repository, repo_type=kind, revision=revision, timeout=TIMEOUT, files_metadata=False
        )
    except Exception as error:  # whatever the client, the network or the hub raises
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise XlscaleError(f"{origin.repository}: revision {revision}: the hub does not give it ({reason})") from None
    return info.sha, [one.rfilename for one in info.siblings or []]


def fetch(card: DataCard) -> dict[str, str]:
    """Download what is missing on this machine; the commits that were used, by repository. Raises XlscaleError.

    A place that is here is not asked for. Of the others the first on the hub is downloaded, at the revision that the
    card or the lock pins, else at the newest.
    """
    known, origins = cards.lock(card.name), card.source.origins
    used: dict[str, str] = {}
    for part in card.source.parts:
        for code, name in part.named().items():
            if any(places.found(origins[place.origin], place, code, name) for place in part.places):
                continue
            place = next((place for place in part.places if origins[place.origin].kind == "hub"), None)
            if place is None:
                places.first(origins, part, code)  # raises, and says what the user has to provide
            origin = origins[place.origin]
            locked = known.revisions.get(origin.repository) if known else None
            pinned = origin.revision or used.get(origin.repository) or locked
            sha, paths = _wanted(origin, [pinned] if pinned else BRANCHES, places.patterns(place, code, name))
            used[origin.repository] = sha
            for path in paths:
                _download(origin, path, sha)
    return used


def _wanted(origin: Origin, revisions: Sequence[str], patterns: list[str]) -> tuple[str, list[str]]:
    """The commit of the first revision that has such files, and their paths. Raises XlscaleError."""
    for revision in revisions:
        sha, paths = commit(origin, revision)
        if wanted := matching(paths, patterns):
            return sha, wanted
    raise XlscaleError(f"{origin.repository}: expected {patterns[0]} in {' or '.join(revisions)}, found no such file")


def fetch_model(card: ModelCard) -> str:
    """Download a model's config, tokenizer and safetensors; the commit that was used. Raises XlscaleError."""
    from xlscale.models import hf

    known = cards.lock(card.name)
    pinned = card.source.revision or (known and known.revisions.get(card.source.repository)) or BRANCHES[0]
    sha, paths = commit(card.source, pinned, "model")
    for path in (path for path in paths if any(fnmatchcase(path, pattern) for pattern in hf.PATTERNS)):
        _download(card.source, path, sha, "model")
    return sha


def matching(paths: list[str], patterns: list[str]) -> list[str]:
    """The paths that match the first pattern that any of them matches; ``*`` does not go over a slash."""
    for pattern in patterns:
        found = [path for path in paths if path.count("/") == pattern.count("/") and fnmatchcase(path, pattern)]
        if found:
            return sorted(found)
    return []


def _download(origin: Origin, path: str, revision: str, kind: str = "dataset") -> None:
    from huggingface_hub import hf_hub_download

    folder = places.FETCHED / origin.repository
    try:
        hf_hub_download(origin.repository, path, repo_type=kind, revision=revision, local_dir=folder)
    except Exception as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise XlscaleError(f"{origin.repository}: {path}: could not be downloaded ({reason})") from None
