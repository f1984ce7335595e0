"""What routes have in common that cost an event: from the checked request to its answer, with or without a payment. Knows no route.

Without a payment header this is one call of the use case, and nothing of payments is touched.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, assert_never

from kite_common.errors import ApiError
from kite_common.events.payments import PaymentPayer
from kite_common.x402.answers import after_credit, success_headers
from kite_common.x402.terms import PaymentTerms
from kite_common.x402.wire import NO_STORE, REQUEST_HEADERS, payment_accepted
from kite_gateway.adapters.http.context import Context, Header
from kite_gateway.adapters.http.paid import PAYMENT_CODES, facts_of
from kite_gateway.adapters.http.problems import refusal_error
from kite_gateway.adapters.till import TopUpTill
from kite_gateway.application.accept_message import Accepted, AcceptMessage, Submission
from kite_gateway.application.accept_paid import AcceptPaid, Answer, Credited, Spent
from kite_gateway.application.checkout import Checkout
from kite_gateway.domain.admission import Refused
from kite_gateway.domain.topup import Needed, due_of

Render = Callable[[Accepted], Answer]

# An empty wallet has a code of its own.
INGEST_CODES: Final = ("insufficient_funds", *(code for code in PAYMENT_CODES if code != "payment_required"))

_REPLAYED: Final = (b"idempotency-replayed", b"true")
_JSON: Final = (b"content-type", b"application/json")
_PAYMENT_HEADERS: Final = tuple(name.encode() for name in REQUEST_HEADERS)


@dataclass(frozen=True, slots=True)
class Told:
    """What is sent. `accepted` is None where an earlier answer was kept as it was; `replayed`: the event has been durable for a while."""

    answer: Answer
    accepted: Accepted | None
    headers: tuple[Header, ...]
    replayed: bool


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request whose own checks are behind it. `shown_path`: its path without what must not be repeated in an offer."""

    scope: Any
    body: bytes
    context: Context
    submission: Submission
    shown_path: bytes | None = None

    @property
    def shows_payment(self) -> bool:
        """Whether there is a payment header; whether it can be read, is another matter."""
        return any(name in self.context.head for name in _PAYMENT_HEADERS)

    def till(self, checkout: Checkout, terms: PaymentTerms) -> TopUpTill:
        """What it can do about paying."""
        return TopUpTill(checkout, terms, facts_of(self.scope, self.body, self.shown_path), self.submission.team_id)


@dataclass(frozen=True, slots=True)
class Ingest:
    """Call it with a request. `checkout` without terms: this server takes no payments."""

    accept: AcceptMessage
    accept_paid: AcceptPaid
    checkout: Checkout

    async def __call__(self, arrived: Arrived, render: Render) -> Told:
        """The answer to an accepted event. Raises KiteError for every other."""
        terms = self.checkout.terms
        if terms is not None and arrived.shows_payment:
            return await self._paid(arrived, arrived.till(self.checkout, terms), render)
        result = await self.accept(arrived.submission)
        arrived.context.tell_rate(result.rate)
        return _told(result, render) if isinstance(result, Accepted) else self._refuse(arrived, result)

    async def _paid(self, arrived: Arrived, till: TopUpTill, render: Render) -> Told:
        looked = await self.accept_paid.look(arrived.submission)
        arrived.context.tell_rate(looked.rate)
        result = await self.accept_paid(arrived.submission, looked, till, render)
        match result:
            case Accepted():
                return _told(result, render)
            case Refused():
                return self._refuse(arrived, result)
            case Credited(outcome, answer, accepted):
                return _answered(answer, accepted, success_headers(outcome))
            case Spent(outcome, refused):
                raise after_credit(self._refusal(arrived, refused), outcome)
            case _:
                assert_never(result)

    def _refuse(self, arrived: Arrived, refused: Refused) -> Told:
        raise self._refusal(arrived, refused)

    def _refusal(self, arrived: Arrived, refused: Refused) -> ApiError:
        """An empty wallet is asked for a top-up, if there is a way to make one."""
        terms, due = self.checkout.terms, due_of(refused)
        if not isinstance(due, Needed):
            return refusal_error(refused)
        if terms is not None:
            return arrived.till(self.checkout, terms).offer(due)
        return ApiError("x402_unconfigured") if arrived.shows_payment else refusal_error(refused)


def send_headers(told: Told) -> list[Header]:
    """The headers of an answer of its own."""
    return [_JSON, (b"content-length", b"%d" % len(told.answer.body)), *told.headers]


def _told(accepted: Accepted, render: Render) -> Told:
    paid = accepted.receipt if accepted.replayed else ""
    headers = payment_accepted(PaymentPayer.model_validate_json(paid)) if paid else {}
    return _answered(render(accepted), accepted, headers)


def _answered(answer: Answer, accepted: Accepted | None, headers: Mapping[str, str]) -> Told:
    replayed = accepted is None or accepted.replayed
    # The context of the request says already that nothing may be cached.
    sent = tuple((name.encode(), value.encode()) for name, value in headers.items() if name not in NO_STORE)
    return Told(answer, accepted, (*sent, _REPLAYED) if replayed else sent, replayed)
