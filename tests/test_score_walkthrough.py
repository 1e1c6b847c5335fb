"""The walk-through of data_manifest/benchmarks/README.md, line by line, on small files."""

import json
import os
import re
import shlex

import pytest
from conftest import write
from test_score import REFERENCE

from xlscale.commands import verbs
from xlscale.core.files import MANIFEST
from xlscale.xtreme import command

TEXT = (MANIFEST / "benchmarks" / "README.md").read_text(encoding="utf-8")
LINES = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]


def run(line: str) -> None:
    """What the Makefile makes of a line; that it does is tested in test_command_line."""
    make, target, *given = shlex.split(line)
    values = dict(one.split("=", 1) for one in given)
    assert make == "make"
    if target == "export":
        parsed = vars(verbs.parser().parse_args([target, *(f"--{k.lower()}={v}" for k, v in values.items())]))
        assert parsed.pop("call")(**parsed)
        return
    first, against = values.pop("PREDICTIONS"), values.pop("AGAINST", None)
    sides = ["--paired", first, against] if against else ["--predictions", first]
    assert target == "score"
    assert command.main([*sides, *(f"--{name.lower()}={value}" for name, value in values.items())]) == 0


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with ``labels``, ``mine`` and ``theirs``: the reference's files, and those of another language's."""
    files = {}
    for name, text in REFERENCE["folders"]["files"].items():
        side, rest = name.split("/", 1)
        for folder in {"labels": ["labels"], "predictions": ["mine", "theirs"]}[side]:
            files[f"{folder}/{rest}"] = text
    files["theirs/xnli/test-ar.tsv"] = files["labels/xnli/test-ar.tsv"]
    write(tmp_path, files)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # of a thousand small files
    return tmp_path


def test_every_line_of_the_walk_through_does_what_the_text_says(place, capsys):
    assert len(LINES) == 6
    said = []
    for line in LINES:
        run(line)
        said.append(capsys.readouterr().out)
    own, one, whole, compared, exported, scored = said
    assert {value for row in own.splitlines() if row.startswith("  acc") for value in row.split()[1:]} == {"100.00"}
    assert "XCOPA" in one and "XNLI" not in one
    assert "missing: labels/lareqa" in whole or "missing: mine/lareqa" in whole
    scores = json.loads((place / "scores.json").read_text())["tasks"]
    assert scores["tatoeba"]["score"] is not None and scores["lareqa"]["score"] is None
    assert "tied after Holm over 15 languages" in compared
    (name,) = re.findall(r"PREDICTIONS=exported/(\S+)", LINES[-1])
    assert f"exported/{name}/topic: value " in exported and f"exported/{name}/udhr: value " in exported
    assert "Package topic (topic), %" in scored and "UDHR-50 (udhr), %" in scored
