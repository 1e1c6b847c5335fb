"""From computed numbers to the paper: ``Numbers`` collects what one notebook made, ``build`` merges and typesets it.

A paper folder holds ``generated/<notebook>.json`` and ``figures/`` (written by the notebooks) and ``numbers.json``,
``numbers.tex`` and ``paper.pdf`` (written by ``build``). The text, ``paper/paper.typ``, holds no result of its own.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlscale.core.files import (
    PAPER,
    XlscaleError,
    XlscaleWarning,
    atomic,
    read_json,
    relative,
    sha256_file,
    write_json,
    write_text,
)

if TYPE_CHECKING:
    import pandas as pd
    from IPython.display import HTML
    from matplotlib.figure import Figure

SOURCES = ("paper.typ", "refs.bib")
_KEY = re.compile(r"[a-z0-9_]+")
# The only clock that typst can read; any fixed value makes the PDF a function of its inputs.
_TIMESTAMP = 0


class Numbers:
    """The numbers, tables and figures that one notebook makes for the paper.

    Running a notebook cell twice is harmless; giving one key two different values raises XlscaleError.
    """

    def __init__(self, source: str):
        self.source = source
        self.numbers: dict[str, dict[str, Any]] = {}
        self.tables: dict[str, dict[str, Any]] = {}
        self._figures: dict[str, Figure] = {}

    def add(self, key: str, value: float | int | str | None, text: str, unit: str = "") -> None:
        """Record a number: ``value`` for machines (None or NaN: missing), ``text`` as printed, ``unit`` for both."""
        value = value.item() if hasattr(value, "item") else value
        if isinstance(value, float) and not math.isfinite(value):
            value = None
        self._put(self.numbers, key, {"value": value, "text": text, "unit": unit})

    def table(self, name: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Record a table of strings; raises XlscaleError for a row that is not as long as the header."""
        rows = [[str(value) for value in row] for row in rows]
        for row in rows:
            if len(row) != len(header):
                where = f"{self.source}: table {name}"
                raise XlscaleError(f"{where}: expected {len(header)} columns, got {len(row)}: {row}")
        self._put(self.tables, name, {"header": list(header), "rows": rows})

    def figure(self, name: str, fig: Figure) -> None:
        """Record a figure; ``write`` saves it as SVG (for the paper) and PDF."""
        self._check(name)
        self._figures[name] = fig

    def write(self, out: Path) -> Path:
        """Write ``figures/`` and ``generated/<source>.json`` below ``out`` atomically; returns the JSON's path."""
        from xlscale.report.figures import ladder

        drawn = {}
        for name, fig in sorted(self._figures.items()):
            svg = ladder.save(fig, Path(out) / "figures" / name)
            drawn[name] = {"file": f"figures/{svg.name}", "sha256": sha256_file(svg)}
        path = Path(out) / "generated" / f"{self.source}.json"
        write_json(path, {"numbers": self.numbers, "tables": self.tables, "figures": drawn})
        return path

    def compare(self, folder: Path = PAPER) -> pd.DataFrame:
        """This run's numbers beside those of a built paper: key, paper, this run, verdict (agrees|differs|new|gone)."""
        import pandas as pd

        path = Path(folder) / "numbers.json"
        built = read_json(path)["numbers"] if path.exists() else {}
        before = {key: value for key, value in built.items() if value["source"] == self.source}
        rows = []
        for key in [*self.numbers, *(key for key in before if key not in self.numbers)]:
            old, new = before.get(key, {}).get("text"), self.numbers.get(key, {}).get("text")
            verdict = "new" if old is None else "gone" if new is None else "agrees" if old == new else "differs"
            rows.append((key, old, new, verdict))
        return pd.DataFrame(rows, columns=["key", "paper", "this run", "verdict"])

    def verdict(self, folder: Path = PAPER) -> str:
        """One line: does this run agree with the built paper?"""
        counts = self.compare(folder)["verdict"].value_counts()
        where = f"{relative(Path(folder) / 'numbers.json')}"
        if not set(counts.index) - {"new"}:
            return f"{where} has no numbers of {self.source} yet: nothing to compare with."
        if set(counts.index) == {"agrees"}:
            return f"AGREES with {where}: all {counts['agrees']} numbers of {self.source} are the same."
        parts = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
        return f"DIFFERS from {where}: {parts} (expected when this run reads another record or other code)."

    def _put(self, store: dict[str, dict[str, Any]], key: str, value: dict[str, Any]) -> None:
        self._check(key)
        if store.get(key, value) != value:
            raise XlscaleError(f"{self.source}: {key}: given twice: {store[key]} and {value}; expected one value")
        store[key] = value

    def _check(self, key: str) -> None:
        if not _KEY.fullmatch(key):
            raise XlscaleError(f"{self.source}: key {key!r}: expected lower-case letters, digits and underscores")


def listing(numbers: Numbers) -> pd.DataFrame:
    """The numbers collected so far, to look at in a notebook: key, text, unit."""
    import pandas as pd

    return pd.DataFrame(
        [(key, n["text"], n["unit"]) for key, n in numbers.numbers.items()], columns=["key", "text", "unit"]
    )


def tables(numbers: Numbers) -> HTML:
    """The tables collected so far, to look at in a notebook."""
    import pandas as pd
    from IPython.display import HTML

    drawn = (
        f"<h4>{name}</h4>" + pd.DataFrame(table["rows"], columns=table["header"]).to_html(index=False, border=0)
        for name, table in numbers.tables.items()
    )
    return HTML("".join(drawn))


def merge(folder: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """All of ``folder/generated/*.json`` as ``{"numbers"|"tables"|"figures": {key: {..., "source": notebook}}}``.

    Raises XlscaleError when nothing was generated, a key has two sources, or a figure is not what its notebook made.
    """
    paths = sorted((Path(folder) / "generated").glob("*.json"))
    if not paths:
        raise XlscaleError(f"{relative(Path(folder) / 'generated')}: no generated numbers; run the notebooks first")
    merged: dict[str, dict[str, dict[str, Any]]] = {"numbers": {}, "tables": {}, "figures": {}}
    for path in paths:
        content = read_json(path)
        for kind, store in merged.items():
            for key, value in content[kind].items():
                if key in store:
                    other = store[key]["source"]
                    raise XlscaleError(f"{relative(path)}: {key}: also made by {other}; expected one source")
                store[key] = {**value, "source": path.stem}
    for value in merged["figures"].values():
        path = Path(folder) / value["file"]
        if not path.exists() or sha256_file(path) != value["sha256"]:
            raise XlscaleError(f"{relative(path)}: not the file that {value['source']} made; run that notebook again")
    return merged


def build(out: Path = PAPER) -> Path:
    """Merge what the notebooks made below ``out``, typeset the paper, and return the path of ``paper.pdf``.

    The same inputs give the same bytes. Raises XlscaleError, and writes nothing, when ``paper.typ`` uses a key that no
    notebook made, does not compile, or has a character that the shipped fonts lack.
    """
    out = Path(out)
    merged = merge(out)
    check_glyphs([*((PAPER / name).read_text(encoding="utf-8") for name in SOURCES), *_strings(merged)])
    pdf = _typeset(merged, out)
    write_json(out / "numbers.json", merged)
    write_text(out / "numbers.tex", latex(merged))
    with atomic(out / "paper.pdf") as temporary:
        temporary.write_bytes(pdf)
    return out / "paper.pdf"


def _typeset(merged: dict[str, Any], out: Path) -> bytes:
    """Compile ``paper.typ`` beside the merged numbers in a folder of its own: no path can leak into the PDF."""
    import typst

    with tempfile.TemporaryDirectory(prefix="xlscale-paper-") as name:
        folder = Path(name)
        for source in SOURCES:
            shutil.copy(PAPER / source, folder / source)
        (folder / "numbers.json").write_text(json.dumps(merged, ensure_ascii=False, allow_nan=False), encoding="utf-8")
        for value in merged["figures"].values():
            (folder / value["file"]).parent.mkdir(exist_ok=True)
            shutil.copy(out / value["file"], folder / value["file"])
        try:
            pdf, found = typst.compile_with_warnings(
                str(folder / "paper.typ"),
                root=str(folder),
                font_paths=[str(PAPER / "fonts")],
                ignore_system_fonts=True,
                timestamp=_TIMESTAMP,
            )
        except typst.TypstError as error:
            text = str(getattr(error, "message", "") or error)
            asked = re.search(r"(number|table|figure) '([^']*)' is made by no notebook", text)
            what = asked[0] if asked else " ".join(text.split())
            raise XlscaleError(f"paper/paper.typ: {what}") from None
    for warning in found:
        warnings.warn(f"paper/paper.typ: {warning.message}", XlscaleWarning, stacklevel=3)
    return pdf


def check_glyphs(texts: Iterable[str]) -> None:
    """Raise XlscaleError naming the characters of ``texts`` that one of the shipped fonts cannot draw.

    Typst draws a missing glyph as a box, or from a font of its own, without a word.
    """
    from fontTools.ttLib import TTFont

    used = {character for text in texts for character in text if character.isprintable() and not character.isspace()}
    for path in sorted((PAPER / "fonts").glob("*.ttf")):
        missing = sorted(used - {chr(code) for code in TTFont(path, lazy=True).getBestCmap()})
        if missing:
            named = " ".join(f"{character} (U+{ord(character):04X})" for character in missing)
            raise XlscaleError(f"paper/fonts/{path.name}: no glyph for {named}; use other characters or another font")


def _strings(value: Any) -> Iterable[str]:
    """All strings inside nested lists and dictionaries."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


_TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": r"\ensuremath{-}", "×": r"\ensuremath{\times}",
    "±": r"\ensuremath{\pm}", "≤": r"\ensuremath{\leq}", "≥": r"\ensuremath{\geq}", "γ": r"\ensuremath{\gamma}",
    "–": "--", "—": "---", "\N{NO-BREAK SPACE}": "~",
}  # fmt: skip

_TEX_HEAD = r"""% Numbers of the paper for LaTeX, as in numbers.json. Made by xlscale.paper; do not edit.
% Use: \input{numbers.tex}, then \xlnumber{key} prints a number. A key that does not exist is an error.
\newcommand{\xlnumber}[1]{\ifcsname xl@#1\endcsname\csname xl@#1\endcsname
  \else\errmessage{numbers.tex has no number #1}\fi}
"""


def latex(merged: dict[str, Any]) -> str:
    r"""The text of ``numbers.tex``: a control sequence per number, by ``\csname`` as keys hold digits and ``_``."""
    lines = [_TEX_HEAD]
    for key, entry in sorted(merged["numbers"].items()):
        text = "".join(_TEX.get(character, character) for character in entry["text"])
        value = " ".join(str(entry["value"]).split())
        lines.append(f"% {entry['source']}: value {value}, unit {entry['unit'] or 'none'}")
        lines.append(rf"\expandafter\def\csname xl@{key}\endcsname{{{text}}}")
    return "\n".join(lines) + "\n"
