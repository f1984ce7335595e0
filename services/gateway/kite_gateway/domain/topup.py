"""What a payment shown with an event is good for, judged by a look ahead; and what follows from the credit. Looks nothing up.

A payment that billing knows already always finds its outcome; this is about one it does not know. It is taken only where an empty wallet is
all that stands in the way: whoever pays for a request that fails, or that needs no payment, has paid for nothing.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

from kite_common.events.payments import PaymentOutcome
from kite_common.ids import EventId
from kite_common.x402.key import event_of
from kite_gateway.domain.admission import Admitted, Decision, Duplicate, FundsMissing, PaidWith, Refused, Replayed

# What stands behind the idempotency check of the wire contract (2.3): a known payment comes before these.
_BEHIND_THE_PAYMENT: Final = ("no_active_subscription", "quota_exceeded")


@dataclass(frozen=True, slots=True)
class Needed:
    """The wallet cannot pay for the event. A payment of less than this would leave it that way: debt comes before the event."""

    least_atomic: int
    refused: Refused


@dataclass(frozen=True, slots=True)
class NotNeeded:
    """The request goes on without a payment."""


@dataclass(frozen=True, slots=True)
class NotSold:
    """The request is refused, whoever pays."""

    refused: Refused


Due = Needed | NotNeeded | NotSold


def due_of(decision: Decision) -> Due | Replayed | Refused:
    """What a payment would be for; or the answer that comes before any payment is looked at."""
    if isinstance(decision, Admitted | Duplicate):
        # Of a duplicate the payment may be known: then its own answer comes again.
        return NotNeeded()
    if isinstance(decision, Replayed):
        return decision
    if isinstance(decision.detail, FundsMissing):
        return Needed(decision.detail.required_atomic + decision.detail.debt_atomic, decision)
    return NotSold(decision) if decision.code in _BEHIND_THE_PAYMENT else decision


@dataclass(frozen=True, slots=True)
class TopUp:
    """A payment that is credited: the id of the one event it pays for, the same for every repeat, and what that event claims."""

    event_id: EventId
    paid_with: PaidWith


def topup_of(outcome: PaymentOutcome) -> TopUp:
    """What an outcome `credited` stands for. Raises ValueError for any other."""
    if outcome.credited_at is None:
        raise ValueError("the payment is not credited")
    claim = hashlib.sha256(b"payment\n" + outcome.payment_key.encode()).hexdigest()[:32]
    receipt = "" if outcome.paid is None else outcome.paid.model_dump_json()
    return TopUp(event_of(outcome.payment_key, outcome.credited_at), PaidWith(claim, receipt))
