"""Running a trained or untrained encoder over inputs, without gradients, in batches of equal token count."""

from __future__ import annotations

import numpy as np
import torch

from xlscale.core.progress import bar
from xlscale.data.batches import Encoded, evaluation_order
from xlscale.training.loop import Diverged
from xlscale.training.model import Model


def run(model: Model, encoded: Encoded) -> list[np.ndarray]:
    """The outputs of the model's task for every input, in the order of ``encoded``, float32, cut to the input's length.

    Classification: logits (classes,); multiple choice: the choice's logit (); span QA: (tokens, 2); tagging: (tokens,
    tags); retrieval: unit vectors (width,). Raises Diverged where a trained head gives what is no finite number: the
    last step of a training has no loss after it that would tell.
    """
    outputs: list[np.ndarray] = [np.empty(0)] * len(encoded)
    lengths = encoded.lengths
    progress = bar(total=len(encoded), desc="evaluation", unit="input")
    with progress, model.backend.working(model.encoder), torch.inference_mode():
        for index in evaluation_order(lengths, model.backend.evaluated):
            found = model.outputs(model.batch(encoded, index)).cpu().numpy()
            per_token = found.ndim == 3
            for i, values in zip(index, found, strict=True):
                outputs[i] = values[: lengths[i]].copy() if per_token else values
                if model.head is not None and not np.isfinite(outputs[i]).all():
                    raise Diverged(f"input {i} of the evaluation: expected finite outputs")
            progress.update(len(index))
    return outputs
