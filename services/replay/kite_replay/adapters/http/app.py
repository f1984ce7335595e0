"""The HTTP app of replay: its routes, the operators' routes, errors, request ids, CORS. No global app, no rules."""

from collections.abc import Callable, Sequence
from typing import Final

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from kite_common.runtime.http_spans import NO_TELEMETRY, HttpSpans
from kite_common.runtime.system import random_bits
from kite_replay.adapters.http import deliveries, events, ledger, problems
from kite_replay.adapters.http.deliveries import DeliveriesRoutes
from kite_replay.adapters.http.documents import (
    DELIVERIES_OPERATION,
    EVENTS_OPERATION,
    LEDGER_OPERATION,
    REDRIVE_MANY_OPERATION,
    REDRIVE_OPERATION,
)
from kite_replay.adapters.http.events import EventsRoute
from kite_replay.adapters.http.ledger import LedgerRoute
from kite_replay.adapters.http.request_ids import RequestIds
from kite_replay.adapters.http.traces import Traces

# What browsers may send beside what they always may.
_ASKED: Final = ("authorization", "x-request-id", "idempotency-key", "payment-signature", "x-payment", "x-payment-signature")
# What browsers may read of an answer (wire contract, 2.6).
_EXPOSED: Final = (
    "payment-required", "payment-response", "x-payment-response", "x-request-id", "retry-after", "ratelimit-limit", "ratelimit-remaining",
    "ratelimit-reset", "idempotency-replayed",
)  # fmt: skip


def create_app(
    read_events: EventsRoute, read_ledger: LedgerRoute, of_deliveries: DeliveriesRoutes, operations: Sequence[BaseRoute]
) -> FastAPI:
    """The routes; documents of the API are the gateway's, which can take them from `openapi()` here."""
    app = FastAPI(title="Kite replay", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False, telemetry=NO_TELEMETRY)
    app.router.routes.extend(operations)
    app.add_api_route(events.PATH, read_events.__call__, methods=["GET"], response_model=None, **EVENTS_OPERATION)
    app.add_api_route(ledger.PATH, read_ledger.__call__, methods=["GET"], response_model=None, **LEDGER_OPERATION)
    app.add_api_route(deliveries.PATH, of_deliveries.list, methods=["GET"], response_model=None, **DELIVERIES_OPERATION)
    app.add_api_route(
        deliveries.REDRIVE_MANY_PATH, of_deliveries.redrive_many, methods=["POST"], response_model=None, **REDRIVE_MANY_OPERATION
    )
    app.add_api_route(deliveries.REDRIVE_PATH, of_deliveries.redrive_one, methods=["POST"], response_model=None, **REDRIVE_OPERATION)
    for error, handler in problems.HANDLERS.items():
        app.add_exception_handler(error, handler)
    app.add_exception_handler(Exception, problems.on_defect)
    return app


def served(
    app: ASGIApp, *, new_request_id: Callable[[], str], cors_origins: Sequence[str], random_bits: Callable[[int], int] = random_bits,
    spans: HttpSpans | None = None,
) -> ASGIApp:  # fmt: skip
    """The app as it is served: every answer, also that of a defect, with its request id, its trace and what browsers may see."""
    app = Traces(app, random_bits, spans)
    if cors_origins:
        app = CORSMiddleware(
            app, allow_origins=cors_origins, allow_methods=["GET", "POST"], allow_headers=_ASKED, expose_headers=_EXPOSED
        )
    return RequestIds(app, new_request_id)
