"""Tokenised data on disk: what is needed of a data set is tokenised once per tokenizer, prefix and length.

A cell that finds its tokens here loads no tokenizer, which takes longer to load than a small cell's data to tokenise.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from datasets import Dataset, DatasetDict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from xlscale.cards.schema import DataCard, ModelCard
from xlscale.core import fingerprint, registry
from xlscale.core.files import CACHE, XlscaleError, atomic, digest
from xlscale.data.batches import Encoded
from xlscale.models import ladder
from xlscale.tasks.base import Task

FOLDER = CACHE / "tokens"
WHOLE = 25_000  # rows: seconds to tokenise
SHARE = 1 / 10  # of a split: who reads less is not made to wait for the rest
FIELDS = ("ids", "offsets", "row", "spans")
TARGET = "target."  # what the names of targets begin with in a file
HASH, NAME = "sha256", "name"  # metadata of a file: what ``_hash`` gives for its tensors, and how it was called


def encoded(
    task: Task, rows: DatasetDict, split: str, model: ModelCard, max_length: int, index: np.ndarray | None = None
) -> Encoded:
    """What ``task.encode`` makes of the rows ``index`` int64 (rows,) of a split, or of all. ``rows`` holds the splits
    of the task's data set.

    Of a split of up to WHOLE rows all are tokenised once SHARE of them are asked for, and serve whoever asks for others
    of them; else no more than is asked for. A file that is not as it was written, or not where, is made again.
    """
    there = len(rows[split])
    if index is not None and there <= WHOLE and len(index) >= SHARE * there:
        return encoded(task, rows, split, model, max_length).of_rows(index)
    path = _path(task.card, split, model, max_length, index)
    try:
        return _read(path)
    except (OSError, SafetensorError, KeyError, ValueError):
        wanted = rows[split] if index is None else rows[split].select(index)
        found = anew(task, wanted, model, max_length)
    _write(found, path)
    return found


def anew(task: Task, rows: Dataset, model: ModelCard, max_length: int) -> Encoded:
    """What ``task.encode`` makes of rows. Raises XlscaleError where nothing of a text fits behind the model's prefix,
    since all inputs would be the same."""
    tokenizer = ladder.tokenizer(model)
    if len(tokenizer(model.prefix)["input_ids"]) >= max_length:
        expected = f"a prefix that leaves room for a text in max_length, {max_length} tokens"
        raise XlscaleError(f"card {model.name}: prefix: expected {expected}, got {model.prefix!r}")
    return task.encode(rows, tokenizer, model.prefix, max_length)


def _path(card: DataCard, split: str, model: ModelCard, max_length: int, index: np.ndarray | None) -> Path:
    """The file of the tokens of the rows ``index`` of a split, of all where it is None."""
    # All that the tokens follow from, so that a stale file is never found: data, tokenizer, parameters, code.
    parts = [registry.module("task", card.family), registry.module("reader", model.reader), ladder.__name__]
    identity = [card.sha256, card.labels, split, model.member_sha256, model.prefix, model.separator, max_length]
    identity += [model.end, model.attention]
    identity.append(fingerprint.of_modules(parts))
    if index is not None:
        identity.append(hashlib.sha256(np.ascontiguousarray(index, np.int64)).hexdigest())
    return FOLDER / f"{card.name}-{split}-{model.name}-{max_length}-{digest(identity)[:16]}.safetensors"


def _read(path: Path) -> Encoded:
    tensors = load_file(path)
    with safe_open(path, "np") as file:
        if file.metadata() != {HASH: _hash(tensors), NAME: path.name}:
            raise ValueError(f"{path}: not as it was written")
    targets = {name.removeprefix(TARGET): values for name, values in tensors.items() if name.startswith(TARGET)}
    return Encoded(*(tensors[name] for name in FIELDS[:3]), targets, tensors.get("spans"))


def sha256_of(inputs: Encoded) -> str:
    """Hex sha256 of all that there is of some inputs."""
    return _hash(_tensors(inputs))


def _write(found: Encoded, path: Path) -> None:
    tensors = _tensors(found)
    with atomic(path) as temporary:
        save_file(tensors, temporary, {HASH: _hash(tensors), NAME: path.name})


def _tensors(found: Encoded) -> dict[str, np.ndarray]:
    tensors = {name: getattr(found, name) for name in FIELDS if getattr(found, name) is not None}
    tensors |= {TARGET + name: values for name, values in found.targets.items()}
    return {name: np.ascontiguousarray(values) for name, values in tensors.items()}


def _hash(tensors: dict[str, np.ndarray]) -> str:
    """Hex sha256 of tensors with their names, types and shapes."""
    found = hashlib.sha256()
    for name, values in sorted(tensors.items()):
        found.update(f"{name} {values.dtype.str} {values.shape} ".encode())
        found.update(values)
    return found.hexdigest()
