"""The app: routes and error handlers put together. No global app, no rules."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp

from kite_common.errors import ApiError, KiteError
from kite_common.runtime.http import ReadinessCheck, operations_routes
from kite_common.runtime.http_spans import NO_TELEMETRY, HttpSpans
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.spans import Tracer
from kite_gateway.adapters.http import (
    accounts,
    documents,
    hooks,
    messages,
    paid,
    proxy,
    replay_contract,
    webhook_config,
    webhook_keys,
    webhook_test,
)
from kite_gateway.adapters.http.bearer import Bearer
from kite_gateway.adapters.http.context import context_of
from kite_gateway.adapters.http.cors import Cors
from kite_gateway.adapters.http.edge import Edge
from kite_gateway.adapters.http.ingest import Ingest
from kite_gateway.adapters.http.openapi import Operation, document
from kite_gateway.adapters.http.openapi_examples import EXAMPLES, with_examples
from kite_gateway.adapters.http.problems import api_error, problem_response
from kite_gateway.application.configure_webhook import ConfigureWebhook
from kite_gateway.application.open_hook import OpenHook
from kite_gateway.application.send_test_event import SendTestEvent


@dataclass(frozen=True, slots=True)
class Surface:
    """What the routes are made of."""

    bearer: Bearer
    ingest: Ingest
    open_hook: OpenHook
    configure_webhook: ConfigureWebhook
    send_test_event: SendTestEvent
    accounts: accounts.Accounts
    paid: paid.Paid
    replay: proxy.Forwards | None
    readiness: ReadinessCheck
    metrics: Metrics
    random_bits: Callable[[int], int]
    cors_origins: tuple[str, ...] = ()
    allow_private_targets: bool = False
    max_in_flight: int = 512
    public_url: str | None = None
    signing_roots: Sequence[bytes] = field(default=(), repr=False)
    tracer: Tracer | None = None


def create_app(surface: Surface) -> ASGIApp:
    """The whole surface as one ASGI app."""
    endpoint = messages.MessagesEndpoint(surface.bearer, surface.ingest, surface.metrics)
    app = FastAPI(
        openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False, exception_handlers=dict(_HANDLERS), telemetry=NO_TELEMETRY
    )
    # The hot routes come first: routes are tried in order.
    app.router.routes += messages.routes(endpoint)
    app.router.routes += hooks.routes(hooks.HooksEndpoint(
        surface.open_hook, surface.ingest, surface.bearer, surface.metrics, surface.public_url or "",
    ))  # fmt: skip
    webhook_config.add_routes(
        app, surface.bearer, surface.configure_webhook, allow_private=surface.allow_private_targets, has_keys=bool(surface.signing_roots)
    )
    webhook_keys.add_routes(app, surface.accounts.public, surface.signing_roots)
    webhook_test.add_routes(app, surface.bearer, surface.send_test_event)
    accounts.add_routes(app, surface.bearer, surface.accounts)
    paid.add_routes(app, surface.bearer, surface.paid)
    app.router.routes += [
        *(proxy.routes(surface.replay, surface.bearer) if surface.replay is not None else []),
        *operations_routes(surface.readiness, surface.metrics),
        *documents.routes(openapi_document(surface.public_url)),
    ]
    return Edge(
        app, max_in_flight=surface.max_in_flight, cors=Cors(surface.cors_origins), metrics=surface.metrics, random_bits=surface.random_bits,
        spans=None if surface.tracer is None else HttpSpans(surface.tracer, app.router.routes),
    )  # fmt: skip


def openapi_document(
    public_url: str | None = None, replay: Sequence[Operation] = replay_contract.OPERATIONS, examples: Mapping[str, Any] = EXAMPLES
) -> dict[str, Any]:
    """The OpenAPI document of the surface, whether or not every part of it is configured. `replay`: what the replay service answers."""
    operations = (
        *messages.OPERATIONS, *hooks.OPERATIONS, *paid.OPERATIONS, *webhook_config.OPERATIONS, *webhook_test.OPERATIONS,
        *webhook_keys.OPERATIONS,
        *accounts.OPERATIONS, *replay, *documents.OPERATIONS,
    )  # fmt: skip
    return with_examples(document(operations, public_url), examples)


async def _http_error(request: Request, error: Exception) -> Response:
    """What the router refuses: unknown path, wrong method; Allow names every method the path takes."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    context = context_of(request.scope)
    if status == 405:
        return problem_response(ApiError("method_not_allowed", headers={"Allow": ", ".join(_allowed_methods(request))}), context)
    return problem_response(ApiError("not_found" if status == 404 else "internal_error"), context)


async def _kite_error(request: Request, error: Exception) -> Response:
    problem = api_error(error) if isinstance(error, KiteError) else ApiError("internal_error")
    return problem_response(problem, context_of(request.scope))


def _allowed_methods(request: Request) -> list[str]:
    """Of all routes of this path: a router names only the first one's."""
    methods: set[str] = set()
    for route in request.app.router.routes:
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            methods |= route.methods or set()
    return sorted(methods)


_HANDLERS: Final[Mapping[Any, Any]] = {
    HTTPException: _http_error, RequestValidationError: _kite_error, KiteError: _kite_error, Exception: _kite_error,
}  # fmt: skip
