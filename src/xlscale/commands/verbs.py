"""The verbs of ``python -m xlscale``: what each does, its options, an example, and the function that it calls.

A verb is one entry of VERBS; its options are the keyword arguments of its function. Next to nothing of this package is
imported before a verb is chosen, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from functools import partial
from pkgutil import resolve_name
from typing import Any

from xlscale.commands import data_verbs
from xlscale.commands.options import (
    CELLS,
    FIGURE,
    HARDWARE,
    JOBS,
    JOBS_PLANNED,
    KIND,
    METHOD,
    ONE,
    OUT,
    PROFILE,
    PROMPT,
    REFERENCE,
    SOURCE,
    STUDY,
    TABLE,
    Verb,
    count,
    positive,
)
from xlscale.core.arguments import Parser
from xlscale.core.ending import exit_code, print_anything

PROGRAM = "python -m xlscale"

VERBS = [
    Verb(
        "reproduce",
        "recompute cells, check the record, rebuild figures, numbers and paper, and compare with the record",
        "reproduce --study pilot",
        "commands.reproduce:reproduce",
        (STUDY, CELLS, SOURCE, JOBS),
    ),
    Verb(
        "verify",
        "recompute random recorded cells from scratch and compare them with the record",
        "verify --n 3 --seed 1",
        "commands.verify:verify",
        (
            ("--n", {"type": positive, "default": 3, "help": "how many cells (default: 3)"}),
            ("--seed", {"type": count, "default": 1, "help": "of the random choice (default: 1)"}),
            STUDY,
            JOBS,
        ),
    ),
    Verb(
        "canary",
        "after a change of code, rerun a few recorded cells and stamp the new code as equivalent or different",
        "canary --study pilot",
        "commands.canary:run",
        (
            ("--study", {"help": "name of a file in studies/ (default: all that state a canary)"}),
            ("--against", {"metavar": "COMMIT", "help": "compare with the code of this commit instead of the record"}),
            JOBS,
        ),
    ),
    Verb(
        "manifest",
        "state results/, published scores and pins as they are now, after a change by hand that is meant",
        "manifest",
        "commands.manifest:state",
        (("--study", {"help": "name of a study of one's own, whose record is stated too (default: none)"}),),
    ),
    Verb(
        "sweep",
        "run all cells of a study into runs/, here or on a cluster; complete cells are not run again",
        "sweep --study smoke --jobs 2",
        "commands.sweeps:sweep",
        (STUDY, JOBS_PLANNED, PROFILE, HARDWARE),
    ),
    Verb(
        "record",
        "run what the record lacks of a study and take it into results/",
        "record --study pilot",
        "commands.sweeps:record",
        (STUDY, JOBS_PLANNED, PROFILE, HARDWARE),
    ),
    Verb(
        "tune",
        "try learning rates on English development data, record them, and write studies/tuned.json",
        "tune --jobs 2",
        "commands.sweeps:tune",
        (JOBS_PLANNED,),
    ),
    Verb(
        "heal",
        "distil the cut rungs of a model to the whole one, and judge them before and after",
        "heal --model e5_small_healed",
        "commands.sweeps:heal",
        (
            (
                "--model",
                {
                    "default": "e5_small_healed",
                    "dest": "name",
                    "help": "name of a card in data_manifest/models/ (default: e5_small_healed)",
                },
            ),
            JOBS,
        ),
    ),
    Verb(
        "cells",
        "list the cells of a study, or those behind a figure or table of its paper: id, value, recorded or not",
        "cells --figure 6",
        "commands.points:cells",
        (STUDY, FIGURE, TABLE),
    ),
    Verb(
        "notebook",
        "run one analysis notebook, and say whether it gives what the paper says",
        "notebook 06_published",
        "commands.points:notebook",
        (("name", {"metavar": "NAME", "help": "of a notebook that makes numbers of the paper, as 04_scaling"}),),
    ),
    Verb(
        "plan",
        "say what a study takes on GPUs, from the shapes of its models: memory and placement, GPU-hours, host memory, "
        "storage and price, and which numbers are assumed; the verb cells lists its cells",
        "plan --study xtreme_r_7b_70b",
        "commands.plan:plan",
        (STUDY, METHOD, HARDWARE, REFERENCE),
    ),
    Verb(
        "run",
        "run one cell and the ancestors that it lacks",
        "run pretrained-e5_small-k1-0123456789",
        "commands.cell:run",
        (("cell_id", {"metavar": "ID", "help": "id of a cell, as the verb cells lists them"}),),
    ),
    Verb(
        "job",
        "run cells one after the other, as a job of a cluster does; complete cells are not run again",
        "job pretrained-e5_small-k1-0123456789",
        "engine.slurm:run_in_turn",
        (("cell_ids", {"nargs": "+", "metavar": "ID", "help": "id of a cell that a sweep has begun"}),),
    ),
    Verb(
        "prompt",
        "evaluate a decoder's cell by prompting: lm-evaluation-harness, a process of its own, on the model that an "
        "intermediate or pretrained cell left, with its published LM head; leaves prompted.json beside the cell",
        "prompt 04c56aeefb --tasks xnli_sw xcopa_sw",
        "commands.prompt:prompt",
        PROMPT,
    ),
    Verb(
        "list",
        "list what there is: studies, models, tasks, intermediate sets, objectives, methods",
        "list tasks",
        "commands.look:everything",
        (KIND,),
    ),
    Verb(
        "show",
        "show one cell: what it is, its values by language, its recipe, what it took, and where its files are",
        "show target-e5_small-k4-squad_wiki-topic-s11",
        "commands.look:show",
        (ONE,),
    ),
    Verb(
        "compare",
        "compare a run of this machine with the record, or two cells of a task with each other, item by item",
        "compare 04c56aeefb 12add069fe",
        "commands.look:compare",
        (
            ONE,
            ("other", {"nargs": "?", "default": "", "metavar": "OTHER", "help": "id of a second cell (default: none)"}),
        ),
    ),
    Verb(
        "export",
        "write what cells predicted, and the labels, as files that `make score` and XTREME's own program read",
        "export --cells stated --out exported",
        "commands.export:export",
        (
            (
                "--cells",
                {
                    "default": "stated",
                    "metavar": "IDS",
                    "help": "ids of target cells with spaces between, or those of the study: stated, all "
                    "(default: stated)",
                },
            ),
            OUT,
            STUDY,
        ),
    ),
    Verb(
        "crate",
        "write the record in the formats of other people's tools: a Workflow Run RO-Crate with a Croissant manifest of "
        "each data set, the scores of each model as the hub's model cards have them, and all scores as one table",
        "crate --out crate",
        "commands.crate:build",
        (OUT, STUDY),
    ),
    Verb(
        "archive",
        "write the files of this commit as one tar file with its sha256, for an archive that gives it a DOI; the same "
        "commit gives the same bytes",
        "archive --out archive",
        "commands.archive:build",
        (OUT,),
    ),
    Verb(
        "paper",
        "rebuild figures, numbers and paper/paper.pdf from the record, where something that they depend on has changed",
        "paper --study pilot",
        "commands.reproduce:paper",
        (STUDY, JOBS),
    ),
    Verb(
        "status",
        "which figures, numbers and cells are what the present code and data give; nothing is computed",
        "status --study pilot",
        "commands.status:run",
        (STUDY,),
    ),
    Verb(
        "report",
        "write a page for a browser: claims, figures and numbers of the paper, and every recorded cell; works offline",
        "report --study pilot",
        "commands.report:build",
        (STUDY, ("--out", {"default": "", "metavar": "FOLDER", "help": "of index.html (default: report/)"})),
    ),
    Verb(
        "explore",
        "open JupyterLab on the explorer, notebooks/explore.ipynb; tracked notebooks are saved without outputs there",
        "explore -- --port 8899",
        "commands.explore:explore",
        (("options", {"nargs": "*", "metavar": "OPTION", "help": "of JupyterLab, behind --"}),),
    ),
    Verb(
        "step",
        "run one step towards the paper, as the Snakefile does: check, a notebook, record, paper or agreement",
        "step 04_scaling",
        "commands.steps:run",
        (
            ("name", {"metavar": "STEP", "help": "check, record, paper, agreement, or the name of a notebook"}),
            STUDY,
            ("--cells", CELLS[1] | {"choices": ["none", "stated", "all"]}),
            SOURCE,
        ),
    ),
    *data_verbs.VERBS,
]
GROUPS = {"data": "get or check the data and models that are not in this repository, or state what a task costs"}


def main(arguments: list[str]) -> int:
    """Parse a command line and do what it says; the exit code."""
    options = vars(parser().parse_args(arguments))
    call = options.pop("call")
    # PEFT imports it, and on a processor it warns of kernels that it would have from the hub.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    print_anything()
    return exit_code(lambda: call(**options), left="; complete cells are kept, run the same command to go on")


def parser() -> argparse.ArgumentParser:
    """The whole command line; what it parses holds ``call``, a function that takes the rest as keyword arguments."""
    about = "From intermediate training to the paper: every verb that the Makefile's targets call."
    top = Parser(prog=PROGRAM, **_texts(about, "reproduce --study pilot"))
    levels = {"": top.add_subparsers(title="verbs", metavar="VERB", required=True)}
    for verb in VERBS:
        group, _, name = verb.name.rpartition(" ")
        if group not in levels:
            level = levels[""].add_parser(group, help=GROUPS[group], **_texts(GROUPS[group], verb.example))
            levels[group] = level.add_subparsers(title="verbs", metavar="VERB", required=True)
        one = levels[group].add_parser(name, help=verb.does, **_texts(verb.does, verb.example))
        for option, details in verb.options:
            one.add_argument(option, **details)
        one.set_defaults(call=partial(_call, verb))
    return top


def _texts(does: str, example: str) -> dict[str, Any]:
    text = f"{does[0].upper()}{does[1:]}".removesuffix(".")
    return {"description": f"{text}.", "epilog": f"for example: {PROGRAM} {example}", "allow_abbrev": False}


def _call(verb: Verb, **options: Any) -> bool:
    if options.get("study") is not None:
        _go_to(options["study"])
    if JOBS in verb.options and options["jobs"] is None:
        options["jobs"] = resolve_name("xlscale.commands.cell:default_jobs")()
    outcome = resolve_name(f"xlscale.{verb.call}")(**options)
    if isinstance(outcome, str):
        print(outcome)
    return outcome is not False


def _go_to(study: str) -> None:
    """Begin again where the record, figures and paper of a study of one's own lie, see ``studies.workplace``: folders
    are read from the environment when the package is imported."""
    from pathlib import Path

    from xlscale.core import manifest
    from xlscale.experiment import studies

    moved = {name: path for name, path in studies.workplace(study).items() if not os.environ.get(name)}
    for path in moved.values():
        manifest.check_apart(Path(path))
    if moved:
        os.execve(sys.executable, [sys.executable, "-m", "xlscale", *sys.argv[1:]], os.environ | moved)
