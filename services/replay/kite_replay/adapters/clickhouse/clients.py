"""Opens clickhouse-connect clients: the one place that knows whether ClickHouse is a server or in this process. No SQL of ours."""

from importlib import import_module
from typing import Final, assert_never

import clickhouse_connect
from clickhouse_connect.driver.client import Client

from kite_replay.adapters.clickhouse.address import Address, InProcess, Server

# The engine shares the machine with all of Kite: by default it takes up to 90 % of the memory and 5 GiB for marks. The limit counts the
# whole process, Python and the mapped library too (about 350 MiB at rest).
_ENGINE_OPTIONS: Final = {
    "max_server_memory_usage": str(1024 * 1024 * 1024),
    "mark_cache_size": str(32 * 1024 * 1024),
    "primary_index_cache_size": str(32 * 1024 * 1024),
    "query_condition_cache_size": str(4 * 1024 * 1024),
    "compiled_expression_cache_size": str(8 * 1024 * 1024),
}
_CONNECT_TIMEOUT_S: Final = 5
# An insert of 32 MiB takes well below a second; beyond this it counts as open and is repeated with its token.
_ANSWER_TIMEOUT_S: Final = 30


def load_engine(address: Address) -> None:
    """Load the library of an engine in this process, which holds the interpreter for seconds on a busy machine.

    To be done before anything else runs: a member of a group that stands still for that long takes itself for frozen, ends, and is frozen
    again by its next start, for ever.
    """
    if isinstance(address, InProcess):
        import_module("chdb")


def open_client(address: Address, database: str) -> Client:
    """A client whose statements run in `database`, which must exist. Blocks. Raises what clickhouse-connect raises."""
    match address:
        case InProcess(path=path):
            return clickhouse_connect.get_client(interface="chdb", path=path, database=database, chdb_options=_ENGINE_OPTIONS)
        case Server():
            return clickhouse_connect.get_client(
                interface="https" if address.secure else "http",
                host=address.host,
                port=address.port,
                username=address.username,
                password=address.password,
                database=database,
                connect_timeout=_CONNECT_TIMEOUT_S,
                send_receive_timeout=_ANSWER_TIMEOUT_S,
                autogenerate_session_id=False,
            )
        case _:
            assert_never(address)
