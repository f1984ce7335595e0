"""Sender over aiohttp: bounded in time and bytes, no redirects, dials exactly the address that was checked. Knows no policy.

The pool has no limits of its own on purpose: lanes bound the connections of an endpoint, and one process's of all. A limit here
by host would let one team's hanging requests hold up another's to the same host, inside their 15 s.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final, cast

import aiohttp
from aiohttp import ClientResponse, ClientSession, ClientTimeout, TCPConnector, TraceConfig
from yarl import URL

from kite_common.runtime.component import READY, Readiness
from kite_common.runtime.observe import get_logger
from kite_delivery.adapters.resolver import CheckedResolver, Lookup, TargetRefused, system_lookup
from kite_delivery.domain.outcome import Answer, Failure, Reply, SendError
from kite_delivery.domain.request import OutboundRequest
from kite_delivery.domain.target import is_allowed, parse_address

log = get_logger("kite.delivery")

_MAX_BODY_BYTES: Final = 64 * 1024
_EXCERPT_CHARACTERS: Final = 512
# What no receiver needs to keep open for us; each idle connection is a file of ours.
_KEEP_ALIVE_S: Final = 15.0
# One deadline of ours covers name, connection, request and answer, and a second try; aiohttp's timers would begin anew.
_NO_TIMER: Final = ClientTimeout(total=None, sock_connect=None)
# Headers aiohttp would add by itself: the request is exactly that of the wire contract, 10.1.
_NOT_ADDED: Final = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")
# C0 and C1 controls, DEL, line and paragraph separators, marks that change the direction of text: an excerpt is shown to people.
_UNSAFE: Final = dict.fromkeys(
    [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFEFF], "\ufffd"
) | {0x09: " ", 0x0A: " ", 0x0D: " "}


@dataclass(slots=True)
class _Trip:
    """What is known of one request on the wire: whether it went over a connection that had been used before."""

    reused: bool = False


class HttpSender:
    """A Component that holds the connections, and the Sender that uses them."""

    name = "http-sender"

    def __init__(
        self, *, timeout_s: float, allow_private: bool, now_s: Callable[[], float],
        tls: ssl.SSLContext | None = None, lookup: Lookup = system_lookup,
    ) -> None:  # fmt: skip
        self._timeout_s, self._allow_private, self._now_s, self._tls, self._lookup = timeout_s, allow_private, now_s, tls, lookup
        self._session: ClientSession | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Hold the pool until `stop` is set."""
        async with self._open_session() as self._session:
            await stop.wait()
        self._session = None

    def readiness(self) -> Readiness:
        """Ready while the pool is open."""
        return READY if self._session is not None else Readiness(ready=False, reason="not started")

    async def send(self, request: OutboundRequest) -> Reply:
        """POST the exact bytes and read the answer; `timeout_s` in all. Every failure is a Reply; only cancelling raises."""
        if self._session is None:
            return Failure("connect")
        try:
            return await self._send(self._session, request)
        except Exception as error:  # noqa: BLE001 - the edge to all receivers of the world: nothing they send may end a partition
            if (word := _error_word(error)) is None:
                log.error("delivery.send_failed_unexpectedly", kind=type(error).__name__)  # noqa: TRY400 - its text may hold the url
            return Failure(word or "protocol")

    async def _send(self, session: ClientSession, request: OutboundRequest) -> Reply:
        url = URL(request.url)
        literal = parse_address(url.host or "")
        # aiohttp resolves names only; what is an address already is judged here.
        if literal is not None and not is_allowed(literal, allow_private=self._allow_private):
            return Failure("blocked")
        deadline_s = asyncio.get_running_loop().time() + self._timeout_s
        async with asyncio.timeout_at(deadline_s):
            response = await self._post(session, url, request)
        try:
            return await _read(response, deadline_s)
        finally:
            response.release()

    async def _post(self, session: ClientSession, url: URL, request: OutboundRequest) -> ClientResponse:
        """One POST; once more on a new connection if a kept one turned out to be closed by the receiver before it answered."""
        trip = _Trip()
        try:
            return await self._post_once(session, url, request, trip)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            if not trip.reused:
                raise
        return await self._post_once(session, url, request, trip)

    async def _post_once(self, session: ClientSession, url: URL, request: OutboundRequest, trip: _Trip) -> ClientResponse:
        trip.reused = False
        return await session.post(url, data=request.body, headers=request.headers, allow_redirects=False, trace_request_ctx=trip)

    def _open_session(self) -> ClientSession:
        connector = TCPConnector(
            resolver=CheckedResolver(allow_private=self._allow_private, now_s=self._now_s, lookup=self._lookup),
            use_dns_cache=False, limit=0, limit_per_host=0, keepalive_timeout=_KEEP_ALIVE_S,
            ssl=self._tls if self._tls is not None else True, socket_factory=self._checked_socket,
        )  # fmt: skip
        reuse = TraceConfig()
        reuse.on_connection_reuseconn.append(_note_reuse)
        return ClientSession(
            connector=connector, timeout=_NO_TIMER, auto_decompress=False, trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(), skip_auto_headers=_NOT_ADDED, trace_configs=[reuse],
        )  # fmt: skip

    def _checked_socket(self, info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, *_ = info
        return _CheckedSocket(family, kind, protocol, allow_private=self._allow_private)


class _CheckedSocket(socket.socket):
    """The last gate: whoever dials, and whatever was checked before, it connects to no address that is not allowed."""

    def __init__(self, *args: Any, allow_private: bool) -> None:
        super().__init__(*args)
        self._allow_private = allow_private

    def connect(self, address: Any) -> None:
        """Raises TargetRefused."""
        parsed = parse_address(address[0]) if isinstance(address, tuple) else None
        if parsed is None or not is_allowed(parsed, allow_private=self._allow_private):
            self.close()
            raise TargetRefused
        super().connect(address)


async def _note_reuse(_session: ClientSession, context: SimpleNamespace, _params: object) -> None:
    cast(_Trip, context.trace_request_ctx).reused = True


async def _read(response: ClientResponse, deadline_s: float) -> Answer:
    """The answer, its body read up to the bound. A body that breaks off or never ends takes nothing from the status."""
    error: str | None = None
    body = bytearray()
    try:
        async with asyncio.timeout_at(deadline_s):
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) >= _MAX_BODY_BYTES:
                    response.close()
                    break
    except TimeoutError:
        error = "body_too_slow"
        response.close()
    except (aiohttp.ClientError, OSError):
        error = "body_cut"
        response.close()
    return Answer(response.status, response.headers.get("Retry-After"), _excerpt(response, bytes(body)), error)


def _excerpt(response: ClientResponse, body: bytes) -> str | None:
    """The first 512 characters, safe to show; None for no body and for a compressed one, which is never unpacked."""
    if not body or response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        return None
    text = body[: 4 * _EXCERPT_CHARACTERS].decode("utf-8", "replace")
    return text[:_EXCERPT_CHARACTERS].translate(_UNSAFE)


def _error_word(error: Exception) -> SendError | None:
    """The word for a failure, None for one that nobody foresaw."""
    match error:
        case TargetRefused():
            return "blocked"
        case TimeoutError():
            return "timeout"
        case aiohttp.ClientConnectorDNSError():
            return "dns"
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return "tls"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError() | OSError():
            return "connect"
        case aiohttp.ClientError() | ValueError():
            return "protocol"
        case _:
            return None
