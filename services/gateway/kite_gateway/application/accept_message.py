"""One agent message: admit, wrap, publish. Knows no HTTP.

If the process dies after admission, the reservation lapses once stream time has passed it; after publishing, billing settles it and
marks the claim. So no step here has to be undone by hand.
"""

import asyncio
from dataclasses import dataclass

from kite_common.clock import Clock
from kite_common.errors import Unavailable
from kite_common.events.agent_message import AgentMessage, to_event
from kite_common.events.usage import FirstAnswer, UsageRecorded
from kite_common.ids import EventId, TeamId
from kite_gateway.application.ports import Ids, MessageLog, Reservations
from kite_gateway.domain.admission import AdmissionRequest, Admitted, Claim, Refused, Replayed, Usage, decide
from kite_gateway.domain.rate_limit import RateLimit


@dataclass(frozen=True, slots=True)
class Submission:
    """A message of a team that may send it. `traceparent` goes into the record's header."""

    team_id: TeamId
    message: AgentMessage
    traceparent: str
    claim: Claim | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The event is durable. `replayed`: it has been for a while, this is the first answer again."""

    event_id: EventId
    received_ms: int
    usage: Usage
    rate: RateLimit | None
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class AcceptMessage:
    """The use case; call it with a submission."""

    reservations: Reservations
    log: MessageLog
    clock: Clock
    ids: Ids

    async def __call__(self, submission: Submission) -> Accepted | Refused:
        """Accept or refuse. An answer means: durable, or nothing stored and nothing held.

        Raises Unavailable if nothing was stored, OutcomeOpen if that is not known; the reservation then waits for billing.
        """
        received_ms = self.clock.unix_ms()
        request = AdmissionRequest(submission.team_id, self.ids.event_id(received_ms), received_ms, submission.claim)
        decision = decide(await self.reservations.admit(request))
        if isinstance(decision, Refused):
            return decision
        if isinstance(decision, Replayed):
            first = decision.first
            return Accepted(first.event_id, first.received_ms, first.usage, decision.rate, replayed=True)
        # A task of its own: a caller that hangs up must not stop it between the log and the claim.
        await asyncio.shield(asyncio.create_task(self._publish(submission, request, decision)))
        return Accepted(request.event_id, received_ms, decision.usage, decision.rate)

    async def _publish(self, submission: Submission, request: AdmissionRequest, admitted: Admitted) -> None:
        event = to_event(submission.message, request.event_id, request.received_ms)
        try:
            await self.log.append(request.team_id, event, submission.traceparent, _usage(request, admitted), request.received_ms)
        except Unavailable:
            await self.reservations.release(request)
            raise
        if request.claim is not None:
            await self.reservations.confirm(request)


def _usage(request: AdmissionRequest, admitted: Admitted) -> UsageRecorded:
    return UsageRecorded(
        team_id=request.team_id,
        event_id=request.event_id,
        usage_kind="message",
        price_atomic=admitted.price_atomic,
        subscription_id=admitted.subscription_id,
        reserved_at=admitted.reserved_at_ms,
        idempotency=request.claim.id if request.claim else None,
        first_answer=_first_answer(request.claim, request.received_ms, admitted.usage) if request.claim else None,
    )


def _first_answer(claim: Claim, received_ms: int, usage: Usage) -> FirstAnswer:
    """What repeats are answered if Redis has lost the claim by then."""
    return FirstAnswer(
        body_digest=claim.body_digest, received_at=received_ms, events_used=usage.events_used, events_limit=usage.events_limit
    )
