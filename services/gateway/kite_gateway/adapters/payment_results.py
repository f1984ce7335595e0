"""What was answered after a payment, told to the payment's record: its repeats get it for ever."""

from typing import Final

from kite_common.errors import KiteError
from kite_common.events.codec import encode
from kite_common.events.payments import PaymentResult
from kite_common.runtime.observe import get_logger
from kite_common.x402.key import payment_id, payment_partition
from kite_gateway.adapters.message_log import Publishes

log = get_logger("kite.gateway")

# Larger bodies are not kept by the record (payments specification, 3).
_LARGEST_BODY: Final = 8 * 1024


class KafkaPaymentResults:
    """The inbox of the payments processor."""

    def __init__(self, publisher: Publishes, partitions: int) -> None:
        self._publisher, self._partitions = publisher, partitions

    async def remember(self, payment_key: str, status: int, body: bytes) -> None:
        """Best effort: without it repeats are answered by the event's claim, for a day."""
        if len(body) > _LARGEST_BODY:
            return
        record = encode(PaymentResult(payment_key=payment_key, status=status, body=body.decode()))
        try:
            await self._publisher.publish(payment_partition(payment_key, self._partitions), (record,))
        except KiteError as error:
            log.warning("topup.result_not_kept", payment=payment_id(payment_key), reason=type(error).__name__)
