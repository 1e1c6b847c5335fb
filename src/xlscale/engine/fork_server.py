"""The fork server of a sweep: it has imported what every cell imports, and forks where a cell would import it again.

Belongs here: that process, what it imports, its children, and how ``python -m xlscale run`` hands them a cell. Nothing
here decides about a cell, and no module of this package is shared with a child: a cell runs the source as it lies on
disk when the cell begins.

    sweep -> fork server -> runner, one per cell, which executes the notebook itself

When a process dies, its descendants are killed: the server ends with the sweep, the runner with the process that asked
for the cell. Only the server may die alone: running cells go on, later ones import for themselves. On a machine with an
accelerator every cell does: its state does not outlive a fork.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, NoReturn

from xlscale.core import files
from xlscale.engine import processes

ADDRESS = "XLSCALE_FORK_SERVER"  # environment variable: path of the server's socket
TAKEN = b"t"
KILLED = 128 + signal.SIGKILL
# What the imports see: pyarrow's allocator starts no thread, of which a fork would have none.
IMPORTING = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}
PREFIX = "xlscale-"  # of the names of temporary folders
SHORT = 60  # characters of a temporary folder, for sockets: their whole path may have about 100
# What a cell imports from other packages. What is missing here is imported by each cell.
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
    import shutil
    import tempfile
    from pathlib import Path

    from filelock import FileLock, Timeout

    base = tempfile.gettempdir()
    base = base if len(base) < SHORT else "/tmp"
    for left in Path(base).glob(f"{PREFIX}*/lock"):
        with suppress(Timeout, OSError), FileLock(left, blocking=False):
            shutil.rmtree(left.parent, ignore_errors=True)
    new = tempfile.TemporaryDirectory(prefix=PREFIX, dir=base, ignore_cleanup_errors=True)
    with new as folder, FileLock(os.path.join(folder, "lock")):
        yield folder


@contextmanager
def serving(folder: str, environment: Mapping[str, str], log: IO[bytes]) -> Iterator[dict[str, str]]:
    """Have a server in a ``private_folder`` while the block runs; gives the environment variables by which ``run``
    finds it.

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
        command = [sys.executable, "-m", "xlscale.engine.fork_server", str(listener.fileno()), str(os.getpid())]
        server = subprocess.Popen(
            command, env={**environment, **processes.ENVIRONMENT, **IMPORTING}, cwd=files.ROOT,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[listener.fileno()], start_new_session=True,
        )  # fmt: skip
    try:
        yield {ADDRESS: path}
    finally:
        server.kill()
        server.wait()


def ask(cell_id: str) -> int | None:
    """Have the server run a cell, with this process's output and environment.

    Returns the exit code, or None when no server took the cell: then nothing has begun.
    """
    job = {"cell": cell_id, "environment": dict(os.environ), "folder": os.getcwd()}
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


def serve(listener: socket.socket, sweep: int) -> NoReturn:
    """Import, then fork a runner for every connection, until the process ``sweep`` dies or a fork would not be safe."""
    import gc
    import importlib

    _die_with(sweep)
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
    sys.exit(f"xlscale.engine.fork_server: {reason}; every cell imports for itself")


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
    """Be the runner of one cell for whoever is at the other end: a child never comes back into its parent's code."""
    code = 1
    try:
        code = _runner(connection)
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


def _runner(connection: socket.socket) -> int:
    """Run the cell as ``python -m xlscale run`` would, in a process like the one that asks for it."""
    import importlib
    import threading
    from functools import partial

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
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    np.random.seed()  # else every cell would draw what the server would; the other generators see to it themselves
    # This package is imported as it lies on disk now.
    for name in [name for name in sys.modules if name.partition(".")[0] == "xlscale"]:
        del sys.modules[name]
    importlib.invalidate_caches()
    from xlscale.engine import processes, runner

    return processes.exit_code(partial(runner.main, job["cell"]))


if __name__ == "__main__":
    if sys.path[0] == os.getcwd():
        del sys.path[0]  # the folder of this package comes from the environment
    serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
