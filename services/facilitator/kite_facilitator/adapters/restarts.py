"""Ends the process when the signer's nonces have a gap, after the answer that showed it: its supervisor starts it with a fresh one."""

import asyncio
from typing import Final

from kite_common.runtime.component import READY, Readiness
from kite_common.runtime.observe import get_logger
from kite_facilitator.application.settle_once import SettleOnce

log = get_logger("kite.facilitator")

# The answer is on its way by then.
_ANSWERED_WITHIN_S: Final = 0.5


class GapWatch:
    """Component: a component that ends by itself ends the process."""

    name = "nonces"

    def __init__(self, settle: SettleOnce) -> None:
        self._settle = settle

    async def run(self, stop: asyncio.Event) -> None:
        """Wait for a gap, or for the stop."""
        waits = [asyncio.create_task(event.wait()) for event in (stop, self._settle.gap)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if self._settle.gap.is_set() and not stop.is_set():
            log.error("facilitator.nonce_gap_suspected", unclear_in_a_row=self._settle.streak)
            await asyncio.sleep(_ANSWERED_WITHIN_S)

    def readiness(self) -> Readiness:
        """Not ready once a gap is suspected."""
        return Readiness(ready=False, reason="a gap in the nonces: beginning anew") if self._settle.gap.is_set() else READY
