"""Task families: their contract, windows, labels, placebo, decoding, losses and their gradients."""

import ast
import inspect

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset

from xlscale import tasks
from xlscale.cards.catalogue import data_card
from xlscale.core import registry
from xlscale.core.files import XlscaleError
from xlscale.data import load
from xlscale.data.batches import Batch
from xlscale.models import ladder
from xlscale.tasks.base import Task, TrainedTask
from xlscale.tasks.span_qa import LONGEST_ANSWER, NO_SPAN


@pytest.mark.parametrize("family", registry.PARTS["task"])
def test_every_family_keeps_the_contract_and_imports_no_other(family):
    found = registry.get("task", family)
    assert issubclass(found, Task) and not inspect.isabstract(found)
    contract = TrainedTask if issubclass(found, TrainedTask) else Task
    for name, method in inspect.getmembers(contract, inspect.isfunction):
        if name != "__init__":
            own = inspect.signature(getattr(found, name))
            assert list(own.parameters) == list(inspect.signature(method).parameters), name
    tree = ast.parse(inspect.getsource(inspect.getmodule(found)))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name for name in imported if name.startswith(("xlscale.tasks", "xlscale.xtreme"))} == {"xlscale.tasks.base"}


def test_a_card_without_a_task_is_one_line():
    with pytest.raises(XlscaleError, match="task: expected one of classification, .*, got 'mixture'"):
        tasks.of(data_card("multi"))


@pytest.fixture(scope="module")
def tokenizer(e5):
    return ladder.tokenizer(e5)


@pytest.fixture(scope="module")
def questions():
    return load.splits(data_card("squad_wiki"))["train"].select(range(60))


@pytest.fixture(scope="module")
def windows(questions, tokenizer):
    return tasks.of(data_card("squad_wiki")).encode(questions, tokenizer, "", 128)


def test_windows_do_not_depend_on_where_the_answer_is(questions, windows, tokenizer):
    task = tasks.of(data_card("squad_wiki"))
    moved = questions.map(lambda row: {"answers": [row["context"][:5]], "answer_starts": [0]})
    again = task.encode(moved, tokenizer, "", 128)
    assert np.array_equal(windows.ids, again.ids)
    assert np.array_equal(windows.offsets, again.offsets)
    assert (windows.targets["start"] != again.targets["start"]).any()


def test_answers_are_not_in_the_middle_of_their_windows(windows):
    inputs = tasks.of(data_card("squad_wiki")).training_inputs(windows, np.random.default_rng(0))
    inside = [inputs.spans_of(i)[:, 0] != NO_SPAN for i in range(len(inputs))]
    first = np.array([np.flatnonzero(tokens)[0] for tokens in inside])
    room = np.array([tokens.sum() for tokens in inside])
    middle = ((inputs.targets["start"] + inputs.targets["end"]) / 2 - first) / room
    assert middle.std() > 0.2  # uniform: 0.29; centred: 0
    assert (np.abs(middle - 0.5) < 0.05).mean() < 0.3


def test_every_token_of_every_context_is_in_a_window_and_the_target_is_the_answer(questions, windows):
    for row, example in enumerate(questions):
        mine = [i for i in range(len(windows)) if windows.row[i] == row]
        covered = np.zeros(len(example["context"]), bool)
        for i in mine:
            spans = windows.spans_of(i)
            for a, b in spans[spans[:, 0] != NO_SPAN]:
                covered[a:b] = True
            start, end = windows.targets["start"][i], windows.targets["end"][i]
            if start != NO_SPAN:
                text = example["context"][spans[start, 0] : spans[end, 1]]
                assert example["answers"][0] in text
                assert len(text) <= len(example["answers"][0]) + 20  # whole tokens, no more
        assert all(character.isspace() for character, seen in zip(example["context"], covered, strict=True) if not seen)


def test_an_oracle_scores_one_and_its_opposite_nearly_nothing(questions, windows):
    task = tasks.of(data_card("squad_wiki"))
    outputs = [np.full((n, 2), -5.0, np.float32) for n in windows.lengths]
    for i, (start, end) in enumerate(zip(windows.targets["start"], windows.targets["end"], strict=True)):
        if start != NO_SPAN:
            outputs[i][start, 0] = outputs[i][end, 1] = 5.0
    table = task.predictions(questions, windows, outputs)
    reachable = np.unique(windows.row[windows.targets["start"] != NO_SPAN])
    short = [i for i in reachable if len(questions[int(i)]["answers"][0].split()) < LONGEST_ANSWER // 3]
    assert table.loc[short, "f1"].mean() > 0.95
    opposite = task.predictions(questions, windows, [-o for o in outputs])
    assert opposite["f1"].mean() < 0.3
    assert task.scores(table)["en"].value == pytest.approx(table["f1"].mean())


def test_one_window_per_row_holding_the_answer(windows):
    task = tasks.of(data_card("squad_wiki"))
    inputs = task.training_inputs(windows, np.random.default_rng(0))
    assert len(set(inputs.row)) == len(inputs)
    assert (inputs.targets["start"] != NO_SPAN).all()
    other = task.training_inputs(windows, np.random.default_rng(1))
    assert not np.array_equal(inputs.ids, other.ids)


def test_the_placebo_keeps_inputs_and_lengths_and_breaks_the_tie_to_the_answer(windows):
    task = tasks.of(data_card("squad_wiki"))
    inputs = task.training_inputs(windows, np.random.default_rng(0))
    placebo = task.shuffled(inputs, np.random.default_rng(0))
    assert np.array_equal(inputs.ids, placebo.ids)
    for i, (start, end) in enumerate(zip(placebo.targets["start"], placebo.targets["end"], strict=True)):
        spans = placebo.spans_of(i)
        assert 0 <= start <= end < len(spans)
        assert (spans[[start, end], 0] != NO_SPAN).all()
    true = inputs.targets["end"] - inputs.targets["start"]
    fake = placebo.targets["end"] - placebo.targets["start"]
    assert sorted(true) == sorted(fake)
    assert np.mean(inputs.targets["start"] == placebo.targets["start"]) < 0.1


def test_classification_placebo_permutes_labels_only(tokenizer):
    task = tasks.of(data_card("topic"))
    rows = load.splits(data_card("topic"))["train"].select(range(200))
    encoded = task.encode(rows, tokenizer, "query: ", 32)
    placebo = task.shuffled(encoded, np.random.default_rng(0))
    assert sorted(placebo.targets["label"]) == sorted(encoded.targets["label"])
    assert (placebo.targets["label"] != encoded.targets["label"]).mean() > 0.5
    assert max(encoded.lengths) <= 32


@pytest.mark.parametrize("name", ["topic", "squad_wiki"])
def test_loss_gradient_equals_finite_differences(name):
    task = tasks.of(data_card(name))
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(3, 6, 8, dtype=torch.float64, generator=generator).requires_grad_()
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2, [True] * 5 + [False]])
    head = task.head(8, generator)
    weight, bias = (p.detach().double().requires_grad_() for p in (head.weight, head.bias))
    targets = {"label": torch.tensor([1, 0, 2]), "start": torch.tensor([1, 0, 2]), "end": torch.tensor([2, 3, 4])}
    batch = Batch(torch.zeros(3, 6), mask, np.arange(3), targets)

    def loss(hidden, weight, bias):
        apply = lambda x: torch.nn.functional.linear(x.double(), weight, bias)  # noqa: E731
        return task.loss(task.outputs(apply, hidden, mask).double(), batch)

    # The families compute in float32, so the step and the tolerance are float32's.
    assert torch.autograd.gradcheck(loss, (hidden, weight, bias), eps=1e-2, atol=2e-3, rtol=2e-2, nondet_tol=0)


def test_padding_changes_no_output():
    hidden = torch.randn(1, 4, 8)
    longer = torch.cat([hidden, torch.full((1, 3, 8), 9.0)], 1)
    for name in ("topic", "udhr", "squad_wiki"):
        task = tasks.of(data_card(name))
        head = None if name == "udhr" else task.head(8, torch.Generator().manual_seed(0))
        short = task.outputs(head, hidden, torch.ones(1, 4, dtype=torch.bool))
        padded = task.outputs(head, longer, torch.arange(7)[None] < 4)
        assert torch.allclose(short, padded[:, :4] if name == "squad_wiki" else padded, atol=1e-6)


def _retrieval_rows(languages):
    rows = [(code, f"{g}", f"{g}", f"text {g}") for code in languages for g in range(5)]
    return Dataset.from_pandas(pd.DataFrame(rows, columns=["language", "item", "group", "text"]))


def test_retrieval_finds_the_english_row_of_the_group():
    task = tasks.of(data_card("udhr"))
    rows = _retrieval_rows(["de", "en", "fr"])
    vectors = np.tile(np.eye(5, dtype=np.float32), (3, 1))
    table = task.predictions(rows, None, list(vectors))
    assert set(table["language"]) == {"de", "fr"}
    assert table["correct"].all()
    assert {code: score.value for code, score in task.scores(table).items()} == {"de": 1.0, "fr": 1.0}
    vectors[:5] = vectors[:5][[1, 0, 2, 3, 4]]
    assert task.scores(task.predictions(rows, None, list(vectors)))["de"].value == pytest.approx(0.6)


def test_retrieval_without_an_english_row_is_one_line():
    task = tasks.of(data_card("udhr"))
    rows = _retrieval_rows(["de", "en"]).filter(lambda row: not (row["language"] == "en" and row["group"] == "3"))
    with pytest.raises(XlscaleError, match="group: expected an English row for '3'"):
        task.predictions(rows, None, list(np.eye(9, dtype=np.float32)))


def test_a_subsample_keeps_parallel_items_together():
    rows = load.splits(data_card("topic"))["test"]
    cut = rows.select(tasks.of(data_card("topic")).test_rows(rows, 50)).to_pandas()
    assert (cut.groupby("language").size() <= 50).all()
    whole = rows.to_pandas()
    share = lambda table: len(set(table[table.language == "da"].group) & set(table[table.language == "it"].group))  # noqa: E731
    assert share(cut) / 50 >= 0.5 * share(whole) / 300
    paragraphs = load.splits(data_card("udhr"))["test"]
    udhr = paragraphs.select(tasks.of(data_card("udhr")).test_rows(paragraphs, 10)).to_pandas()
    sizes = udhr.groupby("language").size()
    assert sizes["en"] == 50
    assert sizes["de"] == 10
