"""A chain in memory that keeps the promises of the port: for tests of use cases, without a node."""

import asyncio
from dataclasses import dataclass, field

from kite_facilitator.application.ports import ChainAway
from kite_facilitator.domain.answer import Settled, Used, Verified
from kite_facilitator.domain.order import Order


@dataclass
class FakeChain:
    """Nonces that were used, and the transactions that were sent; both outlive the process that sent them.

    `away`: no answer. `gate`: a settle waits for it once its transaction has `landed`. `ends`: how the next settles end instead of well.
    """

    nonces: dict[tuple[str, str], Used] = field(default_factory=dict)
    sent: list[tuple[str, str]] = field(default_factory=list)
    ends: list[Settled] = field(default_factory=list)
    away: bool = False
    gate: asyncio.Event | None = None
    landed: asyncio.Event = field(default_factory=asyncio.Event)
    gas: int = 10**18
    looks: int = 0

    async def verify(self, order: Order) -> Verified:
        """Valid as long as the nonce is unused."""
        self._answer()
        return Verified(order.key not in self.nonces)

    async def used(self, order: Order) -> Used | None:
        """What became of the nonce."""
        self._answer()
        await asyncio.sleep(0)
        return self.nonces.get(order.key)

    async def settle(self, order: Order) -> Settled:
        """Send; a second one reverts, as on a real chain."""
        self._answer()
        if self.ends:
            return self.ends.pop(0)
        self.sent.append(order.key)
        transaction = f"0x{len(self.sent):064x}"
        reverts = order.key in self.nonces
        self.nonces.setdefault(order.key, Used(transaction))
        self.landed.set()
        await (asyncio.sleep(0) if self.gate is None else self.gate.wait())
        return Settled(not reverts, transaction, "transaction_failed" if reverts else None)

    async def chain_id(self) -> int:
        """Base Sepolia's."""
        self._answer()
        return 84_532

    async def gas_wei(self) -> int:
        """`gas`, and counts the looks."""
        self._answer()
        self.looks += 1
        return self.gas

    def _answer(self) -> None:
        if self.away:
            raise ChainAway("the node does not answer")
