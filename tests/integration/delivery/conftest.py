"""A delivery service of its own for each test: own topics and groups on the shared broker, schedule compressed."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.protocol.admin import DeleteGroupsRequest

from kite_common import ids
from kite_common.crypto import NONCE_BYTES, seal
from kite_common.events import codec
from kite_common.events.codec import Record
from kite_common.events.deliveries import DeliveryAttempted, DeliveryConcluded, DeliveryOrdered
from kite_common.events.fact import Fact
from kite_common.events.webhooks import SealedSecret, WebhookConfigured, secret_context
from kite_common.ids import EventId
from kite_common.log_position import partition_of
from kite_common.runtime.component import Component, readiness_of
from kite_common.runtime.system import SystemClock, random_bits, random_bytes, token_hex
from kite_common.testing import make
from kite_common.testing.eventually import eventually
from kite_common.topics import DEAD_LETTERS, DELIVERIES, DELIVERY_COMMANDS, EVENTS, RETRIES, WEBHOOKS
from kite_delivery.main import build
from kite_delivery.settings import DeliverySettings

PARTITIONS = 2
CIPHER_KEY = "0123456789abcdef0123456789abcdef"
SECRET = make.WEBHOOK_SECRET
COMPRESSED: dict[str, Any] = {
    "delivery_retry_waits_s": (0.3, 0.6, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3),
    "delivery_tiers_s": (0.2, 0.5, 1.0, 2.0, 4.0, 8.0),
    "delivery_attempt_timeout_s": 1.0,
    "delivery_queue_wait_s": 0.5,
    "delivery_concurrency": 4,
    "delivery_aside_most_s": 0.5,
}
Outcome = DeliveryAttempted | DeliveryConcluded
FactT = TypeVar("FactT", bound=Fact)


@dataclass
class Scene:
    """One delivery service and its topics, as teams and receivers see it."""

    bootstrap: str
    prefix: str
    producer: AIOKafkaProducer
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    secret: str = SECRET

    async def put_config(
        self, team: str, url: str, *, active: bool = True, config_id: str | None = None, **given: Any
    ) -> WebhookConfigured:
        """What the gateway writes for a PUT (or, with active=False, a DELETE)."""
        now_ms, config_id = SystemClock().unix_ms(), config_id or str(ids.uuid7(0, random_bits(74)))
        fields: dict[str, Any] = {
            "team_id": team, "id": config_id, "url": url, "active": active, "secrets": self.sealed(team, config_id, (self.secret, None)),
            "created_at": now_ms, "updated_at": now_ms,
        }  # fmt: skip
        config = WebhookConfigured(**(fields | given))
        await self.write(WEBHOOKS.name, codec.encode(config))
        return config

    def sealed(self, team: str, config_id: str, *secrets: tuple[str, int | None]) -> tuple[SealedSecret, ...]:
        """Secrets as the gateway stores them, each with when it ends."""
        context = secret_context(team, config_id)
        return tuple(
            SealedSecret(sealed=seal(CIPHER_KEY.encode(), one.encode(), context, random_bytes(NONCE_BYTES)), expires_at=ends_ms)
            for one, ends_ms in secrets
        )

    async def send(self, team: str, body: str = "hi", to: str = "builder") -> EventId:
        """What the gateway writes for an accepted message: the event, and its usage beside it."""
        event_id = ids.uuid7(SystemClock().unix_ms(), random_bits(74))
        await self.write(EVENTS.name, make.event_record(make.agent_message(body=body, to=to), event_id=event_id, team_id=team))
        await self.write(EVENTS.name, codec.encode(make.usage(team_id=team, event_id=event_id)))
        return event_id

    async def order(self, config: WebhookConfigured, event_id: EventId, **given: Any) -> DeliveryOrdered:
        """What replay writes for a redrive of an event's only delivery (or, with `test`, the gateway for a test event)."""
        delivery_id = ids.delivery_of(event_id, ids.WebhookConfigId(config.id))
        fields = {
            "team_id": config.team_id, "event_id": event_id, "delivery_id": delivery_id, "webhook_config_id": config.id,
            "id": ids.redrive_of(delivery_id, given.get("redrives", 1)),
        }  # fmt: skip
        order = make.delivery_ordered(**(fields | given))
        await self.write(DELIVERY_COMMANDS.name, codec.encode(order))
        return order

    async def write(self, topic: str, record: Record) -> None:
        partition = partition_of(record.key, PARTITIONS)
        await self.producer.send_and_wait(
            self.prefix + topic, value=record.value, key=record.key, headers=list(record.headers), partition=partition
        )

    async def outcomes(self, team: str, event_id: EventId | None = None) -> list[Outcome]:
        """Everything recorded of the team's deliveries so far, in order."""
        found = [fact for fact in await self.facts(DELIVERIES.name, team) if isinstance(fact, DeliveryAttempted | DeliveryConcluded)]
        return [fact for fact in found if event_id in (None, fact.event_id)]

    async def statuses(self, team: str, event_id: EventId | None = None) -> list[str]:
        return [outcome.status for outcome in await self.outcomes(team, event_id)]

    async def until_statuses(self, team: str, expected: Sequence[str], within_s: float = 20) -> list[Outcome]:
        """Wait until exactly these statuses are on record."""

        async def as_expected() -> list[Outcome] | None:
            outcomes = await self.outcomes(team)
            return outcomes if [outcome.status for outcome in outcomes] == list(expected) else None

        return await eventually(as_expected, within_s=within_s, what=f"the deliveries of {team} are {expected}") or []

    async def facts(self, topic: str, team: str) -> list[Fact]:
        """All facts of a team in a topic, as every reader of Kite finds them: committed."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap, auto_offset_reset="earliest", enable_auto_commit=False, isolation_level="read_committed"
        )
        await consumer.start()
        try:
            place = TopicPartition(self.prefix + topic, partition_of(team.encode(), PARTITIONS))
            consumer.assign([place])
            end, records = (await consumer.end_offsets([place]))[place], []
            while await consumer.position(place) < end:
                records += (await consumer.getmany(place, timeout_ms=100)).get(place, [])
        finally:
            await consumer.stop()
        return [codec.decode(record.headers, record.value) for record in records if record.key == team.encode()]

    @contextlib.asynccontextmanager
    async def delivering(self, *, until_ready: bool = True, **given: Any) -> AsyncIterator[list[Component]]:
        """The service in this process, from ready (or from its start) to drained; its components."""
        fields: dict[str, Any] = {
            "kafka_bootstrap": self.bootstrap, "partitions": PARTITIONS, "instance": token_hex(4), "host": "127.0.0.1", "port": 0,
            "webhook_secret_cipher_key": CIPHER_KEY, "allow_private_targets": True,
        }  # fmt: skip
        components = build(DeliverySettings(**(fields | COMPRESSED | given)), self.prefix)
        running = [(asyncio.Event(), component) for component in components]
        tasks = [asyncio.create_task(component.run(stop), name=component.name) for stop, component in running]
        try:
            if until_ready:
                await eventually(lambda: all(state.ready for _, state in readiness_of(components)), within_s=30, what="delivery is ready")
            yield components
        finally:
            for (stop, _), task in reversed(list(zip(running, tasks, strict=True))):
                stop.set()
                await asyncio.wait({task}, timeout=15)
                task.result()

    async def forget_group(self, name: str) -> None:
        """What a broker does with the positions of a group that has not run for long."""
        admin, group = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap), self.prefix + name
        await admin.start()
        try:

            async def is_deleted() -> bool:
                # Refused while a member of it is still counted.
                answer = await admin._send_request(DeleteGroupsRequest([group]), await admin.find_coordinator(group))
                return all(code == 0 for _, code in answer.results)

            await eventually(is_deleted, within_s=30, what=f"{group} is forgotten")
        finally:
            await admin.close()

    def start_process(self, **env: str) -> "subprocess.Popen[bytes]":
        """The service as a process that can be killed; started again under the same instance name."""
        process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, str(Path(__file__).with_name("delivery_process.py")), self.prefix],
            env=os.environ | {
                "KITE_KAFKA_BOOTSTRAP": self.bootstrap, "KITE_PARTITIONS": str(PARTITIONS), "KITE_INSTANCE": "killed", "KITE_PORT": "0",
                "KITE_HOST": "127.0.0.1", "KITE_WEBHOOK_SECRET_CIPHER_KEY": CIPHER_KEY, "KITE_ALLOW_PRIVATE_TARGETS": "true",
                "KITE_DELIVERY_TIERS_S": "0.2,0.5,1,2,4,8", "KITE_DELIVERY_ATTEMPT_TIMEOUT_S": "10",
            } | env,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        self.processes.append(process)
        return process


@pytest.fixture
async def scene(stack: Any) -> AsyncIterator[Scene]:
    """Topics and a producer of this test's own; processes it left behind are killed."""
    prefix = f"t{token_hex(4)}."
    topics = (EVENTS, WEBHOOKS, DELIVERIES, DELIVERY_COMMANDS, DEAD_LETTERS, *RETRIES)
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka)
    await admin.start()
    await admin.create_topics([NewTopic(prefix + topic.name, PARTITIONS, 1, topic_configs=topic.config(1)) for topic in topics])
    producer = AIOKafkaProducer(bootstrap_servers=stack.kafka, acks="all", enable_idempotence=True)
    await producer.start()
    scene = Scene(stack.kafka, prefix, producer)
    try:
        yield scene
    finally:
        for process in scene.processes:
            process.kill()
            process.wait()
        await producer.stop()
        await admin.delete_topics([prefix + topic.name for topic in topics])
        await admin.close()


@pytest.fixture
def team() -> str:
    """A team of this test's own."""
    return ids.new_team_id(random_bytes(16))
