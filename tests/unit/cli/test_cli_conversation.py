"""Messages and events as lines for people."""

from typing import Any

import pytest

from kite_cli.conversation import Draft, event_line, more_line, sent_line
from kite_cli.failure import CommandFailed

ROW: dict[str, Any] = {
    "event_id": "0199", "created_at": "2026-04-30 10:00:00.000",
    "event": {"type": "com.kite.agent.message", "data": {"from": "ci", "to": "planner", "body": "green"}},
}  # fmt: skip


def answer(limit: int) -> dict[str, Any]:
    usage = {"events_used": 1_234, "events_limit": limit, "amount_charged_atomic": 100, "amount_charged_sats": 100}
    return {"id": "0199", "created_at": "", "from": "ci", "to": "planner", "usage": usage}


def test_an_event_is_one_line() -> None:
    assert event_line(ROW) == "2026-04-30 10:00:00.000  0199  ci -> planner: green"


def test_an_event_of_another_type_is_shown_with_its_data() -> None:
    row = ROW | {"event": {"type": "com.github.push", "data": {"ref": "main"}}}
    assert event_line(row).endswith('com.github.push  {"ref":"main"}')


def test_a_body_cannot_break_out_of_its_line() -> None:
    row = ROW | {"event": {"type": "com.kite.agent.message", "data": {"from": "a\r", "to": "b", "body": "1\n\x1b]0;owned\x07"}}}
    assert event_line(row).isprintable()


def test_an_event_nobody_can_read_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(CommandFailed, match="--json"):
        event_line(ROW | {"event": {"type": "com.kite.agent.message", "data": "text"}})


@pytest.mark.parametrize(("limit", "text"), [(100_000, "event 1,234 of 100,000"), (9_007_199_254_740_991, "event 1,234 of unlimited")])
def test_an_accepted_message_says_what_it_cost(limit: int, text: str) -> None:
    assert sent_line(answer(limit)) == f"accepted  0199  ci -> planner  (0.0001 USDC, {text})"


def test_where_to_go_on_can_be_pasted_into_a_shell() -> None:
    assert more_line("2026-04-30 10:00:00.000:0199").endswith('kitectl events --since "2026-04-30 10:00:00.000:0199"')


def test_what_was_not_given_is_left_out_of_the_request() -> None:
    assert Draft("a", "b", "").to_json() == {"from": "a", "to": "b", "body": ""}
    assert Draft("a", "b", "c", "t", "r").to_json() == {"from": "a", "to": "b", "body": "c", "thread_id": "t", "reply_to_id": "r"}
