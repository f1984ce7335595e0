"""Inserts of other archivers that still run: of one that was told to go, was killed, or does not know yet that it owns nothing more.

A tail that is asked for while they run would not cover what they are about to store, and whoever goes on from there would store it
twice, under another token. So a new owner waits for them; what does not end is cancelled, and its rows are found behind the tail.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final

from clickhouse_connect.driver.client import Client

from kite_common.errors import Unavailable
from kite_common.runtime.observe import get_logger
from kite_common.runtime.system import token_hex
from kite_replay.adapters.clickhouse import sql
from kite_replay.adapters.clickhouse.pool import ClientPool
from kite_replay.domain.rows import TableName

log = get_logger("kite.replay.archive")

_LOOK_EVERY_S: Final = 0.1
# An insert takes some 0.1 s; a disk that is busy may make it seconds.
_CANCEL_AFTER_S: Final = 3.0
_GIVE_UP_AFTER_S: Final = 8.0


class Rivals:
    """Marks the inserts of this process, and tells those of others by their marks. `connections`: what to ask with."""

    def __init__(self, connections: ClientPool) -> None:
        self._connections = connections
        self._process = token_hex(16)

    def mark(self, database: str, table: TableName) -> str:
        """The comment (ClickHouse's setting `log_comment`) of inserts of this process."""
        return _prefix(database, table) + self._process

    async def settled(self, database: str, table: TableName) -> None:
        """Wait for the inserts of others that run now, not for later ones. Raises Unavailable when they do not end."""
        now = asyncio.get_running_loop().time
        began, cancelled = now(), False
        waited_for = await self._running(database, table)
        while waited_for:
            await asyncio.sleep(_LOOK_EVERY_S)
            waited_for &= await self._running(database, table)
            if waited_for and now() > began + _GIVE_UP_AFTER_S:
                raise Unavailable(f"inserts of another archiver into {table} do not end")
            if waited_for and not cancelled and now() > began + _CANCEL_AFTER_S:
                cancelled = True
                log.warning("archive.rivals_cancelled", table=table, inserts=len(waited_for))
                await self._connections.run(partial(_cancel, sorted(waited_for)))

    async def _running(self, database: str, table: TableName) -> set[str]:
        statement = sql.running(_prefix(database, table), but=self.mark(database, table))
        return await self._connections.run(partial(_running, statement))


def _prefix(database: str, table: TableName) -> str:
    return f"kite-insert-{database}-{table}-"


def _running(statement: sql.Statement, client: Client) -> set[str]:
    rows = client.query(statement.text, parameters=dict(statement.parameters), settings={"max_execution_time": 20}).result_rows
    return {row[0] for row in rows}


def _cancel(query_ids: Sequence[str], client: Client) -> None:
    client.command(sql.CANCEL, parameters={"query_ids": query_ids})
