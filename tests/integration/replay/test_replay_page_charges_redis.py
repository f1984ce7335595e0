"""Reserving pages on a real Redis, beside the gateway's own admission: one wallet, two sellers, quotas only for events."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import pytest
from redis.asyncio import Redis

from kite_common.errors import Unavailable
from kite_common.ids import TeamId, uuid7
from kite_common.projection import keys
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.system import SystemClock, random_bits
from kite_gateway.adapters.place import places
from kite_gateway.adapters.reservations import Limits, RedisReservations
from kite_gateway.adapters.scripts import ScriptRunner, connect
from kite_gateway.domain.admission import AdmissionRequest, Outcome
from kite_gateway.testing import Account, project, vouch
from kite_replay.adapters.page_charges import RedisPageCharges
from kite_replay.domain.charge import NoSubscription, NothingDue, PageUsage, Reserved, TooLow, decide


@pytest.fixture
async def redis(stack: Any) -> AsyncIterator[Redis]:
    client = Redis.from_url(stack.redis_url)
    yield client
    await client.aclose()


PARTITIONS: Final = 8
LIMITS: Final = Limits(None, 60, 60.0)
_ZERO: Final[Callable[[int], int]] = lambda _: 0  # noqa: E731


async def open_account(redis: Redis, team: str, balance: int = 1_000, row_atomic: int = 10, **given: Any) -> TeamId:
    team_id = TeamId(team)
    await project(redis, team_id, Account(balance=balance, **given))
    await redis.hset(keys.account(team_id), "replay_price", row_atomic)
    await vouch(redis, PARTITIONS)
    return team_id


def page(team_id: TeamId, rows: int = 5) -> PageUsage:
    now_ms = SystemClock().unix_ms()
    return PageUsage(team_id, uuid7(now_ms, random_bits(74)), rows, now_ms)


async def held(redis: Redis, team_id: TeamId) -> tuple[int, int, int]:
    """Pages and events that are reserved, and the total."""
    total = await redis.hget(keys.reserved(team_id), "total")
    return await redis.zcard(keys.replays(team_id)), await redis.zcard(keys.reservations(team_id)), int(total or 0)


async def test_a_page_is_reserved_at_the_price_of_this_moment_and_its_repeat_holds_nothing_more(redis: Redis, team: str) -> None:
    team_id, charges = await open_account(redis, team), RedisPageCharges(redis, PARTITIONS)
    usage = page(team_id)
    first = decide(await charges.reserve(usage))
    assert isinstance(first, Reserved)
    assert (first.amount_atomic, first.subscription_id) == (50, "sub")
    assert abs(first.reserved_at_ms - usage.received_ms) < 5_000
    await redis.hset(keys.account(team_id), "replay_price", 99)
    assert decide(await charges.reserve(usage)) == first
    assert await held(redis, team_id) == (1, 0, 50)


async def test_a_release_frees_the_money_once(redis: Redis, team: str) -> None:
    team_id, charges = await open_account(redis, team), RedisPageCharges(redis, PARTITIONS)
    usage, other = page(team_id), page(team_id)
    for one in (usage, other):
        await charges.reserve(one)
    for _ in range(2):
        await charges.release(usage)
        assert await held(redis, team_id) == (1, 0, 50)


@pytest.mark.parametrize(
    ("account", "decision"),
    [
        ({"balance": 49}, TooLow(50)),
        ({"balance": 1_000, "row_atomic": 0}, NothingDue()),
        ({"provider": "clerk"}, NothingDue()),
        ({"status": "cancelled"}, NoSubscription()),
        ({"status": "none", "provider": ""}, NoSubscription()),
    ],
)
async def test_nothing_is_held_where_nothing_is_due_or_the_wallet_is_too_low(
    redis: Redis, team: str, account: dict[str, Any], decision: object
) -> None:
    team_id = await open_account(redis, team, **account)
    assert decide(await RedisPageCharges(redis, PARTITIONS).reserve(page(team_id))) == decision
    assert await held(redis, team_id) == (0, 0, 0)


async def test_a_late_outside_payment_does_not_keep_a_wallet_from_paying(redis: Redis, team: str) -> None:
    team_id = await open_account(redis, team, status="past_due")
    assert isinstance(decide(await RedisPageCharges(redis, PARTITIONS).reserve(page(team_id))), Reserved)


async def test_pages_and_messages_at_once_never_hold_more_than_the_wallet_has_and_only_messages_count(
    stack: Any, redis: Redis, team: str
) -> None:
    team_id = await open_account(redis, team, balance=1_000, price=100, month_limit=1_000, day_limit=1_000)
    client = connect(str(stack.redis_url), 5.0)
    server = await vouch(redis, PARTITIONS)
    gateway = RedisReservations(ScriptRunner(client, 5.0, Metrics()), places(PARTITIONS), LIMITS, _ZERO, _ZERO, lambda _: server)
    charges, now_ms = RedisPageCharges(redis, PARTITIONS), SystemClock().unix_ms()
    messages = [AdmissionRequest(team_id, uuid7(now_ms, random_bits(74)), now_ms, None) for _ in range(20)]
    admitted, sold = await asyncio.gather(
        asyncio.gather(*map(gateway.admit, messages)), asyncio.gather(*(charges.reserve(page(team_id)) for _ in range(40)))
    )
    events = [facts for facts in admitted if facts.outcome is Outcome.ADMITTED]
    pages = [facts for facts in sold if facts.reserved]
    assert 100 * len(events) + 50 * len(pages) <= 1_000
    assert {facts.outcome for facts in admitted} <= {Outcome.ADMITTED, Outcome.WALLET_TOO_LOW}
    assert max((facts.month_used for facts in events), default=0) == len(events)
    assert await held(redis, team_id) == (len(pages), len(events), 100 * len(events) + 50 * len(pages))
    await client.aclose()


async def test_a_page_counts_in_no_quota(stack: Any, redis: Redis, team: str) -> None:
    team_id = await open_account(redis, team, balance=1_000, price=100, month_limit=1, day_limit=1)
    await RedisPageCharges(redis, PARTITIONS).reserve(page(team_id))
    client, now_ms = connect(str(stack.redis_url), 5.0), SystemClock().unix_ms()
    server = await vouch(redis, PARTITIONS)
    gateway = RedisReservations(ScriptRunner(client, 5.0, Metrics()), places(PARTITIONS), LIMITS, _ZERO, _ZERO, lambda _: server)
    facts = await gateway.admit(AdmissionRequest(team_id, uuid7(now_ms, random_bits(74)), now_ms, None))
    assert (facts.outcome, facts.month_used, facts.day_used, facts.available_atomic) == (Outcome.ADMITTED, 1, 1, 950)
    await client.aclose()


async def test_a_team_that_is_not_projected_and_a_redis_that_is_away_hold_nothing(redis: Redis, team: str) -> None:
    with pytest.raises(Unavailable):
        await RedisPageCharges(redis, PARTITIONS).reserve(page(TeamId(team)))
    assert await held(redis, TeamId(team)) == (0, 0, 0)
    client = Redis.from_url("redis://127.0.0.1:9/0", socket_connect_timeout=1)
    with pytest.raises(Unavailable):
        await RedisPageCharges(client, PARTITIONS).reserve(page(TeamId(team)))
    await RedisPageCharges(client, PARTITIONS).release(page(TeamId(team)))
    await client.aclose()
