"""The disk of the archive is full: its tables want more room than there is on any disk, so the engine refuses every insert.

It is the check a full disk fails, too (ClickHouse's `min_free_disk_bytes_to_perform_insert`, which Kite's tables have anyway). A limit
on the size of files would come nearer to a disk that fills up within a write; but what the engine makes of that is a part that is cut
off and an insert that is acknowledged, whatever Kite does (docs/reliability.md).
"""

import asyncio
from collections.abc import Callable
from typing import Final

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from kite_cli.chaos.schedule import Planned
from kite_cli.chaos.stack import ChaosKite
from kite_common.errors import Unavailable
from kite_replay.adapters.clickhouse.address import Address, parse_address
from kite_replay.adapters.clickhouse.clients import open_client
from kite_replay.domain.rows import TABLES

_ROOM: Final = "min_free_disk_bytes_to_perform_insert"
_MORE_THAN_THERE_IS: Final = 1 << 60
_WITHIN_S: Final = 60.0


async def disk(kite: ChaosKite, planned: Planned) -> None:
    """Over when there is room again. Raises Unavailable if ClickHouse cannot be told."""
    address = parse_address(kite.local.addresses.clickhouse_url)
    before = await _told(address, lambda client: {table.name: _room(client, table.name) for table in TABLES})
    try:
        await _told(address, lambda client: _want(client, dict.fromkeys(before, _MORE_THAN_THERE_IS)))
        await asyncio.sleep(planned.lasts_s)
    finally:
        await _told(address, lambda client: _want(client, before))


async def _told(address: Address, work: Callable[[Client], dict[str, int]]) -> dict[str, int]:
    """Also while the engine is only starting again after another fault."""
    try:
        async with asyncio.timeout(_WITHIN_S):
            while True:
                try:
                    return await asyncio.to_thread(_with_client, address, work)
                except (ClickHouseError, OSError):
                    await asyncio.sleep(1.0)
    except TimeoutError as error:
        raise Unavailable("ClickHouse cannot be told how much room it wants") from error


def _with_client(address: Address, work: Callable[[Client], dict[str, int]]) -> dict[str, int]:
    client = open_client(address, address.database)
    try:
        return work(client)
    finally:
        client.close()


def _room(client: Client, table: str) -> int:
    """What the table's own settings say; they stand in its statement."""
    statement = str(client.command(f"SHOW CREATE TABLE {table}"))
    return int(statement.split(f"{_ROOM} = ")[1].split(",")[0].split("\\n")[0])


def _want(client: Client, rooms: dict[str, int]) -> dict[str, int]:
    for table, room in rooms.items():
        client.command(f"ALTER TABLE {table} MODIFY SETTING {_ROOM} = {room}")
    return rooms
