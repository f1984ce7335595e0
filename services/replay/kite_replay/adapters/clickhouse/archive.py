"""The archive over clickhouse-connect: server or chDB, same client, same SQL. One insert, one token, one part per call and month.

An insert is one block, so readers see it whole or not at all. Rows of two months are two inserts, the earlier first, because a block
becomes one part per table partition. The token is made of the offsets in it: ClickHouse drops an insert whose token it knows.

Rows carry the fence of whoever archives their partition. ClickHouse compares it with the one of the owner when it carries the insert out
(migrations/0009 to 0012), so nobody stores anything of a partition another has taken over, whenever it was sent.
"""

import asyncio
import hashlib
import re
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Any, Final, TypeVar

from clickhouse_connect.datatypes.base import ClickHouseType
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from kite_common.clock import Clock, from_unix_ms
from kite_common.errors import Fenced, Unavailable
from kite_common.ids import EventId, TeamId
from kite_common.runtime.component import READY, Readiness, StartAgain
from kite_common.runtime.observe import get_logger
from kite_common.runtime.system import SystemClock, pause, random_bits
from kite_replay.adapters.clickhouse import running_inserts, sql
from kite_replay.adapters.clickhouse.address import Address, name_of
from kite_replay.adapters.clickhouse.clients import open_client
from kite_replay.adapters.clickhouse.generations import generations_of
from kite_replay.adapters.clickhouse.grants import or_unknown
from kite_replay.adapters.clickhouse.migrate import migrate
from kite_replay.adapters.clickhouse.pool import ClientPool, away_is_unavailable
from kite_replay.domain.generation import serving
from kite_replay.domain.ledger import FoundEntry, LedgerQuery
from kite_replay.domain.query import EventQuery, Found, FoundEvent, Place
from kite_replay.domain.rows import TABLES, Batch, Row, Table, TableName, Tail

log = get_logger("kite.replay.archive")

ResultT = TypeVar("ResultT")
READERS: Final = 4
_READS_WAITING: Final = 64
# One insert at a time per table (events, deliveries, ledger): none waits here, to begin after its partitions have been given away.
_WRITERS: Final = len(TABLES)
# ClickHouse's code of a refused CHECK; texts are cut off, codes stand in front.
_VIOLATED_CONSTRAINT: Final = re.compile(r"\b[Cc]ode: 469\b")
# The tails asked for on assignment.
_TAILS_WAITING: Final = 4096
# A page is cut after this many bytes: 1,000 hook events of 256 KiB would be 256 MiB in this process, several times over.
MAX_PAGE_BYTES: Final = 16 * 1024 * 1024
# What the rows of a page weigh beside their bodies, at most.
_PAGE_MARGIN: Final = 1024 * 1024
_READ_SETTINGS: Final = {
    "max_execution_time": 20,
    # A page is a short range of the index: more threads would only wait for each other, and one keeps the order that `break` needs.
    "max_threads": 1,
    "max_result_bytes": MAX_PAGE_BYTES,
    "result_overflow_mode": "break",
}
# A narrowed page looks at no more events than these: what matches nothing must not read years of a team's events in one request.
MAX_LOOKED_AT: Final = 100_000
_RETRY_S: Final = 1.0
_GENERATION_EVERY_S: Final = 1.0


class ClickHouseArchive:
    """Implements Archive, EventReader, LedgerReader, and is a Component: `run` migrates the database and closes everything at the end."""

    name = "archive"

    def __init__(
        self,
        address: Address,
        kept_days: int,
        looked_at: int = MAX_LOOKED_AT,
        clock: Clock | None = None,
        *,
        may_write: Callable[[], bool] = lambda: True,
    ) -> None:
        """`may_write` is asked right before each insert: whether what this process owned is surely still its own."""
        self._address, self._kept_days, self._looked_at, self._may_write = address, kept_days, looked_at, may_write
        self._generations, self._generation, self._clock = generations_of(address), 0, clock or SystemClock()

        def opened() -> Client:
            return open_client(self._address, self._address.database)

        self._readers = ClientPool("read", opened, size=READERS, waiting=_READS_WAITING)
        self._writers = ClientPool("write", opened, size=_WRITERS, waiting=_WRITERS)
        self._tails = ClientPool("tail", opened, size=1, waiting=_TAILS_WAITING)
        self._migrated = False
        self._migrating = asyncio.Lock()
        self._types: dict[TableName, Sequence[ClickHouseType]] = {}
        self._fences: dict[tuple[TableName, int], int] = {}
        self._waits_for: str | None = None
        self._is_list_gone = False

    async def run(self, stop: asyncio.Event) -> None:
        """Migrate as soon as ClickHouse can be reached; then serve calls until `stop`.

        Raises StartAgain when the archive has been rebuilt: a process reads and writes one generation, as long as it lives.
        What is under way then is still served.
        """
        while not self._migrated and not stop.is_set():
            try:
                await self._ready()
            except Unavailable:
                await pause(_RETRY_S, stop)
        while not await pause(_GENERATION_EVERY_S, stop):
            await self._see_generation()
        await asyncio.to_thread(self.close)

    def readiness(self) -> Readiness:
        """Ready once the tables are there; ClickHouseWatch tells of a ClickHouse that goes away later."""
        return READY if self._migrated else Readiness(ready=False, reason=self._waits_for or "ClickHouse not reached yet")

    def close(self) -> None:
        """Finish what runs and close the clients. Blocks."""
        self._readers.close()
        self._writers.close()
        self._tails.close()

    async def broken_parts(self) -> int:
        """How many parts ClickHouse has set aside because it cannot read them, asked on a reader's connection.

        Raises Unavailable, ApiError while too many wait for one.
        """
        await self._ready()
        found = await self._readers.run(partial(_granted_rows, sql.BROKEN_PARTS, "system.detached_parts"))
        return int(found[0][0]) if found else 0

    async def migrated(self) -> str:
        """Bring the database up to date, once; where it is, without secrets. Raises Unavailable."""
        await self._ready()
        return name_of(self._address)

    async def tail(self, table: Table, partition: int) -> Tail | None:
        """Take the partition over, and where to go on from. From here on only we store anything of it: inserts that run are waited for, all
        others are refused, even if they were sent before."""
        await self._ready()
        await self._take_over(table, partition)
        await running_inserts.ended(self._tails, self._address.database, table.name)
        found = await self._tails.run(partial(_rows, sql.tail(table.name, partition)))
        return Tail(*found[0]) if found else None

    async def append(self, table: Table, batches: Sequence[Batch]) -> None:
        """Raises Fenced if another has taken over one of the partitions; then nothing of that insert is stored."""
        await self._ready()
        for batch in batches:
            if (table.name, batch.partition) not in self._fences:
                await self._take_over(table, batch.partition)
        for token, rows in inserts_of(batches):
            fences = [self._fences[table.name, row.partition] for row in rows]
            # Of this owner's inserts only: ClickHouse knows the token of rows, too, that it has lost since, and would not store them again.
            owned = hashlib.sha256(f"{token} {sorted(set(fences))}".encode()).hexdigest()
            await self._writers.run(partial(self._insert, table, rows, fences, owned))

    async def remove(self, table: Table, teams: Collection[str]) -> None:
        """ClickHouse does it in the background, and goes on with it by itself after a restart (a mutation)."""
        await self._ready()
        await self._tails.run(partial(_command, sql.remove(table.name, teams)))

    async def rows_of(self, table: Table, teams: Collection[str]) -> int:
        await self._ready()
        return int((await self._tails.run(partial(_rows, sql.rows_of(table.name, teams))))[0][0])

    async def seq_of(self, team_id: TeamId, created_ms: int, event_id: EventId) -> int | None:
        await self._ready()
        found = await self._readers.run(partial(_rows, sql.seq_of(team_id, created_ms, event_id)))
        return int(found[0][0]) if found else None

    async def find(self, query: EventQuery) -> Found:
        await self._ready()
        return await self._readers.run(partial(_page, query, self._looked_at))

    async def entries(self, query: LedgerQuery) -> Sequence[FoundEntry]:
        await self._ready()
        return await self._readers.run(partial(_entries, query))

    async def read(self, work: Callable[[Client], ResultT]) -> ResultT:
        """What one of the readers finds out; for readers of tables that have a file of their own."""
        await self._ready()
        return await self._readers.run(work)

    async def _ready(self) -> None:
        if self._migrated:
            return
        async with self._migrating:
            if not self._migrated:
                with away_is_unavailable("migrate"):
                    self._generation, self._address = await asyncio.to_thread(self._choose)
                    self._writers.adopt(await asyncio.to_thread(migrate, self._address, self._kept_days))
                self._migrated = True
                log.info("archive.migrated", database=self._address.database, generation=self._generation)

    def _choose(self) -> tuple[int, Address]:
        last = self._generations.last()
        if last is None and (lost := self._generations.lost()) is not None:
            # To begin with an empty archive would look as if nothing had ever been sent.
            found = name_of(self._generations.address(lost))
            if self._waits_for is None:
                log.error("archive.generations_gone", found=found)
            self._waits_for = f"the first archive and the list of generations are gone, {found} is there: kitectl rebuild archive"
            raise Unavailable(self._waits_for)
        number = serving(last, self._clock.unix_ms())
        if number is None:
            raise Unavailable("the archive is being replaced by one that was rebuilt")
        return number, self._generations.address(number)

    async def _see_generation(self) -> None:
        try:
            with away_is_unavailable("generation"):
                last = await asyncio.to_thread(self._generations.last)
        except Unavailable:
            return
        if last is None and self._generation != 0:
            # Somebody has removed the list of generations: what is served is not looked for elsewhere because of that.
            if not self._is_list_gone:
                log.error("archive.generations_gone", generation=self._generation, database=self._address.database)
            self._is_list_gone = True
            return
        self._is_list_gone = False
        if serving(last, self._clock.unix_ms()) != self._generation:
            raise StartAgain("the archive was rebuilt")

    async def _take_over(self, table: Table, partition: int) -> None:
        fence = random_bits(63) | 1
        await self._tails.run(partial(_owned_by, table.name, partition, fence))
        self._fences[table.name, partition] = fence

    def _insert(self, table: Table, rows: Sequence[Row], fences: Sequence[int], token: str, client: Client) -> None:
        names, types = (*table.columns, "fence"), self._types.get(table.name)
        if types is None:
            types = self._types[table.name] = client.create_insert_context(table.name, names).column_types
        columns: list[Sequence[Any]] = [*zip(*rows, strict=True), fences]
        if not self._may_write():
            raise Unavailable("this process stood still, others may archive its partitions by now")
        with _refused_is_fenced(table.name):
            client.insert(
                table.name, columns, column_names=names, column_types=types, column_oriented=True,
                settings={
                    "insert_deduplication_token": token, "async_insert": 0,
                    "log_comment": running_inserts.mark(self._address.database, table.name),
                },
            )  # fmt: skip


def _owned_by(table: TableName, partition: int, fence: int, client: Client) -> None:
    row, names = [table, partition, fence], ["name", "partition", "fence"]
    client.insert("owners", [row], column_names=names, settings={"async_insert": 0})


@contextmanager
def _refused_is_fenced(table: TableName) -> Generator[None, None, None]:
    try:
        yield
    except ClickHouseError as error:
        if _VIOLATED_CONSTRAINT.search(str(error)) is None:
            raise
        raise Fenced(f"another archives a partition of {table} by now, or ClickHouse was started anew") from error


def inserts_of(batches: Sequence[Batch]) -> Iterator[tuple[str, list[Row]]]:
    """The inserts that store these batches, in order: token and rows, one per calendar month (UTC) of `created_at`.

    Of each partition the earlier rows come first, so that a crash between two inserts leaves a beginning of it.
    """
    months: dict[str, list[Batch]] = {}
    for batch in batches:
        for month, rows in _by_month(batch.rows):
            months.setdefault(month, []).append(Batch(batch.table, batch.partition, rows, 0))
    for month in sorted(months):
        spans = ",".join(sorted(part.span for part in months[month]))
        yield hashlib.sha256(spans.encode()).hexdigest(), [row for part in months[month] for row in part.rows]


def _by_month(rows: Sequence[Row]) -> Iterable[tuple[str, Sequence[Row]]]:
    if _month(rows[0]) == _month(rows[-1]):  # times do not decrease: one look at both ends for nearly every batch
        return [(_month(rows[0]), rows)]
    return [(month, list(part)) for month, part in groupby(rows, key=_month)]


def _month(row: Row) -> str:
    return from_unix_ms(row.created_at).strftime("%Y%m")


def _rows(statement: sql.Statement, client: Client) -> Sequence[Sequence[Any]]:
    return client.query(statement.text, parameters=dict(statement.parameters), settings={"max_execution_time": 20}).result_rows


def _command(statement: sql.Statement, client: Client) -> None:
    client.command(statement.text, parameters=dict(statement.parameters), settings={"mutations_sync": 0})


def _granted_rows(statement: sql.Statement, table: str, client: Client) -> Sequence[Sequence[Any]]:
    return or_unknown(client, statement, table)


def _page(query: EventQuery, looked_at: int, client: Client) -> Found:
    # Also where every row counts: a range without an end would be read far behind the page's, in each of its parts.
    until = _window_end(query, looked_at if query.is_narrowed else query.limit, client)
    rows = _found(query, until, client)
    if len(rows) == query.limit:
        return Found(rows)
    if sum(len(row.body) for row in rows) <= MAX_PAGE_BYTES - _PAGE_MARGIN:
        return Found(rows, cut=until is not None, stopped_at=until)
    # So much that it was cut, unless it happened to end just there: one more look tells.
    behind = replace(query, after_seq=rows[-1].kiteseq, limit=1)
    if _found(behind, until, client):
        return Found(rows, cut=True)
    return Found(rows, cut=until is not None, stopped_at=until)


def _window_end(query: EventQuery, looked_at: int, client: Client) -> Place | None:
    """The last event that a page may look at, None if there are not so many.

    It is asked for before the page: what becomes visible in between stands behind it.
    """
    found = _rows(sql.window(query, looked_at), client)
    return Place(*found[0]) if found else None


def _found(query: EventQuery, until: Place | None, client: Client) -> tuple[FoundEvent, ...]:
    statement = sql.page(query, until)
    result = client.query(statement.text, parameters=dict(statement.parameters), settings=_READ_SETTINGS, query_formats={"String": "bytes"})
    if not result.result_columns:
        return ()
    ids, times, seqs, bodies = result.result_columns
    return tuple(map(FoundEvent, map(bytes.decode, ids), times, seqs, bodies))


def _entries(query: LedgerQuery, client: Client) -> list[FoundEntry]:
    statement = sql.entries(query)
    settings = {"max_execution_time": 20, "max_threads": 1}
    result = client.query(statement.text, parameters=dict(statement.parameters), settings=settings, query_formats={"String": "bytes"})
    return [FoundEntry(offset, entry_id.decode(), created_ms, fact) for offset, entry_id, created_ms, fact in result.result_rows]
