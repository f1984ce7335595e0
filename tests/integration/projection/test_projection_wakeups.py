"""Waiters for outcomes while Redis is away: each is told so, the log once a second at most."""

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from kite_common.errors import Unavailable
from kite_common.projection.wakeups import Wakeups


async def test_many_waiters_are_told_that_redis_is_away_and_the_log_is_not_flooded() -> None:
    client = Redis.from_url("redis://127.0.0.1:9/0", socket_connect_timeout=1)
    wakeups = Wakeups(client, "commands")
    with capture_logs() as said:
        for _ in range(20):
            with pytest.raises(Unavailable):
                await wakeups.look("outcome")
    await client.aclose()
    lines = [line["event"] for line in said]
    assert set(lines) == {"commands.redis_away"}
    assert len(lines) < 20
