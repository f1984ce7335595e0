"""Read a page of a team's events: allowed, from a good cursor, in log order. No HTTP words.

Nothing appears behind a cursor that was handed out. All events of a team are in one partition; the archive shows at every moment a
beginning of each partition (see `archive_records.py`); a page is read from one such moment, in kiteseq order, and kiteseq is the log
position. So whatever becomes visible later lies after every row of the page.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from kite_common.clock import Clock
from kite_common.errors import ApiError
from kite_common.ids import EventId, TeamId
from kite_replay.application.ports import EventReader
from kite_replay.domain import cursor as cursors
from kite_replay.domain import scopes
from kite_replay.domain.allowance import Allowance, refusal
from kite_replay.domain.cursor import Cursor
from kite_replay.domain.query import EventQuery, FoundEvent
from kite_replay.domain.retention import Retention

# Cursors handed out lately, so that the next page needs no look-up. About 300 bytes each.
_REMEMBERED: Final = 10_000


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """One read. `since` is the parsed cursor, `since_text` what was sent; `key_scopes` are the texts on the API key."""

    team_id: TeamId
    since: Cursor | None
    since_text: str | None
    limit: int
    key_scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """The answer. `next_cursor` stands for the last row; on an empty page it is the cursor that was sent, or None."""

    rows: tuple[FoundEvent, ...]
    next_cursor: str | None
    has_more: bool
    amount_charged_atomic: int = 0


class ReadEvents:
    """The use case; one object serves all requests."""

    def __init__(self, reader: EventReader, retention: Retention, clock: Clock) -> None:
        self._reader, self._retention, self._clock = reader, retention, clock
        self._seqs: OrderedDict[tuple[TeamId, Cursor], int] = OrderedDict()

    async def __call__(self, request: ReadRequest, allowance: Allowance) -> Page:
        """The next page. Raises ApiError (refused, `cursor_expired`, `invalid_cursor`) and Unavailable."""
        refused = refusal(allowance)
        if refused is not None:
            raise refused
        oldest_ms = self._retention.oldest_readable_ms(now_ms := self._clock.unix_ms())
        if request.since is not None and request.since.created_ms < oldest_ms:
            raise ApiError("cursor_expired", extra={"oldest_cursor": cursors.timestamp(self._retention.edge_ms(now_ms))})
        # One row more than asked for tells whether more were readable.
        found = await self._reader.find(await self._query(request, oldest_ms, request.limit + 1))
        rows = found.rows[: request.limit]
        return Page(rows, self._next_cursor(request, rows), has_more=found.cut or len(found.rows) > request.limit)

    async def _query(self, request: ReadRequest, oldest_ms: int, limit: int) -> EventQuery:
        wanted = scopes.parse(request.key_scopes)
        if request.since is None:
            return EventQuery(request.team_id, oldest_ms, None, wanted, limit)
        after_seq = None if request.since.event_id is None else await self._seq_of(request.team_id, request.since, request.since.event_id)
        return EventQuery(request.team_id, request.since.created_ms, after_seq, wanted, limit)

    async def _seq_of(self, team_id: TeamId, since: Cursor, event_id: EventId) -> int:
        """Where the cursor's event stands. A fact that never changes, so what is remembered needs no check."""
        known = self._seqs.get((team_id, since))
        if known is not None:
            return known
        seq = await self._reader.seq_of(team_id, since.created_ms, event_id)
        if seq is None:
            raise ApiError("invalid_cursor", "The cursor names no event of this team with that time.")
        return seq

    def _next_cursor(self, request: ReadRequest, rows: tuple[FoundEvent, ...]) -> str | None:
        if not rows:
            return request.since_text
        last = Cursor(rows[-1].created_ms, EventId(rows[-1].event_id))
        self._seqs[request.team_id, last] = rows[-1].kiteseq
        self._seqs.move_to_end((request.team_id, last))
        if len(self._seqs) > _REMEMBERED:
            self._seqs.popitem(last=False)
        return cursors.encode(last)
