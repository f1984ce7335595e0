"""Bad records -> kite.dead-letters: reason, position and original bytes, acknowledged before the archive goes on. Judges nothing."""

from collections.abc import Sequence
from typing import Final, Protocol

from kite_common.clock import Clock
from kite_common.errors import OutcomeOpen, Unavailable
from kite_common.events.codec import Record, encode
from kite_common.events.deliveries import DeadLetter
from kite_common.runtime.observe import Metrics, get_logger
from kite_replay.domain.rows import BadRecord

log = get_logger("kite.replay.quarantine")

_SERVICE: Final = "replay"


class Publishes(Protocol):
    """`kite_common.stream.publisher.Publisher` on the dead letter topic."""

    async def publish(self, partition: int, records: Sequence[Record]) -> int:
        """Append records side by side; the offset of the first once all replicas in sync have them."""
        ...


class DeadLetters:
    """The Quarantine port over the dead letter topic: same partition as the record had."""

    def __init__(self, publisher: Publishes, clock: Clock, metrics: Metrics) -> None:
        self._publisher, self._clock, self._metrics = publisher, clock, metrics

    async def put(self, records: Sequence[BadRecord]) -> None:
        """One dead letter each, one publish each, since originals may be large. Raises Unavailable; some may be written then."""
        for bad in records:
            record = bad.record
            try:
                await self._publisher.publish(record.partition, [encode(dead_letter(bad, self._clock.unix_ms()))])
            except OutcomeOpen as error:
                # Whether it was written does not matter: the record is read again, and a dead letter may stand twice.
                raise Unavailable("the dead letter may not be written") from error
            self._metrics.counter("kite_dead_letters_total").labels(service=_SERVICE).inc()
            log.error("record.quarantined", reason=bad.reason, topic=record.topic, partition=record.partition, offset=record.offset)


def dead_letter(bad: BadRecord, at_ms: int) -> DeadLetter:
    """The dead letter of a record."""
    one = bad.record
    return DeadLetter.of(_SERVICE, bad.reason, (one.topic, one.partition, one.offset), at_ms, one.key, one.value, one.headers)
