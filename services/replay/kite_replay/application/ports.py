"""What the use cases of replay need from the outside. No client types.

All methods raise `kite_common.errors.Unavailable` when the part behind them is away.
"""

from collections.abc import Sequence
from typing import Protocol

from kite_common.ids import EventId, TeamId
from kite_replay.domain.allowance import Allowance
from kite_replay.domain.query import EventQuery, Found
from kite_replay.domain.rows import BadRecord, Batch, Table, Tail


class Archive(Protocol):
    """Where rows are kept, with the position they came from."""

    async def tail(self, table: Table, partition: int) -> Tail | None:
        """The last stored record of a partition, or None if there is none yet."""
        ...

    async def append(self, table: Table, batches: Sequence[Batch]) -> None:
        """Store rows of one table; batches of one partition follow on each other. Returns when readers see them.

        Of each partition either nothing, a beginning, or all becomes visible, in offset order and never with a gap. The same call again
        stores nothing twice. When it raises, it is open whether the rows are stored: call it again, or ask `tail`.
        """
        ...


class EventReader(Protocol):
    """What readers ask of the archive."""

    async def seq_of(self, team_id: TeamId, created_ms: int, event_id: EventId) -> int | None:
        """The kiteseq of the team's event with this id and time, or None if there is no such event."""
        ...

    async def find(self, query: EventQuery) -> Found:
        """The rows a query selects, kiteseq ascending, each once, from one moment's state of the archive.

        May return fewer than there are, a beginning of them, when they are very large; then `cut` is True and at least one row is there.
        """
        ...


class Allowances(Protocol):
    """What a team's account allows."""

    async def take(self, team_id: TeamId) -> Allowance:
        """Count one request of the team; whether it is let through stands in the answer."""
        ...


class Quarantine(Protocol):
    """Where records go that no row can be made of."""

    async def put(self, records: Sequence[BadRecord]) -> None:
        """Keep them, with their reasons. Returns when they are durable; a record may be kept more than once."""
        ...
