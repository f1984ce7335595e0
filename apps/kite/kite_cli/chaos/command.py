"""`kitectl chaos` as a function: the stack, the run, the signals, and what the person at the terminal sees meanwhile."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from kite_cli.chaos.options import ChaosOptions
from kite_cli.chaos.run import Outcome, run_chaos
from kite_cli.chaos.schedule import Planned
from kite_cli.chaos.stack import chaos_kite
from kite_cli.local.step import ConsoleProgress
from kite_cli.signals import ended_by_signals

_MOVE_S = 0.2


async def chaos(options: ChaosOptions, console: Console) -> Outcome:
    """Run it, on a Kite of its own that is stopped afterwards. Raises StepFailed, CommandFailed, and KeyboardInterrupt after a signal;
    everything it started has been stopped then, too."""
    # A broker that is away is the point: the clients of the crowd say so many times a second.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    progress = Starting(ConsoleProgress(console))
    async with ended_by_signals(), chaos_kite(options.data, keep=options.keep, progress=progress) as kite:
        progress.stop()
        async with _bar(console) as bar:
            return await run_chaos(kite, options, bar)


class Starting:
    """Progress of a start. From then on ends are no news, they are what is done here."""

    def __init__(self, progress: ConsoleProgress) -> None:
        self._progress: ConsoleProgress | None = progress

    def stop(self) -> None:
        """Everything is up: say no more."""
        if self._progress is not None:
            self._progress.stop()
        self._progress = None

    def doing(self, step: str, text: str) -> None:
        """See Progress."""
        if self._progress is not None:
            self._progress.doing(step, text)

    def done(self, step: str, text: str) -> None:
        """See Progress."""
        if self._progress is not None:
            self._progress.done(step, text)

    def warn(self, step: str, text: str) -> None:
        """See Progress."""
        if self._progress is not None:
            self._progress.warn(step, text)


class Bar:
    """The bar of the phase that is under way, and a line per fault beside it."""

    def __init__(self, progress: Progress, console: Console) -> None:
        self._progress, self._console = progress, console
        self._task: TaskID | None = None
        self._began, self._faults = time.monotonic(), 0

    def phase(self, text: str, expected_s: float) -> None:
        """See Listener."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._began = time.monotonic()
        self._task = self._progress.add_task(text, total=max(expected_s, 0.1))
        if not self._console.is_terminal:
            self._console.print(f"  {text}", highlight=False)

    def fault(self, planned: Planned) -> None:
        """See Listener."""
        self._faults += 1
        if self._task is not None:
            self._progress.update(self._task, description=f"under fire, {self._faults} faults, {planned.kind} of {planned.target}")

    def move(self) -> None:
        """Show the time that has passed."""
        if self._task is not None:
            self._progress.update(self._task, completed=time.monotonic() - self._began)


@asynccontextmanager
async def _bar(console: Console) -> AsyncIterator[Bar]:
    columns = (TextColumn("  {task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = Bar(progress, console)
        moving = asyncio.create_task(_move(bar))
        try:
            yield bar
        finally:
            moving.cancel()
            await asyncio.wait({moving})


async def _move(bar: Bar) -> None:
    while True:
        bar.move()
        await asyncio.sleep(_MOVE_S)
