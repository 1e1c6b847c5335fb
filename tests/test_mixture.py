"""Several data sets in one training: proportions, order, heads, cards, and the limit of one set."""

import shutil
from collections import Counter

import numpy as np
import pytest
import torch
from conftest import recipe
from safetensors.numpy import load_file
from scipy import stats

from xlscale import tasks
from xlscale.cards import catalogue, mixtures
from xlscale.cards.catalogue import data_card
from xlscale.cards.mixtures import Mixture as MixtureCard
from xlscale.commands import cell as cell_command
from xlscale.commands import data
from xlscale.core.files import MANIFEST, XlscaleError, digest
from xlscale.data import load
from xlscale.data.batches import Encoded, collate
from xlscale.engine import phase
from xlscale.experiment import cells
from xlscale.experiment.results import CHECKPOINT
from xlscale.metrics.predictions import by_language
from xlscale.models import ladder
from xlscale.training import loop, mixture, order
from xlscale.training.backends.cpu import CPU
from xlscale.training.mixture import Mixture
from xlscale.training.model import Model
from xlscale.training.order import PART

SETS = ["vitaminc", "help_next", "wordnet_class"]


@pytest.fixture
def mixed(tmp_path, monkeypatch):
    """``mixed(*sets)``: the name of a card of a mixture of these sets."""
    (tmp_path / "manifest").mkdir()
    for path in MANIFEST.iterdir():
        if path.name != "mixtures":
            (tmp_path / "manifest" / path.name).symlink_to(path)
    folder = tmp_path / "manifest" / "mixtures"
    shutil.copytree(MANIFEST / "mixtures", folder)
    monkeypatch.setattr(catalogue, "MANIFEST", tmp_path / "manifest")

    def card(*sets: str, name: str = "some") -> str:
        lines = f"name: {name}\ntitle: Some\nsets: [{', '.join(sets)}]\ndescription: Some.\n"
        (folder / f"{name}.yaml").write_text(lines)
        catalogue.clear_caches()
        return name

    yield card
    catalogue.clear_caches()


def _encoded(rows: int, each: int = 1, start: int = 0) -> Encoded:
    """Inputs of ``rows`` rows, ``each`` of a row, all with ids of their own."""
    ids = [[start + i] * (1 + i % 5) for i in range(rows * each)]
    return Encoded.of(ids, np.arange(rows).repeat(each), {"label": np.arange(rows * each)})


@pytest.mark.parametrize("cap", [None, 40, 10])
def test_sets_come_in_proportion_to_their_examples_below_the_limit(cap):
    """Against the formula r_m = min(e_m, K) / sum of min(e_n, K), for sets of 160, 80 and 20 rows."""
    examples = np.array([160, 80, 20])
    joined = mixture.joined([_encoded(160), _encoded(80), _encoded(20, each=2)])
    chosen = recipe(batch_size=4, steps=3000, mixing_cap=cap)
    found = order.batches(joined, chosen, np.random.default_rng(1))
    parts = [{*joined.targets[PART][index].tolist()} for index in found]
    assert all(len(one) == 1 for one in parts)  # a batch is of one set
    counts = Counter(one.pop() for one in parts)
    rates = np.minimum(examples, cap or np.inf)
    assert stats.chisquare([counts[i] for i in range(3)], 3000 * rates / rates.sum()).pvalue > 0.01
    epochs = order.batches(joined, recipe(batch_size=4, epochs=2, mixing_cap=cap), np.random.default_rng(1))
    assert len(epochs) == round(2 * rates.sum() / 4)


def test_all_rows_of_a_set_come_once_before_any_comes_again_and_stay_whole():
    joined = mixture.joined([_encoded(24, each=3), _encoded(8)])
    found = order.batches(joined, recipe(batch_size=4, steps=80), np.random.default_rng(2))
    for part, rows in ((0, 24), (1, 8)):
        own = [joined.row[index] for index in found if joined.targets[PART][index[0]] == part]
        assert all((np.bincount(one)[one] == (3 if part == 0 else 1)).all() for one in own)
        seen = [{*one.tolist()} for one in own]
        for first in range(0, len(seen) - rows // 4, rows // 4):
            assert len(set.union(*seen[first : first + rows // 4])) == rows


def test_inputs_of_several_sets_are_those_of_each(e5):
    parts = [_encoded(6, start=1), _encoded(4, each=2, start=50)]
    joined = mixture.joined(parts)
    assert len(joined) == 14 and len(np.unique(joined.row)) == 10
    for part, first in ((0, 0), (1, 6)):
        index = np.arange(first, first + len(parts[part]))
        own, whole = collate(parts[part], index - first, 0), collate(joined, index, 0)
        number, apart = mixture._apart(whole)
        assert number == part and torch.equal(own.ids, apart.ids) and torch.equal(own.mask, apart.mask)
        assert apart.targets.keys() == own.targets.keys()
        assert all(torch.equal(own.targets[name], apart.targets[name]) for name in own.targets)


@pytest.mark.parametrize("values", [{"epochs": 3, "batch_size": 4}, {"steps": 11, "batch_tokens": 20}])
def test_the_order_of_one_set_is_that_of_the_set_alone(values):
    alone, generators = _encoded(30, each=2), [np.random.default_rng(3) for _ in range(2)]
    found = [
        order.batches(one, recipe(**values), generators[i]) for i, one in enumerate((alone, mixture.joined([alone])))
    ]
    assert len(found[0]) > 5 and all(np.array_equal(*pair) for pair in zip(*found, strict=True))
    assert generators[0].random() == generators[1].random()


VALUES = {
    "model": "e5_small", "layers": 1, "placebo": False, "precision": "float32", "seed": 3,
    "intermediate_examples": 24, "intermediate_epochs": 1, "intermediate_learning_rate": 2e-3,
    "intermediate_batch_size": 8, "intermediate_max_length": 32, "intermediate_test_items": 4,
}  # fmt: skip


def _run(folder, **values):
    run = phase.OpenCell(cells.make("intermediate", VALUES | values), folder)
    folder.mkdir(exist_ok=True)
    encoder = run.starting_point()
    head, log = run.train(encoder)
    return run, encoder, head, log


@pytest.mark.parametrize("values", [{}, {"placebo": True}, {"intermediate_method": "lora"}])
def test_a_mixture_of_one_set_is_that_set_bit_for_bit(mixed, tmp_path, values):
    found = []
    for name in ("vitaminc", mixed("vitaminc")):
        run, encoder, head, log = _run(tmp_path / name, intermediate=name, **values)
        predictions, scores = run.evaluate(encoder, head, "dev")
        weights = load_file(tmp_path / name / CHECKPOINT)
        found.append((log, weights, predictions, scores["en"].value))
    (log, weights, alone, value), (other, others, together, same) = found
    assert log == other and value == same
    assert weights.keys() == others.keys() and all(np.array_equal(weights[name], others[name]) for name in weights)
    assert together["item"].tolist() == [f"vitaminc/{item}" for item in alone["item"]]
    assert together["prediction"].tolist() == alone["prediction"].tolist()


def test_several_tasks_learn_at_once_each_with_its_own_head(e5):
    """Three families; the loss of each falls, and on each the heads of the others have no gradient."""
    card = mixtures.card(MixtureCard(name="m", title="M", sets=SETS, description="M"), [*map(data_card, SETS)], "m")
    task, parts = Mixture(card, e5), []
    for one in task.parts:
        rows = load.splits(one.card)["train"].select(range(8))
        parts.append(one.encode(rows, ladder.tokenizer(e5), e5.prefix, 48))
    encoder = ladder.load(e5, 1)
    model = Model(encoder, CPU("float32"), task, task.head_of(encoder, torch.Generator().manual_seed(0)))
    joined = mixture.joined(parts)
    for part in range(3):
        batch = collate(joined, np.flatnonzero(joined.targets[PART] == part)[:4], 1)
        task.loss(model.outputs(batch), batch).backward()
        assert [any(p.grad is not None for p in head.parameters()) for head in model.head] == [
            i == part for i in range(3)
        ]
        model.head.zero_grad(set_to_none=True)
    encoder.zero_grad(set_to_none=True)
    seen, losses = [], []
    loss = task.loss
    task.loss = lambda outputs, batch: seen.append(int(batch.targets[PART][0])) or loss(outputs, batch)
    chosen = recipe(epochs=14, batch_size=4, learning_rate=2e-3)
    losses = np.array(loop.finetune(model, joined, chosen, np.random.default_rng(1)).losses)
    for part in range(3):
        own = losses[np.array(seen) == part]
        assert len(own) > 12 and own[-4:].mean() < 0.85 * own[:4].mean()


def test_a_cell_of_a_mixture_goes_from_training_to_its_result(mixed, tmp_path):
    name = mixed(*SETS)
    run, encoder, head, log = _run(tmp_path / "a", intermediate=name)
    assert run.cell.condition == name and name in run.cell.id
    assert dict(run.cell.reads) == {one: data_card(one).sha256 for one in SETS} | {
        one: digest([data_card(one).sha256, data_card(one).labels]) for one in SETS if data_card(one).labels
    }
    assert len(log.losses) == 9 and {*run.rows["train"]["set"]} == {*SETS}
    predictions, languages = run.evaluate(encoder, head, "dev")
    result = run.finish(encoder, predictions, languages, log)
    assert predictions["set"].value_counts().to_dict() == dict.fromkeys(SETS, 4)
    assert result.value == languages["en"].value == predictions["correct"].mean()
    for one in SETS:
        own = predictions[predictions["set"] == one]
        assert languages["en"].others[one] == pytest.approx(by_language(data_card(one).metric, own)["en"])
    torch.manual_seed(5)
    _, again, _, same = _run(tmp_path / "b", intermediate=name)
    assert same == log and all(map(torch.equal, encoder.state_dict().values(), again.state_dict().values()))
    run, *_, log = _run(tmp_path / "c", intermediate=name, intermediate_objective="mlm_cotraining")
    assert {*dict(run.cell.reads)} == {*SETS, "unlabelled"}
    assert len(log.losses) == 9 and log.tokens > same.tokens and np.mean(log.losses) > np.mean(same.losses) + 5


def test_a_mixture_has_of_its_sets_what_they_have_together(mixed, monkeypatch, tmp_path):
    card = data_card(mixed("vitaminc", "help_next"))
    one, other = data_card("vitaminc"), data_card("help_next")
    assert card.type == "mixed" and card.role == "intermediate" and card.trained and card.members == card.sets
    assert card.splits["train"] == {"en": one.splits["train"]["en"] + other.splits["train"]["en"]}
    assert card.chance == (one.chance + other.chance) / 2
    assert data_card(mixed("wikihow", "vitaminc")).type == "general"
    assert one.members == ["vitaminc"]
    wanted = []
    monkeypatch.setattr("xlscale.acquire.ensure.ensure", lambda cards, models: wanted.extend(cards))
    given = VALUES | {"intermediate": mixed("vitaminc", "help_next")}
    cell_command.acquire([cells.make("intermediate", given)], tmp_path)
    assert [card.name for card in wanted] == ["vitaminc", "help_next"]


def test_the_identity_of_a_cell_is_that_of_its_sets_and_their_order(mixed):
    first, parts = {}, {}
    for sets in (("vitaminc", "help_next"), ("help_next", "vitaminc"), ("vitaminc", "wikihow")):
        cell = cells.make("intermediate", VALUES | {"intermediate": mixed(*sets)})
        first[sets], parts[sets] = cell.id, cells.parts("intermediate", cell.parameters.model_dump())
    assert len({*first.values()}) == 3
    assert {"xlscale.tasks.classification", "xlscale.tasks.multiple_choice"} <= {*parts["vitaminc", "help_next"]}
    assert cells.make("intermediate", VALUES | {"intermediate": mixed("vitaminc", "help_next")}).id in first.values()


@pytest.mark.parametrize(
    ("sets", "line"),
    [
        (("vitaminc", "topic"), "mixtures/some.yaml: sets: expected intermediate sets, got 'topic' of role target"),
        (("vitaminc", "nowhere"), "mixtures/some.yaml: sets: unknown data 'nowhere'"),
        (("vitaminc", "vitaminc"), "mixtures/some.yaml: sets: .*each once"),
        ((), "mixtures/some.yaml: sets: "),
        (("vitaminc", "multi"), "mixtures/some.yaml: sets: expected names of sets, got 'multi', which is a mixture"),
        (("vitaminc", "some"), "mixtures/some.yaml: sets: expected names of sets, got 'some', which is a mixture"),
    ],
)
def test_a_broken_card_is_one_line(mixed, sets, line):
    with pytest.raises(XlscaleError, match=line) as error:
        data_card(mixed(*sets))
    assert "\n" not in str(error.value)


def test_of_a_mixture_its_sets_are_checked(mixed):
    name = mixed("vitaminc", "wordnet_class")
    assert [card.name for card in data._chosen([name, "vitaminc"], None)] == ["vitaminc", "wordnet_class"]
    with pytest.raises(XlscaleError, match="unknown card 'nowhere': expected one of "):
        data._chosen(["nowhere"], None)


def test_a_mixture_has_a_name_of_its_own_and_questions_need_their_room(mixed):
    with pytest.raises(XlscaleError, match="topic.yaml: name: expected one that no data set has"):
        data_card(mixed("vitaminc", name="topic"))
    with pytest.raises(XlscaleError, match="none.yaml: name: expected a name of its own, this one stands for no train"):
        data_card(mixed("vitaminc", name="none"))
    with pytest.raises(XlscaleError, match="intermediate_max_length: expected at least 64 for span QA, got 32"):
        cells.make("intermediate", VALUES | {"intermediate": mixed("vitaminc", "squad_wiki", name="other")})
    with pytest.raises(XlscaleError, match="objective: expected one for help_next of family multiple_choice"):
        given = VALUES | {"intermediate": mixed("vitaminc", "help_next", name="other")}
        cells.make("intermediate", given | {"intermediate_objective": "augmentation"})


def test_the_bundled_mixture_overlaps_no_target():
    for name in catalogue.names(catalogue.MIXTURES):
        card = data_card(name)
        assert all(data_card(one).bundled for one in card.sets) and not card.overlaps_targets
        assert all(tasks.of(data_card(one)) for one in card.sets)
