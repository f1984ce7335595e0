"""Watches the end of kite.ledger, and notes when the entry of each event was first seen. Reads committed records, joins no group."""

import asyncio
import time
from typing import Final

import orjson
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from kite_cli.chaos.memory import Memory
from kite_cli.target import LogTarget
from kite_common.stream.kafka import Kafka
from kite_common.topics import LEDGER

_AGAIN_S: Final = 0.5


async def watch_ledger(target: LogTarget, memory: Memory) -> None:
    """Watch until it is cancelled, from the beginning; a broker that is away is waited for."""
    positions: dict[TopicPartition, int] = {}
    while True:
        try:
            await _watch(target, memory, positions)
        except (KafkaError, OSError):
            await asyncio.sleep(_AGAIN_S)


async def _watch(target: LogTarget, memory: Memory, positions: dict[TopicPartition, int]) -> None:
    consumer = Kafka(target.kafka_bootstrap, client_id="chaos").consumer(fetch_max_wait_ms=100)
    try:
        await consumer.start()
        places = [TopicPartition(LEDGER.name, number) for number in range(target.partitions)]
        consumer.assign(places)
        for place in places:
            consumer.seek(place, positions.get(place, 0))
        while True:
            for place, records in (await consumer.getmany(timeout_ms=500)).items():
                now = time.monotonic()
                for record in records:
                    _note(memory, record.value, now)
                positions[place] = records[-1].offset + 1
    finally:
        await consumer.stop()


def _note(memory: Memory, value: bytes | None, now: float) -> None:
    try:
        entry = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return
    if isinstance(entry, dict) and entry.get("reason") == "event":
        memory.billed_s.setdefault(str(entry["event_id"]), now)
