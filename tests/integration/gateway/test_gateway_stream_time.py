"""Stream time as the gateway polls it from the real Valkey: known, unknown, behind, and while Redis is away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from kite_common.projection import keys
from kite_common.runtime.system import SystemClock
from kite_common.testing.eventually import eventually
from kite_gateway.adapters.scripts import connect
from kite_gateway.adapters.stream_time import StreamTime
from support.stack import RunningStack

# Beyond the partitions of any topic here: nobody else writes them.
KNOWN, BEHIND, UNKNOWN = 1_021, 1_022, 1_023


@asynccontextmanager
async def polling(redis: Redis) -> AsyncIterator[StreamTime]:
    stop, stream_time = asyncio.Event(), StreamTime(redis, 1.0)
    task = asyncio.create_task(stream_time.run(stop))
    try:
        yield stream_time
    finally:
        stop.set()
        await task


async def test_stream_time_and_lag_are_those_billing_wrote(stack: RunningStack) -> None:
    now_ms = SystemClock().unix_ms()
    redis = connect(stack.redis_url, 5.0)
    await redis.hset(keys.STREAM_TIME, mapping={str(KNOWN): now_ms + 3_600_000, str(BEHIND): now_ms - 3_600_000})
    async with polling(connect(stack.redis_url, 5.0)) as stream_time:
        assert not stream_time.readiness().ready
        await eventually(lambda: stream_time.readiness().ready, what="Redis has answered")
        assert (stream_time.of(KNOWN), stream_time.of(BEHIND), stream_time.of(UNKNOWN)) == (now_ms + 3_600_000, now_ms - 3_600_000, 0)
        assert (stream_time.lag_s(KNOWN), stream_time.lag_s(UNKNOWN)) == (0, 0)
        assert 3_599 <= stream_time.lag_s(BEHIND) < 3_660
    await redis.hdel(keys.STREAM_TIME, str(KNOWN), str(BEHIND))
    await redis.aclose()


async def test_the_server_of_a_partition_is_the_one_billing_wrote_to_and_unknown_once_that_is_gone(stack: RunningStack) -> None:
    redis = connect(stack.redis_url, 5.0)
    await redis.hset(keys.PROJECTED, mapping={keys.server_field(KNOWN): "some-id", str(KNOWN): "7"})
    async with polling(connect(stack.redis_url, 5.0)) as stream_time:
        await eventually(lambda: stream_time.server_of(KNOWN) == "some-id", what="the server is known")
        assert stream_time.server_of(UNKNOWN) is None
        await redis.hdel(keys.PROJECTED, keys.server_field(KNOWN), str(KNOWN))
        await eventually(lambda: stream_time.server_of(KNOWN) is None, what="nobody vouches any more")
    await redis.aclose()


async def test_a_redis_that_does_not_answer_makes_it_unready_and_forgets_nothing(stack: RunningStack) -> None:
    redis = connect(stack.redis_url, 5.0)
    await redis.hset(keys.STREAM_TIME, str(KNOWN), 42)
    followed = connect(stack.redis_url, 5.0)
    async with polling(followed) as stream_time:
        await eventually(lambda: stream_time.of(KNOWN) == 42, what="the time is known")
        # The address it is connected to is no longer Redis'.
        followed.connection_pool.connection_kwargs["port"] = 9
        await followed.connection_pool.disconnect(inuse_connections=True)
        followed.connection_pool.reset()  # type: ignore[no-untyped-call]  # the library's
        await eventually(lambda: not stream_time.readiness().ready, what="Redis is away")
        assert stream_time.of(KNOWN) == 42
    await redis.hdel(keys.STREAM_TIME, str(KNOWN))
    await redis.aclose()
