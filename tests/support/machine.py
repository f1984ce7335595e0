"""An event loop for state machines: time moves when the machine says so, and nothing runs between two rules."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")
# As many rounds as the longest chain of awaits without a wait for somebody else needs, and then some.
_ROUNDS: Final = 60


class HandLoop(asyncio.SelectorEventLoop):
    """A loop whose clock is set by hand. Never asked to wait: `settle` keeps it busy until all that can go on has."""

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 1_000.0

    def time(self) -> float:
        return self._now_s

    def start(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Begin some work, and let it go as far as it can."""
        task = self.create_task(work)
        self.settle()
        return task

    def settle(self) -> None:
        """Let everything go on until it waits for time or for the machine."""
        self.run_until_complete(_rounds())

    def advance(self, seconds: float, step_s: float = 0.5) -> None:
        """Let time pass, in steps, and what waits for it go on."""
        end_s = self._now_s + seconds
        while self._now_s < end_s:
            self._now_s = min(end_s, self._now_s + step_s)
            self.settle()

    def end(self) -> None:
        """Cancel what is left, and close."""
        tasks = asyncio.all_tasks(self)
        for task in tasks:
            task.cancel()
        self.settle()
        for task in tasks:
            if task.done() and not task.cancelled():
                task.exception()
        self.close()


async def _rounds() -> None:
    for _ in range(_ROUNDS):
        await asyncio.sleep(0)
