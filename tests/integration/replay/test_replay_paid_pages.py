"""Paid pages and the ledger over HTTP, a real archive and a real Redis: the table of the wire contract, 3.1, and its conformance list.

Billing's answers to payments are given by the test: what a payment does to a wallet is billing's, not replay's.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx
import pytest
from redis.asyncio import Redis
from x402.http.utils import decode_payment_required_header, decode_payment_response_header

from kite_common.clock import FrozenClock, from_unix_ms
from kite_common.events.payments import PaymentOutcome, PaymentSubmitted
from kite_common.ids import TeamId
from kite_common.projection import keys
from kite_common.testing import payments
from kite_replay.adapters.clickhouse.archive import ClickHouseArchive
from kite_replay.adapters.till import PaymentDesk
from kite_replay.testing import NOW_MS
from support.replay_api import Api, refused

TERMS = payments.terms(public_url="http://127.0.0.1:7700")


@dataclass
class Billing:
    """Credits every key once and gives its repeats what it has bought; another request's key is a conflict."""

    submitted: list[PaymentSubmitted] = field(default_factory=list)
    credited: dict[str, PaymentSubmitted] = field(default_factory=dict)

    async def submit(self, submitted: PaymentSubmitted) -> PaymentOutcome:
        self.submitted.append(submitted)
        known, if_new = self.credited.get(submitted.payment_key), submitted.if_new
        given: dict[str, Any] = {"payment_key": submitted.payment_key, "submission_id": submitted.submission_id}
        if known is None and if_new is not None:
            result: Literal["not_needed", "refused"] = "not_needed" if if_new.code == "not_needed" else "refused"
            return PaymentOutcome(**given, result=result, status=if_new.status, code=if_new.code, reason=if_new.reason)
        first = self.credited.setdefault(submitted.payment_key, submitted)
        if first.fingerprint != submitted.fingerprint:
            return PaymentOutcome(**given, result="conflict", transaction=payments.TRANSACTION)
        paid = payments.paid(amount_atomic=first.amount_atomic)
        return PaymentOutcome(**given, result="credited", paid=paid, amount_atomic=first.amount_atomic, target=first.target)


@dataclass
class Shop:
    """The api, and the billing behind it."""

    api: Api
    billing: Billing

    async def pay(self, asked: httpx.Response, query: str = "", **given: Any) -> httpx.Response:
        """The same request with a payment for what it was asked."""
        return await self.api.get(query, **{"payment-signature": self.payment(asked, **given)})

    def payment(self, asked: httpx.Response, **given: Any) -> str:
        offer = offer_of(asked)
        valid_before = str(NOW_MS // 1000 + 300)
        return payments.header(TERMS, **({"value": offer.amount, "quote_id": offer.extra["quoteId"], "valid_before": valid_before} | given))


def offer_of(asked: httpx.Response) -> Any:
    required: Any = decode_payment_required_header(asked.headers["payment-required"])
    return required.accepts[0]


def numbers(response: httpx.Response) -> list[int]:
    """The offsets of a page's events."""
    return [row["event"]["kiteseq"] >> 10 for row in response.json()["events"]]


OpenShop = Callable[..., Shop]


@pytest.fixture
async def shop_of(archive: ClickHouseArchive, stack: Any, team: str, partition: int) -> AsyncIterator[OpenShop]:
    redis, clients = Redis.from_url(stack.redis_url), []

    def open_shop(fallback_atomic: int | None = None) -> Shop:
        billing = Billing()
        desk = PaymentDesk(TERMS, billing, FrozenClock(from_unix_ms(NOW_MS)), lambda count: b"r" * count)
        api = Api(archive, redis, team, partition, desk=desk, fallback_atomic=fallback_atomic)
        clients.append(api.client)
        return Shop(api, billing)

    yield open_shop
    for client in clients:
        await client.aclose()
    await redis.aclose()


async def metered(shop: Shop, balance: int) -> None:
    """An x402 subscription at 10 a row."""
    await shop.api.project(provider="x402", subscription="sub", replay_price=10, balance=balance)


async def test_a_page_is_taken_from_the_wallet_at_each_reading(shop_of: OpenShop) -> None:
    shop = shop_of()
    await metered(shop, 100)
    await shop.api.store(1, 2, 3)
    for reading in (1, 2, 3):
        response = await shop.api.get()
        assert (response.status_code, response.json()["amount_charged_atomic"]) == (200, 30)
        assert await shop.api.held() == (reading, 30 * reading)
    assert "payment-response" not in response.headers
    asked = await shop.api.get()
    assert refused(asked, 402, "payment_required")
    assert await shop.api.held() == (3, 90)
    assert [reserved.subscription_id for _, reserved in shop.api.log.appended] == ["sub"] * 3


async def test_included_pages_and_empty_ones_cost_nothing(shop_of: OpenShop) -> None:
    shop = shop_of()
    await metered(shop, 0)
    assert (await shop.api.get()).json()["amount_charged_atomic"] == 0
    await shop.api.store(1, 2)
    for fields in ({"replay_price": 0}, {"replay_price": 10, "provider": "clerk"}):
        await shop.api.project(**fields)
        assert (await shop.api.get()).json()["amount_charged_atomic"] == 0
    assert (await shop.api.held(), shop.api.log.appended) == ((0, 0), [])


async def test_the_402_names_this_page_and_its_price_in_both_versions(shop_of: OpenShop) -> None:
    shop = shop_of()
    await metered(shop, 19)
    await shop.api.store(1, 2, 3)
    asked = await shop.api.get("&limit=2")
    assert refused(asked, 402, "payment_required")
    body, offer = asked.json(), offer_of(asked)
    assert (body["rows"], body["amount_atomic"], body["x402Version"], body["accepts"][0]["maxAmountRequired"]) == (2, 20, 1, "20")
    assert (offer.amount, offer.network, offer.asset) == ("20", "eip155:84532", payments.USDC.checksum)
    assert body["accepts"][0]["resource"] == f"http://127.0.0.1:7700/api/v1/events?team_id={shop.api.team}&limit=2"
    assert asked.headers["cache-control"] == "private, no-store"
    assert shop.billing.submitted == []


async def test_a_payment_buys_exactly_the_quoted_page_and_its_repeat_reads_it_again(shop_of: OpenShop) -> None:
    shop = shop_of()
    await metered(shop, 0)
    await shop.api.store(1, 2, 3)
    asked = await shop.api.get()
    await shop.api.store(4, 5)
    first = await shop.pay(asked)
    assert first.status_code == 200
    assert (numbers(first), first.json()["amount_charged_atomic"], first.json()["has_more"]) == ([1, 2, 3], 30, True)
    told = decode_payment_response_header(first.headers["payment-response"])
    assert (told.success, told.transaction, told.amount) == (True, payments.TRANSACTION, "30")
    assert first.headers["x-payment-response"] == first.headers["payment-response"]
    await shop.api.project(balance=1_000)
    again = await shop.pay(asked)
    assert (again.content, again.headers["payment-response"]) == (first.content, first.headers["payment-response"])
    assert (await shop.api.held(), shop.api.log.appended) == ((0, 0), [])
    assert len(shop.billing.credited) == 1


@pytest.mark.parametrize("header", ["payment-signature", "x-payment", "x-payment-signature"])
async def test_payers_of_version_1_buy_the_page_of_the_moment_under_each_header(shop_of: OpenShop, header: str) -> None:
    shop = shop_of()
    await metered(shop, 0)
    await shop.api.store(1, 2, 3)
    payment = shop.payment(await shop.api.get(), x402_version=1)
    first = await shop.api.get(**{header: payment})
    await shop.api.store(4, 5)
    again = await shop.api.get(**{header: payment})
    assert (first.status_code, numbers(first)) == (200, [1, 2, 3])
    assert numbers(again) == [1, 2, 3]


async def test_a_page_that_grew_under_a_payer_of_version_1_is_402_with_the_new_price(shop_of: OpenShop) -> None:
    shop = shop_of()
    await metered(shop, 0)
    await shop.api.store(1, 2, 3)
    asked = await shop.api.get()
    await shop.api.store(4)
    answer = await shop.pay(asked, x402_version=1)
    assert refused(answer, 402, "invalid_payment")
    assert answer.json()["reason"] == "invalid_exact_evm_payload_authorization_value_mismatch"
    assert (answer.json()["rows"], answer.json()["amount_atomic"], offer_of(answer).amount) == (4, 40, "40")
    assert shop.billing.credited == {}


async def test_a_payment_shown_for_another_request_is_409(shop_of: OpenShop) -> None:
    shop = shop_of()
    await metered(shop, 0)
    await shop.api.store(1, 2, 3)
    asked = await shop.api.get()
    assert (await shop.pay(asked)).status_code == 200
    other = await shop.pay(asked, "&limit=3")
    assert refused(other, 409, "payment_already_used")
    assert other.json()["transaction"] == payments.TRANSACTION


async def test_a_payment_nobody_needs_is_ignored_and_the_wallet_pays(shop_of: OpenShop) -> None:
    shop = shop_of()
    await metered(shop, 0)
    await shop.api.store(1, 2, 3)
    asked = await shop.api.get()
    await shop.api.project(balance=30)
    answer = await shop.pay(asked)
    assert (answer.status_code, answer.json()["amount_charged_atomic"]) == (200, 30)
    assert "payment-response" not in answer.headers
    assert (shop.billing.credited, await shop.api.held()) == ({}, (1, 30))


async def test_without_a_subscription_pages_are_403_or_for_sale_by_the_fallback(shop_of: OpenShop) -> None:
    closed, shop = shop_of(), shop_of(fallback_atomic=7)
    for one in (closed, shop):
        await one.api.project(status="none", provider="", replay_price=0, balance=1_000)
    await shop.api.store(1, 2)
    assert refused(await closed.api.get(), 403, "no_active_subscription")
    asked = await shop.api.get()
    assert refused(asked, 402, "payment_required")
    assert (asked.json()["rows"], asked.json()["amount_atomic"]) == (2, 14)
    paid = await shop.pay(asked)
    assert (paid.status_code, paid.json()["amount_charged_atomic"], numbers(paid)) == (200, 14, [1, 2])
    assert await shop.api.held() == (0, 0)


async def test_a_new_payment_of_a_team_without_a_subscription_is_not_taken(shop_of: OpenShop) -> None:
    shop = shop_of()
    await metered(shop, 0)
    await shop.api.store(1)
    asked = await shop.api.get()
    await shop.api.project(status="cancelled")
    assert refused(await shop.pay(asked), 403, "no_active_subscription")
    assert shop.billing.credited == {}


async def test_a_bad_request_never_costs_money_and_comes_before_the_payment(shop_of: OpenShop) -> None:
    shop = shop_of()
    await metered(shop, 0)
    await shop.api.store(1)
    asked = await shop.api.get()
    assert refused(await shop.pay(asked, "&limit=x"), 400, "invalid_limit")
    assert refused(await shop.pay(asked, "&since=x"), 400, "invalid_cursor")
    assert shop.billing.submitted == []
    expired = await shop.pay(asked, "&since=2020-01-01T00:00:00Z")
    assert refused(expired, 410, "cursor_expired")
    assert expired.json()["oldest_cursor"]
    assert shop.billing.credited == {}


async def test_a_payment_header_that_cannot_be_read_is_400_also_where_nobody_needs_it(shop_of: OpenShop) -> None:
    shop = shop_of()
    await metered(shop, 1_000)
    for header in ("x", "e30=", "=" * 16_385):
        assert refused(await shop.api.get(**{"payment-signature": header}), 400, "invalid_payment_header")
    assert shop.billing.submitted == []


async def test_a_server_that_takes_no_payments_says_so_instead_of_402_and_ignores_payments(api: Api, shop_of: OpenShop) -> None:
    await api.project(provider="x402", subscription="sub", replay_price=10, balance=9)
    await api.store(1)
    assert refused(await api.get(), 503, "x402_unconfigured")
    await api.project(balance=10)
    assert (await api.get(**{"payment-signature": "x"})).status_code == 200
    assert len(api.log.appended) == 1


async def test_the_ledger_walked_adds_up_to_the_balance_and_has_no_zeros(api: Api) -> None:
    amounts = [1_000, -100, 0, -30, 500, -200, 0, -70]
    await api.enter(*amounts)
    seen: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = (await api.ledger(f"&limit=2{cursor}")).json()
        assert page["has_more"] == (page["next_cursor"] is not None)
        seen += page["entries"]
        if not page["has_more"]:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert [entry["amount_atomic"] for entry in seen] == [-70, -200, 500, -30, -100, 1_000]
    assert sum(entry["amount_atomic"] for entry in seen) == seen[0]["balance_after_atomic"] == sum(amounts)
    assert seen[0].keys() == {
        "id", "created_at", "kind", "reason", "amount_atomic", "balance_after_atomic", "event_id", "payment",
    }  # fmt: skip


@pytest.mark.parametrize("status", ["active", "past_due", "cancelled", "none"])
async def test_the_ledger_is_readable_under_any_subscription_or_none(api: Api, status: str) -> None:
    await api.project(status=status)
    assert (await api.ledger()).json() == {"entries": [], "next_cursor": None, "has_more": False}


@pytest.mark.parametrize("cursor", ["", "x", "1", "1:2", "5:5e0f6a52-6b0c-4f0e-9d0e-0d2b6f5c8a11", "%F0%9F%92%A5", "1%00:"])
async def test_what_is_no_cursor_of_the_ledger_is_400(api: Api, cursor: str) -> None:
    await api.enter(1, 2)
    assert refused(await api.ledger(f"&cursor={cursor}"), 400, "invalid_cursor")


async def test_limits_of_the_ledger_are_clamped_and_its_rate_is_told(api: Api) -> None:
    await api.enter(1, 2, 3)
    await api.project(rate_per_min=100)
    assert [len((await api.ledger(f"&limit={limit}")).json()["entries"]) for limit in ("0", "2", "5000")] == [1, 2, 3]
    bad = await api.ledger("&limit=x")
    assert refused(bad, 400, "invalid_limit")
    good = await api.ledger()
    assert (good.headers["ratelimit-limit"], good.headers["cache-control"]) == ("100", "private, no-store")


async def test_the_ledger_of_another_team_needs_another_key(api: Api) -> None:
    response = await api.client.get("/api/v1/ledger?team_id=other", headers={"authorization": f"Bearer {api.key}"})
    assert refused(response, 403, "forbidden")
    assert refused(await api.client.get(f"/api/v1/ledger?team_id={api.team}"), 401, "unauthorized")
    await api.redis.delete(keys.account(TeamId(api.team)))
    assert refused(await api.ledger(), 503, "service_unavailable")
