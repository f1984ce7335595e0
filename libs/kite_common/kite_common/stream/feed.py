"""What the owner of a partition reads from: the same partition number of all topics of a group. Decides nothing."""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from kite_common.errors import KiteError, Unavailable
from kite_common.runtime.system import monotonic_s
from kite_common.stream.ends import Ends
from kite_common.stream.input import Input, input_of


class LogTruncated(KiteError):
    """A topic is shorter than what was read of it before. Reading on would repeat what it still holds, as if it were new."""


class Feed:
    """One partition while this process owns it. All topics are paused until `resume`.

    `closing` gets set when the partition is to be given away; `batch` then returns nothing at once, and the owner has some three seconds to
    finish what it had begun.
    """

    def __init__(self, consumer: AIOKafkaConsumer, ends: Mapping[str, Ends], partition: int, closing: asyncio.Event) -> None:
        """`ends` has the topics to read, each with where to ask for its ends."""
        self.partition, self.closing = partition, closing
        self._consumer, self._ends = consumer, ends
        self._at = {topic: TopicPartition(topic, partition) for topic in ends}
        # Next offsets: of what was handed out, and of what is done as far as the owner has said.
        self.handed: dict[str, int] = {}
        self.done: dict[str, int] = {}
        self.resumed: set[str] = set()
        # Topics that are paused because what comes next is not due yet, and when it is (monotonic); whether anything was read yet.
        self.asleep: dict[str, float] = {}
        self.begun = False
        self._closed = asyncio.create_task(closing.wait())

    async def batch(
        self, *topics: str, max_records: int = 500, timeout_s: float = 0.2, woken: asyncio.Event | None = None
    ) -> Sequence[Input]:
        """The next records of these topics, each topic in order; empty if none come within the time or the feed is closing.

        While `woken` is set it waits for nothing: what has been fetched already is returned.

        Raises Unavailable if they cannot be read, LogTruncated if the client library fell back to the beginning of a shorter log.
        """
        wanted = [self._at[topic] for topic in topics]
        timeout_ms = 0 if woken is not None and woken.is_set() else round(timeout_s * 1000)
        reading = asyncio.ensure_future(self._consumer.getmany(*wanted, timeout_ms=timeout_ms, max_records=max_records))
        # With a timeout of zero it returns by itself, and must not be cut short by what is set already.
        waking = asyncio.create_task(woken.wait()) if woken is not None and timeout_ms else None
        try:
            await asyncio.wait({reading, self._closed} | ({waking} if waking else set()), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if waking is not None:
                waking.cancel()
            # Cancelling is safe: the library takes records off its buffer in the step in which it returns them.
            if not reading.done() or self.closing.is_set():
                reading.cancel()
                await asyncio.wait({reading})
        if self.closing.is_set() or reading.cancelled():
            return ()
        try:
            batches = reading.result()
        except KafkaError as error:
            raise Unavailable(f"cannot read: {type(error).__name__}") from error
        for one, records in batches.items():
            expected = self.handed.get(one.topic, 0)
            if records[0].offset < expected:
                raise LogTruncated(f"{one.topic}-{one.partition} went back from {expected} to {records[0].offset}: brokers lost records")
            self.handed[one.topic] = records[-1].offset + 1
        return [input_of(record) for records in batches.values() for record in records]

    async def committed(self, topic: str) -> int | None:
        """The group's committed next offset, None if there is none. Raises Unavailable."""
        with _brokers():
            found: int | None = await self._consumer.committed(self._at[topic])
            return found

    async def commit(self, offsets: Mapping[str, int]) -> None:
        """Commit next offsets by topic. Raises Unavailable, also if the partition has another owner by now."""
        with _brokers():
            await self._consumer.commit({self._at[topic]: offset for topic, offset in offsets.items()})
        self.done.update(offsets)

    def seek(self, topic: str, offset: int) -> None:
        """Read on from this offset."""
        self.handed[topic] = offset
        self.done.setdefault(topic, offset)
        with _still_ours():
            self._consumer.seek(self._at[topic], offset)

    async def seek_to_beginning(self, topic: str) -> int:
        """Read on from the oldest record kept; its offset. Raises Unavailable."""
        with _brokers():
            offset: int = (await self._consumer.beginning_offsets([self._at[topic]]))[self._at[topic]]
        self.seek(topic, offset)
        return offset

    async def end_offset(self, topic: str) -> int:
        """The next offset readers of committed records will get to. Raises Unavailable."""
        return (await self._ends[topic].now([self.partition]))[self.partition]

    async def position(self, topic: str) -> int:
        """The next offset to be read; behind markers of transactions, which `handed` is not. Raises Unavailable."""
        with _brokers():
            position: int = await self._consumer.position(self._at[topic])
        return position

    def pause(self, *topics: str) -> None:
        """Read nothing of these topics. What they hold still waits: a pause that does not end is seen as standing still."""
        self.resumed.difference_update(topics)
        with _still_ours():
            self._consumer.pause(*(self._at[topic] for topic in topics))

    def sleep(self, topic: str, for_s: float) -> None:
        """As `pause`, but nothing is due for so long; to be said again whenever that changes."""
        self.asleep[topic] = monotonic_s() + for_s
        self.pause(topic)

    def resume(self, *topics: str) -> None:
        """Read these topics."""
        self.begun = True
        self.resumed.update(topics)
        for topic in topics:
            self.asleep.pop(topic, None)
        with _still_ours():
            self._consumer.resume(*(self._at[topic] for topic in topics))

    def dispose(self) -> None:
        """End of use."""
        self._closed.cancel()


@contextlib.contextmanager
def _brokers() -> Iterator[None]:
    """Errors of the brokers made ours."""
    try:
        yield
    except IllegalStateError as error:
        raise Unavailable("the partition was taken away") from error
    except KafkaError as error:
        raise Unavailable(f"the log is away: {type(error).__name__}") from error


@contextlib.contextmanager
def _still_ours() -> Iterator[None]:
    """A partition that was just taken away cannot be moved in; its owner is about to be told."""
    with contextlib.suppress(IllegalStateError):
        yield
