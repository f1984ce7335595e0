"""Brings a database up to date: the files of `migrations/`, in order, each once. Blocking.

Two processes may do this at once: every statement is written so that running it twice changes nothing (IF NOT EXISTS), and the list
of what has been applied is only there to skip work. Files are never edited after a release.
"""

from importlib import resources
from typing import Final

from clickhouse_connect.driver.client import Client

from kite_replay.adapters.clickhouse import sql
from kite_replay.adapters.clickhouse.address import Address
from kite_replay.adapters.clickhouse.clients import open_client
from kite_replay.domain.rows import TableName

_FOLDER: Final = "migrations"
# The ledger is kept for ever.
_EXPIRING: Final[tuple[TableName, ...]] = ("events", "deliveries")
_APPLIED: Final = (
    "CREATE TABLE IF NOT EXISTS schema_migrations (name String, applied_at DateTime64(3, 'UTC') DEFAULT now64(3))"
    " ENGINE = MergeTree ORDER BY name"
)
_DEFINITION: Final = "SELECT create_table_query FROM system.tables WHERE database = currentDatabase() AND name = {name:String}"


def migrate(address: Address, kept_days: int) -> Client:
    """Create the database if it is missing, apply what is new, set how long rows are kept.

    Returns a client of the database, open: in process the engine lives as long as a client does. Raises what clickhouse-connect raises.
    """
    _create_database(address)
    client = open_client(address, address.database)
    try:
        apply_migrations(client)
        for table in _EXPIRING:
            _keep(client, table, kept_days)
    except BaseException:
        client.close()
        raise
    return client


def apply_migrations(client: Client) -> None:
    """Apply the files that the database has not had yet."""
    client.command(_APPLIED)
    applied = {name for (name,) in client.query("SELECT DISTINCT name FROM schema_migrations").result_rows}
    for name, statement in _files():
        if name not in applied:
            client.command(statement)
            client.insert("schema_migrations", [[name]], column_names=["name"])


def _files() -> list[tuple[str, str]]:
    """Name and statement of each migration, in order. One statement a file."""
    folder = resources.files(__package__).joinpath(_FOLDER)
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    return [(file.name, file.read_text(encoding="utf-8")) for file in files]


def _create_database(address: Address) -> None:
    client = open_client(address, "default")
    try:
        known = client.query("SELECT count() FROM system.databases WHERE name = {name:String}", parameters={"name": address.database})
        # Asked first, because an operator may have made the database and granted no more than its tables.
        if not known.result_rows[0][0]:
            client.command(f"CREATE DATABASE IF NOT EXISTS `{address.database}`")
    finally:
        client.close()


def _keep(client: Client, table: TableName, days: int) -> None:
    wanted = f"toIntervalDay({days})"
    described = client.query(_DEFINITION, parameters={"name": table})
    if wanted not in str(described.result_rows[0][0]):
        client.command(sql.retain(table, days).text, settings={"materialize_ttl_after_modify": 0})
