"""Makes every account again from the log and compares it with the one billing keeps. Writes nothing, joins no group.

What is needed: kite.ledger from its beginning (it is kept for ever) and the team's commands from its opening on (kite.commands, 90 days
unless its retention is raised). Of teams whose opening has expired only the balance is compared with the last entry.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from pydantic import Field

from kite_billing.domain.account import Rules
from kite_cli.admin.teams_of_log import Compared, TeamsOfLog
from kite_cli.failure import EXIT_UNAVAILABLE, CommandFailed
from kite_cli.target import LogTarget
from kite_common.config import KiteSettings, load, load_catalog
from kite_common.events.accounts import AccountSnapshot
from kite_common.events.codec import decode_as
from kite_common.runtime.system import SystemClock
from kite_common.stream.input import Input, input_of
from kite_common.stream.kafka import Kafka
from kite_common.stream.partitions import expect_partitions
from kite_common.stream.state import Restored, restore
from kite_common.topics import ACCOUNTS, COMMANDS, LEDGER

# A transaction shows in one partition moments before it does in another: what the ledger had so long ago is in the accounts.
_SHOWN_EVERYWHERE_S: Final = 2.0
_LOOKS: Final = 3
_LOT: Final = 2_000
_SILENT_POLLS: Final = 100


class _BillingRules(KiteSettings):
    """What billing decides by, under the names that billing reads."""

    clerk_paid_plans: bool = Field(False, description="provider clerk may take plans that cost money")


def rules_of_environment() -> Rules:
    """The plans and rules that the environment names: they must be billing's. Raises ConfigurationError."""
    settings = load(_BillingRules)
    return Rules(load_catalog(settings), settings.clerk_paid_plans)


Told = Callable[[int, int], None]


async def compare_accounts(target: LogTarget, rules: Rules, told: Told) -> Compared:
    """Compare all partitions, one after the other; `told` hears how many entries of the ledger are read, and of how many.

    Billing may go on meanwhile: an account counts as equal if the log has led to it at a moment since we began to look. A difference is
    looked at again before it is reported. Raises CommandFailed if Kafka does not answer, ConfigurationError for another number of
    partitions than the target says.
    """
    kafka, found = Kafka(target.kafka_bootstrap, client_id="kitectl"), Compared()
    try:
        async with _reading(kafka) as consumer:
            await expect_partitions(consumer._client, target.prefix + LEDGER.name, target.partitions)
            places = [TopicPartition(target.prefix + LEDGER.name, number) for number in range(target.partitions)]
            ends = await consumer.end_offsets(places)
            begins = await consumer.beginning_offsets(places)
            whole, before = sum(ends[place] - begins[place] for place in places), 0
            for place in places:
                one = await _partition(_Log(kafka, target.prefix, place.partition), rules, lambda done, at=before: told(at + done, whole))  # type: ignore[misc]
                _add(found, one)
                before += ends[place] - begins[place]
    except KafkaError as error:
        advice = "See what runs with `kitectl status`, or check KITE_KAFKA_BOOTSTRAP."
        raise CommandFailed(f"Kafka at {target.kafka_bootstrap} does not answer", advice, EXIT_UNAVAILABLE) from error
    return found


@dataclass(frozen=True, slots=True)
class _Log:
    """One partition of the topics."""

    kafka: Kafka
    prefix: str
    partition: int

    def at(self, topic: str) -> TopicPartition:
        return TopicPartition(self.prefix + topic, self.partition)

    async def end(self, topic: str) -> int:
        async with _reading(self.kafka) as consumer:
            at = self.at(topic)
            return int((await consumer.end_offsets([at]))[at])

    async def records(self, topic: str) -> AsyncGenerator[Sequence[Input], None]:
        """What the partition holds now, in lots. Raises CommandFailed if it cannot be read to its end."""
        at, silent = self.at(topic), 0
        async with _reading(self.kafka) as consumer:
            consumer.assign([at])
            end = (await consumer.end_offsets([at]))[at]
            await consumer.seek_to_beginning(at)
            while await consumer.position(at) < end:
                records = (await consumer.getmany(at, timeout_ms=200, max_records=_LOT)).get(at, ())
                silent = 0 if records else silent + 1
                if silent > _SILENT_POLLS:
                    raise CommandFailed(f"{at.topic}-{at.partition} cannot be read to its end", "Try again.", EXIT_UNAVAILABLE)
                if records:
                    yield [input_of(one) for one in records]

    async def accounts(self) -> Restored[AccountSnapshot]:
        return await restore(self.kafka, self.prefix + ACCOUNTS.name, self.partition, _account)


async def _partition(log: _Log, rules: Rules, told: Callable[[int], None]) -> Compared:
    """Compare one partition; what differs is looked at again, for it may have changed while it was read."""
    for _ in range(_LOOKS):
        found = await _look(log, rules, told)
        if found.ok:
            break
    return found


async def _look(log: _Log, rules: Rules, told: Callable[[int], None]) -> Compared:
    shown_to = await log.end(LEDGER.name)
    await asyncio.sleep(_SHOWN_EVERYWHERE_S)
    live = await log.accounts()
    commands_to = live.marker.positions.get(log.prefix + COMMANDS.name, 0)
    teams = TeamsOfLog(rules, commands_to, SystemClock().unix_ms())
    async with aclosing(log.records(COMMANDS.name)) as lots:
        async for lot in lots:
            teams.commands(lot)
    async with aclosing(log.records(LEDGER.name)) as lots:
        async for lot in lots:
            for one in lot:
                teams.entry(one, recent=one.offset >= shown_to)
            told(teams.found.entries)
    teams.compare(log.partition, live.states)
    return teams.found


def _account(record: Input) -> tuple[str, AccountSnapshot]:
    account = decode_as(AccountSnapshot, record.value)
    return account.team_id, account


def _add(found: Compared, one: Compared) -> None:
    found.entries += one.entries
    found.commands += one.commands
    found.equal += one.equal
    found.by_balance += one.by_balance
    found.differing += one.differing


@asynccontextmanager
async def _reading(kafka: Kafka) -> AsyncGenerator[AIOKafkaConsumer, None]:
    consumer = kafka.consumer(max_partition_fetch_bytes=8 << 20)
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()
