"""Several ranks on one model: what they compute is what one process does, no rank holds the whole of it, and a cell
that they work on is the cell that one process would have left. Here they are processes on the CPU; on GPUs see
tests/test_gpu.py. What becomes of them when one is killed: tests/test_resume.py."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import FIXTURES
from filelock import Timeout
from safetensors.numpy import load_file
from torch.distributed import run as launcher

from xlscale import rank as rank_
from xlscale.core import registry
from xlscale.core.files import XlscaleError
from xlscale.engine import phase, ranks, runner
from xlscale.experiment import cells
from xlscale.models import ladder
from xlscale.training import evaluate
from xlscale.training.backends.cpu import CPU
from xlscale.training.loop import Diverged
from xlscale.training.model import Model

sys.path.append(str(FIXTURES))
import ranked

LAUNCHER = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "--shutdown-timeout=5"]


@pytest.fixture(scope="module")
def trained(once) -> Path:
    """The folder in which one process and two ranks have trained everything."""

    def make(folder: Path) -> None:
        folder.mkdir()
        subprocess.run([sys.executable, "-c", f"import ranked, pathlib; ranked.prepare(pathlib.Path({str(folder)!r}))"],
                       cwd=FIXTURES, check=True, capture_output=True, timeout=300)  # fmt: skip
        commands = [[sys.executable], [sys.executable, "-m", *LAUNCHER]]
        begun = [
            subprocess.Popen(
                [*command, FIXTURES / "ranked.py", folder], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            for command in commands
        ]
        for process in begun:
            told, _ = process.communicate(timeout=540)
            assert process.returncode == 0, told.decode()[-3000:]

    return once("ranked", make)


def _left(folder: Path, name: str) -> dict:
    return json.loads((folder / f"{name}.json").read_text())


@pytest.mark.again
@pytest.mark.parametrize("case", ranked.COVERED, ids=" ".join)
def test_losses_are_those_of_one_process_with_a_row_at_a_time(trained, case):
    alone = _left(trained, "1-0")[f"{' '.join(case)} None"]
    together = _left(trained, "2-0")[f"{' '.join(case)} 1"]
    assert together["losses"] == pytest.approx(alone["losses"], abs=1e-5) and len(alone["losses"]) == 10
    assert together["read"] == alone["read"]
    assert np.ptp(alone["losses"]) > 0.01
    one, other = (load_file(trained / f"{'-'.join(case)}-{ranks}.before.safetensors") for ranks in (1, 2))
    assert one.keys() == other.keys() and all(np.array_equal(one[i], other[i]) for i in one)


@pytest.mark.again
@pytest.mark.parametrize("method", ranked.METHODS)
def test_and_with_other_micro_batches_or_layers_that_are_computed_again(trained, method):
    case = f"qwen2.5 classification {method} float32"
    alone, found = _left(trained, "1-0")[f"{case} None"], _left(trained, "2-1")
    for tokens in (None, 200):
        assert found[f"{case} {tokens}"]["losses"] == pytest.approx(alone["losses"], abs=1e-5)


@pytest.mark.again
@pytest.mark.parametrize("method", ranked.METHODS)
def test_rounded_weights_give_what_they_give_in_one_process(trained, method):
    case = f"qwen2.5 classification {method}"
    rounded, alone = (_left(trained, "1-0")[f"{case} {precision} None"]["losses"] for precision in ("bf16", "float32"))
    for tokens in (None, 1, 200):
        together = _left(trained, "2-0")[f"{case} bf16 {tokens}"]["losses"]
        assert together != alone and together == pytest.approx(rounded, rel=5e-3)


@pytest.mark.again
def test_no_rank_holds_the_whole_of_a_model_or_of_any_large_parameter(trained):
    for rank in (0, 1):
        for case, found in _left(trained, f"2-{rank}").items():
            if "qlora" in case:  # of a model in four bits every rank holds the whole
                assert found["held"] == 1, case
            else:
                assert 0.4 < found["held"] < 0.6 and 0.4 < found["most"] < 0.7, case
    alone = {found["held"] for found in _left(trained, "1-0").values()}
    assert alone == {1.0}


@pytest.mark.parametrize(
    ("family", "values"), [("lareqa", {"objective": "smoothing"}), ("topic", {"objective": "adversarial"})]
)
def test_what_ranks_cannot_share_is_told_before_anything_is_loaded(
    target_values, tmp_path, monkeypatch, family, values
):
    cell = cells.make("target", target_values | {"target": family, "intermediate": "none"} | values)
    monkeypatch.setenv(runner.PLACEMENT, json.dumps({cell.id: [None, False, 2]}))
    monkeypatch.setattr(ladder, "empty", None)
    expected = (
        f"^{cell.id}: objective: expected supervised or augmentation, .*2 ranks train, got {values['objective']}$"
    )
    with pytest.raises(XlscaleError, match=expected):
        phase.OpenCell(cell, tmp_path).starting_point()


def test_ranks_that_fail_are_one_line(target_values, tmp_path, monkeypatch):
    cell = cells.make("target", target_values | {"intermediate": "none"})
    monkeypatch.setenv(runner.PLACEMENT, json.dumps({cell.id: [None, False, 2]}))
    run = phase.OpenCell(cell, tmp_path)
    encoder = run.starting_point()
    assert {parameter.device.type for parameter in encoder.parameters()} == {"meta"}

    def left(**found):
        return lambda path, _: (path.with_name(ranks.LEFT).write_text(json.dumps(found)) if found else None) or 1

    for found, kind, message in (
        ({"diverged": "loss nan at step 3 of 4"}, Diverged, "^loss nan at step 3 of 4$"),
        ({"fault": "max_length: expected less"}, XlscaleError, "^max_length: expected less$"),
        ({}, XlscaleError, rf"^{cell.id}: .*ranks/log.txt: expected 2 ranks to end well, got 1$"),
    ):
        monkeypatch.setattr(ranks, "_launched", left(**found))
        with pytest.raises(kind, match=message):
            run.train(encoder)
    with pytest.raises(XlscaleError, match="split: expected test, which ranks evaluate, got dev"):
        run.evaluate(encoder, None, "dev")


def test_the_launcher_does_as_it_is_told_here_whatever_its_user_has_set(tmp_path, monkeypatch):
    for name, value in {"NNODES": "2", "MAX_RESTARTS": "3", "NO_PYTHON": "1"}.items():
        monkeypatch.setenv(f"PET_{name}", value)
    (tmp_path / "job.json").write_text('{"place": [null, false, 2]}')
    given, options, begun = [], [], subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda command, env, **_: given.append(env) or begun([sys.executable, "-c", ""])
    )
    assert ranks._launched(tmp_path / "job.json", None) == 0
    assert given[0]["HF_HUB_OFFLINE"] == "1" and not [name for name in given[0] if name.startswith("PET_")]
    monkeypatch.setattr(launcher, "main", options.extend)
    ranks._launch(tmp_path / "job.json")
    found = launcher.get_args_parser().parse_args(options)
    assert (found.nnodes, found.max_restarts, found.nproc_per_node) == ("1", 0, "2") and found.standalone


def test_ranks_of_a_killed_attempt_are_waited_for(target_values, tmp_path, monkeypatch, capsys):
    cell = cells.make("target", target_values | {"intermediate": "none"})
    job = ranks.Job(cell, tmp_path, "test", runner.Place(ranks=2))
    job.here.mkdir()
    order = []

    def launched(path, _):
        order.append("started")
        path.with_name(ranks.LEFT).write_text('{"fault": "a fault"}')
        return 1

    monkeypatch.setattr(ranks, "_launched", launched)
    working = threading.Event()

    def old():
        with job.at_work("1"):
            working.set()
            time.sleep(1)
            (job.here / ranks.LEFT).write_text('{"fault": "an old fault"}')
            order.append("ended")

    threading.Thread(target=old).start()
    working.wait()
    with pytest.raises(XlscaleError, match="^a fault$"):
        _ = job.left
    assert order == ["ended", "started"]
    assert f"{cell.id}: waits for a rank that was started before to end: " in capsys.readouterr().err


def test_a_rank_can_be_waited_for_while_it_works(target_values, tmp_path, monkeypatch):
    job = ranks.Job(cells.make("target", target_values | {"intermediate": "none"}), tmp_path, "test", runner.Place())
    job.here.mkdir()

    def work(job):
        with pytest.raises(Timeout):
            job.at_work("1").acquire(blocking=False)
        return 7

    monkeypatch.setattr(rank_, "_work", work)
    monkeypatch.setattr(ranks, "read", lambda path: job)
    monkeypatch.setenv("RANK", "1")
    assert rank_.main(job.here / ranks.JOB) == 7
    job.at_work("1").acquire(blocking=False)


@pytest.mark.again
@pytest.mark.parametrize("case", ranked.COVERED, ids=" ".join)
def test_another_process_gives_equal_outputs_from_what_ranks_wrote(trained, case, monkeypatch):
    monkeypatch.setattr(ranked.catalogue, "LOCKS", trained / "locks")
    monkeypatch.setenv(ranked.places.HUB, str(trained))
    name, family, method, _ = case
    backend = CPU("float32")
    chosen, task, inputs, _, head = ranked.begun(name, family, method, backend)
    torch.manual_seed(99)  # by which adapters are drawn before what was written is read
    path = trained / f"{'-'.join(case)}-2"
    written = path.with_name(f"{path.name}.safetensors")
    encoder = registry.get("method", method)().load(ranked.card(name), 2, backend.device, chosen, written)
    backend.place(encoder, method != "full")
    ladder.restore(head, dict(head.named_parameters()), path.with_name(f"{path.name}.head.safetensors"))
    expected = load_file(path.with_name(f"{path.name}.after.safetensors"))
    found = evaluate.run(Model(encoder, backend, task, head), inputs)
    # A head with one row is multiplied by sums whose order follows from where it lies in memory.
    exactly = {} if family == "multiple_choice" else {"rtol": 0, "atol": 0}
    assert len(found) == len(expected)
    for i, one in enumerate(found):
        np.testing.assert_allclose(np.atleast_1d(one), expected[str(i)], **{"rtol": 1e-5, "atol": 1e-6} | exactly)
