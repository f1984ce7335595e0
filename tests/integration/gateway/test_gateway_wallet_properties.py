"""Whatever order reservations, pages, deposits, plan changes, deaths, billing and its projection come in: everybody finds the same numbers,
and the ledger is never below zero. The scripts run on a real Valkey, billing's decisions are its own."""

import inspect
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from kite_common.clock import utc_day
from kite_common.ids import new_team_id
from kite_common.projection import keys
from kite_common.runtime.system import SystemClock, random_bytes
from kite_gateway.adapters.scripts import connect
from kite_gateway.domain.admission import Outcome
from kite_gateway.testing import vouch
from support.wallet_world import CATALOG, PARTITIONS, World, account_of

# A database of our own: kite:projected has a field per partition, and other tests have other logs.
DATABASE = 10


@pytest.fixture
async def redis(stack: Any) -> AsyncIterator[Redis]:
    client = connect(f"{stack.redis_url.rsplit('/', 1)[0]}/{DATABASE}", 5.0)
    yield client
    await client.aclose()


plans = st.sampled_from([plan.id for plan in CATALOG.plans])
providers = st.sampled_from(["x402", "x402", "clerk"])
accounts = st.fixed_dictionaries({
    "plan_id": plans, "provider": providers, "ended": st.booleans(), "yesterday": st.booleans(), "period_used": st.integers(0, 6),
    "day_used": st.integers(0, 3), "period_charged_atomic": st.integers(0, 50), "balance_atomic": st.integers(0, 300),
})  # fmt: skip
which = st.integers(0, 5)
steps = st.one_of(
    st.just(("admit",)), st.just(("admit",)), st.just(("admit",)),
    st.tuples(st.just("read_page"), st.integers(1, 12)),
    st.tuples(st.just("publish"), which), st.tuples(st.just("publish"), which),
    st.tuples(st.just("give_back"), which),
    st.tuples(st.just("lose"), which),
    st.tuples(st.just("credit"), st.integers(1, 200)),
    st.tuples(st.just("correct"), st.integers(1, 200)),
    st.tuples(st.just("begin_change"), plans, providers), st.tuples(st.just("begin_change"), plans, providers),
    st.just(("send_change",)), st.just(("give_change_up",)),
    st.tuples(st.just("apply"), st.integers(1, 6)), st.tuples(st.just("apply"), st.integers(1, 6)),
    st.tuples(st.just("project"), st.integers(1, 3)), st.tuples(st.just("project"), st.integers(1, 3)),
)  # fmt: skip


async def act(world: World, name: str, *arguments: Any) -> None:
    """One step, and whether its answer is the one that follows from the numbers."""
    done = getattr(world, name)(*arguments)
    found = await done if inspect.isawaitable(done) else done
    if name == "admit":
        expected, facts = found
        assert facts.outcome is expected
        if expected is Outcome.ADMITTED:
            assert (facts.month_used, facts.day_used) == (world.numbers.used, world.numbers.day_used)
    elif found is not None:
        expected, did = found
        assert did == expected


async def check(world: World) -> None:
    """What holds between any two steps."""
    if utc_day(SystemClock().unix_ms()) != world.today:
        reject()
    standing, numbers, known = await world.standing(), world.numbers, world.known
    assert (standing.events_used, standing.events_today, standing.charged_atomic) == (numbers.used, numbers.day_used, numbers.charged)
    assert (standing.balance_atomic, standing.balance_atomic - standing.reserved_atomic) == (world.projected.balance_atomic, numbers.free)
    assert (standing.plan_id, standing.provider, standing.events_limit) == (known.plan_id, known.provider, known.terms.events_per_month)
    assert world.account.balance_atomic == world.opening + sum(entry.amount_atomic for entry in world.entries)
    assert all(entry.balance_after_atomic >= 0 for entry in world.entries)
    assert len(set(world.told)) == len(world.told)
    if not world.corrected:
        assert numbers.free >= 0
        assert all(entry.shortfall_atomic == 0 for entry in world.entries)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(account=accounts, schedule=st.lists(steps, min_size=10, max_size=50))
async def test_all_find_the_same_numbers_and_nothing_is_below_zero(redis: Redis, account: dict[str, Any], schedule: list[Any]) -> None:
    server = await vouch(redis, PARTITIONS)
    world = World(redis, server, account_of(new_team_id(random_bytes(16)), SystemClock().unix_ms(), **account))
    await world.open()
    for step in schedule:
        await act(world, *step)
        await check(world)
    await world.drain()
    await check(world)
    charged = [entry.event_id for entry in world.entries if entry.event_id is not None]
    assert sorted(charged) == sorted(world.accepted)
    names = keys.reservations(world.team_id), keys.replays(world.team_id)
    assert [await redis.zcard(name) for name in names] == [0, 0]
    assert int(await redis.hget(keys.reserved(world.team_id), "total") or 0) == 0
