"""The trace every request belongs to: the caller's, or a new one (W3C Trace Context). Looks at nothing else."""

from collections.abc import Callable
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kite_common.runtime.http_spans import HttpSpans
from kite_common.runtime.observe import TraceContext

_HEADER: Final = "traceparent"
# What operators ask is no part of anybody's trace.
_TOLD: Final = "/api/"


class Traces:
    """ASGI middleware; the trace stands in `scope["state"]["trace"]`. `spans` is told of each request; None: tracing is off."""

    def __init__(self, app: ASGIApp, draw: Callable[[int], int], spans: HttpSpans | None) -> None:
        self._app, self._draw, self._spans = app, draw, spans
        self._ratio = 0.0 if spans is None else spans.tracer.ratio

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        caller = Headers(scope=scope).get(_HEADER)
        trace = scope.setdefault("state", {})["trace"] = TraceContext.of(caller, self._draw, self._ratio)
        if self._spans is None or not trace.sampled or not scope["path"].startswith(_TOLD):
            await self._app(scope, receive, send)
            return
        began_ns, status = self._spans.now_ns(), None

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        finally:
            described = {"kite.request_id": scope["state"].get("request_id")}
            self._spans.answered(scope, trace, caller, began_ns, status, described)


def trace_fields(request: Request) -> dict[str, str]:
    """What a log line says of the request's trace."""
    trace: TraceContext | None = getattr(request.state, "trace", None)
    return {} if trace is None else trace.log_fields()
