"""What commands need of a machine, disk and memory: looked at before any work, and told in one line if it is lacking.

Belongs here: the amounts, which the README states, and how much is free. Only the standard library is imported, since
``core.installation`` asks before there is another.
"""

from __future__ import annotations

import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

from xlscale.core.files import XlscaleError, relative

GB = 10**9
ENVIRONMENT = 2_500_000_000  # bytes of .venv and of what is downloaded for it, with PyTorch's build for processors
MODEL = 600_000_000  # of the bundled model, its package, and tables and tokens of the data
CELL = {"pretrained": 1_000_000, "intermediate": 100_000_000, "target": 2_000_000}  # of a cell's files, by its phase
MEMORY = 2_000_000_000  # of a cell that runs
LEAST_MEMORY = 1_500_000_000  # of a cell of the smallest models
ADDRESSES = 8 * GB  # of a process: what the libraries map is more than they use


def check_disk(folder: Path, needed: int) -> None:
    """Raise XlscaleError unless the disk that ``folder`` is on, or will be, has ``needed`` bytes free."""
    above = next(one for one in (folder, *folder.parents) if one.exists())
    if (free := shutil.disk_usage(above).free) < needed:
        raise XlscaleError(
            f"{relative(folder)}: expected {_said(needed)} free on this disk, got {_said(free)}; "
            "make room, or clone to a larger disk"
        )


def check_memory() -> None:
    """Raise XlscaleError unless there is memory for one cell."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if 0 <= limit < ADDRESSES:
        raise XlscaleError(f"ulimit -v: expected unlimited or at least {_said(ADDRESSES)}, got {_said(limit)}")
    if (free := free_memory(swap=True)) < LEAST_MEMORY:
        raise XlscaleError(
            f"memory: expected {_said(LEAST_MEMORY)} free, got {_said(free)}; close other programs, or give the "
            "container or job more"
        )


def _said(size: float) -> str:
    return f"{size / GB:.1f} GB"


def free_memory(swap: bool = False) -> int:
    """Bytes of memory that this process may still use: of the machine's, ``swap`` included or not, and of what its
    container or job is limited to, the least."""
    import psutil  # not needed to make the environment

    of_machine = psutil.virtual_memory().available + (psutil.swap_memory().free if swap else 0)
    return min([of_machine, *_left_of_limits(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))])


# Version of control groups -> their mount, and of the files in it that of the limit and that of what is used. What is
# used holds files of the disk that are kept in memory until it is wanted: field of ``memory.stat``.
_LIMITS = {
    1: ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("", "memory.max", "memory.current", "inactive_file"),
}


def _left_of_limits(groups: Path, mounted: Path) -> Iterator[int]:
    """What is left of each limit on this process's control group and those above it, under Linux.

    https://docs.kernel.org/admin-guide/cgroup-v2.html and, of version 1, cgroup-v1/memory.html.
    """
    try:
        lines = [line.split(":", 2) for line in groups.read_text().splitlines()]
    except OSError:
        return
    for number, controllers, path in lines:
        version = 2 if number == "0" and not controllers else 1
        if version == 1 and "memory" not in controllers.split(","):
            continue
        mount, limit, used, kept = _LIMITS[version]
        # In a container its own group may be mounted at the top, whatever it is called outside.
        group = mounted / mount / path.lstrip("/")
        while group.is_relative_to(mounted / mount):
            try:
                most = (group / limit).read_text().strip()
                stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
                if most != "max":
                    yield max(0, int(most) - int((group / used).read_text()) + int(stat[kept]))
            except (OSError, ValueError, KeyError):
                pass
            group = group.parent
