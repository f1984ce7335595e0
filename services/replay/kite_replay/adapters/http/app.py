"""The HTTP app of replay: its routes, the operators' routes, errors, request ids, CORS. No global app, no rules."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from kite_replay.adapters.http import events, problems
from kite_replay.adapters.http.events import EventsRoute
from kite_replay.adapters.http.request_ids import RequestIds

# What browsers may read of an answer (wire contract, 2.6).
_EXPOSED: Final = (
    "payment-required", "payment-response", "x-payment-response", "x-request-id", "retry-after", "ratelimit-limit", "ratelimit-remaining",
    "ratelimit-reset", "idempotency-replayed",
)  # fmt: skip


def create_app(route: EventsRoute, operations: Sequence[BaseRoute]) -> FastAPI:
    """The routes; documents of the API are the gateway's, which can take them from `openapi()` here."""
    app = FastAPI(title="Kite replay", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.router.routes.extend(operations)
    app.add_api_route(
        events.PATH, route.__call__, methods=["GET"], operation_id="read_events", summary="Replay retained events",
        response_model=None, responses=_RESPONSES, openapi_extra={"parameters": _PARAMETERS, "security": [{"bearer": []}]},
    )  # fmt: skip
    for error, handler in problems.HANDLERS.items():
        app.add_exception_handler(error, handler)
    app.add_exception_handler(Exception, problems.on_defect)
    return app


def served(app: ASGIApp, *, new_request_id: Callable[[], str], cors_origins: Sequence[str]) -> ASGIApp:
    """The app as it is served: every answer, also that of a defect, with its request id and what browsers may see."""
    if cors_origins:
        app = CORSMiddleware(
            app, allow_origins=cors_origins, allow_methods=["GET"], allow_headers=["authorization", "x-request-id"], expose_headers=_EXPOSED
        )
    return RequestIds(app, new_request_id)


def _parameter(name: str, schema: dict[str, Any], text: str, *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": required, "schema": schema, "description": text}


_PARAMETERS: Final = [
    _parameter("team_id", {"type": "string"}, "Team to read events from. Must match the API key.", required=True),
    _parameter("since", {"type": "string"}, "Cursor: `created_at` or `created_at:event_id` of a row. Missing: oldest retained event."),
    _parameter("limit", {"type": "integer", "default": 100}, "Number of events to return, clamped to 1..1000."),
]
_ROW: Final = {
    "type": "object",
    "required": ["event_id", "created_at", "event"],
    "properties": {
        "event_id": {"type": "string", "format": "uuid"},
        "created_at": {"type": "string", "examples": ["2026-04-27 12:34:56.789"]},
        "event": {"type": "object", "description": "The CloudEvent with its kiteseq."},
    },
}
_PAGE: Final = {
    "type": "object",
    "required": ["events", "next_cursor", "has_more", "amount_charged_atomic"],
    "properties": {
        "events": {"type": "array", "items": _ROW},
        "next_cursor": {"type": ["string", "null"]},
        "has_more": {"type": "boolean"},
        "amount_charged_atomic": {"type": "integer", "minimum": 0},
    },
}
_ERROR: Final = {
    "type": "object",
    "required": ["error", "message"],
    "properties": {"error": {"type": "string"}, "message": {"type": "string"}},
}
_CODES: Final = {
    400: "`missing_team_id`, `invalid_cursor`, `invalid_limit`",
    401: "`unauthorized`",
    403: "`forbidden`, `insufficient_permissions`, `no_active_subscription`",
    410: "`cursor_expired`, with `oldest_cursor` to go on from",
    429: "`rate_limit_exceeded`, with `retry_after_secs`",
    500: "`internal_error`",
    503: "`replay_unavailable`, `service_unavailable`, `overloaded`, with `retry_after_secs`",
}


def _response(text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: _response("A page of events, oldest first", _PAGE),
    **{status: _response(codes, _ERROR) for status, codes in _CODES.items()},
}
