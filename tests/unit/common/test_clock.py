"""Times as texts and numbers."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kite_common.clock import FrozenClock, from_unix_ms, rfc3339, to_unix_ms, utc_day

# Up to the end of year 9999, beyond which datetime has no values.
times = st.integers(0, 253_402_300_799_999)


@pytest.mark.parametrize(
    ("unix_ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_777_543_200_000, "2026-04-30T10:00:00.000Z"),
        (1_777_543_200_007, "2026-04-30T10:00:00.007Z"),
        (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
    ],
)
def test_times_are_written_in_utc_with_milliseconds_and_z(unix_ms: int, text: str) -> None:
    assert rfc3339(unix_ms) == text


@given(times)
def test_milliseconds_survive_the_way_through_datetime(unix_ms: int) -> None:
    assert to_unix_ms(from_unix_ms(unix_ms)) == unix_ms
    assert to_unix_ms(datetime.fromisoformat(rfc3339(unix_ms))) == unix_ms


@given(times)
def test_a_day_begins_at_midnight_utc(unix_ms: int) -> None:
    assert from_unix_ms(utc_day(unix_ms) * 86_400_000).date() == from_unix_ms(unix_ms).date()


def test_microseconds_are_cut_not_rounded() -> None:
    assert to_unix_ms(datetime(2026, 4, 30, 10, 0, 0, 999, tzinfo=UTC)) == 1_777_543_200_000


def test_other_time_zones_are_the_same_instant() -> None:
    assert to_unix_ms(datetime(2026, 4, 30, 12, tzinfo=timezone(timedelta(hours=2)))) == 1_777_543_200_000


def test_a_frozen_clock_stands_until_it_is_moved() -> None:
    clock = FrozenClock(datetime(2026, 4, 30, 10, tzinfo=UTC))
    assert clock.unix_ms() == clock.unix_ms() == 1_777_543_200_000
    clock.advance(timedelta(milliseconds=1_500))
    assert clock.unix_ms() == 1_777_543_201_500
    assert rfc3339(clock.unix_ms()) == "2026-04-30T10:00:01.500Z"
