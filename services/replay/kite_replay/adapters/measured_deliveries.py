"""Metrics around the attempt log: timing and counting. Changes nothing that passes through."""

from collections.abc import Mapping, Sequence

from kite_common.ids import TeamId
from kite_replay.adapters.measured import MeasuredReader
from kite_replay.application.ports import DeliveryReader
from kite_replay.domain.deliveries import DeliveryKey, DeliveryQuery, EventLabels, FoundFact
from kite_replay.domain.query import FoundEvent


class MeasuredDeliveries:
    """A DeliveryReader that counts and times queries, beside those of `reads`."""

    def __init__(self, inner: DeliveryReader, reads: MeasuredReader) -> None:
        self._inner, self._reads = inner, reads

    async def keys(self, query: DeliveryQuery) -> Sequence[DeliveryKey]:
        return await self._reads.measured("deliveries", self._inner.keys(query))

    async def facts(self, team_id: TeamId, keys: Sequence[DeliveryKey]) -> Sequence[FoundFact]:
        return await self._reads.measured("attempts", self._inner.facts(team_id, keys))

    async def labels(self, team_id: TeamId, seqs: Sequence[int]) -> Mapping[int, EventLabels]:
        return await self._reads.measured("labels", self._inner.labels(team_id, seqs))

    async def events(self, team_id: TeamId, seqs: Sequence[int]) -> Mapping[int, FoundEvent]:
        return await self._reads.measured("bodies", self._inner.events(team_id, seqs))

    async def archived_to(self, partition: int) -> int | None:
        return await self._reads.measured("tail", self._inner.archived_to(partition))
