"""Time as an argument: the Clock protocol, a frozen one for tests, RFC 3339 texts. Reads no clock."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Protocol


class Clock(Protocol):
    """Where a use case gets the time from."""

    def now(self) -> datetime:
        """Aware UTC wall-clock time."""
        ...

    def unix_ms(self) -> int:
        """The same as milliseconds since 1970, without building a datetime."""
        ...


class FrozenClock:
    """A Clock that stands still until it is moved."""

    def __init__(self, at: datetime) -> None:
        self._at = at

    def now(self) -> datetime:
        return self._at

    def unix_ms(self) -> int:
        return to_unix_ms(self._at)

    def advance(self, by: timedelta) -> None:
        """Move the clock on."""
        self._at += by


def to_unix_ms(at: datetime) -> int:
    """Whole milliseconds since 1970 of an aware datetime, cut, without float rounding."""
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def from_unix_ms(unix_ms: int) -> datetime:
    """The aware UTC datetime of milliseconds since 1970."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=unix_ms)


def rfc3339(unix_ms: int) -> str:
    """`2026-04-30T10:00:00.000Z`: RFC 3339 UTC with milliseconds, as every answer writes times."""
    return f"{_second(unix_ms // 1000)}.{unix_ms % 1000:03d}Z"


@lru_cache(maxsize=256)  # of the present: every line of a log, every event and every answer names it
def _second(unix_s: int) -> str:
    return from_unix_ms(unix_s * 1000).strftime("%Y-%m-%dT%H:%M:%S")


def utc_day(unix_ms: int) -> int:
    """Days since 1970 in UTC: the unit of daily quotas."""
    return unix_ms // 86_400_000
