"""The numbers of the state machine: depth, times, limits, when the same payload may be settled again. Pure."""

from dataclasses import dataclass, field
from typing import Final

from kite_billing.domain.payments.facts import Question
from kite_common.events.payment_record import PaymentRecord
from kite_common.x402.networks import Asset
from kite_common.x402.precheck import VERIFY_MARGIN_S

# A submission read so long after its deadline is skipped: nobody waits, nothing may start.
LATE_MS: Final = 2_000
RUNNING_OF_PAYER: Final = 8
RUNNING_OF_PROCESS: Final = 64
_ATTEMPTS: Final = 10
_AGAIN_AFTER_ANSWER_MS: Final = 2_000
_AGAIN_AFTER_PENDING_MS: Final = 60_000
_AGAIN_AFTER_CUT_MARGIN_MS: Final = 5_000
# After it became unclear: every half second for three seconds, as long as waiters stay, then ever more seldom.
_LOOKS_MS: Final = (500, 1_000, 1_500, 2_000, 2_500, 3_000, 5_000, 10_000, 20_000, 40_000, 60_000)
_LOOK_EVERY_MS: Final = 60_000
WAITERS_STAY_MS: Final = 3_000
SEEN_AGAIN_MS: Final = 10_000
KEPT_AFTER_WINDOW_MS: Final = 86_400_000
STORED_RESULT_MS: Final = 86_400_000
HELD_ID_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class BootstrapKeys:
    """What credentials of new teams are sealed and hashed with."""

    cipher_key: bytes = field(repr=False)
    pepper: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a deployment decides about payments. Addresses lower case; times in the units of their names; depths in blocks; `plans`: ids of
    those a new team may have, None = any."""

    asset: Asset
    pay_to: str
    recipients: frozenset[str]
    bootstrap: BootstrapKeys | None = None
    plans: frozenset[str] | None = None
    max_timeout_s: int = 300
    settle_timeout_s: float = 30.0
    credential_window_s: int = 600
    confirmations: int = 1
    confirmations_large: int = 12
    large_atomic: int = 10_000_000
    watch_blocks: int = 600

    def depth(self, value: int) -> int:
        """How deep a transfer of this value must be; 1 = in the newest block."""
        return max(self.confirmations, self.confirmations_large) if value >= self.large_atomic else self.confirmations


def may_settle_again(record: PaymentRecord, now: int, rules: Rules) -> bool:
    """Whether the same payload may go to the facilitator once more, the chain having just said that it is unused.

    The last call must surely be over: answered, never begun, or so old that nothing of it can still come.
    """
    if record.authorization is None or record.signature is None or record.attempts >= _ATTEMPTS or record.closed is not None:
        return False
    if now > (int(record.authorization.valid_before) - VERIFY_MARGIN_S - round(rules.settle_timeout_s)) * 1_000:
        return False
    call = record.last_call
    if call is None:
        return True
    over_at = call.ended_at if call.ended_at is not None else call.began_at
    match call.end:
        case "answered" | "unsent":
            return now - over_at >= _AGAIN_AFTER_ANSWER_MS
        case "pending":
            return now - over_at >= _AGAIN_AFTER_PENDING_MS
        case _:
            return now - call.began_at >= round(rules.settle_timeout_s * 1_000) + _AGAIN_AFTER_CUT_MARGIN_MS


def next_look(since: int, looks: int) -> int:
    """When the reconciler reads evidence after `looks` looks at a key that became unclear at `since` (milliseconds)."""
    if looks < len(_LOOKS_MS):
        return since + _LOOKS_MS[looks]
    return since + _LOOKS_MS[-1] + (looks - len(_LOOKS_MS) + 1) * _LOOK_EVERY_MS


def window_end_ms(record: PaymentRecord) -> int | None:
    """When the authorization's window is over, None if it is not known."""
    return None if record.authorization is None else int(record.authorization.valid_before) * 1_000


def paid_to(record: PaymentRecord, rules: Rules) -> str:
    """The address of ours that a key's money came to: it may be one that is not asked for any more."""
    if record.paid_to is not None:
        return record.paid_to
    return rules.pay_to if record.authorization is None else record.authorization.to_address


def question_of(record: PaymentRecord, rules: Rules, hint: str | None = None) -> Question:
    """What to ask of the chain about a key; `hint`: a transaction just named."""
    authorization, nonce = record.authorization, record.payment_key.rpartition("|")[2]
    place = record.place
    hints = tuple(one for one in (hint, place.transaction if place else None, record.hint) if one is not None)
    # Money that stands in an account is asked for as it came; that may be another transfer than the one a request brought.
    stands = authorization is None or record.state in ("settled", "credited", "observed")
    value = int(record.value if authorization is None or stands else authorization.value)
    return Question(
        payer=record.payer,
        pay_to=paid_to(record, rules) if authorization is None or stands else authorization.to_address,
        value=value,
        nonce=None if nonce.startswith("log:") else nonce,
        valid_before_s=None if authorization is None else int(authorization.valid_before),
        hints=hints,
        place=place,
        claim_block=record.claim_block,
        needed_depth=rules.depth(value),
        recipients=rules.recipients,
        transfer_number=int(nonce.rpartition(":")[2]) if nonce.startswith("log:") else None,
    )
