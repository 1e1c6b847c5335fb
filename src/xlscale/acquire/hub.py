"""Files from the Hugging Face hub: which revision, which files, into the cache. Parquet and plain files; no scripts.

A fetch finds out first at which commit and which files: the commit that card or lock names, else the newest, which the
lock then pins. Then the hub's library downloads those of them that are missing. What an interrupted fetch has left is
of one commit, and counts when all of it is there. What the hub says of a file is held against the file that comes. The
hub's own conversion to Parquet (branch refs/convert/parquet) serves repositories that hold nothing but a loading
script.
"""

from __future__ import annotations

import os
import re
from functools import cache
from glob import escape
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from xlscale.acquire import git
from xlscale.cards import places
from xlscale.cards.schema import ModelCard
from xlscale.cards.sources import Repository
from xlscale.core.files import HUB_ENVIRONMENT, XlscaleError, inside, one_line, read_json, sha256_file, write_json

BRANCHES = ("main", "refs/convert/parquet")
TIMEOUT = 10  # seconds, of a question; a download may take as long as it does


class Said(NamedTuple):
    """What the hub says of a file: its bytes, and its sha256, which it knows of large files; None if it does not."""

    bytes: int | None = None
    sha256: str | None = None


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
def commit(origin: Repository, revision: str, kind: str = "dataset") -> tuple[str, dict[str, Said]]:
    """The commit that ``revision`` of a repository is now, and the paths in it with what is said of them. Raises
    XlscaleError with one line."""
    where = f"{origin.repository}: revision {revision}"
    try:
        info = (
            client()
            .HfApi()
            .repo_info(origin.repository, repo_type=kind, revision=revision, timeout=TIMEOUT, files_metadata=True)
        )
    except Exception as error:  # whatever the client, the network or the hub raises
        raise XlscaleError(f"{where}: the hub does not give it ({one_line(error)})") from None
    if not re.fullmatch("[0-9a-f]{40}", str(info.sha)):  # it is to be the name of a folder
        raise XlscaleError(f"{where}: expected a commit of 40 hex digits from the hub, got {one_line(info.sha, 60)!r}")
    return info.sha, {one.rfilename: _said(one) for one in info.siblings or [] if inside(one.rfilename)}


def _said(file: Any) -> Said:
    lfs = getattr(file, "lfs", None)
    return Said(getattr(file, "size", None), lfs.sha256 if lfs else None)


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
        if missing := {path: said for path, said in wanted.items() if not (folder / path).is_file()}:
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
    return [said.bytes for path, said in wanted.items() if not (folder / path).is_file()]


def _wanted(
    origin: Repository, needed: list[list[str]], more: list[list[str]], kind: str
) -> tuple[Repository, Path, dict[str, Said]]:
    """The repository at the commit to be fetched, where its files go, and the paths that match with what is said."""
    origin, paths = _resolved(origin, needed, kind)
    known = [*paths]
    wanted = {path: paths[path] for patterns in (*needed, *more) for path in places.matching(known, patterns)}
    return origin, places.fetched(origin), wanted


def _resolved(origin: Repository, needed: list[list[str]], kind: str) -> tuple[Repository, dict[str, Said]]:
    """The repository at the commit to be fetched, and the paths there with what the hub says of them, which is written
    beside the files.

    Without a commit in card or lock it is that of the first branch that has all that is needed. Raises XlscaleError.
    """
    branches = BRANCHES if kind == "dataset" else BRANCHES[:1]
    revisions = [origin.revision] if origin.revision else branches
    for revision in revisions:
        known = _listed(origin)
        sha, paths = (revision, known) if known else commit(origin, revision, kind)
        missing = next((patterns for patterns in needed if not places.matching([*paths], patterns)), None)
        if missing is None:
            found = origin.model_copy(update={"revision": sha})
            if not known:
                told = {path: [*said] for path, said in paths.items() if said != Said()}
                write_json(places.listing_path(found), {"files": sorted(paths), "said": told})
            return found, paths
    raise XlscaleError(f"{origin.repository}: expected {missing[0]} in {' or '.join(revisions)}, found no such file")


def _listed(origin: Repository) -> dict[str, Said]:
    """The paths of a repository at its commit with what the hub said of them, where it was asked."""
    paths = places.listing(origin)
    said = read_json(places.listing_path(origin)).get("said", {}) if paths else {}
    return {path: Said(*said.get(path, ())) for path in paths}


def _download(origin: Repository, wanted: dict[str, Said], kind: str) -> None:
    """Download these paths of a repository at its commit. Raises XlscaleError naming one that did not come, or came as
    another one than the hub says; that one is not kept.

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
    faults = []
    for path, said in wanted.items():
        try:
            _check(folder / path, said, f"{origin.repository}: {path}")
        except XlscaleError as error:
            faults.append(error)
            (folder / path).unlink()
    if faults:
        raise faults[0]


def _check(path: Path, said: Said, name: str) -> None:
    git.expect_content(path, name)
    if said.bytes is not None and said.bytes != (got := path.stat().st_size):
        raise XlscaleError(f"{name}: bytes: expected {said.bytes} as the hub says, got {got}")
    if said.sha256 and said.sha256 != (got := sha256_file(path)):
        raise XlscaleError(f"{name}: sha256: expected {said.sha256} as the hub says, got {got[:16]}")
