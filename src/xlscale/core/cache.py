"""Tables that follow from data and code alone: computed once, then kept on disk for as long as both are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pandas as pd
from filelock import FileLock

from xlscale.core import fingerprint
from xlscale.core.files import CACHE, atomic, digest
from xlscale.core.seals import seal, sealed


def table(name: str, follows_from: Any, make: Callable[[], pd.DataFrame], parts: Iterable[str] = ()) -> pd.DataFrame:
    """What ``make`` returns, read from the cache where it was computed from the same data by the same code.

    ``follows_from``: the data it depends on, as JSON can hold it. The code is that of the module which defines ``make``
    (of a partial, its function) and of all that it imports, with the versions of the libraries among it; ``parts`` are
    modules that are chosen by name, see ``core.registry``. A file that is not as it was written is made again.
    """
    function = make.func if isinstance(make, partial) else make
    code = fingerprint.of_modules([function.__module__, *parts])
    path = CACHE / "tables" / f"{name}-{digest([follows_from, code])[:16]}.parquet"
    if not sealed(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):  # who asks while it is computed waits for it
            if not sealed(path):
                with atomic(path) as temporary:
                    make().to_parquet(temporary, index=False)
                    seal(path, temporary)
    return pd.read_parquet(path)
