"""What routes have in common that cost an event: from the checked request to its answer, with or without a payment. Knows no route.

Without a payment header this is one call of the use case, and nothing of payments is touched.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, assert_never

from kite_common.errors import ApiError
from kite_common.events.payments import PaymentPayer
from kite_common.x402.answers import after_credit, success_headers
from kite_common.x402.offers import RequestFacts
from kite_common.x402.wire import NO_STORE, REQUEST_HEADERS, payment_accepted
from kite_gateway.adapters.http.context import Context, Header
from kite_gateway.adapters.http.openapi import Parameter
from kite_gateway.adapters.http.problems import refusal_error
from kite_gateway.adapters.topups import TopUpDesk
from kite_gateway.application.accept_message import Accepted, AcceptMessage, Submission
from kite_gateway.application.accept_paid import AcceptPaid, Answer, Credited, Spent
from kite_gateway.domain.admission import FundsMissing, Refused

Render = Callable[[Accepted], Answer]

PAYMENT_CODES: Final = (
    "invalid_payment_header", "insufficient_funds", "invalid_payment", "payment_already_used", "idempotency_key_reused",
    "settlement_pending", "facilitator_unavailable", "x402_unconfigured",
)  # fmt: skip
PAYMENT_PARAMETER: Final = Parameter(
    "payment-signature", "header",
    "An x402 payment for exactly this request, as the header `payment-required` of a 402 asks for it: it fills the wallet, then the event "
    "is taken. `x-payment` means the same. Not needed, and not taken, while the wallet can pay.",
)  # fmt: skip

_REPLAYED: Final = (b"idempotency-replayed", b"true")
_JSON: Final = (b"content-type", b"application/json")
_PAYMENT_HEADERS: Final = tuple(name.encode() for name in REQUEST_HEADERS)


@dataclass(frozen=True, slots=True)
class TopUps:
    """What is there where payments are taken."""

    accept: AcceptPaid
    desk: TopUpDesk


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

    def facts(self) -> RequestFacts:
        """The request as a payment is bound to it: byte for byte as received."""
        scope = self.scope
        raw_path = bytes(scope["raw_path"]).partition(b"?")[0]
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        return RequestFacts(scope["method"], raw_path, bytes(scope["query_string"]), self.body, headers, self.shown_path)


@dataclass(frozen=True, slots=True)
class Ingest:
    """Call it with a request. `topups` None: this server takes no payments."""

    accept: AcceptMessage
    topups: TopUps | None

    async def __call__(self, arrived: Arrived, render: Render) -> Told:
        """The answer to an accepted event. Raises KiteError for every other."""
        if self.topups is not None and arrived.shows_payment:
            return await self._paid(self.topups, arrived, render)
        result = await self.accept(arrived.submission)
        arrived.context.tell_rate(result.rate)
        return _told(result, render) if isinstance(result, Accepted) else self._refuse(arrived, result)

    async def _paid(self, topups: TopUps, arrived: Arrived, render: Render) -> Told:
        submission = arrived.submission
        till = topups.desk.till_of(arrived.facts(), submission.team_id)
        looked = await topups.accept.look(submission)
        arrived.context.tell_rate(looked.rate)
        result = await topups.accept(submission, looked, till, render)
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
        if not isinstance(refused.detail, FundsMissing):
            return refusal_error(refused)
        if self.topups is not None:
            return self.topups.desk.offer(arrived.facts(), arrived.submission.team_id, refused)
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
