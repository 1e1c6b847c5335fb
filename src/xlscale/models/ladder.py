"""The ladder: a pretrained encoder cut to its first layers, its tokenizer, its size, its cost and its checkpoints.

Rung k is the embedding layer and the first k transformer layers, so the final hidden state of rung k is hidden state k
of the full model. Depth reduction by dropping top layers: Sajjad et al. 2020 (arXiv:2004.03844).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from xlscale.cards.schema import ModelCard
from xlscale.core import registry
from xlscale.core.files import XlscaleError, atomic, relative, verify
from xlscale.models import healed, pairs, store

if TYPE_CHECKING:  # torch and transformers take seconds to import; who only tokenises does not need them
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

MODEL = "model."  # what names in a checkpoint begin with
ADAPTER = ".lora_"  # in the names of parameters that are no pretrained model's


def tokenizer(card: ModelCard) -> PreTrainedTokenizerFast:
    """The model's fast tokenizer. It adds the model's special tokens, ``card.separator`` and ``card.end`` among them,
    but not ``card.prefix``, and cuts at the model's positions only when asked to (``truncation=True``). Does not import
    torch.

    Raises XlscaleError for a separator or an end that is no special token.
    """
    if card.source:
        found = registry.get("reader", card.reader).tokenizer(card)
        return _marked(found, card.name, card.separator, card.end)
    return _converted(store.converted(card), card.name, card.separator, card.end)


@lru_cache(maxsize=1)  # it takes as long to read as thousands of rows to tokenise, and a cell needs it several times
def _converted(folder: Path, name: str, separator: str | None, end: str | None) -> PreTrainedTokenizerFast:
    from transformers.tokenization_utils_tokenizers import PreTrainedTokenizerFast

    described = store.config(folder)
    found = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / store.TOKENIZER),
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=described["model"]["max_position_embeddings"],
        **described["special_tokens"],
    )
    return _marked(found, name, separator, end)


def _marked(
    found: PreTrainedTokenizerFast, name: str, separator: str | None, end: str | None
) -> PreTrainedTokenizerFast:
    if separator is None and end is None:
        return found
    return pairs.marked(found, f"card {name}", separator, end)


def _check_rung(card: ModelCard, layers: int) -> None:
    if layers not in card.rungs:
        raise XlscaleError(f"card {card.name}: layers: expected one of {card.rungs}, got {layers}")


def empty(card: ModelCard, layers: int) -> PreTrainedModel:
    """The rung with ``layers`` layers, without pooler: shapes only, on the meta device.

    Attention is plain matrix products and a softmax ("eager"): on CPUs the backward pass of PyTorch's fused attention
    takes five times as long in bfloat16.

    Raises XlscaleError when ``layers`` is not a rung of the card.
    """
    import torch
    from transformers.models.bert.configuration_bert import BertConfig
    from transformers.models.bert.modeling_bert import BertModel

    _check_rung(card, layers)
    if card.source:
        return registry.get("reader", card.reader).empty(card, layers)
    described = store.config(store.converted(card))["model"]
    with torch.device("meta"):  # neither memory nor random initial values
        config = BertConfig(**described | {"num_hidden_layers": layers}, attn_implementation="eager")
        return BertModel(config, add_pooling_layer=False)


def load(card: ModelCard, layers: int, checkpoint: Path | None = None, as_published: bool = False) -> PreTrainedModel:
    """The rung with ``layers`` layers: float32, in eval mode, otherwise as ``empty`` makes it. ``as_published``: of a
    model that was published in bfloat16 it is that, half as large.

    Weights are the pretrained ones, or those of ``checkpoint`` (see ``save_checkpoint``). Word embeddings do not
    require gradients, and are a memory-mapped tensor unless the checkpoint has some. No random number is drawn.

    Raises XlscaleError when ``layers`` is not a rung of the card, or the checkpoint is missing, broken or of another
    rung.
    """
    import torch

    if card.source:
        return _from_folder(card, layers, checkpoint, as_published and checkpoint is None)
    folder, model = store.converted(card), empty(card, layers)
    wanted = {name: parameter.shape for name, parameter in model.named_parameters()}
    word = wanted.pop(store.WORD_EMBEDDINGS)
    tensors = _read(folder / store.EMBEDDINGS, {store.WORD_EMBEDDINGS: word})
    # The rest is copied: training writes to it, and copies are aligned alike wherever they came from.
    source, prefix = (checkpoint, MODEL) if checkpoint else (folder / store.ENCODER, "")
    if checkpoint and MODEL + store.WORD_EMBEDDINGS in _names(checkpoint):
        wanted[store.WORD_EMBEDDINGS] = word
    tensors |= {name: tensor.clone() for name, tensor in _read(source, wanted, prefix, whole=bool(checkpoint)).items()}
    model.load_state_dict(tensors, assign=True)
    positions = torch.arange(model.config.max_position_embeddings).expand((1, -1))  # buffers are in no state dict
    model.embeddings.position_ids, model.embeddings.token_type_ids = positions, torch.zeros_like(positions)
    model.embeddings.word_embeddings.requires_grad_(False)
    if checkpoint is None and (rung := card.healed_rung(layers)):
        verify(rung.path, rung.sha256, f"healed rung of {card.name} with {layers} layers")
        healed.add(model, rung.path, store.WORD_EMBEDDINGS)
    return model.eval()


def _from_folder(card: ModelCard, layers: int, checkpoint: Path | None, as_published: bool) -> PreTrainedModel:
    """``load`` for a model in the transformers layout, with the same rule for word embeddings."""
    _check_rung(card, layers)
    model = registry.get("reader", card.reader).load(card, layers, as_published)
    word = model.get_input_embeddings().weight.requires_grad_(False)
    if checkpoint:
        trained = _names(checkpoint)
        named = model.named_parameters()
        restore(model, [name for name, one in named if one is not word or MODEL + name in trained], checkpoint)
    return model.eval()


def _names(path: Path) -> set[str]:
    """Names of the tensors in a safetensors file; none of a file that ``_read`` will refuse."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return set()
    try:
        with safe_open(path, "pt") as file:
            return {*file.keys()}
    except (OSError, SafetensorError):
        return set()


def _read(path: Path, wanted: dict[str, tuple[int, ...]], prefix: str = "", whole: bool = False) -> dict[str, Tensor]:
    """Float32 tensors by name from a safetensors file, memory-mapped; in the file, names begin with ``prefix``.

    Raises XlscaleError when the file is missing or broken, a tensor is missing or of another shape or type, or, if
    ``whole``, the file has a tensor under the prefix that was not wanted.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    try:
        if not path.is_file():  # the library would wait for a pipe
            raise OSError("no plain file")
        with safe_open(path, "pt") as file:
            names = {name.removeprefix(prefix) for name in file.keys() if name.startswith(prefix)}  # noqa: SIM118
            if missing := sorted(wanted.keys() - names):
                raise XlscaleError(f"{relative(path)}: {prefix}{missing[0]}: missing ({len(missing)} of {len(wanted)})")
            if whole and (foreign := sorted(names - wanted.keys())):
                raise XlscaleError(
                    f"{relative(path)}: {prefix}{foreign[0]}: not expected in this rung ({len(foreign)} such tensors)"
                )
            tensors = {name: file.get_tensor(prefix + name) for name in wanted}
    except (OSError, SafetensorError) as error:
        raise XlscaleError(f"{relative(path)}: not readable, expected a safetensors file ({error})") from None
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name] or tensor.dtype != torch.float32:
            raise XlscaleError(
                f"{relative(path)}: {prefix}{name}: expected float32 of shape {tuple(wanted[name])}, "
                f"got {str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"
            )
    return tensors


def save_checkpoint(model: PreTrainedModel, path: Path) -> None:
    """Write a rung as safetensors, atomically: all its parameters as ``model.<name>`` except word embeddings that
    stayed as pretrained.

    Equal tensors give equal bytes. Raises XlscaleError when the disk is full.
    """
    word = model.get_input_embeddings().weight
    kept = {
        name: parameter for name, parameter in model.named_parameters() if parameter is not word or word.requires_grad
    }
    save(kept, path)


def save(parameters: Mapping[str, Tensor], path: Path) -> None:
    """Write parameters as ``model.<name>``, otherwise as ``save_checkpoint`` does. Of several ranks all have to call
    it, and the first one writes."""
    from safetensors.torch import save

    from xlscale.core import ranks

    kept = {}
    for name, parameter in parameters.items():
        whole = ranks.whole(parameter.detach())
        if ranks.number() == 0:
            kept[MODEL + name] = whole.cpu().contiguous()
    if ranks.number() == 0:
        with atomic(path) as temporary:
            temporary.write_bytes(save(kept))


def restore(model: PreTrainedModel, names: Iterable[str], path: Path) -> None:
    """Copy what ``save`` wrote into the parameters of ``model`` that are called ``names``.

    Raises XlscaleError when the file is missing or broken, or holds others.
    """
    wanted = {name: model.get_parameter(name).shape for name in names}
    model.load_state_dict(_read(path, wanted, MODEL, whole=True), strict=False)


def adapters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that were added to a pretrained model, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if ADAPTER in name}


def parameter_counts(model: PreTrainedModel) -> tuple[int, int]:
    """Numbers of parameters: (total, non-embedding), adapters not among them.

    Non-embedding is everything but the word-embedding matrix; position and token-type embeddings (0.2 million here)
    are counted, unlike in Kaplan et al. 2020, because they are trained like the rest.
    """
    total = sum(size(parameter) for name, parameter in model.named_parameters() if ADAPTER not in name)
    return total, total - model.get_input_embeddings().weight.numel()


def size(parameter: Tensor) -> int:
    """Number of weights in a parameter, of one in four bits those that are packed in it."""
    packed = getattr(parameter, "quant_state", None)
    return parameter.numel() if packed is None else packed.shape.numel()


def trainable(model: nn.Module) -> int:
    """Number of parameters that require gradients."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def longest_input(model: PreTrainedModel) -> int:
    """The most tokens that the model has positions for; RoBERTa and its descendants count from behind the padding's
    id."""
    table = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    reserved = getattr(table, "padding_idx", None)
    return model.config.max_position_embeddings - (0 if reserved is None else reserved + 1)


def flops_per_token(model: PreTrainedModel, mean_length: float) -> float:
    """Floating-point operations of a forward pass per token, in sequences of ``mean_length`` tokens.

    2 N + 4 layers * hidden * mean_length, where N counts the weights of matrix products (no biases, norms or
    embeddings): Kaplan et al. 2020 (arXiv:2001.08361), section 2.1 and table 1, with both products of attention counted
    and no causal mask, as in Hoffmann et al. 2022 (arXiv:2203.15556), appendix F. What a training step costs in such
    passes is the method's to say. A task's head is not in it, nor are adapters.
    """
    from torch import nn

    products = sum(
        size(module.weight)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and ADAPTER not in name
    )
    config = model.config
    return 2.0 * products + 4.0 * config.num_hidden_layers * config.hidden_size * mean_length
