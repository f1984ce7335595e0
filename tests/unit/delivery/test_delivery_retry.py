"""When the next attempt is (wire contract, 10.2)."""

import pytest

from kite_delivery.domain.outcome import Delivered, Permanent, Transient
from kite_delivery.domain.retry import Done, GiveUp, RetryAt, RetryPolicy, may_come_early, next_step

POLICY = RetryPolicy()
NOW_MS = 1_777_543_200_000
HOUR_MS = 3_600_000


@pytest.mark.parametrize(
    ("attempt", "wait_s"),
    [(1, 5), (2, 300), (3, 1_800), (4, 7_200), (5, 18_000), (6, 36_000), (7, 50_400), (8, 72_000), (9, 86_400)],
)
def test_a_failed_attempt_is_followed_after_the_wait_of_the_schedule(attempt: int, wait_s: int) -> None:
    assert next_step(Transient(), attempt, POLICY, NOW_MS, 0.0) == RetryAt(NOW_MS + wait_s * 1000)


def test_jitter_only_ever_makes_a_wait_longer_by_up_to_a_fifth() -> None:
    assert next_step(Transient(), 2, POLICY, NOW_MS, 0.5) == RetryAt(NOW_MS + 330_000)


def test_the_tenth_failure_is_the_last() -> None:
    assert POLICY.max_attempts == 10
    assert next_step(Transient(), 10, POLICY, NOW_MS, 0.0) == GiveUp("attempts_exhausted")


def test_a_retry_after_does_not_prolong_the_last_attempt() -> None:
    assert next_step(Transient(NOW_MS + 1), 10, POLICY, NOW_MS, 0.0) == GiveUp("attempts_exhausted")


def test_nothing_follows_a_delivery() -> None:
    assert next_step(Delivered(), 3, POLICY, NOW_MS, 0.0) == Done()


@pytest.mark.parametrize("reason", ["gone", "blocked"])
def test_a_permanent_failure_ends_at_the_first_attempt(reason: str) -> None:
    assert next_step(Permanent("gone" if reason == "gone" else "blocked"), 1, POLICY, NOW_MS, 0.0) == GiveUp(reason)


def test_a_later_retry_after_wins() -> None:
    assert next_step(Transient(NOW_MS + 60_000), 1, POLICY, NOW_MS, 0.0) == RetryAt(NOW_MS + 60_000)


def test_an_earlier_retry_after_does_not_shorten_our_own_wait() -> None:
    assert next_step(Transient(NOW_MS + 1_000), 1, POLICY, NOW_MS, 0.0) == RetryAt(NOW_MS + 5_000)


def test_a_retry_after_is_honoured_for_24_hours_at_most() -> None:
    assert next_step(Transient(NOW_MS + 1000 * HOUR_MS), 1, POLICY, NOW_MS, 0.0) == RetryAt(NOW_MS + 24 * HOUR_MS)


def test_attempts_count_from_one() -> None:
    with pytest.raises(ValueError, match="count from 1"):
        next_step(Transient(), 0, POLICY, NOW_MS, 0.0)


def test_what_is_tried_early_keeps_its_schedule() -> None:
    assert next_step(Transient(), 2, POLICY, NOW_MS, 0.0, NOW_MS + 4_000) == RetryAt(NOW_MS + 304_000)
    assert next_step(Transient(), 2, POLICY, NOW_MS, 0.0, NOW_MS - 4_000) == RetryAt(NOW_MS + 300_000)


def test_a_retry_may_come_early_but_not_twice_in_a_row_not_the_last_and_not_against_a_retry_after() -> None:
    assert may_come_early(Transient(), 1, POLICY, was_early=False)
    assert not may_come_early(Transient(), 2, POLICY, was_early=True)
    assert may_come_early(Transient(), 8, POLICY, was_early=False)
    assert not may_come_early(Transient(), 9, POLICY, was_early=False)
    assert not may_come_early(Transient(NOW_MS + 1), 1, POLICY, was_early=False)
    assert not may_come_early(Permanent("gone"), 1, POLICY, was_early=False)
