"""Events that come with a payment, over fakes: both routes, every outcome, deaths of the parts behind. No network."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import orjson
import pytest
from x402.http.utils import decode_payment_required_header, decode_payment_response_header

from kite_common.clock import FrozenClock, from_unix_ms, rfc3339
from kite_common.errors import KiteError, OutcomeOpen, Unavailable
from kite_common.ids import KeyPrefix, TeamId
from kite_common.plans import shipped_catalog
from kite_common.projection.keys import LAPSE_MS
from kite_common.runtime.component import READY
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.system import random_bits
from kite_common.testing import make, payments
from kite_common.testing.eventually import eventually
from kite_common.x402.key import event_of
from kite_gateway.adapters.http.accounts import Accounts
from kite_gateway.adapters.http.app import Surface, create_app
from kite_gateway.adapters.http.bearer import Bearer
from kite_gateway.adapters.http.public import Public
from kite_gateway.application.accept_message import AcceptMessage
from kite_gateway.application.change_subscription import ChangeSubscription
from kite_gateway.application.configure_webhook import ConfigureWebhook
from kite_gateway.application.open_hook import OpenHook
from kite_gateway.application.send_test_event import SendTestEvent
from kite_gateway.domain.access import Principal
from kite_gateway.domain.hooks.credentials import Endpoint
from kite_gateway.testing import (
    Account,
    CountingIds,
    FakeBilling,
    FakeClientRateLimits,
    FakeCredentials,
    FakeDeliveryCommands,
    FakeHooks,
    FakeMessageLog,
    FakeRateLimits,
    FakeReservations,
    FakeSeal,
    FakeTopUpBilling,
    FakeWebhookConfigs,
)
from support.paid_routes import FakeArrivals, ingest_of, paid_routes

TEAM, NOW_MS = TeamId(make.TEAM), make.NOW_MS
TERMS = payments.terms()
MESSAGE = orjson.dumps({"from": "planner", "to": "builder", "body": "hello"})
EMPTY = Account(price=100, balance=99)
EVENT = event_of(payments.outcome().payment_key, NOW_MS - 5)


@dataclass(frozen=True)
class Route:
    """A route that costs an event. `shown`: its path in offers."""

    path: str
    headers: dict[str, str]
    body: bytes
    shown: str


SEND = Route(
    f"/api/v1/agents/messages?team_id={TEAM}", {"Authorization": "Bearer writer"}, MESSAGE, f"/api/v1/agents/messages?team_id={TEAM}"
)
HOOK = Route(f"/hooks/{TEAM}/acme/{make.HOOK_TOKEN}", {}, b'{"a":1}', f"/hooks/{TEAM}/acme")
DELIVERY = Route(f"/hooks/{TEAM}/github", {"Authorization": f"Bearer {make.HOOK_TOKEN}", "X-GitHub-Delivery": "d1"}, b"{}", "")
ROUTES = pytest.mark.parametrize("route", [SEND, HOOK], ids=["message", "hook"])


@dataclass
class Gateway:
    """The app, billing in memory, and a wallet that cannot pay for one event."""

    account: Account = EMPTY
    takes_payments: bool = True
    log: FakeMessageLog = field(default_factory=FakeMessageLog)
    arrivals: FakeArrivals = field(default_factory=FakeArrivals)

    def __post_init__(self) -> None:
        clock, ids, billing, hooks = FrozenClock(from_unix_ms(NOW_MS)), CountingIds(), FakeBilling(), FakeHooks()
        self.reservations = FakeReservations({TEAM: self.account}, now_ms=NOW_MS)
        self.payments = FakeTopUpBilling(self.reservations, NOW_MS - 5)
        for source in ("acme", "github"):
            hooks.endpoints[TEAM, source] = Endpoint()
            hooks.tokens[TEAM, source, make.HOOK_TOKEN] = "right"
        accept = AcceptMessage(self.reservations, self.log, clock, ids)
        terms = TERMS if self.takes_payments else None
        paid = paid_routes(billing, clock, terms=terms, payments=self.payments, arrivals=self.arrivals)
        writer = Principal(TEAM, KeyPrefix("00000000"), ("write",))
        self.app = create_app(Surface(
            bearer=Bearer(FakeCredentials({"writer": writer}), FakeRateLimits(), clock),
            ingest=ingest_of(accept, paid, self.payments),
            open_hook=OpenHook(hooks, clock),
            configure_webhook=ConfigureWebhook(FakeWebhookConfigs(), FakeSeal(), clock, ids),
            send_test_event=SendTestEvent(FakeWebhookConfigs(), FakeDeliveryCommands(), clock, ids),
            accounts=Accounts(
                Public(FakeClientRateLimits()), billing, ChangeSubscription(billing, billing, billing, clock), shipped_catalog(), x402=True
            ),
            replay=None, readiness=lambda: [("part", READY)], metrics=Metrics(), random_bits=random_bits,
            paid=paid,
        ))  # fmt: skip

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://other.example") as client:
            yield client

    async def send(self, route: Route, payment: str | None = None, **headers: str) -> httpx.Response:
        """One request; `payment` is the value of a payment header."""
        shown = {} if payment is None else {"payment-signature": payment}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client() as client:
            return await client.post(route.path, content=route.body, headers=route.headers | shown | named)

    @property
    def stored(self) -> list[str]:
        """The ids of all events in the log."""
        return [usage.event_id for _, _, _, usage in self.log.records]

    @property
    def balance(self) -> int:
        return self.reservations.accounts[TEAM].balance


def pay(**given: Any) -> str:
    return payments.header(TERMS, **given)


def assert_told(answer: httpx.Response, *, success: bool) -> None:
    """The answer tells of the payment, in both headers."""
    assert answer.headers["payment-response"] == answer.headers["x-payment-response"]
    assert decode_payment_response_header(answer.headers["payment-response"]).success is success


def assert_nothing_told(answer: httpx.Response) -> None:
    assert "payment-response" not in answer.headers


@ROUTES
async def test_an_empty_wallet_is_asked_for_a_top_up(route: Route) -> None:
    gateway = Gateway()
    answer = await gateway.send(route)
    body = answer.json()
    assert (answer.status_code, body["error"], body["required_atomic"], body["available_atomic"]) == (402, "insufficient_funds", 100, 99)
    required: Any = decode_payment_required_header(answer.headers["payment-required"])
    assert (required.error, required.resource.url) == ("insufficient_funds", "https://kite.example" + route.shown)
    assert (required.accepts[0].amount, required.accepts[0].pay_to.lower()) == ("1000000", payments.PAY_TO)
    assert (body["x402Version"], body["accepts"][0]["maxAmountRequired"]) == (1, "1000000")
    assert answer.headers.get_list("cache-control") == ["private, no-store"]
    assert (make.HOOK_TOKEN in answer.text, gateway.stored) == (False, [])


async def test_an_event_that_costs_more_than_a_top_up_asks_for_its_price() -> None:
    answer = await Gateway(replace(EMPTY, price=2_000_000)).send(SEND)
    required: Any = decode_payment_required_header(answer.headers["payment-required"])
    assert required.accepts[0].amount == "2000000"


@ROUTES
async def test_a_team_in_debt_pays_it_together_with_its_event(route: Route) -> None:
    gateway = Gateway(replace(EMPTY, balance=0, debt=5_000_000))
    asked = await gateway.send(route)
    body = asked.json()
    required: Any = decode_payment_required_header(asked.headers["payment-required"])
    assert (body["required_atomic"], body["available_atomic"], body["debt_atomic"]) == (100, 0, 5_000_000)
    assert required.accepts[0].amount == body["accepts"][0]["maxAmountRequired"] == "5000100"
    usual = await gateway.send(route, pay())
    assert (usual.status_code, usual.json()["reason"]) == (402, "invalid_exact_evm_payload_authorization_value_mismatch")
    answer = await gateway.send(route, pay(value="5000100"))
    assert (answer.status_code, gateway.stored) == (202, [answer.json()["id"]])
    assert (gateway.balance, gateway.reservations.accounts[TEAM].debt) == (100, 0)


async def test_a_small_debt_changes_nothing_of_the_usual_offer() -> None:
    asked = await Gateway(replace(EMPTY, debt=999_900)).send(SEND)
    assert asked.json()["accepts"][0]["maxAmountRequired"] == "1000000"
    assert (await Gateway(replace(EMPTY, debt=999_901)).send(SEND)).json()["accepts"][0]["maxAmountRequired"] == "1000001"


@ROUTES
async def test_a_payment_fills_the_wallet_and_the_event_is_taken_from_it(route: Route) -> None:
    gateway = Gateway()
    answer = await gateway.send(route, pay())
    assert (answer.status_code, answer.json()["id"], gateway.stored) == (202, EVENT, [EVENT])
    assert_told(answer, success=True)
    assert answer.headers.get_list("cache-control") == ["private, no-store"]
    assert "idempotency-replayed" not in answer.headers
    ((_, event, _, usage),) = gateway.log.records
    assert (gateway.balance, usage.price_atomic, usage.reserved_at, usage.payment_claim is not None) == (1_000_099, 100, NOW_MS, True)
    assert (usage.event_id, orjson.loads(event)["time"]) == (EVENT, rfc3339(NOW_MS)), "the time it was taken in"
    (kept,) = gateway.payments.results.values()
    assert (kept.status, kept.body.encode()) == (202, answer.content)


async def test_the_quote_of_an_offer_binds_the_payment_to_its_amount() -> None:
    gateway = Gateway(replace(EMPTY, price=2_000_000))
    required: Any = decode_payment_required_header((await gateway.send(SEND)).headers["payment-required"])
    gateway.reservations.accounts[TEAM] = replace(EMPTY, price=1_500_000)
    quote = required.accepts[0].extra["quoteId"]
    assert (await gateway.send(SEND, pay(value="2000000", quote_id=quote))).status_code == 202


@ROUTES
async def test_repeats_get_the_same_answer_and_nothing_happens_twice(route: Route) -> None:
    gateway = Gateway()
    first = await gateway.send(route, pay())
    for key in ("", "mine", "another"):
        again = await gateway.send(route, pay(), **({"Idempotency_Key": key} if key else {}))
        assert (again.status_code, again.content, again.headers["idempotency-replayed"]) == (202, first.content, "true")
        assert again.headers["payment-response"] == first.headers["payment-response"]
    assert (gateway.stored, gateway.balance) == ([EVENT], 1_000_099)


@ROUTES
async def test_a_lost_result_is_found_by_the_claim_of_the_payment_under_any_key(route: Route) -> None:
    gateway = Gateway()
    gateway.payments.loses_results = True
    first = await gateway.send(route, pay(), Idempotency_Key="mine")
    for key in ("", "another"):
        again = await gateway.send(route, pay(), **({"Idempotency_Key": key} if key else {}))
        assert (again.status_code, again.content, again.headers["idempotency-replayed"]) == (202, first.content, "true")
        assert_told(again, success=True)
    assert gateway.stored == [EVENT]


@ROUTES
async def test_a_payment_that_is_not_needed_is_not_taken(route: Route) -> None:
    gateway = Gateway(Account(price=100, balance=100))
    answer = await gateway.send(route, pay())
    assert (answer.status_code, gateway.payments.known, len(gateway.stored)) == (202, {}, 1)
    assert_nothing_told(answer)


@ROUTES
@pytest.mark.parametrize("bad", [{"value": "999999"}, {"valid_before": str(payments.NOW_S + 10)}, {"to_address": "0x" + "11" * 20}])
async def test_a_bad_payment_does_not_keep_an_event_from_a_full_wallet(route: Route, bad: dict[str, str]) -> None:
    gateway = Gateway(Account(price=100, balance=100))
    assert (await gateway.send(route, pay(**bad))).status_code == 202


REFUSED: list[tuple[Account, int, str, str]] = [
    (replace(EMPTY, status="past_due"), 403, "no_active_subscription", "error"),
    (replace(EMPTY, used=5, month_limit=5), 429, "quota_exceeded", "scope"),
    (replace(EMPTY, day=NOW_MS // 86_400_000, day_used=5, day_limit=5), 429, "quota_exceeded", "retry_after_secs"),
]


@ROUTES
@pytest.mark.parametrize(("account", "status", "code", "extra"), REFUSED)
@pytest.mark.parametrize("bad", [{}, {"to_address": "0x" + "11" * 20}], ids=["good", "bad"])
async def test_nobody_pays_for_a_request_that_fails_anyway(
    route: Route, account: Account, status: int, code: str, extra: str, bad: dict[str, str]
) -> None:
    gateway = Gateway(account)
    answer = await gateway.send(route, pay(**bad))
    assert (answer.status_code, answer.json()["error"], extra in answer.json()) == (status, code, True)
    assert ("payment-required" in answer.headers, gateway.payments.known, gateway.stored) == (False, {}, [])


@ROUTES
async def test_an_answered_key_comes_before_any_payment_also_one_that_cannot_be_read(route: Route) -> None:
    gateway = Gateway()
    first = await gateway.send(route, pay(), Idempotency_Key="mine")
    gateway.payments.submitted.clear()
    for payment in (None, pay(nonce="0x" + "2b" * 32), "not base64"):
        again = await gateway.send(route, payment, Idempotency_Key="mine")
        assert (again.status_code, again.content, again.headers["idempotency-replayed"]) == (202, first.content, "true")
        assert again.headers["payment-response"] == first.headers["payment-response"], "what the first answer said"
    other = await gateway.send(replace(route, body=MESSAGE + b" "), pay(nonce="0x" + "2b" * 32), Idempotency_Key="mine")
    assert (other.status_code, other.json()["error"]) == (409, "idempotency_key_reused")
    assert gateway.payments.submitted == []


@ROUTES
async def test_a_payment_that_cannot_be_read_is_400(route: Route) -> None:
    gateway = Gateway()
    answer = await gateway.send(route, "not base64")
    assert (answer.status_code, answer.json()["error"], gateway.payments.submitted) == (400, "invalid_payment_header", [])


@ROUTES
async def test_a_bad_request_never_gets_as_far_as_its_payment(route: Route) -> None:
    gateway = Gateway()
    headers = {"Content-Type": "application/json"}
    answer = await gateway.send(replace(route, body=b"{", headers=route.headers | headers), pay())
    assert (answer.status_code, answer.json()["error"], gateway.payments.submitted) == (400, "invalid_json", [])


@ROUTES
async def test_a_paid_request_takes_one_token(route: Route) -> None:
    gateway = Gateway(replace(EMPTY, rate_per_min=2))
    answers = [await gateway.send(route, pay(nonce="0x" + f"{number:064x}")) for number in range(3)]
    assert [(one.status_code, one.headers["ratelimit-remaining"]) for one in answers] == [(202, "1"), (202, "0"), (429, "0")]
    assert len(gateway.payments.submitted) == 2


async def test_a_delivery_that_was_paid_for_answers_its_own_payment_and_ignores_others() -> None:
    gateway = Gateway()
    first = await gateway.send(DELIVERY, pay())
    again = await gateway.send(DELIVERY, pay())
    assert (first.status_code, again.status_code, again.content) == (202, 202, first.content)
    other = await gateway.send(DELIVERY, pay(nonce="0x" + "2b" * 32))
    assert (other.status_code, other.json()) == (200, {"status": "duplicate_ignored", "id": EVENT})
    assert_nothing_told(other)
    assert (list(gateway.payments.known), gateway.stored) == ([payments.outcome().payment_key], [EVENT])


OUTCOMES: list[tuple[dict[str, Any], int, str]] = [
    ({"result": "pending", "transaction": payments.TRANSACTION}, 503, "settlement_pending"),
    ({"result": "not_taken"}, 503, "facilitator_unavailable"),
    ({"result": "conflict", "code": "payment_already_used"}, 409, "payment_already_used"),
    ({"result": "conflict", "code": "idempotency_key_reused"}, 409, "idempotency_key_reused"),
    ({"result": "conflict", "code": "payment_already_used", "reason": "credited", "paid": payments.paid()}, 409, "payment_already_used"),
    ({"result": "refused", "status": 402, "code": "invalid_payment", "reason": "authorization_expired"}, 402, "invalid_payment"),
]  # fmt: skip


@ROUTES
@pytest.mark.parametrize(("instead", "status", "code"), OUTCOMES)
async def test_a_payment_that_is_not_credited_leaves_the_event_out(route: Route, instead: dict[str, Any], status: int, code: str) -> None:
    gateway = Gateway()
    gateway.payments.instead = instead
    answer = await gateway.send(route, pay())
    assert (answer.status_code, answer.json()["error"], gateway.stored, gateway.reservations.held) == (status, code, [], {})
    assert ("payment-required" in answer.headers) == (status == 402)
    assert ("retry-after" in answer.headers) == (status == 503)


async def test_an_old_credit_says_that_the_money_is_there() -> None:
    gateway = Gateway()
    gateway.payments.instead = OUTCOMES[4][0]
    answer = await gateway.send(SEND, pay())
    assert_told(answer, success=True)
    assert answer.json()["transaction"] == payments.TRANSACTION
    assert "without a payment" in answer.json()["message"]


@ROUTES
async def test_a_payment_of_another_request_is_taken(route: Route) -> None:
    gateway = Gateway()
    await gateway.send(route, pay())
    gateway.reservations.accounts[TEAM] = EMPTY
    answer = await gateway.send(replace(route, body=route.body + b" "), pay())
    assert (answer.status_code, answer.json()["error"], gateway.stored) == (409, "payment_already_used", [EVENT])


@ROUTES
@pytest.mark.parametrize("failure", [Unavailable("broker away"), OutcomeOpen("no acknowledgement")])
async def test_an_event_that_fails_after_the_credit_is_resent_and_is_one(route: Route, failure: KiteError) -> None:
    gateway = Gateway()
    gateway.log.failure = failure
    answer = await gateway.send(route, pay())
    assert (answer.status_code, answer.json()["error"], answer.headers["retry-after"]) == (503, "service_unavailable", "2")
    assert_told(answer, success=True)
    gateway.log.failure = None
    again = await gateway.send(route, pay(), Idempotency_Key="fresh")
    if isinstance(failure, OutcomeOpen):
        # Whether it is in the log, billing will say: until then nobody may write it once more.
        assert (again.status_code, again.json()["error"], gateway.stored) == (503, "service_unavailable", [])
        assert_told(again, success=True)
        gateway.reservations.stream_time_ms = NOW_MS + LAPSE_MS + 1
        again = await gateway.send(route, pay())
    assert (again.status_code, again.json()["id"], gateway.stored) == (202, EVENT, [EVENT])
    assert gateway.balance == 1_000_099


@ROUTES
async def test_an_event_that_turns_out_to_be_logged_answers_its_repeat(route: Route) -> None:
    gateway = Gateway()
    gateway.log.failure = OutcomeOpen("no acknowledgement")
    await gateway.send(route, pay())
    gateway.reservations.settle(EVENT)
    again = await gateway.send(route, pay())
    assert (again.status_code, again.json()["id"], again.headers["idempotency-replayed"], gateway.stored) == (202, EVENT, "true", [])


@ROUTES
async def test_a_credit_that_does_not_show_in_time_is_resent(route: Route) -> None:
    gateway = Gateway(arrivals=FakeArrivals(arrives=False))
    answer = await gateway.send(route, pay())
    assert (answer.status_code, answer.json()["error"], gateway.stored) == (503, "service_unavailable", [])
    assert_told(answer, success=True)
    gateway.arrivals.arrives = True
    assert (await gateway.send(route, pay())).status_code == 202
    assert gateway.arrivals.asked == [(TEAM, 7)] * 2


@ROUTES
async def test_a_credit_that_others_have_spent_is_told_with_the_next_offer(route: Route) -> None:
    gateway = Gateway()
    gateway.arrivals.arrives = False
    await gateway.send(route, pay())
    gateway.arrivals.arrives, gateway.reservations.accounts[TEAM] = True, EMPTY
    answer = await gateway.send(route, pay())
    assert (answer.status_code, answer.json()["error"], gateway.stored) == (402, "insufficient_funds", [])
    assert_told(answer, success=True)
    assert "payment-required" in answer.headers
    assert gateway.payments.results == {}, "a refusal is nobody's result"


@ROUTES
async def test_twenty_copies_at_once_are_one_event(route: Route) -> None:
    gateway = Gateway()
    answers = await asyncio.gather(*(gateway.send(route, pay()) for _ in range(20)))
    assert Counter(one.status_code for one in answers).keys() <= {202, 503}
    assert {one.content for one in answers if one.status_code == 202} == {(await gateway.send(route, pay())).content}
    assert (gateway.stored, gateway.balance) == ([EVENT], 1_000_099)


async def test_an_answer_too_large_to_keep_is_not_kept() -> None:
    gateway = Gateway()
    body = orjson.dumps({"from": "x" * 9_000, "to": "y", "body": ""})
    first = await gateway.send(replace(SEND, body=body), pay())
    again = await gateway.send(replace(SEND, body=body), pay())
    assert (first.status_code, gateway.payments.results) == (202, {})
    assert (again.content, gateway.stored) == (first.content, [EVENT])


@ROUTES
async def test_a_server_without_payments_names_the_missing_funds_and_ignores_what_it_does_not_need(route: Route) -> None:
    gateway = Gateway(takes_payments=False)
    plain, shown = await gateway.send(route), await gateway.send(route, "anything")
    assert (plain.status_code, plain.json().keys()) == (402, {"error", "message", "required_atomic", "available_atomic"})
    assert "payment-required" not in plain.headers
    assert (shown.status_code, shown.json()["error"]) == (503, "x402_unconfigured")
    gateway.reservations.accounts[TEAM] = Account()
    assert (await gateway.send(route, "anything")).status_code == 202


@ROUTES
async def test_without_a_payment_nothing_is_looked_at_twice(route: Route) -> None:
    gateway = Gateway(Account(rate_per_min=1))
    answer = await gateway.send(route)
    assert (answer.status_code, answer.headers["ratelimit-remaining"], gateway.payments.submitted) == (202, "0", [])
    assert gateway.arrivals.asked == []


async def test_a_caller_that_hangs_up_gets_its_event_and_its_result() -> None:
    gateway = Gateway()
    gateway.log.gate = asyncio.Event()
    calling = asyncio.create_task(gateway.send(SEND, pay()))
    await eventually(lambda: gateway.reservations.held, every_s=0, what="the event is reserved")
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    gateway.log.gate.set()
    await eventually(lambda: gateway.payments.results, every_s=0, what="the result is kept")
    assert gateway.stored == [EVENT]
