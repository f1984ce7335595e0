"""One billable unit: kind, quantity, price, reservation. No balance."""

from typing import ClassVar, Literal

from kite_common.events.fact import Amount, Count, TeamFact, UnixMs


class UsageRecorded(TeamFact):
    """Written beside the event it charges, in the same record batch: both are in the log, or neither.

    `price_atomic` is for the whole quantity, fixed at admission. The reservation in Redis carries the id `event_id`.
    `idempotency` names the claim to mark as accepted (None: no Idempotency-Key was sent), `delivery_claim` that of a hook's delivery,
    `payment_claim` that of the payment it was paid with.
    """

    kind: ClassVar[str] = "usage"

    event_id: str
    usage_kind: Literal["message", "hook", "replay"]
    quantity: Count = 1
    price_atomic: Amount
    subscription_id: str
    reserved_at: UnixMs
    idempotency: str | None = None
    delivery_claim: str | None = None
    payment_claim: str | None = None
