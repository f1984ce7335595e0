"""Consumer groups on a real broker: who owns what, what happens after errors, and that nothing stalls unseen."""

import asyncio
import contextlib
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from kite_common.errors import ConfigurationError
from kite_common.runtime.metrics import Metrics
from kite_common.stream.group import Feed, GroupConsumer, Input
from kite_common.stream.kafka import Kafka
from kite_common.stream.publisher import Publisher
from kite_common.testing.eventually import eventually
from support.log import PARTITIONS, new_topic, record, running


class Collecting:
    """Commits what it has seen; `before` may raise."""

    def __init__(self, *topics: str, before: Callable[[int], Awaitable[None]] | None = None) -> None:
        self.topics, self.before = topics, before
        self.seen: list[tuple[str, int, str]] = []
        self.owned: Counter[int] = Counter()

    async def own(self, partition: int, feed: Feed) -> None:
        if self.before is not None:
            await self.before(partition)
        self.owned[partition] += 1
        try:
            for topic in self.topics:
                position = await feed.committed(topic)
                if position is None:
                    await feed.seek_to_beginning(topic)
                else:
                    feed.seek(topic, position)
            feed.resume(*self.topics)
            while not feed.closing.is_set():
                for one in await feed.batch(*self.topics):
                    self.seen.append((one.topic, one.partition, (one.key or b"").decode()))
                    await feed.commit({one.topic: one.offset + 1})
        finally:
            self.owned[partition] -= 1


def group_name() -> str:
    return f"group-{uuid.uuid4().hex[:8]}"


async def test_one_member_gets_all_partitions_and_goes_on_where_the_group_stood(kafka: Kafka) -> None:
    first, second = await new_topic(kafka), await new_topic(kafka)
    group, metrics = group_name(), Metrics()
    publishers = [Publisher(kafka, topic, PARTITIONS) for topic in (first, second)]
    async with running(*publishers):
        for number in range(6):
            await publishers[number % 2].publish(number % PARTITIONS, [record(f"{number}")])
        owner = Collecting(first, second)
        async with running(GroupConsumer(kafka, group, (first, second), "a", owner, metrics)):
            await eventually(lambda: len(owner.seen) == 6, what="all records are seen")
            assert metrics.value("kite_consumer_lag", group=group, topic=first, partition="0") == 0
        await publishers[0].publish(1, [record("later")])
        again = Collecting(first, second)
        async with running(GroupConsumer(kafka, group, (first, second), "a", again)):
            await eventually(lambda: again.seen, what="what is new is seen")
    assert again.seen == [(first, 1, "later")]
    assert sorted(key for _, _, key in owner.seen) == [f"{number}" for number in range(6)]


async def test_two_members_share_the_partitions_and_one_takes_over_when_the_other_leaves(kafka: Kafka) -> None:
    topic = await new_topic(kafka)
    group, one, other = group_name(), Collecting(topic), Collecting(topic)
    publisher = Publisher(kafka, topic, PARTITIONS)
    async with running(publisher, GroupConsumer(kafka, group, (topic,), "one", one)):
        async with running(GroupConsumer(kafka, group, (topic,), "other", other)):
            await eventually(lambda: +one.owned and +other.owned, within_s=20, what="both own something")
            assert sorted([*(+one.owned), *(+other.owned)]) == list(range(PARTITIONS))
        await eventually(lambda: len(+one.owned) == PARTITIONS, within_s=30, what="one has taken over")
        for partition in range(PARTITIONS):
            await publisher.publish(partition, [record(f"{partition}")])
        await eventually(lambda: len(one.seen) == PARTITIONS, what="all is read")


async def test_an_owner_that_fails_is_called_again_and_others_go_on(kafka: Kafka) -> None:
    topic, metrics, group = await new_topic(kafka), Metrics(), group_name()
    failures = Counter({0: 2})

    async def fail(partition: int) -> None:
        if failures[partition]:
            failures[partition] -= 1
            raise RuntimeError("not yet")

    owner = Collecting(topic, before=fail)
    publisher = Publisher(kafka, topic, PARTITIONS)
    async with running(publisher, GroupConsumer(kafka, group, (topic,), "a", owner, metrics)):
        for partition in range(PARTITIONS):
            await publisher.publish(partition, [record(f"{partition}")])
        await eventually(lambda: len(owner.seen) == PARTITIONS, what="all is read")
    assert metrics.value("kite_consumer_restarts_total", group=group, reason="RuntimeError") == 2


async def test_wrong_configuration_found_by_an_owner_ends_the_process(kafka: Kafka) -> None:
    async def refuse(partition: int) -> None:
        raise ConfigurationError([f"partition {partition} needs a new archive"])

    topic = await new_topic(kafka)
    consumer = GroupConsumer(kafka, group_name(), (topic,), "a", Collecting(topic, before=refuse))
    with pytest.raises(ConfigurationError, match="needs a new archive"):
        await consumer.run(asyncio.Event())


async def test_an_owner_that_hangs_is_not_ready_until_it_begins(kafka: Kafka) -> None:
    go = asyncio.Event()

    async def wait(_: int) -> None:
        await go.wait()

    topic = await new_topic(kafka)
    consumer = GroupConsumer(kafka, group_name(), (topic,), "a", Collecting(topic, before=wait))
    async with running(consumer, ready=False):
        await eventually(lambda: "is starting" in consumer.readiness().reason, within_s=20, what="it says what is missing")
        go.set()
        await eventually(lambda: consumer.readiness().ready, within_s=20, what="it is ready")


async def test_an_owner_that_ignores_the_end_is_cancelled_in_bounded_time(kafka: Kafka) -> None:
    cancelled = asyncio.Event()

    class Stubborn:
        async def own(self, partition: int, feed: Feed) -> None:
            feed.resume(topic)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise

    topic = await new_topic(kafka)
    async with asyncio.timeout(40):
        async with running(GroupConsumer(kafka, group_name(), (topic,), "a", Stubborn())):
            pass
    assert cancelled.is_set()


async def test_sleeping_counts_as_having_nothing_to_do(kafka: Kafka) -> None:
    topic, group, metrics, asleep = await new_topic(kafka), group_name(), Metrics(), asyncio.Event()

    class SleepsInTheFirst:
        """In the other partitions it takes a record and never says that it is done."""

        async def own(self, partition: int, feed: Feed) -> None:
            await feed.seek_to_beginning(topic)
            feed.resume(topic)
            while not feed.closing.is_set() and not await feed.batch(topic):
                pass
            if partition == 0:
                feed.seek(topic, 0)
                feed.sleep(topic, 3600)
                asleep.set()
            with contextlib.suppress(asyncio.CancelledError):
                await feed.closing.wait()

    def stalled_s(partition: str) -> float:
        member.readiness()
        return metrics.value("kite_consumer_stalled_seconds", group=group, topic=topic, partition=partition)

    publisher = Publisher(kafka, topic, PARTITIONS)
    member = GroupConsumer(kafka, group, (topic,), "a", SleepsInTheFirst(), metrics)
    async with running(publisher, member):
        await publisher.publish(0, [record("waits")])
        await asleep.wait()
        await publisher.publish(1, [record("hangs")])
        await eventually(lambda: stalled_s("1") > 0, what="both were looked at until the one that hangs was seen to do so")
        assert stalled_s("0") == 0


async def test_a_log_that_is_shorter_than_what_was_read_of_it_is_not_read_again_from_its_beginning(kafka: Kafka) -> None:
    topic, metrics, group = await new_topic(kafka), Metrics(), group_name()
    seen: list[Input] = []

    class Ahead:
        async def own(self, partition: int, feed: Feed) -> None:
            feed.seek(topic, 1_000)
            feed.resume(topic)
            while not feed.closing.is_set():
                seen.extend(await feed.batch(topic))

    publisher = Publisher(kafka, topic, PARTITIONS)
    member = GroupConsumer(kafka, group, (topic,), "a", Ahead(), metrics)
    async with running(publisher, member):
        await publisher.publish(0, [record("old")])
        await eventually(
            lambda: metrics.value("kite_consumer_restarts_total", group=group, reason="LogTruncated") > 0, within_s=20, what="it is noticed"
        )
    assert seen == []
