"""Few, well-filled inserts: batches of all partitions of one table are collected while the insert before runs. No ClickHouse here.

ClickHouse makes a part of every insert, so their number must not grow with the partitions or the traffic. After a quiet time
the first batch goes out at once; under load each insert takes what has gathered, and none starts within `interval_s` of the one before
unless `full_rows` are waiting.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from kite_common.errors import Unavailable
from kite_replay.application.ports import Archive
from kite_replay.domain.rows import Batch, Table


@dataclass(frozen=True, slots=True)
class InsertPolicy:
    """How inserts are paced and how large one gets; a batch larger than the bounds goes alone.

    A failed insert is repeated after each of `retry_delays_s`, unchanged, because only an unchanged one is recognised as a
    repeat of what may have been stored; then its batches fail.
    """

    interval_s: float = 0.1
    full_rows: int = 1_000
    max_rows: int = 20_000
    max_bytes: int = 32 * 1024 * 1024
    retry_delays_s: tuple[float, ...] = (0.2, 1.0, 3.0)


@dataclass(frozen=True, slots=True)
class _Waiting:
    batch: Batch
    stored: asyncio.Future[None]


class GroupedInserts:
    """The only way rows of one table get into the archive from this process: one insert at a time."""

    def __init__(self, table: Table, archive: Archive, policy: InsertPolicy) -> None:
        self._table, self._archive, self._policy = table, archive, policy
        self._queue: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._inserting = asyncio.Lock()
        self._last_start = -policy.interval_s
        self._flusher: asyncio.Task[None] | None = None

    def append(self, batch: Batch) -> asyncio.Future[None]:
        """Queue a batch behind those of its partition; the future is done when its rows are visible.

        It fails with Unavailable when it is open whether the rows are stored, and then so does everything queued behind it: ask the
        archive for its tail before going on. A cancelled future's batch is not inserted if no insert has taken it yet; cancel
        all of a partition's, so that no later one is stored without it.
        """
        waiting = _Waiting(batch, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._arrived.set()
        if self._flusher is None:
            self._flusher = asyncio.create_task(self._flush(), name=f"insert.{self._table.name}")
        return waiting.stored

    async def settled(self) -> None:
        """Wait for the insert that runs now: a tail asked for afterwards covers it, also if nobody waits for it any more."""
        async with self._inserting:
            return

    async def _flush(self) -> None:
        try:
            while self._queue:
                await self._until_due()
                group = self._take()
                if group:
                    async with self._inserting:
                        error = await self._insert(group)
                    self._settle(group, error)
        finally:
            self._flusher = None

    async def _until_due(self) -> None:
        loop = asyncio.get_running_loop()
        due = self._last_start + self._policy.interval_s
        while loop.time() < due and sum(len(waiting.batch.rows) for waiting in self._queue) < self._policy.full_rows:
            self._arrived.clear()
            try:
                async with asyncio.timeout_at(due):
                    await self._arrived.wait()
            except TimeoutError:
                break
        self._last_start = loop.time()

    def _take(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        rows = size = 0
        while self._queue:
            batch = self._queue[0].batch
            rows, size = rows + len(batch.rows), size + batch.size
            if group and (rows > self._policy.max_rows or size > self._policy.max_bytes):
                break
            waiting = self._queue.popleft()
            if not waiting.stored.done():  # its partition has been given away meanwhile
                group.append(waiting)
        return group

    async def _insert(self, group: Sequence[_Waiting]) -> Exception | None:
        """Insert, repeatedly if need be; the error of the last attempt, or None when stored.

        Not repeated once one of the partitions is given away: its next owner may have stored the same rows under another token.
        """
        error: Exception | None = None
        for delay_s in (0.0, *self._policy.retry_delays_s):
            await asyncio.sleep(delay_s)
            if error is not None and any(waiting.stored.cancelled() for waiting in group):
                return error
            try:
                await self._archive.append(self._table, [waiting.batch for waiting in group])
            except Unavailable as unavailable:
                error = unavailable
            except Exception as defect:  # noqa: BLE001 - handed to every waiting partition, whose owner reports it and starts again
                return defect
            else:
                return None
        return error

    def _settle(self, group: Sequence[_Waiting], error: Exception | None) -> None:
        if error is not None:  # what is queued may follow on what is not stored now
            group = [*group, *self._queue]
            self._queue.clear()
        for waiting in group:
            if waiting.stored.done():
                continue
            if error is None:
                waiting.stored.set_result(None)
            else:
                waiting.stored.set_exception(error)
