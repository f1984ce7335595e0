"""The whole service on real Kafka and Valkey: log, ledger, accounts and Redis agree, also after SIGKILL at any moment and after a wipe."""

import asyncio
import contextlib
import signal
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import pytest

from kite_common import ids
from kite_common.events.codec import RECORD_HEADER, Record, encode
from kite_common.events.deliveries import DeadLetter
from kite_common.events.usage import FirstAnswer
from kite_common.ids import TeamId, ledger_entry_of_event
from kite_common.projection import keys
from kite_common.runtime.system import random_bytes
from kite_common.testing import make
from kite_common.testing.eventually import eventually
from kite_common.topics import COMMANDS, DEAD_LETTERS, EVENTS
from support.billing_scene import PRICE, STARTUP_S, Scene, billing_scene
from support.stack import RunningStack


@pytest.fixture
async def scene(stack: RunningStack) -> AsyncIterator[Scene]:
    async with billing_scene(stack) as scene:
        yield scene


async def test_usage_becomes_ledger_accounts_and_projection_that_agree(scene: Scene) -> None:
    async with scene.billing():
        team = await scene.open()
        event_ids = await scene.use(team, 50)
        await eventually(lambda: scene.settled(team), within_s=30, what="all is settled")
        await eventually(lambda: scene.agree(team), what="Redis holds the newest account")
        entries, account = await scene.entries(), (await scene.accounts())[team]
    assert (account.balance_atomic, account.period_used, account.day_used) == (1_000_000 - 50 * PRICE, 50, 50)
    assert sum(entry.amount_atomic for entry in entries) == account.balance_atomic
    assert [entry.event_id for entry in entries if entry.event_id] == event_ids


async def test_a_command_is_answered_its_repeat_too_and_money_moves_once(scene: Scene) -> None:
    async with scene.billing():
        team = await scene.open(balance=0)
        credit = make.credit_wallet(team_id=team, command_id="credit-1", amount_atomic=700)
        first = await scene.command(credit)
        await scene.redis.delete(keys.outcome(ids.CommandId("credit-1")))
        second = await scene.command(credit)
        refused = await scene.command(make.open_account(team_id=team, command_id="again"))
        assert (first.balance_atomic, second.balance_atomic, refused.refusal) == (700, 700, "account_exists")
        assert await scene.redis.hget(keys.account(team), "balance") == "700"
    assert [entry.amount_atomic for entry in await scene.entries()] == [700]


async def test_what_cannot_be_used_is_buried_and_the_partition_goes_on(scene: Scene) -> None:
    async with scene.billing():
        team = await scene.open()
        await scene.log.write(EVENTS.name, Record(team.encode(), b"{broken", ((RECORD_HEADER, b"usage"),)))
        await scene.log.write(COMMANDS.name, Record(team.encode(), b"{broken", ((RECORD_HEADER, b"subscribe"),)))
        stranger = ids.new_team_id(random_bytes(16))
        await scene.log.write(EVENTS.name, encode(make.usage(team_id=stranger)))
        await scene.use(team, 1)
        await eventually(lambda: scene.settled(team), within_s=30, what="the good usage is settled")
        letters = await eventually(lambda: _letters(scene, 3), within_s=30, what="there are three dead letters")
    assert letters is not None
    assert {(letter.service, letter.topic.removeprefix(scene.log.prefix)) for letter in letters} == {
        ("billing", EVENTS.name), ("billing", COMMANDS.name),
    }  # fmt: skip


async def test_a_restart_goes_on_where_the_last_owner_ended(scene: Scene) -> None:
    async with scene.billing():
        team = await scene.open()
        await scene.use(team, 5)
        await eventually(lambda: scene.settled(team), within_s=30, what="all is settled")
    await scene.use(team, 5)
    async with scene.billing():
        await eventually(lambda: scene.settled(team), within_s=30, what="what came meanwhile is settled")
        await eventually(lambda: scene.agree(team), what="Redis holds the newest account")
    assert (await scene.accounts())[team].period_used == 10


async def test_after_a_wipe_redis_is_the_same_again(scene: Scene) -> None:
    async with scene.billing():
        team = await scene.open()
        await scene.use(team, 5)
        await eventually(lambda: scene.settled(team), within_s=30, what="all is settled")
        await eventually(lambda: scene.agree(team), what="Redis holds the newest account")
        before = await scene.redis.hgetall(keys.account(team))
        await scene.redis.flushdb()
        await eventually(lambda: scene.redis.hgetall(keys.account(team)), within_s=40, what="the account is back")
        assert await scene.redis.hgetall(keys.account(team)) == before


@pytest.mark.parametrize("billing_is_up", [True, False])
async def test_after_a_wipe_keys_that_were_answered_stay_taken(scene: Scene, billing_is_up: bool) -> None:
    answer = FirstAnswer(body_digest="digest", received_at=make.NOW_MS, events_used=1, events_limit=100)
    async with contextlib.AsyncExitStack() as running:
        await running.enter_async_context(scene.billing())
        team = await scene.open()
        [event_id] = await scene.use(team, 1, claim="told", first=answer)
        [without] = await scene.use(team, 1, claim="older writer")
        await eventually(lambda: scene.settled(team), within_s=30, what="all is settled")
        if not billing_is_up:
            await running.aclose()
        await scene.redis.flushdb()
        if not billing_is_up:
            await running.enter_async_context(scene.billing())
        await eventually(lambda: scene.redis.hgetall(keys.account(team)), within_s=40, what="the account is back")
        # Not later than the account, by which the next message is admitted.
        told, older = [await scene.redis.hgetall(keys.idempotency(team, claim)) for claim in ("told", "older writer")]
        left_ms = await scene.redis.pttl(keys.idempotency(team, "told"))
    assert told == {
        "state": "accepted", "event_id": event_id, "body": "digest", "received": str(make.NOW_MS), "used": "1", "limit": "100",
        "charged": str(PRICE),
    }  # fmt: skip
    assert older == {"state": "accepted", "event_id": without, "body": ""}
    assert 86_300_000 < left_ms <= 86_400_000


async def test_what_was_charged_while_redis_was_away_is_settled_from_the_log_by_the_next_owner(scene: Scene) -> None:
    async with scene.billing():
        team = await scene.open()
    async with scene.billing(ready=False, redis_url="redis://127.0.0.1:9/0"):
        await scene.use(team, 5, claim="key")
        await eventually(lambda: _charged(scene, 5), within_s=STARTUP_S, what="all is charged")
    assert not await scene.settled(team)
    async with scene.billing():
        await eventually(lambda: scene.settled(team), within_s=15, what="all is settled, long before anything lapses")
        assert await scene.redis.hget(keys.idempotency(team, "key"), "state") == "accepted"
        assert await scene.agree(team)


async def test_killed_again_and_again_every_usage_has_exactly_one_entry(scene: Scene) -> None:
    process = scene.start_process()
    teams = [await scene.open() for _ in range(3)]
    using = asyncio.create_task(_use_by_turns(scene, teams, rounds=250))
    charged = 0
    for _ in range(4):
        # Progress was made, and more is on its way: the kill finds steps and projections under way.
        charged = await eventually(lambda seen=charged: _charged(scene, seen + 40), within_s=60, what="charging goes on")  # type: ignore[misc]
        process.send_signal(signal.SIGKILL)
        process.wait()
        process = scene.start_process()
    used = await using
    for team in teams:
        await eventually(lambda team=team: scene.settled(team), within_s=60, what="all is settled")  # type: ignore[misc]
        await eventually(lambda team=team: scene.agree(team), within_s=30, what="Redis holds the newest account")  # type: ignore[misc]
    entries, accounts = await scene.entries(), await scene.accounts()
    expected = Counter(ledger_entry_of_event(ids.EventId(event_id)) for event_ids in used.values() for event_id in event_ids)
    assert Counter(entry.id for entry in entries if entry.event_id) == expected
    for team, event_ids in used.items():
        assert accounts[team].balance_atomic == 1_000_000 - PRICE * len(event_ids)
        assert sum(entry.amount_atomic for entry in entries if entry.team_id == team) == accounts[team].balance_atomic


async def _use_by_turns(scene: Scene, teams: Sequence[TeamId], *, rounds: int) -> dict[TeamId, list[str]]:
    """One event a team and round, for as long as it takes."""
    used: dict[TeamId, list[str]] = {team: [] for team in teams}
    for _ in range(rounds):
        for team in teams:
            used[team] += await scene.use(team, 1)
        await asyncio.sleep(0.02)
    return used


async def _charged(scene: Scene, count: int) -> int:
    """How many usages are in the ledger, once it is as many as that."""
    found = sum(entry.event_id is not None for entry in await scene.entries())
    return found if found >= count else 0


async def _letters(scene: Scene, count: int) -> list[DeadLetter] | None:
    letters = [fact for _, fact in await scene.log.read(DEAD_LETTERS.name) if isinstance(fact, DeadLetter)]
    return letters if len(letters) == count else None
