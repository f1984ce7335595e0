"""What the owner of a payment key learns that stands in no log: answers of the facilitator, evidence of the chain, time."""

from dataclasses import dataclass
from typing import Literal

from kite_common.events.payment_record import CallEnd, Place


@dataclass(frozen=True, slots=True)
class Valid:
    """The facilitator would settle it."""


@dataclass(frozen=True, slots=True)
class Invalid:
    """The facilitator says it would not, and why (one of the reasons that may be told)."""

    reason: str


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """No usable answer to verify: nothing was tried, nothing has moved."""

    why: str


VerifyAnswer = Valid | Invalid | NoAnswer


@dataclass(frozen=True, slots=True)
class Success:
    """The facilitator says that this transaction paid. A hint where to look, no proof."""

    transaction: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The facilitator says that it sent nothing, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unclear:
    """Anything else: the money may have moved. `end` is how the call ended, `transaction` one it named, `why` a short word of ours."""

    why: str
    end: CallEnd
    transaction: str | None = None


SettleAnswer = Success | Refused | Unclear


@dataclass(frozen=True, slots=True)
class Paid:
    """The transfer of this authorization, deep enough."""

    place: Place


@dataclass(frozen=True, slots=True)
class Open:
    """The authorization is unused and may still be used. `reverted`: transactions asked about that are mined and did nothing."""

    reverted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stray:
    """Another transfer to an address of ours, under the same nonce: the payer signed twice, and this one reached the chain."""

    place: Place
    paid_to: str
    value: int


@dataclass(frozen=True, slots=True)
class Closed:
    """It can never pay us any more. `stray`: what came in its stead."""

    reason: Literal["authorization_expired", "authorization_canceled", "authorization_used_elsewhere"]
    stray: Stray | None = None


@dataclass(frozen=True, slots=True)
class NotYet:
    """The chain shows an end, but not deep enough to count. `transaction`: where."""

    transaction: str | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The chain could not be read, or shows what cannot be."""

    why: str


Evidence = Paid | Open | Closed | NotYet | Unreadable


@dataclass(frozen=True, slots=True)
class Verified:
    """The verify call of a key has ended."""

    key: str
    answer: VerifyAnswer


@dataclass(frozen=True, slots=True)
class SettleEnded:
    """The settle call of a key has ended."""

    key: str
    answer: SettleAnswer


@dataclass(frozen=True, slots=True)
class EvidenceRead:
    """What the chain says of a key at block `head` (0 if that is not known)."""

    key: str
    evidence: Evidence
    head: int = 0


@dataclass(frozen=True, slots=True)
class Due:
    """The time a key asked to be woken at."""

    key: str


@dataclass(frozen=True, slots=True)
class HashChanged:
    """The block a key's transfer stands in is another one now, or is gone."""

    key: str


@dataclass(frozen=True, slots=True)
class DeepEnough:
    """A key's transfer is deeper than anybody watches for reorganisations."""

    key: str


KeyFact = Verified | SettleEnded | EvidenceRead | Due | HashChanged | DeepEnough


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the chain about a key: see `application.prove_payment`. Addresses lower case, `needed_depth` in blocks.

    `nonce` None: a transfer without authorization, known by its place alone, as the `transfer_number`-th log of its transaction, from 0.
    `hints`: transactions to look at first. `recipients`: all addresses of ours.
    """

    payer: str
    pay_to: str
    value: int
    nonce: str | None
    valid_before_s: int | None
    hints: tuple[str, ...]
    place: Place | None
    claim_block: int
    needed_depth: int
    transfer_number: int | None = None
    recipients: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Verify:
    """Effect: ask the facilitator whether it would settle."""

    key: str


@dataclass(frozen=True, slots=True)
class Settle:
    """Effect: let the facilitator settle. Begins only after the step that ordered it is durable."""

    key: str


@dataclass(frozen=True, slots=True)
class Look:
    """Effect: read the evidence."""

    key: str
    question: Question


Effect = Verify | Settle | Look

