"""A door: its port stays, the process behind it may change, and a connection stays with whom it came to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kite_cli.chaos.doors import Door, doors
from kite_cli.local.ports import LOOPBACK


@asynccontextmanager
async def _echo(name: bytes) -> AsyncIterator[int]:
    """A server that puts its name before each line, until the line is `bye`; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (line := await reader.readline()) not in (b"", b"bye\n"):
            writer.write(name + b":" + line)
        writer.close()

    server = await asyncio.start_server(serve, LOOPBACK, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def _says(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], line: bytes) -> bytes:
    reader, writer = connection
    writer.write(line)
    async with asyncio.timeout(10):
        return await reader.readline()


async def test_a_connection_stays_with_whom_it_was_led_to_and_new_ones_go_to_the_successor() -> None:
    async with _echo(b"old") as old, _echo(b"new") as new, Door(old).open() as door:
        first = await asyncio.open_connection(LOOPBACK, door.port)
        assert await _says(first, b"one\n") == b"old:one\n"
        door.leads_to = new
        second = await asyncio.open_connection(LOOPBACK, door.port)
        assert await _says(second, b"two\n") == b"new:two\n"
        assert await _says(first, b"three\n") == b"old:three\n"
        assert await _says(first, b"bye\n") == b"", "whoever is hung up on inside is hung up on outside"
        for _, writer in (first, second):
            writer.close()


async def test_much_goes_through_unchanged() -> None:
    sent = bytes(range(256)) * 8_192

    async def give(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        writer.close()

    server = await asyncio.start_server(give, LOOPBACK, 0)
    async with Door(server.sockets[0].getsockname()[1]).open() as door:
        reader, writer = await asyncio.open_connection(LOOPBACK, door.port)
        async with asyncio.timeout(20):
            assert await reader.read() == sent
        writer.close()
    server.close()


async def test_who_finds_nobody_behind_the_door_is_hung_up_on() -> None:
    async with _echo(b"gone") as gone:
        pass
    async with doors({"gateway": gone}) as opened:
        reader, writer = await asyncio.open_connection(LOOPBACK, opened["gateway"].port)
        assert await reader.read() == b""
        writer.close()


async def test_closing_a_door_cuts_off_who_is_inside() -> None:
    async with _echo(b"in") as port:
        async with doors({"gateway": port}) as opened:
            connection = await asyncio.open_connection(LOOPBACK, opened["gateway"].port)
            assert await _says(connection, b"one\n") == b"in:one\n"
        assert await _says(connection, b"") == b""
        connection[1].close()
