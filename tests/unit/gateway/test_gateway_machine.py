"""Admission, publishing, billing and crashes between any two of them, in any order, against what was promised.

What stands for Redis is `FakeReservations`, whose behaviour suite the real adapter passes; the log is one whose appends wait until the
machine has decided what becomes of them.
"""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kite_common.clock import FrozenClock, from_unix_ms
from kite_common.errors import OutcomeOpen, Unavailable
from kite_common.events.agent_message import AgentMessage
from kite_common.events.usage import UsageRecorded
from kite_common.ids import EventId, TeamId, WebhookConfigId, uuid7
from kite_common.projection import keys
from kite_gateway.application.accept_message import Accepted, AcceptMessage, Submission
from kite_gateway.domain.admission import Claim, Refused
from kite_gateway.testing import Account, FakeReservations
from support.machine import HandLoop

PRICE, LIMIT = 100, 6
TEAMS = (TeamId("team_a"), TeamId("team_b"))
NOW_MS = 1_770_000_000_000


@dataclass
class Write:
    """An append that waits for its fate."""

    usage: UsageRecorded
    received_ms: int
    fate: "asyncio.Future[None]"
    gateway: int
    orphan: bool = False


@dataclass
class HeldLog:
    """A MessageLog of one gateway process."""

    gateway: int
    waiting: list[Write]

    async def append(self, team_id: TeamId, event: bytes, traceparent: str, usage: UsageRecorded, received_ms: int) -> None:  # noqa: ARG002
        write = Write(usage, received_ms, asyncio.get_running_loop().create_future(), self.gateway)
        self.waiting.append(write)
        await write.fate


@dataclass
class Call:
    """A request on its way, or answered."""

    team_id: TeamId
    key: str | None
    body: str
    gateway: int
    task: "asyncio.Task[Accepted | Refused]"
    counted: bool = False


@dataclass
class NumberedIds:
    count: int = 0

    def event_id(self, unix_ms: int) -> EventId:
        self.count += 1
        return uuid7(unix_ms, self.count)

    def webhook_config_id(self, unix_ms: int) -> WebhookConfigId:
        raise AssertionError(f"no message needs one, at {unix_ms}")


@dataclass
class Truth:
    """What has happened for sure."""

    log: list[UsageRecorded] = field(default_factory=list)
    billed: int = 0
    surely_not: set[EventId] = field(default_factory=set)
    first: dict[tuple[TeamId, str], tuple[str, Accepted]] = field(default_factory=dict)


class Gateways(RuleBasedStateMachine):
    """Two gateways over one Redis and one log, and the billing that follows."""

    def __init__(self) -> None:
        super().__init__()
        self.loop, self.clock, self.truth = HandLoop(), FrozenClock(from_unix_ms(NOW_MS)), Truth()
        account = Account(price=PRICE, balance=4 * PRICE, month_limit=LIMIT, day_limit=LIMIT)
        self.reservations = FakeReservations(dict.fromkeys(TEAMS, account), now_ms=NOW_MS, stream_time_ms=NOW_MS)
        self.waiting: list[Write] = []
        self.calls: list[Call] = []
        ids = NumberedIds()
        self.gateways = [AcceptMessage(self.reservations, HeldLog(one, self.waiting), self.clock, ids) for one in range(2)]

    @rule(gateway=st.integers(0, 1), team=st.sampled_from(TEAMS), key=st.sampled_from((None, "k1", "k2")), body=st.sampled_from("xy"))
    def send(self, gateway: int, team: TeamId, key: str | None, body: str) -> None:
        """A request, or its repeat while the first one is on its way, answered, or forgotten."""
        claim = None if key is None else Claim(key, body)
        task = self.loop.start(self.gateways[gateway](Submission(team, AgentMessage("a", "b", body), "t", claim)))
        self.calls.append(Call(team, key, body, gateway, task))
        self.read_answers()

    @precondition(lambda self: self.waiting)
    @rule(which=st.integers(0, 9), written=st.booleans(), told=st.booleans())
    def decide(self, which: int, *, written: bool, told: bool) -> None:
        """What the log does with an append, in any order, and whether its process is told; what is too old is not written any more."""
        write = self.waiting.pop(which % len(self.waiting))
        written = written and self.in_time(write)
        if written:
            self.truth.log.append(write.usage)
        if write.orphan:
            return
        if not told:
            write.fate.set_exception(OutcomeOpen("no acknowledgement"))
        elif written:
            write.fate.set_result(None)
        else:
            write.fate.set_exception(Unavailable("the log is away"))
        self.loop.settle()
        if told and not written:
            self.truth.surely_not.add(EventId(write.usage.event_id))
            assert write.usage.event_id not in self.reservations.held, "what is surely not in the log holds nothing"
        self.read_answers()

    @precondition(lambda self: any(not call.task.done() for call in self.calls))
    @rule(which=st.integers(0, 9))
    def hang_up(self, which: int) -> None:
        """A caller does not wait for the answer; what has been begun goes on."""
        calls = [call for call in self.calls if not call.task.done()]
        calls[which % len(calls)].task.cancel()
        self.loop.settle()

    @rule(gateway=st.integers(0, 1))
    def kill(self, gateway: int) -> None:
        """The process is gone, in the middle of whatever it was at; what it had sent may still arrive. Nothing of it runs on."""
        for write in self.waiting:
            write.orphan = write.orphan or write.gateway == gateway
        self.calls = [call for call in self.calls if call.gateway != gateway or call.task.done()]

    @rule(seconds=st.sampled_from((1, 9, 60, 120)))
    def pass_time(self, seconds: int) -> None:
        """Clocks go on everywhere."""
        self.clock.advance(timedelta(seconds=seconds))
        self.reservations.now_ms = self.clock.unix_ms()

    @rule(most=st.integers(1, 3))
    def bill(self, most: int) -> None:
        """Billing takes records in the order of the log; once it has them all, its stream time is now."""
        for usage in self.truth.log[self.truth.billed : self.truth.billed + most]:
            self.truth.billed += 1
            held = self.reservations.held.get(EventId(usage.event_id))
            assert held is not None, "billed without a reservation: the money may have been spent twice"
            claim = held.request.claim.id if held.request.claim else None
            assert (usage.reserved_at, usage.price_atomic, usage.idempotency) == (held.at_ms, held.amount, claim)
            self.reservations.settle(EventId(usage.event_id))
        if self.truth.billed == len(self.truth.log):
            # What could still be appended was received before: that is what LAPSE_MS is for.
            self.reservations.stream_time_ms = self.clock.unix_ms()

    def in_time(self, write: Write) -> bool:
        """Whether the publisher would still hand it over or wait for it."""
        return self.clock.unix_ms() - write.received_ms <= keys.PUBLISH_TIMEOUT_MS

    def read_answers(self) -> None:
        """Whatever a caller was told holds."""
        logged = {usage.event_id for usage in self.truth.log}
        for call in self.calls:
            if call.counted or not call.task.done() or call.task.cancelled():
                continue
            call.counted = True
            error = call.task.exception()
            if error is not None:
                assert isinstance(error, Unavailable | OutcomeOpen)
                continue
            answer = call.task.result()
            if isinstance(answer, Accepted):
                assert answer.event_id in logged, "202, and not in the log"
                self.compare(call, answer)

    def compare(self, call: Call, answer: Accepted) -> None:
        if call.key is None:
            assert not answer.replayed
            return
        body, first = self.truth.first.setdefault((call.team_id, call.key), (call.body, answer))
        assert (body, first.event_id, first.usage) == (call.body, answer.event_id, answer.usage)

    @invariant()
    def every_key_is_in_the_log_once(self) -> None:
        claimed = [(usage.team_id, usage.idempotency) for usage in self.truth.log if usage.idempotency]
        assert len(claimed) == len(set(claimed))
        events = [usage.event_id for usage in self.truth.log]
        assert len(events) == len(set(events))
        assert not self.truth.surely_not & set(map(EventId, events))

    @invariant()
    def what_may_still_be_charged_is_reserved(self) -> None:
        open_usages = {usage.event_id for usage in self.truth.log[self.truth.billed :]}
        in_time = {write.usage.event_id for write in self.waiting if self.in_time(write)}
        assert open_usages | in_time <= set(self.reservations.held)

    @invariant()
    def nobody_spends_what_is_not_there(self) -> None:
        for team in TEAMS:
            account = self.reservations.accounts[team]
            held = [one for one in self.reservations.held.values() if one.request.team_id == team]
            assert account.balance - sum(one.amount for one in held) >= 0
            assert account.used + len(held) <= LIMIT
            charged = sum(usage.team_id == team for usage in self.truth.log[: self.truth.billed])
            assert (account.used, account.balance) == (charged, (4 - charged) * PRICE)

    @invariant()
    def an_answered_key_is_answered_again(self) -> None:
        for (team, key), (body, first) in self.truth.first.items():
            state = self.reservations._claims.get((team, key))
            assert state is not None, (key, body, first)
            assert state.accepted, (key, body, first)

    def teardown(self) -> None:
        try:
            self.comes_to_an_end()
        finally:
            self.loop.end()

    def comes_to_an_end(self) -> None:
        """In the end nothing is held: all is billed, or has lapsed."""
        while self.waiting:
            self.decide(0, written=True, told=True)
        self.bill(len(self.truth.log))
        self.reservations.now_ms = self.clock.unix_ms() + 2 * keys.LAPSE_MS
        self.reservations.stream_time_ms = self.reservations.now_ms
        for team in TEAMS:
            self.reservations._lapse(team)
        assert not self.reservations.held


Gateways.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestGateways = Gateways.TestCase
