"""Plans, subscription, wallet and usage over the real gateway and billing, each a process of its own, on real Kafka and Valkey."""

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import pytest

from kite_common.events.commands import CancelSubscription, Command, CreditWallet
from kite_common.runtime.system import SystemClock
from kite_common.testing.eventually import eventually
from support.kite import Kite, Team, kite

# The plans that come with Kite, with limits a test reaches. Prices 0, 100 and 80.
PLANS: Final = {"free": (5, 100, 0), "starter": (10, 8, 100), "growth": (1_000, 1_000, 80)}
IDS: Final = {name: f"6b1f3c1e-0000-4000-8000-{number:012d}" for number, name in enumerate(PLANS, 1)}
# The gateway takes provider x402; nobody pays here, so billing needs no chain.
X402: Final = {
    "X402_ENABLED": "true", "X402_PAY_TO": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8", "X402_QUOTE_KEY": "q" * 32,
}  # fmt: skip
MESSAGE: Final = {"from": "planner", "to": "builder", "body": "hello"}


@pytest.fixture(scope="module")
async def whole(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Kite]:
    data = tmp_path_factory.mktemp("accounts")
    plans = data / "plans.toml"
    plans.write_text("".join(
        f'[[plan]]\nid = "{IDS[name]}"\nname = "{name}"\nrequests_per_minute = "unlimited"\nevents_per_month = {month}\n'
        f'events_per_day = {day}\nactive_sources_limit = 3\nmax_payload_bytes = 262144\nprice_atomic_monthly = 0\n'
        f'price_atomic_per_event = {price}\nprice_atomic_per_replayed_event = {price // 10}\n'
        for name, (month, day, price) in PLANS.items()
    ))  # fmt: skip
    async with kite(data, ("billing",), {"KITE_PLANS_FILE": str(plans)}) as running:
        await running.start("gateway", {"KITE_PLANS_FILE": str(plans), **X402})
        yield running


@dataclass
class Caller:
    """A team at the HTTP door."""

    kite: Kite
    client: httpx.AsyncClient
    team: Team
    # The usage of every 202, in the order they arrived.
    accepted: list[dict[str, int]] = field(default_factory=list)

    async def get(self, what: str, status: int = 200) -> dict[str, Any]:
        answer = await self.client.get(f"/api/v1/{what}", params={"team_id": self.team.id}, headers=self.team.headers)
        assert answer.status_code == status, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def send(self) -> tuple[int, dict[str, Any]]:
        answer = await self.client.post(
            "/api/v1/agents/messages", params={"team_id": self.team.id}, json=MESSAGE, headers=self.team.headers
        )
        body: dict[str, Any] = answer.json()
        if answer.status_code == 202:
            self.accepted.append(body["usage"])
        return answer.status_code, body

    async def sends(self, count: int) -> None:
        """So many messages, all accepted."""
        for _ in range(count):
            status, body = await self.send()
            assert status == 202, body

    async def subscribe(self, plan: str, provider: str) -> httpx.Response:
        return await self.client.post(
            "/api/v1/subscription", params={"team_id": self.team.id}, json={"plan_id": IDS[plan], "provider": provider},
            headers=self.team.headers,
        )  # fmt: skip

    async def subscribed(self, plan: str, provider: str) -> None:
        """Subscribe as a client does that waits until nothing is reserved."""

        async def is_done() -> bool:
            answer = await self.subscribe(plan, provider)
            assert answer.status_code in (200, 409), answer.text
            return answer.status_code == 200

        await eventually(is_done, what=f"the team is on {plan}, {provider}")

    async def run(self, *commands: Command) -> None:
        assert [outcome.refusal for outcome in await self.kite.command(*commands)] == [None] * len(commands)

    def command(self) -> dict[str, Any]:
        return {"team_id": self.team.id, "command_id": str(uuid.uuid4()), "sent_at": SystemClock().unix_ms()}

    async def credit(self, amount: int) -> None:
        await self.run(CreditWallet(**self.command(), amount_atomic=amount))

    async def told(self) -> list[tuple[str, str]]:
        """Kind and reason of the team's notices so far."""
        notices = await self.kite.notices(self.team)
        return [(event["type"].removeprefix("kite.subscription.quota_"), event["data"]["reason"]) for event in notices]

    async def settled(self) -> bool:
        reserved: int = (await self.get("wallet"))["reserved_atomic"]
        return reserved == 0


@pytest.fixture
async def client(whole: Kite) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=whole.url, timeout=30) as client:
        yield client


async def caller(whole: Kite, client: httpx.AsyncClient, plan: str, balance: int) -> Caller:
    """A new team whose key the gateway knows."""
    [team] = await whole.teams(1, plan=plan, balance=balance)
    one = Caller(whole, client, team)

    async def is_known() -> bool:
        answer = await client.get("/api/v1/usage", params={"team_id": team.id}, headers=team.headers)
        return answer.status_code == 200

    await eventually(is_known, what="the team and its key are known")
    return one


async def test_a_team_meets_every_limit_and_is_told_once_of_each(whole: Kite, client: httpx.AsyncClient) -> None:
    one = await caller(whole, client, "starter", 350)
    begun = (await one.get("subscription"))["subscription"]
    assert (begun["plan_name"], begun["provider"], begun["status"], begun["events_used"]) == ("starter", "x402", "active", 0)

    await one.sends(3)
    status, body = await one.send()
    assert (status, body["error"], body["required_atomic"], body["available_atomic"]) == (402, "insufficient_funds", 100, 50)
    usage = await one.get("usage")
    assert (usage["events_used"], usage["total_charged_atomic"], usage["events_affordable"]) == (3, 300, 0)
    await eventually(one.settled, what="the three are charged")
    assert await one.get("wallet") == {
        "balance_atomic": 50, "reserved_atomic": 0, "balance_sats": 50, "reserved_sats": 0, "debt_atomic": 0
    }  # fmt: skip

    await one.credit(1_000)
    await one.sends(5)
    status, body = await one.send()
    assert (status, body["error"], body["scope"], body["events_used"], body["events_limit"]) == (429, "quota_exceeded", "day", 8, 8)
    await eventually(one.settled, what="all eight are charged")

    switched = (await one.subscribe("growth", "x402")).json()["subscription"]
    assert (switched["id"], switched["current_period_end"]) == (begun["id"], begun["current_period_end"])
    await one.sends(1)
    assert one.accepted[-1] == {"events_used": 9, "events_limit": 1_000, "amount_charged_atomic": 80, "amount_charged_sats": 80}

    await one.subscribed("free", "clerk")
    status, body = await one.send()
    assert (status, body["scope"], body["events_used"], body["events_limit"]) == (429, "month", 9, 5)
    assert (await one.get("wallet", 409))["error"] == "not_x402_subscription"
    usage = await one.get("usage")
    assert (usage["events_remaining"], usage["total_charged_atomic"]) == (0, 880)
    assert "wallet_balance_atomic" not in usage

    await one.subscribed("growth", "x402")
    assert (await one.get("wallet"))["balance_atomic"] == 470

    expected = [
        ("exhausted", "wallet"), ("restored", "wallet"), ("warning", "day"), ("warning", "month"), ("exhausted", "day"),
        ("restored", "day"), ("exhausted", "month"), ("restored", "month"),
    ]  # fmt: skip
    assert await one.told() == expected
    await whole.local.child("billing").kill9()
    await one.sends(1)
    await eventually(one.settled, within_s=60, what="billing is back and charges")
    assert await one.told() == expected


async def test_usage_agrees_with_every_202_under_load(whole: Kite, client: httpx.AsyncClient) -> None:
    one = await caller(whole, client, "growth", 150 * 80)
    asked = 0
    done = asyncio.Event()

    async def agent() -> Counter[int]:
        nonlocal asked
        statuses: Counter[int] = Counter()
        for _ in range(25):
            asked += 1
            statuses[(await one.send())[0]] += 1
        return statuses

    async def reader() -> int:
        """Looks all the time: no count is below what was answered before, above what was asked for, or apart from its price."""
        seen = 0
        while not done.is_set():
            answered = max((usage["events_used"] for usage in one.accepted), default=0)
            usage = await one.get("usage")
            assert max(answered, seen) <= usage["events_used"] <= min(asked, 150)
            assert usage["total_charged_atomic"] == usage["events_used"] * 80
            assert usage["events_affordable"] == 150 - usage["events_used"]
            assert usage["events_today"] in (usage["events_used"], 0)
            seen = usage["events_used"]
        return seen

    readers = [asyncio.create_task(reader()) for _ in range(2)]
    statuses = sum(await asyncio.gather(*(agent() for _ in range(8))), Counter())
    assert statuses == {202: 150, 402: 50}
    assert sorted(usage["events_used"] for usage in one.accepted) == list(range(1, 151))

    # From the last 202 on nothing changes any more, while all of it moves from the reservations into the ledger.
    async def is_charged() -> bool:
        assert (await one.get("usage"))["events_used"] == 150
        return await one.settled()

    await eventually(is_charged, within_s=30, what="all are charged")
    done.set()
    assert await asyncio.gather(*readers) == [150, 150]
    assert (await one.get("wallet"))["balance_atomic"] == 0
    assert await whole.balances([one.team]) == {one.team.id: 0}
    assert await one.told() == [("exhausted", "wallet")]


async def test_of_changes_at_once_one_is_made_and_equal_ones_are_the_same(whole: Kite, client: httpx.AsyncClient) -> None:
    one = await caller(whole, client, "starter", 1_000)
    answers = await asyncio.gather(*(one.subscribe(plan, "x402") for plan in ("growth", "free") for _ in range(10)))
    codes = Counter(answer.status_code if answer.status_code != 409 else answer.json()["error"] for answer in answers)
    assert set(codes) <= {200, "subscription_conflict"}
    assert codes[200] >= 1
    changed = [answer.json()["subscription"] for answer in answers if answer.status_code == 200]
    now = (await one.get("subscription"))["plan"]["id"]
    assert now in {one["plan_id"] for one in changed} <= {IDS["growth"], IDS["free"]}


async def test_without_a_subscription_there_is_nothing_to_read_and_one_can_be_made(whole: Kite, client: httpx.AsyncClient) -> None:
    one = await caller(whole, client, "starter", 500)
    await one.run(CancelSubscription(**one.command()))
    for what in ("subscription", "wallet", "usage"):
        assert (await one.get(what, 404))["error"] == "no_active_subscription"
    assert (await one.send())[1]["error"] == "no_active_subscription"
    refused = await one.subscribe("starter", "clerk")
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_provider")
    assert (await one.subscribe("growth", "x402")).status_code == 200
    assert ((await one.get("wallet"))["balance_atomic"], (await one.get("usage"))["events_used"]) == (500, 0)
    assert await one.told() == []
