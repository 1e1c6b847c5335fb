"""How the programs that fetch and build are run: each ends with this process, however that ends."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
from typing import Any

_ON_PARENTS_DEATH = 1  # PR_SET_PDEATHSIG of Linux
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def run(command: list[str], **options: Any) -> subprocess.CompletedProcess:
    """``subprocess.run``, whose options ``options`` are. On Linux the program is killed when this process has died; a
    fetch may take an hour, and would go on behind its user's back."""
    return subprocess.run(command, preexec_fn=_tie if _LIBC else None, **options)


def _tie() -> None:
    _LIBC.prctl(_ON_PARENTS_DEATH, signal.SIGKILL)
