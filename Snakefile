# The whole way from a study to the paper. Two kinds of jobs, and for both nothing but a missing file makes a job of one
# that has not been made before:
# - Cells, one short rule per phase. Identity is in the file name: a cell with another identity is another file. The runner
#   decides what is complete; see src/xlscale/engine/runner.py.
# - Steps, from the check of the record to the paper. A step leaves a receipt, and receipts that no longer hold are dropped
#   when this file is read; see src/xlscale/commands/steps.py.
#
#   snakemake --profile profiles/local --config study=pilot                               all cells of a study
#   snakemake --profile profiles/local --config study=pilot source=record cells=stated    those that it states, and the paper
#
# A config of only=<file> names in that file the cells to make, with the ancestors they lack: thousands of targets do not
# fit on a command line. Without a study, what they are is read from their spec.json.
import os
import shlex
import sys
import tempfile
from pathlib import Path

from xlscale.commands import steps
from xlscale.core.files import RUNS, read_json, relative
from xlscale.engine import processes
from xlscale.experiment import cells, studies

if processes.WATCHED in os.environ:
    processes.die_with_parent()
if processes.TEMPORARY in os.environ:
    tempfile.tempdir = os.environ[processes.TEMPORARY]  # which Snakemake hands to its jobs

PYTHON = shlex.quote(sys.executable).replace("{", "{{").replace("}", "}}")
BUILD = steps.Build(config["study"], config["source"], config["cells"]) if "source" in config else None
ONLY = Path(config["only"]).read_text(encoding="utf-8").split() if "only" in config else None
if ONLY is None or "study" in config:
    KNOWN = studies.load(config.get("study", "pilot")).cells()
else:
    made = {}
    specs = (RUNS / name / "spec.json" for name in ONLY)
    KNOWN = [cells.from_spec(read_json(spec), relative(spec), made) for spec in specs]
CELLS = {member.id: member for cell in KNOWN for member in cell.lineage()}
CHOSEN = BUILD.chosen() if BUILD else KNOWN


# Paths from there hold no character of the folders above, which may mean something to Snakemake.
workdir: str(RUNS)


RESULT = "{id}/result.json"
RESULTS = [RESULT.format(id=name) for name in ([cell.id for cell in CHOSEN] if ONLY is None else ONLY)]
RUN = f"exec {PYTHON} -m xlscale run {{wildcards.id}} > {{wildcards.id}}/log.txt 2>&1"


def receipts(*names):
    return [os.path.relpath(BUILD.receipt(name), RUNS) for name in names] if BUILD else []


# A record with a fault stops what is built from it before any expensive work. What is built afresh does not read it.
FIRST = receipts("check") if BUILD and BUILD.source == "record" else []


def parent(wildcards):
    """The parent's result; what is yet to be computed also waits for FIRST."""
    above = CELLS[wildcards.id].parent
    first = [] if (RUNS / RESULT.format(id=wildcards.id)).exists() else FIRST
    return [ancient(path) for path in [*first, *([RESULT.format(id=above.id)] if above else [])]]


rule all:
    input:
        RESULTS,
        receipts(*(BUILD.steps if BUILD else [])),


rule pretrained:
    input:
        parent,
    output:
        RESULT,
    wildcard_constraints:
        id="pretrained-[^/]+",
    shell:
        RUN


rule intermediate:
    input:
        parent,
    output:
        RESULT,
    wildcard_constraints:
        id="intermediate-[^/]+",
    shell:
        RUN


rule target:
    input:
        parent,
    output:
        RESULT,
    wildcard_constraints:
        id="target-[^/]+",
    shell:
        RUN


if BUILD:
    BUILD.drop_stale()
    (RECEIPT,) = receipts("{step}")
    RECOMPUTED = [RESULT.format(id=cell.id) for cell in CHOSEN]
    FRESH = receipts("record") if BUILD.source == "fresh" else []
    STEP = (
        f"mkdir -p {{wildcards.step}}; exec {PYTHON} -m xlscale step {{wildcards.step}} --study {shlex.quote(BUILD.study)}"
        f" --source {BUILD.source} --cells {BUILD.cells} 2> {{wildcards.step}}/log.txt"
    )

    rule check:
        output:
            RECEIPT,
        wildcard_constraints:
            step="check",
        shell:
            STEP

    rule fresh_record:
        input:
            RECOMPUTED,
        output:
            RECEIPT,
        wildcard_constraints:
            step="record",
        shell:
            STEP

    rule notebook:
        input:
            ancient(FIRST),
            FRESH,
        output:
            RECEIPT,
        wildcard_constraints:
            step="|".join(BUILD.notebooks),
        shell:
            STEP

    rule paper:
        input:
            receipts(*BUILD.notebooks),
        output:
            RECEIPT,
        wildcard_constraints:
            step="paper",
        shell:
            STEP

    rule agreement:
        input:
            ancient(receipts("check")),
            RECOMPUTED,
        output:
            RECEIPT,
        wildcard_constraints:
            step="agreement",
        shell:
            STEP
