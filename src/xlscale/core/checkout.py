"""This checkout in git's eyes. Belongs here: how git is asked, so that its answer is the same for everyone."""

from __future__ import annotations

import os
import subprocess

from xlscale.core.files import ROOT, XlscaleError, one_line

# Whatever a user's settings are: new files are told of, and what becomes of a file's bytes is the repository's to say.
SETTINGS = (
    *("status.showUntrackedFiles=normal", "core.autocrlf=false", "core.eol=lf", "core.fsmonitor=false"),
    f"core.attributesFile={os.devnull}",
)
SEARCH = ("GIT_CEILING_DIRECTORIES", "GIT_DISCOVERY_ACROSS_FILESYSTEM")  # where a folder may belong to a repository


def git(*command: str) -> bytes:
    """What a command of git's prints about this checkout. Raises XlscaleError with what git says against it.

    It is asked about this one also where its environment names another, as within a hook.
    """
    settings = [part for setting in SETTINGS for part in ("-c", setting)]
    kept = {name: value for name, value in os.environ.items() if name[:4] != "GIT_" or name in SEARCH}
    ours = {"GIT_ATTR_NOSYSTEM": "1", "GIT_NO_REPLACE_OBJECTS": "1"}
    call = {"cwd": ROOT, "env": kept | ours, "stdin": subprocess.DEVNULL}
    try:
        return subprocess.run(["git", *settings, *command], capture_output=True, check=True, **call).stdout
    except OSError:
        raise XlscaleError(f"{ROOT}: expected git, which is not installed") from None
    except subprocess.CalledProcessError as error:
        said = one_line(error.stderr.decode(errors="replace")) if error.stderr else "unknown"
        raise XlscaleError(f"{ROOT}: expected a checkout of git's ({said})") from None
