"""Opens accounts through commands on the log and issues a key for each, as an operator does; sets webhooks through the gateway."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import httpx
from redis.asyncio import Redis

from kite_cli.bench.failure import BenchFailed
from kite_cli.bench.load.job import Sender
from kite_cli.bench.whole import Kite
from kite_cli.local.environment import PARTITIONS
from kite_cli.local.readiness import until
from kite_common import auth
from kite_common.crypto import new_webhook_secret
from kite_common.events.codec import encode
from kite_common.events.commands import OpenAccount
from kite_common.events.credentials import CredentialIssued
from kite_common.ids import new_team_id, uuid7
from kite_common.log_position import partition_of
from kite_common.plans import shipped_catalog
from kite_common.projection.outcomes import CommandSender
from kite_common.runtime.component import Component
from kite_common.runtime.system import SystemClock, random_bits, random_bytes
from kite_common.stream.publisher import Publisher
from kite_common.topics import COMMANDS, CREDENTIALS

_PLAN: Final = "growth"
_BALANCE_ATOMIC: Final = 10_000_000_000
_READY_WITHIN_S: Final = 30.0
_ANSWER_WITHIN_S: Final = 30.0


async def open_teams(kite: Kite, count: int) -> tuple[Sender, ...]:
    """New teams with money and a key that may do everything. Raises BenchFailed."""
    kafka, redis = kite.kafka, Redis.from_url(kite.local.addresses.redis_url)
    commands, credentials = (Publisher(kafka, topic.name, PARTITIONS) for topic in (COMMANDS, CREDENTIALS))
    sender = CommandSender(redis, commands, PARTITIONS, timeout_s=_ANSWER_WITHIN_S)
    pepper = kite.local.secrets["KITE_API_KEY_PEPPER"].encode()
    try:
        async with running(commands, credentials, sender):
            return tuple(await asyncio.gather(*(_open(sender, credentials, pepper) for _ in range(count))))
    finally:
        await redis.aclose()


async def set_webhook(client: httpx.AsyncClient, team: Sender, url: str) -> None:
    """Have a team's events delivered to `url`, as the team does it; the client's base is the gateway. Raises BenchFailed."""
    body = {"url": url, "secret": new_webhook_secret(random_bytes(32))}
    answer = await client.put("/api/v1/webhook-config", params={"team_id": team.team_id}, headers=bearer(team), json=body)
    if answer.status_code != httpx.codes.OK:
        raise BenchFailed(f"the webhook config is answered {answer.status_code} {answer.text[:200]}")


def bearer(team: Sender) -> dict[str, str]:
    """The header that says who asks."""
    return {"Authorization": f"Bearer {team.key}"}


@asynccontextmanager
async def running(*components: Component) -> AsyncIterator[None]:
    """Run components, the first one stopped last, once all are ready. Raises BenchFailed if one does not get ready."""
    stops = [asyncio.Event() for _ in components]
    tasks = [asyncio.create_task(component.run(stop)) for component, stop in zip(components, stops, strict=True)]

    async def ready() -> bool:
        return all(component.readiness().ready for component in components) or any(task.done() for task in tasks)

    try:
        async with asyncio.timeout(_READY_WITHIN_S):
            await until(ready, 0.02)
        yield
    except TimeoutError as error:
        raise BenchFailed("the log cannot be written to") from error
    finally:
        for stop, task in reversed(list(zip(stops, tasks, strict=True))):
            stop.set()
            await task


async def _open(sender: CommandSender, credentials: Publisher, pepper: bytes) -> Sender:
    now_ms, team_id, plan = SystemClock().unix_ms(), new_team_id(random_bytes(16)), shipped_catalog().by_name(_PLAN)
    if plan is None:
        raise BenchFailed(f"there is no plan {_PLAN}")
    outcome = await sender.send(OpenAccount(
        team_id=team_id, command_id=uuid7(now_ms, random_bits(74)), sent_at=now_ms, plan_id=plan.id, provider="x402",
        balance_atomic=_BALANCE_ATOMIC,
    ))  # fmt: skip
    if outcome.refusal is not None:
        raise BenchFailed(f"billing refuses to open an account: {outcome.refusal}")
    key = auth.new_api_key(random_bytes(auth.RANDOM_BYTES))
    issued = CredentialIssued(
        team_id=team_id, id=uuid7(now_ms, random_bits(74)), prefix=auth.parse_api_key(key).prefix, credential="api_key", name="bench",
        permissions=("admin",), created_at=now_ms, secret_hash=auth.hash_secret(pepper, key),
    )  # fmt: skip
    await credentials.publish(partition_of(issued.key.encode(), PARTITIONS), [encode(issued)])
    return Sender(team_id, key)
