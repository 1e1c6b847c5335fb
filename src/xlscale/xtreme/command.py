"""The command line: ``python -m xlscale.score``. A fault ends in one line and exit code 1."""

from __future__ import annotations

import argparse
import os
import shlex
from functools import partial
from pathlib import Path
from typing import Any

from xlscale.core.arguments import Parser, check_place
from xlscale.core.ending import exit_code, print_anything
from xlscale.core.files import XlscaleError, leads_into, writable, write_json
from xlscale.xtreme import benchmark, report
from xlscale.xtreme.benchmark import Benchmark
from xlscale.xtreme.folders import score_folders


class _Parser(Parser):
    name = "xlscale.score"


def main(arguments: list[str]) -> int:
    """Score, print the table, write the JSON; 0 if all is well, 1 after a fault."""
    parser = _Parser(prog="xlscale.score", description=__doc__, allow_abbrev=False)
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--predictions", type=Path, help="folder with <task>/test-<language>.<ext>")
    given.add_argument("--paired", type=Path, nargs=2, metavar=("A", "B"), help="two of them, to be compared")
    parser.add_argument("--labels", type=Path, required=True, help="the same with the true labels")
    parser.add_argument("--benchmark", default="xtreme-r", help="xtreme-r, xtreme, or a .yaml file like theirs")
    parser.add_argument("--tasks", nargs="+", default=[], metavar="TASK", help="some tasks (default: all)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all scores, unrounded, to this file")
    parser.add_argument("--allow-missing", action="store_true", help="mark missing files instead of stopping")
    parser.add_argument(
        "--options", default="", metavar="TEXT", help="more of these options, as a shell would have them"
    )
    options = parser.parse_args(arguments)
    try:
        if more := shlex.split(options.options):
            if any(one.partition("=")[0] == "--options" for one in more):  # of which nobody would look into
                raise ValueError("expected others than itself")
            options = parser.parse_args([*arguments, *more])
    except ValueError as error:
        parser.error(f"argument --options: {error}, got {options.options!r}")
    print_anything()
    return exit_code(partial(_score, options), _Parser.name)


def _score(options: argparse.Namespace) -> None:
    if options.json:
        writable(options.json)
        check_place(options.json, f"--json {options.json}")
        scored = filter(None, [options.predictions, *(options.paired or ()), options.labels])
        if folder := leads_into(options.json, scored):
            raise XlscaleError(f"--json {options.json}: expected a place outside {folder}, which is scored")
        if os.path.realpath(options.json) == os.path.realpath(options.benchmark):
            raise XlscaleError(f"--json {options.json}: expected another file than the benchmark's description")
    description = benchmark.load(options.benchmark)
    text, values = (_compared if options.paired else _scored)(description, options)
    if options.json:
        write_json(options.json, values)
    print(text, end="")


def _scored(description: Benchmark, options: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    scores = score_folders(
        description, options.predictions, options.labels, options.tasks, allow_missing=options.allow_missing
    )
    return report.table(scores), report.document(scores)


def _compared(description: Benchmark, options: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    from xlscale.xtreme import paired  # imports statsmodels, which takes a second

    both = tuple(options.paired)
    found = paired.compare_folders(description, both, options.labels, options.tasks, options.allow_missing)
    return paired.table(found, both), paired.document(found)
