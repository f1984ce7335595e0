"""What the payments processor needs of the world."""

from collections.abc import Sequence
from typing import Protocol

from kite_billing.domain.payments.evidence import Block, Log, Receipt
from kite_billing.domain.payments.facts import SettleAnswer, VerifyAnswer
from kite_common.errors import KiteError
from kite_common.events.payment_record import PaymentRecord


class ChainUnreadable(KiteError):
    """The chain was not read: no answer in time, an error, or something missing in it. The text is for the log, never for a caller."""


class Facilitator(Protocol):
    """Who settles. Always gets the payload rebuilt from canonical values; neither method raises."""

    async def verify(self, record: PaymentRecord) -> VerifyAnswer:
        """Whether it would settle."""
        ...

    async def settle(self, record: PaymentRecord) -> SettleAnswer:
        """Settle. The answer proves nothing."""
        ...


class Chain(Protocol):
    """A node of the chain, about one token. Everything raises ChainUnreadable instead of guessing."""

    async def head(self) -> Block:
        """The newest block."""
        ...

    async def block(self, number: int) -> Block:
        """The block of a number."""
        ...

    async def receipt(self, transaction: str) -> Receipt | None:
        """The receipt of a transaction, None if it is not mined."""
        ...

    async def authorization_used(self, payer: str, nonce: str, at_block: int) -> bool:
        """Whether the nonce is used up, by payment or cancellation, as of a block."""
        ...

    async def logs_of_nonce(self, payer: str, nonce: str, first: int, last: int) -> Sequence[Log]:
        """Uses and cancellations of a nonce in a range of blocks."""
        ...

    async def transfers_to(self, pay_to: str, first: int, last: int) -> Sequence[Log]:
        """The token's transfers to an address in a range of blocks, in their order."""
        ...
