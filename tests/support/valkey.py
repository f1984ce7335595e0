"""Valkey servers of a test's own, to kill, copy, bring back older and replace by a replica; and one address in front of them."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from kite_cli.local.environment import tool_environment
from kite_cli.local.ports import LOOPBACK, PortBook
from kite_cli.local.process import Child
from kite_cli.local.valkey import ValkeyNode, valkey_spec


@dataclass
class OwnValkey:
    """One server and its folder."""

    node: ValkeyNode
    child: Child

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[Any]:
        redis = Redis.from_url(self.node.url, decode_responses=True)
        try:
            yield redis
        finally:
            await redis.aclose()

    async def copy(self) -> Path:
        """A copy of everything it was told so far."""
        async with self.client() as redis:
            await redis.execute_command("WAITAOF", 1, 0, 5_000)
        return Path(shutil.copytree(self.node.folder, self.node.folder.with_name(f"{self.node.folder.name}-copy")))

    async def restart(self, copy: Path | None = None) -> None:
        """Kill it and start it again, on the given copy of its data if there is one."""
        await self.child.kill9(restart=False)
        if copy is not None:
            shutil.rmtree(self.node.folder)
            shutil.copytree(copy, self.node.folder)
        await self.child.start()

    async def follow(self, primary: "OwnValkey") -> None:
        """Be its replica, up to date at this moment."""
        async with self.client() as redis, primary.client() as of:
            await redis.execute_command("REPLICAOF", LOOPBACK, primary.node.port)
            # Counts replicas that have acknowledged everything written before.
            while (await redis.info("replication"))["master_link_status"] != "up":  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)
            await of.set("before-wait", "1")
            assert await of.execute_command("WAIT", 1, 10_000) == 1

    async def promote(self) -> None:
        """Be a primary, with what has arrived so far."""
        async with self.client() as redis:
            await redis.execute_command("REPLICAOF", "NO", "ONE")


@contextlib.asynccontextmanager
async def own_valkey(folder: Path) -> AsyncIterator[OwnValkey]:
    """A server with the local stack's settings."""
    book = PortBook()
    node = ValkeyNode(folder / "data", book.pick([]))
    folder.mkdir(parents=True, exist_ok=True)
    child = Child(valkey_spec(node, tool_environment()), log=folder / "log", folder=folder, changed=lambda _name, _identity: None)
    try:
        await child.start()
        yield OwnValkey(node, child)
    finally:
        await child.stop()
        book.release()


class Front:
    """An address that leads to one server or another; changing it cuts what is connected."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}/0"

    def lead_to(self, port: int) -> None:
        self._target = port
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(LOOPBACK, self._target)
        self._writers.update((writer, far_writer))
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(_pass_on(reader, far_writer), _pass_on(far_reader, writer))
        for one in (writer, far_writer):
            one.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()


@contextlib.asynccontextmanager
async def front_of(valkey: OwnValkey) -> AsyncIterator[Front]:
    front = Front(valkey.node.port)
    server = await asyncio.start_server(front.connected, LOOPBACK, 0)
    front.port = server.sockets[0].getsockname()[1]
    try:
        yield front
    finally:
        server.close()
        front.lead_to(valkey.node.port)
