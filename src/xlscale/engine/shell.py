"""A notebook's code cells run in this process: IPython without a kernel, as an engine of papermill.

Belongs here: what takes the place of Jupyter's kernel. The notebook finds an interpreter of its own, without the user's
profile, start-up files and history; text and figures that it shows become the outputs of its cells.
"""

from __future__ import annotations

import io
import tempfile
from base64 import b64encode
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import matplotlib
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from nbformat import NotebookNode
from nbformat.v4 import new_output
from papermill.engines import Engine, NotebookExecutionManager
from traitlets import Type
from traitlets.config import Config


class Stream(io.TextIOBase):
    """Standard output or standard error of the cell that runs."""

    encoding = "utf-8"

    def __init__(self, shell: Shell, name: str):
        self.shell, self.name = shell, name

    def writable(self) -> bool:
        """Whether this can be written to."""
        return True

    def write(self, text: str) -> int:
        """Add text to the cell's last output if that is of the same stream, else as an output of its own."""
        last = self.shell.outputs[-1] if self.shell.outputs else {}
        if last.get("name") == self.name:
            last.text += text
        elif text:
            self.shell.outputs.append(new_output("stream", name=self.name, text=text))
        return len(text)


def _bundle(data: dict[str, Any]) -> dict[str, Any]:
    """What is shown, by MIME type, with bytes as the text that a notebook holds for them."""
    return {kind: b64encode(value).decode() if isinstance(value, bytes) else value for kind, value in data.items()}


class Results(DisplayHook):
    """Keeps the values of a cell's last expression."""

    def write_output_prompt(self) -> None:
        """Nothing: a notebook shows the number beside the output."""

    def write_format_data(self, format_dict: dict[str, Any], md_dict: dict[str, Any] | None = None) -> None:
        """Add a value to the outputs of the cell that runs."""
        about = {"metadata": md_dict or {}, "execution_count": self.prompt_count}
        self.shell.outputs.append(new_output("execute_result", _bundle(format_dict), **about))


class Displays(DisplayPublisher):
    """Keeps what ``display`` is given."""

    def publish(self, data: dict[str, Any], metadata: dict[str, Any] | None = None, **_: Any) -> None:
        """Add what is displayed to the outputs of the cell that runs."""
        self.shell.outputs.append(new_output("display_data", _bundle(data), metadata=metadata or {}))

    def clear_output(self, wait: bool = False) -> None:
        """Forget the outputs of the cell that runs."""
        self.shell.outputs.clear()


class Shell(InteractiveShell):
    """IPython's interpreter, with the outputs of one cell at a time."""

    displayhook_class = Type(Results)
    display_pub_class = Type(Displays)
    outputs: list[NotebookNode]

    def __init__(self, **options: Any):
        self.outputs = []
        no_history = Config(HistoryManager={"enabled": False, "hist_file": ":memory:"})
        super().__init__(config=no_history, ipython_dir=tempfile.gettempdir(), **options)

    def init_profile_dir(self, profile_dir: Any) -> None:
        """No profile: this one would be the user's."""

    def enable_gui(self, gui: str | None = None) -> None:
        """No windows: ``%matplotlib inline`` asks for none, and needs to be allowed to."""

    def _showtraceback(self, etype: type[BaseException], evalue: BaseException, stb: list[str]) -> None:
        self.outputs.append(new_output("error", ename=etype.__name__, evalue=str(evalue), traceback=stb))

    def run(self, cell: NotebookNode) -> bool:
        """Run a code cell and leave its outputs in it; returns whether it ended well.

        Raises SystemExit and KeyboardInterrupt: they are meant for the process.
        """
        self.outputs = cell.outputs
        result = self.run_cell(cell.source, store_history=True)
        cell.execution_count = result.execution_count
        if isinstance(result.error_in_exec, SystemExit | KeyboardInterrupt):
            raise result.error_in_exec
        return result.success


class InProcess(Engine):
    """Executes a notebook in this process, which may have executed none before: what one leaves, the next would see."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: NotebookExecutionManager, kernel_name: str, **_: Any) -> None:
        """Run the code cells one after the other, up to the first that fails."""
        if InteractiveShell.initialized():
            raise RuntimeError("expected a process that has executed no notebook")
        matplotlib.rcdefaults()  # whatever a matplotlibrc said that lay where it was imported
        shell = Shell.instance()
        with redirect_stdout(Stream(shell, "stdout")), redirect_stderr(Stream(shell, "stderr")):
            for index, cell in enumerate(nb_man.nb.cells):
                nb_man.cell_start(cell, index)
                well = cell.cell_type != "code" or shell.run(cell)
                if not well:
                    nb_man.cell_exception(cell, index)
                nb_man.cell_complete(cell, index)
                if not well:
                    break
