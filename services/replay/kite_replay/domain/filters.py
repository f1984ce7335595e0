"""Which of a team's events a reader asks for: by type and by agent. Values of one filter combine with OR, filters with AND. No SQL.

Filters narrow what the key's scopes let through (`scopes.py`), and never widen it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from kite_common.errors import Malformed
from kite_common.events.agent_message import TYPE as AGENT_MESSAGE
from kite_common.events.agent_message import source_of

MAX_VALUES: Final = 20
MAX_CHARS: Final = 256
_TYPE: Final = re.compile(r"[^\s*]+(\.\*)?")


@dataclass(frozen=True, slots=True)
class Filters:
    """An empty one asks for everything.

    `types` are exact, or prefixes that end in `.*`. `agents` are senders or receivers of agent messages, `senders` and `receivers` one
    side only; all compare exactly.
    """

    types: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    senders: tuple[str, ...] = ()
    receivers: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything is asked for in particular."""
        return bool(self.types or self.agents or self.senders or self.receivers)


NONE: Final = Filters()


def parse(types: Sequence[str], agents: Sequence[str], senders: Sequence[str], receivers: Sequence[str]) -> Filters:
    """The filters of a request. Raises Malformed, whose text says what is wrong."""
    for name, values in (("type", types), ("agent", agents), ("from", senders), ("to", receivers)):
        if len(values) > MAX_VALUES:
            raise Malformed(f"{name} may be given at most {MAX_VALUES} times")
        if not all(0 < len(value) <= MAX_CHARS for value in values):
            raise Malformed(f"{name} must be 1 to {MAX_CHARS} characters")
    if not all(_TYPE.fullmatch(value) for value in types):
        raise Malformed("type must be an exact type or a prefix that ends in '.*', without other '*'")
    return Filters(tuple(types), tuple(agents), tuple(senders), tuple(receivers))


def prefix_of(event_type: str) -> str | None:
    """What types begin with that this one means, `com.github.` of `com.github.*`; None for an exact type."""
    return event_type[:-1] if event_type.endswith(".*") else None


def matches(wanted: Filters, event_type: str, source: str, agent_to: str) -> bool:
    """Whether an event is asked for: the meaning the SQL of an archive must have."""
    is_message = event_type == AGENT_MESSAGE
    sent_by = {source_of(agent) for agent in wanted.senders}
    either = {source_of(agent) for agent in wanted.agents}
    return (
        (not wanted.types or any(_is_type(one, event_type) for one in wanted.types))
        and (not wanted.agents or (is_message and (source in either or agent_to in wanted.agents)))
        and (not wanted.senders or (is_message and source in sent_by))
        and (not wanted.receivers or (is_message and agent_to in wanted.receivers))
    )


def _is_type(wanted: str, event_type: str) -> bool:
    prefix = prefix_of(wanted)
    return event_type == wanted if prefix is None else event_type.startswith(prefix)
