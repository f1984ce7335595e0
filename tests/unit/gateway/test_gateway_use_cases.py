"""The use cases over fakes of their ports."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import orjson
import pytest

from kite_common.clock import FrozenClock, to_unix_ms
from kite_common.errors import OutcomeOpen, Unavailable
from kite_common.events.usage import FirstAnswer
from kite_common.ids import TeamId
from kite_common.projection.keys import LAPSE_MS
from kite_common.testing import make
from kite_common.testing.eventually import eventually
from kite_gateway.application.accept_message import Accepted, AcceptMessage, Submission
from kite_gateway.application.configure_webhook import ConfigureWebhook
from kite_gateway.domain.admission import AdmissionRequest, Claim, Outcome, Refused, Usage
from kite_gateway.domain.webhook_config import WantedConfig
from kite_gateway.testing import (
    RESERVATIONS_SUITE,
    Account,
    Behaviour,
    CountingIds,
    FakeMessageLog,
    FakeReservations,
    FakeSeal,
    FakeWebhookConfigs,
)

TEAM = TeamId("team_a")
NOW = datetime(2026, 4, 30, 10, tzinfo=UTC)
NOW_MS = to_unix_ms(NOW)
TRACE = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
CLAIM = Claim("c" * 32, "digest")


class Gateway:
    """The accept-message use case with fakes around it."""

    def __init__(self, account: Account | None = None) -> None:
        self.reservations = FakeReservations({TEAM: account or Account()}, now_ms=NOW_MS)
        self.log = FakeMessageLog()
        self.accept = AcceptMessage(self.reservations, self.log, FrozenClock(NOW), CountingIds())

    async def send(self, claim: Claim | None = None) -> Accepted | Refused:
        return await self.accept(Submission(TEAM, make.agent_message(), TRACE, claim))


class FakeHarness:
    """The behaviour suite's view of FakeReservations."""

    def __init__(self) -> None:
        self.reservations = FakeReservations(now_ms=NOW_MS)
        self._ids = CountingIds()

    async def open(self, account: Account) -> TeamId:
        team = TeamId(f"team_{len(self.reservations.accounts)}")
        self.reservations.accounts[team] = account
        return team

    def request(self, team_id: TeamId, claim: Claim | None = None, delivery: str | None = None) -> AdmissionRequest:
        return AdmissionRequest(team_id, self._ids.event_id(NOW_MS), NOW_MS, claim, delivery)


@pytest.mark.parametrize("behaviour", RESERVATIONS_SUITE, ids=lambda behaviour: behaviour.__name__)
async def test_the_fake_reservations_behave(behaviour: Behaviour) -> None:
    await behaviour(FakeHarness())


async def test_an_accepted_message_is_in_the_log_with_its_usage() -> None:
    gateway = Gateway(Account(used=41, price=80))
    accepted = await gateway.send(CLAIM)
    assert isinstance(accepted, Accepted)
    ((team, event, trace, usage),) = gateway.log.records
    stored = orjson.loads(event)
    assert (team, trace, stored["id"], stored["time"]) == (TEAM, TRACE, accepted.event_id, "2026-04-30T10:00:00.000Z")
    assert (usage.event_id, usage.price_atomic, usage.subscription_id, usage.usage_kind) == (accepted.event_id, 80, "sub", "message")
    assert (usage.reserved_at, usage.idempotency) == (NOW_MS, CLAIM.id)
    assert accepted.usage == Usage(42, 1_000, 80)
    assert usage.first_answer == FirstAnswer(body_digest=CLAIM.body_digest, received_at=NOW_MS, events_used=42, events_limit=1_000)


async def test_the_usage_of_a_message_without_a_key_says_nothing_of_an_answer() -> None:
    gateway = Gateway()
    await gateway.send()
    ((_, _, _, usage),) = gateway.log.records
    assert (usage.idempotency, usage.first_answer) == (None, None)
    assert b"first_answer" not in usage.to_json()


async def test_a_refused_message_leaves_nothing() -> None:
    gateway = Gateway(Account(balance=0))
    refused = await gateway.send()
    assert isinstance(refused, Refused)
    assert (refused.code, gateway.log.records, gateway.reservations.held) == ("insufficient_funds", [], {})


async def test_a_repeat_gets_the_first_answer_and_writes_nothing() -> None:
    gateway = Gateway()
    first, second = await gateway.send(CLAIM), await gateway.send(CLAIM)
    assert isinstance(first, Accepted)
    assert isinstance(second, Accepted)
    assert second == replace(first, replayed=True, rate=second.rate)
    assert len(gateway.log.records) == 1


async def test_what_was_surely_not_written_gives_its_money_and_key_back() -> None:
    gateway = Gateway(Account(price=100, balance=100))
    gateway.log.failure = Unavailable("broker away")
    with pytest.raises(Unavailable):
        await gateway.send(CLAIM)
    gateway.log.failure = None
    assert isinstance(await gateway.send(CLAIM), Accepted)


async def test_an_open_outcome_keeps_money_and_key() -> None:
    gateway = Gateway(Account(price=100, balance=100))
    gateway.log.failure = OutcomeOpen("no acknowledgement")
    with pytest.raises(OutcomeOpen):
        await gateway.send(CLAIM)
    gateway.log.failure = None
    repeat, other = await gateway.send(CLAIM), await gateway.send()
    assert isinstance(repeat, Refused)
    assert isinstance(other, Refused)
    assert (repeat.code, other.code) == ("request_in_progress", "insufficient_funds")


async def test_a_caller_that_hangs_up_does_not_stop_the_publish() -> None:
    gateway = Gateway()
    gateway.log.gate = asyncio.Event()
    call = asyncio.create_task(gateway.send(CLAIM))
    await eventually(lambda: gateway.reservations.held, every_s=0, what="the event is reserved")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    gateway.log.gate.set()
    await eventually(lambda: gateway.log.records, every_s=0, what="the event is in the log")

    async def repeated() -> bool:
        repeat = await gateway.send(CLAIM)
        return isinstance(repeat, Accepted) and repeat.replayed

    await eventually(repeated, every_s=0, what="the key is confirmed")


async def test_twenty_at_once_with_one_key_make_one_event() -> None:
    gateway = Gateway()
    answers = await asyncio.gather(*(gateway.send(CLAIM) for _ in range(20)))
    assert len(gateway.log.records) == 1
    assert {answer.code for answer in answers if isinstance(answer, Refused)} <= {"request_in_progress"}


async def test_a_lapsed_reservation_frees_money_and_key() -> None:
    gateway = Gateway(Account(price=100, balance=100))
    gateway.log.failure = OutcomeOpen("no acknowledgement")
    with pytest.raises(OutcomeOpen):
        await gateway.send(CLAIM)
    gateway.log.failure = None
    gateway.reservations.stream_time_ms = NOW_MS + LAPSE_MS + 1
    assert isinstance(await gateway.send(CLAIM), Accepted)


async def test_settled_usage_is_counted_once() -> None:
    gateway = Gateway(Account(price=100, balance=1_000))
    first = await gateway.send(CLAIM)
    assert isinstance(first, Accepted)
    gateway.reservations.settle(first.event_id)
    second = await gateway.send()
    assert isinstance(second, Accepted)
    assert (first.usage.events_used, second.usage.events_used) == (1, 2)


async def test_an_unknown_account_fails_closed() -> None:
    gateway = Gateway()
    gateway.reservations.accounts.clear()
    refused = await gateway.send()
    assert isinstance(refused, Refused)
    assert refused.code == "service_unavailable"


def test_the_numbers_of_the_outcomes_are_those_of_the_script() -> None:
    assert [outcome.value for outcome in Outcome] == list(range(15))


WANTED = WantedConfig("https://a.example", "secret", ())


def _webhooks(*, has_key: bool = True) -> tuple[ConfigureWebhook, FakeWebhookConfigs]:
    configs = FakeWebhookConfigs()
    return ConfigureWebhook(configs, FakeSeal(has_key), FrozenClock(NOW), CountingIds()), configs


async def test_a_config_is_stored_sealed_for_its_team_and_id() -> None:
    configure, configs = _webhooks()
    config = await configure.replace(TEAM, WANTED)
    assert config is not None
    assert configs.configs[TEAM].secrets[0].sealed == f"sealed(secret,{TEAM},{config.id})"
    assert await configure.read(TEAM) == config


async def test_replacing_keeps_the_id_also_when_many_write_at_once() -> None:
    configure, _ = _webhooks()
    stored = await asyncio.gather(*(configure.replace(TEAM, WANTED) for _ in range(10)))
    assert len({config.id for config in stored if config is not None}) == 1


async def test_deactivating_happens_once() -> None:
    configure, _ = _webhooks()
    await configure.replace(TEAM, WANTED)
    assert [await configure.deactivate(TEAM) for _ in range(2)] == [True, False]
    assert await configure.read(TEAM) is None


async def test_a_process_that_stood_still_writes_no_config_over_what_came_meanwhile() -> None:
    clock = FrozenClock(NOW)
    configs = FakeWebhookConfigs(clock=clock)
    configure = ConfigureWebhook(configs, FakeSeal(), clock, CountingIds())
    first = await configure.replace(TEAM, WANTED)
    configs.pause_ms = 4_000
    assert await configure.replace(TEAM, WANTED) is not None, "slow is not late"
    known, configs.pause_ms = dict(configs.configs), 120_000
    for late in (configure.replace(TEAM, WANTED), configure.deactivate(TEAM)):
        with pytest.raises(Unavailable):
            await late
    assert first is not None
    assert configs.configs == known


async def test_without_a_sealing_key_nothing_is_stored() -> None:
    configure, configs = _webhooks(has_key=False)
    assert await configure.replace(TEAM, WANTED) is None
    assert configs.configs == {}
