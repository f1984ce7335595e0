"""The whole gateway as main builds it, on a real port, over the real Kafka and Valkey."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from yarl import URL

from kite_common import auth, crypto
from kite_common.events.codec import Record, decode, encode, record_kind
from kite_common.events.credentials import CredentialIssued, Permission
from kite_common.events.envelope import CONTENT_TYPE_HEADER
from kite_common.events.usage import UsageRecorded
from kite_common.events.webhooks import WebhookConfigured
from kite_common.ids import TeamId
from kite_common.log_position import partition_of
from kite_common.runtime.component import Component
from kite_common.runtime.http import HttpServer
from kite_common.runtime.system import SystemClock, random_bytes
from kite_common.stream.admin import ensure_topics
from kite_common.stream.kafka import Kafka
from kite_common.stream.publisher import Publisher
from kite_common.testing.eventually import eventually
from kite_common.topics import ALL, CREDENTIALS, EVENTS, WEBHOOKS
from kite_gateway.adapters.scripts import connect
from kite_gateway.main import build
from kite_gateway.settings import GatewaySettings
from kite_gateway.testing import Account, project

PARTITIONS = 8
PEPPER = "pepper of the gateway's tests"
CIPHER_KEY = "0123456789abcdef0123456789abcdef"
SEND, CONFIG = "/api/v1/agents/messages", "/api/v1/webhook-config"
MESSAGE = {"from": "planner", "to": "builder", "body": "hello", "thread_id": "t"}


@dataclass
class Team:
    """A team with an account and one key of each kind."""

    id: TeamId
    keys: dict[str, str] = field(default_factory=dict)
    issued: dict[str, CredentialIssued] = field(default_factory=dict)

    def bearer(self, permission: str = "write") -> dict[str, str]:
        return {"Authorization": f"Bearer {self.keys[permission]}"}

    def url(self, path: str) -> str:
        return f"{path}?team_id={self.id}"


@dataclass
class Gateway:
    """A running gateway, and what tests need to reach around it."""

    stack: Any
    port: int
    credentials: Publisher
    session: aiohttp.ClientSession

    async def open(self, account: Account | None = None) -> Team:
        """A new team whose keys the gateway knows."""
        team = Team(TeamId(f"team_{uuid.uuid4().hex}"))
        redis = connect(self.stack.redis_url, 5.0)
        await project(redis, team.id, account or Account())
        await redis.aclose()
        permissions: tuple[Permission, ...] = ("read", "write")
        for permission in permissions:
            text = auth.new_api_key(random_bytes(auth.RANDOM_BYTES))
            team.keys[permission] = text
            team.issued[permission] = CredentialIssued(
                team_id=team.id, id=str(uuid.uuid4()), prefix=auth.parse_api_key(text).prefix, credential="api_key", name=permission,
                secret_hash=auth.hash_secret(PEPPER.encode(), text), permissions=(permission,), created_at=SystemClock().unix_ms(),
            )  # fmt: skip
            await self.issue(team.issued[permission])
        await eventually(lambda: self.status("GET", team.url(CONFIG), headers=team.bearer("read"), is_not=401), what="the keys are known")
        return team

    async def issue(self, credential: CredentialIssued) -> None:
        await self.credentials.publish(partition_of(credential.key.encode(), PARTITIONS), (encode(credential),))

    async def status(self, method: str, url: str, *, is_not: int, **arguments: Any) -> bool:
        status, _, _ = await self.ask(method, url, **arguments)
        return status != is_not

    async def ask(self, method: str, url: str, **arguments: Any) -> tuple[int, Any, Any]:
        """Status, headers, and the body: JSON if it is."""
        exact = URL(f"http://127.0.0.1:{self.port}{url}", encoded=True)
        async with self.session.request(method, exact, **arguments) as answer:
            raw = await answer.read()
            is_json = answer.headers.get("content-type", "").startswith("application/json")
            return answer.status, answer.headers, orjson.loads(raw) if is_json and raw else raw

    async def send(self, team: Team, **headers: str) -> tuple[int, Any, Any]:
        return await self.ask("POST", team.url(SEND), headers=team.bearer() | headers, json=MESSAGE)

    async def exchange(self, head: bytes, *chunks: bytes) -> bytes:
        """What a raw connection gets back."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for part in (head, *chunks):
                writer.write(part)
                await writer.drain()
            async with asyncio.timeout(10):
                return await reader.readuntil(b"\r\n\r\n")
        finally:
            writer.close()

    async def records(self, team: Team, topic: str = EVENTS.name) -> list[Record]:
        """All records of the team in a topic, in log order."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.stack.kafka, auto_offset_reset="earliest")
        await consumer.start()
        try:
            place = TopicPartition(topic, partition_of(team.id.encode(), PARTITIONS))
            consumer.assign([place])
            await consumer.seek_to_beginning(place)
            end, found = (await consumer.end_offsets([place]))[place], []
            while await consumer.position(place) < end:
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    found += [Record(one.key, one.value, tuple(one.headers)) for one in batch if one.key == team.id.encode()]
            return found
        finally:
            await consumer.stop()


@asynccontextmanager
async def _running(components: Sequence[Component]) -> AsyncIterator[None]:
    """The components at work; stopped in reverse."""
    stops = [asyncio.Event() for _ in components]
    tasks = [asyncio.create_task(one.run(stop), name=one.name) for one, stop in zip(components, stops, strict=True)]
    try:
        await eventually(
            lambda: all(one.readiness().ready for one in components) or any(task.done() for task in tasks), within_s=20, what="all are ready"
        )
        yield
    finally:
        for stop, task in zip(reversed(stops), reversed(tasks), strict=True):
            stop.set()
            await task


@asynccontextmanager
async def _gateway(stack: Any, **given: Any) -> AsyncIterator[Gateway]:
    kafka = Kafka(stack.kafka)
    await ensure_topics(kafka, ALL, PARTITIONS, 1)
    settings = GatewaySettings(**{
        "kafka_bootstrap": stack.kafka, "redis_url": stack.redis_url, "partitions": PARTITIONS, "host": "127.0.0.1", "port": 0,
        "api_key_pepper": PEPPER, "webhook_secret_cipher_key": CIPHER_KEY, "drain_timeout_s": 5,
    } | given)  # fmt: skip
    components = build(settings)
    server = components[-1]
    assert isinstance(server, HttpServer)
    async with AsyncExitStack() as open_things:
        credentials = Publisher(kafka, CREDENTIALS.name, PARTITIONS)
        await open_things.enter_async_context(_running([credentials, *components]))
        # No cookies, no reuse: every request stands alone.
        session = await open_things.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        yield Gateway(stack, server.port, credentials, session)


@pytest.fixture
async def gateway(stack: Any) -> AsyncIterator[Gateway]:
    async with _gateway(stack) as one:
        yield one


async def test_an_accepted_message_and_its_usage_stand_side_by_side_in_the_log(gateway: Gateway) -> None:
    team = await gateway.open(Account(used=41, price=80, rate_per_min=600))
    status, headers, answer = await gateway.send(team, traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    event, usage = await gateway.records(team)
    stored = orjson.loads(event.value)
    assert (status, answer["id"], answer["created_at"]) == (202, stored["id"], stored["time"])
    assert answer["usage"] == {"events_used": 42, "events_limit": 1_000, "amount_charged_atomic": 80, "amount_charged_sats": 80}
    assert headers["ratelimit-limit"] == "600"
    assert (record_kind(event.headers), record_kind(usage.headers)) == ("event", "usage")
    assert CONTENT_TYPE_HEADER in event.headers
    assert dict(event.headers)["traceparent"].startswith(b"00-4bf92f3577b34da6a3ce929d0e0e4736-")
    assert stored["data"] == MESSAGE
    recorded = decode(usage.headers, usage.value)
    assert isinstance(recorded, UsageRecorded)
    assert (recorded.event_id, recorded.price_atomic, recorded.idempotency) == (stored["id"], 80, None)


async def test_twenty_at_once_with_one_key_make_one_event(gateway: Gateway) -> None:
    team = await gateway.open()
    answers = await asyncio.gather(*(gateway.send(team, **{"Idempotency-Key": "one"}) for _ in range(20)))
    assert {status for status, _, _ in answers} <= {202, 409}
    assert len({body["id"] for status, _, body in answers if status == 202}) == 1
    assert {body["error"] for status, _, body in answers if status == 409} <= {"request_in_progress"}
    status, headers, _ = await gateway.send(team, **{"Idempotency-Key": "one"})
    assert (status, headers["Idempotency-Replayed"]) == (202, "true")
    assert len(await gateway.records(team)) == 2


async def test_a_rush_on_a_small_wallet_is_charged_only_for_what_it_held(gateway: Gateway) -> None:
    team = await gateway.open(Account(price=100, balance=5_000))
    answers = await asyncio.gather(*(gateway.send(team) for _ in range(200)))
    assert sorted(status for status, _, _ in answers) == [202] * 50 + [402] * 150
    assert len(await gateway.records(team)) == 100


async def test_the_largest_bodies_of_many_at_once_all_arrive(gateway: Gateway) -> None:
    team = await gateway.open()
    frame = len(orjson.dumps(MESSAGE | {"body": ""}))
    body = orjson.dumps(MESSAGE | {"body": "x" * (65_536 - frame)})
    answers = await asyncio.gather(*(gateway.ask("POST", team.url(SEND), headers=team.bearer(), data=body) for _ in range(40)))
    assert [status for status, _, _ in answers] == [202] * 40
    assert len(await gateway.records(team)) == 80


HOSTILE: list[tuple[str, dict[str, Any], int, str]] = [
    ("too large", {"data": b"x" * 65_537}, 413, "payload_too_large"),
    ("a wrong type", {"data": b'{"from":1,"to":"b","body":""}'}, 400, "invalid_message"),
    ("an empty to", {"data": b'{"from":"a","to":"","body":""}'}, 400, "invalid_message"),
    ("a list", {"data": b"[]"}, 400, "invalid_json"),
    ("nothing", {"data": b""}, 400, "invalid_json"),
    ("a raw NUL", {"data": b'{"from":"a\x00","to":"b","body":""}'}, 400, "invalid_json"),
    ("bad UTF-8", {"data": b'{"from":"\xff","to":"b","body":""}'}, 400, "invalid_json"),
    ("a lone surrogate", {"data": b'{"from":"\\udfff","to":"b","body":""}'}, 400, "invalid_json"),
    ("deep nesting", {"data": b'{"from":"a","to":"b","body":"","x":' + b"[" * 30_000 + b"]" * 30_000 + b"}"}, 400, "invalid_json"),
    ("a huge number", {"data": b'{"from":"a","to":"b","body":"","x":1e999}'}, 400, "invalid_json"),
    ("an encoding", {"data": b"\x1f\x8b", "headers": {"Content-Encoding": "gzip"}}, 415, "unsupported_media_type"),
    ("a bad key header", {"data": b"{}", "headers": {"Idempotency-Key": "a b"}}, 400, "invalid_idempotency_key"),
]


async def test_hostile_input_is_refused_clearly_and_nothing_is_stored(gateway: Gateway) -> None:
    team = await gateway.open()
    for what, given, status, code in HOSTILE:
        headers = team.bearer() | given.get("headers", {})
        found, _, body = await gateway.ask("POST", team.url(SEND), headers=headers, data=given["data"])
        assert (what, found, body["error"]) == (what, status, code)
        assert body["message"]
    for url, status, code in ((SEND, 400, "missing_team_id"), (f"{SEND}?team_id=team_other", 403, "forbidden")):
        found, _, body = await gateway.ask("POST", url, headers=team.bearer(), json=MESSAGE)
        assert (found, body["error"]) == (status, code)
    assert await gateway.records(team) == []


async def test_text_that_looks_dangerous_is_stored_safely(gateway: Gateway) -> None:
    team = await gateway.open()
    odd = {"from": "a\x00\r\n/../ü😀", "to": "\x1b[31m", "body": "\x00'; DROP TABLE events; --"}
    status, _, answer = await gateway.ask("POST", team.url(SEND), headers=team.bearer(), json=odd)
    stored = orjson.loads((await gateway.records(team))[0].value)
    assert (status, answer["from"], stored["data"]) == (202, odd["from"], odd)
    assert stored["source"] == "https://getkite.sh/agents/a%00%0D%0A%2F..%2F%C3%BC%F0%9F%98%80"
    assert stored["kitesummary"].isprintable()


async def test_an_announced_length_is_refused_before_the_body_comes(gateway: Gateway) -> None:
    team = await gateway.open()
    head = (
        f"POST {team.url(SEND)} HTTP/1.1\r\nHost: kite\r\nAuthorization: {team.bearer()['Authorization']}\r\nContent-Length: 65537\r\n\r\n"
    ).encode()
    assert (await gateway.exchange(head)).startswith(b"HTTP/1.1 413 ")


async def test_a_stream_without_a_length_is_cut_off_at_the_limit(gateway: Gateway) -> None:
    team = await gateway.open()
    head = (
        f"POST {team.url(SEND)} HTTP/1.1\r\nHost: kite\r\nAuthorization: {team.bearer()['Authorization']}\r\nTransfer-Encoding: chunked\r\n\r\n"
    ).encode()
    chunk = b"1000\r\n" + b"x" * 0x1000 + b"\r\n"
    assert (await gateway.exchange(head, *[chunk] * 17)).startswith(b"HTTP/1.1 413 ")


async def test_a_revoked_key_is_refused_within_a_second(gateway: Gateway) -> None:
    team = await gateway.open()
    assert (await gateway.send(team))[0] == 202
    await gateway.issue(team.issued["write"].model_copy(update={"revoked_at": SystemClock().unix_ms()}))

    async def is_refused() -> bool:
        return (await gateway.send(team))[0] == 401

    await eventually(is_refused, within_s=5, what="the revocation has arrived")


async def test_a_webhook_config_is_stored_sealed_and_read_back(gateway: Gateway) -> None:
    team = await gateway.open()
    wanted = {"url": "https://hooks.example.com/x", "secret": "hush-hush", "event_types": ["com.kite.*"]}
    status, _, put = await gateway.ask("PUT", team.url(CONFIG), headers=team.bearer(), json=wanted)
    again = (await gateway.ask("PUT", team.url(CONFIG), headers=team.bearer(), json=wanted | {"event_types": None}))[2]
    shown = (await gateway.ask("GET", team.url(CONFIG), headers=team.bearer("read")))[2]
    assert (status, again["id"], shown["event_types"], shown["active"]) == (200, put["id"], [], True)
    record = (await gateway.records(team, WEBHOOKS.name))[-1]
    stored = decode(record.headers, record.value)
    assert isinstance(stored, WebhookConfigured)
    assert b"hush" not in record.value
    assert crypto.unseal([CIPHER_KEY.encode()], stored.secrets[0].sealed, (team.id + stored.id).encode()) == b"hush-hush"
    assert (await gateway.ask("DELETE", team.url(CONFIG), headers=team.bearer()))[2] == {"ok": True}
    assert (await gateway.ask("GET", team.url(CONFIG), headers=team.bearer("read")))[0] == 404


async def test_ten_puts_at_once_keep_one_id(gateway: Gateway) -> None:
    team = await gateway.open()
    wanted = {"url": "https://hooks.example.com/x", "secret": "hush-hush"}
    answers = await asyncio.gather(*(gateway.ask("PUT", team.url(CONFIG), headers=team.bearer(), json=wanted) for _ in range(10)))
    assert {status for status, _, _ in answers} == {200}
    assert len({body["id"] for _, _, body in answers}) == 1


async def test_without_a_projected_account_the_answer_is_503(gateway: Gateway) -> None:
    team = await gateway.open()
    redis = connect(gateway.stack.redis_url, 5.0)
    await redis.delete(f"kite:{{{team.id}}}:account")
    await redis.aclose()
    status, headers, body = await gateway.send(team)
    assert (status, body["error"], headers["Retry-After"]) == (503, "service_unavailable", str(body["retry_after_secs"]))
    assert await gateway.records(team) == []


def _replay() -> Starlette:
    """A stand-in for the replay service: says what it was asked."""

    async def echo(request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield b"x" * 100_000

        if request.url.path == "/api/v1/ledger":
            return StreamingResponse(pieces(), 206, {"x-replay": "yes", "connection": "x-secret", "x-secret": "1"}, "text/plain")
        headers = {name: value for name, value in request.headers.items() if name not in ("user-agent", "accept-encoding", "accept")}
        body = {"path": request.scope["raw_path"].decode(), "query": request.scope["query_string"].decode(), "headers": headers}
        return Response(orjson.dumps(body), 410, {"Cache-Control": "private, no-store"}, "application/json")

    return Starlette(routes=[Route(f"/api/v1/{name}", echo) for name in ("events", "deliveries", "ledger")])


async def test_replay_paths_are_passed_on_as_they_came(stack: Any) -> None:
    replay = HttpServer(_replay(), host="127.0.0.1", port=0, drain_timeout_s=2)
    async with _running([replay]), _gateway(stack, replay_url=f"http://127.0.0.1:{replay.port}") as gateway:
        headers = {"x-request-id": "mine", "Authorization": "Bearer k", "Connection": "x-hop", "x-hop": "1", "TE": "trailers"}
        url = "/api/v1/events?team_id=a%3Ab&since=2026-01-01+00:00:00.000"
        status, answered, seen = await gateway.ask("GET", url, headers=headers)
        assert (status, answered["x-request-id"], answered["cache-control"]) == (410, "mine", "private, no-store")
        assert (seen["path"], seen["query"]) == ("/api/v1/events", "team_id=a%3Ab&since=2026-01-01+00:00:00.000")
        assert {name: seen["headers"].get(name) for name in ("x-request-id", "authorization", "x-hop", "te")} == {
            "x-request-id": "mine", "authorization": "Bearer k", "x-hop": None, "te": None,
        }  # fmt: skip
        status, answered, body = await gateway.ask("GET", "/api/v1/ledger")
        assert (status, answered["x-replay"], answered.get("x-secret"), len(body)) == (206, "yes", None, 300_000)
        status, answered, _ = await gateway.ask("POST", "/api/v1/events")
        assert (status, answered["allow"]) == (405, "GET, HEAD")


async def test_without_replay_only_its_paths_suffer(stack: Any) -> None:
    async with _gateway(stack, replay_url="http://127.0.0.1:9") as gateway:
        team = await gateway.open()
        status, headers, body = await gateway.ask("GET", team.url("/api/v1/events"), headers=team.bearer())
        assert (status, body["error"], headers["Retry-After"]) == (503, "replay_unavailable", str(body["retry_after_secs"]))
        assert (await gateway.send(team))[0] == 202
