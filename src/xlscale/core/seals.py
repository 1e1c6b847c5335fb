"""Seals: the sha256 of a file, or of all files of a folder, beside it; compared before what is sealed is read again.

For what only this package writes and reads, on one machine: what cells leave, converted models, cached tables. What is
committed is held by ``core.manifest``; what comes from elsewhere by its card or lock.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from xlscale.core.files import XlscaleError, read_text, sha256_file, write_text

SETTLED = 2 * 10**9  # nanoseconds after a change, before which another one could leave the same times


def beside(path: Path) -> Path:
    """Where the seal of a file or folder is."""
    return path.with_name(f".{path.name}.sha256")


def seal(path: Path, content: Path | None = None) -> None:
    """Seal ``path`` with what it holds, or with what ``content`` holds, which is about to be renamed to ``path``."""
    _write(path, [f"{name} {sha256_file(file)}" for name, file in _files(content or path).items()])


def sealed(path: Path) -> bool:
    """Whether a file or folder is there and holds what it was sealed with.

    A file is read once after every change: its size and times of then stand in the seal. The time of the last change of
    anything about a file is the operating system's, and no program can set it.
    """
    lines, fresh = [], False
    try:
        stated = {line.split()[0]: line.split()[1:] for line in read_text(beside(path)).splitlines()}
        files = _files(path)
        if not stated or stated.keys() != files.keys():
            return False
        for name, file in files.items():
            (sha256, *known), now = stated[name], _times(file)
            if now != known and sha256_file(file) != sha256:
                return False
            settled = time.time_ns() - int(now[-1]) > SETTLED
            fresh |= settled and now != known
            lines.append(" ".join([name, sha256, *(now if settled else [])]))
    except (OSError, XlscaleError, ValueError, IndexError):
        return False
    if fresh:
        with suppress(XlscaleError):  # where nothing can be written, it is read every time
            _write(path, lines)
    return True


def _files(path: Path) -> dict[str, Path]:
    """Name -> path of the files of a folder, or of a file, whose name is not told: it may be a temporary one."""
    return {file.name: file for file in sorted(path.iterdir())} if path.is_dir() else {"-": path}


def _times(file: Path) -> list[str]:
    found = os.stat(file)
    return [str(value) for value in (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)]


def _write(path: Path, lines: list[str]) -> None:
    write_text(beside(path), "".join(f"{line}\n" for line in lines))
