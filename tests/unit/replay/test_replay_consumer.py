"""The owner of a partition: where it starts, what it commits, how it waits."""

import asyncio
from collections.abc import Collection, Mapping, Sequence

import pytest

from kite_common.errors import ConfigurationError, Fenced, Unavailable
from kite_common.testing.eventually import eventually
from kite_common.topics import EVENTS
from kite_replay.adapters.consumer import ArchiveOwner, _all, _slower_s
from kite_replay.application.grouped_inserts import GroupedInserts, InsertPolicy
from kite_replay.domain.rows import EVENTS_TABLE, BadRecord, Batch, Table, Tail
from kite_replay.testing import MemoryArchive, ReadRecord, batch, event_record, event_rows, usage_record

TOPIC = EVENTS.name


class MemoryFeed:
    """One partition of kite.events in memory."""

    def __init__(self, log: Sequence[ReadRecord]) -> None:
        self.log = list(log)
        self.closing = asyncio.Event()
        self.at: int | None = None
        self.paused = True
        self.committed: list[int] = []

    async def batch(self, *topics: str, max_records: int = 500, timeout_s: float = 0.2) -> list[ReadRecord]:
        assert TOPIC in topics
        assert timeout_s < 5
        await asyncio.sleep(0)
        if self.paused or self.at is None:
            return []
        taken = [record for record in self.log if record.offset >= (self.at or 0)][: min(max_records, 7)]
        self.at = taken[-1].offset + 1 if taken else self.at
        return taken

    async def commit(self, offsets: Mapping[str, int]) -> None:
        self.committed.append(offsets[TOPIC])

    async def end_offset(self, topic: str) -> int:
        assert topic == TOPIC
        return len(self.log)

    def seek(self, topic: str, offset: int) -> None:
        assert topic == TOPIC
        self.at = offset

    async def seek_to_beginning(self, topic: str) -> int:
        self.seek(topic, 0)
        return 0

    def pause(self, *topics: str) -> None:
        self.paused = TOPIC in topics

    def resume(self, *topics: str) -> None:
        self.paused = TOPIC not in topics


class NoneExpected:
    async def put(self, records: Sequence[BadRecord]) -> None:
        raise AssertionError(records)


class MemoryErasures:
    """Erased teams, and whether it is on record that nothing is left of them."""

    def __init__(self, *teams: str) -> None:
        self.teams = dict.fromkeys(teams, False)

    async def known(self, partition: int) -> Mapping[str, bool]:
        return self.seen(partition)

    def seen(self, partition: int) -> Mapping[str, bool]:
        assert partition == 0
        return dict(self.teams)

    async def carried_out(self, partition: int, teams: Collection[str]) -> None:
        assert partition == 0
        self.teams |= dict.fromkeys(teams, True)


def owner(archive: MemoryArchive, erasures: MemoryErasures | None = None) -> ArchiveOwner:
    inserts = GroupedInserts(EVENTS_TABLE, archive, InsertPolicy(interval_s=0.0, retry_delays_s=()))
    return ArchiveOwner({EVENTS_TABLE: inserts}, archive, NoneExpected(), erasures or MemoryErasures())


def log_of(length: int) -> list[ReadRecord]:
    return [(usage_record if offset % 2 else event_record)(offset) for offset in range(length)]


async def own_until(archive: MemoryArchive, feed: MemoryFeed, rows: int) -> None:
    owning = asyncio.create_task(owner(archive).own(0, feed))
    await eventually(lambda: len(archive.rows["events"]) >= rows, every_s=0.001, what=f"{rows} rows")
    feed.closing.set()
    await owning


async def test_a_partition_is_archived_from_the_beginning() -> None:
    archive, feed = MemoryArchive(), MemoryFeed(log_of(40))
    await own_until(archive, feed, 20)
    assert [row.log_offset for row in archive.rows["events"]] == list(range(0, 40, 2))
    assert feed.committed == sorted(set(feed.committed))


async def test_a_partition_goes_on_where_the_archive_ends() -> None:
    archive, feed = MemoryArchive(), MemoryFeed(log_of(40))
    await archive.append(EVENTS_TABLE, [batch(event_rows("t", range(0, 20, 2)))])
    await own_until(archive, feed, 20)
    assert [row.log_offset for row in archive.rows["events"]] == list(range(0, 40, 2))


async def test_an_archive_that_is_away_is_waited_for_and_asked_again_where_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kite_replay.adapters.consumer._RETRY_S", (0.0,))

    class Away(MemoryArchive):
        refusals = 3

        async def tail(self, table: Table, partition: int) -> Tail | None:
            self.refusals -= 1
            if self.refusals >= 0:
                raise Unavailable("away")
            return await super().tail(table, partition)

    archive, feed = Away(), MemoryFeed(log_of(40))
    archive.fail_after = [False, True, False, True]
    await own_until(archive, feed, 20)
    assert [row.log_offset for row in archive.rows["events"]] == list(range(0, 40, 2))


async def test_who_is_refused_and_owns_the_partition_still_begins_anew_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kite_replay.adapters.consumer._FENCED_S", 0.0)

    class StartedAnew(MemoryArchive):
        """After the second insert it knows no owners any more."""

        inserts, tails, owned = 0, 0, True

        async def tail(self, table: Table, partition: int) -> Tail | None:
            self.tails, self.owned = self.tails + 1, True
            return await super().tail(table, partition)

        async def append(self, table: Table, batches: Sequence[Batch]) -> None:
            if not self.owned:
                raise Fenced("another archives a partition of events by now")
            await super().append(table, batches)
            self.inserts += 1
            self.owned = self.inserts != 2

    archive, feed = StartedAnew(), MemoryFeed(log_of(40))
    await own_until(archive, feed, 20)
    assert [row.log_offset for row in archive.rows["events"]] == list(range(0, 40, 2))
    assert archive.tails >= 2


@pytest.mark.parametrize("during", ["take", "finish"])
async def test_a_refusal_that_shows_while_records_are_taken_is_the_same(during: str) -> None:
    """A story: it came out of the group of tasks as a group of errors, which nobody took for a refusal."""

    async def refused() -> None:
        raise Fenced(during)

    async def goes_on() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Fenced, match=during):
        await _all([goes_on(), refused()])


async def test_a_position_that_cannot_be_shown_does_not_begin_the_partition_anew() -> None:
    class Uncommitted(MemoryFeed):
        begun = 0

        async def commit(self, offsets: Mapping[str, int]) -> None:
            raise Unavailable("away")

        async def seek_to_beginning(self, topic: str) -> int:
            self.begun += 1
            return await super().seek_to_beginning(topic)

        def seek(self, topic: str, offset: int) -> None:
            assert offset == 0
            super().seek(topic, offset)

    archive, feed = MemoryArchive(), Uncommitted(log_of(40))
    await own_until(archive, feed, 20)
    assert feed.begun == 1


async def test_an_archive_that_is_ahead_of_the_log_stops_the_partition() -> None:
    archive, feed = MemoryArchive(), MemoryFeed(log_of(4))
    await archive.append(EVENTS_TABLE, [batch(event_rows("t", [4]))])
    with pytest.raises(ConfigurationError, match="kite.events-0 ends at 4, its archive at 5"):
        await owner(archive).own(0, feed)


def two_teams(length: int) -> list[ReadRecord]:
    """Events of two teams by turns."""
    return [event_record(offset, team="team_gone" if offset % 2 else "team_stays") for offset in range(length)]


async def test_what_is_there_of_an_erased_team_goes_and_nothing_of_it_comes_any_more() -> None:
    archive, feed, erasures = MemoryArchive(), MemoryFeed(two_teams(20)), MemoryErasures()
    owning = asyncio.create_task(owner(archive, erasures).own(0, feed))
    await eventually(lambda: len(archive.rows["events"]) == 20, every_s=0.001, what="all is archived")
    erasures.teams["team_gone"] = False
    await eventually(lambda: erasures.teams["team_gone"], within_s=20, what="the erasure is carried out")
    assert {row.team_id for row in archive.rows["events"]} == {"team_stays"}
    feed.log += [event_record(offset, team="team_gone" if offset % 2 else "team_stays") for offset in range(20, 40)]
    await eventually(lambda: len(archive.rows["events"]) == 20, every_s=0.001, what="what the other team sends goes on")
    feed.closing.set()
    await owning
    assert [row.log_offset for row in archive.rows["events"]] == list(range(0, 40, 2))


async def test_nothing_is_archived_before_the_erasures_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kite_replay.adapters.consumer._RETRY_S", (0.0,))

    class Away(MemoryErasures):
        refusals = 3

        async def known(self, partition: int) -> Mapping[str, bool]:
            self.refusals -= 1
            if self.refusals >= 0:
                assert archive.rows["events"] == []
                raise Unavailable("away")
            return await super().known(partition)

    archive, feed = MemoryArchive(), MemoryFeed(two_teams(10))
    owning = asyncio.create_task(owner(archive, Away("team_gone")).own(0, feed))
    await eventually(lambda: len(archive.rows["events"]) == 5, every_s=0.001, what="the rows of the other team")
    feed.closing.set()
    await owning
    assert {row.team_id for row in archive.rows["events"]} == {"team_stays"}


async def test_an_erasure_is_carried_out_only_when_nothing_is_left() -> None:
    class Slow(MemoryArchive):
        ordered = 0

        async def remove(self, table: Table, teams: Collection[str]) -> None:
            self.ordered += 1

    archive, erasures = Slow(), MemoryErasures("team_gone")
    await archive.append(EVENTS_TABLE, [batch(event_rows("team_gone", [0, 1]))])
    feed = MemoryFeed([event_record(offset, team="team_stays") for offset in range(4)])
    owning = asyncio.create_task(owner(archive, erasures).own(0, feed))
    await eventually(lambda: len(archive.rows["events"]) == 4, every_s=0.001, what="archiving goes on beside the removal")
    assert not erasures.teams["team_gone"]
    await MemoryArchive.remove(archive, EVENTS_TABLE, {"team_gone"})
    await eventually(lambda: erasures.teams["team_gone"], within_s=20, what="nothing is left, which is put on record")
    feed.closing.set()
    await owning
    assert archive.ordered == 1


@pytest.mark.parametrize("refused", ["rows_of", "remove", "carried_out"])
async def test_an_erasure_that_is_refused_stops_nobody_and_is_finished_once_it_works(refused: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A story: it was ordered before reading, and each failure began the partition anew: nothing of anybody was archived any more."""
    monkeypatch.setattr("kite_replay.adapters.consumer._LOOK_EVERY_S", 0.001)
    works, asked = asyncio.Event(), 0

    def ask(what: str) -> None:
        nonlocal asked
        if what == refused:
            asked += 1
            if not works.is_set():
                raise Unavailable(what)

    class Refusing(MemoryArchive):
        async def rows_of(self, table: Table, teams: Collection[str]) -> int:
            ask("rows_of")
            return await super().rows_of(table, teams)

        async def remove(self, table: Table, teams: Collection[str]) -> None:
            ask("remove")
            await super().remove(table, teams)

    class Unrecorded(MemoryErasures):
        knew = 0

        async def known(self, partition: int) -> Mapping[str, bool]:
            self.knew += 1
            return await super().known(partition)

        async def carried_out(self, partition: int, teams: Collection[str]) -> None:
            ask("carried_out")
            await super().carried_out(partition, teams)

    archive, erasures, feed = Refusing(), Unrecorded("team_gone"), MemoryFeed(two_teams(20))
    await archive.append(EVENTS_TABLE, [batch(event_rows("team_gone", [1]))])
    owning = asyncio.create_task(owner(archive, erasures).own(0, feed))
    await eventually(lambda: asked >= 2, every_s=0.001, what="it was refused, and tried again")
    feed.log += [event_record(offset, team="team_gone" if offset % 2 else "team_stays") for offset in range(20, 40)]
    await eventually(lambda: _offsets(archive, "team_stays") == list(range(2, 40, 2)), every_s=0.001, what="others are archived")
    assert not erasures.teams["team_gone"]
    assert erasures.knew == 1, "the partition was not begun anew"
    works.set()
    await eventually(lambda: erasures.teams["team_gone"], within_s=20, every_s=0.001, what="the erasure is carried out")
    assert _offsets(archive, "team_gone") == []
    feed.closing.set()
    await owning


async def test_an_archive_that_does_not_answer_for_erased_teams_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kite_replay.adapters.consumer._LOOK_EVERY_S", 0.001)

    class Silent(MemoryArchive):
        asked = False

        async def rows_of(self, table: Table, teams: Collection[str]) -> int:
            self.asked = True
            await asyncio.Event().wait()
            raise AssertionError

    archive, feed = Silent(), MemoryFeed([])
    owning = asyncio.create_task(owner(archive, MemoryErasures("team_gone")).own(0, feed))
    await eventually(lambda: archive.asked, every_s=0.001, what="it is asked")
    feed.log += two_teams(20)
    await eventually(lambda: _offsets(archive, "team_stays") == list(range(0, 20, 2)), every_s=0.001, what="others are archived")
    feed.closing.set()
    await owning


async def test_rows_of_a_team_whose_erasure_is_done_already_are_removed_all_the_same() -> None:
    """A story: what a rebuild had filled of a team that was erased meanwhile stayed, since its erasure was on record as carried out."""
    archive, erasures, feed = MemoryArchive(), MemoryErasures("team_gone"), MemoryFeed(two_teams(4))
    erasures.teams["team_gone"] = True
    await archive.append(EVENTS_TABLE, [batch(event_rows("team_gone", [0, 1]))])
    owning = asyncio.create_task(owner(archive, erasures).own(0, feed))
    await eventually(lambda: _offsets(archive, "team_gone") == [], every_s=0.001, what="its rows are gone")
    feed.closing.set()
    await owning


def test_what_fails_again_and_again_is_tried_every_minute() -> None:
    assert [_slower_s(failures) for failures in (1, 2, 5, 6, 1_000)] == [2, 4, 32, 60, 60]


def _offsets(archive: MemoryArchive, team: str) -> list[int]:
    return [row.log_offset for row in archive.rows["events"] if row.team_id == team]
