"""Topics of a test's own, what is in them, and components that run while a test does."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Final, Literal

from aiokafka import TopicPartition

from kite_common.events.codec import Record
from kite_common.runtime.component import Component
from kite_common.stream.admin import ensure_topics
from kite_common.stream.kafka import Kafka
from kite_common.testing.eventually import eventually
from kite_common.topics import Topic

PARTITIONS: Final = 2


async def new_topic(kafka: Kafka, cleanup: Literal["delete", "compact"] = "delete", partitions: int = PARTITIONS) -> str:
    """A topic nobody else knows."""
    topic = Topic(f"test.{uuid.uuid4().hex[:12]}", "any", cleanup, None, "a test's records")
    assert await ensure_topics(kafka, [topic], partitions, 1) == [topic.name]
    return topic.name


@contextlib.asynccontextmanager
async def running(*components: Component, ready: bool = True) -> AsyncIterator[None]:
    """Run components, the first one stopped last; raises what one of them raised."""
    stops = [asyncio.Event() for _ in components]
    tasks = [asyncio.create_task(component.run(stop)) for component, stop in zip(components, stops, strict=True)]
    try:
        if ready:
            await eventually(
                lambda: all(component.readiness().ready for component in components) or any(task.done() for task in tasks),
                within_s=30, what="components are ready",
            )  # fmt: skip
        yield
    finally:
        for stop, task in reversed(list(zip(stops, tasks, strict=True))):
            stop.set()
            await task


def record(key: str, value: str = "", *headers: tuple[str, bytes]) -> Record:
    return Record(key.encode(), value.encode(), headers)


async def read_all(
    kafka: Kafka, topic: str, partitions: Sequence[int] = range(PARTITIONS), *, committed: bool = True
) -> list[tuple[int, int, str, str]]:
    """Everything in a topic: partition, offset, key, value."""
    consumer = kafka.consumer(isolation_level="read_committed" if committed else "read_uncommitted")
    await consumer.start()
    found: list[tuple[int, int, str, str]] = []
    try:
        at = [TopicPartition(topic, number) for number in partitions]
        consumer.assign(at)
        ends = await consumer.end_offsets(at)
        while any([await consumer.position(one) < ends[one] for one in at]):
            for one, records in (await consumer.getmany(timeout_ms=100)).items():
                found += [(one.partition, each.offset, (each.key or b"").decode(), (each.value or b"").decode()) for each in records]
    finally:
        await consumer.stop()
    return sorted(found)
