"""What a machine may lack when somebody types the first command: each case is one line that says what to do.

The environment is not made here, which takes minutes: Python, pip and disks are stubs, make and shells are real.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import psutil
import pytest

from xlscale.commands import cell as cell_
from xlscale.commands import explore
from xlscale.core import ending, installation, needs
from xlscale.core.files import ROOT, XlscaleError
from xlscale.engine import sweep

AS_STUB = """
import runpy, sys
sys.executable = sys.argv.pop()
runpy.run_module("xlscale.core.installation", run_name="__main__")
"""
# A Python of the version that is promised whose pip says and does what the test tells it by PIP_STUB, a shell script.
PYTHON = f"""#!/bin/bash
case "$*" in
  *"-m venv"*) mkdir -p .venv/bin .venv/lib; cp "$0" .venv/bin/python;;
  *"-m pip"*) echo "pip $*" >> calls; eval "$PIP_STUB";;
  *"-m compileall"*) ;;
  *"-m xlscale"*) exec {shlex.quote(sys.executable)} -B -c '{AS_STUB}' "$0";;
  *) exec {shlex.quote(sys.executable)} "$@";;
esac
"""


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A checkout at an odd path, with no environment, and no network and no Python but a stub."""
    folder = tmp_path / "a ü'q\" #"
    folder.mkdir()
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    (folder / "src").symlink_to(ROOT / "src")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "env", "make", "awk", "mkdir", "cp", "cat", "sleep", "touch"):
        (programs / name).symlink_to(shutil.which(name))
    return folder


def _stub(folder: Path, name: str = "python3", script: str = PYTHON) -> Path:
    path = folder.parent / "bin" / name
    path.write_text(script)
    path.chmod(0o755)
    return path


def _start(folder: Path, *arguments: str, pip: str = "", **environment: str) -> subprocess.Popen:
    clean = {"PATH": str(folder.parent / "bin"), "PIP_STUB": pip, "LANG": "C"} | environment
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.Popen(
        command, cwd=folder, env=clean, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
    )


def _make(folder: Path, *arguments: str, **given: str) -> tuple[int, list[str]]:
    """The exit code, and what is said, without what make says at the end of a failure."""
    process = _start(folder, *(arguments or (".venv/.ready",)), **given)
    said = process.communicate(timeout=60)[0].splitlines()
    return process.returncode, [line for line in said if not line.startswith("make: *** [")]


MAKING = "Making .venv (once; PyTorch is a large download)"


def test_the_environment_is_made_once_and_anew_where_the_checkout_was_copied(checkout):
    _stub(checkout)
    assert _make(checkout) == (0, [MAKING])
    assert _make(checkout)[1] == ["make: '.venv/.ready' is up to date."]
    (checkout / ".venv" / "of the original").touch()
    copy = checkout.with_name("copy")
    shutil.copytree(checkout, copy, symlinks=True)
    assert _make(copy) == (0, [MAKING])
    assert not (copy / ".venv" / "of the original").exists()
    assert (copy / ".venv" / ".ready").read_text() == f"{copy.resolve()}\n"
    assert "is up to date" in _make(checkout)[1][0]
    (checkout / ".venv" / "bin" / "python").unlink()
    (checkout / ".venv" / "bin" / "python").symlink_to("/nowhere/python3.11")  # which an upgrade took away
    assert _make(checkout) == (0, [MAKING])


def test_what_was_installed_before_is_kept_and_a_link_is_not_written_through(checkout):
    python = _stub(checkout)
    (checkout / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(python, checkout / ".venv" / "bin" / "python")
    (checkout / ".venv" / "PyTorch for processors").touch()
    assert _make(checkout) == (0, [MAKING])
    assert (checkout / ".venv" / "PyTorch for processors").exists()
    (checkout / ".venv" / ".ready").unlink()
    (checkout / ".venv" / "bin" / "python").write_text("#!/bin/bash\necho 3 10\n")
    code, said = _make(checkout)
    assert code and len(said) == 1 and "; remove it, and it is made, or name its own Python: make PYTHON3=" in said[0]
    (checkout / ".venv").rename(checkout / "other")
    (checkout / ".venv").symlink_to("other")
    code, said = _make(checkout)
    assert code and said == [
        "make: .venv: expected a folder or nothing, got a link or a file; remove it, and it is made"
    ]
    assert not (checkout / "other" / ".ready").exists()


def test_two_commands_at_once_make_one_environment(checkout):
    _stub(checkout)
    first = _start(checkout, ".venv/.ready", pip="touch begun; until [ -e go ]; do sleep 0.1; done")
    while not (checkout / "begun").exists():
        assert first.poll() is None
    second = _start(checkout, ".venv/.ready")
    assert second.stdout.readline() == "Waiting for another command that is making .venv.\n"
    (checkout / "go").touch()
    assert (first.wait(60), second.wait(60)) == (0, 0)
    assert (first.stdout.read(), second.stdout.read()) == (f"{MAKING}\n", "")
    assert len((checkout / "calls").read_text().splitlines()) == 2  # the packages, and the checkout itself


WRONG = "{}: expected Python 3.11, 3.12 or 3.13; install one, or name it: make PYTHON3=/path/to/python"


def _other(version: str) -> str:
    return f'#!/bin/bash\n[ "$1" = --version ] && echo Python {version} && exit; exit 1\n'


@pytest.mark.parametrize("version", ["2.7.18", "3.10.13", "3.14.0"])
def test_another_python_is_told_and_one_that_fits_is_found(checkout, version):
    _stub(checkout, "python3", _other(version))
    assert _make(checkout) == (2, [f"make: python3: {WRONG.format(f'Python {version}')}"])
    assert not (checkout / ".venv").exists()
    _stub(checkout, "python3.12")
    assert _make(checkout) == (0, [MAKING])


def test_no_python_and_a_named_one_that_is_not_there(checkout):
    assert _make(checkout) == (2, [f"make: python3: {WRONG.format('not found')}"])
    _stub(checkout)  # is not taken in the place of what is named
    assert _make(checkout, ".venv/.ready", "PYTHON3=/no where/python") == (
        2,
        [f"make: /no where/python: {WRONG.format('not found')}"],
    )


@pytest.mark.parametrize("lacking", ["ensurepip", "venv"])
def test_a_python_that_cannot_make_environments_names_the_package(lacking, monkeypatch):
    monkeypatch.setitem(sys.modules, lacking, None)
    version = ".".join(map(str, sys.version_info[:2]))
    with pytest.raises(
        XlscaleError, match=rf"expected a Python with venv and ensurepip; .* apt install python{version}-venv"
    ):
        installation.check_python()


UNREACHABLE = "the package index could not be reached; connect to a network, or name an index or a folder of wheels: "
SAYS = {  # what pip, old and new, says where it fails -> the line
    "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device": "no space left on this",
    "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError'\n"
    "ERROR: No matching distribution found for torch==2.13.0": "No matching distribution found for torch==2.13.0",
    "ERROR: Exception:\nTraceback (most recent call last):\nReadTimeoutError: Read timed out.": UNREACHABLE,
    "ERROR: Could not install packages due to an OSError: [Errno 13] Permission denied: 'x'": "it cannot be written",
    "no such option: --log": "no such option: --log",
}


@pytest.mark.parametrize(("says", "line"), SAYS.items())
def test_what_stops_pip_is_one_line(checkout, says, line):
    _stub(checkout)
    code, said = _make(checkout, pip=f"mkdir -p .venv/tmp; printf %s {shlex.quote(says)} >&2; exit 1")
    assert code and len(said) == 2 and said[1].startswith(f"make: .venv: pip: {line}")
    assert not (checkout / ".venv" / "tmp").exists()
    assert _make(checkout) == (0, [MAKING])  # the next call goes on


def test_without_a_network_that_is_the_line(tmp_path):
    """By pip itself, which says of an index that cannot be reached that it holds nothing."""
    log = tmp_path / "log"
    command = [sys.executable, "-I", "-m", "pip", "--log", str(log), "install", "--quiet", "--dry-run", "nothing==1"]
    offline = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0", "PIP_CONFIG_FILE": os.devnull}
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    done = subprocess.run(command, env=clean | offline, capture_output=True, text=True, timeout=60)
    assert installation.why(done.returncode, done.stderr, log.read_text()).startswith(UNREACHABLE)


def test_pip_writes_beside_what_it_installs_and_minds_no_user_site(checkout):
    _stub(checkout)
    assert _make(checkout, pip='echo "$TMPDIR $PIP_USER $PYTHONPATH" > seen', TMPDIR="/proc/full", PIP_USER="1")[0] == 0
    assert (checkout / "seen").read_text() == f"{checkout}/.venv/tmp 0 \n"


def test_a_checkout_that_cannot_be_written_and_a_killed_pip(checkout):
    _stub(checkout)
    (checkout / ".venv.lock").mkdir()
    code, said = _make(checkout)
    assert code and said == [
        "make: .venv.lock: Is a directory; expected a checkout that can be written, on a disk with room"
    ]
    (checkout / ".venv.lock").rmdir()
    assert "killed, perhaps for want of memory" in _make(checkout, pip="kill -9 $$")[1][-1]


Free = namedtuple("Free", "total used free")


def test_too_little_disk_is_told_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Free(0, 0, 400_000_000))
    with pytest.raises(
        XlscaleError, match=r"\.venv: expected 2\.5 GB free on this disk, got 0\.4 GB; make room, or clone"
    ):
        installation.main()
    assert [path.name for path in tmp_path.iterdir()] == [".venv.lock"]


def test_room_for_cells_is_looked_at_before_anything_is_acquired(smoke_cells, tmp_path, monkeypatch):
    from xlscale.acquire import ensure

    monkeypatch.setattr(ensure, "ensure", lambda *cards: None)
    cell_.acquire(smoke_cells, tmp_path)  # there is room here
    monkeypatch.setattr(ensure, "ensure", lambda *cards: pytest.fail("nothing was to be acquired"))
    needed = sum(needs.CELL[cell.phase] for cell in smoke_cells)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Free(0, 0, needed - 1))
    with pytest.raises(XlscaleError, match=r"expected [0-9.]+ GB free on this disk, got"):
        cell_.acquire(smoke_cells, tmp_path / "runs")
    monkeypatch.undo()
    monkeypatch.setattr(needs, "free_memory", lambda swap: 10**9)
    with pytest.raises(XlscaleError, match=r"^memory: expected 1\.5 GB free, got 1\.0 GB; close other programs"):
        cell_.acquire(smoke_cells, tmp_path)
    monkeypatch.setattr(needs.resource, "getrlimit", lambda kind: (3 * 10**9, -1))
    with pytest.raises(XlscaleError, match=r"^ulimit -v: expected unlimited or at least 8\.0 GB, got 3\.0 GB"):
        cell_.acquire(smoke_cells, tmp_path)


def _group(folder: Path, names: tuple[str, str], limit: str, used: int, kept: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in zip((*names, "memory.stat"), (limit, used, f"anon 1\n{kept} 1000000"), strict=True):
        (folder / name).write_text(f"{value}\n")


def test_what_a_container_or_job_is_limited_to_counts_with_those_above_it(tmp_path, monkeypatch):
    one, two = ("memory.limit_in_bytes", "memory.usage_in_bytes"), ("memory.max", "memory.current")
    groups = tmp_path / "groups"
    _group(tmp_path / "new" / "job", two, "max", 9, "inactive_file")
    _group(tmp_path / "new", two, "1000000000", 300_000_000, "inactive_file")
    groups.write_text("0::/job/step\n")
    assert [*needs._left_of_limits(groups, tmp_path / "new")] == [701_000_000]
    _group(tmp_path / "old" / "memory" / "job", one, "3000000000", 10**9, "total_inactive_file")
    _group(tmp_path / "old" / "memory", one, str(2**63 - 4096), 2 * 10**9, "total_inactive_file")
    groups.write_text("5:cpu,memory:/job\n1:name=systemd:/x\n0::/\n")
    assert [*needs._left_of_limits(groups, tmp_path / "old")] == [2_001_000_000, 2**63 - 4096 - 2 * 10**9 + 10**6]
    assert not [*needs._left_of_limits(tmp_path / "none", tmp_path)]
    monkeypatch.setattr(needs, "_left_of_limits", lambda *places: iter([4_100_000_000]))
    machine = namedtuple("Machine", "available")(10**12)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: machine)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(64), raising=False)
    assert cell_.default_jobs() == 2


def test_the_readme_states_what_is_looked_for():
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    stated = (
        (needs.ENVIRONMENT, "{} for `.venv`"),
        (needs.MODEL, "{} for the model"),
        (max(needs.CELL.values()), "up to {} for each"),
        (needs.LEAST_MEMORY, "{} of free memory"),
    )
    for size, sentence in stated:
        assert sentence.format(f"{size / needs.GB:.1f} GB") in text
    assert f"{needs.MEMORY // needs.GB} GB of memory for each" in text


@pytest.mark.parametrize("begun", ["cell", "step"])
def test_what_was_killed_names_its_log(smoke_cells, tmp_path, begun):
    name = smoke_cells[0].id if begun == "cell" else "check"
    (tmp_path / name).mkdir()
    (tmp_path / name / sweep.LOG).touch()
    with pytest.raises(
        XlscaleError, match=rf"/{name}/log\.txt: it ended without a word, .* want of memory .*; try JOBS=1$"
    ):
        sweep._report(1, smoke_cells, ["check"], tmp_path, tmp_path / "snakemake.log")


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (
            PermissionError(13, "Permission denied", "/x/runs"),
            "/x/runs: Permission denied; expected a checkout of your own",
        ),
        (OSError(30, "Read-only file system", "/x"), "/x: Read-only file system; expected a checkout of your own"),
        (OSError(28, "No space left on device", "/x"), "/x: No space left on device"),
        (MemoryError(), "out of memory; close other programs"),
    ],
)
def test_a_place_or_memory_that_is_not_ours_is_one_line(fault, line, capsys):
    def work():
        raise fault

    assert ending.exit_code(work) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"xlscale: {line}") and told.count("\n") == 1


def test_jupyter_writes_into_the_cache_where_there_is_no_home(tmp_path, monkeypatch):
    monkeypatch.setattr(explore, "CACHE", tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert explore.without_home() == {}
    monkeypatch.setenv("HOME", "/proc/nowhere")
    monkeypatch.setenv("IPYTHONDIR", "theirs")
    found = explore.without_home()
    assert found.keys() == {*explore.WRITTEN} - {"IPYTHONDIR"}
    assert all(Path(place).is_relative_to(tmp_path) and Path(place).is_dir() for place in found.values())
