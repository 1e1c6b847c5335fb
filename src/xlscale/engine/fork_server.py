"""The fork server of a sweep: it has imported what every job imports, and forks where a job would import it again.

Belongs here: that process, what it imports, its children, and how ``python -m xlscale run`` or ``step`` hands them what
it was asked for. Nothing here decides about a cell or a step, and no module of this package is shared with a child: a
job runs the source as it lies on disk when it begins.

    sweep -> fork server -> a child per cell or step, which executes the notebook itself

When a process dies, its descendants are killed: the server ends with the sweep, the child with the process that asked
for it. Only the server may die alone: running jobs go on, later ones import for themselves. On a machine with an
accelerator every job does: its state does not outlive a fork.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NoReturn

from xlscale.core import files
from xlscale.engine import processes

ADDRESS = "XLSCALE_FORK_SERVER"  # environment variable: path of the server's socket
TAKEN = b"t"
KILLED = 128 + signal.SIGKILL
# What the imports see: pyarrow's allocator starts no thread, of which a fork would have none.
IMPORTING = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}
PREFIX = "xlscale-"  # of the names of temporary folders
# What a private folder may hold: the lock, the socket, what ``sweep`` writes and is about to, Snakemake's own folder.
INSIDE = re.compile(r"lock|s|\.?(cells\.txt|config\.json)(\.\d+\.[0-9a-f]+\.part)?|snakemake\w{8}")
SHORT = 60  # characters of a temporary folder, for sockets: their whole path may have about 100
# What cells and steps import from other packages. What is missing here is imported by each of them.
MODULES = [
    *("papermill", "papermill.engines", "papermill.translators", "nbformat", "filelock", "sqlite3", "yaml"),
    *("IPython.core.interactiveshell", "IPython.core.completerlib", "IPython.core.oinspect", "IPython.core.logger"),
    *("pydantic.main", "pydantic.types", "pydantic.json_schema", "pydantic.functional_validators"),
    *("pydantic.plugin._schema_validator", "pydantic._internal._validators", "packaging.utils", "tqdm"),
    *("torch", "transformers", "transformers.models.bert.modeling_bert", "transformers.models.bert.configuration_bert"),
    *("transformers.tokenization_utils_tokenizers", "tokenizers", "safetensors.torch", "safetensors.numpy", "datasets"),
    *("numpy.random", "pandas", "pandas.io.formats.html", "pandas.core.arrays.arrow.extension_types"),
    *("pyarrow.parquet", "pyarrow.compute", "scipy.stats"),
    *("matplotlib.figure", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg"),
]


@contextmanager
def private_folder() -> Iterator[str]:
    """A temporary folder for sockets and lists while the block runs; gives its path: no one else may enter, path short.

    Removes what was left by those who were killed.
    """
    import tempfile

    from filelock import FileLock, Timeout

    base = tempfile.gettempdir()
    base = base if len(base) < SHORT else "/tmp"
    for left in Path(base).glob(f"{PREFIX}*"):
        with suppress(Timeout, OSError):
            if _made_here(left):  # before the lock, which would empty another's file of that name
                with FileLock(left / "lock", blocking=False):
                    _remove(left)
    new = tempfile.TemporaryDirectory(prefix=PREFIX, dir=base, ignore_cleanup_errors=True)
    with new as folder, FileLock(os.path.join(folder, "lock")):
        yield folder


def _made_here(folder: Path) -> bool:
    """Whether a folder is one that ``private_folder`` has made, by its name, owner, mode and all that it holds: under
    that prefix there may be anything of anybody's. Raises OSError for one that is not there or cannot be entered."""
    named = re.fullmatch(rf"{PREFIX}[a-z0-9_]{{8}}", folder.name)  # as tempfile does
    if not named or not _is(folder, stat.S_IFDIR | 0o700):
        return False
    kinds = {"lock": stat.S_IFREG, "s": stat.S_IFSOCK}
    inside = {path.name: path for path in folder.iterdir()}
    if "lock" not in inside or inside["lock"].lstat().st_size or not all(map(INSIDE.fullmatch, inside)):
        return False
    return all(
        _is(path, stat.S_IFDIR | 0o700 if name.startswith("snakemake") else kinds.get(name, stat.S_IFREG))
        for name, path in inside.items()
    )


def _is(path: Path, mode: int) -> bool:
    """Whether what is at ``path``, a link not followed, is this user's and of this kind and, where stated, mode."""
    found = path.lstat()
    asked = 0o170777 if mode & 0o777 else 0o170000
    return found.st_uid == os.getuid() and found.st_mode & asked == mode


def _remove(folder: Path) -> None:
    """Remove a folder that was ``_made_here``, by the names that are known, the lock last. Raises OSError, and leaves
    files, where a folder in it is not empty."""
    inside = sorted(folder.iterdir(), key=lambda path: (path.name == "lock", not path.is_dir()))
    for path in inside:
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


@contextmanager
def serving(folder: str, environment: Mapping[str, str], log: IO[bytes], at_once: bool) -> Iterator[dict[str, str]]:
    """Have a server in a ``private_folder`` while the block runs; gives the environment variables by which jobs find
    it. It imports ``at_once`` or when the first of them asks.

    Gives none outside Linux: elsewhere a fork of a process with these libraries is not safe.
    """
    if sys.platform != "linux":
        yield {}
        return
    import subprocess

    path = os.path.join(folder, "s")
    # Bound here, so that cells may knock before the imports are done; closed here, so that they are turned away when
    # the server is dead.
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(128)
        numbers = listener.fileno(), os.getpid(), int(at_once)
        command = [sys.executable, "-m", "xlscale.engine.fork_server", *map(str, numbers)]
        server = subprocess.Popen(
            command, env={**environment, **processes.ENVIRONMENT, **IMPORTING}, cwd=files.ROOT,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[listener.fileno()], start_new_session=True,
        )  # fmt: skip
    try:
        yield {ADDRESS: path}
    finally:
        server.kill()
        server.wait()


def ask(call: str, arguments: Sequence[str]) -> int | None:
    """Have a child of the server call ``call``, a name such as "package.module:function", with a list of arguments, in
    this process's environment and with its output.

    Returns the exit code that it gives, or None when no server took the job: then nothing has begun.
    """
    job = {"call": call, "arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(os.environ[ADDRESS])
            socket.send_fds(connection, [b"\n"], [1, 2])
            connection.sendall(json.dumps(job).encode() + b"\n")
            if not connection.recv(1):
                return None
        except OSError:
            return None
        try:
            code = connection.recv(1)
        except OSError:
            code = b""
        return code[0] if code else KILLED


def serve(listener: socket.socket, sweep: int, at_once: bool = True) -> NoReturn:
    """Import, then fork a child for every connection, until the process ``sweep`` dies or a fork would not be safe."""
    import gc
    import importlib

    _die_with(sweep)
    if not at_once:
        select.select([listener], [], [])
    processes.without_grammars()
    os.environ.update(files.HUB_ENVIRONMENT | os.environ)
    gc.disable()
    for name in MODULES:
        with suppress(ImportError):  # each cell for itself, then
            importlib.import_module(name)
    gc.enable()
    gc.freeze()  # what is here now is never collected, so the children share its pages
    while not (reason := unsafe()):
        ready = select.select([listener], [], [], 1.0)[0]
        while _reap():
            pass
        if ready:
            connection = listener.accept()[0]
            if not os.fork():
                listener.close()
                _child(connection)
            connection.close()
    sys.exit(f"xlscale.engine.fork_server: {reason}; every job imports for itself")


def _die_with(parent: int) -> None:
    """Have Linux kill this process with its parent, in the middle of an import too. A thread that watches the parent
    would not outlive a fork, and a process with threads is not safe to fork."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)


def unsafe() -> str | None:
    """Why this process must not be forked, or None."""
    import torch

    if torch.cuda.is_initialized() or torch.accelerator.is_available():
        return "an accelerator, whose state does not outlive a fork"
    if len(os.listdir("/proc/self/task")) > 1:
        return "expected one thread after the imports"
    return None


def _reap() -> bool:
    try:
        return os.waitpid(-1, os.WNOHANG)[0] > 0
    except ChildProcessError:
        return False


def _child(connection: socket.socket) -> NoReturn:
    """Do one job for whoever is at the other end: a child never comes back into its parent's code."""
    code = 1
    try:
        code = _work(connection)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # as the interpreter would end
        sys.excepthook(*sys.exc_info())
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
            connection.sendall(bytes([code]))
        os._exit(code)


def _work(connection: socket.socket) -> int:
    """Do what is asked for, in a process like the one that asks."""
    import importlib
    import threading
    from pkgutil import resolve_name

    import numpy as np

    descriptors = socket.recv_fds(connection, 1, 2)[1]
    if len(descriptors) < 2:
        return 1
    job = json.loads(connection.makefile("rb").readline())
    for target, source in enumerate([os.open(os.devnull, os.O_RDONLY), *descriptors]):
        os.dup2(source, target)
        os.close(source)
    os.environ.clear()
    os.environ.update(job["environment"])
    os.chdir(job["folder"])
    connection.sendall(TAKEN)

    def watch() -> None:
        connection.recv(1)  # nothing is ever sent: returns when the other side is gone
        processes.end()

    threading.Thread(target=watch, daemon=True).start()
    np.random.seed()  # else every job would draw what the server would; the other generators see to it themselves
    # This package is imported as it lies on disk now.
    for name in [name for name in sys.modules if name.partition(".")[0] == "xlscale"]:
        del sys.modules[name]
    importlib.invalidate_caches()
    return resolve_name(job["call"])(job["arguments"])


if __name__ == "__main__":
    if sys.path[0] == os.getcwd():
        del sys.path[0]  # the folder of this package comes from the environment
    serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]), sys.argv[3] == "1")
