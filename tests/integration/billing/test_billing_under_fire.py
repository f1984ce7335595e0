"""Billing dies, or stands still until another has taken over, at each place of a step: no entry twice, no counter wrong, no late word."""

import os
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka import TopicPartition

from kite_common.clock import utc_day
from kite_common.events.codec import encode
from kite_common.ids import TeamId
from kite_common.projection import keys
from kite_common.projection.pending import Write
from kite_common.projection.writes import ProjectionWrites
from kite_common.runtime.system import SystemClock
from kite_common.stream.kafka import Kafka
from kite_common.stream.transaction import COMMITTED, DECIDED, OPEN
from kite_common.testing import make
from kite_common.testing.eventually import eventually
from kite_common.topics import ACCOUNTS, LEDGER
from support.billing_scene import PARTITIONS, PRICE, Scene, billing_scene
from support.stack import RunningStack

_DAY_MS = 86_400_000


@pytest.fixture
async def scene(stack: RunningStack) -> AsyncIterator[Scene]:
    async with billing_scene(stack) as scene:
        yield scene


@pytest.mark.parametrize("place", [OPEN, COMMITTED])
async def test_an_owner_that_stood_still_until_another_took_over_writes_nothing_anywhere(scene: Scene, place: str) -> None:
    first = scene.start_process()
    team = await scene.open()
    first.send_signal(signal.SIGTERM)
    first.wait()
    frozen = scene.start_process(KITE_FAULT_POINT=f"stop@{place}")
    event_ids = await scene.use(team, 5)
    await eventually(lambda: stands_still(frozen), within_s=60, what="it stands still in the middle of the step")
    written = await uncommitted(scene)
    other = scene.start_process("another")
    await eventually(lambda: scene.settled(team), within_s=60, what="the other one has charged and settled all")
    event_ids += await scene.use(team, 2)
    await eventually(lambda: scene.settled(team), within_s=30, what="and goes on")
    await eventually(lambda: scene.agree(team), what="Redis holds the newest account")
    before = await scene.redis.hgetall(keys.account(team))
    os.kill(frozen.pid, signal.SIGCONT)
    assert await eventually(frozen.poll, within_s=30, what="who stood still ends itself") == 1
    # What it had written into its transaction is in the log, and nobody reads it.
    assert written > 0
    entries = [entry for entry in await scene.entries() if entry.event_id]
    assert Counter(entry.event_id for entry in entries) == dict.fromkeys(event_ids, 1)
    if place == OPEN:
        assert await uncommitted(scene) > len(await scene.entries())
    account = (await scene.accounts())[team]
    assert (account.balance_atomic, account.period_used) == (1_000_000 - 7 * PRICE, 7)
    assert await scene.redis.hgetall(keys.account(team)) == before
    await scene.use(team, 1)
    await eventually(lambda: scene.settled(team), within_s=30, what="the other one is not disturbed")
    assert other.poll() is None


async def test_a_period_and_a_plan_change_once_although_billing_dies_at_each_step_of_it(scene: Scene) -> None:
    async with scene.billing():
        now_ms = SystemClock().unix_ms()
    ended = make.subscription("starter", anchored_at=now_ms - 75 * _DAY_MS, period_start=now_ms - 75 * _DAY_MS, period_end=now_ms - _DAY_MS)
    for place in (DECIDED, OPEN, COMMITTED):
        # An account as it stood a day ago: its period has ended since, and nobody has looked at it.
        team = TeamId(make_team(place))
        old = make.account(
            team_id=team, subscription=ended, opened_at=now_ms - 75 * _DAY_MS, period_used=70, period_charged_atomic=7_000, day_used=9,
            day=utc_day(now_ms) - 1, applied=0,
        )  # fmt: skip
        await scene.log.write(ACCOUNTS.name, encode(old))
        # In Redis as well: an account that is missing there is a loss of data, after which billing waits for 90 s.
        await ProjectionWrites(scene.redis).accounts([Write(old, (), create=True)], 0)
        await scene.use(team, 3)
        await scene.command_only(make.subscribe(team_id=team, command_id=f"switch-{place}"))
        dying = scene.start_process(KITE_FAULT_POINT=place)
        assert await eventually(dying.poll, within_s=60, what="it dies at that step") == -signal.SIGKILL
        living = scene.start_process()
        await eventually(lambda team=team: scene.settled(team), within_s=60, what="all is settled")  # type: ignore[misc]
        await eventually(lambda team=team: scene.agree(team), within_s=30, what="Redis holds the newest account")  # type: ignore[misc]
        account = (await scene.accounts())[team]
        assert account.subscription is not None
        assert (account.subscription.plan_name, account.subscription.revision, account.subscription.id) == ("growth", 1, ended.id)
        assert account.subscription.period_start <= now_ms < account.subscription.period_end
        assert (account.period_used, account.day_used, account.period_charged_atomic) == (3, 3, 3 * PRICE)
        assert account.balance_atomic == old.balance_atomic - 3 * PRICE
        assert [entry.amount_atomic for entry in await scene.entries() if entry.team_id == team] == [-PRICE] * 3
        living.send_signal(signal.SIGTERM)
        assert living.wait() == 0


async def test_a_reservation_lapses_by_stream_time_and_not_by_the_clock_of_anybody(scene: Scene) -> None:
    async with scene.billing():
        team = await scene.open()
        await eventually(lambda: scene.agree(team), within_s=30, what="the account is projected")
    # Reserved long ago by every clock, while nobody moves stream time.
    old_ms = SystemClock().unix_ms() - 10 * keys.LAPSE_MS
    await scene.redis.zadd(keys.reservations(team), {"never published": old_ms})
    await scene.redis.hset(keys.reserved(team), mapping={"never published": f"{PRICE} 1 1", "total": PRICE})
    await scene.redis.hset(keys.STREAM_TIME, scene.partition(team), old_ms)
    assert not await scene.settled(team)
    async with scene.billing(ready=False, kafka_bootstrap="127.0.0.1:9"):
        assert not await scene.settled(team)
    async with scene.billing():
        await eventually(lambda: scene.settled(team), within_s=60, what="stream time has passed it by more than a lapse")
    assert (await scene.accounts())[team].balance_atomic == 1_000_000


def stands_still(process: "subprocess.Popen[bytes]") -> bool:
    return Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "T"


def make_team(place: str) -> str:
    return f"team_{place.rpartition('.')[2]}"


async def uncommitted(scene: Scene) -> int:
    """How many records the ledger has, also of transactions that were never committed."""
    consumer = Kafka(scene.log.bootstrap).consumer(isolation_level="read_uncommitted")
    await consumer.start()
    try:
        places = [TopicPartition(scene.log.prefix + LEDGER.name, number) for number in range(PARTITIONS)]
        consumer.assign(places)
        ends, count = await consumer.end_offsets(places), 0
        for place in places:
            while await consumer.position(place) < ends[place]:
                count += len((await consumer.getmany(place, timeout_ms=100)).get(place, []))
    finally:
        await consumer.stop()
    return count
