"""Never silent, on a real broker: what stands still is red within 30 s, with its name, and green once it goes on."""

import asyncio
from collections.abc import Callable

from kite_common.runtime.metrics import Metrics
from kite_common.stream.group import Feed, GroupConsumer
from kite_common.stream.kafka import Kafka
from kite_common.stream.publisher import Publisher
from kite_common.testing.eventually import eventually
from support.log import PARTITIONS, new_topic, record, running

# The promise.
RED_WITHIN_S = 30.0


class Reading:
    """Takes one record after the other; what has the key `stuck` is never done until `go_on` is set."""

    def __init__(self, topic: str) -> None:
        self.topic, self.go_on = topic, asyncio.Event()
        self.done: list[str] = []

    async def own(self, partition: int, feed: Feed) -> None:
        await feed.seek_to_beginning(self.topic)
        feed.resume(self.topic)
        while not feed.closing.is_set():
            for one in await feed.batch(self.topic, max_records=1):
                if one.key == b"stuck":
                    await self.go_on.wait()
                self.done.append(f"{partition} {(one.key or b'').decode()}")
                await feed.commit({one.topic: one.offset + 1})


def longest_s(member: GroupConsumer, metrics: Metrics, group: str, topic: str) -> Callable[[], float]:
    """What the metric says of partition 0, as of a moment that readiness was asked for."""

    def now() -> float:
        member.readiness()
        return metrics.value("kite_consumer_stalled_seconds", group=group, topic=topic, partition="0")

    return now


async def test_a_stuck_consumer_and_an_open_transaction_are_named_within_30_s_and_green_again(kafka: Kafka) -> None:
    """Both at the same time, because each takes as long as it is allowed to."""
    await asyncio.gather(a_stuck_consumer(kafka), an_open_transaction(kafka))


async def a_stuck_consumer(kafka: Kafka) -> None:
    topic, group, metrics = await new_topic(kafka), "stalls-stuck", Metrics()
    owner, publisher = Reading(topic), Publisher(kafka, topic, PARTITIONS)
    member = GroupConsumer(kafka, group, (topic,), "a", owner, metrics)
    async with running(publisher, member):
        await publisher.publish(0, [record("stuck")])
        try:
            await eventually(lambda: not member.readiness().ready, within_s=RED_WITHIN_S, what="it is red")
            assert member.readiness().reason == f"no progress in {topic}-0"
            assert longest_s(member, metrics, group, topic)() > 0
            await publisher.publish(1, [record("other")])
            await eventually(lambda: "1 other" in owner.done, what="the other partition goes on meanwhile")
        finally:
            owner.go_on.set()
        await eventually(lambda: member.readiness().ready, what="it is green again")
        assert longest_s(member, metrics, group, topic)() == 0


async def an_open_transaction(kafka: Kafka) -> None:
    """Whoever died in the middle of a transaction hides everything behind it from readers, and there is no lag to see."""
    topic, group, metrics = await new_topic(kafka), "stalls-hidden", Metrics()
    owner, publisher = Reading(topic), Publisher(kafka, topic, PARTITIONS)
    member = GroupConsumer(kafka, group, (topic,), "a", owner, metrics)
    producer = kafka.producer(transactional_id=f"{topic}-dead", transaction_timeout_ms=120_000)
    await producer.start()
    try:
        async with running(publisher, member):
            await producer.begin_transaction()
            await producer.send_and_wait(topic, b"", b"open", partition=0)
            await publisher.publish(0, [record("hidden")])
            await eventually(lambda: not member.readiness().ready, within_s=RED_WITHIN_S, what="it is red")
            assert member.readiness().reason == f"an open transaction hides what follows in {topic}-0"
            assert longest_s(member, metrics, group, topic)() > 0
            await producer.abort_transaction()
            await eventually(lambda: "0 hidden" in owner.done, what="what was hidden is read")
            await eventually(lambda: member.readiness().ready, what="it is green again")
    finally:
        await producer.stop()
