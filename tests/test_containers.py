"""The container files, read: what they copy is there, and what they run are the README's two commands.

Nothing is built: that takes a container engine, and a network.
"""

from __future__ import annotations

import re
import shlex

from packaging.specifiers import SpecifierSet

from xlscale.core.files import ROOT, read_json

TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
LINES = [line.split(" ", 1) for line in TEXT.splitlines() if line and not line.startswith("#")]
DEVELOPER = read_json(ROOT / ".devcontainer" / "devcontainer.json")


def of(instruction: str) -> list[str]:
    return [rest for name, rest in LINES if name == instruction]


def test_what_runs_are_the_two_commands_of_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    told = re.search(r"^## Two commands\n\n```\n(.*?)\n```", readme, re.MULTILINE | re.DOTALL)[1].split("\n")
    assert of("CMD") == [f'["bash", "-c", "{" && ".join(told)}"]']


def test_what_is_copied_is_there_and_makes_the_environment():
    copied = [shlex.split(line)[1:] for line in of("COPY")]
    for *sources, _ in copied:
        assert all((ROOT / source).exists() for source in sources)
    first = {source for *sources, _ in copied[:-1] for source in sources}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    needed = re.search(r"^\$\(READY\): (.*) \$\(LOST\)$", makefile, re.MULTILINE)[1].split()
    assert {*needed, "Makefile", "src"} == first and copied[-1] == [".", "."]
    assert "make .venv/.ready" in of("RUN")


def test_python_is_one_that_is_promised_and_whoever_runs_is_not_root():
    declared = re.search(r'requires-python = "(.*)"', (ROOT / "pyproject.toml").read_text())[1]
    base, second = of("FROM")
    version = re.fullmatch(r"python:(\d+\.\d+)-slim AS system", base)[1]
    assert SpecifierSet(declared).contains(f"{version}.0") and second == "system"
    (user,) = of("USER")
    names = [name for name, _ in LINES]
    assert names.index("USER") < names.index("COPY")
    made, *rest = (line for line in of("RUN") if "useradd" in line)
    assert not rest and made.endswith(f"--shell /bin/bash {user}")
    assert all(line.startswith(f"--chown={user}:{user} ") for line in of("COPY"))


def test_nothing_that_git_leaves_out_gets_into_an_image_but_what_is_hidden():
    """Temporary files and locks of a running command apart, whose names begin with a dot."""
    left_out = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    folders = {line.strip("/") for line in left_out if not line.startswith(".*")}
    ignored = {line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")}
    assert {line.removeprefix("**/") for line in ignored} == folders


def test_the_developers_container_is_the_same_system_with_an_environment_in_the_checkout():
    folder = ROOT / ".devcontainer"
    build = DEVELOPER["build"]
    assert (folder / build["dockerfile"]).resolve() == (ROOT / "Dockerfile").resolve()
    assert (folder / build["context"]).resolve() == ROOT
    assert f"AS {build['target']}" in of("FROM")[0]
    assert [DEVELOPER["remoteUser"]] == of("USER")
    assert DEVELOPER["postCreateCommand"] in of("RUN")
