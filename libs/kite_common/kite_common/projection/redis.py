"""kite.accounts -> Redis: accounts, settled reservations, stream time, outcomes of commands. Never the truth, always rebuildable.

Order of what readers see, per partition: accounts with their settled reservations, then `kite:projected` and `kite:stream-time` that stand
for them, then the outcomes of commands. A process that was replaced writes nothing over its successor: every write has a fence.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from redis.asyncio import Redis

from kite_common.clock import Clock
from kite_common.events.accounts import AccountSnapshot
from kite_common.events.commands import CommandOutcome
from kite_common.projection import keys
from kite_common.projection.keeper import PartitionKeeper, UsageLog
from kite_common.projection.pending import Charges, Pending, Settled
from kite_common.projection.writes import ProjectionWrites
from kite_common.runtime.component import READY, Readiness
from kite_common.runtime.metrics import Metrics
from kite_common.stream.transaction import Position

_DRAIN_S: Final = 3.0


class AccountProjector:
    """Component that is told what billing commits. `restored`, `applied` and `released` must be called on its event loop; none blocks."""

    name = "projection"

    def __init__(self, redis: Redis, usages: UsageLog, clock: Clock, metrics: Metrics, *, hold_ms: int = keys.LAPSE_MS) -> None:
        self._redis, self._usages, self._clock, self._metrics, self._hold_ms = redis, usages, clock, metrics, hold_ms
        self._writes = ProjectionWrites(redis)
        self._keepers: dict[int, PartitionKeeper] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def readiness(self) -> Readiness:
        """Ready while every partition of this process is being told to Redis."""
        states = [keeper.readiness() for keeper in self._keepers.values()]
        return next((state for state in states if not state.ready), READY)

    async def run(self, stop: asyncio.Event) -> None:
        """Wait for the end, let every partition write once more, then close the client."""
        await stop.wait()
        for partition in list(self._keepers):
            self.released(partition)
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=_DRAIN_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._redis.aclose()

    def restored(self, partition: int, accounts: Mapping[str, AccountSnapshot], position: Position) -> None:
        """The partition is ours: what Redis lacks of these accounts is written, what the log says is settled is removed."""
        self.released(partition)
        pending = Pending(accounts, position.applied, position.stream_time_ms)
        keeper = PartitionKeeper(partition, pending, self._writes, self._usages, self._clock, self._metrics, self._hold_ms)
        self._keepers[partition] = keeper
        task = asyncio.create_task(keeper.run(), name=f"projection.{partition}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def applied(
        self, partition: int, accounts: Mapping[str, AccountSnapshot], settled: Sequence[Settled],
        outcomes: Sequence[CommandOutcome], position: Position, charges: Charges | None = None,
    ) -> None:  # fmt: skip
        """A step was committed, or only stream time moved on. `charges`: its usages, if it has any."""
        keeper = self._keepers.get(partition)
        if keeper is None:
            return
        keeper.pending.add(accounts, outcomes, position.applied, position.stream_time_ms)
        keeper.pending.settle(settled)
        if charges is not None:
            keeper.pending.charge(charges)
        keeper.wake()

    def released(self, partition: int) -> None:
        """The partition is another's: write what waits, and end."""
        keeper = self._keepers.pop(partition, None)
        if keeper is not None:
            keeper.close()
