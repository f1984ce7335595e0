"""`kitectl archive migrate` against a server of its own: makes the tables, changes nothing when it is repeated, says when it cannot."""

from dataclasses import replace
from pathlib import Path
from secrets import token_hex

from kite_replay.adapters.clickhouse.address import Server, parse_address
from kite_replay.adapters.clickhouse.clients import open_client
from support.clickhouse import Served
from support.kitectl import Ended, Kitectl


async def migrate(tmp_path: Path, url: str) -> Ended:
    return await Kitectl(tmp_path)(
        "archive", "migrate", "--json", KITE_KAFKA_BOOTSTRAP="127.0.0.1:1", KITE_CLICKHOUSE_URL=url
    )  # fmt: skip


async def test_it_makes_the_tables_and_a_repeat_changes_nothing(served: Served, tmp_path: Path) -> None:
    name = f"t{token_hex(4)}"
    url = served.url.removesuffix("/kite") + f"/{name}"
    assert (await migrate(tmp_path, url)).document == {"archive": f"database {name}"}
    address = parse_address(url)
    assert isinstance(address, Server)
    client = open_client(replace(address, database=name), name)

    def tables() -> object:
        return client.query(
            "SELECT name, create_table_query FROM system.tables WHERE database = {name:String} ORDER BY name", parameters={"name": name}
        ).result_rows

    before, applied = tables(), client.query("SELECT count() FROM schema_migrations").result_rows
    assert {"events", "ledger", "deliveries", "owners"} <= {row[0] for row in before}  # type: ignore[attr-defined]
    assert (await migrate(tmp_path, url)).code == 0
    assert tables() == before
    assert client.query("SELECT count() FROM schema_migrations").result_rows == applied
    client.close()


async def test_without_clickhouse_it_says_so(tmp_path: Path) -> None:
    ended = await migrate(tmp_path, "http://127.0.0.1:1/kite")
    assert ended.code == 69
    assert "ClickHouse is away or refuses" in ended.err
