"""Models in the layout of ``transformers``: a folder with config, safetensors and tokenizer, encoder or decoder.

Read with the library's own classes, which are given the weights and not the folder: no code from it is run, and no file
that a configuration names is opened. A rung is the model with its first k layers (of a decoder, its final norm stays
behind them); what a task pools are the last hidden states, of a decoder too.
"""

from __future__ import annotations

import inspect
import logging
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlscale.cards import places
from xlscale.cards.architecture import Architecture
from xlscale.cards.catalogue import lock_path, locked
from xlscale.cards.schema import ModelCard
from xlscale.core.files import XlscaleError, below, one_line, read_json, relative, sha256_file
from xlscale.models import behaviour, pairs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
NEEDED = (CONFIG, "tokenizer.json")
# All that is read of a folder besides the weights, at its top: nothing else is downloaded, and nothing of it is read
# that is not locked.
PATTERNS = (*NEEDED, INDEX, "tokenizer*.json", "special_tokens_map.json", "added_tokens.json")
_LARGEST, _LONGEST_CONFIG = 2**28, 2**20  # bytes of tokenizer.json and config.json
_MOST_LABELS = 10**5
# What the weights of a part that reads are called inside a model that also sees: as if they were alone.
ALONE = {r"^(model\.)?language_model\.(model\.)?": ""}


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


def examine(path: Path, card: ModelCard) -> None:
    """Raise XlscaleError where configuration or tokenizer of a folder are not those of a model that can be a rung. It
    takes no weights, so it can be known before they are downloaded."""
    tokens, model = _tokenizer(path), _empty(path, card, max(card.rungs))
    if card.architecture:
        _check_architecture(_whole(path), card.architecture, path / CONFIG)
    # What is put around a text need not be in the vocabulary.
    last = max(*tokens.get_vocab().values(), *tokens("a")["input_ids"], *tokens("a", "b")["input_ids"])
    if last >= (rows := len(model.get_input_embeddings().weight)):
        raise XlscaleError(f"{path / 'tokenizer.json'}: expected ids below {rows}, the embeddings' rows, got {last}")


def check_weights(path: Path, card: ModelCard) -> None:
    """Raise XlscaleError unless the weights of a folder are those of a model of its configuration. All are read, one at
    a time."""
    shapes = {name: tensor.to("meta") for name, tensor in tensors_of(path)}
    wanted = sum(parameter.numel() for parameter in _empty(path, card, max(card.rungs)).parameters())
    if wanted > 2 * (found := sum(tensor.numel() for tensor in shapes.values())):  # and not all of them to be made
        raise XlscaleError(f"{path}: expected {wanted:,} weights of float type as by its {CONFIG}, got {found:,}")
    _filled(path, _config(path, card, max(card.rungs)), shapes, device_map="meta")


def _check_architecture(config: PreTrainedConfig, stated: Architecture, where: Path) -> None:
    """Raise XlscaleError where a model's configuration is not what its card says."""
    reads = config.get_text_config()
    told = {"model_type": (config.model_type, stated.model_type)}
    told |= {field: (getattr(reads, field, None), value) for field, value in stated.reads.items()}
    for field, (found, expected) in told.items():
        if found != expected:
            raise XlscaleError(f"{where}: {field}: expected {expected} as in the model's card, got {found}")


def tokenizer(card: ModelCard) -> PreTrainedTokenizerFast:
    """The tokenizer that tokenizer.json describes; where it has no token for padding, that is the end of a text.

    Not by the model's own class, which may add tokens that the embeddings lack. Does not import torch.
    """
    return _tokenizer(checked(card))


def _tokenizer(path: Path) -> PreTrainedTokenizerFast:
    from transformers.tokenization_utils_tokenizers import PreTrainedTokenizerFast

    with _read(path):
        here = files(path)
        # The libraries take the second of two keys, and what is no number of JSON.
        for name in here.keys() - {*weights(path), INDEX}:
            read_json(path / name, _LARGEST)
        about = read_json(path / "tokenizer_config.json") if "tokenizer_config.json" in here else {}
        if other := {*about.get("fast_tokenizer_files", [])} - here.keys():
            raise ValueError(
                f"tokenizer_config.json: fast_tokenizer_files: expected files beside it, got {min(other)!r}"
            )
        found = PreTrainedTokenizerFast.from_pretrained(path, local_files_only=True)
        if found.pad_token is None:
            found.pad_token = found.eos_token
        if found.pad_token_id is None:
            raise ValueError("tokenizer.json: expected a token for padding, or for the end of a text")
        if not isinstance(found.model_max_length, int | float) or not found.model_max_length > 1:
            raise ValueError("tokenizer_config.json: model_max_length: expected a number above 1")
    return found


def _whole(path: Path) -> PreTrainedConfig:
    from transformers import AutoConfig

    with _read(path):
        _check_labels(read_json(path / CONFIG, _LONGEST_CONFIG))
        return AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)


def _check_labels(values: dict[str, Any]) -> None:
    """Raise ValueError for more labels than anybody has, in a configuration or in one of its parts: the library makes a
    table of them, which nobody needs here."""
    if isinstance(labels := values.get("num_labels"), int) and labels > _MOST_LABELS:
        raise ValueError(f"{CONFIG}: num_labels: expected at most {_MOST_LABELS}, got {labels}")
    for part in values.values():
        if isinstance(part, dict):
            _check_labels(part)


def _config(path: Path, card: ModelCard, layers: int) -> PreTrainedConfig:
    with _read(path):
        return _cut(_whole(path), card, layers)


def _cut(config: PreTrainedConfig, card: ModelCard, layers: int) -> PreTrainedConfig:
    """A model's configuration as that of its rung with ``layers`` layers."""
    config = config.get_text_config()  # of a model that also sees, the part that reads
    if config.is_encoder_decoder:
        raise ValueError(f"{CONFIG}: model_type: expected an encoder or a decoder, {config.model_type} is both")
    if getattr(config, "quantization_config", None):
        raise ValueError(f"{CONFIG}: quantization_config: expected none, weights are read as they are")
    if (config.pad_token_id or 0) < 0:
        raise ValueError(f"{CONFIG}: pad_token_id: expected the id of a token or null, got {config.pad_token_id}")
    if config.num_hidden_layers < max(card.rungs):
        expected = f"at most {config.num_hidden_layers}, got {max(card.rungs)}"
        raise XlscaleError(f"card {card.name}: rungs: expected {expected}")
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layers]
    config.use_cache, config.return_dict, config.chunk_size_feed_forward = False, True, 0
    config.transformers_weights = None  # the name of a file: weights are those that ``load`` hands over
    return config


def empty(card: ModelCard, layers: int) -> PreTrainedModel:
    """The rung, shapes only, on the meta device."""
    return _empty(checked(card), card, layers)


def _empty(path: Path, card: ModelCard, layers: int) -> PreTrainedModel:
    config = _config(path, card, layers)
    with _read(path):
        return _shapes(config, card)


def described(card: ModelCard, layers: int) -> PreTrainedModel:
    """The rung as ``empty`` makes it, by what the card says of its architecture, before anything of it is here."""
    from transformers import AutoConfig

    stated = card.architecture
    return _shapes(_cut(AutoConfig.for_model(stated.model_type, **stated.config), card, layers), card)


def _shapes(config: PreTrainedConfig, card: ModelCard) -> PreTrainedModel:
    import torch
    from transformers import AutoModel

    with torch.device("meta"):
        model = AutoModel.from_config(config, attn_implementation="eager", **_bare(_class(config)))
    behaviour.check_attention(model, card)
    return model


def load(card: ModelCard, layers: int) -> PreTrainedModel:
    """The rung with ``layers`` layers: float32, in eval mode, pretrained weights. Raises XlscaleError, also where its
    states cannot be computed or are not finite.

    Of a causal model, the configuration's ``bos_token_id`` is what the tokenizer puts before a text, None for nothing.
    """

    path = checked(card)
    config = _config(path, card, layers)
    model = _filled(path, config, dict(tensors_of(path)))
    behaviour.check_attention(model, card)
    if card.attention == "causal":
        model.config.bos_token_id = pairs.begin(_tokenizer(path))
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer(card).pad_token_id
    model.eval()
    with _read(path):
        behaviour.check_states(model)
    return model


def _filled(path: Path, config: PreTrainedConfig, tensors: dict[str, Tensor], **more: Any) -> PreTrainedModel:
    """The model of a configuration with these weights. Raises XlscaleError naming one that is missing or of another
    shape."""
    import torch

    with _read(path):
        kind = _class(config)
        model, report = kind.from_pretrained(
            None,  # no folder: what is not in the state is nowhere
            config=config,
            state_dict=tensors,
            dtype=torch.float32,
            attn_implementation="eager",
            key_mapping=ALONE,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told below
            **_bare(kind),
            **more,
        )
    if missing := report["missing_keys"]:
        raise XlscaleError(f"{path}: {min(missing)}: missing among the weights of float type ({len(missing)} tensors)")
    for name, found, expected in sorted(report["mismatched_keys"])[:1]:
        raise XlscaleError(f"{path}: {name}: expected the shape {[*expected]} of {CONFIG}, got {[*found]}")
    return model


def tensors_of(path: Path) -> Iterator[tuple[str, Tensor]]:
    """The weights of a folder by name, memory-mapped; what is not of a float type, such as positions that some models
    keep, is no weight. Raises XlscaleError naming a file or tensor that is broken, not finite, or in two files."""
    import torch
    from safetensors import safe_open

    seen: set[str] = set()
    for name in weights(path):
        with _read(path / name), safe_open(below(path, name), "pt") as file:
            if twice := seen & {*file.keys()}:
                raise XlscaleError(f"{path / name}: {min(twice)}: expected in one file, got it again")
            seen |= {*file.keys()}
            for key in file.keys():  # noqa: SIM118
                tensor = file.get_tensor(key)
                if tensor.dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
                    # The sum is many times as fast as a look at each value, and seldom infinite where none of them is.
                    total = tensor.sum(dtype=torch.promote_types(tensor.dtype, torch.float32))
                    if not total.isfinite() and not tensor.isfinite().all():
                        raise XlscaleError(f"{path / name}: {key}: expected finite weights")
                    yield key, tensor


def _class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    from transformers import MODEL_MAPPING

    found = MODEL_MAPPING[type(config)]
    return found[0] if isinstance(found, tuple) else found


def _bare(kind: type[PreTrainedModel]) -> dict[str, bool]:
    """Arguments that leave a pooler out, of the classes that can have one."""
    return {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(kind).parameters else {}


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
