"""Whatever is killed while a cell is trained: nothing runs on, and the same command gives what it would have given."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import FIXTURES, processes, wait

from xlscale.core import saving
from xlscale.engine import runner
from xlscale.experiment import results

pytestmark = [
    pytest.mark.again,
    pytest.mark.skipif(sys.platform != "linux", reason="finds processes through /proc"),
]
STEPS = 12
# Before any state is there; in the middle; when the training is done and what it gave is evaluated.
MOMENTS = {"starting": 0, "training": 4, "evaluating": STEPS}
VICTIMS = {"rank": "xlscale.rank", "launcher": "xlscale.engine.ranks", "kernel": "xlscale.engine.notebook"}
CASES = [
    (ranks, victim, moment)
    for ranks, victims in ((1, ("SIGTERM", "kernel", "runner")), (2, ("SIGTERM", *VICTIMS, "runner")))
    for victim in victims
    for moment in MOMENTS
]


class Work:
    """A folder of runs with a cell that is to be trained, and its child."""

    def __init__(self, folder: Path, elsewhere: Path):
        sys.path.append(str(FIXTURES))
        import elsewhere as made

        self.runs = folder
        self.environment = os.environ | made.environment(elsewhere) | {"XLSCALE_RUNS": str(folder)}
        self.environment[saving.EVERY] = "0.00001"  # after each step

    def prepare(self) -> None:
        """Write the specs, and train nothing."""
        command = [sys.executable, FIXTURES / "one_cell.py", str(STEPS)]
        subprocess.run(command, env=self.environment, check=True, capture_output=True, timeout=300)

    def like(self, other: "Work") -> None:
        """Take over what another one has before it trains."""
        shutil.copytree(other.runs / other.ids[0], self.runs / other.ids[0])
        for name in other.ids[1:]:
            (self.runs / name).mkdir()
            shutil.copy(other.runs / name / "spec.json", self.runs / name)

    @property
    def ids(self) -> list[str]:
        """Of the cell that is not trained, the one that is, and its child."""
        return [next(self.runs.glob(f"{phase}-*")).name for phase in ("pretrained", "intermediate", "target")]

    @property
    def cell(self) -> Path:
        """The folder of the cell that is trained."""
        return self.runs / self.ids[1]

    def start(self, ranks: int, child: bool = False) -> subprocess.Popen:
        """Run the cell on so many ranks, in a process of its own where its child is asked for."""
        place = {runner.PLACEMENT: json.dumps({self.cell.name: [None, False, ranks]})}
        return subprocess.Popen(
            [sys.executable, "-m", "xlscale", "run", self.ids[2 if child else 1]], env=self.environment | place,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def complete(self, ranks: int) -> dict:
        """The result of the cell, run to its end."""
        process = self.start(ranks)
        _, told = process.communicate(timeout=540)
        assert process.returncode == 0, told
        return json.loads((self.cell / results.RESULT).read_text())

    def reached(self, ranks: int, moment: str) -> bool:
        """Whether this moment has come."""
        if moment == "starting":
            ready = len(processes(VICTIMS["rank"], self.runs)) == ranks if ranks > 1 else True
            return ready and (self.cell / runner.EXECUTED).exists()
        return bool(self.steps()) and self.steps()[-1] >= MOMENTS[moment]

    def steps(self) -> list[int]:
        """The steps after which there is a state."""
        return sorted(int(path.parent.name[2:]) for path in (self.cell / results.RESUME).glob("0-*/state.json"))


@pytest.fixture(scope="module")
def undisturbed(once, elsewhere):
    """``undisturbed(ranks)``: the work of a cell that nobody disturbed."""

    def of(ranks: int) -> Work:
        def make(folder: Path) -> None:
            work = Work(folder, elsewhere)
            work.prepare()
            work.complete(ranks)

        return Work(once(f"undisturbed-{ranks}", make), elsewhere)

    return of


@pytest.mark.parametrize(("ranks", "victim", "moment"), CASES)
def test_nothing_runs_on_and_the_next_run_gives_the_same(undisturbed, elsewhere, tmp_path, ranks, victim, moment):
    expected = undisturbed(ranks)
    work = Work(tmp_path / "runs", elsewhere)
    work.like(expected)
    process = work.start(ranks, child=victim in ("kernel", "runner"))
    wait(lambda: work.reached(ranks, moment), 300)
    if victim in VICTIMS:
        os.kill(processes(VICTIMS[victim], work.runs)[-1], signal.SIGKILL)
    else:
        process.send_signal(signal.SIGTERM if victim == "SIGTERM" else signal.SIGKILL)
    _, told = process.communicate(timeout=60)
    assert process.returncode == {"SIGTERM": 143, "runner": -9}.get(victim, 1), told
    wait(lambda: not processes("xlscale", work.runs), 60)
    assert not (work.cell / results.RESULT).exists()
    before = work.steps()
    assert len(before) <= 2 and (not before) == (moment == "starting")
    if victim == "SIGTERM" and moment == "training":
        assert before[-1] < STEPS
    result, whole = work.complete(ranks), json.loads((expected.cell / results.RESULT).read_text())
    for name in ("losses", "predictions_sha256", "train_tokens", "value"):
        assert result[name] == whole[name], name
    name = results.CHECKPOINT
    assert (work.cell / name).read_bytes() == (expected.cell / name).read_bytes()
    assert result["environment"].get("resumed_after_step", 0) == max(before, default=0)
    assert result["environment"].get("ranks", 1) == ranks
    assert {path.name for path in work.cell.iterdir() if path.is_dir()} == set()
    assert not list(work.cell.rglob("*.part"))


def test_one_process_goes_on_from_a_state_of_two_ranks(undisturbed, elsewhere, tmp_path):
    expected = undisturbed(2)
    work = Work(tmp_path / "runs", elsewhere)
    work.like(expected)
    process = work.start(2)
    wait(lambda: work.reached(2, "training"), 300)
    process.terminate()
    process.communicate(timeout=60)
    before = work.steps()[-1]
    files = [path for path in work.cell.rglob("*") if path.is_file()]
    assert any(path.name.startswith("shard-00002") for path in files)  # each wrote its own part
    for path in files:  # PyTorch's own files are archives, or begin as pickles do
        assert path.read_bytes()[:2] not in (b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05"), path
    result, whole = work.complete(1), json.loads((expected.cell / results.RESULT).read_text())
    assert result["losses"] == pytest.approx(whole["losses"], abs=2e-5)  # as they are recorded, to five digits
    assert result["train_tokens"] == whole["train_tokens"]
    assert result["environment"]["resumed_after_step"] == before and "ranks" not in result["environment"]
