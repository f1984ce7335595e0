"""For tests: an archive in memory, and the behaviour suite that every archive passes. No mocks.

A test class inherits `ArchiveBehaviour` and gives the fixture `archive`; team ids and partitions are the test's own.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

from kite_common.errors import Unavailable
from kite_common.ids import EventId, TeamId
from kite_common.testing.eventually import eventually
from kite_replay.application.ports import ErasableArchive, EventReader, LedgerReader
from kite_replay.domain import filters, scopes
from kite_replay.domain.ledger import FoundEntry, LedgerQuery
from kite_replay.domain.query import EventQuery, Found, FoundEvent
from kite_replay.domain.rows import (
    EVENTS_TABLE,
    LEDGER_TABLE,
    Batch,
    EventRow,
    LedgerRow,
    Row,
    Table,
    TableName,
    Tail,
)
from kite_replay.testing.records import _DAY_MS, NOW_MS, batch, event_rows, ledger_rows, query


class MemoryArchive:
    """An archive in memory. `fail_before` and `fail_after` lists of booleans: whether the next appends fail, before or after storing."""

    def __init__(self) -> None:
        self.rows: dict[TableName, list[Row]] = {"events": [], "deliveries": [], "ledger": []}
        self.appends: list[list[str]] = []
        self.fail_before: list[bool] = []
        self.fail_after: list[bool] = []
        self._tokens: set[tuple[TableName, tuple[str, ...]]] = set()

    async def tail(self, table: Table, partition: int) -> Tail | None:
        rows = [row for row in self.rows[table.name] if row.partition == partition]
        return Tail(max(row.log_offset for row in rows), max(row.created_at for row in rows)) if rows else None

    async def append(self, table: Table, batches: Sequence[Batch]) -> None:
        self.appends.append([batch.span for batch in batches])
        if self.fail_before and self.fail_before.pop(0):
            raise Unavailable("away")
        token = (table.name, tuple(sorted(batch.span for batch in batches)))
        if token not in self._tokens:
            self._tokens.add(token)
            self.rows[table.name] += [row for batch in batches for row in batch.rows]
        if self.fail_after and self.fail_after.pop(0):
            raise Unavailable("answer lost")

    async def remove(self, table: Table, teams: Collection[str]) -> None:
        self.rows[table.name] = [row for row in self.rows[table.name] if row.team_id not in teams]

    async def rows_of(self, table: Table, teams: Collection[str]) -> int:
        return sum(row.team_id in teams for row in self.rows[table.name])

    async def seq_of(self, team_id: TeamId, created_ms: int, event_id: EventId) -> int | None:
        return next((row.kiteseq for row in self._events(team_id) if (row.created_at, row.event_id) == (created_ms, event_id)), None)

    async def find(self, query: EventQuery) -> Found:
        wanted = {
            row.kiteseq: FoundEvent(row.event_id, row.created_at, row.kiteseq, row.body)
            for row in self._events(query.team_id)
            if row.created_at >= query.from_ms
            and (query.after_seq is None or row.kiteseq > query.after_seq)
            and scopes.matches(query.scopes, row.type, row.source, row.slug, row.agent_to)
            and filters.matches(query.filters, row.type, row.source, row.agent_to)
        }
        return Found(tuple(wanted[seq] for seq in sorted(wanted)[: query.limit]))

    async def entries(self, query: LedgerQuery) -> Sequence[FoundEntry]:
        wanted = {
            row.log_offset: FoundEntry(row.log_offset, row.entry_id, row.created_at, row.fact)
            for row in self.rows["ledger"]
            if isinstance(row, LedgerRow) and row.team_id == query.team_id and row.amount_atomic
            and (query.up_to is None or row.log_offset <= query.up_to)
        }  # fmt: skip
        return [wanted[offset] for offset in sorted(wanted, reverse=True)[: query.limit]]

    def _events(self, team_id: str) -> list[EventRow]:
        return [row for row in self.rows["events"] if isinstance(row, EventRow) and row.team_id == team_id]


class FullArchive(ErasableArchive, EventReader, LedgerReader, Protocol):
    """All sides of an archive."""


class ArchiveBehaviour:
    """What every archive promises. The fixture `archive` is a FullArchive that other tests may share; `team` is new in each test."""

    async def test_an_empty_partition_has_no_tail(self, archive: FullArchive) -> None:
        assert await archive.tail(EVENTS_TABLE, 901) is None

    async def test_the_tail_is_the_last_stored_row(self, archive: FullArchive, team: str, partition: int) -> None:
        await archive.append(EVENTS_TABLE, [batch(event_rows(team, [4, 6], partition=partition))])
        await archive.append(EVENTS_TABLE, [batch(event_rows(team, [8], partition=partition, at_ms=NOW_MS + 5))])
        assert await archive.tail(EVENTS_TABLE, partition) == Tail(8, NOW_MS + 5)

    async def test_the_rows_of_teams_can_be_removed_and_the_tail_is_the_last_row_that_stays(
        self, archive: FullArchive, team: str, partition: int
    ) -> None:
        other = team + "x"
        rows = event_rows(team, [2, 6, 8], partition=partition), event_rows(other, [4], partition=partition, at_ms=NOW_MS + 3)
        for part in rows:
            await archive.append(EVENTS_TABLE, [batch(part)])
        assert [await archive.rows_of(EVENTS_TABLE, {one}) for one in (team, other)] == [3, 1]
        for _ in range(2):
            await archive.remove(EVENTS_TABLE, {team, "team_nobody"})

        async def gone() -> bool:
            return not await archive.rows_of(EVENTS_TABLE, {team})

        await eventually(gone, within_s=30, what="the rows of the team are gone")
        assert await archive.rows_of(EVENTS_TABLE, {team, other}) == 1
        assert await archive.tail(EVENTS_TABLE, partition) == Tail(4, NOW_MS + 3)
        assert (await archive.find(query(team))).rows == ()

    async def test_rows_come_back_in_log_order_with_their_exact_bytes(self, archive: FullArchive, team: str, partition: int) -> None:
        body = '{"data":"\\u0000 é \U0001f41d \\" \\\\","kiteseq":1}'.encode()
        rows = event_rows(team, [2, 4, 6], partition=partition, body=body)
        await archive.append(EVENTS_TABLE, [batch(rows)])
        found = await archive.find(query(team))
        assert found == Found(tuple(FoundEvent(row.event_id, row.created_at, row.kiteseq, body) for row in rows))

    async def test_the_same_append_again_stores_nothing(self, archive: FullArchive, team: str, partition: int) -> None:
        batches = [batch(event_rows(team, range(0, 20, 2), partition=partition))]
        for _ in range(3):
            await archive.append(EVENTS_TABLE, batches)
        assert len((await archive.find(query(team))).rows) == 10

    async def test_a_row_that_two_archivers_stored_is_read_once(self, archive: FullArchive, team: str, partition: int) -> None:
        await archive.append(EVENTS_TABLE, [batch(event_rows(team, [2, 4, 6], partition=partition))])
        await archive.append(EVENTS_TABLE, [batch(event_rows(team, [4, 6, 8], partition=partition))])
        found = await archive.find(query(team))
        assert [row.kiteseq >> 10 for row in found.rows] == [2, 4, 6, 8]

    async def test_a_read_can_start_after_a_position_and_stop_at_a_limit(self, archive: FullArchive, team: str, partition: int) -> None:
        rows = event_rows(team, range(10), partition=partition)
        await archive.append(EVENTS_TABLE, [batch(rows)])
        found = await archive.find(query(team, after_seq=rows[3].kiteseq, limit=2))
        assert [row.kiteseq for row in found.rows] == [rows[4].kiteseq, rows[5].kiteseq]

    async def test_a_time_is_a_start_that_includes_it(self, archive: FullArchive, team: str, partition: int) -> None:
        for offset in range(3):
            await archive.append(EVENTS_TABLE, [batch(event_rows(team, [offset], partition=partition, at_ms=NOW_MS + offset))])
        found = await archive.find(query(team, from_ms=NOW_MS + 1))
        assert [row.created_ms for row in found.rows] == [NOW_MS + 1, NOW_MS + 2]

    async def test_times_far_outside_any_archive_are_only_early_or_late(self, archive: FullArchive, team: str, partition: int) -> None:
        await archive.append(EVENTS_TABLE, [batch(event_rows(team, [1], partition=partition))])
        assert len((await archive.find(query(team, from_ms=-62_135_596_800_000))).rows) == 1
        assert len((await archive.find(query(team, from_ms=253_402_300_799_999))).rows) == 0

    async def test_a_batch_over_the_turn_of_a_month_is_read_as_one_stream(self, archive: FullArchive, team: str, partition: int) -> None:
        rows = event_rows(team, [1, 2], partition=partition) + event_rows(team, [3, 4], partition=partition, at_ms=NOW_MS + 40 * _DAY_MS)
        await archive.append(EVENTS_TABLE, [batch(rows)])
        found = await archive.find(query(team))
        assert [row.kiteseq for row in found.rows] == [row.kiteseq for row in rows]

    async def test_a_team_never_sees_another_teams_rows(self, archive: FullArchive, team: str, partition: int) -> None:
        both = event_rows(team, [1], partition=partition) + event_rows(team + "x", [2], partition=partition)
        await archive.append(EVENTS_TABLE, [batch(both)])
        assert [row.kiteseq >> 10 for row in (await archive.find(query(team))).rows] == [1]

    async def test_an_events_place_is_found_by_its_id_and_exact_time(self, archive: FullArchive, team: str, partition: int) -> None:
        (row,) = event_rows(team, [7], partition=partition)
        await archive.append(EVENTS_TABLE, [batch([row])])
        assert await archive.seq_of(TeamId(team), NOW_MS, EventId(row.event_id)) == row.kiteseq
        assert await archive.seq_of(TeamId(team), NOW_MS + 1, EventId(row.event_id)) is None
        assert await archive.seq_of(TeamId(team + "x"), NOW_MS, EventId(row.event_id)) is None

    async def test_the_ledger_is_read_newest_first_without_entries_of_zero(self, archive: FullArchive, team: str, partition: int) -> None:
        rows = ledger_rows(team, [500, 0, -100, 0, -50], partition=partition)
        await archive.append(LEDGER_TABLE, [batch(rows, LEDGER_TABLE)])
        await archive.append(LEDGER_TABLE, [batch(rows[2:], LEDGER_TABLE)])  # a second archiver, at work on the same records
        found = await archive.entries(LedgerQuery(TeamId(team), None, 10))
        assert [(one.offset, one.entry_id, one.created_ms, one.fact) for one in found] == [
            (row.log_offset, row.entry_id, row.created_at, row.fact) for row in (rows[4], rows[2], rows[0])
        ]

    async def test_the_ledger_can_be_read_from_a_place_up_to_a_limit_and_by_its_team_only(
        self, archive: FullArchive, team: str, partition: int
    ) -> None:
        rows = ledger_rows(team, [500, -1, -2, -3], partition=partition) + ledger_rows(team + "x", [7], partition=partition, first=100)
        await archive.append(LEDGER_TABLE, [batch(rows, LEDGER_TABLE)])
        found = await archive.entries(LedgerQuery(TeamId(team), rows[2].log_offset, 2))
        assert [one.offset for one in found] == [rows[2].log_offset, rows[1].log_offset]

    async def test_scopes_are_texts_not_patterns(self, archive: FullArchive, team: str, partition: int) -> None:
        plain = event_rows(team, range(len(_SCOPED)), partition=partition)
        rows = [
            row._replace(type=event_type, source=source, slug=slug, agent_to=agent_to)
            for row, (event_type, source, slug, agent_to) in zip(plain, _SCOPED, strict=True)
        ]
        await archive.append(EVENTS_TABLE, [batch(rows)])
        for texts in _SCOPE_LISTS:
            wanted = scopes.parse(texts)
            expected = [row.kiteseq for row in rows if scopes.matches(wanted, row.type, row.source, row.slug, row.agent_to)]
            assert [row.kiteseq for row in (await archive.find(query(team, key_scopes=texts))).rows] == expected, texts

    async def test_filters_narrow_by_type_and_agent(self, archive: FullArchive, team: str, partition: int) -> None:
        plain = event_rows(team, range(len(_SCOPED)), partition=partition)
        rows = [
            row._replace(type=event_type, source=source, slug=slug, agent_to=agent_to)
            for row, (event_type, source, slug, agent_to) in zip(plain, _SCOPED, strict=True)
        ]
        await archive.append(EVENTS_TABLE, [batch(rows)])
        for given in _FILTERS:
            wanted = filters.parse(*given)
            expected = [row.kiteseq for row in rows if filters.matches(wanted, row.type, row.source, row.agent_to)]
            found = await archive.find(query(team, wanted=wanted, limit=2))
            assert [row.kiteseq for row in found.rows] == expected[:2], given
            assert not found.cut


_SCOPED = (
    ("com.github.push", "https://github.com/o/r", "github", ""),
    ("com.github.pull_request", "https://github.com/o/r", "gh-mirror", ""),
    ("com.gh%.event", "https://a_b.example", "", ""),
    ("com.kite.agent.message", "https://getkite.sh/agents/a", "", "builder"),
    ("com.kite.agent.message", "https://getkite.sh/agents/a", "", "it's \\ {x:String} ' OR 1"),
    ("com.stripe.charge", "https://api.stripe.com", "stripe", "builder"),
)


# Types, agents, senders, receivers.
_FILTERS: tuple[tuple[list[str], list[str], list[str], list[str]], ...] = (
    (["com.github.*"], [], [], []), (["com.github"], [], [], []), (["com.stripe.charge", "com.github.push"], [], [], []),
    (["com.gh%.*"], [], [], []), (["com.kite.*", "com.stripe.*"], ["builder"], [], []), ([], ["a"], [], []), ([], ["b", "builder"], [], []),
    ([], [], ["a"], []), ([], [], ["a"], ["builder"]), ([], [], [], ["it's \\ {x:String} ' OR 1"]), ([], [], ["it's"], []),
    (["com.stripe.charge"], ["builder"], [], []),
)  # fmt: skip


_SCOPE_LISTS: tuple[list[str], ...] = (
    ["*"], [], ["bogus"], ["source:"], ["source:github"], ["source:%"], ["source:_"], ["type:gh%"], ["type:com.github"], ["type:GITHUB"],
    ["agent_to:builder"], ["agent_to:it's \\ {x:String} ' OR 1"], ["source:stripe", "type:push"], ["nothing:x", "source:gh-"],
)  # fmt: skip
