"""Hands payments to billing and waits for what becomes of them; and, on billing's side, tells the waiters. Decides nothing about money."""

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from redis.asyncio import Redis
from redis.exceptions import RedisError

from kite_common.errors import ApiError, Malformed, OutcomeOpen, Unavailable
from kite_common.events.codec import Record, decode_as, encode
from kite_common.events.payments import PaymentOutcome, PaymentResult, PaymentSubmitted
from kite_common.projection import keys
from kite_common.projection.wakeups import Wakeups
from kite_common.runtime import faults
from kite_common.runtime.component import READY, Readiness
from kite_common.runtime.observe import get_logger
from kite_common.x402.key import payment_id, payment_partition

log = get_logger("kite.projection")

# Each waits up to wait_s with its request open: more would only fill memory while billing is behind.
MAX_WAITING: Final = 500
RETRY_AFTER_S: Final = 2
# How long an answer of Redis may take before a payment counts as not accepted: nothing is published without it.
_REDIS_ANSWER_S: Final = 2.0
_NOTHING_TAKEN: Final = "A part of the service is away and the payment was not taken: resend the same payment."


class Publishes(Protocol):
    """What is needed of `kite_common.stream.publisher.Publisher` on kite.payments."""

    async def publish(self, partition: int, records: Sequence[Record], *, not_after_ms: int | None = None) -> int:
        """Append the records together; raises Unavailable (nothing written, also later) or OutcomeOpen."""
        ...


class PaymentSender:
    """Component: while it runs, waiters are woken as soon as billing has spoken; when it does not, they look a few times a second.

    The client belongs to the caller, who closes it after `run` has returned.
    """

    name = "payments"

    def __init__(self, redis: Redis, publisher: Publishes, partitions: int, wait_s: float, *, max_waiting: int = MAX_WAITING) -> None:
        self._wakeups = Wakeups(redis, self.name)
        self._publisher, self._partitions = publisher, partitions
        self._wait_s, self._max_waiting = wait_s, max_waiting
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """How many requests wait for their payment now."""
        return self._waiting

    def readiness(self) -> Readiness:
        """Always ready: a lost wake-up only makes an answer later, and requests without payments need nothing of this."""
        return READY

    async def run(self, stop: asyncio.Event) -> None:
        """Listen for wake-ups until stopped."""
        await self._wakeups.run(stop)

    async def submit(self, submitted: PaymentSubmitted) -> PaymentOutcome:
        """Publish a submission and wait for its outcome, `pending` if none came within wait_s: then the money may be on its way.

        Raises ApiError 503, both before anything is published: `overloaded` while too many wait, `service_unavailable` without Redis
        or log. A caller that is cancelled gives up the answer, not the payment.
        """
        if self._waiting >= self._max_waiting:
            raise ApiError("overloaded", retry_after_s=RETRY_AFTER_S)
        self._waiting += 1
        try:
            await self._redis_answers(submitted)
            return await self._outcome(submitted)
        except (TimeoutError, Malformed) as error:
            # What cannot be read is an outcome all the same: the money may have moved.
            _warn("payments.no_outcome", submitted, error)
            return _pending(submitted)
        finally:
            self._waiting -= 1

    async def keep(self, result: PaymentResult) -> None:
        """Tell billing what the work after a credit was answered with, for repeats. Raises Unavailable, OutcomeOpen."""
        await self._publisher.publish(payment_partition(result.payment_key, self._partitions), (encode(result),))

    async def _outcome(self, submitted: PaymentSubmitted) -> PaymentOutcome:
        with self._wakeups.expect(submitted.submission_id) as expected:
            async with asyncio.timeout(self._wait_s):
                await self._publish(submitted)
                faults.reached("payment.submitted")
                return decode_as(PaymentOutcome, await expected.outcome(keys.payment_outcome(submitted.submission_id)))

    async def _publish(self, submitted: PaymentSubmitted) -> None:
        partition = payment_partition(submitted.payment_key, self._partitions)
        try:
            await self._publisher.publish(partition, (encode(submitted),), not_after_ms=submitted.deadline)
        except OutcomeOpen as error:
            # It may be in the log, then billing answers as ever; if it is not, nothing was taken and the wait ends by itself.
            _warn("payments.publish_open", submitted, error)
        except Unavailable as error:
            raise _not_taken() from error

    async def _redis_answers(self, submitted: PaymentSubmitted) -> None:
        """Without Redis no outcome could be told, so no payment is begun."""
        try:
            async with asyncio.timeout(_REDIS_ANSWER_S):
                await self._wakeups.look(keys.payment_outcome(submitted.submission_id))
        except (Unavailable, TimeoutError) as error:
            raise _not_taken() from error


async def tell(redis: Redis, outcomes: Sequence[PaymentOutcome]) -> None:
    """Write outcomes where their senders look, and wake them. For billing, after the commit; said again it changes nothing.

    Raises Unavailable if Redis is away: a lost outcome costs its caller a 503, the repeat finds the state.
    """
    if not outcomes:
        return
    pipeline = redis.pipeline(transaction=False)
    for outcome in outcomes:
        pipeline.set(keys.payment_outcome(outcome.submission_id), outcome.to_json(), ex=keys.OUTCOME_TTL_S)
        pipeline.publish(keys.OUTCOME_CHANNEL, outcome.submission_id)
    try:
        await pipeline.execute()
    except (RedisError, OSError, TimeoutError) as error:
        raise Unavailable(f"Redis is away: {type(error).__name__}") from error


def _pending(submitted: PaymentSubmitted) -> PaymentOutcome:
    return PaymentOutcome(payment_key=submitted.payment_key, submission_id=submitted.submission_id, result="pending")


def _warn(event: str, submitted: PaymentSubmitted, error: Exception) -> None:
    log.warning(event, payment=payment_id(submitted.payment_key), submission=submitted.submission_id, reason=type(error).__name__)


def _not_taken() -> ApiError:
    return ApiError("service_unavailable", _NOTHING_TAKEN, retry_after_s=RETRY_AFTER_S)
