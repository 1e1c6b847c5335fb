"""No bundled training text holds anything of a test split; and a leak, if there were one, would be found."""

import pandas as pd
import pyarrow as pa
import pytest

from xlscale import cards
from xlscale.data import bundles, corpora, leaks, similarity
from xlscale.files import sha256_file

WORDS = [f"word{i}" for i in range(12)]


def test_no_bundled_set_leaks():
    proofs = leaks.find([cards.data_card(name) for name in cards.names("data")])
    assert not proofs["leak"].any(), proofs[proofs["leak"]].to_string()
    trained = ("squad_amazon", "squad_wiki", "topic")
    expected = {(f"{a}/train", f"{b}/dev") for a in trained for b in trained}
    expected |= {(f"{a}/{s}", f"{b}/test") for a in trained for s in ("train", "dev") for b in ("topic", "udhr")}
    assert set(zip(proofs["seen"], proofs["unseen"], strict=True)) == expected and len(proofs) == len(expected)


@pytest.fixture
def planted(tmp_path):
    """A function that changes one training row of a copy of the topic set and returns the copy's card."""
    card = cards.data_card("topic")
    rows = corpora.table(card).to_pandas()
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
    (proof,) = leaks.find([card]).to_dict("records")
    return proof


def test_the_copy_is_clean(planted):
    assert planted.test["language"] != "en"
    assert not found(planted())["leak"]


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
    udhr = cards.data_card("udhr")
    article = corpora.table(udhr).to_pandas().query("language == 'sw'")["text"].iloc[0]
    proofs = leaks.find([planted(text=article), udhr])
    assert proofs.loc[proofs["leak"], "unseen"].tolist() == ["udhr/test"]


@pytest.fixture
def asked(tmp_path):
    """A function that sets fields of one dev row of a small copy of a question set and returns the copy's card."""
    card = cards.data_card("squad_wiki")
    rows = corpora.table(card).to_pandas()
    rows = pd.concat([rows[rows["split"] == "train"].head(20), rows[rows["split"] == "dev"].head(20)])

    def change(**values):
        copy = rows.reset_index(drop=True)
        for column, value in values.items():
            copy.at[39, column] = value
        table = pa.Table.from_pandas(copy, schema=bundles.read(card.path).schema, preserve_index=False)
        path = tmp_path / "asked.parquet"
        bundles.write(table, path)
        return card.model_copy(update={"file": str(path), "sha256": sha256_file(path), "splits": bundles.counts(table)})

    change.trained = rows.iloc[0]
    return change


def test_a_shared_question_is_counted_and_is_no_leak_without_its_context(asked):
    assert found(asked())["shared_questions"] == 0
    proof = found(asked(question=asked.trained["question"].upper()))
    assert proof["shared_questions"] == 1 and not proof["leak"]
    assert found(asked(context=asked.trained["context"], question=asked.trained["question"]))["leak"]


def test_a_question_that_is_a_tested_text_is_a_leak(planted, asked):
    proofs = leaks.find([planted(), asked(question=planted.test["text"])])
    assert proofs.loc[proofs["leak"], "seen"].tolist() == ["squad_wiki/dev"]
    assert proofs.loc[proofs["leak"], "shared_texts"].tolist() == [1]


def test_training_on_what_another_set_is_tuned_on_is_found(planted, asked):
    proofs = leaks.find([planted(text=_dev_context(asked)), asked()])
    assert proofs.loc[proofs["leak"], ["seen", "unseen"]].values.tolist() == [["topic/train", "squad_wiki/dev"]]


def _dev_context(asked):
    return corpora.table(asked()).to_pandas()["context"].iloc[-1]


def test_a_set_that_trains_nothing_has_no_pairs():
    proofs = leaks.find([cards.data_card("udhr")])
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
