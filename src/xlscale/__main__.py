"""The command line, ``xlscale <verb>`` or ``python -m xlscale <verb>``: faults end in one line and exit code 1.

Here is only what turns arguments into an exit code; the verbs are in ``commands.verbs``. Next to nothing is imported
here, so that help and a cell of a sweep begin at once.
"""

from __future__ import annotations

import os
import sys

from xlscale.core import ending
from xlscale.engine import fork_server, processes


def main(arguments: list[str]) -> int:
    """Parse the command line and run the verb; 0 if all is well, 1 after a fault or a disagreement."""
    processes.clear_arithmetic()
    processes.settle_folders()
    if sys.flags.optimize:  # then docstrings are gone, which transformers reads: no cell would run
        os.environ.pop("PYTHONOPTIMIZE", None)
        os.execv(sys.executable, [sys.executable, "-m", "xlscale", *arguments])
    if arguments[:1] in (["run"], ["step"], ["job"]):
        if code := ending.exit_code(processes.die_with_parent):
            return code
        if fork_server.ADDRESS in os.environ:
            # Nothing more is imported, here or above, than it takes to ask: the sweep has done it once for all jobs.
            code = fork_server.ask("xlscale.commands.verbs:main", arguments)
            if code is not None:
                return code
    from xlscale.commands import verbs

    return verbs.main(arguments)


def command() -> int:
    """What the console command ``xlscale`` does: the same as ``python -m xlscale``."""
    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(command())
