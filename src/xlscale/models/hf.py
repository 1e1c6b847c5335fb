"""Models in the layout of ``transformers``: a folder with config, safetensors and tokenizer, encoder or decoder.

Read with the library's own classes: no code from the folder is run, and weights are safetensors or nothing. A rung is
the model with its first k layers (of a decoder, its final norm stays behind them); what a task pools are the last
hidden states, of a decoder too.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from xlscale.cards import ModelCard, locked
from xlscale.data.sources import places
from xlscale.files import XlscaleError, sha256_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

PATTERNS = ("config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer*.json", "special_tokens_map.json")


def folder(card: ModelCard) -> Path:
    """The model's folder on this machine. Raises XlscaleError without one, saying where it was looked for."""
    for root in places.roots(card.source):
        found = root / card.source.repository if card.source.kind == "hub" else root
        if (found / "config.json").exists():
            return found
    looked = places.below(card.source) + "config.json"
    raise XlscaleError(
        f"model {card.name}: not on this machine, expected {looked} below ${places.HUB} or {places.FETCHED}"
    )


def files(path: Path) -> dict[str, Path]:
    """What of a model's folder counts: name -> path."""
    return {found.name: found for pattern in PATTERNS for found in sorted(path.glob(pattern))}


def checked(card: ModelCard) -> Path:
    """The folder, if its files are those of the lock. Of weights the size alone is compared, which costs no time;
    ``make data-check`` compares their hashes. Raises XlscaleError naming the file."""
    lock, path = locked(card.name), folder(card)
    here = files(path)
    for name, (size, sha256) in lock.files.items():
        if name not in here:
            raise XlscaleError(f"{path / name}: not found, expected as in the lock of {card.name}")
        if here[name].stat().st_size != size:
            raise XlscaleError(f"{path / name}: expected {size} bytes as in the lock of {card.name}")
        if not name.endswith(".safetensors") and sha256_file(here[name]) != sha256:
            raise XlscaleError(f"{path / name}: sha256: expected {sha256} as in the lock of {card.name}")
    return path


def tokenizer(card: ModelCard) -> PreTrainedTokenizerFast:
    """The tokenizer that tokenizer.json describes; where it has no token for padding, that is the end of a text.

    Not by the model's own class, which may add tokens that the embeddings lack. Does not import torch.
    """
    from transformers.tokenization_utils_tokenizers import PreTrainedTokenizerFast

    found = PreTrainedTokenizerFast.from_pretrained(checked(card), local_files_only=True)
    if found.pad_token is None:
        found.pad_token = found.eos_token
    return found


def _config(path: Path, card: ModelCard, layers: int) -> PreTrainedConfig:
    from transformers import AutoConfig

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

    with torch.device("meta"):
        return AutoModel.from_config(_config(checked(card), card, layers), attn_implementation="eager", **_bare(card))


def load(card: ModelCard, layers: int) -> PreTrainedModel:
    """The rung with ``layers`` layers: float32, in eval mode, pretrained weights. Raises XlscaleError."""
    import torch
    from transformers import AutoModel

    path = checked(card)
    config = _config(path, card, layers)
    with _quiet():
        model, report = AutoModel.from_pretrained(
            path,
            config=config,
            dtype=torch.float32,
            attn_implementation="eager",
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            **_bare(card),
        )
    if report["missing_keys"]:
        raise XlscaleError(f"{path}: {min(report['missing_keys'])}: missing ({len(report['missing_keys'])} tensors)")
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer(card).pad_token_id
    return model.eval()


def _bare(card: ModelCard) -> dict[str, bool]:
    """Arguments that leave a pooler out, of the classes that have one."""
    from transformers import AutoConfig

    kind = AutoConfig.from_pretrained(folder(card), local_files_only=True).model_type
    return {"add_pooling_layer": False} if kind in ("bert", "xlm-roberta", "xlm-roberta-xl", "roberta") else {}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's remark that layers above the rung are not used, which is what a rung is."""
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
