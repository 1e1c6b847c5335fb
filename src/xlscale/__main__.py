"""The command line, ``python -m xlscale <verb>``: faults end in one line and exit code 1.

Here is only what turns arguments into an exit code; the verbs are in ``commands.verbs``. Next to nothing is imported
here, so that help and a cell of a sweep begin at once.
"""

from __future__ import annotations

import os
import sys

from xlscale.engine import fork_server, processes


def main(arguments: list[str]) -> int:
    """Parse the command line and run the verb; 0 if all is well, 1 after a fault or a disagreement."""
    processes.clear_arithmetic()
    if sys.flags.optimize:  # then docstrings are gone, which transformers reads: no cell would run
        os.environ.pop("PYTHONOPTIMIZE", None)
        os.execv(sys.executable, [sys.executable, "-m", "xlscale", *arguments])
    if arguments[:1] == ["run"]:
        processes.die_with_parent()
        if len(arguments) == 2 and fork_server.ADDRESS in os.environ:
            # Nothing more is imported, here or above, than it takes to ask: the sweep has done it once for all cells.
            code = fork_server.ask(arguments[1])
            if code is not None:
                return code
    from xlscale.commands import verbs

    options = vars(verbs.parser().parse_args(arguments))
    call = options.pop("call")
    return processes.exit_code(lambda: call(**options))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
