"""The command line, ``python -m xlscale <verb>``: faults end in one line and exit code 1.

Here is only what turns arguments into an exit code; the verbs are in ``commands.verbs``. Next to nothing is imported
here, so that help and a cell of a sweep begin at once.
"""

from __future__ import annotations

import os
import sys

from xlscale.engine import warm


def main(arguments: list[str], forked: bool = False) -> int:
    """Parse the command line and run the verb; 0 if all is well, 1 after a fault or a disagreement.

    ``forked``: in a child of a sweep's warm process, which sees to it that this process ends in time.
    """
    if arguments[:1] == ["run"] and warm.ADDRESS in os.environ:
        # Nothing more is imported, here or above, than it takes to ask: the sweep has done it once for all cells.
        code = warm.ask(arguments)
        if code is not None:
            return code
    from xlscale.commands import verbs

    options = vars(verbs.parser().parse_args(arguments))
    call = options.pop("call")
    if forked:
        options["forked"] = True
    from xlscale.core.files import XlscaleError

    try:
        return 0 if call(**options) else 1
    except XlscaleError as error:
        print(f"xlscale: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # an unwritable or full place that no one expected to be one
        print(f"xlscale: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("xlscale: interrupted; complete cells are kept, run the same command to go on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
