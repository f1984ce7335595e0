"""A real HTTP/1.1 server on loopback that receives webhooks and answers as it is told, also as no decent server would."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Received:
    """One POST as it came: header names in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes


Reaction = Callable[[asyncio.StreamWriter], Awaitable[None]]
Behaviour = Callable[[Received], Reaction]


def answer(status: int, body: bytes = b"", **headers: str) -> Reaction:
    """A whole answer; underscores in header names stand for hyphens."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())

    async def react(writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {status} Whatever\r\ncontent-length: {len(body)}\r\n{lines}\r\n".encode() + body)

    return react


def hang() -> Reaction:
    """No answer at all, until the sender has had enough."""

    async def react(_writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    return react


def hang_up() -> Reaction:
    """Close the connection instead of answering."""

    async def react(writer: asyncio.StreamWriter) -> None:
        writer.close()

    return react


def endless(status: int = 200) -> Reaction:
    """A body that goes on as fast as it is read; stops only when the sender hangs up."""

    async def react(writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {status} OK\r\ncontent-length: 1000000000\r\n\r\n".encode())
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()

    return react


def slow_body(status: int = 200) -> Reaction:
    """A body of which one byte comes, and then nothing."""

    async def react(writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {status} OK\r\ncontent-length: 1000\r\n\r\nx".encode())
        await asyncio.Event().wait()

    return react


@dataclass
class Receiver:
    """Keeps what it receives. `behaviour` may be exchanged at any time."""

    behaviour: Behaviour = lambda _received: answer(200)
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}/in"

    @contextlib.asynccontextmanager
    async def listening(self, tls: ssl.SSLContext | None = None) -> AsyncIterator["Receiver"]:
        """Receive while inside, on a free port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.drop_connections()

    def drop_connections(self) -> None:
        """Close all connections, as a server does with idle ones."""
        for writer in list(self._open):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        try:
            while True:
                received = await _read(reader)
                self.received.append(received)
                reacting = asyncio.ensure_future(self.behaviour(received)(writer))
                gone = asyncio.ensure_future(writer.wait_closed())
                await asyncio.wait({reacting, gone}, return_when=asyncio.FIRST_COMPLETED)
                reacting.cancel()
                gone.cancel()
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    return Received(head[0].split(" ")[1], headers, await reader.readexactly(int(headers.get("content-length", "0"))))
