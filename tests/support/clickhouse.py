"""A ClickHouse server of a test's own: the local stack's, on a folder and a port of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from kite_cli.local.clickhouse.node import ClickHouseNode, clickhouse_spec
from kite_cli.local.environment import tool_environment
from kite_cli.local.ports import PortBook
from kite_cli.local.process import Child


@dataclass(frozen=True, slots=True)
class Served:
    """Its KITE_CLICKHOUSE_URL, and the process, which comes back when it is killed."""

    url: str
    child: Child


@asynccontextmanager
async def clickhouse_server(folder: Path) -> AsyncIterator[Served]:
    """A running server on an empty folder."""
    book = PortBook()
    node = ClickHouseNode(folder / "engine", book.pick([]))
    spec = clickhouse_spec(node, tool_environment())
    child = Child(spec, log=folder / "clickhouse.log", folder=folder, changed=lambda _name, _identity: None)
    try:
        await child.start()
        yield Served(node.url, child)
    finally:
        await child.stop()
        book.release()
