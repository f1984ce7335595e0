"""Valkey forgets everything (FLUSHALL) while it goes on serving."""

from redis.asyncio import Redis

from kite_cli.chaos.schedule import Planned
from kite_cli.chaos.stack import ChaosKite


async def flush(kite: ChaosKite, planned: Planned) -> None:  # noqa: ARG001 - there is one Valkey
    """Over at once."""
    redis = Redis.from_url(kite.local.addresses.redis_url, socket_timeout=5, socket_connect_timeout=5)
    try:
        await redis.flushall()
    finally:
        await redis.aclose()
