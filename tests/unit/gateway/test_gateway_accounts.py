"""Plans, subscription, wallet and usage over fakes: every field, every error, repeats that change nothing. No network."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from kite_common.clock import FrozenClock
from kite_common.errors import CODES, KiteError, OutcomeOpen, Unavailable
from kite_common.events.commands import Command, CommandOutcome, CommandRefusal, Subscribe
from kite_common.ids import KeyPrefix, TeamId
from kite_common.money import UNLIMITED
from kite_common.plans import Catalog, shipped_catalog
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.system import random_bits
from kite_common.testing import make
from kite_common.testing.eventually import eventually
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
from kite_gateway.domain.client import client_of
from kite_gateway.testing import (
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
    FakeWebhookConfigs,
    standing,
)
from support.paid_routes import ingest_of, paid_routes

TEAM = TeamId("team_a")
OURS = "?team_id=team_a"
WRITER, READER = {"Authorization": "Bearer writer"}, {"Authorization": "Bearer reader"}
PLANS, SUBSCRIPTION, WALLET, USAGE = (f"/api/v1/{name}" for name in ("plans", "subscription", "wallet", "usage"))
_PREFIX = KeyPrefix("01234567")
GROWTH = {"plan_id": make.plan("growth").id, "provider": "x402"}


@dataclass
class Gateway:
    """The app over a team on starter."""

    billing: FakeBilling = field(default_factory=lambda: FakeBilling({TEAM: standing()}))
    clients: FakeClientRateLimits = field(default_factory=FakeClientRateLimits)
    rate_limits: FakeRateLimits = field(default_factory=FakeRateLimits)
    catalog: Catalog = field(default_factory=shipped_catalog)
    x402: bool = True

    def __post_init__(self) -> None:
        clock, ids, billing = FrozenClock(datetime(2026, 4, 30, 10, tzinfo=UTC)), CountingIds(), self.billing
        holders = {"writer": Principal(TEAM, _PREFIX, ("write",)), "reader": Principal(TEAM, _PREFIX, ("read",))}
        paid = paid_routes(billing, clock)
        self.app = create_app(Surface(
            bearer=Bearer(FakeCredentials(holders), self.rate_limits, clock),
            ingest=ingest_of(AcceptMessage(FakeReservations(), FakeMessageLog(), clock, ids), paid),
            open_hook=OpenHook(FakeHooks(), clock),
            configure_webhook=ConfigureWebhook(FakeWebhookConfigs(), FakeSeal(), clock, ids),
            send_test_event=SendTestEvent(FakeWebhookConfigs(), FakeDeliveryCommands(), clock, ids),
            accounts=Accounts(
                Public(self.clients), billing, ChangeSubscription(billing, billing, billing, clock), self.catalog, x402=self.x402
            ),
            paid=paid,
            replay=None, readiness=lambda: [], metrics=Metrics(), random_bits=random_bits,
        ))  # fmt: skip

    def has(self, **given: Any) -> None:
        self.billing.standings[TEAM] = standing(**given)

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app, raise_app_exceptions=False), base_url="http://kite")


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with gateway.client() as client:
        yield client


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["error"]) == (status, code)
    assert code in CODES
    assert body["message"]
    return body


async def test_the_plans_are_public_and_complete(client: httpx.AsyncClient) -> None:
    answer = await client.get(PLANS)
    plans = answer.json()["plans"]
    assert [plan["name"] for plan in plans] == ["free", "starter", "growth", "pro", "enterprise"]
    assert plans[1] == {
        "id": "6b1f3c1e-0000-4000-8000-000000000002", "name": "starter", "events_per_month": 100_000, "events_per_day": 10_000,
        "max_payload_bytes": 262_144, "price_atomic_monthly": 5_000_000, "price_atomic_per_event": 100, "price_sats_monthly": 5_000_000,
        "price_sats_per_event": 100, "price_atomic_per_replayed_event": 10, "requests_per_minute": 300, "active_sources_limit": 10,
    }  # fmt: skip
    assert (plans[4]["requests_per_minute"], plans[4]["active_sources_limit"], plans[4]["events_per_month"]) == (None, None, UNLIMITED)
    assert (answer.headers["ratelimit-limit"], answer.headers["ratelimit-remaining"]) == ("300", "299")


async def test_a_client_address_has_a_limit_of_its_own_on_public_routes(gateway: Gateway, client: httpx.AsyncClient) -> None:
    gateway.clients.limit = 2
    assert [(await client.get(PLANS)).status_code for _ in range(2)] == [200, 200]
    answer = await client.get(PLANS)
    body = assert_problem(answer, 429, "rate_limit_exceeded")
    assert answer.headers["retry-after"] == str(body["retry_after_secs"])
    assert list(gateway.clients.seen) == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("host", "client"),
    [
        ("203.0.113.9", "203.0.113.9"), ("::ffff:203.0.113.9", "203.0.113.9"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::1", "2001:db8:1:2::/64"), ("fe80::1%eth0", "fe80::/64"), (None, "unknown"), ("", "unknown"),
        ("/run/x.sock", "unknown"),
    ],
)  # fmt: skip
def test_an_ipv6_client_is_its_network(host: str | None, client: str) -> None:
    assert client_of(host) == client


async def test_the_subscription_is_shown_with_its_plan(client: httpx.AsyncClient) -> None:
    answer = await client.get(SUBSCRIPTION + OURS, headers=READER)
    assert answer.json()["subscription"] == {
        "id": "sub", "plan_name": "starter", "provider": "x402", "status": "active", "events_used": 42, "events_limit": 100_000,
        "current_period_start": "2026-04-29T10:00:00.000Z", "current_period_end": "2026-05-29T10:00:00.000Z",
    }  # fmt: skip
    assert answer.json()["plan"] == (await client.get(PLANS)).json()["plans"][1]
    assert answer.headers["cache-control"] == "private, no-store"


async def test_a_plan_that_left_the_catalog_is_shown_as_it_holds(gateway: Gateway, client: httpx.AsyncClient) -> None:
    gateway.has(plan_id="6b1f3c1e-0000-4000-8000-00000000dead", plan_name="old")
    plan = (await client.get(SUBSCRIPTION + OURS, headers=READER)).json()["plan"]
    assert (plan["name"], plan["price_atomic_monthly"], plan["price_atomic_per_replayed_event"]) == ("old", 5_000_000, 10)
    gateway.has(plan_id="6b1f3c1e-0000-4000-8000-00000000dead", terms=None)
    assert_problem(await client.get(SUBSCRIPTION + OURS, headers=READER), 503, "service_unavailable")


async def test_the_wallet_has_twins(gateway: Gateway, client: httpx.AsyncClient) -> None:
    assert (await client.get(WALLET + OURS, headers=READER)).json() == {
        "balance_atomic": 995_900, "reserved_atomic": 100, "balance_sats": 995_900, "reserved_sats": 100, "debt_atomic": 0,
    }  # fmt: skip
    gateway.has(provider="clerk")
    assert_problem(await client.get(WALLET + OURS, headers=READER), 409, "not_x402_subscription")


async def test_the_usage_of_an_x402_team_has_all_fields(client: httpx.AsyncClient) -> None:
    assert (await client.get(USAGE + OURS, headers=READER)).json() == {
        "events_used": 42, "events_limit": 100_000, "events_remaining": 99_958, "events_today": 7,
        "current_period_start": "2026-04-29T10:00:00.000Z", "current_period_end": "2026-05-29T10:00:00.000Z",
        "total_charged_atomic": 4_200, "total_charged_sats": 4_200, "wallet_balance_atomic": 995_900, "wallet_balance_sats": 995_900,
        "events_affordable": 9_958,
    }  # fmt: skip


async def test_a_flat_plan_has_no_wallet_and_events_that_are_free_no_number(gateway: Gateway, client: httpx.AsyncClient) -> None:
    gateway.has(provider="clerk", price_atomic=0, events_limit=UNLIMITED)
    body = (await client.get(USAGE + OURS, headers=READER)).json()
    assert not {name for name in body if name.startswith("wallet") or name == "events_affordable"}
    assert body["events_remaining"] == UNLIMITED
    gateway.has(price_atomic=0)
    assert (await client.get(USAGE + OURS, headers=READER)).json()["events_affordable"] is None


async def test_a_period_that_has_ended_is_shown_as_the_one_that_is_now(gateway: Gateway, client: httpx.AsyncClient) -> None:
    gateway.has(at_ms=1_780_048_800_000)
    body = (await client.get(USAGE + OURS, headers=READER)).json()
    assert (body["current_period_start"], body["current_period_end"]) == ("2026-05-29T10:00:00.000Z", "2026-06-29T10:00:00.000Z")


@pytest.mark.parametrize("path", [SUBSCRIPTION, WALLET, USAGE])
async def test_reading_routes_check_key_subscription_limit_and_projection(path: str, gateway: Gateway, client: httpx.AsyncClient) -> None:
    assert_problem(await client.get(path + OURS), 401, "unauthorized")
    assert_problem(await client.get(path, headers=READER), 400, "missing_team_id")
    for status in ("none", "cancelled"):
        gateway.has(status=status)
        assert_problem(await client.get(path + OURS, headers=READER), 404, "no_active_subscription")
    gateway.has(status="past_due")
    assert (await client.get(path + OURS, headers=READER)).status_code == 200
    gateway.billing.standings.clear()
    assert_problem(await client.get(path + OURS, headers=READER), 503, "service_unavailable")
    gateway.rate_limits.used_up = True
    assert_problem(await client.get(path + OURS, headers=READER), 429, "rate_limit_exceeded")


async def test_a_switch_is_made_and_answered(gateway: Gateway, client: httpx.AsyncClient) -> None:
    answer = await client.post(SUBSCRIPTION + OURS, headers=WRITER, json=GROWTH)
    assert (answer.status_code, answer.json()) == (200, {"subscription": {
        "id": "sub", "team_id": TEAM, "plan_id": GROWTH["plan_id"], "provider": "x402", "status": "active",
        "current_period_end": "2026-05-29T10:00:00.000Z",
    }})  # fmt: skip
    [command] = gateway.billing.sent
    assert isinstance(command, Subscribe)
    assert (command.plan_id, command.provider, command.team_id) == (GROWTH["plan_id"], "x402", TEAM)
    assert gateway.billing.under_way == {}


async def test_what_is_active_already_is_returned_and_no_command_is_sent(gateway: Gateway, client: httpx.AsyncClient) -> None:
    same = {"plan_id": make.plan("starter").id.upper(), "provider": "x402"}
    answers = [await client.post(SUBSCRIPTION + OURS, headers=WRITER, json=same) for _ in range(2)]
    assert [answer.json()["subscription"]["id"] for answer in answers] == ["sub", "sub"]
    assert gateway.billing.sent == []


async def test_a_team_without_a_subscription_creates_one(gateway: Gateway, client: httpx.AsyncClient) -> None:
    gateway.has(status="none", provider="", subscription_id="", plan_id="", plan_name="", reserved_atomic=50)
    answer = await client.post(SUBSCRIPTION + OURS, headers=WRITER, json={"plan_id": make.plan("free").id, "provider": "clerk"})
    assert answer.status_code == 200
    assert answer.json()["subscription"]["id"].startswith("of-")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "invalid_plan_id"),
        (GROWTH | {"plan_id": "growth"}, 400, "invalid_plan_id"),
        (GROWTH | {"plan_id": 7}, 400, "invalid_plan_id"),
        (GROWTH | {"provider": "paypal"}, 400, "invalid_provider"),
        (GROWTH | {"provider": None}, 400, "invalid_provider"),
        (GROWTH | {"plan_id": "6b1f3c1e-0000-4000-8000-00000000ffff"}, 404, "plan_not_found"),
    ],
)
async def test_what_nobody_can_subscribe_to(
    body: dict[str, Any], status: int, code: str, gateway: Gateway, client: httpx.AsyncClient
) -> None:
    assert_problem(await client.post(SUBSCRIPTION + OURS, headers=WRITER, json=body), status, code)
    assert gateway.billing.sent == []


async def test_without_x402_on_the_server_its_provider_is_refused() -> None:
    async with Gateway(x402=False).client() as client:
        assert_problem(await client.post(SUBSCRIPTION + OURS, headers=WRITER, json=GROWTH), 400, "invalid_provider")


async def test_subscribing_checks_key_permission_body_and_limit(gateway: Gateway, client: httpx.AsyncClient) -> None:
    assert_problem(await client.post(SUBSCRIPTION + OURS, json=GROWTH), 401, "unauthorized")
    assert_problem(await client.post(SUBSCRIPTION + OURS, headers=READER, json=GROWTH), 403, "insufficient_permissions")
    assert_problem(await client.post(SUBSCRIPTION + OURS, headers=WRITER, content=b"x" * 65_537), 413, "payload_too_large")
    assert_problem(await client.post(SUBSCRIPTION + OURS, headers=WRITER, content=b"["), 400, "invalid_json")
    gateway.rate_limits.used_up = True
    assert_problem(await client.post(SUBSCRIPTION + OURS, headers=WRITER, json=GROWTH), 429, "rate_limit_exceeded")


@pytest.mark.parametrize(
    ("refusal", "status", "code"),
    [
        ("invalid_provider", 400, "invalid_provider"), ("plan_not_found", 404, "plan_not_found"),
        ("subscription_conflict", 409, "subscription_conflict"), ("no_account", 503, "service_unavailable"),
    ],
)  # fmt: skip
async def test_what_billing_refuses(
    refusal: CommandRefusal, status: int, code: str, gateway: Gateway, client: httpx.AsyncClient
) -> None:
    gateway.billing.refusal = refusal
    assert_problem(await client.post(SUBSCRIPTION + OURS, headers=WRITER, json=GROWTH), status, code)
    assert gateway.billing.under_way == {}


@pytest.mark.parametrize(("failure", "ended"), [(Unavailable("away"), True), (OutcomeOpen("late"), False)])
async def test_what_was_surely_not_sent_is_no_change_under_way(
    failure: KiteError, ended: bool, gateway: Gateway, client: httpx.AsyncClient
) -> None:
    gateway.billing.failure = failure
    assert_problem(await client.post(SUBSCRIPTION + OURS, headers=WRITER, json=GROWTH), 503, "service_unavailable")
    assert (gateway.billing.under_way == {}) is ended
    gateway.billing.failure = None
    assert (await client.post(SUBSCRIPTION + OURS, headers=WRITER, json=GROWTH)).status_code == 200, "the repeat goes through"


@pytest.mark.parametrize(("pause_ms", "sent"), [(4_000, 1), (120_000, 0)])
async def test_a_change_is_not_sent_any_more_once_its_process_has_stood_still(pause_ms: int, sent: int) -> None:
    clock = FrozenClock(datetime(2026, 4, 30, 10, tzinfo=UTC))
    billing = FakeBilling({TEAM: standing()}, clock=clock, pause_ms=pause_ms)
    with contextlib.suppress(Unavailable):
        await ChangeSubscription(billing, billing, billing, clock)(TEAM, GROWTH["plan_id"], "x402")
    assert (len(billing.sent), billing.under_way) == (sent, {})


async def test_a_provider_is_not_changed_while_money_is_reserved(gateway: Gateway, client: httpx.AsyncClient) -> None:
    free = {"plan_id": make.plan("free").id, "provider": "clerk"}
    assert_problem(await client.post(SUBSCRIPTION + OURS, headers=WRITER, json=free), 409, "subscription_conflict")
    assert gateway.billing.sent == []
    gateway.has(reserved_atomic=0)
    assert (await client.post(SUBSCRIPTION + OURS, headers=WRITER, json=free)).json()["subscription"]["provider"] == "clerk"


async def test_equal_changes_at_once_are_one_and_another_one_waits(gateway: Gateway, client: httpx.AsyncClient) -> None:
    gateway.billing.gate = asyncio.Event()
    equal = [asyncio.create_task(client.post(SUBSCRIPTION + OURS, headers=WRITER, json=GROWTH)) for _ in range(3)]
    await eventually(lambda: gateway.billing.under_way, what="the change is under way")
    other = await client.post(SUBSCRIPTION + OURS, headers=WRITER, json=GROWTH | {"plan_id": make.plan("pro").id})
    assert_problem(other, 409, "subscription_conflict")
    gateway.billing.gate.set()
    answers = await asyncio.gather(*equal)
    assert {answer.status_code for answer in answers} == {200}
    assert len({command.command_id for command in gateway.billing.sent}) == 1


class HalfClosedLog(FakeBilling):
    """Takes nothing of the first sender; the others wait at the gate."""

    asked: int = 0

    async def send(self, command: Command, *, not_after_ms: int | None = None) -> CommandOutcome:
        self.asked += 1
        if self.asked == 1:
            await eventually(lambda: self.begun_together, every_s=0, what="a repeat has begun the change, too")
            raise Unavailable("away")
        return await super().send(command, not_after_ms=not_after_ms)


async def test_a_change_that_one_sender_could_not_send_goes_on_while_its_repeat_may_have() -> None:
    billing = HalfClosedLog({TEAM: standing()})
    billing.gate = asyncio.Event()
    async with Gateway(billing).client() as client:
        asks = [asyncio.create_task(client.post(SUBSCRIPTION + OURS, headers=WRITER, json=GROWTH)) for _ in range(2)]
        done, _ = await asyncio.wait(asks, return_when=asyncio.FIRST_COMPLETED)
        assert [one.result().status_code for one in done] == [503]
        assert TEAM in billing.under_way, "the other's command may be in the log"
        billing.gate.set()
        assert sorted(one.status_code for one in await asyncio.gather(*asks)) == [200, 503]
    assert billing.under_way == {}


async def test_there_and_back_and_there_again_are_three_changes(gateway: Gateway, client: httpx.AsyncClient) -> None:
    starter = GROWTH | {"plan_id": make.plan("starter").id}
    for body in (GROWTH, starter, GROWTH):
        assert (await client.post(SUBSCRIPTION + OURS, headers=WRITER, json=body)).status_code == 200
    assert len({command.command_id for command in gateway.billing.sent}) == 3
    assert gateway.billing.standings[TEAM].plan_name == "growth"


async def test_an_outcome_before_its_projection_is_no_answer_yet(gateway: Gateway, client: httpx.AsyncClient) -> None:
    gateway.billing.projects = False
    assert_problem(await client.post(SUBSCRIPTION + OURS, headers=WRITER, json=GROWTH), 503, "service_unavailable")
    assert gateway.billing.under_way == {}


class OvertakenBilling(FakeBilling):
    """Makes another change after each one, before its outcome is told."""

    async def send(self, command: Command, *, not_after_ms: int | None = None) -> CommandOutcome:
        outcome = await super().send(command, not_after_ms=not_after_ms)
        made, pro = self.standings[TEAM], make.plan("pro")
        self.standings[TEAM] = replace(made, plan_id=pro.id, plan_name=pro.name, revision=made.revision + 1)
        return outcome


async def test_a_change_that_was_overtaken_is_no_reason_to_make_it_again() -> None:
    async with Gateway(OvertakenBilling({TEAM: standing()})).client() as client:
        body = assert_problem(await client.post(SUBSCRIPTION + OURS, headers=WRITER, json=GROWTH), 409, "subscription_conflict")
    assert "another one after it" in body["message"]
