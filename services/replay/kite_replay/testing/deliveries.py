"""For tests: an attempt log in memory, the behaviour suite that every one passes, and where redrives are ordered."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kite_common.errors import KiteError, Unavailable
from kite_common.events.deliveries import DeliveryOrdered
from kite_common.ids import DeliveryId, TeamId, WebhookConfigId
from kite_common.testing import make
from kite_replay.application.ports import Archive, DeliveryReader
from kite_replay.domain.deliveries import FACTS, DeliveryFact, DeliveryFilter, DeliveryKey, DeliveryQuery, EventLabels, FoundFact
from kite_replay.domain.query import FoundEvent
from kite_replay.domain.rows import (
    DELIVERIES_TABLE,
    EVENTS_TABLE,
    DeliveryRow,
    EventRow,
)
from kite_replay.testing.archive import MemoryArchive
from kite_replay.testing.records import NOW_MS, batch, delivery_rows, event_id, event_rows


@dataclass(slots=True)
class MemoryDeliveries:
    """A DeliveryReader over an archive in memory."""

    archive: MemoryArchive = field(default_factory=MemoryArchive)

    async def keys(self, query: DeliveryQuery) -> Sequence[DeliveryKey]:
        wanted = query.wanted
        found = {
            DeliveryKey(row.kiteseq, row.delivery_id)
            for row in self._rows(query.team_id)
            if wanted.status in (None, row.status) and wanted.event_id in (None, row.event_id)
            and wanted.delivery_id in (None, row.delivery_id) and row.created_at >= (wanted.since_ms or 0)
        }  # fmt: skip
        return sorted((key for key in found if query.before is None or key < query.before), reverse=True)[: query.limit]

    async def facts(self, team_id: TeamId, keys: Sequence[DeliveryKey]) -> Sequence[FoundFact]:
        found = {row.log_offset: row for row in self._rows(team_id) if (row.kiteseq, row.delivery_id) in keys}
        return [
            FoundFact(
                DeliveryKey(row.kiteseq, row.delivery_id), row.log_offset, row.created_at, FACTS[row.kind].model_validate_json(row.fact)
            )
            for row in found.values()
        ]

    async def labels(self, team_id: TeamId, seqs: Sequence[int]) -> Mapping[int, EventLabels]:
        return {row.kiteseq: EventLabels(row.type, row.source, row.slug, row.agent_to) for row in self._events(team_id, seqs)}

    async def events(self, team_id: TeamId, seqs: Sequence[int]) -> Mapping[int, FoundEvent]:
        return {row.kiteseq: FoundEvent(row.event_id, row.created_at, row.kiteseq, row.body) for row in self._events(team_id, seqs)}

    async def archived_to(self, partition: int) -> int | None:
        return max((row.log_offset for row in self.archive.rows["events"] if row.partition == partition), default=None)

    def _rows(self, team_id: str) -> list[DeliveryRow]:
        return [row for row in self.archive.rows["deliveries"] if isinstance(row, DeliveryRow) and row.team_id == team_id]

    def _events(self, team_id: str, seqs: Sequence[int]) -> list[EventRow]:
        rows = self.archive.rows["events"]
        return [row for row in rows if isinstance(row, EventRow) and row.team_id == team_id and row.kiteseq in seqs]


class DeliveryBehaviour:
    """What every DeliveryReader promises. Fixtures: `archive` to fill, `deliveries` to read it, `team` new in each test."""

    async def test_places_come_newest_first_each_once_and_behind_a_place(
        self, archive: Archive, deliveries: DeliveryReader, team: str, partition: int
    ) -> None:
        facts = [make.delivery_attempted(team_id=team, kiteseq=seq, delivery_id=_delivery(name)) for seq, name in _PLACES]
        rows = delivery_rows(*facts, *facts[:2], partition=partition)
        await archive.append(DELIVERIES_TABLE, [batch(rows, DELIVERIES_TABLE)])
        expected = sorted({DeliveryKey(seq, _delivery(name)) for seq, name in _PLACES}, reverse=True)
        assert await deliveries.keys(DeliveryQuery(TeamId(team), DeliveryFilter(), None, 10)) == expected
        assert await deliveries.keys(DeliveryQuery(TeamId(team), DeliveryFilter(), expected[1], 1)) == expected[2:3]
        assert await deliveries.keys(DeliveryQuery(TeamId(team + "x"), DeliveryFilter(), None, 10)) == []

    async def test_places_are_narrowed_by_what_one_fact_can_tell(
        self, archive: Archive, deliveries: DeliveryReader, team: str, partition: int
    ) -> None:
        good = make.delivery_attempted(team_id=team, kiteseq=9, delivery_id=_delivery("a"))
        dead = make.delivery_attempted(
            team_id=team, kiteseq=8, delivery_id=_delivery("b"), event_id=event_id(8), status="dead", reason="gone"
        )
        await archive.append(DELIVERIES_TABLE, [batch(delivery_rows(good, dead, partition=partition), DELIVERIES_TABLE)])
        for wanted in (
            DeliveryFilter(status="dead"), DeliveryFilter(event_id=event_id(8)), DeliveryFilter(delivery_id=DeliveryId(_delivery("b"))),
            DeliveryFilter(since_ms=NOW_MS + 1),
        ):  # fmt: skip
            found = await deliveries.keys(DeliveryQuery(TeamId(team), wanted, None, 10))
            assert found == [DeliveryKey(8, _delivery("b"))], wanted

    async def test_all_facts_of_the_places_come_each_record_once(
        self, archive: Archive, deliveries: DeliveryReader, team: str, partition: int
    ) -> None:
        facts: list[DeliveryFact] = [
            make.delivery_attempted(team_id=team, status="retrying", response_excerpt='\u0000 é " \\'),
            make.delivery_attempted(team_id=team, attempt=2),
            make.delivery_pending(team_id=team), make.delivery_concluded(team_id=team, status="cancelled"),
        ]  # fmt: skip
        rows = delivery_rows(*facts, partition=partition)
        await archive.append(DELIVERIES_TABLE, [batch(rows, DELIVERIES_TABLE)])
        await archive.append(DELIVERIES_TABLE, [batch(rows[1:], DELIVERIES_TABLE)])  # a second archiver, at work on the same records
        found = await deliveries.facts(TeamId(team), sorted({DeliveryKey(row.kiteseq, row.delivery_id) for row in rows}))
        assert sorted(found, key=lambda one: one.offset) == [
            FoundFact(DeliveryKey(row.kiteseq, row.delivery_id), row.log_offset, row.created_at, fact)
            for row, fact in zip(rows, facts, strict=True)
        ]

    async def test_events_are_found_by_their_kiteseq(
        self, archive: Archive, deliveries: DeliveryReader, team: str, partition: int
    ) -> None:
        rows = event_rows(team, [3, 5, 7], partition=partition) + event_rows(team + "x", [9], partition=partition)
        await archive.append(EVENTS_TABLE, [batch(rows)])
        seqs = [rows[0].kiteseq, rows[2].kiteseq, rows[3].kiteseq, 1 << 60]
        assert await deliveries.events(TeamId(team), seqs) == {
            row.kiteseq: FoundEvent(row.event_id, row.created_at, row.kiteseq, row.body) for row in (rows[0], rows[2])
        }
        assert await deliveries.labels(TeamId(team), seqs[:1]) == {
            rows[0].kiteseq: EventLabels(rows[0].type, rows[0].source, rows[0].slug, rows[0].agent_to)
        }

    async def test_how_far_events_have_come_is_told_by_partition(
        self, archive: Archive, deliveries: DeliveryReader, team: str, partition: int
    ) -> None:
        assert await deliveries.archived_to(partition) is None
        await archive.append(EVENTS_TABLE, [batch(event_rows(team, [3, 5, 7], partition=partition))])
        assert await deliveries.archived_to(partition) == 7


_PLACES = ((20, "a"), (20, "b"), (18, "c"), (31, "d"))


def _delivery(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))


@dataclass(slots=True)
class MemoryOrders:
    """DeliveryOrders in memory; those given twice are there once, as delivery does with them. `failing`: what the next calls raise."""

    given: dict[str, DeliveryOrdered] = field(default_factory=dict)
    failing: list[KiteError] = field(default_factory=list)

    async def give(self, orders: Sequence[DeliveryOrdered]) -> None:
        error = self.failing.pop(0) if self.failing else None
        if not isinstance(error, Unavailable):
            self.given |= {order.id: order for order in orders}
        if error is not None:
            raise error


class HeldConfigs(dict[TeamId, str]):
    """WebhookConfigs: the active config of each team that has one."""

    async def active(self, team_id: TeamId) -> WebhookConfigId | None:
        config_id = self.get(team_id)
        return None if config_id is None else WebhookConfigId(config_id)
