"""Questions to ClickHouse's own tables. A user with grants on Kite's tables alone may not ask them: they are left out, which is said."""

from collections.abc import Sequence
from typing import Any, Final

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from kite_common.runtime.observe import get_logger
from kite_replay.adapters.clickhouse.sql import Statement

log = get_logger("kite.replay.clickhouse")

_DENIED: Final = "ACCESS_DENIED"


def or_unknown(client: Client, statement: Statement, table: str) -> Sequence[Sequence[Any]]:
    """The rows, or none where the user may not read that table. Raises what clickhouse-connect raises for all else."""
    try:
        return client.query(statement.text, parameters=dict(statement.parameters), settings={"max_execution_time": 20}).result_rows
    except DatabaseError as error:
        if _DENIED not in str(error):
            raise
        log.warning("clickhouse.not_granted", table=table, remedy=f"GRANT SELECT ON {table} TO the user of KITE_CLICKHOUSE_URL")
        return ()
