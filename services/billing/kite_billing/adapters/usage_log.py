"""Reads charged usages back from kite.events, for a projection that has lost track of what is settled. Commits nothing, joins no group."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from kite_billing.adapters.consumer import is_usage, settled_of, usage_of
from kite_common.errors import Malformed, Unavailable
from kite_common.events.usage import UsageRecorded
from kite_common.projection.claims import AcceptedClaim, claims_of
from kite_common.projection.pending import Settled
from kite_common.stream.input import Input, input_of
from kite_common.stream.kafka import Kafka

_LOT: Final = 2_000
_POLL_MS: Final = 200
# A broker that answers nothing for this many polls is away.
_SILENT_POLLS: Final = 50


class KafkaUsageLog:
    """`kite_common.projection.keeper.UsageLog` up to what the group has committed: that much is in the accounts."""

    def __init__(self, kafka: Kafka, topic: str, group: str) -> None:
        self._kafka, self._topic, self._group = kafka, topic, group

    async def settled_since(self, partition: int, since_ms: int) -> AsyncGenerator[tuple[int, Sequence[Settled]], None]:
        """Usages appended at or after `since_ms`, in log order. Raises Unavailable."""
        async with aclosing(self._usages_since(partition, since_ms)) as lots:
            async for newest_ms, usages in lots:
                if usages:
                    yield newest_ms, [settled_of(usage) for usage in usages]

    async def claims_since(self, partition: int, since_ms: int) -> AsyncGenerator[Sequence[AcceptedClaim], None]:
        """Claims of usages appended at or after `since_ms`, in log order. Raises Unavailable."""
        async with aclosing(self._usages_since(partition, since_ms)) as lots:
            async for _, usages in lots:
                yield [claim for usage in usages for claim in claims_of(usage)]

    async def _usages_since(self, partition: int, since_ms: int) -> AsyncGenerator[tuple[int, Sequence[UsageRecorded]], None]:
        """Lots of records: the newest append time, and the usages among them."""
        at = TopicPartition(self._topic, partition)
        async with self._reading(at) as consumer, aclosing(_committed_since(consumer, at, max(0, since_ms))) as lots:
            async for inputs in lots:
                yield max(one.timestamp_ms for one in inputs), [usage for usage in map(_usage, inputs) if usage is not None]

    @asynccontextmanager
    async def _reading(self, at: TopicPartition) -> AsyncIterator[AIOKafkaConsumer]:
        # The group's name is only for asking what it has committed: a consumer with an assignment of its own joins nothing.
        consumer = self._kafka.consumer(group_id=self._group)
        try:
            await consumer.start()
            consumer.assign([at])
            yield consumer
        except KafkaError as error:
            raise Unavailable(f"the log of usages cannot be read: {type(error).__name__}") from error
        finally:
            await consumer.stop()


async def _committed_since(consumer: AIOKafkaConsumer, at: TopicPartition, since_ms: int) -> AsyncGenerator[list[Input], None]:
    end, begin = await consumer.committed(at), (await consumer.offsets_for_times({at: since_ms}))[at]
    if end is None or begin is None:
        return
    consumer.seek(at, begin.offset)
    silent = 0
    while await consumer.position(at) < end:
        records = (await consumer.getmany(at, timeout_ms=_POLL_MS, max_records=_LOT)).get(at, ())
        silent = 0 if records else silent + 1
        if silent > _SILENT_POLLS:
            raise Unavailable("the log of usages cannot be read to its committed end")
        if inputs := [input_of(record) for record in records if record.offset < end]:
            yield inputs


def _usage(one: Input) -> UsageRecorded | None:
    """The usage in a record; none if it was a dead letter for the accounts too."""
    if not is_usage(one):
        return None
    try:
        return usage_of(one)
    except Malformed:
        return None
