"""What verifying and settling came to, and when a row of bad ends means that only a new process helps. Pure."""

from dataclasses import dataclass
from typing import Final

NONCE_ALREADY_USED: Final = "invalid_exact_evm_nonce_already_used"
_PENDING: Final = "settlement_pending"
_NOT_SENT: Final = "transaction_failed"
# The SDK's signer counts its transactions by itself: one that the node never took leaves a gap, and all later ones hang behind it.
UNCLEAR_AT_MOST: Final = 3


@dataclass(frozen=True, slots=True)
class Verified:
    """Whether a payment would settle now; `reason` is one of the SDK's constants if not."""

    valid: bool
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """How a settle ended. `transaction` is "" if none is known; without success it may still land."""

    success: bool
    transaction: str
    reason: str | None = None

    @property
    def unclear(self) -> bool:
        """Whether a transaction was not mined in time, or not taken by the node for all we know."""
        return not self.success and (self.reason == _PENDING or (self.reason == _NOT_SENT and not self.transaction))


@dataclass(frozen=True, slots=True)
class Used:
    """The nonce is used up. `transaction` paid what was ordered; None if it was cancelled, or used for something else."""

    transaction: str | None


def unclear_in_a_row(before: int, settled: Settled) -> int:
    """The length of the row after one more settle. One that reached the chain ends it; one that was refused says nothing."""
    if settled.unclear:
        return before + 1
    return 0 if settled.transaction else before


def answer_for_used(used: Used) -> Settled:
    """What a settle of a used nonce is told: the same transaction again, or that this authorization is gone."""
    if used.transaction is None:
        return Settled(success=False, transaction="", reason=NONCE_ALREADY_USED)
    return Settled(success=True, transaction=used.transaction)
