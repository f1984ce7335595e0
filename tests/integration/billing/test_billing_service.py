"""The whole service on real Kafka and Valkey: log, ledger, accounts and Redis agree, also after SIGKILL at any moment and after a wipe."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from redis.asyncio import Redis

from kite_billing.main import build
from kite_billing.settings import BillingSettings
from kite_common import ids
from kite_common.events.accounts import AccountSnapshot
from kite_common.events.codec import RECORD_HEADER, Record, decode, encode
from kite_common.events.commands import Command, CommandOutcome
from kite_common.events.deliveries import DeadLetter
from kite_common.events.fact import Fact
from kite_common.events.ledger import LedgerEntry
from kite_common.events.usage import FirstAnswer
from kite_common.ids import TeamId, ledger_entry_of_event
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

    def start_process(self) -> "subprocess.Popen[bytes]":
        """The service as a process that can be killed; started again under the same instance name."""
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("billing_process.py")), self.log.prefix],
            env=os.environ | {
                "KITE_KAFKA_BOOTSTRAP": self.log.bootstrap, "KITE_REDIS_URL": self.redis_url, "KITE_PARTITIONS": str(PARTITIONS),
                "KITE_INSTANCE": "killed", "KITE_HOST": "127.0.0.1", "KITE_PORT": "0",
            },
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        self.processes.append(process)
        return process


@pytest.fixture
async def scene(stack: Any) -> AsyncIterator[Scene]:
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


async def test_usage_becomes_ledger_accounts_and_projection_that_agree(scene: Scene) -> None:
    async with scene.billing():
        team = await scene.open()
        event_ids = await scene.use(team, 50)
        await eventually(lambda: scene.settled(team), within_s=30, what="all is settled")
        await eventually(lambda: scene.agree(team), what="Redis holds the newest account")
        entries, account = await scene.entries(), (await scene.accounts())[team]
    assert (account.balance_atomic, account.period_used, account.day_used) == (1_000_000 - 50 * PRICE, 50, 50)
    assert sum(entry.amount_atomic for entry in entries) == account.balance_atomic
    assert [entry.event_id for entry in entries if entry.event_id] == event_ids


async def test_a_command_is_answered_its_repeat_too_and_money_moves_once(scene: Scene) -> None:
    async with scene.billing():
        team = await scene.open(balance=0)
        credit = make.credit_wallet(team_id=team, command_id="credit-1", amount_atomic=700)
        first = await scene.command(credit)
        await scene.redis.delete(keys.outcome(ids.CommandId("credit-1")))
        second = await scene.command(credit)
        refused = await scene.command(make.open_account(team_id=team, command_id="again"))
        assert (first.balance_atomic, second.balance_atomic, refused.refusal) == (700, 700, "account_exists")
        assert await scene.redis.hget(keys.account(team), "balance") == "700"
    assert [entry.amount_atomic for entry in await scene.entries()] == [700]


async def test_what_cannot_be_used_is_buried_and_the_partition_goes_on(scene: Scene) -> None:
    async with scene.billing():
        team = await scene.open()
        await scene.log.write(EVENTS.name, Record(team.encode(), b"{broken", ((RECORD_HEADER, b"usage"),)))
        await scene.log.write(COMMANDS.name, Record(team.encode(), b"{broken", ((RECORD_HEADER, b"subscribe"),)))
        stranger = ids.new_team_id(random_bytes(16))
        await scene.log.write(EVENTS.name, encode(make.usage(team_id=stranger)))
        await scene.use(team, 1)
        await eventually(lambda: scene.settled(team), within_s=30, what="the good usage is settled")
        letters = await eventually(lambda: _letters(scene, 3), within_s=30, what="there are three dead letters")
    assert letters is not None
    assert {(letter.service, letter.topic.removeprefix(scene.log.prefix)) for letter in letters} == {
        ("billing", EVENTS.name), ("billing", COMMANDS.name),
    }  # fmt: skip


async def test_a_restart_goes_on_where_the_last_owner_ended(scene: Scene) -> None:
    async with scene.billing():
        team = await scene.open()
        await scene.use(team, 5)
        await eventually(lambda: scene.settled(team), within_s=30, what="all is settled")
    await scene.use(team, 5)
    async with scene.billing():
        await eventually(lambda: scene.settled(team), within_s=30, what="what came meanwhile is settled")
        await eventually(lambda: scene.agree(team), what="Redis holds the newest account")
    assert (await scene.accounts())[team].period_used == 10


async def test_after_a_wipe_redis_is_the_same_again(scene: Scene) -> None:
    async with scene.billing():
        team = await scene.open()
        await scene.use(team, 5)
        await eventually(lambda: scene.settled(team), within_s=30, what="all is settled")
        await eventually(lambda: scene.agree(team), what="Redis holds the newest account")
        before = await scene.redis.hgetall(keys.account(team))
        await scene.redis.flushdb()
        await eventually(lambda: scene.redis.hgetall(keys.account(team)), within_s=40, what="the account is back")
        assert await scene.redis.hgetall(keys.account(team)) == before


@pytest.mark.parametrize("billing_is_up", [True, False])
async def test_after_a_wipe_keys_that_were_answered_stay_taken(scene: Scene, billing_is_up: bool) -> None:
    answer = FirstAnswer(body_digest="digest", received_at=make.NOW_MS, events_used=1, events_limit=100)
    async with contextlib.AsyncExitStack() as running:
        await running.enter_async_context(scene.billing())
        team = await scene.open()
        [event_id] = await scene.use(team, 1, claim="told", first=answer)
        [without] = await scene.use(team, 1, claim="older writer")
        await eventually(lambda: scene.settled(team), within_s=30, what="all is settled")
        if not billing_is_up:
            await running.aclose()
        await scene.redis.flushdb()
        if not billing_is_up:
            await running.enter_async_context(scene.billing())
        await eventually(lambda: scene.redis.hgetall(keys.account(team)), within_s=40, what="the account is back")
        # Not later than the account, by which the next message is admitted.
        told, older = [await scene.redis.hgetall(keys.idempotency(team, claim)) for claim in ("told", "older writer")]
        left_ms = await scene.redis.pttl(keys.idempotency(team, "told"))
    assert told == {
        "state": "accepted", "event_id": event_id, "body": "digest", "received": str(make.NOW_MS), "used": "1", "limit": "100",
        "charged": str(PRICE),
    }  # fmt: skip
    assert older == {"state": "accepted", "event_id": without, "body": ""}
    assert 86_300_000 < left_ms <= 86_400_000


async def test_what_was_charged_while_redis_was_away_is_settled_from_the_log_by_the_next_owner(scene: Scene) -> None:
    async with scene.billing():
        team = await scene.open()
    async with scene.billing(ready=False, redis_url="redis://127.0.0.1:9/0"):
        await scene.use(team, 5, claim="key")
        await eventually(lambda: _charged(scene, 5), within_s=STARTUP_S, what="all is charged")
    assert not await scene.settled(team)
    async with scene.billing():
        await eventually(lambda: scene.settled(team), within_s=15, what="all is settled, long before anything lapses")
        assert await scene.redis.hget(keys.idempotency(team, "key"), "state") == "accepted"
        assert await scene.agree(team)


async def test_killed_again_and_again_every_usage_has_exactly_one_entry(scene: Scene) -> None:
    process = scene.start_process()
    teams = [await scene.open() for _ in range(3)]
    using = asyncio.create_task(_use_by_turns(scene, teams, rounds=250))
    charged = 0
    for _ in range(4):
        # Progress was made, and more is on its way: the kill finds steps and projections under way.
        charged = await eventually(lambda seen=charged: _charged(scene, seen + 40), within_s=60, what="charging goes on")  # type: ignore[misc]
        process.send_signal(signal.SIGKILL)
        process.wait()
        process = scene.start_process()
    used = await using
    for team in teams:
        await eventually(lambda team=team: scene.settled(team), within_s=60, what="all is settled")  # type: ignore[misc]
        await eventually(lambda team=team: scene.agree(team), within_s=30, what="Redis holds the newest account")  # type: ignore[misc]
    entries, accounts = await scene.entries(), await scene.accounts()
    expected = Counter(ledger_entry_of_event(ids.EventId(event_id)) for event_ids in used.values() for event_id in event_ids)
    assert Counter(entry.id for entry in entries if entry.event_id) == expected
    for team, event_ids in used.items():
        assert accounts[team].balance_atomic == 1_000_000 - PRICE * len(event_ids)
        assert sum(entry.amount_atomic for entry in entries if entry.team_id == team) == accounts[team].balance_atomic


async def _use_by_turns(scene: Scene, teams: Sequence[TeamId], *, rounds: int) -> dict[TeamId, list[str]]:
    """One event a team and round, for as long as it takes."""
    used: dict[TeamId, list[str]] = {team: [] for team in teams}
    for _ in range(rounds):
        for team in teams:
            used[team] += await scene.use(team, 1)
        await asyncio.sleep(0.02)
    return used


async def _charged(scene: Scene, count: int) -> int:
    """How many usages are in the ledger, once it is as many as that."""
    found = sum(entry.event_id is not None for entry in await scene.entries())
    return found if found >= count else 0


async def _letters(scene: Scene, count: int) -> list[DeadLetter] | None:
    letters = [fact for _, fact in await scene.log.read(DEAD_LETTERS.name) if isinstance(fact, DeadLetter)]
    return letters if len(letters) == count else None
