"""A training that was ended goes on from the state that it left, and gives what it would have given: bit for bit."""

import resource
import shutil
import sys
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import FIXTURES, recipe

from xlscale.core import registry, saving
from xlscale.core.files import XlscaleError, XlscaleWarning, read_json, write_json
from xlscale.engine import phase
from xlscale.experiment import studies
from xlscale.models import ladder
from xlscale.training import loop
from xlscale.training import resume as resuming
from xlscale.training.backends.cpu import CPU
from xlscale.training.model import Model
from xlscale.training.resume import Keeper

sys.path.append(str(FIXTURES))
import families

NEVER, ALWAYS = saving.When(1e9, None), saving.When(-1.0, None)
LORA = {"method": "lora", "rank": 4, "alpha": 8.0, "adapted": "linear"}
COVERED = [
    ("classification", "supervised", {}, "float32"),
    ("classification", "supervised", LORA, "bf16"),
    ("classification", "supervised", {"frozen": "nothing", "weight_decay": 0.1}, "bf16"),
    ("classification", "adversarial", {"radius": 0.1}, "float32"),
    ("ranking", "smoothing", {"sigma": 0.02}, "float32"),
    ("text", "masked_lm", {}, "float32"),
    ("lexicon", "lexical", {"word_layer": 1}, "float32"),
]


class Ended(Exception):
    """In place of a kill."""


class Dying(Keeper):
    """Ends a training after some steps, the state of the last of which may not have been written."""

    last = 5

    def after(self, step, steps, log):
        super().after(step, steps, log)
        if step == self.last:
            raise Ended


def _train(card, case, keeper=None):
    """Losses and counts of a training, and all that trained."""
    family, objective, own, precision = case
    chosen = recipe(epochs=3, batch_size=8, learning_rate=3e-3, max_length=48, examples=24, objective=objective, **own)
    task, inputs = families.inputs(family, card, chosen)
    encoder = ladder.load(card, 2)
    registry.get("method", chosen.method)().prepare(encoder, chosen, torch.Generator().manual_seed(1))
    head = task.head_of(encoder, torch.Generator().manual_seed(2))
    model = Model(encoder, CPU(precision), task, head)
    made = registry.get("objective", objective)()
    log = loop.finetune(model, inputs, chosen, np.random.default_rng(5), made, keeper)
    return log, [*encoder.state_dict().values(), *head.state_dict().values()]


def _keeper(folder, kind=Keeper, when=ALWAYS, code="code"):
    return kind(folder, code, CPU("float32"), when)


@pytest.fixture
def kept(tmp_path) -> Path:
    """Where states are kept."""
    return tmp_path / "resume"


@pytest.mark.parametrize(
    "case",
    [*COVERED[:2], *(pytest.param(case, marks=pytest.mark.again) for case in COVERED[2:])],
    ids=lambda case: " ".join(map(str, case)),
)
def test_what_goes_on_from_a_state_ends_as_what_was_not_ended(layout, kept, case):
    card = layout("xlm-r")
    expected, weights = _train(card, case)
    with pytest.raises(Ended):
        _train(card, case, _keeper(kept, Dying))
    assert sorted(path.name for path in kept.iterdir()) == ["0-000000000004", "0-000000000005"]  # the last two
    torch.manual_seed(99)
    keeper = _keeper(kept, when=NEVER)
    log, found = _train(card, case, keeper)
    assert keeper.resumed == 5 and log == expected and len(log.losses) > 5
    assert all(torch.equal(one, other) for one, other in zip(found, weights, strict=True))
    # When it is done there is a state of that, from which nothing is computed any more.
    log, found = _train(card, case, _keeper(kept))
    assert log == expected and all(torch.equal(one, other) for one, other in zip(found, weights, strict=True))


def test_a_state_is_safetensors_and_json(layout, kept):
    with pytest.raises(Ended):
        _train(layout("xlm-r"), COVERED[1], _keeper(kept, Dying))
    files = [path for path in kept.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors"} and len(files) == 4
    for path in files:
        assert path.read_bytes()[:1] == b"{" or path.read_bytes()[8:9] == b"{"  # a header of JSON; a pickle has none


def test_nothing_is_kept_unless_it_is_asked_for(monkeypatch):
    monkeypatch.delenv(saving.EVERY, raising=False)
    monkeypatch.setenv(saving.DEADLINE, "1")
    assert saving.when() is None
    monkeypatch.setenv(saving.EVERY, "2.5")
    assert saving.when() == saving.When(150.0, 1.0)
    for wrong in ("soon", "0", "-1", "nan", "inf"):
        monkeypatch.setenv(saving.EVERY, wrong)
        with pytest.raises(XlscaleError, match=f"^XLSCALE_RESUME_MINUTES: expected a number of minutes.*{wrong}"):
            saving.when()


def test_a_state_is_written_when_it_is_time_and_before_the_deadline(layout, kept, monkeypatch):
    card, clock = layout("xlm-r"), [1000.0]

    def tick() -> float:
        clock[0] += 1
        return clock[0]

    monkeypatch.setattr(resuming, "time", SimpleNamespace(time=tick, monotonic=tick))
    with pytest.raises(Ended):
        _train(card, COVERED[0], _keeper(kept, Dying, saving.When(4.0, None)))
    assert [path.name for path in kept.iterdir()] == ["0-000000000005"]
    shutil.rmtree(kept)
    deadline = clock[0] + resuming.MARGIN + 5
    with pytest.raises(XlscaleError, match=r"^stopped after step \d of 9; run the same command to go on$"):
        _train(card, COVERED[0], _keeper(kept, when=saving.When(1e9, deadline)))
    assert clock[0] < deadline and len([*kept.iterdir()]) == 1
    assert len(_train(card, COVERED[0], _keeper(kept, when=NEVER))[0].losses) == 9


def test_states_of_other_code_are_not_looked_at_and_broken_ones_are_one_line(layout, kept):
    card = layout("xlm-r")
    with pytest.raises(Ended):
        _train(card, COVERED[0], _keeper(kept, Dying))
    other = _keeper(kept, when=NEVER, code="other")
    assert other.state is None and _train(card, COVERED[0], other)[0] == _train(card, COVERED[0])[0]
    shutil.rmtree(kept)
    with pytest.raises(Ended):
        _train(card, COVERED[0], _keeper(kept, Dying))
    before, newest = sorted(kept.iterdir())
    shutil.rmtree(before)
    (weights,) = newest.glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-100])
    lost = pytest.raises(XlscaleError, match="0-000000000005: expected a state of this training, remove it")
    with pytest.warns(XlscaleWarning, match="0-000000000005: not as it was written"), lost:
        _train(card, COVERED[0], _keeper(kept))


def test_states_of_other_code_and_cells_make_room_for_one_s_own(layout, kept):
    """Else they would count as the newest, though they are those of a later step."""
    card = layout("xlm-r")
    with pytest.raises(Ended):
        _train(card, COVERED[0], _keeper(kept, Dying, code="other"))
    last = Dying.last
    try:
        Dying.last = 3
        with pytest.raises(Ended):
            _train(card, COVERED[0], _keeper(kept, Dying))
    finally:
        Dying.last = last
    assert sorted(path.name for path in kept.iterdir()) == ["0-000000000002", "0-000000000003"]
    keeper = _keeper(kept, when=NEVER)
    assert _train(card, COVERED[0], keeper)[0] == _train(card, COVERED[0])[0] and keeper.resumed == 3


def test_a_state_is_that_of_one_cell_and_its_code(tmp_path, monkeypatch):
    monkeypatch.setenv(saving.EVERY, "15")
    pilot = [cell for cell in studies.load("smoke").cells() if cell.phase == "target"]
    found = [phase.OpenCell(cell, tmp_path).keeper.code for cell in pilot[:3]]
    assert len({*found}) == 3 and all(cell.id in code for cell, code in zip(pilot, found, strict=False))


@pytest.mark.parametrize(
    "change", ["a tensor", "another training's tensors", "a file", "the step", "the losses", "hash"]
)
def test_a_state_that_is_not_as_it_was_written_is_passed_over(layout, kept, change):
    card = layout("xlm-r")
    with pytest.raises(Ended):
        _train(card, COVERED[0], _keeper(kept, Dying))
    before, newest = sorted(kept.iterdir())
    (weights,), (older,) = newest.glob("*.safetensors"), before.glob("*.safetensors")
    if change == "a tensor":
        content = bytearray(weights.read_bytes())
        content[-3] ^= 1
        weights.write_bytes(content)
    elif change == "another training's tensors":
        shutil.copy(older, weights)
    elif change == "a file":
        shutil.copy(older, newest / "more.safetensors")
    else:
        state = read_json(newest / resuming.STATE)
        wrong = {"the step": {"step": 4}, "the losses": {"logs": [state["logs"][0] | {"losses": [1.0]}]}, "hash": {}}
        write_json(
            newest / resuming.STATE,
            {key: state[key] for key in state if (key, change) != (resuming.HASH, "hash")} | wrong[change],
        )
    with pytest.warns(XlscaleWarning, match="0-000000000005: not as it was written; the state before it is taken"):
        keeper = _keeper(kept, when=NEVER)
    assert _train(card, COVERED[0], keeper)[0] == _train(card, COVERED[0])[0] and keeper.resumed == 4


def test_a_clock_that_is_set_back_changes_no_interval(layout, kept, monkeypatch):
    card, passed = layout("xlm-r"), [1000.0]

    def tick() -> float:
        passed[0] += 1
        return passed[0]

    monkeypatch.setattr(resuming, "time", SimpleNamespace(time=lambda: -passed[0], monotonic=tick))
    with pytest.raises(Ended):
        _train(card, COVERED[0], _keeper(kept, Dying, saving.When(3.0, None)))
    assert read_json(max(kept.iterdir()) / resuming.STATE)["seconds"] > 0


def test_a_full_disk_stops_no_training_and_keeps_the_last_state(layout, kept, monkeypatch):
    card = layout("xlm-r")
    expected, _ = _train(card, COVERED[0])
    with pytest.raises(Ended):
        _train(card, COVERED[0], _keeper(kept, Dying))
    usage = namedtuple("usage", "free")
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _: usage(1000))
        with pytest.warns(XlscaleWarning, match="no state was written .*no space left.*; the training goes on"):
            assert _train(card, COVERED[0], _keeper(kept))[0] == expected
    assert [path.name for path in kept.iterdir()] == ["0-000000000005"]  # the one before made room

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, before[1]))  # in the middle of a file
    try:
        with pytest.warns(XlscaleWarning, match="no state was written .*File too large"):
            assert _train(card, COVERED[0], _keeper(kept))[0] == expected
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "0-000000000005" in {path.name for path in kept.iterdir()}
    assert _train(card, COVERED[0], _keeper(kept))[0] == expected
    assert not (kept / resuming.PART).exists()
