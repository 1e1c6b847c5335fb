"""What lies between commands on one machine is compared with its hash before it is read again."""

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open

from xlscale import tasks
from xlscale.acquire import models
from xlscale.cards.catalogue import data_card
from xlscale.commands import reproduce, sweeps
from xlscale.core import cache, machine, seals
from xlscale.core.files import XlscaleError, read_json, write_json
from xlscale.data import load
from xlscale.engine import lock, runner
from xlscale.experiment import cells, results
from xlscale.experiment.results import result_of
from xlscale.models import ladder, store
from xlscale.training import token_cache


def flip(path: Path, place: int | None = None) -> None:
    """Change one bit of a file, keeping its size and its time of change."""
    found = os.stat(path)
    with open(path, "r+b") as file:
        file.seek(found.st_size // 2 if place is None else place)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def test_a_seal_holds_while_the_content_does(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    assert not seals.sealed(path)
    seals.seal(path)
    assert seals.sealed(path)
    for place in range(10):
        flip(path, place)
        assert not seals.sealed(path)
        flip(path, place)
        assert seals.sealed(path)
    # Once it has been still for a while it is not read again, and after any change it is.
    monkeypatch.setattr(seals, "SETTLED", 0)
    time.sleep(0.02)
    assert seals.sealed(path)
    read = []
    real = seals.sha256_file
    monkeypatch.setattr(seals, "sha256_file", lambda file: read.append(file) or real(file))
    assert seals.sealed(path) and not read
    time.sleep(0.02)
    flip(path)
    assert not seals.sealed(path) and read
    path.unlink()
    assert not seals.sealed(path)


def test_a_sealed_folder_holds_the_same_files(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_text("a")
    seals.seal(folder)
    assert seals.sealed(folder)
    (folder / "b").write_text("b")
    assert not seals.sealed(folder)
    (folder / "b").unlink()
    assert seals.sealed(folder)
    flip(folder / "a")
    assert not seals.sealed(folder)


@pytest.fixture
def left(tmp_path, monkeypatch) -> tuple[Path, list[cells.Cell]]:
    """A folder of runs with a parent and its child, left as the runner leaves them."""
    from xlscale.record import store as record

    recorded = record.results()
    child = next(r for r in recorded.values() if r.phase == "target" and (r.parent or "").startswith("intermediate"))
    chosen = [cells.make(one.phase, one.parameters) for one in (recorded[child.parent], child)]
    monkeypatch.setattr(cells, "RUNS", tmp_path)
    for cell in chosen:
        cell.folder.mkdir()
        for name in results.LEFT[1:]:
            (cell.folder / name).write_bytes(os.urandom(1000))
        with lock.held(cell.folder):
            runner._complete(cell, recorded[cell.id])
    return tmp_path, chosen


def test_a_cell_whose_files_were_changed_is_run_again_and_its_children_are_not(left, capsys, monkeypatch):
    runs, (parent, child) = left
    monkeypatch.setattr(sweeps.canary, "changed", lambda found: set())
    monkeypatch.setattr(machine, "machine_type", lambda *_: result_of(child, runs).environment["machine"])
    assert result_of(parent, runs) and result_of(child, runs)
    for name in results.READ[1:]:
        flip(runs / parent.id / name)
        assert result_of(parent, runs) is None and result_of(child, runs)
        flip(runs / parent.id / name)
        assert result_of(parent, runs)
    sweeps.drop_stale([parent, child], runs, results.LEFT)
    assert result_of(parent, runs) and result_of(child, runs) and not capsys.readouterr().out
    flip(runs / parent.id / "executed.ipynb")
    assert result_of(parent, runs)  # nothing is read from it
    sweeps.drop_stale([parent, child], runs)
    assert result_of(parent, runs)
    sweeps.drop_stale([parent, child], runs, results.LEFT)
    assert "executed.ipynb: changed since; the cell is run again" in capsys.readouterr().out
    assert result_of(parent, runs) is None and result_of(child, runs)
    assert (runs / parent.id / "result.stale.json").exists()
    (runs / child.id / "predictions.parquet").unlink()
    assert result_of(child, runs) is None


def test_a_changed_checkpoint_is_not_what_a_child_starts_from(left, monkeypatch):
    runs, (parent, _) = left
    asked = []
    monkeypatch.setattr(runner, "run", lambda cell: asked.append(cell) or result_of(cell))
    monkeypatch.setattr(runner, "result_of", lambda cell: results.result_of(cell, runs))
    assert runner.ensure(parent) == parent.folder and not asked
    flip(runs / parent.id / "checkpoint.safetensors")
    with pytest.raises(AttributeError):  # the cell was asked for again, which here leaves no result
        runner.ensure(parent)
    assert asked == [parent]


def test_reproduce_looks_at_what_lies_below_its_runs(left, monkeypatch, tmp_path):
    runs, chosen = left

    class Build:
        study = "smoke"

        def holds(self, step):
            return True

        def says(self, step):
            return {"agrees": True}

    (tmp_path / "agreement.md").write_text("")
    monkeypatch.setattr(reproduce, "HERE", runs)
    monkeypatch.setattr(reproduce, "REPRODUCTION", tmp_path)
    monkeypatch.setattr(reproduce, "_make", lambda *_: False)
    monkeypatch.setattr(reproduce.cell_, "acquire", lambda *_: None)
    dropped = []
    monkeypatch.setattr(sweeps, "drop_stale", lambda *arguments: dropped.append(arguments))
    reproduce._reproduce(Build(), chosen, 1)
    assert not dropped
    for name in results.LEFT:
        number = b'"train_tokens": '  # of the result, which is still one with another
        place = (chosen[1].folder / name).read_bytes().find(number) + len(number) if name == results.RESULT else None
        flip(chosen[1].folder / name, place)
        reproduce._reproduce(Build(), chosen, 1)
        assert dropped.pop() == (chosen, runs, results.LEFT)
        flip(chosen[1].folder / name, place)


@pytest.mark.parametrize("share", [0.2, 0.999, *(pytest.param(more, marks=pytest.mark.again) for more in (0.5, 0.9))])
def test_changed_tokens_are_made_again(e5, tmp_path, monkeypatch, share):
    monkeypatch.setattr(token_cache, "FOLDER", tmp_path)
    task, rows = tasks.of(data_card("topic")), load.splits(data_card("topic"))
    expected = token_cache.encoded(task, rows, "dev", e5, 32)
    (path,) = tmp_path.iterdir()
    before = _told(path)
    flip(path, int(share * path.stat().st_size))
    found = token_cache.encoded(task, rows, "dev", e5, 32)
    assert np.array_equal(found.ids, expected.ids) and np.array_equal(found.offsets, expected.offsets)
    assert all(np.array_equal(found.targets[name], expected.targets[name]) for name in expected.targets)
    assert _told(path) == before


def _told(path) -> tuple[dict[str, bytes], dict[str, str]]:
    """All that a file of tensors says, whose metadata are in no order."""
    with safe_open(path, "np") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return {
            name: (found.dtype.str, found.shape, found.tobytes()) for name, found in tensors.items()
        }, file.metadata()


def test_tokens_of_other_content_with_the_old_hash_are_made_again(e5, tmp_path, monkeypatch):
    from safetensors.numpy import load_file, save_file

    monkeypatch.setattr(token_cache, "FOLDER", tmp_path)
    task, rows = tasks.of(data_card("topic")), load.splits(data_card("topic"))
    expected = token_cache.encoded(task, rows, "dev", e5, 32)
    (path,) = tmp_path.iterdir()
    tensors = load_file(path)
    stated = token_cache._hash(tensors)
    save_file(tensors | {"ids": tensors["ids"][::-1].copy()}, path, {token_cache.HASH: stated})
    assert np.array_equal(token_cache.encoded(task, rows, "dev", e5, 32).ids, expected.ids)


def _ones() -> pd.DataFrame:
    return pd.DataFrame({"a": np.ones(1000)})


def test_a_changed_table_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "CACHE", tmp_path)
    monkeypatch.setattr(cache.fingerprint, "of_modules", lambda modules: "code")
    expected = cache.table("t", 1, _ones)
    (path,) = tmp_path.rglob("*.parquet")
    expected.assign(a=2.0).to_parquet(path, index=False)
    assert cache.table("t", 1, _ones).equals(expected)
    assert pd.read_parquet(path).equals(expected)


def test_a_changed_model_is_refused_and_converted_again(e5, tmp_path, monkeypatch):
    kept = store.path(e5)
    for path in (kept, seals.beside(kept)):
        (shutil.copytree if path.is_dir() else shutil.copyfile)(path, tmp_path / path.name)
    folder = tmp_path / kept.name
    assert models.convert(e5, tmp_path) == folder
    monkeypatch.setattr(store, "path", lambda card, folder=None: tmp_path / kept.name)
    flip(folder / store.ENCODER)
    for reads in (ladder.empty, ladder.load):
        with pytest.raises(XlscaleError, match=r"model e5_small: not as it was written, expected .*make data-fetch"):
            reads(e5, 1)
    monkeypatch.undo()
    models.convert(e5, tmp_path)
    assert seals.sealed(folder)
    assert (folder / store.ENCODER).read_bytes() == (kept / store.ENCODER).read_bytes()


def test_a_result_that_was_written_by_hand_is_no_cell_s(left):
    runs, (parent, _) = left
    content = read_json(runs / parent.id / "result.json")
    write_json(runs / parent.id / "result.json", content | {"value": 0.99})
    assert result_of(parent, runs) is None
