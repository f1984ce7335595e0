"""Follows a compacted topic into memory: the newest value of every key. Writes nothing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Generic, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from kite_common.errors import Malformed
from kite_common.runtime.component import READY, Readiness
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.observe import get_logger
from kite_common.runtime.system import monotonic_s
from kite_common.stream.ends import Ends
from kite_common.stream.input import Input, input_of
from kite_common.stream.kafka import Kafka
from kite_common.stream.partitions import expect_partitions

log = get_logger("kite.stream.table")

ValueT = TypeVar("ValueT")
_POLL_MS: Final = 1_000
_RESTART_S: Final = 0.5
_REFRESH_S: Final = 5.0
# How long what was revoked may still open something in a process that is cut off; the brokers answer twice a second.
SILENT_AFTER_S: Final = 25.0


class Table(Generic[ValueT]):
    """Component: the newest value of every key of one topic.

    `decode` turns a record into its value; None removes the key. A record it raises Malformed for, such as one of a newer version, is
    logged and leaves the key as it was, or removes it if `unreadable_removes`: for values that open something, which may be taken back.
    `only` are the partitions followed from the start, None = all; `own` and `release` change them while it runs.
    `silent_after_s`: not ready once the brokers of a partition have not answered for that long: what is taken back meanwhile is not seen.
    """

    def __init__(
        self, kafka: Kafka, topic: str, partitions: int, decode: Callable[[Input], ValueT | None], only: Iterable[int] | None = None,
        metrics: Metrics | None = None, *, unreadable_removes: bool = False, silent_after_s: float = SILENT_AFTER_S,
    ) -> None:  # fmt: skip
        self.name, self._unreadable_removes, self._partitions = f"table-{topic}", unreadable_removes, partitions
        self._kafka, self._topic, self._decode, self._metrics = kafka, topic, decode, metrics
        self._wanted: set[int] = set(range(partitions) if only is None else only)
        self._values: dict[str, tuple[int, ValueT]] = {}
        # The next offset to read of each followed partition, and up to where it must have been read to count as loaded.
        self._positions: dict[int, int] = {}
        self._loaded: set[int] = set()
        # Let go while the consumer still reads them: what it says of them counts again only once it was told anew.
        self._stale: set[int] = set()
        self._ends = Ends(kafka, topic)
        self._rewired, self._moved = asyncio.Event(), asyncio.Condition()
        self._silent_after_s = silent_after_s
        # When the brokers last answered for each partition, as the client tells it, and when that was new here (monotonic).
        self._answered: dict[int, tuple[int | None, float]] = {}
        if metrics is not None:
            metrics.gauge("kite_table_silent_seconds").labels(topic=topic).set_function(lambda: self._silent()[0])

    def get(self, key: str) -> ValueT | None:
        """The newest value of a key, None if it has none."""
        held = self._values.get(key)
        return None if held is None else held[1]

    def items(self) -> Iterator[tuple[str, ValueT]]:
        """All keys with their values, as they are now."""
        return ((key, value) for key, (_, value) in list(self._values.items()))

    def readiness(self) -> Readiness:
        """Ready once every followed partition has been read to the end it had, and while the brokers of all of them answer."""
        if behind := sorted(self._wanted - self._loaded):
            more = f" and {len(behind) - 1} more" if len(behind) > 1 else ""
            return Readiness(ready=False, reason=f"partition {behind[0]}{more} is being read")
        silent_s, partition = self._silent()
        if silent_s > self._silent_after_s:
            reason = f"the brokers of partition {partition} have not answered for {self._silent_after_s:.0f} s"
            return Readiness(ready=False, reason=reason)
        return READY

    async def own(self, partition: int) -> None:
        """Follow a partition; returns once it has been read to its end, however long the brokers are away."""
        self._wanted.add(partition)
        self._rewired.set()
        async with self._moved:
            await self._moved.wait_for(lambda: partition in self._loaded or partition not in self._wanted)

    async def release(self, partition: int) -> None:
        """Stop following a partition and forget its keys."""
        self._wanted.discard(partition)
        self._forget(partition)
        self._rewired.set()

    async def refreshed(self, partition: int | None = None, timeout_s: float = _REFRESH_S) -> None:
        """Return once everything appended before the call can be seen, in one partition or in all that are followed.

        Raises Unavailable if the brokers are away, TimeoutError if reading takes longer than `timeout_s`.
        """
        async with asyncio.timeout(timeout_s):
            wanted = sorted(self._wanted) if partition is None else [partition]
            for number, end in (await self._ends.now(wanted)).items():
                await self._read_up_to(number, end)

    async def reached(self, partition: int, offset: int) -> None:
        """Return once the record at this offset can be seen."""
        await self._read_up_to(partition, offset + 1)

    async def run(self, stop: asyncio.Event) -> None:
        """Follow the topic until stopped; while the brokers are away, what is known stays.

        Raises ConfigurationError if the topic has another number of partitions.
        """
        reading = asyncio.create_task(self._follow_for_ever(), name=self.name)
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({reading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (reading, stopping):
                task.cancel()
            results = await asyncio.gather(reading, stopping, return_exceptions=True)
            await self._ends.close()
        if isinstance(results[0], Exception):
            raise results[0]

    async def _follow_for_ever(self) -> None:
        while True:
            try:
                async with self._consumer() as consumer:
                    await self._follow(consumer)
            except KafkaError as error:
                log.warning("table.waiting", topic=self._topic, reason=type(error).__name__)
                await asyncio.sleep(_RESTART_S)

    @contextlib.asynccontextmanager
    async def _consumer(self) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = self._kafka.consumer(fetch_max_wait_ms=500)
        try:
            await consumer.start()
            await expect_partitions(consumer._client, self._topic, self._partitions)
            yield consumer
        finally:
            await consumer.stop()

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        """Read what is followed, until a broker error; whenever that changes, the consumer is told anew."""
        while True:
            self._rewired.clear()
            self._stale.clear()
            followed = [TopicPartition(self._topic, number) for number in sorted(self._wanted)]
            if not followed:
                if consumer.assignment():
                    consumer.unsubscribe()
                await self._rewired.wait()
                continue
            consumer.assign(followed)
            for one in followed:
                if one.partition in self._positions:
                    consumer.seek(one, self._positions[one.partition])
            await self._read(consumer, followed)

    async def _read(self, consumer: AIOKafkaConsumer, followed: Sequence[TopicPartition]) -> None:
        """Read until what is followed changes."""
        ends = await consumer.end_offsets(followed)
        self._hear(consumer, followed)
        rewired = asyncio.create_task(self._rewired.wait())
        try:
            while not rewired.done():
                await self._mark_loaded(consumer, {one.partition: end for one, end in ends.items()})
                polling = asyncio.create_task(consumer.getmany(timeout_ms=_POLL_MS))
                await asyncio.wait({polling, rewired}, return_when=asyncio.FIRST_COMPLETED)
                if not polling.done():
                    polling.cancel()
                    await asyncio.wait({polling})
                    break
                self._apply(polling.result())
                self._hear(consumer, followed)
                await self._advance(consumer, followed)
        finally:
            rewired.cancel()

    def _apply(self, batches: dict[TopicPartition, list[Any]]) -> None:
        for one, records in batches.items():
            if not self._counts(one.partition):
                continue
            for record in records:
                self._take(one.partition, input_of(record))
        if self._metrics is not None:
            self._metrics.gauge("kite_table_keys").labels(topic=self._topic).set(len(self._values))

    def _take(self, partition: int, record: Input) -> None:
        if record.key is None:
            return
        key = record.key.decode("utf-8", "replace")
        try:
            value = self._decode(record)
        except Malformed as error:
            log.error(  # noqa: TRY400 - a stack tells nothing that the problem does not
                "table.record_unreadable", topic=self._topic, partition=partition, offset=record.offset, problem=str(error)
            )
            if not self._unreadable_removes:
                return
            value = None
        if value is None:
            self._values.pop(key, None)
        else:
            self._values[key] = (partition, value)

    def _hear(self, consumer: AIOKafkaConsumer, followed: Sequence[TopicPartition]) -> None:
        """An empty poll may have met nobody: the client repeats what fails. It tells when each partition was last answered for."""
        now = monotonic_s()
        for one in followed:
            if not self._counts(one.partition):
                continue
            told, known = consumer.last_poll_timestamp(one), self._answered.get(one.partition)
            if known is None or told not in (None, known[0]):
                self._answered[one.partition] = told, now

    def _silent(self) -> tuple[float, int]:
        """For how many seconds the brokers have not answered, and for which partition: of all that are followed, the worst."""
        heard = [(self._answered[number][1], number) for number in self._wanted if number in self._answered]
        if not heard:
            return 0.0, -1
        at_s, number = min(heard)
        return monotonic_s() - at_s, number

    async def _advance(self, consumer: AIOKafkaConsumer, followed: Sequence[TopicPartition]) -> None:
        """Take over how far the consumer is: compaction leaves gaps, so the last record's offset does not tell."""
        for one in followed:
            if self._counts(one.partition):
                with contextlib.suppress(IllegalStateError):
                    self._positions[one.partition] = await consumer.position(one)
        async with self._moved:
            self._moved.notify_all()

    async def _mark_loaded(self, consumer: AIOKafkaConsumer, ends: dict[int, int]) -> None:
        if all(number in self._loaded for number in ends):
            return
        await self._advance(consumer, [TopicPartition(self._topic, number) for number in ends])
        self._loaded |= {number for number, end in ends.items() if self._counts(number) and self._positions.get(number, -1) >= end}
        async with self._moved:
            self._moved.notify_all()

    async def _read_up_to(self, partition: int, offset: int) -> None:
        async with self._moved:
            await self._moved.wait_for(lambda: self._positions.get(partition, -1) >= offset)

    def _counts(self, partition: int) -> bool:
        return partition in self._wanted and partition not in self._stale

    def _forget(self, partition: int) -> None:
        self._stale.add(partition)
        for key in [key for key, (number, _) in self._values.items() if number == partition]:
            del self._values[key]
        self._positions.pop(partition, None)
        self._answered.pop(partition, None)
        self._loaded.discard(partition)
