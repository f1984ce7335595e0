"""Payments as the log has them: their records, their steps, and giving one that nobody has claimed to a team. Credits nothing itself.

What is shown has no signature, no quote and no seal: those never leave the log.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from kite_cli.admin.components import running
from kite_cli.admin.whole_topic import read_topic
from kite_cli.failure import EXIT_UNAVAILABLE, CommandFailed
from kite_cli.local.readiness import until
from kite_cli.target import LogTarget
from kite_common.clock import rfc3339
from kite_common.errors import OutcomeOpen, Unavailable
from kite_common.events.accounts import AccountSnapshot
from kite_common.events.codec import decode, decode_as, encode
from kite_common.events.payment_record import PaymentRecord
from kite_common.events.payments import PaymentAssigned, PaymentStep
from kite_common.ids import UNATTRIBUTED, TeamId, uuid7
from kite_common.log_position import partition_of
from kite_common.runtime.system import SystemClock, random_bits
from kite_common.stream.input import Input
from kite_common.stream.kafka import Kafka
from kite_common.stream.publisher import Publisher
from kite_common.stream.state import MARKER_KEY
from kite_common.stream.table import Table
from kite_common.topics import ACCOUNTS, PAYMENT_EVENTS, PAYMENT_STATES, PAYMENTS
from kite_common.x402.key import payment_id, payment_partition

_DONE_WITHIN_S: Final = 20.0
_LOOK_EVERY_S: Final = 0.1
_KEY_PARTS: Final = 4
ASSIGNABLE: Final = ("observed", "dead")


@dataclass(frozen=True, slots=True)
class Told:
    """A payment, and its steps in order; none where only the payment was asked for."""

    record: PaymentRecord
    steps: Sequence[PaymentStep] = ()

    def to_json(self) -> dict[str, Any]:
        """What people and scripts may see of it."""
        record, place, binding = self.record, self.record.place, self.record.binding
        return {
            "payment_id": payment_id(record.payment_key), "payment_key": record.payment_key, "state": record.state,
            "purpose": None if binding is None else binding.purpose, "team_id": record.credited_to,
            "amount_atomic": int(record.value), "payer": record.payer, "sent": record.sent, "settle_calls": record.attempts,
            "reason": record.reason or record.closed, "transaction": record.hint if place is None else place.transaction,
            "block": None if place is None else place.block, "steps_taken": record.steps, "changed_at": rfc3339(changed_at(record)),
            "steps": [_step(one) for one in self.steps],
        }  # fmt: skip


async def show_payment(target: LogTarget, name: str) -> Told:
    """A payment by its id or its key, with all steps the log still has. Raises CommandFailed."""
    async with _records(target, name) as table:
        record = _named(table, name)
    partition = payment_partition(record.payment_key, target.partitions)
    found = [decode(one.headers, one.value) for one in await read_topic(target, PAYMENT_EVENTS, [partition])]
    steps = [one for one in found if isinstance(one, PaymentStep) and one.payment_key == record.payment_key]
    return Told(record, steps)


async def list_payments(target: LogTarget, states: Sequence[str], team_id: str | None = None) -> list[Told]:
    """All payments in one of these states (all states if none is named), of one team if one is; the newest change first."""
    async with _records(target) as table:
        found = [record for _, record in table.items()]
    wanted = [one for one in found if (not states or one.state in states) and team_id in (None, one.credited_to)]
    return [Told(one) for one in sorted(wanted, key=lambda one: (changed_at(one), one.payment_key), reverse=True)]


async def assign_payment(target: LogTarget, name: str, team_id: TeamId, note: str) -> Told:
    """Give money that nobody has claimed to a team, and wait until it is in its wallet. Again, it changes nothing.

    Raises CommandFailed: for a payment that is not there or has an owner, for a team that is not there, if billing does not do it in time.
    """
    kafka = Kafka(target.kafka_bootstrap, client_id="kitectl")
    publisher = Publisher(kafka, target.prefix + PAYMENTS.name, target.partitions)
    async with _records(target, name) as table, running(f"Kafka at {target.kafka_bootstrap}", publisher):
        record = _named(table, name)
        if record.credited_to != team_id:
            _check_assignable(record)
            await _check_team(target, kafka, team_id)
            await _publish(publisher, target, record, team_id, note)
        key = record.payment_key
        await _until_credited(table, key, team_id)
        return Told(table.get(key) or record)


def changed_at(record: PaymentRecord) -> int:
    """When the record changed last (milliseconds since 1970; 0 for one that has no history)."""
    return record.history[-1].at if record.history else 0


def _check_assignable(record: PaymentRecord) -> None:
    if record.credited_to != UNATTRIBUTED or record.state not in ASSIGNABLE:
        whose = f"it belongs to {record.credited_to}" if record.credited_to not in (None, UNATTRIBUTED) else f"it is {record.state}"
        raise CommandFailed(
            f"{payment_id(record.payment_key)} cannot be assigned: {whose}",
            "Only money that nobody has claimed can: see `kitectl payments list --state observed`.",
        )  # fmt: skip


async def _check_team(target: LogTarget, kafka: Kafka, team_id: TeamId) -> None:
    """A credit opens an account for any name: one that was mistyped would take the money."""
    accounts = Table(
        kafka, target.prefix + ACCOUNTS.name, target.partitions, _account, only=(partition_of(team_id.encode(), target.partitions),)
    )
    async with running(f"Kafka at {target.kafka_bootstrap}", accounts):
        if accounts.get(team_id) is None:
            raise CommandFailed(f"there is no team {team_id}", "See that the id is right; `kitectl team create` opens a team.")


async def _publish(publisher: Publisher, target: LogTarget, record: PaymentRecord, team_id: TeamId, note: str) -> None:
    command_id = uuid7(SystemClock().unix_ms(), random_bits(74))
    assigned = PaymentAssigned(payment_key=record.payment_key, command_id=command_id, team_id=team_id, note=note)
    try:
        await publisher.publish(payment_partition(record.payment_key, target.partitions), [encode(assigned)])
    except (Unavailable, OutcomeOpen) as error:
        raise CommandFailed(f"it may not be written: {error}", "Do it again: that is harmless.", EXIT_UNAVAILABLE) from error


async def _until_credited(table: "Table[PaymentRecord]", key: str, team_id: TeamId) -> None:
    async def is_credited() -> bool:
        await table.refreshed()
        record = table.get(key)
        return record is not None and (record.state, record.credited_to) == ("credited", team_id)

    try:
        async with asyncio.timeout(_DONE_WITHIN_S):
            await until(is_credited, _LOOK_EVERY_S)
    except TimeoutError:
        advice = "See that billing runs with payments on (`kitectl status`), then do it again: that is harmless."
        raise CommandFailed("billing has not done it yet", advice, EXIT_UNAVAILABLE) from None


def _named(table: "Table[PaymentRecord]", name: str) -> PaymentRecord:
    found = table.get(name.lower()) or next((one for key, one in table.items() if payment_id(key) == name), None)
    if found is None:
        advice = "See `kitectl payments list`. A payment that no money came of is forgotten after a day."
        raise CommandFailed(f"there is no payment {name}", advice)
    return found


@asynccontextmanager
async def _records(target: LogTarget, name: str = "") -> AsyncIterator["Table[PaymentRecord]"]:
    """The records, of one payer's partition if `name` is a key."""
    is_key = name.count("|") == _KEY_PARTS - 1
    only = (payment_partition(name.lower(), target.partitions),) if is_key else None
    kafka = Kafka(target.kafka_bootstrap, client_id="kitectl")
    table = Table(kafka, target.prefix + PAYMENT_STATES.name, target.partitions, record_of, only=only)
    async with running(f"Kafka at {target.kafka_bootstrap}", table):
        await table.refreshed()
        yield table


def record_of(one: Input) -> PaymentRecord | None:
    """The payment in a record of the state topic; None for everything else that stands there."""
    if one.value is None or one.key == MARKER_KEY:
        return None
    fact = decode(one.headers, one.value)
    return fact if isinstance(fact, PaymentRecord) else None


def _account(one: Input) -> AccountSnapshot | None:
    return None if one.value is None or one.key == MARKER_KEY else decode_as(AccountSnapshot, one.value)


def _step(step: PaymentStep) -> Mapping[str, Any]:
    return {
        "seq": step.seq, "event": step.event, "before": step.before, "at": rfc3339(step.at), "why": step.why, "team_id": step.team_id,
        "transaction": step.transaction,
    }  # fmt: skip


