"""For tests: records as the log would hold them, and the rows made of them."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from kite_common.events.codec import EVENT_RECORD, RECORD_HEADER, encode
from kite_common.ids import EventId, TeamId, uuid7
from kite_common.log_position import kiteseq
from kite_common.testing import make
from kite_common.topics import EVENTS
from kite_replay.domain import scopes
from kite_replay.domain.deliveries import DeliveryFact
from kite_replay.domain.filters import NONE, Filters
from kite_replay.domain.query import EventQuery
from kite_replay.domain.rows import (
    EVENTS_TABLE,
    Batch,
    DeliveryRow,
    EventRow,
    LedgerRow,
    Row,
    Table,
    size_of,
)

# A day of the second half of a month, so that a test that adds hours stays inside the month.
NOW_MS = 1_777_636_800_000


_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class ReadRecord:
    """A record as a consumer hands it over."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


def event_record(
    offset: int, *, partition: int = 0, at_ms: int = NOW_MS, team: str = make.TEAM, body: str = "hi", to: str = "builder"
) -> ReadRecord:
    """An agent message in kite.events; its event id follows from team, partition and offset."""
    event = make.event(make.agent_message(body=body, to=to), event_id=event_id(offset, partition, team), received_ms=at_ms)
    return ReadRecord(EVENTS.name, partition, offset, at_ms, team.encode(), event, ((RECORD_HEADER, EVENT_RECORD),))


def usage_record(offset: int, *, partition: int = 0, at_ms: int = NOW_MS, team: str = make.TEAM) -> ReadRecord:
    """The usage record that stands beside an event."""
    record = encode(make.usage(team_id=team))
    return ReadRecord(EVENTS.name, partition, offset, at_ms, record.key, record.value, record.headers)


def bad_record(offset: int, *, partition: int = 0, at_ms: int = NOW_MS) -> ReadRecord:
    """An event that is no JSON."""
    return ReadRecord(EVENTS.name, partition, offset, at_ms, b"team_1", b"{broken", ((RECORD_HEADER, EVENT_RECORD),))


def event_id(offset: int, partition: int = 0, team: str = make.TEAM) -> EventId:
    """The event id of `event_record` with the same arguments."""
    return uuid7(NOW_MS, uuid.uuid5(uuid.NAMESPACE_OID, f"{team}/{partition}/{offset}").int)


def event_rows(
    team: str, offsets: Sequence[int], *, partition: int = 0, at_ms: int = NOW_MS, body: bytes = b'{"data":1}'
) -> list[EventRow]:
    """Rows of one partition, all appended at `at_ms`."""
    return [
        EventRow(
            team, at_ms, kiteseq(offset, partition), partition, offset, event_id(offset, partition, team), "com.kite.agent.message",
            "https://getkite.sh/agents/planner", "", "builder", "", body,
        )
        for offset in offsets
    ]  # fmt: skip


def batch(rows: Sequence[Row], table: Table = EVENTS_TABLE) -> Batch:
    """A batch of rows of one partition."""
    return Batch(table, rows[0].partition, rows, sum(map(size_of, rows)))


def ledger_rows(team: str, amounts: Sequence[int], *, partition: int = 0, at_ms: int = NOW_MS, first: int = 0) -> list[LedgerRow]:
    """Entries of these amounts, one at every second offset from `first`, as debits and credits of one wallet."""
    rows: list[LedgerRow] = []
    balance = 0
    for number, amount in enumerate(amounts):
        balance += amount
        entry = make.ledger_entry(
            team_id=team, id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"{team}/{first + number}")), amount_atomic=amount,
            balance_after_atomic=balance, entry="credit" if amount > 0 else "debit", reason="deposit" if amount > 0 else "event",
        )  # fmt: skip
        offset = first + 2 * number
        rows.append(LedgerRow(team, at_ms + number, partition, offset, entry.id, amount, entry.event_id or "", entry.to_json()))
    return rows


def query(
    team: str, *, from_ms: int = 0, after_seq: int | None = None, key_scopes: Sequence[str] = ("*",), limit: int = 1000,
    wanted: Filters = NONE,
) -> EventQuery:  # fmt: skip
    """A query; by default for everything a team has."""
    return EventQuery(TeamId(team), from_ms, after_seq, scopes.parse(key_scopes), limit, wanted)


def delivery_rows(*facts: DeliveryFact, first: int = 0, partition: int = 0, at_ms: int = NOW_MS) -> list[DeliveryRow]:
    """Facts about deliveries as rows, one at every offset from `first`, a second apart."""
    return [
        DeliveryRow(
            fact.team_id, at_ms + 1_000 * number, partition, first + number, fact.kind, fact.delivery_id, fact.event_id, fact.kiteseq,
            fact.status, fact.to_json(),
        )
        for number, fact in enumerate(facts)
    ]  # fmt: skip
