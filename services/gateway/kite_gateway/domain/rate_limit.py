"""The token bucket of a team as a value, in whole numbers, so that Redis and Python agree to the last digit. Stores nothing.

A bucket of `per_minute` requests refills `per_minute` times a minute. One request is UNIT units; a millisecond brings `per_minute`
units. The same arithmetic stands in adapters/lua/prelude.lua; a property test holds the two together.
"""

from dataclasses import dataclass
from typing import Final

# Units of one request: the milliseconds of a minute, so that a refill is a whole number of units in every millisecond.
UNIT: Final = 60_000


@dataclass(frozen=True, slots=True)
class Bucket:
    """What is left at a time: `level` in units, `at_ms` in milliseconds since 1970."""

    level: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What a caller is told of its limit (wire contract, 2.4): whole requests left, whole seconds until the bucket is full."""

    per_minute: int
    remaining: int
    reset_s: int
    retry_after_s: int


def full(per_minute: int, at_ms: int) -> Bucket:
    """A bucket nobody has taken from."""
    return Bucket(per_minute * UNIT, at_ms)


def take(bucket: Bucket, per_minute: int, now_ms: int) -> tuple[Bucket, bool]:
    """The bucket after one request at `now_ms`, and whether it was allowed. A refused request takes nothing.

    Time that goes back counts as standing still. A bucket made under another limit is cut to this one's size.
    """
    refilled = refill(bucket, per_minute, now_ms)
    if refilled.level < UNIT:
        return refilled, False
    return Bucket(refilled.level - UNIT, refilled.at_ms), True


def refill(bucket: Bucket, per_minute: int, now_ms: int) -> Bucket:
    """The bucket as time alone makes it."""
    elapsed = min(max(0, now_ms - bucket.at_ms), UNIT)
    return Bucket(min(per_minute * UNIT, bucket.level + elapsed * per_minute), max(bucket.at_ms, now_ms))


def describe(level: int, per_minute: int) -> RateLimit | None:
    """What to tell about a bucket with `level` units left; None where there is no limit (`per_minute` 0)."""
    if per_minute == 0:
        return None
    return RateLimit(
        per_minute=per_minute,
        remaining=level // UNIT,
        reset_s=_seconds_for(per_minute * UNIT - level, per_minute),
        retry_after_s=max(1, _seconds_for(UNIT - level, per_minute)),
    )


def _seconds_for(units: int, per_minute: int) -> int:
    """Whole seconds, rounded up, in which that many units come in."""
    return max(0, -(-units // (per_minute * 1000)))
