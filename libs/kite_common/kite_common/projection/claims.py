"""Claims of Idempotency-Keys and of hooks' deliveries as the log remembers them. Pure."""

from typing import NamedTuple

from kite_common.events.usage import FirstAnswer, UsageRecorded
from kite_common.ids import EventId, TeamId
from kite_common.projection.keys import IDEMPOTENCY_TTL_S


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
    """What a charged usage says about claims; none if no key was sent and no delivery was named."""
    ends_ms = usage.reserved_at + IDEMPOTENCY_TTL_S * 1000
    team_id, event_id = TeamId(usage.team_id), EventId(usage.event_id)
    return tuple(
        AcceptedClaim(team_id, claim, event_id, ends_ms, usage.price_atomic, usage.first_answer)
        for claim in (usage.idempotency, usage.delivery_claim) if claim is not None
    )  # fmt: skip


def claim_arguments(one: AcceptedClaim) -> tuple[str | int, ...]:
    """The eight arguments of claims.lua."""
    first = one.first
    if first is None:
        return (one.event_id, "", 0, 0, 0, 0, one.ends_ms, 0)
    answer = (first.body_digest, first.received_at, first.events_used, first.events_limit, one.charged_atomic)
    return (one.event_id, *answer, one.ends_ms, 1)
