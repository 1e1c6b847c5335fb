"""The code fingerprint: blind to cosmetics, awake to everything else, and to what a cell's parameters name alone."""

import ast
import hashlib
from functools import partial

import pandas as pd
import pytest

from xlscale.core import cache, fingerprint, registry
from xlscale.core.files import XlscaleError
from xlscale.experiment import cells

TARGETS = {"topic": "classification", "summary_choice": "multiple_choice", "interface_tags": "tagging"}
INTERMEDIATE = {"package_role": "classification", "help_next": "multiple_choice", "squad_wiki": "span_qa"}


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("def f(a):\n    return a + 1", "def f(a):\n    '''Says so.'''\n    return a+1  # why", True),
        ("def f(a):\n    return a + 1", "def f(a):\n    return a + 2", False),
        ("x = 1e-4", "x = 0.0001", True),
        ("x = 'text'", "x = 'texts'", False),
        ("def f(a, b=1): ...", "def f(a, b=2): ...", False),
        ('"""Module."""\nimport os', "import os", True),
    ],
)
def test_only_meaning_counts(before, after, same):
    normal = [fingerprint.normalised(ast.parse(text)) for text in (before, after)]
    assert (normal[0] == normal[1]) == same


def test_the_fingerprint_is_the_same_under_every_python():
    source = (
        "class A:\n    def f(self, *x: int, y=(), **z) -> None:\n        return [a for a in x if a]\nprint(f'{1!r}')"
    )
    text = fingerprint.normalised(ast.parse(source))
    assert "type_params" not in text  # 3.12 and later
    assert "=[]" not in text  # left out by 3.13 and later
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "2149e9c312c48eb9"


@pytest.fixture(scope="module")
def codes(target_parameters):
    """A cell of every phase and family -> its parameters."""
    found = {("pretrained", "retrieval"): ("pretrained", {"model": "e5_small", "layers": 1})}
    for name, family in INTERMEDIATE.items():
        found["intermediate", family] = ("intermediate", target_parameters | {"intermediate": name})
    for name, family in TARGETS.items():
        found["target", family] = ("target", target_parameters | {"target": name})
    found["target", "retrieval"] = ("target", target_parameters | {"target": "udhr"})
    return found


@pytest.fixture(scope="module")
def target_parameters():
    return {"model": "e5_small", "layers": 1, "intermediate": "squad_wiki", "target": "topic"}


@pytest.fixture(scope="module")
def noticed(codes):
    """Every module of the package -> the cells whose fingerprint changes when it is edited."""
    before = {key: cells.code(*cell) for key, cell in codes.items()}
    real, found = fingerprint._code, {}
    paths = [path.relative_to(fingerprint.PACKAGE.parent) for path in fingerprint.PACKAGE.rglob("*.py")]
    for module in {".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in paths}:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                fingerprint, "_code", lambda name, edited=module: real(name) + ("!" if name == edited else "")
            )
            found[module] = {key for key, cell in codes.items() if cells.code(*cell) != before[key]}
    return found


def test_an_edit_is_noticed_by_the_cells_that_it_may_change_and_by_no_others(noticed, codes):
    everything, trained = set(codes), {key for key in codes if key[0] != "pretrained"} - {("target", "retrieval")}

    def of(*families):
        return {key for key in codes if key[1] in families}

    for family in ("classification", "multiple_choice", "retrieval", "span_qa", "tagging"):
        assert noticed[f"xlscale.tasks.{family}"] == of(family)
    for family in ("mining", "ranking"):
        assert noticed[f"xlscale.tasks.{family}"] == set()
    assert noticed["xlscale.metrics.answers"] == of("span_qa")
    assert noticed["xlscale.training.objectives.supervised"] == trained
    assert noticed["xlscale.training.methods.full"] >= trained
    assert noticed["xlscale.training.objectives.distillation"] == set()
    for name in ("core.files", "data.batches", "engine.phase", "training.backends.cpu", "models.e5_wheel"):
        assert noticed[f"xlscale.{name}"] == everything, name
    for name in ("models.hf", "core.registry", "core.fingerprint", "engine.runner", "score", "__main__"):
        assert noticed[f"xlscale.{name}"] == set(), name
    for room in ("acquire", "commands", "published", "record", "report", "stats", "xtreme"):
        assert not any(cells_ for module, cells_ in noticed.items() if f"{module}.".startswith(f"xlscale.{room}."))


def test_a_phase_covers_its_own_notebook(codes):
    assert len({cells.code(*cell) for cell in codes.values()}) == len(codes)


def test_an_unknown_part_is_one_line(target_parameters):
    with pytest.raises(XlscaleError, match="objective: expected one of supervised, .*, got 'adversar'"):
        cells.code("target", target_parameters | {"objective": "adversar"})


def test_the_code_of_a_table_follows_from_imports_parts_and_versions(monkeypatch, tmp_path):
    made = []

    def table(**parts):
        return cache.table("counts", 1, partial(_count, made), **parts)

    monkeypatch.setattr(cache, "CACHE", tmp_path)
    monkeypatch.setattr(_count, "__module__", "xlscale.stats.groups")
    tasks = {"parts": [registry.module("task", "tagging")]}
    assert table().equals(table()) and len(made) == 1
    assert table(**tasks).equals(table(**tasks)) and len(made) == 2
    real = fingerprint._code
    monkeypatch.setattr(fingerprint, "_code", lambda name: "edited" if name == "xlscale.tasks.tagging" else real(name))
    table(), table(**tasks)
    assert len(made) == 3
    monkeypatch.setattr(fingerprint, "_version", lambda name: f"{name} 99")
    table(), table(**tasks)
    assert len(made) == 5


def _count(made: list[int]) -> pd.DataFrame:
    made.append(1)
    return pd.DataFrame({"n": [1]})
