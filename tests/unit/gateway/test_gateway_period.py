"""Which period a time belongs to, when the projected one has ended."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kite_billing.domain.period import period_containing
from kite_common.clock import to_unix_ms
from kite_gateway.domain.period import current_period, end_of_current_period, end_of_utc_day

moments = st.datetimes(datetime(2001, 1, 1), datetime(2060, 1, 1)).map(lambda at: to_unix_ms(at.replace(tzinfo=UTC)))  # noqa: DTZ001


def _ms(text: str) -> int:
    return to_unix_ms(datetime.fromisoformat(text).replace(tzinfo=UTC))


@given(anchor=moments, earlier=st.integers(0, 200 * 86_400_000), later=st.integers(0, 900 * 86_400_000))
def test_it_ends_when_billing_says(anchor: int, earlier: int, later: int) -> None:
    projected = period_containing(anchor, anchor + earlier)
    now = projected.start_ms + later
    expected = period_containing(anchor, now)
    assert end_of_current_period(projected.start_ms, projected.end_ms, now) == expected.end_ms
    assert current_period(projected.start_ms, projected.end_ms, now) == (expected.start_ms, expected.end_ms)


@pytest.mark.parametrize(
    ("start", "end", "now", "expected"),
    [
        ("2026-01-31T10:00", "2026-02-28T10:00", "2026-02-28T09:59:59", "2026-02-28T10:00"),
        ("2026-01-31T10:00", "2026-02-28T10:00", "2026-02-28T10:00", "2026-03-31T10:00"),
        ("2026-02-28T10:00", "2026-03-31T10:00", "2026-04-01T00:00", "2026-04-30T10:00"),
        ("2023-12-29T00:00", "2024-01-29T00:00", "2024-02-01T00:00", "2024-02-29T00:00"),
    ],
)
def test_a_day_that_a_short_month_cut_comes_back(start: str, end: str, now: str, expected: str) -> None:
    assert end_of_current_period(_ms(start), _ms(end), _ms(now)) == _ms(expected)


def test_a_day_ends_at_the_next_utc_midnight() -> None:
    assert end_of_utc_day(_ms("2026-04-30T23:59:59")) == _ms("2026-05-01T00:00")
    assert end_of_utc_day(_ms("2026-05-01T00:00")) == _ms("2026-05-02T00:00")
