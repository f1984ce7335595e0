"""Deliveries to hooks through all four services: one event, one charge, one row each; also when the gateway is killed."""

import asyncio
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator

import httpx
import orjson
import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from standardwebhooks import Webhook

from kite_cli.admin.hooks import create_hook
from kite_cli.local.environment import PARTITIONS
from kite_cli.target import LogTarget
from kite_common.crypto import new_webhook_secret
from kite_common.ids import TeamId
from kite_common.plans import shipped_catalog
from kite_common.runtime.system import random_bytes
from kite_common.testing.eventually import eventually
from kite_delivery.testing.receiver import Received, Receiver
from support.kite import Kite, Team

DELIVERIES = 150
# Of the plan enterprise, which has no limit of requests.
PRICE = 20
BALANCE = 10_000_000_000
STRUCTURED = "application/cloudevents+json; charset=utf-8"


class Provider:
    """Delivers until it is told that its delivery was taken, as providers and SDKs do."""

    def __init__(self, client: httpx.AsyncClient, team: Team, token: str) -> None:
        self.client, self.team, self.token = client, team, token
        self.taken: dict[str, str] = {}

    async def deliver(self, client_id: str) -> None:
        event = {"specversion": "1.0", "id": client_id, "source": "https://acme", "type": "com.acme.done", "data": {"n": client_id}}
        self.taken[client_id] = await self.until_taken(orjson.dumps(event), {"content-type": STRUCTURED})

    async def until_taken(self, body: bytes, headers: dict[str, str]) -> str:
        while True:
            try:
                answer = await self.client.post(f"/hooks/{self.team.id}/acme/{self.token}", content=body, headers=headers)
            except httpx.TransportError:
                await asyncio.sleep(0.05)
                continue
            if answer.status_code in (200, 202):
                return str(answer.json()["id"])
            # The gateway that was started anew may not have read its tokens yet: then it says 503, never 401.
            assert answer.status_code == 503, answer.text
            await asyncio.sleep(0.05)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver().listening() as one:
        yield one


@pytest.fixture
async def provider(whole: Kite, receiver: Receiver) -> AsyncIterator[tuple[Provider, str]]:
    """A team with a hook and a webhook; and the secret of the latter."""
    async with httpx.AsyncClient(base_url=whole.url, timeout=30) as client:
        (team,) = await whole.teams(1, plan="enterprise", balance=BALANCE)
        secret = new_webhook_secret(random_bytes(32))

        async def configured() -> bool:
            wanted = {"url": receiver.url, "secret": secret}
            answer = await client.put("/api/v1/webhook-config", params={"team_id": team.id}, headers=team.headers, json=wanted)
            return answer.status_code == 200

        await eventually(configured, within_s=30, what="the key is known")
        secrets, addresses = whole.local.secrets, whole.local.addresses
        target = LogTarget(
            addresses.kafka_bootstrap, addresses.redis_url, PARTITIONS, 1, secrets["KITE_API_KEY_PEPPER"],
            secrets["KITE_HOOK_SECRET_CIPHER_KEY"],
        )  # fmt: skip
        hook = await create_hook(target, shipped_catalog(), TeamId(team.id), "acme", None)

        async def known() -> bool:
            # Declared JSON that is none is refused behind the credentials.
            answer = await client.post(f"{hook.endpoint}/{hook.token}", headers={"content-type": "application/json"})
            return answer.status_code == 400

        await eventually(known, within_s=30, what="the token is known")
        yield Provider(client, team, hook.token), secret


async def _page(provider: Provider) -> list[dict[str, object]]:
    query: dict[str, str | int] = {"team_id": provider.team.id, "limit": 1000}
    answer = await provider.client.get("/api/v1/events", params=query, headers=provider.team.headers)
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, object]] = answer.json()["events"]
    return rows


@pytest.mark.timeout(240)
async def test_every_delivery_is_one_event_while_the_gateway_is_killed(
    whole: Kite, receiver: Receiver, provider: tuple[Provider, str]
) -> None:
    sender, secret = provider
    names = [f"d-{uuid.uuid4().hex}" for _ in range(DELIVERIES)]
    pending = iter([name for name in names for _ in range(2)])
    killing: list[asyncio.Task[None]] = []

    async def worker() -> None:
        for name in pending:
            await sender.deliver(name)
            if len(sender.taken) == DELIVERIES // 3 and not killing:
                killing.append(asyncio.create_task(whole.local.child("gateway").kill9(restart=True)))

    await asyncio.gather(*(worker() for _ in range(12)))
    await asyncio.gather(*killing)
    assert len(killing) == 1
    ids = set(sender.taken.values())
    assert sender.taken.keys() == set(names)
    assert len(ids) == DELIVERIES

    async def billed() -> bool:
        return len(await whole.ledger([sender.team])) == DELIVERIES

    async def archived() -> bool:
        return len(await _page(sender)) >= DELIVERIES

    await eventually(billed, within_s=60, every_s=0.5, what="all are billed")
    await eventually(archived, within_s=60, every_s=0.5, what="all are archived")
    await eventually(lambda: len(_by_id(receiver)) >= DELIVERIES, within_s=60, every_s=0.2, what="all are delivered")
    assert set((await whole.ledger([sender.team])).items()) == {(event_id, 1) for event_id in ids}
    assert (await whole.balances([sender.team], reading=False))[sender.team.id] == BALANCE - DELIVERIES * PRICE
    rows = {str(row["event_id"]): row["event"] for row in await _page(sender)}
    delivered = _by_id(receiver)
    assert rows.keys() == ids == delivered.keys()
    for client_id, event_id in sender.taken.items():
        received = delivered[event_id][0]
        Webhook(secret).verify(received.body, received.headers)
        parsed = from_http_event(HTTPMessage(received.headers, received.body))
        assert (parsed.get_id(), parsed.get_extension("kiteid"), received.headers["x-kite-event-id"]) == (client_id, event_id, event_id)
        assert orjson.loads(received.body) == rows[event_id], "the same event everywhere"


@pytest.mark.timeout(120)
async def test_the_largest_bodies_reach_webhook_and_archive_whole(receiver: Receiver, provider: tuple[Provider, str]) -> None:
    sender, _ = provider
    bodies = {"text/plain": b'\\"' * 131_072, "application/json": b"[" + b'"\\n",' * 52_428 + b"1]", "image/png": b"\xff" * 262_144}
    ids = {kind: await sender.until_taken(body, {"content-type": kind}) for kind, body in bodies.items()}
    await eventually(lambda: _by_id(receiver).keys() >= set(ids.values()), within_s=60, what="all are delivered")

    async def archived() -> bool:
        return {str(row["event_id"]) for row in await _page(sender)} >= set(ids.values())

    await eventually(archived, within_s=60, every_s=0.5, what="all are archived")
    rows = {str(row["event_id"]): row["event"] for row in await _page(sender)}
    for kind, event_id in ids.items():
        event = orjson.loads(_by_id(receiver)[event_id][0].body)
        assert event == rows[event_id]
        expected = {"text/plain": bodies[kind].decode("latin-1")} | {"application/json": ["\n"] * 52_428 + [1]}
        assert event.get("data") == expected.get(kind)


def _by_id(receiver: Receiver) -> dict[str, list[Received]]:
    found: dict[str, list[Received]] = defaultdict(list)
    for received in list(receiver.received):
        found[received.headers["webhook-id"]].append(received)
    return found
