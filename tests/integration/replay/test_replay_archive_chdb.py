"""The archive adapter on a real engine: the suite of all archives, and what only an engine can show."""

import asyncio
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client

from kite_common.clock import FrozenClock, from_unix_ms
from kite_common.errors import ApiError, Fenced, Unavailable
from kite_common.events.codec import Record, encode
from kite_common.ids import TeamId
from kite_common.testing import make
from kite_common.testing.eventually import eventually
from kite_common.topics import DELIVERIES, LEDGER
from kite_replay.adapters.clickhouse import migrate as migrations
from kite_replay.adapters.clickhouse import sql
from kite_replay.adapters.clickhouse.address import InProcess, Server, parse_address
from kite_replay.adapters.clickhouse.archive import MAX_PAGE_BYTES, ClickHouseArchive
from kite_replay.adapters.clickhouse.clients import open_client
from kite_replay.adapters.clickhouse.migrate import migrate
from kite_replay.adapters.clickhouse.pool import ClientPool
from kite_replay.adapters.clickhouse.running_inserts import mark
from kite_replay.application.read_events import ReadEvents, ReadRequest
from kite_replay.domain import cursor as cursors
from kite_replay.domain.filters import Filters
from kite_replay.domain.retention import Retention
from kite_replay.domain.rows import DELIVERIES_TABLE, EVENTS_TABLE, LEDGER_TABLE, TABLES, Batch, Row, Table, Tail, to_rows
from kite_replay.testing import NOW_MS, ArchiveBehaviour, ReadRecord, batch, event_rows, query
from support.clickhouse import Served, clickhouse_server

_MIGRATIONS = Path(migrations.__file__).parent / "migrations"
_ARCHIVING = Path(__file__).with_name("archiving_process.py")


class TestClickHouseArchive(ArchiveBehaviour):
    """The fixtures are those of conftest.py."""


class TestServedArchive(ArchiveBehaviour):
    """The same over HTTP, from the local stack's ClickHouse server."""

    @pytest.fixture
    def archive(self, served_archive: ClickHouseArchive) -> ClickHouseArchive:
        return served_archive


async def test_deliveries_and_ledger_entries_are_archived_with_their_position(archive: ClickHouseArchive, partition: int) -> None:
    for table, topic, fact in (
        (DELIVERIES_TABLE, DELIVERIES.name, make.delivery_attempted()),
        (LEDGER_TABLE, LEDGER.name, make.ledger_entry(amount_atomic=-(2**53 - 1))),
    ):
        record = encode(fact)
        rows, _ = to_rows(table, [ReadRecord(topic, partition, 77, NOW_MS, record.key, record.value, record.headers)], 0)
        await archive.append(table, [batch(rows, table)])
        assert await archive.tail(table, partition) == Tail(77, NOW_MS)


async def test_what_a_new_owner_reads_again_is_stored_whatever_clickhouse_remembers(chdb_path: Path, partition: int) -> None:
    """A part that is lost when the engine starts is no part that was dropped: ClickHouse would acknowledge its rows and store nothing."""
    archive = ClickHouseArchive(InProcess(str(chdb_path), f"kite_{uuid.uuid4().hex[:8]}"), 3650)
    rows = batch(event_rows("team_x", [1, 2], partition=partition))
    await archive.tail(EVENTS_TABLE, partition)
    for _ in range(2):
        await archive.append(EVENTS_TABLE, [rows])
    assert await archive.read(_count) == 2, "the same owner's repeat is known"
    await archive.tail(EVENTS_TABLE, partition)
    await archive.append(EVENTS_TABLE, [rows])
    assert await archive.read(_count) == 4
    await asyncio.to_thread(archive.close)


def _count(client: Client) -> int:
    return int(client.query("SELECT count() FROM events").result_rows[0][0])


async def test_whoever_may_have_lost_its_partitions_stores_nothing(chdb_path: Path, partition: int) -> None:
    """An archiver frozen for 8 s stored its rows when it went on, beside the same rows of the one that had taken over."""
    may_write = False
    archive = ClickHouseArchive(InProcess(str(chdb_path), f"kite_{uuid.uuid4().hex[:8]}"), 3650, may_write=lambda: may_write)
    rows = [batch(event_rows("team_a", range(3), partition=partition))]
    with pytest.raises(Unavailable, match="stood still"):
        await archive.append(EVENTS_TABLE, rows)
    assert await archive.tail(EVENTS_TABLE, partition) is None
    may_write = True
    await archive.append(EVENTS_TABLE, rows)
    tail = await archive.tail(EVENTS_TABLE, partition)
    assert tail is not None
    archive.close()


async def test_a_tail_waits_for_what_another_archiver_is_storing(served_archive: ClickHouseArchive, served: Served, partition: int) -> None:
    """An owner that was told to go left an insert that the server was slow with: the next one stored the same rows beside it."""
    await served_archive.append(EVENTS_TABLE, [batch(event_rows("team_a", range(3), partition=partition))])
    running = partial(_rows_of, sql.running(mark("kite", "events")))
    async with _rival(served_archive, served, partition, offset=7, seconds=1.0):
        # What has not come to its rows yet is refused by then.
        assert await served_archive.tail(EVENTS_TABLE, partition) == Tail(2, NOW_MS)
        assert await served_archive.read(running) == []
    assert await served_archive.tail(EVENTS_TABLE, partition) == Tail(2, NOW_MS)


async def test_what_was_sent_before_another_took_over_and_is_carried_out_after_is_refused_whole(
    served_archive: ClickHouseArchive, served: Served, partition: int
) -> None:
    """A story: an insert waited in a busy server for seven seconds, unseen. Its archiver had gone, the next one stored the same rows, and
    then the server came to it."""
    gone, other = ClickHouseArchive(parse_address(served.url), 3650), partition + 500
    for table, rows in ((EVENTS_TABLE, event_rows), (DELIVERIES_TABLE, _attempts), (LEDGER_TABLE, _entries)):
        both = [batch(rows("team_a", range(3), partition=one), table) for one in (other, partition)]
        for one in both:
            assert await gone.tail(table, one.partition) is None
        assert await served_archive.tail(table, partition) is None
        with pytest.raises(Fenced, match=table.name):
            await gone.append(table, both)
        assert await gone.tail(table, other) is None
        await served_archive.append(table, both[1:])
        tail = await served_archive.tail(table, partition)
        assert tail is not None
        assert tail.offset == 2
    await asyncio.to_thread(gone.close)


async def test_nobody_owns_anything_in_a_server_that_was_started_anew_until_it_asks_where_to_go_on(tmp_path: Path) -> None:
    async with clickhouse_server(tmp_path) as served:
        archive = ClickHouseArchive(parse_address(served.url), 3650)
        rows = [batch(event_rows("team_a", range(3), partition=1))]
        assert await archive.tail(EVENTS_TABLE, 1) is None
        await served.child.kill9()
        await served.child.wait_ready()
        await eventually(partial(_refused, archive, rows), within_s=60, what="the server is back and refuses")
        assert await archive.tail(EVENTS_TABLE, 1) is None
        await archive.append(EVENTS_TABLE, rows)
        assert await archive.tail(EVENTS_TABLE, 1) == Tail(2, NOW_MS)
        await asyncio.to_thread(archive.close)


async def _refused(archive: ClickHouseArchive, rows: Sequence[Batch]) -> bool:
    try:
        await archive.append(EVENTS_TABLE, rows)
    except Fenced:
        return True
    except Unavailable:
        return False
    raise AssertionError("it was stored by nobody's owner")


def _attempts(_team: str, offsets: Sequence[int], *, partition: int) -> Sequence[Row]:
    return _rows_at(DELIVERIES_TABLE, DELIVERIES.name, encode(make.delivery_attempted()), offsets, partition)


def _entries(_team: str, offsets: Sequence[int], *, partition: int) -> Sequence[Row]:
    return _rows_at(LEDGER_TABLE, LEDGER.name, encode(make.ledger_entry(amount_atomic=-1)), offsets, partition)


def _rows_at(table: Table, topic: str, record: Record, offsets: Sequence[int], partition: int) -> Sequence[Row]:
    read = [ReadRecord(topic, partition, offset, NOW_MS, record.key, record.value, record.headers) for offset in offsets]
    return to_rows(table, read, 0)[0]


async def test_what_another_archiver_does_not_end_is_cancelled(served_archive: ClickHouseArchive, served: Served, partition: int) -> None:
    await served_archive.append(EVENTS_TABLE, [batch(event_rows("team_a", range(3), partition=partition))])
    async with _rival(served_archive, served, partition, offset=7, seconds=60.0):
        assert await served_archive.tail(EVENTS_TABLE, partition) == Tail(2, NOW_MS)


@asynccontextmanager
async def _rival(archive: ClickHouseArchive, served: Served, partition: int, *, offset: int, seconds: float) -> AsyncIterator[None]:
    """An insert of another process that takes so long, in the server."""
    statement = (
        f"INSERT INTO events (team_id, created_at, partition, log_offset) SELECT 'team_a', fromUnixTimestamp64Milli({NOW_MS}), {partition},"  # noqa: S608
        f" {offset} + sum(sleepEachRow(0.1)) FROM numbers({round(seconds * 10)})"
    )
    settings = {"log_comment": mark("kite", "events"), "max_block_size": 1, "max_threads": 1, "max_execution_time": 90}
    client = open_client(parse_address(served.url), "kite")
    running = asyncio.create_task(asyncio.to_thread(client.command, statement, settings=settings))
    seen = sql.running(mark("kite", "events"))
    look = partial(_rows_of, seen)
    await eventually(lambda: archive.read(look), what="the insert to run")
    try:
        yield
    finally:
        await asyncio.gather(running, return_exceptions=True)
        client.close()


def _rows_of(statement: sql.Statement, client: Client) -> Sequence[object]:
    return client.query(statement.text, dict(statement.parameters)).result_rows


async def _ask_one(archive: ClickHouseArchive, text: str) -> object:
    return (await _ask(archive, text))[0]


async def test_a_full_disk_refuses_an_insert_whole(chdb_path: Path) -> None:
    """A disk that let the insert begin and failed in it made the engine store half a part and say that all was well."""
    archive = await _fresh(chdb_path)
    rows, room = [batch(event_rows("team_a", range(3)))], "min_free_disk_bytes_to_perform_insert"
    assert await archive.tail(EVENTS_TABLE, 0) is None
    for table in TABLES:
        made = f"SELECT create_table_query FROM system.tables WHERE database = currentDatabase() AND name = '{table.name}'"  # noqa: S608
        assert f"{room} = 134217728" in str(await _ask_one(archive, made))
    await archive._readers.run(lambda client: client.command(f"ALTER TABLE events MODIFY SETTING {room} = {1 << 60}"))
    with pytest.raises(Unavailable):
        await archive.append(EVENTS_TABLE, rows)
    assert await archive.tail(EVENTS_TABLE, 0) is None
    archive.close()


async def test_parts_that_cannot_be_read_are_counted(chdb_path: Path) -> None:
    archive = await _fresh(chdb_path)
    assert await archive.broken_parts() == 0
    (folder,) = await _ask(archive, "SELECT data_paths[1] FROM system.tables WHERE database = currentDatabase() AND name = 'events'")
    (Path(str(folder)) / "detached/broken-on-start_202605_1_1_0").mkdir()
    assert await archive.broken_parts() == 1
    archive.close()


async def test_one_append_of_many_partitions_is_one_part(chdb_path: Path) -> None:
    archive = await _fresh(chdb_path)
    batches = [batch(event_rows("team_a", range(1_000), partition=partition, body=b"x" * 1_000)) for partition in range(10)]
    await archive.append(EVENTS_TABLE, batches)
    parts = "SELECT sum(rows), count() FROM system.parts WHERE database = currentDatabase() AND table = 'events' AND active"
    assert await _ask(archive, parts) == (10_000, 1)
    archive.close()


async def test_a_page_of_huge_events_is_cut_and_can_be_walked(archive: ClickHouseArchive, team: str, partition: int) -> None:
    offsets = range(200)
    for start in range(0, 200, 50):
        rows = event_rows(team, offsets[start : start + 50], partition=partition, body=b'"' + b"x" * 262_144 + b'"')
        await archive.append(EVENTS_TABLE, [batch(rows)])
    seen: list[int] = []
    pages, after = 0, None
    while True:
        found = await archive.find(query(team, after_seq=after))
        assert sum(len(row.body) for row in found.rows) < 3 * MAX_PAGE_BYTES
        seen += [row.kiteseq >> 10 for row in found.rows]
        pages, after = pages + 1, found.rows[-1].kiteseq
        if not found.cut:
            break
    assert seen == list(offsets)
    assert pages > 1
    assert found.rows


async def test_ten_readers_walk_pages_of_seven_while_a_writer_appends_and_miss_nothing(
    archive: ClickHouseArchive, team: str, partition: int
) -> None:
    total, written = 400, asyncio.Event()

    async def write() -> None:
        for start in range(0, total, 9):
            rows = event_rows(team, range(start, min(total, start + 9)), partition=partition, at_ms=NOW_MS + start // 100)
            await archive.append(EVENTS_TABLE, [batch(rows)])
        written.set()

    async def walk() -> list[int]:
        read = ReadEvents(archive, Retention(90), FrozenClock(from_unix_ms(NOW_MS)))
        since: str | None = None
        seen: list[int] = []
        while True:
            complete = written.is_set()
            cursor = None if since is None else cursors.parse(since)
            page = await read(ReadRequest(TeamId(team), cursor, since, 7, ("*",)))
            seen += [row.kiteseq >> 10 for row in page.rows]
            since = page.next_cursor
            if complete and not page.has_more:
                return seen

    *walks, _ = await asyncio.gather(*(walk() for _ in range(10)), write())
    assert all(seen == list(range(total)) for seen in walks)


async def test_an_archiver_killed_at_any_point_leaves_one_row_per_event(tmp_path: Path) -> None:
    length = 4_000
    for point in (("before", "1"), ("after", "1"), ("before", "9"), ("after", "20"), ("between", "1")):
        assert await (await _start(tmp_path, length, *point)).wait() == -signal.SIGKILL, point
    assert await (await _start(tmp_path, length)).wait() == 0
    counted = await _in_other_process(tmp_path, "SELECT count(), uniqExact(kiteseq), uniqExact(event_id), max(log_offset) FROM kite.events")
    assert counted == f"{length // 2}\t{length // 2}\t{length // 2}\t{length - 2}"
    ordered = "SELECT created_at, lagInFrame(created_at) OVER (ORDER BY kiteseq) AS before FROM kite.events"
    assert await _in_other_process(tmp_path, f"SELECT countIf(created_at < before) FROM ({ordered})") == "0"  # noqa: S608 - ours


async def test_a_filtered_walk_looks_at_few_events_at_a_time_and_misses_none(
    archive: ClickHouseArchive, chdb_path: Path, team: str, partition: int
) -> None:
    rows = [
        row._replace(type="rare" if row.log_offset % 9 == 4 else "usual") for row in event_rows(team, range(40), partition=partition)
    ]  # fmt: skip
    await archive.append(EVENTS_TABLE, [batch(rows)])
    narrow = ClickHouseArchive(InProcess(str(chdb_path)), kept_days=3650, looked_at=6)
    read = ReadEvents(narrow, Retention(90), FrozenClock(from_unix_ms(NOW_MS)))
    seen: list[int] = []
    since: str | None = None
    pages, more = 0, True
    while more:
        cursor = None if since is None else cursors.parse(since)
        page = await read(ReadRequest(TeamId(team), cursor, since, 2, ("*",), Filters(types=("rare",))))
        seen += [row.kiteseq >> 10 for row in page.rows]
        since, pages, more = page.next_cursor, pages + 1, page.has_more
    assert seen == [4, 13, 22, 31]
    assert pages == 7
    narrow.close()


async def test_two_processes_may_migrate_at_once(archive: ClickHouseArchive, chdb_path: Path) -> None:
    await archive.tail(EVENTS_TABLE, 0)  # keeps the engine open
    address = InProcess(str(chdb_path), f"db_{uuid.uuid4().hex}")
    clients = await asyncio.gather(*(asyncio.to_thread(migrate, address, 91) for _ in range(4)))
    names = clients[0].query("SELECT DISTINCT name FROM schema_migrations ORDER BY name").result_columns[0]
    assert list(names) == sorted(one.name for one in _MIGRATIONS.glob("*.sql"))
    for client in clients:
        client.close()


async def test_retention_follows_its_setting(archive: ClickHouseArchive, chdb_path: Path) -> None:
    await archive.tail(EVENTS_TABLE, 0)
    address = InProcess(str(chdb_path), f"db_{uuid.uuid4().hex}")
    for days in (91, 8):
        client = await asyncio.to_thread(migrate, address, days)
        definition = client.query("SELECT create_table_query FROM system.tables WHERE database = currentDatabase() AND name = 'events'")
        assert f"toIntervalDay({days})" in definition.result_rows[0][0]
        client.close()


async def test_every_table_has_the_columns_its_rows_have(archive: ClickHouseArchive, chdb_path: Path) -> None:
    await archive.tail(EVENTS_TABLE, 0)
    client = open_client(InProcess(str(chdb_path)), "kite")
    for table in TABLES:
        assert tuple(client.query(f"DESCRIBE TABLE {table.name}").result_columns[0]) == (*table.columns, "fence")
    client.close()


async def test_a_server_that_is_away_is_unavailable_not_a_defect() -> None:
    archive = ClickHouseArchive(Server("127.0.0.1", 9, secure=False, username="default", password="x"), kept_days=91)
    with pytest.raises(Unavailable):
        await archive.tail(EVENTS_TABLE, 0)
    with pytest.raises(Unavailable):
        await archive.find(query("t"))
    assert not archive.readiness().ready
    archive.close()


async def test_more_readers_than_can_wait_are_refused_at_once(archive: ClickHouseArchive, chdb_path: Path) -> None:
    await archive.tail(EVENTS_TABLE, 0)
    pool = ClientPool("test", lambda: open_client(InProcess(str(chdb_path)), "kite"), size=1, waiting=1)
    slow = [asyncio.create_task(pool.run(lambda client: client.command("SELECT sleep(0.5)"))) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(ApiError, match="overloaded"):
        await pool.run(lambda client: client.command("SELECT 1"))
    await asyncio.gather(*slow)
    assert await pool.run(lambda client: client.command("SELECT 1")) == 1
    pool.close()


async def _fresh(chdb_path: Path) -> ClickHouseArchive:
    return ClickHouseArchive(InProcess(str(chdb_path), f"db_{uuid.uuid4().hex}"), kept_days=3650)


async def _ask(archive: ClickHouseArchive, text: str) -> tuple[object, ...]:
    def ask(client: Client) -> tuple[object, ...]:
        return tuple(client.query(text).result_rows[0])

    return await archive._readers.run(ask)


async def _start(path: Path, length: int, *dies: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, str(_ARCHIVING), f"chdb://{path / 'chdb'}", "5", str(length), *dies, stdout=asyncio.subprocess.DEVNULL
    )


async def _in_other_process(path: Path, text: str) -> str:
    """The answer of an engine on that folder; this process hosts another one."""
    code = "import sys, chdb; c = chdb.connect(sys.argv[1]); sys.stdout.write(str(c.query(sys.argv[2], 'TSV').bytes().decode()))"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(path / "chdb"), text, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    return output.decode().strip()
