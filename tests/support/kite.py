"""A whole Kite for tests: four service processes on a local stack of their own, teams, messages, and what the log and the archive hold."""

import asyncio
import json
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import httpx
from redis.asyncio import Redis

from kite_cli.local.environment import PARTITIONS
from kite_cli.local.stack import LocalStack, Servers, ServiceSpec, StackOptions
from kite_common import auth
from kite_common.events.codec import encode
from kite_common.events.commands import Command, CommandOutcome, OpenAccount
from kite_common.events.credentials import CredentialIssued
from kite_common.log_position import partition_of
from kite_common.plans import shipped_catalog
from kite_common.projection.outcomes import CommandSender
from kite_common.runtime.system import SystemClock, random_bytes
from kite_common.stream.admin import ensure_topics
from kite_common.stream.kafka import Kafka
from kite_common.stream.publisher import Publisher
from kite_common.topics import ALL, COMMANDS, CREDENTIALS, EVENTS, LEDGER
from support.log import read_all, running

SERVICES: Final = ("gateway", "billing", "delivery", "replay")
# Times of delivery, compressed: what takes minutes outside takes seconds here.
COMPRESSED: Final = {
    "KITE_DELIVERY_RETRY_WAITS_S": "0.5,1,2,2,2,2,2,2,2",
    "KITE_DELIVERY_TIERS_S": "0.3,0.6,1,2,4,8",
    "KITE_DELIVERY_ASIDE_MOST_S": "1",
    "KITE_LOG_LEVEL": "warning",
}


ServersFor = Callable[[Path], AbstractAsyncContextManager[Servers | None]]


@dataclass(frozen=True)
class Team:
    """A team with money and a key that may do everything."""

    id: str
    key: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}


@dataclass(frozen=True)
class Kite:
    """The running services."""

    local: LocalStack

    @property
    def url(self) -> str:
        return self.local.addresses.url("gateway")

    @property
    def kafka(self) -> Kafka:
        return Kafka(self.local.addresses.kafka_bootstrap, client_id="test")

    async def start(self, service: str, env: Mapping[str, str]) -> None:
        """Start one service more, with these settings over the usual ones."""
        await self.local.start_services([_spec(service, env)])

    async def start_beside(self, service: str, name: str) -> None:
        """Start one more process of a service, under a name of its own."""
        spec = _spec(service, {"KITE_INSTANCE": name})
        await self.local.start_services([replace(spec, name=name)])

    async def command(self, *commands: Command) -> list[CommandOutcome]:
        """Send commands to billing, as operators do, and wait for what came of each."""
        publisher, redis = Publisher(self.kafka, COMMANDS.name, PARTITIONS), Redis.from_url(self.local.addresses.redis_url)
        sender = CommandSender(redis, publisher, PARTITIONS, timeout_s=30)
        try:
            async with running(publisher, sender):
                return [await sender.send(command) for command in commands]
        finally:
            await redis.aclose()

    async def notices(self, team: Team) -> list[dict[str, Any]]:
        """The `kite.subscription.*` events in the team's stream, in order."""
        found = [json.loads(value) for _, _, key, value in await read_all(self.kafka, EVENTS.name, range(PARTITIONS)) if key == team.id]
        return [event for event in found if str(event.get("type")).startswith("kite.subscription.")]

    async def teams(self, count: int, *, plan: str = "growth", balance: int = 10_000_000_000) -> list[Team]:
        """Open accounts through commands on the log, as `kitectl team create` does, and issue a key for each."""
        commands, credentials = (Publisher(self.kafka, topic.name, PARTITIONS) for topic in (COMMANDS, CREDENTIALS))
        redis = Redis.from_url(self.local.addresses.redis_url)
        sender = CommandSender(redis, commands, PARTITIONS, timeout_s=30)
        try:
            async with running(commands, credentials, sender):
                return list(await asyncio.gather(*(self._team(sender, credentials, plan, balance) for _ in range(count))))
        finally:
            await redis.aclose()

    async def _team(self, sender: CommandSender, credentials: Publisher, plan: str, balance: int) -> Team:
        found, now_ms = shipped_catalog().by_name(plan), SystemClock().unix_ms()
        assert found is not None
        team_id = f"team_{uuid.uuid4().hex[:26]}"
        outcome = await sender.send(OpenAccount(
            team_id=team_id, command_id=str(uuid.uuid4()), sent_at=now_ms, plan_id=found.id, provider="x402", balance_atomic=balance
        ))  # fmt: skip
        assert outcome.refusal is None
        key = auth.new_api_key(random_bytes(auth.RANDOM_BYTES))
        issued = CredentialIssued(
            team_id=team_id, id=str(uuid.uuid4()), prefix=auth.parse_api_key(key).prefix, credential="api_key", name="test",
            permissions=("admin",), created_at=now_ms,
            secret_hash=auth.hash_secret(self.local.secrets["KITE_API_KEY_PEPPER"].encode(), key),
        )  # fmt: skip
        await credentials.publish(partition_of(issued.key.encode(), PARTITIONS), [encode(issued)])
        return Team(team_id, key)

    async def ledger(self, teams: list[Team]) -> Counter[str]:
        """How many ledger entries each event of these teams has."""
        ids = {team.id for team in teams}
        entries = [json.loads(value) for _, _, key, value in await read_all(self.kafka, LEDGER.name, range(PARTITIONS)) if key in ids]
        return Counter(entry["event_id"] for entry in entries if entry["reason"] == "event")

    async def balances(self, teams: list[Team], *, reading: bool = True) -> dict[str, int]:
        """The sum of each team's ledger; without `reading`, what pages of events have cost is left out."""
        sums: dict[str, int] = {team.id: 0 for team in teams}
        for _, _, key, value in await read_all(self.kafka, LEDGER.name, range(PARTITIONS)):
            if key in sums and (reading or json.loads(value)["reason"] != "replay"):
                sums[key] += json.loads(value)["amount_atomic"]
        return sums

    async def archive_rows(self) -> Counter[str]:
        """How many rows of the archive each event has; replay is stopped for it, because one process at a time may open the engine."""
        return Counter(await self._in_archive("archive_rows.py"))

    async def archive_teams(self) -> dict[str, dict[str, int]]:
        """How many rows each team has, by table; replay is stopped for it."""
        found: dict[str, dict[str, int]] = await self._in_archive("archive_teams.py")
        return found

    async def _in_archive(self, script: str) -> Any:
        await self.local.child("replay").stop()
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(Path(__file__).with_name(script)), self.local.addresses.clickhouse_url, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, _ = await process.communicate()
        assert process.returncode == 0
        await self.local.child("replay").start()
        return json.loads(output)


async def walk(client: httpx.AsyncClient, team: Team, *, limit: int) -> list[dict[str, Any]]:
    """All events of a team, page by page."""
    events: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        query: dict[str, str | int] = {"team_id": team.id, "limit": limit}
        if cursor is not None:
            query["since"] = cursor
        answer = await client.get("/api/v1/events", params=query, headers=team.headers)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert len(page["events"]) <= limit
        assert all(row["event_id"] == row["event"]["id"] for row in page["events"])
        events += [row["event"] for row in page["events"]]
        cursor = page["next_cursor"]
        if cursor is None or not page["has_more"]:
            return events


async def send(client: httpx.AsyncClient, team: Team, body: str, *, key: str, until: Callable[[], bool] = lambda: False) -> str | None:
    """Send one message until it is accepted, as an agent that does not give up; its id. None if `until` says to give up."""
    message = {"from": "planner", "to": "builder", "body": body}
    while not until():
        try:
            answer = await client.post(
                "/api/v1/agents/messages", params={"team_id": team.id}, json=message, headers=team.headers | {"Idempotency-Key": key}
            )
        except httpx.TransportError:
            await asyncio.sleep(0.05)
            continue
        if answer.status_code == 202:
            return str(answer.json()["id"])
        assert answer.status_code == 503 or answer.json()["error"] == "request_in_progress", answer.text
        await asyncio.sleep(0.05)
    return None


@asynccontextmanager
async def local_servers(_folder: Path) -> AsyncIterator[None]:
    """None: the local stack starts its own."""
    yield None


@asynccontextmanager
async def kite(
    data: Path, services: Sequence[str] = SERVICES, env: Mapping[str, str] | None = None, servers: Servers | None = None,
    *, clickhouse_server: bool = False,
) -> AsyncIterator[Kite]:  # fmt: skip
    """Start everything, or only these services, with these settings over the usual ones, on servers that run already if there are any;
    stop what was started. Several processes of replay need a ClickHouse server."""
    async with LocalStack(StackOptions(data, servers=servers, clickhouse_server=clickhouse_server)) as local:
        await ensure_topics(Kafka(local.addresses.kafka_bootstrap), ALL, PARTITIONS, 1)
        await local.start_services([_spec(name, env or {}) for name in services])
        yield Kite(local)


def _spec(service: str, env: Mapping[str, str]) -> ServiceSpec:
    return ServiceSpec(service, (sys.executable, "-m", f"kite_{service}.main"), env=COMPRESSED | dict(env), ready_within_s=120)
