"""What happens to a payment key. A record is what its events make of it; each event becomes one step in the log. Decides nothing."""

from dataclasses import dataclass

from kite_common.events.fact import UnixMs
from kite_common.events.payment_record import (
    Binding,
    BootstrapPart,
    CallEnd,
    CreditResult,
    Place,
    Requirement,
    StepName,
)
from kite_common.events.payments import Authorization


@dataclass(frozen=True, slots=True)
class PaymentClaimed:
    """A submission starts work on the key, or starts it again; the binding replaces an earlier one that was never sent."""

    at: UnixMs
    binding: Binding
    authorization: Authorization
    signature: str
    x402_version: int
    requirement: Requirement
    head: int
    quote_hash: str | None
    idempotency_hash: str | None
    idempotency_long: bool


@dataclass(frozen=True, slots=True)
class PaymentSettling:
    """A settle call is ordered: from here on the money may move."""

    at: UnixMs


@dataclass(frozen=True, slots=True)
class PaymentSettled:
    """Proven on the chain, and the credit is ordered as command `command_seq`. `end`: how the settle call ended, if one did."""

    at: UnixMs
    place: Place
    command_seq: int
    credited_to: str
    bootstrap: BootstrapPart | None = None
    end: CallEnd | None = None


@dataclass(frozen=True, slots=True)
class PaymentCredited:
    """The ledger has it. `released`: somebody was given the credentials with it."""

    at: UnixMs
    credit: CreditResult
    released: bool = False


@dataclass(frozen=True, slots=True)
class PaymentRejected:
    """The facilitator refuses, or what it sent (`transaction`) was reverted, and the chain says that nothing happened."""

    at: UnixMs
    reason: str
    end: CallEnd | None = None
    transaction: str | None = None


@dataclass(frozen=True, slots=True)
class PaymentUnknown:
    """Nobody can say whether the money moved."""

    at: UnixMs
    why: str
    end: CallEnd
    transaction: str | None = None


@dataclass(frozen=True, slots=True)
class PaymentDead:
    """The authorization can never pay us."""

    at: UnixMs
    reason: str


@dataclass(frozen=True, slots=True)
class PaymentReversed:
    """Its transaction has left the chain, and the credit is taken back by command `command_seq`."""

    at: UnixMs
    command_seq: int
    why: str


@dataclass(frozen=True, slots=True)
class PaymentObserved:
    """A transfer to us, to `paid_to`, that nobody's request asked for. It is credited, as command `command_seq`, to where unclaimed money
    waits."""

    at: UnixMs
    payer: str
    value: str
    place: Place
    command_seq: int
    credited_to: str | None
    paid_to: str


@dataclass(frozen=True, slots=True)
class PaymentAssigned:
    """An operator has given it to a team; the credit is ordered as command `command_seq`."""

    at: UnixMs
    team_id: str
    command_seq: int
    note: str


@dataclass(frozen=True, slots=True)
class Moved:
    """A reorganisation put the transfer into another block or transaction."""

    at: UnixMs
    place: Place


@dataclass(frozen=True, slots=True)
class ResultStored:
    """What the work after the credit was answered with."""

    at: UnixMs
    status: int
    body: str


@dataclass(frozen=True, slots=True)
class CredentialsReleased:
    """Somebody was given the credentials for the first time."""

    at: UnixMs


@dataclass(frozen=True, slots=True)
class SealRemoved:
    """Nobody can have the credentials any more."""

    at: UnixMs


@dataclass(frozen=True, slots=True)
class WatchEnded:
    """The transfer is so deep that it is not watched any more; the signature goes."""

    at: UnixMs


@dataclass(frozen=True, slots=True)
class LandingEnded:
    """A reversed payment can never land again."""

    at: UnixMs
    reason: str


PaymentEvent = (
    PaymentClaimed | PaymentSettling | PaymentSettled | PaymentCredited | PaymentRejected | PaymentUnknown | PaymentDead | PaymentReversed
    | PaymentObserved | PaymentAssigned | Moved | ResultStored | CredentialsReleased | SealRemoved | WatchEnded | LandingEnded
)  # fmt: skip


def told(event: PaymentEvent) -> tuple[StepName, str | None]:
    """The step's name in the log, and why, in words of ours."""
    match event:
        case PaymentClaimed():
            return "claimed", event.binding.purpose
        case PaymentSettling():
            return "settling", None
        case PaymentSettled():
            return "settled", None
        case PaymentCredited():
            return "credited", event.credit.refused
        case PaymentRejected() | PaymentDead():
            return ("rejected" if isinstance(event, PaymentRejected) else "dead"), event.reason
        case PaymentUnknown() | PaymentReversed():
            return ("unknown" if isinstance(event, PaymentUnknown) else "reversed"), event.why
        case PaymentObserved():
            return "observed", None
        case PaymentAssigned():
            return "assigned", event.note
        case _:
            return "noted", _NOTES[type(event)]


_NOTES = {
    Moved: "moved", ResultStored: "result stored", CredentialsReleased: "credentials released", SealRemoved: "seal removed",
    WatchEnded: "watch ended", LandingEnded: "cannot land again",
}  # fmt: skip
