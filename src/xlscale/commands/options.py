"""What a verb is, and the options that several of them have. Imports next to nothing, so that help answers at once."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from xlscale.core.arguments import check_place
from xlscale.core.registry import PARTS

BEGUN = ".begun"  # in a folder that is being written
LARGEST = 10**9 - 1  # of a number that an option takes


def positive(text: str) -> int:
    """A number of at least 1. Raises ArgumentTypeError for anything else."""
    return _number(text, 1)


def count(text: str) -> int:
    """A number of at least 0. Raises ArgumentTypeError for anything else."""
    return _number(text, 0)


def _number(text: str, least: int) -> int:
    if re.fullmatch(r"[0-9]{10,}", text):
        raise argparse.ArgumentTypeError(f"expected a number of at most {LARGEST}, got {text!r}")
    if not re.fullmatch(r"[0-9]+", text) or int(text) < least:
        raise argparse.ArgumentTypeError(f"expected a number of at least {least}, got {text!r}")
    return int(text)


def check_out(folder: Path, named: str, expected: str = "a new folder or an empty one") -> None:
    """Raise XlscaleError unless an output is a new folder, or an empty one, in a place where one can be.

    ``named``: the output as its user gave it; ``expected``: what to say where the caller takes others as well.
    """
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        from xlscale.core.files import XlscaleError

        raise XlscaleError(f"{named}: expected {expected}")
    check_place(folder, named)


@contextmanager
def begun(folder: Path, named: str) -> Iterator[None]:
    """Write into a folder while the block runs. Raises XlscaleError where another command does: each would write over
    what the other has written."""
    from xlscale.core.files import XlscaleError

    folder.mkdir(parents=True, exist_ok=True)
    try:
        (folder / BEGUN).touch(exist_ok=False)
    except FileExistsError:
        raise XlscaleError(f"{named}: expected a folder that no other command writes to") from None
    try:
        yield
    finally:
        (folder / BEGUN).unlink(missing_ok=True)


def stated(fields: str) -> dict[str, str]:
    """Text by name, of "source_key=mine; params=8B". Blanks around a text do not count, but for those that end a
    model's prefix. Raises XlscaleError for a name twice or without a value."""
    # A text may have a semicolon: one that ends a field stands before the next one's name.
    split = [part for part in re.split(r";\s*(?=\w+\s*=|$)", fields) if part.strip()]
    sides = [(name.strip(), text) for name, _, text in (part.partition("=") for part in split)]
    parts = [(name, text.lstrip() if name == "prefix" else text.strip()) for name, text in sides]
    for name, text in parts:
        if not text or [one for one, _ in parts].count(name) > 1:
            from xlscale.core.files import XlscaleError

            raise XlscaleError(f"SET: {name}: expected a value, once, as in 'source_key=mine; params=8B'")
    return dict(parts)


class Verb(NamedTuple):
    """``name``: "verb" or "group verb"; ``does``: what follows "it will ..."; ``options``: of ``add_argument``."""

    name: str
    does: str
    example: str
    call: str  # "module:function" below ``xlscale``
    options: tuple[tuple[str, dict[str, Any]], ...] = ()


Option = tuple[str, dict[str, Any]]
STUDY: Option = ("--study", {"default": "pilot", "help": "name of a file in studies/ (default: pilot)"})
JOBS: Option = ("--jobs", {"type": positive, "help": "cells at a time (default: as many as cores and memory allow)"})
# Of verbs that know their cells: without a number, each plans its own.
JOBS_PLANNED: Option = (
    "--jobs",
    {
        "type": positive,
        "help": "cells at a time (default: as many as cores and the memory that they are planned to take allow); on a "
        "cluster, jobs in its queue at a time (default: as the profile says)",
    },
)
PROFILE: Option = (
    "--profile",
    {
        "default": "local",
        "metavar": "NAME",
        "help": "where cells run: local, slurm, or the path of a folder with a profile of Snakemake's (default: local)",
    },
)
FIGURE: Option = ("--figure", {"type": positive, "metavar": "N", "help": "the cells behind this figure of the paper"})
TABLE: Option = ("--table", {"type": positive, "metavar": "N", "help": "or behind this table"})
HARDWARE: Option = ("--hardware", {"help": "name of a file in data_manifest/hardware/ (default: an H100)"})
METHOD: Option = (
    "--method",
    {"choices": [*PARTS["method"]], "help": "as if every training were by it (default: the study's)"},
)
REFERENCE: Option = (
    "--reference",
    {"action": "store_true", "help": "by the recipes that the cards of targets have, on all rows, with three seeds"},
)
KIND: Option = (
    "kind",
    {
        "nargs": "?",
        "default": "all",
        "choices": ["all", "studies", "models", "tasks", "intermediate", "objectives", "methods", "verbs"],
        "help": "of which kind (default: all)",
    },
)
CELLS: Option = (
    "--cells",
    {
        "choices": ["stated", "all"],
        "default": "stated",
        "help": "which cells to recompute: those that the study states, or all (default: stated)",
    },
)
SOURCE: Option = (
    "--source",
    {
        "choices": ["record", "fresh"],
        "default": "record",
        "help": "build the paper from the record, in paper/, or from all cells as computed on this machine, in "
        "reproduction/paper/ (default: record)",
    },
)
OUT: Option = ("--out", {"required": True, "metavar": "FOLDER", "help": "a new folder, or an empty one"})
FIELDS: Option = (
    "--set",
    {
        "dest": "fields",
        "default": "",
        "metavar": "FIELDS",
        "help": "what the file does not say: 'name=value; another=another value'",
    },
)
ONE: Option = (
    "cell_id",
    {"metavar": "ID", "help": "of a cell that is recorded or was run here; its start or its hash will do"},
)
CARDS: Option = (
    "cards",
    {"nargs": "*", "metavar": "CARD", "help": "name of a card in data_manifest/: data/, sources/ or models/"},
)
OF_STUDY: Option = ("--study", {"help": "instead of cards: all data and models that this study reads"})
PROMPT: tuple[Option, ...] = (
    ("cell_id", {"metavar": "ID", "help": "of a cell that was run here; its start or its hash will do"}),
    (
        "--tasks",
        {
            "nargs": "+",
            "required": True,
            "metavar": "TASK",
            "help": "tasks of the harness; what they read has to be on this machine, where --fetch puts it",
        },
    ),
    ("--shots", {"type": count, "help": "examples in a prompt (default: as each task has it, mostly none)"}),
    ("--limit", {"type": positive, "help": "items of each task, to try it out (default: all)"}),
    ("--batch", {"type": positive, "default": 8, "help": "inputs at a time (default: 8)"}),
    (
        "--include",
        {
            "default": "",
            "metavar": "FOLDER",
            "help": "of further tasks, YAML of the harness, which can name code to run",
        },
    ),
    ("--fetch", {"action": "store_true", "help": "let the harness download what its tasks read"}),
    ("--keep", {"action": "store_true", "help": "keep the model, in prompted/model/ of the cell's folder"}),
)
