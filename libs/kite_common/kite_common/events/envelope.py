"""CloudEvents 1.0 in structured JSON, as stored and as read. Keeps the original bytes; of payloads it knows whom a message is for.

What the log holds is the finished CloudEvent without `kiteseq`; readers add that one attribute with `with_kiteseq`, so every
reader sees the same bytes (wire contract, 9.1).
"""

from dataclasses import dataclass
from typing import Any, Final

import orjson

from kite_common.errors import Malformed
from kite_common.events.agent_message import TYPE as AGENT_MESSAGE

CONTENT_TYPE: Final = "application/cloudevents+json; charset=utf-8"
CONTENT_TYPE_HEADER: Final = ("content-type", CONTENT_TYPE.encode())
TRACE_HEADER: Final = "traceparent"


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as read from the log: the attributes readers route by, and the bytes they pass on.

    `recipient` is the `to` of an agent message, None for everything else: messages to one recipient keep their order.
    """

    event_id: str
    type: str
    source: str
    time: str
    body: bytes
    recipient: str | None = None


def with_kiteseq(stored: bytes, seq: int) -> bytes:
    """The CloudEvent with its `kiteseq`, by splicing: equal input gives equal bytes, nothing is parsed.

    Raises Malformed if `stored` does not end like a JSON object with members.
    """
    if not stored.endswith(b"}") or len(stored) < 3:
        raise Malformed("a stored event must be a JSON object")
    return b'%b,"kiteseq":%d}' % (stored[:-1], seq)


def read_stored(stored: bytes, seq: int) -> StoredEvent:
    """Parse a stored event and add its kiteseq. Raises Malformed for anything but a CloudEvent of Kite's."""
    try:
        attributes: Any = orjson.loads(stored)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"event: not JSON: {error}") from None
    if not isinstance(attributes, dict):
        raise Malformed("event: not a JSON object")
    values = [attributes.get(name) for name in ("kiteid", "type", "source", "time")]
    if not all(isinstance(value, str) and value for value in values):
        raise Malformed("event: kiteid, type, source and time must be non-empty strings")
    event_id, event_type, source, time = map(str, values)
    return StoredEvent(event_id, event_type, source, time, with_kiteseq(stored, seq), _recipient(attributes))


def recipient_of(event: bytes) -> str | None:
    """The `to` of an agent message as it is sent; None for every other event, and for bytes nobody can read."""
    try:
        attributes: Any = orjson.loads(event)
    except orjson.JSONDecodeError:
        return None
    return _recipient(attributes) if isinstance(attributes, dict) else None


def _recipient(attributes: dict[str, Any]) -> str | None:
    data = attributes.get("data")
    to = data.get("to") if attributes.get("type") == AGENT_MESSAGE and isinstance(data, dict) else None
    return to if isinstance(to, str) else None
