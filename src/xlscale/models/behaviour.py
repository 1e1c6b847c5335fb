"""What is seen of a model by running it, or by asking its modules: how it attends, and that its states are numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xlscale.cards.schema import ModelCard
from xlscale.core.files import XlscaleError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def check_attention(model: PreTrainedModel, card: ModelCard) -> None:
    """Raise XlscaleError where the card does not say how the model attends. Of classes that do not tell (BLOOM, MPT,
    XGLM) that is seen once there are weights."""
    told = {module.is_causal for module in model.modules() if hasattr(module, "is_causal")}
    if not told and model.device.type == "meta":
        return
    causal = any(told) if told else _looks_back(model)
    if causal != (card.attention == "causal"):
        expected = "causal" if causal else "bidirectional"
        raise XlscaleError(
            f"card {card.name}: attention: expected {expected}, as that of {type(model).__name__}, got {card.attention}"
        )


def _looks_back(model: PreTrainedModel) -> bool:
    """Whether the state of a token is the same whatever comes behind it."""
    import torch

    with torch.no_grad():
        ids = torch.tensor([[1, 2, 3], [1, 2, 4]])
        one, other = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[:, 0]
    return bool((one - other).abs().max() <= 1e-4 * one.abs().max())


def check_states(model: PreTrainedModel) -> None:
    """Raise whatever the model raises when it runs, or ValueError where its states are not finite: now, and not at the
    end of a training. To be called in eval mode, where no random number is drawn."""
    import torch

    with torch.no_grad():
        ids = torch.tensor([[1, 2, 3]])
        if not model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state.isfinite().all():
            raise ValueError("its states are not finite")
