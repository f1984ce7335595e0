"""ClickHouse's HTTP interface over the engine chDB, as a process of its own: the local stack's ClickHouse server."""
