"""What was answered after a payment, told to the payment's record: its repeats get it for ever."""

import asyncio
from typing import Final, Protocol

from kite_common.errors import OutcomeOpen, Unavailable
from kite_common.events.payments import PaymentResult
from kite_common.runtime import faults
from kite_common.runtime.observe import get_logger
from kite_common.x402.key import payment_id

log = get_logger("kite.gateway")

# How much later a caller may get an answer that is certain already.
_WITHIN_S: Final = 2.0


class Keeps(Protocol):
    """What is needed of `kite_common.projection.payments.PaymentSender`."""

    async def keep(self, result: PaymentResult) -> None:
        """Tell billing what the work after a credit was answered with. Raises Unavailable, OutcomeOpen."""
        ...


class LoggedPaymentResults:
    """PaymentResults into kite.payments."""

    def __init__(self, sender: Keeps) -> None:
        self._sender = sender

    async def keep(self, result: PaymentResult) -> None:
        """Nothing happens if the log is away: the claim of the payment answers repeats for a day."""
        try:
            async with asyncio.timeout(_WITHIN_S):
                await self._sender.keep(result)
        except (Unavailable, OutcomeOpen, TimeoutError) as error:
            log.warning("topup.result_not_kept", payment=payment_id(result.payment_key), reason=type(error).__name__)
        faults.reached("topup.kept")
