"""`com.kite.agent.message`: the CloudEvent of a message and its one-line summary (wire contract, 9.1, 9.3, 9.4)."""

import unicodedata

import orjson
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from hypothesis import given

from kite_common.events.agent_message import AgentMessage, summary, to_event
from kite_common.events.envelope import CONTENT_TYPE, with_kiteseq
from kite_common.ids import EventId
from kite_common.testing import make, strategies


def test_a_short_message_is_summed_up_whole() -> None:
    assert summary(make.agent_message(body="hi")) == "[agent msg] planner → builder: hi"


def test_a_body_of_80_characters_stays_whole_and_one_of_81_is_cut_with_an_ellipsis() -> None:
    assert summary(make.agent_message(body="é" * 80)).endswith(": " + "é" * 80)
    assert summary(make.agent_message(body="é" * 81)).endswith(": " + "é" * 80 + "…")


def test_characters_are_counted_not_bytes() -> None:
    assert summary(make.agent_message(body="🪁" * 80)).endswith("🪁" * 80)


def test_line_breaks_become_spaces() -> None:
    assert summary(make.agent_message(body="a\nb\r\nc\u2028d")) == "[agent msg] planner → builder: a b  c d"


@given(strategies.agent_messages())
def test_a_summary_is_one_line_of_at_most_200_characters_without_controls(message: AgentMessage) -> None:
    line = summary(message)
    assert line.startswith("[agent msg] ")
    assert 0 < len(line) <= 200
    assert len(line.splitlines()) == 1
    assert not any(unicodedata.category(character) == "Cc" for character in line)


@given(strategies.agent_messages(), strategies.event_ids())
def test_the_event_has_the_attributes_of_the_wire_contract(message: AgentMessage, event_id: EventId) -> None:
    event = orjson.loads(to_event(message, event_id, make.NOW_MS))
    assert event.pop("data") == message.data()
    assert event.pop("source").startswith("https://getkite.sh/agents/")
    assert event == {
        "specversion": "1.0", "id": event_id, "kiteid": event_id, "type": "com.kite.agent.message", "time": "2026-04-30T10:00:00.000Z",
        "datacontenttype": "application/json", "kitesummary": summary(message),
    }  # fmt: skip


@given(strategies.agent_messages(), strategies.event_ids())
def test_the_cloudevents_library_parses_every_event(message: AgentMessage, event_id: EventId) -> None:
    body = with_kiteseq(to_event(message, event_id, make.NOW_MS), 4711)
    parsed = from_http_event(HTTPMessage(headers={"content-type": CONTENT_TYPE}, body=body))
    assert (parsed.get_id(), parsed.get_type(), parsed.get_extension("kiteseq")) == (event_id, "com.kite.agent.message", 4711)
    assert parsed.get_data() == message.data()


def test_absent_fields_are_left_out_of_the_data() -> None:
    assert make.agent_message().data() == {"from": "planner", "to": "builder", "body": "Please build the release."}
    assert make.agent_message(thread_id="t", reply_to_id="").data()["reply_to_id"] == ""


def test_the_source_is_percent_encoded() -> None:
    event = orjson.loads(make.event(make.agent_message(from_="a/b c?ü")))
    assert event["source"] == "https://getkite.sh/agents/a%2Fb%20c%3F%C3%BC"
