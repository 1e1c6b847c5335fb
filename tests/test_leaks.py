"""No bundled training text holds anything of a test split; and a leak, if there were one, would be found."""

import pandas as pd
import pyarrow as pa
import pytest

from xlscale.cards import catalogue
from xlscale.core import cache
from xlscale.core.files import sha256_file
from xlscale.data import contamination, load, similarity
from xlscale.data import schema as bundles

WORDS = [f"word{i}" for i in range(12)]


@pytest.mark.again
def test_no_bundled_set_leaks():
    known = [card for card in map(catalogue.data_card, catalogue.names("data")) if card.bundled or card.path.exists()]
    proofs = contamination.proof(known)  # which notebook 00_data shows
    assert not proofs["leak"].any(), "\n".join(contamination.lines(proofs))
    # Every split of every card that must be compared is there, whatever the card's role.
    parts = {f"{card.name}/{split}": split for card in known for split in card.splits}
    sides = {("train", "dev"), ("train", "test"), ("dev", "test")}
    expected = {(seen, unseen) for seen in parts for unseen in parts if (parts[seen], parts[unseen]) in sides}
    assert set(zip(proofs["seen"], proofs["unseen"], strict=True)) == expected and len(proofs) == len(expected)
    assert {card.role for card in known if "train" in card.splits} == {
        "target",
        "intermediate",
        "unlabelled",
        "lexicon",
    }
    short = contamination.summary(proofs)
    assert set(short["unseen"]) == {name for name, split in parts.items() if split != "train"}
    assert short["seen_splits"].sum() == len(proofs) and (short["shared"] == 0).all() and (short["leaks"] == 0).all()
    assert short["max_similarity"].max() == proofs["max_similarity"].max() < similarity.NEAR


@pytest.fixture
def planted(tmp_path):
    """A function that changes one training row of a copy of the topic set and returns the copy's card."""
    card = catalogue.data_card("topic")
    rows = load.table(card).to_pandas()
    # A smaller copy is as good, and faster.
    rows = pd.concat([rows[rows["split"] == "train"].head(50), rows[rows["split"] == "test"].iloc[::20]])

    def plant(**changes):
        copy = rows.reset_index(drop=True)
        for column, value in changes.items():
            copy.at[7, column] = value
        table = pa.Table.from_pandas(copy, schema=bundles.read(card.path).schema, preserve_index=False)
        path = tmp_path / "copy.parquet"
        bundles.write(table, path)
        counts = bundles.counts(table)
        return card.model_copy(
            update={
                "file": str(path),
                "sha256": sha256_file(path),
                "splits": counts,
                "languages": sorted(set(counts["test"]) - {"en"}),
            }
        )

    plant.test = rows[rows["split"] == "test"].iloc[3]
    return plant


def found(card):
    (proof,) = contamination.find([card]).to_dict("records")
    return proof


def test_the_copy_is_clean(planted):
    assert planted.test["language"] != "en"
    assert not found(planted())["leak"]


def test_what_is_kept_is_what_was_found(planted, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "CACHE", tmp_path / "cache")
    for changes in ({}, {"text": planted.test["text"]}):  # another file is another proof
        card = planted(**changes)
        first = contamination.proof([card])
        pd.testing.assert_frame_equal(first, contamination.find([card]))
        pd.testing.assert_frame_equal(first, contamination.proof([card]))


def test_same_text_is_found(planted):
    proof = found(planted(text=planted.test["text"].upper() + " !"))
    assert proof["leak"] and proof["shared_texts"] == 1 and proof["max_similarity"] == 1


def test_english_original_of_a_translated_test_item_is_found(planted):
    assert found(planted(text=planted.test["original"]))["shared_texts"] == 1


def test_near_duplicate_is_found(planted):
    words = planted.test["original"].split()
    proof = found(planted(text=" ".join(["Changed", "words", *words[2:-2], "and", "more"])))
    assert proof["leak"] and proof["shared_texts"] == 0 and proof["max_similarity"] > similarity.NEAR


def test_quotation_inside_a_long_text_is_found(planted):
    long = " ".join(f"word{i}" for i in range(2000))
    assert found(planted(text=f"{long} {planted.test['original']} {long}"))["leak"]


@pytest.mark.parametrize("column", ["group", "item"])
def test_same_group_or_item_is_found(planted, column):
    proof = found(planted(**{column: planted.test[column]}))
    assert proof["leak"] and proof[f"shared_{column}s"] == 1


def test_leak_across_data_sets_is_found(planted):
    udhr = catalogue.data_card("udhr")
    article = load.table(udhr).to_pandas().query("language == 'sw'")["text"].iloc[0]
    proofs = contamination.find([planted(text=article), udhr])
    assert proofs.loc[proofs["leak"], "unseen"].tolist() == ["udhr/test"]


@pytest.fixture
def question_set(tmp_path):
    """A function that sets fields of one dev row of a small copy of a question set and returns the copy's card."""
    card = catalogue.data_card("squad_wiki")
    rows = load.table(card).to_pandas()
    rows = pd.concat([rows[rows["split"] == "train"].head(20), rows[rows["split"] == "dev"].head(20)])

    def change(**values):
        copy = rows.reset_index(drop=True)
        for column, value in values.items():
            copy.at[39, column] = value
        table = pa.Table.from_pandas(copy, schema=bundles.read(card.path).schema, preserve_index=False)
        path = tmp_path / "questions.parquet"
        bundles.write(table, path)
        return card.model_copy(update={"file": str(path), "sha256": sha256_file(path), "splits": bundles.counts(table)})

    change.trained = rows.iloc[0]
    return change


def test_a_shared_question_is_counted_and_is_no_leak_without_its_context(question_set):
    assert found(question_set())["shared_questions"] == 0
    proof = found(question_set(question=question_set.trained["question"].upper()))
    assert proof["shared_questions"] == 1 and not proof["leak"]
    whole = {name: question_set.trained[name] for name in ("context", "question", "answers", "answer_starts")}
    assert found(question_set(**whole))["leak"]


def test_a_question_that_is_a_tested_text_is_a_leak(planted, question_set):
    proofs = contamination.find([planted(), question_set(question=planted.test["text"])])
    assert proofs.loc[proofs["leak"], "seen"].tolist() == ["squad_wiki/dev"]
    assert proofs.loc[proofs["leak"], "shared_texts"].tolist() == [1]


def test_training_on_what_another_set_is_tuned_on_is_found(planted, question_set):
    proofs = contamination.find([planted(text=_dev_context(question_set)), question_set()])
    assert proofs.loc[proofs["leak"], ["seen", "unseen"]].values.tolist() == [["topic/train", "squad_wiki/dev"]]


def _dev_context(question_set):
    return load.table(question_set()).to_pandas()["context"].iloc[-1]


def test_a_leak_is_told_in_one_line(planted):
    proofs = contamination.find([planted(text=planted.test["text"])])
    (line,) = contamination.lines(proofs)
    assert line.startswith("topic/train leaks into topic/test: 1 shared texts, similarity 1.00 at ")
    (short,) = contamination.summary(proofs).to_dict("records")
    assert short["unseen"] == "topic/test" and short["seen"] == "topic/train" and short["leaks"] == 1
    assert short["seen_texts"] == 50 and short["shared"] == 1 and short["max_similarity"] == 1


def test_pages_are_compared(small_set):
    one = small_set("one", "train", ["guide/page#p1"])
    assert not contamination.find([one, small_set("two", "test", ["guide/other#p1"])])["leak"].any()
    (proof,) = contamination.find([one, small_set("two", "test", ["guide/page#p2"])]).to_dict("records")
    assert proof["shared_pages"] == 1 and proof["shared_items"] == 0 and proof["leak"]


def test_both_words_of_a_pair_are_compared(small_set):
    pair = small_set("one", "train", ["a"], family="lexicon", role="lexicon", source="The Grinning Face", text="uso")
    (proof,) = contamination.find([pair, small_set("two", "test", ["b"], text="the grinning face!")]).to_dict("records")
    assert proof["leak"] and proof["shared_texts"] == 1


@pytest.fixture
def small_set(tmp_path):
    """A function that writes a small set and returns its card."""

    def make(name, split, items, family="retrieval", role="target", **columns):
        rows = [
            {"split": split, "language": "en", "item": item, "group": f"{name} {item}", "text": f"{name} {item}"}
            | columns
            for item in items
        ]
        table = bundles.table(family, rows)
        path = tmp_path / f"{name}.parquet"
        bundles.write(table, path)
        fields = {"name": name, "family": family, "role": role, "file": str(path), "sha256": sha256_file(path)}
        fields |= {"languages": [], "splits": bundles.counts(table)}
        return catalogue.data_card("udhr").model_copy(update=fields)

    return make


def test_a_set_that_trains_nothing_has_no_pairs():
    proofs = contamination.find([catalogue.data_card("udhr")])
    assert proofs.empty and not proofs["leak"].any()


def test_containment_is_counted_exactly():
    text = " ".join(WORDS)  # 9 shingles
    half = " ".join([*WORDS[:6], "a", "b", "c"])  # 6 shingles, 3 of them shared
    values = similarity.containment([text, "nothing of it at all"], [half, text]).toarray()
    assert values.tolist() == [[0.5, 1.0], [0.0, 0.0]]
    assert similarity.nearest([text], []).tolist() == [0]


def test_scripts_without_spaces_have_shingles():
    assert len(similarity.shingles("古代戦争のリアルタイム戦略ゲーム")) > 5
    assert len(similarity.shingles("มนุษย์ทั้งหลายเกิดมามีอิสระ")) > 5
    assert similarity.normal("Ｆｕｌｌ WIDTH,\n text") == "full width text"
