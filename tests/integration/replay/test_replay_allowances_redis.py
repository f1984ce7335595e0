"""The team's token bucket and account status in a real Redis."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
from redis.asyncio import Redis

from kite_common.errors import Unavailable
from kite_common.ids import TeamId
from kite_common.log_position import partition_of
from kite_common.projection import keys
from kite_gateway.testing import vouch
from kite_replay.adapters.allowances import RedisAllowances
from kite_replay.domain.price import Tariff

PARTITIONS: Final = 8


@pytest.fixture
async def redis(stack: Any) -> AsyncIterator[Redis]:
    client = Redis.from_url(stack.redis_url)
    yield client
    await client.aclose()


def allowances(redis: Redis, team_rate_limit: int | None = None) -> RedisAllowances:
    return RedisAllowances(redis, PARTITIONS, team_rate_limit=team_rate_limit, rate_unsubscribed=60)


async def project(redis: Redis, team: str, status: str = "active", rate: int = 300) -> TeamId:
    await redis.hset(keys.account(TeamId(team)), mapping={"status": status, "rate_per_min": rate})
    await vouch(redis, PARTITIONS)
    return TeamId(team)


async def test_requests_above_the_rate_wait_and_are_told_how_long(redis: Redis, team: str) -> None:
    team_id = await project(redis, team, rate=2)
    told = [(await allowances(redis).take(team_id)).rate for _ in range(3)]
    assert [rate.remaining for rate in told if rate] == [1, 0, 0]
    assert [rate.limit for rate in told if rate] == [2, 2, 2]
    last = told[-1]
    assert last is not None
    assert last.retry_after_s is not None
    assert 1 <= last.retry_after_s <= 30
    assert last.reset_s <= 60


async def test_requests_at_once_share_one_bucket(redis: Redis, team: str) -> None:
    team_id = await project(redis, team, rate=10)
    told = await asyncio.gather(*(allowances(redis).take(team_id) for _ in range(30)))
    assert sum(one.rate is not None and one.rate.retry_after_s is None for one in told) == 10


async def test_an_unlimited_plan_has_no_bucket(redis: Redis, team: str) -> None:
    team_id = await project(redis, team, rate=0)
    assert (await allowances(redis).take(team_id)).rate is None
    assert not await redis.exists(keys.bucket(team_id))


async def test_the_operators_limit_is_over_the_plans(redis: Redis, team: str) -> None:
    team_id = await project(redis, team, rate=0)
    rate = (await allowances(redis, team_rate_limit=7).take(team_id)).rate
    assert rate is not None
    assert rate.limit == 7


@pytest.mark.parametrize(
    ("status", "subscribed", "limit"), [("active", True, 300), ("past_due", True, 60), ("cancelled", False, 60), ("none", False, 60)]
)
async def test_the_status_decides_subscription_and_limit(redis: Redis, team: str, status: str, subscribed: bool, limit: int) -> None:
    allowance = await allowances(redis).take(await project(redis, team, status))
    assert (allowance.tariff is not None) is subscribed
    assert allowance.rate is not None
    assert allowance.rate.limit == limit


async def test_an_x402_team_is_told_its_price_and_what_its_wallet_has_free(redis: Redis, team: str) -> None:
    team_id = await project(redis, team)
    account: dict[Any, Any] = {"provider": "x402", "replay_price": 10, "balance": 1_000}
    await redis.hset(keys.account(team_id), mapping=account)
    await redis.hset(keys.reserved(team_id), "total", 300)
    assert (await allowances(redis).take(team_id)).tariff == Tariff(10, 700)
    await redis.hset(keys.account(team_id), "provider", "clerk")
    assert (await allowances(redis).take(team_id)).tariff == Tariff(0, 0)


async def test_without_a_subscription_the_fallback_names_the_price_and_the_wallet_pays_nothing(redis: Redis, team: str) -> None:
    team_id = await project(redis, team, status="none")
    await redis.hset(keys.account(team_id), "balance", 1_000)
    fallback = RedisAllowances(redis, PARTITIONS, team_rate_limit=None, rate_unsubscribed=60, fallback_atomic=7)
    assert (await fallback.take(team_id)).tariff == Tariff(7, 0)
    assert (await allowances(redis).take(team_id)).tariff is None


async def test_a_team_that_is_not_projected_is_unavailable_and_leaves_nothing_behind(redis: Redis, team: str) -> None:
    with pytest.raises(Unavailable):
        await allowances(redis).take(TeamId(team))
    assert not await redis.exists(keys.bucket(TeamId(team)))


async def test_an_older_copy_of_the_accounts_is_not_read(redis: Redis, team: str) -> None:
    team_id = await project(redis, team)
    server = keys.server_field(partition_of(team.encode(), PARTITIONS))
    for elsewhere in ("0" * 40, None):
        await (redis.hdel(keys.PROJECTED, server) if elsewhere is None else redis.hset(keys.PROJECTED, server, elsewhere))
        with pytest.raises(Unavailable):
            await allowances(redis).take(team_id)
    assert not await redis.exists(keys.bucket(team_id))
    await vouch(redis, PARTITIONS)
    assert (await allowances(redis).take(team_id)).rate is not None


async def test_a_bucket_is_forgotten_when_it_is_full_again(redis: Redis, team: str) -> None:
    team_id = await project(redis, team, rate=60)
    await allowances(redis).take(team_id)
    assert 0 < await redis.pttl(keys.bucket(team_id)) <= 1_001


async def test_redis_away_is_unavailable(team: str) -> None:
    client = Redis.from_url("redis://127.0.0.1:9/0", socket_connect_timeout=1)
    with pytest.raises(Unavailable):
        await allowances(client).take(TeamId(team))
    await client.aclose()
