"""Callers of a chaos run count every request that was cut off, also those that their library would send again by itself."""

import asyncio

import aiohttp
import pytest

from kite_cli.chaos.load.caller import Caller, no_second_try
from kite_cli.chaos.memory import Memory
from kite_common.testing.eventually import eventually

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Cutting:
    """Answers the first request of each connection, and cuts off the second."""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ANSWER)
        await reader.readuntil(b"\r\n\r\n")
        writer.close()


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST"])
async def test_a_request_that_a_kept_connection_cuts_off_is_counted(method: str) -> None:
    memory = Memory()
    async with await asyncio.start_server(Cutting(), "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with aiohttp.ClientSession(middlewares=(no_second_try,)) as http:
            caller = Caller(http, {"gateway": url}, memory)
            for _ in range(2):
                await caller.ask(method, "/")
    assert memory.statuses == {"200": 2, "ServerDisconnectedError": 1}


async def test_a_connection_that_is_refused_is_counted_under_its_name() -> None:
    memory = Memory()
    async with await asyncio.start_server(Cutting(), "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with aiohttp.ClientSession(middlewares=(no_second_try,)) as http:
        caller = Caller(http, {"gateway": url}, memory)
        asking = asyncio.create_task(caller.ask("GET", "/"))
        await eventually(lambda: memory.statuses, what="it is counted")
        asking.cancel()
        await asyncio.wait({asking})
    assert memory.statuses.keys() == {"ClientConnectorError"}
