"""What a part of a process is: it has a name, runs until it is told to stop, and says whether it is ready. No implementation."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a part can do its work now; `reason` says in a few words why not. Never a secret, never an internal address."""

    ready: bool
    reason: str = ""


READY = Readiness(ready=True)


class StartAgain(Exception):
    """Raised by a component that only a new process can help: all is drained, and the exit code asks for another start."""


class Component(Protocol):
    """A part of a process, run by the supervisor.

    `run` returns soon after `stop` is set, when it has finished what it had begun. Raising, or returning before `stop` is
    set, ends the process (`StartAgain` with a code of its own). `readiness` is asked often and must not block.
    """

    @property
    def name(self) -> str:
        """A short fixed name for logs, metrics and /readyz."""
        ...

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then drain and return."""
        ...

    def readiness(self) -> Readiness:
        """Whether it can do its work at this moment."""
        ...


def readiness_of(components: Sequence[Component]) -> list[tuple[str, Readiness]]:
    """The readiness of each component with its name, as `operations_routes` takes it."""
    return [(component.name, component.readiness()) for component in components]
