# One short rule per phase. Identity is in the file name: a cell with another identity is another file, so nothing but
# a missing result.json ever makes a job. The runner decides what is complete; see src/xlscale/engine/runner.py.
#   snakemake --profile profiles/local --config study=pilot
# A config of only=<file> names in that file the cells to make, with the ancestors they lack: thousands of targets do not
# fit on a command line.
import os
import shlex
import sys
from pathlib import Path

from xlscale.engine import processes
from xlscale.experiment import studies
from xlscale.core.files import RUNS

if processes.WATCHED in os.environ:
    processes.die_with_parent()

CELLS = {cell.id: cell for cell in studies.load(config.get("study", "pilot")).cells()}
ONLY = Path(config["only"]).read_text(encoding="utf-8").split() if "only" in config else CELLS
RESULT = str(RUNS / "{id}" / "result.json")
RUN = "exec {python} -m xlscale run {{wildcards.id}} > {runs}/{{wildcards.id}}/log.txt 2>&1".format(
    python=shlex.quote(sys.executable), runs=shlex.quote(str(RUNS))
)


def parent(wildcards):
    above = CELLS[wildcards.id].parent
    return ancient(str(above.folder / "result.json")) if above else []


rule all:
    input:
        [RESULT.format(id=name) for name in ONLY],


rule pretrained:
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
