"""Bars that show how far a loop has come: in a notebook that is worked in, and on a terminal; nowhere else."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from xlscale.core.files import CELL_FOLDER

if TYPE_CHECKING:
    from tqdm import tqdm


def bar(items: Iterable[Any] | None = None, **said: Any) -> tqdm:
    """``items`` with tqdm's bar, whose arguments ``said`` are. What a runner executes shows none: it would be part of
    the executed notebook."""
    if _worked_in():
        from tqdm.notebook import tqdm

        return tqdm(items, **said)
    from tqdm import tqdm

    return tqdm(items, mininterval=5, disable=None, **said)


def _worked_in() -> bool:
    """Whether a kernel asks for this, and no runner."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return hasattr(shell, "kernel") and CELL_FOLDER not in os.environ
