"""Redis comes back as another server process, older or whole, with billing and without it: the money of a wallet is never given twice.

The real projector, the gateway's own admission and its polling, and Valkeys of this test's own.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from kite_common.clock import FrozenClock, from_unix_ms
from kite_common.errors import Unavailable
from kite_common.events.accounts import AccountSnapshot
from kite_common.events.usage import FirstAnswer
from kite_common.ids import TeamId
from kite_common.log_position import partition_of
from kite_common.projection import keys
from kite_common.projection.claims import AcceptedClaim
from kite_common.projection.pending import Settled
from kite_common.projection.redis import AccountProjector
from kite_common.projection.server import declare_quiet, server_id
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.system import SystemClock
from kite_common.stream.transaction import Position
from kite_common.testing import make
from kite_common.testing.eventually import eventually
from kite_gateway.adapters.ids import RandomIds
from kite_gateway.adapters.place import places
from kite_gateway.adapters.reservations import Limits, RedisReservations
from kite_gateway.adapters.scripts import ScriptRunner, connect
from kite_gateway.adapters.stream_time import StreamTime
from kite_gateway.domain.admission import AdmissionRequest, Claim, Facts, Outcome
from support.valkey import OwnValkey, front_of, own_valkey

PARTITIONS = 8
TEAM = TeamId(make.TEAM)
PARTITION = partition_of(TEAM.encode(), PARTITIONS)
PRICE, EVENTS = 100, 10


@dataclass
class Log:
    """What the log says of claims."""

    claims: list[AcceptedClaim] = field(default_factory=list)

    async def settled_since(self, partition: int, since_ms: int) -> AsyncGenerator[tuple[int, Sequence[Settled]], None]:
        yield since_ms, ()

    async def claims_since(self, partition: int, since_ms: int) -> AsyncGenerator[Sequence[AcceptedClaim], None]:
        yield self.claims


@dataclass
class Scene:
    """One team whose wallet pays for EVENTS messages, one gateway, and a billing that is there or not."""

    url: str
    gateway: RedisReservations
    polled: StreamTime
    now_ms: int = field(default_factory=lambda: SystemClock().unix_ms())
    log: Log = field(default_factory=Log)
    spent: int = 0
    admitted: list[AdmissionRequest] = field(default_factory=list)

    def account(self) -> AccountSnapshot:
        """As the log has it: what is spent is charged."""
        granted = make.subscription(period_start=self.now_ms - 1_000, period_end=self.now_ms + make.MONTH_MS)
        return make.account(
            subscription=granted, applied=1 + self.spent, balance_atomic=(EVENTS - self.spent) * PRICE, day=self.now_ms // 86_400_000,
            period_used=self.spent, day_used=self.spent,
        )  # fmt: skip

    @contextlib.asynccontextmanager
    async def billing(self) -> AsyncIterator[AccountProjector]:
        """Takes the partition over as the log has it."""
        client = Redis.from_url(self.url, socket_timeout=1, socket_connect_timeout=1)
        clock = FrozenClock(from_unix_ms(self.now_ms))
        projector, stop = AccountProjector(client, self.log, clock, Metrics()), asyncio.Event()
        task = asyncio.create_task(projector.run(stop))
        account = self.account()
        projector.restored(PARTITION, {account.team_id: account}, Position(account.applied, self.now_ms))
        try:
            yield projector
        finally:
            stop.set()
            await task

    @contextlib.asynccontextmanager
    async def ready_billing(self) -> AsyncIterator[AccountProjector]:
        """The same, after the wait that its first start with an account costs too."""
        async with self.billing() as projector:
            await waits(projector)
            self.pass_time(projector, keys.LAPSE_MS + 1)
            await eventually(lambda: projector.readiness().ready, what="billing is ready")
            await self.until_known()
            yield projector

    def pass_time(self, projector: AccountProjector, by_ms: int) -> None:
        """Stream time moves on; so does the clock that what comes later is judged by."""
        projector.applied(PARTITION, {}, (), (), Position(self.account().applied, self.now_ms + by_ms))

    def charge(self, projector: AccountProjector) -> None:
        """Everything that was admitted is in the log, and billing has charged it."""
        self.spent = len(self.admitted)
        account = self.account()
        settled = [Settled(TEAM, one.event_id, one.claim.id if one.claim else None) for one in self.admitted]
        projector.applied(PARTITION, {TEAM: account}, settled, (), Position(account.applied, self.now_ms))

    async def until_known(self) -> None:
        async with contextlib.aclosing(Redis.from_url(self.url)) as redis:
            id_now = server_id(await redis.info("server"))
        await eventually(lambda: self.polled.server_of(PARTITION) == id_now, what="the gateway knows whose accounts these are")

    async def is_not_projected(self) -> bool:
        async with contextlib.aclosing(Redis.from_url(self.url)) as redis:
            return not await redis.exists(keys.account(TEAM)) and not await redis.hexists(keys.PROJECTED, str(PARTITION))

    async def admit(self, claim: Claim | None = None) -> Facts | None:
        """None: 503."""
        request = AdmissionRequest(TEAM, RandomIds().event_id(self.now_ms), self.now_ms, claim)
        try:
            facts = await self.gateway.admit(request)
        except Unavailable:
            return None
        if facts.outcome is Outcome.ADMITTED:
            self.admitted.append(request)
        return facts

    async def spend(self, number: int = EVENTS) -> Counter[Outcome | None]:
        found = await asyncio.gather(*(self.admit() for _ in range(number)))
        return Counter(None if facts is None else facts.outcome for facts in found)


async def waits(projector: AccountProjector) -> None:
    await eventually(lambda: "before Redis lost" in projector.readiness().reason, what="billing waits")


@contextlib.asynccontextmanager
async def scene_on(url: str) -> AsyncIterator[Scene]:
    client, stop = connect(url, 1.0), asyncio.Event()
    polled = StreamTime(client, 1.0)
    task = asyncio.create_task(polled.run(stop))
    gateway = RedisReservations(
        ScriptRunner(client, 1.0, Metrics()), places(PARTITIONS), Limits(None, 60, 120.0), polled.of, lambda _: 0.0, polled.server_of
    )
    try:
        yield Scene(url, gateway, polled)
    finally:
        stop.set()
        await task


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[OwnValkey]:
    async with own_valkey(tmp_path / "first") as one:
        yield one


@pytest.fixture
async def scene(valkey: OwnValkey) -> AsyncIterator[Scene]:
    async with scene_on(valkey.node.url) as one:
        yield one


async def only_refused(scene: Scene) -> None:
    """Also when the connection to the server that is gone has been noticed."""
    for _ in range(5):
        assert await scene.spend() == {None: EVENTS}


async def poor_at_last(scene: Scene, projector: AccountProjector) -> None:
    """What was admitted is charged, the wait is over, and the wallet is empty."""
    scene.charge(projector)
    await eventually(scene.is_not_projected, what="nothing is projected")
    assert await scene.spend() == {None: EVENTS}
    scene.pass_time(projector, 2 * keys.LAPSE_MS)
    await eventually(lambda: projector.readiness().ready, what="billing is ready")
    await scene.until_known()
    assert await scene.spend() == {Outcome.WALLET_TOO_LOW: EVENTS}
    assert len(scene.admitted) == EVENTS


async def test_an_older_copy_while_billing_is_away_admits_nobody_and_is_noticed_by_the_next_billing(
    valkey: OwnValkey, scene: Scene
) -> None:
    async with scene.ready_billing():
        pass
    copy = await valkey.copy()
    assert await scene.spend() == {Outcome.ADMITTED: EVENTS}
    await valkey.restart(copy)
    await only_refused(scene)
    async with scene.billing() as projector:
        await waits(projector)
        await poor_at_last(scene, projector)


async def test_a_failover_that_loses_the_last_moments_admits_nobody_on_what_is_left(valkey: OwnValkey, tmp_path: Path) -> None:
    async with (
        own_valkey(tmp_path / "second") as replica, front_of(valkey) as front,
        scene_on(front.url) as scene, scene.ready_billing() as projector,
    ):  # fmt: skip
        await replica.follow(valkey)
        await replica.promote()
        assert await scene.spend() == {Outcome.ADMITTED: EVENTS}
        front.lead_to(replica.node.port)
        await only_refused(scene)
        await waits(projector)
        await poor_at_last(scene, projector)


@pytest.mark.parametrize("billing_is_up", [True, False])
async def test_a_restart_that_lost_nothing_waits_too_because_nobody_can_tell(valkey: OwnValkey, scene: Scene, billing_is_up: bool) -> None:
    async with contextlib.AsyncExitStack() as first:
        projector = await first.enter_async_context(scene.ready_billing())
        if not billing_is_up:
            await first.aclose()
        assert await scene.spend() == {Outcome.ADMITTED: EVENTS}
        await valkey.restart()
        await only_refused(scene)
        if not billing_is_up:
            projector = await first.enter_async_context(scene.billing())
        await waits(projector)
        await poor_at_last(scene, projector)


async def test_who_knows_that_nothing_is_on_its_way_can_spare_the_wait_once(valkey: OwnValkey, scene: Scene) -> None:
    async with scene.ready_billing() as projector:
        await scene.spend(1)
        scene.charge(projector)
    await valkey.restart()
    async with valkey.client() as redis:
        await declare_quiet(redis)
    async with scene.billing() as projector:
        scene.pass_time(projector, 1)
        await eventually(lambda: projector.readiness().ready, what="billing is ready at once")
        await scene.until_known()
        assert await scene.spend() == {Outcome.ADMITTED: EVENTS - 1, Outcome.WALLET_TOO_LOW: 1}
        # It holds for changes before this server, not for what happens to it.
        async with valkey.client() as redis:
            await redis.delete(keys.PROJECTED)
        await waits(projector)
        scene.pass_time(projector, keys.LAPSE_MS)
        await eventually(scene.is_not_projected, what="nothing is projected")
    await valkey.restart()
    async with scene.billing() as projector:
        await waits(projector)


async def test_after_a_wipe_a_repeat_gets_its_first_answer_and_another_body_is_refused(valkey: OwnValkey, scene: Scene) -> None:
    claim = Claim("c" * 32, "digest of the body")
    async with scene.ready_billing() as projector:
        first = await scene.admit(claim)
        assert first is not None
        answer = FirstAnswer(
            body_digest=claim.body_digest, received_at=scene.now_ms, events_used=first.month_used, events_limit=first.month_limit
        )
        [request] = scene.admitted
        ends_ms = scene.now_ms + keys.IDEMPOTENCY_TTL_S * 1000
        scene.log.claims.append(AcceptedClaim(TEAM, claim.id, request.event_id, ends_ms, PRICE, answer))
        scene.charge(projector)
        async with valkey.client() as redis:
            await redis.flushall()
        await waits(projector)
        scene.pass_time(projector, 2 * keys.LAPSE_MS)
        await eventually(lambda: projector.readiness().ready, what="billing is ready")
        await scene.until_known()
        again, other = await scene.admit(claim), await scene.admit(Claim(claim.id, "digest of another body"))
    assert again is not None
    assert other is not None
    assert (again.outcome, other.outcome) == (Outcome.REPLAYED, Outcome.KEY_REUSED)
    assert again.first is not None
    assert (again.first.event_id, again.first.received_ms) == (request.event_id, request.received_ms)
    assert (again.first.usage.events_used, again.first.usage.charged_atomic) == (first.month_used, PRICE)
    assert len(scene.admitted) == 1


async def test_a_second_loss_while_claims_are_restored_begins_the_wait_anew(valkey: OwnValkey, scene: Scene) -> None:
    claim: Any = AcceptedClaim(TEAM, "c" * 32, make.event_id(1), scene.now_ms + 60_000, PRICE, None)
    scene.log.claims.append(claim)
    async with scene.billing() as projector, valkey.client() as redis:
        await eventually(lambda: redis.exists(keys.idempotency(TEAM, claim.claim)), what="the claim is restored")
        scene.log.claims.clear()
        await redis.flushall()
        scene.log.claims.append(claim)
        scene.pass_time(projector, keys.LAPSE_MS + 1)
        await eventually(lambda: projector.readiness().ready, within_s=15, what="billing is ready")
        assert await redis.hget(keys.idempotency(TEAM, claim.claim), "state") == "accepted"
