"""`kite.webhook.test`: the event by which a team tries its webhook config out. In no stream: it has no kiteseq. Draws no id."""

from typing import Final

import orjson

from kite_common.clock import rfc3339
from kite_common.events.deliveries import DeliveryOrdered
from kite_common.events.webhooks import WebhookConfigured
from kite_common.ids import EventId, WebhookConfigId, delivery_of

TYPE: Final = "kite.webhook.test"
SOURCE: Final = "https://getkite.sh/webhooks"


def event_of_test(event_id: EventId, config: WebhookConfigured, at_ms: int) -> bytes:
    """The CloudEvent: JSON bytes."""
    return orjson.dumps({
        "specversion": "1.0",
        "id": event_id,
        "source": SOURCE,
        "type": TYPE,
        "time": rfc3339(at_ms),
        "datacontenttype": "application/json",
        "data": {"webhook_config_id": config.id},
        "kiteid": event_id,
        "kitesummary": f"{TYPE} from kite",
    })  # fmt: skip


def order_of_test(event_id: EventId, config: WebhookConfigured, place: int, traceparent: str, now_ms: int) -> DeliveryOrdered:
    """The order to deliver one test event to this config. `place` is the kiteseq the team's next event may have, for the order of lists."""
    delivery_id = delivery_of(event_id, WebhookConfigId(config.id))
    return DeliveryOrdered(
        id=delivery_id, team_id=config.team_id, delivery_id=delivery_id, event_id=event_id, event_type=TYPE, kiteseq=place,
        webhook_config_id=config.id, attempts=0, redrives=0, test=True, requested_at=now_ms, traceparent=traceparent,
        body=event_of_test(event_id, config, now_ms).decode(),
    )  # fmt: skip
