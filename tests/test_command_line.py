"""The command line and the Makefile: help at every level, one line for what is wrong, values as they were given."""

import subprocess
import sys
from pkgutil import resolve_name

import pytest

from xlscale.commands import verbs
from xlscale.core.files import ROOT


def _run(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("verb", verbs.VERBS, ids=lambda verb: verb.name)
def test_every_verb_says_what_it_does_with_which_options_and_an_example(verb, capsys):
    with pytest.raises(SystemExit):
        verbs.parser().parse_args([*verb.name.split(), "--help"])
    said = capsys.readouterr().out
    assert f"for example: python -m xlscale {verb.example}" in said
    assert all(details["help"] for _, details in verb.options)
    assert callable(resolve_name(f"xlscale.{verb.call}"))
    options = verbs.parser().parse_args(verb.example.split())
    assert options.call.args == (verb,)


def test_help_imports_nothing_heavy():
    done = _run("-X", "importtime", "-m", "xlscale", "--help")
    assert done.returncode == 0
    assert all(verb.name.split()[0] in done.stdout for verb in verbs.VERBS)
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert not imported & {"torch", "pandas", "numpy", "pydantic", "yaml", "snakemake"}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["reproduc"], "expected one of reproduce, verify, "),
        (["data", "get"], "expected one of fetch, check, cost, got 'get'"),
        (["reproduce", "--source", "old"], "--source: expected one of record, fresh, got 'old'"),
        (["verify", "--n", "0"], "--n: expected a number of at least 1, got '0'"),
        ([], "the following arguments are required: VERB"),
    ],
)
def test_a_wrong_argument_gets_one_line_with_what_is_expected(arguments, line):
    done = _run("-m", "xlscale", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("xlscale: ")
    assert line in done.stderr


def _make(*arguments: str) -> str:
    # -o: the environment is there, however old it is.
    command = ["make", "--no-print-directory", "-o", ".venv/.ready", f"PY={sys.executable}", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


def test_a_variable_of_make_reaches_the_command_as_one_argument():
    assert _make("plan", "STUDY=a b'c").startswith('xlscale: unknown study "a b\'c": expected one of ')
    assert "xlscale: a b.csv: " in _make("add-source", "FILE=a b.csv")


def test_make_says_which_variable_is_missing():
    assert "make cell: ID: expected the id of a cell" in _make("cell")
    assert "make score: PREDICTIONS: expected a folder" in _make("score")


def test_the_canary_is_of_all_studies_unless_one_is_named():
    assert "--study" not in _make("-n", "canary")
    assert "--study 'pilot'" in _make("-n", "canary", "STUDY=pilot")
    assert "data check 'xnli' 'xcopa'" in _make("-n", "data-check", "CARD=xnli xcopa")


def test_make_help_lists_every_target():
    targets = {line.split()[1] for line in _make("help").splitlines()}
    declared = (ROOT / "Makefile").read_text().split(".PHONY:")[1:]
    assert targets == {name for line in declared for name in line.splitlines()[0].split()}
