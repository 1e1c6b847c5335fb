"""A checkout of the last commit that nobody works in, for sweeps that read code for longer than a checkout stays as it
is: an edit would reach the jobs that begin after it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from filelock import FileLock

from xlscale.core import files
from xlscale.core.files import CACHE, ROOT, STUDIES, XlscaleError, one_line, relative

FOLDER = CACHE / "frozen"
# Folders of this checkout that the other one's commands go on writing to. Studies are read from the commit.
OURS = ("RUNS", "CACHE", "RESULTS", "BUILT", "REPRODUCTION")


def begin_again() -> None:
    """Run this command anew in a frozen checkout of the last commit, unless it runs in one.

    It replaces this process. Raises XlscaleError where the checkout is none of git's, or differs from the commit.
    """
    if ROOT.parent == FOLDER:
        return
    code = _of_last_commit()
    environment = os.environ | {f"XLSCALE_{name}": str(getattr(files, name)) for name in OURS}
    if STUDIES != ROOT / "studies":
        environment["XLSCALE_STUDIES"] = str(STUDIES)
    environment |= {"XLSCALE_ROOT": str(code), "PYTHONPATH": str(code / "src")}
    print(f"Code as committed, in {code}, which stays until `git worktree remove`", flush=True)
    os.chdir(code)
    os.execve(sys.executable, [sys.executable, "-m", "xlscale", *sys.argv[1:]], environment)


def _of_last_commit() -> Path:
    from xlscale.core import machine  # which imports torch

    found = machine.commit()
    if found["commit"] is None:
        raise XlscaleError(f"{ROOT}: expected a checkout of git, whose last commit jobs can run")
    if found["dirty"]:
        raise XlscaleError("the working tree differs from the last commit, which jobs would run: commit or stash first")
    code = FOLDER / found["commit"][:12]
    FOLDER.mkdir(parents=True, exist_ok=True)
    with FileLock(FOLDER / ".lock"):
        if not (code / ".git").exists():
            command = ["git", "worktree", "add", "--force", "--detach", str(code), found["commit"]]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            if done.returncode:
                raise XlscaleError(f"{relative(code)}: could not be checked out ({one_line(done.stderr)})")
    return code
