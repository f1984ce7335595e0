"""Till: the payment that one request for an event shows, at the checkout of all."""

from dataclasses import dataclass, replace
from typing import Final, assert_never

from kite_common.errors import ApiError
from kite_common.events.payments import Alternative, PaymentOutcome, Purpose, Target
from kite_common.ids import TeamId
from kite_common.runtime import faults
from kite_common.x402.offers import NOT_NEEDED, Purchase, RequestFacts, topup_amount
from kite_common.x402.terms import PaymentTerms
from kite_common.x402.wire import PAYMENT_REQUIRED
from kite_gateway.adapters.http.problems import refusal_error
from kite_gateway.application.checkout import Checkout
from kite_gateway.domain.topup import Due, Needed, NotNeeded, NotSold

_PURPOSE: Final[Purpose] = "topup"
_DESCRIPTION: Final = "Kite wallet top-up"
_PAYMENT: Final = 402


@dataclass(frozen=True, slots=True)
class TopUpTill:
    """The till of one request; `terms` are the checkout's."""

    checkout: Checkout
    terms: PaymentTerms
    request: RequestFacts
    team_id: TeamId

    async def pay(self, due: Due) -> PaymentOutcome | None:
        """Hand the payment in; see `kite_gateway.application.ports.Till`."""
        try:
            outcome = await self.checkout.pay(self.request, self._purchase(due))
        except ApiError as error:
            _refuse(due, error)
            return None
        faults.reached("topup.credited")
        return outcome if outcome is not None and outcome.result == "credited" else None

    def offer(self, needed: Needed) -> ApiError:
        """The answer to an event the wallet cannot pay for: 402 that asks for a top-up."""
        told = refusal_error(needed.refused)
        return self.checkout.asks_for(self.request, self._purchase(needed), code=told.code, extra=told.extra)

    def _purchase(self, due: Due) -> Purchase:
        match due:
            case Needed(least):
                return self._top_up(least)
            case NotNeeded():
                return self._top_up(0, NOT_NEEDED)
            case NotSold(refused):
                error = refusal_error(refused)
                return self._top_up(0, Alternative(status=error.status, code=error.code))
            case _:
                assert_never(due)

    def _top_up(self, least_atomic: int, if_new: Alternative | None = None) -> Purchase:
        return Purchase(_PURPOSE, topup_amount(self.terms, least_atomic), Target(team_id=self.team_id), _DESCRIPTION, if_new)


def _refuse(due: Due, error: ApiError) -> None:
    """A payment that is good for nothing: raise what the request gets instead; return if it goes on without one.

    A 402 would make a caller sign a payment that changes nothing, unless a payment is what is missing.
    """
    match due:
        case NotNeeded() if error.status == _PAYMENT:
            return
        case NotSold(refused):
            instead = refusal_error(refused)
            if error.status not in (_PAYMENT, instead.status):
                raise error
            kept = {name: value for name, value in error.headers.items() if name != PAYMENT_REQUIRED}
            raise replace(instead, headers={**instead.headers, **kept})
        case _:
            raise error
