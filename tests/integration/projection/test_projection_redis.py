"""The projection on a real Valkey: fence, settlement, lapse, outages, wipes; and together with the gateway's own admission script."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from kite_common.clock import FrozenClock, from_unix_ms
from kite_common.errors import OutcomeOpen, Unavailable
from kite_common.events.accounts import AccountSnapshot
from kite_common.events.codec import Record, decode
from kite_common.events.commands import CommandOutcome, Subscribe
from kite_common.events.usage import FirstAnswer
from kite_common.ids import CommandId, TeamId
from kite_common.projection import keys
from kite_common.projection.account_fields import account_fields
from kite_common.projection.claims import AcceptedClaim
from kite_common.projection.outcomes import CommandSender
from kite_common.projection.pending import Charges, Settled, Write
from kite_common.projection.redis import AccountProjector
from kite_common.projection.server import server_id
from kite_common.projection.writes import ProjectionWrites
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.system import SystemClock
from kite_common.stream.transaction import Position
from kite_common.testing import make
from kite_common.testing.eventually import eventually
from kite_gateway.adapters.ids import RandomIds
from kite_gateway.adapters.place import places
from kite_gateway.adapters.reservations import Limits, RedisReservations
from kite_gateway.adapters.scripts import ScriptRunner, connect
from kite_gateway.domain.admission import AdmissionRequest, Claim, Outcome
from support.switch import switch_to

# A database of our own: kite:projected has a field per partition, and other tests have other logs.
DATABASE = 5
PARTITION = 3
TEAM = TeamId(make.TEAM)
NOW = make.NOW_MS


@pytest.fixture
async def redis(stack: Any) -> AsyncIterator[Redis]:
    client = Redis.from_url(url_of(stack), decode_responses=True)
    await client.flushdb()
    yield client
    await client.aclose()


@pytest.fixture
def writes(redis: Redis) -> ProjectionWrites:
    return ProjectionWrites(redis)


async def reserve(redis: Redis, *numbers: int, at_ms: int = NOW, amount: int = 100, claim: str | None = None) -> list[Settled]:
    """What admission holds for these events of TEAM."""
    held = [Settled(TEAM, make.event_id(number), claim) for number in numbers]
    for one in held:
        await redis.zadd(keys.reservations(TEAM), {one.event_id: at_ms})
        await redis.hset(keys.reserved(TEAM), one.event_id, f"{amount} 1 1")
        await redis.hincrby(keys.reserved(TEAM), "total", amount)
        if claim is not None:
            await redis.hset(keys.idempotency(TEAM, claim), mapping={"state": "in_flight", "event_id": one.event_id})
    return held


async def held(redis: Redis) -> tuple[int, int, int]:
    """Reservations of TEAM: pending, with an amount, and the total."""
    pipeline = redis.pipeline()
    pipeline.zcard(keys.reservations(TEAM))
    pipeline.hlen(keys.reserved(TEAM))
    pipeline.hget(keys.reserved(TEAM), "total")
    pending, amounts, total = await pipeline.execute()
    return pending, max(0, amounts - 1), int(total or 0)


def write(applied: int, *settled: Settled, create: bool = True, **given: Any) -> Write:
    return Write(make.account(applied=applied, **given), settled, create)


async def projected(redis: Redis, team: TeamId = TEAM) -> dict[str, str]:
    return {str(name): str(value) for name, value in (await redis.hgetall(keys.account(team))).items()}


def as_stored(account: AccountSnapshot) -> dict[str, str]:
    fields = account_fields(account)
    return {str(name): str(value) for name, value in zip(fields[::2], fields[1::2], strict=True)}


async def test_an_account_is_written_whole(redis: Redis, writes: ProjectionWrites) -> None:
    assert await writes.accounts([write(5)], 0) == (["written"], 0)
    assert await projected(redis) == as_stored(make.account(applied=5))


async def test_an_older_snapshot_is_ignored_and_its_reservations_go_all_the_same(redis: Redis, writes: ProjectionWrites) -> None:
    await writes.accounts([write(5, balance_atomic=500)], 0)
    settled = await reserve(redis, 1, 2)
    assert await writes.accounts([write(4, *settled, balance_atomic=600)], 0) == (["older"], 0)
    assert (await projected(redis))["balance"] == "500"
    assert await held(redis) == (0, 0, 0)


async def test_the_same_snapshot_again_changes_nothing(redis: Redis, writes: ProjectionWrites) -> None:
    settled = await reserve(redis, 1)
    await reserve(redis, 2)
    assert await writes.accounts([write(5, *settled)], 0) == (["written"], 0)
    assert await writes.accounts([write(5, *settled)], 0) == (["same"], 0)
    assert await held(redis) == (1, 1, 100)


async def test_a_missing_account_is_told_and_not_created_when_it_should_be_there(redis: Redis, writes: ProjectionWrites) -> None:
    assert await writes.accounts([write(5, create=False)], 0) == (["missing"], 0)
    assert await projected(redis) == {}


async def reserve_page(redis: Redis, number: int, *, at_ms: int = NOW, amount: int = 50) -> Settled:
    """What replay holds for a page of TEAM."""
    usage = Settled(TEAM, make.event_id(number), None)
    await redis.zadd(keys.replays(TEAM), {usage.event_id: at_ms})
    await redis.hset(keys.reserved(TEAM), usage.event_id, f"{amount} 1 1")
    await redis.hincrby(keys.reserved(TEAM), "total", amount)
    return usage


async def test_a_replayed_page_is_settled_like_an_event_and_frees_its_money_once(redis: Redis, writes: ProjectionWrites) -> None:
    [message] = await reserve(redis, 1)
    page, other = await reserve_page(redis, 2), await reserve_page(redis, 3)
    for _ in range(2):
        await writes.accounts([write(5, message, page)], 0)
        assert await held(redis) == (0, 1, 50)
        assert await redis.zrange(keys.replays(TEAM), 0, -1) == [other.event_id]


async def test_a_page_whose_usage_never_reached_the_log_lapses(redis: Redis, writes: ProjectionWrites) -> None:
    await reserve(redis, 1, at_ms=NOW - 1)
    await reserve_page(redis, 2, at_ms=NOW - 1)
    await reserve_page(redis, 3, at_ms=NOW)
    assert await writes.accounts([write(5)], NOW) == (["written"], 2)
    assert await held(redis) == (0, 1, 50)


async def test_the_claim_of_a_settled_event_is_accepted_and_another_events_is_left_alone(redis: Redis, writes: ProjectionWrites) -> None:
    settled = await reserve(redis, 1, claim="mine") + await reserve(redis, 2, claim="taken") + await reserve(redis, 3, claim="gone")
    await redis.hset(keys.idempotency(TEAM, "taken"), "event_id", "another")
    await redis.delete(keys.idempotency(TEAM, "gone"))
    await writes.accounts([write(5, *settled)], 0)
    assert await redis.hget(keys.idempotency(TEAM, "mine"), "state") == "accepted"
    assert await redis.hget(keys.idempotency(TEAM, "taken"), "state") == "in_flight"
    assert not await redis.exists(keys.idempotency(TEAM, "gone"))


async def test_key_and_delivery_of_a_settled_event_are_both_accepted(redis: Redis, writes: ProjectionWrites) -> None:
    first, second = await reserve(redis, 1, 2)
    for claim, one in (("key", first), ("delivery", first), ("other", second)):
        await redis.hset(keys.idempotency(TEAM, claim), mapping={"state": "in_flight", "event_id": one.event_id})
    settled = [first._replace(claim="key", delivery_claim="delivery"), second._replace(delivery_claim="other")]
    await writes.accounts([write(5, *settled)], 0)
    assert [await redis.hget(keys.idempotency(TEAM, claim), "state") for claim in ("key", "delivery", "other")] == ["accepted"] * 3
    assert await held(redis) == (0, 0, 0)


async def test_reservations_lapse_strictly_before_the_given_time(redis: Redis, writes: ProjectionWrites) -> None:
    await reserve(redis, 1, at_ms=NOW - 1)
    await reserve(redis, 2, at_ms=NOW)
    assert await writes.accounts([write(5)], NOW) == (["written"], 1)
    assert await held(redis) == (1, 1, 100)


async def test_what_is_settled_and_old_counts_as_settled(redis: Redis, writes: ProjectionWrites) -> None:
    settled = await reserve(redis, 1, at_ms=NOW - 5)
    assert await writes.accounts([write(5, *settled)], NOW) == (["written"], 0)
    assert await held(redis) == (0, 0, 0)


async def test_an_event_that_is_given_twice_frees_its_money_once(redis: Redis, writes: ProjectionWrites) -> None:
    [twice, _] = await reserve(redis, 1, 2)
    assert await writes.accounts([write(5, twice, twice)], 0) == (["written"], 0)
    assert await held(redis) == (1, 1, 100)


async def test_two_thousand_events_of_one_team_go_in_one_call(redis: Redis, writes: ProjectionWrites) -> None:
    settled = await reserve(redis, *range(2_000))
    await writes.accounts([write(5, *settled)], 0)
    assert await held(redis) == (0, 0, 0)


async def test_scripts_that_redis_forgot_are_loaded_again(redis: Redis, writes: ProjectionWrites) -> None:
    await redis.script_flush()
    assert await writes.accounts([write(5)], 0) == (["written"], 0)


async def test_marks_only_rise_and_their_loss_is_noticed(redis: Redis, writes: ProjectionWrites) -> None:
    result, server = await writes.begin(PARTITION, 1, 50)
    assert result == "begun"
    assert await writes.finish(PARTITION, 7, 100, 0, server, ())
    assert await writes.finish(PARTITION, 6, 90, 0, server, ())
    marks = await writes.marks(PARTITION)
    assert (marks.projected, marks.stream_time_ms, marks.server, marks.answering) == (7, 100, server, server)
    assert not await writes.finish(PARTITION, 9, 100, 8, server, ())
    await redis.delete(keys.PROJECTED)
    assert not await writes.finish(PARTITION, 9, 100, 7, server, ())
    assert (await writes.marks(PARTITION)).projected is None


async def test_projecting_begins_anew_unless_another_owner_is_as_far(redis: Redis, writes: ProjectionWrites) -> None:
    begun = []
    for applied in (0, 5, 7, 8):
        await redis.hset(keys.PROJECTED, str(PARTITION), "7")
        result, _ = await writes.begin(PARTITION, applied, 50)
        begun.append((result, (await writes.marks(PARTITION)).projected))
    assert begun == [("replaced", 7), ("replaced", 7), ("replaced", 7), ("begun", 0)]
    assert (await writes.begin(PARTITION, 0, 50))[0] == "begun"


async def test_what_was_told_to_another_server_process_is_lost(redis: Redis, writes: ProjectionWrites) -> None:
    _, server = await writes.begin(PARTITION, 1, 50)
    assert not await writes.finish(PARTITION, 2, 100, 0, "0" * 40, ())
    await redis.hset(keys.PROJECTED, keys.server_field(PARTITION), "0" * 40)
    assert not await writes.finish(PARTITION, 2, 100, 0, server, ())
    assert (await writes.marks(PARTITION)).projected == 0


async def test_projecting_does_not_begin_if_the_restored_claims_are_gone(redis: Redis, writes: ProjectionWrites) -> None:
    note = await writes.restore(PARTITION, "first")
    assert (await writes.begin(PARTITION, 1, 50, note))[0] == "begun"
    assert (await writes.begin(PARTITION, 1, 50, note))[0] == "lost"
    elsewhere = f"second {'0' * 40}"
    await redis.hset(keys.PROJECTED, f"{PARTITION}:restored", elsewhere)
    assert (await writes.begin(PARTITION, 1, 50, elsewhere))[0] == "lost"


async def test_claims_are_restored_where_they_are_missing_and_answered_where_they_wait(redis: Redis, writes: ProjectionWrites) -> None:
    now_ms = SystemClock().unix_ms()
    answer = FirstAnswer(body_digest="digest", received_at=NOW, events_used=3, events_limit=10)

    def claim(name: str, event: int, **given: Any) -> AcceptedClaim:
        fields: dict[str, Any] = {"ends_ms": now_ms + 60_000, "charged_atomic": 80, "first": answer}
        return AcceptedClaim(TEAM, name, make.event_id(event), **(fields | given))

    for name, state, event in (("waits", "in_flight", 2), ("stale", "in_flight", 90), ("answered", "accepted", 91)):
        await redis.hset(keys.idempotency(TEAM, name), mapping={"state": state, "event_id": make.event_id(event), "body": "other"})
    await writes.claims([
        claim("missing", 1), claim("waits", 2), claim("stale", 3), claim("answered", 4), claim("bare", 5, first=None),
        claim("over", 6, ends_ms=now_ms - 1), claim("paid", 7, first=answer.model_copy(update={"receipt": "{}"})),
    ])  # fmt: skip

    async def stored(name: str) -> dict[str, str]:
        return {str(key): str(value) for key, value in (await redis.hgetall(keys.idempotency(TEAM, name))).items()}

    whole = {"state": "accepted", "body": "digest", "received": str(NOW), "used": "3", "limit": "10", "charged": "80"}
    assert await stored("missing") == whole | {"event_id": make.event_id(1)}
    assert await stored("paid") == whole | {"event_id": make.event_id(7), "receipt": "{}"}
    assert await stored("waits") == {"state": "accepted", "event_id": make.event_id(2), "body": "other"}
    assert await stored("stale") == whole | {"event_id": make.event_id(3)}
    assert (await stored("answered"))["event_id"] == make.event_id(91)
    assert await stored("bare") == {"state": "accepted", "event_id": make.event_id(5), "body": ""}
    assert await stored("over") == {}
    assert 55_000 < await redis.pttl(keys.idempotency(TEAM, "missing")) <= 60_000


async def test_what_is_newer_than_ours_is_not_forgotten(redis: Redis, writes: ProjectionWrites) -> None:
    await writes.accounts([write(5)], 0)
    await redis.hset(keys.PROJECTED, str(PARTITION), "5")
    await writes.forget_accounts([make.account(applied=4)])
    await writes.forget_mark(PARTITION, 4)
    assert (await projected(redis))["applied"] == "5"
    assert (await writes.marks(PARTITION)).projected == 5
    await writes.forget_accounts([make.account(applied=5)])
    await writes.forget_mark(PARTITION, 5)
    assert await projected(redis) == {}
    assert (await writes.marks(PARTITION)).projected is None


async def test_redis_away_is_unavailable() -> None:
    client = Redis.from_url("redis://127.0.0.1:9/0", socket_connect_timeout=1)
    with pytest.raises(Unavailable):
        await ProjectionWrites(client).marks(PARTITION)
    await client.aclose()


@dataclass
class KnownUsages:
    """What the log would say (`kite_common.projection.keeper.UsageLog`)."""

    lots: list[tuple[int, Sequence[Settled]]] = field(default_factory=list)
    asked_ms: list[int] = field(default_factory=list)
    claims: list[AcceptedClaim] = field(default_factory=list)

    async def settled_since(self, partition: int, since_ms: int) -> AsyncGenerator[tuple[int, Sequence[Settled]], None]:
        self.asked_ms.append(since_ms)
        for lot in self.lots:
            yield lot

    async def claims_since(self, partition: int, since_ms: int) -> AsyncGenerator[Sequence[AcceptedClaim], None]:
        yield self.claims


@dataclass
class Billing:
    """A projector, and the hand that commits steps to it."""

    projector: AccountProjector
    clock: FrozenClock
    usages: KnownUsages
    metrics: Metrics
    applied: int = 0
    accounts: dict[str, AccountSnapshot] = field(default_factory=dict)

    def restore(self, accounts: Sequence[AccountSnapshot], applied: int, stream_time_ms: int = 0) -> None:
        self.applied, self.accounts = applied, {one.team_id: one for one in accounts}
        self.projector.restored(PARTITION, self.accounts, Position(applied, stream_time_ms))

    def commit(self, *settled: Settled, stream_time_ms: int = NOW, outcomes: Sequence[CommandOutcome] = (), **given: Any) -> None:
        """A step that changes TEAM's account."""
        self.applied += 1
        account = self.accounts[TEAM] = make.account(**({"applied": self.applied} | given))
        self.projector.applied(PARTITION, {TEAM: account}, settled, outcomes, Position(self.applied, stream_time_ms))

    def charge(self, charges: Charges) -> None:
        """A step of so many usages."""
        self.applied += 1
        account = self.accounts[TEAM] = make.account(applied=self.applied)
        self.projector.applied(PARTITION, {TEAM: account}, (), (), Position(self.applied, NOW), charges)

    def charged(self) -> tuple[float, float]:
        """Charges that stood in Redis within a second of their append, and later ones."""
        soon, later = (self.metrics.value("kite_billing_charges_projected_total", within=within) for within in ("1s", "later"))
        return soon, later

    def tick(self, stream_time_ms: int) -> None:
        self.projector.applied(PARTITION, {}, (), (), Position(self.applied, stream_time_ms))

    async def until_ready(self) -> None:
        await eventually(lambda: self.projector.readiness().ready, what="everything is projected")


@contextlib.asynccontextmanager
async def billing_on(url: str, usages: KnownUsages | None = None) -> AsyncIterator[Billing]:
    client = Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1)
    clock, metrics, known = FrozenClock(from_unix_ms(NOW)), Metrics(), usages or KnownUsages()
    projector, stop = AccountProjector(client, known, clock, metrics), asyncio.Event()
    task = asyncio.create_task(projector.run(stop))
    try:
        yield Billing(projector, clock, known, metrics)
    finally:
        stop.set()
        await task


def url_of(stack: Any) -> str:
    return str(stack.redis_url).rsplit("/", 1)[0] + f"/{DATABASE}"


@pytest.fixture
async def billing(stack: Any, redis: Redis) -> AsyncIterator[Billing]:
    async with billing_on(url_of(stack)) as one:
        yield one


async def marks(redis: Redis) -> list[str | None]:
    found = [await redis.hget(key, str(PARTITION)) for key in (keys.PROJECTED, keys.STREAM_TIME)]
    return [None if value is None else str(value) for value in found]


async def until_marks(redis: Redis, applied: int, stream_time_ms: int) -> None:
    async def as_expected() -> bool:
        return await marks(redis) == [str(applied), str(stream_time_ms)]

    await eventually(as_expected, what=f"the marks are {applied} and {stream_time_ms}")


async def start(billing: Billing, redis: Redis) -> None:
    """An empty partition, then TEAM's account."""
    billing.restore((), 0)
    billing.tick(NOW - 1)
    await billing.until_ready()
    billing.commit()
    await until_marks(redis, 1, NOW)


async def test_stream_time_is_told_after_the_accounts_it_stands_for(billing: Billing, redis: Redis) -> None:
    await start(billing, redis)
    billing.commit(balance_atomic=5, stream_time_ms=NOW + 10)
    await until_marks(redis, 2, NOW + 10)
    assert (await projected(redis))["balance"] == "5"


async def test_an_unknown_stream_time_is_not_told(billing: Billing, redis: Redis) -> None:
    billing.restore((), 0)
    billing.commit(stream_time_ms=0)
    await eventually(lambda: not billing.projector.readiness().ready, what="the projection waits")
    assert await marks(redis) == [None, None]
    billing.tick(NOW)
    await until_marks(redis, 1, NOW)


async def test_a_restart_settles_what_its_predecessor_could_not(stack: Any, redis: Redis) -> None:
    async with billing_on(url_of(stack)) as before:
        await start(before, redis)
    settled = await reserve(redis, 1, claim="key")
    # Committed at position 2, but the process ended before it could write.
    usages = KnownUsages([(NOW + 5, settled)])
    async with billing_on(url_of(stack), usages) as after:
        after.restore([make.account(applied=2, balance_atomic=900)], 2, stream_time_ms=NOW + 5)
        await eventually(lambda: usages.asked_ms, what="the log is asked")
        assert await held(redis) == (1, 1, 100)
        assert (await projected(redis))["applied"] == "1"
        after.tick(NOW + 6)
        await until_marks(redis, 2, NOW + 6)
    assert usages.asked_ms[0] <= NOW
    assert await held(redis) == (0, 0, 0)
    assert (await projected(redis))["balance"] == "900"
    assert await redis.hget(keys.idempotency(TEAM, "key"), "state") == "accepted"


async def test_a_step_that_commits_what_is_being_read_from_the_log_frees_it_once(stack: Any, redis: Redis) -> None:
    async with billing_on(url_of(stack)) as before:
        await start(before, redis)
    [read, _] = await reserve(redis, 1, 2)
    usages = KnownUsages([(NOW + 5, [read])])
    async with billing_on(url_of(stack), usages) as after:
        after.restore([make.account(applied=1)], 1, stream_time_ms=NOW)
        await eventually(lambda: usages.asked_ms, what="the log is asked")
        after.commit(read, balance_atomic=900, stream_time_ms=NOW + 6)
        await until_marks(redis, 2, NOW + 6)
    assert await held(redis) == (1, 1, 100)


async def test_after_a_wipe_nothing_stands_there_until_admitted_messages_are_in(billing: Billing, redis: Redis) -> None:
    await start(billing, redis)
    before = await projected(redis)
    await redis.flushdb()
    billing.tick(NOW + 1)
    await eventually(lambda: not billing.projector.readiness().ready, what="the loss is noticed")
    hold_until = NOW + keys.LAPSE_MS
    billing.commit(balance_atomic=77, stream_time_ms=hold_until, outcomes=[make.command_outcome(command_id="held")])
    await eventually(lambda: redis.exists(keys.outcome(CommandId("held"))), what="an outcome does not wait")
    assert await projected(redis) == {}
    billing.tick(hold_until + 1)
    await until_marks(redis, 2, hold_until + 1)
    assert await projected(redis) == before | {"applied": "2", "balance": "77"}
    await billing.until_ready()


async def test_a_lost_account_is_noticed_although_the_marks_are_there(billing: Billing, redis: Redis) -> None:
    await start(billing, redis)
    await redis.delete(keys.account(TEAM))
    billing.tick(NOW + 1)
    await eventually(lambda: not billing.projector.readiness().ready, what="the loss is noticed by the sweep")
    billing.tick(NOW + keys.LAPSE_MS + 1)
    await eventually(lambda: projected(redis), what="the account is back")


async def test_of_an_older_copy_nobody_is_admitted_until_admitted_messages_are_in(billing: Billing, redis: Redis) -> None:
    await start(billing, redis)
    older: dict[Any, Any] = dict(await projected(redis))
    billing.commit(balance_atomic=77, stream_time_ms=NOW + 1)
    await until_marks(redis, 2, NOW + 1)
    await reserve(redis, 1)
    pipeline = redis.pipeline(transaction=True)
    pipeline.hset(keys.account(TEAM), mapping=older)
    pipeline.hset(keys.PROJECTED, str(PARTITION), "1")
    await pipeline.execute()
    billing.tick(NOW + keys.LAPSE_MS)

    async def gone() -> bool:
        return not await projected(redis) and (await marks(redis))[0] is None

    await eventually(gone, what="what stood there is gone")
    assert "before Redis lost" in billing.projector.readiness().reason
    assert await held(redis) == (1, 1, 100)
    billing.tick(NOW + keys.LAPSE_MS + 1)
    await until_marks(redis, 2, NOW + keys.LAPSE_MS + 1)
    assert (await projected(redis))["balance"] == "77"


async def test_an_owner_that_was_replaced_while_it_waited_takes_nothing_back(billing: Billing, redis: Redis) -> None:
    await start(billing, redis)
    await redis.flushdb()
    billing.tick(NOW + 1)
    await eventually(lambda: "before Redis lost" in billing.projector.readiness().reason, what="the loss is noticed")
    await redis.hset(keys.PROJECTED, str(PARTITION), "50")
    billing.tick(NOW + keys.LAPSE_MS + 1)
    await eventually(lambda: "ahead of the log" in billing.projector.readiness().reason, what="it finds its successor")
    assert (await marks(redis))[0] == "50"
    assert await projected(redis) == {}


async def test_a_restart_on_an_empty_redis_waits_too(billing: Billing, redis: Redis) -> None:
    billing.restore([make.account(applied=4)], 4, stream_time_ms=NOW)
    await eventually(lambda: "before Redis lost" in billing.projector.readiness().reason, what="the loss is noticed")
    billing.tick(NOW + keys.LAPSE_MS + 1)
    await until_marks(redis, 4, NOW + keys.LAPSE_MS + 1)
    assert await projected(redis) == as_stored(make.account(applied=4))


async def test_redis_of_another_log_is_left_alone_and_told(billing: Billing, redis: Redis) -> None:
    await redis.hset(keys.PROJECTED, str(PARTITION), "1000")
    await redis.hset(keys.STREAM_TIME, str(PARTITION), str(NOW))
    billing.restore([make.account(applied=4)], 4, stream_time_ms=NOW)
    await eventually(lambda: "ahead of the log" in billing.projector.readiness().reason, what="it is told")
    assert await projected(redis) == {}


async def test_reservations_lapse_also_where_nothing_happens(billing: Billing, redis: Redis) -> None:
    await start(billing, redis)
    await reserve(redis, 1, at_ms=NOW)
    billing.tick(NOW + keys.LAPSE_MS)
    await until_marks(redis, 1, NOW + keys.LAPSE_MS)
    assert await held(redis) == (1, 1, 100)
    billing.tick(NOW + keys.LAPSE_MS + 1)

    async def lapsed() -> bool:
        billing.tick(NOW + keys.LAPSE_MS + 1)
        return await held(redis) == (0, 0, 0)

    await eventually(lapsed, what="the reservation has lapsed")
    assert billing.metrics.value("kite_billing_reservations_lapsed_total") == 1


async def test_what_happens_while_redis_is_away_is_written_when_it_is_back(stack: Any, redis: Redis) -> None:
    async with switch_to(stack.redis_url) as switch, billing_on(f"redis://127.0.0.1:{switch.port}/{DATABASE}") as billing:
        await start(billing, redis)
        settled = await reserve(redis, *range(20))
        await switch.off()
        for number, one in enumerate(settled):
            billing.commit(one, balance_atomic=2_000 - 100 * (number + 1), stream_time_ms=NOW + number)
        await eventually(lambda: not billing.projector.readiness().ready, what="Redis is missed")
        assert (await held(redis))[0] == 20
        await switch.on()
        await until_marks(redis, 21, NOW + 19)
    assert await held(redis) == (0, 0, 0)
    assert (await projected(redis))["balance"] == "0"


async def test_charges_count_once_they_stand_in_redis_by_how_long_that_took(billing: Billing, redis: Redis) -> None:
    await start(billing, redis)
    billing.charge(Charges(2, NOW - 1_000))
    billing.charge(Charges(3, NOW - 1_001))
    await eventually(lambda: billing.charged() == (2, 3), what="all five are counted")
    exposed = bytes(billing.metrics.exposition().body).decode()
    assert 'kite_billing_event_to_balance_seconds_bucket{le="1.0"} 1.0' in exposed
    assert "kite_billing_event_to_balance_seconds_count 2.0" in exposed
    billing.tick(NOW + 10)
    await until_marks(redis, billing.applied, NOW + 10)
    assert billing.charged() == (2, 3)


async def test_charges_that_redis_has_not_taken_count_when_it_has(stack: Any, redis: Redis) -> None:
    async with switch_to(stack.redis_url) as switch, billing_on(f"redis://127.0.0.1:{switch.port}/{DATABASE}") as billing:
        await start(billing, redis)
        await switch.off()
        billing.charge(Charges(4, NOW - 100))
        await eventually(lambda: not billing.projector.readiness().ready, what="Redis is missed")
        assert billing.charged() == (0, 0)
        billing.clock.advance(timedelta(seconds=5))
        await switch.on()
        await eventually(lambda: billing.charged() == (0, 4), what="they are counted, late")


async def test_a_stop_writes_what_waits(stack: Any, redis: Redis) -> None:
    async with billing_on(url_of(stack)) as billing:
        await start(billing, redis)
        settled = await reserve(redis, 1)
        billing.commit(*settled, stream_time_ms=NOW + 1)
    assert await marks(redis) == ["2", str(NOW + 1)]
    assert await held(redis) == (0, 0, 0)


async def test_every_reader_sees_a_charge_once(stack: Any, billing: Billing, redis: Redis) -> None:
    """The gateway admits by its script, billing settles in steps, and whoever looks meanwhile finds money and counters unchanged."""
    now_ms, events, price, balance = SystemClock().unix_ms(), 300, 100, 50_000
    granted = make.subscription(period_start=now_ms - 1_000, period_end=now_ms + make.MONTH_MS)
    fields: dict[str, Any] = {"subscription": granted, "day": now_ms // 86_400_000}
    billing.restore((), 0)
    billing.commit(stream_time_ms=now_ms, balance_atomic=balance, **fields)
    await until_marks(redis, 1, now_ms)
    client = connect(url_of(stack), 5.0)
    server = server_id(await client.info("server"))
    gateway = RedisReservations(
        ScriptRunner(client, 5.0, Metrics()), places(8), Limits(10_000, 60, 60.0), lambda _: 0, lambda _: 0.0, lambda _: server
    )
    requests = [AdmissionRequest(TEAM, RandomIds().event_id(now_ms), now_ms, Claim(f"{number:032d}", "body")) for number in range(events)]
    admitted = await asyncio.gather(*(gateway.admit(request) for request in requests))
    assert {one.outcome for one in admitted} == {Outcome.ADMITTED}
    views = asyncio.create_task(_watch(redis, lambda: billing.applied > events))
    for number, request in enumerate(requests, start=1):
        billing.commit(
            Settled(TEAM, request.event_id, request.claim.id if request.claim else None), balance_atomic=balance - number * price,
            period_used=number, day_used=number, stream_time_ms=now_ms, **fields,
        )  # fmt: skip
        await asyncio.sleep(0)
    await until_marks(redis, events + 1, now_ms)
    seen = await views
    assert set(seen) == {(balance - events * price, events)}
    assert await held(redis) == (0, 0, 0)
    replayed = await gateway.admit(requests[0])
    assert (replayed.outcome, replayed.first and replayed.first.event_id) == (Outcome.REPLAYED, requests[0].event_id)
    await client.aclose()


async def _watch(redis: Redis, over: Callable[[], bool]) -> list[tuple[int, int]]:
    """Money that is free, and events that are used or reserved, as one atomic read after the other finds them."""
    seen: list[tuple[int, int]] = []
    while not over() or len(seen) < 50:
        pipeline = redis.pipeline(transaction=True)
        pipeline.hmget(keys.account(TEAM), "balance", "used")
        pipeline.hget(keys.reserved(TEAM), "total")
        pipeline.zcard(keys.reservations(TEAM))
        (balance, used), total, pending = await pipeline.execute()
        seen.append((int(balance) - int(total), int(used) + pending))
    return seen


@dataclass
class BillingBehind:
    """A log of commands whose reader answers at once through Redis, or never."""

    writes: ProjectionWrites
    answers: bool = True
    published: list[tuple[int, Record]] = field(default_factory=list)

    async def publish(self, partition: int, records: Sequence[Record], *, not_after_ms: int | None = None) -> int:  # noqa: ARG002
        self.published += [(partition, record) for record in records]
        if self.answers:
            command = decode(records[0].headers, records[0].value)
            assert isinstance(command, Subscribe)
            await self.writes.outcomes([make.command_outcome(command_id=command.command_id)])
        return 0


async def test_a_sender_gets_the_outcome_and_a_repeat_the_same(stack: Any, redis: Redis, writes: ProjectionWrites) -> None:
    log = BillingBehind(writes)
    sender = CommandSender(redis, log, 8)
    outcome = await sender.send(make.subscribe(command_id="c1"))
    assert (outcome.command_id, outcome.refusal) == ("c1", None)
    assert await sender.send(make.subscribe(command_id="c1")) == outcome
    assert len(log.published) == 1
    assert 0 < await redis.ttl(keys.outcome(CommandId("c1"))) <= keys.OUTCOME_TTL_S


async def test_a_waiting_sender_is_woken(redis: Redis, writes: ProjectionWrites) -> None:
    log, stop = BillingBehind(writes, answers=False), asyncio.Event()
    sender = CommandSender(redis, log, 8, timeout_s=30)
    running = asyncio.create_task(sender.run(stop))
    waiting = [asyncio.create_task(sender.send(make.subscribe(command_id=f"c{number % 2}"))) for number in range(4)]
    await eventually(lambda: len(log.published) == 4, what="all are published")
    await writes.outcomes([make.command_outcome(command_id="c0"), make.command_outcome(command_id="c1", refusal="no_account")])
    outcomes = await asyncio.gather(*waiting)
    assert [outcome.refusal for outcome in outcomes] == [None, "no_account", None, "no_account"]
    stop.set()
    await running


async def test_a_sender_that_hears_nothing_says_that_the_outcome_is_open(redis: Redis, writes: ProjectionWrites) -> None:
    with pytest.raises(OutcomeOpen):
        await CommandSender(redis, BillingBehind(writes, answers=False), 8, timeout_s=0.3).send(make.subscribe(command_id="c1"))
