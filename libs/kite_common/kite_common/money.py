"""Money: integers of the smallest unit of an asset. No floats, no formatting."""

from typing import Final, NewType

AtomicAmount = NewType("AtomicAmount", int)

# What "unlimited" looks like on the wire: the largest integer every JSON client reads exactly (2^53 - 1).
UNLIMITED: Final = 9_007_199_254_740_991


def affordable(balance_atomic: int, reserved_atomic: int, price_atomic: int) -> int | None:
    """How many events the free part of a wallet pays for; None if they cost nothing. Never negative."""
    if price_atomic == 0:
        return None
    return max(0, balance_atomic - reserved_atomic) // price_atomic
