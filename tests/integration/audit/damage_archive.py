"""Deletes the first row of the archive's events and stores the last one twice: `damage_archive.py <address>`, open nowhere else."""

import sys

from kite_replay.adapters.clickhouse.address import parse_address
from kite_replay.adapters.clickhouse.clients import open_client

if __name__ == "__main__":
    address = parse_address(sys.argv[1])
    client = open_client(address, address.database)
    first, last = client.query("SELECT min(kiteseq), max(kiteseq) FROM events").result_rows[0]
    client.command(f"INSERT INTO events SELECT * REPLACE (0 AS fence) FROM events WHERE kiteseq = {last}")
    client.command(f"ALTER TABLE events DELETE WHERE kiteseq = {first} SETTINGS mutations_sync = 1")
    client.close()
    sys.stdout.write(f"{first} {last}\n")
