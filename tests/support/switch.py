"""A way to a server that a test can shut and open again, as if the network did it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass


@dataclass
class Switch:
    """A way to a server that can be shut: `port` on loopback leads there while it is on."""

    port: int
    off: Callable[[], Awaitable[None]]
    on: Callable[[], Awaitable[None]]


@contextlib.asynccontextmanager
async def switch_to(url: str) -> AsyncIterator[Switch]:
    """A way to the server behind a URL `scheme://host:port/...`, open at first."""
    host, port = url.split("://")[1].split("/")[0].rsplit(":", 1)
    writers: set[asyncio.StreamWriter] = set()
    closed = False

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if closed:
            writer.close()
            return
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        writers.update((writer, far_writer))
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(pass_on(reader, far_writer), pass_on(far_reader, writer))
        for one in (writer, far_writer):
            one.close()

    async def off() -> None:
        nonlocal closed
        closed = True
        for one in list(writers):
            one.close()
        writers.clear()

    async def on() -> None:
        nonlocal closed
        closed = False

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield Switch(server.sockets[0].getsockname()[1], off, on)
    finally:
        await off()
        server.close()
