"""A file of predictions or labels that is being read: its text, its lines, its JSON, and faults that say where.

Reading is as fast as a plain read; where a fault lies is looked for only once there is one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xlscale.core.files import XlscaleError, read_bytes
from xlscale.core.json_text import Repeated, once, twice

LARGEST = 2**30  # bytes of a file


@dataclass(frozen=True)
class Source:
    """A file of a task in a language."""

    path: Path
    task: str
    language: str

    def fault(self, message: str, line: int | None = None) -> XlscaleError:
        """The error that names the file, the line (from 1) and the language."""
        where = f"{self.path}:{line}" if line else f"{self.path}"
        return XlscaleError(f"{where}: {self.task} in {self.language}: {message}")

    def same_length(self, found: int, labels: Source, wanted: int) -> None:
        """Raise XlscaleError if this file has ``found`` lines where the labels have ``wanted``."""
        if found != wanted:
            line = min(found, wanted) + 1
            raise self.fault(f"expected {wanted} lines as in {labels.path}, got {found}", line)

    def text(self) -> str:
        """The whole file, UTF-8, with line ends as \\n. Raises XlscaleError naming the line that is not UTF-8."""
        data = read_bytes(self.path, LARGEST)
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            raise self.fault(f"expected UTF-8, got byte 0x{error.object[error.start]:02x}", line) from None
        return text.replace("\r\n", "\n") if "\r" in text else text

    def lines(self) -> list[str]:
        """The lines, without empty ones at the end. Raises XlscaleError for an empty file."""
        rows = self.text().split("\n")
        while rows and not rows[-1].strip():
            rows.pop()
        if not rows:
            raise self.fault("the file is empty")
        return rows

    def codes(self, rows: Sequence[str], table: dict[str, int]) -> np.ndarray:
        """What ``table`` gives for each line, int16 (n,). Raises XlscaleError naming the first line not in it."""
        try:
            return np.fromiter(map(table.__getitem__, rows), np.int16, len(rows))
        except KeyError:
            stripped = [row.strip() for row in rows]
        for line, row in enumerate(stripped, 1):
            if row not in table:
                known = ", ".join(name for name in table if name)
                raise self.fault(f"unknown label {shortened(row)}: expected one of {known}", line)
        return np.fromiter(map(table.__getitem__, stripped), np.int16, len(rows))

    def mapping(self, check: Callable[[Any], str | None]) -> dict[str, Any]:
        """A JSON object whose keys are ids. Raises XlscaleError for broken JSON, another type, an id twice, and a value
        of which ``check`` says what is wrong with it."""
        text = self.text()
        pairs = self.parse(text, pairs=True)
        if not text.lstrip().startswith("{"):
            raise self.fault("expected a JSON object from id to prediction")
        found = dict(pairs)
        if len(found) < len(pairs):
            again = twice(key for key, _ in pairs)
            raise self.fault(f"duplicate id {again!r}", line_of(text, again, occurrence=2))
        for key, value in found.items():
            if message := check(value):
                raise self.fault(f"id {key!r}: {message}", line_of(text, key))
        return found

    def parse(self, text: str, pairs: bool = False, line: int | None = None) -> Any:
        """JSON from the file's text, or from that of its ``line``; objects become lists of pairs if ``pairs``.

        Else a key that an object has twice is a fault.
        """
        try:
            return json.loads(text, object_pairs_hook=list if pairs else once)
        except json.JSONDecodeError as error:
            raise self.fault(f"not valid JSON ({error.msg})", (line or 1) + error.lineno - 1) from None
        except Repeated as error:
            raise self.fault(f"expected the key {shortened(error.key)} once in an object", line) from None
        except ValueError:
            raise self.fault("not valid JSON (a number of thousands of digits)", line) from None
        except RecursionError:
            raise self.fault("not valid JSON (nested too deep)", line) from None


def line_of(text: str, key: str, occurrence: int = 1) -> int | None:
    """The line (from 1) of the ``occurrence``-th time that a JSON string occurs; None where it is written otherwise."""
    for written in {json.dumps(key), json.dumps(key, ensure_ascii=False)}:
        position = -1
        for _ in range(occurrence):
            position = text.find(written, position + 1)
            if position < 0:
                break
        else:
            return text.count("\n", 0, position) + 1
    return None


def same_ids(predictions: Source, predicted: dict[str, Any], labels: Source, gold: dict[str, Any]) -> None:
    """Raise XlscaleError naming an id that only the labels or only the predictions have."""
    if predicted.keys() == gold.keys():
        return
    lacking, beyond = [key for key in gold if key not in predicted], [key for key in predicted if key not in gold]
    if lacking:
        line = line_of(labels.text(), lacking[0])
        where = f"line {line} of {labels.path}" if line else f"{labels.path}"
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise predictions.fault(f"no prediction for id {lacking[0]!r} ({where}){more}")
    more = f" (and {len(beyond) - 1} more)" if len(beyond) > 1 else ""
    raise predictions.fault(
        f"unknown id {beyond[0]!r}{more}: expected the ids of {labels.path}", line_of(predictions.text(), beyond[0])
    )


def shortened(value: Any) -> str:
    """A value for a message of one line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
