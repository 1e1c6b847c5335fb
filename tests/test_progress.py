"""Bars: in a notebook that is worked in and on a terminal, and nowhere else."""

import io
import sys
from types import SimpleNamespace

import pytest
from tqdm import notebook

from xlscale.core import progress
from xlscale.core.files import CELL_FOLDER


@pytest.fixture
def kernel(monkeypatch) -> None:
    """As in a process that executes a notebook's cells."""
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))


def _shown(monkeypatch, terminal: bool = False) -> str:
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stderr", stream)
    assert list(progress.bar([1, 2], desc="training", unit="step")) == [1, 2]
    return stream.getvalue()


def test_a_terminal_shows_a_bar_and_a_file_none(monkeypatch):
    assert "training: 100%" in _shown(monkeypatch, terminal=True) and not _shown(monkeypatch)


def test_a_notebook_that_is_worked_in_shows_a_widget(monkeypatch, kernel):
    shown = []
    monkeypatch.setattr(notebook, "display", shown.append)
    assert not _shown(monkeypatch)
    (widget,) = shown
    assert "training" in widget.children[0].value and widget.children[1].value == 2


def test_what_a_runner_executes_shows_none(monkeypatch, kernel, tmp_path):
    monkeypatch.setenv(CELL_FOLDER, str(tmp_path))
    monkeypatch.setattr(notebook, "display", lambda _: pytest.fail("a widget in an executed notebook"))
    assert not _shown(monkeypatch)
