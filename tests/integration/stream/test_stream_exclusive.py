"""Turns on a real broker: between reading and appending nobody else appends, whoever stands still, dies or comes too late."""

import asyncio
from datetime import UTC, datetime

import pytest

from kite_common.clock import FrozenClock, to_unix_ms
from kite_common.errors import Unavailable
from kite_common.runtime.system import monotonic_s
from kite_common.stream.exclusive import ExclusiveWriter, ShutOut
from kite_common.stream.kafka import Kafka
from support.log import new_topic, read_all, record

NOW = datetime(2026, 4, 30, 10, tzinfo=UTC)


async def test_a_turn_that_was_taken_over_appends_nothing(kafka: Kafka) -> None:
    topic = await new_topic(kafka)
    one, other = ExclusiveWriter(kafka, topic), ExclusiveWriter(kafka, topic)
    async with one.turn(0) as stalled, one.turn(1) as elsewhere:
        async with other.turn(0) as turn:
            await turn.append(record("second"))
        with pytest.raises(ShutOut):
            await stalled.append(record("first"))
        await elsewhere.append(record("another partition"))
    assert sorted(key for _, _, key, _ in await read_all(kafka, topic)) == ["another partition", "second"]


async def test_what_stands_in_the_log_uncommitted_when_the_next_turn_begins_is_never_committed(kafka: Kafka) -> None:
    topic = await new_topic(kafka)
    one, other = ExclusiveWriter(kafka, topic), ExclusiveWriter(kafka, topic)
    async with one.turn(0) as stalled:
        # The process stands still between the write and its commit.
        await stalled._put(record("first"))
        began = monotonic_s()
        async with other.turn(0) as turn:
            assert await read_all(kafka, topic) == []
            await turn.append(record("second"))
        assert monotonic_s() - began < 9, "the next turn does not wait for the transaction's timeout"
        with pytest.raises(ShutOut):
            await stalled._commit()
    assert [key for _, _, key, _ in await read_all(kafka, topic)] == ["second"]


async def test_turns_of_one_process_come_one_after_another_and_each_gets_its_offset(kafka: Kafka) -> None:
    topic, inside = await new_topic(kafka), 0
    writer = ExclusiveWriter(kafka, topic)

    async def append(number: int) -> int:
        nonlocal inside
        async with writer.turn(0) as turn:
            inside += 1
            assert inside == 1
            offset = await turn.append(record(str(number)))
            inside -= 1
            return offset

    offsets = await asyncio.gather(*(append(number) for number in range(5)))
    found = {offset: key for _, offset, key, _ in await read_all(kafka, topic)}
    assert [found[offset] for offset in offsets] == ["0", "1", "2", "3", "4"]


async def test_after_its_time_nothing_is_appended_and_readers_are_not_held_up(kafka: Kafka) -> None:
    topic, clock = await new_topic(kafka), FrozenClock(NOW)
    writer = ExclusiveWriter(kafka, topic, clock)
    async with writer.turn(0) as turn:
        with pytest.raises(Unavailable):
            await turn.append(record("late"), not_after_ms=to_unix_ms(NOW) - 1)
    async with writer.turn(0) as turn:
        await turn.append(record("in time"), not_after_ms=to_unix_ms(NOW))
    assert [key for _, _, key, _ in await read_all(kafka, topic)] == ["in time"]


async def test_without_a_broker_a_turn_is_refused() -> None:
    writer = ExclusiveWriter(Kafka("127.0.0.1:1"), "topic")
    with pytest.raises(Unavailable):
        async with writer.turn(0):
            raise AssertionError("there is no turn")
