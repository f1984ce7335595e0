"""A record nobody can read, such as one of a newer version: what stands, and what may open nothing any more."""

import pytest
from aiokafka import ConsumerRecord, TopicPartition

from kite_common.errors import Malformed
from kite_common.stream.input import Input
from kite_common.stream.kafka import Kafka
from kite_common.stream.table import Table

AT = TopicPartition("topic", 0)


def text(one: Input) -> str:
    if one.value == b"of a newer version":
        raise Malformed("cannot be read")
    return (one.value or b"").decode()


def consumed(offset: int, value: bytes) -> ConsumerRecord[bytes, bytes]:
    return ConsumerRecord("topic", 0, offset, 1_000, 1, b"key", value, 0, 3, len(value), ())


@pytest.mark.parametrize(("removes", "left"), [(False, "old"), (True, None)])
def test_it_leaves_the_value_as_it_was_or_takes_it_away(removes: bool, left: str | None) -> None:
    table = Table(Kafka("127.0.0.1:1"), "topic", 1, text, unreadable_removes=removes)
    table._apply({AT: [consumed(0, b"old"), consumed(1, b"of a newer version")]})
    assert table.get("key") == left
    table._apply({AT: [consumed(2, b"new")]})
    assert table.get("key") == "new"
