"""Admission against the real Valkey: the behaviour suite, agreement with the reference, races, lapse, outages."""

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from kite_common.errors import Unavailable
from kite_common.ids import TeamId
from kite_common.projection import keys
from kite_common.projection.server import server_id
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.system import SystemClock
from kite_common.testing import make
from kite_gateway.adapters.ids import RandomIds
from kite_gateway.adapters.place import places
from kite_gateway.adapters.reservations import Limits, RedisRateLimits, RedisReservations
from kite_gateway.adapters.scripts import ScriptRunner, connect
from kite_gateway.domain.admission import AdmissionRequest, Claim, Facts, Outcome, PaidWith
from kite_gateway.domain.rate_limit import UNIT, Bucket, full, take
from kite_gateway.testing import (
    PAYMENT,
    RESERVATIONS_SUITE,
    WITHOUT_SUBSCRIPTION_PER_MINUTE,
    Account,
    Behaviour,
    FakeReservations,
    project,
)

LIMITS = Limits(None, WITHOUT_SUBSCRIPTION_PER_MINUTE, 60.0)
DAY_MS = 86_400_000


@dataclass(slots=True)
class RedisHarness:
    """A gateway's admission, and billing's hand on the accounts. `stream_time_ms`, `lag_s` and `server` stand for what is polled."""

    redis: Redis
    limits: Limits = LIMITS
    stream_time_ms: int = 0
    lag_s: float = 0.0
    server: str | None = None
    reservations: RedisReservations = field(init=False)
    rate_limits: RedisRateLimits = field(init=False)

    def __post_init__(self) -> None:
        runner, place_of = ScriptRunner(self.redis, 5.0, Metrics()), places(8)
        self.reservations = RedisReservations(
            runner, place_of, self.limits, lambda _: self.stream_time_ms, lambda _: self.lag_s, lambda _: self.server
        )
        self.rate_limits = RedisRateLimits(runner, place_of, self.limits)

    async def open(self, account: Account) -> TeamId:
        team = TeamId(f"team_{uuid.uuid4().hex}")
        await project(self.redis, team, account)
        return team

    def request(self, team_id: TeamId, claim: Claim | None = None, delivery: str | None = None) -> AdmissionRequest:
        now_ms = SystemClock().unix_ms()
        return AdmissionRequest(team_id, RandomIds().event_id(now_ms), now_ms, claim, delivery)

    async def admit(self, team_id: TeamId, claim: Claim | None = None) -> Facts:
        return await self.reservations.admit(self.request(team_id, claim))

    async def held(self, team_id: TeamId) -> tuple[int, int]:
        """How many reservations are pending, and what they hold in all."""
        total = await self.redis.hget(keys.reserved(team_id), "total")
        return await self.redis.zcard(keys.reservations(team_id)), int(total or 0)

    async def age(self, team_id: TeamId, event_id: str, by_ms: int) -> None:
        """Make a reservation look older."""
        await self.redis.zincrby(keys.reservations(team_id), -by_ms, event_id)


@pytest.fixture
async def harness(stack: Any) -> AsyncIterator[RedisHarness]:
    async with _harness(stack.redis_url) as one:
        yield one


@asynccontextmanager
async def _harness(url: str, limits: Limits = LIMITS) -> AsyncIterator[RedisHarness]:
    redis = connect(url, 5.0)
    try:
        yield RedisHarness(redis, limits, server=server_id(await redis.info("server")))
    finally:
        await redis.aclose()


@pytest.mark.parametrize("behaviour", RESERVATIONS_SUITE, ids=lambda behaviour: behaviour.__name__)
async def test_the_redis_reservations_behave(behaviour: Behaviour, harness: RedisHarness) -> None:
    await behaviour(harness)


async def test_two_hundred_at_once_on_a_wallet_for_fifty_admit_fifty(harness: RedisHarness) -> None:
    team = await harness.open(Account(price=100, balance=5_099))
    facts = await asyncio.gather(*(harness.admit(team) for _ in range(200)))
    assert Counter(one.outcome for one in facts) == {Outcome.ADMITTED: 50, Outcome.WALLET_TOO_LOW: 150}
    assert await harness.held(team) == (50, 5_000)


async def test_two_gateways_at_once_do_not_overdraw_either(stack: Any, harness: RedisHarness) -> None:
    team = await harness.open(Account(price=100, balance=5_000))
    async with _harness(stack.redis_url) as other:
        facts = await asyncio.gather(*(gateway.admit(team) for _ in range(100) for gateway in (harness, other)))
    assert Counter(one.outcome for one in facts)[Outcome.ADMITTED] == 50


async def test_every_admitted_message_gets_a_counter_of_its_own(harness: RedisHarness) -> None:
    team = await harness.open(Account(used=10))
    facts = await asyncio.gather(*(harness.admit(team) for _ in range(100)))
    assert sorted(one.month_used for one in facts) == list(range(11, 111))


async def test_a_day_quota_holds_under_a_rush(harness: RedisHarness) -> None:
    today = SystemClock().unix_ms() // DAY_MS
    team = await harness.open(Account(day=today, day_used=95, day_limit=100))
    facts = await asyncio.gather(*(harness.admit(team) for _ in range(40)))
    counted = Counter(one.outcome for one in facts)
    # The five that are left, or a whole new day's if midnight fell into the rush.
    assert counted[Outcome.ADMITTED] in (5, 40)


async def test_twenty_at_once_with_one_key_admit_one(harness: RedisHarness) -> None:
    team, claim = await harness.open(Account()), Claim("a" * 32, "body")
    facts = await asyncio.gather(*(harness.admit(team, claim) for _ in range(20)))
    assert Counter(one.outcome for one in facts) == {Outcome.ADMITTED: 1, Outcome.IN_PROGRESS: 19}


async def test_a_claim_outlives_its_reservation_once_accepted(harness: RedisHarness) -> None:
    team, claim = await harness.open(Account()), Claim("a" * 32, "body")
    first = harness.request(team, claim)
    await harness.reservations.admit(first)
    await harness.reservations.confirm(first)
    await harness.redis.zrem(keys.reservations(team), first.event_id)
    assert (await harness.admit(team, claim)).outcome is Outcome.REPLAYED


async def test_a_claim_is_forgotten_after_a_day(harness: RedisHarness) -> None:
    team, claim = await harness.open(Account()), Claim("a" * 32, "body")
    await harness.admit(team, claim)
    left = await harness.redis.ttl(keys.idempotency(team, claim.id))
    assert 86_300 < left <= 86_400


async def test_a_claim_marked_by_billing_alone_is_never_taken_twice(harness: RedisHarness) -> None:
    team, claim = await harness.open(Account()), Claim("a" * 32, "body")
    await harness.redis.hset(keys.idempotency(team, claim.id), "state", "accepted")
    assert (await harness.admit(team, claim)).outcome is Outcome.KEY_REUSED


async def test_a_claim_that_came_back_without_its_first_answer_stays_taken(harness: RedisHarness) -> None:
    team = await harness.open(Account())
    delivered, paid = harness.request(team, delivery="d" * 32), replace(harness.request(team), payment=PAYMENT)
    for claim in ("d" * 32, PAYMENT.claim):
        await harness.redis.hset(keys.idempotency(team, claim), mapping={"state": "accepted", "event_id": make.EVENT_ID, "body": ""})
    outcomes = [(await harness.reservations.admit(one)).outcome for one in (delivered, paid)]
    assert outcomes == [Outcome.DELIVERY_IN_FLIGHT, Outcome.PAID_IN_FLIGHT]


async def test_a_lapsed_reservation_frees_its_money_its_quota_and_its_key(harness: RedisHarness) -> None:
    team, claim = await harness.open(Account(price=100, balance=100, month_limit=1)), Claim("a" * 32, "body")
    first = harness.request(team, claim)
    reserved_at = (await harness.reservations.admit(first)).at_ms
    harness.stream_time_ms = reserved_at + keys.LAPSE_MS
    assert (await harness.admit(team, claim)).outcome is Outcome.IN_PROGRESS
    harness.stream_time_ms = reserved_at + keys.LAPSE_MS + 1
    assert (await harness.admit(team, Claim(claim.id, "other body"))).outcome is Outcome.ADMITTED
    assert await harness.held(team) == (1, 100)


async def test_many_lapsed_reservations_go_a_hundred_at_a_time(harness: RedisHarness) -> None:
    team = await harness.open(Account(price=10))
    requests = [harness.request(team) for _ in range(250)]
    facts = await asyncio.gather(*(harness.reservations.admit(one) for one in requests))
    for one in requests:
        await harness.age(team, one.event_id, 1_000)
    harness.stream_time_ms = min(found.at_ms for found in facts) + keys.LAPSE_MS
    left = []
    for _ in range(3):
        await harness.admit(team)
        left.append(await harness.held(team))
    assert left == [(151, 1_510), (52, 520), (3, 30)]


@pytest.mark.parametrize("price", [0, 100])
async def test_events_that_cost_nothing_are_released_and_lapse_too(price: int, harness: RedisHarness) -> None:
    team = await harness.open(Account(price=price))
    released, lapsed = harness.request(team), harness.request(team)
    released_ms = (await harness.reservations.admit(released)).at_ms
    at_ms = (await harness.reservations.admit(lapsed)).at_ms
    await harness.reservations.release(released, released_ms)
    assert await harness.held(team) == (1, price)
    await harness.age(team, lapsed.event_id, 1_000)
    harness.stream_time_ms = at_ms + keys.LAPSE_MS
    await harness.admit(team)
    assert await harness.held(team) == (1, price)


async def test_unknown_stream_time_lapses_nothing(harness: RedisHarness) -> None:
    team = await harness.open(Account(price=100, balance=100))
    facts = harness.request(team)
    await harness.reservations.admit(facts)
    await harness.age(team, facts.event_id, 10 * DAY_MS)
    assert (await harness.admit(team)).outcome is Outcome.WALLET_TOO_LOW


async def test_pending_events_of_yesterday_do_not_count_today(harness: RedisHarness) -> None:
    team = await harness.open(Account(day_limit=1))
    first = harness.request(team)
    await harness.reservations.admit(first)
    await harness.age(team, first.event_id, DAY_MS)
    facts = await harness.admit(team)
    assert (facts.outcome, facts.day_used, facts.month_used) == (Outcome.ADMITTED, 1, 2)


async def test_pending_events_of_the_last_period_do_not_count_in_this_one(harness: RedisHarness) -> None:
    now = SystemClock().unix_ms()
    team = await harness.open(Account(period_start=now - 2 * DAY_MS, period_end=now - DAY_MS, used=1_000))
    first = harness.request(team)
    await harness.reservations.admit(first)
    await harness.age(team, first.event_id, DAY_MS + 60_000)
    assert (await harness.admit(team)).month_used == 1


async def test_what_is_reserved_says_its_day_and_period(harness: RedisHarness) -> None:
    team = await harness.open(Account(price=100, period_start=1_000))
    request = harness.request(team)
    facts = await harness.reservations.admit(request)
    held = await harness.redis.hget(keys.reserved(team), request.event_id)
    assert held == f"100 {facts.at_ms // DAY_MS} 1000".encode()


async def test_large_numbers_stay_exact(harness: RedisHarness) -> None:
    largest = 9_007_199_254_740_991
    team = await harness.open(Account(price=largest - 7, balance=largest, month_limit=largest, day_limit=largest, used=largest - 2))
    facts = await harness.admit(team)
    assert (facts.outcome, facts.price_atomic, facts.month_used) == (Outcome.ADMITTED, largest - 7, largest - 1)
    refused = await harness.admit(team)
    assert (refused.outcome, refused.available_atomic) == (Outcome.WALLET_TOO_LOW, 7)
    assert await harness.held(team) == (1, largest - 7)


async def test_an_operators_limit_stands_over_the_plans(stack: Any) -> None:
    async with _harness(stack.redis_url, replace(LIMITS, every_team_per_minute=2)) as harness:
        team = await harness.open(Account(rate_per_min=0))
        outcomes = [(await harness.admit(team)).outcome for _ in range(3)]
    assert outcomes == [Outcome.ADMITTED, Outcome.ADMITTED, Outcome.RATE_LIMITED]


async def test_all_routes_share_one_bucket(harness: RedisHarness) -> None:
    team = await harness.open(Account(rate_per_min=2))
    allowed, rate = await harness.rate_limits.take(team)
    await harness.admit(team)
    assert allowed
    assert rate is not None
    assert (rate.per_minute, rate.remaining) == (2, 1)
    assert (await harness.admit(team)).outcome is Outcome.RATE_LIMITED
    assert (await harness.rate_limits.take(team))[0] is False


async def test_a_full_bucket_takes_no_memory(harness: RedisHarness) -> None:
    team = await harness.open(Account(rate_per_min=600))
    await harness.admit(team)
    left_ms = await harness.redis.pttl(keys.bucket(team))
    assert 0 < left_ms <= 102


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rate=st.integers(1_000, 60_000), waits=st.lists(st.integers(0, 8), min_size=1, max_size=30))
async def test_the_bucket_in_redis_is_the_one_of_the_domain(stack: Any, rate: int, waits: list[int]) -> None:
    async with _harness(stack.redis_url) as harness:
        team = await harness.open(Account(rate_per_min=rate))
        facts = await harness.admit(team)
        bucket, _ = take(full(rate, facts.at_ms), rate, facts.at_ms)
        assert facts.level == bucket.level
        # Start again from nearly empty, so that refusals happen too.
        await harness.redis.delete(keys.bucket(team))
        await harness.redis.hset(keys.bucket(team), mapping={"t": 3 * UNIT, "ts": facts.at_ms})
        bucket = Bucket(3 * UNIT, facts.at_ms)
        for wait in waits:
            found = await asyncio.gather(*(harness.admit(team) for _ in range(wait)))
            for one in found:
                bucket, allowed = take(bucket, rate, one.at_ms)
                assert (one.level, one.outcome is not Outcome.RATE_LIMITED) == (bucket.level, allowed)


accounts = st.builds(
    Account, status=st.sampled_from(["active", "active", "past_due"]), provider=st.sampled_from(["x402", "clerk"]),
    rate_per_min=st.sampled_from([0, 5]),
    price=st.integers(0, 40), month_limit=st.integers(0, 12), day_limit=st.integers(0, 12), used=st.integers(0, 6),
    balance=st.integers(0, 200),
    period_end=st.sampled_from([1, 1 << 47]), max_payload=st.sampled_from([0, 2_500, 262_144]),
)  # fmt: skip
steps = st.lists(
    st.tuples(
        st.sampled_from(["admit", "admit", "admit", "peek", "confirm", "release"]), st.integers(0, 4), st.booleans(), st.integers(0, 3),
        st.integers(0, 2), st.booleans(),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(account=accounts, schedule=steps)
async def test_the_script_decides_as_the_reference_does(
    stack: Any, account: Account, schedule: list[tuple[str, int, bool, int, int, bool]]
) -> None:
    async with _harness(stack.redis_url) as harness:
        team = await harness.open(account)
        reference = FakeReservations({team: account})
        last: dict[int, tuple[AdmissionRequest, int]] = {}
        events = [RandomIds().event_id(number) for number in range(3)]
        for step, key, same_body, delivery, payment, takes_token in schedule:
            if step in ("admit", "peek"):
                claim = Claim(f"{key:032d}", "same" if same_body else f"other {key}") if key else None
                request = replace(harness.request(team, claim, f"d{delivery:031d}" if delivery else None), body_bytes=1_000 * delivery)
                request = replace(request, takes_token=takes_token)
                if payment:
                    # As with real payments, the event belongs to the payment: every copy of the request has the same.
                    request = replace(request, event_id=events[payment], payment=PaidWith(f"p{payment:031d}", f"paid {payment}"))
                found = await getattr(harness.reservations, step)(request)
                reference.now_ms = found.at_ms
                assert found == await getattr(reference, step)(request)
                if step == "admit" and found.outcome is Outcome.ADMITTED:
                    last[key] = request, found.at_ms
            elif key in last:
                request, at_ms = last[key]
                given = (request, at_ms) if step == "release" else (request,)
                await getattr(harness.reservations, step)(*given)
                await getattr(reference, step)(*given)


async def test_a_silent_redis_is_unavailable_in_time() -> None:
    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()

    silent = await asyncio.start_server(never_answer, "127.0.0.1", 0)
    redis = connect(f"redis://127.0.0.1:{silent.sockets[0].getsockname()[1]}/0", 0.1)
    runner = ScriptRunner(redis, 0.1, Metrics())
    reservations = RedisReservations(runner, places(8), LIMITS, lambda _: 0, lambda _: 0.0, lambda _: "any")
    request = AdmissionRequest(TeamId("team_a"), RandomIds().event_id(1), 1)
    results = await asyncio.gather(*(reservations.admit(request) for _ in range(300)), return_exceptions=True)
    assert all(isinstance(result, Unavailable) for result in results)
    await reservations.release(request, 1)
    await redis.aclose()
    silent.close()
    await silent.wait_closed()


async def test_a_redis_that_forgot_the_scripts_is_told_them_again(harness: RedisHarness) -> None:
    team = await harness.open(Account())
    await harness.admit(team)
    await harness.redis.script_flush()
    facts = await asyncio.gather(*(harness.admit(team) for _ in range(10)))
    assert {one.outcome for one in facts} == {Outcome.ADMITTED}


async def test_admission_stops_when_billing_is_far_behind(harness: RedisHarness) -> None:
    team = await harness.open(Account())
    harness.lag_s = 61.0
    with pytest.raises(Unavailable):
        await harness.admit(team)
    assert await harness.held(team) == (0, 0)


async def test_on_another_server_process_than_billing_wrote_to_nobody_is_admitted(harness: RedisHarness) -> None:
    team = await harness.open(Account())
    known, harness.server = harness.server, "0" * 40
    refused = await asyncio.gather(*(harness.admit(team) for _ in range(5)), return_exceptions=True)
    harness.server = None
    with pytest.raises(Unavailable):
        await harness.admit(team)
    assert [type(one) for one in refused] == [Unavailable] * 5
    assert await harness.held(team) == (0, 0)
    harness.server = known
    assert (await harness.admit(team)).outcome is Outcome.ADMITTED


async def test_calls_for_other_servers_fail_alone_and_give_their_connection_back(harness: RedisHarness) -> None:
    team, known = await harness.open(Account()), harness.server
    found = []
    for number in range(200):
        harness.server = known if number % 2 else "0" * 40
        found.append(asyncio.create_task(harness.admit(team)))
        await asyncio.sleep(0)
    results = await asyncio.gather(*found, return_exceptions=True)
    assert [isinstance(one, Unavailable) for one in results] == [number % 2 == 0 for number in range(200)]
    assert (await harness.held(team))[0] == 100
    assert sum(count for count, _ in harness.redis.connection_pool.get_connection_count()) <= 2
