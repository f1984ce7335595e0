"""How much a process holds in memory: deliveries and their bytes, over all partitions. Whoever wants more waits here."""

import asyncio

from kite_delivery.domain.lane import fits_share


class Budget:
    """Counts what is held. One delivery always passes when nothing else is held, however large."""

    def __init__(self, max_held: int, max_bytes: int) -> None:
        self._max_held, self._max_bytes = max_held, max_bytes
        self._held = 0
        self._bytes = 0
        self._shares: dict[str, tuple[int, int]] = {}
        self._freed = asyncio.Event()

    @property
    def free(self) -> int:
        """How many more deliveries fit."""
        return max(0, self._max_held - self._held)

    @property
    def free_bytes(self) -> int:
        """How many more bytes fit."""
        return max(0, self._max_bytes - self._bytes)

    def fits(self, size: int) -> bool:
        """Whether `take` would return at once."""
        return self._held == 0 or (self._held < self._max_held and self._bytes + size <= self._max_bytes)

    async def take(self, size: int) -> None:
        """Hold one more delivery of `size` bytes; waits until it fits."""
        while not self.fits(size):
            self._freed.clear()
            await self._freed.wait()
        self._held += 1
        self._bytes += size

    def give_back(self, size: int) -> None:
        """No longer hold one of `size` bytes."""
        self._held -= 1
        self._bytes -= size
        self._freed.set()

    def take_share(self, key: str, size: int) -> bool:
        """Note that one endpoint keeps one more delivery that is not due yet; False, and nothing is noted, if it keeps its share already.

        Beside `take`: it says who may wait here, so that however many wait for one endpoint, there is room for the next.
        """
        count, held_bytes = self._shares.get(key, (0, 0))
        if not fits_share(count + 1, held_bytes + size, self.free, self.free_bytes):
            return False
        self._shares[key] = (count + 1, held_bytes + size)
        return True

    def give_back_share(self, key: str, size: int) -> None:
        """It does not wait any more."""
        count, held_bytes = self._shares.pop(key)
        if count > 1:
            self._shares[key] = (count - 1, held_bytes - size)
