"""What a team's account allows a reader at this moment: rate, subscription, what rows cost. Decides; fetches nothing."""

from dataclasses import dataclass
from typing import Final

from kite_common.errors import ApiError
from kite_replay.domain.price import Tariff

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
    """`rate` is None where no limit applies; `tariff` is None where events may not be read at all (`price.tariff_of`)."""

    rate: RateLimit | None
    tariff: Tariff | None


def rate_limit(per_minute: int, level: int, *, allowed: bool) -> RateLimit | None:
    """What a bucket of `per_minute` requests with `level` units left tells a caller; None where there is no limit (0)."""
    if per_minute == 0:
        return None
    retry_after_s = None if allowed else max(1, _seconds_for(UNIT - level, per_minute))
    return RateLimit(per_minute, level // UNIT, _seconds_for(per_minute * UNIT - level, per_minute), retry_after_s)


def rate_refusal(rate: RateLimit | None) -> ApiError | None:
    """Why this request is refused for its rate, or None."""
    if rate is not None and rate.retry_after_s is not None:
        return ApiError("rate_limit_exceeded", retry_after_s=rate.retry_after_s)
    return None


def _seconds_for(units: int, per_minute: int) -> int:
    """Whole seconds, rounded up, in which that many units come in."""
    return max(0, -(-units // (per_minute * 1000)))
