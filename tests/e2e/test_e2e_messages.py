"""Two thousand messages of twenty teams through all four services: each is billed once, archived once, delivered under one id."""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count

import httpx
import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from standardwebhooks import Webhook

from kite_common.crypto import new_webhook_secret
from kite_common.runtime.system import random_bytes
from kite_common.testing.eventually import eventually
from kite_delivery.testing.receiver import Received, Receiver
from support.kite import SERVICES, Kite, Team, send, walk

TEAMS = 20
MESSAGES = 2_000
BALANCE = 10_000_000_000
GROWTH_PRICE = 80


class Run:
    """What was sent, and what came of it."""

    def __init__(self, kite: Kite, client: httpx.AsyncClient, receiver: Receiver, teams: list[Team]) -> None:
        self.kite, self.client, self.receiver, self.teams = kite, client, receiver, teams
        self.secrets = {team.id: new_webhook_secret(random_bytes(32)) for team in teams}
        self.accepted: dict[str, list[str]] = defaultdict(list)

    async def configure(self, team: Team) -> None:
        url = self.receiver.url.replace("/in", f"/{team.id}")
        answer = await self.client.put(
            "/api/v1/webhook-config", params={"team_id": team.id}, headers=team.headers, json={"url": url, "secret": self.secrets[team.id]}
        )
        assert answer.status_code == 200, answer.text

    async def send_all(self, workers: int, meanwhile: Callable[[int], Awaitable[None]] | None = None) -> None:
        """`workers` agents send at the same time; `meanwhile` is told how many are accepted."""
        numbers = iter(range(MESSAGES))
        done = count(1)

        async def agent() -> None:
            for number in numbers:
                team = self.teams[number % TEAMS]
                event_id = await send(self.client, team, f"message {number}", key=f"key-{number}")
                assert event_id is not None
                self.accepted[team.id].append(event_id)
                if meanwhile is not None:
                    await meanwhile(next(done))

        await asyncio.gather(*(agent() for _ in range(workers)))

    @property
    def all_ids(self) -> Counter[str]:
        return Counter(event_id for ids in self.accepted.values() for event_id in ids)

    def deliveries(self) -> dict[str, list[Received]]:
        by_id: dict[str, list[Received]] = defaultdict(list)
        for received in list(self.receiver.received):
            by_id[received.headers["webhook-id"]].append(received)
        return by_id

    async def check(self) -> None:
        """Every promise, for every accepted id."""
        ids = self.all_ids
        assert len(ids) == MESSAGES
        assert set(ids.values()) == {1}, "no two messages got one id"
        await eventually(lambda: self.ledger_has(ids), within_s=90, every_s=1, what="all events are billed")
        await eventually(lambda: self.archive_has(ids), within_s=60, every_s=1, what="all events are archived")
        await eventually(lambda: self.deliveries().keys() >= ids.keys(), within_s=90, every_s=0.5, what="all events are delivered")
        assert await self.kite.ledger(self.teams) == ids, "one ledger entry for each"
        self.check_deliveries(ids)
        for team in self.teams:
            await self.check_walk(team)
        await self.check_balances()
        rows = await self.kite.archive_rows()
        assert {event_id: rows[event_id] for event_id in ids} == ids, "one row for each"

    async def ledger_has(self, ids: Counter[str]) -> bool:
        return (await self.kite.ledger(self.teams)).keys() >= ids.keys()

    async def archive_has(self, ids: Counter[str]) -> bool:
        pages = await asyncio.gather(*(walk(self.client, team, limit=1000) for team in self.teams))
        return {event["id"] for page in pages for event in page} >= ids.keys()

    def check_deliveries(self, ids: Counter[str]) -> None:
        """Signed so that an independent verifier accepts it, a CloudEvent that an independent parser reads, the same bytes each time."""
        deliveries = self.deliveries()
        assert deliveries.keys() == ids.keys()
        for event_id, received in deliveries.items():
            assert len({one.body for one in received}) == 1
            team_id = received[0].path.removeprefix("/")
            assert event_id in self.accepted[team_id]
            for one in received:
                Webhook(self.secrets[team_id]).verify(one.body, one.headers)
            event = from_http_event(HTTPMessage(received[0].headers, received[0].body))
            assert (event.get_id(), event.get_type()) == (event_id, "com.kite.agent.message")

    async def check_walk(self, team: Team) -> None:
        """Pages of seven give every event exactly once, in the order of the log, with the bytes that were delivered."""
        events = await walk(self.client, team, limit=7)
        assert Counter(event["id"] for event in events) == Counter(self.accepted[team.id])
        positions = [int(event["kiteseq"]) for event in events]
        assert positions == sorted(set(positions))
        delivered = self.deliveries()
        assert all(json.loads(delivered[event["id"]][0].body)["data"] == event["data"] for event in events)

    async def check_balances(self) -> None:
        """The ledger adds up to what admission sees, and nothing is reserved any more."""
        per_team = MESSAGES // TEAMS
        balances = await self.kite.balances(self.teams, reading=False)
        assert set(balances.values()) == {BALANCE - per_team * GROWTH_PRICE}


@pytest.fixture
async def run(whole: Kite) -> AsyncIterator[Run]:
    async with Receiver().listening() as receiver, httpx.AsyncClient(base_url=whole.url, timeout=30) as client:
        run = Run(whole, client, receiver, await whole.teams(TEAMS, balance=BALANCE))
        await asyncio.gather(*(run.configure(team) for team in run.teams))
        yield run


@pytest.mark.timeout(300)
async def test_two_thousand_messages_are_billed_archived_and_delivered(run: Run) -> None:
    await run.send_all(32)
    await run.check()


@pytest.mark.timeout(420)
async def test_the_same_while_each_service_is_killed_once(run: Run) -> None:
    kill_at = {300: "gateway", 700: "billing", 1_100: "delivery", 1_500: "replay"}
    killed: list[str] = []

    async def kill(accepted: int) -> None:
        await asyncio.sleep(0.05)  # slow enough that every service dies in the middle of its work
        if accepted in kill_at:
            service = kill_at[accepted]
            await run.kite.local.child(service).kill9(restart=True)
            killed.append(service)

    await run.send_all(16, kill)
    assert sorted(killed) == sorted(SERVICES)
    await run.check()
