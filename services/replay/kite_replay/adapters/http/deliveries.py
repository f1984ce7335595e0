"""GET /api/v1/deliveries and the two redrives: wire forms in and out (wire contract, section 3). No rules.

What selects deliveries stands in the query, also of the redrives: no route of replay takes a body.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from kite_common.clock import Clock, rfc3339, to_unix_ms
from kite_common.errors import ApiError, Malformed, OutcomeOpen
from kite_common.events.deliveries import DeliveryAttempted
from kite_common.ids import DeliveryId, EventId, is_uuid
from kite_common.runtime.observe import get_logger
from kite_replay.adapters.http.answers import answered, limit_of, rate_headers
from kite_replay.adapters.http.authenticate import Credentials, authenticate
from kite_replay.adapters.http.traces import trace_fields
from kite_replay.application.ports import Allowances
from kite_replay.application.read_deliveries import DeliveriesPage, DeliveriesRequest, ReadDeliveries
from kite_replay.application.redrive_deliveries import RedriveDeliveries
from kite_replay.domain.access import Principal
from kite_replay.domain.allowance import rate_refusal
from kite_replay.domain.deliveries import OPEN, STATUSES, Delivery, DeliveryFilter, parse_cursor

log = get_logger("kite.replay.http")

PATH: Final = "/api/v1/deliveries"
REDRIVE_PATH: Final = PATH + "/{id}/redrive"
REDRIVE_MANY_PATH: Final = PATH + "/redrive"
_ACCEPTED: Final = 202
_OPEN: Final = "Whether it was ordered is not known yet; ask again with the same `updated_before`, and it is one round."


@dataclass(frozen=True, slots=True)
class DeliveriesRoutes:
    """The routes' parts; each method answers one request."""

    credentials: Credentials
    allowances: Allowances
    read: ReadDeliveries
    redrive: RedriveDeliveries
    clock: Clock

    async def list(self, request: Request) -> Response:
        """A page, or an error of the code list; always with the team's limits once they are known."""
        return await answered(request, self._list)

    async def redrive_one(self, request: Request) -> Response:
        """202 once the order is durable."""
        return await answered(request, self._redrive_one)

    async def redrive_many(self, request: Request) -> Response:
        """202 once the orders of a page are durable."""
        return await answered(request, self._redrive_many)

    async def _list(self, request: Request, limits: dict[str, str]) -> Response:
        principal = authenticate(request, self.credentials, "read", self.clock.unix_ms())
        wanted = deliveries_request(request, principal, listed_filter(request))
        await self._take(principal, limits)
        return Response(page_body(await self.read(wanted)), media_type="application/json")

    async def _redrive_one(self, request: Request, limits: dict[str, str]) -> Response:
        principal = authenticate(request, self.credentials, "write", self.clock.unix_ms())
        await self._take(principal, limits)
        delivery_id = request.path_params["id"]
        if not is_uuid(delivery_id):
            raise ApiError("delivery_not_found")
        try:
            delivery, is_ordered = await self.redrive.one(
                principal.team_id, principal.scopes, DeliveryId(delivery_id.lower()), _time(request.query_params.get("updated_before"))
            )
        except OutcomeOpen:
            raise ApiError("service_unavailable", _OPEN) from None
        self._told(request, principal, ordered=int(is_ordered))
        status = "pending" if is_ordered else delivery.status
        document = {"id": delivery.key.delivery_id, "event_id": delivery.decided.event_id, "status": status}
        return Response(orjson.dumps(document), _ACCEPTED, media_type="application/json")

    async def _redrive_many(self, request: Request, limits: dict[str, str]) -> Response:
        principal = authenticate(request, self.credentials, "write", self.clock.unix_ms())
        wanted = deliveries_request(request, principal, redriven_filter(request))
        await self._take(principal, limits)
        try:
            redriven = await self.redrive.page(wanted)
        except OutcomeOpen:
            raise ApiError("service_unavailable", _OPEN) from None
        self._told(request, principal, ordered=redriven.ordered)
        document = {
            "redriven": redriven.ordered, "expired": redriven.expired, "next_cursor": redriven.next_cursor,
            "has_more": redriven.next_cursor is not None,
        }  # fmt: skip
        return Response(orjson.dumps(document), _ACCEPTED, media_type="application/json")

    async def _take(self, principal: Principal, limits: dict[str, str]) -> None:
        rate = (await self.allowances.take(principal.team_id)).rate
        limits |= rate_headers(rate)
        refused = rate_refusal(rate)
        if refused is not None:
            raise refused

    def _told(self, request: Request, principal: Principal, *, ordered: int) -> None:
        log.info(
            "deliveries.redriven", team_id=principal.team_id, ordered=ordered, request_id=request.state.request_id, **trace_fields(request)
        )


def deliveries_request(request: Request, principal: Principal, wanted: DeliveryFilter) -> DeliveriesRequest:
    """The filter, the place and the number. Raises ApiError `invalid_limit` or `invalid_cursor`."""
    limit, cursor = limit_of(request), request.query_params.get("cursor")
    try:
        before = None if cursor is None else parse_cursor(cursor)
    except Malformed:
        raise ApiError("invalid_cursor", "The cursor is no next_cursor of this route.") from None
    return DeliveriesRequest(principal.team_id, principal.scopes, wanted, before, limit)


def listed_filter(request: Request) -> DeliveryFilter:
    """What a list is narrowed by. Raises ApiError `invalid_status`, `invalid_event_id`, `invalid_time`."""
    query = request.query_params
    status, event_id = query.get("status"), query.get("event_id")
    if status is not None and status not in STATUSES:
        raise ApiError("invalid_status")
    if event_id is not None and not is_uuid(event_id):
        raise ApiError("invalid_event_id")
    return DeliveryFilter(
        status=status, event_id=None if event_id is None else EventId(event_id.lower()), event_type=query.get("event_type"),
        since_ms=_time(query.get("since")), until_ms=_time(query.get("until")), updated_before_ms=_time(query.get("updated_before")),
    )  # fmt: skip


def redriven_filter(request: Request) -> DeliveryFilter:
    """The same, for a redrive: a final status has to be named, so that nobody sends everything again by leaving it out."""
    wanted = listed_filter(request)
    if wanted.status is None or wanted.status in OPEN:
        raise ApiError("invalid_status", "status must be one of " + ", ".join(sorted(STATUSES - OPEN)) + ".")
    return wanted


def page_body(page: DeliveriesPage) -> bytes:
    """The JSON of a page."""
    return orjson.dumps({
        "deliveries": list(map(_delivery, page.deliveries)), "next_cursor": page.next_cursor, "has_more": page.has_more,
    })  # fmt: skip


def _delivery(one: Delivery) -> dict[str, Any]:
    decided = one.decided
    return {
        "id": one.key.delivery_id, "event_id": decided.event_id, "event_type": decided.event_type, "kiteseq": one.kiteseq,
        "webhook_config_id": decided.webhook_config_id, "url": one.url, "status": one.status, "reason": one.reason,
        "attempt_count": one.attempt_count, "next_attempt_at": None if one.next_attempt_ms is None else rfc3339(one.next_attempt_ms),
        "created_at": rfc3339(one.created_ms), "updated_at": rfc3339(one.updated_ms), "attempts": list(map(_attempt, one.attempts)),
    }  # fmt: skip


def _attempt(one: DeliveryAttempted) -> dict[str, Any]:
    return {
        "attempt": one.attempt, "started_at": rfc3339(one.started_at), "duration_ms": one.duration_ms,
        "response_status": one.response_status, "error": one.error, "response_excerpt": one.response_excerpt,
    }  # fmt: skip


def _time(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        # A plus sign of a zone arrives as a space in a query that was not encoded.
        moment = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
        return to_unix_ms(moment) if moment.tzinfo is not None else _refuse_time()
    except (ValueError, OverflowError):
        return _refuse_time()


def _refuse_time() -> int:
    raise ApiError("invalid_time")
