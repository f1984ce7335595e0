"""RetrySchedule over topics: parks a delivery in the tier for its time and brings it back. Computes no delay.

Why tiers with one fixed delay each, and not a topic sorted by due time: Kafka reads in the order of appending only. In a tier where
every record waits equally long, that order *is* the order of release, so a reader looks at the head alone, sleeps until the head may
go, and never has to search. Due times are arbitrary (jitter, Retry-After, ten different waits), so a delivery goes through several
tiers: into the largest one whose delay fits into the time that remains, out of it, into the next, until less than the smallest delay
remains; that rest is waited in memory. What follows from it:

- Nothing leaves too early: the sum of the delays never exceeds the time that remained.
- Nothing leaves late by more than the reading takes: the rest in memory ends at the due time itself. What is parked with less than the
  smallest delay to wait (only what found no place in its lane or in memory, or was put back by a stop) waits that smallest delay.
- Memory is bounded: whatever waits there is within one smallest delay of its time, and counts against the budget of what comes back and
  against its endpoint's share of it.
- What is held, because its endpoint is left alone (`domain/breaker.py`), does not wait for its due time but for its endpoint: it is
  parked once, for at most the rest it was told, and looks at the endpoint when it comes out.
- Nothing is lost by a kill: what waits in memory is not handled, so its position is not committed, and it is read again.
- A move costs one write of the delivery, whole. A wait of 24 h takes about 20 moves, one of 5 to 6 s a single one.

The head's age is measured from the log's append time, which never goes back within a partition, not from the clock of whoever parked.
"""

from collections.abc import Sequence

from kite_common.clock import Clock
from kite_common.events.codec import encode
from kite_common.events.deliveries import DeliveryParked
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.system import random_bits
from kite_delivery.adapters.durable import Publishes, publish_durably
from kite_delivery.domain.delivery import Delivery
from kite_delivery.domain.tiers import aside_until, tier_for


class RetryTopics:
    """Writes into tiers. `tiers[n]` is the topic that holds a delivery for `delays_ms[n]`; delays rise."""

    def __init__(
        self, tiers: Sequence[Publishes], delays_ms: Sequence[int], *, aside_most_ms: int, clock: Clock, metrics: Metrics
    ) -> None:
        self._tiers, self._delays_ms, self._aside_most_ms, self._clock = tiers, delays_ms, aside_most_ms, clock
        self._parked = metrics.counter("kite_delivery_parked_total")

    async def park(self, partition: int, parked: DeliveryParked, until_ms: int) -> None:
        """Keep it until about `until_ms`; waits as long as the log is away."""
        tier = tier_for(until_ms - self._clock.unix_ms(), self._delays_ms)
        once = parked.model_copy(update={"parking": f"{random_bits(64):016x}"})
        await publish_durably(self._tiers[tier], partition, [encode(once)])
        self._parked.labels(tier=str(tier + 1)).inc()

    def aside_until(self, delivery: Delivery, now_ms: int) -> int:
        """When a delivery that found no place in its lane should try again."""
        return aside_until(now_ms, delivery.appended_ms, self._delays_ms, self._aside_most_ms)
