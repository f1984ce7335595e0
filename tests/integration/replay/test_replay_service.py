"""The whole service on real Kafka, Redis and chDB: what is in the log can be read, and a restart goes on where the archive ends.

Topics have fixed names, so each test uses a team of its own. A process hosts one chDB engine: the service runs on the folder that all tests
of the run share, whose other rows stand in partitions that no topic has.
"""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from redis.asyncio import Redis
from x402.http.utils import decode_payment_required_header, decode_payment_response_header

from kite_common.events.codec import RECORD_HEADER, Record, decode, encode
from kite_common.events.deliveries import DeadLetter
from kite_common.events.payments import PaymentSubmitted
from kite_common.ids import TeamId
from kite_common.log_position import kiteseq, partition_of
from kite_common.projection import keys
from kite_common.projection.payments import tell
from kite_common.runtime.component import Component, readiness_of
from kite_common.runtime.http import HttpServer
from kite_common.runtime.system import SystemClock
from kite_common.stream.admin import ensure_topics
from kite_common.stream.kafka import Kafka
from kite_common.testing import make, payments
from kite_common.testing.eventually import eventually
from kite_common.topics import CREDENTIALS, DEAD_LETTERS, DELIVERIES, DELIVERY_COMMANDS, ERASURES, EVENTS, LEDGER, PAYMENTS, WEBHOOKS
from kite_gateway.testing import vouch
from kite_replay.main import build
from kite_replay.settings import ReplaySettings
from kite_replay.testing import event_id
from support.clickhouse import Served

PARTITIONS = 8
PEPPER = make.PEPPER.decode()
# One name for all starts: a consumer group gives a member that comes back its partitions at once.
INSTANCE = f"replay-{uuid.uuid4().hex[:8]}"


def settings(stack: Any, chdb_path: Path, **more: Any) -> ReplaySettings:
    given: dict[str, Any] = {
        "kafka_bootstrap": stack.kafka, "redis_url": stack.redis_url, "clickhouse_url": f"chdb://{chdb_path}", "api_key_pepper": PEPPER,
        "partitions": PARTITIONS, "port": 0, "host": "127.0.0.1", "instance": INSTANCE, "retention_days": 3640,
    }  # fmt: skip
    return ReplaySettings(**(given | more))


@contextlib.asynccontextmanager
async def running(stack: Any, chdb_path: Path, **more: Any) -> AsyncIterator[httpx.AsyncClient]:
    """The service, started in order and stopped last in, first out, as its supervisor does."""
    components: Sequence[Component] = build(settings(stack, chdb_path, **more))
    stops = [asyncio.Event() for _ in components]
    tasks = [asyncio.create_task(component.run(stop)) for component, stop in zip(components, stops, strict=True)]
    server = components[-1]
    assert isinstance(server, HttpServer)

    def not_ready() -> list[tuple[str, str]]:
        return [(name, state.reason) for name, state in readiness_of(components) if not state.ready]

    await eventually(lambda: not not_ready() or any(task.done() for task in tasks), within_s=30, what="replay is ready")
    assert not_ready() == []
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
        yield client
    for stop, task in reversed(list(zip(stops, tasks, strict=True))):
        stop.set()
        await task


@pytest.fixture
async def producer(stack: Any) -> AsyncIterator[AIOKafkaProducer]:
    topics = [EVENTS, DELIVERIES, LEDGER, CREDENTIALS, DEAD_LETTERS, ERASURES, PAYMENTS, WEBHOOKS, DELIVERY_COMMANDS]
    await ensure_topics(Kafka(stack.kafka), topics, PARTITIONS, 1)
    producer = AIOKafkaProducer(bootstrap_servers=stack.kafka, acks="all", enable_idempotence=True)
    await producer.start()
    yield producer
    await producer.stop()


@pytest.fixture
async def reader_key(producer: AIOKafkaProducer, stack: Any, team: str) -> str:
    """A key and an account of the team."""
    text = f"kite_{uuid.uuid4().hex[:8]}_{'0' * 32}"
    await send(producer, CREDENTIALS.name, encode(make.credential(text, team_id=team)))
    redis = Redis.from_url(stack.redis_url)
    await redis.hset(keys.account(TeamId(team)), mapping={"status": "active", "rate_per_min": 0})
    await vouch(redis, PARTITIONS)
    await redis.aclose()
    return text


async def send(producer: AIOKafkaProducer, topic: str, record: Record) -> int:
    """Append one record to the partition of its key; its offset."""
    partition = partition_of(record.key, PARTITIONS)
    appended = await producer.send_and_wait(
        topic, value=record.value, key=record.key, partition=partition, headers=list(record.headers)
    )
    return int(appended.offset)


async def send_events(producer: AIOKafkaProducer, team: str, numbers: range) -> list[int]:
    """Events of a team, each with its usage record; their kiteseqs."""
    seqs = []
    for number in numbers:
        offset = await send(producer, EVENTS.name, make.event_record(event_id=event_id(number, team=team), team_id=team))
        await send(producer, EVENTS.name, encode(make.usage(team_id=team)))
        seqs.append(kiteseq(offset, partition_of(team.encode(), PARTITIONS)))
    return seqs


async def read_all(client: httpx.AsyncClient, team: str, key: str) -> list[int]:
    """The kiteseqs of all events, read in pages of three."""
    seqs: list[int] = []
    parameters: dict[str, str | int] = {"team_id": team, "limit": 3}
    while True:
        response = await client.get("/api/v1/events", params=parameters, headers={"authorization": f"Bearer {key}"})
        page = response.raise_for_status().json()
        seqs += [row["event"]["kiteseq"] for row in page["events"]]
        if not page["has_more"]:
            return seqs
        parameters["since"] = page["next_cursor"]


async def test_what_is_in_the_log_can_be_read_also_after_a_restart(
    producer: AIOKafkaProducer, stack: Any, chdb_path: Path, team: str, reader_key: str
) -> None:
    first = await send_events(producer, team, range(10))
    async with running(stack, chdb_path) as client:

        async def reads(expected: list[int]) -> bool:
            return await read_all(client, team, reader_key) == expected

        await eventually(lambda: reads(first), what="the events of before the start")
        second = first + await send_events(producer, team, range(10, 20))
        await eventually(lambda: reads(second), what="the events of meanwhile")
    third = second + await send_events(producer, team, range(20, 30))
    async with running(stack, chdb_path) as client:
        await eventually(lambda: reads(third), what="all events after a restart")


async def test_an_engine_that_is_away_is_said_and_what_came_meanwhile_is_archived_once_it_is_back(
    producer: AIOKafkaProducer, stack: Any, chdb_path: Path, team: str, reader_key: str, served: Served
) -> None:
    before = await send_events(producer, team, range(3))
    async with running(stack, chdb_path, clickhouse_url=served.url) as client:

        async def reads(expected: list[int]) -> bool:
            try:
                return await read_all(client, team, reader_key) == expected
            except httpx.HTTPStatusError as error:
                assert error.response.json()["error"] == "replay_unavailable"  # noqa: PT017
                return False

        await eventually(lambda: reads(before), within_s=30, what="the events of before")
        await served.child.kill9(restart=False)
        answer = await client.get(f"/api/v1/events?team_id={team}", headers={"authorization": f"Bearer {reader_key}"})
        assert (answer.status_code, answer.json()["error"]) == (503, "replay_unavailable")
        every = before + await send_events(producer, team, range(3, 9))
        await served.child.start()
        await eventually(lambda: reads(every), within_s=60, what="the events of meanwhile")


async def test_a_bad_record_is_quarantined_and_the_events_around_it_are_read(
    producer: AIOKafkaProducer, stack: Any, chdb_path: Path, team: str, reader_key: str
) -> None:
    before = await send_events(producer, team, range(2))
    broken = Record(team.encode(), b"{broken", ((RECORD_HEADER, b"event"),))
    offset = await send(producer, EVENTS.name, broken)
    after = await send_events(producer, team, range(2, 4))
    async with running(stack, chdb_path) as client:

        async def reads() -> bool:
            return await read_all(client, team, reader_key) == before + after

        await eventually(reads, what="the good events")
    letter = await dead_letter_of(stack, team)
    assert (letter.service, letter.topic, letter.offset, letter.reason) == ("replay", EVENTS.name, offset, "event: not JSON")
    assert letter.original_value == "e2Jyb2tlbg=="


async def test_ledger_entries_in_the_log_are_read_newest_first(
    producer: AIOKafkaProducer, stack: Any, chdb_path: Path, team: str, reader_key: str
) -> None:
    for number, amount in enumerate([700, 0, -100]):
        entry = make.ledger_entry(team_id=team, id=str(uuid.uuid4()), amount_atomic=amount, balance_after_atomic=700 - 50 * number)
        await send(producer, LEDGER.name, encode(entry))
    async with running(stack, chdb_path) as client:

        async def amounts() -> list[int]:
            answer = await client.get(f"/api/v1/ledger?team_id={team}", headers={"authorization": f"Bearer {reader_key}"})
            return [entry["amount_atomic"] for entry in answer.raise_for_status().json()["entries"]]

        async def all_there() -> bool:
            return await amounts() == [-100, 700]

        await eventually(all_there, what="the entries that moved money")


async def test_a_payment_goes_through_the_log_and_its_outcome_buys_the_page(
    producer: AIOKafkaProducer, stack: Any, chdb_path: Path, team: str, reader_key: str
) -> None:
    """Billing's part is played here: it takes the submission from kite.payments and tells its outcome through Redis."""
    seqs = await send_events(producer, team, range(3))
    redis = Redis.from_url(stack.redis_url)
    request: dict[str, Any] = {"url": f"/api/v1/events?team_id={team}", "headers": {"authorization": f"Bearer {reader_key}"}}
    x402: dict[str, Any] = {"x402_enabled": True, "x402_pay_to": payments.PAY_TO, "x402_quote_key": "q" * 32}
    async with running(stack, chdb_path, **x402) as client:

        async def reads() -> bool:
            return await read_all(client, team, reader_key) == seqs

        await eventually(reads, what="the events, while they are included")
        metered: dict[Any, Any] = {"provider": "x402", "subscription": "sub", "replay_price": 10, "balance": 0}
        await redis.hset(keys.account(TeamId(team)), mapping=metered)
        asked = await client.get(**request)
        assert (asked.status_code, asked.json()["error"], asked.json()["amount_atomic"]) == (402, "payment_required", 30)
        required: Any = decode_payment_required_header(asked.headers["payment-required"])
        offer, end_s = required.accepts[0], SystemClock().unix_ms() // 1000 + 300
        header = payments.header(value=offer.amount, quote_id=offer.extra["quoteId"], valid_before=str(end_s))
        request["headers"]["payment-signature"] = header
        paying = asyncio.create_task(client.get(**request))
        submitted = await submission_of(stack, team)
        assert (submitted.purpose, submitted.target.rows, submitted.amount_atomic, submitted.if_new) == ("page", 3, 30, None)
        await tell(redis, [payments.outcome(
            payment_key=submitted.payment_key, submission_id=submitted.submission_id, amount_atomic=30, target=submitted.target,
        )])  # fmt: skip
        paid = await paying
        assert paid.status_code == 200
        assert ([row["event"]["kiteseq"] for row in paid.json()["events"]], paid.json()["amount_charged_atomic"]) == (seqs, 30)
        assert decode_payment_response_header(paid.headers["payment-response"]).success
    await redis.aclose()


async def submission_of(stack: Any, team: str) -> PaymentSubmitted:
    """The first payment that was handed in for a team."""
    consumer = AIOKafkaConsumer(PAYMENTS.name, bootstrap_servers=stack.kafka, auto_offset_reset="earliest")
    await consumer.start()
    try:
        async with asyncio.timeout(15):
            async for record in consumer:
                fact = decode(record.headers, record.value)
                if isinstance(fact, PaymentSubmitted) and fact.target.team_id == team:
                    return fact
    finally:
        await consumer.stop()
    raise AssertionError("no submission")


async def dead_letter_of(stack: Any, team: str) -> DeadLetter:
    """The first dead letter of a team."""
    consumer = AIOKafkaConsumer(DEAD_LETTERS.name, bootstrap_servers=stack.kafka, auto_offset_reset="earliest")
    await consumer.start()
    try:
        async with asyncio.timeout(10):
            async for record in consumer:
                fact = decode(record.headers, record.value)
                if isinstance(fact, DeadLetter) and fact.team_id == team:
                    return fact
    finally:
        await consumer.stop()
    raise AssertionError("no dead letter")
