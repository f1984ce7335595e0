"""What makes a JSON object an agent message (wire contract, section 3). Knows no bytes and no limits of size."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from kite_common.events.agent_message import AgentMessage

_NUL: Final = "\x00"


@dataclass(frozen=True, slots=True)
class InvalidField:
    """The first field that is wrong, and what is expected of it. Never quotes what was sent."""

    field: str
    message: str


def read_message(body: Mapping[str, Any]) -> AgentMessage | InvalidField:
    """The message a JSON object stands for, or what is wrong with it. Unknown fields are ignored, null is absent.

    Agent ids are free text, case-sensitive: every character JSON can carry is allowed, also controls; whoever builds a URL or a
    line of text from one encodes it there (wire contract, 9.3 and 9.4). Only NUL is refused: arguments of programs, C strings and some
    databases of receivers end at it, so what they pass on would be another text than was sent.
    """
    get = body.get
    from_, to, text = get("from"), get("to"), get("body")
    thread_id, reply_to_id = get("thread_id"), get("reply_to_id")
    if not isinstance(from_, str) or not from_:
        return _non_empty("from")
    if not isinstance(to, str) or not to:
        return _non_empty("to")
    if not isinstance(text, str):
        return InvalidField("body", "body must be a string; it may be empty.")
    if thread_id is not None and not isinstance(thread_id, str):
        return _optional("thread_id")
    if reply_to_id is not None and not isinstance(reply_to_id, str):
        return _optional("reply_to_id")
    message = AgentMessage(from_, to, text, thread_id, reply_to_id)
    return message if _NUL not in f"{from_}{to}{text}{thread_id}{reply_to_id}" else _without_nul(message)


def _without_nul(message: AgentMessage) -> InvalidField:
    field = next(name for name, text in message.data().items() if _NUL in text)
    return InvalidField(field, f"{field} must not contain the character U+0000.")


def _non_empty(field: str) -> InvalidField:
    return InvalidField(field, f"{field} must be a non-empty string.")


def _optional(field: str) -> InvalidField:
    return InvalidField(field, f"{field} must be a string, null or absent.")
