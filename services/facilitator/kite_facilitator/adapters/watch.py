"""Component: looks at the node and the gas, ends the process when only a new one helps, and lets what was begun end."""

import asyncio
from typing import Final

from kite_common.errors import KiteError
from kite_common.runtime.component import READY, Readiness, StartAgain
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.observe import get_logger
from kite_common.runtime.pulse import Pulse
from kite_facilitator.application.gas import Gas
from kite_facilitator.application.ports import Chain, ChainAway
from kite_facilitator.application.settle_once import Settlements

log = get_logger("kite.facilitator")

_EVERY_S: Final = 10.0
_AGAIN_S: Final = 0.5
# A look is two questions of the node, which has 4 s for each.
_LATE_S: Final = 15.0


class OtherChain(KiteError):
    """The node is one of another chain than the settings say."""


class Watch:
    """Ready once the node was seen to be of our chain, and while it answers."""

    name = "chain"

    def __init__(self, chain: Chain, chain_id: int, gas: Gas, settlements: Settlements, metrics: Metrics) -> None:
        self._chain, self._chain_id, self._gas, self._settlements, self._metrics = chain, chain_id, gas, settlements, metrics
        self._problem = "not looked at yet"
        self._pulse = Pulse("chain", metrics, within_s=_EVERY_S + _LATE_S)
        self._was_ours = False

    def readiness(self) -> Readiness:
        """Ready while the node answers, and is ours; a look that never ends is as bad as one that failed."""
        problem = self._problem or self._pulse.late
        return READY if not problem else Readiness(ready=False, reason=problem)

    def check(self) -> None:
        """Raises ChainAway until the node was seen to be of our chain: its money is not to be touched on any other."""
        if not self._was_ours:
            raise ChainAway(self._problem)

    async def run(self, stop: asyncio.Event) -> None:
        """Look until stopped, or until settling is stuck: then raises StartAgain."""
        while not stop.is_set() and not self._settlements.stuck.is_set():
            await self._look()
            await _first(stop, self._settlements.stuck, within_s=_AGAIN_S if self._problem else _EVERY_S)
        if self._settlements.stuck.is_set():
            log.error("facilitator.nonce_gap_suspected", unclear_in_a_row=self._settlements.unclear)
            raise StartAgain("nonce_gap_suspected")
        await self._settlements.finish()

    async def _look(self) -> None:
        try:
            await self._look_at_chain()
            problem = ""
        except (ChainAway, OtherChain) as error:
            problem = str(error)
        if problem and problem != self._problem:
            log.warning("facilitator.node_unusable", reason=problem)
        self._problem = problem
        self._pulse.beat()
        self._metrics.gauge("kite_facilitator_unclear_in_a_row").set(self._settlements.unclear)

    async def _look_at_chain(self) -> None:
        if await self._chain.chain_id() != self._chain_id:
            self._was_ours = False
            raise OtherChain("the node is of another chain")
        self._was_ours = True
        was_low = self._gas.is_low and self._gas.wei is not None
        wei = await self._gas.look()
        # Both at once: a floor beside gas that nobody has looked at yet would be an alert.
        self._metrics.gauge("kite_facilitator_gas_wei").set(wei)
        self._metrics.gauge("kite_facilitator_gas_floor_wei").set(self._gas.floor_wei)
        if self._gas.is_low and not was_low:
            log.error("facilitator.gas_low", gas_wei=str(self._gas.wei), floor_wei=str(self._gas.floor_wei))


async def _first(*events: asyncio.Event, within_s: float) -> None:
    """Wait until one of them is set, or the time is over."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
