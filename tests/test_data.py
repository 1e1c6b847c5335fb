"""The bundled data sets are what their cards say, and a damaged one is refused with one clear line."""

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import gold

from data_manifest.builders.__main__ import write
from xlscale.cards import catalogue
from xlscale.commands import cost
from xlscale.core.files import MANIFEST, XlscaleError, sha256_file
from xlscale.data import load
from xlscale.data import schema as bundles
from xlscale.data.describe import describe
from xlscale.experiment import studies
from xlscale.report import samples

NAMES = [name for name in catalogue.names("data") if catalogue.data_card(name).bundled]
QUESTIONS = [name for name in NAMES if catalogue.data_card(name).family == "span_qa"]


@pytest.fixture
def small(tmp_path):
    """A small retrieval set: its card, and a function that writes a table and returns the card that matches it."""
    rows = [
        {"split": "test", "language": language, "item": item, "group": item, "text": f"{language} {item}"}
        for language in ("en", "de", "sw")
        for item in ("1", "2")
    ]
    table = bundles.table("retrieval", rows)
    path = tmp_path / "small.parquet"

    def card(table=table, **changes):
        bundles.write(table, path)
        fields = {
            "name": "small",
            "file": str(path),
            "sha256": sha256_file(path),
            "languages": ["de", "sw"],
            "splits": {"test": {"de": 2, "en": 2, "sw": 2}},
        }
        return catalogue.data_card("udhr").model_copy(update=fields | changes)

    return card, table


@pytest.mark.parametrize("name", NAMES)
def test_load_gives_the_splits_of_the_card(name):
    card = catalogue.data_card(name)
    loaded = load.splits(card)
    assert {split: len(part) for split, part in loaded.items()} == {
        split: sum(rows.values()) for split, rows in card.splits.items()
    }
    assert set(bundles.COLUMNS[card.family].names) <= set(next(iter(loaded.values())).column_names)


@pytest.mark.parametrize("name", NAMES)
def test_bytes_depend_on_rows_alone(name, tmp_path):
    card = catalogue.data_card(name)
    write(card, bundles.read(card.path), tmp_path / "again.parquet")
    assert sha256_file(tmp_path / "again.parquet") == card.sha256


@pytest.mark.parametrize("name", NAMES)
def test_canary_travels_in_the_file(name):
    card = catalogue.data_card(name)
    found = (pq.read_metadata(card.path).metadata or {}).get(b"canary")
    assert (found.decode() if found else None) == card.canary


def test_bundles_are_small():
    assert sum(catalogue.data_card(name).path.stat().st_size for name in NAMES) < 25e6


def test_languages():
    assert len(catalogue.data_card("topic").languages) == 18
    assert len(catalogue.data_card("udhr").languages) == 49
    for name in ("topic", "udhr"):
        card = catalogue.data_card(name)
        assert set(card.splits["test"]) == {*card.languages, "en"}


@pytest.mark.parametrize("name", QUESTIONS)
def test_answers_stand_at_their_offsets(name):
    for part in load.splits(catalogue.data_card(name)).values():
        for row in part:
            assert row["answers"] and len(row["answers"]) == len(row["answer_starts"])
            for answer, start in zip(row["answers"], row["answer_starts"], strict=True):
                assert answer.strip() and row["context"][start : start + len(answer)] == answer


def test_question_sets_match_in_number():
    facts = [describe(catalogue.data_card(name))[["split", "language", "rows", "groups"]] for name in QUESTIONS]
    assert all(facts[0].equals(other) for other in facts[1:])


def test_topic_translations_are_translations_and_sections_are_even():
    rows = load.table(catalogue.data_card("topic")).to_pandas()
    translated = rows[rows["language"] != "en"]
    assert (translated["split"] == "test").all() and translated["original"].notna().all()
    assert not (translated["text"] == translated["original"]).any()
    assert rows.loc[rows["language"] == "en", "original"].isna().all()
    english = rows[(rows["split"] == "test") & (rows["language"] == "en")].set_index("item")["text"]
    of_english = translated[translated["item"].isin(english.index)]
    assert (of_english["original"] == of_english["item"].map(english)).all()
    assert rows.groupby("group")["label"].nunique().max() == 1
    assert (rows[rows["split"] == "dev"]["label"].value_counts() == 30).all()


def test_gold_of_each_family():
    udhr = gold(catalogue.data_card("udhr"))
    assert (udhr["gold"] == udhr["group"]).all() and len(udhr) == sum(
        catalogue.data_card("udhr").splits["test"].values()
    )
    topic = gold(catalogue.data_card("topic"))
    assert set(topic["gold"]) == set(catalogue.data_card("topic").labels)
    assert not topic.duplicated(["language", "item"]).any()


def test_wrong_hash(small):
    card, _ = small
    with pytest.raises(XlscaleError, match=r"small\.parquet: sha256: expected 0{64} .*, got [0-9a-f]{64}$"):
        load.splits(card(sha256="0" * 64))


def test_missing_file(small, tmp_path):
    card, _ = small
    with pytest.raises(XlscaleError, match="not found"):
        load.splits(card(file=str(tmp_path / "none.parquet")))


def test_truncated_parquet(small):
    whole = small[0]()
    whole.path.write_bytes(whole.path.read_bytes()[:-100])
    with pytest.raises(XlscaleError, match=r"small\.parquet: sha256"):
        load.splits(whole)
    with pytest.raises(XlscaleError, match=r"small\.parquet: expected a whole Parquet file \(.*\)$"):
        load.splits(whole.model_copy(update={"sha256": sha256_file(whole.path)}))


def test_missing_column_and_wrong_type(small):
    card, table = small
    with pytest.raises(XlscaleError, match="column 'text' is missing"):
        load.splits(card(table.drop_columns(["text"])))
    numbers = table.set_column(4, "text", pa.array(range(6), pa.int64()))
    with pytest.raises(XlscaleError, match="column 'text': expected type string, got int64"):
        load.splits(card(numbers))


def test_missing_language_and_rows(small):
    card, table = small
    with pytest.raises(XlscaleError, match="language 'sw' is missing from split test"):
        load.splits(card(table.slice(0, 4)))
    with pytest.raises(XlscaleError, match=r"splits: .*first at \('test', 'sw'\)"):
        load.splits(card(table.slice(0, 5)))


def test_unknown_label():
    card = catalogue.data_card("topic")
    with pytest.raises(XlscaleError, match=r"label: expected one of .*, got 'admin'"):
        load.splits(card.model_copy(update={"labels": card.labels[:-1]}))


def test_an_item_may_not_occur_twice():
    row = {"split": "test", "language": "en", "item": "1", "group": "1", "text": "a"}
    with pytest.raises(XlscaleError, match="item: '1' occurs more than once in language 'en'"):
        bundles.table("retrieval", [row, row])


def test_describe_counts_what_equals_english(small):
    card, table = small
    texts = pa.array(["same", "b", "same", "d", "e", "f"])  # de de en en sw sw
    facts = describe(card(table.set_column(4, "text", texts))).set_index("language")
    assert facts.loc["de", "same_as_english"] == 0.5
    assert facts.loc["sw", "same_as_english"] == 0
    assert facts["same_as_english"].isna().to_dict() == {"de": False, "en": True, "sw": False}


def test_what_the_notebook_shows(small):
    whole = small[0]()
    html = samples.samples(whole, 1).data
    assert html.count('dir="auto"') == 3 and html.count("<details>") == 1 and "open" not in html[: html.index("<table")]
    odd = samples.folded(whole, pd.DataFrame({"a": ["<img src=x>"]})).data
    assert "<details>" in odd and "&lt;img" in odd and "<img" not in odd and "mathjax_ignore" in odd
    assert all("mathjax_ignore" in one.data[:60] for one in (samples.samples(whole, 1), samples.provenance([whole])))
    broken = whole.model_copy(update={"sha256": "0" * 64})
    agrees, differs = samples.check([whole, broken])["verdict"]
    assert agrees == "agrees" and "sha256: expected 0000" in differs


@pytest.mark.parametrize("name", ["udhr", "wordnet_class", "social_iqa"])
def test_the_cost_in_a_card_is_that_of_its_rows(name):
    card = catalogue.data_card(name)
    assert cost.of(card) == card.cost


def test_a_cost_replaces_another_and_nothing_else_of_a_card(tmp_path, monkeypatch):
    """Not its comments, nor texts that another writer would turn into numbers."""
    monkeypatch.setattr(cost, "MANIFEST", tmp_path)
    monkeypatch.setattr(cost, "of", lambda card: card.cost)
    (tmp_path / "data").mkdir()
    path, before = tmp_path / "data" / "topic.yaml", (MANIFEST / "data" / "topic.yaml").read_text()
    rest, _, stated = before.partition("cost:\n")
    path.write_text(f"# mine\n{rest}cost:\n  tflop:\n    train: 1\nnotes: '1e3'\n")
    cost.main(["topic"])
    assert path.read_text() == f"# mine\n{rest}notes: '1e3'\ncost:\n{stated}"


def test_what_the_paper_shows_is_what_its_studies_read(monkeypatch):
    """Not text or words of one's own that lie beside it."""
    read = studies.data_sets()
    assert {"synonyms", "unlabelled", "lexicon", "topic", "wordnet_class"} <= {*read}
    own = catalogue.data_card("synonyms").model_copy(update={"name": "mine"})
    known = catalogue.data_card
    monkeypatch.setattr(catalogue, "names", lambda folder: ["mine", "synonyms", "topic"])
    monkeypatch.setattr(catalogue, "data_card", lambda name: own if name == "mine" else known(name))
    assert [card.name for card in samples.cards([], read)] == ["synonyms", "topic"]
    assert [card.name for card in samples.cards(["mine"], read)] == ["mine"]


def test_every_task_states_its_cost_and_a_table_shows_it():
    known = [card for card in map(catalogue.data_card, catalogue.names("data")) if card.builder]
    shown = samples.costs(known)
    assert set(shown.index) == {card.name for card in known if card.task}
    assert shown.loc["topic", "test TFLOP"] == catalogue.data_card("topic").cost.tflop["test"]
