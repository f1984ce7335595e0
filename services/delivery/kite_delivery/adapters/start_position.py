"""Where reading a partition begins: where the group stands. A group without a position begins anew only if it surely never began before.

Brokers forget the positions of a group that did not run for `offsets.retention.minutes`. Beginning anew then would send everything the log
still holds again, up to ninety days of it; so that is refused until an operator says where to go on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol

import orjson
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from kite_common.clock import Clock
from kite_common.errors import KiteError, Unavailable
from kite_common.stream.input import Input
from kite_common.stream.kafka import Kafka

# A tier is written by the same processes that read it: what stands there for so long was there when they read before.
_LONG_AGO_MS: Final = 86_400_000
_READ_WITHIN_S: Final = 5.0

HasBegun = Callable[["Positions", str], Awaitable[bool]]


class PositionLost(KiteError):
    """The group has no position in a partition it has worked on before: nobody knows what is to be sent. An operator has to set one."""


class Positions(Protocol):
    """What is asked of a `Feed`."""

    partition: int

    async def committed(self, topic: str) -> int | None: ...
    async def commit(self, offsets: Mapping[str, int]) -> None: ...
    def seek(self, topic: str, offset: int) -> None: ...
    async def seek_to_beginning(self, topic: str) -> int: ...
    async def end_offset(self, topic: str) -> int: ...
    async def batch(self, *topics: str, max_records: int, timeout_s: float) -> Sequence[Input]: ...
    def pause(self, *topics: str) -> None: ...
    def resume(self, *topics: str) -> None: ...


async def begin_reading(feed: Positions, topic: str, has_begun: HasBegun) -> None:
    """Go on where the group stands; a topic it has never worked on is read from its beginning. Raises PositionLost, Unavailable."""
    position = await feed.committed(topic)
    if position is not None:
        feed.seek(topic, position)
    elif await has_begun(feed, topic):
        raise PositionLost(
            f"the group has no position in {topic}-{feed.partition} although it has worked on it: it expired (offsets.retention.minutes); "
            "set one with kafka-consumer-groups --reset-offsets"
        )
    else:
        # Known from now on, before anything is sent: a crash before the first regular commit must not look like a position that expired.
        await feed.commit({topic: await feed.seek_to_beginning(topic)})
    feed.resume(topic)


def has_outcomes(kafka: Kafka, outcomes: str) -> HasBegun:
    """Whether outcomes of a partition's events are on record in the topic `outcomes`, also if they have been deleted since.

    Those of test events do not count: on a fresh Kite one may be there before the first member of the events' group has begun.
    """

    async def has_begun(feed: Positions, _topic: str) -> bool:
        place, consumer = TopicPartition(outcomes, feed.partition), kafka.consumer()
        try:
            async with asyncio.timeout(_READ_WITHIN_S):
                await consumer.start()
                consumer.assign([place])
                end = (await consumer.end_offsets([place]))[place]
                if (await consumer.beginning_offsets([place]))[place] > 0:
                    return True
                while await consumer.position(place) < end:
                    for records in (await consumer.getmany(timeout_ms=200)).values():
                        if not all(_is_of_test(one.value) for one in records):
                            return True
                return False
        except (KafkaError, TimeoutError) as error:
            raise Unavailable(f"{outcomes}-{feed.partition} cannot be read") from error
        finally:
            await consumer.stop()

    return has_begun


def _is_of_test(value: bytes | None) -> bool:
    try:
        found = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return False
    return isinstance(found, dict) and found.get("test") is True


def holds_old_records(clock: Clock) -> HasBegun:
    """Whether what a topic holds has been there for longer than a day."""

    async def has_begun(feed: Positions, topic: str) -> bool:
        if await feed.seek_to_beginning(topic) >= await feed.end_offset(topic):
            return False
        feed.resume(topic)
        oldest = await feed.batch(topic, max_records=1, timeout_s=_READ_WITHIN_S)
        feed.pause(topic)
        if not oldest:
            raise Unavailable(f"the oldest record of {topic}-{feed.partition} cannot be read")
        return clock.unix_ms() - oldest[0].timestamp_ms > _LONG_AGO_MS

    return has_begun
