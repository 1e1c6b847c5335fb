"""The explorer by hand: JupyterLab as `make explore` starts it, in a headless Chromium."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from browser import Browser, there
from conftest import wait

from xlscale.commands import explore
from xlscale.core.files import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not there(), reason="needs chromium and chromedriver"),
]
TOKEN = "of-a-test"
HOSTILE = "<img src=x onerror=window.hacked=1> $x^2$"
# What MathJax would make formulas of, in a widget's HTML and in that of an output.
FORMULAS = "return document.querySelectorAll('.xlscale-items img, .jp-Notebook mjx-container').length"
# Run in the explorer's kernel: items whose texts are HOSTILE.
SHOWN = f"""
from xlscale.report import predictions
from xlscale.report.explorer import items
one = predictions._one({HOSTILE!r})
items.texts = lambda *_: type("Texts", (), {{"item": lambda *_: (one, one), "said": lambda *_: one}})()
from IPython.display import HTML, display
from xlscale.report.markup import fill, plain
display(HTML(plain(fill("<p>{{}}</p>", {HOSTILE!r}))))
explorer.items()
"""
# What is in the notebook, of which JupyterLab draws the part that is seen.
LIST = """
const part = [...document.querySelectorAll('.jp-Notebook .jp-Cell')].find(e => e.textContent.includes(arguments[0]));
const plain = text => text.replace(/\\u00a0/g, ' ');
const one = [...part.querySelectorAll('.widget-dropdown, .widget-select-multiple')].find(
  e => e.querySelector('label').textContent === arguments[1]).querySelector('select');
for (const option of one.options) option.selected = plain(option.text).includes(arguments[2]);
one.dispatchEvent(new Event('change', {bubbles: true}));
"""
SAID = """
const part = [...document.querySelectorAll('.jp-Notebook .jp-Cell')].find(e => e.textContent.includes(arguments[0]));
return part ? [...part.querySelectorAll('.widget-html-content')].map(e => e.textContent).join(' ') : '';
"""
CLICK = """
[...document.querySelectorAll('.jp-Notebook button')].find(e => e.textContent.includes(arguments[0])).click()
"""
READY = """
const open = window.jupyterapp && window.jupyterapp.shell.currentWidget;
return !!(open && open.context && open.context.isReady && document.querySelector('.jp-Notebook .jp-Cell')
  && open.sessionContext.session && open.sessionContext.session.kernel.status === 'idle');
"""
PROMPTS = "return [...document.querySelectorAll('.jp-Notebook .jp-InputArea-prompt')].map(e => e.textContent).join('')"
PICTURES = "return [...document.querySelectorAll('.jp-Notebook img[alt]')].map(e => [e.alt, e.naturalWidth])"
STDERR = "return document.querySelectorAll('.jp-OutputArea-output[data-mime-type*=stderr], .ansi-red-fg').length"


class Lab:
    """A notebook in JupyterLab, and the browser that it is open in."""

    def __init__(self, browser: Browser, address: str):
        self.browser, self.do = browser, browser.do
        browser.media("light", 1300, 1000)
        browser.open(address)
        wait(lambda: self.do(READY), 60)

    def command(self, name: str) -> None:
        """Execute a command of JupyterLab."""
        self.do("window.jupyterapp.commands.execute(arguments[0])", name)

    def run(self) -> None:
        """Run all cells, to the end."""
        self.command("notebook:run-all-cells")
        wait(lambda: "[*]" not in (told := self.do(PROMPTS)) and "[8]" in told, 240)

    def until(self, part: str, text: str, seconds: float = 60) -> str:
        """Wait until a part, named after its code, shows ``text``, and give what it shows."""
        return wait(lambda: (said := self.do(SAID, part)) and text in said and said, seconds)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab with the explorer run in it. The notebook is put back if something should have changed it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("lab")
    environment = os.environ | {"XLSCALE_RUNS": str(folder / "runs"), "JUPYTERLAB_SETTINGS_DIR": str(folder)}
    options = [f"--port={port}", "--ip=127.0.0.1", "--no-browser", f"--IdentityProvider.token={TOKEN}"]
    options += ["--expose-app-in-browser", "--ServerApp.port_retries=0"]
    notebook, base = ROOT / explore.START, f"http://127.0.0.1:{port}"
    content = notebook.read_bytes()
    command = [sys.executable, "-m", "xlscale", "explore", "--", *options]
    with open(folder / "log.txt", "wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
    try:
        wait(lambda: _answers(f"{base}/api?token={TOKEN}"), 60)
        browser = Browser()
        try:
            one = Lab(browser, f"{base}/lab/tree/{explore.START}?token={TOKEN}&reset")
            one.run()
            yield one
        finally:
            browser.close()
    finally:
        server.terminate()
        server.wait()
        if notebook.read_bytes() != content:
            notebook.write_bytes(content)


def _answers(address: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, timeout=5):
            return True
    except OSError:
        return False


def test_all_parts_are_there_and_nothing_is_red(lab):
    pictures = lab.do(PICTURES)
    assert [alt.split(".")[0] for alt, _ in pictures] == ["value against size", "Difference by language"]
    assert all(width > 100 for _, width in pictures)
    assert lab.do(STDERR) == 0
    assert "11 to" not in lab.until("explorer.items()", "1 to 10 of")
    assert "runs on tasks" in lab.do(SAID, "explorer.choose()")


def test_a_choice_is_followed_by_all_that_shows_it(lab):
    lab.do(LIST, "explorer.choose()", "Tasks", "UDHR")
    lab.do(LIST, "explorer.choose()", "Languages", "sw")
    costs = wait(lambda: "Package topic" not in (said := lab.do(SAID, "explorer.costs()")) and said)
    assert "UDHR-50" in costs
    lab.do(CLICK, "gain over no intermediate training")
    wait(lambda: [alt for alt, _ in lab.do(PICTURES) if alt.startswith("gain")])


def test_items_are_shown_in_their_own_script_from_right_to_left(lab):
    lab.do(LIST, "explorer.items()", "Task", "UDHR")
    lab.until("explorer.items()", "All human beings")
    lab.do(LIST, "explorer.items()", "Language", "ar")
    lab.until("explorer.items()", "1 to 10 of 50 items in ar")
    told = lab.do("""
      const text = [...document.querySelectorAll('.xlscale-items [dir=auto]')].find(
        e => /\\p{Script=Arabic}/u.test(e.textContent));
      return [getComputedStyle(text).direction, text.getBoundingClientRect().width > 0];
    """)
    assert told == ["rtl", True]


def test_a_cell_runs_with_progress_and_is_compared(lab):
    lab.do(LIST, "explorer.run()", "Task or phase", "pretrained")
    lab.until("explorer.run()", "s on the machine of the record")
    lab.do(CLICK, "Run this cell now")
    lab.until("explorer.run()", "cell 1 of 1, phase pretrained")
    said = lab.until("explorer.run()", "% here", 240)
    assert "record" in said and "executed notebook" in said


def _saved(lab: Lab, notebook: Path) -> int:
    """The time of the notebook's file after a save; one that meets an autosave does nothing."""
    lab.command("docmanager:save")
    time.sleep(0.5)
    return notebook.stat().st_mtime_ns


def test_what_is_saved_is_what_came_with_the_checkout(lab):
    """As autosave does again and again, with all cells run."""
    notebook = ROOT / explore.START
    before = notebook.read_bytes()
    for _ in range(2):
        written = notebook.stat().st_mtime_ns
        wait(lambda then=written: _saved(lab, notebook) != then)
        assert notebook.read_bytes() == before
        assert not lab.do("return !!document.querySelector('.jp-Dialog')")


def test_hostile_texts_are_shown_and_do_nothing(lab):
    lab.do(
        """
        const notebook = window.jupyterapp.shell.currentWidget.content, cells = notebook.model.sharedModel.cells;
        notebook.model.sharedModel.insertCell(cells.length, {cell_type: 'code', source: arguments[0]});
        notebook.activeCellIndex = cells.length - 1;
        window.jupyterapp.commands.execute('notebook:run-cell');
        """,
        SHOWN,
    )
    assert HOSTILE in lab.until("type(", HOSTILE)
    time.sleep(2)  # for whatever would be drawn
    assert lab.do("return !!window.hacked") is False and lab.do(FORMULAS) == 0
