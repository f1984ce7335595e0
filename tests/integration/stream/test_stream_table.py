"""Following a compacted topic on a real broker."""

import asyncio

import pytest

from kite_common.errors import Malformed
from kite_common.stream.input import Input
from kite_common.stream.kafka import Kafka
from kite_common.stream.publisher import Publisher
from kite_common.stream.table import Table
from kite_common.testing.eventually import eventually
from support.log import PARTITIONS, new_topic, record, running


def text(one: Input) -> str | None:
    if one.value == b"unreadable":
        raise Malformed("unreadable")
    return one.value.decode() if one.value else None


def held(table: Table[str]) -> dict[str, str]:
    """What it has of the keys these tests write."""
    return {key: value for key in "abcd" if (value := table.get(key)) is not None}


async def test_it_holds_the_newest_value_of_each_key_and_forgets_removed_ones(kafka: Kafka) -> None:
    topic = await new_topic(kafka, "compact")
    publisher, table = Publisher(kafka, topic, PARTITIONS), Table(kafka, topic, PARTITIONS, text)
    async with running(publisher):
        await publisher.publish(0, [record("a", "1"), record("b", "1"), record("a", "2")])
        await publisher.publish(1, [record("c", "1")])
        async with running(table):
            assert held(table) == {"a": "2", "b": "1", "c": "1"}
            await publisher.publish(0, [record("b", "")])
            await publisher.publish(1, [record("c", "unreadable"), record("d", "4")])
            await table.refreshed()
            assert held(table) == {"a": "2", "c": "1", "d": "4"}
            assert table.get("b") is None


async def test_what_was_written_before_a_refresh_can_be_seen_after_it(kafka: Kafka) -> None:
    topic = await new_topic(kafka, "compact")
    publisher, table = Publisher(kafka, topic, PARTITIONS), Table(kafka, topic, PARTITIONS, text)

    async def write_and_look(number: int) -> None:
        await publisher.publish(number % PARTITIONS, [record(f"{number}", "here")])
        await table.refreshed(number % PARTITIONS)
        assert table.get(f"{number}") == "here"

    async with running(publisher, table):
        for round_of in range(0, 60, 20):
            await asyncio.gather(*(write_and_look(round_of + number) for number in range(20)))
        offset = await publisher.publish(0, [record("x", "y")])
        await table.reached(0, offset)
        assert table.get("x") == "y"


async def test_partitions_are_followed_and_let_go_while_it_runs(kafka: Kafka) -> None:
    topic = await new_topic(kafka, "compact")
    publisher, table = Publisher(kafka, topic, PARTITIONS), Table(kafka, topic, PARTITIONS, text, only=())
    async with running(publisher, table):
        await publisher.publish(0, [record("a", "1")])
        await publisher.publish(1, [record("b", "1")])
        assert table.readiness().ready
        assert not held(table)
        await table.own(1)
        assert held(table) == {"b": "1"}
        await table.own(0)
        await publisher.publish(1, [record("b", "2")])
        await table.refreshed(1)
        assert held(table) == {"a": "1", "b": "2"}
        await table.release(1)
        assert held(table) == {"a": "1"}
        await publisher.publish(1, [record("b", "3")])
        await publisher.publish(0, [record("a", "2")])
        await table.refreshed(0)
        assert held(table) == {"a": "2"}
        await table.own(1)
        assert table.get("b") == "3"


async def test_a_partition_that_is_not_followed_is_not_waited_for_without_end(kafka: Kafka) -> None:
    topic = await new_topic(kafka, "compact")
    publisher, table = Publisher(kafka, topic, PARTITIONS), Table(kafka, topic, PARTITIONS, text, only=(0,))
    async with running(publisher, table):
        await publisher.publish(1, [record("b", "1")])
        with pytest.raises(TimeoutError):
            await table.refreshed(1, timeout_s=0.3)


async def test_brokers_that_have_nothing_new_are_heard_all_the_same(kafka: Kafka) -> None:
    topic = await new_topic(kafka, "compact")
    publisher, table = Publisher(kafka, topic, PARTITIONS), Table(kafka, topic, PARTITIONS, text, silent_after_s=5)
    async with running(publisher, table):
        await publisher.publish(0, [record("a", "1")])
        began = heard_s(table)
        await eventually(lambda: heard_s(table) > began + 2, within_s=10, what="both partitions are answered for")
        assert table.readiness().ready


def heard_s(table: Table[str]) -> float:
    """When the partition that was answered for longest ago was, on the monotonic clock."""
    return min(at_s for _, at_s in table._answered.values())
