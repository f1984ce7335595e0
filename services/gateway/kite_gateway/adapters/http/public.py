"""What routes without bearer begin with: the token bucket of the client's address."""

from dataclasses import dataclass
from typing import Any, Final

from kite_common.errors import ApiError
from kite_gateway.adapters.http.context import context_of
from kite_gateway.application.ports import ClientRateLimits
from kite_gateway.domain.client import client_of

PUBLIC_CODES: Final = ("rate_limit_exceeded", "internal_error", "overloaded", "service_unavailable")


@dataclass(frozen=True, slots=True)
class Public:
    """The check of public routes; raises ApiError or, when Redis is away, Unavailable."""

    rate_limits: ClientRateLimits

    async def take_token(self, scope: Any) -> None:
        """Take one request from the bucket of the client's address and tell the limit on the answer; 429 if the bucket is empty."""
        client = scope.get("client")
        allowed, rate = await self.rate_limits.take(client_of(client[0] if client else None))
        context_of(scope).tell_rate(rate)
        if not allowed:
            raise ApiError("rate_limit_exceeded", retry_after_s=rate.retry_after_s if rate else 1)
