"""Log records -> archive rows: what is stored of a record, and the time it is stored under. Pure; knows no client, no SQL.

`created_ms` is the record's append time made non-decreasing per partition, counted over archived records only. It is a function of
the log alone, so whoever archives a record, and however often, gives it the same row.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple, Protocol

import orjson

from kite_common.errors import Malformed
from kite_common.events.agent_message import TYPE as AGENT_MESSAGE
from kite_common.events.codec import EVENT_RECORD, RECORD_HEADER, decode
from kite_common.events.deliveries import DeliveryAttempted, DeliveryConcluded, DeliveryPending
from kite_common.events.envelope import TRACE_HEADER, with_kiteseq
from kite_common.events.ledger import LedgerEntry
from kite_common.events.usage import UsageRecorded
from kite_common.ids import is_uuid, parse_team_id
from kite_common.log_position import kiteseq
from kite_common.topics import DELIVERIES, EVENTS, LEDGER

TableName = Literal["events", "deliveries", "ledger"]


class LogRecord(Protocol):
    """A record as read from a topic; `timestamp_ms` is the time the broker appended it."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp_ms(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> tuple[tuple[str, bytes], ...]: ...


class EventRow(NamedTuple):
    """One event as archived. `body` is the exact CloudEvent with its kiteseq; the other texts are there to filter by."""

    team_id: str
    created_at: int
    kiteseq: int
    partition: int
    log_offset: int
    event_id: str
    type: str
    source: str
    slug: str
    agent_to: str
    trace_id: str
    body: bytes


class DeliveryRow(NamedTuple):
    """One attempt or outcome of a delivery; `fact` is the record's exact JSON."""

    team_id: str
    created_at: int
    partition: int
    log_offset: int
    kind: str
    delivery_id: str
    event_id: str
    kiteseq: int
    status: str
    fact: bytes


class LedgerRow(NamedTuple):
    """One ledger entry; `fact` is the record's exact JSON."""

    team_id: str
    created_at: int
    partition: int
    log_offset: int
    entry_id: str
    amount_atomic: int
    event_id: str
    fact: bytes


Row = EventRow | DeliveryRow | LedgerRow


@dataclass(frozen=True, slots=True)
class Table:
    """Where a topic's records go. `row(record, created_ms)` is None for records that are not archived, raises Malformed for bad ones.

    `erasable`: what it has of a team goes when the team is erased.
    """

    name: TableName
    topic: str
    columns: tuple[str, ...]
    row: Callable[[LogRecord, int], Row | None]
    erasable: bool = True


@dataclass(frozen=True, slots=True)
class Tail:
    """The last archived record of a partition: where archiving goes on from, and the time rows must not go behind."""

    offset: int
    created_ms: int


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record no row can be made of, and why."""

    record: LogRecord
    reason: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one partition of one table, in offset order, times non-decreasing; not empty. `size` is bytes, about."""

    table: Table
    partition: int
    rows: Sequence[Row]
    size: int

    @property
    def span(self) -> str:
        """Names the offsets in the batch: equal for equal rows."""
        return f"{self.partition}:{self.rows[0].log_offset}-{self.rows[-1].log_offset}"


def to_rows(table: Table, records: Iterable[LogRecord], created_ms: int) -> tuple[list[Row], list[BadRecord]]:
    """The rows of one partition's records, in their order, none stamped before `created_ms`; and the records that are unusable."""
    rows: list[Row] = []
    bad: list[BadRecord] = []
    for record in records:
        # A record that gets no row must not move the time either: after a restart it may not be seen again.
        stamped = max(created_ms, record.timestamp_ms)
        try:
            row = table.row(record, stamped)
        except Malformed as error:
            bad.append(BadRecord(record, str(error)))
            continue
        if row is not None:
            rows.append(row)
            created_ms = stamped
    return rows, bad


def event_row(record: LogRecord, created_ms: int) -> EventRow | None:
    """The row of an event; None for the usage records that stand beside events. Raises Malformed."""
    kind = _header(record, RECORD_HEADER)
    if kind == UsageRecorded.kind.encode():
        return None
    if kind != EVENT_RECORD:
        raise Malformed(f"unknown record kind {kind[:64]!r}")
    value = _value(record)
    attributes = _attributes(value)
    event_id, event_type, source = attributes.get("kiteid"), attributes.get("type"), attributes.get("source")
    if not isinstance(event_type, str) or not isinstance(source, str) or not isinstance(event_id, str) or not is_uuid(event_id):
        raise Malformed("event: type and source must be strings, kiteid a UUID")
    seq = kiteseq(record.offset, record.partition)
    return EventRow(
        _team(record), created_ms, seq, record.partition, record.offset, event_id.lower(), event_type, source,
        _text(attributes.get("kitesource")), _agent_to(event_type, attributes.get("data")), _trace_id(record), with_kiteseq(value, seq),
    )  # fmt: skip


def delivery_row(record: LogRecord, created_ms: int) -> DeliveryRow:
    """The row of an attempt, an outcome, or the beginning of a round. Raises Malformed."""
    value = _value(record)
    fact = decode(record.headers, value)
    if not isinstance(fact, DeliveryAttempted | DeliveryConcluded | DeliveryPending):
        raise Malformed(f"{fact.kind}: not a fact about a delivery")
    return DeliveryRow(
        _team(record), created_ms, record.partition, record.offset, fact.kind, fact.delivery_id, fact.event_id, fact.kiteseq, fact.status,
        value,
    )  # fmt: skip


def ledger_row(record: LogRecord, created_ms: int) -> LedgerRow:
    """The row of a ledger entry. Raises Malformed."""
    value = _value(record)
    fact = decode(record.headers, value)
    if not isinstance(fact, LedgerEntry):
        raise Malformed(f"{fact.kind}: not a ledger entry")
    return LedgerRow(
        _team(record), created_ms, record.partition, record.offset, fact.id, fact.amount_atomic, fact.event_id or "", value
    )


EVENTS_TABLE: Final = Table("events", EVENTS.name, EventRow._fields, event_row)
DELIVERIES_TABLE: Final = Table("deliveries", DELIVERIES.name, DeliveryRow._fields, delivery_row)
LEDGER_TABLE: Final = Table("ledger", LEDGER.name, LedgerRow._fields, ledger_row, erasable=False)
TABLES: Final = (EVENTS_TABLE, DELIVERIES_TABLE, LEDGER_TABLE)


def size_of(row: Row) -> int:
    """About how many bytes a row takes: its large field and a flat amount for the rest."""
    return len(row[-1]) + 256


def _header(record: LogRecord, wanted: str) -> bytes:
    for name, value in record.headers:  # a generator here costs a tenth of the archiver's throughput
        if name == wanted:
            return value
    return b""


def _value(record: LogRecord) -> bytes:
    if record.value is None:
        raise Malformed("the record has no value")
    return record.value


def _team(record: LogRecord) -> str:
    return _team_of(record.key or b"")


@lru_cache(maxsize=10_000)
def _team_of(key: bytes) -> str:
    return parse_team_id(key.decode("ascii", "replace"))


def _attributes(value: bytes) -> dict[str, Any]:
    try:
        attributes = orjson.loads(value)
    except orjson.JSONDecodeError:
        raise Malformed("event: not JSON") from None
    if not isinstance(attributes, dict):
        raise Malformed("event: not a JSON object")
    return attributes


def _agent_to(event_type: str, data: object) -> str:
    return _text(data.get("to")) if event_type == AGENT_MESSAGE and isinstance(data, dict) else ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _trace_id(record: LogRecord) -> str:
    """The trace id of a W3C traceparent (`00-<32 hex>-<16 hex>-<2 hex>`), or nothing: it only helps people to search."""
    parts = _header(record, TRACE_HEADER).split(b"-")
    return parts[1].decode("ascii", "replace") if len(parts) >= 4 and len(parts[1]) == 32 else ""
