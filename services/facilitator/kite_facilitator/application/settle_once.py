"""Settling so that one authorization is one transaction: calls at once share one, calls later are told of it, also after a restart."""

import asyncio

from kite_facilitator.application.ports import Chain
from kite_facilitator.domain.answer import UNCLEAR_AT_MOST, Settled, answer_for_used, unclear_in_a_row
from kite_facilitator.domain.order import Order


class Settlements:
    """The settles of this process. `stuck` is set once so many in a row were unclear that only a new process helps."""

    def __init__(self, chain: Chain) -> None:
        self.stuck = asyncio.Event()
        self.unclear = 0
        self._chain = chain
        self._running: dict[tuple[str, str], asyncio.Task[Settled]] = {}

    async def settle(self, order: Order) -> Settled:
        """The outcome of an order. A caller that hangs up ends nothing. Raises ChainAway if surely nothing was sent."""
        running = self._running.get(order.key)
        if running is None:
            running = self._running[order.key] = asyncio.create_task(self._settle(order))
            running.add_done_callback(lambda done: self._forget(order, done))
        return await asyncio.shield(running)

    async def finish(self) -> None:
        """Wait until what runs has ended."""
        if self._running:
            await asyncio.wait(self._running.values())

    async def _settle(self, order: Order) -> Settled:
        # The chain remembers what a process forgets; a transaction that a reorganisation took back is sent again.
        used = await self._chain.used(order)
        if used is not None:
            return answer_for_used(used)
        settled = await self._chain.settle(order)
        self.unclear = unclear_in_a_row(self.unclear, settled)
        if self.unclear >= UNCLEAR_AT_MOST:
            self.stuck.set()
        return settled

    def _forget(self, order: Order, done: asyncio.Task[Settled]) -> None:
        self._running.pop(order.key, None)
        if not done.cancelled():
            done.exception()  # everybody who asked may have hung up: then nobody else looks at it
