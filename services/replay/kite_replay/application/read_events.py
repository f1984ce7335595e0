"""Read a page of a team's events: from a good cursor, in log order; or the range that a payment has bought. No HTTP words, no prices.

Nothing appears behind a cursor that was handed out. All events of a team are in one partition; the archive shows at every moment a
beginning of each partition (see `archive_records.py`); a page is read from one such moment, in kiteseq order, and kiteseq is the log
position. So whatever becomes visible later lies after every row of the page.
"""

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Final

from kite_common.clock import Clock
from kite_common.errors import ApiError
from kite_common.ids import EventId, TeamId
from kite_replay.application.archive_answers import archive_answers
from kite_replay.application.ports import EventReader
from kite_replay.domain import cursor as cursors
from kite_replay.domain import scopes
from kite_replay.domain.cursor import Cursor
from kite_replay.domain.filters import NONE, Filters
from kite_replay.domain.paid import PaidRange
from kite_replay.domain.query import EventQuery, Found, FoundEvent, Place
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
    filters: Filters = NONE


@dataclass(frozen=True, slots=True)
class Page:
    """What was read. `next_cursor` stands for the last row, or for the event up to which a narrowed reading has looked; where neither is
    there it is the cursor that was sent, or None."""

    rows: tuple[FoundEvent, ...]
    next_cursor: str | None
    has_more: bool


def cursor_of(row: FoundEvent | Place) -> Cursor:
    """The place strictly after a row."""
    return Cursor(row.created_ms, EventId(row.event_id))


class ReadEvents:
    """The use case; one object serves all requests."""

    def __init__(self, reader: EventReader, retention: Retention, clock: Clock) -> None:
        self._reader, self._retention, self._clock = reader, retention, clock
        self._seqs: OrderedDict[tuple[TeamId, Cursor], int] = OrderedDict()

    async def __call__(self, request: ReadRequest) -> Page:
        """The next page. Raises ApiError (`cursor_expired`, `invalid_cursor`, `replay_unavailable`)."""
        with archive_answers():
            # One row more than asked for tells whether more were readable.
            found = await self._reader.find(await self._query(request, request.limit + 1))
        return self._page(request, found, request.limit)

    async def exactly(self, request: ReadRequest, bought: PaidRange) -> Page:
        """The events behind the request's cursor up to the range's end, never more than its rows: the same ones at every reading, as
        nothing appears behind a cursor. What has left the retained time is not in it any more.

        Raises ApiError (`cursor_expired`, also if the end is not retained any more; `invalid_cursor`, `replay_unavailable`).
        """
        with archive_answers():
            query = await self._query(request, bought.rows + 1)
            end_seq = await self._known_seq(request.team_id, bought.end)
            if end_seq is None:
                raise self._expired()
            found = await self._up_to(query, end_seq)
        inside = tuple(row for row in found.rows if row.kiteseq <= end_seq)
        behind = found.cut or len(inside) < len(found.rows)
        return self._page(request, Found(inside, cut=behind), bought.rows)

    async def _up_to(self, query: EventQuery, end_seq: int) -> Found:
        """What the query selects, put together where the archive stops early, until the end is in it."""
        found = await self._reader.find(query)
        while found.cut and found.reached_seq < end_seq and len(found.rows) < query.limit:
            behind = replace(query, after_seq=found.reached_seq, limit=query.limit - len(found.rows))
            more = await self._reader.find(behind)
            found = Found(found.rows + more.rows, more.cut, more.stopped_at)
        return found

    def _page(self, request: ReadRequest, found: Found, limit: int) -> Page:
        rows = found.rows[:limit]
        more = len(found.rows) > limit
        last = (None if more else found.stopped_at) or (rows[-1] if rows else None)
        return Page(rows, self._next_cursor(request, last), has_more=found.cut or more)

    async def _query(self, request: ReadRequest, limit: int) -> EventQuery:
        oldest_ms, wanted = self._retention.oldest_readable_ms(self._clock.unix_ms()), scopes.parse(request.key_scopes)
        if request.since is None:
            return EventQuery(request.team_id, oldest_ms, None, wanted, limit, request.filters)
        if request.since.created_ms < oldest_ms:
            raise self._expired()
        after_seq = None if request.since.event_id is None else await self._known_seq(request.team_id, request.since)
        if request.since.event_id is not None and after_seq is None:
            raise ApiError("invalid_cursor", "The cursor names no event of this team with that time.")
        return EventQuery(request.team_id, request.since.created_ms, after_seq, wanted, limit, request.filters)

    def _expired(self) -> ApiError:
        return ApiError("cursor_expired", extra={"oldest_cursor": cursors.timestamp(self._retention.edge_ms(self._clock.unix_ms()))})

    async def _known_seq(self, team_id: TeamId, cursor: Cursor) -> int | None:
        """Where the cursor's event stands, None if there is none. A fact that never changes, so what is remembered needs no check."""
        known = self._seqs.get((team_id, cursor))
        if known is not None or cursor.event_id is None:
            return known
        return await self._reader.seq_of(team_id, cursor.created_ms, cursor.event_id)

    def _next_cursor(self, request: ReadRequest, place: FoundEvent | Place | None) -> str | None:
        if place is None:
            return request.since_text
        last = cursor_of(place)
        self._seqs[request.team_id, last] = place.kiteseq
        self._seqs.move_to_end((request.team_id, last))
        if len(self._seqs) > _REMEMBERED:
            self._seqs.popitem(last=False)
        return cursors.encode(last)
