"""DeliveryReader over ClickHouse: the attempt log, and the events behind it. Decides nothing."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from clickhouse_connect.driver.client import Client

from kite_common.errors import Malformed, Unavailable
from kite_common.events.codec import decode_as
from kite_common.ids import TeamId
from kite_common.runtime.observe import get_logger
from kite_replay.adapters.clickhouse import delivery_sql, sql
from kite_replay.adapters.clickhouse.sql import Statement
from kite_replay.domain.deliveries import FACTS, DeliveryFact, DeliveryKey, DeliveryQuery, EventLabels, FoundFact
from kite_replay.domain.query import FoundEvent

log = get_logger("kite.replay.archive")

T = TypeVar("T")
_SETTINGS: Final = {"max_execution_time": 20, "max_threads": 1}


class Reads(Protocol):
    """What is needed of `ClickHouseArchive`."""

    async def read(self, work: Callable[[Client], T]) -> T:
        """What `work` finds out with a client, in a thread. Raises Unavailable."""
        ...


class ClickHouseDeliveries:
    """Reads beside the readers of events, by the same few clients."""

    def __init__(self, archive: Reads) -> None:
        self._archive = archive

    async def keys(self, query: DeliveryQuery) -> Sequence[DeliveryKey]:
        rows = await self._archive.read(partial(_rows, delivery_sql.keys(query)))
        return [DeliveryKey(seq, delivery_id.decode()) for seq, delivery_id in rows]

    async def facts(self, team_id: TeamId, keys: Sequence[DeliveryKey]) -> Sequence[FoundFact]:
        rows = await self._archive.read(partial(_rows, delivery_sql.facts(team_id, keys)))
        try:
            return [
                FoundFact(DeliveryKey(seq, delivery_id.decode()), offset, appended_ms, _fact(kind, fact))
                for seq, delivery_id, offset, appended_ms, kind, fact in rows
            ]
        except Malformed as error:
            # A newer Kite wrote it; that one answers soon.
            log.error("deliveries.fact_unreadable", problem=str(error))  # noqa: TRY400 - a stack tells nothing that the problem does not
            raise Unavailable("a fact of the attempt log cannot be read") from error

    async def labels(self, team_id: TeamId, seqs: Sequence[int]) -> Mapping[int, EventLabels]:
        rows = await self._archive.read(partial(_rows, delivery_sql.labels(team_id, seqs)))
        return {seq: EventLabels(*(text.decode() for text in texts)) for seq, *texts in rows}

    async def events(self, team_id: TeamId, seqs: Sequence[int]) -> Mapping[int, FoundEvent]:
        rows = await self._archive.read(partial(_rows, delivery_sql.bodies(team_id, seqs)))
        return {seq: FoundEvent(event_id.decode(), created_ms, seq, body) for seq, event_id, created_ms, body in rows}

    async def archived_to(self, partition: int) -> int | None:
        rows = await self._archive.read(partial(_rows, sql.tail("events", partition)))
        return int(rows[0][0]) if rows else None


def _rows(statement: Statement, client: Client) -> Sequence[Sequence[Any]]:
    found = client.query(
        statement.text, parameters=dict(statement.parameters), settings=_SETTINGS, query_formats={"String": "bytes"}
    ).result_rows
    rows: Sequence[Sequence[Any]] = found
    return rows


def _fact(kind: bytes, value: bytes) -> DeliveryFact:
    expected = FACTS.get(kind.decode())
    if expected is None:
        raise Malformed(f"unknown kind {kind[:64]!r}")
    return decode_as(expected, value)
