"""One event that comes with a payment: look whether it is needed, have it credited, then accept the event as if it had come without.

Death at any line costs the caller an answer and nothing else. The same request with the same payment finds the credit in billing's record,
the same event id in it, and the claim of the payment in admission: one credit, one event, whoever asks how often. What was answered goes
to billing and is what repeats get from then on.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from kite_common.errors import ApiError, KiteError, OutcomeOpen, Unavailable
from kite_common.events.payments import LARGEST_RESULT_BYTES, PaymentOutcome, PaymentResult
from kite_common.x402.answers import RETRY_AFTER_S, credited_already, success_headers
from kite_gateway.application.accept_message import Accepted, AcceptMessage, Submission, accepted_before
from kite_gateway.application.ports import Arrivals, PaymentResults, Till
from kite_gateway.domain.admission import Decision, Refused, Replayed
from kite_gateway.domain.topup import due_of, topup_of

# A projection takes milliseconds; billing that is behind is better waited for by the caller.
_ARRIVAL_S: Final = 2.0
_RESEND: Final = "The payment is credited, but the request is not done: resend the same request with the same payment."


@dataclass(frozen=True, slots=True)
class Answer:
    """What a caller is told: status and body."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Credited:
    """The payment is in the wallet and the event durable. `accepted` None: billing has kept the answer of an earlier time."""

    outcome: PaymentOutcome
    answer: Answer
    accepted: Accepted | None


@dataclass(frozen=True, slots=True)
class Spent:
    """The payment is in the wallet and the event refused all the same: others were faster, or something else has changed."""

    outcome: PaymentOutcome
    refused: Refused


@dataclass(frozen=True, slots=True)
class AcceptPaid:
    """The use case: `look`, tell the rate limit, then call it with what was found. `render` makes the answer to an accepted event."""

    accept: AcceptMessage
    arrivals: Arrivals
    results: PaymentResults

    async def look(self, submission: Submission) -> Decision:
        """What would become of the event without the payment; takes the request's token. Raises Unavailable."""
        return await self.accept.look(submission)

    async def __call__(
        self, submission: Submission, looked: Decision, till: Till, render: Callable[[Accepted], Answer]
    ) -> Credited | Spent | Accepted | Refused:
        """Accept or refuse. Raises ApiError as the till does and, with headers that tell of the credit, 503; Unavailable and OutcomeOpen
        where the payment has not been taken."""
        due = due_of(looked)
        if isinstance(due, Refused):
            return due
        if isinstance(due, Replayed):
            return accepted_before(due)
        outcome, submission = await till.pay(due), replace(submission, looked_at=True)
        if outcome is None:
            return await self.accept(submission)
        # A task of its own: a caller that hangs up must not stop it between the event and its result.
        return await asyncio.shield(asyncio.create_task(self._work(submission, outcome, render)))

    async def _work(self, submission: Submission, outcome: PaymentOutcome, render: Callable[[Accepted], Answer]) -> Credited | Spent:
        if outcome.stored_status is not None:
            return Credited(outcome, Answer(outcome.stored_status, (outcome.stored_body or "").encode()), None)
        if outcome.team_id != submission.team_id:
            # Nobody bound it to another team; an operator may have given it to one.
            raise credited_already(outcome)
        try:
            arrived = await self.arrivals.of_account(submission.team_id, outcome.applied, _ARRIVAL_S)
            result = await self.accept(replace(submission, topup=topup_of(outcome))) if arrived else None
        except (Unavailable, OutcomeOpen) as error:
            raise _unfinished(outcome) from error
        if result is None:
            raise _unfinished(outcome)
        if isinstance(result, Refused):
            return Spent(outcome, result)
        answer = render(result)
        await self._keep(outcome, answer)
        return Credited(outcome, answer, result)

    async def _keep(self, outcome: PaymentOutcome, answer: Answer) -> None:
        if len(answer.body) <= LARGEST_RESULT_BYTES:
            await self.results.keep(PaymentResult(payment_key=outcome.payment_key, status=answer.status, body=answer.body.decode()))


def _unfinished(outcome: PaymentOutcome) -> KiteError:
    return ApiError("service_unavailable", _RESEND, retry_after_s=RETRY_AFTER_S, headers=success_headers(outcome))
