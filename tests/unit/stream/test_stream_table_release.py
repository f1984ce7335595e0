"""A partition let go and taken again while its consumer still reads it: what that consumer says no longer counts."""

from aiokafka import TopicPartition

from kite_common.stream.input import Input
from kite_common.stream.kafka import Kafka
from kite_common.stream.table import Table

AT = TopicPartition("topic", 0)


class Consumer:
    """Stands at the end of what it has read."""

    async def position(self, _: TopicPartition) -> int:
        return 7


def text(one: Input) -> str:
    return (one.value or b"").decode()


async def test_a_partition_taken_again_is_not_loaded_by_what_was_read_before() -> None:
    table = Table(Kafka("127.0.0.1:1"), "topic", 1, text, only=(0,))
    await table._mark_loaded(Consumer(), {0: 7})
    assert table.readiness().ready
    await table.release(0)
    table._wanted.add(0)  # as own() does before it waits
    await table._mark_loaded(Consumer(), {0: 7})
    assert not table.readiness().ready, "the consumer has to be told anew first"
