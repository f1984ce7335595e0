"""A process that the brokers do not answer any more: an empty poll does not tell, the client's last answer does."""

from dataclasses import dataclass, field

import pytest
from aiokafka import TopicPartition

from kite_common.stream import table as tables
from kite_common.stream.input import Input
from kite_common.stream.kafka import Kafka
from kite_common.stream.table import Table

BOTH = [TopicPartition("topic", 0), TopicPartition("topic", 1)]


@dataclass
class Consumer:
    """Has read everything; `answers`: when the brokers last answered for a partition."""

    answers: dict[int, int | None] = field(default_factory=lambda: {0: None, 1: None})

    async def position(self, _: TopicPartition) -> int:
        return 0

    def last_poll_timestamp(self, one: TopicPartition) -> int | None:
        return self.answers[one.partition]


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    at = [1_000.0]
    monkeypatch.setattr(tables, "monotonic_s", lambda: at[0])
    return at


def text(one: Input) -> str:
    return (one.value or b"").decode()


async def loaded(consumer: Consumer, silent_after_s: float) -> Table[str]:
    table = Table(Kafka("127.0.0.1:1"), "topic", 2, text, silent_after_s=silent_after_s)
    table._hear(consumer, BOTH)
    await table._mark_loaded(consumer, {0: 0, 1: 0})
    return table


async def test_it_is_ready_as_long_as_the_brokers_of_every_partition_answer(now: list[float]) -> None:
    consumer = Consumer()
    table = await loaded(consumer, 30)
    for step in range(10):
        now[0] += 10
        consumer.answers = {0: step, 1: step}
        table._hear(consumer, BOTH)
        assert table.readiness().ready
    for step in range(10, 14):
        now[0] += 10
        consumer.answers[0] = step
        table._hear(consumer, BOTH)
        assert table.readiness().ready is (step < 13), "partition 1 is not answered for any more"
    consumer.answers[1] = 20
    table._hear(consumer, BOTH)
    assert table.readiness().ready


async def test_a_process_that_stood_still_has_to_hear_again_first(now: list[float]) -> None:
    table = await loaded(Consumer(), 30)
    assert table.readiness().ready
    now[0] += 31
    told = table.readiness()
    assert (told.ready, told.reason) == (False, "the brokers of partition 0 have not answered for 30 s")


async def test_who_follows_nothing_waits_for_nobody(now: list[float]) -> None:
    table = await loaded(Consumer(), 30)
    for number in range(2):
        await table.release(number)
    now[0] += 1_000
    assert table.readiness().ready


async def test_a_partition_that_is_followed_again_is_not_held_to_what_was_heard_before(now: list[float]) -> None:
    consumer = Consumer()
    table = await loaded(consumer, 30)
    await table.release(1)
    now[0] += 1_000
    table._wanted.add(1)
    table._stale.clear()
    consumer.answers = {0: 7, 1: None}
    table._hear(consumer, BOTH)
    await table._mark_loaded(consumer, {0: 0, 1: 0})
    assert table.readiness().ready
