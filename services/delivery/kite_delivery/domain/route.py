"""Where a delivery goes now: to its endpoint, or to one of the ends that need no attempt. Sends nothing."""

from dataclasses import dataclass
from typing import Literal

from kite_common.ids import WebhookConfigId
from kite_delivery.domain.delivery import Delivery, Endpoint
from kite_delivery.domain.event_filter import wants

# Dead without an attempt on record is a test whose target may not be dialled: its verdict is a yes or a no.
EndStatus = Literal["no_endpoint", "filtered", "cancelled", "blocked", "dead"]


@dataclass(frozen=True, slots=True)
class Send:
    """Make an attempt at this endpoint."""

    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class End:
    """The delivery is over without a further attempt. `config_id` and `url` name the endpoint it concerned, if any."""

    status: EndStatus
    reason: str
    config_id: WebhookConfigId | None = None
    url: str | None = None


Route = Send | End


def route(delivery: Delivery, endpoint: Endpoint | None) -> Route:
    """Decide by the config of this moment (wire contract, 10.2 to 10.4).

    A delivery that has met a config goes on with that config only: a new one after a DELETE is another endpoint.
    """
    return _first(delivery, endpoint) if delivery.config_id is None else _later(delivery, endpoint)


def _first(delivery: Delivery, endpoint: Endpoint | None) -> Route:
    if endpoint is None or delivery.appended_ms < endpoint.active_since_ms:
        return End("no_endpoint", "no_active_config")
    if not endpoint.active:
        if delivery.appended_ms < endpoint.changed_ms:
            return End("cancelled", "config_deactivated", endpoint.config_id, endpoint.url)
        return End("no_endpoint", "no_active_config")
    return _filtered(delivery, endpoint)


def _later(delivery: Delivery, endpoint: Endpoint | None) -> Route:
    if endpoint is None or endpoint.config_id != delivery.config_id:
        return End("cancelled", "config_deleted", delivery.config_id)
    if not endpoint.active:
        return End("cancelled", "config_deactivated", endpoint.config_id, endpoint.url)
    # Once attempted, a delivery stays promised: a filter that is set later does not call it back. What was asked for passes every filter.
    return Send(endpoint) if delivery.attempts or delivery.ordered else _filtered(delivery, endpoint)


def _filtered(delivery: Delivery, endpoint: Endpoint) -> Route:
    if not wants(endpoint.event_types, delivery.event_type):
        return End("filtered", "event_type_not_wanted", endpoint.config_id, endpoint.url)
    return Send(endpoint)
