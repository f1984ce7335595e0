"""Prints how many rows each team has in an archive nobody else has open, by table: `archive_teams.py <address>`."""

import json
import sys

from kite_replay.adapters.clickhouse.address import parse_address
from kite_replay.adapters.clickhouse.clients import open_client
from kite_replay.adapters.clickhouse.generations import generations_of
from kite_replay.domain.rows import TABLES

if __name__ == "__main__":
    generations = generations_of(parse_address(sys.argv[1]))
    last = generations.last()
    address = generations.address(0 if last is None else last.number)
    client = open_client(address, address.database)
    found: dict[str, dict[str, int]] = {}
    for table in TABLES:
        rows = client.query(f"SELECT team_id, count() FROM {table.name} GROUP BY team_id").result_rows  # noqa: S608 - our table names
        found[table.name] = {str(team_id): int(count) for team_id, count in rows}
    sys.stdout.write(json.dumps(found))
