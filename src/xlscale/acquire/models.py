"""Models: from a package to the converted folder that ``models.store`` opens, and from the hub, or from packages that
hold a file of llama.cpp's, to a locked folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from filelock import FileLock
from safetensors import SafetensorError
from safetensors.numpy import save_file

from xlscale.acquire import gguf, git, hub, packages, remote
from xlscale.cards import catalogue, places
from xlscale.cards.schema import ModelCard
from xlscale.cards.sources import Gguf, Lock
from xlscale.core import registry
from xlscale.core.files import XlscaleError, digest, relative, write_json
from xlscale.core.seals import seal, sealed
from xlscale.core.strict import parse
from xlscale.models import hf, hub_files, store


def convert(card: ModelCard, folder: Path | None = None) -> Path:
    """Folder of the converted model below ``folder`` (default ``CACHE/models``), converted now if it is not there, or
    not as it was written.

    Any number of processes may ask at once: one converts, the others wait. One that is killed leaves nothing that
    counts, and the next removes its remains. Raises XlscaleError when the package cannot be had, its hash or format is
    wrong, or the disk is full.
    """
    if card.source:
        return _made(places.converted(card.source), lambda part: gguf.write(card.source, part))
    return _made(store.path(card, folder), lambda part: _write(card, part))


def _made(target: Path, write: Callable[[Path], None]) -> Path:
    """``target``, once it is what ``write`` writes into the empty folder that it is given."""
    if not sealed(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f".{target.name}.lock")):
            if not sealed(target):
                _make(target, write)
    return target


def _make(target: Path, write: Callable[[Path], None]) -> None:
    """Write into a temporary folder, flush it and rename it to ``target``; the caller holds the lock."""
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        write(part)
        _flush(part.iterdir())
        seal(target, part)
        shutil.rmtree(target, ignore_errors=True)  # what was changed since it was written
        part.rename(target)
    except (OSError, SafetensorError) as error:
        raise XlscaleError(f"{target}: could not be written ({error}); nothing was changed") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write(card: ModelCard, folder: Path) -> None:
    """Write what a reader makes of a package."""
    reader = registry.get("reader", card.reader)
    weights = reader.read(card, packages.fetch(card.package))
    if (layers := weights.config()["num_hidden_layers"]) < max(card.rungs):
        raise XlscaleError(f"card {card.name}: rungs: expected at most {layers} layers, got {max(card.rungs)}")
    tensors = dict(weights.tensors())
    save_file({store.WORD_EMBEDDINGS: tensors.pop(store.WORD_EMBEDDINGS)}, folder / store.EMBEDDINGS)
    save_file(tensors, folder / store.ENCODER)
    (folder / store.TOKENIZER).write_text(reader.tokenizer(weights).to_str(), encoding="utf-8")
    write_json(folder / store.CONFIG, {"model": weights.config(), "special_tokens": weights.special_tokens()})


def _flush(paths: Iterable[Path]) -> None:
    for path in paths:
        path.chmod(0o644)  # safetensors writes files that only their owner may read
        with open(path, "rb") as f:
            os.fsync(f.fileno())


def download(card: ModelCard) -> Lock:
    """Download what is missing of a model from the hub or from packages, and check it against its lock, which is
    written if there is none. A folder that the user has is locked and checked as it is. Raises XlscaleError."""
    revisions: dict[str, str | None] = {}
    if isinstance(card.source, Gguf):
        convert(card)
    else:
        commits = hub.fetch_model(card)
        card = places.at(card, commits)
        revisions |= {card.source.address: commits.get(card.source.address)} if card.source.repository else {}
    if catalogue.lock(card.name) is None:
        folder = hub_files.folder(card)
        for path in hub_files.files(folder).values():
            git.expect_content(path, relative(path))
        files = hub_files.hashes(folder)
        hf.examine(folder, card)
        hf.check_weights(folder, card)  # once, before they are locked; what is locked stays as it is
        values = {"card": card.name, "sha256": digest(files), "revisions": revisions, "files": files}
        catalogue.write_lock(parse(Lock, values, card.name))
    try:
        hub_files.checked(card)
    except XlscaleError as error:
        raise XlscaleError(f"{error}{remote.again(hub_files.folder(card), card.name)}") from None
    return catalogue.locked(card.name)
