"""Every pair of architecture, format of the intermediate set, method and family of the target, in cells of tiny models:
that what is tested part by part goes together."""

import json
import subprocess
import sys
from itertools import combinations, product

import numpy as np
import pytest
from conftest import FIXTURES

sys.path.append(str(FIXTURES))
import covering


def test_every_pair_is_covered():
    factors = [covering.ARCHITECTURES, covering.FORMATS, covering.METHODS, covering.TARGETS]
    planned = covering.combinations()
    for one, other in combinations(range(len(factors)), 2):
        assert {(cell[one], cell[other]) for cell in planned} == set(product(factors[one], factors[other]))


@pytest.mark.slow
def test_cells_of_every_pair_are_trained_and_evaluated(elsewhere, tmp_path):
    command = [sys.executable, FIXTURES / "covering.py", tmp_path, elsewhere]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    targets = [cell for cell in found if cell["phase"] == "target"]
    assert len(targets) == len(covering.combinations()) and {cell["status"] for cell in found} == {"complete"}
    for cell in found:
        p, scores = cell["parameters"], [score["value"] for score in cell["languages"].values()]
        assert scores and all(0 <= value <= 1 for value in scores), cell["id"]
        name = "intermediate_method" if cell["phase"] == "intermediate" else "method"
        if cell["losses"]:
            steps = 6 if p.get("target") == "xcopa" else 3  # which is trained on another set first
            assert len(cell["losses"]) == steps and np.isfinite(cell["losses"]).all(), cell["id"]
            # Adapters beside queries and values are few, whatever the model.
            assert (cell["trainable_parameters"] < 10_000) == (p[name] != "full"), cell["id"]
    assert {bool(cell["losses"]) for cell in targets} == {True, False}
