"""Prints how many rows each event has in an archive nobody else has open: `archive_rows.py <address>`."""

import json
import sys

from kite_replay.adapters.clickhouse.address import parse_address
from kite_replay.adapters.clickhouse.clients import open_client
from kite_replay.adapters.clickhouse.generations import generations_of

if __name__ == "__main__":
    generations = generations_of(parse_address(sys.argv[1]))
    last = generations.last()
    address = generations.address(0 if last is None else last.number)
    client = open_client(address, address.database)
    rows = client.query("SELECT event_id, count() FROM events GROUP BY event_id").result_rows
    sys.stdout.write(json.dumps({str(event_id): int(count) for event_id, count in rows}))
