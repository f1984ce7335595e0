"""Billing on a real broker and a real Valkey, with topics, a group and a database of a test's own: in this process, or as one to kill."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from redis.asyncio import Redis

from kite_billing.main import build
from kite_billing.settings import BillingSettings
from kite_common import ids
from kite_common.events.accounts import AccountSnapshot
from kite_common.events.codec import Record, decode, encode
from kite_common.events.commands import Command, CommandOutcome
from kite_common.events.fact import Fact
from kite_common.events.ledger import LedgerEntry
from kite_common.events.usage import FirstAnswer
from kite_common.ids import TeamId
from kite_common.log_position import partition_of
from kite_common.projection import keys
from kite_common.projection.account_fields import account_fields
from kite_common.projection.outcomes import CommandSender
from kite_common.runtime.component import Component, readiness_of
from kite_common.runtime.system import SystemClock, random_bits, random_bytes, token_hex
from kite_common.stream.admin import ensure_topics
from kite_common.stream.kafka import Kafka
from kite_common.stream.state import MARKER_KEY
from kite_common.testing import make
from kite_common.testing.eventually import eventually
from kite_common.topics import ACCOUNTS, COMMANDS, DEAD_LETTERS, EVENTS, LEDGER

PARTITIONS = 2
# A database of our own: kite:projected has a field per partition, and other tests have other logs.
DATABASE = 6
PRICE = 100
STARTUP_S = 40.0
# Nothing is on its way into the log when a test here wipes Redis.
HOLD_MS = 1_000
PROCESS = Path(__file__).parent.parent / "integration" / "billing" / "billing_process.py"


@dataclass
class Log:
    """The topics of one test, and a CommandSender's publisher."""

    bootstrap: str
    prefix: str
    producer: AIOKafkaProducer

    async def publish(self, partition: int, records: Sequence[Record], *, not_after_ms: int | None = None) -> int:  # noqa: ARG002
        for record in records:
            await self.write(COMMANDS.name, record, partition)
        return 0

    async def write(self, topic: str, record: Record, partition: int | None = None) -> None:
        partition = partition_of(record.key, PARTITIONS) if partition is None else partition
        await self.producer.send_and_wait(
            self.prefix + topic, value=record.value, key=record.key, headers=list(record.headers), partition=partition
        )

    async def read(self, topic: str) -> list[tuple[bytes, Fact]]:
        """Everything committed in a topic: (key, fact), partition by partition; the processor's own marker left out."""
        consumer = Kafka(self.bootstrap).consumer()
        await consumer.start()
        try:
            places = [TopicPartition(self.prefix + topic, partition) for partition in range(PARTITIONS)]
            consumer.assign(places)
            ends, records = await consumer.end_offsets(places), []
            for place in places:
                while await consumer.position(place) < ends[place]:
                    records += (await consumer.getmany(place, timeout_ms=100)).get(place, [])
        finally:
            await consumer.stop()
        return [(one.key, decode(one.headers, one.value)) for one in records if one.key != MARKER_KEY]


@dataclass
class Scene:
    """One billing service, its topics and its database, as gateway and operators use them."""

    log: Log
    redis: Redis
    redis_url: str
    sender: CommandSender
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    async def command(self, command: Command) -> CommandOutcome:
        return await self.sender.send(command)

    async def command_only(self, command: Command) -> None:
        """Into the log, without waiting for what comes of it."""
        await self.log.publish(self.partition(TeamId(command.team_id)), [encode(command)])

    def partition(self, team: TeamId) -> int:
        return partition_of(team.encode(), PARTITIONS)

    async def open(self, balance: int = 1_000_000) -> TeamId:
        team = ids.new_team_id(random_bytes(16))
        outcome = await self.command(make.open_account(team_id=team, command_id=f"open-{team}", balance_atomic=balance))
        assert outcome.refusal is None
        return team

    async def use(self, team: TeamId, count: int, *, claim: str | None = None, first: FirstAnswer | None = None) -> list[str]:
        """What the gateway does for accepted messages: reserve, then event and usage into the log; their event ids.

        The last one holds the idempotency claim, if one is given.
        """
        now_ms, event_ids = SystemClock().unix_ms(), []
        for _ in range(count):
            event_id = ids.uuid7(now_ms, random_bits(74))
            pipeline = self.redis.pipeline()
            pipeline.zadd(keys.reservations(team), {event_id: now_ms})
            pipeline.hset(keys.reserved(team), event_id, f"{PRICE} 1 1")
            pipeline.hincrby(keys.reserved(team), "total", PRICE)
            if claim is not None:
                pipeline.hset(keys.idempotency(team, claim), mapping={"state": "in_flight", "event_id": event_id})
            await pipeline.execute()
            await self.log.write(EVENTS.name, make.event_record(event_id=event_id, team_id=team))
            usage = make.usage(
                team_id=team, event_id=event_id, price_atomic=PRICE, reserved_at=now_ms, idempotency=claim, first_answer=first
            )  # fmt: skip
            await self.log.write(EVENTS.name, encode(usage))
            event_ids.append(str(event_id))
        return event_ids

    async def entries(self) -> list[LedgerEntry]:
        return [fact for _, fact in await self.log.read(LEDGER.name) if isinstance(fact, LedgerEntry)]

    async def accounts(self) -> dict[str, AccountSnapshot]:
        """The newest snapshot of every team."""
        return {fact.team_id: fact for _, fact in await self.log.read(ACCOUNTS.name) if isinstance(fact, AccountSnapshot)}

    async def settled(self, team: TeamId) -> bool:
        pipeline = self.redis.pipeline()
        pipeline.zcard(keys.reservations(team))
        pipeline.hget(keys.reserved(team), "total")
        pending, total = await pipeline.execute()
        return (pending, int(total or 0)) == (0, 0)

    async def agree(self, team: TeamId) -> bool:
        """Whether Redis holds exactly the newest snapshot of the log."""
        account = (await self.accounts())[team]
        fields = account_fields(account)
        expected = {str(name): str(value) for name, value in zip(fields[::2], fields[1::2], strict=True)}
        return await self.redis.hgetall(keys.account(team)) == expected

    def settings(self, **given: Any) -> BillingSettings:
        fields: dict[str, Any] = {
            "kafka_bootstrap": self.log.bootstrap, "redis_url": self.redis_url, "partitions": PARTITIONS, "instance": self.log.prefix,
            "host": "127.0.0.1", "port": 0,
        }  # fmt: skip
        return BillingSettings(**(fields | given))

    @contextlib.asynccontextmanager
    async def billing(self, *, ready: bool = True, **given: Any) -> AsyncIterator[None]:
        """The service in this process, from ready (unless it cannot be) to drained."""
        components: Sequence[Component] = build(self.settings(**given), self.log.prefix, hold_ms=HOLD_MS)
        stops = [asyncio.Event() for _ in components]
        tasks = [asyncio.create_task(one.run(stop), name=one.name) for one, stop in zip(components, stops, strict=True)]
        try:
            if ready:
                await eventually(self.projected, within_s=STARTUP_S, what="every partition is projected")
                await eventually(lambda: all(state.ready for _, state in readiness_of(components)), within_s=30, what="billing is ready")
            yield
        finally:
            for stop, task in zip(reversed(stops), reversed(tasks), strict=True):
                stop.set()
                await task

    async def projected(self) -> bool:
        return int(await self.redis.hlen(keys.STREAM_TIME)) == PARTITIONS

    def start_process(self, instance: str = "killed", **env: str) -> "subprocess.Popen[bytes]":
        """The service as a process that can be killed; started again under the same instance name."""
        process = subprocess.Popen(
            [sys.executable, str(PROCESS), self.log.prefix],
            env=os.environ | {
                "KITE_KAFKA_BOOTSTRAP": self.log.bootstrap, "KITE_REDIS_URL": self.redis_url, "KITE_PARTITIONS": str(PARTITIONS),
                "KITE_INSTANCE": instance, "KITE_HOST": "127.0.0.1", "KITE_PORT": "0",
            } | env,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        self.processes.append(process)
        return process


@contextlib.asynccontextmanager
async def billing_scene(stack: Any) -> AsyncIterator[Scene]:
    """Topics, a group and a database of this test's own; processes it left behind are killed."""
    prefix, url = f"t{token_hex(4)}.", str(stack.redis_url).rsplit("/", 1)[0] + f"/{DATABASE}"
    topics = [replace(topic, name=prefix + topic.name) for topic in (EVENTS, COMMANDS, ACCOUNTS, LEDGER, DEAD_LETTERS)]
    await ensure_topics(Kafka(stack.kafka), topics, PARTITIONS, 1)
    producer = AIOKafkaProducer(bootstrap_servers=stack.kafka, acks="all", enable_idempotence=True)
    await producer.start()
    redis = Redis.from_url(url, decode_responses=True)
    await redis.flushdb()
    log = Log(stack.kafka, prefix, producer)
    scene = Scene(log, redis, url, CommandSender(redis, log, PARTITIONS, timeout_s=30))
    try:
        yield scene
    finally:
        for process in scene.processes:
            process.kill()
            process.wait()
        await redis.aclose()
        await producer.stop()
