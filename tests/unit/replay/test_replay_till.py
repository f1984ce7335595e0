"""The till of a request: quotes of ranges, what is handed to billing, and what each outcome is to a reader of pages."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from x402.http.utils import decode_payment_required_header, decode_payment_response_header

from kite_common.clock import FrozenClock, from_unix_ms
from kite_common.errors import ApiError
from kite_common.events.payments import Alternative, PaymentOutcome, PaymentSubmitted, Target
from kite_common.ids import EventId, TeamId
from kite_common.testing import make, payments
from kite_common.x402.offers import NOT_NEEDED, RequestFacts
from kite_replay.adapters.till import ClosedTill, PaymentDesk
from kite_replay.application.ports import Paid, Till
from kite_replay.application.read_events import ReadRequest
from kite_replay.domain import cursor as cursors
from kite_replay.domain.cursor import Cursor
from kite_replay.domain.paid import NotNeeded, NotSold, PaidRange, Priced

QUERY = b"team_id=" + make.TEAM.encode() + b"&limit=3"
BOUGHT = PaidRange(Cursor(make.NOW_MS, EventId(make.EVENT_ID)), 3)
PRICED = Priced(BOUGHT, 30)
EXPIRED = NotSold(ApiError("cursor_expired", extra={"oldest_cursor": "2026-05-01 12:00:00.000"}))


@dataclass
class Billing:
    """Takes submissions and answers each with the outcome a test gives it."""

    outcome: dict[str, Any] = field(default_factory=lambda: {"result": "pending"})
    submitted: list[PaymentSubmitted] = field(default_factory=list)

    async def submit(self, submitted: PaymentSubmitted) -> PaymentOutcome:
        self.submitted.append(submitted)
        given = {"payment_key": submitted.payment_key, "submission_id": submitted.submission_id}
        return PaymentOutcome(**(given | self.outcome))


@dataclass
class Desk:
    """A desk at NOW_MS, and the requests that come to it."""

    billing: Billing = field(default_factory=Billing)
    clock: FrozenClock = field(default_factory=lambda: FrozenClock(from_unix_ms(make.NOW_MS)))

    def till(self, header: str | None = None, query: bytes = QUERY, since: str | None = None, **more: str) -> Till:
        headers = [*more.items(), *([("payment-signature", header)] if header is not None else [])]
        facts = RequestFacts("GET", b"/api/v1/events", query, b"", headers)
        wanted = ReadRequest(TeamId(make.TEAM), cursors.parse(since) if since else None, since, 3, ("*",))
        return PaymentDesk(payments.terms(), self.billing, self.clock, lambda count: b"r" * count).till_of(facts, wanted)

    def quote(self, priced: Priced = PRICED, query: bytes = QUERY) -> str:
        """The quote id of the offer for a range."""
        return str(offer_of(self.till(query=query).payment_required(priced)).extra["quoteId"])

    def header(self, *, value: int = 30, quoted: bool = True, **given: Any) -> str:
        """A good payment for PRICED."""
        return payments.header(value=str(value), quote_id=self.quote() if quoted else None, **given)


def offer_of(error: ApiError) -> Any:
    """The version 2 offer in a 402."""
    required: Any = decode_payment_required_header(error.headers["payment-required"])
    return required.accepts[0]


def credited(**given: Any) -> dict[str, Any]:
    target = Target(team_id=make.TEAM, end_cursor=cursors.encode(BOUGHT.end), rows=BOUGHT.rows)
    return {"result": "credited", "paid": payments.paid(amount_atomic=30), "amount_atomic": 30, "target": target} | given


def test_a_page_is_offered_for_its_price_with_rows_and_amount() -> None:
    error = Desk().till().payment_required(PRICED)
    assert (error.status, error.code, error.extra["rows"], error.extra["amount_atomic"]) == (402, "payment_required", 3, 30)
    offer: Any = offer_of(error)
    assert (offer.amount, offer.extra["name"]) == ("30", "USDC")
    accepts: Any = error.body()["accepts"]
    [first] = accepts
    assert first["maxAmountRequired"] == "30"
    assert first["resource"] == "https://kite.example/api/v1/events?" + QUERY.decode()


def test_a_quote_brings_its_range_and_amount_back() -> None:
    desk = Desk()
    assert desk.till(desk.header()).quoted == PRICED


@pytest.mark.parametrize("query", [b"team_id=" + make.TEAM.encode(), QUERY + b"&x=1", QUERY.replace(b"limit=3", b"limit=4")])
def test_a_quote_of_another_request_brings_nothing(query: bytes) -> None:
    desk = Desk()
    assert desk.till(desk.header(), query=query).quoted is None


def test_an_expired_quote_brings_nothing() -> None:
    desk = Desk()
    header = desk.header()
    desk.clock.advance(from_unix_ms(300_000) - from_unix_ms(0))
    assert desk.till(header).quoted is None


def test_a_payer_of_version_1_shows_no_quote() -> None:
    till = Desk().till(Desk().header(x402_version=1))
    assert (till.shows_payment, till.quoted) == (True, None)


def test_a_payment_that_cannot_be_read_is_400() -> None:
    with pytest.raises(ApiError, match="invalid_payment_header"):
        Desk().till("not base64")


async def test_what_is_handed_in_names_purpose_range_and_price() -> None:
    desk = Desk(Billing(credited()))
    since = "2026-04-30 10:00:00.000"
    paid = await desk.till(desk.header(), since=since).pay(PRICED)
    [submitted] = desk.billing.submitted
    assert submitted.target == Target(team_id=make.TEAM, since=since, end_cursor=cursors.encode(BOUGHT.end), rows=3)
    assert (submitted.purpose, submitted.amount_atomic, submitted.if_new) == ("page", 30, None)
    assert submitted.quote_hash is not None
    assert isinstance(paid, Paid)
    assert (paid.bought, paid.amount_atomic) == (BOUGHT, 30)
    told = decode_payment_response_header(paid.headers["payment-response"])
    assert (told.success, told.transaction) == (True, payments.TRANSACTION)
    assert paid.headers["x-payment-response"] == paid.headers["payment-response"]


async def test_without_a_quote_the_range_is_that_of_this_moment() -> None:
    desk = Desk(Billing(credited()))
    await desk.till(desk.header(x402_version=1)).pay(PRICED)
    [submitted] = desk.billing.submitted
    assert (submitted.target.end_cursor, submitted.target.rows, submitted.if_new) == (cursors.encode(BOUGHT.end), 3, None)


async def test_another_price_goes_along_as_what_a_new_payment_gets() -> None:
    desk = Desk(Billing({"result": "refused", "status": 402, "code": "invalid_payment", "reason": "invalid_payload"}))
    with pytest.raises(ApiError, match="invalid_payment") as caught:
        await desk.till(desk.header(value=31, quoted=False)).pay(PRICED)
    [submitted] = desk.billing.submitted
    assert submitted.if_new is not None
    assert submitted.if_new.reason == "invalid_exact_evm_payload_authorization_value_mismatch"
    assert (caught.value.extra["rows"], caught.value.extra["amount_atomic"]) == (3, 30)
    assert offer_of(caught.value).amount == "30"


async def test_a_payment_nobody_needs_is_handed_in_and_left_alone() -> None:
    desk = Desk(Billing({"result": "not_needed"}))
    assert await desk.till(desk.header()).pay(NotNeeded()) is None
    assert desk.billing.submitted[0].if_new == NOT_NEEDED


async def test_a_payment_that_is_known_gets_what_it_has_bought_also_when_nobody_needs_it() -> None:
    desk = Desk(Billing(credited()))
    paid = await desk.till(desk.header()).pay(NotNeeded())
    assert paid is not None
    assert paid.bought == BOUGHT


async def test_an_error_no_payment_changes_is_told_in_full() -> None:
    desk = Desk(Billing({"result": "refused", "status": 410, "code": "cursor_expired"}))
    with pytest.raises(ApiError, match="cursor_expired") as caught:
        await desk.till(desk.header()).pay(EXPIRED)
    assert desk.billing.submitted[0].if_new == Alternative(status=410, code="cursor_expired")
    assert caught.value.extra == EXPIRED.error.extra
    assert "payment-required" not in caught.value.headers


async def test_a_forged_payment_is_refused_where_one_is_due_and_asked_for_anew() -> None:
    desk, other = Desk(), payments.header(wanted=payments.terms(pay_to=payments.RETIRED), value="30", to_address="0x" + "12" * 20)
    with pytest.raises(ApiError, match="invalid_payment") as caught:
        await desk.till(other).pay(PRICED)
    assert caught.value.extra["reason"] in {"no_matching_payment_requirements", "invalid_exact_evm_payload_recipient_mismatch"}
    assert (caught.value.extra["rows"], offer_of(caught.value).amount) == (3, "30")
    assert await desk.till(other).pay(NotNeeded()) is None
    with pytest.raises(ApiError, match="cursor_expired"):
        await desk.till(other).pay(EXPIRED)
    assert desk.billing.submitted == []


@pytest.mark.parametrize("due", [PRICED, NotNeeded(), EXPIRED])
@pytest.mark.parametrize(
    ("outcome", "status", "code"),
    [
        ({"result": "conflict", "transaction": payments.TRANSACTION}, 409, "payment_already_used"),
        ({"result": "conflict", "code": "idempotency_key_reused"}, 409, "idempotency_key_reused"),
        ({"result": "not_taken"}, 503, "facilitator_unavailable"),
        ({"result": "pending"}, 503, "settlement_pending"),
    ],
)
async def test_taken_and_open_payments_are_never_402(due: Any, outcome: dict[str, Any], status: int, code: str) -> None:
    desk = Desk(Billing(outcome))
    with pytest.raises(ApiError) as caught:
        await desk.till(desk.header()).pay(due)
    assert (caught.value.status, caught.value.code) == (status, code)
    assert status != 503 or caught.value.retry_after_s


async def test_a_credit_whose_range_nobody_remembers_is_409_and_says_that_the_money_has_arrived() -> None:
    desk = Desk(Billing(credited(target=Target(team_id=make.TEAM))))
    with pytest.raises(ApiError, match="payment_already_used") as caught:
        await desk.till(desk.header()).pay(PRICED)
    assert decode_payment_response_header(caught.value.headers["payment-response"]).success


async def test_a_closed_till_takes_and_asks_for_nothing() -> None:
    till: Till = ClosedTill()
    assert (till.shows_payment, till.quoted, await till.pay(PRICED)) == (False, None, None)
    assert (till.payment_required(PRICED).status, till.payment_required(PRICED).code) == (503, "x402_unconfigured")
