"""Golden examples: every kind has some, every consumer's codec reads them, and what is read is written again the same."""

from pathlib import Path
from typing import Any, Final

import orjson
import pytest

from kite_common.events import agent_message, codec
from kite_common.events.agent_message import AgentMessage
from kite_common.events.codec import RECORD_HEADER
from kite_common.events.envelope import read_stored
from kite_common.events.registry import LATEST
from kite_common.ids import EventId

EXAMPLES: Final = Path(__file__).resolve().parents[2] / "contracts" / "examples"
FACTS: Final = sorted(path for path in EXAMPLES.glob("*/v*/*.json") if path.parts[-3] in LATEST)
EVENTS: Final = sorted((EXAMPLES / agent_message.TYPE).glob("v*/*.json"))


def _name(path: Path) -> str:
    return str(path.relative_to(EXAMPLES))


def test_every_kind_has_examples_of_every_version_and_no_other_kind_has_any() -> None:
    expected = {(kind, f"v{version}") for kind, fact in LATEST.items() for version in range(1, fact.version + 1)}
    found = {(path.parts[-3], path.parts[-2]) for path in EXAMPLES.glob("*/*/*.json")}
    assert found == expected | {(agent_message.TYPE, "v1")}


@pytest.mark.parametrize("path", FACTS, ids=_name)
def test_an_example_decodes_and_the_newest_version_encodes_to_the_same_json(path: Path) -> None:
    kind, version, payload = path.parts[-3], int(path.parts[-2][1:]), path.read_bytes()
    fact = codec.decode(((RECORD_HEADER, kind.encode()),), payload)
    assert type(fact) is LATEST[kind]
    assert orjson.loads(payload)["v"] == version
    if version == fact.version:
        assert _restricted(orjson.loads(codec.encode(fact).value), orjson.loads(payload)) == orjson.loads(payload)


def _restricted(written: Any, example: Any) -> Any:
    """What was written without the fields that came after the example: what they say of it is their default."""
    if isinstance(written, dict) and isinstance(example, dict):
        return {name: _restricted(value, example[name]) for name, value in written.items() if name in example}
    return written


@pytest.mark.parametrize("path", EVENTS, ids=_name)
def test_a_stored_event_is_read_and_written_from_its_message_to_the_same_json(path: Path) -> None:
    stored = path.read_bytes().rstrip()
    attributes = orjson.loads(stored)
    event = read_stored(stored, 4711)
    assert orjson.loads(event.body) == attributes | {"kiteseq": 4711}
    data = attributes["data"]
    message = AgentMessage(data["from"], data["to"], data["body"], data.get("thread_id"), data.get("reply_to_id"))
    received_ms = 1_777_543_200_000
    assert orjson.loads(agent_message.to_event(message, EventId(event.event_id), received_ms)) == attributes


@pytest.mark.parametrize("path", [*FACTS, *EVENTS], ids=_name)
def test_an_example_is_written_for_people(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert len(text.splitlines()) > 3
    assert "\\u" not in text
