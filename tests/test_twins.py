"""Targets whose training is the same train once: what comes of it is what each would have left alone."""

import numpy as np
import pytest

from xlscale.cards.catalogue import data_card
from xlscale.core.files import CELL_FOLDER, write_json, write_text
from xlscale.engine import phase, twins
from xlscale.experiment import cells, studies
from xlscale.experiment.results import CHECKPOINT, RESULT

LORA = {"method": "lora", "rank": 2, "alpha": 4.0, "adapted": "query_value"}


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """The folder of a sweep's cells."""
    monkeypatch.setattr(twins, "RUNS", tmp_path)
    monkeypatch.setenv(CELL_FOLDER, str(tmp_path))
    return tmp_path


def _planned(runs, *planned):
    for cell in planned:
        (runs / cell.id).mkdir()
        write_json(runs / cell.id / "spec.json", cell.spec())


def _run(runs, cell):
    """What a cell leaves: predictions, the log of its training, what is recorded of how it was worked on."""
    run = phase.OpenCell(cell, runs / cell.id)
    encoder = run.starting_point()
    head, log = run.train(encoder)
    predictions, _ = run.evaluate(encoder, head, cell.parameters.split)
    write_text(runs / cell.id / RESULT, "{}")
    return predictions, log, run._placed(), run.seconds


@pytest.mark.parametrize("method", [{}, LORA], ids=["full", "lora"])
def test_the_second_reads_what_the_first_trained_and_predicts_what_it_would_have(
    target_values, runs, monkeypatch, method
):
    values = target_values | {"intermediate": "none"} | method
    first, second = (cells.make("target", values | own) for own in ({"split": "dev"}, {"test_items": 7}))
    alone = _run(runs, second)
    assert "trained_in" not in alone[2] and not (runs / twins.FOLDER).exists()
    (runs / second.id / RESULT).unlink()
    _planned(runs, first)
    write_json(runs / second.id / "spec.json", second.spec())
    _run(runs, first)
    (folder,) = (runs / twins.FOLDER).iterdir()
    assert (folder / CHECKPOINT).exists()
    again = _run(runs, second)
    assert again[2] == alone[2] | {"trained_in": first.id} and "train" not in again[3]
    assert again[1] == alone[1] and again[0].equals(alone[0])
    assert not folder.exists()  # nobody is left who might read it


@pytest.mark.parametrize("broken", ["checkpoint.safetensors", pytest.param("log.json", marks=pytest.mark.again)])
def test_what_is_not_as_it_was_written_is_trained_again(target_values, runs, broken):
    values = target_values | {"intermediate": "none"}
    first, second = (cells.make("target", values | {"split": split}) for split in ("dev", "test"))
    _planned(runs, first, second)
    _run(runs, first)
    (path,) = (runs / twins.FOLDER).glob(f"*/{broken}")
    path.write_bytes(path.read_bytes()[:-4] + b"    ")
    assert "trained_in" not in _run(runs, second)[2]


def test_other_labels_seeds_or_recipes_are_another_training(target_values, runs):
    values = target_values | {"intermediate": "none"}
    cell = cells.make("target", values)
    others = [{"seed": values["seed"] + 1}, {"target": "symbol_group"}, {"clip": 0.5}, {"precision": "bf16"}]
    _planned(runs, cell, *(cells.make("target", values | other) for other in others))
    assert twins.of(cell) == []
    same = cells.make("target", values | {"split": "dev"})
    _planned(runs, same)
    assert twins.of(cell) == [runs / same.id]
    write_text(runs / same.id / "spec.json", "[]")
    assert twins.of(cell) == []


def test_by_hand_nothing_is_shared(target_values, runs, monkeypatch):
    one, other = (cells.make("target", target_values | {"split": split}) for split in ("dev", "test"))
    _planned(runs, one, other)
    assert twins.of(one)
    monkeypatch.delenv(CELL_FOLDER)
    assert twins.of(one) == []


def test_equal_cards_with_other_inputs_have_places_of_their_own(target_values, runs):
    cell = cells.make("target", target_values)
    run = phase.OpenCell(cell, runs)
    inputs = run._inputs(run.task, 0, phase._objective(run.recipe))
    other = inputs.take(np.arange(len(inputs)))
    assert twins.Kept(cell, [inputs], []).folder == twins.Kept(cell, [other], []).folder
    name = next(iter(other.targets))
    other.targets[name] = other.targets[name].copy()
    other.targets[name][0] += 1
    assert twins.Kept(cell, [inputs], []).folder != twins.Kept(cell, [other], []).folder


def test_those_of_xtreme_r_that_are_trained_on_squad(runs):
    trained = [cell for cell in studies.load("xtreme_r").cells() if cell.phase == "target"]
    first = trained[0]
    group = [cell for cell in trained if (cell.parent, cell.parameters.seed) == (first.parent, first.parameters.seed)]
    group = [cell for cell in group if data_card(cell.parameters.target).trained]
    _planned(runs, *group)
    twinned = {cell.parameters.target for cell in group if twins.of(cell)}
    assert twinned == {"xquad", "mlqa"}
