"""Targeted lexical injection as a cell: the control, the placebo, what is measured, and what targets go on from."""

import numpy as np
import pytest
from datasets import Dataset

from xlscale import tasks
from xlscale.cards.catalogue import data_card
from xlscale.core.files import XlscaleError
from xlscale.data.batches import collate
from xlscale.engine import phase, runner
from xlscale.experiment import cells
from xlscale.metrics import lexicon
from xlscale.metrics.predictions import by_language
from xlscale.models import ladder
from xlscale.record.recompute import Check
from xlscale.training.backends.cpu import CPU
from xlscale.training.model import Model
from xlscale.training.objectives import lexical

LEXICAL = {
    "model": "e5_small", "layers": 2, "intermediate": "lexicon", "placebo": False, "precision": "float32", "seed": 5,
    "intermediate_objective": "lexical", "intermediate_word_layer": 1, "intermediate_method": "lora",
    "intermediate_examples": 96, "intermediate_epochs": 6, "intermediate_learning_rate": 2e-2,
    "intermediate_batch_size": 16, "intermediate_max_length": 16, "intermediate_test_items": 6,
}  # fmt: skip


@pytest.fixture(scope="module")
def task():
    return tasks.of(data_card("lexicon"))


@pytest.fixture(scope="module")
def control(task):
    return task.rows()["dev"]


def _words(**languages: list[tuple[str, str]]) -> Dataset:
    """Rows of a lexicon: language -> its pairs, English name first."""
    rows = [(code, *pair) for code, pairs in languages.items() for pair in pairs]
    return Dataset.from_list(
        [
            {"language": code, "item": name, "group": name, "source": name, "text": text, "split": "train"}
            for code, name, text in rows
        ]
    )


def test_a_word_is_right_where_no_english_name_of_its_language_is_nearer(task, control):
    """Against a plain search, pair by pair, in vectors at random."""
    rows = control.select(task.test_rows(control, 4))
    generator = np.random.default_rng(1)
    outputs = [vector / np.linalg.norm(vector) for vector in generator.normal(size=(2 * len(rows), 3))]
    table = task.predictions(rows, None, [vector.astype(np.float32) for vector in outputs])
    right = []
    for i, one in enumerate(rows):
        among = {
            other["source"]: outputs[2 * j] for j, other in enumerate(rows) if other["language"] == one["language"]
        }
        assert len(among) == 4
        nearest = max(among, key=lambda name: among[name] @ outputs[2 * i + 1])
        assert table["prediction"][i] == nearest and table["gold"][i] == one["source"]
        assert table["score"][i] == pytest.approx(outputs[2 * i] @ outputs[2 * i + 1], abs=1e-6)
        right.append(nearest == one["source"])
    assert table["correct"].tolist() == right and 0 < sum(right) < len(right)
    scores = task.scores(table)
    assert {code: score.value for code, score in scores.items()} == by_language("p_at_1", table)
    assert scores["sw"].others == {"cosine": pytest.approx(table.loc[table["language"] == "sw", "score"].mean())}
    chance = (1 / control.to_pandas().groupby("language").size()).mean()
    assert task.card.chance == pytest.approx(chance, abs=0.003)


def test_the_placebo_pairs_the_words_of_a_language_with_its_own_english_names_at_random(task, e5):
    rows = _words(
        sw=[(f"name {i}", f"neno {i}") for i in range(40)], de=[(f"name {i}", f"Wort {i}") for i in range(30, 60)]
    )
    encoded = task.encode(rows, ladder.tokenizer(e5), e5.prefix, 16)
    dealt = task.shuffled(encoded, np.random.default_rng(3))
    assert dealt.row.tolist() == encoded.row.tolist()
    moved = 0
    for i in range(len(rows)):
        assert dealt.ids_of(2 * i + 1).tolist() == encoded.ids_of(2 * i + 1).tolist()  # a word stays where it is
        name = dealt.targets["name"][2 * i]
        (own,) = (j for j in range(len(rows)) if encoded.targets["name"][2 * j] == name and
                  encoded.targets["language"][2 * j] == encoded.targets["language"][2 * i])  # fmt: skip
        assert dealt.ids_of(2 * i).tolist() == encoded.ids_of(2 * own).tolist()  # a name goes with its number
        assert all(dealt.targets[part][2 * i] == encoded.targets[part][2 * own] for part in ("start", "stop"))
        moved += own != i
    assert moved > 60
    for language in (0, 1):
        of = np.flatnonzero(encoded.targets["language"][::2] == language) * 2
        assert sorted(dealt.targets["name"][of]) == sorted(encoded.targets["name"][of])
        assert (dealt.targets["language"][of] == language).all()
    # The loss knows the name that a word is dealt: it is no negative of its own pair.
    names = collate(dealt, np.arange(8), 0).targets["name"][::2]
    assert len({*names.tolist()}) == 4


def _numbers(encoder, encoded, layer: int) -> list[np.ndarray]:
    return lexical.word_vectors(Model(encoder, CPU("float32")), encoded, layer)


def test_what_is_measured_is_a_cosine_that_of_another_pair_and_whether_a_name_is_nearest(task, e5):
    rows = _words(sw=[("dog", "mbwa"), ("cat", "paka"), ("sun", "jua")], de=[("dog", "Hund"), ("tree", "Baum")])
    encoded = task.encode(rows, ladder.tokenizer(e5), e5.prefix, 16)
    (all_tokens, words), languages = _numbers(ladder.load(e5, 2), encoded, 2), [[0, 1, 2], [3, 4]]
    for vectors in (all_tokens, words):
        found = lexicon.compare(vectors, encoded.targets["language"][::2])
        assert tuple(found) == lexicon.MEASURES
        for pairs in languages:
            for place, pair in enumerate(pairs):
                word, before = vectors[2 * pair + 1], pairs[place - 1]
                assert found["cosine"][pair] == pytest.approx(word @ vectors[2 * pair], abs=1e-6)
                assert found["unrelated"][pair] == pytest.approx(word @ vectors[2 * before], abs=1e-6)
                nearer = [word @ vectors[2 * other] > word @ vectors[2 * pair] for other in pairs]
                assert found["p_at_1"][pair] == (not any(nearer))
    assert all_tokens[0] @ all_tokens[1] > words[0] @ words[1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A cell of targeted lexical injection that has run: the open cell, its encoder, log and result."""
    folder = tmp_path_factory.mktemp("lexical")
    run = phase.OpenCell(cells.make("intermediate", LEXICAL), folder)
    encoder = run.starting_point()
    head, log = run.train(encoder)
    return run, encoder, log, run.finish(encoder, *run.evaluate(encoder, head, "dev"), log)


def test_a_cell_brings_pairs_together_and_is_judged_on_names_it_never_saw(trained, control):
    run, encoder, log, result = trained
    assert np.mean(log.losses[-6:]) < 0.6 * np.mean(log.losses[:6])
    assert result.trainable_parameters == sum(p.numel() for p in ladder.adapters(encoder).values())
    assert result.value == np.mean([score.value for score in result.languages.values()]) and result.english is None
    assert len(result.languages) == 48 and {score.items for score in result.languages.values()} == {6}
    held = {name.casefold() for name in control["source"]}
    assert held.isdisjoint(name.casefold() for name in run.rows["train"]["source"])
    predictions = phase.pd.read_parquet(run.folder / "predictions.parquet")
    assert {name.casefold() for name in [*predictions["gold"], *predictions["prediction"]]} <= held
    Check()(result, run.data, run.folder / "predictions.parquet")  # all follows that can


def test_what_a_result_says_of_words_is_before_and_after_by_layer_and_pooling(trained, task, e5):
    run, encoder, _, result = trained
    rows = run.rows["dev"].select(task.test_rows(run.rows["dev"], 6))
    encoded = task.encode(rows, ladder.tokenizer(e5), e5.prefix, 16)
    swahili = np.array(rows["language"]) == "sw"
    said = result.languages["sw"].others
    assert said.keys() == {"cosine", *lexicon.NAMES} and len(lexicon.NAMES) == 24
    for when, one in (("before", ladder.load(e5, 2)), ("after", encoder)):
        for layer, number in (("trained", 1), ("last", 2)):
            for pooling, vectors in zip(("all", "words"), _numbers(one, encoded, number), strict=True):
                cosine = (vectors[::2] * vectors[1::2]).sum(1)[swahili].mean()
                assert said[lexicon.measure("cosine", layer, pooling, when)] == pytest.approx(cosine, abs=1e-4)
    # What the task itself scores is the last layer, pooled as for retrieval.
    assert said["p_at_1_last_all_after"] == pytest.approx(result.languages["sw"].value, abs=1e-4)
    assert said["cosine_last_all_after"] == pytest.approx(said["cosine"], abs=1e-4)


def _apart(languages: dict, when: str) -> tuple[float, float]:
    """Mean cosine of pairs, and by how much that of unrelated words is less, in the trained layer."""
    cosine, unrelated = (
        np.mean([score.others[lexicon.measure(what, "trained", "all", when)] for score in languages.values()])
        for what in ("cosine", "unrelated")
    )
    return cosine, cosine - unrelated


def test_the_placebo_raises_the_cosine_of_pairs_more_than_true_pairs_do_and_tells_no_words_apart(trained, tmp_path):
    """Shuffled pairs make all words alike, so a cosine alone says nothing. Judged on names that neither saw."""
    _, _, log, result = trained
    run = phase.OpenCell(cells.make("intermediate", LEXICAL | {"placebo": True}), tmp_path)
    encoder = run.starting_point()
    head, other = run.train(encoder)
    _, scores = run.evaluate(encoder, head, "dev")
    assert other.tokens == log.tokens and np.mean(other.losses[-6:]) == pytest.approx(0.4, abs=0.02)  # the margin
    (before, apart), (after, true) = (_apart(result.languages, when) for when in ("before", "after"))
    assert true > apart + 0.03
    placebo, rest = _apart(scores, "after")
    assert placebo > before + 0.2 and placebo > after and rest < 0.02


def test_targets_go_on_from_the_adapters_and_untrained_ones_are_read_with_them(trained, target_values, monkeypatch):
    parent = trained[0]
    monkeypatch.setattr(runner, "ensure", lambda _: parent.folder)
    third = target_values | LEXICAL | {"method": "lora", "max_length": 48, "test_items": 3}
    cosine = {}
    for name, values in {"none": {"intermediate": "none"}, "lexicon": {}}.items():
        cell = cells.make("target", third | {"target": "udhr"} | values)
        run = phase.OpenCell(cell, parent.folder)
        encoder = run.starting_point()
        assert run.train(encoder) == (None, None)
        cosine[name] = run.evaluate(encoder)[0]["score"]
        assert (cell.parent == parent.cell) == (name == "lexicon") == bool(ladder.adapters(encoder))
    assert not np.allclose(cosine["none"], cosine["lexicon"], atol=1e-3)
    run = phase.OpenCell(cells.make("target", third | {"examples": 16, "epochs": 1}), parent.folder)
    assert run.cell.parent == parent.cell and run.cell.parameters.method == "lora"
    assert np.isfinite(run.train(run.starting_point())[1].losses).all()


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (
            {"intermediate_objective": "supervised", "intermediate_word_layer": 2},
            "intermediate_objective: expected lexical for lexicon, got 'supervised'",
        ),
        ({"intermediate_word_layer": 3}, "intermediate_word_layer: expected at most 2, the layers of this rung, got 3"),
        (
            {"intermediate": "synonyms"},
            "intermediate: expected a lexicon with metric and chance, 'synonyms' has",
        ),
        (
            {"intermediate": "unlabelled"},
            "intermediate_objective: expected one for unlabelled of family text, got 'lexical', which takes lexicon",
        ),
        ({"intermediate": "vitaminc"}, "intermediate_objective: expected one for vitaminc of family classification, "),
        ({"intermediate_examples": 60_000}, "intermediate_examples: expected at most 52075, the training rows of lexi"),
    ],
)
def test_what_cannot_be_injected_is_one_line(values, line):
    with pytest.raises(XlscaleError, match=f"^parameters: {line}") as error:
        cells.make("intermediate", LEXICAL | values)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_a_lexicon_is_no_target(target_values):
    with pytest.raises(XlscaleError, match="target: expected a card with role: target, 'lexicon' has role: lexicon"):
        cells.make("target", target_values | {"target": "lexicon", "objective": "lexical"})


def test_a_cell_follows_from_the_file_of_the_lexicon_and_from_every_choice():
    cell = cells.make("intermediate", LEXICAL)
    assert dict(cell.reads) == {"lexicon": data_card("lexicon").sha256}
    changes = [{"intermediate_word_layer": 2}, {"intermediate_pooling": "words"}, {"intermediate_margin": 0.2}]
    changes += [{"placebo": True}, {"intermediate_method": "full"}]
    assert len({cell.id, *(cells.make("intermediate", LEXICAL | change).id for change in changes)}) == 6
    assert any(module == "xlscale.tasks.lexicon" for module in cells.parts("intermediate", LEXICAL))
