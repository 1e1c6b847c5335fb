"""What a model costs per token: saved tensors and operations, by the library's own class on the meta device.

Nothing is computed and no weight is read: models of one and of two layers go through a forward and a backward pass of
shapes, and the difference is a layer. Attention is that of the fused kernels of GPUs, which keep queries, keys, values,
output and one number per row of the scores (Dao et al. 2022, arXiv:2205.14135), whatever this machine has.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from functools import cache, partial

import pandas as pd
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode
from transformers import AttentionInterface

from xlscale.cards.catalogue import model_card
from xlscale.cards.schema import ModelCard
from xlscale.core import cache as disk
from xlscale.core import registry
from xlscale.experiment.recipe import ADAPTER, NEEDED, Recipe
from xlscale.models import hf, ladder
from xlscale.training.backends.recompute import recompute

ROWS, LENGTH = 8, 256  # of the batch of shapes: what is saved is proportional to its tokens
FUSED = "planned"  # the name of ``_fused`` among the implementations of attention


@dataclass(frozen=True)
class Profile:
    """A model with all its layers, trained by one method. Parameters are numbers, bytes and operations are per token.

    ``layers``: their number; ``matrices``: parameters of linear layers, without biases; ``largest``: those of the
    largest of them; ``trained``: those that train, adapters among them; ``layer`` and ``layer_trained``: of one layer.
    ``saved``: what a forward pass keeps for the backward pass; ``saved_layer``: what of it is one layer's;
    ``checkpointed``: what it keeps where each layer is computed again. ``forward``, ``step`` and ``step_again``:
    operations of the matrix products of a forward pass, of a training step, and of one in which layers are computed
    again; ``attention_...``: those of attention per token of the input's length.
    """

    layers: float
    parameters: float
    adapters: float
    matrices: float
    largest: float
    trained: float
    layer: float
    layer_trained: float
    width: float
    saved: float
    saved_layer: float
    checkpointed: float
    forward: float
    step: float
    step_again: float
    attention_forward: float
    attention_step: float
    attention_step_again: float

    def operations(self, kind: str, length: float) -> float:
        """Operations per token of inputs of ``length`` tokens; ``kind``: forward, step or step_again."""
        return getattr(self, kind) + getattr(self, f"attention_{kind}") * length


@cache
def of(name: str, layers: int, recipe: Recipe) -> Profile:
    """The profile of a rung of the model ``name``, trained by the method of ``recipe``; kept on disk.

    Raises XlscaleError for a model that is not here and whose card does not say what it is built like.
    """
    card = model_card(name)
    built = card.architecture.model_dump() if card.architecture else card.member_sha256
    chosen = {field: getattr(recipe, field) for field in ("method", "frozen", *ADAPTER)}
    parts = [registry.module("reader", card.reader), registry.module("method", recipe.method)]
    found = disk.table(f"profile-{name}", [built, layers, chosen], partial(_table, card, layers, recipe), parts)
    return Profile(**found.iloc[0].to_dict())


def _table(card: ModelCard, layers: int, recipe: Recipe) -> pd.DataFrame:
    return pd.DataFrame([vars(measured(card, layers, recipe))])


def measured(card: ModelCard, layers: int, recipe: Recipe) -> Profile:
    """The profile of the model with ``layers`` layers, from models of one and two."""
    one, two = (Profile(**_measured(_encoder(card, depth, recipe))) for depth in (1, 2))
    values = [a + (layers - 1) * (b - a) for a, b in zip(astuple(one), astuple(two), strict=True)]
    whole = Profile(*values)
    a_layer = {
        "layer": two.parameters - one.parameters,
        "layer_trained": two.trained - one.trained,
        "saved_layer": two.saved - one.saved,
        "largest": one.largest,
        "width": one.width,
    }
    return Profile(**vars(whole) | a_layer)


def recipe_of(method: str, **values: object) -> Recipe:
    """A recipe that says how a model is trained, and nothing else."""
    return Recipe(**dict.fromkeys(NEEDED) | {"method": method} | values)


def _encoder(card: ModelCard, layers: int, recipe: Recipe) -> nn.Module:
    """The model cut to ``layers`` layers as a GPU computes with it, all of it in bfloat16."""
    cut = card.model_copy(update={"rungs": sorted({1, 2, *card.rungs})})
    encoder = (hf.described if card.architecture else ladder.empty)(cut, layers)
    encoder.set_attn_implementation(FUSED)
    encoder.get_input_embeddings().weight.requires_grad_(False)
    with torch.device("meta"):
        registry.get("method", recipe.method)().prepare(encoder, recipe, None)
    return encoder.to(torch.bfloat16).eval()


def _measured(encoder: nn.Module) -> dict[str, float]:
    """The fields of a Profile, all of the whole of ``encoder``."""
    matrices = [
        module.weight.numel()
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Linear) and ladder.ADAPTER not in name
    ]
    saved, forward, step, flash = trace(encoder, ROWS, LENGTH, again=False)
    checkpointed, _, step_again, flash_again = trace(encoder, ROWS, LENGTH, again=True)
    tokens = ROWS * LENGTH
    return {
        "layers": encoder.config.num_hidden_layers,
        "parameters": ladder.parameter_counts(encoder)[0],
        "adapters": sum(parameter.numel() for parameter in ladder.adapters(encoder).values()),
        "matrices": sum(matrices),
        "largest": max(matrices),
        "trained": ladder.trainable(encoder),
        "layer": 0,
        "layer_trained": 0,
        "width": encoder.config.hidden_size,
        "saved": saved / tokens,
        "saved_layer": 0,
        "checkpointed": checkpointed / tokens,
        "forward": (forward - flash[0]) / tokens,
        "step": (step - flash[1]) / tokens,
        "step_again": (step_again - flash_again[1]) / tokens,
        "attention_forward": flash[0] / tokens / LENGTH,
        "attention_step": flash[1] / tokens / LENGTH,
        "attention_step_again": flash_again[1] / tokens / LENGTH,
    }


def trace(encoder: nn.Module, rows: int, length: int, again: bool) -> tuple[int, int, int, tuple[int, int]]:
    """Of a training step on ``rows`` inputs of ``length`` tokens, on the encoder's own device: bytes that the forward
    pass keeps beside parameters, operations of the forward pass and of both, and those of them that are attention's.

    ``again``: each layer keeps its input alone and is computed again. A linear head in float32 reads every token.
    """
    device = encoder.get_input_embeddings().weight.device
    head = nn.Linear(encoder.config.hidden_size, 2, device=device)
    recompute(encoder, again)
    own = {_key(tensor) for tensor in [*encoder.parameters(), *encoder.buffers(), *head.parameters()]}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if _key(tensor) not in own:
            kept[_key(tensor)] = tensor  # held, so that no other gets its place
        return tensor

    ids = torch.zeros(rows, length, dtype=torch.long, device=device)
    with FlopCounterMode(display=False) as counter:
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            states = encoder(input_ids=ids, attention_mask=None).last_hidden_state
            out = head(states.float()).sum()
        forward, of_attention = counter.get_total_flops(), _attention(counter)
        saved = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
        out.backward()
    recompute(encoder, False)
    return saved, forward, counter.get_total_flops(), (of_attention, _attention(counter))


def _key(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _attention(counter: FlopCounterMode) -> int:
    return sum(count for name, count in counter.get_flop_counts()["Global"].items() if "attention" in str(name))


def _fused(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Attention by the fused kernel's operator, of which the meta device has the shapes; masks change none of them."""
    out = torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, 0.0, False, scale=scaling)[0]
    return out.transpose(1, 2).contiguous(), None


AttentionInterface.register(FUSED, _fused)
