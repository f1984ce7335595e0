"""Who pays for a page, and what a payment can be for: the tables of the wire contract, and what always holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kite_replay.domain.charge import NoSubscription, NothingDue, Reserved, TooLow, WalletFacts, decide
from kite_replay.domain.cursor import Cursor
from kite_replay.domain.paid import NotNeeded, PaidRange, Priced, due_of
from kite_replay.domain.price import ByPayment, FromWallet, Included, PageCost, Standing, Tariff, page_cost, tariff_of

OFFERED = Priced(PaidRange(Cursor(1), 3), 30)
STANDINGS: tuple[Standing, ...] = ("x402", "clerk", "no_subscription")


@pytest.mark.parametrize(
    ("standing", "row_atomic", "available", "fallback", "rows", "cost"),
    [
        ("x402", 10, 30, None, 3, FromWallet(30)),
        ("x402", 10, 29, None, 3, ByPayment(30)),
        ("x402", 10, 0, None, 0, Included()),
        ("x402", 10, -5, None, 1, ByPayment(10)),
        ("x402", 0, 0, None, 3, Included()),
        ("clerk", 10, 0, None, 3, Included()),
        ("clerk", 10, 0, 7, 3, Included()),
        ("no_subscription", 0, 1_000_000, 7, 3, ByPayment(21)),
        ("no_subscription", 0, 0, 7, 0, Included()),
    ],
)
def test_the_table_of_page_prices(
    standing: Standing, row_atomic: int, available: int, fallback: int | None, rows: int, cost: PageCost
) -> None:
    tariff = tariff_of(standing, row_atomic, available, fallback)
    assert tariff is not None
    assert page_cost(tariff, rows) == cost


def test_without_a_subscription_nothing_may_be_read_unless_the_fallback_is_on() -> None:
    assert tariff_of("no_subscription", 10, 100, None) is None
    assert tariff_of("no_subscription", 10, 100, 7) == Tariff(7, 0)


@given(st.sampled_from(STANDINGS), st.integers(0, 10**6), st.integers(-(10**12), 10**12), st.none() | st.integers(1, 10**6),
       st.integers(0, 1000))  # fmt: skip
def test_a_wallet_is_never_asked_for_more_than_it_has_and_every_price_is_rows_times_one_row(
    standing: Standing, row_atomic: int, available: int, fallback: int | None, rows: int
) -> None:
    tariff = tariff_of(standing, row_atomic, available, fallback)
    if tariff is None:
        assert (standing, fallback) == ("no_subscription", None)
        return
    cost = page_cost(tariff, rows)
    if isinstance(cost, Included):
        assert rows * tariff.row_atomic == 0
    else:
        assert cost.amount_atomic == rows * tariff.row_atomic > 0
        assert isinstance(cost, FromWallet) == (cost.amount_atomic <= available and standing == "x402")


@pytest.mark.parametrize(
    ("cost", "offered", "due"),
    [
        (ByPayment(20), OFFERED, OFFERED),  # a promise holds, whatever the price is by now
        (ByPayment(20), None, NotNeeded()),
        (FromWallet(30), OFFERED, NotNeeded()),
        (Included(), OFFERED, NotNeeded()),
        (Included(), None, NotNeeded()),
    ],
)
def test_a_payment_is_due_only_where_nobody_else_pays(cost: PageCost, offered: Priced | None, due: Priced | NotNeeded) -> None:
    assert due_of(cost, offered) == due


@pytest.mark.parametrize(
    ("facts", "decision"),
    [
        (WalletFacts("x402", "sub", 30, True, 5), Reserved(30, "sub", 5)),
        (WalletFacts("no_subscription", "sub", 30, True, 5), Reserved(30, "sub", 5)),
        (WalletFacts("x402", "sub", 30, False, 5), TooLow(30)),
        (WalletFacts("x402", "sub", 0, False, 5), NothingDue()),
        (WalletFacts("clerk", "sub", 0, False, 5), NothingDue()),
        (WalletFacts("no_subscription", "", 0, False, 5), NoSubscription()),
    ],
)
def test_what_the_wallet_says_decides(facts: WalletFacts, decision: object) -> None:
    assert decide(facts) == decision
