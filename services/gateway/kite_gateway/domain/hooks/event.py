"""The CloudEvent a hook stores (wire contract, 9.1): a client's own, completed, or one around what was sent. Draws no ids."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from kite_common.clock import rfc3339
from kite_common.events.summary import one_line
from kite_common.ids import EventId
from kite_gateway.domain.hooks import providers
from kite_gateway.domain.hooks.cloud_event import CloudEvent, holds_json
from kite_gateway.domain.hooks.content import JSON, BadContent, Payload, read_content
from kite_gateway.domain.hooks.providers import Delivery
from kite_gateway.domain.hooks.stored_headers import stored_headers

_BYTES: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class HookRequest:
    """A request that may deliver. Header names are lower case, values text of their bytes (Latin-1).

    `token` is the hook token that came with it, if any: no header that repeats it is stored.
    """

    slug: str
    head: Mapping[str, str]
    body: bytes
    verified: bool
    token: str | None = None


@dataclass(frozen=True, slots=True)
class HookEvent:
    """An event but for its id and time of receipt. `duplicate_key` names it among all of its endpoint, None = nothing does.

    `challenge` is set for Slack's question whether the URL is ours: it is answered, and is no event.
    """

    attributes: Mapping[str, Any]
    data: bytes | None
    kite: Mapping[str, Any]
    duplicate_key: str | None
    challenge: str | None = None

    def to_event(self, event_id: EventId, received_ms: int) -> bytes:
        """The stored CloudEvent: JSON bytes, without kiteseq. `data` is the exact text that was sent."""
        data = {} if self.data is None else {"data": orjson.Fragment(self.data)}
        own = {"id": event_id, "time": rfc3339(received_ms)}
        return orjson.dumps({"specversion": "1.0", **own, **self.attributes, **data, "kiteid": event_id, **self.kite})


def read_hook(request: HookRequest) -> HookEvent | BadContent:
    """The event a request stands for, or why it is none."""
    content = read_content(request.head.get("content-type"), request.body)
    if isinstance(content, BadContent):
        return content
    delivery = Delivery(request.slug, request.head, content.value if isinstance(content, Payload) else None)
    attributes = _client_attributes(content) if isinstance(content, CloudEvent) else _attributes(content, delivery)
    own_summary = attributes.pop("kitesummary", None)
    line = own_summary or providers.summary(delivery) or f"{attributes['type']} from {request.slug}"
    kite = {
        "kitesource": request.slug, "kiteverified": request.verified,
        "kiteoriginalheaders": stored_headers(request.head, request.token), "kitesummary": one_line(line),
    }  # fmt: skip
    data = _data_of(content)
    return HookEvent(attributes, data, kite, _duplicate_key(content, delivery, verified=request.verified), _challenge(delivery))


def _client_attributes(event: CloudEvent) -> dict[str, Any]:
    """The client's own; a summary that is no text, or says nothing, is none."""
    content_type = event.datacontenttype
    if content_type is None and event.data is not None:
        content_type = JSON
    elif content_type is None and event.data_base64 is not None and not holds_json(event.data_base64):
        # Without a content type a reader would take the bytes for JSON.
        content_type = _BYTES
    named = {
        "id": event.id, "source": event.source, "type": event.type, "time": event.time, "subject": event.subject,
        "dataschema": event.dataschema, "datacontenttype": content_type, "data_base64": event.data_base64,
    }  # fmt: skip
    extensions = {name: one for name, one in event.extensions.items() if name != "kitesummary" or (isinstance(one, str) and one.strip())}
    return {name: one for name, one in named.items() if one is not None} | extensions


def _attributes(payload: Payload, delivery: Delivery) -> dict[str, Any]:
    attributes = {"source": providers.event_source(delivery), "type": providers.event_type(delivery)}
    if payload.content_type is not None:
        attributes["datacontenttype"] = payload.content_type
    if payload.data_base64 is not None:
        attributes["data_base64"] = payload.data_base64
    return attributes


def _data_of(content: CloudEvent | Payload) -> bytes | None:
    if isinstance(content, Payload):
        return content.data
    return None if content.data is None else content.data.encode()


def _duplicate_key(content: CloudEvent | Payload, delivery: Delivery, *, verified: bool) -> str | None:
    """A digest of the endpoint and the provider's delivery id, else of a client's event; raw bodies are never compared (5.5)."""
    if isinstance(content, CloudEvent):
        # Its body is an envelope of the client's: only an id in a header can be the provider's.
        delivery = Delivery(delivery.slug, delivery.head, None)
    provided = providers.delivery_id(delivery, verified=verified)
    if provided is not None:
        return _digest(delivery.slug, "delivery", provided)
    return _digest(delivery.slug, "event", content.source, content.id) if isinstance(content, CloudEvent) else None


def _digest(*parts: str) -> str:
    # A prefix of its own, so that no Idempotency-Key names the same claim; a list, so that no two lists make the same text.
    return hashlib.sha256(b"hook\n" + orjson.dumps(parts)).hexdigest()[:32]


def _challenge(delivery: Delivery) -> str | None:
    is_asked = delivery.slug == "slack" and delivery.text("type") == "url_verification"
    return delivery.text("challenge") or None if is_asked else None
