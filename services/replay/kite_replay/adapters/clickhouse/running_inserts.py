"""Inserts that still run in ClickHouse: of an archiver that was told to go, was killed, does not know yet that it owns nothing more, or
has given up waiting for the answer.

A tail that is asked for while they run would not cover what they are about to store, and whoever goes on from there would store it
twice, under another token. So a new owner waits for them; what does not end is cancelled, and its rows are found behind the tail. What
has been sent and not begun is not seen here: by then the owner has another fence, and ClickHouse refuses it (migrations/0010).
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final

from clickhouse_connect.driver.client import Client

from kite_common.errors import Unavailable
from kite_common.runtime.observe import get_logger
from kite_replay.adapters.clickhouse import sql
from kite_replay.adapters.clickhouse.grants import or_unknown
from kite_replay.adapters.clickhouse.pool import ClientPool
from kite_replay.domain.rows import TableName

log = get_logger("kite.replay.archive")

_LOOK_EVERY_S: Final = 0.1
# An insert takes some 0.1 s; a disk that is busy may make it seconds.
_CANCEL_AFTER_S: Final = 3.0
_GIVE_UP_AFTER_S: Final = 8.0


def mark(database: str, table: TableName) -> str:
    """The comment (ClickHouse's setting `log_comment`) that inserts into a table are known by."""
    return f"kite-insert-{database}-{table}"


async def ended(connections: ClientPool, database: str, table: TableName) -> None:
    """Wait for the inserts that run now, not for later ones. Raises Unavailable when they do not end. `connections`: what to ask with."""
    now = asyncio.get_running_loop().time
    began, cancelled = now(), False
    look = partial(_running, sql.running(mark(database, table)))
    waited_for = await connections.run(look)
    while waited_for:
        await asyncio.sleep(_LOOK_EVERY_S)
        waited_for &= await connections.run(look)
        if waited_for and now() > began + _GIVE_UP_AFTER_S:
            raise Unavailable(f"earlier inserts into {table} do not end")
        if waited_for and not cancelled and now() > began + _CANCEL_AFTER_S:
            cancelled = True
            log.warning("archive.inserts_cancelled", table=table, inserts=len(waited_for))
            await connections.run(partial(_cancel, sorted(waited_for)))


def _running(statement: sql.Statement, client: Client) -> set[str]:
    return {row[0] for row in or_unknown(client, statement, "system.processes")}


def _cancel(query_ids: Sequence[str], client: Client) -> None:
    client.command(sql.CANCEL, parameters={"query_ids": query_ids})
