"""What the archive must hold of a partition, compared block by block: how many rows, and a sum of their digests. Pure.

A row's digest is the CRC-32 of its position, time, team and bytes, which ClickHouse and zlib compute alike; blocks of 1,024 offsets are
compared by count and sum, so that ten million rows come back as ten thousand numbers. Only of a block that differs are the rows asked for.
"""

import zlib
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from kite_cli.admin.audit.findings import CheckName, Findings
from kite_cli.admin.audit.records import Place
from kite_common.log_position import kiteseq

TableName = Literal["events", "ledger", "deliveries"]
CHECK_OF: Final[dict[TableName, CheckName]] = {
    "events": "archive_events", "ledger": "archive_ledger", "deliveries": "archive_deliveries"
}  # fmt: skip
KEPT_OF_ERASED: Final[frozenset[TableName]] = frozenset({"ledger"})
BLOCK_BITS: Final = 10
# Blocks of a table and partition whose rows are looked at one by one.
_DIFFERING: Final = 50


class Block(NamedTuple):
    """Rows of up to 1,024 offsets."""

    rows: int
    digests: int


@dataclass(frozen=True, slots=True)
class Slice:
    """What the archive has of one partition of a table, of offsets from `first` on and before `end`.

    `created_ms`: the newest time of the rows before `first`. `blocks` by offset >> BLOCK_BITS.
    """

    first: int
    end: int
    created_ms: int
    blocks: Mapping[int, Block]


@dataclass(frozen=True, slots=True)
class Differing:
    """A block that is not as it must be: the digests its rows should have, by offset, and whose they are."""

    table: TableName
    partition: int
    block: int
    first: int
    end: int
    expected: Mapping[int, tuple[int, str]] = field(default_factory=dict)


class Archived:
    """Fed with the records that must have a row, in log order; those of `erased` teams must have none."""

    def __init__(
        self, findings: Findings, table: TableName, place: Place, archived: Slice, erased: Container[str] = ()
    ) -> None:  # fmt: skip
        self._erased, self._of_erased = () if table in KEPT_OF_ERASED else erased, 0
        self._findings, self._check, self._table, self._place, self._slice = findings, CHECK_OF[table], table, place, archived
        self._left = dict(archived.blocks)
        self._created_ms = archived.created_ms
        self._block = -1
        self._rows: dict[int, tuple[int, str]] = {}
        self._checked = 0
        self.differing: list[Differing] = []

    def event(self, offset: int, timestamp: int, team_id: str, event_id: str, value: bytes) -> None:
        """An event with a row."""
        if self._takes(offset, timestamp):
            digest = zlib.crc32(f"{offset}:{self._created_ms}:{team_id}:{event_id}:".encode())
            digest = zlib.crc32(memoryview(value)[:-1], digest)
            self._row(offset, zlib.crc32(b',"kiteseq":%d}' % kiteseq(offset, self._place.partition), digest), team_id)

    def fact(self, offset: int, timestamp: int, team_id: str, fact_id: str, value: bytes) -> None:
        """A ledger entry or a delivery record with a row."""
        if self._takes(offset, timestamp):
            digest = zlib.crc32(f"{offset}:{self._created_ms}:{team_id}:{fact_id}:".encode())
            self._row(offset, zlib.crc32(value, digest), team_id)

    def finish(self) -> None:
        """No more records: what is left in the archive stands for nothing in the log."""
        self._close()
        for block in list(self._left):
            self._differs(block, {})
        self._findings.checked[self._check] += self._checked
        self._findings.count(self._check, "of erased teams, which have no row", self._of_erased)

    def _takes(self, offset: int, timestamp: int) -> bool:
        if offset < self._slice.first:
            return False
        if offset >= self._slice.end:
            self._findings.under_way(f"{self._table} not archived yet")
            return False
        self._created_ms = max(self._created_ms, timestamp)
        return True

    def _row(self, offset: int, digest: int, team_id: str) -> None:
        if team_id in self._erased:
            # It counts for the time of the rows behind it all the same, as the archiver has it.
            self._of_erased += 1
            return
        block = offset >> BLOCK_BITS
        if block != self._block:
            self._close()
            self._block = block
        self._rows[offset] = digest, team_id
        self._checked += 1

    def _close(self) -> None:
        if self._rows:
            found = self._left.pop(self._block, None)
            if found != Block(len(self._rows), sum(digest for digest, _ in self._rows.values())):
                self._differs(self._block, self._rows)
            self._rows = {}

    def _differs(self, block: int, rows: Mapping[int, tuple[int, str]]) -> None:
        if len(self.differing) < _DIFFERING:
            self.differing.append(Differing(self._table, self._place.partition, block, self._slice.first, self._slice.end, rows))
        else:
            self._findings.violation(self._check, "", self._place.at(block << BLOCK_BITS), "a block of 1,024 offsets differs")


def compare_rows(
    findings: Findings, place: Place, differing: Differing, found: Mapping[int, list[int]], erased: Container[str] = ()
) -> None:  # fmt: skip
    """Say of a block that differs which rows do. `found`: the digests of the rows the archive has, by offset. `erased`: teams that were
    erased by then, perhaps while the log was read; none of their rows is in `found`."""
    check = CHECK_OF[differing.table]
    for offset, (digest, team_id) in differing.expected.items():
        if team_id in erased and differing.table not in KEPT_OF_ERASED:
            continue
        digests = found.get(offset, [])
        if not digests:
            findings.violation(check, team_id, place.at(offset), "is not in the archive")
        elif len(digests) > 1:
            findings.violation(check, team_id, place.at(offset), f"stands {len(digests)} times in the archive")
        elif digests[0] != digest:
            findings.violation(check, team_id, place.at(offset), "the archive has other bytes, another time or another team")
    for offset in sorted(found.keys() - differing.expected.keys()):
        findings.violation(check, "", place.at(offset), "the archive has a row that is no record of the log")
