"""``make archive``: this checkout's commit as one tar file, for an archive that gives it a DOI.

Belongs here: what makes its bytes follow from the commit alone. It is not compressed: what takes most of it is, and
compressors of different versions write different bytes.
"""

from __future__ import annotations

from pathlib import Path

from xlscale.commands.options import check_out
from xlscale.core.checkout import git
from xlscale.core.files import ROOT, XlscaleError, atomic, sha256_file, write_text
from xlscale.interchange.citation import citation


def build(out: str) -> str:
    """Write the files of the commit and their sha256 into the folder ``out``; returns a line about them.

    The same commit gives the same bytes, whatever the machine. Raises XlscaleError for a folder that is not empty,
    without git, and where a tracked file differs from the commit.
    """
    folder = Path(out)
    check_out(folder, f"OUT={out}")
    changed = git("status", "--porcelain", "--untracked-files=no").decode().splitlines()
    if changed:
        raise XlscaleError(f"{changed[0][3:]}: differs from the commit, expected a checkout without changes")
    attributes = ROOT / git("rev-parse", "--git-path", "info/attributes").decode().strip()
    if attributes.exists() and attributes.read_text(errors="replace").strip():
        raise XlscaleError(f"{attributes}: expected no attributes of this clone alone, which change what is archived")
    name, commit = f"xlscale-{citation().version}", git("rev-parse", "HEAD").decode().strip()
    content = git("-c", "tar.umask=0022", "archive", "--format=tar", f"--prefix={name}/", commit)
    path = folder / f"{name}.tar"
    folder.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        temporary.write_bytes(content)
    sha256 = sha256_file(path)
    write_text(folder / f"{path.name}.sha256", f"{sha256}  {path.name}\n")
    return f"{path}: commit {commit}, {len(content) / 1e6:.1f} MB, sha256 {sha256}"
