"""Rows without what a model reads: refused where they are made or loaded, with file and row."""

import json
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import CHANCE
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from xlscale import tasks
from xlscale.acquire.external import convert
from xlscale.cards import catalogue, schema
from xlscale.cards.catalogue import data_card
from xlscale.core.files import XlscaleError, sha256_file
from xlscale.core.strict import parse
from xlscale.data import load
from xlscale.data import schema as bundles
from xlscale.data.batches import Encoded
from xlscale.metrics.retrieval import top_k
from xlscale.tasks.base import mean_pool

# family -> a whole record, and columns that make a row of it
WHOLE = {
    "classification": {"text": "a cat", "second": "an animal", "label": "yes"},
    "multiple_choice": {"text": "a cat", "choices": ["sat", "ran"], "answer": 1},
    "tagging": {"text": "a cat", "tokens": ["a", "cat"], "tags": ["O", "B-LOC"]},
    "span_qa": {
        "question": "who?",
        "context": "a cat",
        "answers": ["cat"],
        "answer_starts": [2],
    },
    "retrieval": {"text": "a cat"},
    "mining": {"text": "a cat", "pool": "test-de"},
    "ranking": {"text": "a cat", "role": "pair", "second": "an animal", "relevant": []},
}
NOTHING = ["", " ", "\t\n", "\u3000", "\u200b", "\ufeff", "\u200e\u00a0", None]
BROKEN = [
    *((family, {"text": one}) for family in WHOLE if family not in ("span_qa", "tagging") for one in NOTHING),
    *(("span_qa", {name: one}) for name in ("question", "context") for one in NOTHING),
    *(("classification", {"second": one}) for one in NOTHING),
    *(("ranking", {"second": one}) for one in NOTHING),
    *(("multiple_choice", {"choices": ["sat", one]}) for one in NOTHING),
    ("multiple_choice", {"choices": None}),
    ("classification", {"label": None}),
    ("classification", {"label": ""}),
    ("tagging", {"text": "", "tokens": [], "tags": []}),
    ("tagging", {"tokens": None}),
    ("tagging", {"tokens": ["a", ""]}),
    ("tagging", {"tokens": ["a", None]}),
    ("tagging", {"tags": ["O", None]}),
    ("tagging", {"tags": None}),
    ("mining", {"pool": None}),
    ("span_qa", {"answers": None}),
]


def card_of(family: str, **changes) -> schema.DataCard:
    values = {
        "name": "mine",
        "title": "mine",
        "version": 1,
        "role": "target",
        "family": family,
        "metric": schema.TOKENS if changes.get("tags") == "plain" else schema.METRICS[family],
        "chance": CHANCE[family],
        "labels": {"tagging": ["LOC"], "classification": ["yes", "no"]}.get(family),
        "languages": ["de"],
        "splits": {"test": {"de": 3}},
        **dict.fromkeys(("licence", "citation", "description", "limits"), ""),
    }
    return parse(schema.DataCard, values | changes, "card")


@pytest.fixture
def converted(tmp_path, monkeypatch):
    """Rows that are made of records in a JSON Lines file."""
    monkeypatch.setenv("XLSCALE_MINE", str(tmp_path))
    monkeypatch.setattr(catalogue, "LOCKS", tmp_path / "locks")

    def rows(family: str, records: list[dict], columns: dict | None = None, **changes) -> pa.Table:
        text = "".join(json.dumps(one) + "\n" for one in records)
        (tmp_path / "mine.jsonl").write_text(text, encoding="utf-8")
        usual = {name: {"constant": []} if name == "relevant" else name for name in WHOLE[family]}
        names = columns or usual
        part = {
            "split": "test",
            "languages": ["de"],
            "places": [{"origin": "o", "files": "*.jsonl", "reader": "jsonl"}],
        }
        origins = {"o": {"kind": "folder", "variable": "XLSCALE_MINE", "schema_read": ""}}
        source = {"origins": origins, "columns": names, "parts": [part]}
        return convert.rows(card_of(family, bundled=False, source=source, **changes))

    return rows


@pytest.fixture
def loaded(tmp_path):
    """Rows of a Parquet file of one's own."""

    def rows(family: str, records: list[dict], **changes) -> pa.Table:
        common = [{"split": "test", "language": "de", "item": str(i), "group": str(i)} for i in range(len(records))]
        types = bundles.COLUMNS[family]
        if family == "classification":
            types = types.append(bundles.OPTIONAL[family][0])
        made = [a | {"article": ""} | b for a, b in zip(common, records, strict=True)]
        pq.write_table(pa.Table.from_pylist(made, schema=types), tmp_path / "mine.parquet")
        path = tmp_path / "mine.parquet"
        card = card_of(family, file="mine.parquet", sha256=sha256_file(path), **changes)
        return load.table(card.model_copy(update={"file": str(path)}))

    return rows


@pytest.mark.parametrize("family", [family for family in WHOLE if family != "retrieval"])
def test_whole_rows_are_taken(converted, loaded, family):
    assert len(converted(family, [WHOLE[family]] * 3)) == len(loaded(family, [WHOLE[family]] * 3)) == 3


@pytest.mark.parametrize(
    ("family", "item"), [("mining", "a\tb"), ("mining", "a\nb"), ("ranking", "a b"), ("span_qa", "\0")]
)
def test_an_item_is_an_id_that_files_hold(converted, family, item):
    """Predictions are written one in a line, with tabs between, those of a ranking with spaces between."""
    records = [WHOLE[family] | {"id": one} for one in ("a", item)]
    columns = {name: name for name in [*WHOLE[family]]} | {"item": "id"}
    with pytest.raises(XlscaleError, match=r"mine\.jsonl, record 2: item: expected an id without control characters"):
        converted(family, records, columns)
    assert len(converted(family, [WHOLE[family] | {"id": one} for one in ("a", "b-é猫#1")], columns)) == 2


@pytest.mark.parametrize("relevant", ["Q12", 3, {"a": 1}])
def test_what_is_relevant_is_a_list_and_no_text_of_which_each_character_counts(converted, relevant):
    columns = {name: name for name in WHOLE["ranking"]}
    with pytest.raises(XlscaleError, match=r"mine\.jsonl, record 1: relevant: expected a list, got "):
        converted("ranking", [WHOLE["ranking"] | {"relevant": relevant}], columns)
    assert converted("ranking", [WHOLE["ranking"] | {"relevant": ["Q12"]}], columns)["relevant"].to_pylist() == [
        ["Q12"]
    ]


def test_chance_is_that_of_the_choices_that_rows_have(converted, loaded):
    """With two, two and four choices a guess is right in 5 of 12 rows."""
    two, four = WHOLE["multiple_choice"], WHOLE["multiple_choice"] | {"choices": ["sat", "ran", "fell", "slept"]}
    for make in (converted, loaded):
        assert len(make("multiple_choice", [two, four, two], chance=5 / 12)) == 3
        for records, chance, expected in (
            ([two, two, four], 0.5, 0.4167),
            ([four] * 3, 0.5, 0.25),
            ([two] * 3, 0.3, 0.5),
        ):
            message = f"card mine: chance: expected {expected}, that of one of a row's choices on average, got {chance}"
            with pytest.raises(XlscaleError, match=f"^{message}$"):
                make("multiple_choice", records, chance=chance)


@pytest.mark.parametrize(("family", "change"), BROKEN, ids=lambda value: ascii(value))
def test_rows_with_nothing_in_them_are_refused_with_file_and_row(converted, loaded, family, change):
    records = [WHOLE[family], WHOLE[family] | change, WHOLE[family]]
    for make, where in ((converted, r"mine\.jsonl, record 2: "), (loaded, r"mine\.parquet: row 2: ")):
        with pytest.raises(XlscaleError, match=where) as error:
            make(family, records)
        said = str(error.value)
        assert re.search(rf"({'|'.join(change)}).*: expected .*", said) and "\n" not in said and len(said) < 300


def test_values_of_another_type_are_refused_with_file_and_record(converted):
    for family, change in (
        *(("classification", one) for one in ({"text": 3}, {"text": ["a"]}, {"label": {"a": 1}}, {"label": 2})),
        *(("tagging", one) for one in ({"tokens": "a cat"}, {"tags": [{}, "O"]}, {"tokens": ["a", 3]}, {"text": 3})),
        *(("tagging", one) for one in ({"tokens": ["cat", "a"]}, {"text": "a dog"}, {"tags": ["O"]})),
        *(
            ("multiple_choice", one)
            for one in ({"choices": "ab"}, {"choices": [1, 2]}, {"answer": [1]}, {"answer": None}, {"answer": "١"})
        ),
        *(("span_qa", one) for one in ({"answers": "cat"}, {"answers": [2]}, {"answer_starts": ["2"]}, {"context": 5})),
    ):
        with pytest.raises(XlscaleError, match=r"mine\.jsonl, record 2: ") as error:
            converted(family, [WHOLE[family], WHOLE[family] | change])
        assert "\n" not in str(error.value) and len(str(error.value)) < 300
    other_type = r"mine\.jsonl, record 1: (columns: expected values|.*: expected one of yes)"
    mapped = {"text": "text", "label": {"of": "label", "map": {"yes": "yes"}}}
    with pytest.raises(XlscaleError, match=other_type):
        converted("classification", [{"text": "a", "label": {"a": 1}}], mapped)
    dealt = {"text": "text", "right": "right", "wrong": "wrong"}
    with pytest.raises(XlscaleError, match=other_type):
        converted("multiple_choice", [{"text": "a", "right": "b", "wrong": None}], dealt)


EMPTIED = [
    ("multiple_choice", {"text": "a", "choices": ["b", "c"], "answer": 0}, {"answer": 1}, "answer: expected labels"),
    (
        "classification",
        {"text": "a", "second": "b", "label": "no"},
        {"label": "yes"},
        "label: expected labels in split test",
    ),
    (
        "tagging",
        {"text": "a b", "tokens": ["a", "b"], "tags": ["O", "O"]},
        {"tags": ["O", "B-LOC"]},
        "tags: expected labels in split test",
    ),
]


@pytest.mark.parametrize(("family", "row", "other", "message"), EMPTIED)
def test_labels_that_a_benchmark_has_taken_out_are_no_labels(converted, family, row, other, message):
    """XTREME's test files of XCOPA say 0 where the answer was, and would be locked as such."""
    assert len(converted(family, [row] * 20)) == 20  # few rows may well be alike
    assert len(converted(family, [row] * 60 + [row | other])) == 61
    with pytest.raises(XlscaleError, match=rf"^mine: {message}.*'de'.* of them: a file whose labels were taken out"):
        converted(family, [row] * 60)


def test_a_template_over_a_missing_value_and_a_missing_item_are_refused(converted):
    names = {"text": "{text}, {second}", "label": "label"}
    records = [WHOLE["classification"], WHOLE["classification"] | {"second": None}]
    with pytest.raises(XlscaleError, match=r"record 2: field 'second': expected a value, got none"):
        converted("classification", records, names)
    with pytest.raises(XlscaleError, match=r"record 1: field 'item': expected a value, got none"):
        converted(
            "classification", [WHOLE["classification"] | {"id": None}], {"item": "id", "text": "text", "label": "label"}
        )


def test_a_query_without_its_english_row_is_refused(converted):
    with pytest.raises(XlscaleError, match=r"item '0-0': group: expected that of an English row .*, got '0-0'"):
        converted("retrieval", [WHOLE["retrieval"]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer_starts": [1]}, "item '1': expected 'cat' at character 1"),
        ({"answer_starts": [-3]}, "item '1': expected 'cat' at character -3"),
        ({"answer_starts": [99]}, "item '1': expected 'cat' at character 99"),
        ({"answer_starts": []}, "item '1': expected as many"),
        ({"answers": [], "answer_starts": []}, "item '1': expected as many, and some where"),
    ],
)
def test_answers_of_one_s_own_stand_where_they_are_said_to_be(loaded, change, message):
    with pytest.raises(XlscaleError, match=rf"mine\.parquet: answer.*: {message}"):
        loaded("span_qa", [WHOLE["span_qa"], WHOLE["span_qa"] | change, WHOLE["span_qa"]])


def test_plain_tags_of_one_s_own_are_those_of_the_card(loaded):
    record = WHOLE["tagging"] | {"tags": ["DET", "INTJ"]}
    assert len(loaded("tagging", [record] * 3, tags="plain", labels=["DET", "INTJ"])) == 3
    with pytest.raises(XlscaleError, match="tags: expected one of DET, NOUN, got 'INTJ'"):
        loaded("tagging", [record] * 3, tags="plain", labels=["DET", "NOUN"])


def test_tags_are_those_of_the_card_and_of_its_kind(converted):
    for tags, plain in (
        (["O", "LOC"], "bio"),
        (["O", "B-PER"], "bio"),
        (["B-LOC", "LOC"], "plain"),
        (["O"] * 2, "plain"),
    ):
        with pytest.raises(XlscaleError, match=r"mine\.jsonl, record 1: tags: expected one of .*LOC.*, got "):
            converted("tagging", [WHOLE["tagging"] | {"tags": tags}], tags=plain)
    assert converted("tagging", [WHOLE["tagging"] | {"tags": ["LOC"] * 2}], tags="plain")


def test_a_query_that_no_candidate_answers_is_refused_before_anything_is_trained(converted, loaded):
    query = {"text": "a cat", "role": "query", "second": None, "relevant": []}
    for make, item in ((converted, "mine: item '0-1'"), (loaded, r"mine\.parquet: row 2")):
        with pytest.raises(XlscaleError, match=f"{item}: group: expected one to which a candidate is relevant, got "):
            make("ranking", [WHOLE["ranking"], query, WHOLE["ranking"]])


def test_a_ranking_s_second_text_is_that_of_pairs(converted):
    others = [{"text": "a cat", "role": role, "second": None} for role in ("query", "candidate")]
    names = {name: name for name in WHOLE["ranking"]} | {"relevant": {"constant": ["x"]}, "group": {"constant": "x"}}
    assert len(converted("ranking", [*others, WHOLE["ranking"]], names)) == 3


def test_words_that_nobody_sees_are_words(converted):
    """Tokenizers may leave nothing of them; what becomes of that is the family's business."""
    words = ["\u200f", "\u3000", "\u00a0", "\ufeff"]
    record = {"text": " ".join(words), "tokens": words, "tags": ["O"] * 4}
    assert converted("tagging", [record])["tokens"].to_pylist() == [words]


def test_a_question_without_answers_is_none_where_the_card_has_such(converted):
    record = WHOLE["span_qa"] | {"answers": [], "answer_starts": []}
    assert converted("span_qa", [record], unanswerable=True)["answers"].to_pylist() == [[]]
    with pytest.raises(XlscaleError, match="answers: expected at least one"):
        converted("span_qa", [record])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", ["query", "candidate"])
@pytest.mark.parametrize("blocks", [(1, 1), (4, 3), (1024, 16384)])
def test_vectors_that_are_not_finite_are_never_searched(value, side, blocks):
    both = {"query": np.eye(5, dtype=np.float32), "candidate": np.ones((7, 5), np.float32)}
    both[side][3, 2] = value
    with pytest.raises(XlscaleError, match=rf"{side} 3.*: expected vectors with a finite product, got (nan|inf|-inf)"):
        top_k(both["query"], both["candidate"], 2, blocks)


@pytest.mark.parametrize("name", ["tatoeba", "bucc2018", "lareqa"])
def test_families_that_search_refuse_them_too(name):
    task = tasks.of(catalogue.documented(name))
    languages = ["en", "de"] * 4
    kind = ["test", "test", "dev", "dev"] * 2
    rows = pd.DataFrame({"language": languages, "item": [*"01234567"], "group": [str(i // 2) for i in range(8)]})
    rows["text"], rows["pool"] = [f"text {i}" for i in range(8)], [f"{one}-de" for one in kind]
    rows["role"] = ["candidate", "query"] * 4
    rows["second"], rows["relevant"] = None, [[group] for group in rows["group"]]
    outputs = [*np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)]
    targets = {"side": np.array([1, 0] * 4), "text": np.zeros(8, np.int64)}
    encoded = Encoded.of([[1]] * 8, targets=targets)
    rows = Dataset.from_pandas(rows)
    assert len(task.predictions(rows, encoded, outputs))
    for index in (0, 1):
        broken = [*outputs]
        broken[index] = np.full(3, np.nan, np.float32)
        with pytest.raises(XlscaleError, match="expected vectors with a finite product, got nan"):
            task.predictions(rows, encoded, broken)


def test_an_input_without_tokens_is_refused_as_it_has_no_mean():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    assert torch.isnan(mean_pool(torch.ones(1, 2, 3), torch.zeros(1, 2, dtype=torch.bool))).all()
    rows = Dataset.from_list([{"text": "", "language": "de", "item": "0", "group": "0"}])
    with pytest.raises(
        XlscaleError, match="input 0: expected a text of which the tokenizer leaves something, got none"
    ):
        tasks.of(data_card("udhr")).encode(rows, tokenizer, "", 8)
