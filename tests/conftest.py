"""Shared by the tests: a small rung, and the smoke study run once into a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from xlscale import cards, cells, studies
from xlscale.files import ROOT


def xlscale(*arguments: str, runs: Path, check: bool = True, **environment: str) -> subprocess.CompletedProcess:
    """Run ``python -m xlscale`` with its cells in ``runs``."""
    return subprocess.run(
        [sys.executable, "-m", "xlscale", *arguments],
        env=os.environ | {"XLSCALE_RUNS": str(runs)} | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=check,
        timeout=540,
    )


@pytest.fixture(scope="session")
def smoke_runs(tmp_path_factory) -> Path:
    """The folder of runs of the whole smoke study, made by Snakemake as `make sweep STUDY=smoke` does."""
    runs = tmp_path_factory.mktemp("smoke")
    done = xlscale("sweep", "--study", "smoke", runs=runs, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return runs


@pytest.fixture(scope="session")
def smoke_cells() -> list[cells.Cell]:
    return studies.load("smoke").cells()


@pytest.fixture(scope="session")
def e5() -> cards.ModelCard:
    return cards.model_card("e5_small")


@pytest.fixture
def target_values() -> dict:
    """Parameters of a target cell after intermediate training."""
    return {
        "model": "e5_small",
        "layers": 2,
        "intermediate": "squad_wiki",
        "placebo": False,
        "intermediate_examples": 100,
        "intermediate_epochs": 1,
        "intermediate_learning_rate": 1e-4,
        "intermediate_batch_size": 16,
        "intermediate_max_length": 128,
        "intermediate_test_items": 50,
        "seed": 3,
        "target": "topic",
        "examples": 100,
        "epochs": 1,
        "learning_rate": 1e-4,
        "batch_size": 16,
        "max_length": 48,
        "test_items": 50,
    }
