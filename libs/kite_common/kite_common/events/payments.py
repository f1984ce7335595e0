"""x402 payments in the log: the inbox of the payments processor, its steps, the record of each payment key, and outcomes. No secrets but
the caller's signature, which a record loses once it is dead or deep in the chain.

A payment key is `network|asset|from|nonce`, all lower case; the partition of everything about it is that of the key without its nonce, so
one payer has one owner (`kite_common.x402.key`). Amounts on the chain are decimal strings, as they may be larger than any JSON integer.
"""

from typing import ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict

from kite_common.events.fact import Amount, Count, Fact, UnixMs

# What is kept of an answer; it stands in the record of its payment for ever.
LARGEST_RESULT_BYTES: Final = 8 * 1024
# The reason of a conflict that is none: the credit is old, and what the caller did with it is not known any more.
CREDITED_BEFORE: Final = "credited"

Purpose = Literal["bootstrap", "deposit", "topup", "page"]
PaymentState = Literal["claimed", "settling", "unknown", "settled", "credited", "rejected", "dead", "reversed", "observed"]


class Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class Authorization(Value):
    """An EIP-3009 `TransferWithAuthorization`, canonical: addresses and nonce lower case, numbers as decimal strings without sign or zeros
    before them, times in unix seconds."""

    from_address: str
    to_address: str
    value: str
    valid_after: str
    valid_before: str
    nonce: str


class Target(Value):
    """What the payment is for. `team_id` always but for bootstrap, where source, plan and deposit stand instead.

    Page: `end_cursor` is the cursor of the page's last row, `rows` their number, `since` what was asked for.
    """

    team_id: str | None = None
    source: str | None = None
    plan_id: str | None = None
    since: str | None = None
    end_cursor: str | None = None
    rows: Count | None = None


class Alternative(Value):
    """What a key that is not yet known gets instead of being claimed: `status` and the public error code, with `reason` for 402s; or,
    with status 0 and code `not_needed`, the answer that the request needs no payment."""

    status: int
    code: str
    reason: str | None = None


class PaymentFact(Fact):
    """What everything about a payment key has."""

    payment_key: str

    @property
    def key(self) -> str:
        return self.payment_key


class PaymentSubmitted(PaymentFact):
    """A caller shows an authorization for one request. Read more than 2 s after `deadline` it is skipped: nobody waits any more.

    `fingerprint` is the hex SHA-256 of the request; `amount_atomic` what it costs; `quote_hash` the hex SHA-256 of a quote id with a valid
    MAC; `idempotency_hash` of the idempotency id, `idempotency_long` whether that had at least 16 characters.
    """

    kind: ClassVar[str] = "payment-submitted"

    submission_id: str
    sent_at: UnixMs
    deadline: UnixMs
    purpose: Purpose
    fingerprint: str
    target: Target
    authorization: Authorization
    signature: str
    x402_version: Literal[1, 2]
    pay_to: str
    amount_atomic: Amount
    if_new: Alternative | None = None
    quote_hash: str | None = None
    idempotency_hash: str | None = None
    idempotency_long: bool = False


class PaymentResult(PaymentFact):
    """What the work after a credit was answered with (`body` at most 8 KiB): repeats of the payment get it for ever."""

    kind: ClassVar[str] = "payment-result"

    status: int
    body: str


class CreditApplied(PaymentFact):
    """The accounts processor has applied the command `<payment key>#<seq>` of this payment: the ledger holds it.

    `refused` names why the work after the credit (a page's debit, an opening) did not happen; the credit itself never is refused.
    """

    kind: ClassVar[str] = "credit-applied"

    seq: Count
    team_id: str
    balance_after_atomic: Amount
    applied: Count
    partition: Count
    refused: str | None = None


class PaymentSeen(PaymentFact):
    """The chain scanner saw a transfer to payTo, deep enough. `pay_to`: the address, None = the present one."""

    kind: ClassVar[str] = "payment-seen"

    transaction: str
    block: Count
    block_hash: str
    log_index: Count
    payer: str
    value: str
    pay_to: str | None = None


class PaymentAssigned(PaymentFact):
    """An operator gives an observed payment to a team. `command_id` makes a repeat harmless."""

    kind: ClassVar[str] = "payment-assigned"

    command_id: str
    team_id: str
    note: str


class PaymentStep(PaymentFact):
    """One step of a payment, for people and audits: no signature, no secret. `seq` counts the key's steps from 1.

    `noted`: the record changed in another way than its state, `why` says how.
    """

    kind: ClassVar[str] = "payment-step"

    seq: Count
    event: Literal[
        "claimed", "settling", "settled", "credited", "rejected", "unknown", "dead", "reversed", "observed", "assigned", "noted"
    ]  # fmt: skip
    before: PaymentState | None
    at: UnixMs
    why: str | None = None
    team_id: str | None = None
    transaction: str | None = None
    amount_atomic: Amount | None = None


class PaymentPayer(Value):
    """Who paid with which transaction, as `payment-response` tells it."""

    transaction: str
    network: str
    payer: str
    amount_atomic: Amount


class Bootstrapped(Value):
    """What a bootstrap payment made. `seal` holds API key and hook token and is opened only by edges; None once nobody may have them."""

    team_id: str
    source: str
    plan_id: str
    seal: str | None = None


class PaymentOutcome(PaymentFact):
    """What a submission came to; waits for its sender in Redis under the submission id for a short time.

    `paid` is set whenever the money has arrived. `after_settle`: a settle call was made, so a refusal carries `payment-response` false.
    """

    kind: ClassVar[str] = "payment-outcome"

    submission_id: str
    result: Literal["credited", "refused", "not_needed", "conflict", "in_progress", "not_taken", "pending"]
    status: int = 0
    code: str | None = None
    reason: str | None = None
    transaction: str | None = None
    after_settle: bool = False
    paid: PaymentPayer | None = None
    credited_at: UnixMs | None = None
    team_id: str | None = None
    balance_after_atomic: Amount | None = None
    applied: Count | None = None
    applied_partition: Count | None = None
    amount_atomic: Amount | None = None
    target: Target | None = None
    bootstrapped: Bootstrapped | None = None
    stored_status: int | None = None
    stored_body: str | None = None
