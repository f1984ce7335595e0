"""Read a page of a team's attempt log, newest event first. Open to every team, whatever its subscription. No HTTP words.

Places come first, by what a single fact can tell; then all facts of those places, and only these say what a delivery's status is now and
whether the key may see it. What does not pass is left out and the next places are looked at, a bounded number: a page may be shorter than
asked for and still say that there is more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from kite_common.errors import ApiError
from kite_common.ids import TeamId
from kite_replay.application.archive_answers import archive_answers
from kite_replay.application.found_or_gone import found_or_gone
from kite_replay.application.ports import DeliveryReader
from kite_replay.domain import scopes as scope_rules
from kite_replay.domain.deliveries import (
    Delivery,
    DeliveryFilter,
    DeliveryKey,
    DeliveryQuery,
    EventLabels,
    deliveries_of,
    format_cursor,
    is_visible,
    is_wanted,
)

# Places looked at together. A delivery of ten attempts is some 30 KB at most: 6 MB.
_AT_ONCE: Final = 200
# And for one page, when few of them pass.
_LOOKED_AT: Final = 10_000
# Rows of a page that are very large (long answers of receivers, many attempts) end it early.
_MOST_ATTEMPTS: Final = 5_000


@dataclass(frozen=True, slots=True)
class DeliveriesRequest:
    """One read; `before` None begins at the newest event. `scopes` are those of the key. `whole_since_ms`: of events since then none is
    left out because the archive cannot yet tell whether the key may see it."""

    team_id: TeamId
    scopes: tuple[str, ...]
    wanted: DeliveryFilter
    before: DeliveryKey | None
    limit: int
    whole_since_ms: int | None = None


@dataclass(frozen=True, slots=True)
class DeliveriesPage:
    """The answer. `next_cursor` is None at the end."""

    deliveries: tuple[Delivery, ...]
    next_cursor: str | None

    @property
    def has_more(self) -> bool:
        """Whether older ones may be readable."""
        return self.next_cursor is not None


@dataclass(frozen=True, slots=True)
class ReadDeliveries:
    """The use case; one object serves all requests."""

    reader: DeliveryReader

    async def __call__(self, request: DeliveriesRequest) -> DeliveriesPage:
        """The next page. Raises ApiError `replay_unavailable`."""
        with archive_answers():
            return await self._page(request)

    async def one(self, team_id: TeamId, scopes: tuple[str, ...], wanted: DeliveryFilter) -> Delivery:
        """The delivery a filter names. Raises ApiError (`delivery_not_found`, `replay_unavailable`)."""
        page = await self(DeliveriesRequest(team_id, scopes, wanted, None, 1))
        if not page.deliveries:
            raise ApiError("delivery_not_found")
        return page.deliveries[0]

    async def _page(self, request: DeliveriesRequest) -> DeliveriesPage:
        found: list[Delivery] = []
        place, looked_at = request.before, 0
        while True:
            # One place more than asked for tells whether more were there.
            keys = await self.reader.keys(DeliveryQuery(request.team_id, request.wanted, place, _AT_ONCE + 1))
            looked, more = keys[:_AT_ONCE], len(keys) > _AT_ONCE
            passing = await self._passing(request, looked)
            room = request.limit - len(found)
            found += passing[:room]
            place = looked[-1] if looked else place
            looked_at += len(looked)
            if len(passing) > room:
                return _page_of(found, found[-1].key)
            if not more:
                return _page_of(found, None)
            if len(found) == request.limit or looked_at >= _LOOKED_AT or _heavy(found):
                return _page_of(found, place)

    async def _passing(self, request: DeliveriesRequest, keys: Sequence[DeliveryKey]) -> list[Delivery]:
        if not keys:
            return []
        facts = await self.reader.facts(request.team_id, keys)
        wanted = [one for one in deliveries_of(facts, keys) if is_wanted(one, request.wanted)]
        scopes = scope_rules.parse(request.scopes)
        if scopes == scope_rules.ALL or not wanted:
            return wanted
        labels = await self._labels(request, wanted)
        return [one for one in wanted if is_visible(one, scopes, None if one.kiteseq is None else labels.get(one.kiteseq))]

    async def _labels(self, request: DeliveriesRequest, wanted: Sequence[Delivery]) -> Mapping[int, EventLabels]:
        look = partial(self.reader.labels, request.team_id)
        if request.whole_since_ms is None:
            return await look([one.kiteseq for one in wanted if one.kiteseq is not None])
        return await found_or_gone(self.reader, look, wanted, request.whole_since_ms)


def _page_of(found: Sequence[Delivery], last: DeliveryKey | None) -> DeliveriesPage:
    return DeliveriesPage(tuple(found), None if last is None else format_cursor(last))


def _heavy(found: Sequence[Delivery]) -> bool:
    return sum(len(one.attempts) for one in found) >= _MOST_ATTEMPTS
