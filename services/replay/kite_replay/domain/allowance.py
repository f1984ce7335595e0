"""What a team's account allows a reader at this moment: rate and subscription. Decides; fetches nothing."""

from dataclasses import dataclass
from typing import Final

from kite_common.errors import ApiError

# Units of one request in the token bucket: a millisecond brings as many units as the team has requests a minute.
UNIT: Final = 60_000


@dataclass(frozen=True, slots=True)
class RateLimit:
    """The team's token bucket after this request: whole requests, whole seconds (wire contract, 2.4).

    `retry_after_s` is None if the request was let through, else the seconds (at least 1) until one more would be.
    """

    limit: int
    remaining: int
    reset_s: int
    retry_after_s: int | None = None


@dataclass(frozen=True, slots=True)
class Allowance:
    """`rate` is None where no limit applies. `subscribed`: a subscription that is not cancelled, also one whose payment is late."""

    rate: RateLimit | None
    subscribed: bool


def rate_limit(per_minute: int, level: int, *, allowed: bool) -> RateLimit | None:
    """What a bucket of `per_minute` requests with `level` units left tells a caller; None where there is no limit (0)."""
    if per_minute == 0:
        return None
    retry_after_s = None if allowed else max(1, _seconds_for(UNIT - level, per_minute))
    return RateLimit(per_minute, level // UNIT, _seconds_for(per_minute * UNIT - level, per_minute), retry_after_s)


def refusal(allowance: Allowance) -> ApiError | None:
    """Why this read is refused, rate before subscription (wire contract, 2.3), or None."""
    if allowance.rate is not None and allowance.rate.retry_after_s is not None:
        return ApiError("rate_limit_exceeded", retry_after_s=allowance.rate.retry_after_s)
    if not allowance.subscribed:
        return ApiError("no_active_subscription")
    return None


def _seconds_for(units: int, per_minute: int) -> int:
    """Whole seconds, rounded up, in which that many units come in."""
    return max(0, -(-units // (per_minute * 1000)))
