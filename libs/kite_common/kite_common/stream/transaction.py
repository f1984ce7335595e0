"""State of partitions kept in a compacted topic: every step consumes inputs, writes outputs and state, and commits, in one transaction.

The order on taking a partition over is what makes it exact; each part of it was learned from a failure (measured.md, section 1): fence the
former owner -> restore the state to its end -> read the committed positions -> compare them with the marker in the state -> go on.
What a step means is the Processor's; this room decides nothing about it.

A processor may also step on facts of its own process (`stream.local`): those are in no log, so only what a step makes of them is durable.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Protocol, TypeVar

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced

from kite_common.clock import Clock
from kite_common.events.codec import Record, Tombstone
from kite_common.runtime import faults
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.observe import get_logger
from kite_common.runtime.system import SystemClock, monotonic_s, pause
from kite_common.stream.feed import Feed
from kite_common.stream.input import Input
from kite_common.stream.kafka import Kafka, abandon, appended, batch_size_of
from kite_common.stream.local import LocalFacts, LocalQueue
from kite_common.stream.record_spans import ProcessSpans, traced
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
# Where tests let an owner die or stand still: a step is decided; all of it is written, not committed; it is committed, nobody was told.
DECIDED: Final = "transaction.decided"
OPEN: Final = "transaction.open"
COMMITTED: Final = "transaction.committed"
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
    """What some inputs lead to: changed states by key, records for other topics (topic name, record), all of the same partition, records
    for other partitions (topic name, partition, record), effects, which are given to `committed` once the rest is durable, and keys whose
    state is no more."""

    states: Mapping[str, StateT] = field(default_factory=dict)
    records: Sequence[tuple[str, Record]] = ()
    effects: tuple[object, ...] = ()
    elsewhere: Sequence[tuple[str, int, Record]] = ()
    removed: frozenset[str] = frozenset()

    @property
    def writes(self) -> bool:
        """Whether it leaves anything in the log."""
        return bool(self.states or self.records or self.elsewhere or self.removed)


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


class Ticker(Protocol[StateT]):
    """What time alone does to states."""

    def tick(self, partition: int, states: Mapping[str, StateT], at_ms: int, applied: int) -> Step[StateT]:
        """Decide, given that everything appended before `at_ms` has been applied; called about once a second, must not block. A step that
        changes nothing is not committed; another one leads to `applied` and is given to `committed`."""
        ...


class LocalProcessor(Processor[StateT], Protocol[StateT]):
    """A processor that also steps on facts of its process: each step is one transaction, and begins as soon as anything waits."""

    @property
    def facts(self) -> LocalFacts:
        """Where the facts come from: open for a partition from `restored` to `released`."""
        ...

    def step_local(
        self, partition: int, inputs: Sequence[Input], facts: Sequence[object], states: Mapping[str, StateT], applied: int
    ) -> Step[StateT]:
        """Decide about the inputs, then about the facts; `step` is not called."""
        ...


class TransactionalOwner(Generic[StateT]):
    """Owner of the partitions of `inputs` for a group: exactly once from inputs to outputs and state."""

    def __init__(
        self, kafka: Kafka, group: str, inputs: Sequence[str], state_topic: str, processor: Processor[StateT],
        metrics: Metrics | None = None, clock: Clock | None = None, local: LocalProcessor[StateT] | None = None,
        ticker: Ticker[StateT] | None = None, spans: ProcessSpans | None = None,
    ) -> None:  # fmt: skip
        """`local` is the processor once more, if it steps on facts of its process too; `ticker` as well, if time alone changes states.

        `spans` is told of inputs once their step is committed; None: tracing is off.
        """
        self._local, self._ticker, self._spans = local, ticker, spans
        self._kafka, self._group, self._inputs, self._state_topic = kafka, group, tuple(inputs), state_topic
        self._processor, self._metrics, self._clock = processor, metrics, clock or SystemClock()

    async def own(self, partition: int, feed: Feed) -> None:
        """Step until the feed closes. Raises StateMismatch if state and positions do not belong together."""
        async with self._fenced(partition) as producer:
            restored = await restore(self._kafka, self._state_topic, partition, self._processor.decode_state)
            positions = await start_positions(feed, self._inputs, restored.marker)
            for topic, offset in positions.items():
                feed.seek(topic, offset)
            with self._facts(partition) as queue:
                work = _Work(self, producer, feed, restored.states, positions, restored.marker, queue)
                self._processor.restored(partition, restored.states, work.position)
                log.info(
                    "transaction.owner_ready", group=self._group, partition=partition, states=len(restored.states), positions=positions
                )
                try:
                    feed.resume(*self._inputs)
                    await work.run()
                finally:
                    self._processor.released(partition)

    @contextmanager
    def _facts(self, partition: int) -> Iterator[LocalQueue | None]:
        if self._local is None:
            yield None
            return
        try:
            yield self._local.facts.open(partition)
        finally:
            self._local.facts.close(partition)

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
        positions: dict[str, int], marker: Marker, queue: LocalQueue | None,
    ) -> None:  # fmt: skip
        self._queue = queue
        self._owner, self._producer, self._feed, self._states = owner, producer, feed, states
        self._positions, self._marker = positions, marker
        self._times = dict.fromkeys(owner._inputs, 0)
        self._looked_at = 0.0

    @property
    def position(self) -> Position:
        return Position(self._marker.applied, min(self._times.values()))

    async def run(self) -> None:
        while not self._feed.closing.is_set():
            if self._queue is None:
                await self._gathered_step()
            else:
                await self._prompt_step(self._queue)

    async def _gathered_step(self) -> None:
        batch = await self._feed.batch(*self._owner._inputs, max_records=_MAX_RECORDS, timeout_s=_POLL_S)
        if not batch:
            await self._look_if_due()
            return
        began = monotonic_s()
        await self._apply(batch)
        if len(batch) < _SMALL_STEP:
            await pause(max(0.0, began + _STEP_EVERY_S - monotonic_s()), self._feed.closing)

    async def _prompt_step(self, queue: LocalQueue) -> None:
        """Somebody waits for each of these: whatever is there makes a step at once."""
        batch = await self._feed.batch(*self._owner._inputs, max_records=_MAX_RECORDS, timeout_s=_POLL_S, woken=queue.filled)
        # A queue that waits while the partition is given away is for nobody: the next owner asks again.
        facts = () if self._feed.closing.is_set() else queue.take(_MAX_RECORDS)
        if batch or facts:
            await self._apply(batch, facts)
        else:
            await self._look_if_due()

    async def _look_if_due(self) -> None:
        if not self._feed.closing.is_set() and monotonic_s() - self._looked_at > _LOOK_S:
            await self._look()

    async def _apply(self, batch: Sequence[Input], facts: Sequence[object] = ()) -> None:
        began, owner, partition = monotonic_s(), self._owner, self._feed.partition
        began_ns = 0 if owner._spans is None else owner._spans.now_ns()
        read = {one.topic: one.offset + 1 for one in batch}
        marker = Marker(self._marker.positions | read, self._marker.applied + len(batch) + len(facts))
        if owner._local is None:
            step = owner._processor.step(partition, batch, self._states, marker.applied)
        else:
            step = owner._local.step_local(partition, batch, facts, self._states, marker.applied)
        if read or step.writes:
            async with asyncio.timeout(_STEP_TIMEOUT_S):
                await self._commit(step, read, marker)
            self._marker = marker
        # Memory follows the log, never the other way round.
        self._states.update(step.states)
        for key in step.removed:
            self._states.pop(key, None)
        self._feed.done.update(read)
        for one in batch:
            self._times[one.topic] = max(self._times[one.topic], one.timestamp_ms)
        if owner._metrics is not None:
            owner._metrics.histogram("kite_transaction_seconds").labels(group=owner._group).observe(monotonic_s() - began)
        owner._processor.committed(partition, step, self.position)
        if owner._spans is not None:
            owner._spans.processed(traced(batch), began_ns, len(batch))
        await self._look_if_due()

    async def _commit(self, step: Step[StateT], read: Mapping[str, int], marker: Marker) -> None:
        """Outputs, state, marker and positions: all, or nothing."""
        owner, partition, producer = self._owner, self._feed.partition, self._producer
        states = [owner._processor.encode_state(key, state) for key, state in step.states.items()]
        kept: list[Record | Tombstone] = [*states, *(Tombstone(key.encode()) for key in step.removed), marker.record()]
        records: list[tuple[str, int, Record | Tombstone]] = [
            *((topic, partition, record) for topic, record in step.records),
            *step.elsewhere,
            *((owner._state_topic, partition, record) for record in kept),
        ]
        faults.reached(DECIDED)
        await producer.begin_transaction()
        try:
            sends = [
                await producer.send_batch(batch, topic, partition=to)
                for (topic, to), batches in batches_of(producer, records).items()
                for batch in batches
            ]
            # Every produce must be answered before the positions are sent: overlapping them cost 650 retries in one log.
            await asyncio.gather(*sends)
            if read:
                at = {TopicPartition(topic, partition): offset for topic, offset in read.items()}
                await producer.send_offsets_to_transaction(at, owner._group)
        except BaseException as error:
            if not isinstance(error, ProducerFenced):
                await _abort(producer)
            raise
        faults.reached(OPEN)
        await producer.commit_transaction()
        faults.reached(COMMITTED)

    async def _look(self) -> None:
        """Where nothing is left to read, everything appended before we asked has been applied."""
        asked_ms = self._owner._clock.unix_ms()
        for topic in self._owner._inputs:
            if await self._feed.position(topic) >= await self._feed.end_offset(topic):
                self._times[topic] = max(self._times[topic], asked_ms)
        self._looked_at = monotonic_s()
        self._owner._processor.committed(self._feed.partition, await self._tick(), self.position)

    async def _tick(self) -> Step[StateT]:
        """What time alone has changed, committed without inputs."""
        owner, partition, stream_time_ms = self._owner, self._feed.partition, self.position.stream_time_ms
        if owner._ticker is None or stream_time_ms == 0:
            return Step()
        marker = Marker(self._marker.positions, self._marker.applied + 1)
        step = owner._ticker.tick(partition, self._states, stream_time_ms, marker.applied)
        if step.states:
            async with asyncio.timeout(_STEP_TIMEOUT_S):
                await self._commit(step, {}, marker)
            self._states.update(step.states)
            self._marker = marker
        return step


def batches_of(
    producer: AIOKafkaProducer, records: Sequence[tuple[str, int, Record | Tombstone]]
) -> dict[tuple[str, int], list[Any]]:
    """The records by topic and partition, in their order, in as few batches as they fit in. Raises Malformed for one that fits in none."""
    by_place: dict[tuple[str, int], list[Any]] = {}
    for topic, partition, record in records:
        # A batch takes its first record whatever its size; the brokers would then refuse the step again and again.
        batch_size_of(record.key, record.value, tuple(record.headers))
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
