"""Files from the Hugging Face hub: which revision, which files, into the cache. Parquet and plain files; no scripts.

A fetch finds out first at which commit and which files: the commit that card or lock names, else the newest, which the
lock then pins. Then the hub's library downloads those of them that are missing. What an interrupted fetch has left is
of one commit, and counts when all of it is there. The hub's own conversion to Parquet (branch refs/convert/parquet)
serves repositories that hold nothing but a loading script.
"""

from __future__ import annotations

import os
from functools import cache
from glob import escape
from pathlib import Path
from typing import Any

from filelock import FileLock

from xlscale.cards import places
from xlscale.cards.schema import ModelCard
from xlscale.cards.sources import Repository
from xlscale.core.files import HUB_ENVIRONMENT, XlscaleError, inside, one_line, write_json

BRANCHES = ("main", "refs/convert/parquet")
TIMEOUT = 10  # seconds, of a question; a download may take as long as it does


def client() -> Any:
    """The hub's library, allowed to use the network."""
    os.environ.setdefault("HF_HOME", HUB_ENVIRONMENT["HF_HOME"])
    os.environ["HF_HUB_OFFLINE"] = "0"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import huggingface_hub
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = False  # read once, at import, which a notebook's kernel may have done before
    return huggingface_hub


@cache
def commit(origin: Repository, revision: str, kind: str = "dataset") -> tuple[str, dict[str, int | None]]:
    """The commit that ``revision`` of a repository is now, and the paths in it with their bytes, if known. Raises
    XlscaleError with one line."""
    try:
        info = (
            client()
            .HfApi()
            .repo_info(origin.repository, repo_type=kind, revision=revision, timeout=TIMEOUT, files_metadata=True)
        )
    except Exception as error:  # whatever the client, the network or the hub raises
        where = f"{origin.repository}: revision {revision}"
        raise XlscaleError(f"{where}: the hub does not give it ({one_line(error)})") from None
    return info.sha, {one.rfilename: getattr(one, "size", None) for one in info.siblings or [] if inside(one.rfilename)}


def fetch_model(card: ModelCard) -> dict[str, str]:
    """Download what is missing of a model's config, tokenizer and, if these can be used, weights; its commit, by
    repository.

    Nothing is downloaded, and no commit known, where the user has the model. Raises XlscaleError.
    """
    from xlscale.models import hf, hub_files

    origin = places.pinned(card.name, card.source)
    own = places.own(origin)
    if origin.kind == "folder" or (own and hub_files.files(own)):
        return {}
    needed, more = ([[pattern] for pattern in patterns] for patterns in (hub_files.NEEDED, hub_files.PATTERNS))
    commit = get(origin, needed, more, "model")
    origin = origin.model_copy(update={"revision": commit})
    folder = places.fetched(origin)
    hf.examine(folder, card)
    get(origin, [[escape(name)] for name in hub_files.weights(folder)], kind="model")
    return {origin.repository: commit}


def model_sizes(card: ModelCard) -> list[int | None] | None:
    """Bytes of the files that ``fetch_model`` would download, all weights in safetensors counted: which of them these
    are is known when the others are here. None where the hub cannot be asked."""
    from xlscale.models import hub_files

    origin = places.pinned(card.name, card.source)
    if origin.kind == "folder" or places.own(origin):
        return []
    return sizes(
        origin,
        [[pattern] for pattern in hub_files.NEEDED],
        [[pattern] for pattern in (*hub_files.PATTERNS, "*.safetensors")],
        "model",
    )


def get(origin: Repository, needed: list[list[str]], more: list[list[str]] = (), kind: str = "dataset") -> str:
    """Download what is missing of ``needed``, sets of files as patterns of their paths, and, where the repository has
    it, of ``more``; the commit. Raises XlscaleError."""
    origin, folder, wanted = _wanted(origin, needed, more, kind)
    with FileLock(places.listing_path(origin).with_suffix(".lock")):
        if missing := [path for path in wanted if not (folder / path).is_file()]:
            _download(origin, missing, kind)
    return origin.revision


def sizes(
    origin: Repository, needed: list[list[str]], more: list[list[str]] = (), kind: str = "dataset"
) -> list[int | None] | None:
    """Bytes of the files that ``get`` would download; None where the hub cannot be asked, which ``get`` then says."""
    try:
        _, folder, wanted = _wanted(origin, needed, more, kind)
    except XlscaleError:
        return None
    return [size for path, size in wanted.items() if not (folder / path).is_file()]


def _wanted(
    origin: Repository, needed: list[list[str]], more: list[list[str]], kind: str
) -> tuple[Repository, Path, dict[str, int | None]]:
    """The repository at the commit to be fetched, where its files go, and the paths that match with their bytes."""
    origin, paths = _resolved(origin, needed, kind)
    known = [*paths]
    wanted = {path: paths[path] for patterns in (*needed, *more) for path in places.matching(known, patterns)}
    return origin, places.fetched(origin), wanted


def _resolved(origin: Repository, needed: list[list[str]], kind: str) -> tuple[Repository, dict[str, int | None]]:
    """The repository at the commit to be fetched, and the paths there with their bytes; paths are written beside the
    files.

    Without a commit in card or lock it is that of the first branch that has all that is needed. Raises XlscaleError.
    """
    branches = BRANCHES if kind == "dataset" else BRANCHES[:1]
    revisions = [origin.revision] if origin.revision else branches
    for revision in revisions:
        known = dict.fromkeys(places.listing(origin))
        sha, paths = (revision, known) if known else commit(origin, revision, kind)
        missing = next((patterns for patterns in needed if not places.matching([*paths], patterns)), None)
        if missing is None:
            found = origin.model_copy(update={"revision": sha})
            if not known:
                write_json(places.listing_path(found), {"files": sorted(paths)})
            return found, paths
    raise XlscaleError(f"{origin.repository}: expected {missing[0]} in {' or '.join(revisions)}, found no such file")


def _download(origin: Repository, wanted: list[str], kind: str) -> None:
    """Download these paths of a repository at its commit. Raises XlscaleError naming one that did not come.

    The library is content with what is there when it cannot reach the hub, so look in any case for what is missing.
    """
    folder, reason = places.fetched(origin), "the hub cannot be reached"
    try:
        client().snapshot_download(
            origin.repository,
            repo_type=kind,
            revision=origin.revision,
            local_dir=folder,
            allow_patterns=[escape(path) for path in wanted],
        )
    except Exception as error:
        reason = one_line(error)
    if missing := [path for path in wanted if not (folder / path).is_file()]:
        raise XlscaleError(f"{origin.repository}: {missing[0]}: could not be downloaded ({reason})")
