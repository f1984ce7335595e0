"""A process is told to end (SIGTERM), as a roll-out does: a service, the broker, Valkey."""

import asyncio
import signal

from kite_cli.chaos.schedule import Planned
from kite_cli.chaos.stack import ChaosKite
from kite_cli.local.process import Child
from kite_cli.local.readiness import until

# Longer than any of them takes its leave; whatever hangs then shows as what does not recover.
_GONE_WITHIN_S = 40.0
_LOOK_S = 0.02


async def term(kite: ChaosKite, planned: Planned) -> None:
    """Over when it has taken its leave: until then the one that ends still answers, which is no recovery."""
    await ended(kite.child(planned.target))


async def ended(child: Child) -> None:
    """Tell it to end, and wait until it has, or has been too long about it."""
    pid = child.pid

    async def is_gone() -> bool:
        return child.pid != pid

    child.signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(_GONE_WITHIN_S):
            await until(is_gone, _LOOK_S)
    except TimeoutError:
        return
