"""The outermost layer, in raw ASGI: request id, trace, CORS, requests in flight, the last resort for defects. Knows no route.

It stands before authentication and parsing because a refusal that costs as much as an answer protects nothing.
"""

import re
from collections.abc import Callable
from typing import Any, Final

import orjson
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kite_common.errors import ApiError
from kite_common.runtime.http_spans import HttpSpans
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.observe import TraceContext, get_logger
from kite_common.runtime.spans import Attributes
from kite_gateway.adapters.http.bodies import Bodies
from kite_gateway.adapters.http.context import Context, Header, attach, found_context, read_head
from kite_gateway.adapters.http.cors import Cors
from kite_gateway.adapters.http.problems import problem_response
from kite_gateway.adapters.http.request import ClientGone

log = get_logger("kite.gateway.http")

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}")
# Only these count as in flight: operators must be able to ask an overloaded process how it is.
_LIMITED: Final = ("/api/", "/hooks/")
_OVERLOAD_RETRY_S: Final = 1


class Edge:
    """Wraps the app. `max_in_flight` requests are worked on at once; more are refused before anything of them is read.

    `spans` is told of requests to what is limited, those of the public API; None: tracing is off.
    """

    def __init__(
        self, app: ASGIApp, *, max_in_flight: int, cors: Cors, metrics: Metrics, random_bits: Callable[[int], int],
        spans: HttpSpans | None = None,
    ) -> None:  # fmt: skip
        self._app, self._max_in_flight, self._cors, self._random_bits = app, max_in_flight, cors, random_bits
        self._spans, self._ratio = spans, 0.0 if spans is None else spans.tracer.ratio
        self._in_flight = 0
        # Half of the places: the other half is for work, however slowly bodies are sent.
        self._bodies = Bodies((max_in_flight + 1) // 2)
        self._refused = metrics.counter("kite_gateway_refused_total")
        metrics.gauge("kite_gateway_in_flight").set_function(lambda: self._in_flight)
        overloaded = ApiError("overloaded", retry_after_s=_OVERLOAD_RETRY_S)
        self._overloaded_body = orjson.dumps(overloaded.body())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await _refuse_socket(receive, send)
            return
        head = read_head(scope["headers"])
        request_id = self._request_id(head)
        extra: list[Header] = [(b"x-request-id", request_id), *self._cors.headers(head)]
        if not scope["path"].startswith(_LIMITED):
            await self._answer(scope, head, extra, receive, send)
        elif self._in_flight >= self._max_in_flight:
            await self._refuse_overload(extra, send)
        else:
            self._in_flight += 1
            try:
                if self._spans is None:
                    await self._answer(scope, head, extra, receive, send)
                else:
                    await self._traced(self._spans, scope, head, extra, receive, send)
            finally:
                self._in_flight -= 1

    async def _traced(
        self, spans: HttpSpans, scope: Scope, head: dict[bytes, bytes], extra: list[Header], receive: Receive, send: Send
    ) -> None:
        began_ns = spans.now_ns()
        try:
            await self._answer(scope, head, extra, receive, send)
        finally:
            context = found_context(scope)
            if context is not None:
                spans.answered(scope, context.trace, head.get(b"traceparent"), began_ns, context.status, _described(context))

    async def _answer(self, scope: Scope, head: dict[bytes, bytes], extra: list[Header], receive: Receive, send: Send) -> None:
        preflight = self._cors.preflight(scope["method"], head) if self._cors.is_on else None
        if preflight is not None:
            await _send(send, 204, b"", [*extra, *preflight])
            return
        client = scope.get("client")
        trace = TraceContext.of(head.get(b"traceparent"), self._random_bits, self._ratio)
        context = Context(
            extra[0][1].decode(), head, extra, trace=trace, bodies=self._bodies, client_host=client[0] if client else None
        )
        attach(scope, context)

        async def send_with_extra(message: Message) -> None:
            if message["type"] == "http.response.start":
                context.status = message["status"]
                message["headers"] = [*message.get("headers", ()), *context.extra]
            await send(message)

        try:
            await self._app(scope, receive, send_with_extra)
        except (ClientGone, ClientDisconnect):
            return
        except Exception:
            log.exception(
                "request.failed", request_id=context.request_id, method=scope["method"], team_id=context.team_id, **trace.log_fields()
            )
            # An answer that has begun cannot be changed any more; the server cuts it off when nothing follows.
            if context.status is None:
                await problem_response(ApiError("internal_error"), context)(scope, receive, send_with_extra)
        if context.code is not None:
            self._refused.labels(code=context.code).inc()

    async def _refuse_overload(self, extra: list[Header], send: Send) -> None:
        self._refused.labels(code="overloaded").inc()
        retry = (b"retry-after", b"%d" % _OVERLOAD_RETRY_S)
        await _send(send, 503, self._overloaded_body, [*extra, retry, (b"cache-control", b"private, no-store")])

    def _request_id(self, head: dict[bytes, bytes]) -> bytes:
        """The caller's id if it is one, else a fresh UUID version 4."""
        given = head.get(b"x-request-id")
        if given is not None and _REQUEST_ID.fullmatch(given):
            return given
        bits = self._random_bits(122)
        h = f"{(bits >> 74) << 80 | 0x4 << 76 | (bits >> 62 & 0xFFF) << 64 | 0x2 << 62 | bits & 0x3FFF_FFFF_FFFF_FFFF:032x}"
        return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}".encode()


def _described(context: Context) -> Attributes:
    """What the span of a request says beside what all have: what its log line says, and nothing else that a caller wrote."""
    return {
        "kite.team_id": context.team_id, "kite.event_id": context.event_id, "kite.error_code": context.code,
        "kite.request_id": context.request_id,
    }  # fmt: skip


async def _refuse_socket(receive: Receive, send: Send) -> None:
    """The gateway has no WebSocket routes: the handshake is refused with 403."""
    await receive()
    await send({"type": "websocket.close", "code": 1000})


async def _send(send: Send, status: int, body: bytes, headers: list[Header]) -> None:
    described: list[Any] = [*headers]
    if body:
        described += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": described})
    await send({"type": "http.response.body", "body": body})
