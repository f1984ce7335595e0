"""What is read of the log: from where to where, and how far each service was at that moment. Plain values that go to other processes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kite_cli.admin.audit.archive import Slice, TableName


@dataclass(frozen=True, slots=True)
class Span:
    """Offsets from `first` on and before `end`."""

    first: int
    end: int

    @property
    def size(self) -> int:
        """At most how many records."""
        return max(0, self.end - self.first)


@dataclass(frozen=True, slots=True)
class Where:
    """The log and the Redis beside it."""

    kafka_bootstrap: str
    redis_url: str = field(repr=False)
    prefix: str
    partitions: int


@dataclass(frozen=True, slots=True)
class PartitionJob:
    """One partition of all topics. `committed`: next offsets by group and topic, from before the ends were asked for.

    `since_ms`: what was appended earlier is not read of kite.events, kite.ledger, kite.deliveries (None: all that is kept is read).
    `archive` None: it is not compared. `redis` False: neither. `folder`: for temporary files. `erased`:
    teams of which the archive has their ledger alone.
    """

    where: Where
    partition: int
    spans: Mapping[str, Span]
    committed: Mapping[str, Mapping[str, int]]
    since_ms: int | None
    archive: Mapping[TableName, Slice] | None
    redis: bool
    redis_wait_s: float
    folder: Path
    keep: int
    erased: frozenset[str] = frozenset()
