"""Keep-alive HTTP connections with as little Python around them as can be. Knows no route; retries nothing."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable
from typing import Final, cast

import httptools

LOST: Final = 0
# Status (LOST without one), body.
Answered = Callable[[int, bytes], None]


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, ended: Callable[["Connection"], None]) -> None:
        self._ended = ended
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._answered: Answered | None = None

    def send(self, request: bytes, answered: Answered) -> None:
        """Send the bytes of one request; `answered` is called once."""
        if self._transport is None or self._transport.is_closing():
            answered(LOST, b"")
            return
        self._answered = answered
        self._transport.write(request)

    def close(self) -> None:
        """Close it; whoever waits is told that it is lost."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why does not matter, a run counts
        self._ended(self)
        self._tell(LOST, b"")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        self._tell(self._parser.get_status_code(), body)

    def _tell(self, status: int, body: bytes) -> None:
        answered, self._answered = self._answered, None
        if answered is not None:
            answered(status, body)


class Pool:
    """A fixed number of connections to one server; one that is lost is opened again."""

    def __init__(self, host: str, port: int, size: int) -> None:
        self._host, self._port, self._size = host, port, size
        # First in, first out: every connection is used, so none is idle for so long that the server closes it.
        self.idle: deque[Connection] = deque()
        self.freed: Callable[[], None] = lambda: None
        self._all: set[Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._closed = False

    async def open(self) -> None:
        """Open all of them. Raises OSError."""
        await asyncio.gather(*(self._open() for _ in range(self._size)))

    def give_back(self, connection: Connection) -> None:
        """It has answered and may be used again."""
        if connection in self._all:
            self.idle.append(connection)
            self.freed()

    async def close(self) -> None:
        """Close all of them."""
        self._closed = True
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        for connection in list(self._all):
            connection.close()

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Connection(self._lost), self._host, self._port)
        self._all.add(connection)
        self.give_back(connection)

    def _lost(self, connection: Connection) -> None:
        self._all.discard(connection)
        with contextlib.suppress(ValueError):
            self.idle.remove(connection)
        if not self._closed:
            task = asyncio.get_running_loop().create_task(self._reopen())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _reopen(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                await self._open()
                return
            await asyncio.sleep(0.05)


async def ask(connection: Connection, request: bytes, within_s: float = 10.0) -> tuple[int, bytes]:
    """One request and its answer. Raises TimeoutError."""
    answer: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()

    def answered(status: int, body: bytes) -> None:
        if not answer.done():
            answer.set_result((status, body))

    connection.send(request, answered)
    async with asyncio.timeout(within_s):
        return await answer


def now_s() -> float:
    """The clock all of a run is measured by; the same in all processes of the machine."""
    return time.monotonic()
