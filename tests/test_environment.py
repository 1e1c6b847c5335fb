"""One set of pins for everyone, and a style that holds over all files."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from xlscale.core import files
from xlscale.core.files import ROOT

LOCK = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line and not line.startswith("#")]
PINNED = {re.split("==", line)[0].lower(): line.split("==")[1] for line in LOCK}


def test_environment_yml_installs_the_lock_and_allows_the_same_pythons():
    content = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert content["dependencies"][-1] == {"pip": ["--requirement requirements.lock"]}
    python = content["dependencies"][0].removeprefix("python ")
    declared = re.search(r'requires-python = "(.*)"', (ROOT / "pyproject.toml").read_text())[1]
    assert SpecifierSet(python) == SpecifierSet(declared)


def test_binder_installs_the_lock_with_a_python_that_is_allowed():
    folder = ROOT / ".binder"
    (line,) = (one for one in (folder / "requirements.txt").read_text().splitlines() if not one.startswith("#"))
    assert (folder / line.removeprefix("--requirement ")).resolve() == ROOT / "requirements.lock"
    declared = re.search(r'requires-python = "(.*)"', (ROOT / "pyproject.toml").read_text())[1]
    assert (folder / "runtime.txt").read_text().strip().removeprefix("python-") in SpecifierSet(declared)
    assert os.access(folder / "postBuild", os.X_OK)
    assert subprocess.run(["bash", "-n", folder / "postBuild"]).returncode == 0


def test_who_cites_this_names_its_version_and_licence():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert cited["cff-version"] == "1.2.0" and cited["authors"] and cited["message"]
    assert {name: cited[name] for name in ("version", "license")} == {
        name: project[name] for name in ("version", "license")
    }
    assert project["description"].lower() in cited["title"].lower()


def test_every_pin_is_exact_and_every_declared_dependency_is_pinned():
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in LOCK)
    declared = re.findall(
        r'"([a-z0-9-]+)"', (ROOT / "pyproject.toml").read_text().split("dependencies = [")[1].split("]")[0]
    )
    assert {name.replace("-", "_") for name in declared} <= {name.replace("-", "_") for name in PINNED}


@pytest.mark.parametrize("python", ["3.11.0", "3.12.0", "3.13.0"])
def test_every_pinned_package_admits_every_python_that_is_promised(python):
    for name in PINNED:
        try:
            wanted = distribution(name).metadata.get("Requires-Python")
        except PackageNotFoundError:
            continue
        assert wanted is None or SpecifierSet(wanted).contains(python), f"{name} needs Python {wanted}"


def test_notebooks_are_committed_without_outputs_and_define_nothing():
    paths = sorted(files.NOTEBOOKS.glob("*.ipynb"))
    assert len(paths) == 15
    for path in paths:
        code = [cell for cell in files.read_json(path)["cells"] if cell["cell_type"] == "code"]
        assert not any(cell["outputs"] or cell["execution_count"] for cell in code), path.name
        assert len(code) <= 15, path.name
        assert sum("parameters" in cell["metadata"].get("tags", []) for cell in code) == 1, path.name
        lines = [line for cell in code for line in "".join(cell["source"]).splitlines()]
        assert not any(line.lstrip().startswith(("def ", "class ")) for line in lines), path.name


def test_lint_passes():
    """Style of code and notebooks, as `make lint` checks them."""
    lint = re.search(r"^lint:.*\n\t@(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    command = lint.replace('"$$PY"', shlex.quote(sys.executable))
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
