"""Executes a notebook through papermill, in this process or in one of its own, and makes one line of what breaks it.

A cell's process executes the cell's notebook itself. A process that may have executed one before, or that is not ours,
such as the kernel of someone's JupyterLab, has it executed in a new process: nothing leaks from one to the next.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from xlscale.core.files import XlscaleError
from xlscale.core.strict import SHORT
from xlscale.engine import processes


class Crashed(XlscaleError):
    """The notebook broke before it could leave a result; ``diverged`` is the reason if its training diverged."""

    def __init__(self, message: str, diverged: str | None = None):
        super().__init__(message)
        self.diverged = diverged


def execute(notebook: Path, output: Path, parameters: dict[str, Any]) -> None:
    """Execute a notebook in a process of its own; raises Crashed with one line."""
    process = subprocess.Popen(
        [sys.executable, "-m", "xlscale.engine.notebook"],
        env={processes.WATCHED: str(os.getpid())} | processes.environment(),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        try:
            answer, _ = process.communicate(json.dumps([str(notebook), str(output), parameters]))
        except BaseException:  # an interrupt: nothing goes on behind this process's back
            process.kill()
            raise
    if process.returncode:
        raise Crashed(**json.loads(answer or json.dumps({"message": f"{notebook.name}: its process was killed"})))


def execute_here(notebook: Path, output: Path, parameters: dict[str, Any]) -> None:
    """Execute a notebook in this process, which may have executed none before; raises Crashed with one line.

    The environment has to be ``processes.ENVIRONMENT`` since before the first library was imported.
    """
    processes.without_grammars()
    # Imported here: they take seconds to import, and most calls of a runner find their cell complete.
    import papermill
    from papermill.engines import papermill_engines
    from papermill.exceptions import PapermillExecutionError

    from xlscale.engine import shell

    output.parent.mkdir(parents=True, exist_ok=True)
    papermill_engines.register("in_process", shell.InProcess)
    try:
        papermill.execute_notebook(
            *(
                str(path).replace("{", "{{").replace("}", "}}") for path in (notebook, output)
            ),  # papermill fills in braces
            parameters=parameters,
            engine_name="in_process",
            progress_bar=False,
            autosave_cell_every=0,
            cwd=str(notebook.parent),
        )
    except PapermillExecutionError as error:
        line = " ".join(str(error.evalue).split())
        message = line if error.ename in ("XlscaleError", "Crashed") else f"{error.ename}: {line}"
        raise Crashed(f"{notebook.name}: {message}", diverged=line if error.ename == "Diverged" else None) from None
    except SystemExit as end:
        raise Crashed(f"{notebook.name}: SystemExit: {end.code}") from None
    except Exception as error:  # a full disk: nothing that papermill raises may pass for a result
        raise Crashed(f"{notebook.name}: {type(error).__name__}: {' '.join(str(error).split())}") from None


def check_parameters(where: str) -> None:
    """Refuse what papermill was given for the notebook that runs and its cell 'parameters' does not have: papermill
    leaves it at a warning, and the notebook would run with what it has; and what is of another kind than is there, or a
    number below 0. Raises XlscaleError naming ``where``: from here on a notebook shows such a fault as its line."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell:
        shell.set_custom_exc((XlscaleError,), _tell)
    sources = shell.user_ns["In"] if shell else []
    injected = next((i for i, source in enumerate(sources) if source.startswith("# Parameters\n")), None)
    if injected:  # right behind the cell with the defaults
        known = _assigned(sources[injected - 1])
        for name, value in _assigned(sources[injected]).items():
            if name not in known:
                raise XlscaleError(f"{where}: {name}: expected one of {', '.join(known)}")
            if expected := _kind(known[name], value):
                raise XlscaleError(f"{where}: {name}: expected {expected}, got {SHORT.repr(value)}")


def _tell(shell: Any, kind: type[BaseException], error: BaseException, trace: Any, tb_offset: Any = None) -> list[str]:
    """Show a fault that the user can mend as the command line tells it, without a traceback, which %tb shows."""
    sys.last_type, sys.last_value, sys.last_traceback = kind, error, trace
    lines = [f"{kind.__name__}: {error}"]
    shell._showtraceback(kind, error, lines)
    return lines


def _assigned(source: str) -> dict[str, Any]:
    """The names that a cell gives values, and these, None where one is no literal."""
    found = {}
    for node in ast.parse(source).body:
        for target in node.targets if isinstance(node, ast.Assign) else ():
            if isinstance(target, ast.Name):
                with suppress(ValueError):
                    found[target.id] = None
                    found[target.id] = ast.literal_eval(node.value)
    return found


def _kind(default: Any, value: Any) -> str | None:
    """What is expected in the place of ``value``, by what stands there; nothing where that is as it should be, or where
    either says nothing."""
    if default is None or value is None:
        return None
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "true or false"
    if isinstance(default, int | float):
        whole = isinstance(default, int)
        fits = isinstance(value, int if whole else int | float) and not isinstance(value, bool) and value >= 0
        return None if fits else f"a {'whole ' * whole}number from 0 on"
    kinds = {str: "a text", list: "a list", dict: "a mapping"}
    return next((said for kind, said in kinds.items() if isinstance(default, kind) != isinstance(value, kind)), None)


def _child() -> None:
    """Execute the notebook that standard input names; what breaks it goes to standard output, all else beside it."""
    processes.die_with_parent()
    answer = os.dup(1)
    os.dup2(2, 1)
    notebook, output, parameters = json.load(sys.stdin)
    try:
        execute_here(Path(notebook), Path(output), parameters)
    except Crashed as error:
        os.write(answer, json.dumps({"message": str(error), "diverged": error.diverged}).encode())
        sys.exit(1)


if __name__ == "__main__":
    _child()
