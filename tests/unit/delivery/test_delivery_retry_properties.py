"""Retry and tiers: attempt times rise, stay in bounds, honour Retry-After, end; tiers meet every due time."""

from hypothesis import given
from hypothesis import strategies as st

from kite_delivery.domain.outcome import Transient
from kite_delivery.domain.retry import GiveUp, RetryAt, RetryPolicy, ends_ms, may_come_early, next_step
from kite_delivery.domain.tiers import aside_until, must_park_again, tier_for

POLICY = RetryPolicy()
HOUR_MS = 3_600_000
DELAYS_MS = (5_000, 60_000, 300_000, 1_800_000, 7_200_000, 21_600_000)

jitters = st.floats(0, 1, exclude_max=True)
times = st.integers(0, 4_000_000_000_000)
tier_sets = st.lists(st.integers(1, 30_000_000), min_size=1, max_size=6, unique=True).map(lambda delays: tuple(sorted(delays)))


@given(times, st.lists(jitters, min_size=9, max_size=9), st.lists(st.none() | st.integers(-HOUR_MS, 100 * HOUR_MS), min_size=9, max_size=9))
def test_ten_failures_end_after_75_hours_at_least_and_their_times_rise(
    start_ms: int, drawn: list[float], asked_ms: list[int | None]
) -> None:
    now_ms = start_ms
    for attempt, (jitter, asked) in enumerate(zip(drawn, asked_ms, strict=True), start=1):
        not_before = None if asked is None else now_ms + asked
        step = next_step(Transient(not_before), attempt, POLICY, now_ms, jitter)
        assert isinstance(step, RetryAt)
        wait_ms = step.due_ms - now_ms
        own_ms = POLICY.waits_s[attempt - 1] * 1000
        assert own_ms <= wait_ms <= max(own_ms * 1.2 + 1, 24 * HOUR_MS)
        assert not_before is None or step.due_ms >= min(not_before, now_ms + 24 * HOUR_MS)
        assert step.due_ms > now_ms
        now_ms = step.due_ms
    assert next_step(Transient(), 10, POLICY, now_ms, 0.0) == GiveUp("attempts_exhausted")
    assert now_ms - start_ms >= 75 * HOUR_MS


@given(times, st.lists(jitters, min_size=9, max_size=9), st.lists(st.none() | st.floats(0, 1), min_size=9, max_size=9))
def test_early_attempts_never_shorten_the_75_hours_nor_come_twice_in_a_row(
    start_ms: int, drawn: list[float], earlier: list[float | None]
) -> None:
    """Each wait may be cut short by some part (the endpoint seemed to be back) where the rule allows it."""
    now_ms, due_ms, was_early, early_flags = start_ms, 0, False, 0
    for attempt, (jitter, cut) in enumerate(zip(drawn, earlier, strict=True), start=1):
        step = next_step(Transient(), attempt, POLICY, now_ms, jitter, due_ms)
        assert isinstance(step, RetryAt)
        assert step.due_ms >= due_ms + POLICY.waits_s[attempt - 1] * 1000
        may = may_come_early(Transient(), attempt, POLICY, was_early=was_early)
        due_ms = step.due_ms
        was_early = may and cut is not None and cut > 0 and due_ms - now_ms > 1
        now_ms = due_ms - round((due_ms - now_ms) * (cut or 0)) if was_early else due_ms
        was_early = now_ms < due_ms
        early_flags += was_early
    assert next_step(Transient(), 10, POLICY, now_ms, 0.0, due_ms) == GiveUp("attempts_exhausted")
    assert now_ms - start_ms >= 75 * HOUR_MS
    assert early_flags <= 4


@given(times, st.integers(0, 15), st.integers(-HOUR_MS, 24 * HOUR_MS))
def test_what_is_held_for_ever_ends_and_not_before_its_tenth_attempt_would_have_been(now_ms: int, attempts: int, due_in_ms: int) -> None:
    ends, due_ms = ends_ms(attempts, now_ms + due_in_ms, POLICY, now_ms), now_ms + due_in_ms
    last_ms = max(now_ms, due_ms) + sum(wait_s * 1000 * 1.2 for wait_s in POLICY.waits_s[attempts:])
    assert last_ms - 1 <= ends <= max(now_ms, due_ms) + 91 * HOUR_MS


@given(st.integers(0, 40 * HOUR_MS), tier_sets)
def test_a_tier_is_the_largest_that_lets_go_in_time(remaining_ms: int, delays_ms: tuple[int, ...]) -> None:
    chosen = delays_ms[tier_for(remaining_ms, delays_ms)]
    if remaining_ms >= delays_ms[0]:
        assert chosen <= remaining_ms
        assert not [delay for delay in delays_ms if chosen < delay <= remaining_ms]
    else:
        assert chosen == delays_ms[0]


@given(st.integers(DELAYS_MS[0], 30 * HOUR_MS), times)
def test_parking_again_and_again_reaches_the_due_time_exactly_with_few_moves(wait_ms: int, now_ms: int) -> None:
    due_ms, moves = now_ms + wait_ms, 0
    while must_park_again(due_ms, now_ms, DELAYS_MS):
        now_ms += DELAYS_MS[tier_for(due_ms - now_ms, DELAYS_MS)]
        moves += 1
    assert 0 <= due_ms - now_ms < DELAYS_MS[0]
    assert moves <= 40


@given(times, st.integers(0, 1000 * HOUR_MS))
def test_a_delivery_without_a_place_waits_longer_the_older_it_is_within_bounds(now_ms: int, age_ms: int) -> None:
    most_ms = 1_800_000
    until = aside_until(now_ms, now_ms - age_ms, DELAYS_MS, most_ms)
    assert DELAYS_MS[0] <= until - now_ms <= most_ms
    assert until <= aside_until(now_ms, now_ms - age_ms - 60_000, DELAYS_MS, most_ms)
