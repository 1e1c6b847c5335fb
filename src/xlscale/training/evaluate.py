"""Running a trained or untrained encoder over inputs, without gradients, in batches of equal token count."""

from __future__ import annotations

import numpy as np

from xlscale.core.progress import bar
from xlscale.data.batches import Encoded, evaluation_order
from xlscale.training.loop import Diverged
from xlscale.training.model import Model


def run(model: Model, encoded: Encoded) -> list[np.ndarray]:
    """The outputs of the model's task for every input, in the order of ``encoded``, float32, cut to the input's length.
    Of several ranks each computes a batch while the others do; the outputs are on the first of them.

    Classification: logits (classes,); multiple choice: the choice's logit (); span QA: (tokens, 2); tagging: (tokens,
    tags); retrieval: unit vectors (width,). Raises Diverged where a trained head gives what is no finite number: the
    last step of a training has no loss after it that would tell.
    """
    outputs: list[np.ndarray] = [np.empty(0)] * len(encoded)
    lengths, backend = encoded.lengths, model.backend
    progress = bar(total=len(encoded), desc="evaluation", unit="input")
    order = [*evaluation_order(lengths, backend.evaluated)]
    with progress, backend.working(model.encoder), backend.untracked():
        for first in range(0, len(order), backend.ranks):
            together = order[first : first + backend.ranks]
            own = together[min(backend.rank, len(together) - 1)]  # again, where there is none left
            found = model.outputs(model.batch(encoded, own))
            per_token = found.ndim == 3
            shapes = [(len(index), lengths[index].max())[: 1 + per_token] for index in together]
            for index, there in zip(together, backend.gathered(found, shapes), strict=False):
                for i, values in zip(index, there.cpu().numpy(), strict=True):
                    outputs[i] = values[: lengths[i]].copy() if per_token else values
                    if model.head is not None and not np.isfinite(outputs[i]).all():
                        raise Diverged(f"input {i} of the evaluation: expected finite outputs")
                progress.update(len(index))
    return outputs
