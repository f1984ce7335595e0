"""Whether the key can pay for a transaction: one that it cannot pay for is not begun."""

from kite_facilitator.application.ports import Chain


class Gas:
    """What the key has, as of the last look, in wei; None before the first."""

    def __init__(self, chain: Chain, floor_wei: int) -> None:
        self.floor_wei = floor_wei
        self.wei: int | None = None
        self._chain = chain

    async def look(self) -> int:
        """Ask the node. Raises ChainAway."""
        self.wei = await self._chain.gas_wei()
        return self.wei

    @property
    def is_low(self) -> bool:
        """Whether it was under the floor at the last look, or was never looked at."""
        return self.wei is None or self.wei < self.floor_wei

    async def suffices(self) -> bool:
        """Whether it is above the floor, by a new look if it was not. Raises ChainAway."""
        return not self.is_low or await self.look() >= self.floor_wei
