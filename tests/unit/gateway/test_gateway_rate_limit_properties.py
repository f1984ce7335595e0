"""Properties of the token bucket as a value."""

from hypothesis import given
from hypothesis import strategies as st

from kite_gateway.domain.rate_limit import UNIT, Bucket, describe, full, refill, take

rates = st.integers(min_value=1, max_value=100_000)
gaps = st.lists(st.integers(min_value=-50, max_value=90_000), min_size=1, max_size=60)


@given(rates, gaps)
def test_no_window_admits_more_than_its_burst_and_its_rate(rate: int, waits: list[int]) -> None:
    now, bucket, admitted = 0, full(rate, 0), []
    for wait in waits:
        now = max(0, now + wait)
        bucket, allowed = take(bucket, rate, now)
        if allowed:
            admitted.append(bucket.at_ms)
    for place, began in enumerate(admitted):
        for count, ended in enumerate(admitted[place:], start=1):
            assert count * UNIT <= rate * UNIT + (ended - began) * rate


@given(rates, gaps)
def test_a_level_stays_between_empty_and_full_and_is_a_whole_number(rate: int, waits: list[int]) -> None:
    now, bucket = 0, full(rate, 0)
    for wait in waits:
        now += wait
        bucket, _ = take(bucket, rate, now)
        assert 0 <= bucket.level <= rate * UNIT
        assert isinstance(bucket.level, int)


@given(rates, st.integers(min_value=0, max_value=100_000 * UNIT))
def test_the_wait_that_is_told_is_enough(rate: int, level: int) -> None:
    bucket = Bucket(min(level, UNIT - 1), 0)
    told = describe(bucket.level, rate)
    assert told is not None
    _, allowed = take(bucket, rate, told.retry_after_s * 1000)
    assert allowed


@given(rates, st.integers(min_value=0, max_value=100_000 * UNIT))
def test_the_bucket_is_full_again_when_told(rate: int, level: int) -> None:
    bucket = Bucket(min(level, rate * UNIT), 0)
    told = describe(bucket.level, rate)
    assert told is not None
    assert refill(bucket, rate, told.reset_s * 1000).level == rate * UNIT


def test_a_burst_of_the_whole_minute_passes_and_one_more_does_not() -> None:
    bucket, allowed = full(60, 0), []
    for _ in range(61):
        bucket, passed = take(bucket, 60, 5)
        allowed.append(passed)
    assert allowed == [True] * 60 + [False]


def test_a_refused_request_takes_nothing() -> None:
    bucket, allowed = take(Bucket(UNIT - 1, 0), 60, 0)
    assert (bucket, allowed) == (Bucket(UNIT - 1, 0), False)


def test_without_a_limit_there_is_nothing_to_tell() -> None:
    assert describe(0, 0) is None
