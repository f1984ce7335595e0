"""When a message or a delivery to a hook may be paid for with the request itself, and what its payment is for. Pure."""

from typing import Final

from kite_common.errors import CODES
from kite_common.events.payments import Alternative, PaymentOutcome, Target
from kite_common.ids import TeamId
from kite_common.x402.key import payment_id
from kite_common.x402.offers import NOT_NEEDED, Purchase, topup_amount
from kite_common.x402.terms import PaymentTerms
from kite_gateway.domain.admission import Claim, Decision, FundsMissing, Refused

DESCRIPTION: Final = "Kite wallet top-up"
# As long as claims are kept: within it the same payment finds the event it has paid for.
REPEATABLE_MS: Final = 86_400_000
# What a payment can still be handed in under, because it may have been credited before this came up.
_STANDING_REFUSALS: Final = frozenset({"no_active_subscription", "quota_exceeded"})


def takes_payment(looked: Decision) -> bool:
    """Whether the payment is looked at at all; what is refused otherwise (a used key, the rate limit) costs nothing."""
    return not isinstance(looked, Refused) or looked.code in {"insufficient_funds", *_STANDING_REFUSALS}


def purchase_of(team_id: TeamId, looked: Decision, terms: PaymentTerms) -> Purchase:
    """What the payment is for, by what a look has found; a payment that is not known gets the route's own word instead of being taken."""
    required, instead = 0, NOT_NEEDED
    if isinstance(looked, Refused):
        required = looked.detail.required_atomic if isinstance(looked.detail, FundsMissing) else 0
        instead = Alternative(status=CODES[looked.code].status, code=looked.code)
    if_new = None if isinstance(looked, Refused) and looked.code == "insufficient_funds" else instead
    return Purchase("topup", topup_amount(terms, required), Target(team_id=team_id), DESCRIPTION, if_new)


def claim_of(outcome: PaymentOutcome, fingerprint: bytes) -> Claim:
    """The claim of an event that was paid for without an Idempotency-Key: every repeat of the payment finds the event."""
    return Claim(payment_id(outcome.payment_key).replace("-", "")[:32], fingerprint.hex())


def is_repeatable(outcome: PaymentOutcome, now_ms: int) -> bool:
    """Whether what was done with the credit can still be found, or done if it never was."""
    return outcome.credited_at is not None and now_ms < outcome.credited_at + REPEATABLE_MS
