"""What an API key may read: the scope grammar of the wire contract, 8.3. Scopes combine with OR. No SQL.

Fails closed: unknown scopes, scopes without a name and an empty list match nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from kite_common.events.agent_message import TYPE as AGENT_MESSAGE


@dataclass(frozen=True, slots=True)
class Everything:
    """`*`: every event of the team."""


@dataclass(frozen=True, slots=True)
class SourceContains:
    """`source:<name>`: a substring of the event's source, of its type, or of the endpoint's slug; case-sensitive."""

    name: str


@dataclass(frozen=True, slots=True)
class TypeContains:
    """`type:<name>`: a substring of the event's type; case-sensitive."""

    name: str


@dataclass(frozen=True, slots=True)
class AgentTo:
    """`agent_to:<agent_id>`: an agent message to exactly this agent."""

    agent_id: str


Scope = Everything | SourceContains | TypeContains | AgentTo

ALL: Final[tuple[Scope, ...]] = (Everything(),)


def parse(texts: Iterable[str]) -> tuple[Scope, ...]:
    """The scopes that can match something; what is unknown is left out, so an empty tuple matches nothing."""
    found = tuple(scope for scope in map(_scope, texts) if scope is not None)
    return ALL if Everything() in found else found


def matches(scopes: Iterable[Scope], event_type: str, source: str, slug: str, agent_to: str) -> bool:
    """Whether any of the scopes lets this event through: the meaning the SQL of an archive must have."""
    return any(_matches(scope, event_type, source, slug, agent_to) for scope in scopes)


def _scope(text: str) -> Scope | None:
    if text == "*":
        return Everything()
    kind, _, name = text.partition(":")
    if not name:
        return None
    match kind:
        case "source":
            return SourceContains(name)
        case "type":
            return TypeContains(name)
        case "agent_to":
            return AgentTo(name)
        case _:
            return None


def _matches(scope: Scope, event_type: str, source: str, slug: str, agent_to: str) -> bool:
    match scope:
        case Everything():
            return True
        case SourceContains(name):
            return name in source or name in event_type or name in slug
        case TypeContains(name):
            return name in event_type
        case AgentTo(agent_id):
            return event_type == AGENT_MESSAGE and agent_to == agent_id
