"""What is asked of the archive: filters, order, limit, the team always present. No SQL.

Order is the team's log position (kiteseq) ascending, always.
"""

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

from kite_common.errors import Malformed
from kite_common.ids import TeamId
from kite_replay.domain.scopes import Scope

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 1000
_INTEGER: Final = re.compile(r"-?[0-9]+")


@dataclass(frozen=True, slots=True)
class EventQuery:
    """Events of one team with `created_at` >= `from_ms` and, unless None, kiteseq > `after_seq`, that match a scope.

    At most `limit` rows come back. `from_ms` is milliseconds since 1970.
    """

    team_id: TeamId
    from_ms: int
    after_seq: int | None
    scopes: tuple[Scope, ...]
    limit: int


class FoundEvent(NamedTuple):
    """One row of a page: the event's id and bytes as they go out, and its place. `created_ms` is milliseconds since 1970."""

    event_id: str
    created_ms: int
    kiteseq: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Found:
    """The rows a query found, in order. `cut` says that the archive stopped early because the rows are too large for one answer."""

    rows: tuple[FoundEvent, ...]
    cut: bool = False


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
