"""Two processes of each service share the work: both do some of it, nobody does anything twice, and nothing is left."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Final

import httpx
import pytest

from kite_cli.bench.scrape import total
from kite_cli.local.environment import PARTITIONS
from kite_common.crypto import new_webhook_secret
from kite_common.log_position import partition_of
from kite_common.runtime.system import random_bytes
from kite_common.testing.eventually import eventually
from kite_delivery.testing.receiver import Receiver
from support.kite import SERVICES, Kite, ServersFor, Team, kite, send, walk

MESSAGES: Final = 400
# What each process says it has done, and of which kind.
DONE: Final = {
    "gateway": ("kite_gateway_messages_accepted_total", {"kind": "message"}),
    "billing": ("kite_billing_records_total", {"kind": "usage"}),
    "delivery": ("kite_delivery_concluded_total", {"status": "delivered"}),
    "replay": ("kite_replay_rows_archived_total", {"table": "events"}),
}


@pytest.fixture
async def doubled(tmp_path_factory: pytest.TempPathFactory, servers_for: ServersFor) -> AsyncIterator[Kite]:
    folder = tmp_path_factory.mktemp("doubled")
    async with servers_for(folder) as servers, kite(folder / "data", servers=servers, clickhouse_server=True) as running:
        await asyncio.gather(*(running.start_beside(service, f"{service}-2") for service in SERVICES))
        yield running


async def _teams_everywhere(running: Kite) -> list[Team]:
    """At least one team on each partition."""
    teams: list[Team] = []
    while len({partition_of(team.id.encode(), PARTITIONS) for team in teams}) < PARTITIONS:
        teams += await running.teams(PARTITIONS)
    return teams


async def _done(running: Kite, process: str) -> float:
    name, labels = DONE[process.removesuffix("-2")]
    async with httpx.AsyncClient(timeout=30) as client:
        answer = await client.get(running.local.addresses.url(process) + "/metrics")
    assert answer.status_code == 200
    return total(answer.text, name, **labels)


@pytest.mark.timeout(300)
async def test_two_of_each_service_share_the_work_and_leave_none(doubled: Kite) -> None:
    urls = [doubled.local.addresses.url(name) for name in ("gateway", "gateway-2")]
    teams = await _teams_everywhere(doubled)
    async with Receiver().listening() as receiver, httpx.AsyncClient(base_url=urls[0], timeout=30) as first:
        async with httpx.AsyncClient(base_url=urls[1], timeout=30) as second:
            for team in teams:
                wanted = {"url": receiver.url, "secret": new_webhook_secret(random_bytes(32))}
                answer = await first.put("/api/v1/webhook-config", params={"team_id": team.id}, headers=team.headers, json=wanted)
                assert answer.status_code == 200, answer.text
            sent = await asyncio.gather(*(
                send((first, second)[number % 2], teams[number // 2 % len(teams)], f"message {number}", key=f"key-{number}")
                for number in range(MESSAGES)
            ))  # fmt: skip
        ids = Counter(str(event_id) for event_id in sent)
        assert set(ids.values()) == {1}

        async def archived() -> bool:
            pages = await asyncio.gather(*(walk(first, team, limit=1_000) for team in teams))
            return Counter(event["id"] for page in pages for event in page) == ids

        async def charged() -> bool:
            return await doubled.ledger(teams) == ids

        await eventually(charged, within_s=90, every_s=1, what="each is charged once")
        await eventually(archived, within_s=90, every_s=1, what="each is archived once")
        await eventually(lambda: {one.headers["webhook-id"] for one in receiver.received} == ids.keys(), within_s=90, what="all come")
    for service in SERVICES:
        shares = [await _done(doubled, process) for process in (service, f"{service}-2")]
        assert min(shares) > 0, f"{service}: one process did all: {shares}"
        assert sum(shares) >= MESSAGES
