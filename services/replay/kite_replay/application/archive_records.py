"""Archive one partition of one topic: rows in offset order, stored with their position, bad records set aside. Never skips.

Where to go on is asked of the archive, never of the consumer group: the offset of the last stored row stands in the rows themselves, so
position and data cannot disagree, whatever dies. Records without a row (the usage records beside events) have no
position of their own. Going on right after the last stored row reads those behind it once more, which changes nothing: they get
no row the second time either. They can never be many, since a usage record is only ever appended together with its event. Bad
records behind the last row are set aside once more; the dead letter names topic, partition and offset, so readers tell repeats.

Records of erased teams have no row either, and these may be many: behind the last row of a partition that only they have used, all are read
again by each start, at most what the log retains. They count for the time of the rows behind them all the same, so that nobody else's row
depends on when a team was erased.

Two archivers may both believe they own a partition. Each stores only what directly follows a tail it has seen or what it has
stored itself (a failed insert fails everything queued behind it), so the stored rows are a beginning of the log at every moment, and a
row stored twice is the same row (see `rows.py`).
"""

import asyncio
from collections import deque
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from kite_replay.application.grouped_inserts import GroupedInserts
from kite_replay.application.ports import Archive, Quarantine
from kite_replay.domain.rows import Batch, LogRecord, Row, Table, size_of, to_rows

# Making rows is pure computing: after so many records others get their turn (about 5 ms).
_SLICE: Final = 1_000
MAX_BATCH_BYTES: Final = 16 * 1024 * 1024
# What a partition may have waiting for inserts before it reads no further.
_MAX_PENDING_ROWS: Final = 10_000
_MAX_PENDING_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Pending:
    """A batch on its way, and the offset after the records it was made of."""

    batch: Batch
    next_offset: int
    stored: asyncio.Future[None]


class PartitionArchiver:
    """One partition of one table, from its tail on. Not to be shared, and dead after the first error: make a new one.

    Reading goes on while inserts run, within bounds; order is kept by the queue of the inserts.
    """

    def __init__(
        self, table: Table, partition: int, *, archive: Archive, inserts: GroupedInserts, quarantine: Quarantine,
        erased: Container[str] = (),
    ) -> None:  # fmt: skip
        """`erased`: teams of which nothing is stored or set aside, if the table is one that loses them."""
        self._table, self._partition, self._erased = table, partition, erased if table.erasable else ()
        self._archive, self._inserts, self._quarantine = archive, inserts, quarantine
        self._created_ms = 0
        self._pending: deque[_Pending] = deque()
        self._taken: int | None = None
        self._stored: int | None = None

    async def begin(self) -> int | None:
        """The offset to read from; None = from the beginning of what the log retains. Raises Unavailable."""
        await self._inserts.settled()
        tail = await self._archive.tail(self._table, self._partition)
        if tail is None:
            return None
        self._created_ms = tail.created_ms
        return tail.offset + 1

    async def take(self, records: Sequence[LogRecord]) -> None:
        """Archive the records that follow those taken before, in offset order. Returns when they are on their way or set aside.

        Raises Unavailable when it is open how far these or earlier ones got.
        """
        for start in range(0, len(records), _SLICE):
            part = records[start : start + _SLICE]
            made, bad = to_rows(self._table, part, self._created_ms)
            # What nobody is to read again is not set aside either; each start would do so again.
            bad = [one for one in bad if (one.record.key or b"").decode("ascii", "replace") not in self._erased]
            if bad:
                await self._quarantine.put(bad)
            if made:
                self._created_ms = made[-1].created_at
            for batch in self._batches([row for row in made if row.team_id not in self._erased]):
                await self._room_for(batch)
                self._pending.append(_Pending(batch, batch.rows[-1].log_offset + 1, self._inserts.append(batch)))
            self._taken = part[-1].offset + 1
            await asyncio.sleep(0)
        self._reap()

    def position(self) -> int | None:
        """The offset before which everything taken is stored or set aside; None before the first. Raises Unavailable."""
        self._reap()
        return self._stored if self._pending else self._taken

    async def finish(self) -> None:
        """Wait until everything taken is stored. Raises Unavailable."""
        while self._pending:
            await self._first_is_done()
            self._reap()

    def abandon(self) -> None:
        """Forget what no insert has taken yet; whoever comes next finds it behind the tail."""
        for pending in self._pending:
            if not pending.stored.cancel() and not pending.stored.cancelled():
                pending.stored.exception()  # seen: it failed with the one that ended this archiver
        self._pending.clear()

    async def _room_for(self, batch: Batch) -> None:
        self._reap()
        while self._pending and not self._fits(batch):
            await self._first_is_done()
            self._reap()

    async def _first_is_done(self) -> None:
        # Not awaited itself: cancelling us would cancel it, and an insert would leave out this batch but take those behind it.
        await asyncio.wait({self._pending[0].stored})

    def _fits(self, batch: Batch) -> bool:
        rows = len(batch.rows) + sum(len(pending.batch.rows) for pending in self._pending)
        return rows <= _MAX_PENDING_ROWS and batch.size + sum(pending.batch.size for pending in self._pending) <= _MAX_PENDING_BYTES

    def _reap(self) -> None:
        """Let go of what is stored. Raises what an insert failed with, so nothing is ever queued behind a failure."""
        while self._pending and self._pending[0].stored.done():
            self._pending[0].stored.result()
            self._stored = self._pending.popleft().next_offset

    def _batches(self, rows: Sequence[Row]) -> Iterator[Batch]:
        start = size = 0
        for index, row in enumerate(rows):
            row_size = size_of(row)
            if index > start and size + row_size > MAX_BATCH_BYTES:
                yield Batch(self._table, self._partition, rows[start:index], size)
                start, size = index, 0
            size += row_size
        if start < len(rows):
            yield Batch(self._table, self._partition, rows[start:], size)
