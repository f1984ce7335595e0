"""Metrics around the ports of the archive: timing, counting, event-to-replayable. Changes nothing that passes through."""

from collections.abc import Awaitable, Collection, Sequence
from typing import Final, Protocol, TypeVar

from kite_common.clock import Clock
from kite_common.errors import ApiError, Unavailable
from kite_common.ids import EventId, TeamId
from kite_common.runtime.observe import Metrics
from kite_common.runtime.system import monotonic_s
from kite_replay.application.ports import ErasableArchive, EventReader, LedgerReader
from kite_replay.domain.ledger import FoundEntry, LedgerQuery
from kite_replay.domain.query import EventQuery, Found
from kite_replay.domain.rows import EVENTS_TABLE, Batch, Table, Tail

T = TypeVar("T")
_MS: Final = 1000


class MeasuredArchive:
    """An Archive that counts what it stores."""

    def __init__(self, inner: ErasableArchive, clock: Clock, metrics: Metrics) -> None:
        self._inner, self._clock, self._metrics = inner, clock, metrics

    async def tail(self, table: Table, partition: int) -> Tail | None:
        return await self._inner.tail(table, partition)

    async def remove(self, table: Table, teams: Collection[str]) -> None:
        await self._inner.remove(table, teams)

    async def rows_of(self, table: Table, teams: Collection[str]) -> int:
        return await self._inner.rows_of(table, teams)

    async def append(self, table: Table, batches: Sequence[Batch]) -> None:
        began = monotonic_s()
        await self._inner.append(table, batches)
        self._metrics.histogram("kite_replay_archive_batch_seconds").labels(table=table.name).observe(monotonic_s() - began)
        self._metrics.counter("kite_replay_rows_archived_total").labels(table=table.name).inc(sum(len(batch.rows) for batch in batches))
        if table is EVENTS_TABLE:
            self._observe_age(batches)

    def _observe_age(self, batches: Sequence[Batch]) -> None:
        """The oldest row of each batch: the one that has waited longest."""
        now_ms = self._clock.unix_ms()
        for batch in batches:
            age_s = max(0, now_ms - batch.rows[0].created_at) / _MS
            self._metrics.histogram("kite_replay_event_to_replayable_seconds").observe(age_s)


class Readers(EventReader, LedgerReader, Protocol):
    """All that is read of an archive."""


class MeasuredReader:
    """Readers that count and time queries."""

    def __init__(self, inner: Readers, metrics: Metrics) -> None:
        self._inner, self._metrics = inner, metrics

    async def seq_of(self, team_id: TeamId, created_ms: int, event_id: EventId) -> int | None:
        return await self.measured("cursor", self._inner.seq_of(team_id, created_ms, event_id))

    async def find(self, query: EventQuery) -> Found:
        return await self.measured("events", self._inner.find(query))

    async def entries(self, query: LedgerQuery) -> Sequence[FoundEntry]:
        return await self.measured("ledger", self._inner.entries(query))

    async def measured(self, kind: str, call: Awaitable[T]) -> T:
        """The result of a call to the archive, counted and timed as `kind`."""
        began, outcome = monotonic_s(), "error"
        try:
            result = await call
        except Unavailable:
            outcome = "unavailable"
            raise
        except ApiError:
            outcome = "refused"
            raise
        else:
            outcome = "ok"
            return result
        finally:
            self._metrics.histogram("kite_replay_read_seconds").labels(kind=kind).observe(monotonic_s() - began)
            self._metrics.counter("kite_replay_reads_total").labels(kind=kind, outcome=outcome).inc()
