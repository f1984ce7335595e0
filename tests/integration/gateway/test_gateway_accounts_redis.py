"""What teams have, and changes of it, on a real Valkey: on which server process, until when, and what stands in the way meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from kite_common.errors import Unavailable
from kite_common.ids import TeamId, new_team_id
from kite_common.projection import keys
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.system import SystemClock, random_bytes
from kite_gateway.adapters.scripts import ScriptRunner, connect
from kite_gateway.adapters.standings import PUBLIC_PER_MINUTE, RedisClientRateLimits
from kite_gateway.domain.admission import Outcome
from kite_gateway.domain.subscription_change import Begun, change_of
from kite_gateway.testing import vouch
from support.wallet_world import CATALOG, PARTITIONS, World, account_of

# A database of our own: kite:projected has a field per partition, and other tests have other logs.
DATABASE = 11
FLAT, CHEAP, DEAR, _ = (plan.id for plan in CATALOG.plans)


@pytest.fixture
async def redis(stack: Any) -> AsyncIterator[Redis]:
    client = connect(f"{stack.redis_url.rsplit('/', 1)[0]}/{DATABASE}", 5.0)
    yield client
    await client.aclose()


async def world_of(redis: Redis, **given: Any) -> World:
    """A team on a plan of 7 an event."""
    fields: dict[str, Any] = {"plan_id": CHEAP, "provider": "x402", "ended": False, "yesterday": False, "balance_atomic": 100}
    world = World(redis, await vouch(redis, PARTITIONS), account_of(_new_team(), SystemClock().unix_ms(), **(fields | given)))
    await world.open()
    return world


def _new_team() -> TeamId:
    return new_team_id(random_bytes(16))


async def admits(world: World) -> Outcome:
    _, facts = await world.admit()
    return facts.outcome


async def test_a_team_nobody_has_projected_has_no_standing(redis: Redis) -> None:
    world = await world_of(redis)
    assert await world.standings.of(_new_team()) is None


@pytest.mark.parametrize("server", ["0" * 40, None])
async def test_where_billing_has_not_written_nothing_is_read_and_nothing_begins(server: str | None, redis: Redis) -> None:
    world = await world_of(redis)
    wanted = change_of(world.team_id, await world.standing(), DEAR, "x402")
    assert wanted is not None
    elsewhere = World(redis, server, world.account)
    with pytest.raises(Unavailable):
        await elsewhere.standings.of(world.team_id)
    with pytest.raises(Unavailable):
        await elsewhere.changes.begin(world.team_id, wanted)
    assert await world.changes.begin(world.team_id, wanted) is Begun.BEGUN


async def test_the_provider_is_changed_between_two_events(redis: Redis) -> None:
    world = await world_of(redis)
    assert await admits(world) is Outcome.ADMITTED
    assert await world.begin_change(FLAT, "clerk") == (Begun.MONEY_RESERVED, Begun.MONEY_RESERVED)
    await world.drain()
    assert await world.begin_change(FLAT, "clerk") == (Begun.BEGUN, Begun.BEGUN)
    assert await admits(world) is Outcome.PROVIDER_CHANGING
    assert await world.read_page(1) == (False, False)
    world.send_change()
    world.apply(1)
    assert await admits(world) is Outcome.PROVIDER_CHANGING
    await world.project(1)
    assert await admits(world) is Outcome.ADMITTED
    assert (await world.standing()).provider == "clerk"


async def test_the_plan_is_changed_while_messages_go_on(redis: Redis) -> None:
    world = await world_of(redis)
    assert await admits(world) is Outcome.ADMITTED
    assert await world.begin_change(DEAR, "x402") == (Begun.BEGUN, Begun.BEGUN)
    assert await admits(world) is Outcome.ADMITTED
    assert await world.begin_change(FLAT, "x402") == (Begun.ANOTHER_UNDER_WAY, Begun.ANOTHER_UNDER_WAY)
    await world.drain()
    assert await admits(world) is Outcome.ADMITTED
    standing = await world.standing()
    assert (standing.events_used, standing.charged_atomic, standing.price_atomic) == (3, 7 + 7 + 30, 30)


async def test_a_change_that_was_made_cannot_be_begun_from_what_was_before(redis: Redis) -> None:
    world = await world_of(redis)
    wanted = change_of(world.team_id, await world.standing(), DEAR, "x402")
    assert wanted is not None
    await world.begin_change(DEAR, "x402")
    await world.drain()
    assert await world.changes.begin(world.team_id, wanted) is Begun.ANOTHER_UNDER_WAY


async def test_a_change_whose_gateway_died_ends_when_stream_time_has_passed_it(redis: Redis) -> None:
    world = await world_of(redis)
    await world.begin_change(FLAT, "clerk")
    note = await redis.hget(keys.account(world.team_id), keys.CHANGING)
    assert note is not None
    began_ms = int(note.split()[0])
    wanted = change_of(world.team_id, await world.standing(), DEAR, "x402")
    assert wanted is not None
    world.stream_time_ms = began_ms + keys.LAPSE_MS
    assert await admits(world) is Outcome.PROVIDER_CHANGING
    assert await world.changes.begin(world.team_id, wanted) is Begun.ANOTHER_UNDER_WAY
    world.stream_time_ms += 1
    assert await admits(world) is Outcome.ADMITTED
    assert await world.changes.begin(world.team_id, wanted) is Begun.BEGUN


async def test_an_end_that_comes_late_ends_no_other_change(redis: Redis) -> None:
    world = await world_of(redis)
    first = change_of(world.team_id, await world.standing(), FLAT, "x402")
    assert first is not None
    await world.changes.begin(world.team_id, first)
    await world.changes.end(world.team_id, first.command_id, has_outcome=True)
    await world.begin_change(DEAR, "x402")
    await world.changes.end(world.team_id, first.command_id, has_outcome=True)
    assert await world.changes.begin(world.team_id, first) is Begun.ANOTHER_UNDER_WAY


async def test_what_a_repeat_may_have_sent_ends_with_an_outcome_only(redis: Redis) -> None:
    world = await world_of(redis)
    wanted = change_of(world.team_id, await world.standing(), FLAT, "clerk")
    other = change_of(world.team_id, await world.standing(), DEAR, "x402")
    assert wanted is not None
    assert other is not None
    for senders, outcome, left in ((1, False, False), (2, False, True), (0, False, True), (1, True, False)):
        for _ in range(senders):
            assert await world.changes.begin(world.team_id, wanted) is Begun.BEGUN
        await world.changes.end(world.team_id, wanted.command_id, has_outcome=outcome)
        assert bool(await redis.hget(keys.account(world.team_id), keys.CHANGING)) is left
        if left:
            assert await world.changes.begin(world.team_id, other) is Begun.ANOTHER_UNDER_WAY
            assert await admits(world) is Outcome.PROVIDER_CHANGING


async def test_of_many_changes_at_once_one_begins(redis: Redis) -> None:
    world = await world_of(redis)
    standing = await world.standing()
    wanted = [change_of(world.team_id, standing, plan_id, "x402") for plan_id in (FLAT, DEAR)]
    begun = await asyncio.gather(*(world.changes.begin(world.team_id, one) for _ in range(10) for one in wanted if one is not None))
    assert begun in ([Begun.BEGUN, Begun.ANOTHER_UNDER_WAY] * 10, [Begun.ANOTHER_UNDER_WAY, Begun.BEGUN] * 10)


async def test_what_an_older_billing_did_not_write_is_not_known(redis: Redis) -> None:
    world = await world_of(redis)
    assert (await world.standing()).terms is not None
    await redis.hdel(keys.account(world.team_id), "monthly", "debt", "revision")
    standing = await world.standing()
    assert (standing.terms, standing.debt_atomic, standing.revision) == (None, 0, 0)


async def test_a_client_address_has_its_bucket_and_stands_in_it_as_a_digest(redis: Redis) -> None:
    await redis.flushdb()
    limits = RedisClientRateLimits(ScriptRunner(redis, 5.0, Metrics()))
    began_ms = SystemClock().unix_ms()
    answers = await asyncio.gather(*(limits.take("203.0.113.9") for _ in range(2 * PUBLIC_PER_MINUTE)))
    refilled = (SystemClock().unix_ms() - began_ms) * PUBLIC_PER_MINUTE // 60_000 + 1
    assert PUBLIC_PER_MINUTE <= sum(allowed for allowed, _ in answers) <= PUBLIC_PER_MINUTE + refilled
    assert (await limits.take("203.0.113.10"))[0]
    names = await redis.keys("*")
    assert len(names) == 2
    assert not any(b"203.0.113" in name for name in names)
