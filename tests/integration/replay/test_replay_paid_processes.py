"""Pages taken from the wallet, over replay processes, billing and a real log: debited once for each reading, never below zero, also when a
process is killed at its worst moment."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaProducer
from redis.asyncio import Redis

from kite_billing.main import build as build_billing
from kite_billing.settings import BillingSettings
from kite_common import ids
from kite_common.events.codec import Record, decode_as
from kite_common.events.ledger import LedgerEntry
from kite_common.ids import TeamId
from kite_common.projection import keys
from kite_common.projection.outcomes import CommandSender
from kite_common.runtime.system import random_bytes, token_hex
from kite_common.stream.admin import ensure_topics
from kite_common.stream.kafka import Kafka
from kite_common.testing import make
from kite_common.testing.eventually import eventually
from kite_common.topics import ACCOUNTS, COMMANDS, DEAD_LETTERS, EVENTS, LEDGER
from support.log import read_all

PARTITIONS = 2
# A database of our own: kite:projected has a field per partition, and other tests have other logs.
DATABASE = 9
# Five rows on the plan starter, 10 each.
PAGE_ATOMIC = 50
_PROCESS = Path(__file__).with_name("paying_process.py")


@dataclass
class Scene:
    """One log, one database, one team with a wallet, and the processes that serve its pages."""

    bootstrap: str
    redis_url: str
    prefix: str
    redis: Redis
    producer: AIOKafkaProducer
    folder: Path
    team: TeamId = field(default_factory=lambda: ids.new_team_id(random_bytes(16)))
    key: str = field(default_factory=lambda: f"kite_{token_hex(4)}_{'0' * 32}")

    async def publish(self, partition: int, records: Any, *, not_after_ms: int | None = None) -> int:  # noqa: ARG002
        """What a CommandSender needs of a publisher."""
        for record in records:
            assert isinstance(record, Record)
            await self.producer.send_and_wait(
                self.prefix + COMMANDS.name, value=record.value, key=record.key, headers=list(record.headers), partition=partition
            )
        return 0

    async def open(self, balance: int) -> None:
        """The team's account, on the plan starter."""
        sender = CommandSender(self.redis, self, PARTITIONS, timeout_s=30)
        outcome = await sender.send(make.open_account(team_id=self.team, command_id=f"open-{self.team}", balance_atomic=balance))
        assert outcome.refusal is None

        async def projected() -> bool:
            return bool(await self.redis.hget(keys.account(self.team), "replay_price"))

        await eventually(projected, within_s=20, what="the account is projected")

    @contextlib.asynccontextmanager
    async def billing(self) -> AsyncIterator[None]:
        given: dict[str, Any] = {
            "kafka_bootstrap": self.bootstrap, "redis_url": self.redis_url, "partitions": PARTITIONS, "instance": self.prefix,
            "host": "127.0.0.1", "port": 0,
        }  # fmt: skip
        components = build_billing(BillingSettings(**given), self.prefix)
        stops = [asyncio.Event() for _ in components]
        tasks = [asyncio.create_task(one.run(stop)) for one, stop in zip(components, stops, strict=True)]
        try:
            yield
        finally:
            for stop, task in zip(reversed(stops), reversed(tasks), strict=True):
                stop.set()
                await task

    @contextlib.asynccontextmanager
    async def replay(self, fault: str = "") -> AsyncIterator[httpx.AsyncClient]:
        """A process, and a client of it; killed in the end if it is still there."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(_PROCESS), self.team, self.key, self.prefix + EVENTS.name, str(PARTITIONS),
            str(self.folder / token_hex(4)), *([fault] if fault else []), stdout=asyncio.subprocess.PIPE,
            env=os.environ | {"KITE_KAFKA_BOOTSTRAP": self.bootstrap, "KITE_REDIS_URL": self.redis_url},
        )  # fmt: skip
        try:
            assert process.stdout is not None
            port = await asyncio.wait_for(_port(process.stdout), 60)
            limits = httpx.Limits(max_connections=20)
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30, limits=limits) as client:
                yield client
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def get(self, client: httpx.AsyncClient) -> httpx.Response:
        return await client.get(f"/api/v1/events?team_id={self.team}", headers={"authorization": f"Bearer {self.key}"})

    async def entries(self) -> list[LedgerEntry]:
        """The team's ledger."""
        found = await read_all(Kafka(self.bootstrap), self.prefix + LEDGER.name, range(PARTITIONS))
        return [decode_as(LedgerEntry, value.encode()) for _, _, key, value in found if key == self.team]

    async def held(self) -> tuple[int, int]:
        """Pages reserved, and the total that is held."""
        return await self.redis.zcard(keys.replays(self.team)), int(await self.redis.hget(keys.reserved(self.team), "total") or 0)

    async def balance(self) -> int:
        return int(await self.redis.hget(keys.account(self.team), "balance") or 0)

    async def settled(self, balance: int) -> bool:
        return await self.held() == (0, 0) and await self.balance() == balance


async def _port(lines: asyncio.StreamReader) -> int:
    """The port a process prints, among what it logs."""
    async for line in lines:
        if line.startswith(b"port "):
            return int(line.split()[1])
    raise AssertionError("the process has ended")


@pytest.fixture
async def scene(stack: Any, tmp_path: Path) -> AsyncIterator[Scene]:
    prefix, url = f"t{token_hex(4)}.", str(stack.redis_url).rsplit("/", 1)[0] + f"/{DATABASE}"
    topics = [replace(topic, name=prefix + topic.name) for topic in (EVENTS, COMMANDS, ACCOUNTS, LEDGER, DEAD_LETTERS)]
    await ensure_topics(Kafka(stack.kafka), topics, PARTITIONS, 1)
    producer = AIOKafkaProducer(bootstrap_servers=stack.kafka, acks="all", enable_idempotence=True)
    await producer.start()
    redis = Redis.from_url(url)
    await redis.flushdb()
    scene = Scene(stack.kafka, url, prefix, redis, producer, tmp_path)
    async with scene.billing():
        yield scene
    await redis.aclose()
    await producer.stop()


async def test_two_processes_sell_exactly_what_the_wallet_can_pay_and_each_reading_is_debited_once(scene: Scene) -> None:
    await scene.open(12 * PAGE_ATOMIC + 49)
    async with scene.replay() as one, scene.replay() as two:
        answers = await asyncio.gather(*(scene.get(client) for client in (one, two) * 20))
        sold = [answer for answer in answers if answer.status_code == 200]
        assert len(sold) == 12
        assert {answer.json()["amount_charged_atomic"] for answer in sold} == {PAGE_ATOMIC}
        asked = [answer.json() for answer in answers if answer.status_code != 200]
        assert {(body["error"], body["rows"], body["amount_atomic"]) for body in asked} == {("payment_required", 5, PAGE_ATOMIC)}
        await eventually(lambda: scene.settled(49), within_s=30, what="all pages are debited")
        assert (await scene.get(two)).status_code == 402
    entries = await scene.entries()
    assert [(one.reason, one.amount_atomic, one.quantity) for one in entries[1:]] == [("replay", -PAGE_ATOMIC, 5)] * 12
    assert len({one.id for one in entries}) == 13
    assert sum(one.amount_atomic for one in entries) == 49
    assert min(one.balance_after_atomic for one in entries) >= 0


async def test_killed_between_the_usage_and_the_answer_the_page_is_charged_once(scene: Scene) -> None:
    await scene.open(120)
    async with scene.replay("after-publish") as dying:
        with pytest.raises(httpx.TransportError):
            await scene.get(dying)
    await eventually(lambda: scene.settled(70), within_s=30, what="the page is debited")
    async with scene.replay() as next_one:
        assert (await scene.get(next_one)).status_code == 200
        await eventually(lambda: scene.settled(20), within_s=30, what="the second reading is debited")
        assert (await scene.get(next_one)).status_code == 402
    assert [one.amount_atomic for one in await scene.entries()] == [120, -50, -50]


async def test_killed_before_the_usage_nothing_is_charged_and_the_money_is_not_free_until_it_lapses(scene: Scene) -> None:
    await scene.open(70)
    async with scene.replay("after-reserve") as dying:
        with pytest.raises(httpx.TransportError):
            await scene.get(dying)
    assert await scene.held() == (1, PAGE_ATOMIC)
    async with scene.replay() as next_one:
        assert (await scene.get(next_one)).status_code == 402
    assert [one.amount_atomic for one in await scene.entries()] == [70]
    assert await scene.balance() == 70
