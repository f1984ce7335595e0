"""What is asked of the archive: filters, order, limit, the team always present. No SQL.

Order is the team's log position (kiteseq) ascending, always.
"""

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

from kite_common.errors import Malformed
from kite_common.ids import TeamId
from kite_replay.domain.filters import NONE, Filters
from kite_replay.domain.scopes import ALL, Scope

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 1000
_INTEGER: Final = re.compile(r"-?[0-9]+")


@dataclass(frozen=True, slots=True)
class EventQuery:
    """Events of one team with `created_at` >= `from_ms` and, unless None, kiteseq > `after_seq`, that match a scope and the filters.

    At most `limit` rows come back. `from_ms` is milliseconds since 1970.
    """

    team_id: TeamId
    from_ms: int
    after_seq: int | None
    scopes: tuple[Scope, ...]
    limit: int
    filters: Filters = NONE

    @property
    def is_narrowed(self) -> bool:
        """Whether rows may be passed over, so that their number says nothing of how many have to be looked at."""
        return bool(self.filters) or self.scopes != ALL


class Place(NamedTuple):
    """Where one event stands. `created_ms` is milliseconds since 1970."""

    event_id: str
    created_ms: int
    kiteseq: int


class FoundEvent(NamedTuple):
    """One row of a page: the event's id and bytes as they go out, and its place. `created_ms` is milliseconds since 1970."""

    event_id: str
    created_ms: int
    kiteseq: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Found:
    """The rows a query found, in order.

    `cut` says that the archive stopped early: the rows are too large for one answer, or too many had to be passed over. `stopped_at`
    is the event up to which it has looked, if that is not the last row.
    """

    rows: tuple[FoundEvent, ...]
    cut: bool = False
    stopped_at: Place | None = None

    @property
    def reached_seq(self) -> int:
        """The kiteseq up to which the answer is complete, -1 if there is none. Of an answer that was cut."""
        if self.stopped_at is not None:
            return self.stopped_at.kiteseq
        return self.rows[-1].kiteseq if self.rows else -1


def parse_limit(text: str | None) -> int:
    """The `limit` of a request: default 100, clamped into 1..1000 (wire contract, 3.1). Raises Malformed if not an integer."""
    if text is None:
        return DEFAULT_LIMIT
    if _INTEGER.fullmatch(text) is None:
        raise Malformed("limit is not an integer")
    # Cut before int(): a number of a million digits is clamped like any other, without being computed.
    digits = text.lstrip("-").lstrip("0")
    if text.startswith("-"):
        return 1
    return MAX_LIMIT if len(digits) > len(str(MAX_LIMIT)) else max(1, min(MAX_LIMIT, int(digits or "0")))
