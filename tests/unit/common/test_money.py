"""Money: how many events a wallet pays for."""

from hypothesis import given
from hypothesis import strategies as st

from kite_common.money import UNLIMITED, affordable
from kite_common.testing import strategies


def test_unlimited_is_the_largest_integer_every_json_reader_keeps_exact() -> None:
    assert UNLIMITED == 2**53 - 1


def test_what_costs_nothing_has_no_count() -> None:
    assert affordable(10, 0, 0) is None


def test_reserved_money_pays_for_nothing_else() -> None:
    assert affordable(1_000, 950, 100) == 0
    assert affordable(1_000, 700, 100) == 3


@given(strategies.amounts, strategies.amounts, st.integers(1, UNLIMITED))
def test_what_is_affordable_is_covered_and_one_more_is_not(balance: int, reserved: int, price: int) -> None:
    events = affordable(balance, reserved, price)
    assert events is not None
    assert events >= 0
    free = max(0, balance - reserved)
    assert events * price <= free < (events + 1) * price
