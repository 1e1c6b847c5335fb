"""The files of a model in the layout of ``transformers``: which count, whether they are those of the lock, the weights
in them."""

from __future__ import annotations

import logging
import re
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from xlscale.cards import places
from xlscale.cards.catalogue import lock_path, locked
from xlscale.cards.schema import ModelCard
from xlscale.cards.sources import Gguf
from xlscale.core.files import XlscaleError, below, one_line, read_json, relative, sha256_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
NEEDED = (CONFIG, "tokenizer.json")
# All that is read of a folder besides the weights, at its top: nothing else is downloaded, and nothing of it is read
# that is not locked.
PATTERNS = (*NEEDED, INDEX, "tokenizer*.json", "special_tokens_map.json", "added_tokens.json")
# What the weights of a part that reads are called inside a model that also sees: as if they were alone.
ALONE = {r"^(model\.)?language_model\.(model\.)?": ""}
# Norms of old checkpoints, which transformers renames.
_OLD = {r"LayerNorm\.gamma$": "LayerNorm.weight", r"LayerNorm\.beta$": "LayerNorm.bias"}


def folder(card: ModelCard) -> Path:
    """The model's folder on this machine. Raises XlscaleError without one, saying where it was looked for."""
    if isinstance(card.source, Gguf):
        if (found := places.converted(card.source)).is_dir():
            return found
        where = f"expected {relative(found)}; run `make data-fetch CARD={card.name}`"
        raise XlscaleError(f"model {card.name}: not on this machine, {where}")
    origin = places.pinned(card.name, card.source)
    for found in (places.own(origin), places.fetched(origin)):
        if found and (found / NEEDED[0]).exists():
            return found
    where = f"below ${places.HUB} or {places.FETCHED}" if origin.kind == "hub" else ""
    looked = f"{places.prefix(origin)}{NEEDED[0]} {where}".strip()
    raise XlscaleError(f"model {card.name}: not on this machine, expected {looked}")


def files(path: Path) -> dict[str, Path]:
    """What of a model's folder counts: name -> path. Raises XlscaleError for a broken index, and for a link that leads
    out of the folder."""
    names = [found.name for pattern in PATTERNS for found in sorted(path.glob(pattern))] + weights(path)
    return {name: one for name in names if (one := below(path, name)).is_file()}


def weights(path: Path) -> list[str]:
    """Names of the files that hold the weights: those of the index where there is one. Other safetensors beside them,
    in another layout or of an adapter, do not count. Raises XlscaleError for a broken index."""
    if not (path / INDEX).exists():
        return [WEIGHTS]
    index = read_json(path / INDEX)
    parts = index.get("weight_map") if isinstance(index, dict) else None
    if (
        not parts
        or not isinstance(parts, dict)
        or not all(fnmatchcase(str(n), "*.safetensors") for n in parts.values())
    ):
        raise XlscaleError(f"{path / INDEX}: weight_map: expected the safetensors file of every tensor")
    if missing := [name for name in parts.values() if "/" in name]:
        raise XlscaleError(f"{path / INDEX}: weight_map: expected files beside it, got {missing[0]!r}")
    return sorted({*parts.values()})


def hashes(path: Path) -> dict[str, tuple[int, str]]:
    """Bytes and sha256 of what counts in a folder. Raises XlscaleError for a folder that is not a whole model."""
    here = files(path)
    for name in (*NEEDED, *weights(path)):
        if name not in here and INDEX in here:
            raise XlscaleError(f"{path / name}: not found, expected as in {INDEX}")
        if name not in here:
            raise XlscaleError(f"{path}: expected {name}, found {', '.join(here) or 'no file of a model'}")
    return {name: _hashed(one) for name, one in here.items()}


def _hashed(path: Path) -> tuple[int, str]:
    stat = path.stat()
    return stat.st_size, _sha256(path, stat.st_size, stat.st_mtime_ns)


@cache
def _sha256(path: Path, size: int, mtime: int) -> str:
    return sha256_file(path)


def checked(card: ModelCard) -> Path:
    """The folder, if its files are those of the lock, all of them and no others.

    A file is hashed once per process and time of its last change: of XLM-R large, 2.2 GB, that is a few seconds
    (sha256 goes at 0.5 to 2 GB/s). Raises XlscaleError naming the file.
    """
    lock, path = locked(card.name), folder(card)
    here, where = files(path), relative(lock_path(card.name))
    for name, (_, sha256) in lock.files.items():
        if name not in here:
            raise XlscaleError(f"{path / name}: not found, expected as in {where}")
        if (found := _hashed(here[name])[1]) != sha256:
            raise XlscaleError(f"{path / name}: sha256: expected {sha256} as in {where}, got {found[:16]}")
    if more := sorted(here.keys() - lock.files.keys()):
        raise XlscaleError(f"{path / more[0]}: expected no such file, {where} has none")
    return path


def tensors_of(path: Path) -> Iterator[tuple[str, Tensor]]:
    """The weights of a folder by name, memory-mapped; what is not of a float type, such as positions that some models
    keep, is no weight. Raises XlscaleError naming a file or tensor that is broken, not finite, or there twice."""
    import torch
    from safetensors import safe_open

    seen: dict[str, tuple[str, str]] = {}
    for name in weights(path):
        with reading(path / name), safe_open(below(path, name), "pt") as file:
            for key in file.keys():  # noqa: SIM118
                if (other := seen.setdefault(_called(key), (name, key))) != (name, key):
                    raise XlscaleError(f"{path / name}: {key}: expected once, got {other[1]} of {other[0]} too")
                tensor = file.get_tensor(key)
                if tensor.dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
                    # The sum is many times as fast as a look at each value, and seldom infinite where none of them is.
                    total = tensor.sum(dtype=torch.promote_types(tensor.dtype, torch.float32))
                    if not total.isfinite() and not tensor.isfinite().all():
                        raise XlscaleError(f"{path / name}: {key}: expected finite weights")
                    yield key, tensor


def _called(name: str) -> str:
    """What a weight is called when it is loaded."""
    for pattern, new in (ALONE | _OLD).items():
        name = re.sub(pattern, new, name)
    return name


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """What the library raises about a folder as one line; without its remark that layers above the rung are not used,
    which is what a rung is."""
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    except XlscaleError:
        raise
    except Exception as error:  # whatever the library, tokenizers or safetensors raise about a broken file
        raise XlscaleError(f"{path}: expected a model that transformers can read ({one_line(error, 200)})") from None
    finally:
        logger.setLevel(level)
