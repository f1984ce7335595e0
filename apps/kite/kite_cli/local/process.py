"""One supervised child: started, known to be ready, started again when it ends unasked, stopped. Knows no other."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kite_cli.local.identity import Identity
from kite_cli.local.logs import tail
from kite_cli.local.readiness import ReadyCheck, until
from kite_cli.local.restart import GiveUp, RestartAfter, RestartPolicy, Run
from kite_cli.local.spawned import Spawned
from kite_cli.local.step import StepFailed

_READY_POLL_S = 0.03


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """What one child is: how it is started, when it counts as ready, how long its ends may take (seconds), how far it stands back for the
    CPU (0 to 19)."""

    name: str
    command: tuple[str, ...]
    ready: ReadyCheck
    env: Mapping[str, str] = field(default_factory=dict)
    ready_within_s: float = 30.0
    stop_within_s: float = 10.0
    nice: int = 0
    policy: RestartPolicy = field(default_factory=RestartPolicy)


class Child:
    """A child that is kept running from `start` to `stop`, whatever ends it in between.

    `changed` is told the identity of every new process, and None once it is gone, before anything else happens;
    `warn` is told in words when it ended unasked.
    """

    def __init__(
        self,
        spec: ProcessSpec,
        *,
        log: Path,
        folder: Path,
        changed: Callable[[str, Identity | None], None],
        warn: Callable[[str, str], None] = lambda _name, _text: None,
    ) -> None:
        self.spec = spec
        self.log = log
        self.restarts = 0
        self._folder = folder
        self._changed = changed
        self._warn = warn
        self._process: Spawned | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._failed: asyncio.Future[StepFailed] = asyncio.get_running_loop().create_future()
        self._runs: list[Run] = []
        self._is_wanted = False
        self._ending = ""

    @property
    def pid(self) -> int | None:
        """The pid of the running process, None while there is none."""
        return self._process.pid if self._process and self._process.is_running else None

    @property
    def is_ready(self) -> bool:
        """Say whether the running process has answered its readiness check."""
        return self._ready.is_set()

    @property
    def resident_bytes(self) -> int:
        """The memory of the running process, 0 while there is none."""
        return self._process.resident_bytes if self._process else 0

    async def start(self) -> None:
        """Start it and wait until it is ready; does nothing but wait if it runs. Raises StepFailed when given up."""
        self.begin()
        await self.wait_ready()

    def begin(self) -> None:
        """Start it without waiting."""
        if self._keeper is None or self._keeper.done():
            self._is_wanted, self._runs = True, []
            self._failed = asyncio.get_running_loop().create_future()
            self._keeper = asyncio.create_task(self._keep_running(), name=f"keep-{self.spec.name}")

    async def wait_ready(self) -> None:
        """Wait until it is ready, also across restarts. Raises StepFailed when given up."""
        ready = asyncio.create_task(self._ready.wait())
        given_up = asyncio.create_task(self.failed())
        try:
            await asyncio.wait((ready, given_up), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
            given_up.cancel()
        if self._failed.done():
            raise self._failed.result()

    async def failed(self) -> StepFailed:
        """Wait until it is given up, and return why."""
        return await asyncio.shield(self._failed)

    async def stop(self) -> bool:
        """Stop it and keep it stopped. Return False if it had to be forced."""
        self._is_wanted = False
        process = self._process
        by_itself = await process.end(self.spec.stop_within_s) if process else True
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None
        return by_itself

    async def kill9(self, *, restart: bool = True) -> None:
        """End it with SIGKILL and wait until it is gone; it is started again unless `restart` is False."""
        process = self._process
        if process is None or not process.is_running:
            return
        self._is_wanted = restart
        process.send(signal.SIGKILL)
        await process.exited()
        if not restart:
            await self.stop()
        else:
            self._ready.clear()  # so that who waits now waits for the new process

    def abandon(self) -> None:
        """Kill it and all it started without waiting, and do not start it again."""
        self._is_wanted = False
        if self._process is not None:
            self._process.kill_group()

    async def freeze(self) -> None:
        """Stop it in its tracks (SIGSTOP) until `thaw`; returns once none of its threads runs any more."""
        if self._process is not None:
            await self._process.freeze()

    def thaw(self) -> None:
        """Let a frozen one go on."""
        self.signal(signal.SIGCONT)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the running process; does nothing while there is none."""
        if self._process is not None:
            self._process.send(number)

    async def _keep_running(self) -> None:
        try:
            while self._is_wanted:
                self._runs.append(await self._run_once())
                await self._pause_or_give_up()
        except StepFailed as failure:  # the readiness check knows that waiting is of no use
            self._give_up(failure)
        except OSError as error:  # a full disk, no more processes: without a log or a process there is nothing to try again
            advice = f"Make room on the disk and look at the permissions of {self.log.parent}, then start again."
            self._give_up(StepFailed(self.spec.name, f"could not be kept running: {error}", advice))

    def _give_up(self, failure: StepFailed) -> None:
        if self._is_wanted:  # else it was stopped, and nobody waits for it any more
            self._is_wanted = False
            self._failed.set_result(failure)

    async def _pause_or_give_up(self) -> None:
        if not self._is_wanted:
            return
        match self.spec.policy.after(self._runs):
            case GiveUp(reason):
                self._give_up(self._given_up(reason))
            case RestartAfter(delay_s):
                self._warn(self.spec.name, f"ended unasked ({self._ending}), starting it again")
                await asyncio.sleep(delay_s)
                self.restarts += 1

    async def _run_once(self) -> Run:
        started_at, ready_at = time.monotonic(), None
        spec = self.spec
        process = self._process = Spawned(spec.command, spec.env, self.log, self._folder, spec.nice)
        try:
            self._changed(spec.name, process.identity)
            if await self._becomes_ready(process):
                ready_at = time.monotonic()
                self._ready.set()
            else:
                process.kill_group()
            self._ending = _in_words(await process.exited())
        finally:
            self._ready.clear()
            process.kill_group()
            self._changed(spec.name, None)
        return Run(started_at, time.monotonic(), ready_at)

    async def _becomes_ready(self, process: Spawned) -> bool:
        async def ready_or_ended() -> bool:
            return not process.is_running or await self.spec.ready()

        try:
            async with asyncio.timeout(self.spec.ready_within_s):
                await until(ready_or_ended, _READY_POLL_S)
        except TimeoutError:
            return False
        return process.is_running

    def _given_up(self, reason: str) -> StepFailed:
        return StepFailed(
            self.spec.name,
            f"{reason}. The end of its log:\n{tail(self.log)}",
            f"The whole log is {self.log}. Remove the cause, then start again.",
        )


def _in_words(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
