"""The walk-through of data_manifest/ADDING.md, as it stands, in a copy of the checkout."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import write

from xlscale.core.files import MANIFEST, ROOT, read_json, sha256_file

TEXT = (MANIFEST / "ADDING.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^```(?:python|csv|yaml)\n# (\S+)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE))
COMMANDS, UNDONE = re.findall(r"^```sh\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
LEFT_OUT = {"runs", "reproduction", "report", "tests", "benchmarks"}  # of the top; what is hidden, too
# In a shell of the user's .venv is there; here it is this interpreter, whatever folder that lies in.
MAKE = 'make() { command make --no-print-directory -o .venv/.ready PY="$PYTHON" "$@"; }'


def hashes(folder):
    """Of all files but those that are hidden, such as locks, and what is computed anew."""
    return {
        path.relative_to(folder).as_posix(): sha256_file(path)
        for path in folder.rglob("*")
        if path.is_file()
        and path.name[0] != "."
        and not {"runs", ".cache", ".venv", "__pycache__"} & {*path.relative_to(folder).parts}
    }


@pytest.fixture
def checkout(tmp_path):
    """A copy of what is committed, but for the tests, with the page's files in it and an environment."""
    (copy := tmp_path / "checkout").mkdir()
    for path in (one for one in ROOT.iterdir() if one.name not in LEFT_OUT and one.name[0] != "."):
        if path.is_dir():
            shutil.copytree(path, copy / path.name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            shutil.copy2(path, copy)
    (copy / ".venv" / "bin").mkdir(parents=True)
    for name, module in (("python", ""), ("xlscale", "-m xlscale")):
        (path := copy / ".venv" / "bin" / name).write_text(f'#!/bin/sh\nexec "$PYTHON" {module} "$@"\n')
        path.chmod(0o755)
    return write(copy, FILES)


def run(commands, checkout):
    """What the commands print, in a shell whose environment has none of our variables."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("XLSCALE_", "MAKE"))}
    environment = clean | {"PYTHON": sys.executable, "PYTHONPATH": str(checkout / "src")}
    call = {"cwd": checkout, "env": environment, "capture_output": True, "text": True, "timeout": 900}
    done = subprocess.run(["bash", "-c", f"set -eu\n{MAKE}\n{commands}"], **call)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout


@pytest.mark.again
def test_its_commands_end_in_a_figure_change_nothing_that_is_published_and_are_undone(checkout):
    assert FILES.keys() == {"mine/newt.py", "mine/reviews.csv", "mine/advice.csv", "studies/newt.yaml"}
    before = hashes(checkout)
    said = run(COMMANDS, checkout)
    assert "14 cells were new or changed in studies/newt/results" in said
    figure = (checkout / "studies/newt/paper/figures/scaling.svg").read_text(encoding="utf-8")
    assert {"<!-- Reviews -->", "<!-- Advice (general) -->", "<!-- chance -->"} <= {*re.findall("<!--.*?-->", figure)}
    after = hashes(checkout)
    assert {name for name in before if after.get(name) != before[name]} == set()
    # The lock of the model is held beside the committed ones, by a manifest that git ignores.
    lock, own = "data_manifest/locks/newt.json", "data_manifest/locks/manifest.json"
    assert read_json(checkout / own)["files"] == {"newt.json": after[lock]}
    new = {name for name in after.keys() - before.keys() if not name.startswith(("studies/newt/", "mine/newt/"))}
    cards = {f"data_manifest/{name}" for name in ("data/reviews.yaml", "data/advice.yaml", "models/newt.yaml")}
    assert new == cards | {f"data_manifest/bundled/{name}.parquet" for name in ("reviews", "advice")} | {lock, own}
    run(UNDONE, checkout)
    left = {name: value for name, value in hashes(checkout).items() if name != own}
    assert left == {name: value for name, value in before.items() if name not in FILES}
