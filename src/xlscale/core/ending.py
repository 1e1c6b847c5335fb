"""How a command ends: its exit code, and one line on stderr where it met a fault."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable

from xlscale.core.files import XlscaleError, bounded

CLOSED = 141  # exit code after SIGPIPE
NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS)  # a place that may not be written, or read


def exit_code(work: Callable[[], object], name: str = "xlscale", left: str = "") -> int:
    """Do ``work``; the exit code is 0, or 1 when it returns False or ends in a fault, which is printed as one line.

    Where nobody reads on, as behind ``| head``, it ends without a word, as if SIGPIPE had ended it. ``name``: of the
    command; ``left``: what there is of its work when a person interrupts it.
    """
    try:
        good = work() is not False
        if sys.stdout:  # which is none where its caller has closed it
            sys.stdout.flush()
        return 0 if good else 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is flushed at the end
        return CLOSED
    except XlscaleError as error:
        told = str(error)
    except OSError as error:  # an unwritable or full place that no one expected to be one
        advice = "; expected a checkout of your own, see git clone" if error.errno in NOT_OURS else ""
        place = "" if error.filename is None else f"{error.filename}: "
        told = bounded(f"{place}{error.strerror or error}{advice}")
    except MemoryError:
        told = "out of memory; close other programs, or give the container or job more"
    except KeyboardInterrupt:
        print(f"{name}: interrupted{left}", file=sys.stderr)
        return 130
    print(f"{name}: {told}", file=sys.stderr)
    return 1
