"""What the person at the terminal sees while an audit runs: a bar per stage, and a line that stays when it is done. Measures nothing."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_WAITING: Final = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())


class Stages:
    """The bars of one audit."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def waiting(self, text: str) -> Iterator[Callable[[int], None]]:
        """A stage whose end is not known; what it yields is told how much is left."""
        began = time.monotonic()
        with self._bar(*_WAITING) as bar:
            task = bar.add_task(escape(text), total=None)
            yield lambda left: bar.update(task, description=escape(f"{text}: {left:,} left" if left else text))
        self._done(text, began)

    @contextmanager
    def reading(self, records: int) -> Iterator[Callable[[int], None]]:
        """The log is read; what it yields is told how many records more were. Markers make `records` a little too large."""
        began, done = time.monotonic(), 0
        columns = (TextColumn("  reading the log"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with self._bar(*columns) as bar:
            task = bar.add_task("", total=records)

            def read(number: int) -> None:
                nonlocal done
                done += number
                bar.update(task, completed=done)

            yield read
        took = max(time.monotonic() - began, 0.001)
        self._done(f"{done:,} records, {done / took:,.0f}/s", began)

    def _bar(self, *columns: ProgressColumn) -> Progress:
        return Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal)

    def _done(self, text: str, began: float) -> None:
        self._console.print(f"  [green]ok[/green] {escape(text)} ({time.monotonic() - began:.1f} s)", highlight=False, soft_wrap=True)
