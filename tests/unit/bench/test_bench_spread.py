"""Percentiles and spreads."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kite_cli.bench.spread import Spread, percentile

VALUES = st.lists(st.floats(-1e9, 1e9), min_size=1).map(sorted)
SHARES = st.floats(0, 1, exclude_min=True)


def test_percentiles_are_by_nearest_rank() -> None:
    ordered = [float(value) for value in range(1, 101)]
    assert [percentile(ordered, share) for share in (0.01, 0.5, 0.95, 0.99, 1.0)] == [1, 50, 95, 99, 100]


def test_a_single_value_is_every_percentile() -> None:
    assert percentile([7.0], 0.001) == percentile([7.0], 1) == 7


def test_nothing_has_no_percentile() -> None:
    assert math.isnan(percentile([], 0.5))


@pytest.mark.parametrize("share", [0, -0.1, 1.01, math.nan])
def test_other_shares_are_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        percentile([1.0], share)


@given(VALUES, SHARES)
def test_a_percentile_occurred_and_that_share_does_not_exceed_it(ordered: list[float], share: float) -> None:
    found = percentile(ordered, share)
    assert found in ordered
    assert sum(value <= found for value in ordered) >= share * len(ordered)
    assert sum(value < found for value in ordered) < share * len(ordered)


def test_a_spread_is_the_median_and_the_bounds() -> None:
    assert Spread.of([5, 1, 3]) == Spread(3, 1, 5)
    assert Spread.of([4]) == Spread(4, 4, 4)


def test_a_spread_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="value"):
        Spread.of([])
