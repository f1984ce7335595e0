"""Billing periods: calendar months anchored at the subscription, also where months are short."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kite_billing.domain.period import period_containing
from kite_common.clock import from_unix_ms, to_unix_ms

# 1970 to 2200: what a deployment can meet.
times = st.integers(0, 7_258_118_400_000)


def ms(text: str) -> int:
    return to_unix_ms(datetime.fromisoformat(text).replace(tzinfo=UTC))


@pytest.mark.parametrize(
    ("anchor", "at", "start", "end"),
    [
        ("2026-01-15T10:00", "2026-01-15T10:00", "2026-01-15T10:00", "2026-02-15T10:00"),
        ("2026-01-15T10:00", "2026-02-15T09:59", "2026-01-15T10:00", "2026-02-15T10:00"),
        ("2026-01-15T10:00", "2026-02-15T10:00", "2026-02-15T10:00", "2026-03-15T10:00"),
        ("2026-01-31T08:00", "2026-02-10T00:00", "2026-01-31T08:00", "2026-02-28T08:00"),
        ("2026-01-31T08:00", "2026-03-01T00:00", "2026-02-28T08:00", "2026-03-31T08:00"),
        ("2026-01-31T08:00", "2026-04-30T07:59", "2026-03-31T08:00", "2026-04-30T08:00"),
        ("2026-01-30T08:00", "2026-03-01T00:00", "2026-02-28T08:00", "2026-03-30T08:00"),
        ("2028-01-29T08:00", "2028-02-29T08:00", "2028-02-29T08:00", "2028-03-29T08:00"),
        ("2028-01-31T08:00", "2028-03-01T00:00", "2028-02-29T08:00", "2028-03-31T08:00"),
        ("2026-12-31T23:59", "2027-01-31T23:58", "2026-12-31T23:59", "2027-01-31T23:59"),
        ("2026-05-31T00:00", "2031-02-28T00:00", "2031-02-28T00:00", "2031-03-31T00:00"),
    ],
)
def test_a_short_month_clamps_the_day_and_the_next_long_one_has_it_back(anchor: str, at: str, start: str, end: str) -> None:
    period = period_containing(ms(anchor), ms(at))
    assert (period.start_ms, period.end_ms) == (ms(start), ms(end))


def test_a_time_before_the_anchor_belongs_to_the_first_period() -> None:
    anchor = ms("2026-03-10T00:00")
    assert period_containing(anchor, anchor - 1) == period_containing(anchor, anchor)


@given(times, times)
def test_a_period_contains_its_time_and_is_a_calendar_month_long(anchor: int, later: int) -> None:
    at = anchor + later
    period = period_containing(anchor, at)
    assert period.start_ms <= at < period.end_ms
    start, end = from_unix_ms(period.start_ms), from_unix_ms(period.end_ms)
    assert (end.year * 12 + end.month) - (start.year * 12 + start.month) == 1
    assert max(start.day, end.day) == from_unix_ms(anchor).day


@given(times, times)
def test_periods_follow_each_other_without_gap_or_overlap(anchor: int, later: int) -> None:
    period = period_containing(anchor, anchor + later)
    following = period_containing(anchor, period.end_ms)
    assert following.start_ms == period.end_ms
    assert period_containing(anchor, following.end_ms - 1) == following
