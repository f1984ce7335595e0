"""The way to replay over real connections: what is sent, how often, and what comes back however long it is."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
from starlette.applications import Starlette
from starlette.routing import Route

from kite_common.errors import CODES
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.system import random_bits
from kite_common.testing.eventually import eventually
from kite_gateway.adapters.http.cors import Cors
from kite_gateway.adapters.http.edge import Edge
from kite_gateway.adapters.http.proxy import ReplayProxy

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@dataclass
class Replay:
    """Answers request number n of all with `answer(n)`; None: the connection ends without a word. `slowly`: seconds a byte."""

    answer: Callable[[int], bytes | None]
    asked: list[bytes] = field(default_factory=list)
    slowly: float = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.asked.append(head.partition(b"\r\n")[0])
                answer = self.answer(len(self.asked))
                if answer is None:
                    break
                begun, rest = (answer, b"") if not self.slowly else (answer[:-20], answer[-20:])
                writer.write(begun)
                for place in range(len(rest)):
                    await asyncio.sleep(self.slowly)
                    writer.write(rest[place : place + 1])
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def client_of(replay: Replay, timeout_s: float = 5.0) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway that has nothing but its way to replay."""
    server, stop = await asyncio.start_server(replay.serve, "127.0.0.1", 0), asyncio.Event()
    proxy = ReplayProxy(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout_s)
    running = asyncio.create_task(proxy.run(stop))
    events = Starlette(routes=[Route("/api/v1/events", proxy.forward)])
    app = Edge(events, max_in_flight=8, cors=Cors(()), metrics=Metrics(), random_bits=random_bits)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://kite") as client:
        await eventually(lambda: _is_open(proxy), what="the proxy holds connections")
        yield client
    stop.set()
    await running
    server.close()


async def _is_open(proxy: ReplayProxy) -> bool:
    return proxy._session is not None


async def test_a_request_whose_connection_breaks_is_not_sent_again_as_each_reading_is_charged() -> None:
    replay = Replay(lambda number: _OK if number == 1 else None)
    async with client_of(replay) as client:
        assert (await client.get("/api/v1/events?first")).status_code == 200
        answer = await client.get("/api/v1/events?second")
        assert (answer.status_code, answer.json()["error"]) == (503, "replay_unavailable")
        assert "may have been charged" in answer.json()["message"]
    assert replay.asked == [b"GET /api/v1/events?first HTTP/1.1", b"GET /api/v1/events?second HTTP/1.1"]


async def test_an_answer_that_does_not_begin_in_time_may_have_been_charged() -> None:
    async with client_of(Replay(lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"), timeout_s=0.2) as client:
        answer = await client.get("/api/v1/events")
    assert (answer.status_code, answer.json()["error"], answer.headers["retry-after"]) == (503, "replay_unavailable", "2")
    assert "may have been charged" in answer.json()["message"]


async def test_what_surely_was_not_asked_is_safe_to_repeat() -> None:
    proxy, stop = ReplayProxy("http://127.0.0.1:1", 5.0), asyncio.Event()
    running = asyncio.create_task(proxy.run(stop))
    app = Edge(
        Starlette(routes=[Route("/api/v1/events", proxy.forward)]), max_in_flight=8, cors=Cors(()), metrics=Metrics(),
        random_bits=random_bits,
    )  # fmt: skip
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://kite") as client:
        await eventually(lambda: _is_open(proxy), what="the proxy holds connections")
        answer = await client.get("/api/v1/events")
    stop.set()
    await running
    assert (answer.status_code, answer.json()["message"]) == (503, CODES["replay_unavailable"].message)


async def test_a_page_that_takes_longer_than_an_answer_may_take_to_begin_is_delivered_whole() -> None:
    replay = Replay(lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n" + b"x" * 20, slowly=0.03)
    async with client_of(replay, timeout_s=0.2) as client:
        answer = await client.get("/api/v1/events")
    assert (answer.status_code, answer.text) == (200, "x" * 20)


async def test_an_offer_for_a_long_url_comes_through() -> None:
    offer = b"a" * 100_000
    replay = Replay(lambda _: b"HTTP/1.1 402 Payment Required\r\nContent-Length: 2\r\nPayment-Required: " + offer + b"\r\n\r\n{}")
    async with client_of(replay) as client:
        answer = await client.get("/api/v1/events")
    assert (answer.status_code, answer.headers["payment-required"]) == (402, offer.decode())
