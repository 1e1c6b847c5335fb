"""Every fault of a prediction or label folder: one line that names file, line and language, and no number."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path

import pytest
import yaml
from conftest import write
from test_score import REFERENCE, TASKS, XTREME_R

from xlscale.core.files import ROOT, XlscaleError
from xlscale.xtreme import benchmark, command
from xlscale.xtreme.folders import FORMATS, score_folders
from xlscale.xtreme.source import Source

SQUAD = '{{"data": [{{"paragraphs": [{{"qas": [{}]}}]}}]}}'
QUESTION = '{"id": "q1", "answers": [{"text": "x"}]}'
GOOD = {  # task -> labels, predictions
    "xnli": ("neutral\nentailment\n", "neutral\nneutral\n"),
    "xcopa": ('{"label": 0}\n{"label": 1}\n', '{"label": 1}\n{"label": 1}\n'),
    "udpos": ("NOUN\nVERB\n\nDET\n", "NOUN\nNOUN\n\nDET\n"),
    "tatoeba": ("1\n0\n", "1\n1\n"),
    "xquad": (SQUAD.format(QUESTION), '{"q1": "x"}'),
    "mewslix": ('{"m1": ["Q1"]}', '{"m1": ["Q2", "Q1"]}'),
    "bucc2018": ("a\tA\nb\tB\n", "a\tA\nb\tX\n"),
}
# task, which file, its text, line (None: no single one), what the message says
FAULTS = [
    ("xnli", "predictions", "neutral\n", 2, "expected 2 lines as in .*, got 1"),
    ("xnli", "predictions", "neutral\nneutral\nneutral\n", 3, "expected 2 lines as in .*, got 3"),
    ("xnli", "predictions", "neutral\nNeutral\n", 2, "unknown label 'Neutral': expected one of contradiction, ent"),
    ("xnli", "predictions", "neutral\n\nneutral\n", 2, "unknown label ''"),
    ("xnli", "labels", "neutral\n2\n", 2, "unknown label '2'"),
    ("xnli", "predictions", " \n", None, "the file is empty"),
    ("xnli", "labels", "neutral\n" * 100, None, "all labels are the same"),
    ("xcopa", "predictions", '{"label": 0}\n{"label": 1\n', 2, "not valid JSON"),
    ("xcopa", "predictions", '{"label": 0}\n{"label": 2}\n', 2, 'expected {"label": 0 or 1}'),
    ("xcopa", "predictions", '{"label": 0}\n{"label": true}\n', 2, 'expected {"label": 0 or 1}'),
    ("xcopa", "predictions", '{"label": 0}\n[1]\n', 2, 'expected {"label": 0 or 1}'),
    ("xcopa", "predictions", '{"label": 0, "idx": 4}\n{"label": 0, "idx": 4}\n', 2, "duplicate idx 4, first in line 1"),
    ("xcopa", "predictions", '{"label": 0, "idx": 4}\n{"label": 0}\n', 2, "expected an idx in every line or in none"),
    ("xcopa", "predictions", '{"label": 0}\n{"label": 0, "idx": 4}\n', 2, "expected an idx in every line or in none"),
    ("xcopa", "labels", '{"label": 0, "idx": [1]}\n{"label": 1}\n', 1, "idx: expected a number or a string"),
    ("xcopa", "predictions", '{"label": 0}\n', 2, "expected 2 lines"),
    ("xcopa", "predictions", '{"label": 0}\n{"label": 1, "label": 0}\n', 2, "the key 'label' once in an"),
    ("xcopa", "predictions", '{"label": 0, "idx": true}\n{"label": 1}\n', 1, "idx: expected a number or a string"),
    ("xcopa", "predictions", '{"label": 0, "idx": 1}\n{"label": 0, "idx": 0}', None, "idx: expected ascending numbers"),
    ("xcopa", "labels", '{"label": 0, "idx": "a"}\n{"label": 1, "idx": "b"}', None, "idx: expected ascending numbers"),
    ("udpos", "predictions", "NOUN\nVERBO\n\nDET\n", 2, "unknown label 'VERBO': expected one of ADJ, ADP"),
    ("udpos", "predictions", "NOUN\n\nVERB\nDET\n", 2, "expected a tag as in .*, got an empty line"),
    ("udpos", "predictions", "NOUN\nVERB\nDET\nDET\n", 3, "expected an empty line as in .*, got a tag"),
    ("udpos", "predictions", "NOUN\nVERB\n", 3, "expected 4 lines as in .*, got 2"),
    ("udpos", "labels", "The\ncat\n\nsat\n", 1, "unknown label 'The'"),
    ("tatoeba", "predictions", "[3]\n[1]\n", 1, r"expected an index, got '\[3\]'"),
    ("tatoeba", "predictions", "1\n-1\n", 2, "expected an index, got '-1'"),
    ("tatoeba", "predictions", "1\n00\n", 2, "expected an index, got '00'"),
    ("tatoeba", "labels", "01\n0\n", 1, "expected an index, got '01'"),
    ("tatoeba", "predictions", "1\n", 2, "expected 2 lines"),
    ("tatoeba", "predictions", "2\n1\n", 1, "expected an index from 0 to 1, got 2"),
    ("tatoeba", "predictions", "1\n9999999999\n", 2, "expected an index from 0 to 1, got 9999999999"),
    ("tatoeba", "labels", "2\n1\n", 1, "expected an index from 0 to 1, got 2"),
    ("xquad", "predictions", '{\n"q1": "x",\n}', 3, "not valid JSON"),
    ("xquad", "predictions", '{\n"q1": "x",\n"q1": "y"}', 3, "duplicate id 'q1'"),
    ("xquad", "predictions", "{}", None, "no prediction for id 'q1' .line 1 of .*labels"),
    ("xquad", "predictions", '{"q1": "x",\n"q2": "y"}', 2, "unknown id 'q2'"),
    ("xquad", "predictions", '{\n"q1": ["x"]}', 2, "id 'q1': expected a string, got "),
    ("xquad", "predictions", '["x"]', None, "expected a JSON object"),
    ("xquad", "predictions", '{"q1": " "}', None, "expected answers, got empty ones to all 1 questions"),
    ("xquad", "labels", SQUAD.format('{"id": "q1", "answers": [{"text": " "}]}'), 1, "no true answer"),
    ("xquad", "labels", SQUAD.format(QUESTION[:-1] + ', "answers": []}'), None, "expected the key 'answers' once"),
    ("xquad", "predictions", "[" * 100_000, None, "not valid JSON .nested too deep"),
    ("xquad", "labels", SQUAD.format('{"id": "q1", "answers": [{"text": ""}]}'), 1, "no true answer; XTREME's"),
    ("xquad", "labels", SQUAD.format('{"id": "q1", "answers": []}'), 1, "no true answer"),
    ("xquad", "labels", SQUAD.format(QUESTION + ",\n" + QUESTION), 2, "duplicate id 'q1'"),
    ("xquad", "labels", SQUAD.format('{"id": "q1"}'), None, "without 'answers'"),
    ("xquad", "labels", SQUAD.format('{"id": 1, "answers": [{"text": "x"}]}'), None, "got another structure"),
    ("xquad", "labels", SQUAD.format(""), None, "expected at least one question"),
    ("xquad", "labels", "3", None, "got another structure"),
    ("mewslix", "predictions", '{"m1":\n["Q2", "Q2"]}', 1, "id 'm1': duplicate candidate 'Q2'"),
    ("mewslix", "predictions", '{\n"m1": []}', 2, "id 'm1': expected a list of ids"),
    ("mewslix", "predictions", '{"m1": "Q1"}', 1, "id 'm1': expected a list of ids, got 'Q1'"),
    ("mewslix", "predictions", '{"m1": [{"id": "Q1"}]}', 1, "id 'm1': expected a list of ids"),
    ("mewslix", "predictions", '{"m2": ["Q1"]}', None, "no prediction for id 'm1'"),
    ("mewslix", "labels", '{"m1": [""]}', 1, "id 'm1': expected a list of ids"),
    ("mewslix", "labels", "{}", None, "expected at least one query"),
    ("mewslix", "predictions", '{"m1": ["x", "y"]}', None, "expected candidates of which .* has some, such as 'Q1'"),
    ("bucc2018", "predictions", "A\ta\nB\tb\n", 1, "source id 'A': on the other side in "),
    ("bucc2018", "predictions", "a\tA\nb\ta\n", 2, "target id 'a': on the other side in "),
    ("bucc2018", "predictions", "1\t7\n2\t8\n", 1, "expected source ids of which .* has some, such as 'a', got none"),
    ("bucc2018", "predictions", "a\t7\nb\t8\n", 1, "expected target ids of which .* has some, such as 'A', got none"),
    ("bucc2018", "predictions", "a\tA\na\tA\n", 2, "duplicate pair 'a', 'A'"),
    ("bucc2018", "predictions", "a\tA\nb\n", 2, "expected source id, tab, target id"),
    ("bucc2018", "predictions", "a\tA\t0.5\nb\tB\n", 2, "in all lines or none"),
    ("bucc2018", "predictions", "a\tA\tnan\n", 1, "expected a finite number as score"),
    ("bucc2018", "predictions", "a\tA\t1_0\n", 1, "expected a finite number as score, got '1_0'"),
    ("bucc2018", "predictions", "a\tA\t٣\n", 1, "expected a finite number as score, got '٣'"),
    ("bucc2018", "predictions", "a\tA\t1e999\n", 1, "expected a finite number as score, got '1e999'"),
    ("bucc2018", "predictions", "a\tA\thigh\n", 1, "expected a finite number as score, got 'high'"),
    ("bucc2018", "predictions", "a\tA\t0.5\n", None, "dev-de.tsv.* not found: the scores in .* need a threshold"),
    ("bucc2018", "labels", "a\tA\nb\tB\na\tB\n", 3, "source id 'a': expected in one pair"),
    ("bucc2018", "labels", "a\tA\t1\n", 1, "expected source id, tab, target id"),
]  # fmt: skip


def folder_of(task: str, where: Path, **changed: str) -> tuple[Path, str]:
    """A folder with one good file per side, or with what is given in its stead, and the file's name."""
    language = TASKS[task].languages[0]
    name = TASKS[task].file.format(language=language)
    texts = dict(zip(("labels", "predictions"), GOOD[task], strict=True)) | changed
    return write(where, {f"{side}/{task}/{name}": text for side, text in texts.items()}), name


def score_one(task: str, where: Path, name: str) -> dict[str, float]:
    sides = [Source(where / side / task / name, task, TASKS[task].languages[0]) for side in ("predictions", "labels")]
    return FORMATS[TASKS[task].format](TASKS[task], *sides)


@pytest.mark.parametrize("task", GOOD)
def test_the_files_are_good_before_they_are_broken(task, tmp_path):
    assert all(0 <= value <= 100 for value in score_one(task, *folder_of(task, tmp_path)).values())


@pytest.mark.parametrize(("task", "side", "text", "line", "message"), FAULTS)
def test_a_fault_names_file_line_and_language(task, side, text, line, message, tmp_path):
    where, name = folder_of(task, tmp_path, **{side: text})
    with pytest.raises(XlscaleError) as caught:
        score_one(task, where, name)
    found = str(caught.value)
    assert "\n" not in found
    assert re.search(message, found)
    assert f" {task} in {TASKS[task].languages[0]}: " in found
    if line:
        assert found.startswith(f"{where / side / task / name}:{line}: ")


def test_idx_that_the_labels_lack(tmp_path):
    rows = '{{"label": 0, "idx": {}}}\n{{"label": 1, "idx": {}}}\n'
    where, name = folder_of("xcopa", tmp_path, labels=rows.format(0, 1), predictions=rows.format(0, 7))
    with pytest.raises(XlscaleError, match="xcopa/test-et.jsonl:2: xcopa in et: unknown idx 7"):
        score_one("xcopa", where, name)


def test_what_is_not_utf_8_and_what_comes_from_windows(tmp_path):
    where, name = folder_of("xnli", tmp_path)
    path = where / "predictions" / "xnli" / name
    path.write_bytes(b"neutral\nneutr\xe4l\n")
    with pytest.raises(XlscaleError, match=r"test-ar.tsv:2: xnli in ar: expected UTF-8, got byte 0xe4"):
        score_one("xnli", where, name)
    path.write_bytes(b"\xef\xbb\xbfneutral\r\nneutral \r\n\r\n")
    assert score_one("xnli", where, name) == {"accuracy": 50}


def test_indices_counted_from_1_are_found_out_where_none_is_beyond_the_file(tmp_path):
    gold = [(7 * i) % 40 for i in range(40)]
    labels = "".join(f"{index}\n" for index in gold)
    later = "".join(f"{1 if index == 39 else index + 1}\n" for index in gold)
    with pytest.raises(
        XlscaleError, match="tatoeba in ar: expected indices counted from 0, got 39 right ones counted from 1"
    ):
        score_one("tatoeba", *folder_of("tatoeba", tmp_path, labels=labels, predictions=later))
    # Wrong ones alone are a score.
    wrong = "".join(f"{(index + 20) % 40}\n" for index in gold)
    assert score_one("tatoeba", *folder_of("tatoeba", tmp_path, labels=labels, predictions=wrong)) == {"accuracy": 0}


def test_swapped_pairs_are_found_out_where_both_sides_have_the_same_ids(tmp_path):
    files = {"labels": "1\t2\n2\t3\n3\t1\n", "predictions": "2\t1\n1\t3\n3\t3\n"}
    with pytest.raises(XlscaleError, match="bucc2018 in de: the pairs are those of .* with source and target swapped"):
        score_one("bucc2018", *folder_of("bucc2018", tmp_path, **files))
    files["predictions"] += "1\t2\n"  # a right one: then the others are wrong
    assert score_one("bucc2018", *folder_of("bucc2018", tmp_path, **files))["f1"] > 0


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two tasks of XTREME-R, complete."""
    wanted = ("/xnli/", "/xcopa/")
    return write(
        tmp_path / "f", {k: v for k, v in REFERENCE["folders"]["files"].items() if any(w in k for w in wanted)}
    )


def run(folder: Path, *options: str) -> int:
    return command.main(
        ["--predictions", str(folder / "predictions"), "--labels", str(folder / "labels"), *options]
    )  # fmt: skip


@pytest.mark.parametrize("side", ["predictions", "labels"])
def test_a_missing_language_stops_and_may_be_marked(folder, side, capsys, tmp_path):
    gone = folder / side / "xnli" / "test-sw.tsv"
    gone.unlink()
    out = tmp_path / "scores.json"
    assert run(folder, "--tasks", "xnli", "xcopa", "--json", str(out)) == 1
    stopped = capsys.readouterr()
    assert stopped.err == f"xlscale.score: {gone}: xnli in sw: not found\n"
    assert not stopped.out
    assert not out.exists()
    assert run(folder, "--tasks", "xnli", "xcopa", "--json", str(out), "--allow-missing") == 0
    text, found = capsys.readouterr().out, json.loads(out.read_text())
    xnli = found["tasks"]["xnli"]
    assert xnli["score"] is None
    assert xnli["averages"] == {"accuracy": None}
    assert xnli["languages"]["accuracy"]["sw"] is None
    assert list(xnli["missing"]) == ["sw"]
    assert sum(value is not None for value in xnli["languages"]["accuracy"].values()) == 14
    assert found["tasks"]["xcopa"]["score"] is not None
    assert found["groups"] == {"classification": None}
    assert found["overall"] is None
    assert f"missing: {gone}: xnli in sw: not found" in text
    assert re.search(r"XNLI +classification +14 of 15 +- +accuracy -\n", text)
    assert re.search(r"mean of classification +-\n", text)


def test_missing_tasks_and_folders(folder, capsys, tmp_path):
    assert run(folder) == 1
    assert "more: --allow-missing marks them" in capsys.readouterr().err
    assert run(folder, "--allow-missing") == 0
    text = capsys.readouterr().out
    assert re.search(r"LAReQA \(XQuAD-R\) +retrieval +0 of 11 +- ", text)
    assert re.search(r"mean of classification +\d", text)
    assert re.search(r"mean of XTREME-R +-\n", text)
    assert run(folder, "--allow-missing", "--tasks", "lareqa") == 1
    assert "nothing to score" in capsys.readouterr().err
    assert run(tmp_path / "nowhere", "--allow-missing") == 1
    assert "nowhere/predictions: not found" in capsys.readouterr().err
    assert run(folder, "--tasks", "xnly") == 1
    assert "unknown task 'xnly': expected some of xnli, xcopa" in capsys.readouterr().err


def test_a_broken_file_is_never_taken_for_a_missing_one(folder, capsys):
    path = folder / "predictions" / "xnli" / "test-sw.tsv"
    path.write_text("neutral\n", encoding="utf-8")
    assert run(folder, "--allow-missing") == 1
    assert "test-sw.tsv:2: xnli in sw: expected 4 lines" in capsys.readouterr().err


def test_files_of_unknown_languages_are_named(folder, capsys):
    shutil.copy(folder / "predictions" / "xnli" / "test-sw.tsv", folder / "predictions" / "xnli" / "test-swa.tsv")
    assert run(folder, "--tasks", "xnli") == 0
    text = capsys.readouterr().out
    assert "not scored, no such language in XTREME-R: " in text
    assert "test-swa.tsv" in text
    assert "mean of" not in text  # neither group nor benchmark was asked for whole


@pytest.mark.parametrize("side", ["predictions", "labels"])
def test_scores_do_not_take_the_place_of_what_is_scored(folder, side, capsys):
    path = folder / side / "xnli" / "test-sw.tsv"
    before = path.read_bytes()
    assert run(folder, "--tasks", "xnli", "--json", str(path)) == 1
    assert f"expected a place outside {folder / side}, which is scored" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_an_unknown_benchmark_and_a_json_file_that_cannot_be_written(folder, capsys):
    assert run(folder, "--benchmark", "xglue") == 1
    assert run(folder, "--benchmark", str(folder / "mine.yaml")) == 1
    assert run(folder, "--tasks", "xnli", "--json", str(folder / "predictions" / "xnli")) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert "expected" in lines[2]
    assert lines[0].endswith("unknown benchmark 'xglue': expected one of xtreme, xtreme-r, or a .yaml file")
    assert lines[1].endswith("mine.yaml: not found")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metrics": ["f1"]}, "'f1' cannot be computed from files of format 'labels'"),
        ({"score": ["f1"]}, "expected some of the metrics"),
        ({"labels": None}, "labels: expected for labels"),
        ({"languages": ["ar", "ar"]}, "languages: expected each once"),
        ({"file": "../{language}"}, "file"),
        ({"development": "dev-{language}.tsv"}, "development: expected for pairs"),
        ({"candidates": {"ar": 5}}, "candidates: expected for indices"),
        ({"labels": []}, "labels: List should have at least 1"),
        ({"file": "x" * 300 + "-{language}.tsv"}, "file: expected the name of a file"),
        (
            {
                "format": "pairs",
                "labels": None,
                "metrics": ["f1"],
                "score": ["f1"],
                "file": "a-{language}",
                "development": "a-{language}",
            },
            "development: expected other files than those that are scored",
        ),
        ({"format": "indices", "labels": None, "candidates": {"ar": 0}}, "candidates.ar"),
        (
            {"format": "indices", "labels": None, "candidates": {"ka": 5}},
            "candidates: expected some of the languages",
        ),
        ({"score": ["accuracy", "accuracy"]}, "score: expected each once, got 'accuracy' again"),
        ({"metrics": ["accuracy", "accuracy"]}, "metrics: expected each once, got 'accuracy' again"),
        ({"labels": ["x", "y", "x"]}, "labels: expected each once, got 'x' again"),
        (
            {"format": "ranking", "labels": None, "metrics": ["map@1٠"], "score": ["map@1٠"]},
            "'map@1٠' cannot be computed",
        ),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_broken_description_of_a_benchmark(change, message, tmp_path, monkeypatch):
    value = yaml.safe_load((ROOT / "data_manifest" / "benchmarks" / "xtreme.yaml").read_text(encoding="utf-8"))
    value["tasks"][1] |= change
    write(tmp_path, {"benchmarks/xtreme.yaml": yaml.safe_dump(value)})
    monkeypatch.setattr(benchmark, "MANIFEST", tmp_path)
    with pytest.raises(XlscaleError, match=rf"xtreme.yaml: tasks.1.*{re.escape(message)}"):
        benchmark.load("xtreme")


def test_descriptions_of_unknown_and_misnamed_benchmarks(tmp_path, monkeypatch):
    with pytest.raises(XlscaleError, match="unknown benchmark 'xglue': expected one of xtreme, xtreme-r"):
        benchmark.load("xglue")
    text = (ROOT / "data_manifest" / "benchmarks" / "xtreme.yaml").read_text(encoding="utf-8")
    write(tmp_path, {"benchmarks/other.yaml": text})
    monkeypatch.setattr(benchmark, "MANIFEST", tmp_path)
    with pytest.raises(XlscaleError, match="name: expected 'other' as in the file's name, got 'xtreme'"):
        benchmark.load("other")


def test_the_first_missing_file_is_named_before_anything_is_read(folder):
    (folder / "predictions" / "xnli" / "test-ar.tsv").write_text("nonsense", encoding="utf-8")
    (folder / "labels" / "xcopa" / "test-zh.jsonl").unlink()
    with pytest.raises(XlscaleError, match="test-zh.jsonl: xcopa in zh: not found"):
        score_folders(XTREME_R, folder / "predictions", folder / "labels", ["xnli", "xcopa"])


def test_what_is_there_twice_in_a_long_list_is_found_at_once(tmp_path):
    """By looking at each once: a million of them, compared with one another, would take days."""
    many = [f"c{number}" for number in range(200_000)]
    where, name = folder_of("mewslix", tmp_path, predictions=json.dumps({"m1": [*many, many[-1]]}))
    began = time.monotonic()
    with pytest.raises(XlscaleError, match="duplicate candidate 'c199999'"):
        score_one("mewslix", where, name)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "more", [["--" + "x" * 5000], ["--options", "'" + "x" * 5000], ["a\nb\u202e\x1b[31m"], ["--options", "--tasks"], []]
)
def test_a_fault_of_the_command_line_is_one_short_line(more, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main([*(["--predictions", "a", "--labels", "b"] if more else []), *more])
    told = capsys.readouterr().err
    assert ended.value.code == 2 and told.startswith("xlscale.score: ") and told.count("\n") == 1
    assert len(told) <= 300 and told.rstrip("\n").isprintable()


@pytest.mark.parametrize("more", [["--options=--options=x"], ["--options", "--tasks a --options '--json x'"]])
def test_options_within_options_are_refused(more, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(["--predictions", "a", "--labels", "b", *more])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("xlscale.score: --options: expected others than itself, got ")


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_place_that_is_in_no_folder_is_told_before_anything_is_scored(tmp_path, kind, monkeypatch, capsys):
    above = tmp_path / "mine"
    above.touch() if kind == "file" else above.symlink_to(tmp_path / "nowhere")
    monkeypatch.setattr(command, "score_folders", lambda *_, **__: pytest.fail("scored"))
    out = above / "scores" / "out.json"
    assert command.main(["--predictions", "a", "--labels", "b", "--json", str(out)]) == 1
    told = f"xlscale.score: --json {out}: expected a place in a folder, got {above}, which is none\n"
    assert capsys.readouterr().err == told
