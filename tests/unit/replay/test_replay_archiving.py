"""Archiving a partition: position, batches, retries, death at any point."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kite_common.errors import Unavailable
from kite_common.events.codec import encode
from kite_common.testing import make
from kite_replay.application.archive_records import PartitionArchiver
from kite_replay.application.grouped_inserts import GroupedInserts, InsertPolicy
from kite_replay.domain.rows import EVENTS_TABLE, LEDGER_TABLE, BadRecord, Batch, EventRow, Table
from kite_replay.testing import (
    NOW_MS,
    ArchiveBehaviour,
    FullArchive,
    MemoryArchive,
    ReadRecord,
    bad_record,
    batch,
    event_record,
    event_rows,
    usage_record,
)

AT_ONCE = InsertPolicy(interval_s=0.0, retry_delays_s=())


class Kept:
    """A quarantine that remembers."""

    def __init__(self) -> None:
        self.records: list[BadRecord] = []

    async def put(self, records: Sequence[BadRecord]) -> None:
        self.records += records


class TestMemoryArchive(ArchiveBehaviour):
    @pytest.fixture
    def archive(self) -> FullArchive:
        return MemoryArchive()

    @pytest.fixture
    def team(self) -> str:
        return "team_a"

    @pytest.fixture
    def partition(self) -> int:
        return 3


def archiver(archive: MemoryArchive, policy: InsertPolicy = AT_ONCE, kept: Kept | None = None, partition: int = 0) -> PartitionArchiver:
    inserts = GroupedInserts(EVENTS_TABLE, archive, policy)
    return PartitionArchiver(EVENTS_TABLE, partition, archive=archive, inserts=inserts, quarantine=kept or Kept())


async def archived(one: PartitionArchiver, records: Sequence[ReadRecord]) -> None:
    """Take the records and wait until they are stored."""
    await one.take(records)
    await one.finish()


def log_of(length: int) -> list[ReadRecord]:
    """Events, each with its usage record behind it, one a millisecond."""
    return [(usage_record if offset % 2 else event_record)(offset, at_ms=NOW_MS + offset // 2) for offset in range(length)]


async def test_an_empty_archive_is_filled_from_the_beginning() -> None:
    assert await archiver(MemoryArchive()).begin() is None


async def test_archiving_goes_on_after_the_last_stored_row_not_after_the_skipped_ones() -> None:
    archive = MemoryArchive()
    first = archiver(archive)
    await archived(first, log_of(10))
    assert first.position() == 10
    assert await archiver(archive).begin() == 9


async def test_a_row_after_a_restart_is_not_stamped_before_the_ones_stored() -> None:
    archive = MemoryArchive()
    await archived(archiver(archive), [event_record(0, at_ms=NOW_MS + 500)])
    second = archiver(archive)
    await second.begin()
    await archived(second, [event_record(2, at_ms=NOW_MS)])
    assert [row.created_at for row in archive.rows["events"]] == [NOW_MS + 500, NOW_MS + 500]


async def test_a_bad_record_is_kept_before_the_rows_around_it_are_stored() -> None:
    archive, kept = MemoryArchive(), Kept()

    class Checks(Kept):
        async def put(self, records: Sequence[BadRecord]) -> None:
            assert archive.rows["events"] == []
            await kept.put(records)

    await archived(archiver(archive, kept=Checks()), [event_record(0), bad_record(1), event_record(2)])
    assert [row.log_offset for row in archive.rows["events"]] == [0, 2]
    assert [bad.record.offset for bad in kept.records] == [1]


async def test_large_batches_are_split_by_bytes() -> None:
    archive = MemoryArchive()
    await archived(archiver(archive), [event_record(offset, body="x" * 9_000_000) for offset in range(3)])
    assert [row.log_offset for row in archive.rows["events"]] == [0, 1, 2]
    assert len(archive.appends) == 3


async def test_an_unanswered_insert_is_repeated_unchanged_and_stored_once() -> None:
    archive = MemoryArchive()
    archive.fail_after = [True, True]
    await archived(archiver(archive, InsertPolicy(interval_s=0.0, retry_delays_s=(0.0, 0.0))), log_of(10))
    assert archive.appends == [["0:0-8"]] * 3
    assert len(archive.rows["events"]) == 5


async def test_reading_goes_on_while_an_insert_runs_but_not_without_bounds() -> None:
    release = asyncio.Event()

    class Slow(MemoryArchive):
        async def append(self, table: Table, batches: Sequence[Batch]) -> None:
            await release.wait()
            await super().append(table, batches)

    archive = Slow()
    one = archiver(archive)
    await one.take([event_record(offset) for offset in range(9_000)])
    assert one.position() is None
    full = asyncio.create_task(one.take([event_record(offset) for offset in range(9_000, 12_000)]))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not full.done()
    release.set()
    await full
    await one.finish()
    assert one.position() == len(archive.rows["events"]) == 12_000


async def test_what_is_queued_behind_a_failed_insert_fails_with_it() -> None:
    archive = MemoryArchive()
    archive.fail_before = [True]
    inserts = GroupedInserts(EVENTS_TABLE, archive, InsertPolicy(interval_s=0.0, max_rows=1, retry_delays_s=()))
    futures = [inserts.append(batch(event_rows("t", [offset]))) for offset in range(3)]
    failures = await asyncio.gather(*futures, return_exceptions=True)
    assert [type(failure) for failure in failures] == [Unavailable] * 3
    assert archive.rows["events"] == []


async def test_an_archive_that_stays_away_fails_the_partition() -> None:
    archive = MemoryArchive()
    archive.fail_before = [True, True]
    with pytest.raises(Unavailable):
        await archived(archiver(archive, InsertPolicy(interval_s=0.0, retry_delays_s=(0.0,))), log_of(10))
    assert archive.rows["events"] == []


async def test_batches_of_many_partitions_that_wait_together_share_an_insert() -> None:
    archive = MemoryArchive()
    inserts = GroupedInserts(EVENTS_TABLE, archive, InsertPolicy(interval_s=0.02))
    await inserts.append(batch(event_rows("t", [0], partition=9)))
    await asyncio.gather(*(inserts.append(batch(event_rows("t", [0], partition=partition))) for partition in range(5)))
    assert archive.appends == [["9:0-0"], [f"{partition}:0-0" for partition in range(5)]]


async def test_enough_rows_do_not_wait_for_the_interval() -> None:
    archive = MemoryArchive()
    inserts = GroupedInserts(EVENTS_TABLE, archive, InsertPolicy(interval_s=3_600, full_rows=10))
    await inserts.append(batch(event_rows("t", [0])))
    await asyncio.gather(inserts.append(batch(event_rows("t", range(1, 7)))), inserts.append(batch(event_rows("t", range(4), partition=1))))
    assert len(archive.appends) == 2


async def test_an_insert_takes_no_more_than_its_bounds() -> None:
    archive = MemoryArchive()
    inserts = GroupedInserts(EVENTS_TABLE, archive, InsertPolicy(interval_s=0.0, max_rows=5))
    await asyncio.gather(*(inserts.append(batch(event_rows("t", range(3), partition=partition))) for partition in range(3)))
    assert [len(spans) for spans in archive.appends] == [1, 1, 1]


async def test_a_batch_of_a_partition_that_was_given_away_is_not_inserted() -> None:
    archive = MemoryArchive()
    inserts = GroupedInserts(EVENTS_TABLE, archive, InsertPolicy(interval_s=0.02))
    await inserts.append(batch(event_rows("t", [0])))
    waiting = inserts.append(batch(event_rows("t", [2])))
    other = inserts.append(batch(event_rows("t", [2], partition=1)))
    waiting.cancel()
    await other
    assert archive.appends == [["0:0-0"], ["1:2-2"]]


async def test_an_insert_is_not_repeated_once_a_partition_of_it_is_given_away() -> None:
    """Its next owner had stored the same rows meanwhile, under a token of its own: the repeat stored them twice."""
    waiting: list[asyncio.Future[None]] = []

    class Away(MemoryArchive):
        async def append(self, table: Table, batches: Sequence[Batch]) -> None:
            self.appends.append([batch.span for batch in batches])
            waiting[0].cancel()
            raise Unavailable("away")

    archive = Away()
    inserts = GroupedInserts(EVENTS_TABLE, archive, InsertPolicy(interval_s=0.0, retry_delays_s=(0.0, 0.0)))
    waiting = [inserts.append(batch(event_rows("team_a", [2], partition=partition))) for partition in range(2)]
    with pytest.raises(Unavailable):
        await waiting[1]
    assert len(archive.appends) == 1


async def test_a_tail_is_asked_for_only_after_the_running_insert() -> None:
    release = asyncio.Event()

    class Slow(MemoryArchive):
        async def append(self, table: Table, batches: Sequence[Batch]) -> None:
            await release.wait()
            await super().append(table, batches)

    archive = Slow()
    inserts = GroupedInserts(EVENTS_TABLE, archive, AT_ONCE)
    abandoned = inserts.append(batch(event_rows("t", [4])))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    abandoned.cancel()
    beginning = asyncio.create_task(
        PartitionArchiver(EVENTS_TABLE, 0, archive=archive, inserts=inserts, quarantine=Kept()).begin()
    )
    await asyncio.sleep(0)
    release.set()
    assert await beginning == 5


async def test_who_is_cancelled_while_waiting_for_inserts_leaves_no_hole() -> None:
    release = asyncio.Event()

    class Slow(MemoryArchive):
        async def append(self, table: Table, batches: Sequence[Batch]) -> None:
            await release.wait()
            await super().append(table, batches)

    archive = Slow()
    inserts = GroupedInserts(EVENTS_TABLE, archive, AT_ONCE)
    running = inserts.append(batch(event_rows("t", [0], partition=9)))
    for _ in range(2):
        await asyncio.sleep(0)  # so that this insert runs alone
    one = PartitionArchiver(EVENTS_TABLE, 0, archive=archive, inserts=inserts, quarantine=Kept())
    await one.take([event_record(0)])
    await one.take([event_record(1)])
    finishing = asyncio.create_task(one.finish())
    await asyncio.sleep(0)
    finishing.cancel()
    await asyncio.wait({finishing})
    release.set()
    await running
    await inserts.append(batch(event_rows("t", [0], partition=8)))
    assert [row.log_offset for row in archive.rows["events"] if row.partition == 0] == [0, 1]


@settings(deadline=None, max_examples=150)
@given(
    length=st.integers(1, 60),
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=20),
    before=st.lists(st.booleans(), max_size=30),
    after=st.lists(st.booleans(), max_size=30),
)
def test_whatever_fails_and_whenever_it_restarts_every_event_has_one_row(
    length: int, sizes: list[int], before: list[bool], after: list[bool]
) -> None:
    """A crash after the insert and before its answer is `after`; a crash before it is `before`. Each failure is a restart."""
    archive = MemoryArchive()
    archive.fail_before, archive.fail_after = list(before), list(after)
    asyncio.run(_archive_with_restarts(archive, log_of(length), sizes))
    rows = [row for row in archive.rows["events"] if isinstance(row, EventRow)]
    assert [row.log_offset for row in rows] == list(range(0, length, 2))
    assert [row.created_at for row in rows] == sorted(row.created_at for row in rows)


async def _archive_with_restarts(archive: MemoryArchive, log: list[ReadRecord], sizes: list[int]) -> None:
    round_ = 0
    while True:
        one = archiver(archive)
        at = await one.begin() or 0
        try:
            while at < len(log):
                size = sizes[round_ % len(sizes)]
                round_ += 1
                await one.take(log[at : at + size])
                at += size
            await one.finish()
        except Unavailable:
            one.abandon()
            continue
        return


@given(
    st.lists(st.tuples(st.sampled_from(["team_gone", "team_stays"]), st.integers(0, 50)), max_size=40),
    st.integers(0, 40), st.integers(0, 40),
)  # fmt: skip
@settings(deadline=None)
async def test_an_erasure_changes_no_row_of_anybody_else_whenever_it_comes(sent: list[tuple[str, int]], erased_at: int, ended: int) -> None:
    """Clocks jump, the archiver is started again before or after the team was erased: rows are what they are without any of it."""
    log = [event_record(offset, team=team, at_ms=NOW_MS + jump) for offset, (team, jump) in enumerate(sent)]
    plain, archive = MemoryArchive(), MemoryArchive()
    await archived(archiver(plain), log)
    await archived(archiver(archive), log[:erased_at])
    for until in (ended, len(log)):
        await archive.remove(EVENTS_TABLE, {"team_gone"})
        inserts = GroupedInserts(EVENTS_TABLE, archive, AT_ONCE)
        again = PartitionArchiver(EVENTS_TABLE, 0, archive=archive, inserts=inserts, quarantine=Kept(), erased={"team_gone"})
        begin = await again.begin() or 0
        await archived(again, log[begin : max(until, begin)])
    assert archive.rows["events"] == [row for row in plain.rows["events"] if row.team_id == "team_stays"]


async def test_the_ledger_of_an_erased_team_is_archived_as_ever() -> None:
    archive = MemoryArchive()
    inserts = GroupedInserts(LEDGER_TABLE, archive, AT_ONCE)
    one = PartitionArchiver(LEDGER_TABLE, 0, archive=archive, inserts=inserts, quarantine=Kept(), erased={"team_gone"})
    entry = encode(make.ledger_entry(team_id="team_gone"))
    await archived(one, [ReadRecord(LEDGER_TABLE.topic, 0, 0, NOW_MS, entry.key, entry.value, entry.headers)])
    assert [row.team_id for row in archive.rows["ledger"]] == ["team_gone"]


async def test_a_bad_record_of_an_erased_team_is_not_set_aside_by_each_start() -> None:
    archive, kept = MemoryArchive(), Kept()
    inserts = GroupedInserts(EVENTS_TABLE, archive, AT_ONCE)
    one = PartitionArchiver(EVENTS_TABLE, 0, archive=archive, inserts=inserts, quarantine=kept, erased={"team_1"})
    other = replace(bad_record(1), key=b"team_2")
    await archived(one, [bad_record(0), other, replace(other, offset=2, key=None)])
    assert [bad.record.offset for bad in kept.records] == [1, 2]
