"""How the kernel of a notebook is started and reached: over unix sockets that no one else can open, cold or forked.

Belongs here: what jupyter_client has to know. What a forked kernel is, and who forks it: ``warm``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty
from typing import Any

from jupyter_client import AsyncKernelClient, AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner
from traitlets.config import Config

from xlscale.engine import warm


class Fork:
    """A process that waits to become a kernel, seen as a ``subprocess.Popen``."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int, orders: int):
        self.pid, self.orders, self.returncode = pid, orders, None

    def begin(self, command: list[str], environment: dict[str, str]) -> None:
        """Become the kernel that ``command`` would start here. Raises OSError when the process is dead."""
        job = {"arguments": command, "environment": environment, "folder": os.getcwd()}
        with open(self.orders, "wb") as pipe:
            pipe.write(json.dumps(job).encode())

    def poll(self) -> int | None:
        """The exit code, or None while the process runs."""
        return self._wait(os.WNOHANG)

    def wait(self) -> int:
        """The exit code, as soon as there is one."""
        return self._wait(0)

    def _wait(self, flags: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, flags)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End the process at once."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask the process to end."""
        self.send_signal(signal.SIGTERM)


spare: Fork | None = None  # for the first kernel that this process starts


def _like_the_fork(command: list[str]) -> bool:
    """Whether the command starts ipykernel with this interpreter, as kernels are installed by default."""
    before = command[: command.index(warm.LAUNCHER)] if warm.LAUNCHER in command else []
    options = before[1:-1]
    return before == [sys.executable, *options, "-m"] and all(option.startswith("-X") for option in options)


class Provisioner(LocalProvisioner):
    """Takes the spare fork for a kernel if there is one and it would be the same, else starts a process."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        """Launch the kernel; raises OSError when that fails."""
        global spare
        fork, spare = spare, None
        if fork is None or not _like_the_fork(cmd):
            return await super().launch_kernel(cmd, **kwargs)
        fork.begin(cmd, kwargs["env"] | {"JPY_PARENT_PID": str(os.getpid())})
        self.process, self.pid, self.pgid, self.cwd = fork, fork.pid, fork.pid, Path.cwd()
        return self.connection_info

    async def kill(self, restart: bool = False) -> None:
        """End the kernel, and wait for it: whoever asks next need not ask again."""
        await super().kill(restart)
        if self.process:
            self.process.wait()


class Client(AsyncKernelClient):
    """jupyter_client's client, which takes the kernel for ready as soon as it is: the inherited one waits on."""

    async def wait_for_ready(self, timeout: float | None = None) -> None:
        """Wait until a request has been answered, and its end was announced where outputs are: none will be missed.

        Raises RuntimeError when the kernel dies or ``timeout`` seconds pass.
        """
        until = time.monotonic() + (timeout or float("inf"))
        while not await self._answers(self.kernel_info()):
            if not await self._async_is_alive():
                raise RuntimeError("Kernel died before replying to kernel_info")
            if time.monotonic() > until:
                raise RuntimeError(f"Kernel didn't respond in {timeout} seconds")

    async def _answers(self, request: str) -> bool:
        try:
            self._handle_kernel_info_reply(await self.get_shell_msg(timeout=1))
            while True:
                message = await self.get_iopub_msg(timeout=0.2)
                own = message["parent_header"].get("msg_id") == request
                if own and message["content"].get("execution_state") == "idle":
                    return True
        except Empty:
            return False


class Manager(AsyncKernelManager):
    """jupyter_client's manager with the provisioner and the client above."""

    client_factory = Client

    async def _async_pre_start_kernel(self, **options: Any) -> Any:
        self.provisioner = Provisioner(kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self)
        return await super()._async_pre_start_kernel(**options)


@contextmanager
def sockets() -> Iterator[Config]:
    """The settings by which a kernel is reached while the block runs."""
    with warm.private_folder() as folder:
        yield Config(KernelManager={"transport": "ipc", "connection_file": os.path.join(folder, "k.json")})
