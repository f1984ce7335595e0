"""Log records to archive rows, and the times they get."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kite_common.errors import Malformed
from kite_common.events.codec import encode
from kite_common.log_position import kiteseq
from kite_common.testing import make
from kite_common.topics import DELIVERIES, LEDGER
from kite_replay.domain.rows import DELIVERIES_TABLE, EVENTS_TABLE, LEDGER_TABLE, Batch, EventRow, event_row, to_rows
from kite_replay.testing import NOW_MS, ReadRecord, bad_record, event_id, event_record, usage_record


def test_an_event_row_holds_the_exact_event_with_its_kiteseq() -> None:
    record = event_record(4711, partition=3, body="é \U0001f41d")
    row = event_row(record, NOW_MS)
    assert row is not None
    assert record.value is not None
    assert row.body == record.value[:-1] + b',"kiteseq":%d}' % kiteseq(4711, 3)
    assert orjson.loads(row.body)["kiteseq"] == row.kiteseq


def test_an_event_row_holds_what_readers_filter_by() -> None:
    row = event_row(event_record(2, team="team_1", to="agent-alpha"), NOW_MS)
    assert row is not None
    assert (row.team_id, row.type, row.agent_to, row.slug) == ("team_1", "com.kite.agent.message", "agent-alpha", "")
    assert row.event_id == event_id(2, team="team_1")


def test_a_hook_event_is_filed_under_its_slug_and_addresses_no_agent() -> None:
    value = orjson.dumps({"kiteid": event_id(1), "type": "com.github.push", "source": "s", "kitesource": "github", "data": {"to": "x"}})
    row = event_row(_with(event_record(1), value=value), NOW_MS)
    assert row is not None
    assert (row.slug, row.agent_to) == ("github", "")


def test_the_trace_of_an_event_is_kept() -> None:
    record = event_record(1)
    traced = _with(record, headers=(*record.headers, ("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")))
    row = event_row(traced, NOW_MS)
    assert row is not None
    assert row.trace_id == "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize("traceparent", [b"", b"garbage", b"00-short-x-01", b"\xff\xfe-\xff"])
def test_a_broken_trace_is_dropped_not_the_event(traceparent: bytes) -> None:
    record = event_record(1)
    row = event_row(_with(record, headers=(*record.headers, ("traceparent", traceparent))), NOW_MS)
    assert row is not None
    assert row.trace_id == ""


def test_a_usage_record_gets_no_row_and_is_not_bad() -> None:
    assert to_rows(EVENTS_TABLE, [usage_record(1)], 0) == ([], [])


@pytest.mark.parametrize(
    "broken",
    [
        {"value": None}, {"value": b""}, {"value": b"[]"}, {"value": b"{}"}, {"value": b"\xff"},
        {"key": None}, {"key": b""}, {"key": b"a b"}, {"headers": ()}, {"headers": (("kite-record", b"ledger-entry"),)},
        {"value": b'{"kiteid":"not-a-uuid","type":"t","source":"s"}'}, {"value": b'{"kiteid":1,"type":"t","source":"s"}'},
    ],
)  # fmt: skip
def test_what_is_no_event_is_set_aside_with_a_reason(broken: dict[str, object]) -> None:
    record = _with(event_record(1), **broken)
    with pytest.raises(Malformed):
        event_row(record, NOW_MS)
    rows, bad = to_rows(EVENTS_TABLE, [record], 0)
    assert rows == []
    assert bad[0].record is record
    assert bad[0].reason


@given(st.binary(max_size=60))
def test_any_bytes_make_a_row_or_are_set_aside(value: bytes) -> None:
    rows, bad = to_rows(EVENTS_TABLE, [_with(event_record(1), value=value)], 0)
    assert len(rows) + len(bad) == 1


@given(st.lists(st.tuples(st.integers(0, 1 << 45), st.sampled_from("eub")), max_size=30), st.integers(0, 1 << 45))
def test_times_never_decrease_and_are_never_before_the_append(drawn: list[tuple[int, str]], start_ms: int) -> None:
    makers = {"e": event_record, "u": usage_record, "b": bad_record}
    records = [makers[kind](offset, at_ms=at_ms) for offset, (at_ms, kind) in enumerate(drawn)]
    rows, _ = to_rows(EVENTS_TABLE, records, start_ms)
    times = [row.created_at for row in rows]
    assert times == sorted(times)
    assert all(start_ms <= row.created_at >= drawn[row.log_offset][0] for row in rows)


@given(st.lists(st.tuples(st.integers(0, 100), st.sampled_from("eub")), min_size=1, max_size=30), st.data())
def test_whoever_goes_on_from_the_last_row_makes_the_same_rows(drawn: list[tuple[int, str]], data: st.DataObject) -> None:
    makers = {"e": event_record, "u": usage_record, "b": bad_record}
    records = [makers[kind](offset, at_ms=at_ms) for offset, (at_ms, kind) in enumerate(drawn)]
    rows, _ = to_rows(EVENTS_TABLE, records, 0)
    stored = rows[: data.draw(st.integers(0, len(rows)))]
    after, created_ms = (stored[-1].log_offset + 1, stored[-1].created_at) if stored else (0, 0)
    rest, _ = to_rows(EVENTS_TABLE, records[after:], created_ms)
    assert [*stored, *rest] == rows


def test_deliveries_and_ledger_entries_keep_their_exact_json() -> None:
    for table, topic, facts in (
        (DELIVERIES_TABLE, DELIVERIES.name, [make.delivery_attempted(), make.delivery_concluded()]),
        (LEDGER_TABLE, LEDGER.name, [make.ledger_entry()]),
    ):
        for fact in facts:
            record = encode(fact)
            rows, bad = to_rows(table, [ReadRecord(topic, 1, 5, NOW_MS, record.key, record.value, record.headers)], 0)
            assert not bad
            assert rows[0][-1] == record.value
            assert (rows[0].log_offset, rows[0].partition, rows[0].team_id) == (5, 1, make.TEAM)


def test_a_foreign_fact_is_set_aside() -> None:
    record = encode(make.ledger_entry())
    _, bad = to_rows(DELIVERIES_TABLE, [ReadRecord(DELIVERIES.name, 1, 5, NOW_MS, record.key, record.value, record.headers)], 0)
    assert bad[0].reason == "ledger-entry: not a fact about a delivery"


def test_the_columns_of_a_table_are_the_fields_of_its_rows() -> None:
    assert EVENTS_TABLE.columns == EventRow._fields


def test_a_span_names_partition_and_offsets() -> None:
    rows, _ = to_rows(EVENTS_TABLE, [event_record(4, partition=2), usage_record(5, partition=2), event_record(6, partition=2)], 0)
    assert Batch(EVENTS_TABLE, 2, rows, 0).span == "2:4-6"


def _with(record: ReadRecord, **given: object) -> ReadRecord:
    fields = {name: getattr(record, name) for name in ("topic", "partition", "offset", "timestamp_ms", "key", "value", "headers")}
    return ReadRecord(**(fields | given))
