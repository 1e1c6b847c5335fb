"""Unlabelled text as a task: tokens that are hidden have to be guessed, or of a causal model the next ones.

Masked language modelling as in Devlin et al. 2019 (arXiv:1810.04805), section 3.1: of each text 15% of the tokens,
rounded, and one at least, are what the loss is of. What the tokenizer adds and the model's prefix are never among them,
and so nothing that every input has. Of what is hidden in training, and how: ``training.objectives.masked_lm``. Here,
for evaluation, the mask token is in all these positions, which follow from a text's item alone.

The output layer is the word embeddings themselves (Press and Wolf 2017, arXiv:1608.05859). What comes before it in
models of this kind, a linear layer, GELU and a layer norm, and a bias behind it, stay with the pretraining of the
models used here: e5's weights have none of it, and what others have is not read. So these are drawn anew, trained along
and thrown away. A causal model has nothing there, as in its pretraining, where the output layer is tied; where it is
not (Llama), the word embeddings stand in for it, too. The operations that a result counts leave this layer out, as
they do every head; in a short rung of a model with a large vocabulary it is most of the work.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from torch import nn
from torch.utils.checkpoint import checkpoint

from xlscale.core.files import XlscaleError
from xlscale.data.batches import Batch, Encoded
from xlscale.metrics.predictions import COLUMNS
from xlscale.models import pairs
from xlscale.tasks.base import TrainedTask, frame, slices

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SHARE = 0.15  # of a text's tokens
IGNORED, ABSENT = -100, -1  # the token and the position where a text has fewer than others
MASK = "<mask>"  # what XLM-R's vocabulary calls it, also where a tokenizer does not say which token it is
SEED = "text 1"
CHUNK = 256  # tokens whose vocabularies are in memory together: 256 MB of XLM-R's


class LanguageHead(nn.Module):
    """How likely tokens are, given states: a softmax over the products with ``words``, which are not its own."""

    def __init__(self, words: nn.Embedding, generator: torch.Generator | None):
        """With a transform and a bias, drawn from ``generator`` as BERT draws them; without one, without."""
        super().__init__()
        self._words = (words,)  # in a tuple: no part of this module
        self.transform, self.bias = nn.Identity(), None
        if generator is not None:
            rows, width = words.weight.shape
            dense = nn.Linear(width, width)
            nn.init.normal_(dense.weight, std=0.02, generator=generator)
            nn.init.zeros_(dense.bias)
            self.transform = nn.Sequential(dense, nn.GELU(), nn.LayerNorm(width))
            self.bias = nn.Parameter(torch.zeros(rows))

    def forward(self, states: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Of each of ``tokens`` int64 (n,): its log-likelihood in nats, and the likeliest token there: float (n, 2).

        ``states`` (n, width). Scores of whole vocabularies are kept of no more than CHUNK tokens, and computed once
        more for the gradients of others.
        """
        parts = list(zip(states.split(CHUNK), tokens.split(CHUNK), strict=True))
        if len(parts) == 1 or not torch.is_grad_enabled():
            found = [self._scored(*part) for part in parts]
        else:
            found = [checkpoint(self._scored, *part, use_reentrant=False, preserve_rng_state=False) for part in parts]
        return torch.cat(found) if found else states.new_zeros(0, 2)

    def _scored(self, states: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        words = self._words[0].weight  # what is frozen may be of the backend's working type
        bias = None if self.bias is None else self.bias.to(words.dtype)
        scores = nn.functional.linear(self.transform(states).to(words.dtype), words, bias).to(states.dtype)
        likelihood = -nn.functional.cross_entropy(scores, tokens, reduction="none")
        return torch.stack([likelihood, scores.detach().argmax(-1).to(likelihood.dtype)], -1)


class Text(TrainedTask):
    """Text whose tokens are guessed. The scores of a language are over tokens, not over texts."""

    def head_of(self, encoder: nn.Module, generator: torch.Generator) -> nn.Module:
        """A head over the encoder's word embeddings."""
        return LanguageHead(encoder.get_input_embeddings(), None if self.causal else generator)

    def encode(self, rows: Dataset, tokenizer, prefix: str, max_length: int) -> Encoded:
        """Token ids of ``prefix + text`` cut to ``max_length`` tokens, those to be guessed hidden; rows with a
        ``second`` text are read as pairs, as in classification.

        Targets, (inputs, most that there are): ``position`` int16, where the state is that guesses, ABSENT beyond the
        text's number; ``token`` int32, what is there, or of a causal model next, IGNORED beyond; and of other models
        ``own`` bool (inputs, tokens), which tokens may be hidden. Raises XlscaleError without a mask token.
        """
        ids, own = _read(rows, tokenizer, prefix, max_length)
        if self.causal:
            return _following(ids, own)
        mask, guessed = mask_token(tokenizer), []
        for i, item in enumerate(zip(rows["language"], rows["item"], strict=True)):
            where = chosen(torch.tensor([own[i]]), _generator(item))[0].nonzero().ravel().tolist()
            guessed.append([(place, ids[i][place]) for place in where])
            for place in where:
                ids[i][place] = mask
        encoded = Encoded.of(ids, targets=_targets(guessed))
        encoded.targets["own"] = _padded(own, False, np.bool_)
        return encoded

    def shuffled(self, encoded: Encoded, generator: np.random.Generator) -> Encoded:
        """There is no placebo of text. Raises XlscaleError."""
        raise XlscaleError(f"placebo: expected false for {self.card.name}, which has no labels to shuffle, got true")

    def batch_outputs(self, head: nn.Module, hidden: torch.Tensor, mask: torch.Tensor, batch: Batch) -> torch.Tensor:
        """For every token to be guessed its log-likelihood and the likeliest token, float32 (batch, most, 2); 0 beyond
        a text's number."""
        position, token = batch.targets["position"].long(), batch.targets["token"].long()
        there = position != ABSENT
        rows, places = there.nonzero(as_tuple=True)
        found = hidden.new_zeros(*position.shape, 2)
        return found.index_put((rows, places), head(hidden[rows, position[rows, places]], token[rows, places]))

    def loss(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Mean negative log-likelihood of the tokens to be guessed, in nats; 0 where there are none."""
        there = batch.targets["position"] != ABSENT
        return -outputs[..., 0].sum() / there.sum().clamp_min(1)

    def count(self, batch: Batch) -> int:
        """The tokens to be guessed: as many of a text whichever they are."""
        return int((batch.targets["position"] != ABSENT).sum())

    def predictions(self, rows: Dataset, encoded: Encoded, outputs: list[np.ndarray]) -> pd.DataFrame:
        """The prediction table, a row per text: gold and prediction are the ids of its tokens, ``spans`` their number,
        ``matches`` how many are right, ``correct`` whether all are, score the mean log-likelihood in nats."""
        table = frame(rows, ["language", "item", "group"])
        gold = [tokens[tokens != IGNORED] for tokens in encoded.targets["token"]]
        found = [values[: len(true)] for values, true in zip(outputs, gold, strict=True)]
        best = [values[:, 1].astype(np.int64) for values in found]
        table["gold"], table["prediction"] = ([" ".join(map(str, one)) for one in side] for side in (gold, best))
        table["score"] = np.array([values[:, 0].mean() if len(values) else 0 for values in found], np.float32)
        table["spans"] = np.array([*map(len, gold)], np.float32)
        table["matches"] = np.array([(a == b).sum() for a, b in zip(best, gold, strict=True)], np.float32)
        table["correct"] = (table["matches"] == table["spans"]).astype(np.float32)
        return table[[*COLUMNS, "matches", "spans"]]


def mask_token(tokenizer: PreTrainedTokenizerFast) -> int:
    """The id of the token that hides others. Raises XlscaleError for a tokenizer that has none."""
    found = tokenizer.mask_token_id
    if found is None and (found := tokenizer.get_vocab().get(MASK)) is None:
        raise XlscaleError(f"{tokenizer.name_or_path or 'tokenizer'}: expected a mask token or {MASK!r}, got neither")
    return found


def chosen(own: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Bool (texts, tokens): SHARE of each text's tokens, of those that ``own`` bool (texts, tokens) says, rounded, and
    one at least where there is any; all sets of so many are equally likely."""
    several = own.sum(1)
    wanted = (SHARE * several).round().clamp_min(1).minimum(several)
    drawn = torch.rand(own.shape, generator=generator).to(own.device)
    rank = drawn.masked_fill(~own, 2).argsort(1).argsort(1)
    return rank < wanted[:, None]


def _read(rows: Dataset, tokenizer, prefix: str, max_length: int) -> tuple[list[list[int]], list[list[bool]]]:
    """Token ids of each row, and which of them are of its text, and not added or unknown to the tokenizer."""
    ids, own, special = [], [], {*tokenizer.all_special_ids}
    for _, part in slices(rows):
        options = {"truncation": True, "max_length": max_length, "return_offsets_mapping": True}
        if "second" in part:
            before, found = 0, pairs.encode(tokenizer, part["text"], part["second"], **options)
        else:
            before, found = len(prefix), tokenizer([prefix + text for text in part["text"]], **options)
        ids += found["input_ids"]
        own += [
            [end > before and token not in special for token, (_, end) in zip(*one, strict=True)]
            for one in zip(found["input_ids"], found["offset_mapping"], strict=True)
        ]
    return ids, own


def _generator(item: tuple[str, str]) -> torch.Generator:
    """A generator that the item alone decides, whatever else is tokenised with it."""
    seed = hashlib.sha256("\n".join((SEED, *item)).encode()).digest()[:7]
    return torch.Generator().manual_seed(int.from_bytes(seed))


def _following(ids: list[list[int]], own: list[list[bool]]) -> Encoded:
    guessed = [
        [(place - 1, one[place]) for place in range(1, len(one)) if mine[place]]
        for one, mine in zip(ids, own, strict=True)
    ]
    return Encoded.of(ids, targets=_targets(guessed))


def _targets(guessed: list[list[tuple[int, int]]]) -> dict[str, np.ndarray]:
    """``position`` and ``token`` from the pairs of each text."""
    return {
        "position": _padded([[place for place, _ in one] for one in guessed], ABSENT, np.int16),
        "token": _padded([[token for _, token in one] for one in guessed], IGNORED, np.int32),
    }


def _padded(values: list[list], filler: int, dtype: type) -> np.ndarray:
    """Lists as an array (lists, longest), the shorter ones filled up."""
    found = np.full((len(values), max(map(len, values), default=0)), filler, dtype)
    for i, one in enumerate(values):
        found[i, : len(one)] = one
    return found
