"""How far the chain has been scanned, and what a scanned range adds up to. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from kite_common.events.payment_record import BlockSum, ScanCursor
from kite_common.events.payments import PaymentSeen

# The longest range that is asked for; a node that refuses it is asked for shorter ones.
RANGE_BLOCKS: Final = 2_000
_KEPT_SUMS: Final = 600


@dataclass(frozen=True, slots=True)
class Scanned:
    """A range was read: the cursor after it, and what was seen. `after` is the block the range followed."""

    cursor: ScanCursor
    seen: tuple[PaymentSeen, ...]
    after: int | None


def cursor_key(network: str, asset: str, pay_to: str) -> str:
    """The key of the cursor among the states of partition 0."""
    return f"scan|{network}|{asset}|{pay_to}"


def first_cursor(key: str, genesis: str, block: int, block_hash: str) -> ScanCursor:
    """A cursor that has seen nothing: scanning begins after `block`."""
    return ScanCursor(cursor_key=key, block=block, block_hash=block_hash, genesis=genesis, first_block=block + 1)


def advanced(cursor: ScanCursor, block: int, block_hash: str, seen: Iterable[PaymentSeen]) -> ScanCursor:
    """The cursor after the range that ends with `block`."""
    sums = {one.block: int(one.value) for one in cursor.recent}
    total = int(cursor.total)
    for one in seen:
        sums[one.block] = sums.get(one.block, 0) + int(one.value)
        total += int(one.value)
    recent = tuple(BlockSum(block=number, value=str(value)) for number, value in sorted(sums.items()))[-_KEPT_SUMS:]
    return cursor.model_copy(update={"block": block, "block_hash": block_hash, "total": str(total), "recent": recent})


def stepped_back(cursor: ScanCursor, block: int, block_hash: str) -> ScanCursor:
    """The cursor after a reorganisation: what stands behind `block` is scanned again, and counts no more until then."""
    gone = sum(int(one.value) for one in cursor.recent if one.block > block)
    recent = tuple(one for one in cursor.recent if one.block <= block)
    return cursor.model_copy(
        update={"block": block, "block_hash": block_hash, "total": str(int(cursor.total) - gone), "recent": recent}
    )


def range_after(cursor: ScanCursor, newest: int, blocks: int = RANGE_BLOCKS) -> tuple[int, int] | None:
    """The next blocks to scan, at most `blocks` of them, first and last; None if there are none yet. `newest`: the newest block that is
    deep enough."""
    first = cursor.block + 1
    return None if first > newest else (first, min(newest, first + blocks - 1))


def narrower(blocks: int) -> int:
    """How long a range to ask for after one that was not answered."""
    return max(1, blocks // 2)


def wider(blocks: int) -> int:
    """How long a range to ask for after one that was answered."""
    return min(RANGE_BLOCKS, blocks * 2)
