"""Payments at this edge: what a request shows is handed to billing, and what becomes of it decides the answer. Knows no route.

If the process dies after the submission is published, billing goes on alone; whoever resends the same header finds what it came to.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from kite_common.clock import Clock
from kite_common.errors import ApiError
from kite_common.events.payments import PaymentOutcome, PaymentSubmitted
from kite_common.x402 import intake
from kite_common.x402.answers import refusal_of
from kite_common.x402.offers import Purchase, RequestFacts, payment_error
from kite_common.x402.terms import PaymentTerms

_QUOTE_BYTES: Final = 16
_MS: Final = 1000


class Submits(Protocol):
    """What is needed of `kite_common.projection.payments.PaymentSender`."""

    async def submit(self, submitted: PaymentSubmitted) -> PaymentOutcome:
        """Hand a payment to billing and wait for its outcome. Raises ApiError 503 if it was not handed over."""
        ...


@dataclass(frozen=True, slots=True)
class Checkout:
    """`terms` None: this server takes no payments. `random_bytes` draws that many unpredictable bytes."""

    terms: PaymentTerms | None
    sender: Submits
    clock: Clock
    random_bytes: Callable[[int], bytes]

    def shows_payment(self, request: RequestFacts) -> bool:
        """Whether the request shows a payment. Raises ApiError 400 `invalid_payment_header` if it cannot be read."""
        return intake.shown_payment(request) is not None

    def asks_for(
        self, request: RequestFacts, purchase: Purchase, *, code: str = "payment_required", extra: Mapping[str, object] | None = None
    ) -> ApiError:
        """402 with a fresh quote; 503 `x402_unconfigured` without terms."""
        return payment_error(
            self.terms, request, purchase, self.clock.unix_ms() // _MS, self.random_bytes(_QUOTE_BYTES), code=code, extra=extra
        )

    async def pay(self, request: RequestFacts, purchase: Purchase) -> PaymentOutcome | None:
        """The outcome `credited` or `not_needed` of the payment a request shows; None if it shows none.

        Raises ApiError for whatever else became of it: 400, 402, 409, 503, or the route's own refusal that the purchase carries.
        """
        submitted = intake.take_in(request, purchase, self.terms, self.clock.unix_ms(), self.random_bytes(intake.RANDOM_BYTES))
        if submitted is None:
            return None
        outcome = await self.sender.submit(submitted)
        refused = refusal_of(outcome, request, purchase, self.terms, self.clock.unix_ms() // _MS, self.random_bytes(_QUOTE_BYTES))
        if refused is not None:
            raise refused
        return outcome

    async def charge(self, request: RequestFacts, purchase: Purchase) -> PaymentOutcome:
        """The outcome of the payment, which is needed. Raises ApiError as `pay` does, and 402 with a quote if none is shown."""
        outcome = await self.pay(request, purchase)
        if outcome is None:
            raise self.asks_for(request, purchase)
        return outcome
