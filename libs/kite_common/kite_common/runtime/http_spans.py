"""The span of one HTTP request that was answered, for every service with an API. Knows routes only by their templates.

What callers write into a path is not told of: a hook's token stands there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from fastapi.telemetry import TelemetryConfig
from starlette.routing import BaseRoute, Match, Route

from kite_common.runtime.spans import Attributes, Span, Tracer
from kite_common.runtime.trace import TraceContext

# FastAPI makes spans of its own as soon as it finds a provider or a collector of OpenTelemetry, with paths as callers wrote them.
NO_TELEMETRY: Final[TelemetryConfig] = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}

_METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"))
_ERRORS_FROM: Final = 500


@dataclass(frozen=True, slots=True)
class HttpSpans:
    """Tells of requests; `routes` is the app's own list, so that routes added later count too."""

    tracer: Tracer
    routes: Sequence[BaseRoute]

    def now_ns(self) -> int:
        """When a request begins."""
        return self.tracer.now_ns()

    def answered(
        self, scope: Any, trace: TraceContext, caller: str | bytes | None, start_ns: int, status: int | None, attributes: Attributes
    ) -> None:
        """Tell of a request that is over, if its trace is sampled. `caller`: its own `traceparent`; `status` None: no answer was begun."""
        if trace.sampled:
            end_ns = max(start_ns, self.tracer.now_ns())
            self.tracer.sink.add(server_span(scope, route_of(self.routes, scope), trace, caller, (start_ns, end_ns), status, attributes))


def server_span(
    scope: Any, route: str | None, trace: TraceContext, caller: str | bytes | None, times_ns: tuple[int, int], status: int | None,
    attributes: Attributes,
) -> Span:  # fmt: skip
    """The span of a request; an error only where it is ours: an answer of 500 and above, or none."""
    parent, method = TraceContext.parse(caller), scope["method"] if scope["method"] in _METHODS else "_OTHER"
    error = "no_answer" if status is None else str(status) if status >= _ERRORS_FROM else None
    name = " ".join(part for part in (method if method != "_OTHER" else "HTTP", route) if part)
    described: Attributes = {
        "http.request.method": method, "http.route": route, "http.response.status_code": status,
        "network.protocol.version": scope.get("http_version"), "url.scheme": scope.get("scheme"), **attributes,
    }  # fmt: skip
    return Span(trace, parent.span_id if parent is not None else None, name, "server", *times_ns, described, error)


def route_of(routes: Sequence[BaseRoute], scope: Any) -> str | None:
    """The template of the path of a request, such as `/hooks/{team_id}/{source}`; None for a path that is no route's."""
    found = (route.path for route in routes if isinstance(route, Route) and route.matches(scope)[0] is not Match.NONE)
    return next(found, None)
