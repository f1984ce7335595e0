"""Readers walk while archivers of the same partitions are killed and doubled, and the engine itself is killed: each event once, in order.

Processes and a ClickHouse server of their own; the log is made up by the archiving process, the same at every reading.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kite_common.clock import FrozenClock, from_unix_ms
from kite_common.errors import ApiError
from kite_common.ids import TeamId
from kite_replay.adapters.clickhouse.address import parse_address
from kite_replay.adapters.clickhouse.archive import ClickHouseArchive
from kite_replay.application.read_events import ReadEvents, ReadRequest, cursor_of
from kite_replay.domain import cursor as cursors
from kite_replay.domain.retention import Retention
from kite_replay.testing import NOW_MS
from support.clickhouse import Served, clickhouse_server

_ARCHIVING = Path(__file__).with_name("archiving_process.py")
_LENGTH = 2_400
_PARTITIONS = (5, 6)


@asynccontextmanager
async def archiver(url: str, partition: int, *dies: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that archives the partition."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(_ARCHIVING), url, str(partition), str(_LENGTH), *dies, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.fixture
async def broken(tmp_path: Path) -> AsyncIterator[Served]:
    """A server of its own, because the test kills it."""
    async with clickhouse_server(tmp_path) as served:
        yield served


async def walk(archive: ClickHouseArchive, partition: int, limit: int, finished: asyncio.Event, *, built: bool) -> list[int]:
    """The offsets a reader sees until everything is written, by its own cursors or by those it is given."""
    read = ReadEvents(archive, Retention(90), FrozenClock(from_unix_ms(NOW_MS)))
    since: str | None = None
    seen: list[int] = []
    while True:
        complete = finished.is_set()
        cursor = None if since is None else cursors.parse(since)
        try:
            page = await read(ReadRequest(TeamId(f"team_killed_{partition}"), cursor, since, limit, ("*",)))
        except ApiError as error:
            if error.code != "replay_unavailable":
                raise
            await asyncio.sleep(0.05)
            continue
        seen += [row.kiteseq >> 10 for row in page.rows]
        if page.rows:
            since = cursors.encode(cursor_of(page.rows[-1])) if built else page.next_cursor
        if complete and not page.has_more:
            return seen
        await asyncio.sleep(0 if page.has_more else 0.02)


async def write(served: Served, finished: asyncio.Event) -> None:
    """Two owners of a partition at once, of which one dies at each point; the other partition has one; the engine is killed once."""
    first, second = _PARTITIONS
    async with archiver(served.url, first) as one, archiver(served.url, second) as other:
        for dies in (("after", "3"), ("before", "6")):
            async with archiver(served.url, first, *dies) as twin:
                await twin.wait()
        await served.child.kill9()
        await served.child.wait_ready()
        async with archiver(served.url, first) as last:
            assert [await one.wait(), await other.wait(), await last.wait()] == [0, 0, 0]
    finished.set()


async def test_readers_miss_and_double_nothing_while_archivers_and_the_engine_are_killed(broken: Served) -> None:
    finished = asyncio.Event()
    archive = ClickHouseArchive(parse_address(broken.url), kept_days=3650)
    walkers = [
        walk(archive, partition, limit, finished, built=built)
        for partition in _PARTITIONS for limit, built in ((7, True), (50, False), (1_000, True))
    ]  # fmt: skip
    async with asyncio.TaskGroup() as tasks:
        walks = [tasks.create_task(one) for one in walkers]
        tasks.create_task(write(broken, finished))
    assert [one.result() == list(range(0, _LENGTH, 2)) for one in walks] == [True] * len(walks)
    archive.close()
