"""What the engine's processes have in common: their environment, how they end, and that none outlives its parent.

Imports next to nothing: a cell of a sweep asks the fork server before anything else is imported.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from xlscale.core.files import XlscaleError, bounded

WATCHED = "XLSCALE_WATCHED"  # environment variable: Snakemake was started by a sweep, and ends with it
TERMINATED = 143  # exit code after SIGTERM
# Of a process that executes a notebook, whatever its user has set. Libraries read it while they are imported.
ENVIRONMENT = {
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # as ipykernel sets it
    "MATPLOTLIBRC": str(Path(find_spec("matplotlib").origin).with_name("mpl-data") / "matplotlibrc"),  # its defaults
}


def die_with_parent() -> None:
    """End this process soon after its parent has gone: a killed engine must leave no training behind."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def exit_code(work: Callable[[], object]) -> int:
    """Do ``work``; the exit code is 0, or 1 when it returns False or ends in a fault, which is printed as one line."""
    try:
        return 1 if work() is False else 0
    except XlscaleError as error:
        print(f"xlscale: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # an unwritable or full place that no one expected to be one
        print(bounded(f"xlscale: {error.filename}: {error.strerror or error}"), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("xlscale: interrupted; complete cells are kept, run the same command to go on", file=sys.stderr)
        return 130
