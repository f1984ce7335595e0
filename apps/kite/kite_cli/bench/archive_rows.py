"""`python -m kite_cli.bench.archive_rows <KITE_CLICKHOUSE_URL>`: rows and distinct events of an archive, as JSON.

An engine in the process (`chdb:///folder`) must not be open anywhere else.
"""

import sys

import orjson

from kite_replay.adapters.clickhouse.address import parse_address
from kite_replay.adapters.clickhouse.clients import open_client


def main() -> None:
    """Print them."""
    address = parse_address(sys.argv[1])
    client = open_client(address, address.database)
    (row,) = client.query("SELECT count(), uniqExact(event_id) FROM events").result_rows
    print(orjson.dumps([int(count) for count in row]).decode(), flush=True)


if __name__ == "__main__":
    main()
