"""When requests of an open loop are due."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kite_cli.bench.load.schedule import poisson


@given(st.floats(1, 2_000), st.floats(0.01, 3), st.integers())
def test_arrivals_rise_and_stay_inside_the_run(rate: float, duration_s: float, seed: int) -> None:
    times = poisson(rate, duration_s, Random(seed))
    assert times == sorted(times)
    assert all(0 <= at < duration_s for at in times)


def test_there_are_as_many_arrivals_as_the_rate_says() -> None:
    times = poisson(1_000, 100, Random(1))
    assert len(times) == pytest.approx(100_000, rel=0.02)


def test_the_gaps_are_exponential_not_even() -> None:
    times = poisson(1_000, 100, Random(2))
    gaps = [after - before for before, after in zip(times, times[1:], strict=False)]
    assert sum(gap > 0.001 for gap in gaps) / len(gaps) == pytest.approx(0.3679, abs=0.01)


def test_the_same_seed_gives_the_same_times() -> None:
    assert poisson(100, 5, Random(7)) == poisson(100, 5, Random(7)) != poisson(100, 5, Random(8))


@pytest.mark.parametrize(("rate", "duration_s"), [(0, 1), (-1, 1), (1, 0)])
def test_nothing_can_be_due_at_no_rate_or_in_no_time(rate: float, duration_s: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        poisson(rate, duration_s, Random(1))
