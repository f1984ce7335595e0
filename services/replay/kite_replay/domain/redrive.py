"""Whether a delivery may be redriven, and the order that redrives it. Looks nothing up, knows no topic."""

from typing import Literal

from kite_common.events.deliveries import DeliveryOrdered
from kite_common.ids import DeliveryId, TeamId, WebhookConfigId, redrive_of
from kite_replay.domain.deliveries import OPEN, Delivery
from kite_replay.domain.query import FoundEvent

NotNow = Literal["delivery_in_progress", "webhook_config_not_found", "event_expired"]


def refusal(
    delivery: Delivery, config_id: WebhookConfigId | None, event: FoundEvent | None, oldest_readable_ms: int
) -> NotNow | None:
    """Why a delivery cannot be redriven at this moment, None if it can. `event` None: it is not kept; a test event never was."""
    if delivery.status in OPEN:
        return "delivery_in_progress"
    if config_id is None:
        return "webhook_config_not_found"
    if delivery.kiteseq is None or event is None or event.event_id != delivery.decided.event_id or event.created_ms < oldest_readable_ms:
        return "event_expired"
    return None


def order_of(team_id: TeamId, delivery: Delivery, config_id: WebhookConfigId, event: FoundEvent, now_ms: int) -> DeliveryOrdered:
    """The order of the delivery's next round. From the same facts its id is the same, so that the same round is never made twice."""
    redrives = delivery.redrives + 1
    return DeliveryOrdered(
        id=redrive_of(DeliveryId(delivery.key.delivery_id), redrives),
        team_id=team_id,
        delivery_id=delivery.key.delivery_id,
        event_id=delivery.decided.event_id,
        event_type=delivery.decided.event_type,
        kiteseq=delivery.key.kiteseq,
        webhook_config_id=config_id,
        attempts=delivery.attempt_count,
        redrives=redrives,
        requested_at=now_ms,
        body=event.body.decode(),
    )
