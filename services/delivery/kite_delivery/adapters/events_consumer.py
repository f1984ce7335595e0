"""Binds kite.events to delivery: records to deliveries, in log order. No rules."""

from collections.abc import Callable
from functools import partial
from typing import Final

from kite_common.clock import Clock
from kite_common.errors import Malformed
from kite_common.events.codec import EVENT_RECORD, RECORD_HEADER
from kite_common.events.deliveries import DeadLetter
from kite_common.events.envelope import TRACE_HEADER, read_stored
from kite_common.ids import EventId, TeamId
from kite_common.log_position import kiteseq
from kite_common.stream.group import Feed, Input
from kite_common.topics import EVENTS
from kite_delivery.adapters.endpoints import TableEndpoints
from kite_delivery.adapters.partition_loop import LoopTimes, refreshed, run_partition
from kite_delivery.adapters.start_position import HasBegun
from kite_delivery.application.partition_work import PartitionWork
from kite_delivery.application.ports import DeliveryLog
from kite_delivery.domain.delivery import Delivery

_BATCH: Final = 500
_POLL_S: Final = 0.5


class EventsOwner:
    """Owns partitions of kite.events for the group kite-delivery."""

    def __init__(
        self, endpoints: TableEndpoints, new_work: Callable[[], PartitionWork], log: DeliveryLog, clock: Clock, times: LoopTimes,
        has_begun: HasBegun, *, topic: str = EVENTS.name,
    ) -> None:  # fmt: skip
        self._endpoints, self._new_work, self._log, self._clock, self._times = endpoints, new_work, log, clock, times
        self._has_begun, self._topic = has_begun, topic

    async def own(self, partition: int, feed: Feed) -> None:
        """Deliver the partition's events until the feed closes."""
        work = self._new_work()
        async with self._endpoints.owned(partition):
            await run_partition(feed, {self._topic: work}, partial(self._read, partition, feed, work), self._has_begun, self._times)

    async def _read(self, partition: int, feed: Feed, work: PartitionWork) -> None:
        while not feed.closing.is_set():
            inputs = await feed.batch(self._topic, max_records=_BATCH, timeout_s=_POLL_S)
            # What was answered before the newest of these was appended is visible after this.
            if inputs and await refreshed(self._endpoints, partition, feed):
                for one in inputs:
                    await self._take(one, work)
                work.flush()

    async def _take(self, one: Input, work: PartitionWork) -> None:
        await work.begin(one.offset)
        try:
            delivery = delivery_of_record(one)
        except Malformed as error:
            place = (one.topic, one.partition, one.offset)
            letter = DeadLetter.of("delivery", str(error), place, self._clock.unix_ms(), one.key, one.value, one.headers)
            work.run(one.offset, partial(self._log.bury, one.partition, letter))
            return
        if delivery is None:
            work.finish(one.offset)
        else:
            await work.accept(one.offset, delivery)


def delivery_of_record(one: Input) -> Delivery | None:
    """The delivery an event begins; None for a record of another kind. Raises Malformed for an event nobody can read."""
    headers = dict(one.headers)
    if headers.get(RECORD_HEADER) != EVENT_RECORD:
        return None
    if one.key is None or one.value is None:
        raise Malformed("event: key and value are required")
    seq = kiteseq(one.offset, one.partition)
    stored, trace = read_stored(one.value, seq), headers.get(TRACE_HEADER)
    return Delivery(
        partition=one.partition,
        team_id=_team_of(one.key),
        event_id=EventId(stored.event_id),
        event_type=stored.type,
        kiteseq=seq,
        body=stored.body,
        appended_ms=one.timestamp_ms,
        recipient=stored.recipient,
        traceparent=trace.decode("latin-1") if trace is not None else None,
    )


def _team_of(key: bytes) -> TeamId:
    try:
        return TeamId(key.decode())
    except UnicodeDecodeError:
        raise Malformed("event: the key is not a team id") from None
