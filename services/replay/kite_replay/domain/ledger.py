"""What is asked of the ledger: entries of one team that moved money, newest first; and the cursors of such a walk. No SQL, no look-ups.

A cursor is `<log offset>:<entry id>` of a page's last entry; the next page begins strictly before it. All entries of a team stand in one
partition, so the offset orders them, and entries are never deleted, so a cursor never expires.
"""

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

from kite_common.errors import Malformed
from kite_common.ids import TeamId, is_uuid

_OFFSET: Final = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class LedgerCursor:
    """The place of one entry."""

    offset: int
    entry_id: str


@dataclass(frozen=True, slots=True)
class LedgerQuery:
    """Entries of one team with an amount other than zero, at `up_to` or older (None: from the newest), at most `limit`."""

    team_id: TeamId
    up_to: int | None
    limit: int


class FoundEntry(NamedTuple):
    """One row: its place, when it was appended (milliseconds since 1970, never decreasing with the offset), and the fact as logged."""

    offset: int
    entry_id: str
    created_ms: int
    fact: bytes


def parse(text: str) -> LedgerCursor:
    """The cursor a client sent. Raises Malformed for every text that `encode` does not write, and nothing else."""
    offset, separator, entry_id = text.partition(":")
    if not separator or _OFFSET.fullmatch(offset) is None or not is_uuid(entry_id) or int(offset) >= 1 << 63:
        raise Malformed("not a cursor")
    return LedgerCursor(int(offset), entry_id)


def encode(cursor: LedgerCursor) -> str:
    """The text `parse` reads as the same cursor."""
    return f"{cursor.offset}:{cursor.entry_id}"
