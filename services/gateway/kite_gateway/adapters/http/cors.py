"""Cross-origin rules: which headers a browser of an allowed origin gets (wire contract, 2.6). Sends nothing."""

from collections.abc import Mapping, Sequence
from typing import Final

from kite_gateway.adapters.http.context import Header

EXPOSED: Final = (
    "payment-required", "payment-response", "x-payment-response", "x-request-id", "retry-after", "ratelimit-limit", "ratelimit-remaining",
    "ratelimit-reset", "idempotency-replayed",
)  # fmt: skip
_METHODS: Final = b"GET, HEAD, POST, PUT, DELETE"
_HEADERS: Final = (
    b"authorization, content-type, idempotency-key, payment-signature, x-payment, x-payment-signature, access-control-expose-headers, "
    b"traceparent, x-request-id"
)
_MAX_AGE_S: Final = b"600"
_ANY: Final = b"*"
_VARY: Final = (b"vary", b"Origin")


class Cors:
    """The rules for a list of origins; an empty list allows none, `*` allows all."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)
        self.is_on = bool(self._origins)

    def headers(self, head: Mapping[bytes, bytes]) -> list[Header]:
        """What every answer to this request carries. Also a request without an origin: a cache must not mix the two."""
        if not self.is_on:
            return []
        allowed = self._allowed(head)
        if allowed is None:
            return [_VARY]
        return [_VARY, (b"access-control-allow-origin", allowed), (b"access-control-expose-headers", ", ".join(EXPOSED).encode())]

    def preflight(self, method: str, head: Mapping[bytes, bytes]) -> list[Header] | None:
        """The further headers of the answer to a preflight; None if the request is none, or its origin is not allowed."""
        if method != "OPTIONS" or b"access-control-request-method" not in head or self._allowed(head) is None:
            return None
        return [
            (b"access-control-allow-methods", _METHODS), (b"access-control-allow-headers", _HEADERS),
            (b"access-control-max-age", _MAX_AGE_S),
        ]  # fmt: skip

    def _allowed(self, head: Mapping[bytes, bytes]) -> bytes | None:
        origin = head.get(b"origin")
        if origin is None:
            return None
        if _ANY in self._origins:
            return _ANY
        return origin if origin in self._origins else None
