"""Settings of replay, each explained. Only main sees them."""

from typing import Annotated

from pydantic import Field, SecretStr

from kite_common.config import ClickHouseUrl
from kite_common.x402_settings import X402Settings


class ReplaySettings(X402Settings):
    """What replay needs beside what all services have, and what it needs to know of payments."""

    port: int = Field(7703, ge=0, le=65_535, description="port of the replay API; 0 takes a free one")
    clickhouse_url: ClickHouseUrl = Field(
        repr=False, description="ClickHouse: chdb:///abs/path or http(s)://user:password@host:8123/db"
    )
    api_key_pepper: Annotated[SecretStr, Field(min_length=16)] = Field(
        description="key under which API keys and hook tokens are hashed, at least 16 characters; changing it ends all of them"
    )
    archive_interval_s: float = Field(
        0.25, gt=0, le=60, description="shortest time between two inserts of events; longer: fewer parts, later replay"
    )
    archive_facts_interval_s: float = Field(
        1.0, gt=0, le=60, description="the same for ledger entries and deliveries, which nobody waits for"
    )
    redis_timeout_s: float = Field(1.0, gt=0, le=30, description="longest wait for Redis; after it the answer is 503")
