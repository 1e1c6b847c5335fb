"""The code fingerprint: blind to cosmetics, awake to everything else."""

import ast
import hashlib

import pytest

from xlscale.core import fingerprint


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


def test_a_phase_covers_what_it_computes_with_and_not_how_it_is_shown():
    target = set(fingerprint.modules_of("target"))
    assert {"training", "evaluation", "metrics", "batches", "tasks.classification", "models.ladder"} <= target
    assert not {"figures", "runner", "record", "paper", "verdicts", "data.packages"} & target


def test_each_phase_has_its_own_fingerprint():
    assert len({fingerprint.of_phase(phase) for phase in ("pretrained", "intermediate", "target")}) == 3


def test_the_fingerprint_is_the_same_under_every_python():
    source = (
        "class A:\n    def f(self, *x: int, y=(), **z) -> None:\n        return [a for a in x if a]\nprint(f'{1!r}')"
    )
    text = fingerprint.normalised(ast.parse(source))
    assert "type_params" not in text  # 3.12 and later
    assert "=[]" not in text  # left out by 3.13 and later
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "2149e9c312c48eb9"


def test_the_reader_of_the_weights_is_covered():
    assert "models.e5_wheel" in fingerprint.modules_of("pretrained")
