"""One billable unit: kind, quantity, price, reservation. No balance."""

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from kite_common.events.fact import Amount, Count, TeamFact, UnixMs


class FirstAnswer(BaseModel):
    """What a request with an Idempotency-Key was answered, beside event id and price: its repeats get it also after Redis lost the claim.

    `body_digest` is that of the request's body; another body under the same key is refused. `receipt`: what it told of its payment.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    body_digest: str
    received_at: UnixMs
    events_used: Count
    events_limit: Count
    receipt: str | None = Field(None, exclude_if=lambda receipt: receipt is None)


class UsageRecorded(TeamFact):
    """Written beside the event it charges, in the same record batch: both are in the log, or neither.

    `price_atomic` is for the whole quantity, fixed at admission. The reservation in Redis carries the id `event_id`.
    `idempotency` names the claim to mark as accepted (None: no Idempotency-Key was sent), `delivery_claim` that of a hook's delivery,
    `payment_claim` that of the payment it was paid with, `first_answer` what repeats of any of them get.
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
    # Not written where there is none: most usages carry no claim, and examples of older writers stay what they are.
    payment_claim: str | None = Field(None, exclude_if=lambda claim: claim is None)
    first_answer: FirstAnswer | None = Field(None, exclude_if=lambda answer: answer is None)
