"""The body of a hook, by its Content-Type (wire contract, 5.6): a client's CloudEvent, or what becomes the `data` of one."""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

from kite_common.errors import Malformed
from kite_gateway.domain.hooks.cloud_event import CloudEvent, read_cloud_event
from kite_gateway.domain.hooks.form import read_fields
from kite_gateway.domain.hooks.media import is_json, media_type
from kite_gateway.domain.json_value import read_json

JSON: Final = "application/json"
_STRUCTURED: Final = "application/cloudevents+json"
_BATCH: Final = "application/cloudevents-batch+json"
_FORM: Final = "application/x-www-form-urlencoded"
# All controls but tab, line feed and carriage return.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Payload:
    """What becomes an event's `data`. `value` is it as JSON values, None if it is no JSON; `data` its exact JSON text, None = no data.

    `data_base64` is set instead for bytes that are no text. `content_type` None = none, because there is no data.
    """

    value: Any = None
    data: bytes | None = None
    data_base64: str | None = None
    content_type: str | None = None


@dataclass(frozen=True, slots=True)
class BadContent:
    """The body cannot become an event: a public error code, and prose that quotes nothing of it."""

    code: Literal["invalid_json", "unsupported_media_type", "reserved_type"]
    message: str


Content = CloudEvent | Payload


def read_content(content_type: str | None, body: bytes) -> Content | BadContent:
    """What the body is. Only JSON that was declared and is none, and what is not taken at all, is refused: anything else is delivered."""
    media = media_type(content_type or "")
    if media == _BATCH:
        return BadContent("unsupported_media_type", "Batches of CloudEvents are not supported: send one event a request.")
    if media == _FORM:
        return _form(body)
    is_declared = is_json(media)
    if not is_declared and media:
        return _other(body)
    try:
        value = read_json(body)
    except Malformed as error:
        return BadContent("invalid_json", str(error)) if is_declared else _other(body)
    return _structured(value, body) if media == _STRUCTURED else _json(value, body)


def _structured(value: Any, body: bytes) -> Content | BadContent:
    event = read_cloud_event(value, body)
    if event is None:
        return _json(value, body)
    return BadContent("reserved_type", "Events of this type only come from Kite itself.") if event.is_reserved else event


def _json(value: Any, text: bytes) -> Payload:
    return Payload(value, text.strip(), content_type=JSON)


def _form(body: bytes) -> Payload:
    """A single field `payload` that holds JSON is that JSON; else the fields are an object of texts, of lists where a name repeats."""
    fields = read_fields(body)
    if fields is None:
        return _other(body)
    if fields.keys() == {"payload"} and len(fields["payload"]) == 1:
        text = fields["payload"][0].encode()
        try:
            return _json(read_json(text), text)
        except Malformed:
            pass
    plain = _plain(fields)
    return _json(plain, orjson.dumps(plain))


def _plain(fields: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    return {name: values[0] if len(values) == 1 else list(values) for name, values in fields.items()}


def _other(body: bytes) -> Payload:
    if not body:
        return Payload()
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = None
    if text is None or _CONTROL.search(text):
        return Payload(data_base64=base64.b64encode(body).decode(), content_type="application/octet-stream")
    return Payload(data=orjson.dumps(text), content_type="text/plain")
