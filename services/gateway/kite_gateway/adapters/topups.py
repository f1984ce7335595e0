"""What an empty wallet can do: offers of a top-up, the till of one request, and the wait for the credit to reach admission.

Parsing, checks and answers of payments are `kite_common.x402`'s. Nothing is kept here: quotes travel with the offers.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol, assert_never

from redis.asyncio import Redis
from redis.exceptions import RedisError

from kite_common.clock import Clock
from kite_common.errors import ApiError, OutcomeOpen, Unavailable
from kite_common.events.payments import Alternative, PaymentOutcome, PaymentResult, PaymentSubmitted, Purpose, Target
from kite_common.ids import TeamId
from kite_common.projection import keys
from kite_common.runtime import faults
from kite_common.runtime.observe import get_logger
from kite_common.x402 import intake
from kite_common.x402.answers import refusal_of
from kite_common.x402.key import payment_id
from kite_common.x402.offers import NOT_NEEDED, Purchase, RequestFacts, payment_error, topup_amount
from kite_common.x402.terms import PaymentTerms
from kite_common.x402.wire import PAYMENT_REQUIRED
from kite_gateway.adapters.http.problems import refusal_error
from kite_gateway.application.ports import Till
from kite_gateway.domain.admission import FundsMissing, Refused
from kite_gateway.domain.topup import Due, Needed, NotNeeded, NotSold

log = get_logger("kite.gateway.topups")

_PURPOSE: Final[Purpose] = "topup"
_DESCRIPTION: Final = "Kite wallet top-up"
_QUOTE_BYTES: Final = 16
_PAYMENT: Final = 402
_MS: Final = 1000
# How much later a caller may get an answer that is certain already.
_KEEP_S: Final = 2.0


class Payments(Protocol):
    """What is needed of `kite_common.projection.payments.PaymentSender`."""

    async def submit(self, submitted: PaymentSubmitted) -> PaymentOutcome:
        """Hand a payment to billing and wait for its outcome. Raises ApiError 503 if it was not handed over."""
        ...

    async def keep(self, result: PaymentResult) -> None:
        """Tell billing what the work after a credit was answered with. Raises Unavailable, OutcomeOpen."""
        ...


@dataclass(frozen=True, slots=True)
class TopUpDesk:
    """Offers and tills of all requests. `random_bytes` draws that many unpredictable bytes."""

    terms: PaymentTerms
    payments: Payments
    clock: Clock
    random_bytes: Callable[[int], bytes]

    def till_of(self, request: RequestFacts, team_id: TeamId) -> Till:
        """The till of a request that shows a payment, whether it can be read or not."""
        return TopUpTill(self, request, team_id)

    def offer(self, request: RequestFacts, team_id: TeamId, refused: Refused) -> ApiError:
        """The answer to an event the wallet cannot pay for: 402 `insufficient_funds` that asks for a top-up."""
        purchase = self.purchase(team_id, price_of(refused))
        told = refusal_error(refused)
        return payment_error(
            self.terms, request, purchase, self.now_ms() // _MS, self.random_bytes(_QUOTE_BYTES), code=told.code, extra=told.extra
        )

    def purchase(self, team_id: TeamId, price_atomic: int, if_new: Alternative | None = None) -> Purchase:
        """A top-up that pays for an event of that price."""
        return Purchase(_PURPOSE, topup_amount(self.terms, price_atomic), Target(team_id=team_id), _DESCRIPTION, if_new)

    def now_ms(self) -> int:
        return self.clock.unix_ms()


@dataclass(frozen=True, slots=True)
class TopUpTill:
    """The till of one request."""

    desk: TopUpDesk
    request: RequestFacts
    team_id: TeamId

    async def pay(self, due: Due) -> PaymentOutcome | None:
        """Hand the payment in; see `kite_gateway.application.ports.Till`."""
        desk, purchase = self.desk, self._purchase(due)
        try:
            submitted = intake.take_in(self.request, purchase, desk.terms, desk.now_ms(), desk.random_bytes(intake.RANDOM_BYTES))
        except ApiError as error:
            _refuse(due, error)
            return None
        if submitted is None:
            return None
        outcome = await desk.payments.submit(submitted)
        faults.reached("topup.answered")
        refused = refusal_of(
            outcome, self.request, purchase, desk.terms, desk.now_ms() // _MS, desk.random_bytes(_QUOTE_BYTES)
        )  # fmt: skip
        if refused is None:
            return outcome if outcome.result == "credited" else None
        if outcome.result == "refused":
            _refuse(due, refused)
            return None
        raise refused

    def _purchase(self, due: Due) -> Purchase:
        match due:
            case Needed(price):
                return self.desk.purchase(self.team_id, price)
            case NotNeeded():
                return self.desk.purchase(self.team_id, 0, NOT_NEEDED)
            case NotSold(refused):
                error = refusal_error(refused)
                return self.desk.purchase(self.team_id, 0, Alternative(status=error.status, code=error.code))
            case _:
                assert_never(due)


class RedisProjections:
    """The account's own field `applied`, looked at a few dozen times a second: it is there already as a rule."""

    def __init__(self, redis: Redis, within_s: float = 2.0, every_s: float = 0.025) -> None:
        self._redis, self._within_s, self._every_s = redis, within_s, every_s

    async def reached(self, team_id: TeamId, applied: int) -> None:
        """Raises Unavailable after `within_s`, or if Redis is away."""
        try:
            async with asyncio.timeout(self._within_s):
                while await self._applied(team_id) < applied:  # noqa: ASYNC110 - another process writes it
                    await asyncio.sleep(self._every_s)
        except (RedisError, OSError, TimeoutError) as error:
            raise Unavailable(f"the credit has not reached admission: {type(error).__name__}") from error
        faults.reached("topup.projected")

    async def _applied(self, team_id: TeamId) -> int:
        return int(await self._redis.hget(keys.account(team_id), "applied") or -1)


class LoggedPaymentResults:
    """PaymentResults into kite.payments."""

    def __init__(self, payments: Payments) -> None:
        self._payments = payments

    async def keep(self, result: PaymentResult) -> None:
        """Nothing happens if the log is away: the claim of the payment answers repeats for a day."""
        try:
            async with asyncio.timeout(_KEEP_S):
                await self._payments.keep(result)
        except (Unavailable, OutcomeOpen, TimeoutError) as error:
            log.warning("topup.result_lost", payment=payment_id(result.payment_key), reason=type(error).__name__)
        faults.reached("topup.kept")


def price_of(refused: Refused) -> int:
    """What the event costs that a wallet cannot pay for."""
    return refused.detail.required_atomic if isinstance(refused.detail, FundsMissing) else 0


def _refuse(due: Due, error: ApiError) -> None:
    """A payment that is good for nothing: raise what the request gets instead; return if it goes on without one.

    A 402 would make a caller sign a payment that changes nothing, unless a payment is what is missing.
    """
    match due:
        case NotNeeded() if error.status == _PAYMENT:
            return
        case NotSold(refused):
            instead = refusal_error(refused)
            if error.status not in (_PAYMENT, instead.status):
                raise error
            kept = {name: value for name, value in error.headers.items() if name != PAYMENT_REQUIRED}
            raise replace(instead, headers={**instead.headers, **kept})
        case _:
            raise error
