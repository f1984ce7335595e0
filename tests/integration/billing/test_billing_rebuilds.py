"""`kitectl rebuild` on real Kafka and Valkey: Redis is what the log says again, and accounts from the log are the live ones."""

import asyncio
import signal
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from kite_billing.domain.account import Rules
from kite_cli.admin.rebuild_accounts import compare_accounts
from kite_cli.admin.rebuild_redis import _END, NOTE, Seen, rebuild_redis
from kite_cli.admin.teams_of_log import Compared
from kite_cli.failure import CommandFailed
from kite_cli.target import LogTarget
from kite_common.events.codec import encode
from kite_common.plans import shipped_catalog
from kite_common.projection import keys
from kite_common.testing import make
from kite_common.testing.eventually import eventually
from kite_common.topics import ACCOUNTS, LEDGER
from support.billing_scene import HOLD_MS, PARTITIONS, PRICE, Scene, billing_scene
from support.stack import RunningStack


@pytest.fixture
async def scene(stack: RunningStack) -> AsyncIterator[Scene]:
    async with billing_scene(stack) as scene:
        yield scene


def target(scene: Scene) -> LogTarget:
    return LogTarget(scene.log.bootstrap, scene.redis_url, PARTITIONS, 1, None, prefix=scene.log.prefix)


async def compared(scene: Scene) -> Compared:
    return await compare_accounts(target(scene), Rules(shipped_catalog()), lambda _done, _whole: None)


async def test_what_was_wrong_in_redis_is_right_after_a_rebuild_that_was_interrupted_and_repeated(scene: Scene) -> None:
    async with scene.billing():
        team = await scene.open()
        await scene.use(team, 5, claim="told")
        await eventually(lambda: scene.settled(team), within_s=30, what="all is settled")
        await scene.redis.hset(keys.account(team), "balance", 1)
        await scene.redis.delete(keys.idempotency(team, "told"))
        seen: list[Seen] = []
        begun = asyncio.create_task(rebuild_redis(target(scene), 60, seen.append))
        await eventually(lambda: seen, what="the rebuild has begun")
        begun.cancel()
        await asyncio.wait({begun})
        assert seen[0].open == 0, "nobody is admitted from the first moment on"
        done = await rebuild_redis(target(scene), 60, seen.append)
        assert await scene.agree(team)
        assert await scene.redis.hget(keys.idempotency(team, "told"), "state") == "accepted"
        assert (done.begun, done.partitions, done.accounts) == (False, PARTITIONS, 1)
        assert done.closed_ms > HOLD_MS
        assert not await scene.redis.exists(NOTE)
        again = await rebuild_redis(target(scene), 60, seen.append)
        assert again.begun
        await scene.use(team, 1)
        await eventually(lambda: scene.settled(team), within_s=30, what="billing goes on")
        assert await scene.agree(team)


async def test_the_note_of_another_rebuild_stays(scene: Scene) -> None:
    await scene.redis.hset(NOTE, "began", 5)
    await scene.redis.eval(_END, 1, NOTE, 4)
    assert await scene.redis.exists(NOTE)
    await scene.redis.eval(_END, 1, NOTE, 5)
    assert not await scene.redis.exists(NOTE)


async def test_without_billing_the_rebuild_says_so_and_a_repeat_finds_it_done(scene: Scene) -> None:
    async with scene.billing():
        team = await scene.open()
    with pytest.raises(CommandFailed, match="2 partitions still admit nobody"):
        await rebuild_redis(target(scene), 1, lambda _: None)
    async with scene.billing():
        assert not (await rebuild_redis(target(scene), 60, lambda _: None)).begun
        assert await scene.agree(team)


async def test_accounts_from_the_log_are_the_live_ones_while_billing_is_killed_and_goes_on(scene: Scene) -> None:
    process = scene.start_process()
    teams = [await scene.open() for _ in range(3)]
    for team in teams:
        await scene.use(team, 10)
        await scene.command(make.subscribe(team_id=team, command_id=f"switch-{team}"))
        await scene.use(team, 10)
    process.send_signal(signal.SIGKILL)
    process.wait()
    await scene.command_only(make.cancel_subscription(team_id=teams[0], command_id="cancel"))
    await scene.command_only(make.subscribe(team_id=teams[0], command_id="begin"))
    going_on = asyncio.create_task(scene.use(teams[1], 200))
    scene.start_process()
    await eventually(lambda: scene.settled(teams[0]), within_s=60, what="what came meanwhile is settled")
    found = await compared(scene)
    assert (found.ok, found.equal, found.by_balance) == (True, 3, 0), found.differing
    await going_on
    await eventually(lambda: scene.settled(teams[1]), within_s=60, what="all is settled")
    found = await compared(scene)
    assert (found.ok, found.equal, found.entries, found.commands) == (True, 3, 3 + 60 + 200, 3 + 3 + 2), found.differing


async def test_an_account_or_a_ledger_that_is_not_the_logs_is_named(scene: Scene) -> None:
    async with scene.billing():
        right, wrong = await scene.open(), await scene.open()
        await scene.use(wrong, 3)
        await eventually(lambda: scene.settled(wrong), within_s=30, what="all is settled")
    account, entries = (await scene.accounts())[wrong], await scene.entries()
    await scene.log.write(ACCOUNTS.name, encode(account.model_copy(update={"period_used": 4})))
    [difference] = (await compared(scene)).differing
    assert difference.team_id == wrong
    assert difference.problems == ("period_used: the log leads to 3, the account says 4",)
    await scene.log.write(ACCOUNTS.name, encode(account))
    assert (await compared(scene)).ok
    charged = next(entry for entry in entries if entry.event_id)
    await scene.log.write(LEDGER.name, encode(charged))
    [difference] = (await compared(scene)).differing
    assert difference.team_id == wrong != right
    assert charged.id in difference.problems[0]
    assert any(f"balance_atomic: the log leads to {1_000_000 - 4 * PRICE}" in problem for problem in difference.problems)


async def test_where_the_opening_has_expired_the_balance_is_compared(scene: Scene) -> None:
    async with scene.billing():
        team = await scene.open()
        await scene.use(team, 3)
        await eventually(lambda: scene.settled(team), within_s=30, what="all is settled")
    account = (await scene.accounts())[team]
    # Another team's command stands where the opening was: the same as if it had expired.
    stranger = replace(encode(account), key=b"team_other", value=encode(account.model_copy(update={"team_id": "team_other"})).value)
    partition = scene.partition(team)
    await scene.log.write(ACCOUNTS.name, stranger, partition)
    entry = (await scene.entries())[0].model_copy(update={"team_id": "team_other", "command_id": None, "event_id": "x"})
    await scene.log.write(LEDGER.name, encode(entry), partition)
    found = await compared(scene)
    assert (found.equal, found.by_balance) == (1, 1)
    assert [one.problems for one in found.differing] == [
        (f"balance_atomic: the last entry of the ledger leaves 1000000, the account says {account.balance_atomic}",)
    ]  # fmt: skip
