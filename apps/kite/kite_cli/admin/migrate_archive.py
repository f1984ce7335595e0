"""Brings the archive's database up to date before replay does, as a step of its own. The migrations are replay's."""

import asyncio

from kite_common.config import KiteSettings, load
from kite_replay.adapters.clickhouse.address import parse_address
from kite_replay.adapters.clickhouse.archive import ClickHouseArchive
from kite_replay.domain.retention import Retention


async def migrate_archive(url: str) -> str:
    """Create what is missing in the archive at `url`, the generation that is served; where that is, without secrets.

    Raises Unavailable if ClickHouse is away or refuses, ConfigurationError for settings that are none.
    """
    archive = ClickHouseArchive(parse_address(url), Retention(load(KiteSettings).retention_days).kept_days())
    try:
        return await archive.migrated()
    finally:
        await asyncio.to_thread(archive.close)
