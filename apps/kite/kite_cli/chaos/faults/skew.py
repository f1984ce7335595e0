"""The clock of a gateway goes wrong: it is started with another time, and later with the right one."""

import asyncio
from dataclasses import replace

from kite_cli.chaos.faults.term import ended
from kite_cli.chaos.schedule import Planned
from kite_cli.chaos.stack import ChaosKite
from kite_common.runtime.system import CLOCK_OFFSET_VARIABLE


async def skew(kite: ChaosKite, planned: Planned) -> None:
    """Over when the one with the wrong time has ended. What lies between is work done at the wrong one."""
    child = kite.child(planned.target)
    right = child.spec
    child.spec = replace(right, env={**right.env, CLOCK_OFFSET_VARIABLE: str(planned.skew_s)})
    try:
        await ended(child)
        await asyncio.sleep(planned.lasts_s)
    finally:
        child.spec = right
        await ended(child)
