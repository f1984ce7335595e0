"""Reads the end of kite.ledger for one team: the entry that an event leads to. Commits nothing, joins no group."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from kite_cli.failure import EXIT_UNAVAILABLE, CommandFailed
from kite_cli.target import LogTarget
from kite_common.errors import Malformed
from kite_common.events.codec import decode_as
from kite_common.events.ledger import LedgerEntry
from kite_common.log_position import partition_of
from kite_common.stream.kafka import Kafka
from kite_common.topics import LEDGER


class LedgerTail:
    """What is appended to a team's partition from now on."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer

    async def entry_of(self, event_id: str) -> tuple[LedgerEntry, float]:
        """The committed entry of an event, and the loop time at which it was seen; waits for it. Raises KafkaError."""
        while True:
            for records in (await self._consumer.getmany(timeout_ms=1_000)).values():
                for record in records:
                    entry = _entry(record.value)
                    if entry is not None and entry.event_id == event_id:
                        return entry, asyncio.get_running_loop().time()


@asynccontextmanager
async def ledger_tail(target: LogTarget, team_id: str) -> AsyncIterator[LedgerTail]:
    """A tail that begins now. Raises CommandFailed if Kafka does not answer."""
    partition = TopicPartition(LEDGER.name, partition_of(team_id.encode(), target.partitions))
    consumer = Kafka(target.kafka_bootstrap, client_id="kitectl").consumer(fetch_max_wait_ms=500)
    try:
        await _start(consumer, partition, target)
        yield LedgerTail(consumer)
    finally:
        await consumer.stop()


async def _start(consumer: AIOKafkaConsumer, partition: TopicPartition, target: LogTarget) -> None:
    try:
        await consumer.start()
        consumer.assign([partition])
        await consumer.seek_to_end(partition)
    except KafkaError as error:
        advice = "See what runs with `kitectl status`, or check KITE_KAFKA_BOOTSTRAP."
        raise CommandFailed(f"Kafka at {target.kafka_bootstrap} does not answer", advice, EXIT_UNAVAILABLE) from error


def _entry(value: bytes | None) -> LedgerEntry | None:
    try:
        return decode_as(LedgerEntry, value)
    except Malformed:
        return None
