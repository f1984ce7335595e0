"""Queries -> SQL text and parameters. Pure: values travel only as parameters, never inside the text."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, assert_never

from kite_common.events.agent_message import TYPE as AGENT_MESSAGE
from kite_common.events.agent_message import source_of
from kite_common.ids import EventId, TeamId
from kite_replay.domain.filters import Filters, prefix_of
from kite_replay.domain.ledger import LedgerQuery
from kite_replay.domain.query import EventQuery, Place
from kite_replay.domain.rows import TableName
from kite_replay.domain.scopes import AgentTo, Everything, Scope, SourceContains, TypeContains

# DateTime64(3) reaches from 1900 to 2299; cursors may name any time.
_MIN_MS: Final = -2_208_988_800_000
_MAX_MS: Final = 10_413_791_999_999
# Offsets are signed in Kafka.
_MAX_OFFSET: Final = (1 << 63) - 1


Value = str | int | Sequence[str] | Sequence[int]


@dataclass(frozen=True, slots=True)
class Statement:
    """One query: `{name:Type}` in the text stands for the parameter of that name."""

    text: str
    parameters: Mapping[str, Value]


# Parts that the engine has set aside because it could not read them: their rows are missing.
BROKEN_PARTS: Final = Statement(
    "SELECT count() FROM system.detached_parts WHERE database = currentDatabase() AND startsWith(ifNull(reason, ''), 'broken')", {}
)


def page(query: EventQuery, until: Place | None = None) -> Statement:
    """The rows of a page: event_id, created_ms, kiteseq, body, in log order; none behind `until`.

    The sort key is (team_id, created_at, kiteseq), so this reads one range of it and stops at the limit. LIMIT 1 BY is the last guard
    against a row that two archivers have stored.
    """
    parameters: dict[str, str | int] = {
        "team": query.team_id,
        "from_ms": _within(query.from_ms),
        "after_seq": -1 if query.after_seq is None else query.after_seq,
        "row_limit": query.limit,
    }
    scopes = _any_of(query.scopes, parameters)
    filters = "".join(f" AND ({condition})" for condition in _all_of(query.filters, parameters))
    window = "" if until is None else _up_to(until, parameters)
    return Statement(
        "SELECT event_id, toUnixTimestamp64Milli(created_at) AS created_ms, kiteseq, body FROM events"  # noqa: S608 - our own text
        " WHERE team_id = {team:String} AND created_at >= fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC')"
        f" AND kiteseq > {{after_seq:Int64}}{window} AND ({scopes}){filters}"
        " ORDER BY team_id, created_at, kiteseq LIMIT 1 BY kiteseq LIMIT {row_limit:UInt32}",
        parameters,
    )


def window(query: EventQuery, rows: int) -> Statement:
    """The place of the event that stands `rows` behind the query's start, whatever it asks for: event_id, created_ms, kiteseq.

    No row if there are fewer. Reads columns of the index and the ids only.
    """
    return Statement(
        "SELECT event_id, toUnixTimestamp64Milli(created_at) AS created_ms, kiteseq FROM events"
        " WHERE team_id = {team:String} AND created_at >= fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC') AND kiteseq > {after_seq:Int64}"
        " ORDER BY team_id, created_at, kiteseq LIMIT 1 OFFSET {passed:UInt32}",
        {
            "team": query.team_id, "from_ms": _within(query.from_ms), "passed": rows - 1,
            "after_seq": -1 if query.after_seq is None else query.after_seq,
        },
    )  # fmt: skip


def seq_of(team_id: TeamId, created_ms: int, event_id: EventId) -> Statement:
    """The kiteseq of one event; no row if there is no such event."""
    return Statement(
        "SELECT kiteseq FROM events WHERE team_id = {team:String} AND created_at = fromUnixTimestamp64Milli({at_ms:Int64}, 'UTC')"
        " AND event_id = {event_id:String} LIMIT 1",
        {"team": team_id, "at_ms": _within(created_ms), "event_id": event_id},
    )


def entries(query: LedgerQuery) -> Statement:
    """The rows of a page of the ledger: log_offset, entry_id, created_ms, fact, newest first.

    The sort key is (team_id, log_offset): this reads it backwards and stops at the limit. Flat plans have entries of amount zero, one an
    event, that nobody wants to see.
    """
    # After the newest offset there is: one statement for both cases.
    up_to = _MAX_OFFSET if query.up_to is None else query.up_to
    return Statement(
        "SELECT log_offset, entry_id, toUnixTimestamp64Milli(created_at) AS created_ms, fact FROM ledger"
        " WHERE team_id = {team:String} AND log_offset <= {up_to:UInt64} AND amount_atomic != 0"
        " ORDER BY team_id DESC, log_offset DESC LIMIT 1 BY log_offset LIMIT {row_limit:UInt32}",
        {"team": query.team_id, "up_to": up_to, "row_limit": query.limit},
    )


def tail(table: TableName, partition: int) -> Statement:
    """Offset and time of the last stored row of a partition; no row if there is none. Answered by the projection `tails`.

    Both maxima belong to one row, since times do not decrease with the offset.
    """
    return Statement(
        f"SELECT max(log_offset), toUnixTimestamp64Milli(max(created_at)) FROM {table}"  # noqa: S608 - one of our table names
        " WHERE partition = {partition:UInt16} GROUP BY partition",
        {"partition": partition},
    )


def remove(table: TableName, teams: Collection[str]) -> Statement:
    """Have the rows of these teams removed: parts that have some are written again without them, projections too."""
    return Statement(f"ALTER TABLE {table} DELETE WHERE team_id IN {{teams:Array(String)}}", {"teams": sorted(teams)})


def rows_of(table: TableName, teams: Collection[str]) -> Statement:
    """How many rows these teams have."""
    return Statement(f"SELECT count() FROM {table} WHERE team_id IN {{teams:Array(String)}}", {"teams": sorted(teams)})  # noqa: S608 - our table names


CANCEL: Final = "KILL QUERY WHERE query_id IN {query_ids:Array(String)} ASYNC"


def running(comment: str) -> Statement:
    """The ids of queries that run and have this comment. A user sees its own, without SHOW PROCESSES."""
    return Statement("SELECT query_id FROM system.processes WHERE Settings['log_comment'] = {comment:String}", {"comment": comment})


def retain(table: TableName, days: int) -> Statement:
    """Let a table drop what is older than that; whole parts only, in the background."""
    return Statement(f"ALTER TABLE {table} MODIFY TTL toDateTime(created_at) + toIntervalDay({int(days)})", {})


def _up_to(until: Place, parameters: dict[str, str | int]) -> str:
    parameters["until_ms"], parameters["until_seq"] = _within(until.created_ms), until.kiteseq
    return " AND created_at <= fromUnixTimestamp64Milli({until_ms:Int64}, 'UTC') AND kiteseq <= {until_seq:UInt64}"


def _all_of(filters: Filters, parameters: dict[str, str | int]) -> list[str]:
    """The conditions that all must hold; their values are added to `parameters`."""

    def any_of(name: str, values: Sequence[str], condition: str) -> str:
        names = [f"{name}_{number}" for number in range(len(values))]
        parameters.update(zip(names, values, strict=True))
        return " OR ".join(condition.format(f"{{{one}:String}}") for one in names)

    message = f"type = '{AGENT_MESSAGE}' AND "
    prefixes = [prefix for one in filters.types if (prefix := prefix_of(one)) is not None]
    exact = [one for one in filters.types if prefix_of(one) is None]
    either = any_of("agent_from", list(map(source_of, filters.agents)), "source = {}"), any_of("agent_to", filters.agents, "agent_to = {}")
    found = [
        " OR ".join(filter(None, (any_of("type", exact, "type = {}"), any_of("prefix", prefixes, "startsWith(type, {})")))),
        " OR ".join(filter(None, either)),
        any_of("from", list(map(source_of, filters.senders)), "source = {}"),
        any_of("to", filters.receivers, "agent_to = {}"),
    ]
    of_types, *of_agents = found
    return ([of_types] if of_types else []) + [f"{message}({one})" for one in of_agents if one]


def _any_of(scopes: tuple[Scope, ...], parameters: dict[str, str | int]) -> str:
    """The condition that one of the scopes matches; its values are added to `parameters`. No scope: nothing matches."""
    return " OR ".join(_condition(scope, f"scope_{index}", parameters) for index, scope in enumerate(scopes)) or "0"


def _condition(scope: Scope, name: str, parameters: dict[str, str | int]) -> str:
    # position() takes its needle literally, so no character of a scope has a meaning, as it would in LIKE.
    match scope:
        case Everything():
            return "1"
        case SourceContains(text):
            parameters[name] = text
            return " OR ".join(f"position({column}, {{{name}:String}}) > 0" for column in ("source", "type", "slug"))
        case TypeContains(text):
            parameters[name] = text
            return f"position(type, {{{name}:String}}) > 0"
        case AgentTo(agent_id):
            parameters[name] = agent_id
            return f"(type = '{AGENT_MESSAGE}' AND agent_to = {{{name}:String}})"
        case _:
            assert_never(scope)


def _within(unix_ms: int) -> int:
    return max(_MIN_MS, min(_MAX_MS, unix_ms))
