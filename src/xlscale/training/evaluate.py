"""Running a trained or untrained encoder over inputs, without gradients, in batches of equal token count."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from xlscale.data.batches import Encoded, collate, evaluation_order
from xlscale.training.backends.cpu import MasterWeights, hidden_states


def run(encoder: nn.Module, head: nn.Module | None, task, encoded: Encoded, dtype: torch.dtype) -> list[np.ndarray]:
    """The task's outputs for every input, in the order of ``encoded``, float32, cut to the input's own length.

    Classification: logits (classes,); multiple choice: the choice's logit (); span QA: (tokens, 2); tagging: (tokens,
    tags); retrieval: unit vectors (width,).
    """
    outputs: list[np.ndarray] = [np.empty(0)] * len(encoded)
    lengths = encoded.lengths
    progress = tqdm(total=len(encoded), desc="evaluation", unit="input", mininterval=5, disable=None)
    with progress, MasterWeights(encoder, dtype), torch.inference_mode():
        for index in evaluation_order(lengths):
            batch = collate(encoded, index, encoder.config.pad_token_id)
            found = task.outputs(head, hidden_states(encoder, batch), batch.mask).numpy()
            per_token = found.ndim == 3
            for i, values in zip(index, found, strict=True):
                outputs[i] = values[: lengths[i]].copy() if per_token else values
            progress.update(len(index))
    return outputs
