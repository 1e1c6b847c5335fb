"""What is committed in paper/ is what the committed record gives."""

import json
import subprocess
import sys

import pytest

from xlscale.commands import steps
from xlscale.core import files
from xlscale.engine import processes

# A process imports what analysis notebooks import, and every notebook is executed in a fork of it: see fork_server.
FORKED = """
import json, os, sys
from pathlib import Path
from xlscale.engine import notebook, processes, shell
processes.without_grammars()
import papermill, pyarrow.parquet, scipy.stats, seaborn
from xlscale.report import analysis
for path, output, parameters in json.load(sys.stdin):
    if not (child := os.fork()):
        try:
            notebook.execute_here(Path(path), Path(output), parameters)
        except BaseException as error:
            print(error, file=sys.stderr)
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit(1)
"""


LONG = ["00_data", "06_published", "10_design"]  # most of the time goes into what they alone fit, count and simulate
OTHERS = [name for name in steps.Build().notebooks if name not in LONG]


@pytest.mark.again
@pytest.mark.parametrize("names", [OTHERS, LONG], ids=["others", "long"])
def test_the_committed_paper_is_what_the_record_gives(tmp_path, names):
    parameters = {name: {"out": str(tmp_path)} | ({"again": 0} if name == "08_preparation" else {}) for name in names}
    work = [(str(files.NOTEBOOKS / f"{n}.ipynb"), str(tmp_path / f"{n}.ipynb"), parameters[n]) for n in names]
    command, environment = [sys.executable, "-c", FORKED], processes.environment()
    done = subprocess.run(command, env=environment, input=json.dumps(work), capture_output=True, text=True, timeout=540)
    assert done.returncode == 0, done.stderr[-2000:]
    for name in names:
        mine = files.read_json(tmp_path / "generated" / f"{name}.json")
        committed = files.read_json(files.PAPER / "generated" / f"{name}.json")
        texts = [{key: number["text"] for key, number in made["numbers"].items()} for made in (mine, committed)]
        assert texts[0] == texts[1]
        assert mine["tables"] == committed["tables"]


@pytest.mark.parametrize("name", steps.Build().notebooks)
def test_the_committed_paper_was_made_from_what_is_committed(name):
    """By the hashes of the record, the cards, the code and the libraries: all of it was executed after their last
    change."""
    assert files.read_json(files.PAPER / "generated" / f"{name}.json")["made_from"] == steps.Build().made_from(name)
