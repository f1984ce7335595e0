"""When the signer's nonces are suspected to have a gap. Pure.

The SDK's signer counts a nonce up before it sends and never back: one transaction that was not sent leaves a gap, and nothing after it is
mined until the process begins anew. Seen from here, settlements end without an answer of the chain one after the other.
"""

from typing import Final

SUSPICIOUS: Final = 3
_PENDING: Final = "settlement_pending"
_FAILED: Final = "transaction_failed"


def after(streak: int, *, success: bool, reason: str | None, transaction: str) -> int:
    """The streak after one settlement: it grows with what was pending or could not be sent, and ends with a success.

    What was refused before anything was sent says nothing about nonces.
    """
    if success:
        return 0
    return streak + 1 if reason == _PENDING or (reason == _FAILED and not transaction) else streak


def is_suspicious(streak: int) -> bool:
    """Whether to begin anew, with the nonce the chain knows."""
    return streak >= SUSPICIOUS
