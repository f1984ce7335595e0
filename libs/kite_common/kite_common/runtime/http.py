"""Serves an ASGI app as a Component, and the routes operators ask: /livez, /readyz, /health, /ready, /metrics. Takes no signals.

uvicorn does the serving, with bounds it lacks by itself: bytes and number of headers, and the time a request head may take.
"""

import asyncio
import contextlib
import errno
import math
import socket
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from kite_common.errors import ApiError, ConfigurationError
from kite_common.runtime.component import READY, Readiness
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.system import monotonic_s

# A hook stores at most 16 KiB of headers; cookies, payment headers and the request line come on top.
MAX_HEAD_BYTES: Final = 32 * 1024
MAX_HEADERS: Final = 128
# From the first byte of a connection or request to the end of its headers: a trickling client holds a socket no longer.
HEAD_TIMEOUT_S: Final = 15.0
KEEP_ALIVE_S: Final = 75
# For servers that the world calls: most clients send again within it.
FAREWELL_S: Final = 2.0
_LOOK_S: Final = 0.02
_BACKLOG: Final = 2048

ReadinessCheck = Callable[[], list[tuple[str, Readiness]]]


class HttpServer:
    """An ASGI app on one port. Stopping says farewell, then closes the port and waits for the requests in flight.

    `port` 0 takes a free one; `port` tells the real one once the server is ready. `drain_timeout_s` bounds the waiting: what is
    not answered by then is cut off. For `farewell_s` at most, as long as there are connections, each answer asks its client to call
    on another one (`Connection: close`, RFC 9112, section 9.6): closing a connection that is only kept would cut off the request
    that is just being sent on it. X-Forwarded-For is believed only from `trusted_proxies`.
    `run` raises ConfigurationError when the address cannot be had.
    """

    def __init__(
        self, app: ASGIApp, *, host: str, port: int, drain_timeout_s: float = 12.0, farewell_s: float = 0.0,
        trusted_proxies: Sequence[str] = (), name: str = "http",
    ) -> None:  # fmt: skip
        self.name = name
        self.port = port
        self._farewell_s = farewell_s
        self._app, self._host, self._drain_timeout_s, self._trusted = app, host, drain_timeout_s, list(trusted_proxies)
        self._server: _Server | None = None
        self._stopping = False

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set; answers already begun are finished."""
        with contextlib.closing(_listen(self._host, self.port)) as listener:
            self.port = listener.getsockname()[1]
            self._server = _Server(self._config())
            serving = asyncio.create_task(self._server.serve(sockets=[listener]), name=f"{self.name}.serve")
            stopping = asyncio.create_task(stop.wait(), name=f"{self.name}.stop")
            try:
                await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
                self._stopping = True
                if not serving.done():
                    await self._server.say_farewell(self._farewell_s)
                self._server.should_exit = True
                await serving
            finally:
                await _end(stopping, serving)
                self._server.hang_up()
        if not stop.is_set():
            raise RuntimeError("the HTTP server ended by itself")

    def readiness(self) -> Readiness:
        """Ready while the port takes connections."""
        if self._stopping:
            return Readiness(ready=False, reason="draining")
        if self._server is None or not self._server.started:
            return Readiness(ready=False, reason="not listening yet")
        return READY

    def _config(self) -> uvicorn.Config:
        return uvicorn.Config(
            self._app,
            interface="asgi3",
            loop="none",
            http=_BoundedProtocol,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(self._trusted),
            forwarded_allow_ips=self._trusted,
            backlog=_BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=math.ceil(self._drain_timeout_s),
            # Client frames are at most 64 KiB; pings every 30 s, patience of 300 s (wire contract, 8.2 and 8.6).
            ws_max_size=64 * 1024,
            ws_ping_interval=30.0,
            ws_ping_timeout=300.0,
        )


def operations_routes(readiness: ReadinessCheck, metrics: Metrics) -> list[Route]:
    """What operators and orchestrators ask of every service; not part of the public API but for /health and /ready."""

    async def alive(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(_request: Request) -> Response:
        return ready_answer(_observed(readiness(), metrics))

    async def exposition(_request: Request) -> Response:
        _observed(readiness(), metrics)
        return metrics.exposition()

    return [
        Route("/livez", alive), Route("/health", alive), Route("/readyz", ready), Route("/ready", ready), Route("/metrics", exposition),
    ]  # fmt: skip


def operations_app(readiness: ReadinessCheck, metrics: Metrics) -> ASGIApp:
    """An app of these routes only, for services without an API of their own. Other paths answer as the wire contract says."""
    return Starlette(routes=operations_routes(readiness, metrics), exception_handlers={HTTPException: _problem})


def ready_answer(components: Sequence[tuple[str, Readiness]]) -> Response:
    """200, or 503 that names every component that is not ready and why."""
    failing = {name: state.reason for name, state in components if not state.ready}
    if not failing:
        return JSONResponse({"status": "ok"})
    error = ApiError("service_unavailable", "Not ready: " + ", ".join(failing), {"failing": failing}, retry_after_s=1)
    return JSONResponse(error.body(), error.status, headers={"Retry-After": "1"})


def _observed(components: list[tuple[str, Readiness]], metrics: Metrics) -> list[tuple[str, Readiness]]:
    for name, state in components:
        metrics.gauge("kite_component_ready").labels(component=name).set(state.ready)
    return components


async def _problem(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = error.headers if isinstance(error, HTTPException) else None
    problem = ApiError({404: "not_found", 405: "method_not_allowed"}.get(status, "internal_error"))
    return JSONResponse(problem.body(), problem.status, headers=headers)


def _listen(host: str, port: int) -> socket.socket:
    """The listening socket. Raises ConfigurationError that says what is wrong with host and port."""
    try:
        both = host in ("", "::")
        family = socket.AF_INET6 if ":" in host or both else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=_BACKLOG, dualstack_ipv6=both and socket.has_dualstack_ipv6())
    except OSError as error:
        raise ConfigurationError([_bind_problem(host, port, error)]) from error


def _bind_problem(host: str, port: int, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"port {port} is taken: stop the program that listens there, or set KITE_PORT to another one"
        case errno.EACCES | errno.EPERM:
            return f"port {port} may not be opened by this user: set KITE_PORT to one above 1023"
        case _:
            return f"{host} is no address of this machine: set KITE_HOST, for example to 0.0.0.0 ({error.strerror})"


async def _end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel what still runs, and wait until it is gone."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the supervisor owns signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def say_farewell(self, within_s: float) -> None:
        """Answer as before, but let no client keep its connection, until there is none left or the time is over."""
        close = (b"connection", b"close")
        # What uvicorn begins each answer with, those that are under way too; it makes that anew from the second list once a second.
        self.server_state.default_headers.append(close)
        self.config.encoded_headers.append(close)
        until = monotonic_s() + within_s
        while self.server_state.connections and monotonic_s() < until:  # noqa: ASYNC110 - uvicorn tells nobody
            await asyncio.sleep(_LOOK_S)

    def hang_up(self) -> None:
        """Close what is left after the drain deadline, or when draining was cancelled."""
        for server in getattr(self, "servers", ()):
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.close()


class _HeadTooLarge(Exception):
    """Raised inside the parser's callbacks to stop it."""


class _BoundedProtocol(HttpToolsProtocol):
    """HTTP/1.1 with a bound on the request head, and the error body of the wire contract for what is no HTTP."""

    _head_bytes = 0
    _too_large = False
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the base class
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_arrived()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = 0
        self._expect_head()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        super().on_header(name, value)
        if len(self.headers) > MAX_HEADERS:
            self._stop_parsing()

    def on_headers_complete(self) -> None:
        self._head_arrived()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - the base class calls it so
        """Answer what the parser refused, as JSON, and hang up. `msg` is uvicorn's and says nothing of use."""
        status, reason, code, message = (
            (431, b"Request Header Fields Too Large", "headers_too_large", "The request line and headers are too large.")
            if self._too_large
            else (400, b"Bad Request", "bad_request", "Not a valid HTTP/1.1 request.")
        )
        body = orjson.dumps({"error": code, "message": message})
        head = b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(head % (status, reason, len(body)) + body)
        self.transport.close()

    def _count(self, length: int) -> None:
        self._head_bytes += length
        if self._head_bytes > MAX_HEAD_BYTES:
            self._stop_parsing()

    def _stop_parsing(self) -> None:
        self._too_large = True
        raise _HeadTooLarge

    def _expect_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._head_is_late)

    def _head_arrived(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.close()
