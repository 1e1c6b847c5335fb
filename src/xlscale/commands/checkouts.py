"""Checkouts beside this one, of a commit, in which nobody works.

Jobs on a cluster run in such a one: they read code for longer than a checkout stays as it is, and an edit would reach
those that begin after it. The canary runs the code of another commit in one.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from filelock import FileLock

from xlscale.core import files
from xlscale.core.checkout import git
from xlscale.core.files import CACHE, ROOT, STUDIES, XlscaleError

FOLDER = CACHE / "frozen"
# Folders of this checkout that the other one's commands go on writing to. Studies are read from the commit.
OURS = ("RUNS", "CACHE", "RESULTS", "BUILT", "REPRODUCTION")


def of(commit: str) -> Path:
    """The folder of a checkout of ``commit``, a full hash; it stays until `git worktree remove`. Raises as ``git``."""
    code = FOLDER / commit[:12]
    FOLDER.mkdir(parents=True, exist_ok=True)
    with FileLock(FOLDER / ".lock"):
        if not _whole(code, commit):
            shutil.rmtree(code, ignore_errors=True)
            git("worktree", "prune")
            git("worktree", "add", "--force", "--detach", str(code), commit)
    return code


def _whole(code: Path, commit: str) -> bool:
    """Whether there is a checkout, which is made whole: who made it may have been killed."""
    if not (code / ".git").exists():
        return False
    try:
        git("-C", str(code), "reset", "--hard", "--quiet", commit)
    except XlscaleError:
        return False
    return True


def begin_again() -> None:
    """Run this command anew in a checkout of the last commit, unless it runs in one.

    It replaces this process. Raises XlscaleError where this checkout is none of git's, or differs from the commit.
    """
    if ROOT.parent == FOLDER:
        return
    code = of(_last_commit())
    environment = os.environ | {f"XLSCALE_{name}": str(getattr(files, name)) for name in OURS}
    if STUDIES != ROOT / "studies":
        environment["XLSCALE_STUDIES"] = str(STUDIES)
    environment |= {"XLSCALE_ROOT": str(code), "PYTHONPATH": str(code / "src")}
    print(f"Code as committed, in {code}, which stays until `git worktree remove`", flush=True)
    os.chdir(code)
    os.execve(sys.executable, [sys.executable, "-m", "xlscale", *sys.argv[1:]], environment)


def _last_commit() -> str:
    from xlscale.core import machine  # which imports torch

    found = machine.commit()
    if found["commit"] is None:
        raise XlscaleError(f"{ROOT}: expected a checkout of git, whose last commit jobs can run")
    if found["dirty"]:
        raise XlscaleError("the working tree differs from the last commit, which jobs would run: commit or stash first")
    return found["commit"]
