"""What a page of replayed events costs a team, and who pays: nobody, its wallet, or a payment (wire contract, 3.1). Pure."""

from dataclasses import dataclass
from typing import Final, Literal

# `no_subscription`: never had one, or it is cancelled. A team whose outside payment is late still reads what it has (wire contract, 11.2).
Standing = Literal["x402", "clerk", "no_subscription"]


@dataclass(frozen=True, slots=True)
class Tariff:
    """`row_atomic` is the price of a row, `available_atomic` what the team's wallet can pay at this moment: 0 where pages are not taken
    from a wallet."""

    row_atomic: int = 0
    available_atomic: int = 0


INCLUDED_ROWS: Final = Tariff()


@dataclass(frozen=True, slots=True)
class Included:
    """The page costs nothing."""


@dataclass(frozen=True, slots=True)
class FromWallet:
    """The wallet pays, if it still can when it is asked."""

    amount_atomic: int


@dataclass(frozen=True, slots=True)
class ByPayment:
    """Only a payment of exactly this amount buys the page."""

    amount_atomic: int


PageCost = Included | FromWallet | ByPayment


def tariff_of(standing: Standing, row_atomic: int, available_atomic: int, fallback_atomic: int | None) -> Tariff | None:
    """What rows cost a team, None if it may not read at all.

    `row_atomic` is the price in the team's subscription; `fallback_atomic` what a row costs those who have none (None: not for sale).
    """
    if standing == "x402":
        return Tariff(row_atomic, max(0, available_atomic))
    if standing == "clerk":
        return INCLUDED_ROWS
    return None if fallback_atomic is None else Tariff(fallback_atomic)


def page_cost(tariff: Tariff, rows: int) -> PageCost:
    """Who pays for a page of that many rows; rows x price, and a page without rows costs nothing."""
    amount = rows * tariff.row_atomic
    if amount == 0:
        return Included()
    return FromWallet(amount) if amount <= tariff.available_atomic else ByPayment(amount)
