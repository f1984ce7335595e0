"""Making topics, and saying what is wrong with those that are there."""

import asyncio
import uuid
from dataclasses import replace

import pytest
from aiokafka.admin import NewPartitions

from kite_common.errors import Unavailable
from kite_common.stream.admin import check_brokers, check_topics, ensure_topics
from kite_common.stream.kafka import Kafka
from kite_common.testing.eventually import eventually
from kite_common.topics import ALL, Topic


@pytest.fixture
def topics() -> list[Topic]:
    """Kite's topics under names of this test's own."""
    prefix = f"test.{uuid.uuid4().hex[:8]}."
    return [replace(topic, name=prefix + topic.name) for topic in ALL]


async def test_missing_topics_are_made_once_and_then_nothing_is_wrong_with_them(kafka: Kafka, topics: list[Topic]) -> None:
    assert await check_topics(kafka, topics, 2, 1) == [f"{topic.name}: does not exist" for topic in topics]
    made = await asyncio.gather(ensure_topics(kafka, topics, 2, 1), ensure_topics(kafka, topics, 2, 1))
    assert sorted(made[0] + made[1]) == sorted(topic.name for topic in topics), "two at once make each topic once"
    assert await ensure_topics(kafka, topics, 2, 1) == []

    async def nothing_is_wrong() -> bool:
        # A broker learns of a topic a moment after the controller has made it.
        return await check_topics(kafka, topics, 2, 1) == []

    await eventually(nothing_is_wrong, within_s=10, what="nothing is wrong with the topics")


async def test_other_partition_counts_and_settings_are_named(kafka: Kafka, topics: list[Topic]) -> None:
    first, second = topics[:2]
    await ensure_topics(kafka, [first, replace(second, cleanup="compact", retention_ms=None)], 2, 1)
    admin = kafka.admin()
    await admin.start()
    try:
        await admin.create_partitions({first.name: NewPartitions(total_count=3)})
    finally:
        await admin.close()
    problems = await check_topics(kafka, [first, second], 2, 1)
    assert problems[0] == f"{first.name}: has 3 partitions, expected 2"
    assert f"{second.name}: cleanup.policy is compact, expected delete" in problems
    assert f"{second.name}: retention.ms is -1, expected {second.retention_ms}" in problems


async def test_the_brokers_of_a_local_stack_are_set_as_they_should_be(kafka: Kafka) -> None:
    assert await check_brokers(kafka) == []


async def test_no_brokers_is_an_error_of_ours() -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        await check_topics(Kafka("127.0.0.1:1"), ALL, 2, 1)
