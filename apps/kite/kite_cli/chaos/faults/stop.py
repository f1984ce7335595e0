"""A process stands still (SIGSTOP) for longer than its session at the broker, and then goes on (SIGCONT) as if nothing had been.

Somebody else owns its partitions by then. Whatever it still writes would be seen as a doubled or a wrong entry.
"""

import asyncio

from kite_cli.chaos.schedule import Planned
from kite_cli.chaos.stack import ChaosKite


async def stop(kite: ChaosKite, planned: Planned) -> None:
    """Over when it goes on."""
    child = kite.child(planned.target)
    await child.freeze()
    try:
        await asyncio.sleep(planned.lasts_s)
    finally:
        child.thaw()
