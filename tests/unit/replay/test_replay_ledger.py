"""Reading the ledger: cursors, walks, sums."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response

from kite_common.errors import ApiError, Malformed
from kite_common.events.ledger import LedgerEntry
from kite_common.ids import TeamId
from kite_common.testing import make
from kite_replay.adapters.http.answers import answered
from kite_replay.adapters.http.ledger import page_body
from kite_replay.application.read_ledger import LedgerPage, LedgerRequest, ReadLedger
from kite_replay.domain.ledger import FoundEntry, LedgerCursor, encode, parse
from kite_replay.domain.rows import LEDGER_TABLE
from kite_replay.testing import NOW_MS, MemoryArchive, batch, ledger_rows

TEAM = TeamId("team_a")
ENTRY = "5e0f6a52-6b0c-4f0e-9d0e-0d2b6f5c8a11"


async def archive_of(amounts: list[int], team: str = TEAM) -> MemoryArchive:
    archive = MemoryArchive()
    if amounts:
        await archive.append(LEDGER_TABLE, [batch(ledger_rows(team, amounts), LEDGER_TABLE)])
    return archive


async def page(archive: MemoryArchive, cursor: str | None = None, limit: int = 100) -> LedgerPage:
    return await ReadLedger(archive)(LedgerRequest(TEAM, None if cursor is None else parse(cursor), limit))


@given(st.integers(0, (1 << 63) - 1), st.uuids().map(str))
def test_a_cursor_reads_back(offset: int, entry_id: str) -> None:
    assert parse(encode(LedgerCursor(offset, entry_id))) == LedgerCursor(offset, entry_id)


@given(st.text(max_size=60))
def test_other_texts_are_malformed_and_raise_nothing_else(text: str) -> None:
    try:
        cursor = parse(text)
    except Malformed:
        return
    assert encode(cursor) == text


@pytest.mark.parametrize(
    "text", ["", ":", f":{ENTRY}", f"-1:{ENTRY}", f"01:{ENTRY}", f"{1 << 63}:{ENTRY}", "1:x", f"1:{ENTRY}:", f"1{ENTRY}"]
)
def test_what_nobody_was_given_is_no_cursor(text: str) -> None:
    with pytest.raises(Malformed):
        parse(text)


@given(st.just([]) | st.lists(st.integers(-5, 5), max_size=40).map(lambda amounts: [500, *amounts]), st.integers(1, 7))
async def test_a_walk_shows_every_entry_that_moved_money_once_newest_first(amounts: list[int], limit: int) -> None:
    archive, cursor = await archive_of(amounts), None
    seen: list[FoundEntry] = []
    while True:
        found = await page(archive, cursor, limit)
        assert len(found.entries) <= limit
        seen += found.entries
        cursor = found.next_cursor
        assert found.has_more == (cursor is not None)
        if cursor is None:
            break
    assert [one.offset // 2 for one in seen] == [place for place in reversed(range(len(amounts))) if amounts[place]]


async def test_what_is_entered_meanwhile_does_not_move_a_walk() -> None:
    archive = await archive_of([1, 2, 3])
    first = await page(archive, limit=2)
    await archive.append(LEDGER_TABLE, [batch(ledger_rows(TEAM, [9], first=100), LEDGER_TABLE)])
    assert [one.offset for one in (await page(archive, first.next_cursor, 2)).entries] == [0]


@pytest.mark.parametrize("cursor", [f"2:{ENTRY}", f"3:{ENTRY}", f"999:{ENTRY}"])
async def test_a_cursor_that_names_no_entry_of_the_team_is_invalid(cursor: str) -> None:
    with pytest.raises(ApiError, match="invalid_cursor"):
        await page(await archive_of([1, 2, 3]), cursor)


async def test_another_teams_cursor_is_invalid() -> None:
    archive = await archive_of([1, 2], team="team_b")
    (row, _) = ledger_rows("team_b", [1, 2])
    with pytest.raises(ApiError, match="invalid_cursor"):
        await page(archive, encode(LedgerCursor(row.log_offset, row.entry_id)))


def test_an_entry_is_written_as_the_contract_says() -> None:
    asset, payer = "0x036CbD53842c5426634e7929541eC2318f3dCF7e", "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
    reference = {"network": "eip155:84532", "asset": asset.lower(), "payer": payer.lower(), "transaction": "0xc"}
    entry = make.ledger_entry(entry="credit", reason="deposit", amount_atomic=5, event_id=None, payment=make.payment(**reference))
    assert _body(entry) == (
        b'{"entries":[{"id":"%b","created_at":"2026-05-01T12:00:00.000Z","kind":"credit","reason":"deposit","amount_atomic":5,'
        b'"balance_after_atomic":999900,"event_id":null,"payment":{"network":"eip155:84532","asset":"%b","payer":"%b",'
        b'"transaction":"0xc"}}],"next_cursor":null,"has_more":false}' % (entry.id.encode(), asset.encode(), payer.encode())
    )


@pytest.mark.parametrize(("reason", "event_id"), [("event", make.EVENT_ID), ("replay", None)])
def test_only_charges_of_events_name_one(reason: str, event_id: str | None) -> None:
    [entry] = orjson.loads(_body(make.ledger_entry(reason=reason)))["entries"]
    assert (entry["reason"], entry["event_id"]) == (reason, event_id)


async def test_an_entry_of_a_newer_version_is_no_answer_yet() -> None:
    fact = orjson.dumps(orjson.loads(make.ledger_entry().to_json()) | {"v": 99})

    async def answer(_request: Request, _limits: dict[str, str]) -> Response:
        return Response(page_body(LedgerPage((FoundEntry(7, ENTRY, NOW_MS, fact),), None)))

    answered_with = await answered(Request({"type": "http"}), answer)
    assert (answered_with.status_code, orjson.loads(answered_with.body)["error"]) == (503, "service_unavailable")
    assert answered_with.headers["retry-after"] == "1"


def _body(entry: LedgerEntry) -> bytes:
    return page_body(LedgerPage((FoundEntry(7, entry.id, NOW_MS, entry.to_json()),), None))
