"""make new-data: what it writes loads, text stays text, and every fault is named with its line and field."""

import csv
import io
import json
import re
import subprocess
import sys
from types import SimpleNamespace

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xlscale import tasks
from xlscale.acquire import flat_files, new_card, new_data
from xlscale.cards import catalogue, schema
from xlscale.commands import check, crate, new
from xlscale.core.files import LINES, XlscaleError
from xlscale.core.strict import read_yaml, unseen
from xlscale.data import load
from xlscale.data import schema as schema_
from xlscale.interchange import citation, croissant

HEAD = ["split", "language", "text", "label"]
ROWS = [
    ["train", "en", "A wonderful film", "good"],
    ["train", "en", "Dull and far too long", "bad"],
    ["dev", "en", "I would watch it again", "good"],
    ["test", "en", "Warm and funny", "good"],
    ["test", "de", "Warm und lustig", "good"],
    ["test", "de", "Es passiert nichts", "bad"],
]
STATED = "licence=CC0-1.0; citation=this test; limits=tiny"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty manifest, and the folder of the user's files."""
    for name in ("data", "bundled", "models", "sources", "mixtures"):
        (tmp_path / "manifest" / name).mkdir(parents=True)
    for module in (catalogue, schema, new_data):
        monkeypatch.setattr(module, "MANIFEST", tmp_path / "manifest")
    catalogue.clear_caches()
    yield tmp_path
    catalogue.clear_caches()


def written(place, suffix=""):
    return sorted(path.name for path in (place / "manifest").rglob(f"*{suffix}") if path.is_file())


def as_csv(rows, head=HEAD, **options):
    text = io.StringIO()
    csv.writer(text, **options).writerows([head, *rows])
    return text.getvalue()


def made(place, content, family="classification", stated=STATED, name="mine.csv"):
    """The card and the rows of what a file with this content gives, the file's order kept within split and language."""
    path = place / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    new.data(str(path), family, stated)
    card = catalogue.data_card(path.stem)
    return card, load.table(card).to_pylist()


def faults(place, content, family="classification", stated=STATED, name="mine.csv"):
    """What is said of a file that cannot be a set, without its name before the place; nothing was written."""
    with pytest.raises(XlscaleError) as raised:
        made(place, content, family, stated, name)
    assert not written(place)
    *found, last = str(raised.value).split("\n") if "\n" in str(raised.value) else [str(raised.value), ""]
    assert last in ("", "nothing was written") and len(found) < LINES
    return [line.replace(f"{place}/", "") for line in found]


def test_a_table_becomes_a_target_whose_card_says_all_that_can_be_computed(place, capsys):
    card, rows = made(place, as_csv(ROWS))
    assert (card.role, card.metric, card.chance, card.labels, card.languages) == (
        *("target", "accuracy", 0.5),
        *(["bad", "good"], ["de"]),
    )
    assert card.splits == {"train": {"en": 2}, "dev": {"en": 1}, "test": {"de": 2, "en": 1}}
    texts = [[row[name] for name in HEAD] for row in rows]
    assert texts == [*ROWS[:3], *ROWS[4:], ROWS[3]]
    assert len({row["item"] for row in rows}) == len(rows) and all(row["item"].startswith("mine-") for row in rows)
    assert check.table([card])["verdict"].tolist() == ["agrees"]


@pytest.mark.parametrize("change", ["other bytes", "another file"])
def test_a_file_that_changes_while_it_is_read_is_not_taken(place, monkeypatch, change):
    (place / "mine").mkdir()
    for name in ("train-en", "dev-en", "test-en", "test-de"):
        (place / "mine" / f"{name}.csv").write_text(as_csv([[*row[2:]] for row in ROWS], HEAD[2:]))
    read = new_data._checked

    def checked(path, *arguments):
        found = read(path, *arguments)
        (path / ("test-en.csv" if change == "other bytes" else "test-fr.csv")).write_text(as_csv(ROWS))
        return found

    monkeypatch.setattr(new_data, "_checked", checked)
    message = r"mine/test-(en|fr)\.csv: expected the same bytes before and after it was read; nothing was written$"
    with pytest.raises(XlscaleError, match=message):
        new.data(str(place / "mine"), "classification", STATED)
    assert not written(place)


def test_what_only_a_person_can_say_is_named_until_it_is_said(place):
    card, _ = made(place, as_csv(ROWS), stated="licence=CC0-1.0")
    (verdict,) = check.table([card])["verdict"]
    assert verdict == "data_manifest/data/mine.yaml: citation, limits: expected what only you can say, got 'not stated'"
    path = place / "manifest" / "data" / "mine.yaml"
    path.write_text(path.read_text().replace(new_card.NOT_STATED, "said"))
    catalogue.clear_caches()
    assert check.table([catalogue.data_card("mine")])["verdict"].tolist() == ["agrees"]


def test_a_crate_holds_what_its_cells_read_and_no_text_without_a_licence(place):
    card, _ = made(place, as_csv(ROWS))
    made(place, as_csv(ROWS), stated="", name="other.csv")
    cells = {name: SimpleNamespace(parameters={"target": name}) for name in ("mine", "other")}
    assert crate._data({}) == [] and crate._data({"one": cells["mine"]}) == [card]
    with pytest.raises(XlscaleError, match=r"other.yaml: licence: expected that of data to be passed on"):
        crate._data(cells)
    described = croissant.manifest(card, citation.citation(), pq.read_schema(card.path))
    assert described["url"] == "mine.parquet" and described["license"]["name"] == "CC0-1.0"


def test_nothing_that_is_there_is_replaced(place):
    made(place, as_csv(ROWS))
    before = {path: path.read_bytes() for path in (place / "manifest").rglob("*") if path.is_file()}
    with pytest.raises(XlscaleError, match=r"name: expected one that no data set has, got 'mine'"):
        made(place, as_csv(ROWS[::-1]))
    (place / "manifest" / "data" / "mine.yaml").unlink()
    catalogue.clear_caches()
    with pytest.raises(XlscaleError, match=r"mine.parquet: expected nothing there"):
        made(place, as_csv(ROWS[::-1]))
    assert all(path.read_bytes() == content for path, content in before.items() if path.exists())
    assert written(place) == ["mine.parquet"]


def test_what_a_killed_run_left_without_its_card_is_completed(place):
    made(place, as_csv(ROWS))
    before = {path.name: path.read_bytes() for path in (place / "manifest").rglob("mine.*")}
    (place / "manifest" / "data" / "mine.yaml").unlink()
    catalogue.clear_caches()
    made(place, as_csv(ROWS))
    assert before == {path.name: path.read_bytes() for path in (place / "manifest").rglob("mine.*")}


SLOW = """
import sys, time
from pathlib import Path
from xlscale.acquire import new_data
from xlscale.cards import catalogue, schema
from xlscale.core.files import XlscaleError
for module in (catalogue, schema, new_data):
    module.MANIFEST = Path(sys.argv[1])
free = new_data._free_name
new_data._free_name = lambda name: (free(name), time.sleep(1))
try:
    print(new_data.add(Path(sys.argv[2]), "classification", {"name": "mine"}))
except XlscaleError as error:
    sys.exit(str(error))
"""


def test_of_two_at_once_one_is_written_and_the_other_is_told(place):
    for name, rows in (("one", ROWS), ("other", ROWS[::-1])):
        (place / f"{name}.csv").write_text(as_csv(rows))
    call = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = [
        subprocess.Popen([sys.executable, "-c", SLOW, place / "manifest", place / f"{name}.csv"], **call)
        for name in ("one", "other")
    ]
    said = [process.communicate(timeout=120) for process in started]
    assert sorted(process.returncode for process in started) == [0, 1], said
    assert "name: expected one that no data set has, got 'mine'" in "".join(told for _, told in said)
    catalogue.clear_caches()
    assert load.table(catalogue.data_card("mine")).num_rows == len(ROWS)
    assert written(place) == ["mine.parquet", "mine.yaml"]


def test_a_small_file_of_any_size_unpacked_is_told_before_it_is_unpacked(place, monkeypatch):
    columns = {name: pa.array([value] * 3000) for name, value in zip(HEAD, ROWS[0], strict=True)}
    pq.write_table(
        pa.table(columns | {"text": pa.array(["x" * 5000] * 3000).dictionary_encode()}), place / "big.parquet"
    )
    assert (place / "big.parquet").stat().st_size < 10_000
    monkeypatch.setattr(flat_files.readers, "LARGEST", 10**6)
    expected = "big.parquet: expected at most 1,000,000 bytes, unpacked there are more"
    assert faults(place, (place / "big.parquet").read_bytes(), name="big.parquet") == [expected]
    monkeypatch.setattr(flat_files, "ROWS", 2999)
    expected = "big.parquet: expected at most 2,999 rows, got 3,000"
    assert faults(place, (place / "big.parquet").read_bytes(), name="big.parquet") == [expected]


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("One\nxlscale: two", "title: expected one line of at most 200 characters that print"),
        ("\u65e5\u672c\u8a9e", "SET: title: paper/fonts/.*: no glyph for"),
        ("Smile \U0001f600", "SET: title: paper/fonts/.*: no glyph for"),
    ],
)
def test_a_title_is_one_line_that_the_paper_can_print(place, title, expected):
    (place / "mine.csv").write_text(as_csv(ROWS))
    with pytest.raises(XlscaleError, match=expected) as raised:
        new.data(str(place / "mine.csv"), "classification", f"title={title}")
    assert "\n" not in str(raised.value) and not written(place)


def test_a_fault_after_the_parquet_file_leaves_nothing(place):
    with pytest.raises(XlscaleError, match="overlaps_targets: expected the name of a card, got 'nobody'"):
        made(place, as_csv(ROWS), stated=f"{STATED}; overlaps_targets=nobody")
    assert not written(place)


ENGLISH = [["train", "en", "x", "a"], ["train", "en", "y", "b"], ["dev", "en", "z", "a"]]


def test_without_a_test_split_it_is_an_intermediate_set_which_is_of_a_type(place):
    assert faults(place, as_csv(ENGLISH)) == [
        'SET: type: expected general or domain of an intermediate set, as in SET="type=general"'
    ]
    card, _ = made(place, as_csv(ENGLISH), stated=f"{STATED}; type=domain")
    assert (card.role, card.type, card.languages) == ("intermediate", "domain", [])
    german = [*ENGLISH, ["train", "de", "w", "a"]]
    with pytest.raises(XlscaleError, match="mine.csv:5: language: expected 'en' in train: it is trained on English"):
        made(place, as_csv(german), stated=f"{STATED}; type=domain; name=other")


# Texts that somebody's tools take for something else.
ODD = [
    *("NA", "N/A", "null", "None", "nan", "true", "1", "1e3", "08", "=1+1", "@SUM(A1)", "-1", "<b>x</b>", "</script>"),
    *("&amp;", "#set page(1pt)", "$(id)", "`id`", "a,b", 'say "x"', "two\nlines", "tab\there", "  around  ", "ü€😀"),
    *("\u202eabc", "a\u200bb", "{text}", "%s", "\\n", "'", "x" * 200_000, "\x1b[31mred", "e\u0301"),
]


@pytest.mark.parametrize("kind", ["csv", "crlf", "tsv", "bom", "semicolon", "jsonl", "parquet"])
def test_text_is_kept_as_it_is(place, kind):
    rows = [*ROWS, *(["train", "en", text, "good"] for text in ODD)]
    name = {"tsv": "mine.tsv", "jsonl": "mine.jsonl", "parquet": "mine.parquet"}.get(kind, "mine.csv")
    if kind == "jsonl":
        content = "\n".join(json.dumps(dict(zip(HEAD, row, strict=True))) for row in rows).encode()
    elif kind == "parquet":
        pd.DataFrame(rows, columns=HEAD).astype({"label": "category"}).to_parquet(place / name)
        content = (place / name).read_bytes()
    else:
        options = {"tsv": {"delimiter": "\t"}, "semicolon": {"delimiter": ";"}, "csv": {"lineterminator": "\n"}}
        content = as_csv(rows, **options.get(kind, {})).encode("utf-8-sig" if kind == "bom" else "utf-8")
    _, found = made(place, content, name=name)
    assert [row["text"] for row in found if row["split"] == "train"] == [row[2] for row in rows if row[0] == "train"]


LABELS = [
    *("1", "1.0", "08", "010", "1e3", "1_000", "0x1F", "None", "null", "~", "true", "no", "Yes", "NA", "nan", ".inf"),
    *("2026-01-01", "12:30", "=1+1", "<b>", "{x}", "[x]", "*x", "&x", "!x", "%x", "@x", "'", '"', "ü", "中文", "😀"),
    *("x\\n", "---", "...", "- a", "a: b", "# x", "a b"),
]


def test_a_label_stays_the_text_that_it_is_in_the_card_too(place):
    rows = [*ROWS, *(["train", "en", f"text {n}", label] for n, label in enumerate(LABELS))]
    card, found = made(place, as_csv(rows))
    assert card.labels == sorted({"good", "bad", *LABELS})
    assert [row["label"] for row in found if row["text"].startswith("text ")] == LABELS
    assert yaml.safe_load((place / "manifest" / "data" / "mine.yaml").read_text())["labels"] == card.labels
    assert tasks.of(card).head_size == len(card.labels)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_every_text_in_a_card_reads_back_as_itself_or_is_refused(tmp_path, text):
    (path := tmp_path / "card.yaml").write_text(new_card.as_yaml({"labels": [text], text: "x"}), encoding="utf-8")
    try:
        assert read_yaml(path) == {"labels": [text], text: "x"}
    except XlscaleError:
        assert unseen(text)


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from([*ODD[:20], '"', "\0", "\r"])
label = st.sampled_from([*LABELS, "good", "bad"])


def emptied(place):
    for path in [*(place / "manifest" / "data").iterdir(), *(place / "manifest" / "bundled").iterdir()]:
        path.unlink()
    catalogue.clear_caches()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    odd=st.lists(st.tuples(text, label), min_size=1, max_size=6),
    quoted=st.booleans(),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_whatever_the_texts_they_load_as_they_are_or_their_lines_are_named(place, odd, quoted, end):
    emptied(place)
    rows = [*ROWS, *(["train", "en", *one] for one in odd)]
    content = as_csv(rows, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL, lineterminator=end)
    wrong = [text for text, _ in odd if "\0" in text]
    try:
        _, found = made(place, content)
    except XlscaleError as error:
        assert not written(place) and all(re.match(r".*mine.csv:\d+: ", one) for one in str(error).split("\n")[:-1])
    else:
        assert not wrong and written(place) == ["mine.parquet", "mine.yaml"]
        kept = [[row[name] for name in HEAD] for row in found if row["split"] == "train"]
        assert kept == [row for row in rows if row[0] == "train"]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cut=st.integers(0, 200),
    noise=st.binary(max_size=6),
    at=st.integers(0, 200),
    name=st.sampled_from(["csv", "tsv", "jsonl", "parquet", "conll"]),
)
def test_whatever_the_bytes_they_load_or_are_refused_in_lines(place, cut, noise, at, name):
    """A good file cut off and spoilt somewhere, under the name of any format."""
    emptied(place)
    content = as_csv(ROWS).encode()[: 230 - cut]
    try:
        made(place, content[:at] + noise + content[at:], name=f"mine.{name}")
    except XlscaleError as error:
        assert not written(place)
        lines = str(error).split("\n")
        assert len(lines) <= LINES and lines[0].startswith((f"{place}/mine.{name}", "SET: type: "))
    else:
        assert written(place) == ["mine.parquet", "mine.yaml"]


FAULTS = [
    ("", ["mine.csv:1: header: expected the names of columns, got none"]),
    (as_csv([]), ["mine.csv: expected a row at least, got none"]),
    (
        as_csv(ROWS, ["split", "lang", "text", "text"]),
        ["mine.csv:1: header: expected each column once, got 'text' again"],
    ),
    (
        as_csv(ROWS, ["split", "lang", "text", "class"]),
        [
            "mine.csv: columns: expected split, language, text, label; missing language, label, got 'split', 'lang', "
            "'text', 'class'"
        ],
    ),
    (
        as_csv([*ROWS, ["validation", "en", "x", "good"], ["test", "eng", "x", "good"], ["test", "xx", "x", "good"],
                ["test", "fr", "", "good"], ["test", "fr", "x", ""], ["test", "fr", "x"], ["tst", "f", "", "good"]]),
        [
            "mine.csv:8: split: expected train, dev or test, got 'validation'",
            "mine.csv:9: language: expected 'en', the one code of its language, for 'eng'",
            "mine.csv:10: language: expected the code of a language, such as 'de', 'pt_br' or 'zh_hant', got 'xx'",
            "mine.csv:11: text: expected a text, got nothing",
            "mine.csv:12: label: expected a text, got nothing",
            "mine.csv:13: expected 4 fields as in the header, got 3",
            "mine.csv:14: split: expected train, dev or test, got 'tst'",
            "mine.csv:14: language: expected the code of a language, such as 'de', 'pt_br' or 'zh_hant', got 'f'",
            "mine.csv:14: text: expected a text, got nothing",
        ],
    ),
    (
        as_csv([*ROWS, *(["test", "fr", *one] for one in (("deux\nlignes", "good"), ("x", "goood"), (" \t", "bad")))]),
        [
            "mine.csv:10: label: expected one that train has (bad, good), got 'goood'",
            "mine.csv:11: text: expected a text that is not empty, got ' \\t'",
        ],
    ),
    (as_csv(ROWS).encode("utf-16"), ["mine.csv: line 1: expected UTF-8, got byte 0xff"]),
    (as_csv(ROWS).encode() + b"test,de,caf\xe9,good\n", ["mine.csv: line 8: expected UTF-8, got byte 0xe9"]),
    (
        as_csv(ROWS) + "test,de,a\0b,good\n",
        ["mine.csv:8: expected text without the character U+0000, which no text has"],
    ),
    (
        as_csv(ROWS) + 'test,de,"never closed,good\ntest,de,x,good\n',
        ["mine.csv:8: expected fields with ',' between, quotes closed and doubled (unexpected end of data)"],
    ),
    (
        as_csv([[*row[:3], "good"] for row in ROWS]),
        ["mine.csv: label: expected two classes or more in train, got 'good' alone"],
    ),
    (
        as_csv(ROWS[:4]),
        ["mine.csv: language: expected another than 'en' in split test of a target, got none"],
    ),
    (
        as_csv(ROWS[2:]),
        [
            "mine.csv: split: expected rows in train and test of a target set of family classification, got none in "
            "train"
        ],
    ),
    (
        as_csv([[*row, "7"] for row in ROWS], [*HEAD, "item"]),
        [
            "mine.csv:3: item: expected each once in a split and language, got '7' as at mine.csv:2",
            "mine.csv:7: item: expected each once in a split and language, got '7' as at mine.csv:6",
        ],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("content", "expected"), FAULTS, ids=range(len(FAULTS)))
def test_every_fault_names_file_line_and_field_and_what_was_expected(place, content, expected):
    assert faults(place, content) == expected


def test_of_many_faults_the_first_are_listed_in_the_order_of_lines(place):
    said = faults(place, as_csv([*ROWS, *(["test", "fr", "", "good"] for _ in range(500))]))
    assert [line.partition(" ")[0] for line in said[:-1]] == [f"mine.csv:{n}:" for n in range(8, 8 + LINES - 2)]
    assert said[-1] == f"and {500 - LINES + 2} more"


def test_values_of_json_and_parquet_are_texts_or_refused(place):
    rows = [dict(zip(HEAD, row, strict=True)) for row in ROWS]
    odd = [{"label": 1.5}, {"label": True}, {"label": None}, {"text": 5}, {"text": ["x"]}, {"text": "\ud800"}]
    lines = [*rows, *(rows[0] | one for one in odd)]
    said = faults(place, "\n".join([*map(json.dumps, lines), "[1]", "{", '{"a": 1, "a": 2}']), name="mine.jsonl")
    assert [line.split(": ", 2)[1:] for line in said[:6]] == [
        ["label", "expected a text, got 1.5"],
        ["label", "expected a text, got True"],
        ["label", "expected a text, got nothing"],
        ["text", "expected a text, got 5"],
        ["text", "expected a text, got ['x']"],
        ["text", "expected whole characters, got half of one in '\\ud800'"],
    ]
    assert [line.split(" ")[0] for line in said[6:]] == ["mine.jsonl:13:", "mine.jsonl:14:", "mine.jsonl:15:"]
    numbers = [row | {"label": n % 2} for n, row in enumerate([*rows, *rows])]
    card, _ = made(place, "\n".join(map(json.dumps, numbers)), name="numbers.jsonl")
    assert card.labels == ["0", "1"]


def test_a_row_of_parquet_is_named_by_its_number(place):
    frame = pd.DataFrame(ROWS, columns=HEAD)
    frame.loc[3, "text"] = None
    frame["label"] = [1.0, 0.0, 1.0, 1.0, None, 0.0]
    frame.to_parquet(place / "given")
    said = faults(place, (place / "given").read_bytes(), name="mine.parquet")
    assert said[0] == "mine.parquet: row 1: label: expected a text, got 1.0" and len(said) == 6
    assert said[4] == "mine.parquet: row 5: label: expected a text, got nothing"
    table = pa.table({"a": [1]}).append_column("a", [[2]])
    pq.write_table(table, place / "given")
    assert "expected each column once" in faults(place, (place / "given").read_bytes(), name="mine.parquet")[0]
    assert "expected a whole Parquet file" in faults(place, b"PAR1", name="mine.parquet")[0]


def test_what_is_trained_on_and_tested_is_warned_of(place):
    (place / "mine.csv").write_text(as_csv([*ROWS, ["train", "en", "Warm and funny", "good"]]))
    said = new.data(str(place / "mine.csv"), "classification", STATED).splitlines()
    assert said[-1].startswith("warning: mine/train leaks into mine/test: 1 shared texts")


def test_a_column_that_nothing_uses_is_named(place):
    (place / "mine.csv").write_text(as_csv([[*row, "x"] for row in ROWS], [*HEAD, "secnd"]))
    assert "columns that were not used: secnd" in new.data(str(place / "mine.csv"), "classification", STATED)


def test_a_folder_says_split_and_language_by_the_names_of_its_files(place):
    (folder := place / "mine").mkdir()
    for name in ("train-en", "dev-en", "test-en", "test-de"):
        (folder / f"{name}.conll").write_text("I\tO\nsaw\tO\nBerlin\tB-LOC\n\nAnn\tB-PER\nLee\tI-PER\n")
    new.data(str(folder), "tagging", STATED)
    card = catalogue.data_card("mine")
    assert (card.labels, card.tags, card.metric, card.splits["test"]) == (
        ["LOC", "PER"],
        "bio",
        "span_f1",
        {"de": 2, "en": 2},
    )
    assert load.table(card)["tokens"].to_pylist()[:2] == [["I", "saw", "Berlin"], ["Ann", "Lee"]]
    (folder / "notes.txt").write_text("x")
    (folder / "test-fr.conll").write_text("Paris\tI-LOC\nParis\n\nLa France\tLOC\n")
    with pytest.raises(XlscaleError) as raised:
        new.data(str(folder), "tagging", f"{STATED}; name=other")
    said = str(raised.value).replace(f"{folder}/", "").split("\n")
    assert said[0].startswith("notes.txt: expected a name such as train-en.csv")
    assert said[1] == "test-fr.conll:2: tags: expected a word, a tab and its tag, got 'Paris'"
    (folder / "notes.txt").unlink()
    (folder / "test-fr.conll").write_text("Paris\tI-LOC\n\nLa France\tLOC\n\nRome\tB-ORG\n")
    with pytest.raises(XlscaleError) as raised:
        new.data(str(folder), "tagging", f"{STATED}; name=other")
    assert [line.partition(": ")[2] for line in str(raised.value).split("\n")[:3]] == [
        "tags: expected 'I-LOC' to follow B-LOC or I-LOC, got 'O' before it",
        "tags: expected O, B-<type> or I-<type>, as some tags begin with B-, got 'LOC'",
        "tags: expected one that train has, got 'B-ORG'",
    ]


def both(rows):
    """Rows of every split that is trained on, and tested in German."""
    splits = [("train", "en"), ("dev", "en"), ("test", "en"), ("test", "de")]
    return [{"split": split, "language": language, **row} for split, language in splits for row in rows]


CONTEXT = "The Rhine rises in Switzerland. The Rhine is long."
# family -> rows, and what of the card and of the rows follows.
FAMILIES = {
    "multiple_choice": (
        both([{"text": "2 + 2", "choice_0": "4", "choice_1": "5", "choice_2": None, "answer": 0}]),
        {"chance": 0.5, "metric": "accuracy"},
        {"choices": ["4", "5"], "answer": 0},
    ),
    "span_qa": (
        both([{"question": "Where?", "context": CONTEXT, "answer": " Switzerland"}]),
        {"chance": 0.0, "metric": "f1", "unanswerable": False},
        {"answers": ["Switzerland"], "answer_starts": [19]},
    ),
    "tagging": (
        both([{"tokens": ["I", "run"], "tags": ["PRON", "VERB"]}]),
        {"tags": "plain", "labels": ["PRON", "VERB"], "metric": "token_accuracy"},
        {"text": "I run"},
    ),
    "retrieval": (
        [{"split": "test", "language": "de", "text": f"Satz {n}", "english": f"sentence {n % 3}"} for n in range(4)],
        {"chance": 0.3333, "metric": "p_at_1", "languages": ["de"]},
        {"group": "mine-en-1"},
    ),
    "mining": (
        [
            {"split": "test", "language": code, "text": f"{code} {n}", "group": f"{pool}{n}", "pool": f"{pool}-de"}
            for pool in ("test", "dev") for code in ("en", "de") for n in range(2)
        ],
        {"chance": 0.0, "metric": "mining_f1"},
        {"pool": "test-de"},
    ),
    "ranking": (
        [
            {"split": "train", "language": "en", "role": "pair", "text": "q", "second": "c", "group": "g0"},
            {"split": "test", "language": "de", "role": "query", "text": "f", "group": "g1"},
            {"split": "test", "language": "en", "role": "candidate", "text": "a", "group": "g2", "relevant": ["g1"]},
            {"split": "test", "language": "en", "role": "candidate", "text": "b", "group": "g3"},
        ],
        {"chance": 0.0, "metric": "map_at_20"},
        {"second": "c", "relevant": []},
    ),
    "lexicon": (
        [{"split": "train", "language": "de", "source": "dog", "text": "Hund"}],
        {"role": "lexicon", "metric": None},
        {"source": "dog"},
    ),
    "text": (
        [{"split": "train", "language": "de", "text": "Ein Satz.", "register": "news"}],
        {"role": "unlabelled", "metric": None},
        {"register": "news"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_every_family_has_a_flat_form(place, family, form):
    rows, of_card, of_row = FAMILIES[family]
    if form == "jsonl":
        content = "\n".join(map(json.dumps, rows)).encode()
    elif form == "csv":
        frame = pd.DataFrame(rows).map(lambda one: " ".join(one) if isinstance(one, list) else one)
        content = frame.to_csv(index=False).encode()
    else:
        pd.DataFrame(rows).to_parquet(place / "given")
        content = (place / "given").read_bytes()
    card, found = made(place, content, family, name=f"mine.{form}")
    assert {name: getattr(card, name) for name in of_card} == of_card
    queries = [row for row in found if family != "retrieval" or row["language"] != "en"]
    assert of_row.items() <= queries[0].items()
    assert (*schema.GIVEN,) == new_data.FAMILIES and {*FAMILIES, "classification"} == {*new_data.FAMILIES}
    assert tasks.of(card).rows()


WRONG = [
    ("multiple_choice", {"text": "x", "choices": ["a"], "answer": 0}, "choices: expected two texts or more, got 1"),
    ("multiple_choice", {"text": "x", "choices": "ab", "answer": 0}, "choices: expected a list of texts, got 'ab'"),
    (
        "multiple_choice",
        {"text": "x", "choices": ["a", "b"], "answer": 2},
        "answer: expected 0 to 1, the place of the right choice counted from 0, got 2",
    ),
    (
        "multiple_choice",
        {"text": "x", "choice_0": "a", "choice_1": None, "choice_2": "b", "answer": 0},
        "choice_1: expected a text, got none",
    ),
    (
        "span_qa",
        {"question": "x", "context": CONTEXT, "answer": "Rhine"},
        "answer_starts: expected where it begins, as it is there more than once, got 'Rhine'",
    ),
    (
        "span_qa",
        {"question": "x", "context": CONTEXT, "answer": "Rhone"},
        "answers: expected a text that the context holds, got 'Rhone'",
    ),
    (
        "span_qa",
        {"question": "x", "context": CONTEXT, "answers": ["long"], "answer_starts": [0]},
        "answer_starts: expected 'long' at character 0 of the context, or near",
    ),
    ("tagging", {"tokens": ["a", "b"], "tags": ["X"]}, "tags: expected 2, one per token, and one at least, got 1"),
    ("tagging", {"text": "b a", "tokens": ["a", "b"], "tags": ["X", "Y"]}, "tokens: expected 'b' in the text after"),
    ("retrieval", {"text": "x", "english": None}, "group: expected that of an English row"),
    ("multiple_choice", {"text": "x", "choices": ["a", "b", "a"], "answer": 2}, "choices: expected each once, got 'a'"),
    (
        "multiple_choice",
        {"text": "x\0", "choices": ["a", "b"], "answer": 0},
        "text: expected text without the character",
    ),
    ("ranking", {"text": "x", "role": "query", "group": "g 1"}, "group: expected one without spaces, which part those"),
    ("ranking", {"text": "x", "role": "question", "group": "g"}, "role: expected query, candidate or pair, got"),
]


@pytest.mark.parametrize(("family", "row", "expected"), WRONG, ids=range(len(WRONG)))
def test_what_a_family_expects_of_a_row_is_said(place, family, row, expected):
    rows = [*FAMILIES[family][0], {"split": "test", "language": "de"} | row]
    said = faults(place, "\n".join(map(json.dumps, rows)), family, name="mine.jsonl")
    assert [line for line in said if line.startswith(f"mine.jsonl:{len(rows)}: {expected}")], said


def test_english_texts_that_are_the_same_answer_the_same_queries(place):
    texts = [("en", "one", "a"), ("en", "two", "b"), ("en", "one", "c"), ("de", "eins", "a")]
    rows = [dict(zip(("language", "text", "group"), one, strict=True)) | {"split": "test"} for one in texts]
    said = faults(place, "\n".join(map(json.dumps, rows)), "retrieval", name="mine.jsonl")
    assert said[0].startswith("mine.jsonl:3: group: expected 'a', that of the same text at "), said
    rows[2]["group"] = "a"  # now two of three are right
    card, _ = made(place, "\n".join(map(json.dumps, rows)), "retrieval", name="mine.jsonl")
    assert card.chance == 0.6667


def test_a_split_and_language_in_two_files_are_refused(place):
    (folder := place / "mine").mkdir()
    for name in ("train-en.csv", "test-en.csv", "test-de.csv", "test-de.tsv"):
        end = "\t" if name.endswith("tsv") else ","
        (folder / name).write_text(f"text{end}label\none{end}a\ntwo{end}b\n")
    with pytest.raises(
        XlscaleError, match=r"test-de\.tsv: expected one file of this split and language, got test-de.csv"
    ):
        new.data(str(folder), "classification", STATED)


def test_times_that_no_calendar_has_are_one_line(place):
    rows = pa.table({"text": pa.array([2**62], pa.timestamp("us")), "label": ["a"]})
    pq.write_table(rows, place / "mine.parquet")
    with pytest.raises(XlscaleError, match=r"mine\.parquet: expected columns of texts, numbers and lists of them"):
        new.data(str(place / "mine.parquet"), "classification", STATED)


def test_the_field_that_makes_a_card_too_long_is_named(place):
    (place / "mine.csv").write_text(as_csv(ROWS))
    with pytest.raises(XlscaleError, match="SET: description: expected a shorter text: a card has at most"):
        new.data(str(place / "mine.csv"), "classification", f"{STATED}; description={'x ' * 10**6}")


def test_a_lexicon_with_names_that_are_kept_apart_can_be_trained_on(place):
    """A tenth of the English names is asked: 1 of those of a language is right."""
    rows = [{"split": "train", "language": code, "source": f"word {n}", "text": f"{code} {n}"}
            for code, most in (("de", 60), ("fr", 30)) for n in range(most)]  # fmt: skip
    card, _ = made(place, "\n".join(map(json.dumps, rows)), "lexicon", name="mine.jsonl")
    asked = {code: sum(schema_.is_control(f"word {n}") for n in range(most)) for code, most in (("de", 60), ("fr", 30))}
    assert min(asked.values()) > 0 and card.metric == "p_at_1" and card.task
    assert card.chance == pytest.approx(sum(1 / n for n in asked.values()) / 2, rel=1e-3)


def test_answers_as_the_hub_has_them_and_questions_without_any(place):
    rows = both([{"question": "x", "context": CONTEXT, "answers": {"text": ["long"], "answer_start": [45]}},
                 {"question": "y", "context": CONTEXT, "answers": {"text": [], "answer_start": []}}])  # fmt: skip
    card, found = made(place, "\n".join(map(json.dumps, rows)), "span_qa", name="mine.jsonl")
    assert card.unanswerable and found[0]["answer_starts"] == [45] and found[1]["answers"] == []


@pytest.mark.parametrize(
    ("name", "family", "stated", "expected"),
    [
        ("mine.xlsx", "classification", "", "expected a file that ends in .csv, .tsv, .jsonl, .parquet, .conll"),
        ("1.csv", "classification", "", "SET: name: expected a letter, then letters, digits"),
        ("none.csv", "classification", "", "SET: name: expected a letter"),
        ("mine.csv", "classify", "", "FAMILY: expected one of classification, multiple_choice, "),
        ("mine.csv", "classification", "license=x", "SET: expected some of name, title, type, licence, "),
        ("mine.csv", "classification", "type=domain", "SET: type: expected of an intermediate set alone"),
        (
            "mine.csv",
            "classification",
            "language=fr",
            "mine.csv:2: language: expected 'fr' as stated for the whole file",
        ),
        ("gone.csv", "classification", "", "gone.csv: not found"),
    ],
)
def test_what_is_said_beside_the_file_is_checked(place, name, family, stated, expected):
    if name != "gone.csv":
        (place / name).write_text(as_csv(ROWS))
    with pytest.raises(XlscaleError) as raised:
        new.data(str(place / name), family, stated)
    assert expected in str(raised.value).replace(f"{place}/", "")
    assert not written(place)


def test_more_classes_than_a_card_holds_are_no_classes(place):
    rows = [["train", "en", f"text {n}", f"a label as long as a sentence, number {n}"] for n in range(3000)]
    assert (
        "label: expected classes, got 3,000 different ones"
        in faults(place, as_csv([*rows, *(["test", "de", *row[2:]] for row in rows)]))[0]
    )
