"""What a change of code means for the record: noticed, stamped or voided, and compared on any machine."""

import pytest

from xlscale.commands import canary as command
from xlscale.commands import checkouts
from xlscale.core import files
from xlscale.core.checkout import git
from xlscale.core.files import ROOT, XlscaleError
from xlscale.experiment import cells, studies
from xlscale.record import canary, store

NEW = "f" * 64


def test_codes_are_tied_by_chains_of_equivalent_stamps_only(tmp_path):
    pairs = [("a", "b", "equivalent"), ("b", "c", "equivalent"), ("c", "d", "different")]
    stamps = [
        {"phase": "target", "recorded": old * 64, "current": new * 64, "verdict": verdict, "cells": [], "machine": "m"}
        for old, new, verdict in pairs
    ]
    files.write_json(tmp_path / canary.FILE, stamps)
    assert canary.linked("target", "c" * 64, tmp_path) == {"a" * 64, "b" * 64, "c" * 64}
    assert canary.linked("target", "d" * 64, tmp_path) == {"d" * 64}
    assert canary.linked("pretrained", "a" * 64, tmp_path) == {"a" * 64}


def test_changed_code_is_noticed_and_a_canary_stamps_or_voids_it(smoke_record, monkeypatch):
    before = store.results(smoke_record)
    assert canary.changed(before, smoke_record) == set()
    monkeypatch.setattr(canary, "code", lambda result: NEW)
    assert {phase for phase, _, _ in canary.changed(before, smoke_record)} == set(cells.PARAMETERS)
    pairs = [(old, old.model_copy(update={"fingerprint": NEW})) for old in before.values()]
    pairs = [
        (old, new.model_copy(update={"predictions_sha256": "0" * 64}) if old.phase == "target" else new)
        for old, new in pairs
    ]
    verdicts = {(stamp.phase, stamp.verdict) for stamp in canary.stamp(smoke_record, pairs)}
    assert verdicts == {("pretrained", "equivalent"), ("intermediate", "equivalent"), ("target", "different")}
    after = store.results(smoke_record)
    assert {result.phase for result in after.values()} == {"pretrained", "intermediate"}  # the target cells are void
    assert canary.changed(after, smoke_record) == set()
    # Whoever goes back to the recorded code has the whole record again.
    monkeypatch.setattr(canary, "code", lambda result: result.fingerprint)
    assert store.results(smoke_record) == before


def test_what_is_void_of_one_code_is_void_of_what_is_tied_to_it(smoke_record, monkeypatch):
    """The canary cells of one code stand for those of an equivalent one, whatever they say."""
    before = store.results(smoke_record)
    old = next(result for result in before.values() if result.phase == "target")
    tied = old.model_copy(update={"fingerprint": "e" * 64})
    canary.stamp(smoke_record, [(tied, old)])
    monkeypatch.setattr(canary, "code", lambda result: NEW if result.fingerprint == old.fingerprint else "0" * 64)
    assert old.id in store.results(smoke_record)
    canary.stamp(smoke_record, [(tied, old.model_copy(update={"fingerprint": NEW, "predictions_sha256": "0" * 64}))])
    left = store.results(smoke_record)
    assert left.keys() == {name for name, result in before.items() if canary.key(result) != canary.key(old)}


def test_a_void_parent_voids_its_children_and_a_failed_canary_is_a_difference(smoke_record, monkeypatch):
    before = store.results(smoke_record)
    monkeypatch.setattr(canary, "code", lambda result: NEW if result.phase == "intermediate" else result.fingerprint)
    failed = {"status": "failed", "reason": "diverged", "fingerprint": NEW, "environment": {}, "value": None}
    one_per_code = {result.fingerprint: result for result in before.values() if result.phase == "intermediate"}
    pairs = [(old, old.model_copy(update=failed)) for old in one_per_code.values()]
    assert {stamp.verdict for stamp in canary.stamp(smoke_record, pairs)} == {"different"}
    left = store.results(smoke_record)
    assert {result.parameters.get("intermediate", "none") for result in left.values()} == {"none"}


def test_two_failures_are_the_same_for_one_reason_alone(smoke_record, monkeypatch):
    monkeypatch.setattr(canary, "code", lambda result: NEW)
    old = next(result for result in store.results(smoke_record).values() if result.phase == "target")
    failed = old.model_copy(update={"status": "failed", "reason": "diverged at step 5", "predictions_sha256": None})
    for reason, verdict in ((failed.reason, "equivalent"), ("killed", "different")):
        pairs = [(failed, failed.model_copy(update={"fingerprint": NEW, "reason": reason}))]
        assert [stamp.verdict for stamp in canary.stamp(smoke_record, pairs)] == [verdict]


def test_every_family_and_phase_of_the_record_has_a_canary_cell():
    recorded = store.results()
    stated = {(cell.phase, cells.parts(cell.phase, cell.parameters.model_dump())) for cell in command.stated(None)}
    assert {(result.phase, cells.parts(result.phase, result.parameters)) for result in recorded.values()} <= stated


@pytest.mark.again
@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs the repository's history")
def test_cells_are_run_by_the_code_of_a_commit(smoke_cells, smoke_runs, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(checkouts, "FOLDER", tmp_path / "frozen")
    cell = next(cell for cell in smoke_cells if cell.phase == "pretrained")
    (result,) = command.by_commit("HEAD", [cell], 1).values()
    assert result.id == cell.id and result.status == "complete"
    assert list(tmp_path.glob("runs/canary-*/pretrained-*/result.json"))
    (code,) = checkouts.FOLDER.glob("[0-9a-f]*")
    (code / "README.md").write_text("Half of")  # whoever made it was killed
    assert checkouts.of(git("rev-parse", "HEAD").decode().strip()) == code
    assert (code / "README.md").read_bytes() == git("show", "HEAD:README.md")
    git("worktree", "remove", "--force", str(code))
    with pytest.raises(XlscaleError, match="AGAINST=nothing: expected a commit of this repository"):
        command.by_commit("nothing", [cell], 1)


def test_a_commit_that_is_none_is_told_where_no_code_has_changed_too(monkeypatch):
    monkeypatch.setattr(command.canary, "changed", lambda recorded: set())
    monkeypatch.setattr(command.store, "results", dict)
    assert command.run(None, 1)
    with pytest.raises(XlscaleError, match="^AGAINST=nothing: expected a commit of this repository"):
        command.run(None, 1, "nothing")


def test_another_machine_is_told_what_to_compare_with(monkeypatch):
    monkeypatch.setattr(command.machine, "machine_type", lambda *_: "another")
    cell = next(cell for cell in studies.load("pilot").cells() if cell.id in store.results())
    with pytest.raises(XlscaleError, match=r"machine: expected .*, this is 'another'; with AGAINST=<commit> the cells"):
        command._as_recorded([cell], store.results())
