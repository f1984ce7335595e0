"""The range of events that a payment buys, and what a payment that is shown can be for. Pure.

A range is fixed by the cursor of its last row: nothing appears behind a cursor, so every reading of it is the same page.
"""

from dataclasses import dataclass

from kite_common.errors import ApiError
from kite_replay.domain.cursor import Cursor
from kite_replay.domain.price import ByPayment, PageCost


@dataclass(frozen=True, slots=True)
class PaidRange:
    """Up to and with the event of `end`, at most `rows` events; where it begins says the request's own cursor."""

    end: Cursor
    rows: int


@dataclass(frozen=True, slots=True)
class Priced:
    """A range that is for sale, for exactly that amount."""

    bought: PaidRange
    amount_atomic: int


@dataclass(frozen=True, slots=True)
class NotNeeded:
    """The request is answered without a payment: its page is included, or the wallet can pay."""


@dataclass(frozen=True, slots=True)
class NotSold:
    """Without a payment the request would be answered with this error, and a payment does not change that."""

    error: ApiError


# What a payment that is not known yet would be for. One that is known gets what it has bought, whatever this says.
Due = Priced | NotNeeded | NotSold


def due_of(cost: PageCost, offered: Priced | None) -> Priced | NotNeeded:
    """What is due for a page that costs this: the range that is offered, unless nobody needs to pay for it.

    What was promised in a quote is offered for its amount, also if prices have changed since. None: there is no row to offer.
    """
    return offered if offered is not None and isinstance(cost, ByPayment) else NotNeeded()
