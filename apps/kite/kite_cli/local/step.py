"""What a start reports while it runs, and the one error a step ends with. Decides nothing."""

import time
from typing import Protocol

from rich.console import Console
from rich.markup import escape

_TELL_AGAIN_S = 2.0


class StepFailed(Exception):
    """A step of the local stack did not succeed: `step` names it, `reason` says why, `advice` what to do next."""

    def __init__(self, step: str, reason: str, advice: str) -> None:
        super().__init__(f"{step}: {reason}\n{advice}")
        self.step = step
        self.reason = reason
        self.advice = advice


class Progress(Protocol):
    """Where the steps of a start are told."""

    def doing(self, step: str, text: str) -> None:
        """Say what is going on now; may be overwritten by what follows."""

    def done(self, step: str, text: str) -> None:
        """Say how a step ended; stays."""

    def warn(self, step: str, text: str) -> None:
        """Say what went wrong and was handled; stays."""


class Silent:
    """Progress for callers that only want the result, such as tests."""

    def doing(self, step: str, text: str) -> None:
        """Say nothing."""

    def done(self, step: str, text: str) -> None:
        """Say nothing."""

    def warn(self, step: str, text: str) -> None:
        """Say nothing."""


class ConsoleProgress:
    """One line per finished step; on a terminal also one moving line for all that is going on."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status = console.status("")
        self._going_on: dict[str, str] = {}
        self._told_at = 0.0

    def doing(self, step: str, text: str) -> None:
        """Show it on the moving line; without a terminal print it, but of one step only now and then."""
        is_new = step not in self._going_on
        self._going_on[step] = text
        if self._console.is_terminal:
            self._move()
        elif is_new or time.monotonic() - self._told_at > _TELL_AGAIN_S:
            self._told_at = time.monotonic()
            self._console.print(f"  .. {escape(step)}: {escape(text)}", highlight=False, soft_wrap=True)

    def done(self, step: str, text: str) -> None:
        """Print the line that stays."""
        self._print("[green]ok[/green]", step, text)

    def warn(self, step: str, text: str) -> None:
        """Print the line that stays, marked."""
        self._print("[yellow]!![/yellow]", step, text)

    def stop(self) -> None:
        """Take the moving line away, for a step that failed."""
        self._going_on.clear()
        self._move()

    def _print(self, mark: str, step: str, text: str) -> None:
        self._going_on.pop(step, None)
        self._console.print(f"  {mark} [bold]{escape(step)}[/bold]: {escape(text)}", highlight=False, soft_wrap=True)
        self._move()

    def _move(self) -> None:
        if not self._going_on:
            self._status.stop()
            return
        self._status.update(escape(", ".join(f"{step}: {text}" for step, text in self._going_on.items())))
        if self._console.is_terminal:
            self._status.start()
