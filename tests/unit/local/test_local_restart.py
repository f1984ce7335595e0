"""When an ended child is started again, and when that is given up."""

from hypothesis import given
from hypothesis import strategies as st

from kite_cli.local.restart import GiveUp, RestartAfter, RestartPolicy, Run

POLICY = RestartPolicy()


def killed_while_working(count: int, every_s: float) -> list[Run]:
    """Lives that each became ready after 0.2 s and were ended from outside."""
    return [Run(n * every_s, (n + 1) * every_s, n * every_s + 0.2) for n in range(count)]


def never_ready(count: int, each_s: float = 0.1) -> list[Run]:
    """Lives that ended before they were ready."""
    return [Run(n * each_s, (n + 1) * each_s, None) for n in range(count)]


def test_a_child_killed_while_it_worked_comes_back_at_once() -> None:
    assert POLICY.after(killed_while_working(1, 10.0)) == RestartAfter(POLICY.first_delay_s)


def test_kills_every_four_seconds_for_an_hour_are_no_reason_to_give_up_or_slow_down() -> None:
    assert POLICY.after(killed_while_working(900, 4.0)) == RestartAfter(POLICY.first_delay_s)


def test_a_child_that_never_becomes_ready_is_given_up_after_four_starts() -> None:
    assert isinstance(POLICY.after(never_ready(3)), RestartAfter)
    assert isinstance(POLICY.after(never_ready(4)), GiveUp)


def test_a_child_that_hangs_at_its_start_is_given_up_after_a_minute() -> None:
    assert isinstance(POLICY.after(never_ready(1, 30.0)), RestartAfter)
    assert isinstance(POLICY.after(never_ready(2, 30.0)), GiveUp)


def test_one_good_life_forgives_failed_starts_before_it() -> None:
    runs = [*never_ready(3), Run(1.0, 9.0, 1.2)]
    assert POLICY.after(runs) == RestartAfter(POLICY.first_delay_s)


def test_a_child_that_ends_right_after_it_was_ready_is_slowed_down_and_then_given_up() -> None:
    runs = killed_while_working(5, 0.4)
    assert POLICY.after(runs) == RestartAfter(POLICY.first_delay_s * 2**4)
    assert isinstance(POLICY.after(killed_while_working(60, 0.4)), GiveUp)


@given(st.lists(st.tuples(st.floats(0, 100), st.none() | st.floats(0, 1)), min_size=1, max_size=80))
def test_a_pause_is_never_negative_and_never_above_the_bound(lives: list[tuple[float, float | None]]) -> None:
    runs, now = [], 0.0
    for length_s, ready_share in lives:
        runs.append(Run(now, now + length_s, None if ready_share is None else now + length_s * ready_share))
        now += length_s
    step = POLICY.after(runs)
    assert isinstance(step, GiveUp) or 0 < step.delay_s <= POLICY.max_delay_s
