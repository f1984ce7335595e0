"""Tills: what one request for a page can do about paying with x402. Parsing, checks and answers are `kite_common.x402`'s.

The range of a page travels in the quote and in the payment's target, so nothing is kept here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol, assert_never

from kite_common.clock import Clock
from kite_common.errors import ApiError
from kite_common.events.payments import Alternative, PaymentOutcome, PaymentSubmitted, Purpose, Target
from kite_common.x402 import intake
from kite_common.x402.answers import credited_already, refusal_of, success_headers
from kite_common.x402.offers import NOT_NEEDED, Purchase, RequestFacts, payment_error
from kite_common.x402.terms import PaymentTerms
from kite_common.x402.wire import PAYMENT_REQUIRED, ShownPayment
from kite_replay.application.ports import Paid, Till
from kite_replay.application.read_events import ReadRequest
from kite_replay.domain import cursor as cursors
from kite_replay.domain.paid import Due, NotNeeded, NotSold, PaidRange, Priced

_PURPOSE: Final[Purpose] = "page"
_DESCRIPTION: Final = "Kite replay page"
_QUOTE_BYTES: Final = 16
_MS: Final = 1000
_PAYMENT: Final = 402


class Submits(Protocol):
    """What is needed of `kite_common.projection.payments.PaymentSender`."""

    async def submit(self, submitted: PaymentSubmitted) -> PaymentOutcome:
        """Hand a payment to billing and wait for its outcome. Raises ApiError 503 if it was not handed over."""
        ...


@dataclass(frozen=True, slots=True)
class PaymentDesk:
    """Makes the till of each request. `random_bytes` draws that many unpredictable bytes."""

    terms: PaymentTerms
    sender: Submits
    clock: Clock
    random_bytes: Callable[[int], bytes]

    def till_of(self, request: RequestFacts, wanted: ReadRequest) -> Till:
        """The request's till. Raises ApiError `invalid_payment_header` if it shows a payment that cannot be read."""
        return PaymentTill(self, request, wanted, intake.shown_payment(request))


class PaymentTill:
    """The till of one request."""

    def __init__(self, desk: PaymentDesk, request: RequestFacts, wanted: ReadRequest, shown: ShownPayment | None) -> None:
        self._desk, self._request, self._wanted, self._shown = desk, request, wanted, shown

    @property
    def shows_payment(self) -> bool:
        """Whether the request shows a payment; whether it is any good, `pay` tells."""
        return self._shown is not None

    @property
    def quoted(self) -> Priced | None:
        """What the payment's quote promised, if it is ours, made for this request, and has not expired."""
        quote = intake.standing_quote(self._request, self._shown, self._desk.terms, _PURPOSE, self._now_ms() // _MS)
        if quote is None or quote.end_cursor is None or quote.rows is None:
            return None
        return Priced(PaidRange(cursors.parse(quote.end_cursor), quote.rows), quote.amount_atomic)

    def payment_required(self, priced: Priced) -> ApiError:
        """402 `payment_required` with a fresh quote of the range."""
        purchase = self._purchase(priced)
        return payment_error(
            self._desk.terms, self._request, purchase, self._now_ms() // _MS, self._desk.random_bytes(_QUOTE_BYTES), extra=_told(priced)
        )

    async def pay(self, due: Due) -> Paid | None:
        """Hand the payment in. Raises ApiError for all that keeps the caller from an answer."""
        desk, purchase = self._desk, self._purchase(due)
        try:
            submitted = intake.take_in(self._request, purchase, desk.terms, self._now_ms(), desk.random_bytes(intake.RANDOM_BYTES))
        except ApiError as error:
            _refuse(due, error)
            return None
        if submitted is None:
            return None
        outcome = await desk.sender.submit(submitted)
        if outcome.result == "credited":
            return _paid(outcome)
        refused = refusal_of(
            outcome, self._request, purchase, desk.terms, self._now_ms() // _MS, desk.random_bytes(_QUOTE_BYTES)
        )  # fmt: skip
        if refused is None:
            return None
        if outcome.result == "refused":
            _refuse(due, refused)
            return None
        raise refused

    def _purchase(self, due: Due) -> Purchase:
        target = Target(team_id=self._wanted.team_id, since=self._wanted.since_text)
        match due:
            case Priced(bought, amount):
                target = target.model_copy(update={"end_cursor": cursors.encode(bought.end), "rows": bought.rows})
                return Purchase(_PURPOSE, amount, target, _DESCRIPTION)
            case NotNeeded():
                return Purchase(_PURPOSE, 0, target, _DESCRIPTION, NOT_NEEDED)
            case NotSold(error):
                return Purchase(_PURPOSE, 0, target, _DESCRIPTION, Alternative(status=error.status, code=error.code))
            case _:
                assert_never(due)

    def _now_ms(self) -> int:
        return self._desk.clock.unix_ms()


class ClosedTill:
    """The till of a server that takes no payments: it ignores those that are shown and asks for none."""

    shows_payment = False
    quoted: Priced | None = None

    def payment_required(self, priced: Priced) -> ApiError:  # noqa: ARG002 - whatever it costs
        """503 `x402_unconfigured`."""
        return ApiError("x402_unconfigured")

    async def pay(self, due: Due) -> Paid | None:  # noqa: ARG002 - there is no payment
        """The request goes on without one."""
        return None


def _paid(outcome: PaymentOutcome) -> Paid:
    target = outcome.target
    if target is None or target.end_cursor is None or target.rows is None:
        # Credited for a range that nobody remembers.
        raise credited_already(outcome)
    return Paid(PaidRange(cursors.parse(target.end_cursor), target.rows), outcome.amount_atomic or 0, success_headers(outcome))


def _refuse(due: Due, error: ApiError) -> None:
    """A payment that is good for nothing: raise what the request gets instead; return if it goes on without one.

    A 402 would make a caller sign a payment that changes nothing, unless a payment is what is missing.
    """
    match due:
        case Priced() if error.status == _PAYMENT:
            raise replace(error, extra={**_told(due), **error.extra})
        case NotNeeded() if error.status == _PAYMENT:
            return
        case NotSold(instead) if error.status in (_PAYMENT, instead.status):
            kept = {name: value for name, value in error.headers.items() if name != PAYMENT_REQUIRED}
            raise replace(instead, headers={**instead.headers, **kept})
        case _:
            raise error


def _told(priced: Priced) -> Mapping[str, object]:
    """The extra fields of a 402 (wire contract, 3.1)."""
    return {"rows": priced.bought.rows, "amount_atomic": priced.amount_atomic}
