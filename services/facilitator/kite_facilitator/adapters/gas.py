"""What the facilitator's key has left for fees, asked again and again. Below the floor the process is not ready: refill it."""

import asyncio
from typing import Final

from kite_common.runtime.component import READY, Readiness
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.observe import get_logger
from kite_common.runtime.system import pause
from kite_facilitator.application.ports import Chain

log = get_logger("kite.facilitator")

_EVERY_S: Final = 5.0
_UNANSWERED_S: Final = 1.0


class GasGauge:
    """Component. `wei` None: the node has not answered yet."""

    name = "gas"

    def __init__(self, chain: Chain, floor_wei: int, metrics: Metrics) -> None:
        self._chain, self._floor_wei = chain, floor_wei
        self._gauge = metrics.gauge("kite_x402_facilitator_gas_wei")
        self.wei: int | None = None

    @property
    def is_enough(self) -> bool:
        """Whether settlements can be paid for."""
        return self.wei is not None and self.wei >= self._floor_wei

    async def run(self, stop: asyncio.Event) -> None:
        """Ask until stopped."""
        while not stop.is_set():
            try:
                self.wei = await self._chain.gas_wei()
                self._gauge.set(self.wei)
            except Exception as error:  # noqa: BLE001 - web3's errors have no common root; the next round asks again
                log.warning("facilitator.node_away", reason=type(error).__name__)
                self.wei = None
            await pause(_EVERY_S if self.wei is not None else _UNANSWERED_S, stop)

    def readiness(self) -> Readiness:
        """Ready while there is enough."""
        if self.wei is None:
            return Readiness(ready=False, reason="the node does not answer")
        return READY if self.is_enough else Readiness(ready=False, reason="the key has too little gas: refill it")
