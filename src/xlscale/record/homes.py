"""Which record a cell is in: the published one, or one beside a study of the user's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from xlscale.core.files import RESULTS, XlscaleError, one_line, relative
from xlscale.experiment import studies
from xlscale.record.store import CELLS


def records() -> Iterator[Path]:
    """The folders of all records, that of this command first."""
    yield RESULTS
    for name in studies.names():
        try:
            moved = studies.workplace(name)
        except XlscaleError:  # who asks for that study is told
            continue
        folder = Path(moved.get("XLSCALE_RESULTS", RESULTS))
        if folder != RESULTS and (folder / CELLS).exists():
            yield folder


def of(cell_id: str) -> Path:
    """The folder of the first record that holds a cell; RESULTS where none does."""
    return next((folder for folder in records() if cell_id in ids(folder)), RESULTS)


def ids(folder: Path) -> set[str]:
    """Ids of the cells of a record, also of those that do not count. Raises XlscaleError for one that is broken."""
    path = folder / CELLS
    if not path.exists():
        return set()
    try:
        return {*pq.read_table(path, columns=["cell"])["cell"].to_pylist()}
    except (pa.ArrowException, KeyError, OSError) as error:
        raise XlscaleError(f"{relative(path)}: not a readable record ({one_line(error)})") from None
