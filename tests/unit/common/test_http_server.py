"""The HTTP server: its port, its bounds, its draining; and the routes of operators."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from kite_common.errors import ConfigurationError
from kite_common.runtime import http
from kite_common.runtime.component import READY, Readiness
from kite_common.runtime.http import HttpServer, operations_app
from kite_common.runtime.observe import Metrics
from kite_common.testing.eventually import eventually

HOST = "127.0.0.1"
Check = Callable[[], list[tuple[str, Readiness]]]


@contextlib.asynccontextmanager
async def _serving(
    app: ASGIApp, drain_timeout_s: float = 5, farewell_s: float = 0
) -> AsyncIterator[tuple[HttpServer, asyncio.Event, "asyncio.Task[None]"]]:
    server, stop = HttpServer(app, host=HOST, port=0, drain_timeout_s=drain_timeout_s, farewell_s=farewell_s), asyncio.Event()
    assert not server.readiness().ready
    running = asyncio.create_task(server.run(stop))
    await eventually(lambda: server.readiness().ready, what="the server listens")
    try:
        yield server, stop, running
    finally:
        stop.set()
        await asyncio.wait({running})


@contextlib.asynccontextmanager
async def _client(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    async with _serving(app) as (server, _, _), httpx.AsyncClient(base_url=f"http://{HOST}:{server.port}", trust_env=False) as client:
        yield client


async def _raw(port: int, sent: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(sent)
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(10):
            received = await reader.read()
    writer.close()
    return received


def _ready() -> list[tuple[str, Readiness]]:
    return [("http", READY), ("table", READY)]


def _failing() -> list[tuple[str, Readiness]]:
    return [("http", READY), ("table", Readiness(ready=False, reason="3 records behind")), ("redis", Readiness(ready=False, reason="away"))]


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health", "/ready"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_ready_service_answers_ok(path: str, method: str) -> None:
    async with _client(operations_app(_ready, Metrics())) as client:
        answer = await client.request(method, path)
    assert answer.status_code == 200
    assert method == "HEAD" or answer.json() == {"status": "ok"}
    assert "server" not in answer.headers


@pytest.mark.parametrize("path", ["/readyz", "/ready"])
async def test_a_service_that_is_not_ready_names_what_fails(path: str) -> None:
    async with _client(operations_app(_failing, Metrics())) as client:
        answer, alive = await client.get(path), await client.get("/livez")
    assert (answer.status_code, alive.status_code) == (503, 200)
    body = answer.json()
    assert (body["error"], body["failing"]) == ("service_unavailable", {"table": "3 records behind", "redis": "away"})
    assert answer.headers["retry-after"] == str(body["retry_after_secs"]) == "1"


async def test_metrics_are_exposed_with_the_readiness_of_every_component() -> None:
    metrics = Metrics()
    metrics.up("delivery")
    async with _client(operations_app(_failing, metrics)) as client:
        answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert 'kite_component_ready{component="table"} 0.0' in answer.text
    assert 'kite_component_ready{component="http"} 1.0' in answer.text
    assert 'kite_up{service="delivery"' in answer.text


async def test_other_paths_and_methods_answer_as_the_wire_contract_says() -> None:
    async with _client(operations_app(_ready, Metrics())) as client:
        missing, wrong = await client.get("/nope"), await client.post("/health")
    assert (missing.status_code, missing.json()["error"]) == (404, "not_found")
    assert (wrong.status_code, wrong.json()["error"]) == (405, "method_not_allowed")
    assert "GET" in wrong.headers["allow"]


async def test_a_port_that_is_taken_is_said_clearly() -> None:
    async with _serving(operations_app(_ready, Metrics())) as (server, _, _):
        with pytest.raises(ConfigurationError, match=f"port {server.port} is taken"):
            await HttpServer(operations_app(_ready, Metrics()), host=HOST, port=server.port).run(asyncio.Event())


async def test_an_address_of_another_machine_is_said_clearly() -> None:
    with pytest.raises(ConfigurationError, match="KITE_HOST"):
        await HttpServer(operations_app(_ready, Metrics()), host="192.0.2.1", port=0).run(asyncio.Event())


class _Slow:
    """An app whose answer waits until the test lets it go."""

    def __init__(self) -> None:
        self.begun, self.may_answer = asyncio.Event(), asyncio.Event()
        self.app = Starlette(routes=[Route("/slow", self.answer)])

    async def answer(self, _request: Request) -> Response:
        self.begun.set()
        await self.may_answer.wait()
        return JSONResponse({"done": True})


async def test_stopping_finishes_the_requests_in_flight_and_takes_no_new_ones() -> None:
    slow = _Slow()
    async with _serving(slow.app) as (server, stop, running), httpx.AsyncClient(trust_env=False) as client:
        answer = asyncio.create_task(client.get(f"http://{HOST}:{server.port}/slow"))
        await slow.begun.wait()
        stop.set()
        await eventually(lambda: not server.readiness().ready, what="the server is draining")
        await eventually(lambda: _refuses(server.port), what="new connections are refused")
        assert not running.done()
        slow.may_answer.set()
        assert (await answer).json() == {"done": True}
        await running


async def _refuses(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except ConnectionError:
        return True
    writer.close()
    return False


async def test_a_request_that_never_ends_is_cut_off_at_the_deadline() -> None:
    slow = _Slow()
    async with _serving(slow.app, drain_timeout_s=0.2) as (server, stop, running), httpx.AsyncClient(trust_env=False) as client:
        answer = asyncio.create_task(client.get(f"http://{HOST}:{server.port}/slow"))
        await slow.begun.wait()
        stop.set()
        async with asyncio.timeout(20):
            await running
            with contextlib.suppress(httpx.HTTPError):
                assert (await answer).status_code >= 500


async def test_idle_connections_do_not_hold_up_the_stop() -> None:
    async with _serving(operations_app(_ready, Metrics()), drain_timeout_s=60) as (server, stop, running):
        idle = [await asyncio.open_connection(HOST, server.port) for _ in range(20)]
        idle[0][1].write(b"GET /livez HTTP/1.1\r\nhost: x\r\n")
        stop.set()
        async with asyncio.timeout(20):
            await running
        for _, writer in idle:
            writer.close()


async def _asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """The head of an answer on a connection that is kept."""
    writer.write(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len(b'{"status":"ok"}'))
    return head


async def test_a_stopping_server_asks_its_clients_to_call_on_another_connection_and_cuts_nobody_off() -> None:
    async with _serving(operations_app(_ready, Metrics()), farewell_s=60) as (server, stop, running):
        kept = [await asyncio.open_connection(HOST, server.port) for _ in range(5)]
        for one in kept:
            assert b"connection: close" not in await _asked(*one)
        stop.set()
        await eventually(lambda: not server.readiness().ready, what="the server is leaving")
        assert b"connection: close" in await _raw(server.port, b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"), "new ones are answered, too"
        for reader, writer in kept:
            assert not running.done()
            assert b"connection: close" in await _asked(reader, writer)
            assert await reader.read() == b""
            writer.close()
        async with asyncio.timeout(20):  # far less than the farewell: nobody is left to say it to
            await running


async def test_a_request_under_way_ends_with_the_farewell_too() -> None:
    slow = _Slow()
    async with _serving(slow.app, farewell_s=60) as (server, stop, running):
        answer = asyncio.create_task(_raw(server.port, b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n"))
        await slow.begun.wait()
        stop.set()
        await eventually(lambda: not server.readiness().ready, what="the server is leaving")
        slow.may_answer.set()
        assert b"connection: close" in await answer
        async with asyncio.timeout(20):
            await running


async def test_a_client_that_says_nothing_more_is_waited_for_no_longer_than_the_farewell() -> None:
    async with _serving(operations_app(_ready, Metrics()), farewell_s=0.2) as (server, stop, running):
        reader, writer = await asyncio.open_connection(HOST, server.port)
        await _asked(reader, writer)
        stop.set()
        async with asyncio.timeout(20):
            await running
        writer.close()


@pytest.mark.parametrize(
    "head",
    [
        b"x-large: " + b"a" * (http.MAX_HEAD_BYTES + 1) + b"\r\n",
        b"".join(b"x-%d: %b\r\n" % (i, b"a" * 1024) for i in range(33)),
        b"".join(b"x-%d: a\r\n" % i for i in range(http.MAX_HEADERS + 1)),
    ],
)
async def test_a_request_head_that_is_too_large_is_refused_as_json(head: bytes) -> None:
    async with _serving(operations_app(_ready, Metrics())) as (server, _, _):
        answer = await _raw(server.port, b"GET /livez HTTP/1.1\r\nhost: x\r\n" + head + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b'{"error":"headers_too_large","message":' in answer


async def test_a_request_line_that_is_too_long_is_refused() -> None:
    async with _serving(operations_app(_ready, Metrics())) as (server, _, _):
        answer = await _raw(server.port, b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 431 ")


async def test_headers_up_to_the_bound_are_taken_request_after_request() -> None:
    async with _client(operations_app(_ready, Metrics())) as client:
        for _ in range(3):
            answer = await client.get("/livez", headers={"x-large": "a" * 30_000})
            assert answer.status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET\r\n\r\n", b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nhost: x\r\n\r\n", b"GET / HTTP/1.1\r\nhost: x\r\na b: c\r\n\r\n", b"BREW / HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST /health HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"POST /health HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)  # fmt: skip
async def test_what_is_no_http_gets_400_and_never_500(sent: bytes) -> None:
    async with _serving(operations_app(_ready, Metrics())) as (server, _, _):
        answer = await _raw(server.port, sent)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'{"error":"bad_request","message":' in answer


async def test_a_client_that_trickles_its_headers_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "HEAD_TIMEOUT_S", 0.1)
    async with _serving(operations_app(_ready, Metrics())) as (server, _, _):
        assert await _raw(server.port, b"") == b""
        assert await _raw(server.port, b"GET /livez HTTP/1.1\r\nhost") == b""


async def test_a_request_that_takes_long_to_answer_is_not_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "HEAD_TIMEOUT_S", 0.05)
    slow = _Slow()
    async with _serving(slow.app) as (server, _, _), httpx.AsyncClient(trust_env=False) as client:
        answer = asyncio.create_task(client.get(f"http://{HOST}:{server.port}/slow"))
        await slow.begun.wait()
        await asyncio.wait({answer}, timeout=0.3)
        slow.may_answer.set()
        assert (await answer).status_code == 200


async def test_forwarded_addresses_are_believed_only_from_trusted_proxies() -> None:
    async def address(request: Request) -> Response:
        return JSONResponse(request.client.host if request.client else None)

    app = Starlette(routes=[Route("/", address)])
    for trusted, expected in (((), HOST), ((HOST,), "203.0.113.9"), (("10.0.0.1",), HOST)):
        server, stop = HttpServer(app, host=HOST, port=0, trusted_proxies=trusted), asyncio.Event()
        running = asyncio.create_task(server.run(stop))
        await eventually(lambda server=server: server.readiness().ready, what="the server listens")  # type: ignore[misc]
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"http://{HOST}:{server.port}/", headers={"x-forwarded-for": "203.0.113.9"})
        stop.set()
        await running
        assert answer.json() == expected


async def test_the_server_takes_no_signals() -> None:
    import signal

    before = signal.getsignal(signal.SIGTERM)
    async with _serving(operations_app(_ready, Metrics())):
        assert signal.getsignal(signal.SIGTERM) is before
