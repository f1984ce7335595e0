"""One agent message or delivery to a hook: admit, wrap, publish. Knows no HTTP, and of payments only that an event may have one.

If the process dies after admission, the reservation lapses once stream time has passed it; after publishing, billing settles it and
marks the claims. So no step here has to be undone by hand.
"""

import asyncio
from dataclasses import dataclass
from typing import Literal

from kite_common.clock import Clock
from kite_common.errors import Unavailable
from kite_common.events.agent_message import AgentMessage, to_event
from kite_common.events.usage import FirstAnswer, UsageRecorded
from kite_common.ids import EventId, TeamId
from kite_gateway.application.ports import Ids, MessageLog, Reservations
from kite_gateway.domain.admission import AdmissionRequest, Admitted, Claim, Decision, Duplicate, Refused, Replayed, Usage, decide
from kite_gateway.domain.hooks.event import HookEvent
from kite_gateway.domain.rate_limit import RateLimit
from kite_gateway.domain.topup import TopUp


@dataclass(frozen=True, slots=True)
class Submission:
    """What a team may send. `traceparent` goes into the record's header; `body_bytes` is held against the plan's limit, 0 = is not.

    `topup`: the wallet was filled for this event. `looked_at`: it has been looked at, which took its token.
    """

    team_id: TeamId
    message: AgentMessage | HookEvent
    traceparent: str
    claim: Claim | None = None
    body_bytes: int = 0
    topup: TopUp | None = None
    looked_at: bool = False


@dataclass(frozen=True, slots=True)
class Accepted:
    """The event is durable. `replayed`: it has been for a while, this is the first answer again.

    `duplicate`: it has been, too, and this delivery of a hook is the same; nothing was stored or charged for it.
    `receipt`: what the first answer told of the payment it came with, "" if there was none.
    """

    event_id: EventId
    received_ms: int
    usage: Usage
    rate: RateLimit | None
    replayed: bool = False
    duplicate: bool = False
    receipt: str = ""


@dataclass(frozen=True, slots=True)
class AcceptMessage:
    """The use case; call it with a submission. The one way in for whatever costs an event."""

    reservations: Reservations
    log: MessageLog
    clock: Clock
    ids: Ids

    async def __call__(self, submission: Submission) -> Accepted | Refused:
        """Accept or refuse. An answer means: durable, or nothing stored and nothing held. Only a hook's event can be a duplicate.

        Raises Unavailable if nothing was stored, OutcomeOpen if that is not known; the reservation then waits for billing.
        """
        request = self._request(submission)
        decision = decide(await self.reservations.admit(request))
        if isinstance(decision, Refused):
            return decision
        if isinstance(decision, Replayed | Duplicate):
            return accepted_before(decision)
        # A task of its own: a caller that hangs up must not stop it between the log and the claim.
        await asyncio.shield(asyncio.create_task(self._publish(submission, request, decision)))
        receipt = "" if request.payment is None else request.payment.receipt
        return Accepted(request.event_id, request.received_ms, decision.usage, decision.rate, receipt=receipt)

    async def look(self, submission: Submission) -> Decision:
        """What would become of it now. Takes the request's token and holds nothing. Raises Unavailable."""
        return decide(await self.reservations.peek(self._request(submission)))

    def _request(self, submission: Submission) -> AdmissionRequest:
        received_ms, topup = self.clock.unix_ms(), submission.topup
        return AdmissionRequest(
            submission.team_id, topup.event_id if topup else self.ids.event_id(received_ms), received_ms, submission.claim,
            _delivery_of(submission.message), submission.body_bytes, topup.paid_with if topup else None, not submission.looked_at,
        )  # fmt: skip

    async def _publish(self, submission: Submission, request: AdmissionRequest, admitted: Admitted) -> None:
        event, usage = _wrapped(submission.message, request), _usage(_kind_of(submission.message), request, admitted)
        try:
            await self.log.append(request.team_id, event, submission.traceparent, usage, request.received_ms)
        except Unavailable:
            await self.reservations.release(request, admitted.reserved_at_ms)
            raise
        if request.claim is not None or request.delivery is not None or request.payment is not None:
            await self.reservations.confirm(request)


def accepted_before(decision: Replayed | Duplicate) -> Accepted:
    """The first answer, once more."""
    first, again = decision.first, isinstance(decision, Replayed)
    return Accepted(
        first.event_id, first.received_ms, first.usage, decision.rate, replayed=again, duplicate=not again, receipt=first.receipt
    )


def _delivery_of(message: AgentMessage | HookEvent) -> str | None:
    return message.duplicate_key if isinstance(message, HookEvent) else None


def _kind_of(message: AgentMessage | HookEvent) -> Literal["message", "hook"]:
    return "hook" if isinstance(message, HookEvent) else "message"


def _wrapped(message: AgentMessage | HookEvent, request: AdmissionRequest) -> bytes:
    if isinstance(message, HookEvent):
        return message.to_event(request.event_id, request.received_ms)
    return to_event(message, request.event_id, request.received_ms)


def _usage(kind: Literal["message", "hook"], request: AdmissionRequest, admitted: Admitted) -> UsageRecorded:
    return UsageRecorded(
        team_id=request.team_id,
        event_id=request.event_id,
        usage_kind=kind,
        price_atomic=admitted.price_atomic,
        subscription_id=admitted.subscription_id,
        reserved_at=admitted.reserved_at_ms,
        idempotency=request.claim.id if request.claim else None,
        delivery_claim=request.delivery,
        payment_claim=request.payment.claim if request.payment else None,
        first_answer=_first_answer(request, admitted.usage),
    )


def _first_answer(request: AdmissionRequest, usage: Usage) -> FirstAnswer | None:
    """What repeats are answered if Redis has lost the claim by then."""
    if request.claim is None and request.delivery is None and request.payment is None:
        return None
    return FirstAnswer(
        body_digest=request.claim.body_digest if request.claim else "", received_at=request.received_ms, events_used=usage.events_used,
        events_limit=usage.events_limit, receipt=request.payment.receipt if request.payment else None,
    )
