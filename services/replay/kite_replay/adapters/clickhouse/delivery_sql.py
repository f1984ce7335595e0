"""What is asked of the attempt log -> SQL text and parameters. Pure: values travel only as parameters, never inside the text."""

from collections.abc import Sequence
from typing import Final

from kite_common.ids import TeamId
from kite_replay.adapters.clickhouse.sql import Statement, Value
from kite_replay.domain.deliveries import DeliveryKey, DeliveryQuery

# As far as DateTime64(3) reaches.
_LATEST_MS: Final = 10_413_791_999_999
# Behind the newest place there is: one statement for both cases.
_BEHIND_ALL: Final = DeliveryKey((1 << 63) - 1, "")


def keys(query: DeliveryQuery) -> Statement:
    """The places of a page: kiteseq, delivery_id, newest first.

    The sort key is (team_id, kiteseq, delivery_id, log_offset): this reads it backwards and stops at the limit. A fact that passes says
    only that its delivery may pass: which status is the last one shows when all its facts are read.
    """
    before, wanted = query.before or _BEHIND_ALL, query.wanted
    parameters: dict[str, Value] = {
        "team": query.team_id, "before_seq": before.kiteseq, "before_id": before.delivery_id, "row_limit": query.limit,
    }  # fmt: skip
    conditions = ["kiteseq <= {before_seq:UInt64}", "(kiteseq, delivery_id) < ({before_seq:UInt64}, {before_id:String})"]
    for column, value in (("status", wanted.status), ("event_id", wanted.event_id), ("delivery_id", wanted.delivery_id)):
        if value is not None:
            parameters[column] = value
            conditions.append(f"{column} = {{{column}:String}}")
    if wanted.since_ms is not None:
        # Its facts are no older than the delivery itself.
        parameters["since_ms"] = max(0, min(wanted.since_ms, _LATEST_MS))
        conditions.append("created_at >= fromUnixTimestamp64Milli({since_ms:Int64}, 'UTC')")
    return Statement(
        f"SELECT kiteseq, delivery_id FROM deliveries WHERE team_id = {{team:String}} AND {' AND '.join(conditions)}"  # noqa: S608 - our own text
        " ORDER BY team_id DESC, kiteseq DESC, delivery_id DESC LIMIT 1 BY kiteseq, delivery_id LIMIT {row_limit:UInt32}",
        parameters,
    )


def facts(team_id: TeamId, found: Sequence[DeliveryKey]) -> Statement:
    """All facts of the deliveries at these places: kiteseq, delivery_id, log_offset, appended_ms, kind, fact. In no order."""
    return Statement(
        "SELECT kiteseq, delivery_id, log_offset, toUnixTimestamp64Milli(created_at) AS appended_ms, kind, fact FROM deliveries"
        " WHERE team_id = {team:String} AND kiteseq IN {seqs:Array(UInt64)} AND delivery_id IN {ids:Array(String)} LIMIT 1 BY log_offset",
        {"team": team_id, "seqs": sorted({key.kiteseq for key in found}), "ids": sorted({key.delivery_id for key in found})},
    )


def labels(team_id: TeamId, seqs: Sequence[int]) -> Statement:
    """What scopes ask of these events: kiteseq, type, source, slug, agent_to."""
    return Statement(
        "SELECT kiteseq, type, source, slug, agent_to FROM events"
        " WHERE team_id = {team:String} AND kiteseq IN {seqs:Array(UInt64)} LIMIT 1 BY kiteseq",
        {"team": team_id, "seqs": sorted(set(seqs))},
    )


def bodies(team_id: TeamId, seqs: Sequence[int]) -> Statement:
    """These events as they go out: kiteseq, event_id, created_ms, body."""
    return Statement(
        "SELECT kiteseq, event_id, toUnixTimestamp64Milli(created_at) AS created_ms, body FROM events"
        " WHERE team_id = {team:String} AND kiteseq IN {seqs:Array(UInt64)} LIMIT 1 BY kiteseq",
        {"team": team_id, "seqs": sorted(set(seqs))},
    )
