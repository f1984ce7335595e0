"""Runs components of kite_common for the time of one command. Builds none."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from kite_cli.failure import EXIT_UNAVAILABLE, CommandFailed
from kite_cli.local.readiness import until
from kite_common.runtime.component import Component

_READY_WITHIN_S: Final = 15.0
_POLL_S: Final = 0.02


@asynccontextmanager
async def running(where: str, *components: Component) -> AsyncIterator[None]:
    """Run components while inside, the first one stopped last; `where` names in errors what they connect to.

    Raises CommandFailed if they do not get ready in time, and what one of them raises, such as ConfigurationError.
    """
    stops = [asyncio.Event() for _ in components]
    tasks = [asyncio.create_task(component.run(stop)) for component, stop in zip(components, stops, strict=True)]
    try:
        await _wait_ready(where, components, tasks)
        yield
    finally:
        for stop, task in reversed(list(zip(stops, tasks, strict=True))):
            stop.set()
            await asyncio.wait({task})
        for task in tasks:
            await task


async def _wait_ready(where: str, components: tuple[Component, ...], tasks: list[asyncio.Task[None]]) -> None:
    async def settled() -> bool:
        return any(task.done() for task in tasks) or all(component.readiness().ready for component in components)

    try:
        async with asyncio.timeout(_READY_WITHIN_S):
            await until(settled, _POLL_S)
    except TimeoutError:
        advice = "See what runs with `kitectl status`, check KITE_KAFKA_BOOTSTRAP, and the topics with `kitectl topics check`."
        raise CommandFailed(f"{where} does not answer", advice, EXIT_UNAVAILABLE) from None
    for task in tasks:
        if task.done():
            task.result()
