"""What the engine's processes have in common: their environment, how they end, and that none outlives its parent.

Imports next to nothing: a cell of a sweep asks the fork server before anything else is imported.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

from xlscale.core import saving
from xlscale.core.files import ARITHMETIC, CACHE, FOLDERS, SETTINGS, XlscaleError

WATCHED = "XLSCALE_WATCHED"  # environment variable: id of the process (in a sweep, of that) with which all below ends
TEMPORARY = "XLSCALE_TEMPORARY"  # environment variable: the user's folder of temporary files, where a sweep has its own
TERMINATED = 143  # exit code after SIGTERM
PARTING = 1.0  # seconds that a process has to end by itself when what it belongs to is gone
# Of a process that executes a notebook, whatever its user has set. Libraries read it while they are imported.
ENVIRONMENT = {
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # as ipykernel sets it
    "MPLCONFIGDIR": str(CACHE / "matplotlib"),  # where it writes: a home need not be there
    "MATPLOTLIBRC": str(Path(find_spec("matplotlib").origin).with_name("mpl-data") / "matplotlibrc"),  # its defaults
}


def clear_arithmetic() -> None:
    """Take out of this process's environment what its user set to change how libraries compute.

    To be called before any of them is imported; ``core.machine`` says what cannot be taken out.
    """
    for name in [name for name in os.environ if ARITHMETIC.fullmatch(name)]:
        del os.environ[name]


def settle_folders() -> None:
    """Have a folder that the user named as seen from here be the same one to processes that run elsewhere."""
    for name, value in os.environ.items():
        if value and (name in FOLDERS or (re.fullmatch("XLSCALE_[A-Z]+", name) and name not in SETTINGS)):
            os.environ[name] = os.path.join(os.getcwd(), value)


def environment() -> dict[str, str]:
    """The environment of a process that is to execute a notebook: this one's, with what counts as ENVIRONMENT says."""
    return {name: value for name, value in os.environ.items() if not ARITHMETIC.fullmatch(name)} | ENVIRONMENT


def without_grammars() -> None:
    """Have jsonschema do without its optional check of URIs, which no notebook has: to import it, it compiles grammars
    for seconds. To be called before nbformat is imported."""
    sys.modules.setdefault("rfc3987_syntax", None)


def die_with_parent(grace: float | None = None) -> None:
    """End this process soon after its parent or the sweep that it belongs to: a killed one leaves no training behind.
    It gets SIGTERM first, and ``grace`` seconds to end by itself, by default more where trainings leave states.

    The parent may be gone before this is called, and then only the sweep can tell.
    """
    parent, sweep = os.getppid(), _watched()

    def watch() -> None:
        while os.getppid() == parent and not (sweep and ended(sweep)):
            time.sleep(0.5)
        end(grace)

    threading.Thread(target=watch, daemon=True).start()


def _watched() -> int:
    said = os.environ.get(WATCHED) or "0"
    if not re.fullmatch("[0-9]{1,10}", said):
        raise XlscaleError(f"{WATCHED}: expected the id of a process, got {said!r}")
    return int(said)


def end(grace: float | None = None) -> None:
    """End this process, from a thread of its own; ``grace`` as in ``die_with_parent``. On SIGTERM a runner lets go of
    its cell."""
    if grace is None:
        grace = saving.GRACE if os.environ.get(saving.EVERY) else PARTING
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace)
    os._exit(1)


def finish(process: subprocess.Popen) -> None:
    """Have a child end: it is told to, and killed where it does not in the time that it has for it."""
    process.terminate()
    try:
        process.wait(saving.GRACE + 5)
    except subprocess.TimeoutExpired:
        process.kill()


def interrupt_with(pid: int) -> None:
    """Interrupt this process, as Ctrl-C does, soon after another one has ended: what it has elsewhere, it cancels. So
    does one that a shell has started in the background, where interrupts are ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def watch() -> None:
        while not ended(pid):
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, daemon=True).start()


def ended(pid: int) -> bool:
    """Whether the process with this id has ended, its exit code asked for or not."""
    import psutil

    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
