"""A process for the kill test: archives a fixed log of one partition into a chDB folder, from where the archive ends."""

import asyncio
import sys
from collections.abc import Sequence

from kite_replay.adapters.clickhouse.address import InProcess
from kite_replay.adapters.clickhouse.archive import ClickHouseArchive
from kite_replay.application.archive_records import PartitionArchiver
from kite_replay.application.grouped_inserts import GroupedInserts, InsertPolicy
from kite_replay.domain.rows import EVENTS_TABLE, BadRecord
from kite_replay.testing import NOW_MS, ReadRecord, event_record, usage_record

TEAM = "team_killed"
PARTITION = 5


class NoneExpected:
    """A quarantine that must stay empty."""

    async def put(self, records: Sequence[BadRecord]) -> None:
        raise AssertionError(records[0].reason)


def record(offset: int) -> ReadRecord:
    """An event at every even offset, its usage record behind it; ten events a millisecond, and the clock jumps back now and then."""
    maker = usage_record if offset % 2 else event_record
    return maker(offset, partition=PARTITION, at_ms=NOW_MS + offset // 20 - (7 if offset % 501 < 40 else 0), team=TEAM)


async def archive_all(path: str, length: int) -> None:
    """Archive offsets up to `length`, 20 to 60 at a time."""
    archive = ClickHouseArchive(InProcess(path), kept_days=3650)
    inserts = GroupedInserts(EVENTS_TABLE, archive, InsertPolicy(interval_s=0.0))
    archiver = PartitionArchiver(EVENTS_TABLE, PARTITION, archive=archive, inserts=inserts, quarantine=NoneExpected())
    at = await archiver.begin() or 0
    sys.stdout.write(f"from {at}\n")
    sys.stdout.flush()
    while at < length:
        size = 20 + at % 41
        await archiver.take([record(offset) for offset in range(at, min(length, at + size))])
        if at % 3:
            await archiver.finish()
        at += size
    await archiver.finish()
    archive.close()


if __name__ == "__main__":
    asyncio.run(archive_all(sys.argv[1], int(sys.argv[2])))
