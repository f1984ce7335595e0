"""The way to replay over real connections: what is sent, how often, and what comes back however long it is."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
from starlette.applications import Starlette
from starlette.routing import Route

from kite_common.runtime.metrics import Metrics
from kite_common.runtime.system import random_bits
from kite_common.testing.eventually import eventually
from kite_gateway.adapters.http.cors import Cors
from kite_gateway.adapters.http.edge import Edge
from kite_gateway.adapters.http.proxy import ReplayProxy

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@dataclass
class Replay:
    """Answers request number n of all with `answer(n)`; None: the connection ends without a word."""

    answer: Callable[[int], bytes | None]
    asked: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.asked.append(head.partition(b"\r\n")[0])
                answer = self.answer(len(self.asked))
                if answer is None:
                    break
                writer.write(answer)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def client_of(replay: Replay) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway that has nothing but its way to replay."""
    server, stop = await asyncio.start_server(replay.serve, "127.0.0.1", 0), asyncio.Event()
    proxy = ReplayProxy(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", 5.0)
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
    assert replay.asked == [b"GET /api/v1/events?first HTTP/1.1", b"GET /api/v1/events?second HTTP/1.1"]


async def test_an_offer_for_a_long_url_comes_through() -> None:
    offer = b"a" * 100_000
    replay = Replay(lambda _: b"HTTP/1.1 402 Payment Required\r\nContent-Length: 2\r\nPayment-Required: " + offer + b"\r\n\r\n{}")
    async with client_of(replay) as client:
        answer = await client.get("/api/v1/events")
    assert (answer.status_code, answer.headers["payment-required"]) == (402, offer.decode())
