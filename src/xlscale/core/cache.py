"""Tables that follow from data and code alone: computed once, then kept on disk for as long as both are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd

from xlscale.core import fingerprint
from xlscale.core.files import CACHE, atomic, digest


def table(name: str, follows_from: Any, modules: Iterable[str], make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """What ``make`` returns, from ``name`` in the cache where it was made of the same before.

    ``follows_from``: all that it depends on besides ``modules`` of this package, as JSON can hold it. A file that
    cannot be read is made again.
    """
    path = CACHE / "tables" / f"{name}-{digest([follows_from, fingerprint.of_modules(modules)])[:16]}.parquet"
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError):  # not there, or not whole
        found = make()
    with atomic(path) as temporary:
        found.to_parquet(temporary, index=False)
    return found
