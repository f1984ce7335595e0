"""A consumer group whose members own partitions: one task per partition, restarted after an error, stopped before the partition moves on.

Topics of a group have the same partition count; a member gets the same partition numbers of all of them. Reads and decides nothing itself.
What is deliberate here was learned from failures (measured.md, section 1): static membership, a quick assignment callback, a bounded wait
when partitions are taken away, an exit after a freeze.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError, ProducerFenced

from kite_common.errors import ConfigurationError, KiteError, Unavailable
from kite_common.runtime.component import Readiness
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.observe import get_logger
from kite_common.runtime.system import pause
from kite_common.stream.ends import Ends
from kite_common.stream.feed import Feed
from kite_common.stream.input import Input
from kite_common.stream.kafka import Kafka
from kite_common.stream.partitions import check_partitions
from kite_common.stream.progress import STALLED_S, At, Progress, Written
from kite_common.stream.pulse import BEAT_S, SESSION_S, Pulse

__all__ = ["Feed", "Frozen", "GroupConsumer", "Input", "Owner"]

log = get_logger("kite.stream.group")

_HEARTBEAT_S: Final = 1.5
_RELEASE_S: Final = 3.0
_RESTART_S: Final = (0.3, 0.6, 1.2, 2.4, 5.0)
_OBSERVE_S: Final = 1.0


class Frozen(KiteError):
    """The process stood still for so long that others may own its partitions by now: it has to end and be started again."""


class Owner(Protocol):
    """What works on a partition."""

    async def own(self, partition: int, feed: Feed) -> None:
        """Work until `feed.closing` is set. Raising anything but ConfigurationError, which ends the process, has it called again."""
        ...


@dataclass(eq=False, slots=True)
class _Held:
    """A partition we own."""

    closing: asyncio.Event = field(default_factory=asyncio.Event)
    feed: Feed | None = None
    task: "asyncio.Task[None] | None" = None


class GroupConsumer:
    """Component: a member of a consumer group.

    `instance` names this member across restarts, so that it gets its partitions back at once; two live members must not share one.
    `partitions`: how many the topics have by the settings; None = as many as there are, for an owner that places nothing by it.
    `gather_ms`: how long records may wait at the broker for more of them; 0 = none waits. One answer for each record is what a broker's
    CPU goes into at a few hundred records a second. `pulse`: of an owner that asks it before it writes what nobody fences.
    `stalled_s`: how long work may wait without any progress, for owners that need longer than most.
    """

    def __init__(
        self, kafka: Kafka, group: str, topics: Sequence[str], instance: str, owner: Owner, metrics: Metrics | None = None,
        *, gather_ms: int = 0, partitions: int | None = None, pulse: Pulse | None = None, stalled_s: float = STALLED_S,
    ) -> None:  # fmt: skip
        self.name = group
        self._gather_ms, self._partitions = gather_ms, partitions
        self._kafka, self._group, self._topics, self._instance, self._owner = kafka, group, tuple(topics), instance, owner
        self._metrics, self._pulse = metrics, pulse or Pulse()
        self._held: dict[int, _Held] = {}
        self._progress = Progress(group, metrics, stalled_s=stalled_s)
        self._ends = {topic: Ends(kafka, topic) for topic in self._topics}
        self._fatal: asyncio.Future[None] | None = None

    def readiness(self) -> Readiness:
        """Ready while every owned partition moves on, or has nothing to do."""
        return self._progress.readiness()

    async def run(self, stop: asyncio.Event) -> None:
        """Be a member until stopped.

        Raises ConfigurationError if an owner does or the topics have another number of partitions, Frozen after the process stood still.
        """
        self._fatal = asyncio.get_running_loop().create_future()
        tasks: set[asyncio.Future[Any]] = {
            self._fatal,
            asyncio.create_task(self._member(), name=self.name),
            asyncio.create_task(_watch_for_freeze(self._pulse), name=f"{self.name}-freeze"),
            asyncio.create_task(stop.wait()),
        }
        release_s = _RELEASE_S
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                one.result()
        except Frozen:
            # Whatever owners are at, it is not theirs any more.
            release_s = 0.0
            raise
        finally:
            await self._close(list(self._held), release_s)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(*(ends.close() for ends in self._ends.values()))

    async def _member(self) -> None:
        while True:
            consumer = self._new_consumer()
            try:
                consumer.subscribe(list(self._topics), listener=_Listener(self, consumer))
                await consumer.start()
                while True:
                    await asyncio.sleep(_OBSERVE_S)
                    # Raises what ended the membership, which nothing public tells while partitions are paused.
                    consumer._coordinator.check_errors()
                    await self._observe(consumer)
            except KafkaError as error:
                self._progress.away(type(error).__name__)
                log.warning("group.waiting", group=self._group, reason=type(error).__name__)
            finally:
                await self._close(list(self._held))
                await consumer.stop()
            await asyncio.sleep(_RESTART_S[0])

    def _new_consumer(self) -> AIOKafkaConsumer:
        fetching = {"fetch_max_wait_ms": self._gather_ms, "fetch_min_bytes": 1 << 18} if self._gather_ms else {"fetch_max_wait_ms": 100}
        return self._kafka.consumer(
            group_id=self._group, group_instance_id=f"{self._group}-{self._instance}", session_timeout_ms=round(SESSION_S * 1000),
            heartbeat_interval_ms=round(_HEARTBEAT_S * 1000), max_poll_interval_ms=600_000, rebalance_timeout_ms=15_000,
            partition_assignment_strategy=(RangePartitionAssignor,), max_partition_fetch_bytes=1 << 20, **fetching,
        )  # fmt: skip

    def opened(self, consumer: AIOKafkaConsumer, partitions: Iterable[int]) -> None:
        """Begin to own partitions. Returns at once: no heartbeat is sent meanwhile."""
        numbers = sorted(partitions)
        self._progress.assigned(numbers)
        for number in numbers:
            held = self._held[number] = _Held()
            held.task = asyncio.create_task(self._keep(consumer, number, held), name=f"{self.name}-partition-{number}")
        if numbers:
            log.info("group.assigned", group=self._group, partitions=numbers)
            self._count("kite_consumer_rebalances_total", len(numbers), change="assigned")

    async def closed(self, partitions: Iterable[int]) -> None:
        """Stop owning partitions, waiting a bounded time for what their owners are at."""
        numbers = sorted(set(partitions) & self._held.keys())
        # Said first: an owner that does not let go must not look like a member that has nothing to do.
        self._progress.revoked(numbers)
        await self._close(numbers)
        if numbers:
            log.info("group.revoked", group=self._group, partitions=numbers)
            self._count("kite_consumer_rebalances_total", len(numbers), change="revoked")

    async def _close(self, partitions: Sequence[int], release_s: float = _RELEASE_S) -> None:
        held = [self._held.pop(number) for number in partitions]
        for one in held:
            one.closing.set()
        tasks = {one.task for one in held if one.task is not None}
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=release_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, consumer: AIOKafkaConsumer, partition: int, held: _Held) -> None:
        """Let the owner work on the partition until it is taken away, again after every error."""
        failures = 0
        while not held.closing.is_set():
            feed = held.feed = Feed(consumer, self._ends, partition, held.closing)
            feed.pause(*self._topics)
            self._progress.begins(partition)
            try:
                self._check(consumer)
                await self._owner.own(partition, feed)
            except ConfigurationError as error:
                if self._fatal is not None and not self._fatal.done():
                    self._fatal.set_exception(error)
                return
            except Exception as error:  # noqa: BLE001 - whatever it is, the partition must go on
                self._report(partition, error)
                # A fenced owner must not take the partition back before a heartbeat has told it whose it is.
                delay_s = 2 * _HEARTBEAT_S if isinstance(error, ProducerFenced) else _RESTART_S[min(failures, len(_RESTART_S) - 1)]
                failures += 1
                await pause(delay_s, held.closing)
            finally:
                feed.dispose()

    def _check(self, consumer: AIOKafkaConsumer) -> None:
        """What made us a member is known of the topics, too."""
        if self._partitions is not None:
            for topic in self._topics:
                check_partitions(topic, self._partitions, consumer.partitions_for_topic(topic))

    def _report(self, partition: int, error: Exception) -> None:
        known = isinstance(error, KafkaError | Unavailable | TimeoutError)
        log.warning(
            "group.owner_restarts", group=self._group, partition=partition, reason=type(error).__name__, problem=str(error),
            exc_info=None if known else error,
        )  # fmt: skip
        self._count("kite_consumer_restarts_total", 1, reason=type(error).__name__)
        self._progress.failed(partition, type(error).__name__)

    async def _observe(self, consumer: AIOKafkaConsumer) -> None:
        """Compare what is done with where the topics end."""
        feeds = {number: held.feed for number, held in self._held.items() if held.feed is not None}
        wanted = [TopicPartition(topic, number) for number in feeds for topic in self._topics]
        try:
            ends: dict[At, int] = await consumer.end_offsets(wanted) if wanted else {}
            # Without a position of its own a topic would be asked of the brokers.
            known = [one for one in wanted if one.topic in feeds[one.partition].handed or one.topic in feeds[one.partition].resumed]
            positions: dict[At, int] = {one: await consumer.position(one) for one in known}
        except KafkaError as error:
            self._progress.away(type(error).__name__)
            return
        self._progress.seen(feeds, self._topics, ends, positions, _written(consumer, known))

    def _count(self, name: str, amount: int, **labels: str) -> None:
        if self._metrics is not None:
            self._metrics.counter(name).labels(group=self._group, **labels).inc(amount)


def _written(consumer: AIOKafkaConsumer, reading: Iterable[TopicPartition]) -> dict[At, Written]:
    """What the last answers to reading told, as far as there were any."""
    assigned, found = consumer.assignment(), {}
    for one in reading:
        if one in assigned:
            told = consumer.last_stable_offset(one), consumer.highwater(one), consumer.last_poll_timestamp(one)
            if None not in told:
                found[one] = Written(*told)
    return found


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """The library's callbacks, by partition number."""

    def __init__(self, group: GroupConsumer, consumer: AIOKafkaConsumer) -> None:
        self._group, self._consumer = group, consumer

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._group.closed({one.partition for one in revoked})

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        assigned = list(assigned)
        if assigned:
            self._consumer.pause(*assigned)
        self._group.opened(self._consumer, {one.partition for one in assigned})


async def _watch_for_freeze(pulse: Pulse) -> None:
    """A process that was frozen for half a session may have been replaced without knowing it. Raises Frozen."""
    pulse.beat()
    while True:
        await asyncio.sleep(BEAT_S)
        if not pulse.is_regular:
            raise Frozen(f"the process stood still for {pulse.still_s - BEAT_S:.1f} s")
        pulse.beat()
