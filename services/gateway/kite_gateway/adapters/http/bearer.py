"""What all bearer routes begin with: the key, its team, its permission, and the team's token bucket. Order by wire contract 2.3."""

from dataclasses import dataclass
from typing import Any

from kite_common.auth import Needed
from kite_common.clock import Clock
from kite_common.errors import ApiError
from kite_common.ids import TeamId
from kite_gateway.adapters.http.context import context_of
from kite_gateway.adapters.http.problems import access_error
from kite_gateway.adapters.http.request import bearer_token, team_id_of
from kite_gateway.application.ports import Credentials, RateLimits
from kite_gateway.domain.access import check_access


@dataclass(frozen=True, slots=True)
class Bearer:
    """Checks of bearer routes; each raises ApiError or, when a part is away, Unavailable."""

    credentials: Credentials
    rate_limits: RateLimits
    clock: Clock

    def authorize(self, scope: Any, needed: Needed) -> TeamId:
        """The team the request may act for: 401, 400 missing_team_id, 403 forbidden, 403 insufficient_permissions, in this order."""
        context = context_of(scope)
        context.keep_private()
        principal = self.credentials.identify(bearer_token(context.head), self.clock.unix_ms())
        refusal = check_access(principal, team_id_of(scope["query_string"]), needed)
        if refusal is not None or principal is None:
            raise access_error(refusal or "unauthorized")
        context.team_id = principal.team_id
        return principal.team_id

    def holder(self, scope: Any) -> TeamId | None:
        """The team of the request's key, None without a good one; nothing is refused. Raises Unavailable until all keys are known."""
        principal = self.credentials.identify(bearer_token(context_of(scope).head), self.clock.unix_ms())
        return None if principal is None else principal.team_id

    async def take_token(self, scope: Any, team_id: TeamId) -> None:
        """Take one request from the team's bucket and tell the limit on the answer; 429 if the bucket is empty."""
        allowed, rate = await self.rate_limits.take(team_id)
        context_of(scope).tell_rate(rate)
        if not allowed:
            raise ApiError("rate_limit_exceeded", retry_after_s=rate.retry_after_s if rate else 1)
