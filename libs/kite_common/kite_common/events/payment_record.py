"""What kite.payments.state holds: the record of each payment key after its newest step, and how far the chain was scanned.

Written by the payments processor alone. A record holds the caller's signature for as long as it may be settled again, then no more.
"""

from typing import ClassVar, Literal

from kite_common.events.fact import Amount, Count, Fact, UnixMs
from kite_common.events.payments import Authorization, PaymentFact, PaymentState, Purpose, Target, Value

CallEnd = Literal["open", "unsent", "answered", "pending", "timeout", "cut"]
StepName = Literal[
    "claimed", "settling", "settled", "credited", "rejected", "unknown", "dead", "reversed", "observed", "assigned", "noted"
]  # fmt: skip


class Binding(Value):
    """The one request a payment pays for. `fingerprint` is the hex SHA-256 of the request, `amount_atomic` what it costs."""

    purpose: Purpose
    fingerprint: str
    target: Target
    amount_atomic: Amount


class Requirement(Value):
    """What was asked for at the claim, as the facilitator is told it again and again. Addresses lower case."""

    network: str
    asset: str
    pay_to: str
    amount_atomic: Amount
    max_timeout_s: Count
    name: str
    version: str


class LastCall(Value):
    """The newest settle call: when it began and ended, how, and the transaction it named. `open`: nobody knows how it ended."""

    began_at: UnixMs
    ended_at: UnixMs | None = None
    end: CallEnd = "open"
    transaction: str | None = None


class Place(Value):
    """A proven transfer: the log of the token at `log_index` of a block."""

    transaction: str
    block: Count
    block_hash: str
    log_index: Count


class CreditResult(Value):
    """The credit as the accounts processor applied it. `refused`: what was bought with it did not happen."""

    at: UnixMs
    team_id: str
    balance_after_atomic: Amount
    applied: Count
    partition: Count
    refused: str | None = None


class BootstrapPart(Value):
    """What a bootstrap made. `seal`: its credentials, until nobody may have them any more; `released`: somebody was given them."""

    team_id: str
    source: str
    plan_id: str
    seal: str | None = None
    released: bool = False


class PastStep(Value):
    """One of the last steps."""

    event: StepName
    at: UnixMs
    why: str | None = None


class PaymentRecord(PaymentFact):
    """A payment key.

    `sent`: a settle call was ever ordered; never goes back. `hint`: a transaction the facilitator named, unproven; `place`: the proven one.
    `command_seq` counts the key's commands, `steps` its steps. `credited_to`: the account the money stands in now, by the newest command.
    `paid_to`: the address of ours that unclaimed money came to; without it the authorization says.
    `claim_block`: the head of the chain at the first claim. `closed`: why a reversed payment can never land again. An observed key that
    nobody has claimed has neither binding nor authorization. `deep`: so deep in the chain that nobody looks any more.
    """

    kind: ClassVar[str] = "payment-record"

    state: PaymentState
    payer: str
    value: str
    binding: Binding | None = None
    authorization: Authorization | None = None
    signature: str | None = None
    x402_version: Literal[1, 2] = 2
    requirement: Requirement | None = None
    sent: bool = False
    attempts: Count = 0
    last_call: LastCall | None = None
    hint: str | None = None
    place: Place | None = None
    claim_block: Count = 0
    command_seq: Count = 0
    steps: Count = 0
    credited_to: str | None = None
    paid_to: str | None = None
    reason: str | None = None
    closed: str | None = None
    deep: bool = False
    credit: CreditResult | None = None
    stored_status: int | None = None
    stored_body: str | None = None
    bootstrap: BootstrapPart | None = None
    quote_hash: str | None = None
    idempotency_hash: str | None = None
    idempotency_long: bool = False
    history: tuple[PastStep, ...] = ()


class BlockSum(Value):
    """What the transfers of one scanned block come to, as a decimal string."""

    block: Count
    value: str


class ScanCursor(Fact):
    """How far the chain was scanned for transfers to payTo. `cursor_key` is `scan|network|asset|payTo`.

    `block` and `block_hash`: the last scanned one; `genesis`: the hash of block 0, which tells one chain from another; `total`: what all
    transfers since the first scanned block come to, `recent`: the newest of them by block, so that a reorganisation can be taken off again.
    """

    kind: ClassVar[str] = "payment-scan"

    cursor_key: str
    block: Count
    block_hash: str
    genesis: str
    first_block: Count
    total: str = "0"
    recent: tuple[BlockSum, ...] = ()

    @property
    def key(self) -> str:
        return self.cursor_key
