"""Training on perturbed embeddings: gradients, the ball, the noise, and the limits in which it is plain training."""

import itertools
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from conftest import recipe, trained_on
from scipy import stats
from torch import nn
from transformers import BertConfig, BertModel, Qwen2Config, Qwen2Model

from xlscale import tasks
from xlscale.cards.catalogue import data_card
from xlscale.core import registry
from xlscale.data import load
from xlscale.data.batches import Batch
from xlscale.models import ladder
from xlscale.training import evaluate, loop, perturbation
from xlscale.training.backends.cpu import CPU
from xlscale.training.model import Model
from xlscale.training.objectives import adversarial

WIDTH = 6
ROBUST = {
    "l2": {"objective": "adversarial", "radius": 0.3},
    "linf": {"objective": "adversarial", "norm": "linf", "radius": 0.1, "ascent_size": 0.07},
    "smoothing": {"objective": "smoothing", "sigma": 0.2},
}


class Double(CPU):
    """A backend that leaves hidden states in float64."""

    def hidden_states(self, encoder, batch, layer=None):
        return encoder(input_ids=batch.ids, attention_mask=batch.mask).last_hidden_state


class Mean:
    """A task whose outputs and loss are in whatever type the hidden states are."""

    causal = False

    def outputs(self, head, hidden, mask):
        return head((hidden * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True))

    def batch_outputs(self, head, hidden, mask, batch):
        return self.outputs(head, hidden, mask)

    def loss(self, outputs, batch):
        return nn.functional.cross_entropy(outputs, batch.targets["label"])


def drawn(module: nn.Module, seed: int) -> nn.Module:
    """``module`` with weights from a generator."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.5, generator=generator)
    return module.eval()


@pytest.fixture
def tiny() -> Model:
    """One layer of an encoder and a head, in float64."""
    config = BertConfig(
        vocab_size=11, hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        max_position_embeddings=8, attn_implementation="eager",
    )  # fmt: skip
    encoder, head = BertModel(config, add_pooling_layer=False).double(), nn.Linear(WIDTH, 3).double()
    return Model(drawn(encoder, 1), Double("float32"), Mean(), drawn(head, 2))


@pytest.fixture
def batch() -> Batch:
    ids = torch.tensor([[3, 5, 7, 9], [4, 6, 0, 0]])
    return Batch(ids, ids > 0, np.arange(2), {"label": torch.tensor([2, 0])})


@pytest.fixture
def added(monkeypatch) -> list[torch.Tensor]:
    """What was added to embeddings, one after another."""
    found, add = [], perturbation.added

    @contextmanager
    def noted(encoder, noise):
        found.append(noise.detach().clone())
        with add(encoder, noise):
            yield

    monkeypatch.setattr(perturbation, "added", noted)
    return found


def begun(model: Model, seed: int = 4, **values):
    chosen = recipe(**values)
    objective = registry.get("objective", chosen.objective)()
    objective.begin(model, chosen, np.random.default_rng(seed))
    return objective


def at(model: Model, batch: Batch, noise: torch.Tensor) -> float:
    """The task's loss at perturbed embeddings, without the code under test: the model is handed the embeddings."""
    with torch.no_grad():
        embedded = model.encoder.embeddings.word_embeddings.weight[batch.ids] + noise
        hidden = model.encoder(inputs_embeds=embedded, attention_mask=batch.mask).last_hidden_state
        return model.task.loss(model.task.outputs(model.head, hidden, batch.mask), batch).item()


def slope(change, tensor: torch.Tensor, place: tuple[int, ...], step: float = 1e-6) -> float:
    """The derivative of ``change()`` by one entry of ``tensor``, from both sides."""
    sides = []
    for sign in (1, -1):
        with torch.no_grad():
            tensor[place] += sign * step
            sides.append(change())
            tensor[place] -= sign * step
    return (sides[0] - sides[1]) / (2 * step)


@pytest.mark.parametrize("name", ROBUST)
def test_gradients_are_those_of_finite_differences(tiny, batch, added, name):
    loss = begun(tiny, **ROBUST[name]).loss(tiny, batch)
    loss.backward()
    noise = added[-1]
    assert loss.item() == pytest.approx(at(tiny, batch, noise), rel=1e-12)
    parameters = dict(tiny.encoder.named_parameters()) | {"head": tiny.head.weight}
    checked = 0
    for parameter in parameters.values():
        if parameter.grad is None:  # what no input reaches
            continue
        place = np.unravel_index(int(parameter.grad.abs().argmax()), parameter.shape)
        found = slope(lambda: at(tiny, batch, noise), parameter, place)
        assert parameter.grad[place].item() == pytest.approx(found, rel=1e-5, abs=1e-8)
        checked += abs(found) > 1e-4
    assert checked > 12


@pytest.mark.parametrize(("name", "norm"), [("l2", 2), ("linf", np.inf)])
def test_every_step_climbs_and_ends_in_the_ball(tiny, batch, added, name, norm):
    """Each perturbation follows from the one before by a gradient of finite differences."""
    chosen = recipe(**ROBUST[name])
    begun(tiny, **ROBUST[name]).loss(tiny, batch)
    assert len(added) == chosen.ascent_steps + 1
    size = chosen.ascent_size or 2 * chosen.radius / chosen.ascent_steps
    for before, after in itertools.pairwise(added):
        gradient, moved = np.zeros(before.shape), before.clone()
        for place in np.ndindex(*before.shape):
            gradient[place] = slope(lambda moved=moved: at(tiny, batch, moved), moved, place)
        for token in zip(*np.nonzero(batch.mask.numpy()), strict=True):
            g, wanted = gradient[token], before[token].numpy()
            if norm == 2:
                wanted = wanted + size * g / np.linalg.norm(g)
                wanted = wanted * min(1, chosen.radius / np.linalg.norm(wanted))
            else:
                wanted = np.clip(wanted + size * np.sign(g), -chosen.radius, chosen.radius)
            assert after[token].numpy() == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("radius", [1e-6, 0.3, 40.0])
@pytest.mark.parametrize(("norm", "order"), [("l2", 2), ("linf", np.inf)])
def test_perturbations_are_in_the_ball_and_never_nothing(tiny, batch, added, norm, order, radius):
    for seed in range(20):
        begun(tiny, seed, objective="adversarial", norm=norm, radius=radius).loss(tiny, batch)
    lengths = np.stack([np.linalg.norm(noise.numpy(), order, axis=-1) for noise in added])
    mask = batch.mask.numpy()
    assert (lengths[:, mask] <= radius * (1 + 1e-12)).all()
    assert (lengths[:, mask] > 0).all() and not lengths[:, ~mask].any()
    assert len({tuple(noise.flatten().tolist()) for noise in added[::4]}) == 20  # where the searches started


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_search_starts_anywhere_in_the_ball(norm):
    generator = torch.Generator().manual_seed(5)
    normal = torch.randn(4000, 3, generator=generator, dtype=torch.float64)
    found = adversarial.start(normal, norm, 0.5, generator).numpy() / 0.5
    if norm == "linf":
        assert stats.kstest(found.ravel(), stats.uniform(-1, 2).cdf).pvalue > 0.01
    else:
        lengths = np.linalg.norm(found, axis=1)
        assert stats.kstest(lengths**3, "uniform").pvalue > 0.01  # the share of the ball that is nearer to its centre
        assert stats.kstest(found[:, 0] / lengths, stats.uniform(-1, 2).cdf).pvalue > 0.01  # Archimedes


@pytest.mark.parametrize("name", ["l2", "linf"])
def test_the_worst_is_worse_than_chance_and_than_nothing(tiny, batch, added, name):
    for seed in range(10):
        added.clear()
        worst = begun(tiny, seed, **ROBUST[name]).loss(tiny, batch).item()
        assert worst > at(tiny, batch, added[0]) and worst > at(tiny, batch, torch.zeros_like(added[0]))


def test_noise_is_normal_new_in_every_step_and_not_on_padding(tiny, batch, added):
    objective = begun(tiny, objective="smoothing", sigma=0.2)
    for _ in range(500):
        objective.loss(tiny, batch)
    noise = torch.stack(added).numpy()
    values = noise[:, batch.mask.numpy()]
    assert stats.kstest(values.ravel(), stats.norm(0, 0.2).cdf).pvalue > 0.01
    assert np.abs(np.corrcoef(values.reshape(500, -1), rowvar=False) - np.eye(values[0].size)).max() < 0.25
    assert not noise[:, ~batch.mask.numpy()].any()
    assert len(np.unique(values)) == values.size


def _decoder() -> nn.Module:
    return Qwen2Model(Qwen2Config(
        vocab_size=11, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=8, max_position_embeddings=8, pad_token_id=0,
    ))  # fmt: skip


def _encoder() -> nn.Module:
    config = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
    return BertModel(BertConfig(vocab_size=11, **config), add_pooling_layer=False)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("made", [_encoder, _decoder])
def test_without_radius_or_noise_it_is_plain_training_bit_for_bit(batch, made, precision):
    """In every architecture and precision; and with them it is not."""
    found = {}
    for name, values in {
        "plain": {"objective": "supervised"},
        "no radius": {"objective": "adversarial", "radius": 0.0},
        "no radius, linf": {"objective": "adversarial", "radius": 0.0, "norm": "linf"},
        "no noise": {"objective": "smoothing", "sigma": 0.0},
        "radius": {"objective": "adversarial"},
        "noise": {"objective": "smoothing"},
    }.items():
        model = Model(drawn(made(), 1), CPU(precision), Mean(), drawn(nn.Linear(8, 3), 2))
        objective = begun(model, **values)
        with model.backend.working(model.encoder):
            loss = objective.loss(model, batch)
            loss.backward()
            found[name] = [loss, *(p.grad for p in model.encoder.parameters() if p.grad is not None)]
    for name in found:
        same = all(torch.equal(a, b) for a, b in zip(found["plain"], found[name], strict=True))
        assert same == (name not in ("radius", "noise")), name


@pytest.fixture(scope="module")
def prepared(e5):
    task = tasks.of(data_card("topic"))
    rows = load.splits(task.card)["train"].select(range(48))
    return task, task.encode(rows, ladder.tokenizer(e5), e5.prefix, 16)


def trained(e5, prepared, seed=0, **values):
    task, encoded = prepared
    encoder = ladder.load(e5, 1)
    model = Model(encoder, CPU("float32"), task, task.head(384, torch.Generator().manual_seed(seed)))
    chosen = recipe(**{"epochs": 1, "batch_size": 16, "learning_rate": 1e-3} | values)
    return loop.finetune(model, encoded, chosen, np.random.default_rng(seed)).losses, evaluate.run(model, encoded)


def test_whole_trainings_are_equal_in_the_limit(e5, prepared):
    plain, outputs = trained(e5, prepared)
    for values in ({"objective": "adversarial", "radius": 0.0}, {"objective": "smoothing", "sigma": 0.0}):
        losses, others = trained(e5, prepared, **values)
        assert losses == plain and all(map(np.array_equal, outputs, others))


@pytest.mark.parametrize("values", [{"objective": "adversarial"}, {"objective": "smoothing"}])
def test_the_seed_alone_decides_and_the_order_is_that_of_plain_training(e5, prepared, monkeypatch, values):
    seen = trained_on(monkeypatch)
    plain = trained(e5, prepared)[0]
    first = trained(e5, prepared, **values)[0]
    torch.manual_seed(7)
    np.random.seed(7)
    assert trained(e5, prepared, **values)[0] == first != plain
    steps = len(plain)
    assert seen[:steps] == seen[steps : 2 * steps] == seen[2 * steps :]
    assert trained(e5, prepared, seed=1, **values)[0] != first


@pytest.mark.parametrize("values", [{"objective": "adversarial"}, {"objective": "smoothing"}])
def test_the_loss_falls(e5, prepared, values):
    task, encoded = prepared
    losses, _ = trained(
        e5, (task, encoded.of_rows(np.arange(24))), epochs=8, batch_size=8, learning_rate=2e-3, **values
    )
    assert np.mean(losses[-3:]) < 0.6 * np.mean(losses[:3])


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"radius": 0.2}, "radius: expected with objective adversarial alone"),
        ({"objective": "adversarial", "sigma": 0.1}, "sigma: expected with objective smoothing alone"),
        ({"objective": "smoothing", "norm": "linf"}, "norm: expected with objective adversarial alone"),
        ({"objective": "adversarial", "radius": -1.0}, "radius"),
        ({"objective": "adversarial", "ascent_size": 0.0}, "ascent_size"),
        ({"objective": "adversarial", "norm": "l1"}, "norm"),
    ],
)
def test_a_field_of_another_objective_or_out_of_range_is_refused(values, field):
    with pytest.raises(ValueError, match=field):
        recipe(**values)
