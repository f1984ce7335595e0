"""A part dies and is not started again for a while: the ClickHouse engine, the facilitator."""

import asyncio

from kite_cli.chaos.schedule import Planned
from kite_cli.chaos.stack import ChaosKite


async def away(kite: ChaosKite, planned: Planned) -> None:
    """Over when its supervisor is free to start it again."""
    child = kite.child(planned.target)
    await child.kill9(restart=False)
    try:
        await asyncio.sleep(planned.lasts_s)
    finally:
        child.begin()
