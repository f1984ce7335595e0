"""The way of events in that cost money: charged to the wallet, or topped up by a payment that comes with the request.

A payment is always handed in when one is shown, because it may be known already; a new one is taken only if the wallet cannot pay. If the
process dies, the same request with the same payment goes on where it ended: the payment has one credit, and the credit one event, whose id
follows from both.
"""

from dataclasses import dataclass, replace
from typing import Final

from starlette.types import Scope

from kite_common.errors import ApiError, KiteError
from kite_common.events.payments import PaymentOutcome
from kite_common.runtime import faults
from kite_common.x402.answers import after_credit, credited_already, success_headers
from kite_common.x402.key import event_of
from kite_common.x402.offers import RequestFacts
from kite_common.x402.terms import PaymentTerms
from kite_gateway.adapters.http.context import Context
from kite_gateway.adapters.http.paid import facts_of
from kite_gateway.adapters.http.problems import api_error, refusal_error
from kite_gateway.application.accept_message import Accepted, AcceptMessage, Submission
from kite_gateway.application.checkout import Checkout
from kite_gateway.application.ports import Arrivals, PaymentResults
from kite_gateway.domain.admission import Decision, Mode, Refused
from kite_gateway.domain.top_up import claim_of, is_repeatable, purchase_of, takes_payment

_PAYMENT_HEADERS: Final = frozenset({b"payment-signature", b"x-payment", b"x-payment-signature"})
_ARRIVAL_S: Final = 2.0
_SOON_S: Final = 1


@dataclass(frozen=True, slots=True)
class Stored:
    """What the payment was answered with before, word for word."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Ingested:
    """What the answer is made of. `outcome`: the payment that came with the request and was credited."""

    result: Accepted | Stored
    outcome: PaymentOutcome | None = None

    def headers(self, context: Context) -> list[tuple[bytes, bytes]]:
        """What the answer says of the payment."""
        if self.outcome is None:
            return []
        said = context.not_said_yet(success_headers(self.outcome))
        return [(name.lower().encode(), value.encode()) for name, value in said.items()]


@dataclass(frozen=True, slots=True)
class Ingest:
    """`checkout` without terms: payments are not looked at, and an empty wallet is refused without an offer."""

    accept: AcceptMessage
    checkout: Checkout
    arrivals: Arrivals
    results: PaymentResults

    async def __call__(
        self, submission: Submission, scope: Scope, context: Context, body: bytes, shown_path: bytes | None = None
    ) -> Ingested:
        """Accept the event. Raises KiteError for every answer of 400 and above; after a credit they tell that the money has arrived."""
        terms = self.checkout.terms
        if terms is not None and not _PAYMENT_HEADERS.isdisjoint(context.head):
            return await self._paid(submission, facts_of(scope, body, shown_path), context, terms)
        result = await self.accept(submission)
        context.tell_rate(result.rate)
        if isinstance(result, Refused):
            raise refusal_error(result) if terms is None else self._refusal(result, submission, facts_of(scope, body, shown_path), terms)
        return Ingested(result)

    async def remember(self, ingested: Ingested, status: int, body: bytes) -> None:
        """Keep the answer for repeats of the payment it came with."""
        if ingested.outcome is not None and not isinstance(ingested.result, Stored):
            faults.reached("topup.accepted")
            await self.results.remember(ingested.outcome.payment_key, status, body)
            faults.reached("topup.remembered")

    async def _paid(self, submission: Submission, request: RequestFacts, context: Context, terms: PaymentTerms) -> Ingested:
        looked = await self.accept.look(submission)
        context.tell_rate(looked.rate)
        if isinstance(looked, Refused) and not takes_payment(looked):
            raise refusal_error(looked)
        faults.reached("topup.looked")
        outcome = await self._handed_in(submission, request, looked, terms)
        if outcome is None:
            return await self._unpaid(submission, request, terms)
        if outcome.stored_status is not None and outcome.stored_body is not None:
            return Ingested(Stored(outcome.stored_status, outcome.stored_body.encode()), outcome)
        if not is_repeatable(outcome, self.checkout.clock.unix_ms()):
            raise credited_already(outcome)
        faults.reached("topup.credited")
        try:
            return Ingested(await self._spent(submission, request, outcome, terms), outcome)
        except KiteError as error:
            raise after_credit(api_error(error), outcome) from error

    async def _handed_in(
        self, submission: Submission, request: RequestFacts, looked: Decision, terms: PaymentTerms
    ) -> PaymentOutcome | None:
        """The credited payment; None if none was needed. Raises ApiError."""
        try:
            outcome = await self.checkout.pay(request, purchase_of(submission.team_id, looked, terms))
        except ApiError as error:
            if isinstance(looked, Refused) and error.code == looked.code != "insufficient_funds":
                raise refusal_error(looked) from None
            raise
        return None if outcome is None or outcome.result == "not_needed" else outcome

    async def _unpaid(self, submission: Submission, request: RequestFacts, terms: PaymentTerms) -> Ingested:
        """The wallet could pay a moment ago."""
        result = await self.accept(replace(submission, mode=Mode.ADMIT_LOOKED))
        if isinstance(result, Refused):
            raise self._refusal(result, submission, request, terms)
        return Ingested(result)

    async def _spent(self, submission: Submission, request: RequestFacts, outcome: PaymentOutcome, terms: PaymentTerms) -> Accepted:
        """The event the credit is there for. Its id and its claim follow from the payment, so every repeat comes to the same one."""
        if not await self.arrivals.of_account(submission.team_id, outcome.applied, _ARRIVAL_S):
            raise ApiError("service_unavailable", retry_after_s=_SOON_S)
        paid = replace(
            submission, mode=Mode.ADMIT_LOOKED, event_id=event_of(outcome.payment_key, outcome.credited_at or 0),
            claim=submission.claim or claim_of(outcome, request.fingerprint),
        )  # fmt: skip
        result = await self.accept(paid)
        if not isinstance(result, Refused):
            return result
        if result.code == "request_in_progress" and submission.claim is None:
            # A copy of this very request: when it has been accepted, this one gets the same answer.
            raise ApiError("service_unavailable", retry_after_s=_SOON_S)
        raise self._refusal(result, submission, request, terms)

    def _refusal(self, refused: Refused, submission: Submission, request: RequestFacts, terms: PaymentTerms) -> ApiError:
        """The refusal; of an empty wallet with an offer."""
        error = refusal_error(refused)
        if refused.code != "insufficient_funds":
            return error
        return self.checkout.asks_for(request, purchase_of(submission.team_id, refused, terms), code=error.code, extra=error.extra)
