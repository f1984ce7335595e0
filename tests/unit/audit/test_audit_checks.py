"""The parts of the audit that are no partition: ids, payments against their records and the chain, findings added up, `--since`."""

from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from kite_cli.admin.audit import payments
from kite_cli.admin.audit.charges import Charges, Usage
from kite_cli.admin.audit.findings import CHECKS, Findings, plain
from kite_cli.admin.audit.payments import Moved, OnChain, Recorded
from kite_cli.admin.audit.records import Place
from kite_cli.admin.audit.run import Report
from kite_cli.admin.audit.table import shown
from kite_cli.admin.audit.unique_ids import UniqueIds
from kite_cli.commands.audit import since_of
from kite_common.ids import EventId, ledger_entry_of_event, uuid7
from support.audit_world import violated

KEY, OTHER = b"k" * 16, b"o" * 16


def id_of(number: int) -> str:
    return uuid7(1_700_000_000_000 + number, number)


def test_ids_beyond_what_memory_holds_are_found_where_they_stand(tmp_path: Path) -> None:
    ids = UniqueIds(tmp_path, "ids")
    for number in range(200_000):
        ids.add(id_of(number), number)
    assert list(tmp_path.iterdir()), "so many go to files"
    ids.add(id_of(17), 200_000)
    ids.add("no uuid", 1)
    ids.add("no uuid", 2)
    found = list(ids.doubled())
    assert (id_of(17), 17, 200_000) in found
    assert [(first, again) for _, first, again in found if first == 1] == [(1, 2)]
    assert len(found) == 2
    assert not list(tmp_path.iterdir()), "and leave none behind"


@given(st.lists(st.integers(0, 30)))
def test_exactly_the_ids_that_stand_again_are_found(numbers: list[int]) -> None:
    ids = UniqueIds(Path("/nowhere"), "few")
    for offset, number in enumerate(numbers):
        ids.add(id_of(number), offset)
    assert len(list(ids.doubled())) == len(numbers) - len(set(numbers))


def charges() -> tuple[Findings, Charges]:
    found = Findings()
    return found, Charges(found, Place("events", 0), Place("ledger", 0), partial=False)


def entry_of(number: int) -> dict[str, object]:
    return {
        "team_id": "t", "id": ledger_entry_of_event(EventId(id_of(number))), "entry": "debit", "reason": "event", "contra": "revenue",
        "amount_atomic": -5, "quantity": 1, "event_id": id_of(number), "occurred_at": number,
    }  # fmt: skip


@given(st.permutations(range(12)), st.lists(st.integers(0, 11), max_size=3, unique=True))
def test_each_usage_without_an_entry_is_named_whatever_the_order(order: list[int], missing: list[int]) -> None:
    found, join = charges()
    for number in range(12):
        join.usage(Usage(id_of(number), number, number, "t", "message", 1, 5))
    for place, number in enumerate(one for one in order if one not in missing):
        join.entry(place, entry_of(number))
    join.finish(100)
    without = {one.position for one in found.kept["charged"] if "no ledger entry" in one.detail}
    assert without == {f"events-0@{number}" for number in missing}
    in_order = [one for one in order if one not in missing]
    assert (not found.violated["charged"]) == (not missing and in_order == sorted(in_order))


def test_more_that_is_out_of_order_than_the_window_holds_is_still_counted() -> None:
    found, join = charges()
    for number in range(60_000):
        join.usage(Usage(id_of(number), number, number, "t", "message", 1, 5))
    join.entry(0, entry_of(59_999))
    join.finish(100_000)
    assert found.violated["charged"] == 59_999
    assert len(found.kept["charged"]) == found.keep


def recorded(value: int, *, credited: bool = True, in_flight: bool = False, key: bytes = KEY) -> Recorded:
    return Recorded(key, "pay_x", value, credited, in_flight)


def moved(amount: int, seq: int = 1, key: bytes = KEY) -> Moved:
    return Moved(key, seq, amount, "team", "kite.ledger-0@1")


@pytest.mark.parametrize(("entries", "records", "chain", "wrong"), [
    ([moved(5)], [recorded(5)], None, False),
    ([moved(5)], [recorded(5)], OnChain(5, 5), False),
    ([moved(5), moved(-5, 2), moved(5, 3)], [recorded(5)], OnChain(5, 5), False),
    ([moved(5), moved(-5, 2)], [recorded(5, credited=False)], OnChain(0, 0), False),
    ([moved(5), moved(5)], [recorded(5)], None, True),
    ([moved(5), moved(5, 2)], [recorded(5)], None, True),
    ([moved(4)], [recorded(5)], None, True),
    ([], [recorded(5)], None, True),
    ([moved(5)], [], None, True),
    ([moved(5)], [recorded(5, credited=False)], None, True),
    ([moved(5)], [recorded(5)], OnChain(4, 4), True),
    ([moved(5)], [recorded(5)], OnChain(6, 6), True),
    # What is under way explains the difference, but only as far as it goes.
    ([], [recorded(5, credited=False, in_flight=True)], OnChain(5, 5), False),
    ([], [recorded(5, credited=False, in_flight=True)], OnChain(6, 6), True),
    ([moved(5)], [recorded(5, credited=False, in_flight=True)], OnChain(5, 5), False),
    # It came in while the log was read.
    ([moved(5)], [recorded(5)], OnChain(0, 5), False),
    ([moved(5)], [recorded(5)], OnChain(5, 9), False),
])  # fmt: skip
def test_credits_are_what_records_and_chain_say(
    entries: list[Moved], records: list[Recorded], chain: OnChain | None, wrong: bool
) -> None:  # fmt: skip
    found = Findings()
    payments.compare(found, entries, records, chain)
    assert violated(found) == ({"payments"} if wrong else set())


def test_findings_of_partitions_add_up_and_keep_only_the_first() -> None:
    total = Findings(keep=3)
    for partition in range(4):
        one = Findings(keep=3)
        one.checked["charged"] += 5
        for number in range(2):
            one.violation("charged", "team", f"kite.ledger-{partition}@{number}", "wrong")
        one.note("redis", "the same note")
        one.count("dead_letters", "delivery: gone", 2)
        one.under_way("reservations")
        total.add(plain(one))
    report = Report(total, records=40, seconds=2.0)
    document = report.to_json()
    assert not document["ok"]
    assert [check["name"] for check in document["checks"]] == list(CHECKS)
    charged = next(check for check in document["checks"] if check["name"] == "charged")
    assert (charged["checked"], charged["violations"]) == (20, 8)
    assert len(document["violations"]) == 3
    assert document["in_flight"] == {"reservations": 4}
    assert total.note_of("redis") == "the same note"
    assert total.note_of("dead_letters") == "8 delivery: gone"
    assert any("and 5 more" in str(part) for part in shown(report))


@pytest.mark.parametrize("text", ["yesterday", "24", "1w", "-5h"])
def test_a_since_nobody_understands_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        since_of(text)


def test_since_is_a_duration_or_a_time() -> None:
    assert since_of(None) is None
    assert since_of("2026-11-26T10:00:00Z") == 1_795_687_200_000
    assert since_of("2026-11-26T10:00:00") == 1_795_687_200_000
    day, hour = since_of("1d"), since_of("24h")
    assert day is not None
    assert hour is not None
    assert abs(day - hour) < 60_000
