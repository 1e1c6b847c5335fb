"""Distillation: the teacher's states reach the right tokens, and the loss is what it says."""

import numpy as np
import pytest
import torch
from conftest import recipe
from torch import nn

from xlscale.cards import catalogue
from xlscale.data import load
from xlscale.data.batches import Encoded, collate
from xlscale.models import ladder
from xlscale.training import loop
from xlscale.training.backends.cpu import CPU
from xlscale.training.objectives import distillation

WIDTH = 6


class Given:
    """A model whose hidden states are given."""

    def __init__(self, hidden: torch.Tensor):
        self.hidden = hidden

    def hidden_states(self, batch):
        return self.hidden


@pytest.fixture
def encoded():
    generator = np.random.default_rng(1)
    return Encoded.of([generator.integers(1, 9, size=n).tolist() for n in (3, 5, 4, 2)])


@pytest.fixture
def teacher(encoded):
    hidden = np.random.default_rng(2).normal(size=(len(encoded.ids), WIDTH)).astype(np.float16)
    pooled = np.stack([hidden[a:b].mean(0) for a, b in zip(encoded.offsets, encoded.offsets[1:], strict=False)])
    return distillation.Teacher(hidden, encoded.offsets, distillation._spread(hidden), distillation._spread(pooled))


@pytest.fixture
def batch(encoded):
    return collate(encoded, np.array([2, 0, 3]), 0)


def test_every_token_gets_its_own_state_and_padding_none(teacher, batch, encoded):
    found = teacher.of(batch)
    for row, i in enumerate([2, 0, 3]):
        own = teacher.hidden[encoded.offsets[i] : encoded.offsets[i + 1]]
        assert np.array_equal(found[row, : len(own)].numpy(), own.astype(np.float32))
        assert not found[row, len(own) :].any()


def test_the_teacher_misses_nothing_and_padding_does_not_count(teacher, batch):
    objective, hidden = distillation.Distillation(teacher), teacher.of(batch)
    assert objective.loss(Given(hidden), batch).item() == pytest.approx(0, abs=1e-5)
    hidden[~batch.mask] = 100.0
    assert objective.loss(Given(hidden), batch).item() == pytest.approx(0, abs=1e-5)


def test_the_mean_misses_all_of_the_variance(teacher, encoded):
    everything = collate(encoded, np.arange(len(encoded)), 0)
    mean = torch.from_numpy(teacher.hidden.astype(np.float32)).mean(0).expand(*everything.mask.shape, WIDTH)
    wanted = teacher.of(everything)
    single = (mean - wanted)[everything.mask].square().sum(-1).mean().item()
    assert single == pytest.approx(teacher.spread, rel=1e-3)
    # The similarities that a constant gives: every input is as near to each of the teacher's vectors as any other is.
    theirs = nn.functional.normalize(torch.stack([w[m].mean(0) for w, m in zip(wanted, everything.mask, strict=True)]))
    constant = nn.functional.normalize(mean[:, 0])
    scores = [(x @ theirs.T / distillation.TEMPERATURE).softmax(-1) for x in (theirs, constant)]
    divergence = (scores[0] * (scores[0] / scores[1]).log()).nansum(-1).mean().item()
    mine = torch.stack([h[m].mean(0) for h, m in zip(mean, everything.mask, strict=True)])
    apart = (mine - torch.stack([w[m].mean(0) for w, m in zip(wanted, everything.mask, strict=True)])).square()
    pooled = apart.sum(-1).mean().item() / teacher.pooled_spread
    found = distillation.Distillation(teacher).loss(Given(mean), everything).item()
    assert found == pytest.approx(single / teacher.spread + pooled + divergence, rel=1e-3)


def test_the_gradient_is_that_of_finite_differences(teacher, batch, monkeypatch):
    monkeypatch.setattr(distillation, "TEMPERATURE", 0.5)  # smooth enough for a step that float32 can see
    objective = distillation.Distillation(teacher)
    hidden = torch.randn(*batch.mask.shape, WIDTH, generator=torch.Generator().manual_seed(3)).requires_grad_()
    objective.loss(Given(hidden), batch).backward()
    step = 1e-2
    for place in [(0, 0, 0), (1, 2, 3), (2, 1, 5)]:
        sides = []
        for sign in (1, -1):
            moved = hidden.detach().clone()
            moved[place] += sign * step
            sides.append(objective.loss(Given(moved), batch).item())
        assert hidden.grad[place].item() == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=0.02, abs=1e-3)


def test_a_cut_model_comes_nearer_to_the_whole_one():
    card = catalogue.model_card("e5_small")
    whole, cut = ladder.load(card, 2), ladder.load(card, 1)
    texts = load.splits(catalogue.data_card("unlabelled"))["dev"].select(range(64))["text"]
    inputs = Encoded.of(ladder.tokenizer(card)(list(texts), truncation=True, max_length=16)["input_ids"])
    whole, cut = (distillation.HiddenStates(encoder, CPU("float32")) for encoder in (whole, cut))
    teacher = distillation.teach(whole, inputs)

    def missed(model):
        mine = distillation.pooled(model, inputs)
        return distillation.variance_unexplained(mine, teacher.pooled(), teacher.pooled_spread)

    before = missed(cut).mean()
    chosen = recipe(epochs=8, learning_rate=2e-3, batch_size=8, objective="distillation")
    loop.finetune(cut, inputs, chosen, np.random.default_rng(5), distillation.Distillation(teacher))
    assert missed(cut).mean() < 0.7 * before
    assert missed(whole).max() < 1e-4


def test_nearest_is_blind_to_scale_and_sees_a_changed_neighbour():
    theirs = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]], np.float32)
    assert distillation.neighbour_agreement(7 * theirs, theirs).all()
    mine = theirs[[0, 2, 1, 3]]  # the second is now near the fourth
    assert distillation.neighbour_agreement(mine, theirs).tolist() == [False, False, False, False]
    assert distillation.neighbour_agreement(theirs[[0, 1, 2, 2]], theirs).all()
