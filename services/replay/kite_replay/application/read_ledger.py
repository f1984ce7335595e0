"""Read a page of a team's ledger, newest entry first. Open to every team, whatever its subscription. No HTTP words."""

from collections.abc import Sequence
from dataclasses import dataclass

from kite_common.errors import ApiError
from kite_common.ids import TeamId
from kite_replay.application.archive_answers import archive_answers
from kite_replay.application.ports import LedgerReader
from kite_replay.domain.ledger import FoundEntry, LedgerCursor, LedgerQuery, encode


@dataclass(frozen=True, slots=True)
class LedgerRequest:
    """One read; `before` None begins at the newest entry."""

    team_id: TeamId
    before: LedgerCursor | None
    limit: int


@dataclass(frozen=True, slots=True)
class LedgerPage:
    """The answer. `next_cursor` is None at the end."""

    entries: tuple[FoundEntry, ...]
    next_cursor: str | None

    @property
    def has_more(self) -> bool:
        """Whether older entries were readable."""
        return self.next_cursor is not None


@dataclass(frozen=True, slots=True)
class ReadLedger:
    """The use case; one object serves all requests."""

    reader: LedgerReader

    async def __call__(self, request: LedgerRequest) -> LedgerPage:
        """The next page. Raises ApiError (`invalid_cursor`, `replay_unavailable`)."""
        with archive_answers():
            # One row more than asked for tells whether more were readable.
            if request.before is None:
                found = await self.reader.entries(LedgerQuery(request.team_id, None, request.limit + 1))
            else:
                found = await self._behind(request, request.before)
        entries = tuple(found[: request.limit])
        more = len(found) > request.limit
        return LedgerPage(entries, encode(LedgerCursor(entries[-1].offset, entries[-1].entry_id)) if more else None)

    async def _behind(self, request: LedgerRequest, before: LedgerCursor) -> Sequence[FoundEntry]:
        """What is older than the cursor's entry, which is read along: so a cursor of another team or ledger is noticed."""
        found = await self.reader.entries(LedgerQuery(request.team_id, before.offset, request.limit + 2))
        if not found or (found[0].offset, found[0].entry_id) != (before.offset, before.entry_id):
            raise ApiError("invalid_cursor", "The cursor names no entry of this team.")
        return found[1:]
