"""Measures pages of 1,000 over an archive of many rows: first, middle, last, filtered. Runs alone, without Kafka and Valkey:

    python -m kite_cli.bench.pages --data FOLDER --rows 10000000

What is timed is the use case down to ClickHouse's engine in this process, its cursor looked up each time; not HTTP.
"""

import argparse
import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clickhouse_connect.driver.client import Client

from kite_cli.bench.machine import this_machine
from kite_cli.bench.spread import percentile
from kite_common.clock import from_unix_ms
from kite_common.ids import TeamId
from kite_common.runtime.system import SystemClock
from kite_replay.adapters.clickhouse.address import InProcess
from kite_replay.adapters.clickhouse.archive import ClickHouseArchive
from kite_replay.adapters.clickhouse.migrate import migrate
from kite_replay.application.read_events import ReadEvents, ReadRequest
from kite_replay.domain import cursor as cursors
from kite_replay.domain.cursor import Cursor
from kite_replay.domain.filters import NONE, Filters
from kite_replay.domain.retention import Retention

_KEPT_DAYS: Final = 3_640
_TEAMS: Final = 10
_LIMIT: Final = 1_000
_CHUNK: Final = 500_000
# A row every 10 ms: ten million are 28 hours.
_EVERY_MS: Final = 10
_BODY_BYTES: Final = 600
_SETTLED_WITHIN_S: Final = 300.0
# As the archiver stores them, with bodies that do not compress: one partition a team, an event at every second offset.
_FILL: Final = """
INSERT INTO events (* EXCEPT(fence)) SELECT
    concat('team_', toString(number % {teams:UInt64})),
    fromUnixTimestamp64Milli({start_ms:Int64} + toInt64(number * {every_ms:UInt64}), 'UTC'),
    bitOr(bitShiftLeft(intDiv(number, {teams:UInt64}) * 2, 10), number % {teams:UInt64}),
    number % {teams:UInt64}, intDiv(number, {teams:UInt64}) * 2, toString(generateUUIDv4()),
    if(number % 1000 < {teams:UInt64}, 'com.example.rare', 'com.kite.agent.message'),
    concat('https://getkite.sh/agents/agent-', toString(intDiv(number, {teams:UInt64}) % 50)), '',
    concat('agent-', toString(intDiv(number, {teams:UInt64}) % 49)), '',
    concat('{"data":"', randomPrintableASCII({body_bytes:UInt64}), '"}')
FROM numbers({first:UInt64}, {rows:UInt64})
"""


@dataclass(frozen=True, slots=True)
class PageTimes:
    """Pages of one kind: how many rows the last one had, and milliseconds from asking to the rows."""

    kind: str
    rows: int
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Pages:
    """One measurement over `rows` rows in all, of which the team that is read has its share."""

    rows: int
    of_team: int
    fill_s: float
    times: tuple[PageTimes, ...]


async def measure_pages(data: Path, rows: int, reads: int) -> Pages:
    """Fill an empty archive with `rows` rows and read `reads` pages of each kind."""
    address, now_ms = InProcess(str(data)), SystemClock().unix_ms()
    start_ms = now_ms - rows * _EVERY_MS
    began = time.monotonic()
    await asyncio.to_thread(_fill, address, start_ms, rows)
    filled_s = time.monotonic() - began
    archive = ClickHouseArchive(address, _KEPT_DAYS)
    try:
        kinds = await _kinds(archive, start_ms, rows)
        times = tuple([await _timed(archive, kind, starts, wanted, reads) for kind, starts, wanted in kinds])
    finally:
        archive.close()
    return Pages(rows, rows // _TEAMS, filled_s, times)


def section(pages: Pages) -> str:
    """The figures as a section of a document."""
    lines = [
        f"Pages of {_LIMIT:,} over {pages.rows:,} rows, of which the team has {pages.of_team:,} ({_BODY_BYTES} bytes each; "
        f"filled and merged in {pages.fill_s:,.0f} s):",
        "", "| page | rows | p50 | p99 |", "|---|---:|---:|---:|",
        *(f"| {one.kind} | {one.rows:,} | {one.p50_ms:,.0f} ms | {one.p99_ms:,.0f} ms |" for one in pages.times),
    ]  # fmt: skip
    return "\n".join(lines)


def _fill(address: InProcess, start_ms: int, rows: int) -> None:
    client = migrate(address, _KEPT_DAYS)
    try:
        for first in range(0, rows, _CHUNK):
            _insert(client, start_ms, first, min(_CHUNK, rows - first))
        _settle(client)
    finally:
        client.close()


def _settle(client: Client) -> None:
    """Wait for the merges that filling has caused: an archive that was filled in months has none."""
    until = time.monotonic() + _SETTLED_WITHIN_S
    while client.command("SELECT count() FROM system.merges") and time.monotonic() < until:
        time.sleep(0.5)


def _insert(client: Client, start_ms: int, first: int, rows: int) -> None:
    given = {"teams": _TEAMS, "start_ms": start_ms, "every_ms": _EVERY_MS, "first": first, "rows": rows, "body_bytes": _BODY_BYTES}
    client.command(_FILL, parameters=given)


async def _kinds(archive: ClickHouseArchive, start_ms: int, rows: int) -> Sequence[tuple[str, Sequence[str | None], Filters]]:
    """Kinds of pages: a name, cursors they begin at, filters."""
    chance = random.Random(1)  # noqa: S311 - places to read at, not secrets
    middle = [await _cursor_at(archive, start_ms + int(rows * _EVERY_MS * chance.uniform(0.2, 0.8))) for _ in range(20)]
    last = [await _cursor_at(archive, start_ms + rows * _EVERY_MS - _TEAMS * _EVERY_MS * (_LIMIT + 1))]
    return (
        ("first", [None], NONE), ("middle", middle, NONE), ("last", last, NONE),
        ("one agent's messages", middle, Filters(agents=("agent-7",))),
        ("a type of one in a hundred", middle, Filters(types=("com.example.*",))),
        ("a filter that matches nothing", middle, Filters(types=("com.nobody.*",))),
    )  # fmt: skip


async def _cursor_at(archive: ClickHouseArchive, at_ms: int) -> str:
    """The cursor of the first event of the team at or after a time."""
    since = Cursor(at_ms)
    page = await _reader(archive)(ReadRequest(TeamId("team_3"), since, cursors.encode(since), 1, ("*",)))
    if page.next_cursor is None:
        raise ValueError("the archive has no event there")
    return page.next_cursor


async def _timed(archive: ClickHouseArchive, kind: str, starts: Sequence[str | None], wanted: Filters, reads: int) -> PageTimes:
    took: list[float] = []
    found = 0
    for number in range(reads):
        since = starts[number % len(starts)]
        request = ReadRequest(TeamId("team_3"), None if since is None else cursors.parse(since), since, _LIMIT, ("*",), wanted)
        began = time.perf_counter()
        page = await _reader(archive)(request)
        took.append((time.perf_counter() - began) * 1_000)
        found = len(page.rows)
    took.sort()
    return PageTimes(kind, found, percentile(took, 0.5), percentile(took, 0.99))


def _reader(archive: ClickHouseArchive) -> ReadEvents:
    """A new one each time, which remembers no cursor."""
    return ReadEvents(archive, Retention(_KEPT_DAYS - 1), SystemClock())


def main() -> None:
    """Measure, and print the section."""
    parser = argparse.ArgumentParser(prog="python -m kite_cli.bench.pages", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="empty folder for the archive")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--reads", type=int, default=200, help="pages of each kind")
    arguments = parser.parse_args()
    pages = asyncio.run(measure_pages(arguments.data, arguments.rows, arguments.reads))
    machine = this_machine()
    at = from_unix_ms(SystemClock().unix_ms()).date().isoformat()
    print(f"{at}, {machine.cpu}, {machine.cores} cores, {machine.memory_gib} GiB\n\n{section(pages)}", flush=True)


if __name__ == "__main__":
    main()
