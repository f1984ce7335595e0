"""POST /bootstrap/x402 and POST /wallet/invoices over fakes: every answer, every error, and what is handed to billing. No network."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest
from x402.schemas.v1 import PaymentRequiredV1

from kite_common.errors import ApiError
from kite_common.events.payments import Alternative, PaymentOutcome, PaymentSubmitted, Target
from kite_common.plans import shipped_catalog
from kite_common.testing import make, payments
from kite_common.testing.payments import NOW_S, TRANSACTION
from kite_common.x402 import key
from kite_common.x402.key import payment_id, team_of
from kite_common.x402.networks import checksum
from kite_common.x402.quote import Quote, read_quote
from kite_gateway.adapters.http import paid
from support.paid_gateway import (
    BOOTSTRAP,
    CREDENTIALS,
    DEPOSIT,
    INVOICES,
    OURS,
    READER,
    TEAM,
    WANTED,
    WRITER,
    OneCreditEach,
    PaidGateway,
    always,
    crediting,
    credits_of,
    offer_of,
    problem,
    quoted,
    told,
)
from support.paid_routes import FakeArrivals, FakePayments

STARTER = make.plan("starter").id
PAYMENT_KEY = payments.submitted().payment_key
NEW_TEAM = team_of(PAYMENT_KEY)
PATHS = {"bootstrap": (BOOTSTRAP, WANTED, {}), "deposit": (INVOICES + OURS, DEPOSIT, WRITER)}
both_routes = pytest.mark.parametrize("purpose", ["bootstrap", "deposit"])


@pytest.fixture(scope="module")
def shared() -> PaidGateway:
    return crediting()


@pytest.fixture
def gateway(shared: PaidGateway) -> PaidGateway:
    shared.start_anew()
    return shared


@pytest.fixture
async def client(gateway: PaidGateway) -> AsyncIterator[httpx.AsyncClient]:
    async with gateway.client() as client:
        yield client


async def ask(client: httpx.AsyncClient, purpose: str, header: str | None = None, **headers: str) -> httpx.Response:
    """A good request of that purpose, with a payment or without."""
    path, body, own = PATHS[purpose]
    shown = {} if header is None else {"payment-signature": header}
    return await client.post(path, json=body, headers=own | shown | headers)


async def asked_of(outcome: dict[str, Any], purpose: str) -> httpx.Response:
    """The answer to a good payment that came to this."""
    async with PaidGateway(payments=FakePayments(always(**outcome))).client() as client:
        return await ask(client, purpose, payments.header())


# --- without a payment ---


@both_routes
async def test_an_unpaid_request_is_asked_for_a_payment_in_both_versions(
    purpose: str, gateway: PaidGateway, client: httpx.AsyncClient
) -> None:
    answer = await ask(client, purpose)
    body = problem(answer, 402, "payment_required")
    offer, [v1] = offer_of(answer), PaymentRequiredV1.model_validate(body).accepts
    [v2] = offer.accepts
    assert (offer.error, v2.amount, v1.max_amount_required) == ("payment_required", "1000000", "1000000")
    assert (v2.network, v1.network, v2.asset, v2.pay_to) == ("eip155:84532", "base-sepolia", payments.USDC.checksum, v1.pay_to)
    assert offer.resource is not None
    assert offer.resource.url == v1.resource == "https://kite.example" + PATHS[purpose][0]
    assert gateway.submitted == []


@both_routes
async def test_the_quote_is_for_this_request_and_lives_as_long_as_the_offer(purpose: str, client: httpx.AsyncClient) -> None:
    answer = await ask(client, purpose)
    request = answer.request
    query = request.url.query
    fingerprint = key.fingerprint("POST", request.url.raw_path.partition(b"?")[0], query, request.content)
    found = read_quote(payments.terms().quote_keys, quoted(answer))
    assert found == Quote(purpose, fingerprint[:16].hex(), 1_000_000, NOW_S + 300)


@pytest.mark.parametrize(
    ("body", "amount"),
    [({"source": "a"}, 1_000_000), ({"source": "a", "deposit_atomic": 2_500_000}, 2_500_000)],
)  # fmt: skip
async def test_a_new_team_costs_its_deposit(body: dict[str, Any], amount: int, client: httpx.AsyncClient) -> None:
    answer = await client.post(BOOTSTRAP, json=body)
    assert offer_of(answer).accepts[0].amount == str(amount)


@pytest.mark.parametrize(
    "body", [{"amount_atomic": 7}, {"amount_sats": 7}, {"amount_atomic": 7, "amount_sats": 7}, {"amount_atomic": 7, "more": "fields"}]
)
async def test_a_deposit_costs_itself(body: dict[str, int], client: httpx.AsyncClient) -> None:
    answer = await client.post(INVOICES + OURS, headers=WRITER, json=body)
    assert offer_of(answer).accepts[0].amount == "7"


# --- paid ---


async def test_a_payment_makes_a_team(gateway: PaidGateway, client: httpx.AsyncClient) -> None:
    header = payments.header(quote_id=quoted(await ask(client, "bootstrap")))
    answer = await ask(client, "bootstrap", header)
    assert (answer.status_code, answer.json()) == (200, {
        "team_id": NEW_TEAM, "source": "my-bot", "api_key": CREDENTIALS.api_key, "endpoint": f"/hooks/{NEW_TEAM}/my-bot",
        "endpoint_with_token": f"/hooks/{NEW_TEAM}/my-bot/{CREDENTIALS.hook_token}", "hook_token": CREDENTIALS.hook_token,
        "wallet_balance_atomic": 1_000_000, "network": "eip155:84532", "asset": payments.USDC.checksum, "credentials_available": True,
    })  # fmt: skip
    assert answer.headers["cache-control"] == "private, no-store"
    [made] = gateway.submitted
    assert (made.purpose, made.amount_atomic, made.if_new) == ("bootstrap", 1_000_000, None)
    assert made.target == Target(source="my-bot", plan_id=STARTER)
    assert made.quote_hash is not None
    assert gateway.arrivals.asked == [(NEW_TEAM, None)], "the new key works when the answer is there"


async def test_a_payment_is_a_deposit(gateway: PaidGateway, client: httpx.AsyncClient) -> None:
    answer = await ask(client, "deposit", payments.header())
    assert (answer.status_code, answer.json()) == (200, {
        "balance_atomic": 1_995_900, "amount_deposited_atomic": 1_000_000, "balance_sats": 1_995_900, "amount_deposited_sats": 1_000_000,
    })  # fmt: skip
    [made] = gateway.submitted
    assert (made.purpose, made.amount_atomic, made.target, made.if_new) == ("deposit", 1_000_000, Target(team_id=TEAM), None)
    assert gateway.arrivals.asked == [(TEAM, 7)], "GET /wallet shows the deposit when the answer is there"


@both_routes
async def test_a_paid_answer_tells_of_the_payment(purpose: str, client: httpx.AsyncClient) -> None:
    paid = told(await ask(client, purpose, payments.header()))
    assert (paid.success, paid.transaction, paid.network, paid.amount) == (True, TRANSACTION, "eip155:84532", "1000000")
    assert paid.payer == checksum(payments.address(payments.payer()))


@both_routes
@pytest.mark.parametrize("name", ["payment-signature", "x-payment", "x-payment-signature", "X-PAYMENT"])
@pytest.mark.parametrize("version", [1, 2])
async def test_every_header_and_version_pays(purpose: str, name: str, version: int, client: httpx.AsyncClient) -> None:
    answer = await ask(client, purpose, **{name: payments.header(x402_version=version)})
    assert (answer.status_code, told(answer).success) == (200, True)


@both_routes
async def test_the_same_payment_again_is_the_same_answer_and_one_credit(
    purpose: str, gateway: PaidGateway, client: httpx.AsyncClient
) -> None:
    first, again = [await ask(client, purpose, payments.header()) for _ in range(2)]
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["payment-response"] == first.headers["payment-response"]
    assert len(credits_of(gateway)) == 1
    assert len({made.submission_id for made in gateway.submitted}) == 1, "the fake draws the same bytes"


async def test_one_payment_does_not_buy_two_things(client: httpx.AsyncClient) -> None:
    await ask(client, "deposit", payments.header())
    answer = await ask(client, "bootstrap", payments.header())
    body = problem(answer, 409, "payment_already_used")
    assert (body["transaction"], told(answer).transaction) == (TRANSACTION, TRANSACTION)
    spaced = json.dumps(DEPOSIT, indent=1)
    answer = await client.post(INVOICES + OURS, content=spaced, headers=WRITER | {"x-payment": payments.header()})
    problem(answer, 409, "payment_already_used")


async def test_whoever_may_not_see_the_credentials_any_more_is_shown_all_else(gateway: PaidGateway, client: httpx.AsyncClient) -> None:
    first = (await ask(client, "bootstrap", payments.header())).json()
    assert isinstance(gateway.payments.answers, OneCreditEach)
    gateway.payments.answers.shows_credentials = False
    answer = await ask(client, "bootstrap", payments.header())
    hidden = {"api_key": None, "hook_token": None, "endpoint_with_token": None, "credentials_available": False}
    assert (answer.status_code, answer.json()) == (200, first | hidden)


async def test_credentials_sealed_with_a_key_that_is_gone_are_shown_to_nobody() -> None:
    gateway = PaidGateway(terms=payments.terms(cipher_keys=(b"x" * 32,)), payments=FakePayments(OneCreditEach(payments.terms())))
    async with gateway.client() as client:
        answer = await ask(client, "bootstrap", payments.header())
    assert (answer.status_code, answer.json()["credentials_available"], answer.json()["api_key"]) == (200, False, None)


async def test_credentials_of_another_payment_are_not_opened() -> None:
    """A seal is good for its own payment only: an outcome that names another one shows nothing."""
    made = crediting()
    async with made.client() as client:
        await ask(client, "bootstrap", payments.header())
    [outcome] = credits_of(made).values()
    other = always(bootstrapped=outcome.bootstrapped, team_id=outcome.team_id)
    async with PaidGateway(payments=FakePayments(other)).client() as client:
        answer = await ask(client, "bootstrap", payments.header(nonce="0x" + "2b" * 32))
    assert answer.json()["credentials_available"] is False
    assert CREDENTIALS.api_key not in answer.text


@both_routes
async def test_money_that_has_arrived_is_answered_although_it_is_not_seen_here_yet(purpose: str) -> None:
    gateway = crediting()
    gateway.arrivals.arrives = False
    async with gateway.client() as client:
        assert (await ask(client, purpose, payments.header())).status_code == 200


async def test_an_outcome_of_a_bootstrap_without_a_team_is_no_answer() -> None:
    answer = await asked_of({"result": "credited", "bootstrapped": None}, "bootstrap")
    problem(answer, 503, "service_unavailable")


# --- what became of a payment ---

OUTCOMES: list[tuple[dict[str, Any], int, str]] = [
    ({"result": "pending"}, 503, "settlement_pending"),
    ({"result": "pending", "transaction": TRANSACTION}, 503, "settlement_pending"),
    ({"result": "not_taken"}, 503, "facilitator_unavailable"),
    ({"result": "in_progress"}, 409, "bootstrap_in_progress"),
    ({"result": "conflict", "code": "payment_already_used"}, 409, "payment_already_used"),
    ({"result": "conflict", "code": "idempotency_key_reused", "transaction": TRANSACTION}, 409, "idempotency_key_reused"),
    ({"result": "refused", "status": 402, "code": "invalid_payment", "reason": "authorization_expired"}, 402, "invalid_payment"),
    ({"result": "refused", "status": 402, "code": "invalid_payment", "after_settle": True, "transaction": TRANSACTION,
      "reason": "invalid_exact_evm_insufficient_balance"}, 402, "invalid_payment"),
    ({"result": "refused", "status": 404, "code": "plan_not_found"}, 404, "plan_not_found"),
    ({"result": "refused", "status": 500, "code": "no such code"}, 500, "internal_error"),
]  # fmt: skip


@both_routes
@pytest.mark.parametrize(("outcome", "status", "code"), OUTCOMES)
async def test_every_outcome_has_its_answer(outcome: dict[str, Any], status: int, code: str, purpose: str) -> None:
    answer = await asked_of(outcome, purpose)
    body = problem(answer, status, code)
    waits = status == 503 or code == "bootstrap_in_progress"
    assert (body.get("retry_after_secs"), answer.headers.get("retry-after")) == ((2, "2") if waits else (None, None))
    assert ("payment-required" in answer.headers) == (status == 402), "402 alone asks for a new payment"
    if outcome["result"] in ("pending", "conflict") or outcome.get("after_settle"):
        response = told(answer)
        assert (response.success, response.transaction) == (False, outcome.get("transaction", ""))
        assert body.get("transaction", response.transaction) == response.transaction
    else:
        assert "payment-response" not in answer.headers


@both_routes
async def test_a_payment_that_is_pending_has_a_name_to_ask_for(purpose: str) -> None:
    answer = await asked_of({"result": "pending"}, purpose)
    assert answer.json()["paymentId"] == payment_id(PAYMENT_KEY)


@both_routes
async def test_no_text_of_a_facilitator_gets_out(purpose: str) -> None:
    secret = "node http://10.0.0.7:8545 said: insufficient gas"
    outcome = {"result": "refused", "status": 402, "code": "invalid_payment", "reason": secret, "after_settle": True}
    answer = await asked_of(outcome, purpose)
    assert problem(answer, 402, "invalid_payment")["reason"] == "invalid_payload"
    assert told(answer).error_reason == "invalid_payload"
    assert "10.0.0.7" not in answer.text


@both_routes
@pytest.mark.parametrize("code", ["overloaded", "service_unavailable"])
async def test_what_cannot_be_handed_over_is_503_and_asks_for_nothing_new(code: str, purpose: str) -> None:
    def away(_: PaymentSubmitted) -> PaymentOutcome:
        raise ApiError(code, retry_after_s=2)

    async with PaidGateway(payments=FakePayments(away)).client() as client:
        answer = await ask(client, purpose, payments.header())
    assert problem(answer, 503, code)["retry_after_secs"] == 2
    assert "payment-required" not in answer.headers


# --- payments that are wrong ---


def changed(*path: str, to: object) -> str:
    """A payment with one field changed after it was signed."""
    content: dict[str, Any] = payments.shown_json(quote_id="q1.x")
    inner = content
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = to
    return payments.header_of(content)


UNREADABLE = [
    "", "e30=", "not base64!", payments.header() + "\n", payments.header()[:-1], "A" * 16_385, payments.header_of([]),
    changed("x402Version", to=3), changed("x402Version", to=True), changed("accepted", to=None), changed("payload", to="x"),
    changed("payload", "signature", to=""), changed("payload", "authorization", "nonce", to="0x12"),
    changed("payload", "authorization", "value", to=True), changed("payload", "authorization", "value", to=-1),
    changed("payload", "authorization", "value", to="9" * 400), changed("payload", "authorization", "validBefore", to="abc"),
]  # fmt: skip


@both_routes
@pytest.mark.parametrize("header", UNREADABLE, ids=range(len(UNREADABLE)))
async def test_what_cannot_be_read_is_400(header: str, purpose: str, gateway: PaidGateway, client: httpx.AsyncClient) -> None:
    answer = await ask(client, purpose, header.encode())  # type: ignore[arg-type]
    problem(answer, 400, "invalid_payment_header")
    assert gateway.submitted == []
    assert "payment-required" not in answer.headers


@both_routes
async def test_several_payments_in_one_request_are_400(purpose: str, client: httpx.AsyncClient) -> None:
    path, body, own = PATHS[purpose]
    one, other = payments.header(), payments.header(nonce="0x" + "2b" * 32)
    for headers in ([("x-payment", one), ("payment-signature", other)], [("x-payment", one), ("x-payment", one)]):
        answer = await client.post(path, json=body, headers=[*own.items(), *headers])
        problem(answer, 400, "invalid_payment_header")
    answer = await client.post(path, json=body, headers=[*own.items(), ("x-payment", one), ("payment-signature", one)])
    assert answer.status_code == 200, "the same value under several names is one payment"


REFUSED = [
    (changed("accepted", "scheme", to="upto"), "unsupported_scheme"),
    (changed("accepted", "network", to="eip155:8453"), "network_mismatch"),
    (changed("accepted", "network", to="base-sepolia"), "network_mismatch"),
    (changed("accepted", "asset", to=payments.PAY_TO), "no_matching_payment_requirements"),
    (changed("accepted", "payTo", to="0x" + "9" * 40), "no_matching_payment_requirements"),
    (payments.header(to_address="0x" + "9" * 40), "no_matching_payment_requirements"),
    (payments.header(x402_version=1, to_address="0x" + "9" * 40), "invalid_exact_evm_payload_recipient_mismatch"),
    (payments.header(value="0"), "invalid_payload"),
    (changed("payload", "authorization", "value", to="2000000"), "invalid_exact_evm_payload_signature"),
    (changed("payload", "authorization", "from", to="0x" + "9" * 40), "invalid_exact_evm_payload_signature"),
    (changed("payload", "signature", to="0x" + "00" * 65), "invalid_exact_evm_payload_signature"),
    (changed("payload", "signature", to="0x" + "1a" * 64), "invalid_exact_evm_payload_signature"),
    (changed("payload", "signature", to=payments.high_s(payments.shown_json()["payload"]["signature"])),
     "invalid_exact_evm_payload_signature"),
]  # fmt: skip


@both_routes
@pytest.mark.parametrize(("header", "reason"), REFUSED, ids=range(len(REFUSED)))
async def test_what_is_wrong_for_ever_is_402_and_reaches_nobody(
    header: str, reason: str, purpose: str, gateway: PaidGateway, client: httpx.AsyncClient
) -> None:
    answer = await ask(client, purpose, header)
    body = problem(answer, 402, "invalid_payment")
    assert (body["reason"], offer_of(answer).error, gateway.submitted) == (reason, reason, [])
    assert quoted(answer)


@both_routes
@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"value": "999999"}, "invalid_exact_evm_payload_authorization_value_mismatch"),
        ({"value": str(1 << 200)}, "invalid_exact_evm_payload_authorization_value_mismatch"),
        ({"to_address": payments.RETIRED}, "invalid_exact_evm_payload_recipient_mismatch"),
        ({"valid_after": str(NOW_S + 1)}, "invalid_exact_evm_payload_authorization_valid_after"),
        ({"valid_before": str(NOW_S + 35)}, "invalid_exact_evm_payload_authorization_valid_before"),
        ({"valid_before": str(NOW_S + 3_661)}, "authorization_window_too_long"),
    ],
)
async def test_what_is_wrong_now_is_402_unless_billing_knows_the_payment(
    given: dict[str, Any], reason: str, purpose: str, gateway: PaidGateway, client: httpx.AsyncClient
) -> None:
    answer = await ask(client, purpose, payments.header(**given))
    assert problem(answer, 402, "invalid_payment")["reason"] == reason
    [made] = gateway.submitted
    assert made.if_new == Alternative(status=402, code="invalid_payment", reason=reason)
    assert credits_of(gateway) == {}


@both_routes
async def test_a_payment_finds_its_outcome_after_its_window(purpose: str) -> None:
    """What depends on time is not held against a payment that is known."""
    known = PaidGateway(payments=crediting().payments)
    async with known.client() as client:
        first = await ask(client, purpose, payments.header())
        late = PaidGateway(terms=payments.terms(settle_timeout_s=600.0), payments=known.payments)
        async with late.client() as later:
            again = await ask(later, purpose, payments.header())
    assert known.submitted[-1].if_new is not None
    assert (again.status_code, again.content) == (200, first.content)


@both_routes
@pytest.mark.parametrize("name", ["a b", "x" * 256, ""])
async def test_a_bad_idempotency_key_is_400_where_money_moves(name: str, purpose: str, gateway: PaidGateway) -> None:
    async with gateway.client() as client:
        problem(await ask(client, purpose, payments.header(), **{"idempotency-key": name}), 400, "invalid_idempotency_key")
    assert gateway.submitted == []


@both_routes
async def test_an_idempotency_key_travels_as_a_hash(purpose: str, gateway: PaidGateway, client: httpx.AsyncClient) -> None:
    await ask(client, purpose, payments.header(), **{"idempotency-key": "order-4711-of-today"})
    [made] = gateway.submitted
    assert (made.idempotency_hash, made.idempotency_long) == (key.idempotency_hash("order-4711-of-today"), True)


# --- requests that are bad themselves: no payment is looked at ---

NO_DEPOSITS: list[Any] = [None, 0, -1, 999_999, 1_000_000_001, 1_000_000.5, 1_000_000.0, "1000000", True, [], 1 << 60]
NO_AMOUNTS: list[Any] = [None, 0, -1, 1.5, 1.0, "1", True, {}, 1_000_000_001, 1 << 62]
BAD_TEAMS: list[tuple[bytes, int, str]] = [
    (b"{", 400, "invalid_json"), (b"[]", 400, "invalid_json"), (b"", 400, "invalid_json"), (b'{"source":"a","deposit_atomic":NaN}', 400,
     "invalid_json"),
    (b"{}", 400, "invalid_source"), *((orjson.dumps({"source": source}), 400, "invalid_source") for source in (
        None, 5, "", "-a", "a_b", "a b", "a/b", "kite", "KITE", "x" * 65, "ä", "a\n",
    )),
    *((orjson.dumps({"source": "a", "deposit_atomic": deposit}), 400, "invalid_deposit") for deposit in NO_DEPOSITS),
    *((orjson.dumps({"source": "a", "plan": plan}), 404, "plan_not_found") for plan in (None, 5, "", "none")),
    (b"{" + b" " * 65_536, 413, "payload_too_large"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "status", "code"), BAD_TEAMS, ids=range(len(BAD_TEAMS)))
async def test_teams_nobody_can_have(content: bytes, status: int, code: str, gateway: PaidGateway, client: httpx.AsyncClient) -> None:
    problem(await client.post(BOOTSTRAP, content=content), status, code)
    problem(await client.post(BOOTSTRAP, content=content, headers={"x-payment": payments.header()}), status, code)
    assert credits_of(gateway) == {}
    assert all(made.if_new == Alternative(status=404, code="plan_not_found") for made in gateway.submitted)


BAD_DEPOSITS: list[tuple[bytes, int, str]] = [
    (b"nothing", 400, "invalid_json"), (b"7", 400, "invalid_json"), (b'{"amount_atomic":Infinity}', 400, "invalid_json"),
    (b"{}", 400, "invalid_amount"), *((orjson.dumps({"amount_atomic": amount}), 400, "invalid_amount") for amount in NO_AMOUNTS),
    (b'{"amount_atomic":1e999}', 400, "invalid_json"),
    (b'{"amount_sats":0}', 400, "invalid_amount"), (b'{"amount_sats":null}', 400, "invalid_amount"),
    (b'{"amount_atomic":1,"amount_sats":2}', 400, "invalid_amount"), (b'{"amount_atomic":1,"amount_sats":null}', 400, "invalid_amount"),
    (b'{"amount_atomic":1,"amount_sats":"1"}', 400, "invalid_amount"), (b'{"amount_atomic":1,"amount_sats":true}', 400, "invalid_amount"),
    (b"{" + b" " * 65_536, 413, "payload_too_large"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "status", "code"), BAD_DEPOSITS, ids=range(len(BAD_DEPOSITS)))
async def test_amounts_nobody_can_deposit(content: bytes, status: int, code: str, gateway: PaidGateway, client: httpx.AsyncClient) -> None:
    for payment in ({}, {"x-payment": payments.header()}):
        problem(await client.post(INVOICES + OURS, content=content, headers=WRITER | payment), status, code)
    assert gateway.submitted == []


@both_routes
async def test_a_compressed_body_is_415(purpose: str, client: httpx.AsyncClient) -> None:
    problem(await ask(client, purpose, **{"content-encoding": "gzip"}), 415, "unsupported_media_type")


@pytest.mark.parametrize("name", ["a", "0", "my-bot", "MY-BOT", "x" * 64, "a--", "kite-2"])
async def test_names_of_endpoints_are_lower_cased(name: str, gateway: PaidGateway, client: httpx.AsyncClient) -> None:
    answer = await client.post(BOOTSTRAP, json=WANTED | {"source": name}, headers={"x-payment": payments.header()})
    assert answer.json()["source"] == name.lower()
    assert gateway.submitted[0].target.source == name.lower()


@pytest.mark.parametrize("name", ["free", "Growth", "PRO", "enterprise"])
async def test_any_plan_of_the_catalog_can_be_had(name: str, gateway: PaidGateway, client: httpx.AsyncClient) -> None:
    answer = await client.post(BOOTSTRAP, json=WANTED | {"plan": name}, headers={"x-payment": payments.header()})
    plan = shipped_catalog().by_name(name)
    assert plan is not None
    assert (answer.status_code, gateway.submitted[0].target.plan_id) == (200, plan.id)


# --- what the route refuses, but to those whose payment is known ---


async def test_a_plan_that_is_gone_is_404_and_costs_nothing(gateway: PaidGateway, client: httpx.AsyncClient) -> None:
    answer = await client.post(BOOTSTRAP, json=WANTED | {"plan": "gone"}, headers={"x-payment": payments.header()})
    problem(answer, 404, "plan_not_found")
    assert "payment-required" not in answer.headers
    assert gateway.submitted[0].if_new == Alternative(status=404, code="plan_not_found")
    assert credits_of(gateway) == {}


@pytest.mark.parametrize(
    ("now", "status", "code"),
    [
        ({"status": "none"}, 404, "no_active_subscription"), ({"status": "cancelled"}, 404, "no_active_subscription"),
        ({"provider": "clerk"}, 409, "not_x402_subscription"),
    ],
)
async def test_teams_without_a_wallet_deposit_nothing(
    now: dict[str, Any], status: int, code: str, gateway: PaidGateway, client: httpx.AsyncClient
) -> None:
    gateway.has(**now)
    problem(await ask(client, "deposit"), status, code)
    assert gateway.submitted == []
    answer = await ask(client, "deposit", payments.header())
    problem(answer, status, code)
    assert "payment-required" not in answer.headers
    assert gateway.submitted[0].if_new == Alternative(status=status, code=code)
    assert credits_of(gateway) == {}


async def test_a_deposit_that_was_made_is_answered_whatever_the_team_is_now(gateway: PaidGateway, client: httpx.AsyncClient) -> None:
    first = await ask(client, "deposit", payments.header())
    for now in ({"status": "cancelled"}, {"provider": "clerk"}):
        gateway.has(**now)
        again = await ask(client, "deposit", payments.header())
        assert (again.status_code, again.content) == (200, first.content)


async def test_an_unreadable_payment_comes_before_what_the_team_may_not(gateway: PaidGateway, client: httpx.AsyncClient) -> None:
    gateway.has(status="none")
    problem(await ask(client, "deposit", "e30="), 400, "invalid_payment_header")
    problem(await client.post(BOOTSTRAP, json=WANTED | {"plan": "gone"}, headers={"x-payment": "e30="}), 400, "invalid_payment_header")


async def test_a_team_that_is_past_due_may_deposit(gateway: PaidGateway, client: httpx.AsyncClient) -> None:
    gateway.has(status="past_due")
    assert (await ask(client, "deposit", payments.header())).status_code == 200


async def test_an_account_that_is_not_projected_is_503(gateway: PaidGateway, client: httpx.AsyncClient) -> None:
    gateway.billing.standings.clear()
    problem(await ask(client, "deposit", payments.header()), 503, "service_unavailable")
    assert gateway.submitted == []


# --- who may ask, how often, and where payments are off ---


async def test_a_new_team_needs_no_key_and_a_deposit_a_writers(gateway: PaidGateway, client: httpx.AsyncClient) -> None:
    header = {"x-payment": payments.header()}
    problem(await client.post(INVOICES + OURS, json=DEPOSIT, headers=header), 401, "unauthorized")
    problem(await client.post(INVOICES, json=DEPOSIT, headers=WRITER | header), 400, "missing_team_id")
    problem(await client.post(INVOICES + "?team_id=team_other", json=DEPOSIT, headers=WRITER | header), 403, "forbidden")
    problem(await client.post(INVOICES + OURS, json=DEPOSIT, headers=READER | header), 403, "insufficient_permissions")
    assert gateway.submitted == []
    answer = await ask(client, "bootstrap", payments.header(), Authorization="Bearer nobody's")
    assert answer.status_code == 200


@both_routes
async def test_over_the_rate_limit_no_payment_is_looked_at(purpose: str, gateway: PaidGateway, client: httpx.AsyncClient) -> None:
    gateway.clients.limit, gateway.rate_limits.used_up = 0, True
    body = problem(await ask(client, purpose, payments.header()), 429, "rate_limit_exceeded")
    assert body["retry_after_secs"] >= 1
    assert gateway.submitted == []


async def test_who_wants_a_team_has_a_moment_to_say_which(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paid, "STRANGERS_S", 0.05)

    async def trickle() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with asyncio.timeout(5):
        answer = await client.post(BOOTSTRAP, content=trickle())
    problem(answer, 400, "invalid_json")
    assert answer.headers["connection"] == "close"


async def test_an_address_is_told_its_limit(client: httpx.AsyncClient) -> None:
    answer = await ask(client, "bootstrap")
    assert (answer.headers["ratelimit-limit"], answer.headers["ratelimit-remaining"]) == ("300", "299")


@both_routes
@pytest.mark.parametrize("header", [None, payments.header(), "e30="])
async def test_without_payments_on_this_server_both_are_503(header: str | None, purpose: str) -> None:
    async with PaidGateway(terms=None).client() as client:
        answer = await ask(client, purpose, header)
    body = problem(answer, 503, "x402_unconfigured")
    assert answer.headers["retry-after"] == str(body["retry_after_secs"]) == "2"
    assert "payment-required" not in answer.headers


async def test_without_a_key_to_seal_with_nobody_pays_for_a_team_but_deposits_go_on() -> None:
    gateway = PaidGateway(terms=payments.terms(cipher_keys=()), payments=crediting().payments)
    async with gateway.client() as client:
        body = problem(await ask(client, "bootstrap", payments.header()), 503, "bootstrap_unconfigured")
        assert body["retry_after_secs"] == 2
        assert gateway.submitted == []
        assert (await ask(client, "deposit", payments.header())).status_code == 200


@pytest.mark.parametrize("path", [BOOTSTRAP, INVOICES])
async def test_other_methods_take_no_money(path: str, gateway: PaidGateway, client: httpx.AsyncClient) -> None:
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        answer = await client.request(method, path, headers={"x-payment": payments.header()})
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert gateway.submitted == []


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/api/v1/plans"), ("GET", "/api/v1/wallet"), ("GET", "/api/v1/usage"), ("GET", "/api/v1/subscription")]
)
async def test_routes_that_ask_for_nothing_ignore_payments(
    method: str, path: str, gateway: PaidGateway, client: httpx.AsyncClient
) -> None:
    for header in (payments.header(), "e30="):
        answer = await client.request(method, path + OURS, headers=READER | {"x-payment": header})
        assert answer.status_code == 200
        assert "payment-response" not in answer.headers
    assert gateway.submitted == []


async def test_what_is_logged_names_the_payment_and_no_secret(
    client: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    quote = quoted(await ask(client, "bootstrap"))
    header = payments.header(quote_id=quote)
    await ask(client, "bootstrap", header)
    told_of = "".join(capsys.readouterr())
    assert payment_id(PAYMENT_KEY) in told_of
    signature = payments.shown_json()["payload"]["signature"]
    for secret in (CREDENTIALS.api_key, CREDENTIALS.hook_token, quote, header, signature[2:]):
        assert secret not in told_of


async def test_arrivals_of_a_team_whose_key_is_not_shown_wait_for_its_account_only() -> None:
    arrivals = FakeArrivals()
    gateway = PaidGateway(payments=crediting(shows_credentials=False).payments, arrivals=arrivals)
    async with gateway.client() as client:
        await ask(client, "bootstrap", payments.header())
    assert arrivals.asked == [(NEW_TEAM, None)]
