"""Healing from card to evidence on a few texts: what is trained, kept, refused and decided."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import psutil
import pytest
from safetensors import safe_open

from xlscale.cards import catalogue, schema
from xlscale.core import files
from xlscale.core.files import XlscaleError, write_json
from xlscale.data import load
from xlscale.experiment import studies
from xlscale.models import ladder
from xlscale.report.numbers import Numbers
from xlscale.report.sections import healing as evidence
from xlscale.training import healing
from xlscale.training.objectives import distillation

TEXTS = 48


def _known(monkeypatch, card):
    """Have a card be what is found by any name."""
    for module in (healing, catalogue):
        monkeypatch.setattr(module, "model_card", lambda name: card)


@pytest.fixture
def card(tmp_path, monkeypatch):
    """The healed model with one rung, a short recipe, a file of its own and few texts."""
    real, whole = catalogue.model_card("e5_small_healed"), load.splits

    def few(data_card):
        rows = whole(data_card)
        if data_card.name != "unlabelled":  # what is retrieved, in some languages
            kept = {"en", *sorted(data_card.languages)[::6]}
            return rows.filter(lambda language: language in kept, input_columns="language")
        chosen = {split: np.linspace(0, len(rows[split]) - 1, TEXTS).astype(int) for split in rows}
        return type(rows)({split: rows[split].select(index) for split, index in chosen.items()})

    rung = schema.HealedRung(epochs=2, learning_rate=2e-3, file="k1.safetensors", sha256="f" * 64)
    rung = rung.model_copy(update={"file": str(tmp_path / "k1.safetensors")})
    recipe = real.healed.model_copy(update={"rungs": {1: rung}, "batch_size": 8, "max_length": 16})
    found = real.model_copy(update={"name": "few", "rungs": [1, 2], "healed": recipe})
    monkeypatch.setattr(load, "splits", few)
    _known(monkeypatch, found)
    monkeypatch.setattr(healing, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(healing, "RETRIEVAL_LENGTH", 16)
    return found


def test_a_model_without_a_healed_ladder_is_one_line():
    assert catalogue.healed_card("e5_small_healed").healed.rungs
    for ask in (catalogue.healed_card, lambda name: healing.judge(name, 1), lambda name: healing.main(name, 1)):
        with pytest.raises(
            XlscaleError, match=r"models/e5_small\.yaml: healed: expected the recipe of a healed ladder"
        ):
            ask("e5_small")


def test_a_rung_is_distilled_kept_and_known_again(card):
    assert not healing._is_made(card, 1, card.healed.rungs[1])
    took = healing.heal("few", 1)
    assert took["steps"] == 2 * TEXTS / 8 and took["last_loss"] < took["first_loss"]
    assert healing._is_made(card, 1, card.healed.rungs[1])
    first = card.healed.rungs[1].path.read_bytes()
    healing.heal("few", 1)
    assert card.healed.rungs[1].path.read_bytes() == first  # the same card, the same bytes
    other = card.healed.rungs[1].model_copy(update={"learning_rate": 1e-3})
    changed = card.model_copy(update={"healed": card.healed.model_copy(update={"rungs": {1: other}})})
    assert not healing._is_made(changed, 1, other)
    with safe_open(other.path, "np") as file:
        assert set(file.metadata()) == {healing.RECIPE}


def test_what_was_found_about_another_model_is_never_written_over(card, tmp_path, monkeypatch):
    monkeypatch.setattr(healing, "RUNS", tmp_path / "healing.json")
    write_json(healing.RUNS, {"model": "e5_small_healed", "runs": {}})
    with pytest.raises(XlscaleError, match=r"healing\.json: model: expected 'few', got 'e5_small_healed', which"):
        healing.main("few", 1)
    assert not card.healed.rungs[1].path.exists()


def test_the_evidence_names_what_was_unseen(card):
    healing.heal("few", 1)
    true = {1: card.healed.rungs[1].model_copy(update={"sha256": healing.sha256_file(card.healed.rungs[1].path)})}
    object.__setattr__(card.healed, "rungs", true)
    found = healing.judge("few", 1)
    assert set(found["state"]) == {"cut", "healed"} and set(found["measure"]) == {"missed", "nearest", "p_at_1"}
    rows = load.splits(catalogue.data_card("unlabelled"))
    seen = set(rows["train"]["language"])
    new = found[(found["measure"] == "nearest") & (found["register"] == "")]
    assert (new["unseen"] == np.where(new["language"].isin(seen), "", "language")).all()
    retrieved = found[found["measure"] == "p_at_1"]
    assert set(retrieved["unseen"]) <= {"register", "both"} and "en" not in set(retrieved["language"])
    assert set(healing.judge("few", 2)["state"]) == {"whole"}


def test_the_whole_model_misses_nothing_of_itself(card):
    rows = load.splits(catalogue.data_card("unlabelled"))["dev"]
    inputs = healing.inputs(card, rows)
    kept = healing.teacher(card, "dev", inputs)
    again = healing.teacher(card, "dev", inputs)  # from the cache
    assert np.array_equal(kept.hidden, again.hidden) and kept.spread == again.spread
    mine = distillation.pooled(distillation.HiddenStates(ladder.load(card, 2), healing.CPU()), inputs)
    assert distillation.variance_unexplained(mine, kept.pooled(), kept.pooled_spread).max() < 1e-4


def test_a_model_without_a_recipe_and_a_wrong_hash_are_one_line(card, monkeypatch, tmp_path):
    monkeypatch.setattr(healing, "RUNS", tmp_path / "healing.json")  # no other model's evidence is there
    _known(monkeypatch, healing.cut(card))
    with pytest.raises(XlscaleError, match=r"models/few.yaml: healed: expected the recipe"):
        healing.main("few", 1)
    _known(monkeypatch, card)
    healing.heal("few", 1)
    with pytest.raises(XlscaleError, match=r"models/few.yaml: healed: expected the hashes of k1.safetensors, sha256 "):
        healing.main("few", 1)


HELD_OUT = [("missed", "language"), ("missed", "register"), ("nearest", "language"), ("nearest", "register")]
HELD_OUT += [("p_at_1", "register"), ("p_at_1", "both")]
BEFORE = {"missed": 5.0, "nearest": 0.2, "p_at_1": 0.3}
AFTER = {"missed": 0.5, "nearest": 0.4, "p_at_1": 0.4}


def _found(**worse):
    """Evidence in which every rung gains, but for the 2 layers of what is named: <measure>_<unseen> -> healed value."""
    rows = []
    for measure, unseen in [*HELD_OUT, ("missed", "")]:
        language = "xx" if unseen in ("language", "both") else "yy"
        values = [(1, "cut", BEFORE[measure]), (1, "healed", AFTER[measure]), (2, "cut", BEFORE[measure])]
        values += [(2, "healed", worse.get(f"{measure}_{unseen}", AFTER[measure]))]
        values += [(12, "whole", 0.0 if measure == "missed" else 0.9)]
        rows += [(k, state, measure, language, "r", unseen, 9, value) for k, state, value in values]
    columns = ["layers", "state", "measure", "language", "register", "unseen", "items", "value"]
    return pd.DataFrame(rows, columns=columns)


def test_one_loss_anywhere_is_enough_to_refuse():
    assert evidence.accepted(evidence.summary(_found()))
    losses = {"missed_register": 6.0, "missed_language": 5.0, "nearest_language": 0.1, "p_at_1_both": 0.3}
    for name, value in losses.items():
        table = evidence.summary(_found(**{name: value}))
        assert not evidence.accepted(table)
        assert set(table.loc[~table["gained"], "layers"]) == {2}
    assert not evidence.accepted(evidence.summary(_found()).head(0))


def test_what_the_paper_says_of_it(tmp_path):
    run = {"epochs": 2, "learning_rate": 1e-3, "steps": 9, "tokens": 5e6, "tflop": 3.2, "cpu_seconds": 1800}
    write_json(tmp_path / "healing.json", {"runs": {"1": run, "2": run}})
    _found(p_at_1_both=0.1).to_csv(tmp_path / "healing.csv", index=False)
    numbers = Numbers("here")
    evidence.add(numbers, evidence.evidence(tmp_path), tmp_path)
    texts = {key.removeprefix("healing_"): value["text"] for key, value in numbers.numbers.items()}
    assert texts["verdict"] == "not accepted"
    assert (texts["gained"], texts["checks"]) == ("10", "12")  # held-out languages, and the mean over all, at 2 layers
    assert texts["lost"] == "0 (1 layer) and 1 (2 layers)"
    assert texts["worst"].endswith("xx (−20)")
    assert texts["cpu_hours"] == "1.0"
    last = numbers.tables["healing"]["rows"][5]
    assert last == ["UDHR P@1, held-out languages", "30.0 → 40.0", "30.0 → 10.0", "90.0"]


def test_the_committed_rungs_and_evidence_are_what_the_card_and_the_confirmatory_study_rest_on():
    healed = catalogue.model_card("e5_small_healed")
    for layers, rung in healed.healed.rungs.items():
        assert healing._is_made(healed, layers, rung)
        files.verify(rung.path, rung.sha256, f"{layers} layers")
    assert sum(path.stat().st_size for path in (schema.MANIFEST / "bundled").iterdir()) < 25e6
    decided = evidence.accepted(evidence.summary(evidence.evidence()))
    assert list(studies.load("confirmatory").models) == ["e5_small_healed" if decided else "e5_small"]


WORKING = """
import os, time
from xlscale.training import healing

if __name__ == "__main__":
    pool = healing.workers(1)
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 600).result()
"""


def test_killed_healing_leaves_no_process_behind(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(WORKING)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as main:
        worker = int(main.stdout.readline())
        os.kill(main.pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while psutil.pid_exists(worker) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not psutil.pid_exists(worker)


@pytest.mark.parametrize("text", ["[]", "{}", '{"model": "e5_small_healed", "runs": 3}'])
def test_what_is_recorded_of_other_healing_is_checked_before_any_work(tmp_path, monkeypatch, text):
    path = tmp_path / "healing.json"
    path.write_text(text)
    monkeypatch.setattr(healing, "RUNS", path)
    monkeypatch.setattr(healing, "teacher", None)
    with pytest.raises(XlscaleError, match="healing.json: model, runs: expected both"):
        healing.main("e5_small_healed", 1)
