"""DeliveryLog over Kafka: attempts and ends into kite.deliveries, dead letters into kite.dead-letters. Decides nothing."""

from collections.abc import Sequence
from typing import Final

from kite_common.events.codec import encode
from kite_common.events.deliveries import DeadLetter, DeliveryAttempted, DeliveryConcluded, DeliveryPending
from kite_common.runtime.metrics import Metrics
from kite_delivery.adapters.durable import Publishes, publish_durably

_REASONS: Final = frozenset({"attempts_exhausted", "endpoint_down", "gone", "blocked", "secret_unreadable"})


class KafkaDeliveryLog:
    """Writes go to the partition the event came from: all topics of a team are partitioned alike."""

    def __init__(self, deliveries: Publishes, dead_letters: Publishes, metrics: Metrics) -> None:
        self._deliveries, self._dead_letters = deliveries, dead_letters
        self._buried = metrics.counter("kite_delivery_dead_letters_total")

    async def write(self, partition: int, facts: Sequence[DeliveryAttempted | DeliveryConcluded | DeliveryPending]) -> None:
        """Append the facts; waits as long as the log is away."""
        await publish_durably(self._deliveries, partition, [encode(fact) for fact in facts])

    async def bury(self, partition: int, letter: DeadLetter) -> None:
        """Append a dead letter; waits as long as the log is away."""
        await publish_durably(self._dead_letters, partition, [encode(letter)])
        # Of a record nobody can read the reason is free text: one label for all of them.
        reason = letter.reason if letter.reason in _REASONS else "unreadable"
        self._buried.labels(reason=reason, fault=letter.fault or "ours").inc()
