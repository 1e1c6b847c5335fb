"""Makes ``.venv``, for the Makefile: ``python -m xlscale.core.installation`` in a checkout, by the Python it will have.

Only the standard library is there. Whatever stops it is told in one line that says what to do, and the next call goes
on from there.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xlscale.core import needs
from xlscale.core.files import XlscaleError, one_line

FOLDER = Path(".venv")  # this and the next are below the present folder, the checkout
LOCK = Path(".venv.lock")
READY = FOLDER / ".ready"  # where it was made, written last; the Makefile compares
SOURCES = (Path("requirements.lock"), Path("pyproject.toml"))
PYTHON = FOLDER / "bin" / "python"
LOG = FOLDER / "pip.log"
SCRATCH = FOLDER / "tmp"  # of pip: gigabytes, for which the machine's folder of temporary files is often too small
# Pip would compile 19,000 files one after another; this is two thirds of them, on all cores.
NEVER_IMPORTED = r"/tests?/|/transformers/models/(?!auto/|bert/|xlm_roberta/)"
# What pip's log says -> what to do. The first that is found counts.
CAUSES = {
    r"No space left on device|Disk quota exceeded": "no space left on this disk; PyTorch's CUDA build, which pip takes "
    "on Linux, needs several GB more than the one for processors (see README.md)",
    r"Max retries exceeded|connection error|NewConnectionError|NameResolutionError|Network is unreachable|ProxyError|"
    r"Connection (?:refused|reset)|[Tt]imed out|IncompleteRead|SSLError": "the package index could not be reached; "
    "connect to a network, or name an index or a folder of wheels: PIP_INDEX_URL or PIP_FIND_LINKS with PIP_NO_INDEX=1",
    r"Permission denied|Read-only file system": "it cannot be written; clone to a folder of your own",
}


def main() -> None:
    """Make ``.venv``, or complete it. Raises XlscaleError."""
    if FOLDER.is_symlink() or (FOLDER.exists() and not FOLDER.is_dir()):
        raise XlscaleError(f"{FOLDER}: expected a folder or nothing, got a link or a file; remove it, and it is made")
    with _alone():
        if _current():
            return
        check_python()
        made_here = _made_here()
        if not made_here and not READY.exists():  # somebody else's, who has put into it what they want
            raise XlscaleError(
                f"{FOLDER}: expected one of {sys.executable}; remove it, and it is made, or name its own Python: "
                "make PYTHON3=/path/to/python"
            )
        if not made_here or not READY.exists():
            needs.check_disk(FOLDER.absolute(), needs.ENVIRONMENT - _size(FOLDER))
        print(f"Making {FOLDER} (once; PyTorch is a large download)", flush=True)
        READY.unlink(missing_ok=True)
        if not made_here:
            shutil.rmtree(FOLDER)
        _run("venv", [sys.executable, "-m", "venv", str(FOLDER)])
        _install("--no-compile", "--requirement", "requirements.lock")
        compile_ = [str(PYTHON), "-m", "compileall", "-qq", "-j", "0", "-x", NEVER_IMPORTED, str(FOLDER / "lib")]
        subprocess.run(compile_, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # it saves time, no more
        _install("--no-deps", "--no-build-isolation", "--editable", ".")
        READY.write_bytes(_here() + b"\n")


@contextmanager
def _alone() -> Iterator[None]:
    """Have the environment to oneself: who comes meanwhile says so, and waits."""
    with open(LOCK, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Waiting for another command that is making {FOLDER}.", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _made_here() -> bool:
    """Whether the environment is this folder's, of the Python that runs this, or there is none: one of another place
    runs the code of that."""
    if not FOLDER.exists():
        return True
    said = "import sys; print(*sys.version_info[:2])"
    try:
        version = subprocess.run([PYTHON, "-c", said], capture_output=True, text=True).stdout.split()
        place = READY.read_bytes().strip() if READY.exists() else b""
    except OSError:
        return False
    return version == [str(part) for part in sys.version_info[:2]] and place in (b"", _here())


def _here() -> bytes:
    return os.fsencode(os.path.realpath("."))


def _current() -> bool:
    """Whether another command has made it since make looked."""
    return READY.exists() and READY.stat().st_mtime >= max(one.stat().st_mtime for one in SOURCES) and _made_here()


def check_python() -> None:
    """Raise XlscaleError unless this Python has what makes environments: Debian has it in a package of its own."""
    try:
        import ensurepip
        import venv  # noqa: F401

        ensurepip.version()
    except (ImportError, AttributeError):
        number = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise XlscaleError(
            f"{sys.executable}: expected a Python with venv and ensurepip; install them (on Debian and Ubuntu, "
            f"apt install python{number}-venv) or name another: make PYTHON3=/path/to/python"
        ) from None


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*"))


def _install(*arguments: str) -> None:
    LOG.unlink(missing_ok=True)
    command = [str(PYTHON), "-I", "-m", "pip", "--quiet", "--no-color", "--disable-pip-version-check"]
    _run("pip", [*command, "--log", str(LOG.absolute()), "install", *arguments])


def _run(name: str, command: list[str]) -> None:
    """Run a command in silence, its temporary files in SCRATCH. Raises XlscaleError with one line when it fails."""
    shutil.rmtree(SCRATCH, ignore_errors=True)
    SCRATCH.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"TMPDIR": str(SCRATCH.absolute()), "PIP_USER": "0"}
    environment.pop("PYTHONPATH", None)
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment)
    finally:
        shutil.rmtree(SCRATCH, ignore_errors=True)
    if done.returncode:
        log = LOG.read_text(encoding="utf-8", errors="replace") if LOG.exists() else ""
        raise XlscaleError(f"{FOLDER}: {name}: {why(done.returncode, f'{done.stdout}{done.stderr}', log)}")


def why(code: int, said: str, log: str) -> str:
    """Why a command failed, in one line: ``code`` it ended with, ``said`` on the terminal, and its ``log``."""
    if code == -9:
        return "it was killed, perhaps for want of memory; give the machine, container or job more"
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith("WARNING: ")]
    text = "\n".join(lines)
    if "(from versions: none)" in text:  # of an index that could not be read pip says no more, but in its log
        text += log
    for pattern, told in CAUSES.items():
        if re.search(pattern, text):
            return told
    faults = [line.removeprefix("ERROR: ") for line in lines if line.startswith(("ERROR: ", "Error: "))]
    return f"{one_line((faults or lines or [f'exit code {code}'])[-1])}{f'; see {LOG}' if log else ''}"


if __name__ == "__main__":
    try:
        main()
    except XlscaleError as error:
        sys.exit(f"make: {error}")
    except OSError as error:
        expected = "expected a checkout that can be written, on a disk with room"
        sys.exit(f"make: {error.filename}: {error.strerror}; {expected}")
    except KeyboardInterrupt:
        sys.exit("make: interrupted; the same command goes on")
