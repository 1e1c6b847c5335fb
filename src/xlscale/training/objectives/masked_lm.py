"""Continued masked language modelling: no labels, text as it is; for a causal model, the next token instead.

Devlin et al. 2019 (arXiv:1810.04805), section 3.1 and appendix A.1: of the tokens that ``tasks.text`` chooses, 80%
become the mask token, 10% a random one, 10% stay. They are chosen anew whenever a text comes (Liu et al. 2019, RoBERTa,
arXiv:1907.11692, section 4.1). Random tokens are uniform over the vocabulary without its special tokens. Phang et al.
2020 (arXiv:2005.13013) compare intermediate tasks with this; the settings of theirs could not be read.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from xlscale.data.batches import Batch
from xlscale.experiment.recipe import Recipe
from xlscale.models import ladder
from xlscale.tasks import text
from xlscale.tasks.text import ABSENT, IGNORED, Text
from xlscale.training import perturbation
from xlscale.training.model import Model
from xlscale.training.objectives.supervised import Supervised

HIDDEN, EXCHANGED = 0.8, 0.1  # shares of the chosen tokens; the rest stays


class Masking:
    """Hides tokens of batches of text. All that it draws follows from ``generator``."""

    def __init__(self, task: Text, generator: np.random.Generator):
        """Raises XlscaleError where the model's tokenizer has no mask token."""
        self.generator = perturbation.generator_from(generator)
        self.mask = None
        if not task.causal:
            tokenizer = ladder.tokenizer(task.model)
            self.mask = text.mask_token(tokenizer)
            usual = np.setdiff1d(np.arange(len(tokenizer)), [*tokenizer.all_special_ids, self.mask])
            self.usual = torch.from_numpy(usual)

    def __call__(self, batch: Batch) -> Batch:
        """The batch of ``Text.encode`` with other tokens hidden; of a causal model it is as it was."""
        if self.mask is None:
            return batch
        ids, own = shown(batch), batch.targets["own"][:, : batch.ids.shape[1]]
        chosen = text.chosen(own, self.generator)
        kind = torch.rand(ids.shape, generator=self.generator).to(ids.device)
        other = self.usual[torch.randint(len(self.usual), ids.shape, generator=self.generator)].to(ids.device)
        made = torch.where(kind < HIDDEN, self.mask, torch.where(kind < HIDDEN + EXCHANGED, other, ids))
        targets = batch.targets | dict(zip(("position", "token"), _guessed(ids, chosen), strict=True))
        return replace(batch, ids=torch.where(chosen, made, ids), targets=targets)


class MaskedLM(Supervised):
    """The loss of ``tasks.text`` on tokens that are hidden anew in every step."""

    def begin(self, model: Model, recipe: Recipe, generator: np.random.Generator) -> None:
        """``generator`` draws what is hidden. Raises XlscaleError for a tokenizer without a mask token."""
        super().begin(model, recipe, generator)
        self.masking = Masking(model.task, generator)

    def generators(self) -> list[torch.Generator]:
        """That of what is hidden."""
        return [self.masking.generator]

    def loss(self, model: Model, batch: Batch) -> torch.Tensor:
        """Mean negative log-likelihood of the tokens to be guessed, float32 (), in nats."""
        return super().loss(model, self.masking(batch))


def shown(batch: Batch) -> torch.Tensor:
    """The ids of a batch of ``Text.encode`` with nothing hidden."""
    rows, places = (batch.targets["position"] != ABSENT).nonzero(as_tuple=True)
    ids = batch.ids.clone()
    ids[rows, batch.targets["position"][rows, places].long()] = batch.targets["token"][rows, places].long()
    return ids


def _guessed(ids: torch.Tensor, chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The targets ``position`` and ``token`` for the chosen tokens, both (texts, most that are chosen of a text)."""
    places = chosen.int().argsort(dim=1, descending=True, stable=True)[:, : int(chosen.sum(1).max())]
    there = chosen.gather(1, places)
    return places.masked_fill(~there, ABSENT), ids.gather(1, places).masked_fill(~there, IGNORED)
