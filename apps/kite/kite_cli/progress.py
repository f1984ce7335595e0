"""A bar for work whose size is known: how far it is, and how long it will take. Does no work."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Told = Callable[[float, float], None]


@contextmanager
def bar(console: Console, text: str) -> Generator[Told, None, None]:
    """Call what it gives with how much is done, and of how much; nothing is shown where nobody looks at a terminal."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(escape(text), total=None)
        yield lambda done, whole: progress.update(task, completed=done, total=max(whole, 1))
