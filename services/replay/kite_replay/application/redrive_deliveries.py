"""Have deliveries made once more: one, or those a filter selects. Changes nothing here; delivery carries the orders out. No HTTP words.

Orders carry the event's bytes out of the archive, so that what is redrivable is what can be read, and an order can be carried out whatever
becomes of the archive. A repeat gives the same orders (`domain/redrive.py`) until their round is on record; from then on the time of the
first request keeps it from being another round.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from kite_common.clock import Clock
from kite_common.errors import ApiError
from kite_common.events.deliveries import DeliveryOrdered
from kite_common.ids import DeliveryId, TeamId, WebhookConfigId
from kite_replay.application.archive_answers import archive_answers
from kite_replay.application.found_or_gone import found_or_gone
from kite_replay.application.ports import DeliveryOrders, DeliveryReader, WebhookConfigs
from kite_replay.application.read_deliveries import DeliveriesRequest, ReadDeliveries
from kite_replay.domain.deliveries import Delivery, DeliveryFilter
from kite_replay.domain.query import FoundEvent
from kite_replay.domain.redrive import order_of, refusal
from kite_replay.domain.retention import Retention

# Events read and ordered together: 8 MiB of the largest.
_AT_ONCE: Final = 32


@dataclass(frozen=True, slots=True)
class Redriven:
    """What became of a page of deliveries: how many were ordered, and how many cannot be, because their event is not kept any more."""

    ordered: int
    expired: int
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class RedriveDeliveries:
    """The two use cases. `lock` of one object: pages are ordered one after another, which bounds what they hold in memory."""

    read: ReadDeliveries
    reader: DeliveryReader
    configs: WebhookConfigs
    orders: DeliveryOrders
    retention: Retention
    clock: Clock
    lock: asyncio.Lock

    async def one(
        self, team_id: TeamId, scopes: tuple[str, ...], delivery_id: DeliveryId, updated_before_ms: int | None = None
    ) -> tuple[Delivery, bool]:
        """Order one delivery's next round, durably; the delivery as it was, and whether this ordered anything.

        Nothing is ordered if something is on record about the delivery since `updated_before_ms`: whoever repeats a request whose answer
        got lost, with the same time, gets one round, also if that has ended by then.

        Raises ApiError (`delivery_not_found`, `delivery_in_progress`, `webhook_config_not_found`, `event_expired`, `replay_unavailable`),
        Unavailable, OutcomeOpen: asking again does no harm.
        """
        delivery = await self.read.one(team_id, scopes, DeliveryFilter(delivery_id=delivery_id))
        if updated_before_ms is not None and delivery.updated_ms >= updated_before_ms:
            return delivery, False
        config_id = await self.configs.active(team_id)
        event = (await self._events(team_id, [delivery])).get(delivery.key.kiteseq)
        refused = refusal(delivery, config_id, event, self._oldest_ms())
        if refused is not None:
            raise ApiError(refused)
        await self.orders.give(self._orders(team_id, [delivery], config_id, {delivery.key.kiteseq: event}))
        return delivery, True

    async def page(self, request: DeliveriesRequest) -> Redriven:
        """Order the next round of a page of what the filter selects; those under way are passed over.

        Raises ApiError (`webhook_config_not_found`, `replay_unavailable`), Unavailable, OutcomeOpen: then some may be ordered, and asking
        for the same page again orders those and the rest once, if the filter has `updated_before_ms`: without it, those that have ended
        by then and have the wanted status again get another round.
        """
        config_id = await self.configs.active(request.team_id)
        if config_id is None:
            raise ApiError("webhook_config_not_found")
        async with self.lock:
            # Nothing may be passed over because it was not there yet: the next page begins behind it.
            page = await self.read(replace(request, whole_since_ms=self._oldest_ms()))
            ordered = expired = 0
            for first in range(0, len(page.deliveries), _AT_ONCE):
                some = page.deliveries[first : first + _AT_ONCE]
                events = await self._events(request.team_id, some)
                orders = self._orders(request.team_id, some, config_id, events)
                await self.orders.give(orders)
                ordered += len(orders)
                expired += sum(refusal(one, config_id, events.get(one.key.kiteseq), self._oldest_ms()) == "event_expired" for one in some)
        return Redriven(ordered, expired, page.next_cursor)

    async def _events(self, team_id: TeamId, deliveries: Sequence[Delivery]) -> Mapping[int, FoundEvent]:
        with archive_answers():
            return await found_or_gone(self.reader, partial(self.reader.events, team_id), deliveries, self._oldest_ms())

    def _orders(
        self, team_id: TeamId, deliveries: Sequence[Delivery], config_id: WebhookConfigId | None, events: Mapping[int, FoundEvent | None]
    ) -> list[DeliveryOrdered]:
        now_ms, orders = self.clock.unix_ms(), []
        for one in deliveries:
            event = events.get(one.key.kiteseq)
            if refusal(one, config_id, event, self._oldest_ms()) is None and config_id is not None and event is not None:
                orders.append(order_of(team_id, one, config_id, event, now_ms))
        return orders

    def _oldest_ms(self) -> int:
        return self.retention.oldest_readable_ms(self.clock.unix_ms())
