"""The command line behind the Makefile: ``python -m xlscale <verb>``. Faults end in one line and exit code 1."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from xlscale.engine import fork_server, processes

if TYPE_CHECKING:
    import argparse


def _parser() -> argparse.ArgumentParser:
    import argparse

    parser = argparse.ArgumentParser(prog="xlscale", description=__doc__, allow_abbrev=False)
    verbs = parser.add_subparsers(dest="verb", required=True)
    jobs = {"type": _positive, "default": None, "help": "cells at a time (default: as many as cores and memory allow)"}
    study = {"default": "pilot", "help": "name of a file in studies/ (default: pilot)"}

    verb = verbs.add_parser("reproduce", help="recompute, check, rebuild the paper, compare with the record")
    verb.add_argument("--cells", choices=["stated", "all"], default="stated")
    verb.add_argument("--source", choices=["record", "fresh"], default="record")
    verb.add_argument("--study", **study)
    verb.add_argument("--jobs", **jobs)

    verb = verbs.add_parser("verify", help="recompute random recorded cells")
    verb.add_argument("--n", type=_positive, default=3)
    verb.add_argument("--seed", type=int, default=1)
    verb.add_argument("--study", **study)
    verb.add_argument("--jobs", **jobs)

    for name, text in [("sweep", "run a study"), ("record", "run a study and record it"), ("canary", "stamp new code")]:
        verb = verbs.add_parser(name, help=text)
        verb.add_argument("--study", **study)
        verb.add_argument("--jobs", **jobs)

    verbs.add_parser("tune", help="choose learning rates").add_argument("--jobs", **jobs)
    verb = verbs.add_parser("heal", help="distil the cut rungs of a model to the whole one, and judge them")
    verb.add_argument("--model", default="e5_small_healed", help="name of a card in data_manifest/models/")
    verb.add_argument("--jobs", **jobs)
    verbs.add_parser("run", help="run one cell").add_argument("id")
    verbs.add_parser("plan", help="list the cells of a study").add_argument("--study", **study)
    verbs.add_parser("paper", help="rebuild the paper from the record").add_argument("--study", **study)
    verbs.add_parser("add-source", help="add published scores from a CSV file").add_argument("file")
    return parser


def _positive(text: str) -> int:
    import argparse

    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text}")
    return value


def _default_jobs() -> int:
    """One cell per core that this process may use, and no more than 2 GB of free memory allow each."""
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, int(psutil.virtual_memory().available // 2e9)))


def _dispatch(options: argparse.Namespace) -> bool:
    # Imported late, so that help and bad options are answered at once.
    if options.verb == "run":
        from xlscale.engine import runner

        runner.main(options.id)
        return True
    if options.verb == "add-source":
        from xlscale.published import sources

        print(sources.add(options.file))
        return True
    from xlscale.commands import reproduce

    if "jobs" in options and options.jobs is None:
        options.jobs = _default_jobs()
    if options.verb == "heal":
        from xlscale.training import healing

        healing.main(options.model, options.jobs)
        return True
    if options.verb == "reproduce":
        everything, fresh = options.cells == "all", options.source == "fresh"
        return reproduce.reproduce(options.study, everything, fresh, options.jobs)
    if options.verb == "verify":
        return reproduce.verify(options.study, options.n, options.seed, options.jobs)
    if options.verb == "canary":
        return reproduce.canary(options.study, options.jobs)
    if options.verb == "record":
        reproduce.add_to_record(options.study, options.jobs)
    if options.verb == "tune":
        reproduce.tune(options.jobs)
    if options.verb == "sweep":
        reproduce.run_study(options.study, options.jobs)
    if options.verb == "plan":
        reproduce.plan(options.study)
    if options.verb == "paper":
        reproduce.build_paper(options.study)
    return True


def main(arguments: list[str]) -> int:
    """Parse the command line and run the verb; 0 if all is well, 1 after a fault or a disagreement."""
    if arguments[:1] == ["run"]:
        processes.die_with_parent()
        if len(arguments) == 2 and fork_server.ADDRESS in os.environ:
            # Nothing more is imported, here or above, than it takes to ask: the sweep has done it once for all cells.
            code = fork_server.ask(arguments[1])
            if code is not None:
                return code
    options = _parser().parse_args(arguments)
    return processes.exit_code(lambda: _dispatch(options))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
