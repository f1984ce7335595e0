"""Each sampled event that becomes visible is told of once, under the span that sent it; what was not stored here is not."""

from dataclasses import replace

import pytest

from kite_common.errors import Unavailable
from kite_common.runtime.trace import TraceContext
from kite_common.stream.record_spans import MOST_A_BATCH, ProcessSpans
from kite_common.testing.spans import KeptSpans
from kite_replay.adapters.archive_spans import TracedArchive
from kite_replay.domain.rows import EVENTS_TABLE, Batch, size_of, to_rows
from kite_replay.testing import MemoryArchive, ReadRecord, event_record, usage_record

SENT_BY = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", sampled=True)


class Scene:
    def __init__(self) -> None:
        self.kept, self.memory = KeptSpans(), MemoryArchive()
        self.archive = TracedArchive(self.memory, ProcessSpans(self.kept.tracer(), "kite-archiver"))

    def told(self) -> list[tuple[object, str | None]]:
        return [(span.attributes["messaging.kafka.offset"], span.parent_id) for span in self.kept.spans]


def sampled(offset: int, partition: int = 0, *, trace: TraceContext = SENT_BY) -> ReadRecord:
    record = event_record(offset, partition=partition)
    return replace(record, headers=(*record.headers, ("traceparent", trace.child(offset + 1).header().encode())))


def batch_of(*records: ReadRecord) -> Batch:
    rows, bad = to_rows(EVENTS_TABLE, records, 0)
    assert not bad
    return Batch(EVENTS_TABLE, records[0].partition, rows, sum(map(size_of, rows)))


async def test_an_event_is_told_of_when_it_is_visible() -> None:
    scene, records = Scene(), [sampled(0), usage_record(1), event_record(2), sampled(4, trace=replace(SENT_BY, sampled=False)), sampled(6)]
    scene.archive.read(0, records)
    assert scene.told() == []
    await scene.archive.append(EVENTS_TABLE, [batch_of(records[0], records[2])])
    assert scene.told() == [(0, f"{1:016x}")]
    await scene.archive.append(EVENTS_TABLE, [batch_of(records[3], records[4])])
    assert scene.told() == [(0, f"{1:016x}"), (6, f"{7:016x}")]
    assert await scene.archive.tail(EVENTS_TABLE, 0) == await scene.memory.tail(EVENTS_TABLE, 0)


async def test_an_insert_that_fails_is_told_of_when_it_is_repeated() -> None:
    scene = Scene()
    scene.memory.fail_before = [True]
    scene.archive.read(0, [sampled(0)])
    with pytest.raises(Unavailable):
        await scene.archive.append(EVENTS_TABLE, [batch_of(sampled(0))])
    assert scene.told() == []
    await scene.archive.append(EVENTS_TABLE, [batch_of(sampled(0))])
    assert [offset for offset, _ in scene.told()] == [0]


async def test_what_was_read_before_the_partition_went_elsewhere_is_forgotten() -> None:
    scene = Scene()
    scene.archive.read(0, [sampled(0)])
    scene.archive.read(1, [sampled(0, 1)])
    scene.archive.begun(0)
    scene.archive.read(0, [sampled(8)])
    await scene.archive.append(EVENTS_TABLE, [batch_of(sampled(8)), batch_of(sampled(0, 1))])
    assert [offset for offset, _ in scene.told()] == [8, 0]


async def test_of_very_many_some_are_told_of_and_the_others_counted() -> None:
    scene, records = Scene(), [sampled(offset) for offset in range(MOST_A_BATCH + 9)]
    scene.archive.read(0, records[: MOST_A_BATCH - 1])
    scene.archive.read(0, records[MOST_A_BATCH - 1 :])
    await scene.archive.append(EVENTS_TABLE, [batch_of(*records)])
    assert (len(scene.kept.spans), scene.kept.skipped) == (MOST_A_BATCH, 9)
    scene.archive.read(0, [sampled(100)])
    await scene.archive.append(EVENTS_TABLE, [batch_of(sampled(100))])
    assert scene.told()[-1][0] == 100
