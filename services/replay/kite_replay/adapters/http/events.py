"""GET /api/v1/events: wire forms in and out (wire contract, 3.1). No rules.

The answer is joined from stored bytes: the events in it are exactly those that were archived, and a page of 1,000 costs no parsing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from kite_common.clock import Clock
from kite_common.errors import ApiError, Malformed
from kite_common.runtime.observe import get_logger
from kite_common.x402.offers import RequestFacts
from kite_replay.adapters.http.answers import answered, limit_of, rate_headers
from kite_replay.adapters.http.authenticate import Credentials, authenticate
from kite_replay.adapters.http.traces import trace_fields
from kite_replay.application.ports import Allowances, Till
from kite_replay.application.read_events import ReadRequest
from kite_replay.application.serve_page import Served, ServePage
from kite_replay.domain import cursor as cursors
from kite_replay.domain import filters
from kite_replay.domain.access import Principal
from kite_replay.domain.allowance import rate_refusal
from kite_replay.domain.filters import Filters
from kite_replay.domain.query import FoundEvent

log = get_logger("kite.replay.http")

PATH: Final = "/api/v1/events"


@dataclass(frozen=True, slots=True)
class EventsRoute:
    """The route's parts; `__call__` answers one request. `till_of` looks what a request says about paying."""

    credentials: Credentials
    allowances: Allowances
    serve: ServePage
    till_of: Callable[[RequestFacts, ReadRequest], Till]
    clock: Clock

    async def __call__(self, request: Request) -> Response:
        """A page, or an error of the code list; always with the team's limits once they are known."""
        return await answered(request, self._answer)

    async def _answer(self, request: Request, limits: dict[str, str]) -> Response:
        principal = authenticate(request, self.credentials, "read", self.clock.unix_ms())
        wanted = read_request(request, principal)
        allowance = await self.allowances.take(principal.team_id)
        limits |= rate_headers(allowance.rate)
        refused = rate_refusal(allowance.rate)
        if refused is not None:
            raise refused
        served = await self.serve(wanted, allowance, self.till_of(facts_of(request), wanted))
        log.info(
            "events.read", team_id=principal.team_id, rows=len(served.page.rows), has_more=served.page.has_more,
            charged_atomic=served.amount_charged_atomic, request_id=request.state.request_id, **trace_fields(request),
        )  # fmt: skip
        return Response(page_body(served), media_type="application/json", headers=dict(served.headers))


def read_request(request: Request, principal: Principal) -> ReadRequest:
    """What the query asks for. Raises ApiError `invalid_limit`, `invalid_cursor` or `invalid_filter`."""
    limit, since_text = limit_of(request), request.query_params.get("since")
    try:
        since = None if since_text is None else cursors.parse(since_text)
    except Malformed:
        raise ApiError("invalid_cursor") from None
    return ReadRequest(principal.team_id, since, since_text, limit, principal.scopes, _filters(request))


def _filters(request: Request) -> Filters:
    given = request.query_params.getlist
    try:
        return filters.parse(given("type"), given("agent"), given("from"), given("to"))
    except Malformed as error:
        raise ApiError("invalid_filter", f"{error}.") from None


def facts_of(request: Request) -> RequestFacts:
    """The request as a payment is bound to it: byte for byte as received, also through the gateway. This route takes no body."""
    scope = request.scope
    raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
    return RequestFacts(request.method, raw_path.partition(b"?")[0], scope["query_string"], b"", request.headers.items())


def page_body(served: Served) -> bytes:
    """The JSON of a page."""
    page = served.page
    return b'{"events":[%b],"next_cursor":%b,"has_more":%b,"amount_charged_atomic":%d}' % (
        b",".join(map(_row, page.rows)),
        orjson.dumps(page.next_cursor),
        b"true" if page.has_more else b"false",
        served.amount_charged_atomic,
    )


def _row(row: FoundEvent) -> bytes:
    # The id is a UUID and the time ours: neither needs escaping.
    return b'{"event_id":"%b","created_at":"%b","event":%b}' % (row.event_id.encode(), cursors.timestamp(row.created_ms).encode(), row.body)
