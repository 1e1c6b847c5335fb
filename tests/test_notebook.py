"""A notebook without a kernel: what it finds, what it leaves, and what becomes of one that breaks."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import nbformat
import pytest
from conftest import processes, wait, write_notebook

from xlscale.engine import notebook
from xlscale.engine.notebook import Crashed

DIVERGED = "class Diverged(Exception): ..."


@pytest.fixture
def execute(tmp_path):
    """Execute these code cells, the first one that of the parameters; the executed cells."""

    def run(*sources: str, **parameters: object) -> list[nbformat.NotebookNode]:
        path = tmp_path / "here" / "example.ipynb"
        path.parent.mkdir(exist_ok=True)
        notebook.execute(write_notebook(path, *sources), tmp_path / "out" / "example.ipynb", parameters)
        return _executed(tmp_path)

    return run


def _executed(folder: Path) -> list[nbformat.NotebookNode]:
    whole = nbformat.read(folder / "out" / "example.ipynb", as_version=4)
    nbformat.validate(whole)
    return [cell for cell in whole.cells if cell.cell_type == "code"]


def test_outputs_are_those_of_a_kernel(execute):
    cells = execute(
        "a = 1",
        "import sys\nprint('one'); print('two')\nprint('beside', file=sys.stderr)\nprint('three')\na",
        "import pandas as pd\ndisplay(pd.DataFrame({'x': [1]}))\nprint('after')",
        "from IPython.display import SVG\nSVG('<svg xmlns=\"http://www.w3.org/2000/svg\"/>')",
        "%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()",
        "a;",
        a=2,
    )[2:]
    streams, displayed, drawn, plotted, silent = (cell.outputs for cell in cells)
    assert [(o.output_type, o.get("text")) for o in streams] == [
        ("stream", "one\ntwo\n"), ("stream", "beside\n"), ("stream", "three\n"), ("execute_result", None),
    ]  # fmt: skip
    assert streams[-1].data == {"text/plain": "2"}
    assert streams[-1].execution_count == cells[0].execution_count == 3
    assert [o.output_type for o in displayed] == ["display_data", "stream"]
    assert "<table" in displayed[0].data["text/html"]
    assert "image/svg+xml" in drawn[0].data
    assert [kind for o in plotted for kind in o.data] == ["image/png", "text/plain"]
    assert silent == []


def test_a_notebook_finds_a_clean_main_its_folder_and_nothing_of_its_user(execute, tmp_path, monkeypatch):
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text("of_the_user = 1")
    (startup.parent / "ipython_config.py").write_text("c.InteractiveShell.ast_node_interactivity = 'all'")
    (tmp_path / "matplotlib").mkdir()
    (tmp_path / "matplotlib" / "matplotlibrc").write_text("lines.linewidth: 99")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "matplotlib"))
    monkeypatch.setenv("MPLBACKEND", "nonsense")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    found = execute(
        "a, b = 1, 2",
        "import json, os, sys, numpy, torch, threadpoolctl, matplotlib.pyplot\n"
        "threads = {pool['num_threads'] for pool in threadpoolctl.threadpool_info()}\n"
        "mine = sorted(name for name in globals() if name[0] != '_')\n"
        "print(json.dumps([__name__, sys.modules['__main__'].a, a, b, os.getcwd(), mine, sorted(threads),\n"
        "    matplotlib.rcParams['lines.linewidth'], matplotlib.get_backend()]))",
        a=5,
    )[-1].outputs
    name, main, a, b, folder, names, threads, width, backend = json.loads(found[-1].text)
    assert (name, main, a, b) == ("__main__", 5, 5, 2)
    assert folder == str(tmp_path / "here")
    assert set(names) - {"In", "Out", "exit", "quit", "get_ipython", "open"} == {
        *("a", "b", "json", "os", "sys", "numpy", "torch", "threadpoolctl", "matplotlib", "threads"),
    }
    assert threads == [1]
    assert width == 1.5
    assert backend.endswith("inline")
    assert not list((tmp_path / "ipython").rglob("*.sqlite"))


def test_a_matplotlibrc_where_a_command_or_a_notebook_is_has_no_say(execute, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir(exist_ok=True)
    for folder in (tmp_path, tmp_path / "here"):
        (folder / "matplotlibrc").write_text("lines.linewidth: 99\nsavefig.dpi: 7\nfont.size: 3\n")
    monkeypatch.chdir(tmp_path)
    code = "import matplotlib.pyplot as p; print(p.rcParams['lines.linewidth'], p.rcParams['font.size'])"
    assert execute(code)[-1].outputs[-1].text.split() == ["1.5", "10.0"]


def test_arithmetic_is_not_what_the_user_of_a_notebook_set(execute, monkeypatch):
    for name in ("MKL_CBWR", "ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY"):
        monkeypatch.setenv(name, "default")
    code = "import os, torch; print(sorted(n for n in os.environ if n[:4] in ('MKL_', 'ONED', 'ATEN')),"
    code += " torch.backends.cpu.get_cpu_capability() != 'DEFAULT')"
    assert execute(code)[-1].outputs[-1].text == "[] True\n"


@pytest.mark.parametrize(
    ("code", "line", "diverged"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero", None),
        ("this is no Python", "SyntaxError: .*invalid syntax", None),
        ("raise files.XlscaleError('cards: name: expected x')", "cards: name: expected x", None),
        (
            "class Diverged(Exception): ...\nraise Diverged('loss nan at\\nstep 3')",
            "Diverged: loss nan at step 3",
            "loss nan at step 3",
        ),
        ("import sys; sys.exit(3)", "SystemExit: 3", None),
        ("import sys; sys.exit()", "SystemExit: None", None),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "its process was killed", None),
    ],
)
def test_what_breaks_is_one_line_and_stands_in_the_notebook(code, line, diverged, execute, tmp_path):
    with pytest.raises(Crashed, match=rf"^example.ipynb: {line}") as caught:
        execute("from xlscale.core import files", code, "print('never')")
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.diverged == diverged
    broken, after = _executed(tmp_path)[-2:]
    assert after.outputs == []
    if "KILL" not in code:
        [error] = [output for output in broken.outputs if output.output_type == "error"]
        assert error.traceback


def test_one_notebook_leaves_nothing_to_the_next(execute):
    execute("x = 1", "import sys, numpy\nsys.leaked = True\nnumpy.pi = 3")
    found = execute("y = 1", "import sys, numpy\n[hasattr(sys, 'leaked'), 'x' in globals(), numpy.pi > 3]")[-1]
    assert found.outputs[0].data["text/plain"] == "[False, False, True]"


def test_a_process_executes_one_notebook(execute):
    inner = "from pathlib import Path\nfrom xlscale.engine import notebook\n"
    inner += "notebook.execute_here(Path('example.ipynb'), Path('../out/inner.ipynb'), {})"
    with pytest.raises(Crashed, match="RuntimeError: expected a process that has executed no notebook"):
        execute("x = 1", inner)


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes through /proc")
def test_a_notebook_ends_with_the_process_that_asked_for_it(tmp_path, execute, monkeypatch):
    monkeypatch.setenv("XLSCALE_RUNS", str(tmp_path))  # by which the process is found

    def broken() -> None:
        with pytest.raises(Crashed, match="its process was killed"):
            execute("x = 1", "import time\ntime.sleep(600)")

    thread = threading.Thread(target=broken)
    thread.start()
    wait(lambda: (tmp_path / "out" / "example.ipynb").exists())
    found = processes("xlscale.engine.notebook", tmp_path)
    os.kill(found[0], signal.SIGKILL)
    thread.join()
    code = f"from pathlib import Path; from xlscale.engine import notebook as n; p = Path({str(tmp_path)!r}); "
    code += "n.execute(p / 'here' / 'example.ipynb', p / 'out' / 'second.ipynb', {})"
    above = subprocess.Popen([sys.executable, "-c", code])
    wait(lambda: (tmp_path / "out" / "second.ipynb").exists())
    time.sleep(0.5)
    above.kill()
    above.wait()
    wait(lambda: not processes("xlscale.engine.notebook", tmp_path), 20)


def test_no_library_is_imported_before_the_environment_is_set():
    code = "import sys, xlscale.__main__, xlscale.engine.runner; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "torch", "pandas", "datasets", "matplotlib", "pyarrow"} & set(done.stdout.split())


@pytest.mark.parametrize("kernel", [False, pytest.param(True, marks=pytest.mark.again)], ids=["here", "papermill"])
def test_a_fault_that_the_user_can_mend_is_a_line_and_another_one_whole(execute, kernel, tmp_path):
    check = "from xlscale.engine.notebook import check_parameters\ncheck_parameters('example.ipynb')\n"
    check += "from xlscale.core.files import XlscaleError"
    for code, whole in (("raise XlscaleError('layers: expected 1')", False), ("1 / 0", True)):
        with suppress(Crashed):
            execute("layers = 1", check, code)
        if kernel:
            path = tmp_path / "out" / "example.ipynb"
            command = [
                sys.executable,
                "-m",
                "papermill",
                "--no-progress-bar",
                tmp_path / "here" / "example.ipynb",
                path,
            ]
            subprocess.run(command, capture_output=True)
        [error] = [one for cell in _executed(tmp_path) for one in cell.outputs if one.output_type == "error"]
        told = [line for part in error.traceback for line in part.splitlines()]
        assert (len(told) > 3) == whole
        assert whole or told == ["XlscaleError: layers: expected 1"]


def test_a_text_in_a_table_is_no_formula(execute):
    data = "import pandas, xlscale.report\npandas.DataFrame({'text': ['$x^2$']})"
    shown = execute("layers = 1", data)[-1].outputs[0].data["text/html"]
    assert "mathjax_ignore" in shown and "$x^2$" in shown


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"layers": [1]}, "layers: expected a whole number from 0 on, got [1]"),
        ({"layers": True}, "layers: expected a whole number from 0 on, got True"),
        ({"layers": -1}, "layers: expected a whole number from 0 on, got -1"),
        ({"share": "much"}, "share: expected a number from 0 on, got 'much'"),
        ({"study": 5}, "study: expected a text, got 5"),
        ({"rungs": 4}, "rungs: expected a list, got 4"),
        ({"whole": 1}, "whole: expected true or false, got 1"),
        ({"layers": 2, "share": 1, "study": "", "rungs": [], "whole": False, "rate": 0.1}, None),
    ],
)
def test_a_parameter_is_of_the_kind_of_its_default(execute, given, expected):
    check = "from xlscale.engine.notebook import check_parameters\ncheck_parameters('example.ipynb')\nlayers"
    defaults = "layers = 1\nshare = 0.5\nstudy = ''\nrungs = [1]\nwhole = True\nrate = None"
    if not expected:
        assert execute(defaults, check, **given)[-1].outputs[-1].data == {"text/plain": "2"}
        return
    with pytest.raises(Crashed, match=re.escape(f"example.ipynb: {expected}")):
        execute(defaults, check, **given)


@pytest.mark.parametrize("kernel", [False, True], ids=["here", "papermill"])
def test_a_misspelt_parameter_is_no_default(execute, kernel, tmp_path):
    """Papermill itself warns and goes on with the default: also when someone runs it by hand, with Jupyter's kernel."""
    check = "from xlscale.engine.notebook import check_parameters\ncheck_parameters('example.ipynb')\nlayers"
    ends = execute("layers = 1  # a rung\nstudy = ''", check, layers=2)
    assert ends[-1].outputs[-1].data == {"text/plain": "2"}
    expected = "example.ipynb: layer: expected one of layers, study"
    if not kernel:
        with pytest.raises(Crashed, match=expected):
            execute("layers = 1\nstudy = ''", check, layer=2)
        return
    command = [sys.executable, "-m", "papermill", tmp_path / "here" / "example.ipynb", tmp_path / "by hand.ipynb"]
    done = subprocess.run([*command, "-p", "layer", "2"], capture_output=True, text=True)
    assert done.returncode == 1 and expected in done.stderr
