"""Converted models on disk, read memory-mapped. How they come there: ``acquire.models``.

A model's folder below ``CACHE/models`` holds ``config.json``, ``tokenizer.json``, ``embeddings.safetensors`` (the word
embeddings alone, so that processes share their pages and checkpoints need not repeat them) and
``encoder.safetensors`` (all else). The folder is there whole or not at all. Cards with the same weights share it.
"""

from __future__ import annotations

from pathlib import Path

from xlscale.cards.schema import ModelCard
from xlscale.core.files import CACHE, XlscaleError, read_json, relative
from xlscale.core.seals import sealed

FORMAT = 1  # to be raised when a conversion changes what it writes
WORD_EMBEDDINGS = "embeddings.word_embeddings.weight"
CONFIG, TOKENIZER = "config.json", "tokenizer.json"
EMBEDDINGS, ENCODER = "embeddings.safetensors", "encoder.safetensors"


def path(card: ModelCard, folder: Path | None = None) -> Path:
    """Where the converted model is, or would be, below ``folder`` (default ``CACHE/models``)."""
    name = f"{Path(card.member).stem}-{card.member_sha256[:12]}-{FORMAT}"
    return (folder or CACHE / "models") / name


def converted(card: ModelCard) -> Path:
    """The folder of the converted model. Raises XlscaleError, naming the command that gets it, where it is not here or
    not as it was written."""
    if not sealed(found := path(card)):
        there = "not as it was written" if found.exists() else "not on this machine"
        where = f"{there}, expected {relative(found)}"
        raise XlscaleError(f"model {card.name}: {where}; run `make data-fetch CARD={card.name}`")
    return found


def config(folder: Path) -> dict:
    """``{"model": BertConfig's arguments, "special_tokens": {role: token}}`` of a converted model."""
    return read_json(folder / CONFIG)
