"""Binds kite.deliveries.commands to delivery: orders to deliver an event again, or a test event. No rules.

An order names its round by an id that every repeat of the request has, too (`kite_common.ids.redrive_of`), and an order whose id was
here before is passed over: so a request that is repeated because its answer got lost, or made twice at once, is one round. Remembered are
the last orders of the partition, those read before a restart included; they only need to reach as far back as the archive may lag behind
delivery, because whoever reads a round's beginning there orders the next round or none. Should one be forgotten, its event goes out twice
under one `webhook-id`.

A round is on record as pending before its attempt is made, or a reader might see it end before it began.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from kite_common.clock import Clock
from kite_common.errors import Malformed
from kite_common.events.codec import decode_as
from kite_common.events.deliveries import DeadLetter, DeliveryOrdered
from kite_common.stream.group import Feed, Input
from kite_common.topics import DELIVERY_COMMANDS
from kite_delivery.adapters.endpoints import TableEndpoints
from kite_delivery.adapters.partition_loop import LoopTimes, refreshed, run_partition
from kite_delivery.adapters.recently import Recently
from kite_delivery.adapters.start_position import holds_old_records
from kite_delivery.application.partition_work import PartitionWork
from kite_delivery.application.ports import DeliveryLog
from kite_delivery.domain import facts
from kite_delivery.domain.delivery import Delivery

_BATCH: Final = 100
_POLL_S: Final = 0.5
# Ids of orders remembered per partition, some hundred bytes each.
_REMEMBERED: Final = 8_192
# Orders read again after a restart, to remember them; they carry events, so not as many.
_READ_BACK: Final = 1_024

_Read = tuple[Input, Delivery | Malformed | None]


class CommandsOwner:
    """Owns partitions of kite.deliveries.commands for the group kite-delivery-commands."""

    def __init__(
        self, endpoints: TableEndpoints, new_work: Callable[[], PartitionWork], log: DeliveryLog, clock: Clock, times: LoopTimes,
        *, topic: str = DELIVERY_COMMANDS.name,
    ) -> None:  # fmt: skip
        self._endpoints, self._new_work, self._log, self._clock, self._times = endpoints, new_work, log, clock, times
        self._topic = topic

    async def own(self, partition: int, feed: Feed) -> None:
        """Carry out the partition's orders until the feed closes."""
        work = self._new_work()
        async with self._endpoints.owned(partition):
            await run_partition(feed, {self._topic: work}, partial(self._read, feed, work), holds_old_records(self._clock), self._times)

    async def _read(self, feed: Feed, work: PartitionWork) -> None:
        seen, first_new = Recently(_REMEMBERED), await self._step_back(feed)
        while not feed.closing.is_set():
            inputs = await feed.batch(self._topic, max_records=_BATCH, timeout_s=_POLL_S)
            # Whoever ordered saw an active config: so do we after this.
            if inputs and await refreshed(self._endpoints, feed.partition, feed):
                read = [(one, self._order(one, seen)) for one in inputs]
                await self._carry_out([(one, what) for one, what in read if one.offset >= first_new], work)
                work.flush()

    async def _step_back(self, feed: Feed) -> int:
        """Read on from a little before the position; the position, before which orders are only remembered."""
        position = feed.handed[self._topic]
        oldest = await feed.seek_to_beginning(self._topic)
        feed.seek(self._topic, max(oldest, position - _READ_BACK))
        return position

    def _order(self, one: Input, seen: Recently) -> Delivery | Malformed | None:
        """The delivery that is ordered, None for an order that was here before; Malformed, not raised, for what is none."""
        try:
            fact = decode_as(DeliveryOrdered, one.value)
        except Malformed as error:
            return error
        return facts.ordered(fact, one.partition, one.timestamp_ms) if seen.add(fact.id) else None

    async def _carry_out(self, read: Sequence[_Read], work: PartitionWork) -> None:
        now_ms, deliveries = self._clock.unix_ms(), [what for _, what in read if isinstance(what, Delivery)]
        if deliveries:
            await self._log.write(deliveries[0].partition, [facts.pending(delivery, now_ms) for delivery in deliveries])
        for one, what in read:
            await work.begin(one.offset)
            if isinstance(what, Delivery):
                await work.accept(one.offset, what)
            elif what is None:
                work.finish(one.offset)
            else:
                place = (one.topic, one.partition, one.offset)
                letter = DeadLetter.of("delivery", str(what), place, now_ms, one.key, one.value, one.headers)
                work.run(one.offset, partial(self._log.bury, one.partition, letter))
