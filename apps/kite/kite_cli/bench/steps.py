"""What the person at the terminal sees while a benchmark runs: a bar per run, and a line that stays when it is done. Measures nothing."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

_MOVE_S = 0.2


class Step:
    """One run; put into `said` what came of it, in a few words."""

    def __init__(self) -> None:
        self.said = ""


class Steps:
    """The bars of one benchmark."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @asynccontextmanager
    async def step(self, text: str, expected_s: float) -> AsyncIterator[Step]:
        """Show a bar that is full after about `expected_s` seconds, for as long as the body runs; then the line that stays."""
        step, began = Step(), time.monotonic()
        columns = (TextColumn("  {task.description}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal) as progress:
            moving = asyncio.create_task(_move(progress, text, max(expected_s, 0.1)))
            try:
                yield step
            finally:
                moving.cancel()
                await asyncio.wait({moving})
        took = f"{time.monotonic() - began:.1f} s"
        self._console.print(f"  [green]ok[/green] {escape(text)}: {escape(step.said or took)}", highlight=False, soft_wrap=True)


async def _move(progress: Progress, text: str, expected_s: float) -> None:
    task, began = progress.add_task(escape(text), total=expected_s), time.monotonic()
    while True:
        progress.update(task, completed=min(time.monotonic() - began, expected_s))
        await asyncio.sleep(_MOVE_S)
