"""The published layer: what a source must look like, how scores reach one scale, and what is known of them."""

import csv
import gzip
import io
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from xlscale.core.files import PAPER, XlscaleError
from xlscale.published import gains, rows, scores, sources, tables
from xlscale.published.tables import COLUMNS, FOLDER

ROW = {
    "source_key": "mine",
    "paper_arxiv": "none",
    "table": "Table 1",
    "model_family": "Newt",
    "model": "Newt 7B",
    "params": "7B",
    "intermediate_task": "none",
    "regime": "zero-shot-finetuned",
    "task": "xnli",
    "metric": "acc",
    "language": "sw",
    "value": "50.0",
    "where_read": "page 3",
    "quality": "primary",
}


@pytest.fixture(scope="module")
def table():
    return scores.table()


@pytest.fixture
def folder(few_sources, tmp_path):
    """A copy of a small published layer that a test may change."""
    return shutil.copytree(few_sources, tmp_path / "data_manifest" / "published")


def write(path, *changes, header=COLUMNS):
    """A CSV file of rows that differ from ROW; returns its path."""
    text = io.StringIO(newline="")
    out = csv.writer(text)
    out.writerow(header)
    out.writerows([{**ROW, **change}.get(name, "") for name in header] for change in changes)
    raw = text.getvalue().encode()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def state(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def frame(folder):
    return scores.table(tables.load(folder))


def own(folder):
    """The scores of the source that a test added."""
    return frame(folder).query("source_key == 'mine'")


def test_the_bundle_is_small_and_its_bytes_depend_on_its_rows_alone(tmp_path):
    path = FOLDER / "results.parquet"
    assert path.stat().st_size < 300_000
    tables.write_results(tables.read_results(path), tmp_path / "again.parquet")
    assert (tmp_path / "again.parquet").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", ["mine.csv", "mine.csv.gz"])
def test_a_source_is_appended_after_what_is_there(folder, tmp_path, name):
    before = tables.load(folder).results
    said = sources.add(write(tmp_path / name, {}, {"language": "th", "value": "51"}), folder)
    assert said == "added 2 scores of mine"
    after = tables.load(folder)
    assert after.results.iloc[: len(before)].equals(before) and list(after.results["value"].tail(2)) == [50.0, 51.0]
    row = after.sources.iloc[-1]
    assert (row["source_key"], row["study"], row["quality"], row["licence"]) == (
        "mine",
        "mine",
        "primary",
        "not verified",
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"value": "fifty"}, "value: expected a number, got 'fifty'"),
        ({"value": "nan"}, "value: expected a number, got 'nan'"),
        ({"value": "101"}, "value: expected 0 to 100 (percent, score), got 101"),
        ({"value": "-1"}, "value: expected 0 to 100 (percent, score), got -1"),
        ({"value": "1.5", "metric": "acc (fraction)"}, "value: expected 0 to 1 (fraction, score), got 1.5"),
        ({"value": "-101", "metric": "acc; DELTA"}, "value: expected -100 to 100 (percent, difference), got -101"),
        ({"params": "7"}, "params: expected a count such as 560M, 7.1B or 57B-A14B, or nothing, got '7'"),
        *(
            ({"params": text}, f"params: expected a count such as 560M, 7.1B or 57B-A14B, or nothing, got '{text}'")
            for text in ("0B", "7B-A70B", "7B-A0B", "560M-A7B")
        ),
        ({"language": "en-en"}, "language: expected another language before -en"),
        ({"value": "100.0001"}, "value: expected 0 to 100 (percent, score), got 100.0001"),
        ({"quality": "good"}, "quality: expected one of primary, full-text copy, secondary, got 'good'"),
        (
            {"language": "Swahili"},
            "language: expected the code of a language, such as 'de', 'pt_br' or 'zh_hant', or 'avg",
        ),
        *(
            ({"language": code}, f"language: expected '{one}', the one code of its language, for '{code}', or 'avg")
            for code, one in (("eng", "en"), ("en-GB", "en"), ("eng_Latn", "en"), ("zh-CN", "zh"), ("zho", "zh"))
        ),
        *(({"language": code}, "language: expected the code of a language") for code in ("all", "und", "xx", "sw-sw")),
        ({"source_key": "My Source"}, "source_key: expected lower-case letters"),
        ({"where_read": ""}, "where_read: expected a text, got nothing"),
        ({"quality": "secondary"}, "quality: expected 'primary' as in the rest of its source, got 'secondary'"),
        ({"language": "de"}, "value: expected every score once, got the same value as line 2 (50)"),
        ({"language": "de", "value": "51"}, "value: expected every score once, got another value as line 2 (50)"),
    ],
)
def test_a_wrong_row_is_refused_with_its_line_and_nothing_changes(folder, tmp_path, change, said):
    before = state(folder)
    path = write(tmp_path / "mine.csv", {"language": "de"}, {"language": "th"}, change, {"language": "fr"})
    with pytest.raises(XlscaleError) as caught:
        sources.add(path, folder)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"{path}:4: {said}") and lines[-1] == "nothing was changed" and len(lines) == 2
    assert state(folder) == before


def test_every_wrong_line_is_said_and_many_are_counted(folder, tmp_path):
    changes = [{"model": f"m{i}", "value": "x"} for i in range(60)]
    with pytest.raises(XlscaleError) as caught:
        sources.add(write(tmp_path / "mine.csv", {}, *changes), folder)
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[0] for line in lines[:18]] == [f"{tmp_path / 'mine.csv'}:{n}" for n in range(3, 21)]
    assert lines[18:] == ["and 42 more", "nothing was changed"]


@pytest.mark.parametrize(
    ("field", "text"),
    [
        *(("value", text) for text in ("٦٠", "６０", "1_0", "1e400", "0x10", "9" * 400, "inf", "५")),
        *(("params", text) for text in ("٧B", "1" + "0" * 400 + "B", "7.٠B", "1e9", "9999999B", "0B")),
        *(
            ("model", text)
            for text in ("a\u202eb", "a\nb", "a\x1b[31mb", "a\x00b", "a\u2066b", "x" * 501, "a\u200bb", "a\u3164")
        ),
        ("table", "1\t2"),
        ("model", "XLM-R  large"),
        ("task", "cafe\u0301"),
        ("where_read", "page\r\n3"),
    ],
)
def test_other_digits_and_texts_that_hide_something_are_refused(folder, tmp_path, field, text):
    with pytest.raises(XlscaleError, match=rf"mine\.csv:\d+: {field}: expected ") as error:
        sources.add(write(tmp_path / "mine.csv", {}, {"language": "th", field: text}), folder)
    assert str(error.value).isprintable() or str(error.value).replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("field", "text", "character"),
    [
        ("model", "Ll\u0430ma 2", "CYRILLIC SMALL LETTER A (U+0430) in 'Ll\u0430ma'"),
        ("metric", "\u0430cc", "CYRILLIC SMALL LETTER A (U+0430) in '\u0430cc'"),
        ("model_family", "BL\u039fOM", "GREEK CAPITAL LETTER OMICRON (U+039F) in 'BL\u039fOM'"),
        ("base_model", "qw\u0435n_2", "CYRILLIC SMALL LETTER IE (U+0435) in 'qw\u0435n_2'"),
        ("task", "XN\u0406I", "CYRILLIC CAPITAL LETTER BYELORUSSIAN-UKRAINIAN I (U+0406) in 'XN\u0406I'"),
        ("language", "avg \u043ever 14", "CYRILLIC SMALL LETTER O (U+043E) in '\u043ever'"),
        *(
            (field, "x\u0443", "CYRILLIC SMALL LETTER U (U+0443) in 'x\u0443'")
            for field in ("table", "intermediate_task", "regime")
        ),
    ],
)
def test_names_that_only_look_like_others_are_refused(folder, tmp_path, field, text, character):
    before = state(folder)
    path = write(tmp_path / "mine.csv", {field: text}, header=[*COLUMNS, *({"base_model"} & {field})])
    with pytest.raises(XlscaleError) as caught:
        sources.add(path, folder)
    assert f"{path}:2: {field}: expected words of one alphabet, got {character}" in str(caught.value).splitlines()
    assert state(folder) == before


def test_names_with_no_letter_but_look_alikes_and_with_other_signs_are_refused():
    cyrillic, greek = "\u0425\u0421\u041e\u0420\u0410", "\u0391\u03a1\u039f"  # which read XCOPA and APO
    whole = [cyrillic, greek, f"{cyrillic} 2", f"{cyrillic}-2", "\u04ae\u04af"]
    signs = ["XLM\u2010R", "XLM\u2011R", "Llama\u22122", "x\u20132", "l\u2019", "xnli\uff0e", "a\u2026"]
    forms = ["t\u0131dy", "\u0251cc", "\uff21cc", "\U0001d400cc", "\u017fquad", "XNL\u2160", "\u1d0fne"]
    for text in (*whole, *signs, *forms):
        assert rows.mixed(text).startswith("expected characters that look like no others, got "), ascii(text)
    for text in ("GP\u13a2", "bo\u0585lq"):  # Cherokee, Armenian
        assert rows.mixed(text).startswith("expected words of one alphabet, got "), ascii(text)


def test_names_in_any_one_alphabet_are_taken():
    for text in (
        "Лама 2",
        "Λ-BERT 2",
        "中文BERT",
        "Übersetzer",
        "GPT-β",
        "YandexGPT Лайт",
        "µP",
        *(
            "हिन्दी BERT",
            "বাংলা",
            "தமிழ்",
            "ƙasa",
            "Ɛwe",
            "en→de",
            "§4",
            "RuBERT™",
            "日本語T5",
            "한국어GPT",
            "ไทย",
            "Ænima",
            "m²",
        ),
    ):
        assert not rows.mixed(text), text


def test_no_name_of_the_bundle_only_looks_like_another():
    known = tables.load()
    assert not [text for name in rows.NAMES for text in known.results[name].unique() if rows.mixed(text)]


def test_a_file_that_unpacks_to_more_than_it_may_is_refused(folder, tmp_path, monkeypatch):
    with gzip.open(tmp_path / "mine.csv.gz", "wb") as out:
        for _ in range(70):
            out.write(bytes(2**20))
    began = time.monotonic()
    with pytest.raises(XlscaleError, match="expected at most 67,108,864 bytes"):
        sources.add(tmp_path / "mine.csv.gz", folder)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_plain_file_is_refused_and_not_waited_for(folder, tmp_path, kind):
    path = tmp_path / "mine.csv"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(XlscaleError, match="expected a plain file"):
        sources.add(path, folder)


def test_a_line_number_counts_lines_of_the_file_even_after_a_quoted_line_break(folder, tmp_path):
    path = write(tmp_path / "mine.csv", {"where_read": "page 3,\nleft"}, {"language": "th", "value": "x"})
    with pytest.raises(XlscaleError, match=r"mine\.csv:4: value: expected a number"):
        sources.add(path, folder)


def test_fractions_of_which_one_is_below_zero_are_noticed(folder, tmp_path):
    """What is corrected for chance is below zero as often as not where nothing was learnt."""
    values = {"sw": "-0.02", "th": "0.44", "de": "0.61"}
    rows = [{"language": code, "value": one, "metric": "primary metric (NER micro)"} for code, one in values.items()]
    with pytest.raises(
        XlscaleError, match=r"mine\.csv:2: metric: expected 'fraction' .* of this column lie in -1 to 1"
    ):
        sources.add(write(tmp_path / "mine.csv", *rows), folder)


def test_percent_that_are_fractions_are_noticed(folder, tmp_path):
    changes = [{"language": code, "value": value} for code, value in (("sw", "0.5"), ("th", "0.44"), ("de", "0.61"))]
    with pytest.raises(XlscaleError, match=r"mine\.csv:2: metric: expected 'fraction' in it, as all 3 values"):
        sources.add(write(tmp_path / "mine.csv", *changes), folder)
    sources.add(write(tmp_path / "mine.csv", *({**change, "metric": "acc (fraction)"} for change in changes)), folder)


@pytest.mark.parametrize(
    "metric", ["fraction", "Fraction", "acc (Fraction)", "acc, fraction", "DELTA (fraction)", "acc (fraction); DELTA"]
)
def test_a_metric_that_says_fraction_is_not_read_as_percent(folder, tmp_path, metric):
    with pytest.raises(XlscaleError, match=r"metric: expected '\(fraction', .* read as percent"):
        sources.add(write(tmp_path / "mine.csv", {"metric": metric, "value": "0.455"}), folder)


def test_a_metric_that_says_delta_is_not_read_as_a_score(folder, tmp_path):
    with pytest.raises(XlscaleError, match="metric: expected 'DELTA', in capitals, .* read as percent, score"):
        sources.add(write(tmp_path / "mine.csv", {"metric": "acc delta", "value": "4"}), folder)


def test_percent_that_may_be_fractions_are_told(folder, tmp_path):
    said = sources.add(write(tmp_path / "mine.csv", {"value": "0.455"}), folder)
    assert "line 2: value 0.455: read as percent, as its metric does not say that it is a fraction" in said
    said = sources.add(write(tmp_path / "other.csv", {"source_key": "other", "value": "45.5"}), folder)
    assert "read as percent" not in said


def test_a_row_that_is_there_already_is_refused(folder, tmp_path):
    path = write(tmp_path / "mine.csv", {})
    sources.add(path, folder)
    before = state(folder)
    with pytest.raises(
        XlscaleError, match=r":2: value: expected every score once, got the same value as a row that is there"
    ):
        sources.add(path, folder)
    assert state(folder) == before


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({}, {"params": "7.0B"}),
        ({}, {"params": "7000M"}),
        ({}, {"params": ""}),
        ({"params": "unknown"}, {}),
        ({"model_family": "Newt 2"}, {"model_family": "Newt-2"}),
        ({"model_family": "Newt"}, {"model_family": "newt"}),
    ],
)
def test_a_score_is_there_once_however_its_family_and_size_are_spelled(folder, tmp_path, first, then):
    path = write(tmp_path / "mine.csv", first, then | {"value": "60"})
    with pytest.raises(XlscaleError, match=r":3: value: expected every score once, got another value as line 2 \(50\)"):
        sources.add(path, folder)
    sources.add(write(tmp_path / "mine.csv", first), folder)
    with pytest.raises(XlscaleError, match=r":2: value: expected every score once, got another value as a row"):
        sources.add(write(tmp_path / "mine.csv", then | {"value": "60"}), folder)


def test_sizes_that_differ_are_of_two_models(folder, tmp_path):
    path = write(
        tmp_path / "mine.csv", {}, {"params": "8B"}, {"params": "57B-A14B"}, {"params": "57B"}, {"params": "8x7B"}
    )
    assert sources.add(path, folder).startswith("added 5 scores of mine")


def test_a_file_of_more_rows_than_one_can_have_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "MOST", 2)
    with pytest.raises(XlscaleError, match=r"mine\.csv: expected at most 2 rows, got 3$"):
        rows.read(write(tmp_path / "mine.csv", {}, {"params": "8B"}, {"params": "9B"}))


def test_what_is_given_beside_a_file_counts_or_is_refused(folder, tmp_path):
    """Where every row says something else, it would be left out without a word."""
    path = write(tmp_path / "mine.csv", {}, {"language": "de"})
    for name, text in (("params", "70B"), ("language", "fr"), ("value", "99"), ("quality", "primary")):
        with pytest.raises(
            XlscaleError, match=f"SET: {name}: expected a column that the file leaves open, got '{text}'"
        ):
            sources.add(path, folder, {name: text})
    header = [name for name in COLUMNS if name != "quality"]
    found, _ = sources.read(write(tmp_path / "short.csv", {}, header=header), {"quality": "primary"})
    assert found == [(2, found[0][1] | ROW)]
    found, _ = sources.read(write(tmp_path / "part.csv", {}, {"params": ""}), {"params": "8B"})
    assert [row["params"] for _, row in found] == ["7B", "8B"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"mine\.csv:1: header: expected the columns .*, got missing source_key"),
        (b"source_key,more\n", r"mine\.csv:1: header: .* unknown more"),
        ((",".join(COLUMNS) + "\n").encode(), "expected at least one row below the header"),
        ((",".join(COLUMNS) + "\na,b\n").encode(), r"mine\.csv:2: expected 14 fields, got 2"),
        ((",".join(COLUMNS) + "\n\xff").encode("latin-1"), "not a readable CSV file in UTF-8"),
    ],
)
def test_a_file_that_is_no_table_is_one_line(folder, tmp_path, content, said):
    (tmp_path / "mine.csv").write_bytes(content)
    with pytest.raises(XlscaleError, match=said):
        sources.add(tmp_path / "mine.csv", folder)


def test_a_broken_archive_and_a_missing_file_are_one_line(folder, tmp_path):
    whole = write(tmp_path / "whole.csv.gz", {}).read_bytes()
    (tmp_path / "mine.csv.gz").write_bytes(whole[:-9])
    with pytest.raises(XlscaleError, match="not a readable CSV file"):
        sources.add(tmp_path / "mine.csv.gz", folder)
    with pytest.raises(XlscaleError, match="nothing.csv: not found, expected a .csv or .csv.gz file"):
        sources.add(tmp_path / "nothing.csv", folder)


def test_the_command_adds_and_refuses(folder, few_sources, tmp_path):
    environment = os.environ | {"XLSCALE_ROOT": str(tmp_path)}

    def run(path):
        command = [sys.executable, "-m", "xlscale", "add-source", str(path)]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    before = state(folder)
    wrong = run(write(tmp_path / "wrong.csv", {}, {"language": "th", "value": "200"}))
    assert wrong.returncode == 1 and "wrong.csv:3: value: expected 0 to 100" in wrong.stderr
    assert "Traceback" not in wrong.stderr and state(folder) == before
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper" / "fonts").symlink_to(PAPER / "fonts")
    unprintable = run(write(tmp_path / "other.csv", {"model_family": "\u4e2d"}))
    assert unprintable.returncode == 1 and "no glyph for \u4e2d (U+4E2D)" in unprintable.stderr
    assert state(folder) == before
    done = run(write(tmp_path / "new.csv", {"regime": "by telepathy"}))
    assert done.returncode == 0, done.stderr
    assert "warning" in done.stdout and "regime 'by telepathy': not in regimes.csv" in done.stdout
    assert len(tables.load(folder).results) == len(tables.load(few_sources).results) + 1


def test_labels_that_no_table_knows_are_accepted_with_a_warning(folder, tmp_path):
    change = {"regime": "guessed", "task": "new_task", "intermediate_task": "new data", "language": "kv"}
    said = sources.add(write(tmp_path / "mine.csv", change), folder).splitlines()
    assert len(said) == 5 and all("mine.csv: line 2: " in line for line in said[1:4])
    assert said[-1].endswith("mine.csv: 1 of 1 tuned models have no base: Newt 7B")
    row = own(folder).iloc[0]
    assert (row["panel"], row["order"]) == ("guessed", tables.UNKNOWN_ORDER)
    assert (row["type"], row["training"]) == ("unclassified", "new data")
    assert (row["task"], row["chance"], row["chance_known"], row["corrected"]) == ("new_task", 0, False, 0.5)


@pytest.mark.parametrize(
    ("text", "count", "sparse"),
    [
        ("560M", 5.6e8, False),
        ("7.1B", 7.1e9, False),
        ("57B-A14B", 5.7e10, True),
        ("46.7B-A12.9B (8x7B MoE; UNVERIFIED total/active)", 4.67e10, True),
        ("8x22B", np.nan, True),
        ("", np.nan, False),
        ("unknown", np.nan, False),
    ],
)
def test_counts_of_parameters(text, count, sparse):
    found, is_sparse = tables.parameters(text)
    assert found == pytest.approx(count, nan_ok=True) and is_sparse is sparse


@pytest.mark.parametrize("text", ["7", "B", "7.B", "7b", "1e9", "-7B", "7B A3B", "07B", "00.5B"])
def test_what_is_no_count_is_refused(text):
    with pytest.raises(ValueError):
        tables.parameters(text)


def test_units_and_chance_levels_end_on_one_scale(folder, tmp_path):
    changes = [
        {"task": "xnli", "value": "33.333333"},
        {"task": "xnli", "language": "th", "value": "0.6", "metric": "acc (fraction)"},
        {"task": "xcopa", "value": "75"},
        {"task": "belebele", "value": "25"},
        {"task": "tydiqa", "value": "40", "metric": "F1"},
        {"task": "xnli", "language": "de", "value": "+10", "metric": "acc; DELTA", "intermediate_task": "QQP (No MLM)"},
        {"task": "knowledge (mmlu_de)", "value": "-1.5", "metric": "primary metric (NER F1; MC tasks MCC)"},
        {"task": "avg", "value": "60", "metric": "avg"},
    ]  # fmt: skip
    sources.add(write(tmp_path / "mine.csv", *changes), folder)
    found = own(folder)
    assert found["score"].tolist() == pytest.approx([1 / 3, 0.6, 0.75, 0.25, 0.4, 0.1, -0.015, 0.6], abs=1e-6)
    corrected = [0, 0.4, 0.5, 0, 0.4, 0.15, -0.015, np.nan]
    assert found["corrected"].tolist() == pytest.approx(corrected, abs=1e-6, nan_ok=True)


def test_which_source_was_added_first_changes_no_number(folder, tmp_path):
    """Two sources of one study give the same scores with other values."""
    for name, tuned in (("first", "70"), ("second", "80")):
        rows_ = [{"value": "50"}, {"model": "Newt 7B tuned", "intermediate_task": "QQP (No MLM)", "value": tuned}]
        path = tmp_path / f"{name}.csv"
        write(path, *({**row, "source_key": name, "study": "one"} for row in rows_), header=(*COLUMNS, "study"))

    def numbers():
        table = frame(folder)
        return gains.pairs(table).query("study == 'one'")["gain"].tolist(), table

    said = [sources.add(tmp_path / f"{name}.csv", folder) for name in ("first", "second")]
    told = "1 scores have several values, of which the first counts: Newt 7B tuned, QQP, zero-shot-finetuned, xnli, acc"
    assert "several values" not in said[0] and f"{told}, sw, one (first, second)" in said[1]
    found, whole = numbers()
    assert found == [pytest.approx(0.2 / (1 - 1 / 3))]
    assert told in sources.add(tmp_path / "first.csv", folder, replace=True)
    again, moved = numbers()
    assert again == found and moved.equals(whole)


def test_which_table_of_a_source_was_added_first_changes_no_number(folder, tmp_path):
    for name, value in (("Table 2", "60"), ("Table 1", "50")):
        sources.add(write(tmp_path / "mine.csv", {"table": name, "value": value}), folder)
    assert own(folder)["value"].tolist() == [50.0, 60.0]


def test_all_scores_are_on_their_scale_and_all_labels_are_known(table):
    limits = table["measure"].map(tables.MEASURES)
    assert (table["score"] >= limits.str[0]).all() and (table["score"] <= limits.str[1]).all()
    assert table["chance_known"].all() and (table["order"] < tables.UNKNOWN_ORDER).all()
    assert len(table) >= 20102 and table["source_key"].nunique() >= 41  # more where a user added some
    # A whole column below chance would be a wrong unit or a wrong chance level.
    used = scores.usable(table[table["measure"] == "score"])
    assert used.groupby(["source_key", "task"])["corrected"].max().min() > 0
    percent = table[(table["unit"] == "percent") & (table["measure"] == "score")]
    assert (percent.groupby(["source_key", "metric"])["score"].max() > 0.02).all()


def test_contradictions_are_listed_and_rounding_is_none(table, folder, tmp_path):
    found = sources.repeated(table)
    wrong = found[~found["agree"]]
    # The podcasts' two papers tested the same two models again, on the same exams.
    assert {"Flan-PaLM 540B", "mBERT", "Gemma 2B", "Gemma 7B"} <= set(wrong["model"]) and len(found) > 100
    like = {"model_family": "mT5", "model": "mT5-XXL", "params": "13B", "language": "avg"}
    changes = [{**like, "value": "85.05"}, {**like, "task": "pawsx", "value": "95"}]
    sources.add(write(tmp_path / "mine.csv", *changes), folder)
    again = sources.repeated(frame(folder))
    own = again[again["sources"] == "mine, mt5_readme"].set_index("task")["agree"]
    assert own.to_dict() == {"xnli": True, "pawsx": False}


def test_averages_that_are_none_are_listed(table):
    found = sources.averages(table)
    assert set(found["source_key"]) == {"marco_llm"} and (found["task"] == "tydiqa").sum() == 3


def test_a_broken_table_of_labels_is_one_line(folder):
    text = (folder / "training.csv").read_text()
    (folder / "training.csv").write_text(text.replace(",domain,", ",special,", 1))
    with pytest.raises(
        XlscaleError, match=r"training\.csv: line \d+: type: expected one of none, general.*, got 'special'"
    ):
        tables.load(folder)
    (folder / "training.csv").write_text(text)
    chance = (folder / "tasks.csv").read_text()
    (folder / "tasks.csv").write_text(chance.replace("XCOPA,0.5", "XCOPA,1.5"))
    with pytest.raises(
        XlscaleError, match=r"tasks\.csv: line 3: chance: expected nothing or a number from 0 to below 1, got '1.5'"
    ):
        tables.load(folder)
    (folder / "tasks.csv").write_text(chance)
    (folder / "results.parquet").write_bytes(b"PAR1")
    with pytest.raises(XlscaleError, match=r"results\.parquet: not a readable table of results"):
        tables.load(folder)


@pytest.mark.parametrize(
    ("name", "column", "text", "expected"),
    [
        ("metrics", "rank", "٣", "nothing or a whole number"),
        ("metrics", "rank", "first", "nothing or a whole number"),
        ("models", "params", "7b", "nothing or a count such as 560M"),
        ("regimes", "order", "", "a whole number"),
        ("regimes", "order", "1.5", "a whole number"),
        ("tasks", "chance", "0.2_5", "nothing or a number from 0 to below 1"),
        ("tasks", "xtreme_r", "Yes", "one of yes, no"),
    ],
)
def test_a_value_that_means_nothing_is_one_line(folder, name, column, text, expected):
    table = pd.read_csv(folder / f"{name}.csv", dtype=str, keep_default_na=False)
    table.loc[1, column] = text
    table.to_csv(folder / f"{name}.csv", index=False)
    with pytest.raises(XlscaleError, match=rf"{name}\.csv: line 3: {column}: expected {expected}, got '{text}'"):
        tables.load(folder)


@pytest.mark.parametrize(("name", "column"), [("regimes", "regime"), ("sources", "source_key"), ("models", "note")])
@pytest.mark.parametrize("character", "\u200b\ufeff\u3164\u202e")
def test_a_label_that_looks_like_another_is_one_line(folder, name, column, character):
    table = pd.read_csv(folder / f"{name}.csv", dtype=str, keep_default_na=False)
    table.loc[1, column] += character
    table.to_csv(folder / f"{name}.csv", index=False)
    with pytest.raises(XlscaleError, match=rf"{name}\.csv: line 3: {column}: .*, got U\+{ord(character):04X}$"):
        tables.load(folder)


@pytest.mark.parametrize(("name", "column"), [("regimes", "regime"), ("training", "intermediate_task")])
def test_a_label_that_is_explained_twice_is_one_line(folder, name, column):
    table = pd.read_csv(folder / f"{name}.csv", dtype=str, keep_default_na=False)
    pd.concat([table, table[:1]]).to_csv(folder / f"{name}.csv", index=False)
    with pytest.raises(XlscaleError, match=rf"{name}\.csv: line \d+: {column}: expected every one once, got '.*' ag"):
        tables.load(folder)


def edit(folder, name, change):
    """Change the lines of a small table, which are given as a list, in place."""
    path = folder / f"{name}.csv"
    lines = path.read_text().splitlines()
    change(lines)
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("metrics", lambda lines: lines.insert(1, lines.pop()), r"line 3: pattern: .* line 2 \('\*'\) .*SUSPECT\*'"),
        ("metrics", lambda lines: lines.insert(2, lines.pop(3)), r"line 4: pattern: .* line 3 .* 'EM; DELTA\*'"),
        ("tasks", lambda lines: lines.append("xnli,xcopa,XCOPA,0.5,yes,"), r"line \d+: pattern: .* line 2 \('xnli'\)"),
        ("tasks", lambda lines: lines.append("belebele_?,b,B,0.5,yes,"), r"line \d+: pattern: .*\('belebele\*'\)"),
        ("tasks", lambda lines: lines.insert(1, "[w-z]*,a,A,0,no,"), r"line 3: pattern: .*\('\[w-z\]\*'\).* 'xnli'"),
        ("tasks", lambda lines: lines.extend(["[ab]x*,,,,no,"] * 2), r"pattern: .* got '\[ab\]x\*'"),
        ("models", lambda lines: lines.append("latxa,Mixtral-8x7B,,,,,"), r"model: .* line \d+ \('Mixtral-8x7B'\)"),
    ],
)
def test_a_pattern_that_can_never_count_is_one_line(folder, name, change, said):
    """As of a table that was sorted, whose labels would all have another unit or chance level."""
    edit(folder, name, change)
    with pytest.raises(XlscaleError, match=rf"{name}\.csv: .*{said}") as caught:
        tables.load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "patterns", [("a?c", "a*c"), ("a[*]c", "a*c"), ("[!x]", "?"), ("*q*", "x[pq]"), ("?*z", "*z"), ("ab*", "a*")]
)
def test_a_pattern_that_counts_for_some_labels_is_taken(folder, patterns):
    edit(folder, "tasks", lambda lines: lines.extend(f"{one},,,0,no," for one in patterns))
    assert tables.load(folder).tasks["pattern"].tolist()[-2:] == [*patterns]


@pytest.mark.parametrize(
    ("name", "column", "text"),
    [
        ("models", "skip", " "),
        ("models", "base_model", "XLM-R "),
        ("regimes", "group", " few-shot"),
        ("sources", "study", "flan  palm"),
        ("training", "training", "Mu\u0308ller"),
        ("coding", "why", "two\nlines"),
        ("tasks", "title", "x" * 501),
    ],
)
def test_a_text_that_looks_like_another_is_one_line(folder, name, column, text):
    table = pd.read_csv(folder / f"{name}.csv", dtype=str, keep_default_na=False)
    table.loc[0, column] = text
    table.to_csv(folder / f"{name}.csv", index=False)
    expected = "expected (single spaces between words and composed characters|at most 500 characters that print)"
    with pytest.raises(XlscaleError, match=rf"{name}\.csv: line [23]: {column}: {expected}.*, got '") as caught:
        tables.load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "column"), [("sources", "study"), ("regimes", "group"), ("training", "training"), ("tasks", "pattern")]
)
def test_a_label_without_which_others_fall_together_is_required(folder, name, column):
    table = pd.read_csv(folder / f"{name}.csv", dtype=str, keep_default_na=False)
    table.loc[1, column] = ""
    table.to_csv(folder / f"{name}.csv", index=False)
    with pytest.raises(XlscaleError, match=rf"{name}\.csv: line 3: {column}: expected a text, got ''"):
        tables.load(folder)


@pytest.mark.parametrize("name", tables.HEADERS)
def test_every_line_of_a_small_table_has_the_fields_of_its_header(folder, name):
    path = folder / f"{name}.csv"
    text, fields = path.read_text(), len(tables.HEADERS[name])
    header, *rows_ = text.splitlines()
    for changed, said in (
        ([header, *(f"{row}," for row in rows_)], f":2: expected {fields} fields, got {fields + 1}\n"),
        ([header, "one,two"], f":2: expected {fields} fields, got 2"),
        ([header, "", *rows_, '"'], ": not a readable CSV file (unexpected end of data)"),
        ([f"{header},", *rows_], f": header: expected {header}, got {header},"),
    ):
        path.write_text("\n".join(changed))
        with pytest.raises(XlscaleError) as caught:
            tables.load(folder)
        assert f"{name}.csv{said}" in f"{caught.value}\n"
    path.write_text(text.replace("\n", "\n\n"))
    pd.testing.assert_frame_equal(getattr(tables.load(folder), name), getattr(tables.load(), name))


def test_rows_are_checked_before_anything_is_written(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(
        sources, "write_results", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    before = (folder / "results.parquet").read_bytes()
    rows_before = len(tables.load(folder).results)
    with pytest.raises(XlscaleError, match="could not be written"):
        sources.add(write(tmp_path / "mine.csv", {}), folder)
    assert (folder / "results.parquet").read_bytes() == before
    assert len(tables.load(folder).results) == rows_before  # a source without results harms nobody


# What is known of the evidence from elsewhere, recomputed from the table: (selection, values by size).


def mean(table, **select):
    for column, value in select.items():
        table = table[table[column].isin(value if isinstance(value, list) else [value])]
    assert len(table)
    return 100 * table.groupby("size")["score"].mean()


@pytest.mark.parametrize(
    ("task", "training", "values"),
    [
        ("tydiqa", "none", [25.0, 40.5, 52.9]),
        ("tydiqa", "CoT (9 tasks)", [39.3, 48.8, 61.2]),
        ("tydiqa", "Flan (1,836)", [47.5, 58.7, 67.4]),
        ("mgsm", "none", [3.4, 18.2, 45.9]),
        ("mgsm", "CoT (9 tasks)", [10.4, 32.6, 59.4]),
        ("mgsm", "Flan (1,836)", [8.2, 28.5, 61.3]),
    ],
)
def test_palm_by_mixture(table, task, training, values):
    found = mean(table, source_key="flan_palm_t3", task=task, training=training)
    assert found.tolist() == pytest.approx(values) and found.index.tolist() == [8e9, 62e9, 540e9]


MEDIAN = [f"Median acc. over 5 prompts; prompt lang=EN; split={split}" for split in ("validation", "test")]


@pytest.mark.parametrize(
    ("task", "training", "values"),
    [
        ("xnli", "P3 (English)", [42.7, 44.3]),
        ("xnli", "xP3 (multilingual)", [46.1, 51.4]),
        ("xcopa", "P3 (English)", [58.0, 61.7]),
        ("xcopa", "xP3 (multilingual)", [57.6, 64.4]),
        ("xwinograd", "P3 (English)", [51.1, 52.5]),
        ("xwinograd", "xP3 (multilingual)", [53.9, 62.5]),
    ],
)
def test_bloom_by_mixture(table, task, training, values):
    select = {"source_key": "xmtf_allres", "family": "BLOOM", "task": task, "training": training, "kind": "language"}
    assert mean(table, metric=MEDIAN, **select)[[7.1e9, 176e9]].tolist() == pytest.approx(values, abs=0.051)


def test_untuned_bloom_is_at_chance_on_xnli_at_every_size(table):
    found = mean(
        table, source_key="xmtf_allres", family="BLOOM", task="xnli", training="none", metric=MEDIAN, kind="language"
    )
    assert len(found) == 6 and found.between(33.45, 33.95).all()


@pytest.mark.parametrize(
    ("task", "values"),
    [
        ("xnli", [37.1, 34.2, 37.0, 41.7]),
        ("xcopa", [53.9, 54.7, 55.2, 56.4]),
        ("xstory_cloze", [53.6, 54.8, 56.7, 57.9]),
        ("pawsx", [53.2, 49.5, 50.9, 59.3]),
    ],
)
def test_raw_scale_of_llama(table, task, values):
    found = mean(table, source_key="self_translate_direct", family="LLaMA", task=task, kind="language")
    assert found.tolist() == pytest.approx(values, abs=0.051)


@pytest.mark.parametrize(("task", "values"), [("xnli", [45.3, 44.3]), ("xcopa", [61.8, 66.7])])
def test_prompted_xnli_barely_scales(table, task, values):
    assert mean(table, source_key="apertus_card", family="Llama-3.1", task=task).tolist() == pytest.approx(values)


@pytest.mark.parametrize(
    ("task", "before", "after"),
    [
        ("xstory_cloze", [50.4, 50.6, 51.6], [65.7, 67.2, 69.8]),
        ("belebele", [26.2, 32.0, 33.6], [36.9, 51.6, 64.9]),
    ],
)
def test_basque_continued_pretraining(table, task, before, after):
    select = {"study": "latxa", "family": "Llama-2", "task": task, "language": "eu"}
    assert mean(table, training="none", **select).tolist() == pytest.approx(before, abs=0.051)
    assert mean(table, training="Basque (v1.1)", **select).tolist() == pytest.approx(after, abs=0.051)
    pairs = gains.pairs(table)
    own = pairs[(pairs["study"] == "latxa") & (pairs["training"] == "Basque (v1.1)") & (pairs["task"] == task)]
    chance = {"xstory_cloze": 0.5, "belebele": 0.25}[task]
    corrected = (np.array(after) - np.array(before)) / (1 - chance)
    assert (100 * own.sort_values("size")["gain"]).tolist() == pytest.approx(corrected, abs=0.25)


def test_rows_read_as_pandas_reads_them(tmp_path):
    path = write(tmp_path / "mine.csv", {}, {"where_read": 'a "b", c'})
    expected = (
        pd.read_csv(path, dtype=str, keep_default_na=False)
        .assign(study="", base_model="", stderr="")
        .to_dict("records")
    )
    assert [row for _, row in rows.read(path)] == expected
