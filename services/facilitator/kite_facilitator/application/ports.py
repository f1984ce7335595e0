"""What the facilitator needs of the world: a chain, and a key on it that pays for gas."""

from typing import Protocol

from kite_common.errors import KiteError
from kite_facilitator.domain.answer import Settled, Used, Verified
from kite_facilitator.domain.order import Order


class ChainAway(KiteError):
    """The node gave no usable answer, and nothing was sent. The text is ours: never the node's, never its address."""


class Chain(Protocol):
    """A node, and the SDK's facilitator on it. Every method raises ChainAway."""

    async def verify(self, order: Order) -> Verified:
        """Check signature, times, balance and nonce, and simulate the transfer. Sends nothing."""
        ...

    async def used(self, order: Order) -> Used | None:
        """What became of the nonce; None while it is unused."""
        ...

    async def settle(self, order: Order) -> Settled:
        """Send the transfer and wait for its receipt. Two calls for one order may send two transactions, one of which reverts."""
        ...

    async def chain_id(self) -> int:
        """The number of the chain."""
        ...

    async def gas_wei(self) -> int:
        """What the key has for fees."""
        ...
