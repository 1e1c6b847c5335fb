"""The command line and the Makefile: help at every level, one line for what is wrong, values as they were given."""

import io
import os
import pty
import re
import shlex
import subprocess
import sys
from pkgutil import resolve_name

import pytest

from xlscale.commands import options, verbs
from xlscale.core import ending, files
from xlscale.core.files import ROOT
from xlscale.engine import processes


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


def test_an_interpreter_that_drops_docstrings_is_left():
    """transformers reads docstrings while a model is imported: with PYTHONOPTIMIZE=2 no cell would run."""
    code = "import os; os.execv = lambda *a: print(a[1], 'PYTHONOPTIMIZE' in os.environ)\n"
    code += "from xlscale.__main__ import main; main(['plan', '--help'])"
    call = {"capture_output": True, "text": True, "env": os.environ | {"PYTHONOPTIMIZE": "2"}}
    said = subprocess.run([sys.executable, "-c", code], **call).stdout.splitlines()
    assert said[0] == f"{[sys.executable, '-m', 'xlscale', 'plan', '--help']} False"


def test_a_terminal_of_another_encoding_is_printed_to():
    call = {"capture_output": True, "env": os.environ | {"PYTHONIOENCODING": "iso8859-1", "PYTHONUTF8": "0"}}
    done = subprocess.run([sys.executable, "-m", "xlscale", "cells", "--study", "smoke"], **call)
    assert done.returncode == 0 and done.stderr == b"", done.stderr[-500:]
    assert b"target-e5_small" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["reproduc"], "expected one of reproduce, verify, "),
        (["data", "get"], "expected one of fetch, check, cost, got 'get'"),
        (["reproduce", "--source", "old"], "--source: expected one of record, fresh, got 'old'"),
        (["verify", "--n", "0"], "--n: expected a number of at least 1, got '0'"),
        (["verify", "--n", "٣"], "--n: expected a number of at least 1, got '٣'"),
        (["verify", "--seed", "99999999999"], "--seed: expected a number of at most 999999999, got '99999999999'"),
        (["verify", "--seed", "1_0"], "--seed: expected a number of at least 0, got '1_0'"),
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


@pytest.mark.parametrize("lines", [1, 20_000])
def test_who_is_read_no_further_ends_without_a_word(lines):
    """As behind ``| head``, whether its text is written at once or at the end."""
    code = "import sys, time; from xlscale.core import ending; time.sleep(0.5); "
    code += f"sys.exit(ending.exit_code(lambda: print('line\\n' * {lines})))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert (process.wait(60), process.stderr.read()) == (141, "")


@pytest.mark.parametrize("module", ["xlscale", "xlscale.score"])
@pytest.mark.parametrize("given", [["--help"], ["list", "methods"]])
def test_a_caller_that_has_closed_its_output_is_no_fault(module, given):
    shell = f"exec {shlex.quote(sys.executable)} -m {module} {shlex.join(given)} >&-"
    done = subprocess.run(["bash", "-c", shell], stderr=subprocess.PIPE, text=True)
    assert "Traceback" not in done.stderr and done.returncode in (0, 2)


@pytest.mark.parametrize(
    ("settings", "begins"),
    [({}, "\x1b[31mxlscale\x1b[0m: "), ({"NO_COLOR": "1"}, "xlscale: "), ({"TERM": "dumb"}, "xlscale: ")],
)
def test_a_fault_is_coloured_on_a_terminal_unless_nobody_wants_that(settings, begins):
    ours, theirs = pty.openpty()
    environment = (
        {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm"} | settings
    )
    command = [sys.executable, "-m", "xlscale", "cells", "--study", "nobody"]
    assert subprocess.run(command, stderr=theirs, env=environment).returncode == 1
    os.close(theirs)
    assert os.read(ours, 2**16).decode().startswith(begins)
    os.close(ours)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("good", "code"), [(True, 32), (False, 31)])
def test_a_verdict_is_coloured_and_its_markdown_is_left_alone_elsewhere(monkeypatch, good, code):
    text = "Machine: one.\n**5 of 5 recomputed cells agree.** As they should.\n\n| a |"
    assert ending.verdict(text, good) == text
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    bold = "**5 of 5 recomputed cells agree.** As they should."
    assert ending.verdict(text, good) == text.replace(bold, f"\x1b[{code}m{bold}\x1b[0m")


def test_who_interrupts_is_told_what_there_is_of_it(capsys):
    def work():
        raise KeyboardInterrupt

    assert ending.exit_code(work, "xlscale.score") == 130
    assert ending.exit_code(work, left="; all is kept") == 130
    assert capsys.readouterr().err == "xlscale.score: interrupted\nxlscale: interrupted; all is kept\n"


def test_a_folder_named_from_here_is_the_same_one_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {
        "XLSCALE_MINE": "a",
        "XLSCALE_LOCKS": "b",
        "XLSCALE_RUNS": "/c",
        "XLSCALE_DEVICE": "cpu",
        "XLSCALE_HUB": "",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    processes.settle_folders()
    found = {name: os.environ[name] for name in given}
    assert found == given | {"XLSCALE_MINE": f"{tmp_path}/a", "XLSCALE_LOCKS": f"{tmp_path}/b"}


def test_every_variable_that_commands_read_is_known_as_one():
    """So that no card's folder is named by it, and relative folders are settled."""
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    named = {*re.findall(r'"(XLSCALE_[A-Z]+)"', source)} - {"XLSCALE_LABELS"}  # which cards name too
    assert named == files.SETTINGS


def test_blanks_count_in_a_prefix_alone():
    assert options.stated("prefix=query: ; name = a ; title= b c ") == {
        "prefix": "query: ",
        "name": "a",
        "title": "b c",
    }
    assert options.stated("prefix= query: ")["prefix"] == "query: "


@pytest.mark.parametrize("value", ["0", "no", "2", "1 1"])
def test_what_is_there_is_replaced_by_1_alone(value):
    assert "make add-source: REPLACE: expected 1, or nothing" in _make("add-source", "FILE=f", f"REPLACE={value}")


def test_an_empty_name_of_a_study_is_none_and_told_before_any_work():
    """As `make paper STUDY=` hands it over: the check of the record alone would take a quarter of a minute."""
    done = _run("-m", "xlscale", "step", "check", "--study", "")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("xlscale: unknown study '': expected one of ")


MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", "")
VARIABLES = re.search(r"^VARIABLES := (.*)", MAKEFILE, re.MULTILINE)[1].split()


def _make(*arguments: str, python: str = sys.executable, cwd=ROOT, **environment: str) -> str:
    # -o: the environment is there, however old it is.
    command = ["make", "--no-print-directory", "-f", str(ROOT / "Makefile"), "-o", ".venv/.ready", f"PY={python}"]
    # `make test` hands its own variables on, as to every command.
    own = {*VARIABLES, "MAKELEVEL", "MAKEFLAGS"}
    clean = {name: value for name, value in os.environ.items() if name not in own}
    done = subprocess.run(
        [*command, *arguments], cwd=cwd, capture_output=True, text=True, timeout=60, env=clean | environment
    )
    return done.stdout + done.stderr


@pytest.fixture
def told(tmp_path):
    """Run make in an empty folder with a Python that says what it was told: its arguments, null-terminated."""
    stub, log = tmp_path / "a stub", tmp_path / "log"
    stub.write_text(f"#!/bin/sh\nfor one do printf '%s\\0' \"$one\"; done > {log}\n")
    stub.chmod(0o755)
    empty = tmp_path / "empty"
    empty.mkdir()

    def run(*arguments: str, **environment: str) -> list[str]:
        log.unlink(missing_ok=True)
        said = _make(*arguments, python=str(stub), cwd=empty, **environment)
        assert not list(empty.iterdir()), "something that a value says was done"
        assert log.exists(), said
        return log.read_text().split("\0")[:-1]

    return run


# What reaches which argument of which target.
REACHES = [
    ("reproduce", "STUDY", "--study={}"),
    ("reproduce", "CELLS", "--cells={}"),
    ("reproduce", "SOURCE", "--source={}"),
    ("reproduce", "JOBS", "--jobs={}"),
    ("verify", "N", "--n={}"),
    ("verify", "SEED", "--seed={}"),
    ("canary", "STUDY", "--study={}"),
    ("canary", "AGAINST", "--against={}"),
    ("sweep", "STUDY", "--study={}"),
    ("sweep", "PROFILE", "--profile={}"),
    ("record", "HARDWARE", "--hardware={}"),
    ("record", "JOBS", "--jobs={}"),
    ("heal", "MODEL", "--model={}"),
    ("cells", "STUDY", "--study={}"),
    ("plan", "STUDY", "--study={}"),
    ("plan", "METHOD", "--method={}"),
    ("plan", "HARDWARE", "--hardware={}"),
    ("paper", "STUDY", "--study={}"),
    ("cell", "ID", "{}"),
    ("prompt", "ID", "{}"),
    ("data-fetch", "STUDY", "--study={}"),
    ("data-check", "STUDY", "--study={}"),
    ("add-source", "FILE", "{}"),
    ("add-source", "SET", "--set={}"),
    ("withdraw-source", "KEY", "{}"),
    ("new-data", "FILE", "{}"),
    ("new-data", "FAMILY", "--family={}"),
    ("new-data", "SET", "--set={}"),
    ("new-model", "FILE", "{}"),
    ("new-model", "SET", "--set={}"),
    ("export", "OUT", "--out={}"),
    ("export", "CELLS", "--cells={}"),
    ("export", "STUDY", "--study={}"),
    ("crate", "OUT", "--out={}"),
    ("crate", "STUDY", "--study={}"),
    ("score", "PREDICTIONS", "--predictions={}"),
    ("score", "AGAINST", "{}"),
    ("score", "LABELS", "--labels={}"),
    ("score", "BENCHMARK", "--benchmark={}"),
    ("score", "OPTIONS", "--options={}"),
]
HOSTILE = [
    "x; touch y; #",
    "a b'c\"d",
    "$(shell touch y)",
    "$$(touch y)",
    "`touch y`",
    "x\ntouch y\n",
    "'; touch y; '",
    '"; touch y; "',
    "$(error x)",
    "${HOME} $HOME %s *",
    "--help",
    "-x",
    "a\\",
    "x & touch y | touch y > y",
    "#",
    "ü猫",
    "$(eval y:=$(shell touch y))",
]


@pytest.mark.parametrize(("target", "variable", "argument"), REACHES)
def test_a_value_reaches_python_as_it_is_and_nothing_in_it_is_run(told, target, variable, argument):
    # Each value is tried on a few of the variables, and on every variable several of them.
    first = REACHES.index((target, variable, argument))
    needed = {
        "score": ["PREDICTIONS=p", "LABELS=l"],
        "export": ["OUT=o"],
        "crate": ["OUT=o"],
        "add-source": ["FILE=f"],
        "new-data": ["FILE=f", "FAMILY=x"],
        "new-model": ["FILE=f"],
    }.get(target, [])
    for value in HOSTILE[first % 3 :: 3]:
        others = [one for one in needed if not one.startswith(f"{variable}=")]
        assert argument.format(value) in told(target, *others, f"{variable}={value}")
    assert argument.format(HOSTILE[2]) in told("-e", target, *others, **{variable: HOSTILE[2]})


def test_cards_are_words_and_no_patterns(told):
    assert told("data-fetch", "CARD=xnli xcopa")[-3:] == ["--", "xnli", "xcopa"]
    assert told("data-check", "CARD=* $(shell touch y) `touch y` -x;")[-8:] == [
        *("--", "*", "$(shell", "touch", "y)", "`touch", "y`", "-x;")
    ]


def test_a_variable_that_no_target_knows_is_told(tmp_path):
    said = _make("plan", "STUDIES=suite", "-n")
    assert "STUDIES: no target knows this variable, expected one of STUDY MODEL CELLS" in said
    assert "xlscale plan" not in said
    assert "STUDY, CARD: expected one of them, not both" in _make("data-fetch", "STUDY=pilot", "CARD=xnli")
    assert "VENV: no target knows this variable" in _make("plan", "VENV=x; touch y", cwd=tmp_path)
    assert "xlscale plan" in _make("-n", "plan", STUDIES="of the environment, for others")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["reproduce", "N=3"], "N: not read by `make reproduce`, which reads CELLS SOURCE STUDY JOBS"),
        (["test", "JOBS=2"], "JOBS: not read by `make test`, which reads no variable"),
        (["JOBS=2"], "JOBS: not read by `make help`"),
        (["plan", "cells", "SEED=2"], "SEED: not read by `make plan cells`, which reads STUDY METHOD HARDWARE OPTIONS"),
        (["reprodce"], "reprodce: no such target; `make help` lists them"),
        (["tets", "STUDY=pilot"], "tets: no such target; `make help` lists them"),
        (["'; touch y; '"], "no such target"),
    ],
)
def test_what_would_change_nothing_or_is_no_target_is_told(arguments, told, tmp_path):
    assert told in _make(*arguments, cwd=tmp_path)
    assert not list(tmp_path.iterdir())


def test_one_of_several_targets_may_read_a_variable():
    assert "pytest" in _make("-n", "reproduce", "test", "JOBS=2")


def test_a_variable_of_make_reaches_the_command_as_one_argument():
    assert _make("cells", "STUDY=a b'c").startswith('xlscale: unknown study "a b\'c": expected one of ')
    assert "xlscale: a b.csv: " in _make("add-source", "FILE=a b.csv")


def test_make_says_which_variable_is_missing():
    assert "make cell: ID: expected the id of a cell" in _make("cell")
    assert "make score: PREDICTIONS: expected a folder" in _make("score")


def test_the_canary_is_of_all_studies_unless_one_is_named():
    assert "--study" not in _make("-n", "canary")
    assert "--study=" in _make("-n", "canary", "STUDY=pilot")
    assert "--study=" not in _make("-n", "canary", STUDY="pilot")


@pytest.mark.parametrize(("target", "variable", "argument"), REACHES)
def test_what_the_environment_has_of_that_name_is_told_and_does_not_count(told, target, variable, argument):
    """Shells have N, SEED or OUT for other things; whoever wants them to count says -e, as of any makefile."""
    needs = {"score": ["PREDICTIONS", "LABELS"], "export": ["OUT"], "crate": ["OUT"], "cell": ["ID"], "prompt": ["ID"]}
    needs |= {"add-source": ["FILE"], "withdraw-source": ["KEY"], "new-data": ["FILE", "FAMILY"], "new-model": ["FILE"]}
    needed, mine = {name: f"{name}=x" for name in needs.get(target, [])}, {variable: "of a shell"}
    assert argument.format("of a shell") not in told(target, *needed.values(), **mine)
    needed.pop(variable, None)
    assert argument.format("of a shell") in told("-e", target, *needed.values(), **mine)


def test_a_variable_of_the_environment_is_told_once():
    said = _make("-n", "plan", STUDY="$(error x)", N="`touch y`", SEED="1")
    assert said.count("STUDY N SEED: ignored in the environment, expected on the command line") == 1
    assert "ignored" not in _make("-n", "-e", "plan", STUDY="x")
    assert "ignored" not in _make("-n", "plan", MAKELEVEL="1", STUDY="x")  # which the make above has exported


def test_make_help_lists_every_target():
    targets = {line.split()[1] for line in _make("help").splitlines()}
    declared = (ROOT / "Makefile").read_text().split(".PHONY:")[1:]
    assert targets == {name for line in declared for name in line.splitlines()[0].split()}


@pytest.mark.parametrize("path", ["README.md", "CONTRIBUTING.md", "paper/ARTIFACT.md", "data_manifest"])
def test_what_texts_tell_to_type_exists(path):
    """Targets and variables of make."""
    files = sorted((ROOT / path).rglob("README.md")) if (ROOT / path).is_dir() else [ROOT / path]
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    blocks = [
        line
        for block in re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        for line in block.split("\n")
    ]
    code = [*blocks, *re.findall(r"`([^`\n]+)`", text)]
    told = [found for line in code for found in re.findall(r"(?:^|&& )make ([a-z-]+(?: +[A-Z0-9_]+=\S+)*)", line)]
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    variables = set(re.search(r"VARIABLES := (.*?[^\\])\n", makefile, re.DOTALL)[1].split()) | {"PYTHON3"}
    for line in told:
        target, *given = line.split()
        assert target in targets, line
        assert {one.partition("=")[0] for one in given} <= variables, line
    assert told
