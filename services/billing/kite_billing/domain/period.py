"""Billing periods: calendar months anchored at the moment of subscription. Reads no clock.

Every start is computed from the anchor itself, never from the start before it, so a day that a short month clamps comes back in the
next long one: January 31, February 28, March 31 (wire contract, section 11.2).
"""

from calendar import monthrange
from dataclasses import dataclass
from datetime import datetime

from kite_common.clock import from_unix_ms, to_unix_ms


@dataclass(frozen=True, slots=True)
class Period:
    """Half-open [start_ms, end_ms), milliseconds since 1970."""

    start_ms: int
    end_ms: int


def period_containing(anchored_at_ms: int, at_ms: int) -> Period:
    """The period of a subscription anchored at `anchored_at_ms` that contains `at_ms`.

    A time before the anchor belongs to the first period: a subscription has none before it began.
    """
    anchor, at = from_unix_ms(anchored_at_ms), from_unix_ms(max(anchored_at_ms, at_ms))
    months = (at.year - anchor.year) * 12 + at.month - anchor.month
    if _start_of(anchor, months) > at:
        months -= 1
    return Period(to_unix_ms(_start_of(anchor, months)), to_unix_ms(_start_of(anchor, months + 1)))


def _start_of(anchor: datetime, months: int) -> datetime:
    """The anchor `months` calendar months later, its day clamped to the length of that month."""
    year, month = divmod(anchor.year * 12 + anchor.month - 1 + months, 12)
    return anchor.replace(year=year, month=month + 1, day=min(anchor.day, monthrange(year, month + 1)[1]))
