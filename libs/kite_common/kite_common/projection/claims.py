"""Claims of Idempotency-Keys, of payments and of hooks' deliveries as the log remembers them. Pure."""

from typing import NamedTuple

from kite_common.events.usage import FirstAnswer, UsageRecorded
from kite_common.ids import EventId, TeamId
from kite_common.projection.keys import IDEMPOTENCY_TTL_S, PAYMENT_CLAIM_TTL_S


class AcceptedClaim(NamedTuple):
    """A claim whose event is in the ledger. `first` None: the usage does not say what was answered; then the key is only taken.

    `ends_ms`: when the key is free again, milliseconds since 1970.
    """

    team_id: TeamId
    claim: str
    event_id: EventId
    ends_ms: int
    charged_atomic: int
    first: FirstAnswer | None


def claims_of(usage: UsageRecorded) -> tuple[AcceptedClaim, ...]:
    """What a charged usage says about claims; none if no key was sent, nothing was paid and no delivery was named."""
    team_id, event_id = TeamId(usage.team_id), EventId(usage.event_id)
    lives = ((usage.idempotency, IDEMPOTENCY_TTL_S), (usage.payment_claim, PAYMENT_CLAIM_TTL_S), (usage.delivery_claim, IDEMPOTENCY_TTL_S))
    return tuple(
        AcceptedClaim(team_id, claim, event_id, usage.reserved_at + life_s * 1000, usage.price_atomic, usage.first_answer)
        for claim, life_s in lives if claim is not None
    )  # fmt: skip


def claim_arguments(one: AcceptedClaim) -> tuple[str | int, ...]:
    """The nine arguments of claims.lua."""
    first = one.first
    if first is None:
        return (one.event_id, "", 0, 0, 0, 0, one.ends_ms, 0, "")
    answer = (first.body_digest, first.received_at, first.events_used, first.events_limit, one.charged_atomic)
    return (one.event_id, *answer, one.ends_ms, 1, first.receipt or "")
