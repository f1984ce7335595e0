"""Redis loses everything between a message and its repeat: gateway and billing as they are, on a stack of the test's own."""

import contextlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from kite_billing.main import build
from kite_billing.settings import BillingSettings
from kite_cli.local.stack import LocalStack, StackOptions
from kite_common.events.codec import record_kind
from kite_common.ids import TeamId
from kite_common.projection import keys
from kite_common.projection.outcomes import CommandSender
from kite_common.stream.kafka import Kafka
from kite_common.stream.publisher import Publisher
from kite_common.testing import make
from kite_common.testing.eventually import eventually
from kite_common.topics import COMMANDS, LEDGER
from support.gateway import PARTITIONS, SEND, Gateway, Team, running, running_gateway
from support.stack import RunningStack

# Instead of 90 s: what was sent before is settled before Redis is emptied.
HOLD_MS = 2_000
KEY = {"Idempotency-Key": "order-7"}


@dataclass
class Scene:
    """A gateway, a billing, and their Redis."""

    gateway: Gateway
    redis: Any
    sender: CommandSender

    async def open(self) -> Team:
        """A team that billing knows."""
        team = Team(TeamId(f"team_{uuid.uuid4().hex}"))
        outcome = await self.sender.send(make.open_account(team_id=team.id, command_id=str(uuid.uuid4())))
        assert outcome.refusal is None
        return await self.gateway.with_keys(team)

    async def settled(self, team: Team) -> bool:
        return bool(await self.gateway.records(team, LEDGER.name)) and not await self.redis.zcard(keys.reservations(team.id))

    async def events(self, team: Team) -> int:
        return sum(record_kind(record.headers) == "event" for record in await self.gateway.records(team))


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with contextlib.AsyncExitStack() as open_things:
        local = await open_things.enter_async_context(LocalStack(StackOptions(tmp_path / "own")))
        kafka, redis_url = local.addresses.kafka_bootstrap, local.addresses.redis_url
        gateway = await open_things.enter_async_context(running_gateway(RunningStack(kafka, redis_url, local)))
        settings = BillingSettings(kafka_bootstrap=kafka, redis_url=redis_url, partitions=PARTITIONS, host="127.0.0.1", port=0)
        redis = await open_things.enter_async_context(contextlib.aclosing(Redis.from_url(redis_url, decode_responses=True)))
        commands = Publisher(Kafka(kafka), COMMANDS.name, PARTITIONS)
        sender = CommandSender(redis, commands, PARTITIONS, timeout_s=30)
        await open_things.enter_async_context(running([commands, sender, *build(settings, hold_ms=HOLD_MS)]))
        yield Scene(gateway, redis, sender)


@pytest.mark.timeout(200)
async def test_a_key_that_was_answered_before_redis_lost_everything_is_answered_the_same(scene: Scene) -> None:
    team = await scene.open()
    first = await eventually(lambda: accepted(scene, team, "hello"), within_s=30, what="the message is accepted")
    await eventually(lambda: scene.settled(team), within_s=30, what="it is charged and settled")
    await scene.redis.flushall()
    statuses: list[int] = []

    async def admitted_again() -> bool:
        # Another message, so that what is asked of the key is asked once.
        status, _, _ = await scene.gateway.send(team)
        statuses.append(status)
        return status == 202

    await eventually(admitted_again, within_s=60, what="somebody is admitted again")
    repeat, other = await ask(scene, team, "hello"), await ask(scene, team, "something else")
    assert statuses[0] == 503
    assert set(statuses) == {503, 202}
    assert repeat == first
    assert (other[0], other[1]["error"]) == (409, "idempotency_key_reused")
    assert await scene.events(team) == 2


async def ask(scene: Scene, team: Team, body: str) -> tuple[int, Any]:
    message = {"from": "planner", "to": "builder", "body": body}
    status, _, answer = await scene.gateway.ask("POST", team.url(SEND), headers=team.bearer() | KEY, data=orjson.dumps(message))
    return status, answer


async def accepted(scene: Scene, team: Team, body: str) -> tuple[int, Any] | None:
    answer = await ask(scene, team, body)
    return answer if answer[0] == 202 else None
