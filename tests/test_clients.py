"""Programs that fetch and build end with the process that runs them."""

import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest

from xlscale import acquire
from xlscale.core.files import ROOT

WAITS = """import sys
from pathlib import Path
from xlscale.acquire import clients
clients.run(["sh", "-c", "echo $$ > pid.part; mv pid.part pid; exec sleep 300"], cwd=sys.argv[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux ends a child with its parent")
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_a_client_ends_with_the_process_that_runs_it(tmp_path, sign):
    process = subprocess.Popen([sys.executable, "-c", WAITS, str(tmp_path)])
    began = time.monotonic()
    while not (tmp_path / "pid").exists() and time.monotonic() - began < 60:
        time.sleep(0.05)
    client = psutil.Process(int((tmp_path / "pid").read_text()))
    os.kill(process.pid, sign)
    process.wait(10)
    gone, _ = psutil.wait_procs([client], timeout=5)
    assert gone


def test_nothing_that_acquires_runs_a_program_otherwise():
    folder = ROOT / "src" / "xlscale" / "acquire"
    found = {
        path.name: re.findall(r"subprocess\.(run|Popen|call|check_\w+)\(", path.read_text(encoding="utf-8"))
        for path in folder.rglob("*.py")
    }
    assert acquire and {name for name, calls in found.items() if calls} == {"clients.py"}
