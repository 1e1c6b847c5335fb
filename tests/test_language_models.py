"""Masked, causal and translation language modelling: what is hidden, the tied head, and trainings with it."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import FIXTURES, recipe, trained_on
from datasets import Dataset
from scipy import stats
from torch import nn
from transformers import BertConfig, BertForMaskedLM, BertModel, Qwen2ForCausalLM

from xlscale import tasks
from xlscale.cards.catalogue import data_card
from xlscale.core.files import XlscaleError
from xlscale.data import load
from xlscale.data.batches import Batch, collate
from xlscale.engine import phase
from xlscale.experiment import cells
from xlscale.models import ladder
from xlscale.tasks import text
from xlscale.tasks.text import LanguageHead
from xlscale.training import evaluate, loop
from xlscale.training.backends.cpu import CPU
from xlscale.training.methods.lora import LoRA
from xlscale.training.model import Model
from xlscale.training.objectives.masked_lm import Masking, shown
from xlscale.training.objectives.translation_lm import TranslationLM

sys.path.insert(0, str(FIXTURES))
from hub import LANGUAGES

WIDTH = 6


@pytest.fixture(scope="module")
def unlabelled():
    return load.splits(data_card("unlabelled"))["dev"].select(range(0, 2500, 25))


@pytest.fixture(scope="module")
def tokenizer(e5):
    return ladder.tokenizer(e5)


@pytest.fixture(scope="module")
def task(e5):
    return tasks.of(data_card("unlabelled"), e5)


@pytest.fixture(scope="module")
def encoded(task, unlabelled, tokenizer, e5):
    return task.encode(unlabelled, tokenizer, e5.prefix, 64)


@pytest.fixture(scope="module")
def plain(unlabelled, tokenizer, e5):
    """The token ids of the texts, without the code under test."""
    return tokenizer([e5.prefix + one for one in unlabelled["text"]], truncation=True, max_length=64)["input_ids"]


def test_of_each_text_15_percent_of_its_own_tokens_are_chosen_all_equally_likely():
    own = torch.zeros(3000, 30, dtype=torch.bool)
    own[:, 4:24] = True  # 20 tokens: 3 of them
    own[0], own[1, 5:], own[2, 6:], own[2, :4] = False, False, False, False
    found = text.chosen(own, torch.Generator().manual_seed(1)).numpy()
    assert not (found & ~own.numpy()).any()
    assert found.sum(1)[:3].tolist() == [0, 1, 1] and set(found.sum(1)[3:]) == {3}
    assert stats.chisquare(found[3:, 4:24].sum(0)).pvalue > 0.01
    together = np.array([[(found[3:, a] & found[3:, b]).sum() for b in range(a + 1, 24)] for a in range(4, 23)], object)
    assert stats.chisquare([n for row in together for n in row]).pvalue > 0.01


def test_what_every_input_has_is_never_hidden_and_labels_are_only_where_something_is(encoded, plain, tokenizer, e5):
    start = len(tokenizer(e5.prefix.strip())["input_ids"]) - 1
    batch = collate(encoded, np.arange(len(encoded)), 1)
    masking = Masking(tasks.of(data_card("unlabelled"), e5), np.random.default_rng(2))
    seen = np.zeros(batch.ids.shape, bool)
    for made in (batch, *(masking(batch) for _ in range(40))):
        for i, ids in enumerate(plain):
            place, token = (made.targets[name][i].numpy() for name in ("position", "token"))
            there = place >= 0
            several = sum(one not in tokenizer.all_special_ids for one in ids[start:])
            assert there.sum() == max(1, round(0.15 * several)) == len({*place[there].tolist()})
            assert (token[~there] == text.IGNORED).all() and (place[~there] == text.ABSENT).all()
            assert token[there].tolist() == [ids[p] for p in place[there]]
            changed = np.flatnonzero(made.ids[i, : len(ids)].numpy() != ids)
            assert {*changed.tolist()} <= {*place[there].tolist()}
            seen[i, place[there]] = True
    assert not seen[:, :start].any()
    last = np.array([len(ids) - 1 for ids in plain])
    assert not seen[np.arange(len(plain)), last].any() and seen[:, start].sum() > 90  # the first word often enough
    assert torch.equal(shown(batch), collate(replace(encoded, ids=np.concatenate(plain)), batch.index, 1).ids)


def test_of_hidden_tokens_80_percent_are_masked_10_exchanged_and_10_stay(encoded, tokenizer, e5):
    masking = Masking(tasks.of(data_card("unlabelled"), e5), np.random.default_rng(3))
    batch = collate(encoded, np.arange(len(encoded)), 1)
    became, was = [], []
    for _ in range(40):
        made = masking(batch)
        rows, places = (made.targets["position"] >= 0).nonzero(as_tuple=True)
        became.append(made.ids[rows, made.targets["position"][rows, places]])
        was.append(made.targets["token"][rows, places])
    became, was = torch.cat(became).numpy(), torch.cat(was).numpy()
    mask = tokenizer.convert_tokens_to_ids("<mask>")
    kinds = [(became == mask).sum(), ((became != mask) & (became != was)).sum(), (became == was).sum()]
    assert sum(kinds) > 10_000
    assert stats.chisquare(kinds, np.array([0.8, 0.1, 0.1]) * sum(kinds)).pvalue > 0.01
    others = became[(became != mask) & (became != was)]
    assert not np.isin(others, tokenizer.all_special_ids).any() and others.max() < len(tokenizer)
    assert stats.kstest(others / len(tokenizer), "uniform").pvalue > 0.01
    rows, places = np.nonzero(encoded.targets["position"] >= 0)
    where = encoded.offsets[rows] + encoded.targets["position"][rows, places]
    # In evaluation all are masked.
    assert (encoded.ids[where] == mask).all() and (encoded.ids == mask).sum() == len(where)


def test_what_is_hidden_in_evaluation_is_the_texts_own_whatever_else_is_there(task, encoded, unlabelled, tokenizer, e5):
    alone = task.encode(unlabelled.select([7]), tokenizer, e5.prefix, 64)
    assert np.array_equal(alone.ids, encoded.ids_of(7))
    width = alone.targets["position"].shape[1]
    assert np.array_equal(alone.targets["position"][0], encoded.targets["position"][7, :width])


class Double(CPU):
    """A backend that leaves hidden states in float64."""

    def hidden_states(self, encoder, batch, layer=None):
        return encoder(input_ids=batch.ids, attention_mask=batch.mask).last_hidden_state


CONFIG = BertConfig(
    vocab_size=11, hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
    max_position_embeddings=8, attn_implementation="eager", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
)  # fmt: skip


@pytest.fixture
def tiny() -> Model:
    generator = torch.Generator().manual_seed(1)
    encoder = BertModel(CONFIG, add_pooling_layer=False).double().eval()
    head = LanguageHead(encoder.get_input_embeddings(), generator).double()
    with torch.no_grad():
        for parameter in (*encoder.parameters(), *head.parameters()):
            parameter.normal_(0, 0.5, generator=generator)
    return Model(encoder, Double("float32"), tasks.of(data_card("unlabelled")), head)


@pytest.fixture
def batch() -> Batch:
    ids = torch.tensor([[3, 5, 7, 9], [4, 6, 0, 0]])
    position, token = torch.tensor([[1, 3], [1, -1]]), torch.tensor([[8, 2], [10, -100]])
    return Batch(ids, ids > 0, np.arange(2), {"position": position, "token": token})


def _loss(model: Model, batch: Batch) -> torch.Tensor:
    return model.task.loss(model.outputs(batch), batch)


@pytest.mark.parametrize("frozen", [True, False])
def test_gradients_of_the_tied_head_are_those_of_finite_differences(tiny, batch, frozen):
    words = tiny.encoder.get_input_embeddings().weight.requires_grad_(not frozen)
    _loss(tiny, batch).backward()
    assert (words.grad is None) == frozen and words is not None
    assert not any(one is words for one in tiny.head.parameters())
    checked, generator = 0, np.random.default_rng(1)
    for parameter in (*tiny.head.parameters(), *tiny.encoder.parameters()):
        if parameter.grad is None:
            continue
        largest = np.unravel_index(int(parameter.grad.abs().argmax()), parameter.shape)
        for place in (largest, tuple(generator.integers(size) for size in parameter.shape)):
            sides = []
            for sign in (1, -1):
                with torch.no_grad():
                    parameter[place] += sign * 1e-6
                    sides.append(_loss(tiny, batch).item())
                    parameter[place] -= sign * 1e-6
            slope = (sides[0] - sides[1]) / 2e-6
            assert parameter.grad[place].item() == pytest.approx(slope, rel=1e-5, abs=1e-8)
            checked += abs(slope) > 1e-4
    assert checked > 20


def test_the_loss_is_that_of_the_librarys_masked_model(tiny, batch):
    theirs = BertForMaskedLM(CONFIG).double().eval()
    theirs.bert.load_state_dict(tiny.encoder.state_dict(), strict=False)
    dense, _, norm = tiny.head.transform
    theirs.cls.predictions.transform.dense.load_state_dict(dense.state_dict())
    theirs.cls.predictions.transform.LayerNorm.load_state_dict(norm.state_dict())
    theirs.cls.predictions.transform.LayerNorm.eps = norm.eps
    theirs.tie_weights()
    theirs.cls.predictions.decoder.bias.data = tiny.head.bias.data.clone()
    labels = torch.tensor([[-100, 8, -100, 2], [-100, 10, -100, -100]])
    with torch.no_grad():
        expected = theirs(input_ids=batch.ids, attention_mask=batch.mask, labels=labels)
        assert _loss(tiny, batch).item() == pytest.approx(expected.loss.item(), rel=1e-12)
        best = tiny.outputs(batch)[..., 1].long()
    assert best[0].tolist() == expected.logits[0, [1, 3]].argmax(-1).tolist()
    assert best[1, 0] == expected.logits[1, 1].argmax() and best[1, 1] == 0


def test_in_chunks_loss_and_gradients_are_the_same(tiny, batch, monkeypatch):
    found = []
    for size in (256, 1):
        monkeypatch.setattr(text, "CHUNK", size)
        loss = _loss(tiny, batch)
        loss.backward()
        found.append([loss.detach(), *(p.grad.clone() for p in tiny.head.parameters())])
        tiny.head.zero_grad()
    assert all(torch.allclose(a, b, rtol=1e-12) for a, b in zip(*found, strict=True))


def test_without_a_token_to_guess_the_loss_is_zero(tiny, batch):
    nothing = replace(batch, targets={"position": torch.full((2, 1), -1), "token": torch.full((2, 1), -100)})
    loss = _loss(tiny, nothing)
    loss.backward()
    assert loss.item() == 0


def _sentences(number: int = 48) -> Dataset:
    generator, rows = np.random.default_rng(5), []
    for i in range(number):
        code = ("en", "de", "ru")[i % 3]
        words = " ".join(generator.choice(LANGUAGES[code], 12))
        rows.append({"split": "train", "language": code, "item": str(i), "group": str(i // 3), "text": words})
    return Dataset.from_list(rows)


@pytest.mark.parametrize("name", ["qwen2.5", "llama-3.1"])
def test_of_a_causal_model_the_loss_is_the_librarys_of_the_next_tokens(layout, name):
    card = layout(name)
    task, tokenizer = tasks.of(data_card("unlabelled"), card), ladder.tokenizer(card)
    encoded = task.encode(_sentences(6), tokenizer, "", 40)
    encoder = ladder.load(card, 2)
    batch = collate(encoded, np.arange(6), encoder.config.pad_token_id or 0)
    model = Model(encoder, CPU("float32"), task, task.head_of(encoder, torch.Generator()))
    assert not [*model.head.parameters()]
    special = torch.isin(batch.ids, torch.tensor(tokenizer.all_special_ids)) | ~batch.mask
    labels = batch.ids.masked_fill(special, -100)
    config = encoder.config
    if name == "qwen2.5":
        theirs = Qwen2ForCausalLM(config).eval()
        theirs.model.load_state_dict(encoder.state_dict())
        theirs.tie_weights()
        with torch.no_grad():
            expected = theirs(input_ids=batch.ids, attention_mask=batch.mask, labels=labels).loss.item()
    else:  # which is not tied there
        with torch.no_grad():
            states = encoder(input_ids=batch.ids, attention_mask=batch.mask).last_hidden_state
            scores = states @ encoder.get_input_embeddings().weight.T
            expected = nn.functional.cross_entropy(scores[:, :-1].flatten(0, 1), labels[:, 1:].flatten()).item()
    with torch.no_grad():
        assert _loss(model, batch).item() == pytest.approx(expected, rel=1e-5)


def _trained(card, method: str = "full", seed: int = 0, objective: str = "masked_lm", **values):
    task, encoder = tasks.of(data_card("unlabelled"), card), ladder.load(card, 1)
    chosen = recipe(
        **{"objective": objective, "method": method, "batch_size": 8, "learning_rate": 5e-3, "epochs": 6} | values
    )
    if method == "lora":
        LoRA().prepare(encoder, chosen, torch.Generator().manual_seed(1))
    encoded = task.encode(_sentences(), ladder.tokenizer(card), card.prefix, 32)
    model = Model(encoder, CPU("float32"), task, task.head_of(encoder, torch.Generator().manual_seed(seed)))
    losses = loop.finetune(model, encoded, chosen, np.random.default_rng(seed)).losses
    return losses, model, encoded


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("name", ["xlm-r", "xlm-r-xl", "mmbert", "eurobert", "qwen2.5", "llama-3.1", "gemma-3-text"])
def test_the_loss_falls_in_every_architecture_and_word_embeddings_stay(layout, name, method):
    card = layout(name)
    before = ladder.load(card, 1).get_input_embeddings().weight.clone()
    values = {"adapted": "linear", "learning_rate": 2e-2} if method == "lora" else {}
    losses, model, _ = _trained(card, method, **values)
    assert np.mean(losses[-6:]) < 0.97 * np.mean(losses[:6])
    assert torch.equal(model.encoder.get_input_embeddings().weight, before)


def test_the_seed_alone_decides_whatever_the_global_state_and_hides_anew_every_time(layout, monkeypatch):
    card = layout("xlm-r")
    seen, call = [], Masking.__call__
    monkeypatch.setattr(Masking, "__call__", lambda self, batch: seen.append(call(self, batch)) or seen[-1])
    first, model, encoded = _trained(card)
    torch.manual_seed(7)
    np.random.seed(7)
    again, other, _ = _trained(card)
    assert first == again != _trained(card, seed=1)[0]
    assert all(torch.equal(a, b) for a, b in zip(model.head.parameters(), other.head.parameters(), strict=True))
    assert all(map(np.array_equal, evaluate.run(model, encoded), evaluate.run(other, encoded)))
    of_one = {tuple(one.targets["position"][list(one.index).index(3)].tolist()) for one in seen[:36] if 3 in one.index}
    assert len(of_one) == 6  # epochs


def test_predictions_count_tokens(layout):
    _, model, encoded = _trained(layout("xlm-r"))
    rows, outputs = _sentences(), evaluate.run(model, encoded)
    table = model.task.predictions(rows, encoded, outputs)
    with torch.inference_mode():
        loss = _loss(model, collate(encoded, np.arange(len(encoded)), 1)).item()
    assert -np.average(table["score"], weights=table["spans"]) == pytest.approx(loss, rel=1e-5)
    for row, values, true in zip(table.itertuples(), outputs, encoded.targets["token"], strict=True):
        true = true[true >= 0]
        assert row.gold == " ".join(map(str, true)) and row.spans == len(true)
        assert row.matches == (values[: len(true), 1] == true).sum() and row.correct == (row.gold == row.prediction)
    scores = model.task.scores(table)
    german = table[table["language"] == "de"]
    assert scores["de"].value == pytest.approx(german["matches"].sum() / german["spans"].sum())


def test_pairs_are_texts_of_one_group_in_two_languages_all_equally_likely(layout):
    rows = _sentences(30)
    sampled = rows.select([*range(6), *range(7, 30, 3)])
    single = Dataset.from_dict({name: [values[0]] for name, values in rows.select([0]).to_dict().items()})
    alone = single.map(lambda row: row | {"group": "alone"})
    texts, counts = [*rows["text"]], np.zeros((6, 30), int)
    for seed in range(200):
        found = TranslationLM().rows(sampled, recipe(), np.random.default_rng(seed), rows)
        assert len(found) == len(sampled)
        for i, (one, second) in enumerate(zip(found["text"], found["second"], strict=True)):
            partner = texts.index(second)
            assert partner // 3 == texts.index(one) // 3 and partner != texts.index(one)
            counts[min(i, 5), partner] += i < 6
        assert [*found["text"]] == [*sampled["text"]]
    for i in range(6):
        assert (counts[i] > 0).sum() == 2 and stats.chisquare(counts[i][counts[i] > 0]).pvalue > 0.001
    assert len(TranslationLM().rows(alone, recipe(), np.random.default_rng(0), rows)) == 0
    card = layout("xlm-r")
    task, tokenizer = tasks.of(data_card("unlabelled"), card), ladder.tokenizer(card)
    encoded = task.encode(found, tokenizer, "unused ", 64)
    ids = tokenizer([*found["text"]], [*found["second"]], truncation=True, max_length=64)
    for i, one in enumerate(ids["input_ids"]):
        own = encoded.targets["own"][i, : len(one)]
        assert not np.isin(one, tokenizer.all_special_ids)[own].any() and own.sum() == len(one) - 4
    assert np.isin(_pair_halves(encoded, ids), [0, 1]).all()


def _pair_halves(encoded, ids) -> list[int]:
    """Of every token to be guessed, which text of its pair it is in."""
    halves = [ids.sequence_ids(i)[p] for i, one in enumerate(encoded.targets["position"]) for p in one[one >= 0]]
    assert 0.3 < np.mean(halves) < 0.7
    return halves


VALUES = {
    "model": "e5_small", "layers": 1, "placebo": False, "precision": "float32", "seed": 3,
    "intermediate_examples": 60, "intermediate_epochs": 2, "intermediate_learning_rate": 2e-3,
    "intermediate_batch_size": 16, "intermediate_max_length": 32, "intermediate_test_items": 1,
}  # fmt: skip
UNLABELLED = {"intermediate": "unlabelled", "intermediate_objective": "masked_lm"}


@pytest.mark.parametrize("objective", [pytest.param("masked_lm", marks=pytest.mark.again), "translation_lm"])
def test_a_cell_of_text_trains_and_is_evaluated_on_held_out_text(tmp_path, objective):
    given = VALUES | UNLABELLED | {"intermediate_objective": objective}
    run = phase.OpenCell(cells.make("intermediate", given), tmp_path)
    assert (
        dict(run.cell.reads) == {"unlabelled": data_card("unlabelled").sha256}
        and run.cell.condition == f"unlabelled, {objective}"
    )
    encoder = run.starting_point()
    head, log = run.train(encoder)
    assert np.mean(log.losses[-2:]) < np.mean(log.losses[:2]) - 0.3
    predictions, languages = run.evaluate(encoder, head, "dev")
    result = run.finish(encoder, predictions, languages, log)
    assert len(languages) == 55 and 0 <= result.value < 0.3 and result.train_tokens == log.tokens


def test_beside_a_task_both_losses_fall_and_without_weight_it_is_plain_training(e5, monkeypatch):
    task = tasks.of(data_card("topic"), e5)
    rows = load.splits(task.card)["train"].select(range(24))
    encoded = task.encode(rows, ladder.tokenizer(e5), e5.prefix, 16)
    seen = trained_on(monkeypatch, encoded)

    def trained(epochs=1, **values):
        encoder = ladder.load(e5, 1)
        model = Model(encoder, CPU("float32"), task, task.head(384, torch.Generator().manual_seed(0)))
        chosen = recipe(**{"epochs": epochs, "batch_size": 8, "learning_rate": 2e-3, "max_length": 24} | values)
        log = loop.finetune(model, encoded, chosen, np.random.default_rng(0))
        return log, evaluate.run(model, encoded)

    plain, outputs = trained()
    log, others = trained(objective="mlm_cotraining", text_weight=0.0)
    assert log == plain and all(map(np.array_equal, outputs, others))
    losses, loss = {"topic": [], "unlabelled": []}, type(task).loss
    for family in (type(task), text.Text):
        loss = family.loss

        def noted(self, outputs, batch, loss=loss):
            found = loss(self, outputs, batch)
            losses[self.card.name].append(found.item())
            return found

        monkeypatch.setattr(family, "loss", noted)
    log, _ = trained(epochs=5, objective="mlm_cotraining", text_weight=0.5)
    assert seen[:3] == seen[3:6] == seen[6:9]  # the task's inputs come as in plain training
    assert log.losses == pytest.approx(np.add(losses["topic"], np.multiply(0.5, losses["unlabelled"])), rel=1e-6)
    for values in losses.values():
        assert len(values) == 15 and np.mean(values[-3:]) < 0.9 * np.mean(values[:3])
    assert log.tokens > 5 * plain.tokens + 15 * 8 * 5  # those of the text, too
    first, _ = trained(objective="mlm_cotraining")
    torch.manual_seed(9)
    assert trained(objective="mlm_cotraining")[0] == first != plain


def test_the_text_is_part_of_a_cell_that_reads_it_and_of_no_other(target_values):
    plain = cells.make("target", target_values | {"intermediate": "none"})
    beside = cells.make("target", target_values | {"intermediate": "none", "objective": "mlm_cotraining"})
    assert dict(beside.reads) == dict(plain.reads) | {"unlabelled": data_card("unlabelled").sha256}
    assert beside.id != plain.id


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (
            {"intermediate": "unlabelled"},
            "intermediate_objective: expected masked_lm, translation_lm for unlabelled, got 'supervised'",
        ),
        ({"intermediate": "synonyms"}, "intermediate: expected a lexicon with metric and chance, 'synonyms' has role"),
        (
            UNLABELLED | {"intermediate": "vitaminc"},
            "intermediate_objective: expected one for vitaminc of family classification, got",
        ),
        (UNLABELLED | {"placebo": True}, "placebo: expected false for unlabelled, which has no labels to shuffle, got"),
        (
            {"intermediate": "vitaminc", "intermediate_objective": "mlm_cotraining", "intermediate_text": "topic"},
            "intermediate_text: expected a bundled text with English rows, got 'topic'",
        ),
        ({"intermediate": "vitaminc", "intermediate_text_weight": 2.0}, "text_weight: expected with objective mlm_cot"),
        (
            {"intermediate": "vitaminc", "intermediate_mixing_cap": 9},
            "intermediate_mixing_cap: expected of a mixture al",
        ),
    ],
)
def test_what_does_not_go_together_is_one_line(values, line):
    with pytest.raises(XlscaleError, match=line) as error:
        cells.make("intermediate", VALUES | values)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_a_tokenizer_without_a_mask_token_is_one_line(layout):
    with pytest.raises(XlscaleError, match="expected a mask token or '<mask>', got neither"):
        text.mask_token(ladder.tokenizer(layout("qwen2.5")))
