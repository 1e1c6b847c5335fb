"""How a command ends: its exit code, its verdict, and one line on stderr where it met a fault."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from xlscale.core.files import XlscaleError, bounded

CLOSED = 141  # exit code after SIGPIPE
NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS)  # a place that may not be written, or read


def print_anything() -> None:
    """Have stdout take any text: a terminal may be of any encoding, and a file have any name."""
    if sys.stdout:
        with suppress(OSError):  # where it was a file and is a pipe now, it asks for a place in vain, and is set
            sys.stdout.reconfigure(errors="backslashreplace")


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
    print(f"{coloured(name, False, sys.stderr)}: {told}", file=sys.stderr)
    return 1


def coloured(text: str, good: bool, stream: TextIO | None) -> str:
    """``text`` in green or red on a terminal, unless NO_COLOR (no-color.org) or TERM=dumb asks for none."""
    if not (stream and stream.isatty()) or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{32 if good else 31}m{text}\x1b[0m"


def verdict(text: str, good: bool) -> str:
    """Markdown for stdout, in which the lines that begin in bold are the verdict."""
    lines = text.split("\n")
    return "\n".join(coloured(line, good, sys.stdout) if line.startswith("**") else line for line in lines)
