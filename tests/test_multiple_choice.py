"""Multiple choice: encoding, loss, placebo, decoding, the bundled set, and what is wrong with a broken one."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from conftest import debian_indexes, gold, recipe
from datasets import Dataset

from data_manifest.builders import summary_choice, topic
from xlscale import tasks
from xlscale.cards import catalogue
from xlscale.core import machine
from xlscale.core.files import XlscaleError, sha256_file
from xlscale.data import contamination, load, overlap
from xlscale.data import schema as bundles
from xlscale.data.batches import Batch, training_order
from xlscale.data.describe import describe
from xlscale.models import ladder
from xlscale.report import samples
from xlscale.training import evaluate, loop
from xlscale.training.backends.cpu import CPU
from xlscale.training.model import Model

CARD = catalogue.data_card("summary_choice")


@pytest.fixture(scope="module")
def task():
    return tasks.of(CARD)


@pytest.fixture(scope="module")
def tokenizer(e5):
    return ladder.tokenizer(e5)


@pytest.fixture(scope="module")
def bundled():
    return load.table(CARD).to_pandas()


@pytest.fixture(scope="module")
def rows():
    return load.splits(CARD)["train"].select(range(80))


@pytest.fixture(scope="module")
def encoded(task, rows, tokenizer):
    return task.encode(rows, tokenizer, "query: ", 96)


def uneven(sizes, answers, text="some text", choice="choice {} {}"):
    """Rows with these numbers of choices and these right ones."""
    return Dataset.from_list(
        [
            {"language": "en", "item": f"{i}", "group": f"{i}", "text": text, "answer": answer}
            | {"choices": [choice.format(i, j) for j in range(size)]}
            for i, (size, answer) in enumerate(zip(sizes, answers, strict=True))
        ]
    )


def test_every_choice_is_read_with_its_text(rows, encoded, tokenizer):
    assert encoded.row.tolist() == [i for i in range(len(rows)) for _ in range(4)]
    assert encoded.targets["choice"].tolist() == [0, 1, 2, 3] * len(rows)
    assert encoded.targets["answer"][::4].tolist() == rows["answer"]
    assert encoded.lengths.max() <= 96
    example = rows[5]
    for index, choice in enumerate(example["choices"]):
        whole = tokenizer(example["text"], choice)["input_ids"]
        found = encoded.ids_of(4 * 5 + index).tolist()
        assert found[:-1] == whole[: len(found) - 1]  # no prefix; the end is cut, if anything


def test_all_choices_of_a_row_have_the_same_room(task, tokenizer):
    long = " ".join(f"word{i}" for i in range(100))
    rows = Dataset.from_list(
        [
            {"text": long, "choices": [long, "short"], "answer": 0},
            {"text": long, "choices": ["brief", "short"], "answer": 0},
            {"text": "short", "choices": [long, "short"], "answer": 0},
        ]
    )
    encoded = task.encode(rows, tokenizer, "", 64)
    ends = [np.flatnonzero(encoded.ids_of(i) == tokenizer.sep_token_id) for i in range(len(encoded))]
    first = [int(end[0]) for end in ends]
    assert first[0] == first[1] and first[2] == first[3] and first[4] == first[5]  # where the text ends
    assert 28 <= first[0] <= 32 and encoded.lengths[0] == 64  # half of the room each
    assert first[2] > 50 and encoded.lengths[2] <= 64  # short choices leave more of it to the text
    assert first[4] < 5 and encoded.lengths[4] == 64


def test_an_oracle_scores_one_and_chance_a_quarter(task, bundled, tokenizer):
    test = load.splits(CARD)["test"]
    test = test.select(np.flatnonzero(np.array(test["language"]) == "de"))
    encoded = task.encode(test, tokenizer, "", 64)
    right = encoded.targets["choice"] == encoded.targets["answer"]
    table = task.predictions(test, encoded, list(right.astype(np.float32)))
    assert task.scores(table)["de"].value == 1 and table["correct"].all() and len(table) == 300
    assert table["prediction"].tolist() == [str(answer) for answer in test["answer"]]
    assert table["score"].to_numpy() == pytest.approx(np.e / (np.e + 3))
    assert task.scores(task.predictions(test, encoded, list(-right.astype(np.float32))))["de"].value == 0
    random = np.random.default_rng(0)
    chance = [
        task.scores(task.predictions(test, encoded, list(random.normal(size=len(encoded)))))["de"].value
        for _ in range(20)
    ]
    assert np.mean(chance) == pytest.approx(0.25, abs=0.02)
    lengths = [task.predictions(test, encoded, list(sign * encoded.lengths.astype(float))) for sign in (1, -1)]
    assert all(table["correct"].mean() < 0.35 for table in lengths)


def test_gold_is_what_the_corpus_says(task, tokenizer):
    asked = gold(CARD)
    part = load.splits(CARD)["test"].select(range(40))
    table = task.predictions(part, task.encode(part, tokenizer, "", 32), [np.float32(0)] * 160)
    assert table["gold"].tolist() == asked["gold"].head(40).tolist()


def test_loss_is_the_cross_entropy_over_each_rows_choices(task, tokenizer):
    encoded = task.encode(uneven([3, 2, 4], [2, 0, 1]), tokenizer, "", 32)
    index = np.array([5, 6, 7, 8, 0, 1, 2])  # the third row, then the first
    batch = Batch(None, None, index, {k: torch.from_numpy(v[index]) for k, v in encoded.targets.items()})
    outputs = torch.randn(7, generator=torch.Generator().manual_seed(0))
    expected = [torch.logsumexp(outputs[:4], 0) - outputs[1], torch.logsumexp(outputs[4:], 0) - outputs[6]]
    assert task.loss(outputs, batch).item() == pytest.approx(float(sum(expected) / 2))
    assert task.loss(torch.zeros(7), batch).item() == pytest.approx((np.log(4) + np.log(3)) / 2)


def test_loss_gradient_equals_finite_differences(task):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(5, 6, 8, dtype=torch.float64, generator=generator).requires_grad_()
    mask = torch.arange(6) < torch.tensor([[6], [4], [5], [6], [3]])
    head = task.head(8, generator)
    weight, bias = (p.detach().double().requires_grad_() for p in (head.weight, head.bias))
    targets = {"choice": torch.tensor([0, 1, 2, 0, 1]), "answer": torch.tensor([1, 1, 1, 0, 0])}
    batch = Batch(torch.zeros(5, 6), mask, np.arange(5), targets)

    def loss(hidden, weight, bias):
        apply = lambda x: torch.nn.functional.linear(x.double(), weight, bias)  # noqa: E731
        return task.loss(task.outputs(apply, hidden, mask).double(), batch)

    # Pooling and logits are float32, so the step and the tolerance are float32's.
    assert torch.autograd.gradcheck(loss, (hidden, weight, bias), eps=1e-2, atol=2e-3, rtol=2e-2, nondet_tol=0)


def test_padding_changes_no_logit(task):
    hidden = torch.randn(2, 4, 8)
    longer = torch.cat([hidden, torch.full((2, 3, 8), 9.0)], 1)
    head = task.head(8, torch.Generator().manual_seed(0))
    short = task.outputs(head, hidden, torch.ones(2, 4, dtype=torch.bool))
    assert short.shape == (2,) and short.dtype == torch.float32
    assert torch.allclose(short, task.outputs(head, longer, (torch.arange(7) < 4).expand(2, 7)), atol=1e-6)


def test_the_placebo_permutes_the_places_of_right_choices(task, encoded):
    placebo = task.shuffled(encoded, np.random.default_rng(0))
    assert np.array_equal(encoded.ids, placebo.ids) and np.array_equal(
        encoded.targets["choice"], placebo.targets["choice"]
    )
    true, fake = (e.targets["answer"].reshape(-1, 4) for e in (encoded, placebo))
    assert (fake == fake[:, :1]).all()  # one answer per row
    assert sorted(true[:, 0]) == sorted(fake[:, 0])
    assert 0.1 < (true == fake).mean() < 0.4  # chance is 0.25


def test_the_placebo_of_uneven_rows_names_choices_that_they_have(task, tokenizer):
    encoded = task.encode(uneven([2, 4, 3] * 20, [1, 3, 2] * 20), tokenizer, "", 32)
    answers = task.shuffled(encoded, np.random.default_rng(0)).targets["answer"]
    assert (answers < np.repeat([2, 4, 3] * 20, [2, 4, 3] * 20)).all()


def test_rows_stay_together_from_sampling_to_the_batch(task, encoded):
    chosen = encoded.of_rows(np.array([7, 3, 50, 11]))
    inputs = task.training_inputs(chosen, np.random.default_rng(0))
    for index in training_order(inputs.lengths, 2, np.random.default_rng(0), row=inputs.row):
        assert inputs.targets["choice"][index].tolist() == [0, 1, 2, 3] * 2
        assert len(set(inputs.row[index])) == 2


def test_training_and_evaluation_with_an_encoder(task, rows, tokenizer, e5):
    rows = rows.select(range(12))
    encoded = task.encode(rows, tokenizer, "", 32)
    torch.set_num_threads(machine.THREADS)
    encoder = ladder.load(e5, 1)
    head = task.head(encoder.config.hidden_size, torch.Generator().manual_seed(0))
    model = Model(encoder, CPU("float32"), task, head)
    log = loop.finetune(model, encoded, recipe(epochs=20, learning_rate=3e-3, batch_size=6), np.random.default_rng(0))
    assert len(log.losses) == 40
    assert log.tokens == 20 * encoded.lengths.sum()
    assert log.losses[0] == pytest.approx(np.log(4), abs=0.2)
    outputs = evaluate.run(model, encoded)
    assert np.shape(outputs) == (48,)
    assert task.predictions(rows, encoded, outputs)["correct"].mean() > 0.7  # so few can be learned by heart


def test_every_text_is_right_once_and_wrong_three_times(bundled):
    for _, part in bundled.groupby(["split", "language"]):
        right = [choices[answer] for choices, answer in zip(part["choices"], part["answer"], strict=True)]
        shown = pd.Series([choice for choices in part["choices"] for choice in choices])
        assert len(set(right)) == len(right) and set(shown) == set(right)
        assert (shown.value_counts() == 4).all()
        assert all(len(set(choices)) == 4 for choices in part["choices"])
        assert part["answer"].value_counts().max() - part["answer"].value_counts().min() <= 1


def test_tested_packages_are_trained_on_in_neither_set(bundled):
    tested = summary_choice.tested_sources()
    of_topic = load.table(catalogue.data_card("topic")).to_pandas()
    for rows in (bundled, of_topic):
        assert set(rows.loc[rows["split"] == "test", "group"]) <= tested
        assert not tested & set(rows.loc[rows["split"] != "test", "group"])


def test_matching_strings_solves_less_than_it_might(bundled):
    facts = describe(CARD).set_index(["split", "language"])
    assert facts[["word_overlap", "character_overlap"]].max().max() < 0.65
    assert facts["majority_share"].max() < 0.27
    assert facts["same_as_english"].max() == 0


def test_overlap_is_counted():
    rows = pd.DataFrame(
        {
            "text": ["red apple", "green pear", "blue"],
            "choices": [["a red apple", "a pear"], ["a red apple", "a green pear"], ["x y", "z w"]],
            "answer": [0, 0, 1],
        }
    )
    assert overlap.accuracy(rows) == {"word_overlap": 0.5, "character_overlap": 0.5}  # right, wrong, undecided
    assert overlap.own_share([frozenset("ab"), frozenset("ab")], [frozenset("ab"), frozenset("c")]).tolist() == [1, 0]
    assert overlap.shared([frozenset("ab")], [frozenset("ac"), frozenset("d")], weigh=False).toarray().tolist() == [
        [1, 0]
    ]
    assert overlap.words("古代戦争") == {"古", "代", "戦", "争"}


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("One sentence. And another one.", "And another one."),
        ('It says "hello." Then it goes on.', "Then it goes on."),
        ("Formats (e.g. PNG) are read, z. B. Bilder. Mehr nicht.", "Mehr nicht."),
        ("Reads version 1.2. files of all kinds", ""),
        ("最初の文です。次の文です。", "次の文です。"),
        ("No end at all", ""),
    ],
)
def test_what_follows_the_first_sentence(text, rest):
    assert summary_choice.after_first_sentence(text) == rest


def test_the_packages_own_name_is_masked():
    pair = summary_choice._pair(["gimp", "gimp-data"], "GIMPの data", "First sentence. GIMP-data and gimp2 of gimp.")
    assert pair == ("…の data", "… and gimp2 of ….")


@pytest.fixture
def index(tmp_path, monkeypatch):
    """Debian indexes with 60 source packages in two sections, 24 of them translated into German."""
    monkeypatch.setattr(summary_choice, "INDEX", {"de": "de"})
    monkeypatch.setattr(summary_choice, "ROWS", {"train": 16, "dev": 12, "test": 16})
    monkeypatch.setattr(summary_choice, "FEWEST", 4)
    stanzas = {"Packages": [], "Translation-en": [], "Translation-de": []}
    for i in range(60):
        md5 = f"Description-md5: md5 of {i}"
        english, german = (
            f"{first} {i}a{i} and {i}b{i} things\n {first} it does. "
            + " ".join(f"{word}{i}x{j}" for j in range(20)).capitalize()
            for first, word in (("program for", "word"), ("Programm für", "wort"))
        )
        stanzas["Packages"].append(f"Package: p{i}\nSource: s{i} (1.0)\nSection: {('games', 'mail')[i % 2]}\n{md5}")
        stanzas["Translation-en"].append(f"Package: p{i}\n{md5}\nDescription-en: {english}")
        if i < 24:
            stanzas["Translation-de"].append(f"Package: p{i}\n{md5}\nDescription-de: {german}")
    return debian_indexes(tmp_path, stanzas)


def test_build_splits_by_source_and_keeps_to_a_section(index):
    rows = summary_choice.build(CARD, index)
    counts = bundles.counts(bundles.table("multiple_choice", rows))
    assert counts == {"train": {"en": 16}, "dev": {"en": 12}, "test": {"de": 16, "en": 16}}
    groups = {split: {row["group"] for row in rows if row["split"] == split} for split in ("train", "dev", "test")}
    assert not groups["test"] & (groups["train"] | groups["dev"]) and not groups["train"] & groups["dev"]
    for row in rows:
        numbers = {int(choice.split("x")[0].lower().removeprefix("word").removeprefix("wort")) % 2
                   for choice in row["choices"]}  # fmt: skip
        assert numbers == {int(row["group"][1:]) % 2}  # of one section
        assert (
            row["choices"][row["answer"]]
            .lower()
            .startswith(("word" if row["language"] == "en" else "wort") + row["group"][1:] + "x")
        )
    assert summary_choice.build(CARD, index) == rows


def test_build_says_what_it_lacks(index, monkeypatch):
    monkeypatch.setattr(summary_choice, "ROWS", {"train": 100, "dev": 12, "test": 16})
    with pytest.raises(XlscaleError, match="summary_choice: train: expected 100 rows, got"):
        summary_choice.build(CARD, index)


def test_builders_agree_on_languages():
    assert set(CARD.languages) == set(topic.INDEX)


@pytest.fixture
def copy(tmp_path, bundled):
    """A function that sets fields of one training (and one test) row of a small copy and returns the copy's card."""
    part = pd.concat([bundled[bundled["split"] == "train"].head(20), bundled[bundled["split"] == "test"].iloc[::50]])

    def change(tested=None, **values):
        rows = part.reset_index(drop=True)
        for row, changes in ((7, values), (25, tested or {})):
            for column, value in changes.items():
                rows.at[row, column] = value
        table = pa.Table.from_pandas(rows, schema=bundles.read(CARD.path).schema, preserve_index=False)
        path = tmp_path / "copy.parquet"
        bundles.write(table, path)
        counts = bundles.counts(table)
        update = {"file": str(path), "sha256": sha256_file(path), "splits": counts}
        return CARD.model_copy(update=update | {"languages": sorted(set(counts["test"]) - {"en"})})

    change.trained = part.iloc[7]
    change.test = part[(part["split"] == "test") & (part["language"] != "en")].iloc[2]
    return change


def with_wrong(copy, text):
    """The choices of the changed row, one of the wrong ones replaced."""
    choices = list(copy.trained["choices"])
    choices[copy.trained["answer"] - 1] = text
    return choices


def test_a_leak_in_a_wrong_choice_is_found(copy):
    (clean,) = contamination.find([copy()]).to_dict("records")
    assert not clean["leak"]
    tested = copy.test["choices"][copy.test["answer"] - 1]
    (proof,) = contamination.find([copy(choices=with_wrong(copy, tested.upper()))]).to_dict("records")
    assert proof["leak"] and proof["shared_texts"] == 1 and proof["max_similarity"] == 1
    (quoted,) = contamination.find([copy(choices=with_wrong(copy, f"It says: {tested} Or so."))]).to_dict("records")
    assert quoted["leak"] and quoted["shared_texts"] == 0 and quoted["nearest"] == copy.trained["item"]


def test_the_english_of_a_tested_right_choice_is_found(copy):
    (proof,) = contamination.find([copy(choices=with_wrong(copy, copy.test["original"].partition("\n")[2]))]).to_dict(
        "records"
    )
    assert proof["leak"]


def test_a_short_choice_is_no_leak_unless_it_is_a_tested_text(copy):
    happy = with_wrong(copy, "Everyone was happy")
    changed = copy(tested={"choices": [*copy.test["choices"], "EVERYONE was happy!"]}, choices=happy)
    (proof,) = contamination.find([changed]).to_dict("records")
    assert not proof["leak"] and proof["shared_choices"] == 1
    (proof,) = contamination.find([copy(choices=with_wrong(copy, copy.test["text"]))]).to_dict("records")
    assert proof["leak"] and proof["shared_texts"] == 1


@pytest.mark.parametrize("answer", [4, -1])
def test_an_answer_that_is_no_choice(copy, answer):
    with pytest.raises(XlscaleError, match=rf"copy\.parquet: answer: item .*: expected 0 to 3, .*, got {answer}$"):
        load.splits(copy(answer=answer))


def test_choices_that_are_none(copy):
    with pytest.raises(
        XlscaleError, match=r"copy\.parquet: choices: item .*: expected two texts or more, got \['a'\]$"
    ):
        load.splits(copy(choices=["a"], answer=0))


def test_what_the_notebook_shows(copy):
    html = samples.samples(copy(), 1).data
    assert html.count("<mark>") == html.count("<ol>") > 3 and html.count("<li ") == 4 * html.count("<ol>")
