"""Models in the layout of ``transformers``: a folder with config, safetensors and tokenizer, encoder or decoder.

Read with the library's own classes, which are given the weights and not the folder: no code from it is run, and no file
that a configuration names is opened. A rung is the model with its first k layers (of a decoder, its final norm stays
behind them); what a task pools are the last hidden states, of a decoder too.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlscale.cards.architecture import Architecture
from xlscale.cards.schema import ModelCard
from xlscale.core.files import XlscaleError, read_json
from xlscale.models import behaviour, pairs
from xlscale.models.hub_files import ALONE, CONFIG, INDEX, checked, files, reading, tensors_of, weights

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

_LARGEST, _LONGEST_CONFIG = 2**28, 2**20  # bytes of tokenizer.json and config.json
_MOST_LABELS = 10**5
_EPSILONS = ("layer_norm_eps", "layer_norm_epsilon", "rms_norm_eps", "norm_eps", "norm_epsilon")
_LARGEST_EPSILON = 1e-3  # above it, a norm would give something else than a norm: published models have 1e-12 to 1e-5


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

    with reading(path):
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
        found.truncation_side = found.padding_side = "right"  # tasks know what is cut and where: never the prefix
        if found.pad_token is None:
            found.pad_token = found.eos_token
        if found.pad_token_id is None:
            raise ValueError("tokenizer.json: expected a token for padding, or for the end of a text")
        if not isinstance(found.model_max_length, int | float) or not found.model_max_length > 1:
            raise ValueError("tokenizer_config.json: model_max_length: expected a number above 1")
    return found


def _whole(path: Path) -> PreTrainedConfig:
    from transformers import AutoConfig

    with reading(path):
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
    with reading(path):
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
    for name in _EPSILONS:  # what keeps a norm from dividing by zero
        if (value := getattr(config, name, None)) is not None and not 0 <= value <= _LARGEST_EPSILON:
            raise ValueError(f"{CONFIG}: {name}: expected 0 to {_LARGEST_EPSILON:g}, got {value:g}")
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
    with reading(path):
        return _shapes(config, card)


def described(card: ModelCard, layers: int) -> PreTrainedModel:
    """The rung as ``empty`` makes it, by what the card says of its architecture, before anything of it is here."""
    from transformers import AutoConfig

    stated = card.architecture
    return _shapes(_cut(AutoConfig.for_model(stated.model_type, **stated.config), card, layers), card)


def _shapes(config: PreTrainedConfig, card: ModelCard) -> PreTrainedModel:
    import torch

    with torch.device("meta"):
        model = blank(config)
    behaviour.check_attention(model, card)
    return model


def blank(config: PreTrainedConfig, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """A model of this configuration with weights as its class draws them, on torch's default device."""
    from transformers import AutoModel

    kind = {"dtype": dtype} if dtype else {}
    return AutoModel.from_config(config, attn_implementation="eager", **kind, **_bare(_class(config)))


def load(card: ModelCard, layers: int, as_published: bool = False) -> PreTrainedModel:
    """The rung with ``layers`` layers: float32, in eval mode, pretrained weights. Raises XlscaleError, also where its
    states cannot be computed or are not finite.

    ``as_published``: a model all of whose weights were published in bfloat16 stays in it, unless it holds numbers that
    are no weights and would be rounded, as Gemma's factor on its word embeddings.

    Of a causal model, the configuration's ``bos_token_id`` is what the tokenizer puts before a text, None for nothing.
    """
    path = checked(card)
    config, tensors = _config(path, card, layers), dict(tensors_of(path))
    model = _filled(path, config, tensors, _published(config, tensors) if as_published else None)
    behaviour.check_attention(model, card)
    if card.attention == "causal":
        model.config.bos_token_id = pairs.begin(_tokenizer(path))
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer(card).pad_token_id
    model.eval()
    with reading(path):
        behaviour.check_states(model)
    return model


def _published(config: PreTrainedConfig, tensors: dict[str, Tensor]) -> torch.dtype | None:
    """The type of a model's weights if it can compute in it as in float32, else None."""
    import torch

    if any(tensor.dtype != torch.bfloat16 for tensor in tensors.values()):
        return None
    with torch.device("meta"):
        buffers = blank(config, torch.bfloat16).buffers()
    return None if any(buffer.dtype == torch.bfloat16 for buffer in buffers) else torch.bfloat16


def _filled(
    path: Path, config: PreTrainedConfig, tensors: dict[str, Tensor], dtype: torch.dtype | None = None, **more: Any
) -> PreTrainedModel:
    """The model of a configuration with these weights, float32 unless ``dtype`` says otherwise. Raises XlscaleError
    naming one that is missing, of another shape, or of a part of the model that would compute without it."""
    import torch

    with reading(path):
        kind = _class(config)
        model, report = kind.from_pretrained(
            None,  # no folder: what is not in the state is nowhere
            config=config,
            state_dict=tensors,
            dtype=dtype or torch.float32,
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
    for name in sorted(report["unexpected_keys"]):
        if part := _within(model, name):
            raise XlscaleError(f"{path}: {name}: expected no such weight, {CONFIG} gives {part} none")
    return model


def _within(model: PreTrainedModel, name: str) -> str:
    """The part of a model that a weight belongs to which the model has not; nothing for one of a layer above the rung,
    or of a head or another part that stands beside the layers."""
    from torch.nn import ModuleList

    parts = name.removeprefix(f"{model.base_model_prefix}.").split(".")[:-1]
    here = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
    known = dict(model.named_modules())
    found = next((part for part in here if part in known), "")
    return "" if isinstance(known[found], ModuleList) else found


def _class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    from transformers import MODEL_MAPPING

    found = MODEL_MAPPING[type(config)]
    return found[0] if isinstance(found, tuple) else found


def _bare(kind: type[PreTrainedModel]) -> dict[str, bool]:
    """Arguments that leave a pooler out, of the classes that can have one."""
    return {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(kind).parameters else {}
