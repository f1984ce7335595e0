"""Writes a log as services would have left it, for measuring its audit: events, usages, entries, outcomes, accounts, positions, Redis."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from redis.asyncio import Redis

from kite_cli.bench.load.requests import text_of
from kite_cli.bench.whole import Kite
from kite_cli.local.environment import PARTITIONS
from kite_common.clock import utc_day
from kite_common.events.accounts import AccountSnapshot
from kite_common.events.agent_message import AgentMessage, to_event
from kite_common.events.codec import EVENT_RECORD, RECORD_HEADER, Record, encode
from kite_common.events.deliveries import DeliveryConcluded
from kite_common.events.envelope import CONTENT_TYPE_HEADER, TRACE_HEADER
from kite_common.events.ledger import LedgerEntry
from kite_common.events.usage import UsageRecorded
from kite_common.ids import (
    CommandId,
    EventId,
    TeamId,
    delivery_of,
    ledger_entry_of_command,
    ledger_entry_of_event,
    new_team_id,
    uuid7,
)
from kite_common.log_position import kiteseq, partition_of
from kite_common.projection import keys
from kite_common.projection.account_fields import account_fields
from kite_common.runtime.system import SystemClock, random_bits, random_bytes
from kite_common.stream.kafka import appended
from kite_common.stream.state import Marker
from kite_common.topics import ACCOUNTS, DELIVERIES, EVENTS, LEDGER, Topic

_PRICE: Final = 80
_BALANCE: Final = 10_000_000_000
_PAIRS_A_BATCH: Final = 200
_EVENT_HEADERS: Final = (
    (RECORD_HEADER, EVENT_RECORD), CONTENT_TYPE_HEADER, (TRACE_HEADER, b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
)  # fmt: skip
_COMMITTED: Final = {"kite-billing": (EVENTS,), "kite-delivery": (EVENTS,), "kite-archiver": (EVENTS, LEDGER, DELIVERIES)}


@dataclass(slots=True)
class _Account:
    team_id: TeamId
    opened_at: int
    balance: int = _BALANCE
    used: int = 0


@dataclass(slots=True)
class _Partition:
    """What was written of one, and where its topics end."""

    number: int
    accounts: list[_Account] = field(default_factory=list)
    ends: dict[str, int] = field(default_factory=dict)


async def write_log(kite: Kite, pairs: int, teams: int, body_bytes: int, told: Callable[[int], None]) -> int:
    """Write `pairs` events with all that follows from each, evenly over the teams; `told` hears how many are there. How many records."""
    partitions = _partitions(teams)
    message = AgentMessage("planner", "builder", text_of(body_bytes))
    share, done = pairs // teams, 0

    def more(count: int) -> None:
        nonlocal done
        done += count
        told(done)

    producer = kite.kafka.producer()
    await producer.start()
    try:
        async with asyncio.TaskGroup() as tasks:
            for one in partitions:
                tasks.create_task(_fill(producer, one, share, message, more))
    finally:
        await producer.stop()
    await _commit(kite, partitions)
    await _project(kite, partitions)
    return 4 * share * teams + 2 * teams + PARTITIONS


def _partitions(teams: int) -> list[_Partition]:
    found = [_Partition(number) for number in range(PARTITIONS)]
    now_ms = SystemClock().unix_ms()
    for _ in range(teams):
        team_id = new_team_id(random_bytes(16))
        found[partition_of(team_id.encode(), PARTITIONS)].accounts.append(_Account(team_id, now_ms))
    return found


async def _fill(
    producer: AIOKafkaProducer, partition: _Partition, share: int, message: AgentMessage, more: Callable[[int], None]
) -> None:  # fmt: skip
    await _append(producer, partition, LEDGER, [_opening(account) for account in partition.accounts])
    rest = islice(cycle(partition.accounts), share * len(partition.accounts))
    while some := list(islice(rest, _PAIRS_A_BATCH)):
        now_ms = SystemClock().unix_ms()
        ids = [EventId(uuid7(now_ms, random_bits(74))) for _ in some]
        first, at_ms = await _append(producer, partition, EVENTS, list(_pairs(some, ids, message, now_ms)))
        charged = [_charged(account, event_id, at_ms) for account, event_id in zip(some, ids, strict=True)]
        await _append(producer, partition, LEDGER, charged)
        seqs = [kiteseq(first + 2 * place, partition.number) for place in range(len(some))]
        outcomes = [_outcome(account, event_id, seq, at_ms) for account, event_id, seq in zip(some, ids, seqs, strict=True)]
        await _append(producer, partition, DELIVERIES, outcomes)
        more(len(some))
    snapshots = [encode(_snapshot(account)) for account in partition.accounts]
    position = {EVENTS.name: partition.ends.get(EVENTS.name, 0)}
    await _append(producer, partition, ACCOUNTS, [*snapshots, Marker(position, 1).record()])


async def _append(producer: AIOKafkaProducer, partition: _Partition, topic: Topic, records: Sequence[Record]) -> tuple[int, int]:
    """Append side by side; the offset of the first, and the time the broker gave them."""
    if not records:
        return 0, 0
    batch = producer.create_batch()
    for record in records:
        if not appended(batch, record):
            raise ValueError("more than a batch holds")
    batch.close()
    told = await (await producer.send_batch(batch, topic.name, partition=partition.number))
    partition.ends[topic.name] = told.offset + len(records)
    return told.offset, told.timestamp


def _pairs(accounts: Sequence[_Account], ids: Sequence[EventId], message: AgentMessage, now_ms: int) -> Iterator[Record]:
    for account, event_id in zip(accounts, ids, strict=True):
        yield Record(account.team_id.encode(), to_event(message, event_id, now_ms), _EVENT_HEADERS)
        yield encode(UsageRecorded(
            team_id=account.team_id, event_id=event_id, usage_kind="message", price_atomic=_PRICE, subscription_id="bench",
            reserved_at=now_ms,
        ))  # fmt: skip


def _opening(account: _Account) -> Record:
    command_id = CommandId(uuid7(account.opened_at, random_bits(74)))
    return encode(LedgerEntry(
        team_id=account.team_id, id=ledger_entry_of_command(command_id), entry="credit", reason="deposit", contra="deposits",
        amount_atomic=account.balance, balance_after_atomic=account.balance, command_id=command_id, occurred_at=account.opened_at,
    ))  # fmt: skip


def _charged(account: _Account, event_id: EventId, at_ms: int) -> Record:
    account.balance -= _PRICE
    account.used += 1
    return encode(LedgerEntry(
        team_id=account.team_id, id=ledger_entry_of_event(event_id), entry="debit", reason="event", contra="revenue", quantity=1,
        amount_atomic=-_PRICE, balance_after_atomic=account.balance, event_id=event_id, occurred_at=at_ms,
    ))  # fmt: skip


def _outcome(account: _Account, event_id: EventId, seq: int, at_ms: int) -> Record:
    return encode(DeliveryConcluded(
        team_id=account.team_id, delivery_id=delivery_of(event_id, None), event_id=event_id, event_type="com.kite.agent.message",
        kiteseq=seq, status="no_endpoint", reason="no_active_config", at=at_ms,
    ))  # fmt: skip


def _snapshot(account: _Account) -> AccountSnapshot:
    return AccountSnapshot(
        team_id=account.team_id, opened_at=account.opened_at, balance_atomic=account.balance, day=utc_day(account.opened_at),
        day_used=account.used, period_used=account.used, period_charged_atomic=account.used * _PRICE, applied=1,
    )  # fmt: skip


async def _commit(kite: Kite, partitions: Sequence[_Partition]) -> None:
    for group, topics in _COMMITTED.items():
        consumer: AIOKafkaConsumer = kite.kafka.consumer(group_id=group)
        await consumer.start()
        try:
            places = {TopicPartition(topic.name, one.number): one.ends.get(topic.name, 0) for topic in topics for one in partitions}
            consumer.assign(list(places))
            await consumer.commit(places)
        finally:
            await consumer.stop()


async def _project(kite: Kite, partitions: Sequence[_Partition]) -> None:
    redis = Redis.from_url(kite.local.addresses.redis_url)
    try:
        async with redis.pipeline(transaction=False) as pipe:
            for account in (account for one in partitions for account in one.accounts):
                fields = account_fields(_snapshot(account))
                pipe.hset(keys.account(account.team_id), items=[str(part) for part in fields])
            await pipe.execute()
    finally:
        await redis.aclose()
