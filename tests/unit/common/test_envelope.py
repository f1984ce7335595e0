"""CloudEvents as stored and as read: bytes are kept, kiteseq is spliced in."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kite_common.errors import Malformed
from kite_common.events.agent_message import AgentMessage, to_event
from kite_common.events.envelope import read_stored, with_kiteseq
from kite_common.money import UNLIMITED
from kite_common.testing import make, strategies

seqs = st.integers(0, UNLIMITED)


@given(st.dictionaries(strategies.texts.filter(lambda name: name != "kiteseq"), strategies.json_values, min_size=1), seqs)
def test_kiteseq_is_one_more_attribute_and_nothing_else_changes(attributes: dict[str, Any], seq: int) -> None:
    stored = orjson.dumps(attributes, option=orjson.OPT_NON_STR_KEYS)
    spliced = with_kiteseq(stored, seq)
    assert orjson.loads(spliced) == orjson.loads(stored) | {"kiteseq": seq}
    assert spliced.startswith(stored[:-1])


@given(st.binary(max_size=20), seqs)
def test_splicing_takes_what_ends_like_an_object_and_refuses_the_rest(stored: bytes, seq: int) -> None:
    try:
        assert with_kiteseq(stored, seq).endswith(b'"kiteseq":%d}' % seq)
    except Malformed:
        assert not stored.endswith(b"}") or len(stored) < 3


@pytest.mark.parametrize("stored", [b"", b"{}", b"[]", b"{", b"null", b'{"a":1} ', b'{"a":1}\n'])
def test_what_is_no_object_with_members_gets_no_kiteseq(stored: bytes) -> None:
    with pytest.raises(Malformed):
        with_kiteseq(stored, 1)


@given(strategies.agent_messages(), strategies.event_ids(), st.integers(0, 253_402_300_799_999), seqs)
def test_every_message_can_be_stored_and_read(message: AgentMessage, event_id: Any, received_ms: int, seq: int) -> None:
    stored = to_event(message, event_id, received_ms)
    event = read_stored(stored, seq)
    assert (event.event_id, event.type) == (event_id, "com.kite.agent.message")
    assert event.body == with_kiteseq(stored, seq)
    assert orjson.loads(event.body)["data"] == message.data()


def test_two_readers_see_the_same_bytes() -> None:
    assert read_stored(make.event(), 7).body == read_stored(make.event(), 7).body


@given(st.binary(max_size=200) | strategies.json_values.map(lambda value: orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)), seqs)
def test_any_bytes_are_an_event_or_malformed(stored: bytes, seq: int) -> None:
    with pytest.raises(Malformed):
        read_stored(stored, seq)


@pytest.mark.parametrize("name", ["kiteid", "type", "source", "time"])
@pytest.mark.parametrize("value", [None, "", 5, ["x"], {}])
def test_an_event_without_what_readers_route_by_is_malformed(name: str, value: Any) -> None:
    with pytest.raises(Malformed):
        read_stored(orjson.dumps(orjson.loads(make.event()) | {name: value}), 1)
