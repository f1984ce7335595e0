"""Binds the retry tiers to delivery: waits until the head of a tier may go, then moves it on. No rules; see retry_topics."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from kite_common.clock import Clock
from kite_common.errors import Malformed
from kite_common.events.codec import decode_as
from kite_common.events.deliveries import DeadLetter, DeliveryParked
from kite_common.stream.group import Feed, Input
from kite_delivery.adapters.endpoints import TableEndpoints
from kite_delivery.adapters.partition_loop import LoopTimes, refreshed, run_partition
from kite_delivery.adapters.recently import Recently
from kite_delivery.adapters.start_position import holds_old_records
from kite_delivery.application.partition_work import PartitionWork
from kite_delivery.application.ports import DeliveryLog
from kite_delivery.domain import facts
from kite_delivery.domain.tiers import must_park_again

_BATCH: Final = 100
_POLL_S: Final = 1.0
# A head that may go within this time is held; for a longer one everything read is dropped and read again then.
_HOLD_MS: Final = 500
# The wall clock may be set while we sleep: look at it now and then.
_LONGEST_NAP_S: Final = 30.0
# Of each tier and partition. A write that was repeated because its answer got lost stands close to the first.
_REMEMBERED: Final = 2_048


class RetriesOwner:
    """Owns partitions of all tiers for the group kite-delivery-retries. `topics[n]` holds for `delays_ms[n]`."""

    def __init__(
        self, endpoints: TableEndpoints, new_work: Callable[[], PartitionWork], log: DeliveryLog, clock: Clock, times: LoopTimes,
        *, topics: Sequence[str], delays_ms: Sequence[int],
    ) -> None:  # fmt: skip
        self._endpoints, self._new_work, self._log, self._clock, self._times = endpoints, new_work, log, clock, times
        self._topics, self._delays_ms = topics, delays_ms

    async def own(self, partition: int, feed: Feed) -> None:
        """Bring back the partition's parked deliveries until the feed closes."""
        works = {topic: self._new_work() for topic in self._topics}
        async with self._endpoints.owned(partition):
            await run_partition(feed, works, partial(self._read_all, feed, works), holds_old_records(self._clock), self._times)

    async def _read_all(self, feed: Feed, works: dict[str, PartitionWork]) -> None:
        async with asyncio.TaskGroup() as tiers:
            for topic, delay_ms in zip(self._topics, self._delays_ms, strict=True):
                tiers.create_task(self._read(topic, delay_ms, feed, works[topic]))

    async def _read(self, topic: str, delay_ms: int, feed: Feed, work: PartitionWork) -> None:
        seen = Recently(_REMEMBERED)
        while not feed.closing.is_set():
            inputs = await feed.batch(topic, max_records=_BATCH, timeout_s=_POLL_S)
            if not inputs or not await refreshed(self._endpoints, feed.partition, feed):
                continue
            for one in inputs:
                if self._wait_ms(one, delay_ms) > _HOLD_MS:
                    # What ended before the head is not kept back until the head may go, which may be hours.
                    work.flush()
                    await self._sleep_until_head_may_go(one, delay_ms, feed)
                    break
                await asyncio.sleep(max(0, self._wait_ms(one, delay_ms)) / 1000)
                await self._take(one, work, seen)
            work.flush()

    async def _sleep_until_head_may_go(self, head: Input, delay_ms: int, feed: Feed) -> None:
        """Hold nothing meanwhile: read the head again when its time has come."""
        feed.seek(head.topic, head.offset)
        feed.pause(head.topic)
        while (wait_ms := self._wait_ms(head, delay_ms)) > 0:  # noqa: ASYNC110 - for a time, not for an event
            feed.sleep(head.topic, wait_ms / 1000)
            await asyncio.sleep(min(wait_ms / 1000, _LONGEST_NAP_S))
        feed.resume(head.topic)

    def _wait_ms(self, one: Input, delay_ms: int) -> int:
        return one.timestamp_ms + delay_ms - self._clock.unix_ms()

    async def _take(self, one: Input, work: PartitionWork, seen: Recently) -> None:
        await work.begin(one.offset)
        try:
            fact = decode_as(DeliveryParked, one.value)
        except Malformed as error:
            place = (one.topic, one.partition, one.offset)
            letter = DeadLetter.of("delivery", str(error), place, self._clock.unix_ms(), one.key, one.value, one.headers)
            return work.run(one.offset, partial(self._log.bury, one.partition, letter))
        # Parked twice is one schedule: two would go on side by side to the end, and a receiver would hear everything twice.
        if fact.parking is not None and not seen.add(fact.parking):
            return work.finish(one.offset)
        now_ms, delivery = self._clock.unix_ms(), facts.unparked(fact, one.partition)
        if delivery.held:
            await work.accept(one.offset, delivery)
        elif must_park_again(delivery.due_ms, now_ms, self._delays_ms):
            await work.put_back(one.offset, delivery)
        elif delivery.due_ms > now_ms:
            await work.accept_after((delivery.due_ms - now_ms) / 1000, one.offset, delivery)
        else:
            await work.accept(one.offset, delivery)
        return None
