"""Fields of an `application/x-www-form-urlencoded` body. Knows no provider."""

import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import parse_qsl

# More than any provider sends, and few enough to be read at once.
MAX_FIELDS: Final = 1_000
# Serializers of forms encode controls (WHATWG URL, 5.2): a text with raw ones is no form. Spaces and letters come raw from shells.
_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")


def read_fields(body: bytes) -> Mapping[str, Sequence[str]] | None:
    """Names and their values, in the order they came; None for bytes that are no such form, or one of too many fields.

    Bytes that are not UTF-8, percent-encoded or not, make it none: their text could not be passed on unchanged.
    """
    if body.count(b"&") >= MAX_FIELDS or _CONTROL.search(body):
        return None
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, encoding="utf-8", errors="strict")
    except UnicodeDecodeError:
        return None
    fields: dict[str, list[str]] = {}
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    return fields
