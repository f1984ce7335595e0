"""One partition of a Kite in memory, written by billing's own rules and the archive's own rows; to be tampered with, and audited."""

import zlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from kite_billing.adapters.consumer import BillingProcessor
from kite_billing.domain.account import Rules
from kite_cli.admin.audit import payments, positions
from kite_cli.admin.audit.archive import BLOCK_BITS, Block, Slice, TableName, compare_rows
from kite_cli.admin.audit.bounds import PartitionJob, Span, Where
from kite_cli.admin.audit.findings import Findings
from kite_cli.admin.audit.partition import DELIVERY_GROUP, PartitionAudit
from kite_cli.admin.audit.projection import Projected
from kite_cli.admin.audit.records import LogRecord, Place
from kite_common.clock import FrozenClock, from_unix_ms
from kite_common.events.accounts import AccountSnapshot
from kite_common.events.codec import EVENT_RECORD, RECORD_HEADER, Record, encode
from kite_common.events.commands import Command, CommandOutcome
from kite_common.events.deliveries import DeliveryConcluded
from kite_common.events.usage import UsageRecorded
from kite_common.ids import EventId, delivery_of, uuid7
from kite_common.log_position import kiteseq, partition_of
from kite_common.plans import shipped_catalog
from kite_common.projection.account_fields import account_fields
from kite_common.projection.pending import Charges, Settled
from kite_common.runtime.metrics import Metrics
from kite_common.stream.input import Input
from kite_common.stream.state import Marker
from kite_common.stream.transaction import Position
from kite_common.testing import make
from kite_common.topics import ACCOUNTS, ALL, COMMANDS, DELIVERIES, EVENTS, LEDGER, Topic
from kite_replay.domain.rows import TABLES, to_rows

PARTITIONS: Final = 8
START_MS: Final = 1_760_000_000_000
PRICE: Final = 100
TEAMS: Final = tuple(name for name in (f"team_{number}" for number in range(100)) if partition_of(name.encode(), PARTITIONS) == 3)[:3]
PARTITION: Final = 3


class Entry(NamedTuple):
    """A record as a consumer hands it out."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


class ArchiveRow(NamedTuple):
    """What of a row the audit compares; `digest` stands for its bytes as ClickHouse computes it."""

    offset: int
    digest: int
    team_id: str


class _Projector:
    def restored(self, partition: int, accounts: Mapping[str, AccountSnapshot], position: Position) -> None: ...
    def applied(
        self, partition: int, accounts: Mapping[str, AccountSnapshot], settled: Sequence[Settled],
        outcomes: Sequence[CommandOutcome], position: Position, charges: Charges | None,
    ) -> None: ...  # fmt: skip
    def released(self, partition: int) -> None: ...


@dataclass
class World:
    """The log by topic, what the archive and Redis hold. `committed` is billing's position; `delivered_up_to` delivery's."""

    log: dict[str, list[Entry]] = field(default_factory=lambda: {topic.name: [] for topic in ALL})
    states: dict[str, AccountSnapshot] = field(default_factory=dict)
    redis: dict[str, Projected] = field(default_factory=dict)
    archive: dict[TableName, list[ArchiveRow]] = field(default_factory=dict)
    now_ms: int = START_MS
    applied: int = 0
    taken: dict[str, int] = field(default_factory=lambda: {EVENTS.name: 0, COMMANDS.name: 0})
    committed: dict[str, int] = field(default_factory=dict)
    delivered_up_to: int | None = None
    erased: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        clock = FrozenClock(from_unix_ms(START_MS))
        self._billing = BillingProcessor(Rules(shipped_catalog(), clerk_paid_plans=True), _Projector(), clock, Metrics())

    def append(self, topic: Topic, record: Record) -> int:
        """Append a record now; its offset."""
        entries = self.log[topic.name]
        offset = entries[-1].offset + 1 if entries else 0
        entries.append(Entry(offset, self.now_ms, record.key, record.value, record.headers))
        return offset

    def message(self, team_id: str, price: int = PRICE) -> EventId:
        """A message was accepted."""
        event_id = self._new_id()
        event = make.event_record(event_id=event_id, team_id=team_id)
        self.append(EVENTS, replace(event, headers=((RECORD_HEADER, EVENT_RECORD), *event.headers[1:])))
        self.append(EVENTS, encode(self._usage(team_id, event_id, "message", 1, price)))
        return event_id

    def page(self, team_id: str, rows: int = 5) -> None:
        """A page of events was read and taken from the wallet."""
        self.append(EVENTS, encode(self._usage(team_id, self._new_id(), "replay", rows, rows * 10)))

    def command(self, command: Command) -> None:
        """An account command was sent."""
        self.append(COMMANDS, encode(command))

    def step(self) -> None:
        """Billing takes everything that has come, in one transaction."""
        inputs = [
            Input(topic.name, PARTITION, *entry) for topic in (EVENTS, COMMANDS) for entry in self.log[topic.name]
            if entry.offset >= self.taken[topic.name]
        ]  # fmt: skip
        if not inputs:
            return
        self.applied += len(inputs)
        step = self._billing.step(PARTITION, inputs, self.states, self.applied)
        self.states.update(step.states)
        self.taken = {name: self.log[name][-1].offset + 1 if self.log[name] else 0 for name in self.taken}
        for topic, record in step.records:
            self.append(next(one for one in ALL if one.name == topic), record)
        for account in step.states.values():
            self.append(ACCOUNTS, encode(account))
        self.append(ACCOUNTS, Marker(self.taken, self.applied).record())
        self.committed = dict(self.taken)

    def settle(self) -> "World":
        """Billing, delivery, the archiver and the projection have done everything."""
        self.step()
        self.step()  # its own notices
        for entry in self.log[EVENTS.name]:
            if entry.headers[0][1] == EVENT_RECORD:
                self.append(DELIVERIES, self._outcome(entry))
        for table in TABLES:
            entries = [Input(table.topic, PARTITION, *entry) for entry in self.log[table.topic]]
            rows, bad = to_rows(table, entries, 0)
            assert not bad
            self.archive[table.name] = [ArchiveRow(row.log_offset, _digest(row), row.team_id) for row in rows]
        self.project()
        return self

    def erase(self, team_id: str) -> None:
        """The team is erased, and the archiver has done its part."""
        self.erased |= {team_id}
        for table in ("events", "deliveries"):
            self.archive[table] = [row for row in self.archive[table] if row.team_id != team_id]

    def project(self) -> None:
        """Redis says what the accounts say."""
        for account in self.states.values():
            parts = [str(part).encode() for part in account_fields(account)]
            self.redis[account.team_id] = Projected(dict(zip(parts[::2], parts[1::2], strict=True)), {}, ())

    def change(self, topic: Topic, place: int, **fields: Any) -> None:
        """Give a record other fields."""
        entry = self.log[topic.name][place]
        self.log[topic.name][place] = entry._replace(value=orjson.dumps(orjson.loads(entry.value or b"") | fields))

    def _new_id(self) -> EventId:
        self.now_ms += 1
        return EventId(uuid7(self.now_ms, self.now_ms))

    def _usage(self, team_id: str, event_id: EventId, kind: Any, quantity: int, price: int) -> UsageRecorded:
        return UsageRecorded(
            team_id=team_id, event_id=event_id, usage_kind=kind, quantity=quantity, price_atomic=price, subscription_id="s",
            reserved_at=self.now_ms,
        )  # fmt: skip

    def _outcome(self, entry: Entry) -> Record:
        event = orjson.loads(entry.value or b"")
        event_id = EventId(event["kiteid"])
        return encode(DeliveryConcluded(
            team_id=(entry.key or b"").decode(), delivery_id=delivery_of(event_id, None), event_id=event_id, event_type=event["type"],
            kiteseq=kiteseq(entry.offset, PARTITION), status="no_endpoint", at=self.now_ms,
        ))  # fmt: skip


def _digest(row: Any) -> int:
    named = getattr(row, "entry_id", None) or getattr(row, "delivery_id", None) or row.event_id
    return zlib.crc32(f"{row.log_offset}:{row.created_at}:{row.team_id}:{named}:".encode() + row[-1])


class _Log:
    def __init__(self, log: Mapping[str, Sequence[Entry]]) -> None:
        self._log = log

    def begin(self, spans: Mapping[str, Span], partition: int) -> None: ...

    async def batches(self, topic: str, partition: int, span: Span) -> AsyncIterator[Sequence[LogRecord]]:
        entries = [entry for entry in self._log[topic] if span.first <= entry.offset < span.end]
        for at in range(0, len(entries), 7):
            yield entries[at : at + 7]


class _Redis:
    def __init__(self, held: Mapping[str, Projected]) -> None:
        self._held = held

    async def projected(self, teams: Sequence[str]) -> list[Projected]:
        return [self._held.get(team, Projected({}, {}, ())) for team in teams]


async def audited(world: World, folder: Path, *, since_ms: int | None = None, first: Callable[[str], int] = lambda _: 0) -> Findings:
    """Audit the world, as the command does with a partition. `first`: the offset a topic begins at."""
    spans = {name: Span(first(name), entries[-1].offset + 1 if entries else 0) for name, entries in world.log.items()}
    end = spans[EVENTS.name].end
    slices = {table: _slice(rows, spans[{"events": EVENTS, "ledger": LEDGER, "deliveries": DELIVERIES}[table].name])
              for table, rows in world.archive.items()}  # fmt: skip
    delivered = {DELIVERY_GROUP: {EVENTS.name: end if world.delivered_up_to is None else world.delivered_up_to}}
    job = PartitionJob(
        Where("", "", "", PARTITIONS), PARTITION, spans, delivered, since_ms, slices or None, bool(world.redis), 0.0, folder, 20,
        world.erased,
    )
    result = await PartitionAudit(job, _Log(world.log), _Redis(world.redis), lambda _: None).run()
    found = Findings()
    found.add(result.findings)
    positions.compare(
        found, Place(ACCOUNTS.name, PARTITION), result.marked[ACCOUNTS.name], world.committed, world.committed
    )
    for one in result.differing:
        rows: dict[int, list[int]] = {}
        for row in world.archive[one.table]:
            if row.offset >> BLOCK_BITS == one.block:
                rows.setdefault(row.offset, []).append(row.digest)
        compare_rows(found, Place(one.table, PARTITION), one, rows)
    payments.compare(found, result.moved, result.recorded, None)
    return found


def _slice(rows: Sequence[ArchiveRow], span: Span) -> Slice:
    blocks: dict[int, Block] = {}
    for row in rows:
        if span.first <= row.offset < span.end:
            count, digests = blocks.get(row.offset >> BLOCK_BITS, Block(0, 0))
            blocks[row.offset >> BLOCK_BITS] = Block(count + 1, digests + row.digest)
    return Slice(span.first, span.end, 0, blocks)


def violated(found: Findings) -> set[str]:
    """The checks that found something."""
    return {check for check, count in found.violated.items() if count}
