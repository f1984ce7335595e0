"""Send a team's webhook config one signed test event. Charges nothing, and stores nothing in the team's stream. Knows no HTTP."""

from dataclasses import dataclass
from typing import Final

from kite_common.clock import Clock
from kite_common.events.deliveries import DeliveryOrdered
from kite_common.ids import TeamId
from kite_gateway.application.ports import DeliveryCommands, Ids, WebhookConfigs
from kite_gateway.domain.webhook_test import order_of_test

# From the request to the hand-over of the order: nobody waits for a test that is older.
_HAND_OVER_MS: Final = 5_000


@dataclass(frozen=True, slots=True)
class SendTestEvent:
    """The use case; one object serves all requests."""

    configs: WebhookConfigs
    commands: DeliveryCommands
    clock: Clock
    ids: Ids

    async def __call__(self, team_id: TeamId, traceparent: str) -> DeliveryOrdered | None:
        """The order, durable on return; None if there is no active config. Raises Unavailable, OutcomeOpen: a repeat is another test."""
        now_ms = self.clock.unix_ms()
        config = await self.configs.current(team_id)
        if config is None or not config.active:
            return None
        order = order_of_test(self.ids.event_id(now_ms), config, await self.commands.place_now(team_id), traceparent, now_ms)
        await self.commands.give(order, not_after_ms=now_ms + _HAND_OVER_MS)
        return order
