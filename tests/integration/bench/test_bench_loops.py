"""The load generator against a real server on loopback that answers as it is told."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from kite_cli.bench.load.client import Pool, now_s
from kite_cli.bench.load.loops import OpenLoop, Tally, Window, closed_loop
from kite_common.testing.eventually import eventually

ACCEPTED = b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{}"
BUSY = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
EVER = Window(0, 1e12)


@dataclass
class Server:
    """Answers with what `answer` gives for the number of a request, once `gate` is open; None hangs up."""

    answer: Callable[[int], bytes | None] = lambda _number: ACCEPTED
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    requests: int = 0
    port: int = 0
    serving: set[asyncio.Task[None]] = field(default_factory=set)

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serving.add(asyncio.create_task(self.serve(reader, writer)))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                number, self.requests = self.requests, self.requests + 1
                await self.gate.wait()
                answer = self.answer(number)
                if answer is None:
                    break
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def pool_to(server: Server, size: int) -> AsyncIterator[Pool]:
    listening = await asyncio.start_server(server.connected, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    pool = Pool("127.0.0.1", server.port, size)
    await pool.open()
    try:
        yield pool
    finally:
        await pool.close()
        listening.close()
        for task in server.serving:
            task.cancel()
        await asyncio.gather(*server.serving, return_exceptions=True)


@pytest.fixture
def server() -> Server:
    server = Server()
    server.gate.set()
    return server


async def test_a_closed_loop_keeps_every_connection_busy_until_its_window_ends(server: Server) -> None:
    tally = Tally(Window(now_s(), now_s() + 0.3))
    told: list[tuple[int, int, bytes]] = []
    async with pool_to(server, 4) as pool:
        await closed_loop(pool, [REQUEST], tally, patience_s=10, told=lambda *answer: told.append(answer))
        assert len(pool.idle) == 4
    assert sorted(told) == [(number, 202, b"{}") for number in range(server.requests)]
    assert tally.statuses == {202: server.requests, -1: 0}
    assert len(tally.latencies_ms) == server.requests > 4
    assert tally.outcome().per_s > 0


async def test_an_open_loop_sends_each_request_once_and_tells_its_answer(server: Server) -> None:
    server.answer = lambda number: BUSY if number == 3 else ACCEPTED
    told: list[tuple[int, int]] = []
    start = now_s()
    due = [start + number * 0.002 for number in range(20)]
    async with pool_to(server, 1) as pool:
        tally = Tally(EVER)
        await OpenLoop(pool, [REQUEST], due, tally, lambda number, status, _body: told.append((number, status))).run(10)
    assert told == [(number, 503 if number == 3 else 202) for number in range(20)]
    assert tally.statuses == {202: 19, 503: 1, -1: 0}
    assert tally.outcome().errors == 1


async def test_waiting_for_an_answer_that_does_not_come_counts_for_all_that_was_due_meanwhile() -> None:
    server = Server()
    start = now_s()
    due = [start + number * 0.005 for number in range(10)]
    tally = Tally(EVER)
    async with pool_to(server, 1) as pool:
        running = asyncio.create_task(OpenLoop(pool, [REQUEST], due, tally).run(30))
        await eventually(lambda: now_s() > due[-1] and server.requests, what="all are due and the first is sent")
        assert server.requests == 1, "the others wait for the only connection"
        opened = now_s()
        server.gate.set()
        await running
    assert len(tally.latencies_ms) == 10
    assert all(latency >= (opened - at) * 1000 for latency, at in zip(tally.latencies_ms, due, strict=True))


async def test_only_what_was_due_in_the_window_counts(server: Server) -> None:
    start = now_s()
    due = [start + number * 0.002 for number in range(10)]
    async with pool_to(server, 2) as pool:
        tally = Tally(Window(due[4], due[8]))
        await OpenLoop(pool, [REQUEST], due, tally).run(10)
    assert server.requests == 10
    assert tally.statuses == {202: 4, -1: 0}


async def test_a_lost_connection_is_an_error_and_is_opened_again(server: Server) -> None:
    server.answer = lambda number: None if number == 2 else ACCEPTED
    start = now_s()
    async with pool_to(server, 1) as pool:
        tally = Tally(EVER)
        await OpenLoop(pool, [REQUEST], [start + number * 0.001 for number in range(6)], tally).run(10)
    assert tally.statuses == {202: 5, 0: 1, -1: 0}


async def test_an_answer_that_never_comes_is_an_error_too() -> None:
    server = Server()
    tally = Tally(EVER)
    async with pool_to(server, 1) as pool:
        await OpenLoop(pool, [REQUEST], [now_s(), now_s()], tally).run(patience_s=0.05)
    assert tally.statuses == {-1: 2}


async def test_what_is_no_http_closes_the_connection(server: Server) -> None:
    server.answer = lambda number: b"nonsense\r\n\r\n" if number == 0 else ACCEPTED
    async with pool_to(server, 1) as pool:
        tally = Tally(EVER)
        await OpenLoop(pool, [REQUEST], [now_s(), now_s()], tally).run(10)
    assert tally.statuses == {202: 1, 0: 1, -1: 0}
