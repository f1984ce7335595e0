"""The state topic of one partition: reading it back, and the marker that says up to which inputs it stands. Writes nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

import orjson
from aiokafka import TopicPartition

from kite_common.errors import KiteError, Malformed, Unavailable
from kite_common.events.codec import RECORD_HEADER, Record
from kite_common.runtime.observe import get_logger
from kite_common.runtime.system import monotonic_s
from kite_common.stream.input import Input, input_of
from kite_common.stream.kafka import Kafka

log = get_logger("kite.stream.state")

StateT = TypeVar("StateT")

# No id of ours begins with NUL, so no state has this key.
MARKER_KEY: Final = b"\x00position"
_MARKER_HEADERS: Final = ((RECORD_HEADER, b"position"),)
_SILENT_S: Final = 20.0


class StateMismatch(KiteError):
    """State and committed positions do not belong together: going on would lose or repeat inputs."""


@dataclass(frozen=True, slots=True)
class Marker:
    """Next input offsets by topic, and the number of steps' inputs so far. Written with the state it belongs to."""

    positions: dict[str, int] = field(default_factory=dict)
    applied: int = 0

    def record(self) -> Record:
        """The marker as a record of the state topic."""
        return Record(MARKER_KEY, orjson.dumps({"v": 1, "positions": self.positions, "applied": self.applied}), _MARKER_HEADERS)


def read_marker(value: bytes | None) -> Marker:
    """The marker of a record's value. Raises Malformed."""
    try:
        content = orjson.loads(value or b"")
        return Marker({str(topic): int(offset) for topic, offset in content["positions"].items()}, int(content["applied"]))
    except (orjson.JSONDecodeError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise Malformed(f"the marker of the state is not readable: {type(error).__name__}") from error


@dataclass(frozen=True, slots=True)
class Restored(Generic[StateT]):
    """All states of a partition by key, and the marker they were written with."""

    states: dict[str, StateT]
    marker: Marker


class Positions(Protocol):
    """What is asked of a `Feed`."""

    partition: int

    async def committed(self, topic: str) -> int | None: ...
    async def seek_to_beginning(self, topic: str) -> int: ...
    async def end_offset(self, topic: str) -> int: ...


async def restore(kafka: Kafka, topic: str, partition: int, decode: Callable[[Input], tuple[str, StateT]]) -> Restored[StateT]:
    """Read a partition of the state topic to its end. The former owner must be fenced before.

    Raises Malformed for a state nobody can read (nothing may go on without it), Unavailable if the brokers stop answering.
    """
    at = TopicPartition(topic, partition)
    states: dict[str, StateT] = {}
    marker = Marker()
    consumer = kafka.consumer(max_partition_fetch_bytes=8 << 20, fetch_max_wait_ms=50)
    await consumer.start()
    try:
        consumer.assign([at])
        end = (await consumer.end_offsets([at]))[at]
        heard_at = monotonic_s()
        while await consumer.position(at) < end:
            records = (await consumer.getmany(at, timeout_ms=100)).get(at, ())
            if records:
                heard_at = monotonic_s()
            elif monotonic_s() - heard_at > _SILENT_S:
                raise Unavailable(f"{topic}-{partition} cannot be read to its end")
            for record in map(input_of, records):
                if record.key == MARKER_KEY:
                    marker = read_marker(record.value)
                elif record.value is None:
                    states.pop((record.key or b"").decode(), None)
                else:
                    key, state = decode(record)
                    states[key] = state
    finally:
        await consumer.stop()
    return Restored(states, marker)


async def start_positions(feed: Positions, topics: Sequence[str], marker: Marker) -> dict[str, int]:
    """Where to go on in each topic: what the marker says, if the group's committed positions agree.

    A committed position may have expired (the group was away for a week): then the marker alone counts. One without a marker, or another
    one, means that the state was not read whole; a topic that ends before it, that the log lost records. Raises StateMismatch, Unavailable.
    """
    positions: dict[str, int] = {}
    for topic in topics:
        committed, marked = await feed.committed(topic), marker.positions.get(topic)
        if committed is not None and committed != marked:
            raise StateMismatch(f"{topic}-{feed.partition}: the state stands at {marked}, the group at {committed}")
        if marked is None:
            marked = await feed.seek_to_beginning(topic)
        elif committed is None:
            log.warning("state.position_expired", topic=topic, partition=feed.partition, marker=marked)
        if marked > (end := await feed.end_offset(topic)):
            raise StateMismatch(f"{topic}-{feed.partition}: the state stands at {marked}, the topic ends at {end}: brokers lost records")
        positions[topic] = marked
    return positions
