"""When a training writes what it can go on from, and how a process learns that its time is over.

Two environment variables say it, and they are no part of a cell's identity. Without the first nothing is written, and a
process that is told to end ends at once.
"""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from xlscale.core.files import XlscaleError

EVERY = "XLSCALE_RESUME_MINUTES"  # minutes between two states
DEADLINE = "XLSCALE_DEADLINE"  # when this process will be killed, in seconds since 1970: a state is written before
GRACE = 20.0  # seconds to write a state in, for who is told to end; a cluster kills after 30


class When(NamedTuple):
    """Seconds between two states, and the deadline in seconds since 1970, if any."""

    every: float
    deadline: float | None


def when() -> When | None:
    """When states are written; None for never. Raises XlscaleError for what is no time."""
    every, deadline = _number(EVERY, "minutes"), _number(DEADLINE, "seconds since 1970")
    return None if every is None else When(60 * every, deadline)


def _number(name: str, unit: str) -> float | None:
    if not (text := os.environ.get(name)):
        return None
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 < found < math.inf:
        raise XlscaleError(f"{name}: expected a number of {unit} above 0, got {text!r}")
    return found


@contextmanager
def hearing(tell: Callable[[int], object]) -> Iterator[None]:
    """Inside the block SIGTERM is told instead of doing what it does otherwise. Only a main thread hears it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: tell(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
