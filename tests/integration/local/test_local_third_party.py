"""Kafka and Valkey as parts of a stack: they serve, keep what they were given, and come back from kill -9."""

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from redis.asyncio import Redis

from kite_cli.local.readiness import until
from kite_cli.local.stack import LocalStack, StackOptions
from kite_cli.local.valkey import ValkeyNode, answers

TOPIC = "local-test"


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[LocalStack]:
    """A stack of its own, because these tests break it."""
    async with LocalStack(StackOptions(tmp_path / "data")) as stack:
        yield stack


async def make_topic(stack: LocalStack) -> None:
    """Create the topic of these tests."""
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.addresses.kafka_bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(TOPIC, num_partitions=2, replication_factor=1)])
    finally:
        await admin.close()


async def produce(stack: LocalStack, count: int) -> None:
    """Send numbered records and wait for their acknowledgement."""
    producer = AIOKafkaProducer(bootstrap_servers=stack.addresses.kafka_bootstrap, acks="all")
    await producer.start()
    try:
        for number in range(count):
            await producer.send_and_wait(TOPIC, str(number).encode(), key=str(number).encode())
    finally:
        await producer.stop()


async def consume(stack: LocalStack, count: int) -> set[bytes]:
    """Read `count` records from the beginning, as a member of a group."""
    consumer = AIOKafkaConsumer(
        TOPIC,
        bootstrap_servers=stack.addresses.kafka_bootstrap,
        group_id="local-test",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=6_000,
    )
    await consumer.start()
    try:
        return {(await consumer.getone()).value for _ in range(count)}
    finally:
        await consumer.stop()


async def test_records_go_in_and_come_out_within_the_memory_that_was_promised(own: LocalStack) -> None:
    await make_topic(own)
    await produce(own, 100)
    assert len(await consume(own, 100)) == 100
    assert sum(child.resident_bytes for child in own.children.values()) < 450 * 2**20


async def test_an_installed_stack_serves_within_seconds(own: LocalStack, tmp_path: Path) -> None:
    began = time.monotonic()
    async with LocalStack(StackOptions(tmp_path / "second")):
        # 1.2 s where this was written; the bound allows for a machine that is busy with other things.
        assert time.monotonic() - began < 10
    assert own.child("kafka").is_ready


async def test_valkey_refuses_rather_than_forgets_and_keeps_a_file(own: LocalStack) -> None:
    client = Redis.from_url(own.addresses.redis_url)
    settings = await client.config_get("maxmemory-policy", "appendonly", "appendfsync", "bind")
    assert settings == {
        "maxmemory-policy": "noeviction",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "bind": "127.0.0.1",
    }
    await client.aclose()


async def test_kafka_killed_with_records_in_it_comes_back_with_them_on_the_same_port(own: LocalStack) -> None:
    await make_topic(own)
    await produce(own, 50)
    bootstrap, pid = own.addresses.kafka_bootstrap, own.child("kafka").pid
    await own.child("kafka").kill9()
    await own.child("kafka").wait_ready()
    assert (own.addresses.kafka_bootstrap, own.child("kafka").restarts) == (bootstrap, 1)
    assert own.child("kafka").pid != pid
    assert len(await consume(own, 50)) == 50


async def test_valkey_killed_comes_back_with_what_it_had(own: LocalStack) -> None:
    client = Redis.from_url(own.addresses.redis_url)
    await client.set("key", "value")
    await client.aclose()
    # Written to the file at once, to the disk every second: a killed process loses nothing, a killed machine may.
    await own.child("valkey").kill9()
    await own.child("valkey").wait_ready()
    again = Redis.from_url(own.addresses.redis_url)
    assert await again.get("key") == b"value"
    await again.aclose()


async def test_a_part_that_was_stopped_stays_stopped_until_it_is_started(own: LocalStack) -> None:
    valkey = own.child("valkey")
    await valkey.kill9(restart=False)
    assert (valkey.pid, valkey.is_ready) == (None, False)
    await valkey.start()
    assert valkey.is_ready
    assert await valkey.stop()
    assert valkey.pid is None


async def test_a_frozen_part_does_not_answer_until_it_is_thawed(own: LocalStack, tmp_path: Path) -> None:
    valkey, node = own.child("valkey"), ValkeyNode(tmp_path, own.ports["valkey"])
    await valkey.freeze()
    assert not await answers(node)
    valkey.thaw()
    async with asyncio.timeout(10):
        await until(partial(answers, node), every_s=0.05)


async def test_a_later_start_finds_data_ports_and_secrets_again(tmp_path: Path) -> None:
    options = StackOptions(tmp_path / "data")
    async with LocalStack(options) as first:
        await make_topic(first)
        await produce(first, 10)
        addresses, secrets = first.addresses, first.secrets
    async with LocalStack(options) as second:
        assert (second.addresses, second.secrets) == (addresses, secrets)
        assert len(await consume(second, 10)) == 10


async def test_two_stacks_run_side_by_side(own: LocalStack, tmp_path: Path) -> None:
    async with LocalStack(StackOptions(tmp_path / "other")) as other:
        assert not set(own.ports.values()) & set(other.ports.values())
