"""Appends what was decided on all that stands in the log before it: read, decide, append as one, over all processes that write this way.

A turn begins with a producer under the partition's one transactional id. That ends the open transaction of whoever had the turn before and
shuts that producer out, so what it has not committed by then is never committed. Hence: what is read inside a turn is everything, and what
is committed at its end follows that directly, however long the process stood still in between. Readers have to read committed records only.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import InvalidProducerEpoch, KafkaError, ProducerFenced

from kite_common.clock import Clock
from kite_common.errors import KiteError, OutcomeOpen, Unavailable
from kite_common.events.codec import Record
from kite_common.runtime.system import SystemClock
from kite_common.stream.kafka import Kafka, abandon

# How long a transaction that nobody ends keeps readers from what comes behind it; the next turn ends it at once.
_TRANSACTION_TIMEOUT_MS: Final = 10_000
_BEGIN_S: Final = 5.0
_APPEND_S: Final = 5.0
_ABORT_S: Final = 2.0
_FENCED: Final = (ProducerFenced, InvalidProducerEpoch)


class ShutOut(KiteError):
    """Somebody else has taken the turn: what was read may be old. Read and decide again."""


class Turn:
    """The right to append once, after everything that can be read now."""

    def __init__(self, producer: AIOKafkaProducer, topic: str, partition: int, clock: Clock) -> None:
        self._producer, self._topic, self._partition, self._clock = producer, topic, partition, clock

    async def append(self, record: Record, *, not_after_ms: int | None = None) -> int:
        """Append one record; its offset, once all replicas in sync have it and readers may see it.

        Raises Unavailable (surely not written, nor later; also after `not_after_ms` by the wall clock), OutcomeOpen, and ShutOut if
        somebody else has had the turn since: whether the record is there can then be read, and nothing changes that any more.
        """
        offset = await self._put(record)
        if not_after_ms is not None and self._clock.unix_ms() > not_after_ms:
            await self._abort()
            raise Unavailable("the write came too late")
        await self._commit()
        return offset

    async def _put(self, record: Record) -> int:
        try:
            async with asyncio.timeout(_APPEND_S):
                await self._producer.begin_transaction()
                sent = await self._producer.send_and_wait(
                    self._topic, record.value, record.key, self._partition, headers=list(record.headers)
                )
        except _FENCED as error:
            raise ShutOut("another writer came first") from error
        except (KafkaError, TimeoutError) as error:
            raise Unavailable("the log is away") from error
        return int(sent.offset)

    async def _commit(self) -> None:
        try:
            async with asyncio.timeout(_APPEND_S):
                await self._producer.commit_transaction()
        except _FENCED as error:
            raise ShutOut("another writer came first") from error
        except (KafkaError, TimeoutError) as error:
            raise OutcomeOpen("the log did not acknowledge the write") from error

    async def _abort(self) -> None:
        """For the readers' sake, who see nothing behind an open transaction; if it fails, the next turn or the timeout does it."""
        with contextlib.suppress(KafkaError, TimeoutError):
            async with asyncio.timeout(_ABORT_S):
                await self._producer.abort_transaction()


class ExclusiveWriter:
    """Turns at the partitions of one topic, one at a time in this process and among all that write to it this way."""

    def __init__(self, kafka: Kafka, topic: str, clock: Clock | None = None) -> None:
        self._kafka, self._topic, self._clock = kafka, topic, clock or SystemClock()
        self._locks: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    @asynccontextmanager
    async def turn(self, partition: int) -> AsyncIterator[Turn]:
        """Have the turn while inside. What is read inside, up to the log's end, nobody can change before `append`. Raises Unavailable."""
        async with self._locks[partition]:
            producer = self._kafka.producer(
                transactional_id=f"{self._topic}-{partition}", transaction_timeout_ms=_TRANSACTION_TIMEOUT_MS
            )
            try:
                await self._begin(producer)
                yield Turn(producer, self._topic, partition, self._clock)
            finally:
                await abandon(producer)
                _hear_out(producer)

    async def _begin(self, producer: AIOKafkaProducer) -> None:
        try:
            async with asyncio.timeout(_BEGIN_S):
                await producer.start()
        except (KafkaError, TimeoutError) as error:
            raise Unavailable("the log is away") from error


def _hear_out(producer: AIOKafkaProducer) -> None:
    """Take the error the library keeps for whoever would wait for the transaction's end, or it complains that nobody did."""
    ended: asyncio.Future[None] | None = producer._txn_manager.wait_for_transaction_end()
    if ended is not None and ended.done() and not ended.cancelled():
        ended.exception()
