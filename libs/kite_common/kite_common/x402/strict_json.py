"""JSON out of base64, strictly: one spelling of the bytes, no key twice, bounded depth. For headers that strangers send."""

import base64
import binascii
import json
import re
from typing import Any, Final, NoReturn

from kite_common.errors import Malformed

_MAX_NESTING: Final = 16
# A string of JSON, also one that never ends: it always matches, so the scan is linear for any bytes.
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_BRACKETS: Final = {"{": 1, "[": 1, "}": -1, "]": -1}


def object_of_base64(text: str) -> dict[str, Any]:
    """The JSON object in padded standard base64. Raises Malformed for any other text, without quoting it."""
    return object_of_json(_bytes(text))


def object_of_json(data: bytes) -> dict[str, Any]:
    """The JSON object in UTF-8 bytes: no key twice, at most 16 levels, no NaN or Infinity. Raises Malformed for any other bytes."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise Malformed("not UTF-8") from None
    if _nesting(text) > _MAX_NESTING:
        raise Malformed("nested too deep")
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except ValueError:
        raise Malformed("not JSON") from None
    if not isinstance(value, dict):
        raise Malformed("not a JSON object")
    return value


def _bytes(text: str) -> bytes:
    try:
        decoded = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise Malformed("not base64") from None
    # Unused bits and lengths that only some decoders take: the same bytes have one spelling.
    if base64.b64encode(decoded).decode() != text:
        raise Malformed("not base64")
    return decoded


def _nesting(text: str) -> int:
    """The deepest level of brackets, counted before parsing, because parsers spend stack on each."""
    depth = deepest = 0
    for char in _STRING.sub("", text):
        depth += _BRACKETS.get(char, 0)
        deepest = max(deepest, depth)
    return deepest


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key stands twice")
    return made


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError("not a JSON number")
