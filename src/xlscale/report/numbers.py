"""``Numbers``: what one notebook makes for the paper, compared with what the paper says already.

A paper folder holds ``generated/<notebook>.json`` and ``figures/``, written here, and what ``typeset`` makes of them.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from xlscale.core.files import BUILT, XlscaleError, read_json, relative, sha256_file, write_json
from xlscale.report.figures import style

if TYPE_CHECKING:
    from IPython.display import HTML, SVG
    from matplotlib.figure import Figure

_KEY = re.compile(r"[a-z0-9_]+")
_DIGITS = 10  # significant: sums come out differently in the last few of 16


# What a paper has of a notebook -> the fields that a run has to give again.
FIELDS = {"numbers": ("text", "value", "unit"), "tables": ("header", "rows"), "figures": ("sha256",)}


def _beside(kind: str, before: dict[str, Any] | None, now: dict[str, Any] | None) -> tuple[str | None, str | None, str]:
    """One number, table or figure of a paper and of a run, as texts, and the verdict."""
    sides = [None if one is None else [one[field] for field in FIELDS[kind]] for one in (before, now)]
    verdict = "new" if before is None else "gone" if now is None else "agrees" if sides[0] == sides[1] else "differs"
    told = [None if side is None else _told(kind, *side) for side in sides]
    if verdict == "differs" and told[0] == told[1]:  # in what is not printed
        told = [f"{text} ({', '.join(map(str, side[1:]))})" for text, side in zip(told, sides, strict=True)]
    return *told, verdict


def _told(kind: str, first: Any, *rest: Any) -> str:
    """What there is room for in a table."""
    return first if kind == "numbers" else f"{len(rest[0])} rows" if kind == "tables" else first[:12]


class Numbers:
    """The numbers, tables and figures that one notebook makes for the paper.

    Running a notebook cell twice is harmless; giving one key two different values raises XlscaleError.
    """

    def __init__(self, source: str):
        self.source = source
        self.numbers: dict[str, dict[str, Any]] = {}
        self.tables: dict[str, dict[str, Any]] = {}
        self._figures: dict[str, dict[str, bytes]] = {}

    def add(self, key: str, value: float | int | str | None, text: str, unit: str = "") -> None:
        """Record a number: ``value`` for machines (None or NaN: missing), ``text`` as printed, ``unit`` for both.

        Of a value as many digits are kept as processors of all types agree on.
        """
        value = value.item() if hasattr(value, "item") else value
        if isinstance(value, float):
            value = float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
        self._put(self.numbers, key, {"value": value, "text": text, "unit": unit})

    def count(self, key: str, value: int, unit: str = "") -> None:
        """Record a whole number, printed with separators of thousands."""
        self.add(key, int(value), f"{int(value):,}", unit)

    def words(self, key: str, text: str, unit: str = "") -> None:
        """Record a text that stands for no single number."""
        self.add(key, None, text, unit)

    def table(self, name: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Record a table of strings; raises XlscaleError for a row that is not as long as the header."""
        rows = [[str(value) for value in row] for row in rows]
        for row in rows:
            if len(row) != len(header):
                where = f"{self.source}: table {name}"
                raise XlscaleError(f"{where}: expected {len(header)} columns, got {len(row)}: {row}")
        self._put(self.tables, name, {"header": list(header), "rows": rows})

    def figure(self, name: str, fig: Figure) -> SVG:
        """Record a figure, which ``write`` saves as SVG (for the paper) and PDF; returns it for the notebook."""
        self._check(name)
        self._figures[name] = style.draw(fig)
        return style.show(self._figures[name])

    def write(self, out: Path) -> Path:
        """Write ``figures/`` and ``generated/<source>.json`` below ``out`` atomically; returns the JSON's path."""
        drawn = {}
        for name, content in sorted(self._figures.items()):
            svg = style.save(content, Path(out) / "figures" / name)
            drawn[name] = {"file": f"figures/{svg.name}", "sha256": sha256_file(svg)}
        path = Path(out) / "generated" / f"{self.source}.json"
        write_json(path, {"numbers": self.numbers, "tables": self.tables, "figures": drawn})
        return path

    def compare(self, folder: Path = BUILT) -> pd.DataFrame:
        """What this run makes beside what a built paper holds: kind (of FIELDS), key, paper, this run, verdict
        (agrees|differs|new|gone)."""
        path = Path(folder) / "numbers.json"
        built = read_json(path) if path.exists() else {"numbers": {}}
        drawn = {name: {"sha256": hashlib.sha256(made["svg"]).hexdigest()} for name, made in self._figures.items()}
        rows = []
        try:
            for kind, here in zip(FIELDS, (self.numbers, self.tables, drawn), strict=True):
                every = built["numbers"] if kind == "numbers" else built.get(kind, {})
                before = {key: one for key, one in every.items() if one["source"] == self.source}
                for key in [*here, *(key for key in before if key not in here)]:
                    rows.append((kind, key, *_beside(kind, before.get(key), here.get(key))))
        except (LookupError, TypeError, AttributeError):
            raise XlscaleError(f"{relative(path)}: numbers: expected source and text of each") from None
        return pd.DataFrame(rows, columns=["kind", "key", "paper", "this run", "verdict"])

    def verdict(self, folder: Path = BUILT) -> str:
        """One line: does this run agree with the built paper, in all numbers, tables and figures?"""
        found = self.compare(folder)
        counts, where = found["verdict"].value_counts(), relative(Path(folder) / "numbers.json")
        if not set(counts.index) - {"new"}:
            return f"{where} has no numbers of {self.source} yet: nothing to compare with."
        if set(counts.index) == {"agrees"}:
            there = [f"{(found['kind'] == kind).sum()} {kind}" for kind in FIELDS]
            return f"AGREES with {where}: all {', '.join(there[:2])} and {there[2]} of {self.source} are the same."
        parts = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
        return f"DIFFERS from {where}: {parts} (expected when this run reads another record or other code)."

    def show_numbers(self) -> pd.DataFrame:
        """The numbers recorded so far, to look at in a notebook: key, text, unit."""
        rows = [(key, number["text"], number["unit"]) for key, number in self.numbers.items()]
        return pd.DataFrame(rows, columns=["key", "text", "unit"])

    def show_tables(self) -> HTML:
        """The tables recorded so far, to look at in a notebook."""
        from IPython.display import HTML

        drawn = (
            f"<h4>{name}</h4>" + pd.DataFrame(table["rows"], columns=table["header"]).to_html(index=False, border=0)
            for name, table in self.tables.items()
        )
        return HTML("".join(drawn))

    def _put(self, store: dict[str, dict[str, Any]], key: str, value: dict[str, Any]) -> None:
        self._check(key)
        if store.get(key, value) != value:
            raise XlscaleError(f"{self.source}: {key}: given twice: {store[key]} and {value}; expected one value")
        store[key] = value

    def _check(self, key: str) -> None:
        if not _KEY.fullmatch(key):
            raise XlscaleError(f"{self.source}: key {key!r}: expected lower-case letters, digits and underscores")
