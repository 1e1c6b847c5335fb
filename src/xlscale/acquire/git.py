"""Files from public git repositories, at the commit that a card pins, into the cache; each checked before it is there.

Nothing is checked out: git fetches the commit's list of files and the contents that are needed, and hands these over as
they are stored, so no hook, filter or submodule has a part in it. It runs without the configuration of machine and
user, and over https alone. Whoever has no network names a folder with XLSCALE_GIT: ``<owner>/<name>`` in it, or
``<owner>/<name>.git``, is a clone, bare or not, or the plain files of the commit.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from filelock import FileLock

from xlscale.acquire import clients
from xlscale.cards import pins, places
from xlscale.cards.pins import Pin
from xlscale.cards.sources import Repository
from xlscale.core.files import XlscaleError, atomic, below, one_line, plain

GIT = "XLSCALE_GIT"
POINTER = b"version https://git-lfs"  # how a file begins that stands for one that lies elsewhere
PROTOCOL = "https"  # by which git may ask for anything
TIMEOUT, ANSWER = 3600, 15  # seconds, of a fetch and of a question
# No hook, no file system monitor, no password asked for. What a partial clone lacks is fetched by ``_download`` alone.
# A clone may be another user's, as in a container: what a settings file of one's own says of that is not read here.
OPTIONS = (
    *("core.hooksPath=/dev/null", "core.fsmonitor=false", "protocol.allow=never", "credential.helper="),
    "safe.directory=*",
)
STALLED = ("http.lowSpeedLimit=1000", "http.lowSpeedTime=60")  # bytes a second, for so many seconds: given up
ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "true",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "LC_ALL": "C",  # of messages
}


def get(origin: Repository, paths: Iterable[str]) -> None:
    """Bring these files of a git repository into the cache, those that are there already left as they are.

    Each is compared with its sha256 and git blob before it is put in place, so a fetch that breaks off leaves whole
    files or none. Raises XlscaleError naming the file, or the repository that cannot be had.
    """
    folder, known = places.fetched(origin), pins.of(origin)
    folder.mkdir(parents=True, exist_ok=True)
    scratch = folder.with_name(f".{folder.name}.part")
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        try:
            shutil.rmtree(scratch, ignore_errors=True)  # what a fetch has left that was killed
            if wanted := {path: known[path] for path in paths if not below(folder, path).is_file()}:
                scratch.mkdir()
                read = _reader(origin, [*wanted.values()], scratch)
                for path, pin in wanted.items():
                    with atomic(below(folder, path)) as temporary:
                        read(path, temporary)
                        check(temporary, pin)
                        expect_content(temporary, f"{origin.address}/{path}")
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def check(path: Path, pin: Pin) -> None:
    """Raise XlscaleError unless the file at ``path`` has the size, sha256 and git blob of ``pin``."""
    size = path.stat().st_size
    sha256, blob = hashlib.sha256(), hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(2**20):
            sha256.update(block)
            blob.update(block)
    for name, wanted, got in (
        ("bytes", pin.bytes, size),
        ("sha256", pin.sha256, sha256.hexdigest()),
        ("git blob", pin.blob, blob.hexdigest()),
    ):
        if wanted is not None and wanted != got:
            raise XlscaleError(
                f"{pin.repository}/{pin.path}: {name}: expected {wanted} as in {pins.FILE.name}, got {str(got)[:16]}"
            )


def expect_content(path: Path, name: str) -> None:
    """Raise XlscaleError, calling the file at ``path`` by ``name``, where it is a pointer of git-LFS."""
    with open(path, "rb", opener=plain) as file:
        if file.read(len(POINTER)) == POINTER:
            raise XlscaleError(f"{name}: expected the file, got a pointer of git-LFS to it; in a clone: git lfs pull")


def mirror(origin: Repository) -> Path | None:
    """The clone, or the folder of plain files, that stands below XLSCALE_GIT for a repository, if there is one."""
    given = os.environ.get(GIT)
    named = [below(Path(given), origin.repository + suffix) for suffix in ("", ".git")] if given else []
    return next((path for path in named if path.is_dir()), None)


def unreachable(origin: Repository) -> str:
    """Why a repository cannot be asked for anything; nothing if it can, or need not be."""
    try:
        if not mirror(origin):
            with tempfile.TemporaryDirectory() as scratch:
                _git(Path(scratch), origin, "ls-remote", "--exit-code", address(origin), "HEAD", network=ANSWER)
        return ""
    except XlscaleError as error:
        return str(error)


def address(origin: Repository) -> str:
    """Where git fetches a repository from."""
    return f"{PROTOCOL}://{origin.address}"


def _reader(origin: Repository, wanted: list[Pin], scratch: Path) -> Callable[[str, Path], None]:
    """What writes a file of the repository, by its path there, to another path."""
    folder = mirror(origin)
    if folder and not _is_git(folder):
        return partial(_copy, origin, folder)
    return partial(_write, origin, folder or _download(origin, wanted, scratch))


def _is_git(folder: Path) -> bool:
    return (folder / ".git").exists() or ((folder / "objects").is_dir() and (folder / "HEAD").is_file())


def _copy(origin: Repository, folder: Path, path: str, target: Path) -> None:
    if not (source := below(folder, path)).is_file():
        raise XlscaleError(f"{origin.address}: {path}: expected below ${GIT}, in {folder}")
    shutil.copyfile(source, target)


def _write(origin: Repository, folder: Path, path: str, target: Path) -> None:
    with open(target, "wb") as file:
        _git(folder, origin, "cat-file", "blob", f"{origin.revision}:{path}", output=file)


def _download(origin: Repository, wanted: list[Pin], scratch: Path) -> Path:
    """A repository with one commit and, of its files, those that are wanted; where the server knows no parts, all."""
    run = partial(_git, scratch, origin)
    run("init", "--quiet", "--bare", "--template=")
    run("remote", "add", "origin", address(origin))
    fetch = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--filter=blob:none")
    run(*fetch, "--depth=1", "origin", origin.revision, network=TIMEOUT)
    blobs = "".join(f"{pin.blob}\n" for pin in wanted)
    run(*fetch, "--stdin", "origin", network=TIMEOUT, given=blobs)
    return scratch


def _git(
    folder: Path, origin: Repository, *command: str, network: int = 0, given: str = "", output: object = None
) -> None:
    """Run git in ``folder``; it may ask the network for ``network`` seconds. Raises XlscaleError with one line when it
    is missing, fails or does not end."""
    options = [*OPTIONS, *STALLED, f"protocol.{PROTOCOL}.allow=always"] if network else OPTIONS
    settings = [part for option in options for part in ("-c", option)]
    kept = {name: value for name, value in os.environ.items() if name[:4] != "GIT_" or name[:8] == "GIT_SSL_"}
    try:
        done = clients.run(
            ["git", *settings, *command],
            cwd=folder,
            # A clone's own settings may allow a protocol that runs a command; this overrides them.
            env=kept | ENVIRONMENT | {"GIT_ALLOW_PROTOCOL": PROTOCOL if network else "none"},
            input=given.encode(),
            timeout=network or TIMEOUT,
            stdout=output or subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
    except FileNotFoundError:
        raise XlscaleError(f"{origin.address}: git is not installed; {_by_hand(origin)}") from None
    except subprocess.TimeoutExpired:
        raise XlscaleError(f"{origin.address}: git {command[0]} did not end in {network or TIMEOUT} seconds") from None
    if done.returncode:
        said = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()] or ["no message"]
        reason = one_line(said[0].removeprefix("fatal: ").removeprefix("error: "), 120)
        raise XlscaleError(f"{origin.address}: git {command[0]} failed ({reason}); {_by_hand(origin)}")


def _by_hand(origin: Repository) -> str:
    return f"a clone may stand at {origin.repository} below ${GIT}"
