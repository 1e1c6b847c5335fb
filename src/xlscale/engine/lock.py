"""The lock of a cell: no two processes compute one, on one machine or on several that share its folder.

On one machine it is flock, which the operating system frees when the holder dies, however it dies. On many shared file
systems flock does not reach other machines, so that the holder has a lease, too: a file that only one process can make,
which it touches every BEAT seconds. Another machine takes it over after it has seen LEASE seconds without a touch by a
clock of its own, so that clocks need not agree, and while the scheduler knows that the holder's job runs, never: the
job may be suspended. Who has lost its lease all the same ends, and completes nothing. Machines may have one name, as
copies of one do: which of them a holder is on is told by when it was started, too.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, SoftFileLease, Timeout

from xlscale.core.files import XlscaleError, read_json, relative, write_json

LEASE, BEAT = 300.0, 30.0  # seconds
POLL = 5.0  # seconds between looks at a lease of another machine
LOST = 75  # exit code of who has lost its lease
OF_NODE, OF_ALL, HOLDER = ".lock", ".lease", ".holder.json"
JOB = "SLURM_JOB_ID"  # environment variable, of a process that is part of a job
BOOT = Path("/proc/sys/kernel/random/boot_id")  # on Linux, another one each time that a machine is started
ENDED = ("PENDING", "REQUEUE", "COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_ME")


class Held(NamedTuple):
    """A lease of this process, and the inode of its file: another one of that name is somebody else's."""

    lease: SoftFileLease
    inode: tuple[int, int]


_held: dict[Path, Held] = {}  # by folder
_seen: dict[Path, tuple[int, float]] = {}  # folder -> last touch of its lease, and when this process first saw that


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the lock of a cell's folder while the block runs; waits for who has it. Raises XlscaleError where the file
    system has no locks, or no space for one."""
    of_node, lease = _of_node(folder), _lease(folder)
    try:
        try:
            of_node.acquire(blocking=False)
        except Timeout:
            _tell(folder)
            of_node.acquire()
    except NotImplementedError:
        expected = "a file system with flock, at least within a node (Lustre: mount options flock or localflock)"
        raise XlscaleError(f"{relative(folder)}: expected {expected}") from None
    try:
        _held[folder] = _take(folder, lease)
        yield
    finally:
        _held.pop(folder, None)
        lease.release()
        of_node.release()


def check(folder: Path) -> None:
    """End this process if it has lost the lock of a folder that it holds: another one computes the cell now."""
    for _ in range(3):  # a file system may fail to answer once
        if _held[folder].lease.is_lock_held_by_us:
            return
        time.sleep(POLL)
    _end(folder)


def free() -> None:
    """Let go of the leases of this process, which is about to end: other machines need not wait. For a signal's
    handler, so without a lock or a thread; what holds within the machine frees itself."""
    for folder, own in list(_held.items()):
        with suppress(OSError):
            if _inode(folder) == own.inode:
                os.unlink(folder / OF_ALL)


def is_held(folder: Path) -> bool:
    """Whether some process holds the lock at this moment, as far as one sees: a holder on another machine that has
    died is one for LEASE seconds from when it is first asked about."""
    try:
        if (folder / OF_NODE).exists():
            with _of_node(folder).acquire(blocking=False):
                pass
        untouched = _untouched(folder)
    except Timeout:
        return True
    except FileNotFoundError:
        return False
    if _is_here(_owner(folder)):
        return False  # its holder would hold the other one, too
    return not untouched or _runs(_job(folder))


def holder(folder: Path) -> str:
    """Who has the lock, in words, as far as that is known."""
    about = _about(folder)
    if not about:
        return "another process"
    job = f", job {about['job']}" if about.get("job") else ""
    return f"process {about.get('process')} on {about.get('host')}{job}"


def _about(folder: Path) -> dict:
    with suppress(XlscaleError):
        found = read_json(folder / HOLDER)
        return found if isinstance(found, dict) else {}
    return {}


def _owner(folder: Path) -> dict:
    """What the holder of the lease has written of itself; nothing before it has."""
    about, owner = _about(folder), _lease(folder).owner
    return about if owner and about.get("token") == owner.token else {}


def _is_here(about: dict) -> bool:
    """Whether a holder is, or was, a process of this machine, since it was started."""
    return bool(about) and (about.get("host"), about.get("boot")) == (socket.gethostname(), _boot())


def _boot() -> str | None:
    with suppress(OSError):  # some sandboxes hide it
        return BOOT.read_text(encoding="ascii").strip()
    return None


def _untouched(folder: Path) -> bool:
    """Whether this process has seen the lease as it is for LEASE seconds. Raises FileNotFoundError without one."""
    touched = (folder / OF_ALL).stat().st_mtime_ns
    if _seen.get(folder, (None, 0.0))[0] != touched:
        _seen[folder] = touched, time.monotonic()
    return time.monotonic() - _seen[folder][1] >= LEASE


def _inode(folder: Path) -> tuple[int, int]:
    found = (folder / OF_ALL).stat()
    return found.st_dev, found.st_ino


def _of_node(folder: Path) -> FileLock:
    return FileLock(folder / OF_NODE, fallback_to_soft=False)


class _Lease(SoftFileLease):
    """The library looks for a holder that names this host among the processes of this machine, and takes over from one
    that is not there: on a machine of the same name it may well live."""

    def _try_break_stale_lock(self) -> None:
        folder = Path(self.lock_file).parent
        owner = _owner(folder)
        elsewhere = owner.get("host", socket.gethostname()) != socket.gethostname()
        # A lease of another name the library watches by itself, for as long.
        with suppress(FileNotFoundError):
            if elsewhere or _is_here(owner) or _untouched(folder):
                super()._try_break_stale_lock()


def _lease(folder: Path) -> SoftFileLease:
    return _Lease(folder / OF_ALL, lease_duration=LEASE, heartbeat_interval=BEAT, on_compromise=lambda _: _end(folder))


def _tell(folder: Path) -> None:
    owner = _owner(folder)
    told = f"{folder.name}: waits for {holder(folder)}, which computes it"
    if owner.get("host") == socket.gethostname() and not _is_here(owner):
        told += f"; if that ended when this machine was started anew, for {LEASE:.0f} s"
    print(told, file=sys.stderr, flush=True)


def _take(folder: Path, lease: SoftFileLease) -> Held:
    told = False
    while True:
        try:
            lease.acquire(blocking=False)
            own = Held(lease, _inode(folder))
            break
        except Timeout:
            pass
        except OSError as error:
            raise XlscaleError(f"{relative(folder)}: could not be locked ({error.strerror or error})") from error
        if not told:
            _tell(folder)
            told = True
        time.sleep(POLL)
        while _runs(_job(folder)):
            time.sleep(POLL)
    about = {"host": socket.gethostname(), "boot": _boot(), "token": lease.token}
    write_json(folder / HOLDER, about | {"process": os.getpid(), "job": os.environ.get(JOB)})
    return own


def _job(folder: Path) -> str | None:
    """The job that holds the lock, unless it is this one, which was started again: then what held it has ended."""
    job = str(_about(folder).get("job"))
    return job if job.isdecimal() and job != os.environ.get(JOB) else None


def _runs(job: str | None) -> bool:
    """Whether the scheduler says that a job runs, is suspended or ends, or cannot say; False where there is none."""
    if job is None:
        return False
    try:
        asked = subprocess.run(["squeue", "-h", "-j", job, "-o", "%T"], capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        return False
    except subprocess.TimeoutExpired:
        return True
    if asked.returncode:
        return "Invalid job id" not in asked.stderr
    return any(not state.startswith(ENDED) for state in asked.stdout.split())


def _end(folder: Path) -> None:
    print(f"xlscale: {relative(folder)}: lost its lock to {holder(folder)}; ends", file=sys.stderr, flush=True)
    os._exit(LOST)
