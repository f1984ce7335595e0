"""Serve one page of events: read it, have it paid by whom it concerns, answer. The whole story; no HTTP words.

Without a payment a page is included, or taken from the wallet before it is answered, or has its price named. A payment that is shown and
taken buys a range, which is read as often as it is shown; nothing is charged here: billing debits it together with the credit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, assert_never

from kite_common.errors import ApiError
from kite_replay.application.charge_page import Charged, ChargePage
from kite_replay.application.ports import Paid, Till
from kite_replay.application.read_events import Page, ReadEvents, ReadRequest, cursor_of
from kite_replay.domain.allowance import Allowance
from kite_replay.domain.charge import NoSubscription, NothingDue, TooLow
from kite_replay.domain.paid import Due, NotSold, PaidRange, Priced, due_of
from kite_replay.domain.price import ByPayment, FromWallet, Included, Tariff, page_cost

_OURS: Final = 500


@dataclass(frozen=True, slots=True)
class Served:
    """The answer: a page, what it has cost, and the headers that tell of a payment."""

    page: Page
    amount_charged_atomic: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ServePage:
    """The use case; one object serves all requests."""

    read: ReadEvents
    charge: ChargePage

    async def __call__(self, request: ReadRequest, allowance: Allowance, till: Till) -> Served:
        """The page. Raises ApiError (also what payments are answered with), Unavailable and OutcomeOpen."""
        paid = await till.pay(await self._due(request, allowance, till)) if till.shows_payment else None
        return await self._unpaid(request, _tariff(allowance), till) if paid is None else await self._paid(request, paid)

    async def _paid(self, request: ReadRequest, paid: Paid) -> Served:
        try:
            return Served(await self.read.exactly(request, paid.bought), paid.amount_atomic, paid.headers)
        except ApiError as error:
            # The money has arrived, whatever became of the page.
            raise replace(error, headers={**error.headers, **paid.headers}) from None

    async def _unpaid(self, request: ReadRequest, tariff: Tariff, till: Till) -> Served:
        page = await self.read(request)
        cost = page_cost(tariff, len(page.rows))
        match cost:
            case Included():
                return Served(page)
            case FromWallet():
                return await self._from_wallet(request, page, till)
            case ByPayment(amount):
                raise till.payment_required(_priced(page, amount))
            case _:
                assert_never(cost)

    async def _from_wallet(self, request: ReadRequest, page: Page, till: Till) -> Served:
        charged = await self.charge(request.team_id, len(page.rows))
        match charged:
            case Charged(amount):
                return Served(page, amount)
            case NothingDue():
                return Served(page)
            case TooLow(amount):
                raise till.payment_required(_priced(page, amount))
            case NoSubscription():
                raise ApiError("no_active_subscription")
            case _:
                assert_never(charged)

    async def _due(self, request: ReadRequest, allowance: Allowance, till: Till) -> Due:
        """What a new payment would be for: the quoted range if it shows a quote, else the page as it is now.

        Raises what is our own fault: nothing may be paid for then.
        """
        quoted = till.quoted
        try:
            tariff = _tariff(allowance)
            page = await (self.read(request) if quoted is None else self.read.exactly(request, quoted.bought))
        except ApiError as error:
            if error.status >= _OURS:
                raise
            return NotSold(error)
        cost = page_cost(tariff, len(page.rows))
        if quoted is None and isinstance(cost, ByPayment):
            quoted = _priced(page, cost.amount_atomic)
        return due_of(cost, quoted)


def _tariff(allowance: Allowance) -> Tariff:
    if allowance.tariff is None:
        raise ApiError("no_active_subscription")
    return allowance.tariff


def _priced(page: Page, amount_atomic: int) -> Priced:
    return Priced(PaidRange(cursor_of(page.rows[-1]), len(page.rows)), amount_atomic)
