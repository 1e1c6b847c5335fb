"""The README's section on one's own model, on a tiny decoder in the hub's layout."""

import json
import os
import re
import shutil
import subprocess
import sys

from conftest import FIXTURES

from xlscale.core.files import ROOT
from xlscale.experiment import studies

README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTION = README.partition("\n## Your own model\n")[2].partition("\n## ")[0]
MADE = dict(re.findall(r"^```yaml\n# (\S+)\n(.*?)^```", SECTION, re.DOTALL | re.MULTILINE))
COMMANDS = re.findall(r"^make ([\w-]+) (\w+)=(\w+)$", SECTION, re.MULTILINE)


def test_its_card_and_study_fetch_and_run_a_model(elsewhere, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(FIXTURES)
    import elsewhere as made
    import models

    assert MADE.keys() == {"data_manifest/models/mine.yaml", "studies/mine.yaml"}
    assert COMMANDS == [("data-fetch", "CARD", "mine"), ("sweep", "STUDY", "mine")]
    shutil.copytree(elsewhere / "checkout", tmp_path / "checkout", symlinks=True)
    for name, text in MADE.items():  # the model of the fixtures, and less to do
        (path := tmp_path / "checkout" / name).parent.mkdir(exist_ok=True)
        text = text.replace("owner/name", f"{models.OWNER}/tiny-decoder").replace("[28]", "[2]")
        text = text.replace("<|endoftext|>", models.CAUSAL["end"]).replace("squad_wiki, squad_amazon", "wordnet_class")
        text = text.replace("examples: 800, epochs: 2", "examples: 16, epochs: 1").replace(": 150", ": 4")
        path.write_text(text.replace("seeds: [1, 2]", "seeds: [1]"))
    places = {name: str(tmp_path / name) for name in ("CACHE", "LOCKS", "RUNS")}
    places |= {"ROOT": str(tmp_path / "checkout"), "STUDIES": str(tmp_path / "checkout" / "studies")}
    environment = os.environ | made.environment(elsewhere) | {f"XLSCALE_{name}": at for name, at in places.items()}

    def run(*command: object) -> list[str]:
        done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr[-3000:]
        return done.stdout.splitlines()

    assert re.fullmatch(r"mine: \d files as in .*", run("-m", "xlscale", "data", "fetch", "--", "mine")[-1])
    found = [json.loads(line.split(" ", 2)[2]) for line in run(FIXTURES / "phases.py", "mine") if line[:5] == "cell "]
    assert {cell["status"] for cell in found} == {"complete"}
    asked = {(cell["phase"], cell["parameters"].get("target"), cell["parameters"].get("seed")) for cell in found}
    assert asked >= {("target", "topic", 1), ("target", "udhr", 0)}
    trained = [cell for cell in found if cell["losses"]]
    assert {cell["parameters"]["intermediate_method"] for cell in trained} >= {"lora"}


def test_its_study_is_one_as_it_stands(monkeypatch, tmp_path):
    """But for the model, which nobody has."""
    (tmp_path / "mine.yaml").write_text(MADE["studies/mine.yaml"].replace("{mine: [28]}", "{e5_small: [1]}"))
    monkeypatch.setattr(studies, "STUDIES", tmp_path)
    assert len(studies.load("mine").cells()) == 1 + 2 * 2 + 3 * 2 + 1 + 2 * 2
