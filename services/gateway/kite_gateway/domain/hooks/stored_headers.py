"""Which request headers go into an event, so that a program behind a proxy gets them as the provider sent them (wire contract, 9.5).

Whoever passes them on makes HTTP headers of them: an illegal value would make a delivery fail for ever, and no secret may leave.
"""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

import orjson

from kite_gateway.domain.hooks.media import is_json, media_type

MAX_VALUE_CHARS: Final = 8 * 1024
MAX_BYTES: Final = 16 * 1024
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_VALUE: Final = re.compile(r"[ \t!-~]*")
_LEFT_OUT: Final = frozenset({
    # of one connection, or said anew by whoever sends them on
    "host", "content-length", "connection", "transfer-encoding", "te", "trailer", "upgrade", "expect", "accept-encoding",
    "content-encoding", "keep-alive", "forwarded", "x-real-ip", "via",
    # secrets and payments
    "authorization", "cookie", "payment-signature", "x-payment", "x-payment-signature",
})  # fmt: skip
_LEFT_OUT_PREFIXES: Final = ("proxy-", "x-forwarded-")
# Our own credentials, wherever they stand: a proxy may repeat the URL, and with it the token, in a header.
_CREDENTIAL: Final = re.compile(r"(kite|khk)_[0-9a-f]{8}_[0-9a-f]{32}", re.IGNORECASE)


def stored_headers(head: Mapping[str, str], token: str | None) -> str:
    """A JSON object of the headers that are kept, as text; `token` is the hook token of the request, whatever it is worth.

    Names are lower case, repeated headers joined by ", ". What would pass 16 KiB in all is left out, header by header in their order.
    """
    kept: dict[str, str] = {}
    size = 2
    for name, raw in head.items():
        value = raw.strip(" \t")
        if not _is_kept(name, value, token):
            continue
        # Name, value, their four quotes, colon, comma, and what is escaped.
        takes = len(orjson.dumps(name)) + len(orjson.dumps(value)) + 2
        if size + takes <= MAX_BYTES:
            kept[name] = value
            size += takes
    return orjson.dumps(kept).decode()


def _is_kept(name: str, value: str, token: str | None) -> bool:
    if name in _LEFT_OUT or name.startswith(_LEFT_OUT_PREFIXES) or not _NAME.fullmatch(name):
        return False
    if len(value) > MAX_VALUE_CHARS or not _VALUE.fullmatch(value) or _is_secret(value, token):
        return False
    return name != "content-type" or is_json(media_type(value))


def _is_secret(value: str, token: str | None) -> bool:
    """Whether one of our credentials stands in it, also percent-encoded, as a path may be."""
    plain = unquote(value, "latin-1")
    return _CREDENTIAL.search(plain) is not None or (token is not None and token in plain)
