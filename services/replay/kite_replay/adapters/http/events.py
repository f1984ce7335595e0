"""GET /api/v1/events: wire forms in and out (wire contract, 3.1). No rules.

The answer is joined from stored bytes: the events in it are exactly those that were archived, and a page of 1,000 costs no parsing.
"""

from dataclasses import dataclass
from typing import Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from kite_common.clock import Clock
from kite_common.errors import ApiError, Malformed, Unavailable
from kite_common.runtime.observe import get_logger
from kite_replay.adapters.http import problems
from kite_replay.adapters.http.authenticate import Credentials, authenticate
from kite_replay.application.ports import Allowances
from kite_replay.application.read_events import Page, ReadEvents, ReadRequest
from kite_replay.domain import cursor as cursors
from kite_replay.domain.access import Principal
from kite_replay.domain.allowance import RateLimit
from kite_replay.domain.query import FoundEvent, parse_limit

log = get_logger("kite.replay.http")

PATH: Final = "/api/v1/events"
_PRIVATE: Final = {"Cache-Control": "private, no-store"}


@dataclass(frozen=True, slots=True)
class EventsRoute:
    """The route's parts; `__call__` answers one request."""

    credentials: Credentials
    allowances: Allowances
    read: ReadEvents
    clock: Clock

    async def __call__(self, request: Request) -> Response:
        """A page, or an error of the code list; always with the team's limits once they are known."""
        limits: dict[str, str] = {}
        try:
            response = await self._answer(request, limits)
        except ApiError as error:
            response = problems.answer(error)
        except Unavailable:
            response = problems.answer(ApiError("service_unavailable", retry_after_s=1))
        response.headers.update(_PRIVATE | limits)
        return response

    async def _answer(self, request: Request, limits: dict[str, str]) -> Response:
        principal = authenticate(request, self.credentials, "read", self.clock.unix_ms())
        wanted = read_request(request, principal)
        allowance = await self.allowances.take(principal.team_id)
        if allowance.rate is not None:
            limits |= rate_headers(allowance.rate)
        try:
            page = await self.read(wanted, allowance)
        except Unavailable:
            raise ApiError("replay_unavailable", retry_after_s=1) from None
        log.info(
            "events.read", team_id=principal.team_id, rows=len(page.rows), has_more=page.has_more, request_id=request.state.request_id
        )
        return Response(page_body(page), media_type="application/json")


def read_request(request: Request, principal: Principal) -> ReadRequest:
    """What the query asks for. Raises ApiError `invalid_limit` or `invalid_cursor`."""
    query = request.query_params
    since_text = query.get("since")
    try:
        limit = parse_limit(query.get("limit"))
    except Malformed:
        raise ApiError("invalid_limit") from None
    try:
        since = None if since_text is None else cursors.parse(since_text)
    except Malformed:
        raise ApiError("invalid_cursor") from None
    return ReadRequest(principal.team_id, since, since_text, limit, principal.scopes)


def rate_headers(rate: RateLimit) -> dict[str, str]:
    """`RateLimit-*` of wire contract 2.4."""
    return {"RateLimit-Limit": str(rate.limit), "RateLimit-Remaining": str(rate.remaining), "RateLimit-Reset": str(rate.reset_s)}


def page_body(page: Page) -> bytes:
    """The JSON of a page."""
    return b'{"events":[%b],"next_cursor":%b,"has_more":%b,"amount_charged_atomic":%d}' % (
        b",".join(map(_row, page.rows)),
        orjson.dumps(page.next_cursor),
        b"true" if page.has_more else b"false",
        page.amount_charged_atomic,
    )


def _row(row: FoundEvent) -> bytes:
    # The id is a UUID and the time ours: neither needs escaping.
    return b'{"event_id":"%b","created_at":"%b","event":%b}' % (row.event_id.encode(), cursors.timestamp(row.created_ms).encode(), row.body)
