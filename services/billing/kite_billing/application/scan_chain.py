"""Reads the next blocks for transfers to payTo. Writes nothing: what it finds is reported to the inbox of the keys it belongs to."""

from collections.abc import Sequence
from dataclasses import dataclass

from kite_billing.application.ports import Chain, ChainUnreadable
from kite_billing.domain.payments.evidence import Log, Receipt, address_of, amount_of, used_before
from kite_billing.domain.payments.scan import (
    RANGE_BLOCKS,
    Scanned,
    advanced,
    cursor_key,
    first_cursor,
    range_after,
    stepped_back,
)
from kite_common.events.payment_record import ScanCursor
from kite_common.events.payments import PaymentSeen
from kite_common.x402.key import transfer_key
from kite_common.x402.networks import Asset


@dataclass(frozen=True, slots=True)
class Scanner:
    """`depth`: how deep blocks must be to be scanned; `from_block`: the first one, None = the newest at the first start; `watch_blocks`:
    how far it goes back when the chain has changed behind it."""

    chain: Chain
    asset: Asset
    pay_to: str
    depth: int
    watch_blocks: int
    from_block: int | None = None

    @property
    def key(self) -> str:
        """The key of its cursor."""
        return cursor_key(self.asset.network, self.asset.address, self.pay_to)

    async def first(self) -> Scanned:
        """Where scanning begins. Raises ChainUnreadable."""
        genesis, head = await self.chain.block(0), await self.chain.head()
        before = max(0, min(head.number, self.from_block - 1 if self.from_block is not None else head.number - self.depth + 1))
        at = await self.chain.block(before)
        return Scanned(first_cursor(self.key, genesis.hash, at.number, at.hash), (), None)

    async def next(self, cursor: ScanCursor, most: int = RANGE_BLOCKS) -> tuple[Scanned | None, int]:
        """The next range, at most so many blocks, None if there is none yet; and how many blocks are left behind it.

        Raises ChainUnreadable, also for a range that is too long for the node.
        """
        head = await self.chain.head()
        newest = head.number - self.depth + 1
        if head.number < cursor.block:
            # A node that lags, or a chain that is about to show another block there.
            return None, 0
        if (await self.chain.block(cursor.block)).hash != cursor.block_hash:
            # What stood before the first scanned block is no income of this Kite.
            back = await self.chain.block(max(cursor.first_block - 1, cursor.block - self.watch_blocks))
            return Scanned(stepped_back(cursor, back.number, back.hash), (), cursor.block), newest - back.number
        blocks = range_after(cursor, newest, most)
        if blocks is None:
            return None, 0
        first, last = blocks
        transfers = await self.chain.transfers_to(self.pay_to, first, last)
        seen = [await self._seen(one) for one in transfers if self._is_income(one)]
        end = await self.chain.block(last)
        return Scanned(advanced(cursor, last, end.hash, seen), tuple(seen), cursor.block), newest - last

    def _is_income(self, transfer: Log) -> bool:
        return amount_of(transfer) > 0 and address_of(transfer.topics[1]) != self.pay_to

    async def _seen(self, transfer: Log) -> PaymentSeen:
        receipt = await self.chain.receipt(transfer.transaction)
        if receipt is None or not _holds(receipt, transfer):
            raise ChainUnreadable("receipt_missing")
        return PaymentSeen(
            payment_key=self._key_of(transfer, receipt.logs), transaction=transfer.transaction, block=transfer.block,
            block_hash=transfer.block_hash, log_index=transfer.index, payer=address_of(transfer.topics[1]), value=str(amount_of(transfer)),
            pay_to=self.pay_to,
        )  # fmt: skip

    def _key_of(self, transfer: Log, logs: Sequence[Log]) -> str:
        payer, nonce = address_of(transfer.topics[1]), used_before(transfer, logs, self.asset.address)
        if nonce is None:
            number = next(number for number, log in enumerate(logs) if log.index == transfer.index)
            return transfer_key(self.asset, payer, transfer.transaction, number)
        return f"{self.asset.network}|{self.asset.address}|{payer}|{nonce}"


def _holds(receipt: Receipt, transfer: Log) -> bool:
    return any((log.index, log.topics, log.data) == (transfer.index, transfer.topics, transfer.data) for log in receipt.logs)
