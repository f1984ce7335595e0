"""Appends records to one topic: what callers hand over at the same time for one partition shares a record batch. Retries nothing itself.

All records of one call stand side by side in one batch: all are in the log, or none (measured.md: 21,800 pairs/s against 12,700 without).
What was handed to the client library cannot be taken back. So a batch that gets no answer takes the whole producer with it: its
connections are closed and its queue is forgotten, and nothing of it can be appended any more when callers are told. The process may stand
still meanwhile, which its timers do not see: so the wall clock is asked right before each send.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from kite_common.clock import Clock
from kite_common.errors import OutcomeOpen, Unavailable
from kite_common.events.codec import Record, Tombstone
from kite_common.runtime.component import READY, Readiness
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.observe import get_logger
from kite_common.runtime.system import SystemClock, monotonic_s, pause
from kite_common.stream.kafka import Kafka, abandon, appended, send_only_while, size_together
from kite_common.stream.partitions import expect_partitions

log = get_logger("kite.stream.publisher")

# Together they stay under projection.keys.PUBLISH_TIMEOUT_MS, after which a reservation may begin to lapse.
HAND_OVER_S: Final = 2.0
ACKNOWLEDGE_S: Final = 7.0
_RESTART_S: Final = 0.3
# How long the brokers may acknowledge nothing, while there is something to acknowledge.
_STALLED_S: Final = 20.0
# Nothing was tried for so long: what failed then says nothing about now.
_FORGOTTEN_S: Final = 30.0
_NOT_CONNECTED: Final = Readiness(ready=False, reason="not connected")


@dataclass(frozen=True, slots=True)
class PublishLimits:
    """`group_*`: how much shares one batch. A call that has waited `hand_over_s` for its turn is refused, nothing of it is written; a batch
    without an acknowledgement after `acknowledge_s` leaves the outcome of its calls open."""

    group_calls: int = 256
    group_bytes: int = 768 * 1024
    queued_calls: int = 4096
    hand_over_s: float = HAND_OVER_S
    acknowledge_s: float = ACKNOWLEDGE_S


@dataclass(eq=False, slots=True)
class _Call:
    records: Sequence[Record | Tombstone]
    size: int
    queued_at: float
    not_after_ms: int | None
    offset: "asyncio.Future[int]"


@dataclass(eq=False, slots=True)
class _Lane:
    """The calls of one partition that wait for their turn."""

    queue: deque[_Call] = field(default_factory=deque)
    filled: asyncio.Event = field(default_factory=asyncio.Event)


class _Acknowledgements:
    """Since when a partition has acknowledged nothing that was written to it, by partition."""

    def __init__(self, now_s: Callable[[], float] = monotonic_s) -> None:
        self._now_s = now_s
        self._since: dict[int, float] = {}
        self._tried: dict[int, float] = {}
        self._acknowledged_at_s = -math.inf

    def written(self, partition: int) -> None:
        """A batch is handed over."""
        self._tried[partition] = now = self._now_s()
        self._since.setdefault(partition, now)

    def acknowledged(self, partition: int) -> None:
        """All replicas in sync have it."""
        self._since.pop(partition, None)
        self._acknowledged_at_s = self._now_s()

    def stalled_s(self, partition: int) -> float:
        """For how long; 0 while it acknowledges, and once nothing is tried any more."""
        now = self._now_s()
        if now - self._tried.get(partition, -math.inf) > _FORGOTTEN_S:
            self._since.pop(partition, None)
        return now - self._since.get(partition, now)

    @property
    def problem(self) -> str | None:
        """What is wrong if no partition acknowledges: one of many is told by its metric, and must not take the process from all others."""
        if self._now_s() - self._acknowledged_at_s <= _STALLED_S:
            return None
        longest_s, partition = max(((self.stalled_s(one), one) for one in list(self._since)), default=(0.0, -1))
        return f"writes to partition {partition} are not acknowledged for {longest_s:.0f} s" if longest_s > _STALLED_S else None


class Publisher:
    """Component: `publish` works while it runs."""

    def __init__(
        self, kafka: Kafka, topic: str, partitions: int, metrics: Metrics | None = None, limits: PublishLimits | None = None,
        clock: Clock | None = None,
    ) -> None:  # fmt: skip
        self.name = f"publisher-{topic}"
        self._kafka, self._topic, self._metrics, self._limits = kafka, topic, metrics, limits or PublishLimits()
        self._clock = clock or SystemClock()
        self._lanes = [_Lane() for _ in range(partitions)]
        self._queued = 0
        # Until when (wall clock, ms) the batch that is under way may be sent, by partition; 0 once it has failed.
        self._send_until_ms: dict[int, float] = {}
        self._closed = False
        self._acknowledgements = _Acknowledgements()
        self._show_stalls(partitions)
        self._producer: AIOKafkaProducer | None = None

    async def publish(self, partition: int, records: Sequence[Record | Tombstone], *, not_after_ms: int | None = None) -> int:
        """Append records side by side; the offset of the first, once all replicas in sync have them.

        After `not_after_ms` (wall clock, milliseconds since 1970) the call is refused instead of handed over, also if this process or its
        machine stood still meanwhile, which timers and monotonic clocks do not tell.

        Raises Unavailable (surely nothing written, also later), OutcomeOpen (they may be in the log), Malformed (too large for the log).
        A caller that is cancelled gives up the answer, not the write.
        """
        size = size_together(records)
        if self._producer is None or self._closed:
            raise self._refused("the log is away")
        if self._queued >= self._limits.queued_calls:
            raise self._refused("too many writes are waiting for the log")
        call = _Call(records, size, monotonic_s(), not_after_ms, asyncio.get_running_loop().create_future())
        lane = self._lanes[partition]
        lane.queue.append(call)
        self._queued += 1
        lane.filled.set()
        return await call.offset

    async def run(self, stop: asyncio.Event) -> None:
        """Keep a producer until stopped, then finish what is queued. Raises ConfigurationError if the topic has other partitions."""
        while not stop.is_set():
            producer = self._kafka.producer()
            if await self._started(producer, stop):
                await self._serve(producer, stop)
            else:
                await abandon(producer)
            if not stop.is_set():
                await pause(_RESTART_S, stop)
        self._refuse_queued("the log is being closed")

    def readiness(self) -> Readiness:
        """Ready while a producer is connected, and what it writes is acknowledged: brokers may take a connection and nothing else."""
        problem = self._acknowledgements.problem
        if problem is not None:
            return Readiness(ready=False, reason=problem)
        return READY if self._producer is not None else _NOT_CONNECTED

    def _show_stalls(self, partitions: int) -> None:
        if self._metrics is None:
            return
        for number in range(partitions):
            gauge = self._metrics.gauge("kite_publish_stalled_seconds").labels(topic=self._topic, partition=str(number))
            gauge.set_function(partial(self._acknowledgements.stalled_s, number))

    async def _started(self, producer: AIOKafkaProducer, stop: asyncio.Event) -> bool:
        """Whether the producer is connected; starting one waits for the brokers without a limit, so it ends when we are stopped."""
        starting, stopping = asyncio.create_task(self._start(producer)), asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            if not starting.done():
                starting.cancel()
                await asyncio.wait({starting})
        if starting.cancelled():
            return False
        error = starting.exception()
        if isinstance(error, KafkaError):
            log.warning("publisher.waiting", topic=self._topic, reason=type(error).__name__)
        elif error is not None:
            await abandon(producer)
            raise error
        return error is None

    async def _start(self, producer: AIOKafkaProducer) -> None:
        await producer.start()
        await expect_partitions(producer.client, self._topic, len(self._lanes))

    async def _serve(self, producer: AIOKafkaProducer, stop: asyncio.Event) -> None:
        """Publish until stopped and drained, or until a batch fails."""
        self._send_until_ms.clear()
        send_only_while(producer, self._in_time)
        self._producer = producer
        flushers = [
            asyncio.create_task(self._flush_lane(producer, number), name=f"{self.name}-{number}") for number in range(len(self._lanes))
        ]
        overdue = asyncio.create_task(self._refuse_overdue(), name=f"{self.name}-overdue")
        stopping = asyncio.create_task(self._drained(stop), name=f"{self.name}-drained")
        done, _ = await asyncio.wait({*flushers, overdue, stopping}, return_when=asyncio.FIRST_COMPLETED)
        self._producer = None
        if stopping not in done:
            log.warning("publisher.abandoned", topic=self._topic, reason=_reason_of(done))
        await abandon(producer)
        # The producer is dead: what a flusher still waits for can no longer be appended by us.
        for task in (*flushers, overdue, stopping):
            task.cancel()
        await asyncio.gather(*flushers, overdue, stopping, return_exceptions=True)
        self._refuse_queued("the log is away")

    async def _drained(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._closed = True
        while self._queued:  # noqa: ASYNC110 - a counter of the hot path, looked at only while stopping
            await asyncio.sleep(0.005)

    async def _flush_lane(self, producer: AIOKafkaProducer, partition: int) -> None:
        """One batch after the other; whatever gathers meanwhile is the next one. Ends by raising what the log said."""
        lane = self._lanes[partition]
        while True:
            await lane.filled.wait()
            group = self._take_group(lane)
            if group:
                await self._append(producer, partition, group)

    def _take_group(self, lane: _Lane) -> list[_Call]:
        group: list[_Call] = []
        size, limits = 0, self._limits
        while lane.queue and len(group) < limits.group_calls and (not group or size + lane.queue[0].size <= limits.group_bytes):
            call = lane.queue.popleft()
            if call.not_after_ms is not None and self._clock.unix_ms() > call.not_after_ms:
                self._refuse(call, "the write came too late")
                continue
            size += call.size
            group.append(call)
        if not lane.queue:
            lane.filled.clear()
        return group

    async def _append(self, producer: AIOKafkaProducer, partition: int, group: list[_Call]) -> None:
        began = monotonic_s()
        self._acknowledgements.written(partition)
        self._send_until_ms[partition] = self._clock.unix_ms() + self._limits.acknowledge_s * 1000
        try:
            batch = batch_of(producer, [record for call in group for record in call.records])
            async with asyncio.timeout(self._limits.acknowledge_s):
                written = await (await producer.send_batch(batch, self._topic, partition=partition))
        except BaseException:
            # Also when cancelled: the batch was handed over, or may have been. A retry that is due before the producer is abandoned must
            # find its time over.
            self._send_until_ms[partition] = 0
            self._answer_open(group)
            raise
        finally:
            self._queued -= len(group)
        self._send_until_ms.pop(partition, None)
        self._acknowledgements.acknowledged(partition)
        self._observe(len(group), monotonic_s() - began)
        offset = written.offset
        for call in group:
            if not call.offset.done():
                call.offset.set_result(offset)
            offset += len(call.records)

    def _in_time(self) -> bool:
        """Whether no batch is overdue or has failed. One that is or has takes the producer with it: nothing else has to be sent either."""
        return self._clock.unix_ms() <= min(self._send_until_ms.values(), default=math.inf)

    def _answer_open(self, group: list[_Call]) -> None:
        for call in group:
            if not call.offset.done():
                call.offset.set_exception(OutcomeOpen("the log did not acknowledge the write"))
        self._count("open", len(group))

    async def _refuse_overdue(self) -> None:
        """Take calls that have waited too long out of the queues: what was not handed over can be refused for certain."""
        while True:
            await asyncio.sleep(self._limits.hand_over_s / 8)
            before = monotonic_s() - self._limits.hand_over_s
            for lane in self._lanes:
                while lane.queue and lane.queue[0].queued_at < before:
                    self._refuse(lane.queue.popleft(), "the log is slow")
                if not lane.queue:
                    lane.filled.clear()

    def _refuse_queued(self, reason: str) -> None:
        for lane in self._lanes:
            while lane.queue:
                self._refuse(lane.queue.popleft(), reason)
            lane.filled.clear()

    def _refuse(self, call: _Call, reason: str) -> None:
        self._queued -= 1
        if not call.offset.done():
            call.offset.set_exception(self._refused(reason))

    def _refused(self, reason: str) -> Unavailable:
        self._count("refused", 1)
        return Unavailable(reason)

    def _observe(self, calls: int, seconds: float) -> None:
        if self._metrics is not None:
            self._metrics.histogram("kite_publish_group_size").labels(topic=self._topic).observe(calls)
            self._metrics.histogram("kite_publish_seconds").labels(topic=self._topic).observe(seconds)

    def _count(self, outcome: str, calls: int) -> None:
        if self._metrics is not None:
            self._metrics.counter("kite_publish_failures_total").labels(topic=self._topic, outcome=outcome).inc(calls)


def batch_of(producer: AIOKafkaProducer, records: Sequence[Record | Tombstone]) -> Any:
    """A batch of all these records. Raises RuntimeError if it cannot hold them: one that is left out would be acknowledged and lost."""
    batch = producer.create_batch()
    for number, record in enumerate(records):
        if not appended(batch, record):
            raise RuntimeError(f"a batch took {number} of {len(records)} records: their sizes are reckoned too small")
    return batch


def _reason_of(done: "set[asyncio.Task[None]]") -> str:
    errors = [task.exception() for task in done if not task.cancelled()]
    return ", ".join(type(error).__name__ for error in errors if error is not None)
