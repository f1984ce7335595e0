"""Paths that the replay service answers, so that all of /api/v1 is one origin. Passes on, understands nothing.

Answers are streamed. Checks, limits and errors of these routes are replay's; only its absence is answered here. No route takes a body, so
none is read: nobody can hold a place among the requests in flight by sending one slowly.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

import aiohttp
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Send
from yarl import URL

from kite_common.errors import ApiError
from kite_common.runtime.component import READY, Readiness
from kite_common.runtime.observe import get_logger
from kite_gateway.adapters.http.context import Context, Header, context_of
from kite_gateway.adapters.http.problems import problem_response
from kite_gateway.adapters.http.replay_contract import OPERATIONS

log = get_logger("kite.gateway.proxy")

_CONNECT_TIMEOUT_S: Final = 2.0
_RETRY_S: Final = 2
_PART_TIMEOUT_S: Final = 20.0
_CHUNK_BYTES: Final = 64 * 1024
# RFC 9110, section 7.6.1, and what each side sets for itself.
_HOP_BY_HOP: Final = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te",
    "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip
_NOT_SENT: Final = _HOP_BY_HOP | {"host", "content-length", "x-request-id", "expect"}
_NOT_RETURNED: Final = _HOP_BY_HOP | {
    "x-request-id", "server", "date", "access-control-allow-origin", "access-control-expose-headers", "vary",
}  # fmt: skip


class ReplayProxy:
    """Passes requests on to the replay service at `base_url`; a Component because it holds connections."""

    name = "replay_proxy"

    def __init__(self, base_url: str, timeout_s: float) -> None:
        self._base_url, self._timeout_s = base_url, timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Hold the connections until stopped."""
        timeout = aiohttp.ClientTimeout(total=self._timeout_s, sock_connect=_CONNECT_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()) as session:
            self._session = session
            await stop.wait()
            self._session = None

    def readiness(self) -> Readiness:
        """Ready also while replay is away: ingest does not depend on it."""
        return READY

    async def forward(self, request: Request) -> Response:
        """Replay's answer, streamed; 503 replay_unavailable when there is none in time."""
        context = context_of(request.scope)
        if self._session is None:
            return _unavailable(context)
        try:
            answer = await self._session.request(request.method, self._url(request), headers=_sent(context), allow_redirects=False)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            log.warning("replay.unavailable", reason=type(error).__name__, request_id=context.request_id)
            return _unavailable(context)
        response = TimedStream(_chunks(answer), answer.status)
        response.raw_headers = _returned(answer.raw_headers)
        return response

    def _url(self, request: Request) -> URL:
        """The same path and query, byte for byte: cursors and team ids are told apart by their encoding."""
        raw_path = request.scope.get("raw_path") or request.scope["path"].encode()
        query = request.scope["query_string"]
        path = raw_path.partition(b"?")[0].decode("latin-1")
        return URL(f"{self._base_url}{path}" + (f"?{query.decode('latin-1')}" if query else ""), encoded=True)


def routes(proxy: ReplayProxy) -> list[Route]:
    """One route for each path replay answers."""
    found = []
    for operation in OPERATIONS:
        route = Route(operation.path, proxy.forward)
        # Starlette adds HEAD to every GET; what replay does not name must be refused here, with the right Allow.
        route.methods = {operation.method}
        found.append(route)
    return found


class TimedStream(StreamingResponse):
    """A reader that does not read must not keep its place among the requests in flight: a part not taken in time ends the connection."""

    part_timeout_s = _PART_TIMEOUT_S

    async def stream_response(self, send: Send) -> None:
        """Send head and parts. Raises TimeoutError."""

        async def in_time(message: Message) -> None:
            async with asyncio.timeout(self.part_timeout_s):
                await send(message)

        await super().stream_response(in_time)


async def _chunks(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    # An answer that breaks off must break off here too: an error ends the connection, a silent end would look complete.
    async with answer:
        async for chunk in answer.content.iter_chunked(_CHUNK_BYTES):
            yield chunk


def _sent(context: Context) -> dict[str, str]:
    named = _named(context.head.get(b"connection", b"").decode("latin-1"))
    sent = {name.decode("latin-1"): value.decode("latin-1") for name, value in context.head.items()}
    return {name: value for name, value in sent.items() if name not in _NOT_SENT | named} | {"x-request-id": context.request_id}


def _returned(headers: Sequence[Header]) -> list[Header]:
    received = [(name.lower(), value) for name, value in headers]
    named = {part for name, value in received if name == b"connection" for part in _named(value.decode("latin-1"))}
    return [(name, value) for name, value in received if name.decode("latin-1") not in _NOT_RETURNED | named]


def _named(connection: str) -> set[str]:
    """Headers that Connection names belong to this hop only."""
    return {part.strip().lower() for part in connection.split(",") if part.strip()}


def _unavailable(context: Context) -> Response:
    return problem_response(ApiError("replay_unavailable", retry_after_s=_RETRY_S, headers={"Cache-Control": "private, no-store"}), context)
