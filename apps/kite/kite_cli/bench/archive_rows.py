"""`python -m kite_cli.bench.archive_rows chdb:///folder`: rows and distinct events of an archive nobody else has open, as JSON."""

import sys
from urllib.parse import unquote, urlsplit

import clickhouse_connect
import orjson


def main() -> None:
    """Print them."""
    client = clickhouse_connect.get_client(interface="chdb", path=unquote(urlsplit(sys.argv[1]).path), database="kite")
    (row,) = client.query("SELECT count(), uniqExact(event_id) FROM events").result_rows
    print(orjson.dumps([int(count) for count in row]).decode(), flush=True)


if __name__ == "__main__":
    main()
