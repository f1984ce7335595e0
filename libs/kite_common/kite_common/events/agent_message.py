"""`com.kite.agent.message` v1: from, to, body, thread_id, reply_to_id. No price, no delivery state."""

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

import orjson

from kite_common.clock import rfc3339
from kite_common.events.summary import one_line
from kite_common.ids import EventId

TYPE: Final = "com.kite.agent.message"
_BODY_LIMIT: Final = 80


@dataclass(frozen=True, slots=True)
class AgentMessage:
    """What one agent tells another. Field names with `from_` stand for the JSON name `from`."""

    from_: str
    to: str
    body: str
    thread_id: str | None = None
    reply_to_id: str | None = None

    def data(self) -> dict[str, str]:
        """The event's `data`: optional fields are left out when absent, never null (wire contract, 9.4)."""
        data = {"from": self.from_, "to": self.to, "body": self.body}
        if self.thread_id is not None:
            data["thread_id"] = self.thread_id
        if self.reply_to_id is not None:
            data["reply_to_id"] = self.reply_to_id
        return data


def to_event(message: AgentMessage, event_id: EventId, received_ms: int) -> bytes:
    """The stored CloudEvent of a message: JSON bytes, without kiteseq (wire contract, 9.1 and 9.3)."""
    return orjson.dumps({
        "specversion": "1.0",
        "id": event_id,
        "source": source_of(message.from_),
        "type": TYPE,
        "time": rfc3339(received_ms),
        "datacontenttype": "application/json",
        "data": message.data(),
        "kiteid": event_id,
        "kitesummary": summary(message),
    })  # fmt: skip


def source_of(agent_id: str) -> str:
    """The `source` of messages that this agent sends: no two agents have the same."""
    return "https://getkite.sh/agents/" + quote(agent_id, safe="")


def summary(message: AgentMessage) -> str:
    """`[agent msg] {from} → {to}: {body}` on one line, at most 200 characters, body cut to 80 with `…` (9.4)."""
    body = message.body if len(message.body) <= _BODY_LIMIT else message.body[:_BODY_LIMIT] + "…"
    return one_line(f"[agent msg] {message.from_} → {message.to}: {body}")
