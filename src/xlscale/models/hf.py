"""Models in the layout of ``transformers``: a folder with config, safetensors and tokenizer, encoder or decoder.

Read with the library's own classes: no code from the folder is run, and weights are safetensors or nothing. A rung is
the model with its first k layers (of a decoder, its final norm stays behind them); what a task pools are the last
hidden states, of a decoder too.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from xlscale.cards import places
from xlscale.cards.catalogue import lock_path, locked
from xlscale.cards.schema import ModelCard
from xlscale.core.files import XlscaleError, one_line, read_json, relative, sha256_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

NEEDED = ("config.json", "tokenizer.json", "*.safetensors")
# All that is read of a folder, at its top: nothing else is downloaded, and nothing of it is read that is not locked.
PATTERNS = (*NEEDED, "*.safetensors.index.json", "tokenizer*.json", "special_tokens_map.json", "added_tokens.json")


def folder(card: ModelCard) -> Path:
    """The model's folder on this machine. Raises XlscaleError without one, saying where it was looked for."""
    origin = places.pinned(card.name, card.source)
    for found in (places.own(origin), places.fetched(origin)):
        if found and (found / NEEDED[0]).exists():
            return found
    where = f"below ${places.HUB} or {places.FETCHED}" if origin.kind == "hub" else ""
    looked = f"{places.prefix(origin)}{NEEDED[0]} {where}".strip()
    raise XlscaleError(f"model {card.name}: not on this machine, expected {looked}")


def files(path: Path) -> dict[str, Path]:
    """What of a model's folder counts: name -> path."""
    return {found.name: found for pattern in PATTERNS for found in sorted(path.glob(pattern))}


def hashes(path: Path) -> dict[str, tuple[int, str]]:
    """Bytes and sha256 of what counts in a folder. Raises XlscaleError for a folder that is not a whole model."""
    here = files(path)
    for pattern in NEEDED:
        if not any(fnmatchcase(name, pattern) for name in here):
            raise XlscaleError(f"{path}: expected {pattern}, found {', '.join(here) or 'no file of a model'}")
    for index in (one for name, one in here.items() if name.endswith(".index.json")):
        parts = read_json(index).get("weight_map", {}).values()
        if missing := sorted({*parts} - {*here}):
            raise XlscaleError(f"{path / missing[0]}: not found, expected as in {index.name}")
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
            raise XlscaleError(f"{path / name}: sha256: expected {sha256} as in {where}, got {found}")
    if more := sorted(here.keys() - lock.files.keys()):
        raise XlscaleError(f"{path / more[0]}: expected no such file, {where} has none")
    return path


def tokenizer(card: ModelCard) -> PreTrainedTokenizerFast:
    """The tokenizer that tokenizer.json describes; where it has no token for padding, that is the end of a text.

    Not by the model's own class, which may add tokens that the embeddings lack. Does not import torch.
    """
    from transformers.tokenization_utils_tokenizers import PreTrainedTokenizerFast

    path = checked(card)
    with _read(path):
        found = PreTrainedTokenizerFast.from_pretrained(path, local_files_only=True)
    if found.pad_token is None:
        found.pad_token = found.eos_token
    return found


def _config(path: Path, card: ModelCard, layers: int) -> PreTrainedConfig:
    from transformers import AutoConfig

    with _read(path):
        config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    config = config.get_text_config()  # of a model that also sees, the part that reads
    if config.num_hidden_layers < max(card.rungs):
        raise XlscaleError(
            f"card {card.name}: rungs: expected at most {config.num_hidden_layers}, got {max(card.rungs)}"
        )
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layers]
    config.use_cache = False
    return config


def empty(card: ModelCard, layers: int) -> PreTrainedModel:
    """The rung, shapes only, on the meta device."""
    import torch
    from transformers import AutoModel

    path = checked(card)
    config = _config(path, card, layers)
    with _read(path), torch.device("meta"):
        return AutoModel.from_config(config, attn_implementation="eager", **_bare(path))


def load(card: ModelCard, layers: int) -> PreTrainedModel:
    """The rung with ``layers`` layers: float32, in eval mode, pretrained weights. Raises XlscaleError."""
    import torch
    from transformers import AutoModel

    path = checked(card)
    config = _config(path, card, layers)
    with _read(path):
        model, report = AutoModel.from_pretrained(
            path,
            config=config,
            dtype=torch.float32,
            attn_implementation="eager",
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            **_bare(path),
        )
    if report["missing_keys"]:
        raise XlscaleError(f"{path}: {min(report['missing_keys'])}: missing ({len(report['missing_keys'])} tensors)")
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer(card).pad_token_id
    return model.eval()


def _bare(path: Path) -> dict[str, bool]:
    """Arguments that leave a pooler out, of the classes that have one."""
    kind = read_json(path / NEEDED[0]).get("model_type")
    return {"add_pooling_layer": False} if kind in ("bert", "xlm-roberta", "xlm-roberta-xl", "roberta") else {}


@contextmanager
def _read(path: Path) -> Iterator[None]:
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
