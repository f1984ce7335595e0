"""Cursors of GET /events: wire contract, 3.1."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kite_common.errors import Malformed
from kite_common.ids import EventId
from kite_common.testing import strategies
from kite_replay.domain.cursor import Cursor, encode, parse, timestamp

EVENT = EventId("01900000-0000-7000-8000-000000000001")
AT_MS = 1_777_293_296_789  # 2026-04-27 12:34:56.789

# From year 1 to 9999, as a timestamp can be written.
times = st.integers(-62_135_596_800_000, 253_402_300_799_999)
cursors = st.builds(Cursor, times, st.none() | strategies.event_ids())


@given(cursors)
@example(Cursor(0)).via("a year of four digits")
@example(Cursor(-62_135_596_800_000)).via("year 1 is written 0001")
def test_what_is_encoded_parses_to_the_same_cursor(cursor: Cursor) -> None:
    assert parse(encode(cursor)) == cursor


nearly_cursors = st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ T+][0-9:]{0,9}[.0-9]{0,12}Z?(:[0-9a-f-]{30,40})?", fullmatch=True)


@given(st.text(max_size=80) | nearly_cursors)
def test_any_text_is_a_cursor_or_malformed_and_nothing_else(text: str) -> None:
    try:
        cursor = parse(text)
    except Malformed:
        return
    assert parse(encode(cursor)) == cursor


@given(times, times)
def test_timestamps_sort_as_their_times_do(one: int, other: int) -> None:
    assert (timestamp(one) < timestamp(other)) == (one < other)


@pytest.mark.parametrize(
    "text",
    [
        "2026-04-27 12:34:56.789",
        "2026-04-27T12:34:56.789",
        "2026-04-27+12:34:56.789",
        "2026-04-27T12:34:56.789Z",
        "2026-04-27 12:34:56.789Z",
        "2026-04-27 12:34:56.789999999",
        "2026-04-27T12:34:56.7890Z",
    ],
)
def test_every_form_of_a_timestamp_is_the_same_time(text: str) -> None:
    assert parse(text) == Cursor(AT_MS)
    assert parse(f"{text}:{EVENT}") == Cursor(AT_MS, EVENT)


@pytest.mark.parametrize(("fraction", "cut_ms"), [("", 0), (".", 0), (".7", 700), (".78", 780), (".7899", 789), (".000999999", 0)])
def test_a_fraction_is_cut_to_milliseconds(fraction: str, cut_ms: int) -> None:
    assert parse(f"2026-04-27 12:34:56{fraction}").created_ms == AT_MS - 789 + cut_ms


def test_an_event_id_is_told_from_seconds_by_its_form_and_comes_out_in_lower_case() -> None:
    assert parse("2026-04-27 12:34:56").event_id is None
    assert parse(f"2026-04-27 12:34:56:{EVENT.upper()}").event_id == EVENT


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "x", "0", "1777293296789", "2026-04-27", "12:34:56", "2026-04-27 12:34", "2026-04-27 12:34:56,789", "2026-04-27  12:34:56",
        "2026-04-27 12:34:56+00:00", "2026-04-27 12:34:56-07:00", "2026-04-27 12:34:56z", "2026-04-27t12:34:56", "2026-13-27 12:34:56",
        "2026-02-30 12:34:56", "2026-04-27 24:00:00", "2026-04-27 12:34:60", "0000-01-01 00:00:00", "2026-04-27 12:34:56.1234567890",
        "\u0662\u0660\u0662\u0666-04-27 12:34:56", "2026-04-27 12:34:56\n", f":{EVENT}", f"{EVENT}", f"2026-04-27 12:34:56{EVENT}",
        f"2026-04-27 12:34:56: {EVENT}", "2026-04-27 12:34:56:not-a-uuid", f"2026-04-27 12:34:56:{EVENT}:", "2026-04-27 12:34:56:",
        "2026-04-27 12:34:56" + "0" * 10_000,
    ],
)  # fmt: skip
def test_anything_else_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        parse(text)
