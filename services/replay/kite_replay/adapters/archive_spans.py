"""Spans around the archive: each event of a sampled trace, from being read to being visible. Changes nothing that passes through.

Rows know no spans, so what was read is kept here, by its place in the log, until its row is stored.
"""

from collections.abc import Sequence

from kite_common.stream.record_spans import MOST_A_BATCH, ProcessSpans, Traced, traced
from kite_replay.application.ports import Archive
from kite_replay.domain.rows import EVENTS_TABLE, Batch, LogRecord, Table, Tail


class TracedArchive:
    """An Archive that tells of the events it stores, once it has been shown their records."""

    def __init__(self, inner: Archive, spans: ProcessSpans) -> None:
        self._inner, self._spans = inner, spans
        self._read: dict[int, dict[int, tuple[Traced, int]]] = {}

    def begun(self, partition: int) -> None:
        """A partition is read from its tail on, or given away: what was read of it before does not count."""
        self._read.pop(partition, None)

    def read(self, partition: int, records: Sequence[LogRecord]) -> None:
        """Records of a partition are about to be archived. Of very many at once only some are told of, the others counted."""
        found = [one for one in traced(records) if one.topic == EVENTS_TABLE.topic]
        if not found:
            return
        waiting, now_ns = self._read.setdefault(partition, {}), self._spans.now_ns()
        room = max(0, MOST_A_BATCH - len(waiting))
        waiting |= {one.offset: (one, now_ns) for one in found[:room]}
        self._spans.tracer.sink.skip(len(found) - len(found[:room]))

    async def tail(self, table: Table, partition: int) -> Tail | None:
        return await self._inner.tail(table, partition)

    async def append(self, table: Table, batches: Sequence[Batch]) -> None:
        await self._inner.append(table, batches)
        if table is EVENTS_TABLE and self._read:
            rows = sum(len(batch.rows) for batch in batches)
            for batch in batches:
                self._stored(batch.partition, batch.rows[-1].log_offset, rows)

    def _stored(self, partition: int, last_offset: int, rows: int) -> None:
        waiting = self._read.get(partition, {})
        for offset in [offset for offset in waiting if offset <= last_offset]:
            one, read_ns = waiting.pop(offset)
            self._spans.processed([one], read_ns, rows)
