"""UsageLog over kite.events: the usage of a page that the wallet pays, alone in its batch. Returns after the acknowledgement."""

from collections.abc import Sequence
from typing import Final, Protocol

from kite_common.events.codec import Record, encode
from kite_common.events.usage import UsageRecorded
from kite_common.log_position import partition_of
from kite_replay.domain.charge import PageUsage, Reserved

# From the request to the hand-over of its record: far shorter than a lapse, so that nothing is appended whose money was freed.
_HAND_OVER_MS: Final = 5_000


class Publishes(Protocol):
    """What is needed of `kite_common.stream.publisher.Publisher`."""

    async def publish(self, partition: int, records: Sequence[Record], *, not_after_ms: int | None = None) -> int:
        """Append the records, none after `not_after_ms`. Raises Unavailable (nothing written), OutcomeOpen."""
        ...


class KafkaUsageLog:
    """The team's partition of kite.events."""

    def __init__(self, publisher: Publishes, partitions: int) -> None:
        self._publisher, self._partitions = publisher, partitions

    async def append(self, usage: PageUsage, reserved: Reserved) -> None:
        """Charge what is reserved. Raises Unavailable (nothing is in the log, now or later) or OutcomeOpen."""
        record = encode(UsageRecorded(
            team_id=usage.team_id, event_id=usage.usage_id, usage_kind="replay", quantity=usage.rows,
            price_atomic=reserved.amount_atomic, subscription_id=reserved.subscription_id, reserved_at=reserved.reserved_at_ms,
        ))  # fmt: skip
        partition = partition_of(record.key, self._partitions)
        await self._publisher.publish(partition, (record,), not_after_ms=usage.received_ms + _HAND_OVER_MS)
