"""The warm process of a sweep: it has imported what every cell imports, and forks where a cell would import it again.

Belongs here: that process, what it imports, its children, and how ``python -m xlscale run`` hands them a cell. Nothing
here decides about a cell, and nothing of this package is imported before the fork: a cell runs the source as it lies on
disk when the cell begins.

    sweep -> server, which only forks -> runner, one per cell -> kernel, forked by the runner before it has threads

Whoever dies takes those below along: the server ends with the sweep, the runner with the process that asked for the
cell, the kernel with the runner. Only the server may die alone: running cells go on, later ones import for themselves.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import IO, NoReturn

ADDRESS = "XLSCALE_WARM"  # environment variable: path of the server's socket
LAUNCHER = "ipykernel_launcher"  # the module that a kernel's command runs
TAKEN = b"t"
KILLED = 128 + signal.SIGKILL
# What the imports see: pyarrow's allocator starts no thread, of which a fork would have none; the debugger is silent.
IMPORTING = {"JE_ARROW_MALLOC_CONF": "background_thread:false", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
SHORT = 60  # characters of a temporary folder, for sockets: their whole path may have about 100
# What a cell's runner and kernel import from other packages. What is missing here is imported by each cell.
MODULES = [
    *("papermill", "papermill.engines", "papermill.translators", "nbclient", "nbformat"),
    *("jupyter_client.asynchronous", "jupyter_client.provisioning", "jupyter_client.ssh.tunnel", "tornado.queues"),
    *("ipykernel.ipkernel", "ipykernel.kernelapp", "ipykernel.kernelspec", "ipykernel.debugger", "argcomplete"),
    *("IPython.core.completerlib", "IPython.core.oinspect", "IPython.core.logger", "IPython.extensions.storemagic"),
    *("tornado.platform.asyncio", "sqlite3", "yaml", "pydantic.main", "pydantic.types", "pydantic.json_schema"),
    *("pydantic.functional_validators", "pydantic.plugin._schema_validator", "pydantic._internal._validators"),
    *("torch", "transformers", "transformers.models.bert.modeling_bert", "transformers.models.bert.configuration_bert"),
    *("transformers.tokenization_utils_tokenizers", "tokenizers", "safetensors.torch", "safetensors.numpy", "datasets"),
    *("numpy.random", "pandas", "pandas.io.formats.html", "pandas.core.arrays.arrow.extension_types"),
    *("packaging.utils", "pyarrow.parquet", "pyarrow.compute", "scipy.stats", "tqdm"),
    *("matplotlib.figure", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg"),
]


def private_folder():
    """A temporary folder for sockets, as a context manager that gives its path: no one else may enter, path short."""
    import tempfile

    base = tempfile.gettempdir()
    folder = base if len(base) < SHORT else "/tmp"
    return tempfile.TemporaryDirectory(prefix="xl-", dir=folder, ignore_cleanup_errors=True)


@contextmanager
def serving(environment: Mapping[str, str], log: IO[bytes]) -> Iterator[dict[str, str]]:
    """Have a server while the block runs; gives the environment variables by which ``run`` finds it.

    Gives none outside Linux: elsewhere a fork of a process with these libraries is not safe.
    """
    if sys.platform != "linux":
        yield {}
        return
    import subprocess

    with private_folder() as folder:
        path = os.path.join(folder, "s")
        # Bound here, so that cells may knock before the imports are done; closed here, so that they are turned away
        # when the server is dead. The server reads end of file from its standard input when this process is.
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(128)
            command = [sys.executable, "-m", "xlscale.engine.warm", str(listener.fileno()), folder]
            server = subprocess.Popen(
                command, env={**environment, **IMPORTING}, stdin=subprocess.PIPE, stdout=log, stderr=log,
                pass_fds=[listener.fileno()], start_new_session=True,
            )  # fmt: skip
        try:
            yield {ADDRESS: path}
        finally:
            server.kill()
            server.communicate()


def ask(arguments: list[str]) -> int | None:
    """Have ``python -m xlscale`` with these arguments run by the server, with this process's output and environment.

    Returns its exit code, or None when no server took it: then nothing has begun. Ends with the parent of this process.
    """
    parent = os.getppid()
    job = {"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(os.environ[ADDRESS])
            connection.settimeout(0.5)
            socket.send_fds(connection, [b"\n"], [1, 2])
            connection.sendall(json.dumps(job).encode() + b"\n")
        except OSError:
            return None
        if not _byte(connection, parent):
            return None
        code = _byte(connection, parent)
        return code[0] if code else KILLED


def _byte(connection: socket.socket, parent: int) -> bytes:
    """The next byte, empty when the other side is gone."""
    while os.getppid() == parent:
        try:
            return connection.recv(1)
        except TimeoutError:
            continue
        except OSError:
            return b""
    os._exit(1)


def serve(listener: socket.socket, folder: str) -> NoReturn:
    """Import, then fork a runner for every connection, until standard input ends."""
    import gc
    import importlib
    import shutil

    gc.disable()
    for name in MODULES:
        with suppress(ImportError):  # each cell for itself, then
            importlib.import_module(name)
    if len(os.listdir("/proc/self/task")) > 1:
        sys.exit("xlscale.engine.warm: expected one thread after the imports; every cell imports for itself")
    gc.enable()
    gc.freeze()  # what is here now is never collected, so the children share its pages
    while True:
        ready = select.select([listener, 0], [], [], 1.0)[0]
        while _reap():
            pass
        if 0 in ready:
            shutil.rmtree(folder, ignore_errors=True)
            os._exit(0)
        if listener in ready:
            connection = listener.accept()[0]
            if not os.fork():
                _end_with(partial(_runner, connection, listener, folder))
            connection.close()


def _reap() -> bool:
    try:
        return os.waitpid(-1, os.WNOHANG)[0] > 0
    except ChildProcessError:
        return False


def _outcome(work: Callable[[], int]) -> int:
    """The exit code that an interpreter doing nothing but ``work`` would end with; all its output is out."""
    try:
        code = work()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return code


def _end_with(work: Callable[[], int]) -> NoReturn:
    """Do ``work`` and end this process with its outcome: a child must never come back into its parent's code."""
    code = 1
    try:
        code = _outcome(work)
    finally:
        os._exit(code)


def _runner(connection: socket.socket, listener: socket.socket, folder: str) -> int:
    """The runner of one cell, as ``python -m xlscale run`` would be, for whoever is at the other end."""
    import tempfile
    import threading

    listener.close()
    descriptors = socket.recv_fds(connection, 1, 2)[1]
    if len(descriptors) < 2:
        return 1
    job = json.loads(connection.makefile("rb").readline())
    for target, source in enumerate([os.open(os.devnull, os.O_RDONLY), *descriptors]):
        os.dup2(source, target)
        os.close(source)
    _move(job)
    del os.environ[ADDRESS]
    tempfile.tempdir = folder  # the sweep removes it, whatever is killed in between
    reading, writing = os.pipe()
    kernel = os.fork()
    if not kernel:
        connection.close()
        os.close(writing)
        _end_with(partial(_kernel, reading))
    os.close(reading)
    connection.sendall(TAKEN)

    def watch() -> None:
        connection.recv(1)  # nothing is ever sent: returns when the other side is gone
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    _forget()
    from xlscale import __main__
    from xlscale.engine import kernels

    kernels.spare = kernels.Fork(kernel, writing)
    code = _outcome(partial(__main__.main, job["arguments"], forked=True))
    connection.sendall(bytes([code]))
    return code


def _kernel(reading: int) -> int:
    """Wait for the command of a kernel, then be the process that it would start."""
    import ctypes

    import numpy as np

    parent = os.getppid()
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG; ipykernel looks at its parent only later
    os.setsid()
    with open(reading, "rb") as pipe:
        orders = pipe.read()
    if not orders or os.getppid() != parent:
        return 1
    job = json.loads(orders)
    _move(job)
    _forget()
    np.random.seed()  # else every kernel would draw what the server would; the other generators see to it themselves
    from ipykernel.kernelapp import IPKernelApp

    sys.argv = job["arguments"][job["arguments"].index(LAUNCHER) :]
    IPKernelApp.launch_instance(sys.argv[1:], parent_handle=parent)
    return 0


def _move(job: dict) -> None:
    os.environ.clear()
    os.environ.update(job["environment"])
    os.chdir(job["folder"])


def _forget() -> None:
    """Let this package be imported as it lies on disk now, by a child of the server."""
    import importlib

    for name in [name for name in sys.modules if name.partition(".")[0] == "xlscale"]:
        del sys.modules[name]
    importlib.invalidate_caches()


if __name__ == "__main__":
    if sys.path[0] == os.getcwd():
        del sys.path[0]  # which a kernel does not have
    serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2])
