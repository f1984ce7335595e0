"""Paths that the replay service answers, so that all of /api/v1 is one origin. Passes on, understands nothing.

Answers are streamed. Checks, limits and errors of these routes are replay's; only its absence is answered here, and who has no good key: a
replay that stands still must not hold what is asked by nobody. No route takes a body, so none is read: nobody can hold a place among the
requests in flight by sending one slowly. Whoever reads answers slowly holds few of them.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Protocol

import aiohttp
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send
from yarl import URL

from kite_common.errors import ApiError
from kite_common.ids import TeamId
from kite_common.runtime.component import READY, Readiness
from kite_common.runtime.observe import get_logger
from kite_gateway.adapters.http.bearer import Bearer
from kite_gateway.adapters.http.context import Context, Header, context_of
from kite_gateway.adapters.http.problems import problem_response
from kite_gateway.adapters.http.replay_contract import OPERATIONS

log = get_logger("kite.gateway.proxy")

_CONNECT_TIMEOUT_S: Final = 2.0
_RETRY_S: Final = 2
# Answers of one team under way at once in this process. A page is read in well under a second by whoever reads it.
_MOST_PER_TEAM: Final = 8
# The same of all teams together: a quarter of the requests in flight by default, so that a replay that stands still stops nothing else.
_MOST: Final = 128
_CROWDED_RETRY_S: Final = 1
# The same for a part that replay sends and one that the client takes.
_PART_TIMEOUT_S: Final = 20.0
_PRIVATE: Final = {"Cache-Control": "private, no-store"}
_CHUNK_BYTES: Final = 64 * 1024
_OPEN: Final = (
    "No answer came in time. A page that costs something may have been charged, and reading it again may be charged again; "
    "a payment that was sent along may be sent again."
)
# An offer repeats the URL of its request, encoded twice: what the server takes for a request's head (32 KiB) becomes that much at most.
_MAX_HEADER_BYTES: Final = 256 * 1024
# RFC 9110, section 7.6.1, and what each side sets for itself.
_HOP_BY_HOP: Final = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te",
    "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip
_NOT_SENT: Final = _HOP_BY_HOP | {"host", "content-length", "x-request-id", "traceparent", "expect"}
_NOT_RETURNED: Final = _HOP_BY_HOP | {
    "x-request-id", "server", "date", "access-control-allow-origin", "access-control-expose-headers", "vary",
}  # fmt: skip


class ReplayProxy:
    """Passes requests on to the replay service at `base_url`; a Component because it holds connections.

    `timeout_s` is how long an answer may take to begin. However long it is, whoever takes it part by part gets all of it: it may be paid.
    """

    name = "replay_proxy"

    def __init__(self, base_url: str, timeout_s: float) -> None:
        self._base_url, self._timeout_s = base_url, timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Hold the connections until stopped."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S)
        # The library would take 100 connections and let the next request wait; what bounds them are the requests in flight.
        connections, no_cookies = aiohttp.TCPConnector(limit=0), aiohttp.DummyCookieJar()
        async with aiohttp.ClientSession(
            connector=connections, timeout=timeout, auto_decompress=False, cookie_jar=no_cookies, middlewares=(_once,),
            max_field_size=_MAX_HEADER_BYTES,
        ) as session:  # fmt: skip
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
            async with asyncio.timeout(self._timeout_s):
                answer = await self._session.request(request.method, self._url(request), headers=_sent(context), allow_redirects=False)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            log.warning("replay.unavailable", reason=type(error).__name__, request_id=context.request_id)
            not_asked = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
            return _unavailable(context, None if not_asked else _OPEN)
        response = TimedStream(_chunks(answer), answer.status)
        response.raw_headers = _returned(answer.raw_headers)
        return response

    def _url(self, request: Request) -> URL:
        """The same path and query, byte for byte: cursors and team ids are told apart by their encoding."""
        raw_path = request.scope.get("raw_path") or request.scope["path"].encode()
        query = request.scope["query_string"]
        path = raw_path.partition(b"?")[0].decode("latin-1")
        return URL(f"{self._base_url}{path}" + (f"?{query.decode('latin-1')}" if query else ""), encoded=True)


class Forwards(Protocol):
    """What is needed of `ReplayProxy`."""

    async def forward(self, request: Request) -> Response:
        """The answer of whoever is behind."""
        ...


class ReplayEndpoint:
    """Plain ASGI: one request with a good key is passed on, unless as many answers as may be read at once are under way, for its team or
    for all."""

    def __init__(self, proxy: Forwards, bearer: Bearer, most_per_team: int = _MOST_PER_TEAM, most: int = _MOST) -> None:
        self._proxy, self._bearer, self._most_per_team, self._most = proxy, bearer, most_per_team, most
        self._under_way: Counter[TeamId] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry. Raises Unavailable until all keys are known."""
        team_id = self._bearer.holder(scope)
        if team_id is None:
            return await _refused(ApiError("unauthorized", headers=_PRIVATE), scope, receive, send)
        if self._under_way[team_id] >= self._most_per_team:
            text = f"At most {self._most_per_team} answers of one team are read at once."
            error = ApiError("rate_limit_exceeded", text, retry_after_s=_CROWDED_RETRY_S, headers=_PRIVATE)
            return await _refused(error, scope, receive, send)
        if self._under_way.total() >= self._most:
            return await _refused(ApiError("overloaded", retry_after_s=_CROWDED_RETRY_S, headers=_PRIVATE), scope, receive, send)
        with self._place(team_id):
            answer = await self._proxy.forward(Request(scope, receive, send))
            return await answer(scope, receive, send)

    @contextmanager
    def _place(self, team_id: TeamId) -> Iterator[None]:
        self._under_way[team_id] += 1
        try:
            yield
        finally:
            self._under_way[team_id] -= 1
            if not self._under_way[team_id]:
                del self._under_way[team_id]


def routes(proxy: Forwards, bearer: Bearer) -> list[Route]:
    """One route for each path replay answers."""
    found, endpoint = [], ReplayEndpoint(proxy, bearer)
    for operation in OPERATIONS:
        route = Route(operation.path, endpoint)
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


class _ConnectionLost(aiohttp.ClientError):
    """The connection ended before there was an answer. Whether replay has done its work is not known."""


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Send a request once. The library would send a GET again whose connection broke, but a page is charged at each reading: whoever asks
    decides whether to ask again."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _ConnectionLost from error


async def _chunks(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    # An answer that breaks off must break off here too: an error ends the connection, a silent end would look complete.
    async with answer:
        while chunk := await _part(answer):
            yield chunk


async def _part(answer: aiohttp.ClientResponse) -> bytes:
    async with asyncio.timeout(_PART_TIMEOUT_S):
        return await answer.content.read(_CHUNK_BYTES)


def _sent(context: Context) -> dict[str, str]:
    named = _named(context.head.get(b"connection", b"").decode("latin-1"))
    sent = {name.decode("latin-1"): value.decode("latin-1") for name, value in context.head.items()}
    return {name: value for name, value in sent.items() if name not in _NOT_SENT | named} | {
        "x-request-id": context.request_id, "traceparent": context.trace.header(),
    }  # fmt: skip


def _returned(headers: Sequence[Header]) -> list[Header]:
    received = [(name.lower(), value) for name, value in headers]
    named = {part for name, value in received if name == b"connection" for part in _named(value.decode("latin-1"))}
    return [(name, value) for name, value in received if name.decode("latin-1") not in _NOT_RETURNED | named]


def _named(connection: str) -> set[str]:
    """Headers that Connection names belong to this hop only."""
    return {part.strip().lower() for part in connection.split(",") if part.strip()}


async def _refused(error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
    await problem_response(error, context_of(scope))(scope, receive, send)


def _unavailable(context: Context, text: str | None = None) -> Response:
    return problem_response(ApiError("replay_unavailable", text, retry_after_s=_RETRY_S, headers=_PRIVATE), context)
