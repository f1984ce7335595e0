"""A process for kill tests: archives a fixed log of one partition from where the archive ends, and kills itself where it is told to.

`archiving_process.py <KITE_CLICKHOUSE_URL> <partition> <length> [before|between|after <number of the insert>]`
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final

from clickhouse_connect.driver.client import Client

from kite_common.errors import Fenced, Unavailable
from kite_replay.adapters.clickhouse.address import parse_address
from kite_replay.adapters.clickhouse.archive import ClickHouseArchive
from kite_replay.application.archive_records import PartitionArchiver
from kite_replay.application.grouped_inserts import GroupedInserts, InsertPolicy
from kite_replay.domain.rows import EVENTS_TABLE, BadRecord, Batch, Row, Table
from kite_replay.testing import NOW_MS, ReadRecord, event_record, usage_record

_MONTH_MS: Final = 31 * 86_400_000


class NoneExpected:
    """A quarantine that must stay empty."""

    async def put(self, records: Sequence[BadRecord]) -> None:
        raise AssertionError(records[0].reason)


class Mortal(ClickHouseArchive):
    """An archive whose process dies at one of its inserts: before it, after it, or after the first of two that belong together.

    Of every seventh append the answer is lost, though it arrived.
    """

    def __init__(self, url: str, point: str, number: int) -> None:
        super().__init__(parse_address(url), kept_days=3650)
        self._point, self._left, self._appends, self._inserts = point, number, 0, 0

    async def append(self, table: Table, batches: Sequence[Batch]) -> None:
        self._inserts, self._appends, self._left = 0, self._appends + 1, self._left - 1
        self._die_at("before", due=self._left == 0)
        await super().append(table, batches)
        self._die_at("after", due=self._left == 0)
        if self._appends % 7 == 3:
            raise Unavailable("the answer is lost")

    def _insert(self, table: Table, rows: Sequence[Row], fences: Sequence[int], token: str, client: Client) -> None:
        self._inserts += 1
        self._die_at("between", due=self._inserts == 2)
        super()._insert(table, rows, fences, token, client)

    def _die_at(self, point: str, *, due: bool) -> None:
        if due and self._point == point:
            os.kill(os.getpid(), signal.SIGKILL)


def team_of(partition: int) -> str:
    """The team whose log the partition holds."""
    return f"team_killed_{partition}"


def record(offset: int, partition: int, length: int) -> ReadRecord:
    """An event at every even offset, its usage record behind it; ten events a millisecond, and the clock jumps back now and then.

    The month turns in the middle.
    """
    maker = usage_record if offset % 2 else event_record
    at_ms = NOW_MS + offset // 20 - (7 if offset % 501 < 40 else 0) + (_MONTH_MS if offset >= length // 2 else 0)
    return maker(offset, partition=partition, at_ms=at_ms, team=team_of(partition))


async def archive_all(archive: ClickHouseArchive, partition: int, length: int) -> None:
    """Archive offsets up to `length`, 20 to 60 at a time; an archive that is away, or another's, is begun again, as the service does."""
    while True:
        try:
            await _archive_from_its_end(archive, partition, length)
        except (Fenced, Unavailable):
            await asyncio.sleep(0.1)
        else:
            return


async def _archive_from_its_end(archive: ClickHouseArchive, partition: int, length: int) -> None:
    inserts = GroupedInserts(EVENTS_TABLE, archive, InsertPolicy(interval_s=0.0, retry_delays_s=(0.05,)))
    archiver = PartitionArchiver(EVENTS_TABLE, partition, archive=archive, inserts=inserts, quarantine=NoneExpected())
    at = await archiver.begin() or 0
    sys.stdout.write(f"from {at}\n")
    sys.stdout.flush()
    try:
        while at < length:
            size = 20 + (at + os.getpid()) % 41  # two owners cut their batches differently
            await archiver.take([record(offset, partition, length) for offset in range(at, min(length, at + size))])
            if at % 3:
                await archiver.finish()
            at += size
        await archiver.finish()
    finally:
        archiver.abandon()


async def main(url: str, partition: int, length: int, point: str = "", number: int = 0) -> None:
    archive = Mortal(url, point, number)
    await archive_all(archive, partition, length)
    archive.close()


if __name__ == "__main__":
    where, numbered, upto, *dies = sys.argv[1:]
    at_point, at_number = dies or ("", "0")
    asyncio.run(main(where, int(numbered), int(upto), at_point, int(at_number)))
