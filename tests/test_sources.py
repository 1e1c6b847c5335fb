"""From other people's files to rows: mappings, readers, places, locks, and what is said when one of them is broken."""

import json
import os
import shutil

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Hub

from xlscale.__main__ import main
from xlscale.acquire import ensure, remote
from xlscale.acquire import hub as download
from xlscale.acquire.external import columns, conllu, convert, inputs, mewslix, readers
from xlscale.cards import catalogue, places, schema
from xlscale.cards.sources import Repository, Source
from xlscale.commands import check
from xlscale.core import manifest
from xlscale.core.files import XlscaleError, sha256_file
from xlscale.core.strict import parse
from xlscale.data import load
from xlscale.data.schema import TEXT
from xlscale.xtreme import benchmark
from xlscale.xtreme.answers import read_questions
from xlscale.xtreme.folders import FORMATS
from xlscale.xtreme.pairs import read_pairs
from xlscale.xtreme.source import Source as Labels

TASKS = {task.name: task for task in benchmark.load("xtreme").tasks}
SOURCES = catalogue.names(catalogue.SOURCES)
RECORD = {
    "premise": "a cat",
    "question": "cause",
    "label": 1,
    "letter": "B ",
    "tags": [2, 0],
    "tokens": ["a", "cat"],
    "answers": {"text": ["cat"], "answer_start": [2]},
    "many": [{"name": "x"}, {"name": "y"}],
    "@row": 7,
}


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        ("premise", "a cat"),
        ("answers.text", ["cat"]),
        ("many.name", ["x", "y"]),
        ("{premise} What was the {question}? {@row}", "a cat What was the cause? 7"),
        (["premise", "question"], ["a cat", "cause"]),
        ({"of": "label", "map": ["no", "yes"]}, "yes"),
        ({"of": "letter", "map": {"A": 0, "B": 1}}, 1),
        ({"of": "tags", "map": ["O", "B-X", "I-X"]}, ["I-X", "O"]),
        ({"join": "tokens"}, "a cat"),
        ({"join": ["premise", "question"]}, "a cat cause"),
        ({"constant": "pair"}, "pair"),
        ({"constant": None}, None),
    ],
)
def test_what_a_mapping_means(spec, value):
    assert columns.make(spec, RECORD) == value


def test_a_mapping_that_does_not_fit_says_which_field():
    with pytest.raises(XlscaleError, match="field 'hypothesis': expected in every record, found premise, question"):
        columns.make("hypothesis", RECORD)
    with pytest.raises(XlscaleError, match="field 'label': expected one of 0, got 1"):
        columns.make({"of": "label", "map": ["no"]}, RECORD)
    with pytest.raises(XlscaleError, match="field 'words': expected a list of texts, got None"):
        columns.make({"join": "words"}, {"words": None})
    with pytest.raises(XlscaleError, match=r"field 'starts': expected the position of a character, got \[\]"):
        columns.make({"sentence": "premise", "of": "starts"}, RECORD | {"starts": []})


@pytest.mark.parametrize("value", [True, float("nan"), float("inf"), ["a"], {"a": 1}])
def test_a_template_takes_texts_and_finite_numbers(value):
    """As text, the others would be Python's names for them."""
    assert columns.make("{premise} {n} {x}", {"premise": "a", "n": 1, "x": 0.5}) == "a 1 0.5"
    for use in (columns.filled, lambda template, record: columns.matches({"id": template}, record | {"id": "x"})):
        with pytest.raises(XlscaleError, match="field 'premise': expected a text or a finite number, got ") as error:
            use("{premise}?", {"premise": value})
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [True, False, 0.0, 1.0, float("nan"), None, {}, "0"])
@pytest.mark.parametrize("table", [["no", "yes"], {0: "no", 1: "yes"}])
def test_whole_numbers_alone_stand_for_what_a_mapping_gives_to_numbers(table, value):
    with pytest.raises(XlscaleError, match="field 'label': expected one of 0, 1, got "):
        columns.make({"of": "label", "map": table}, {"label": value})
    with pytest.raises(XlscaleError, match="field 'label': expected one of 0, 1, got "):
        columns.make({"of": "label", "map": table}, {"label": [1, value]})


def test_truth_values_stand_for_themselves_in_a_mapping():
    assert columns.make({"of": "label", "map": {True: "yes", False: "no"}}, {"label": False}) == "no"
    with pytest.raises(XlscaleError, match="field 'label': expected one of True, False, got 1"):
        columns.make({"of": "label", "map": {True: "yes", False: "no"}}, {"label": 1})


@pytest.mark.parametrize("start", [True, 1.0, None, "1"])
def test_a_place_in_a_text_is_a_whole_number(start):
    with pytest.raises(XlscaleError, match="answers, answer_starts: expected a text and a number"):
        columns.located("a cat", " cat", start)
    with pytest.raises(XlscaleError, match="field 'at': expected the position of a character"):
        columns.make({"sentence": "premise", "of": "at"}, RECORD | {"at": [start]})


@pytest.mark.parametrize("place", ["answer_start", "sentence_breaks"])
def test_lareqa_counts_characters_by_whole_numbers(tmp_path, place):
    question = {"id": "q", "question": "?", "answers": [{"answer_start": True if place == "answer_start" else 1}]}
    breaks = [[False if place == "sentence_breaks" else 0, 5]]
    paragraph = {"context": "a cat", "sentence_breaks": breaks, "qas": [question]}
    (tmp_path / "en.json").write_text(json.dumps({"data": [{"paragraphs": [paragraph]}]}))
    with pytest.raises(XlscaleError, match=r"en\.json: expected .*the position of a character, got (True|False)"):
        [*convert.read("lareqa", [tmp_path / "en.json"])]


@pytest.mark.parametrize("place", ["sentence", "mention"])
def test_mewsli_x_counts_characters_by_whole_numbers(tmp_path, place):
    def span(start, end, wrong):
        return {"start": bool(start) if wrong else start, "end": end, "text": "cat"}

    context = {"text": "a cat", "language": "en", "sentence_spans": [span(0, 5, place == "sentence")]}
    mention = {"example_id": "m", "entity_id": "Q1", "mention_span": span(2, 5, place == "mention")}
    (tmp_path / "x.jsonl").write_text(json.dumps({"context": context, "mentions": [mention]}))
    with pytest.raises(XlscaleError, match=r"x\.jsonl, line 1: expected the position of a character, got (True|False)"):
        [*convert.read("mewslix", [tmp_path / "x.jsonl"])]


@pytest.mark.parametrize(
    ("text", "place", "sentence"),
    [
        ("One. Two three. Four", 5, "Two three."),
        ("One. Two three. Four", 4, "Two three."),
        ("One. Two three. Four", 19, "Four"),
        ("In 1.5 hours. Then", 3, "In 1.5 hours."),
        ("猫。水。本", 2, "水。"),
        ("no mark at all", 3, "no mark at all"),
    ],
)
def test_the_sentence_that_holds_a_character(text, place, sentence):
    assert columns.sentence(text, place) == sentence


def test_rows_are_kept_by_value_or_by_pattern():
    record = {"label": -1, "id": "finnish-3-1", "@language": "finnish"}
    assert columns.matches({"label": [-1]}, record) and not columns.matches({"label": [0, 1]}, record)
    assert columns.matches({"id": "{@language}-*"}, record) and not columns.matches({"id": "english-*"}, record)
    assert not columns.matches({"id": "*"}, {"id": None})
    for value in (True, 1.0, "1"):
        assert columns.matches({"label": [value]}, {"label": value})
        assert not columns.matches({"label": [1]}, {"label": value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"columns": {"text": {"off": "x"}}}, "columns: expected one of constant, join, map, of, sentence, got 'off'"),
        ({"columns": {"text": 3}}, "columns: expected a field, a template, a list or an operation, got 3"),
        ({"origins": {}}, "parts: origin: expected one of , got 'here'"),
        ({"colums": {}}, "colums: Extra inputs"),
    ],
)
def test_a_broken_source_is_one_line(changes, message):
    origin = {"kind": "hub", "repository": "a/b", "schema_read": "nowhere"}
    part = {"split": "test", "languages": ["en"], "places": [{"origin": "here", "config": "c", "split": "test"}]}
    with pytest.raises(XlscaleError, match=message) as error:
        parse(Source, {"origins": {"here": origin}, "columns": {}, "parts": [part]} | changes, "card")
    assert "\n" not in str(error.value)


def test_a_revision_is_pinned_or_unverified_and_never_something_else():
    hub = {"kind": "hub", "repository": "a/b", "schema_read": "x"}
    for values in ({"status": "verified"}, {"revision": "0" * 40}, {"status": "verified", "revision": "main"}):
        with pytest.raises(XlscaleError, match="revision"):
            parse(Repository, hub | values, "card")
    assert parse(Repository, hub | {"status": "verified", "revision": "0" * 40}, "card").revision == "0" * 40


def _conllu(*words):
    """A sentence: id, form, tag and head of every row; with a fifth value, the column DEPS."""
    rows = [[n, form, "_", tag, "_", "_", str(head), "dep", *(deps or "_"), "_"] for n, form, tag, head, *deps in words]
    return "\n".join(["# text", *map("\t".join, rows), "", ""])


GERMAN = _conllu(
    ("1", "Ich", "PRON", 2),
    ("2", "gehe", "VERB", 0),
    ("3-4", "zum", "_", "_"),
    ("3", "zu", "ADP", 5),
    ("4", "dem", "DET", 5),
    ("4.1", "leer", "X", "_"),
    ("5", "10 000", "NUM", 2),
)


def test_conllu_gives_words_as_written(tmp_path):
    path = tmp_path / "de_own-ud-test.conllu"
    path.write_text(GERMAN.rstrip("\n"), encoding="utf-8")
    (found,) = conllu.read(path)
    assert found == {"tokens": ["Ich", "gehe", "zum", "10000"], "tags": ["PRON", "VERB", "ADP", "NUM"]}


@pytest.mark.parametrize(
    ("language", "words", "tag"),
    [
        # Equally high: the languages' own preferences, and the first of equal tags and of tags that a list lacks.
        ("pt", [("de", "ADP", 3), ("aquilo", "PRON", 3), ("x", "VERB", 0)], "PRON"),
        ("pt", [("a", "ADV", 3), ("b", "PRON", 3), ("x", "VERB", 0)], "PRON"),
        ("it", [("a", "ADV", 3), ("b", "PRON", 3), ("x", "VERB", 0)], "ADV"),
        ("pt", [("a", "AUX", 3), ("b", "NOUN", 3), ("x", "VERB", 0)], "NOUN"),
        ("fr", [("a", "AUX", 3), ("b", "NOUN", 3), ("x", "VERB", 0)], "AUX"),
        ("es", [("a", "NOUN", 3), ("b", "DET", 3), ("x", "VERB", 0)], "DET"),
        ("es", [("a", "NOUN", 3), ("b", "ADJ", 3), ("x", "VERB", 0)], "NOUN"),
        # The higher one, whatever is preferred and whichever is headed outside.
        ("ar", [("wa", "CCONJ", 3), ("b", "NOUN", 4), ("c", "ADJ", 2), ("x", "VERB", 0)], "NOUN"),
        ("ar", [("a", "VERB", 3), ("b", "DET", 4), ("c", "ADJ", 2), ("x", "VERB", 0)], "DET"),
        ("ar", [("a", "DET", 0), ("b", "VERB", 1), ("x", "VERB", 2)], "DET"),
        # Heads of the enhanced graph count, circles do no harm.
        ("ar", [("a", "VERB", 3, "3:x|4:y"), ("b", "DET", 3), ("c", "X", 0), ("d", "X", 3)], "DET"),
        ("ar", [("a", "VERB", 3), ("b", "DET", 3), ("c", "X", 0, "0:root|1:x|5.1:y")], "VERB"),
    ],
)
def test_the_tag_of_a_joined_word_is_that_of_its_highest_part(tmp_path, language, words, tag):
    path = tmp_path / f"{language}_own-ud-test.conllu"
    rows = [(str(n), *word) for n, word in enumerate(words, 1)]
    path.write_text(_conllu(("1-2", "joined", "_", "_"), *rows), encoding="utf-8")
    (found,) = conllu.read(path)
    assert found["tokens"] == ["joined", *(word[0] for word in words[2:])]
    assert found["tags"] == [tag, *(word[1] for word in words[2:])]


def test_sentences_without_texts_are_left_out(tmp_path):
    path = tmp_path / "ar_nyuad-ud-test.conllu"
    kept = [("1", "a", "X", 0)], [("1", "a", "X", 0), ("2", "b", "X", 1), ("3", "_", "PUNCT", 1)]
    gone = [("1", "_", "X", 0)], [("1", "_", "X", 0), ("2", "_", "X", 1)], [("1", "a", "X", 0), ("2", "_", "X", 1)]
    path.write_text("".join(_conllu(*words) for words in (*gone, *kept)), encoding="utf-8")
    assert [row["tokens"] for row in conllu.read(path)] == [["a"], ["a", "b", "_"]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\tIch\n", "line 1: expected 10 columns of CoNLL-U"),
        (_conllu(("a", "Ich", "PRON", 0)), "line 2: expected 10 columns of CoNLL-U, the first an id"),
        (_conllu(("1", "a", "X", 0), ("3", "b", "X", 1)), "line 4: expected a sentence of words 1, 2, .* got ids 1, 3"),
        (_conllu(("1-2", "ab", "_", "_"), ("1", "a", "X", 0)), "line 4: expected .* got ids 1-2, 1"),
    ],
)
def test_what_is_no_conllu_is_one_line(tmp_path, text, message):
    (tmp_path / "bad.conllu").write_text(text, encoding="utf-8")
    with pytest.raises(XlscaleError, match=rf"bad\.conllu, {message}") as error:
        list(conllu.read(tmp_path / "bad.conllu"))
    assert "\n" not in str(error.value)


def test_either_release_of_ud_is_found_for_its_languages(monkeypatch, tmp_path):
    """Both releases hold both languages."""
    for release in ("2.5", "2.7"):
        for code in ("de", "lt"):
            path = tmp_path / f"ud-treebanks-v{release}/UD_Own-Own/{code}_own-ud-test.conllu"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(GERMAN)
    monkeypatch.setenv("XLSCALE_UD", str(tmp_path))
    for name in ("XLSCALE_HUB", "XLSCALE_XTREME"):
        monkeypatch.delenv(name, raising=False)
    source = catalogue.documented("udpos").source
    for code, release in (("de", "2.5"), ("lt", "2.7")):
        (part,) = (part for part in source.parts if part.split == "test" and code in part.named())
        place, (path,) = places.first(source.origins, part, code)
        assert (place.origin, path.parts[-3]) == ("ud", f"ud-treebanks-v{release}")


@pytest.mark.parametrize(
    ("gold", "message"),
    [
        ("de-1\ten-1\nde-2 en-2\n", r"gold, line 2: expected an id, a tab and an English id, got 'de-2 en-2'"),
        ("de-1\ten-1\nde-1\ten-2\n", "gold, line 2: expected each id once, got 'de-1' again"),
        ("de-1\ten-1\nde-7\ten-2\n", r"gold: expected ids of .*de-en\.dev\.de, got 'de-7'"),
        (None, r"gold: expected UTF-8 text \(.*No such file"),
    ],
)
def test_the_gold_pairs_of_bucc_lie_beside_and_are_checked(tmp_path, gold, message):
    (tmp_path / "de-en.dev.de").write_text("de-1\tWasser\nde-2\tHaus\n")
    (tmp_path / "de-en.dev.en").write_text("en-1\twater\n")
    (tmp_path / "de-en.dev.gold").write_text("de-1\ten-1\n")
    paths = sorted(tmp_path.glob("de-en.dev.*[!n]"))
    assert [row["aligned"] for row in convert.read("bucc", paths)] == ["en-1", "de-2"]
    assert list(convert.read("bucc", [tmp_path / "de-en.dev.en"])) == [{"id": "en-1", "text": "water"}]
    (tmp_path / "de-en.dev.gold").unlink()
    if gold is not None:
        (tmp_path / "de-en.dev.gold").write_text(gold)
    with pytest.raises(XlscaleError, match=message) as error:
        list(convert.read("bucc", paths))
    assert "\n" not in str(error.value)


def test_both_gold_files_of_bucc_are_read_and_pinned(given):
    card = catalogue.data_card("bucc2018")
    named = {name for name, _ in inputs.files(card)}
    assert {"$XLSCALE_XTREME/bucc2018/de-en.dev.gold", "$XLSCALE_LABELS/bucc2018/test-de.tsv"} <= named
    rows = convert.rows(card).to_pandas()
    for pool, part in rows.groupby("pool"):
        english = set(part.loc[part["language"] == "en", "group"])
        assert part.loc[part["language"] != "en", "group"].isin(english).sum() == (3 if "dev" in pool else 4), pool


def test_labels_that_lie_apart_are_joined_by_line_or_by_id(tmp_path):
    text, tags = tmp_path / "text.tsv", tmp_path / "tags.tsv"
    text.write_text("a\ncat\n\nwater\n")
    tags.write_text("DET\nNOUN\n\nNOUN\n")
    assert [row["tags"] for row in readers.tags(text, tags)] == [["DET", "NOUN"], ["NOUN"]]
    with pytest.raises(XlscaleError, match=r"text\.tsv, line 1: expected a tag .*XTREME's download takes labels out"):
        list(readers.tags(text))
    tags.write_text("DET\nNOUN\n")
    with pytest.raises(XlscaleError, match=r"tags\.tsv, line 3: expected a line for each of .*text\.tsv"):
        list(readers.tags(text, tags))
    rows, labels = tmp_path / "rows.jsonl", tmp_path / "labels.jsonl"
    rows.write_text('{"idx": 0, "label": 0}\n{"idx": 1, "label": 0}\n')
    labels.write_text('{"idx": 1, "label": 1}\n{"idx": 0, "label": 0}\n')
    assert [row["label"] for row in readers.jsonl(rows, labels)] == [0, 1]


@pytest.mark.parametrize(
    ("rows", "labels", "where"),
    [
        ('{"idx": 1}\n{"idx": 0}\n', '{"label": 1}\n{"label": 0}\n', "rows"),
        ('{"a": 1}\n{"a": 0}\n', '{"idx": 1, "label": 1}\n{"idx": 0, "label": 0}\n', "labels"),
        ('{"idx": 0}\n{"idx": 1}\n', '{"idx": 1, "label": 1}\n{"idx": 0, "label": 0}\n{"label": 1}\n', "labels"),
        ('{"idx": "b"}\n{"idx": "a"}\n', '{"label": 1}\n{"label": 0}\n', "rows"),
        ('{"idx": 1}\n', '{"idx": true, "label": 1}\n', "labels"),
        ('{"idx": 1.0}\n', '{"idx": 1, "label": 1}\n', "rows"),
    ],
)
def test_labels_in_an_order_that_nobody_knows_are_refused(tmp_path, rows, labels, where):
    """Joined line by line they would be those of other rows."""
    for name, text in (("rows", rows), ("labels", labels)):
        (tmp_path / f"{name}.jsonl").write_text(text)
    with pytest.raises(XlscaleError, match=rf"{where}\.jsonl: idx: expected one in every line of both files, or "):
        [*readers.jsonl(tmp_path / "rows.jsonl", tmp_path / "labels.jsonl")]


def test_json_with_a_key_twice_is_refused(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"label": 0, "label": 1}\n')
    with pytest.raises(XlscaleError, match=r"x\.json, line 1: not valid JSON \(key 'label': expected once\)"):
        [*readers.jsonl(path)]
    path.write_text('{"data": [], "data": []}')
    with pytest.raises(XlscaleError, match=r"x\.json: expected SQuAD's JSON \(key 'data': expected once\)"):
        [*readers.squad(path)]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400"])
def test_json_with_a_number_that_is_not_finite_is_refused(tmp_path, number):
    path = tmp_path / "x.json"
    path.write_text(f'{{"label": {number}}}\n')
    with pytest.raises(
        XlscaleError, match=rf"x\.json, line 1: not valid JSON \(expected a finite number, got {number}\)"
    ):
        [*readers.jsonl(path)]
    path.write_text(f'{{"data": [{number}]}}')
    with pytest.raises(
        XlscaleError, match=rf"x\.json: expected SQuAD's JSON \(expected a finite number, got {number}\)"
    ):
        [*readers.squad(path)]


def test_what_is_too_long_to_be_held_is_refused_before_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "LONGEST", 10)
    monkeypatch.setattr(readers, "LARGEST", 10)
    path = tmp_path / "x.json"
    path.write_text(f"{'a' * 9}\n{'b' * 10}\n")
    with pytest.raises(XlscaleError, match=r"x\.json: expected UTF-8 text \(a line of more than 10 characters\)"):
        [*readers.lines(path)]
    with pytest.raises(XlscaleError, match=r"x\.json: expected at most 10 bytes"):
        [*readers.squad(path)]
    path.write_text(f"{'a' * 9}\n")
    assert [*readers.lines(path)] == [{"text": "a" * 9}]


def test_labels_without_idx_are_those_of_the_same_line(tmp_path):
    rows, labels = tmp_path / "rows.jsonl", tmp_path / "labels.jsonl"
    rows.write_text('{"idx": 7, "label": 0}\n{"idx": 8, "label": 0}\n')
    labels.write_text('{"label": 1}\n{"label": 0}\n\n')
    assert [row["label"] for row in readers.jsonl(rows, labels)] == [1, 0]
    for text, message in (
        ('{"label": 1}\n', "labels.jsonl: expected 2 lines as in .*rows.jsonl, got 1"),
        ('{"label": 1}\n{"idx": 8}\n', "labels.jsonl, line 2: expected a label"),
        ('{"label": 1}\n[1]\n', r"labels.jsonl, line 2: expected a JSON object, got \[1\]"),
        ('{"idx": 7, "label": 1}\n{"idx": 7, "label": 1}\n', "labels.jsonl: idx: expected another one in every line"),
        ('{"idx": 7, "label": 1}\n{"idx": 9, "label": 1}\n', "labels.jsonl: expected a label for idx 8"),
    ):
        labels.write_text(text)
        with pytest.raises(XlscaleError, match=message):
            list(readers.jsonl(rows, labels))


BOM = "\ufeff"
FILES = {  # reader -> a file, and what is read of it
    "lines": ("ein Haus\nzwei\n", [{"text": "ein Haus"}, {"text": "zwei"}]),
    "tsv": ("ein\tHaus\n", [{"c0": "ein", "c1": "Haus"}]),
    "tags": ("Haus\tNOUN\nist\tAUX\n", [{"tokens": ["Haus", "ist"], "tags": ["NOUN", "AUX"]}]),
    "jsonl": ('{"a": 1}\n{"a": 2}\n', [{"a": 1}, {"a": 2}]),
    "conllu": ("1\tHaus\t_\tNOUN\t_\t_\t0\t_\t_\t_\n\n", [{"tokens": ["Haus"], "tags": ["NOUN"]}]),
    "bucc": ("de-1\tein Haus\n", [{"id": "de-1", "text": "ein Haus"}]),
}
QUESTION = {"id": "q", "question": "?", "answers": [{"text": "x", "answer_start": 0}]}
QUESTIONS = [{"title": "t", "paragraphs": [{"context": "x", "qas": [QUESTION]}]}]


@pytest.mark.parametrize("written", [True, False])
def test_lines_of_what_is_no_plain_file_are_not_waited_for(tmp_path, written):
    path = tmp_path / "pipe.jsonl"
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR) if written else None  # there will be more, some day
    try:
        with pytest.raises(XlscaleError, match=r"pipe\.jsonl: expected UTF-8 text \(.*expected a plain file"):
            [*readers.text_lines(path)]
        with pytest.raises(XlscaleError, match=r"pipe\.jsonl: expected a plain file"):
            [*readers.parquet(path)]
    finally:
        if written:
            os.close(writer)


@pytest.mark.parametrize("end", ["", "\n", " \n\t\n"])
@pytest.mark.parametrize("reader", FILES)
def test_a_mark_of_byte_order_and_blank_lines_at_the_end_are_no_text(tmp_path, reader, end):
    text, expected = FILES[reader]
    path = tmp_path / "de.en"
    for written in (text, text.replace("\n", "\r\n")):
        path.write_bytes((BOM + written + end).encode())
        assert list(convert.read(reader, [path])) == expected


def test_questions_are_those_that_the_scorer_reads(tmp_path):
    path = tmp_path / "q.json"
    expected = None
    for value in ({"data": QUESTIONS}, QUESTIONS):
        for mark in ("", BOM):
            path.write_text(mark + json.dumps(value), encoding="utf-8")
            found = list(readers.squad(path))
            assert (expected := expected or found) == found and found[0]["id"] == "q"
            assert read_questions(Labels(path, "xquad", "de")) == {"q": ["x"]}


def test_empty_answers_beside_true_ones_are_left_out(tmp_path):
    path = tmp_path / "q.json"
    both = QUESTION | {"answers": [{"text": "", "answer_start": 0}, *QUESTION["answers"]]}
    path.write_text(json.dumps([{"title": "t", "paragraphs": [{"context": "x", "qas": [both]}]}]))
    assert next(readers.squad(path))["answers"] == {"text": ["x"], "answer_start": [0]}
    assert read_questions(Labels(path, "xquad", "de")) == {"q": ["", "x"]}


# format -> a file of labels that `make score` takes, and the labels in it
ACCEPTED = {
    "labels": ("neutral\nentailment\n", ["neutral", "entailment"]),
    "indices": ("1\n0\n", ["1", "0"]),
    "tags": ("NOUN\nVERB\n", ["NOUN", "VERB"]),
}


@pytest.mark.parametrize("write", ["{}", BOM + "{}", "{}\n \n", BOM + "{}\n\n", "{}\t"])
@pytest.mark.parametrize("kind", ACCEPTED)
def test_labels_that_the_scorer_takes_are_taken_here(tmp_path, kind, write):
    text, labels = ACCEPTED[kind]
    for ends in (text, text.replace("\n", " \n"), text.replace("\n", "\r\n")):
        given, rows = tmp_path / "labels.tsv", tmp_path / "rows.tsv"
        given.write_bytes(write.format(ends.removesuffix("\n")).encode())
        rows.write_text("eins\nzwei\n")
        task = {"labels": "xnli", "indices": "tatoeba", "tags": "udpos"}[kind]
        source = Labels(given, task, "de")
        assert set(FORMATS[kind](TASKS[task], source, source).values()) == {100.0}
        read = readers.tags if kind == "tags" else readers.lines
        found = [row["tags" if kind == "tags" else "label"] for row in read(rows, given)]
        assert found == ([labels] if kind == "tags" else labels)


def test_gold_pairs_that_the_scorer_takes_are_taken_here(tmp_path):
    gold, rows = tmp_path / "test-de.tsv", tmp_path / "x.de"
    gold.write_bytes((BOM + "de-1 \t en-7\r\nde-2\ten-8\n \n").encode())
    rows.write_text("de-1\tein Haus\nde-2\tzwei\n")
    source = Labels(gold, "bucc2018", "de")
    assert read_pairs(source) == {("de-1", "en-7"): None, ("de-2", "en-8"): None}
    assert [row["aligned"] for row in convert.read("bucc", [rows], gold)] == ["en-7", "en-8"]


def test_an_index_from_1_beside_a_text_is_refused(given, monkeypatch):
    path = given / "labels" / "tatoeba" / "test-az.tsv"
    whole = path.read_text()
    monkeypatch.delenv(places.HUB)
    try:
        path.write_text("".join(f"{int(line) + 1}\n" for line in whole.split()))
        with pytest.raises(
            XlscaleError, match=r"tatoeba: item 'az-\d': group: expected that of an English row .*, got 'az-"
        ):
            convert.make(catalogue.data_card("tatoeba"))
    finally:
        path.write_text(whole)


def test_a_sentence_ends_at_an_empty_line_and_nowhere_else(tmp_path):
    text, tags = tmp_path / "text.tsv", tmp_path / "tags.tsv"
    text.write_text("a\ncat\n\nwater\n\n\n")
    tags.write_text("DET\nNOUN\n\nNOUN")
    assert [row["tokens"] for row in readers.tags(text, tags)] == [["a", "cat"], ["water"]]
    for rows, message in (
        ("a\tDET\n\u3000\tX\ncat\tNOUN\n", r"text\.tsv, line 2: expected a word, got '\\u3000' with tag 'X'"),
        ("a\tDET\n\tO\n", r"text\.tsv, line 2: expected a word, got '' with tag 'O'"),
    ):
        text.write_text(rows, encoding="utf-8")
        with pytest.raises(XlscaleError, match=message):
            list(readers.tags(text))
    text.write_text("a\n\nb\n")
    tags.write_text("DET\nO\nNOUN\n")
    with pytest.raises(XlscaleError, match=r"text\.tsv, line 2: expected a word, got '' with tag 'O'"):
        list(readers.tags(text, tags))


def test_a_table_s_quotes_are_closed_in_their_line(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text('"a ""b"""\tc "d" e\tneutral\r\nf\tg\tentailment\r\n')
    assert [[*row.values()] for row in readers.tsv(path)] == [['a "b"', 'c "d" e', "neutral"], ["f", "g", "entailment"]]
    path.write_text('a\tb\tneutral\n"c\td\tentailment\ne\tf\tneutral\n')
    with pytest.raises(XlscaleError, match=r"x\.tsv, line 2: expected fields with tabs between, quotes closed"):
        list(readers.tsv(path))


@pytest.mark.parametrize(
    ("text", "start", "found"),
    [
        ("cat", 2, ("cat", 2)),
        (" cat ", 1, ("cat", 2)),
        ("cat", 0, ("cat", 2)),
        ("cat", 12, ("cat", 9)),
        ("cat", -1, ("cat", 2)),
        ("dog", 2, None),
        (" ", 1, None),
        ("far", 2, None),
    ],
)
def test_an_answer_is_looked_for_near_its_place(text, start, found):
    context = "a cat, a cat." + " " * 30 + "far"
    if found:
        assert columns.located(context, text, start) == found
    else:
        with pytest.raises(columns.Misplaced, match=f"expected '{text}' at character"):
            columns.located(context, text, start)


def test_rows_without_their_answers_are_counted_and_few(given, monkeypatch, tmp_path, capsys):
    lock = convert.make(catalogue.data_card("covidqa"))
    assert lock.dropped == 1 and sum(n for split in lock.splits.values() for n in split.values()) == 159
    assert catalogue.locked("covidqa").dropped == 1
    monkeypatch.setattr(download, "client", None)
    assert "159 rows (1 left out: their answers are not where" in ensure.fetch(catalogue.data_card("covidqa"))
    path = _copied(given, monkeypatch, tmp_path, "deepset/covid_qa_deepset") / "covid_qa_deepset/train/0000.parquet"
    rows = pq.read_table(path).to_pylist()
    for row in rows[:9]:
        row["answers"] = {"text": ["nowhere"], "answer_start": [0]}
    pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(path)), path)
    with pytest.raises(XlscaleError, match=r"record 1: answer_starts: .*expected at most 5% of rows like that, got 9"):
        convert.rows(catalogue.data_card("covidqa"))
    rows[0]["answers"] = {"text": ["cat"], "answer_start": []}
    pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(path)), path)
    with pytest.raises(XlscaleError, match=r"record 1: answer_starts: expected 1, one per answer, got 0"):
        convert.rows(catalogue.data_card("covidqa"))


def test_questions_whose_answers_were_taken_out_are_refused(tmp_path):
    question = {"id": "q1", "question": "?", "answers": [{"text": "", "answer_start": 0}]}
    content = {"data": [{"paragraphs": [{"context": "a cat", "qas": [question]}]}], "version": "1"}
    (tmp_path / "test-en.json").write_text(json.dumps(content))
    with pytest.raises(XlscaleError, match=r"test-en\.json: id 'q1': no true answer; XTREME's download"):
        list(readers.squad(tmp_path / "test-en.json"))


def test_a_mention_is_told_with_its_sentence_and_braces_are_escaped():
    text = "First one. Then {Bo} met Ann\nthere. Last."
    start = text.index("Ann")
    context = {"text": text, "sentence_spans": [{"start": 0, "end": 10}, {"start": 11, "end": 35}]}
    mention = {"mention_span": {"start": start, "end": start + 3, "text": "Ann"}}
    assert mewslix.query_text(context, mention) == "Ann: Then (Bo) met { Ann } there."


@pytest.mark.parametrize("name", SOURCES)
def test_every_card_gives_rows_from_the_copies_of_its_source(given, name):
    lock = convert.make(catalogue.data_card(name))
    card = catalogue.data_card(name)
    documented = catalogue.documented(name)
    assert lock.card == name and lock.files and lock.sha256 == sha256_file(card.path)
    counted = pd.read_parquet(card.path).groupby(["split", "language"]).size()
    assert counted.to_dict() == {(s, code): n for s, languages in lock.splits.items() for code, n in languages.items()}
    assert set(lock.splits) == set(documented.splits)
    for split, languages in documented.splits.items():
        assert set(languages) <= set(lock.splits[split]), split
    loaded = load.splits(card)
    assert {split: len(rows) for split, rows in loaded.items()} == {
        split: sum(rows.values()) for split, rows in card.splits.items()
    }
    for rows in loaded.values():
        assert all(rows[TEXT[card.family]])


OF_XTREME = sorted(
    name
    for name in SOURCES
    if not catalogue.documented(name).variant_of  # whose rows are those of the original: see test_variants
    and any(origin.variable == "XLSCALE_XTREME" for origin in catalogue.documented(name).source.origins.values())
)


@pytest.mark.parametrize("name", OF_XTREME)
def test_xtreme_s_layout_alone_gives_the_same_rows(given, monkeypatch, name):
    card = catalogue.data_card(name)
    expected = convert.rows(card).to_pandas()
    monkeypatch.delenv(places.HUB)
    monkeypatch.delenv("XLSCALE_UD")
    found = convert.rows(card).to_pandas()
    # XTREME's files have no names of rows, where the hub's have some, and of Tatoeba another order.
    named, order = ["item", "group", "article"], ["split", "language", "text"]
    found, expected = (
        rows.drop(columns=named, errors="ignore").sort_values(order[: 3 if name == "tatoeba" else 2], kind="stable")
        for rows in (found, expected)
    )
    assert found.reset_index(drop=True).equals(expected.reset_index(drop=True))


def test_universal_dependencies_themselves_give_the_same_tags(given, monkeypatch):
    card = catalogue.data_card("udpos")
    expected = convert.rows(card)
    monkeypatch.delenv("XLSCALE_XTREME")
    assert convert.rows(card).equals(expected)


def test_items_are_unique_in_their_split_and_language(given, monkeypatch, tmp_path):
    rows = convert.rows(catalogue.data_card("xquad")).to_pandas()
    english = rows[rows["language"] == "en"]
    assert set(english.loc[english["split"] == "test", "item"]) < set(english.loc[english["split"] == "dev", "item"])
    path = _copied(given, monkeypatch, tmp_path, "rajpurkar/squad_v2") / "squad_v2" / "train" / "0000.parquet"
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table, table.slice(3, 1)]), path)
    with pytest.raises(XlscaleError, match=r"item: '0003' occurs more than once in split train, language 'en'"):
        convert.rows(catalogue.data_card("squad_v2"))


def test_parallel_rows_share_a_group_and_others_do_not(given):
    for name, parallel in (("xnli", True), ("xcopa", True), ("xquad", True), ("panx", False), ("tatoeba", False)):
        rows = convert.rows(catalogue.data_card(name)).to_pandas()
        shared = rows[(rows["split"] == "test") & (rows["language"] != "en")].groupby("group")["language"].nunique()
        assert (shared.max() > 5) == parallel, name


def test_equal_rows_of_one_source_are_on_one_side(given):
    rows = convert.rows(catalogue.data_card("covidqa")).to_pandas()
    assert set(rows["split"]) == {"train", "dev"}
    sides = rows.groupby("article")["split"].nunique()
    assert len(sides) == 80 and sides.max() == 1


def test_where_the_right_choice_stands_is_drawn(given):
    rows = convert.rows(catalogue.data_card("sciq")).to_pandas()
    assert all(len(set(row)) == 4 for row in rows["choices"])
    assert rows["answer"].nunique() == 4  # the source has it first, always


def test_a_layout_of_other_names_is_found(given, monkeypatch, tmp_path):
    hub = tmp_path / "other"
    pushed = hub / "Rowan" / "hellaswag" / "data"
    pushed.mkdir(parents=True)
    source = given / "hub" / "Rowan" / "hellaswag" / "default"
    for split in ("train", "validation"):
        shutil.copyfile(source / split / "0000.parquet", pushed / f"{split}-00000-of-00001.parquet")
    expected = convert.rows(catalogue.data_card("hellaswag"))
    monkeypatch.setenv(places.HUB, str(hub))
    assert convert.rows(catalogue.data_card("hellaswag")).equals(expected)


def _copied(given, monkeypatch, tmp_path, repository):
    """A copy of the hub with one repository, to be damaged."""
    hub = tmp_path / "damaged"
    shutil.copytree(given / "hub" / repository, hub / repository)
    monkeypatch.setenv(places.HUB, str(hub))
    return hub / repository


def test_what_is_not_here_is_one_line_that_says_where_it_was_looked_for(given, monkeypatch, tmp_path):
    repository = _copied(given, monkeypatch, tmp_path, "cambridgeltl/xcopa")
    shutil.copytree(given / "hub" / "aps", tmp_path / "damaged" / "aps")
    shutil.rmtree(repository / "qu")
    monkeypatch.delenv("XLSCALE_XTREME")
    with pytest.raises(XlscaleError) as error:
        convert.make(catalogue.data_card("xcopa"))
    message = str(error.value)
    assert "\n" not in message and "test, language 'qu': not on this machine" in message
    assert "cambridgeltl/xcopa/qu/test/*.parquet below $XLSCALE_HUB" in message
    assert "$XLSCALE_XTREME/xcopa/test-qu.jsonl with $XLSCALE_LABELS/xcopa/test-qu.jsonl" in message
    monkeypatch.delenv("XLSCALE_CCG")
    with pytest.raises(XlscaleError, match=r"expected \$XLSCALE_CCG/train.tsv; CCGbank is licensed .*a word, a tab"):
        convert.make(catalogue.data_card("ccg"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.drop_columns(["ctx"]),
            "record 1: field 'ctx': expected in every record, found ind, activity_label",
        ),
        (
            lambda t: t.set_column(9, "label", pa.array(["9"] * len(t))),
            "answer: expected the index of one of 4 choices",
        ),
        (lambda t: t.set_column(9, "label", pa.array([""] * len(t))), "answer: expected the index of a choice, got ''"),
    ],
)
def test_a_file_of_another_schema_is_one_line(given, monkeypatch, tmp_path, change, message):
    path = _copied(given, monkeypatch, tmp_path, "Rowan/hellaswag") / "default" / "train" / "0000.parquet"
    pq.write_table(change(pq.read_table(path)), path)
    with pytest.raises(XlscaleError, match=r"hellaswag: .*0000\.parquet, record 1: ") as error:
        convert.make(catalogue.data_card("hellaswag"))
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not catalogue.lock_path("hellaswag").exists()


def test_a_truncated_file_is_one_line(given, monkeypatch, tmp_path):
    path = _copied(given, monkeypatch, tmp_path, "Rowan/hellaswag") / "default" / "train" / "0000.parquet"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(XlscaleError, match=r"0000\.parquet: expected a whole Parquet file"):
        convert.make(catalogue.data_card("hellaswag"))


@pytest.mark.parametrize(
    ("tag", "message"),
    [
        ("N\u200b", r"labels.*: expected text that shows all it holds, got U\+200B"),
        ("N N", "labels: expected .*tags without any, and no plain tag 'O', .*, got 'N N'"),
        ("O", "labels: expected .*, got 'O'"),
    ],
)
def test_labels_that_cannot_be_told_from_others_are_one_line_and_never_locked(
    given, monkeypatch, tmp_path, tag, message
):
    shutil.copytree(os.environ["XLSCALE_CCG"], tmp_path / "ccg")
    monkeypatch.setenv("XLSCALE_CCG", str(tmp_path / "ccg"))
    path = tmp_path / "ccg" / "train.tsv"
    path.write_text(f"{path.read_text(encoding='utf-8')}\nword\t{tag}\n", encoding="utf-8")
    with pytest.raises(XlscaleError, match=rf"^ccg: {message}"):
        convert.make(catalogue.data_card("ccg"))
    assert not catalogue.lock_path("ccg").exists()


def test_what_was_locked_is_checked_ever_after(given, monkeypatch, tmp_path):
    path = _copied(given, monkeypatch, tmp_path, "Rowan/hellaswag") / "default" / "train" / "0000.parquet"
    unlocked = catalogue.data_card("hellaswag")
    with pytest.raises(XlscaleError, match=r"hellaswag: not fetched, expected .*hellaswag.json; run `make data-fetch"):
        load.splits(unlocked)
    lock = convert.make(unlocked)
    card = catalogue.data_card("hellaswag")
    assert card.sha256 == lock.sha256 != unlocked.sha256
    first = load.table(card)
    card.path.unlink()
    with pytest.raises(XlscaleError, match=r"\.parquet: not found, expected .*; run `make data-fetch CARD=hellaswag`"):
        load.table(card)
    ensure.ensure([card], [])
    assert load.table(card).equals(first)  # made again, and the same
    table = pq.read_table(path)
    pq.write_table(table.slice(0, len(table) - 1), path)
    assert load.table(card).equals(first)  # the cache is what the lock says
    card.path.unlink()
    with pytest.raises(XlscaleError, match=r"0000\.parquet: sha256: expected [0-9a-f]{64} as in .*hellaswag.json, got"):
        ensure.ensure([card], [])


def test_another_mapping_does_not_pass_for_what_was_locked(given):
    convert.make(catalogue.data_card("hellaswag"))
    card = catalogue.data_card("hellaswag")
    card.path.unlink()
    other = card.source.model_copy(update={"columns": card.source.columns | {"text": "{ctx}."}})
    with pytest.raises(XlscaleError, match=r"hellaswag: sha256: expected .* made [0-9a-f]{64}; the bytes depend"):
        convert.make(card.model_copy(update={"source": other}))


def test_a_broken_lock_is_one_line(given):
    path = catalogue.lock_path("sciq")
    path.parent.mkdir(parents=True)
    path.write_text('{"card": "sciq"}')
    with pytest.raises(XlscaleError, match=r"sciq.json: sha256: Field required"):
        catalogue.data_card("sciq")


@pytest.fixture
def shards(given, tmp_path):
    """A copy of sciq's repository with its training split in two files."""
    folder = tmp_path / "remote"
    pushed = folder / "allenai" / "sciq" / "data"
    pushed.mkdir(parents=True)
    source = given / "hub" / "allenai" / "sciq" / "default"
    table = pq.read_table(source / "train" / "0000.parquet")
    pq.write_table(table.slice(0, 10), pushed / "train-00000-of-00002.parquet")
    pq.write_table(table.slice(10), pushed / "train-00001-of-00002.parquet")
    shutil.copyfile(source / "validation" / "0000.parquet", pushed / "validation-00000-of-00001.parquet")
    return folder


def test_a_fetch_takes_what_is_missing_at_one_commit_and_locks_it(given, monkeypatch, capsys):
    hub = Hub(given / "hub", monkeypatch, branch="refs/convert/parquet")
    assert main(["data", "fetch", "sciq"]) == 0
    assert hub.given == [("default/train/0000.parquet", "c" * 40), ("default/validation/0000.parquet", "c" * 40)]
    assert catalogue.locked("sciq").revisions == {"allenai/sciq": "c" * 40}
    assert "sciq: 22 rows from 2 files" in capsys.readouterr().out
    hub.asked.clear()
    assert main(["data", "fetch", "sciq"]) == 0 and len(hub.given) == 2 and not hub.asked
    catalogue.data_card("sciq").path.unlink()
    ensure.ensure([catalogue.data_card("sciq")], [])
    assert len(load.table(catalogue.data_card("sciq"))) == 22 and not hub.asked  # made again of what is in the cache


def test_an_interrupted_fetch_is_not_taken_for_a_whole_one(shards, monkeypatch, capsys):
    hub = Hub(shards, monkeypatch, broken="data/train-00001-of-00002.parquet")
    assert main(["data", "fetch", "sciq"]) == 1 and catalogue.lock("sciq") is None
    assert "train-00001-of-00002.parquet: could not be downloaded (reset by peer)" in capsys.readouterr().err
    with pytest.raises(XlscaleError, match="not on this machine"):
        convert.rows(places.at(catalogue.data_card("sciq"), {"allenai/sciq": "c" * 40}))
    hub.broken = ""
    assert main(["data", "fetch", "sciq"]) == 0
    assert len(hub.given) == 3  # the first file is still there, and of the same commit
    assert catalogue.locked("sciq").splits == {"train": {"en": 16}, "dev": {"en": 6}}


def test_a_library_that_is_content_with_what_is_there_is_not_believed(shards, monkeypatch):
    hub = Hub(shards, monkeypatch)
    monkeypatch.setattr(hub, "snapshot_download", lambda *_, **__: None)  # as it does where the hub cannot be reached
    with pytest.raises(XlscaleError, match=r"sciq: data/train-.*: could not be downloaded \(the hub cannot be reached"):
        remote.fetch(catalogue.data_card("sciq"))


def test_what_another_commit_left_is_not_mixed_in(shards, monkeypatch):
    hub = Hub(shards, monkeypatch, broken="data/train-00001-of-00002.parquet")
    assert main(["data", "fetch", "sciq"]) == 1
    hub.broken = ""
    hub.moves_on("d" * 40)
    assert main(["data", "fetch", "sciq"]) == 0
    assert {commit for _, commit in hub.given} == {"d" * 40} and len(hub.given) == 3
    assert catalogue.locked("sciq").revisions == {"allenai/sciq": "d" * 40}
    # A lock holds its commit, whatever is newest; without it the newest is fetched, not what is in the cache.
    hub.moves_on("e" * 40)
    assert main(["data", "fetch", "sciq"]) == 0 and not hub.given
    catalogue.lock_path("sciq").unlink()
    catalogue.clear_caches()
    assert main(["data", "fetch", "sciq"]) == 0 and len(hub.given) == 3
    assert catalogue.locked("sciq").revisions == {"allenai/sciq": "e" * 40}


def test_a_lock_names_no_commit_that_was_not_downloaded(given, monkeypatch):
    card = catalogue.data_card("sciq")
    claimed = card.source.origins["sciq"].model_copy(update={"revision": "d" * 40, "status": "verified"})
    verified = card.model_copy(update={"source": card.source.model_copy(update={"origins": {"sciq": claimed}})})
    assert convert.make(verified, remote.fetch(verified)).revisions == {"allenai/sciq": None}
    lock = catalogue.lock_path("sciq")
    lock.write_text(lock.read_text().replace('"allenai/sciq": null', f'"allenai/sciq": "{"e" * 40}"'))
    manifest.state([catalogue.LOCKS])
    catalogue.clear_caches()
    message = f"sciq: revision: expected {'d' * 40} of allenai/sciq as in the card, got {'e' * 40} in .*delete the lock"
    for refused in (remote.fetch, convert.make, convert.ensure, load.table):
        with pytest.raises(XlscaleError, match=message):
            refused(verified)
    monkeypatch.setattr(check, "_unreachable", lambda *_: "")
    assert check.table([verified])["verdict"].str.match(message).all()


@pytest.mark.parametrize("field", ["card", "sha256", "splits", "labels", "dropped", "revisions", "files"])
def test_a_lock_that_was_edited_is_not_believed(given, field):
    card = catalogue.data_card("scitail")
    convert.make(card)
    path = catalogue.lock_path("scitail")
    content = json.loads(path.read_text())
    other = {"card": "sciq", "sha256": "0" * 64, "splits": {"train": {"de": 1}}, "labels": ["a"], "dropped": 1}
    other |= {"revisions": {}, "files": {name: [size + 1, sha] for name, (size, sha) in content["files"].items()}}
    path.write_text(json.dumps(content | {field: other[field]}, indent=1))
    catalogue.clear_caches()
    for reads in (
        lambda: catalogue.lock("scitail"),
        lambda: catalogue.data_card("scitail"),
        lambda: convert.make(card),
    ):
        with pytest.raises(
            XlscaleError, match=r"scitail.json: sha256: expected .*; remove it and run `make data-fetch"
        ):
            reads()
    path.unlink()
    catalogue.clear_caches()
    assert convert.make(catalogue.data_card("scitail")).model_dump()["sha256"] == content["sha256"]


def test_half_a_repository_of_the_user_s_own_is_not_filled_up(given, monkeypatch, tmp_path):
    hub = Hub(given / "hub", monkeypatch)
    own = tmp_path / "own"
    shutil.copytree(given / "hub" / "allenai" / "sciq", own / "allenai" / "sciq")
    shutil.rmtree(own / "allenai" / "sciq" / "default" / "train")
    monkeypatch.setenv(places.HUB, str(own))
    with pytest.raises(XlscaleError, match=r"allenai/sciq: expected all of its files below \$XLSCALE_HUB or none"):
        remote.fetch(catalogue.data_card("sciq"))
    assert not hub.given


def test_files_that_the_lock_does_not_know_are_not_as_locked(given, monkeypatch, tmp_path):
    repository = _copied(given, monkeypatch, tmp_path, "allenai/sciq")
    convert.make(catalogue.data_card("sciq"))
    card = catalogue.data_card("sciq")
    card.path.unlink()
    shutil.copyfile(repository / "default/train/0000.parquet", repository / "default/train/0001.parquet")
    message = (
        r"sciq: files: expected those of .*sciq\.json, allenai/sciq/default/train/0001\.parquet is here and not there"
    )
    for compare in (check._hash, convert.make):
        with pytest.raises(XlscaleError, match=message):
            compare(card)
    (repository / "data").mkdir()
    for split in ("train", "validation"):
        shutil.move(repository / f"default/{split}/0000.parquet", repository / f"data/{split}-00000-of-00001.parquet")
    shutil.rmtree(repository / "default")
    with pytest.raises(XlscaleError, match=r"data/train-00000-of-00001\.parquet is here and not there \(and 3 more\)"):
        check._hash(card)


def test_what_was_not_compared_does_not_agree(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(schema, "CACHE", tmp_path)
    unbuilt = next(name for name in catalogue.names("data") if not catalogue.data_card(name).bundled)
    found = check.table([catalogue.model_card("e5_small"), catalogue.data_card(unbuilt), catalogue.data_card("topic")])
    assert list(found["verdict"]) == ["not checked", "not built", "agrees"]
    assert main(["data", "check", "e5_small", unbuilt]) == 0
    assert "not checked" in capsys.readouterr().out


def _offline(*_, **__):
    raise ConnectionError("Name or service not known")


def test_without_a_network_the_check_says_so_per_card(given, monkeypatch, capsys):
    api = type("Api", (), {"repo_info": staticmethod(_offline)})
    monkeypatch.setattr(download, "client", lambda: type("Client", (), {"HfApi": api}))
    download.commit.cache_clear()
    check._unreachable.cache_clear()
    convert.make(catalogue.data_card("sciq"))
    assert main(["data", "check", "sciq", "scitail", "ccg"]) == 1
    out, err = capsys.readouterr()
    table = {line.split()[0]: line for line in out.split("\n\n")[0].splitlines()[1:]}
    # What was locked from files that are here is asked of no one.
    assert " no " not in table["sciq"] and "as locked" in table["sciq"] and "train 16" in table["sciq"]
    assert " no " in table["scitail"] and "not locked" in table["scitail"]
    lines = err.splitlines()
    assert len(lines) == 3 and all(line.startswith("error: ") for line in lines)
    assert "allenai/sciq" not in err
    assert "allenai/scitail: revision main: the hub does not give it (Name or service not known)" in err
    assert "train, en: expected 11679 rows as in the card, got 16 (and 1 more)" in err
    assert "ccg: not fetched: there is no lock" in err
    assert main(["data", "check"]) == 1 and "expected the name of a study or of a card" in capsys.readouterr().err
