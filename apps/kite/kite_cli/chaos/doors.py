"""Ports that stay while the processes behind them change: what a Service of Kubernetes is to its pods. Knows bytes, not requests."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final

from kite_cli.local.ports import LOOPBACK

_CHUNK_BYTES: Final = 1 << 16


class Door:
    """One port of the loopback. A connection stays with the process it was led to; `leads_to` is where new ones go."""

    def __init__(self, leads_to: int) -> None:
        self.leads_to = leads_to
        self.port = 0
        self._inside: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where callers call."""
        return f"http://{LOOPBACK}:{self.port}"

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Door"]:
        """Let connections through while inside, and cut off those that are left at the end."""
        server = await asyncio.start_server(self._come_in, LOOPBACK, 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._inside:
                task.cancel()
            await asyncio.gather(*self._inside, return_exceptions=True)

    def _come_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(_through(reader, writer, self.leads_to))
        self._inside.add(task)
        task.add_done_callback(self._inside.discard)


@asynccontextmanager
async def doors(ports: Mapping[str, int]) -> AsyncIterator[dict[str, Door]]:
    """A door by name to each of these ports."""
    async with AsyncExitStack() as stack:
        yield {name: await stack.enter_async_context(Door(port).open()) for name, port in ports.items()}


async def _through(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    """One connection, until either side has ended it. Whoever finds nobody behind the door is hung up on."""
    try:
        inner_reader, inner_writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError:
        writer.close()
        return
    ways = [asyncio.create_task(_carry(reader, inner_writer)), asyncio.create_task(_carry(inner_reader, writer))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _end(ways, (writer, inner_writer))


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await reader.read(_CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()


async def _end(ways: Sequence["asyncio.Task[None]"], writers: Sequence[asyncio.StreamWriter]) -> None:
    for way in ways:
        way.cancel()
    await asyncio.gather(*ways, return_exceptions=True)
    for writer in writers:
        writer.close()  # what was written before is sent first
    for writer in writers:
        with suppress(OSError):
            await writer.wait_closed()
