"""What counts as a CloudEvent in structured JSON: what every client of Kite can parse (wire contract, 9.2). Stores nothing."""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

from kite_common.errors import Malformed
from kite_gateway.domain.hooks.media import is_json, media_type
from kite_gateway.domain.json_value import read_json

# Types that say something in the name of an agent or of Kite (5.6).
_RESERVED: Final = re.compile(r"com\.kite\.agent\.message|kite\.(subscription|webhook)\..*", re.DOTALL)
# Kite's own attributes: what a client puts there counts for nothing (9.1).
_OURS: Final = frozenset({"kiteseq", "kiteid", "kitesource", "kiteverified", "kiteoriginalheaders"})
_FEDERATION: Final = "kitefed"
_CONTEXT: Final = frozenset({"specversion", "id", "source", "type", "time", "subject", "dataschema", "datacontenttype"})
# CloudEvents 1.0.2, "Naming conventions": anything else is refused by its libraries.
_EXTENSION_NAME: Final = re.compile(r"[a-z0-9]+")
_INT64: Final = range(-(1 << 63), 1 << 63)
_RFC3339: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.[0-9]+)?(?:[Zz]|[+-]([0-9]{2}):([0-9]{2}))"
)
_ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]+")
_WEB: Final = frozenset({"http", "https"})
_WEB_HOST: Final = re.compile(r"[A-Za-z0-9._-]+|[0-9a-f:.]+")
# Finds where a value ends without making anything of its numbers.
_SCANNER: Final = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str, strict=False)
_SPACE: Final = re.compile(r"[ \t\n\r]*")


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """A client's event. None = not sent. `data` is the exact JSON text; `extensions` are those that are kept."""

    id: str
    source: str
    type: str
    time: str | None = None
    subject: str | None = None
    dataschema: str | None = None
    datacontenttype: str | None = None
    data: str | None = None
    data_base64: str | None = None
    extensions: Mapping[str, str | bool | int] = field(default_factory=dict)

    @property
    def is_reserved(self) -> bool:
        """Whether its type may only come from Kite itself."""
        return _RESERVED.fullmatch(self.type) is not None


def read_cloud_event(value: Any, text: bytes) -> CloudEvent | None:
    """The event of a JSON value and its text, None if that is none by 9.2: null members are absent, Kite's own ones are left out."""
    if not isinstance(value, dict):
        return None
    members = {name: one for name, one in value.items() if one is not None and name not in _OURS and not name.startswith(_FEDERATION)}
    found = {name: members.pop(name) for name in ("data", "data_base64") if name in members}
    context = {name: members.pop(name) for name in _CONTEXT if name in members}
    # Attributes that may not be empty by CloudEvents, and say nothing when they are.
    context = {name: one for name, one in context.items() if one != "" or name not in ("subject", "dataschema", "datacontenttype")}
    if not _is_context(context) or not all(_is_extension(name, one) for name, one in members.items()) or not _is_data(found, context):
        return None
    del context["specversion"]
    data = _member_text(text.decode(), "data") if "data" in found else None
    return CloudEvent(**context, data=data, data_base64=found.get("data_base64"), extensions=members)


def holds_json(data_base64: str) -> bool:
    """Whether the bytes are JSON: such an event needs no content type."""
    decoded = _decoded(data_base64)
    return decoded is not None and _is_json(decoded)


def _is_context(context: Mapping[str, Any]) -> bool:
    if not all(isinstance(one, str) for one in context.values()) or context.get("specversion") not in ("1.0", "0.3"):
        return False
    if not all(context.get(name) for name in ("id", "source", "type")):
        return False
    return ("time" not in context or _is_time(context["time"])) and ("dataschema" not in context or _is_absolute(context["dataschema"]))


def _is_extension(name: str, one: object) -> bool:
    if _EXTENSION_NAME.fullmatch(name) is None:
        return False
    return isinstance(one, str | bool) or (isinstance(one, int) and one in _INT64)


def _is_data(found: Mapping[str, Any], context: Mapping[str, Any]) -> bool:
    """At most one of the two, and of the kind its content type announces; without one it is JSON."""
    media = media_type(context.get("datacontenttype", ""))
    says_json = is_json(media) or media == "text/json"
    if len(found) == 2:
        return False
    if "data" in found:
        return says_json or not media or isinstance(found["data"], str)
    if "data_base64" not in found:
        return True
    decoded = _decoded(found["data_base64"])
    return decoded is not None and (not says_json or _is_json(decoded))


def _decoded(text: object) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else None
    except (ValueError, binascii.Error):
        return None


def _is_json(text: bytes) -> bool:
    try:
        read_json(text)
    except Malformed:
        return False
    return True


def _is_time(text: str) -> bool:
    found = _RFC3339.fullmatch(text)
    if found is None or int(found[7] or 0) > 23 or int(found[8] or 0) > 59:
        return False
    year, month, day, hour, minute, second = (int(found[place]) for place in range(1, 7))
    try:
        datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return False
    return True


def _is_absolute(text: str) -> bool:
    if _ABSOLUTE.fullmatch(text) is None:
        return False
    try:
        parts = urlsplit(text)
        return parts.scheme not in _WEB or (_WEB_HOST.fullmatch(parts.hostname or "") is not None and parts.port != 0)
    except ValueError:
        return False


def _member_text(text: str, wanted: str) -> str:
    """The exact text of a member of the JSON object `text`, which has been parsed before; of two equal names the last counts."""
    found, at = "", text.index("{") + 1
    while text[at := _space(text, at)] != "}":
        name, at = _SCANNER.raw_decode(text, at)
        begin = _space(text, _space(text, at) + 1)
        _, at = _SCANNER.raw_decode(text, begin)
        if name == wanted:
            found = text[begin:at]
        at = _space(text, at)
        if text[at] == ",":
            at += 1
    return found


def _space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at
