"""One operating system process with its whole group: started bound to us, signalled, waited for. Restarts nothing."""

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from kite_cli.local.child_exec import bound_to_this_process
from kite_cli.local.identity import Identity, identify, is_alive, is_stopped, resident_bytes
from kite_cli.local.logs import open_log
from kite_cli.local.readiness import until

_POLL_S = 0.05


class Spawned:
    """A running child. Make it in the main thread: the kernel binds its life to the thread that made it."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], log: Path, folder: Path, nice: int = 0) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("children die with the thread that starts them: start them in the main thread")
        output = open_log(log)
        try:
            # A session of its own: Ctrl-C in the terminal reaches only the supervisor, which stops things in order.
            self._popen = subprocess.Popen(  # noqa: S603  the command comes from our own list of parts
                bound_to_this_process(command, nice),
                env=dict(env),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        finally:
            os.close(output)
        self.pid = self._popen.pid
        self.identity = identify(self.pid) or Identity(self.pid, "")
        self._exited = asyncio.get_running_loop().create_future()
        self._watch = asyncio.create_task(self._watch_exit(), name=f"watch-{self.pid}")

    @property
    def is_running(self) -> bool:
        """Say whether it has not ended yet."""
        return not self._exited.done()

    @property
    def resident_bytes(self) -> int:
        """The memory of the process itself, without its children."""
        return resident_bytes(self.pid) if self.is_running else 0

    async def exited(self) -> int:
        """Wait until it has ended and its group with it; return its code, negative for a signal."""
        return await asyncio.shield(self._exited)

    def send(self, number: signal.Signals) -> None:
        """Signal the process itself; does nothing once it has ended."""
        if self.is_running:
            # Not yet waited for, so the pid is still its own, even as a zombie.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def freeze(self) -> None:
        """Send SIGSTOP and wait until every thread stands still: on a busy machine some still answer for a while."""
        self.send(signal.SIGSTOP)

        async def stands_still() -> bool:
            return not self.is_running or is_stopped(self.pid)

        await until(stands_still, _POLL_S / 10)

    async def end(self, within_s: float) -> bool:
        """Ask it to end, and force it after `within_s` seconds. Return whether it ended by itself."""
        self.send(signal.SIGTERM)
        self.send(signal.SIGCONT)  # a frozen process could not act on the first
        try:
            async with asyncio.timeout(within_s):
                await self.exited()
                return True
        except TimeoutError:
            self.kill_group()
            await self.exited()
            return False

    def kill_group(self) -> None:
        """Kill it and all it started, unless it has been waited for already."""
        if self.is_running:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    async def _watch_exit(self) -> None:
        await _until_zombie(self.pid)
        # Workers it left behind go with it; the group is surely its own as long as nobody has waited for it.
        self.kill_group()
        self._exited.set_result(self._popen.wait())


async def _until_zombie(pid: int) -> None:
    if not hasattr(os, "pidfd_open"):
        await _poll_until_zombie(pid)
        return
    descriptor, loop, ended = os.pidfd_open(pid), asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def _poll_until_zombie(pid: int) -> None:
    async def is_zombie() -> bool:
        now = identify(pid)
        return now is None or not is_alive(now)

    await until(is_zombie, _POLL_S)
