"""The record proves itself: what follows is recomputed, the rest held by the manifest, and what writes takes turns."""

import fcntl
import json
import os
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from seqeval.metrics import f1_score

from xlscale.cards.catalogue import data_card
from xlscale.commands import sweeps
from xlscale.core import files, manifest
from xlscale.core.files import XlscaleError
from xlscale.core.seals import seal
from xlscale.experiment import cells, studies
from xlscale.experiment.results import Result, Score
from xlscale.metrics.answers import match, normalise_squad
from xlscale.metrics.predictions import by_language, digest, zero_shot_mean
from xlscale.models import ladder
from xlscale.record import canary, recompute, store, tuning
from xlscale.record.recompute import Check
from xlscale.report import typeset

RECORDED = store.results()


def one(phase: str, name: str) -> Result:
    return next(r for r in RECORDED.values() if r.phase == phase and store.data_set(r) == name)


def split(result: Result) -> str:
    return "dev" if result.phase == "intermediate" else result.parameters.get("split", "test")


EXAMPLES = {
    "classification": one("target", "topic"),
    "retrieval": one("target", "udhr"),
    "pretrained": one("pretrained", "udhr"),
    "tagging": one("target", "interface_tags"),
    "span_qa": one("intermediate", "squad_wiki"),
    "multiple_choice": one("target", "summary_choice"),
}


def predictions(result: Result) -> pd.DataFrame:
    return pd.read_parquet(files.RESULTS / "predictions" / f"{result.id}.parquet")


@pytest.fixture
def small(tmp_path) -> Path:
    """A record of EXAMPLES, with its manifest."""
    folder = tmp_path / "record"
    tables = {f"predictions/{r.id}.parquet": partial(predictions(r).to_parquet, index=False) for r in EXAMPLES.values()}
    manifest.write(folder, tables | {store.CELLS: partial(store._write, {r.id: r for r in EXAMPLES.values()})})
    assert set(store.check(folder).values()) == {"ok"}
    return folder


def put(folder: Path, *changed: Result, without: str = "") -> None:
    """Change results by hand in cells.parquet."""
    known = {r.id: r for r in EXAMPLES.values()} | {r.id: r for r in changed}
    store._write({name: r for name, r in known.items() if name != without}, folder / store.CELLS)


def refused(result: Result, folder: Path) -> str:
    """What the check says of one result with the predictions in ``folder``, whatever a manifest says."""
    with pytest.raises(XlscaleError) as caught:
        Check()(result, data_card(store.data_set(result)), folder / "predictions" / f"{result.id}.parquet")
    return str(caught.value)


def other(result: Result, language: str, **changes) -> dict[str, Score]:
    return result.languages | {language: result.languages[language].model_copy(update=changes)}


@pytest.mark.parametrize("family", EXAMPLES)
def test_what_follows_from_predictions_labels_and_cards_is_recomputed(family):
    result = EXAMPLES[family]
    language = min(result.languages)
    score = result.languages[language]
    changes = {
        "value": {"value": 0.5},
        "english": {"english": 0.123},
        "items": {"languages": other(result, language, items=score.items + 1)},
        "languages": {"languages": other(result, language, value=0.99)},
        "parent": {"parent": "pretrained-e5_small-k1-0000000000"},
        "reads": {"reads": dict.fromkeys(result.reads, "0" * 64)},
        "non_embedding_parameters": {"non_embedding_parameters": 100 * result.non_embedding_parameters},
        "total": {"total_parameters": result.total_parameters + 1},
        "predictions_sha256": {"predictions_sha256": "0" * 64},
        "id": {"id": f"{result.id[:-1]}x"},
    }
    for name, value in score.others.items():
        if name != "words_cut":  # follows from the tokenizer; held by the manifest
            changes[name] = {"languages": other(result, language, others=score.others | {name: value / 2 + 0.3})}
    check, where = Check(), files.RESULTS / "predictions" / f"{result.id}.parquet"
    check(result, data_card(store.data_set(result)), where)
    for change in changes.values():
        with pytest.raises(XlscaleError, match="expected") as caught:
            check(result.model_copy(update=change), data_card(store.data_set(result)), where)
        assert len(str(caught.value).splitlines()) == 1 and len(str(caught.value)) <= 300


def fitted(result: Result, table: pd.DataFrame, folder: Path) -> Result:
    """Write other predictions, and a result whose hash, values and items follow from what they say of themselves."""
    (folder / "predictions").mkdir(exist_ok=True)
    table.to_parquet(folder / "predictions" / f"{result.id}.parquet", index=False)
    values = by_language(data_card(store.data_set(result)).metric, table)
    counts = table["language"].value_counts()
    scores = {
        code: result.languages[code].model_copy(update={"value": value, "items": int(counts[code])})
        for code, value in values.items()
    }
    changes = {"languages": scores, "value": zero_shot_mean(values), "english": values.get("en")}
    return result.model_copy(update=changes | {"predictions_sha256": digest(table)})


@pytest.mark.parametrize("family", EXAMPLES)
def test_right_predictions_are_right_by_the_labels(family, tmp_path):
    result = EXAMPLES[family]
    table = predictions(result)
    raised = table.copy()
    for name in ("correct", "f1"):
        if name in raised:
            raised[name] = np.float32(1)
    if "matches" in raised:
        raised["matches"] = raised["spans"]
    assert "by the label" in refused(fitted(result, raised, tmp_path), tmp_path)
    kept = table[table["correct"] == 1]
    if set(kept["language"]) == set(result.languages):
        assert "item: expected a prediction of" in refused(fitted(result, kept, tmp_path), tmp_path)
    twice = pd.concat([table, table.head(1)], ignore_index=True)
    assert "item: expected" in refused(fitted(result, twice, tmp_path), tmp_path)
    foreign = table.assign(item=table["item"].mask(table.index == 0, "nobody"))
    assert "item: expected no prediction of 'nobody'" in refused(fitted(result, foreign, tmp_path), tmp_path)
    lost = table.assign(score=table["score"].mask(table.index == 3))
    assert "score: expected finite numbers" in refused(fitted(result, lost, tmp_path), tmp_path)


def test_the_labels_are_joined_as_an_independent_reading_of_the_data_does():
    """What is recorded as right, by other means: pandas, and the scores of the metrics themselves."""

    def joined(result: Result) -> pd.DataFrame:
        rows = pd.read_parquet(data_card(store.data_set(result)).path)
        return predictions(result).merge(rows[rows["split"] == split(result)], on=["language", "item"], validate="1:1")

    for family, column in (("classification", "label"), ("multiple_choice", "answer"), ("retrieval", "group")):
        table = joined(EXAMPLES[family])
        assert ((table["prediction"] == table[column].astype(str)) == table["correct"].astype(bool)).all()
    table = joined(EXAMPLES["span_qa"])
    f1 = [match(p, list(a), normalise_squad)[1] for p, a in zip(table["prediction"], table["answers"], strict=True)]
    assert np.mean(f1) == pytest.approx(EXAMPLES["span_qa"].value, abs=1e-6)
    for language, part in joined(EXAMPLES["tagging"]).groupby("language"):
        f1 = f1_score([list(tags) for tags in part["tags"]], part["prediction"].str.split().tolist(), average="micro")
        assert f1 == pytest.approx(EXAMPLES["tagging"].languages[language].value, abs=1e-6)


@pytest.mark.parametrize("layers", [1, 4, 12])
def test_sizes_are_those_of_the_loaded_rung(e5, layers):
    assert recompute._sizes("e5_small", layers) == ladder.parameter_counts(ladder.load(e5, layers))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_are_finite(value, small):
    result = EXAMPLES["classification"].model_dump()
    for change in ({"value": value}, {"seconds": {"train": value}}, {"losses": [1.0, value]}, {"train_flops": value}):
        with pytest.raises(ValueError, match="finite"):
            Result(**result | change)
    put(small, EXAMPLES["classification"].model_copy(update={"train_flops": value}))
    with pytest.raises(XlscaleError, match=r"cells.parquet: train_flops: .*finite"):
        store.check(small)


HELD = [
    {"seconds": {"train": 1.0}},
    {"train_flops": 1.0},
    {"train_tokens": 7},
    {"losses": [0.5]},
    {"peak_memory_gb": 0.1},
    {"fingerprint": "0" * 64},
    {"environment": {"machine": "another"}},
]


@pytest.mark.parametrize("change", HELD, ids=lambda change: next(iter(change)))
def test_what_follows_from_nothing_is_held(change, small):
    put(small, EXAMPLES["tagging"].model_copy(update=change))
    (fault,) = [verdict for verdict in store.check(small).values() if verdict != "ok"]
    assert "cells.parquet: sha256: expected" in fault and len(fault) <= 300


IMPOSSIBLE = [
    ({"seconds": {"train": -1.0}}, "seconds: train: expected 0 to 1e+08, got -1.0"),
    ({"seconds": {"load": 1e300}}, "seconds: load: expected 0 to 1e+08, got 1e+300"),
    ({"train_flops": -1.0}, "train_flops: expected 0 to 1e+27, got -1.0"),
    ({"train_tokens": -7}, "train_tokens: expected 0 to 1e+15, got -7"),
    ({"peak_memory_gb": -0.5}, "peak_memory_gb: expected 0 to 1e+06, got -0.5"),
    ({"trainable_parameters": -1}, "trainable_parameters: expected 0 to 1e+13, got -1"),
    ({"environment": {"machine": ["a"]}}, "environment: machine: expected a text, got ['a']"),
]
UNTRAINED = [
    ({"train_tokens": 7}, "train_tokens: expected 0 to 0, as nothing is trained, got 7"),
    ({"train_flops": 1.0}, "train_flops: expected 0 to 0, as nothing is trained, got 1.0"),
    ({"trainable_parameters": 9}, "trainable_parameters: expected 0 to 0, as nothing is trained, got 9"),
    ({"seconds": {"train": 1.0}}, "seconds: train: expected 0 to 0, as nothing is trained, got 1.0"),
    ({"losses": [0.5]}, "losses: expected none, as nothing is trained, got 1"),
]


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        *(("tagging", *one) for one in IMPOSSIBLE),
        *((family, *one) for family in ("retrieval", "pretrained") for one in UNTRAINED),
    ],
)
def test_costs_that_nothing_has_are_told(small, family, change, message):
    result = EXAMPLES[family]
    put(small, result.model_copy(update=change))
    assert store.check(small)[result.id] == f"cell {result.id}: {message}"


@pytest.mark.parametrize("family", EXAMPLES)
def test_scores_that_nothing_gives_are_told(family, small):
    result = EXAMPLES[family]
    language = max(result.languages)
    others = result.languages[language].others | {"macro_recall": 0.5}
    put(small, result.model_copy(update={"languages": other(result, language, others=others)}))
    assert f"{language}: expected no score 'macro_recall'" in store.check(small)[result.id]


@pytest.mark.parametrize("column", ["cell", "phase", "status", "value", "more", None])
def test_columns_that_contradict_the_results_are_told(small, column):
    """They are what is read by whoever opens the file without this package."""
    result = EXAMPLES["span_qa"]
    table = pq.read_table(small / store.CELLS).to_pandas()
    row = table.index[table["cell"] == result.id]
    if column is None:
        column, table = "status", table.drop(columns="status")
    elif column == "more":
        table["more"] = "x"
    else:
        table.loc[row, column] = {"value": 0.99, "phase": "target", "status": "failed"}.get(column, "x")
    table.to_parquet(small / store.CELLS, index=False)
    assert f"cells.parquet: {column}: expected " in store.check(small)[result.id]


def test_a_result_with_a_key_twice_is_refused(small):
    table = pq.read_table(small / store.CELLS).to_pandas()
    table["result"] = [text.replace('{"english"', '{"value": 0.9, "english"', 1) for text in table["result"]]
    table.to_parquet(small / store.CELLS, index=False)
    with pytest.raises(XlscaleError, match=r"cells\.parquet: not a readable record \(key 'value': expected once\)"):
        store.check(small)


def test_cells_that_come_go_or_fail_are_named(small):
    result = EXAMPLES["classification"]
    faults = lambda: {name: line for name, line in store.check(small).items() if line != "ok"}  # noqa: E731
    put(small, without=result.id)
    assert set(faults()) == {store.CELLS, f"{result.id}.parquet"}
    assert "no predictions but those of complete cells" in faults()[f"{result.id}.parquet"]
    failed = {"status": "failed", "reason": "diverged"}
    put(small, result.model_copy(update=failed))
    assert "value: expected none of a failed cell" in faults()[result.id]
    gone = {"value": None, "english": None, "languages": {}, "predictions_sha256": None}
    put(small, result.model_copy(update=failed | gone))
    assert set(faults()) == {store.CELLS, f"{result.id}.parquet"}
    # Another cell, with this one's predictions.
    invented = cells.make("target", result.parameters | {"seed": 77})
    put(small, result.model_copy(update={"id": invented.id, "parameters": invented.parameters.model_dump()}))
    text = (small / "predictions" / f"{result.id}.parquet").read_bytes()
    (small / "predictions" / f"{invented.id}.parquet").write_bytes(text)
    assert {store.CELLS, f"predictions/{invented.id}.parquet"} <= set(faults())
    known = {r.id: r for r in EXAMPLES.values()}
    store._write(known | {"again": result}, small / store.CELLS)
    with pytest.raises(XlscaleError, match=f"cell: expected every cell once, got {result.id} again"):
        store.check(small)


def test_the_score_of_an_item_and_a_stamp_are_held(small):
    path = small / "predictions" / f"{EXAMPLES['retrieval'].id}.parquet"
    table = pd.read_parquet(path)
    table.assign(score=table["score"] / 2).to_parquet(path, index=False)
    assert "sha256" in store.check(small)[f"predictions/{path.name}"]
    entry = {"phase": "target", "recorded": EXAMPLES["tagging"].fingerprint, "current": "0" * 64}
    files.write_json(small / canary.FILE, [entry | {"verdict": "different", "cells": [], "machine": "m"}])
    assert "expected no such file" in store.check(small)[canary.FILE]


def checkout(tmp_path: Path) -> Path:
    """A copy of what the manifest holds, and of the manifest, as a checkout of its own."""
    for place in (*manifest.PLACES, manifest.RECORD / manifest.NAME):
        for file in [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]:
            copy = tmp_path / file.relative_to(files.ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    return tmp_path


def python(code: str, root: Path, *arguments: str, **environment: str) -> subprocess.Popen:
    places = {"XLSCALE_ROOT": str(root), "PYTHONPATH": str(files.ROOT / "src")}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], env=os.environ | places | environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


CHECK = "from xlscale.core import manifest; print('\\n'.join(manifest.faults().values()))"


def test_the_committed_files_are_as_the_manifest_says():
    manifest.check()
    assert files.read_json(manifest.RECORD / manifest.NAME).keys() == {"files"}
    stated = manifest.stated(manifest.PLACES)
    for name in ("cells.parquet", "fingerprints.json", "healing.csv", "healing.json", "../requirements.lock",
                 "../studies/tuned.json", "../data_manifest/published/results.parquet", "../paper/numbers.json",
                 "../paper/generated/04_scaling.json", f"predictions/{EXAMPLES['tagging'].id}.parquet"):  # fmt: skip
        assert name in stated


def test_every_file_that_was_edited_is_named(tmp_path):
    root = checkout(tmp_path)
    edited = ["results/fingerprints.json", "results/healing.csv", "requirements.lock", "studies/tuned.json",
              "data_manifest/published/results.parquet", "data_manifest/published/tasks.csv",
              "paper/generated/04_scaling.json", "paper/numbers.tex", "paper/figures/scaling.svg"]  # fmt: skip
    for name in edited:
        content = bytearray((root / name).read_bytes())
        content[len(content) // 2] ^= 1
        (root / name).write_bytes(content)
    (root / "results" / "healing.json").unlink()
    for name in ("paper/generated/zz.json", "data_manifest/locks/sciq.json", "results/predictions/x.parquet"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("{}")
        edited.append(name)
    lines, errors = python(CHECK, root).communicate()
    found = {line.split(":")[0] for line in lines.splitlines()}
    assert found == {*edited, "results/healing.json"}, errors
    assert all(len(line) <= 300 for line in lines.splitlines())
    for path in (root / "results" / "predictions").iterdir():
        path.write_bytes(b"")
    for verb in (["reproduce"], ["paper"], ["verify", "--n", "1"]):
        done = subprocess.run(
            [sys.executable, "-m", "xlscale", *verb], cwd=tmp_path, capture_output=True, text=True,
            env=os.environ | {"XLSCALE_ROOT": str(root), "XLSCALE_STUDIES": str(files.STUDIES)},
        )  # fmt: skip
        assert done.returncode == 1 and "sha256: expected" in done.stderr and "Traceback" not in done.stderr
        assert len(done.stderr.splitlines()) <= 20


@pytest.mark.parametrize("name", ["a" * 300, "../" + "b/" * 3000 + "c", "\ud800", "a\0b", ""])
@pytest.mark.parametrize("part", ["files", "coming"])
def test_a_manifest_with_names_that_no_file_has_is_one_line(tmp_path, part, name):
    (tmp_path / "manifest.json").write_text(json.dumps({part: {name: "0" * 64}}))
    for ask in (manifest.check, manifest.state, lambda places: manifest.write(places[0], {})):
        with pytest.raises(XlscaleError, match=r"manifest\.json: files: expected names of files and their sha256"):
            ask([tmp_path])


def test_a_changed_line_of_the_manifest_is_a_fault_and_so_is_a_missing_one(tmp_path):
    root = checkout(tmp_path)
    path = root / "results" / "manifest.json"
    content = files.read_json(path)
    content["files"]["fingerprints.json"] = "0" * 64
    del content["files"]["../requirements.lock"]
    path.write_text(json.dumps(content))
    lines = python(CHECK, root).communicate()[0].splitlines()
    assert [line.split(":")[0] for line in lines] == ["requirements.lock", "results/fingerprints.json"]
    path.unlink()
    assert python(CHECK, root).communicate()[0].startswith("results/manifest.json: not found, expected")


def test_what_was_changed_by_hand_is_not_written_over(small):
    put(small, EXAMPLES["tagging"].model_copy(update={"train_flops": 1.0}))
    before = (small / store.CELLS).read_bytes()
    with pytest.raises(XlscaleError, match=r"cells.parquet: sha256: expected .*; nothing was changed"):
        manifest.write(small, {store.CELLS: partial(store._write, {})})
    assert (small / store.CELLS).read_bytes() == before


def test_a_record_without_a_manifest_is_a_fault_and_is_not_written_to(small, tmp_path):
    (small / manifest.NAME).unlink()
    before = (small / store.CELLS).read_bytes()
    told = rf"record/manifest\.json: not found, expected the hashes of {len(EXAMPLES) + 1} files"
    assert [name for name, line in store.check(small).items() if line != "ok"] == [manifest.NAME]
    with pytest.raises(XlscaleError, match=told):
        manifest.check([small])
    for name in (store.CELLS, canary.FILE):
        with pytest.raises(XlscaleError, match=f"{told}; nothing was changed"):
            manifest.write(small, {name: lambda path: path.write_text("new")})
    assert (small / store.CELLS).read_bytes() == before
    manifest.state([small])
    assert set(store.check(small).values()) == {"ok"}


def test_a_record_that_begins_beside_other_files_has_a_manifest_of_all(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    manifest.write(folder, {store.CELLS: partial(store._write, {})})
    assert manifest.stated([folder]).keys() == {store.CELLS, "notes.txt"} and not manifest.faults([folder])
    locks = tmp_path / "locks"  # no record: held from its first file on, or not at all
    locks.mkdir()
    (locks / "a.json").write_text("{}")
    manifest.write(locks, {"b.json": lambda path: path.write_text("{}")})
    assert not (locks / manifest.NAME).exists() and not manifest.faults([locks])


KILLED = """
import os, sys
from pathlib import Path
from xlscale.core import manifest
folder, last, calls = Path(sys.argv[1]), int(sys.argv[2]), []
real = Path.replace
def replace(self, target):
    calls.append(target)
    if len(calls) > last:
        os._exit(9)  # as kill -9 would
    return real(self, target)
Path.replace = replace
manifest.write(folder, {name: lambda path: path.write_text("new") for name in "abc"})
print("all")
"""


def test_a_write_that_is_killed_leaves_every_file_as_it_was_or_as_it_is_to_be(tmp_path):
    for last in range(6):  # the manifest, three files, the manifest again, then nothing
        folder = tmp_path / str(last)
        manifest.write(folder, {name: lambda path: path.write_text("old") for name in "abc"})
        assert python(KILLED, files.ROOT, str(folder), str(last)).communicate()[0].split() == ["all"] * (last == 5)
        texts = [(folder / name).read_text() for name in "abc"]
        assert texts == ["new"] * min(max(last - 1, 0), 3) + ["old"] * (3 - min(max(last - 1, 0), 3))
        assert not manifest.faults([folder])
        (folder / "b").write_text("by hand")
        assert list(manifest.faults([folder])) == ["b"]
        (folder / "b").write_text("old")
        if last < 5:
            manifest.write(folder, {name: lambda path: path.write_text("newer") for name in "abc"})
        assert not [*folder.glob(".[abc].*.part")]
        assert files.read_json(folder / manifest.NAME).keys() == {"files"}


UNDER_WAY = """
import os, sys
from functools import partial
from pathlib import Path
import pyarrow.parquet as pq
from xlscale.core import manifest
from xlscale.record import store
folder, name = Path(sys.argv[1]), sys.argv[2]
def die(path):
    path.touch()
    os._exit(9)
pq.write_table = lambda table, path, **options: die(path)
manifest.write(folder, {name: partial(store._write, {}) if name == store.CELLS else die})
"""


def test_what_killed_writers_left_goes_with_the_next_write_whatever_that_writes(small):
    cell = f"predictions/{EXAMPLES['tagging'].id}.parquet"
    for name in (store.CELLS, cell):  # the second removes what the first has left
        assert python(UNDER_WAY, files.ROOT, str(small), name).wait() == 9
        (left,) = small.rglob(".*.part")
        assert Path(name).name in left.name and left.parent == (small / name).parent
    for name in (".manifest.json.7.00aa11bb.part", "..manifest.json.7.00aa11bb.part.7.00aa11bc.part"):
        (small / name).touch()
    mine = small / ".mine.part"
    mine.touch()
    other = EXAMPLES["retrieval"]
    tables = {f"predictions/{other.id}.parquet": partial(predictions(other).to_parquet, index=False)}
    manifest.write(small, tables | {store.CELLS: partial(store._write, {r.id: r for r in EXAMPLES.values()})})
    assert [*small.rglob(".*.part")] == [mine]
    assert set(store.check(small).values()) == {"ok"}


def test_what_killed_writers_left_of_predictions_is_no_fault_and_goes_when_all_is_stated(small):
    folder = small
    left = folder / "predictions" / f".some-cell.parquet.{os.getpid()}.0123abcd.part"
    left.write_bytes(b"half")
    assert set(store.check(folder).values()) == {"ok"}
    manifest.state([folder])
    assert not left.exists() and set(store.check(folder).values()) == {"ok"}
    (folder / "predictions" / "whole.parquet").write_bytes(b"x")
    assert "where `make record` was killed, run it again" in store.check(folder)["whole.parquet"]


def test_a_name_that_is_not_utf_8_is_one_line(small):
    folder = small
    (Path(os.fsdecode(os.fsencode(folder) + b"/\xff.yaml"))).write_text("x")
    with pytest.raises(XlscaleError, match=r"^'\\udcff\.yaml': expected a name in UTF-8$"):
        manifest.state([folder])


def test_a_study_of_one_s_own_is_not_led_into_the_record(tmp_path):
    (tmp_path / "results").symlink_to(manifest.RECORD)
    (tmp_path / "above").symlink_to(manifest.RECORD.parent)
    manifest.check_apart(tmp_path / "paper")
    for place in (tmp_path / "results", tmp_path / "above" / "paper" / "x"):
        with pytest.raises(XlscaleError, match="expected a folder of its own, got a link to "):
            manifest.check_apart(place)


def test_who_waits_for_another_writer_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(manifest, "PATIENCE", 0.1)
    folder = tmp_path / "folder"
    with open(tmp_path / ".folder.lock", "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        letting_go = threading.Timer(1, lambda: fcntl.flock(other, fcntl.LOCK_UN))
        letting_go.start()
        manifest.write(folder, {"a": lambda path: path.write_text("new")})
        letting_go.join()
    assert (
        capsys.readouterr().err == f"waiting: another command, or what it left running, has {tmp_path}/.folder.lock\n"
    )
    with manifest.alone(folder), manifest.alone(folder):
        manifest.write(folder, {"a": lambda path: path.write_text("newer")})
    assert not capsys.readouterr().err and (folder / "a").read_text() == "newer"


def run_folder(runs: Path, result: Result, **changes) -> cells.Cell:
    """What a cell leaves in ``runs``, sealed as its runner does, with a changed result."""
    folder = runs / result.id
    folder.mkdir(parents=True, exist_ok=True)
    predictions(result).to_parquet(folder / "predictions.parquet", index=False)
    files.write_json(folder / "result.json", result.model_copy(update=changes).model_dump())
    for name in ("predictions.parquet", "result.json"):
        seal(folder / name)
    return cells.make(result.phase, result.parameters)


FAILED = {"status": "failed", "reason": "diverged: x", "value": None, "english": None, "languages": {},
          "predictions_sha256": None}  # fmt: skip


def test_a_complete_cell_stays_and_what_is_replaced_is_named(small, tmp_path, capsys):
    runs, result = tmp_path / "runs", EXAMPLES["retrieval"]
    before = (small / store.CELLS).read_bytes()

    def added(**changes) -> tuple[int, str]:
        taken = store.add([run_folder(runs, result, **changes)], small, runs)
        return taken, capsys.readouterr().out

    assert added() == (0, "")
    assert added(seconds={"train": 9.0}) == (0, "")  # the same again
    assert added(**FAILED) == (0, f"kept: {result.id}: complete in the record, failed in this run (diverged: x)\n")
    elsewhere = added(environment=result.environment | {"machine": "another"})
    assert elsewhere == (0, f"kept: {result.id}: recorded on {result.environment['machine']}, run on another\n")
    assert (small / store.CELLS).read_bytes() == before
    # Other predictions by the same machine.
    table = predictions(result)
    row = table.index[table["correct"] == 1][0]
    table.loc[row, ["prediction", "correct"]] = [table.loc[table["correct"] == 0, "prediction"].iloc[0], 0.0]
    changed = fitted(result, table, tmp_path)
    cell = run_folder(runs, changed)
    (tmp_path / "predictions" / f"{result.id}.parquet").replace(runs / result.id / "predictions.parquet")
    seal(runs / result.id / "predictions.parquet")
    assert store.add([cell], small, runs) == 1
    assert capsys.readouterr().out == f"replaced: {result.id}: {result.value:.4f}, now {changed.value:.4f}\n"
    assert set(store.check(small).values()) == {"ok"}
    assert store.results(small)[result.id] == changed


def test_a_record_is_gone_on_with_where_it_stands(monkeypatch, capsys):
    """What is recorded by this code is not run again, wherever its runs are; what needs it has it run all the same."""
    plan = studies.load("pilot")
    targets = [cell for cell in plan.cells() if cell.phase == "target"]
    lacking, old = targets[0], targets[-1]
    assert lacking.parent != old.parent
    ran = []
    monkeypatch.setattr(store, "results", lambda: {n: r for n, r in RECORDED.items() if n != lacking.id})
    monkeypatch.setattr(canary, "accepted", lambda result: result.id != old.id)
    monkeypatch.setattr(store, "add", lambda chosen: len(chosen))
    monkeypatch.setattr(sweeps, "drop_stale", lambda *_, **__: None)
    monkeypatch.setattr(sweeps.cell_, "acquire", lambda *_: None)
    monkeypatch.setattr(sweeps.engine, "run", lambda chosen, jobs, **_: ran.extend(chosen))
    sweeps.record("pilot", 1)
    assert [cell.id for cell in ran] == [cell.id for one in (lacking, old) for cell in one.lineage()]
    assert f"{len(plan.cells())} cells were new or changed" in capsys.readouterr().out


def test_a_damaged_record_is_not_gone_on_with(small, tmp_path, monkeypatch):
    monkeypatch.setattr(sweeps.engine, "run", lambda *_, **__: pytest.fail("was run"))
    monkeypatch.setattr(sweeps, "RESULTS", small)
    path = min((small / "predictions").iterdir())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(XlscaleError, match=rf"{path.name}: sha256: expected (.|\n)*make manifest STUDY="):
        sweeps.record("pilot", 1)
    manifest.check([tmp_path / "none"])  # of a study that begins


def test_what_was_changed_in_a_run_is_left_out_and_lines_are_few(small, tmp_path, capsys):
    runs, chosen = tmp_path / "runs", []
    for result in list(RECORDED.values())[:30]:
        chosen.append(run_folder(runs, result))
        path = runs / result.id / "result.json"
        path.write_text(path.read_text().replace('"train_tokens": ', '"train_tokens": 1'))
    assert store.add(chosen, small, runs) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 20 and lines[-1] == "and 11 more"
    assert lines[0] == f"left out: {chosen[0].id}: result.json is not as the cell left it"


def test_complete_cells_are_taken_beside_broken_ones(small, tmp_path):
    """Whatever is wrong with one cell of many: it is named, and no other one is lost."""
    runs, results = tmp_path / "runs", [r for r in RECORDED.values() if r.status == "complete"][:8]
    chosen = [run_folder(runs, result) for result in results]
    one, other, third, fourth = (runs / cell.id for cell in chosen[:4])
    (one / "result.json").write_text("{")
    (other / "result.json").write_bytes((runs / chosen[7].id / "result.json").read_bytes())
    files.write_json(third / "result.json", files.read_json(third / "result.json") | {"value": 0.5})
    (fourth / "predictions.parquet").write_bytes(b"PAR1")
    for folder in (one, other, third, fourth):
        seal(folder / "result.json")
        seal(folder / "predictions.parquet")
    before = store.results(small)
    with pytest.raises(XlscaleError) as caught:
        store.add(chosen, small, runs)
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[:2] for line in lines[:-1]] == [["left out", cell.id] for cell in chosen[:4]]
    new = [cell.id for cell in chosen[4:] if cell.id not in before]
    assert new and lines[-1].startswith(f"(others: {len(new)} were new or changed in ")
    assert store.results(small).keys() == before.keys() | {*new}
    assert set(store.check(small).values()) == {"ok"}


# Each begins with what is imported before six processes are forked.
ADD = """
from xlscale.core import files
from xlscale.experiment import cells, studies
from xlscale.record import recompute, store

def write(mine, folder, runs):
    specs = [files.read_json(path) for path in sorted(Path(runs).glob("*/result.json"))]
    made = [cells.make(spec["phase"], spec["parameters"]) for spec in specs[mine::6]]
    assert store.add(made, Path(folder), Path(runs)) == len(made)
"""
STAMP = """
from xlscale.record import canary, store

def write(mine, folder):
    old = next(iter(store.results(Path(folder)).values()))
    for n in range(5):
        canary.stamp(Path(folder), [(old, old.model_copy(update={"fingerprint": f"{mine}{n}" * 32}))])
"""
LOCK = """
from xlscale.cards import catalogue
from xlscale.cards.sources import Lock

def write(mine):
    for n in range(5):
        lock = Lock(card=f"card_{mine}{n}", sha256="0" * 64, revisions={}, files={"f": (0, "0" * 64)})
        catalogue.write_lock(lock)
"""
TUNE = """
from xlscale.record import tuning

def write(mine):
    tuning.choose = lambda folder: {}
    tuning.write()
"""
SOURCE = """
from xlscale.published import sources

def write(mine, folder):
    sources.add(f"{folder}/{mine}.csv")
"""
FORK = """
if __name__ == "__main__":
    children = []
    for mine in range(6):
        if not (child := os.fork()):
            try:
                write(mine, *sys.argv[1:])
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        children.append(child)
    sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


def six(code: str, root: Path, *arguments: object, **environment: str) -> None:
    """Have six processes write at once: ``write(number, *arguments)`` of ``code``."""
    code = f"import os, sys, traceback\nfrom pathlib import Path\n{code}{FORK}"
    process = python(code, root, *map(str, arguments), **environment)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


@pytest.mark.slow
def test_six_that_write_at_once_lose_nothing(small, tmp_path):
    runs = tmp_path / "runs"
    others = [result for result in RECORDED.values() if result not in EXAMPLES.values()]
    chosen = others[:: len(others) // 20]
    for result in chosen:
        run_folder(runs, result)
    six(ADD, files.ROOT, small, runs)
    assert store.results(small).keys() == {r.id for r in [*chosen, *EXAMPLES.values()]}
    six(STAMP, files.ROOT, small)
    assert len(canary.stamps(small)) == len({stamp.current for stamp in canary.stamps(small)}) == 30
    assert set(store.check(small).values()) == {"ok"}
    six(LOCK, files.ROOT, XLSCALE_LOCKS=str(tmp_path / "locks"))
    assert len(manifest.stated([tmp_path / "locks"])) == 30 and not manifest.faults([tmp_path / "locks"])
    root = checkout(tmp_path / "root")
    six(TUNE, root)
    lines = python(CHECK, root).communicate()[0]
    assert lines.strip() == ""


LOCKED = f"from pathlib import Path\n{LOCK}\nwrite(0)\n{CHECK}"


def test_locks_of_ones_own_are_held_beside_the_committed_ones(tmp_path):
    root = checkout(tmp_path / "root")
    before = {path: path.read_bytes() for path in (root / "results").glob("*.json")}
    assert python(LOCKED, root).communicate()[0].strip() == ""
    assert {path: path.read_bytes() for path in before} == before  # so nothing is lost with another committed manifest
    own = root / "data_manifest" / "locks" / "card_00.json"
    whole = own.read_bytes()
    own.write_bytes(whole.replace(b"0", b"1", 1))
    assert "card_00.json: sha256: expected" in python(CHECK, root).communicate()[0]
    own.unlink()
    assert python(CHECK, root).communicate()[0].strip() == ""
    own.write_bytes(whole)
    beside = (root / "data_manifest" / "locks" / "manifest.json").read_bytes()
    assert python(f"from xlscale.core import manifest\nmanifest.state()\n{CHECK}", root).communicate()[0].strip() == ""
    assert not (root / "data_manifest" / "locks" / "manifest.json").exists()  # it is a committed one now
    (root / "data_manifest" / "locks" / "manifest.json").write_bytes(beside)
    (root / "results" / "manifest.json").write_bytes(before[root / "results" / "manifest.json"])
    assert python(CHECK, root).communicate()[0].strip() == ""
    (root / "data_manifest" / "locks" / "manifest.json").unlink()
    assert "card_00.json: expected no such file" in python(CHECK, root).communicate()[0]


def test_a_committed_lock_that_is_fetched_again_stays_with_the_committed_ones(tmp_path):
    root = checkout(tmp_path / "root")
    code = "from xlscale.cards import catalogue\nlock = catalogue.lock('tatoeba')\n"
    code += "catalogue.lock_path('tatoeba').unlink()\ncatalogue.write_lock(lock)\n"
    assert python(code + CHECK, root).communicate()[0].strip() == ""
    assert not (root / "data_manifest" / "locks" / "manifest.json").exists()


@pytest.mark.slow
def test_six_sources_at_once_are_all_there(tmp_path):
    root = checkout(tmp_path / "root")
    rows = pd.read_parquet(root / "data_manifest" / "published" / "results.parquet")
    sources = pd.read_csv(root / "data_manifest" / "published" / "sources.csv", dtype=str, keep_default_na=False)
    for n in range(6):
        part = rows.head(50).assign(source_key=f"mine-{n}", quality=sources["quality"][0])
        part.to_csv(tmp_path / f"{n}.csv", index=False)
    six(SOURCE, root, tmp_path)
    found = pd.read_parquet(root / "data_manifest" / "published" / "results.parquet")
    assert len(found) == len(rows) + 300
    assert python(CHECK, root).communicate()[0].strip() == ""


def test_a_source_twice_is_one_line(tmp_path):
    from xlscale.published.tables import load

    root = checkout(tmp_path)
    path = root / "data_manifest" / "published" / "sources.csv"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join([*lines, lines[1]]), encoding="utf-8")
    with pytest.raises(XlscaleError, match=r"sources.csv: line \d+: source_key: expected every one once"):
        load(path.parent)


def test_numbers_of_no_notebook_are_refused(tmp_path):
    files.write_json(tmp_path / "generated" / "zz.json", {"numbers": {}, "tables": {}, "figures": {}})
    with pytest.raises(XlscaleError, match=r"zz.json: expected numbers of a notebook in notebooks/; remove it"):
        typeset.merge(tmp_path)


def test_the_chosen_rates_are_held_where_they_are_committed(tmp_path, monkeypatch):
    assert manifest.where(files.ROOT / "studies") == manifest.RECORD / manifest.NAME
    monkeypatch.setattr(tuning, "STUDIES", tmp_path)
    monkeypatch.setattr(tuning, "choose", lambda folder: {"target": {}})
    assert files.read_json(tuning.write())["rates"] == {"target": {}}


@pytest.mark.parametrize("row", ["{", "[" * 5000, "9" * 5000, None, "5", '{"id": NaN}'])
def test_a_row_of_the_record_that_is_no_result_is_one_line(tmp_path, row):
    pq.write_table(pa.table({"result": pa.array([row], pa.string())}), tmp_path / "cells.parquet")
    with pytest.raises(XlscaleError, match=r"cells\.parquet: ") as error:
        store.results(tmp_path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


@pytest.mark.parametrize("content", ["5", "null", "{}", '"x"', "[5]"])
def test_stamps_that_are_none_are_one_line(tmp_path, content):
    (tmp_path / "fingerprints.json").write_text(content)
    with pytest.raises(XlscaleError, match=r"fingerprints\.json: "):
        canary.stamps(tmp_path)


OTHER = {
    "nulls": pa.nulls(3), "numbers": pa.array([7] * 3), "truths": pa.array([True] * 3), "bytes": pa.array([b"x"] * 3),
    "lists": pa.array([["x"]] * 3), "dates": pa.array([0] * 3, pa.timestamp("s")),
    "texts": pa.array(["x"] * 3), "objects": pa.array([{"a": 1}] * 3),
}  # fmt: skip


def test_predictions_that_are_no_plain_file_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.parquet")
    with pytest.raises(XlscaleError, match=r"x\.parquet: expected a plain file"):
        recompute.read_predictions(tmp_path / "x.parquet", ["item"], [])
    with pytest.raises(XlscaleError, match="none: not found, expected the predictions"):
        recompute.read_predictions(tmp_path / "none", ["item"], [])


@pytest.mark.parametrize("column", ["language", "item", "prediction", "score", "correct"])
def test_predictions_of_other_columns_are_one_line(tmp_path, column):
    path, texts = tmp_path / "x.parquet", ["language", "item", "prediction"]
    whole = dict.fromkeys(texts, OTHER["texts"]) | dict.fromkeys(["score", "correct"], pa.array([0.5] * 3))
    pq.write_table(pa.table(whole), path)
    assert recompute.read_predictions(path, texts, ["score", "correct"]).num_rows == 3
    lost = {name: values for name, values in whole.items() if name != column}
    for columns in (lost, *(whole | {column: other} for other in OTHER.values())):
        if columns.get(column) is OTHER["numbers" if column not in texts else "texts"]:
            continue
        pq.write_table(pa.table(columns), path)
        with pytest.raises(XlscaleError, match=rf"x\.parquet: column '{column}'") as error:
            recompute.read_predictions(path, texts, ["score", "correct"])
        assert "\n" not in str(error.value)
    pq.write_table(pa.table([*whole.values(), whole[column]], names=[*whole, column]), path)
    with pytest.raises(XlscaleError, match=rf"x\.parquet: column '{column}': expected once"):
        recompute.read_predictions(path, texts, ["score", "correct"])


def test_who_reads_an_edited_record_is_told(small):
    """Not only who builds the paper from it: also who shows, exports or compares a cell, or asks about its code."""
    canary.stamp(small, [(one, one) for one in store.results(small).values()])
    for name, read in ((store.CELLS, store.results), (canary.FILE, canary.stamps)):
        path = small / name
        before = path.read_bytes()
        if name == store.CELLS:
            pq.write_table(pq.read_table(path), path, compression="gzip")
        else:
            path.write_text(path.read_text().replace("equivalent", "different"))
        with pytest.raises(XlscaleError, match=f"{name}: sha256: expected .* as in .*manifest.json, got"):
            read(small)
        with manifest.as_they_are():
            read(small)
        path.write_bytes(before)
        assert read(small)


def test_a_record_that_is_being_written_is_looked_at_again(small, monkeypatch):
    """A reader between the renames of a writer waits for it, and finds nothing wrong."""
    seen, real = [], manifest._fault
    monkeypatch.setattr(manifest, "_fault", lambda *a: (seen.append(1), "half-way")[1] if not seen else real(*a))
    assert store.results(small) and seen
