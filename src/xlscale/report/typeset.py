"""From ``Numbers`` to the paper: ``build`` merges what the notebooks made and typesets it.

A paper folder holds ``generated/<notebook>.json`` and ``figures/`` (written by ``Numbers.write``) and ``numbers.json``,
``numbers.tex`` and ``paper.pdf`` (written here). The text, ``paper/paper.typ`` and what it includes, contains no result
of its own.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from xlscale.core.files import (
    NOTEBOOKS,
    PAPER,
    XlscaleError,
    XlscaleWarning,
    atomic,
    digest,
    read_json,
    relative,
    sha256_file,
    write_json,
    write_text,
)
from xlscale.core.format import listing
from xlscale.core.strict import Below, Sha256, Strict, parse
from xlscale.report import behind

MAIN = "paper.typ"  # which includes the other ``.typ`` files
BIBLIOGRAPHY = "refs.bib"
NUMBERS = "numbers.json"
NAMED = 5  # of what differs
CALLED = {"figures": "Figure", "tables": "Table"}  # in the paper
KINDS = ("numbers", *CALLED)  # what a notebook makes for it
# The only clock that typst can read; any fixed value makes the PDF a function of its inputs.
_TIMESTAMP = 0


Key = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]


class Number(Strict):
    """A number of a notebook: for machines, and as printed."""

    value: float | int | str | None
    text: str
    unit: str


class Table(Strict):
    """A table of a notebook, of texts."""

    header: list[str]
    rows: list[list[str]]


class Figure(Strict):
    """A drawn figure, below the paper's folder."""

    file: Below
    sha256: Sha256


class Generated(Strict):
    """What ``Numbers.write`` leaves in ``generated/``, and what a step adds: what it was made from."""

    numbers: dict[Key, Number]
    tables: dict[Key, Table]
    figures: dict[Key, Figure]
    made_from: dict[str, str] = {}


def generated(path: Path) -> dict[str, Any]:
    """What a notebook made. Raises XlscaleError naming file and field where it is not ``Generated``."""
    content = read_json(path)
    parse(Generated, content, relative(path))
    return content


def merge(folder: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """All of ``folder/generated/*.json`` as ``{"numbers"|"tables"|"figures": {key: {..., "source": notebook}}}``; of a
    table or figure that is made from recorded runs, ``runs`` names their study.

    Raises XlscaleError when nothing was generated, a file is of no notebook or not as one leaves it, a key has two
    sources, or a figure is not what its notebook made.
    """
    paths = sorted((Path(folder) / "generated").glob("*.json"))
    for path in paths:
        if not (NOTEBOOKS / f"{path.stem}.ipynb").exists():
            raise XlscaleError(f"{relative(path)}: expected numbers of a notebook in {relative(NOTEBOOKS)}/; remove it")
    if not paths:
        raise XlscaleError(f"{relative(Path(folder) / 'generated')}: no generated numbers; run the notebooks first")
    merged: dict[str, dict[str, dict[str, Any]]] = {"numbers": {}, "tables": {}, "figures": {}}
    for path in paths:
        content = generated(path)
        for kind, store in merged.items():
            for key, value in content[kind].items():
                if key in store:
                    other = store[key]["source"]
                    raise XlscaleError(f"{relative(path)}: {key}: also made by {other}; expected one source")
                runs = {} if kind == "numbers" else _runs(path.stem, key)
                store[key] = {**value, "source": path.stem, **runs}
    for value in merged["figures"].values():
        path = Path(folder) / value["file"]
        if not path.is_file() or sha256_file(path) != value["sha256"]:
            raise XlscaleError(f"{relative(path)}: not the file that {value['source']} made; run that notebook again")
    return merged


def _runs(notebook: str, name: str) -> dict[str, str]:
    study = behind.runs(notebook, name)
    return {"runs": study} if study else {}


def build(out: Path = PAPER) -> str:
    """Merge what the notebooks made below ``out``, typeset the paper, and say what of it is other than it was.

    The same inputs give the same bytes. Raises XlscaleError, and writes nothing, when the text uses a key that no
    notebook made, does not compile, or has a character that the shipped fonts lack.
    """
    out = Path(out)
    merged = merge(out)
    check_glyphs([*(path.read_text(encoding="utf-8") for path in sources()), *_strings(merged)])
    before = built(out)
    pdf, places = _typeset(merged, out)
    for one in places:
        merged[f"{one['kind']}s"][one["name"]]["number"] = one["number"]
    write_json(out / NUMBERS, merged | {"text": _of_text()})
    write_text(out / "numbers.tex", latex(merged))
    with atomic(out / "paper.pdf") as temporary:
        temporary.write_bytes(pdf)
    return _compared(before, merged)


def _compared(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Which numbers, tables and figures are other than they were, whatever their place in the paper."""
    old, new = (
        {(kind, name): {**own, "number": None} for kind in KINDS for name, own in one.get(kind, {}).items()}
        for one in (before, now)
    )
    counts = listing(f"{len(now[kind])} {kind}" for kind in KINDS)
    if not old:
        return counts
    other = sorted(name for kind, name in old.keys() | new.keys() if old.get((kind, name)) != new.get((kind, name)))
    if not other:
        return f"all {counts} are as they were"
    named = ", ".join([*other[:NAMED], *(["..."] if len(other) > NAMED else [])])
    return f"{len(other)} of {counts} are other than they were: {named}"


def of_this_text(out: Path = PAPER) -> bool:
    """Whether the paper in ``out`` was built from the present text, as far as it says so."""
    return built(out).get("text") in (None, _of_text())


def _of_text() -> str:
    """Hex sha256 of the paper's text."""
    return digest({str(path.relative_to(PAPER)): sha256_file(path) for path in sources()})


def sources() -> list[Path]:
    """The texts of the paper: every ``.typ`` file of its folder, and the references."""
    return [*sorted(PAPER.rglob("*.typ")), PAPER / BIBLIOGRAPHY]


def shown(out: Path) -> dict[tuple[str, int], str]:
    """("figures" or "tables", number) -> name, of what the paper that was built in ``out`` shows, in its order."""
    made = built(out)
    entries = ((kind, *one) for kind in CALLED for one in made.get(kind, {}).items())
    return dict(sorted(((kind, entry["number"]), name) for kind, name, entry in entries if "number" in entry))


def built(out: Path) -> dict[str, Any]:
    """What the paper in ``out`` was last built from; nothing where there is none."""
    return read_json(path) if (path := Path(out) / NUMBERS).exists() else {}


def _typeset(merged: dict[str, Any], out: Path) -> tuple[bytes, list[dict[str, Any]]]:
    """Compile the paper; what typst has to say of it is a warning or an error of ours. Gives the PDF, and kind, name
    and number of every table and figure of a notebook in it."""
    import typst

    with _laid_out(merged, out) as folder:
        try:
            compiler = typst.Compiler(str(folder / MAIN), **_where(folder))
            pdf, found = compiler.compile_with_warnings(timestamp=_TIMESTAMP)
            made = json.loads(compiler.query("<made>", field="value"))
        except typst.TypstError as error:
            text = str(getattr(error, "message", "") or error)
            unknown = re.search(r"(number|table|figure) '([^']*)' is made by no notebook", text)
            what = unknown[0] if unknown else " ".join(text.split())
            raise XlscaleError(f"paper/{MAIN}: {what}") from None
    for warning in found:
        warnings.warn(f"paper/{MAIN}: {warning.message}", XlscaleWarning, stacklevel=3)
    return pdf, made


def marked(label: str, out: Path = PAPER) -> list[Any]:
    """The values that the paper built from ``out`` marks with ``<label>``, in the order in which they stand there."""
    import typst

    with _laid_out(merge(Path(out)), Path(out)) as folder:
        found = typst.query(str(folder / MAIN), f"<{label}>", field="value", **_where(folder))
    return json.loads(found)


@contextmanager
def _laid_out(merged: dict[str, Any], out: Path) -> Iterator[Path]:
    """The texts beside the merged numbers, in a folder of its own: no path can leak into the PDF."""
    with tempfile.TemporaryDirectory(prefix="xlscale-paper-") as name:
        folder = Path(name)
        for source in sources():
            place = folder / source.relative_to(PAPER)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, place)
        (folder / "numbers.json").write_text(json.dumps(merged, ensure_ascii=False, allow_nan=False), encoding="utf-8")
        for value in merged["figures"].values():
            (folder / value["file"]).parent.mkdir(exist_ok=True)
            shutil.copy(out / value["file"], folder / value["file"])
        yield folder


def _where(folder: Path) -> dict[str, Any]:
    """What typst may read: this folder, and the shipped fonts."""
    return {"root": str(folder), "font_paths": [str(PAPER / "fonts")], "ignore_system_fonts": True}


def check_glyphs(texts: Iterable[str]) -> None:
    """Raise XlscaleError naming the characters of ``texts`` that one of the shipped fonts cannot draw.

    Typst silently draws a missing glyph as a box, or from a font of its own.
    """
    used = {character for text in texts for character in text if character.isprintable() and not character.isspace()}
    for path in sorted((PAPER / "fonts").glob("*.ttf")):
        missing = sorted(used - _drawn_by(path))
        if missing:
            named = " ".join(f"{character} (U+{ord(character):04X})" for character in missing)
            raise XlscaleError(f"paper/fonts/{path.name}: no glyph for {named}; use other characters or another font")


def check_titles(titles: Mapping[str, str]) -> None:
    """Raise XlscaleError naming the place of a title, the key, that one of the shipped fonts cannot draw."""
    for place, title in titles.items():
        try:
            check_glyphs([title])
        except XlscaleError as error:
            raise XlscaleError(f"{place}: title: {error}") from None


@cache  # a table of scores is asked about field by field
def _drawn_by(font: Path) -> frozenset[str]:
    from fontTools.ttLib import TTFont

    return frozenset(chr(code) for code in TTFont(font, lazy=True).getBestCmap())


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

_TEX_HEAD = r"""% Numbers of the paper for LaTeX, as in numbers.json. Made by xlscale.report.typeset; do not edit.
% Use: \input{numbers.tex}, then \xlnumber{key} prints a number. A key that does not exist is an error.
\newcommand{\xlnumber}[1]{\ifcsname xl@#1\endcsname\csname xl@#1\endcsname
  \else\errmessage{numbers.tex has no number #1}\fi}
"""


def latex(merged: dict[str, Any]) -> str:
    r"""The text of ``numbers.tex``: a control sequence per number, by ``\csname`` as keys contain digits and ``_``."""
    lines = [_TEX_HEAD]
    for key, entry in sorted(merged["numbers"].items()):
        text = "".join(_TEX.get(character, character) for character in entry["text"])
        value = " ".join(str(entry["value"]).split())
        lines.append(f"% {entry['source']}: value {value}, unit {entry['unit'] or 'none'}")
        lines.append(rf"\expandafter\def\csname xl@{key}\endcsname{{{text}}}")
    return "\n".join(lines) + "\n"
