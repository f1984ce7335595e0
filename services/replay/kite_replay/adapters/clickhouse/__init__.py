"""The archive in ClickHouse, as a server or in process (chDB)."""
