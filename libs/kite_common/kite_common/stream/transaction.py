"""State of partitions kept in a compacted topic: every step consumes inputs, writes outputs and state, and commits, in one transaction.

The order on taking a partition over is what makes it exact; each part of it was learned from a failure (measured.md, section 1): fence the
former owner -> restore the state to its end -> read the committed positions -> compare them with the marker in the state -> go on.
What a step means is the Processor's; this room decides nothing about it.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Protocol, TypeVar

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced

from kite_common.clock import Clock
from kite_common.events.codec import Record
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.observe import get_logger
from kite_common.runtime.system import SystemClock, monotonic_s, pause
from kite_common.stream.feed import Feed
from kite_common.stream.input import Input
from kite_common.stream.kafka import Kafka, abandon, appended, batch_size_of
from kite_common.stream.state import Marker, restore, start_positions

log = get_logger("kite.stream.transaction")

StateT = TypeVar("StateT")

# How long a dead owner's open transaction can hide what follows it; taking the partition over ends it at once.
_TRANSACTION_TIMEOUT_MS: Final = 15_000
_STEP_TIMEOUT_S: Final = 12.0
_ABORT_S: Final = 2.0
_MAX_RECORDS: Final = 1_000
# A transaction costs the brokers some 5 ms of CPU, whatever is in it: after a small step the next one waits for more to gather.
_SMALL_STEP: Final = _MAX_RECORDS // 4
_STEP_EVERY_S: Final = 0.25
_POLL_S: Final = 0.25
_LOOK_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Position:
    """Where a partition is: `applied` rises with every step and never goes back, also across owners; every input appended before
    `stream_time_ms` has been applied (0 = not known yet)."""

    applied: int
    stream_time_ms: int


@dataclass(frozen=True, slots=True)
class Step(Generic[StateT]):
    """What some inputs lead to: changed states by key, records for other topics (topic name, record), all of the same partition, and
    effects, which are given to `committed` once the rest is durable."""

    states: Mapping[str, StateT] = field(default_factory=dict)
    records: Sequence[tuple[str, Record]] = ()
    effects: tuple[object, ...] = ()


class Processor(Protocol[StateT]):
    """What is done with inputs. All methods are called in one task per partition; none may block."""

    def decode_state(self, record: Input) -> tuple[str, StateT]:
        """Key and state of a record of the state topic. Raises Malformed."""
        ...

    def encode_state(self, key: str, state: StateT) -> Record:
        """The record of a state."""
        ...

    def step(self, partition: int, inputs: Sequence[Input], states: Mapping[str, StateT], applied: int) -> Step[StateT]:
        """Decide; pure. `applied` is what Position.applied will be once the step is committed."""
        ...

    def restored(self, partition: int, states: Mapping[str, StateT], position: Position) -> None:
        """The partition was taken over with these states; `states` stays up to date while it is owned."""
        ...

    def committed(self, partition: int, step: Step[StateT], position: Position) -> None:
        """A step is durable. Also called with an empty step about once a second, as stream time moves on."""
        ...

    def released(self, partition: int) -> None:
        """The partition is not owned any more, or is about to be restored again."""
        ...


class TransactionalOwner(Generic[StateT]):
    """Owner of the partitions of `inputs` for a group: exactly once from inputs to outputs and state."""

    def __init__(
        self, kafka: Kafka, group: str, inputs: Sequence[str], state_topic: str, processor: Processor[StateT],
        metrics: Metrics | None = None, clock: Clock | None = None,
    ) -> None:  # fmt: skip
        self._kafka, self._group, self._inputs, self._state_topic = kafka, group, tuple(inputs), state_topic
        self._processor, self._metrics, self._clock = processor, metrics, clock or SystemClock()

    async def own(self, partition: int, feed: Feed) -> None:
        """Step until the feed closes. Raises StateMismatch if state and positions do not belong together."""
        async with self._fenced(partition) as producer:
            restored = await restore(self._kafka, self._state_topic, partition, self._processor.decode_state)
            positions = await start_positions(feed, self._inputs, restored.marker)
            for topic, offset in positions.items():
                feed.seek(topic, offset)
            work = _Work(self, producer, feed, restored.states, positions, restored.marker)
            self._processor.restored(partition, restored.states, work.position)
            log.info("transaction.owner_ready", group=self._group, partition=partition, states=len(restored.states), positions=positions)
            try:
                feed.resume(*self._inputs)
                await work.run()
            finally:
                self._processor.released(partition)

    @asynccontextmanager
    async def _fenced(self, partition: int) -> AsyncIterator[AIOKafkaProducer]:
        """A producer that has ended the former owner's transaction and shut it out."""
        producer = self._kafka.producer(
            transactional_id=f"{self._group}-{partition}", transaction_timeout_ms=_TRANSACTION_TIMEOUT_MS, retry_backoff_ms=20
        )
        try:
            await producer.start()
            yield producer
        finally:
            await abandon(producer)


class _Work(Generic[StateT]):
    """One partition between restore and release."""

    def __init__(
        self, owner: TransactionalOwner[StateT], producer: AIOKafkaProducer, feed: Feed, states: dict[str, StateT],
        positions: dict[str, int], marker: Marker,
    ) -> None:  # fmt: skip
        self._owner, self._producer, self._feed, self._states = owner, producer, feed, states
        self._positions, self._marker = positions, marker
        self._times = dict.fromkeys(owner._inputs, 0)
        self._looked_at = 0.0

    @property
    def position(self) -> Position:
        return Position(self._marker.applied, min(self._times.values()))

    async def run(self) -> None:
        inputs = self._owner._inputs
        while not self._feed.closing.is_set():
            batch = await self._feed.batch(*inputs, max_records=_MAX_RECORDS, timeout_s=_POLL_S)
            if batch:
                began = monotonic_s()
                await self._apply(batch)
                if len(batch) < _SMALL_STEP:
                    await pause(max(0.0, began + _STEP_EVERY_S - monotonic_s()), self._feed.closing)
            elif not self._feed.closing.is_set() and monotonic_s() - self._looked_at > _LOOK_S:
                await self._look()

    async def _apply(self, batch: Sequence[Input]) -> None:
        began, owner, partition = monotonic_s(), self._owner, self._feed.partition
        read = {one.topic: one.offset + 1 for one in batch}
        marker = Marker(self._marker.positions | read, self._marker.applied + len(batch))
        step = owner._processor.step(partition, batch, self._states, marker.applied)
        async with asyncio.timeout(_STEP_TIMEOUT_S):
            await self._commit(step, read, marker)
        # Memory follows the log, never the other way round.
        self._states.update(step.states)
        self._marker = marker
        self._feed.done.update(read)
        for one in batch:
            self._times[one.topic] = max(self._times[one.topic], one.timestamp_ms)
        if owner._metrics is not None:
            owner._metrics.histogram("kite_transaction_seconds").labels(group=owner._group).observe(monotonic_s() - began)
        owner._processor.committed(partition, step, self.position)
        if monotonic_s() - self._looked_at > _LOOK_S:
            await self._look()

    async def _commit(self, step: Step[StateT], read: Mapping[str, int], marker: Marker) -> None:
        """Outputs, state, marker and positions: all, or nothing."""
        owner, partition, producer = self._owner, self._feed.partition, self._producer
        states = [owner._processor.encode_state(key, state) for key, state in step.states.items()]
        records = [
            *((topic, partition, record) for topic, record in step.records),
            *((owner._state_topic, partition, record) for record in (*states, marker.record())),
        ]
        await producer.begin_transaction()
        try:
            sends = [
                await producer.send_batch(batch, topic, partition=to)
                for (topic, to), batches in batches_of(producer, records).items()
                for batch in batches
            ]
            # Every produce must be answered before the positions are sent: overlapping them cost 650 retries in one log.
            await asyncio.gather(*sends)
            at = {TopicPartition(topic, partition): offset for topic, offset in read.items()}
            await producer.send_offsets_to_transaction(at, owner._group)
        except BaseException as error:
            if not isinstance(error, ProducerFenced):
                await _abort(producer)
            raise
        await producer.commit_transaction()

    async def _look(self) -> None:
        """Where nothing is left to read, everything appended before we asked has been applied."""
        asked_ms = self._owner._clock.unix_ms()
        for topic in self._owner._inputs:
            if await self._feed.position(topic) >= await self._feed.end_offset(topic):
                self._times[topic] = max(self._times[topic], asked_ms)
        self._looked_at = monotonic_s()
        self._owner._processor.committed(self._feed.partition, Step(), self.position)


def batches_of(producer: AIOKafkaProducer, records: Sequence[tuple[str, int, Record]]) -> dict[tuple[str, int], list[Any]]:
    """The records by topic and partition, in their order, in as few batches as they fit in. Raises Malformed for one that fits in none."""
    by_place: dict[tuple[str, int], list[Any]] = {}
    for topic, partition, record in records:
        # A batch takes its first record whatever its size; the brokers would then refuse the step again and again.
        batch_size_of(record.key, record.value, record.headers)
        batches = by_place.setdefault((topic, partition), [])
        if batches and appended(batches[-1], record):
            continue
        batch = producer.create_batch()
        if not appended(batch, record):
            raise RuntimeError("an empty batch did not take a record")
        batches.append(batch)
    return by_place


async def _abort(producer: AIOKafkaProducer) -> None:
    """End the transaction for its readers' sake; if that fails too, the next owner does."""
    try:
        async with asyncio.timeout(_ABORT_S):
            await producer.abort_transaction()
    except (KafkaError, TimeoutError) as error:
        log.warning("transaction.abort_failed", reason=type(error).__name__)
