"""DeliveryOrders over kite.deliveries.commands, and WebhookConfigs over their followed topic. No rules."""

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from kite_common.errors import Unavailable
from kite_common.events.codec import Record, decode_as, encode
from kite_common.events.deliveries import DeliveryOrdered
from kite_common.events.webhooks import WebhookConfigured
from kite_common.ids import TeamId, WebhookConfigId
from kite_common.log_position import partition_of
from kite_common.runtime.component import Readiness
from kite_common.stream.input import Input

# Until what was written to the topic of configs before a request must be seen.
_SEEN_WITHIN_S: Final = 5.0


class Publishes(Protocol):
    """What is needed of `kite_common.stream.publisher.Publisher`."""

    async def publish(self, partition: int, records: Sequence[Record]) -> int:
        """Append the records together. Raises Unavailable (nothing written), OutcomeOpen."""
        ...


class FollowedConfigs(Protocol):
    """What is needed of `kite_common.stream.table.Table`."""

    def get(self, key: str) -> WebhookConfigured | None: ...
    def readiness(self) -> Readiness: ...
    async def refreshed(self, partition: int | None = None, timeout_s: float = ...) -> None: ...


class KafkaDeliveryOrders:
    """Each order is a record of its own: they carry events, which together may be more than the log takes at once."""

    def __init__(self, publisher: Publishes, partitions: int) -> None:
        self._publisher, self._partitions = publisher, partitions

    async def give(self, orders: Sequence[DeliveryOrdered]) -> None:
        """Durable on return. Raises Unavailable or OutcomeOpen: some may be in the log."""
        writes = [self._publisher.publish(partition_of(order.key.encode(), self._partitions), (encode(order),)) for order in orders]
        for outcome in await asyncio.gather(*writes, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome


class TableWebhookConfigs:
    """The configs of all teams in memory."""

    def __init__(self, table: FollowedConfigs, partitions: int) -> None:
        self._table, self._partitions = table, partitions

    async def active(self, team_id: TeamId) -> WebhookConfigId | None:
        """The active config, as far as anything was written before this call. Raises Unavailable."""
        if not self._table.readiness().ready:
            raise Unavailable("the webhook configs are not all known yet")
        try:
            await self._table.refreshed(partition_of(team_id.encode(), self._partitions), timeout_s=_SEEN_WITHIN_S)
        except TimeoutError as error:
            raise Unavailable("the webhook configs cannot be read now") from error
        config = self._table.get(team_id)
        return WebhookConfigId(config.id) if config is not None and config.active else None


def decode_config(record: Input) -> WebhookConfigured | None:
    """The config a record of the topic holds, None if it was removed. Raises Malformed."""
    return None if record.value is None else decode_as(WebhookConfigured, record.value)
