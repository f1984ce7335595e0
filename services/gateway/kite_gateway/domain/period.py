"""Billing periods as far as admission needs them: which one a time belongs to when the projected one has ended. Reads no clock.

Billing anchors periods at the moment of subscription and computes each from the anchor (wire contract, 11.2). The projection holds
one period, not the anchor, but that gives the anchor's day back: two neighbouring months are never both shorter than 31 days, so the
later day of start and end is the anchor's.
"""

from calendar import monthrange
from datetime import datetime

from kite_common.clock import from_unix_ms, to_unix_ms

_DAY_MS = 86_400_000


def end_of_current_period(start_ms: int, end_ms: int, now_ms: int) -> int:
    """When the period that contains `now_ms` ends, given any earlier or equal period [start_ms, end_ms)."""
    if now_ms < end_ms:
        return end_ms
    start, end, now = from_unix_ms(start_ms), from_unix_ms(end_ms), from_unix_ms(now_ms)
    day = max(start.day, end.day)
    months = (now.year - end.year) * 12 + now.month - end.month
    candidate = _months_later(end, day, months)
    if candidate <= now:
        candidate = _months_later(end, day, months + 1)
    return to_unix_ms(candidate)


def current_period(start_ms: int, end_ms: int, now_ms: int) -> tuple[int, int]:
    """Start and end of the period that contains `now_ms`, given any earlier or equal period [start_ms, end_ms)."""
    if now_ms < end_ms:
        return start_ms, end_ms
    end = end_of_current_period(start_ms, end_ms, now_ms)
    day = max(from_unix_ms(start_ms).day, from_unix_ms(end_ms).day)
    return to_unix_ms(_months_later(from_unix_ms(end), day, -1)), end


def end_of_utc_day(now_ms: int) -> int:
    """The midnight that ends the UTC day of `now_ms`."""
    return (now_ms // _DAY_MS + 1) * _DAY_MS


def _months_later(base: datetime, day: int, months: int) -> datetime:
    year, month = divmod(base.year * 12 + base.month - 1 + months, 12)
    return base.replace(year=year, month=month + 1, day=min(day, monthrange(year, month + 1)[1]))
