"""A running gateway for tests: as main builds it, on a real port, over the real Kafka and Valkey; teams, keys, and what the log holds."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from redis.exceptions import RedisError
from yarl import URL

from kite_common import auth, crypto
from kite_common.events.codec import Record, encode
from kite_common.events.credentials import CredentialIssued, Permission
from kite_common.events.hooks import HookEndpoint, endpoint_key, secret_context
from kite_common.events.webhooks import SealedSecret
from kite_common.ids import TeamId, endpoint_of
from kite_common.log_position import partition_of
from kite_common.runtime.component import Component
from kite_common.runtime.http import HttpServer
from kite_common.runtime.system import SystemClock, random_bytes
from kite_common.stream.admin import ensure_topics
from kite_common.stream.kafka import Kafka
from kite_common.stream.publisher import Publisher
from kite_common.testing.eventually import eventually
from kite_common.topics import ALL, CREDENTIALS, ENDPOINTS, EVENTS
from kite_gateway.adapters.scripts import connect
from kite_gateway.main import build
from kite_gateway.settings import GatewaySettings
from kite_gateway.testing import Account, project, vouch
from support.stack import RunningStack

PARTITIONS = 8
PEPPER = "pepper of the gateway's tests"
CIPHER_KEY = "0123456789abcdef0123456789abcdef"
HOOK_CIPHER_KEY = "fedcba9876543210fedcba9876543210"
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

    stack: RunningStack
    port: int
    credentials: Publisher
    session: aiohttp.ClientSession
    endpoints: Publisher

    async def open(self, account: Account | None = None) -> Team:
        """A new team whose keys the gateway knows."""
        team = Team(TeamId(f"team_{uuid.uuid4().hex}"))
        redis = connect(self.stack.redis_url, 5.0)
        await project(redis, team.id, account or Account())
        await redis.aclose()
        return await self.with_keys(team)

    async def with_keys(self, team: Team) -> Team:
        """The same team, with keys that the gateway knows."""
        permissions: tuple[Permission, ...] = ("read", "write")
        for permission in permissions:
            text = auth.new_api_key(random_bytes(auth.RANDOM_BYTES))
            team.keys[permission] = text
            team.issued[permission] = CredentialIssued(
                team_id=team.id, id=str(uuid.uuid4()), prefix=auth.parse_api_key(text).prefix, credential="api_key", name=permission,
                secret_hash=auth.hash_secret(PEPPER.encode(), text), permissions=(permission,), created_at=SystemClock().unix_ms(),
            )  # fmt: skip
            await self.issue(team.issued[permission])
        for permission in permissions:
            await self._known(team.bearer(permission), team.url(CONFIG))
        return team

    async def _known(self, bearer: dict[str, str], url: str) -> None:
        await eventually(lambda: self.status("GET", url, headers=bearer, is_not=401), what="the key is known")

    async def issue(self, credential: CredentialIssued) -> None:
        await self.credentials.publish(partition_of(credential.key.encode(), PARTITIONS), (encode(credential),))

    async def open_hook(self, team: Team, source: str, secret: str | None = None) -> str:
        """An endpoint of the team, known to the gateway; its token. Without a secret it has no record, as bootstrap makes it."""
        text, now_ms = auth.new_hook_token(random_bytes(auth.RANDOM_BYTES)), SystemClock().unix_ms()
        if secret is not None:
            await self.put_endpoint(self.endpoint(team, source, secret))
        issued = CredentialIssued(
            team_id=team.id, id=str(uuid.uuid4()), prefix=auth.parse_hook_token(text).prefix, credential="hook_token", name=source,
            secret_hash=auth.hash_secret(PEPPER.encode(), text), permissions=(), source=source, created_at=now_ms,
        )  # fmt: skip
        team.issued[source] = issued
        await self.issue(issued)
        # An empty body of declared JSON is refused behind the credentials, and stores nothing.
        url = f"/hooks/{team.id}/{source}/{text}"
        await eventually(
            lambda: self.status("POST", url, data=b"", headers={"Content-Type": "application/json"}, is_not=401), what="the token is known"
        )
        return text

    def endpoint(self, team: Team, source: str, *secrets: str, active: bool = True) -> HookEndpoint:
        """The record of an endpoint with these secrets, newest first."""
        sealed = [
            crypto.seal(HOOK_CIPHER_KEY.encode(), secret.encode(), secret_context(team.id, source), random_bytes(crypto.NONCE_BYTES))
            for secret in secrets
        ]
        now_ms = SystemClock().unix_ms()
        return HookEndpoint(
            team_id=team.id, id=endpoint_of(team.id, source), source=source, active=active,
            secrets=tuple(SealedSecret(sealed=one) for one in sealed), created_at=now_ms, updated_at=now_ms,
        )  # fmt: skip

    async def put_endpoint(self, endpoint: HookEndpoint) -> None:
        key = endpoint_key(endpoint.team_id, endpoint.source).encode()
        await self.endpoints.publish(partition_of(key, PARTITIONS), (encode(endpoint),))

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
async def running(components: Sequence[Component]) -> AsyncIterator[None]:
    """The components at work; stopped in reverse."""
    stops = [asyncio.Event() for _ in components]
    tasks = [asyncio.create_task(one.run(stop), name=one.name) for one, stop in zip(components, stops, strict=True)]
    try:
        await eventually(
            lambda: all(one.readiness().ready for one in components) or any(task.done() for task in tasks),
            within_s=20,
            what="all are ready",
        )
        yield
    finally:
        for stop, task in zip(reversed(stops), reversed(tasks), strict=True):
            stop.set()
            await task


@asynccontextmanager
async def running_gateway(stack: RunningStack, **given: Any) -> AsyncIterator[Gateway]:
    """A gateway as main builds it, on a port of its own; `given` are settings that differ."""
    kafka = Kafka(stack.kafka)
    await ensure_topics(kafka, ALL, PARTITIONS, 1)
    values: dict[str, Any] = {
        "kafka_bootstrap": stack.kafka, "redis_url": stack.redis_url, "partitions": PARTITIONS, "host": "127.0.0.1", "port": 0,
        "api_key_pepper": PEPPER, "webhook_secret_cipher_key": CIPHER_KEY, "hook_secret_cipher_key": HOOK_CIPHER_KEY, "drain_timeout_s": 5,
    }  # fmt: skip
    settings = GatewaySettings(**values | given)
    redis = connect(settings.redis_url, 5.0)
    with contextlib.suppress(RedisError):
        await vouch(redis, PARTITIONS)
    await redis.aclose()
    components = build(settings)
    server = components[-1]
    assert isinstance(server, HttpServer)
    async with AsyncExitStack() as open_things:
        credentials = Publisher(kafka, CREDENTIALS.name, PARTITIONS)
        endpoints = Publisher(kafka, ENDPOINTS.name, PARTITIONS)
        await open_things.enter_async_context(running([credentials, endpoints, *components]))
        # No cookies, no reuse: every request stands alone.
        session = await open_things.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        yield Gateway(stack, server.port, credentials, session, endpoints)
