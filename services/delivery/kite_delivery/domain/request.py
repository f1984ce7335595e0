"""The request of one attempt: url, headers, exact bytes. Sends nothing, resolves nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from kite_common import VERSION
from kite_common.crypto import SigningKey, sign_ed25519, sign_kite, sign_standard_webhook
from kite_common.events.envelope import CONTENT_TYPE
from kite_common.ids import batch_of
from kite_delivery.domain.delivery import Delivery, Endpoint

BATCH_CONTENT_TYPE: Final = "application/cloudevents-batch+json; charset=utf-8"
USER_AGENT: Final = f"Kite-Webhooks/{VERSION}"
_HEADER_LIMIT: Final = 256
# All visible ASCII stays as it is, but for the percent sign, which would make the encoding ambiguous.
_PLAIN: Final = "!\"#$&'()*+,/:;<=>?@[\\]^`{|}~"


@dataclass(frozen=True, slots=True)
class OutboundRequest:
    """A POST, ready to be sent as it is."""

    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


def build(
    delivery: Delivery, endpoint: Endpoint, secrets: Sequence[str], now_ms: int, traceparent: str | None = None,
    *, keys: Sequence[SigningKey] = (),
) -> OutboundRequest:  # fmt: skip
    """The signed request of the delivery's next attempt (wire contract, 10.1; Standard Webhooks 1.0.0).

    `secrets` are those that live at `now_ms`, newest first, at least one. `keys` are the team's if the endpoint asks for `v1a`; their
    signatures stand before those of the secrets. The body is `delivery.body`, byte by byte.
    Raises Malformed if a `whsec_` secret is not base64, ValueError without a secret.
    """
    if not secrets:
        raise ValueError("an endpoint has at least one secret")
    timestamp_s, body = now_ms // 1000, delivery.body
    headers = [
        ("Content-Type", CONTENT_TYPE),
        ("webhook-id", delivery.event_id),
        ("webhook-timestamp", str(timestamp_s)),
        ("webhook-signature", _signatures(secrets, keys, delivery.event_id, timestamp_s, body)),
        ("X-Kite-Signature", sign_kite(secrets[0], body)),
        ("X-Kite-Event-Id", header_text(delivery.event_id)),
        ("X-Kite-Event-Type", header_text(delivery.event_type)),
        ("X-Kite-Team-Id", header_text(delivery.team_id)),
        ("X-Kite-Delivery-Attempt", str(delivery.attempt)),
        ("User-Agent", USER_AGENT),
    ]
    if traceparent is not None:
        headers.append(("traceparent", traceparent))
    return OutboundRequest(endpoint.url, tuple(headers), body)


def build_batch(
    deliveries: Sequence[Delivery], endpoint: Endpoint, secrets: Sequence[str], now_ms: int, *, keys: Sequence[SigningKey] = ()
) -> OutboundRequest:
    """One signed request for several events, a CloudEvents batch of their exact bytes. Raises as `build`; of no events ValueError.

    Its id is that of its only event, else derived from theirs: the same events in the same order have the same id.
    """
    if not secrets or not deliveries:
        raise ValueError("a batch has at least one event, an endpoint at least one secret")
    timestamp_s, body = now_ms // 1000, b"[" + b",".join(delivery.body for delivery in deliveries) + b"]"
    batch_id = batch_of([delivery.event_id for delivery in deliveries])
    headers = (
        ("Content-Type", BATCH_CONTENT_TYPE),
        ("webhook-id", batch_id),
        ("webhook-timestamp", str(timestamp_s)),
        ("webhook-signature", _signatures(secrets, keys, batch_id, timestamp_s, body)),
        ("X-Kite-Signature", sign_kite(secrets[0], body)),
        ("X-Kite-Team-Id", header_text(deliveries[0].team_id)),
        ("X-Kite-Delivery-Attempt", "1"),
        ("X-Kite-Batch-Size", str(len(deliveries))),
        ("User-Agent", USER_AGENT),
    )
    return OutboundRequest(endpoint.url, headers, body)


def _signatures(secrets: Sequence[str], keys: Sequence[SigningKey], webhook_id: str, timestamp_s: int, body: bytes) -> str:
    signed = sign_standard_webhook(secrets, webhook_id, timestamp_s, body)
    return sign_ed25519(keys, webhook_id, timestamp_s, body) + " " + signed if keys else signed


def header_text(text: str) -> str:
    """`text` as a legal header value: percent-encoded UTF-8 where it is not visible ASCII, at most 256 characters.

    A cut never leaves half of an encoded byte.
    """
    encoded = quote(text, safe=_PLAIN)
    if len(encoded) <= _HEADER_LIMIT:
        return encoded
    cut = encoded[:_HEADER_LIMIT]
    torn = cut.rfind("%", _HEADER_LIMIT - 2)
    return cut if torn < 0 else cut[:torn]
