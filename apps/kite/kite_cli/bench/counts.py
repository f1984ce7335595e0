"""Counts what is in the ledger and in the archive after a drain: every event exactly once, or the run does not count."""

import asyncio
import sys
from dataclasses import dataclass

import orjson
from aiokafka import TopicPartition

from kite_cli.bench.failure import BenchFailed
from kite_cli.bench.whole import Kite
from kite_cli.local.environment import PARTITIONS
from kite_cli.local.tool import run_tool
from kite_common.topics import LEDGER


@dataclass(frozen=True, slots=True)
class LedgerCount:
    """`entries` of all kinds, those of them that charge an `event`, and how many `distinct` events those name."""

    entries: int
    of_events: int
    distinct: int


async def count_ledger(kite: Kite) -> LedgerCount:
    """Read the whole ledger, committed entries only."""
    consumer = kite.kafka.consumer(fetch_max_bytes=64 << 20)
    await consumer.start()
    entries, of_events, distinct = 0, 0, set()
    try:
        at = [TopicPartition(LEDGER.name, number) for number in range(PARTITIONS)]
        consumer.assign(at)
        ends = await consumer.end_offsets(at)
        while any([await consumer.position(one) < ends[one] for one in at]):
            for records in (await consumer.getmany(timeout_ms=100)).values():
                events = [event for record in records if (event := orjson.loads(record.value)["event_id"]) is not None]
                entries += len(records)
                of_events += len(events)
                distinct.update(events)
    finally:
        await consumer.stop()
    return LedgerCount(entries, of_events, len(distinct))


async def count_archive(kite: Kite) -> tuple[int, int]:
    """Rows of the archive's events, and distinct ones. Without a server replay must not run: one process at a time has the engine open."""
    code, text = await run_tool((sys.executable, "-m", "kite_cli.bench.archive_rows", kite.local.addresses.clickhouse_url))
    if code:
        raise BenchFailed(f"the archive cannot be counted: {text}")
    rows, distinct = await asyncio.to_thread(orjson.loads, text.splitlines()[-1])
    return rows, distinct
