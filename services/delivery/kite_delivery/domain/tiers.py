"""Which retry tier holds a delivery, and when a tier lets it go. Knows no topic; waits for nothing."""

from collections.abc import Sequence


def tier_for(remaining_ms: int, delays_ms: Sequence[int]) -> int:
    """The index of the largest tier whose delay is at most `remaining_ms`; the smallest tier when none is.

    `delays_ms` rise. So a delivery leaves its tier before it is due, but for waits shorter than the smallest delay.
    """
    fitting = [tier for tier, delay_ms in enumerate(delays_ms) if delay_ms <= remaining_ms]
    return fitting[-1] if fitting else 0


def must_park_again(due_ms: int, now_ms: int, delays_ms: Sequence[int]) -> bool:
    """Whether a delivery that left its tier has so long to wait still that it goes back into one."""
    return due_ms - now_ms >= delays_ms[0]


def aside_until(now_ms: int, appended_ms: int, delays_ms: Sequence[int], most_ms: int) -> int:
    """When a delivery that found no place in its lane tries again: after half its age, at least the smallest tier.

    The share of its age makes the number of moves grow with the logarithm of the time a receiver hangs: what piles up
    behind it costs the log little. Never later than `most_ms` from now.
    """
    age_ms = max(0, now_ms - appended_ms)
    return now_ms + max(delays_ms[0], min(most_ms, age_ms // 2))
