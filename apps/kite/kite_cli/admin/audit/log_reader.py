"""Reads spans of partitions, committed records only, and asks where topics and groups end. Joins no group, commits nothing."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from kite_cli.admin.audit.bounds import Span
from kite_cli.admin.audit.records import LogRecord
from kite_common.errors import Unavailable
from kite_common.stream.kafka import Kafka

_BATCH: Final = 5_000
_POLL_MS: Final = 200
_SILENT_S: Final = 30.0
# Few large fetches; 16 MiB is what a process holds of one partition at a time.
_FETCH_BYTES: Final = 16 << 20
# How long brokers may wait at the end of a topic before they answer: the next stage waits for that answer.
_FETCH_WAIT_MS: Final = 20


class LogReader:
    """One consumer, used for one stage after the other. `async with`. Raises Unavailable if the brokers do not answer."""

    def __init__(self, bootstrap: str) -> None:
        self._kafka = Kafka(bootstrap, client_id="kitectl-audit")
        self._consumer: AIOKafkaConsumer = None
        # Questions go over a connection of their own: on a reading one the answer waits for the fetch before it.
        self._asking: AIOKafkaConsumer = None

    async def __aenter__(self) -> "LogReader":
        self._consumer = await self._started(
            max_partition_fetch_bytes=_FETCH_BYTES, fetch_max_bytes=4 * _FETCH_BYTES, fetch_max_wait_ms=_FETCH_WAIT_MS
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()
        if self._asking is not None:
            await self._asking.stop()

    async def ends(self, topics: Sequence[str], partitions: Sequence[int]) -> dict[tuple[str, int], int]:
        """The next offset readers of committed records get to."""
        found = await (await self._questions()).end_offsets(_places(topics, partitions))
        return {(one.topic, one.partition): end for one, end in found.items()}

    async def firsts(
        self, topics: Sequence[str], partitions: Sequence[int], since_ms: int | None = None
    ) -> dict[tuple[str, int], int]:
        """The oldest offset kept, or the first one appended at `since_ms` or later (the end, if there is none)."""
        places, asking = _places(topics, partitions), await self._questions()
        oldest = await asking.beginning_offsets(places)
        if since_ms is None:
            return {(one.topic, one.partition): offset for one, offset in oldest.items()}
        found = await asking.offsets_for_times(dict.fromkeys(places, since_ms))
        ends = await asking.end_offsets(places)
        return {
            (one.topic, one.partition): max(oldest[one], ends[one] if found[one] is None else found[one].offset) for one in places
        }  # fmt: skip

    def begin(self, spans: Mapping[str, Span], partition: int) -> None:
        """Read these topics of a partition from now on, and no others."""
        places = {topic: TopicPartition(topic, partition) for topic, span in spans.items() if span.size}
        self._consumer.assign(list(places.values()))
        for topic, place in places.items():
            self._consumer.seek(place, spans[topic].first)

    async def batches(self, topic: str, partition: int, span: Span) -> AsyncIterator[Sequence[LogRecord]]:
        """The span's records, some at a time, of a topic that `begin` has named."""
        if not span.size:
            return
        place, heard_at = TopicPartition(topic, partition), time.monotonic()
        while await self._consumer.position(place) < span.end:
            records: Sequence[Any] = (await self._consumer.getmany(place, timeout_ms=_POLL_MS, max_records=_BATCH)).get(place, ())
            if records:
                heard_at = time.monotonic()
                if records[-1].offset >= span.end:
                    records = [record for record in records if record.offset < span.end]
                yield records
            elif time.monotonic() - heard_at > _SILENT_S:
                raise Unavailable(f"{topic}-{partition} cannot be read to {span.end}")

    async def remaining(self, topic: str, partition: int, span: Span, most: int) -> int:
        """How many records a span has, markers of transactions left out; more than `most` are estimated by their offsets."""
        if span.size > most:
            return span.size
        self.begin({topic: span}, partition)
        return sum([len(batch) async for batch in self.batches(topic, partition, span)])

    async def committed(self, groups: Mapping[str, Sequence[str]]) -> dict[str, dict[tuple[str, int], int]]:
        """The next offsets the groups have committed, by group, for these topics."""
        admin = self._kafka.admin()
        try:
            await admin.start()
            found = {group: await admin.list_consumer_group_offsets(group) for group in groups}
        except KafkaError as error:
            raise Unavailable(f"Kafka does not tell positions: {type(error).__name__}") from error
        finally:
            await admin.close()
        return {
            group: {(one.topic, one.partition): at.offset for one, at in offsets.items() if one.topic in groups[group] and at.offset >= 0}
            for group, offsets in found.items()
        }  # fmt: skip

    async def _questions(self) -> AIOKafkaConsumer:
        if self._asking is None:
            self._asking = await self._started()
        return self._asking

    async def _started(self, **settings: int) -> AIOKafkaConsumer:
        consumer = self._kafka.consumer(**settings)
        try:
            await consumer.start()
        except KafkaError as error:
            await consumer.stop()
            raise Unavailable(f"Kafka does not answer: {type(error).__name__}") from error
        # The library cannot be stopped before its tasks have begun, which they have not if nothing is waited for in between.
        await asyncio.sleep(0)
        return consumer


def _places(topics: Sequence[str], partitions: Sequence[int]) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for topic in topics for number in partitions]
