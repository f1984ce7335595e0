"""Steps of the processor: what goes where, dead letters, and a stateful comparison with a simple model under repeats and restarts."""

from base64 import b64decode
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kite_billing.adapters.consumer import BillingProcessor, TopicNames, is_usage, usage_of
from kite_billing.domain.account import Rules
from kite_billing.domain.notices import DAY_MS
from kite_common.clock import FrozenClock, from_unix_ms
from kite_common.errors import Malformed
from kite_common.events.accounts import AccountSnapshot
from kite_common.events.codec import RECORD_HEADER, Record, decode, decode_as, encode
from kite_common.events.commands import CommandOutcome
from kite_common.events.deliveries import DeadLetter
from kite_common.events.fact import Fact
from kite_common.events.ledger import LedgerEntry
from kite_common.ids import CommandId, EventId, TeamId, ledger_entry_of_command, ledger_entry_of_event
from kite_common.money import UNLIMITED
from kite_common.plans import shipped_catalog
from kite_common.projection.keys import LAPSE_MS
from kite_common.projection.pending import Charges, Settled
from kite_common.runtime.metrics import Metrics
from kite_common.stream.input import Input
from kite_common.stream.transaction import Position, Step
from kite_common.testing import make
from kite_common.topics import ACCOUNTS, COMMANDS, DEAD_LETTERS, EVENTS, LEDGER

NOW = make.NOW_MS
TEAMS = ("team_a", "team_b", "team_c")


@dataclass
class Told:
    """What the projection was told."""

    restored_: list[tuple[int, dict[str, AccountSnapshot], Position]] = field(default_factory=list)
    applied_: list[tuple[int, dict[str, AccountSnapshot], Sequence[Settled], Sequence[CommandOutcome], Position]] = field(
        default_factory=list
    )
    charges_: list[Charges | None] = field(default_factory=list)
    released_: list[int] = field(default_factory=list)

    def restored(self, partition: int, accounts: Mapping[str, AccountSnapshot], position: Position) -> None:
        self.restored_.append((partition, dict(accounts), position))

    def applied(
        self, partition: int, accounts: Mapping[str, AccountSnapshot], settled: Sequence[Settled],
        outcomes: Sequence[CommandOutcome], position: Position, charges: Charges | None,
    ) -> None:  # fmt: skip
        self.applied_.append((partition, dict(accounts), settled, outcomes, position))
        self.charges_.append(charges)

    def released(self, partition: int) -> None:
        self.released_.append(partition)


def processor(told: Told | None = None, metrics: Metrics | None = None) -> BillingProcessor:
    clock = FrozenClock(from_unix_ms(NOW + 1_500))
    return BillingProcessor(Rules(shipped_catalog()), told or Told(), clock, metrics or Metrics())


def as_input(record: Record, topic: str = EVENTS.name, offset: int = 0, at_ms: int = NOW) -> Input:
    return Input(topic, 3, offset, at_ms, record.key, record.value, record.headers)


def command_input(fact: Fact, at_ms: int = NOW) -> Input:
    return as_input(encode(fact), COMMANDS.name, at_ms=at_ms)


def usage_input(at_ms: int = NOW, **given_: Any) -> Input:
    return as_input(encode(make.usage(**given_)), at_ms=at_ms)


def facts(step: Step[AccountSnapshot], topic: str) -> list[Any]:
    return [decode(record.headers, record.value) for name, record in step.records if name == topic]


def test_a_usage_becomes_one_entry_a_new_snapshot_and_something_to_settle() -> None:
    step = processor().step(3, [usage_input(idempotency="claim", delivery_claim="delivery")], {make.TEAM: make.account()}, 8)
    [entry] = facts(step, LEDGER.name)
    assert (entry.id, entry.amount_atomic) == (ledger_entry_of_event(make.EVENT_ID), -100)
    assert (step.states[make.TEAM].balance_atomic, step.states[make.TEAM].period_used, step.states[make.TEAM].applied) == (999_900, 1, 8)
    assert step.effects == (Settled(TeamId(make.TEAM), make.EVENT_ID, "claim", "delivery"), Charges(1, NOW))


def test_a_step_is_as_old_as_its_first_usage_that_is_charged() -> None:
    told = Told()
    one = processor(told)
    one.restored(3, {}, Position(0, 0))
    inputs = [
        command_input(make.open_account(), at_ms=NOW - 9_000),
        usage_input(NOW - 8_000, team_id="team_nobody"),
        usage_input(NOW - 700, event_id=make.event_id(1)),
        usage_input(NOW - 300, event_id=make.event_id(2)),
    ]
    one.committed(3, one.step(3, inputs, {}, 8), Position(8, NOW))
    one.committed(3, one.step(3, [command_input(make.subscribe())], {}, 9), Position(9, NOW))
    assert told.charges_ == [Charges(2, NOW - 700), None]


@given(st.integers(0, 10**6), st.integers(0, UNLIMITED), st.integers(0, UNLIMITED), st.sampled_from(["message", "hook", "replay"]))
def test_the_record_in_the_ledger_is_the_encoded_entry(number: int, price: int, quantity: int, kind: str) -> None:
    one = usage_input(event_id=make.event_id(number), price_atomic=price, quantity=quantity, usage_kind=kind)
    step = processor().step(3, [one], {make.TEAM: make.account()}, 8)
    [(topic, record)] = [(topic, record) for topic, record in step.records if topic != EVENTS.name]
    assert (topic, record) == (LEDGER.name, encode(decode_as(LedgerEntry, record.value)))


def test_commands_of_a_batch_come_before_its_usages() -> None:
    inputs = [usage_input(), command_input(make.open_account())]
    step = processor().step(3, inputs, {}, 8)
    assert facts(step, DEAD_LETTERS.name) == []
    assert step.states[make.TEAM].balance_atomic == 999_900
    assert step.states[make.TEAM].recent_commands != ()


def test_events_are_passed_over_without_a_look() -> None:
    broken = Record(make.TEAM.encode(), b"{broken", ((RECORD_HEADER, b"event"),))
    assert processor().step(3, [as_input(broken)], {}, 8) == Step({}, (), ())


def test_a_refused_command_gives_an_outcome_and_nothing_else() -> None:
    step = processor().step(3, [command_input(make.subscribe())], {}, 8)
    [outcome] = step.effects
    assert isinstance(outcome, CommandOutcome)
    assert (outcome.refusal, step.states, step.records) == ("no_account", {}, ())


def test_a_usage_of_an_unknown_team_is_a_dead_letter_with_its_bytes() -> None:
    one = usage_input()._replace(offset=77)
    step = processor().step(3, [one], {}, 8)
    [letter] = facts(step, DEAD_LETTERS.name)
    assert isinstance(letter, DeadLetter)
    assert (letter.service, letter.reason) == ("billing", "usage of a team without an account")
    assert (letter.topic, letter.partition, letter.offset, letter.at, letter.team_id) == (EVENTS.name, 3, 77, NOW, make.TEAM)
    assert b64decode(letter.original_value or "") == one.value
    assert [(name, b64decode(value)) for name, value in letter.original_headers] == list(one.headers)
    assert (step.states, step.effects) == ({}, ())


_USAGE_HEADERS = ((RECORD_HEADER, b"usage"),)


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (Input(EVENTS.name, 3, 0, NOW, b"team", b"{broken", _USAGE_HEADERS), "usage: "),
        (Input(EVENTS.name, 3, 0, NOW, b"team", None, _USAGE_HEADERS), "the record has no value"),
        (Input(EVENTS.name, 3, 0, NOW, None, encode(make.usage()).value, _USAGE_HEADERS), "usage: the key is not its team"),
        (Input(EVENTS.name, 3, 0, NOW, b"\xff\xfe", encode(make.usage()).value, _USAGE_HEADERS), "usage: the key is not its team"),
        (Input(COMMANDS.name, 3, 0, NOW, b"team", b"{}", ()), "header kite-record is missing"),
        (Input(COMMANDS.name, 3, 0, NOW, b"team", b"{}", ((RECORD_HEADER, b"nonsense"),)), "unknown record kind"),
        (command_input(make.usage()), "usage is no command"),
        (command_input(make.subscribe())._replace(key=b"team"), "subscribe: the key is not its team"),
        (command_input(make.open_account(team_id="a{b}c")), "not a team id"),
        (Input(EVENTS.name, 3, 0, NOW, b"team", b"x" * (1024 * 1024 + 1), _USAGE_HEADERS), "usage: "),
    ],
)
def test_what_cannot_be_used_is_a_dead_letter_and_the_rest_of_the_batch_goes_on(one: Input, reason: str) -> None:
    step = processor().step(3, [one, usage_input()], {make.TEAM: make.account()}, 8)
    [letter] = facts(step, DEAD_LETTERS.name)
    assert reason in letter.reason
    assert len(facts(step, LEDGER.name)) == 1


def test_a_dead_letter_always_fits_into_the_log() -> None:
    huge = Input(EVENTS.name, 3, 0, NOW, b"team", b"x" * (2 * 1024 * 1024 - 100), _USAGE_HEADERS)
    [(_, record)] = processor().step(3, [huge], {}, 8).records
    assert len(record.value) < 2_000
    letter = decode_as(DeadLetter, record.value)
    assert "left out" in letter.reason
    assert letter.original_value is None


def test_state_records_are_read_back_as_they_were_written() -> None:
    account = make.account()
    record = processor().encode_state(account.team_id, account)
    assert processor().decode_state(as_input(record, ACCOUNTS.name)) == (account.team_id, account)
    with pytest.raises(Malformed):
        processor().decode_state(as_input(replace(record, value=b"{}"), ACCOUNTS.name))


def test_topics_may_have_a_prefix() -> None:
    topics = TopicNames.behind("t1.")
    prefixed = BillingProcessor(Rules(shipped_catalog()), Told(), FrozenClock(from_unix_ms(NOW)), Metrics(), topics)
    one = usage_input()._replace(topic="t1.kite.events")
    assert [topic for topic, _ in prefixed.step(3, [one], {make.TEAM: make.account()}, 8).records] == ["t1.kite.ledger"]
    assert prefixed.step(3, [usage_input()], {make.TEAM: make.account()}, 8) == Step({}, (), ())


def test_what_is_committed_is_told_to_the_projection_and_counted() -> None:
    told, metrics = Told(), Metrics()
    one = processor(told, metrics)
    position = Position(8, NOW)
    one.restored(3, {make.TEAM: make.account()}, Position(1, 0))
    step = one.step(3, [usage_input(), command_input(make.subscribe()), command_input(make.usage())], {make.TEAM: make.account()}, 8)
    one.committed(3, step, position)
    one.released(3)
    assert told.restored_ == [(3, {make.TEAM: make.account()}, Position(1, 0))]
    [(partition, accounts, settled, outcomes, at)] = told.applied_
    assert (partition, accounts, at) == (3, step.states, position)
    assert [one.event_id for one in settled] == [make.EVENT_ID]
    assert [outcome.command_id for outcome in outcomes] == [make.COMMAND_ID]
    assert told.released_ == [3]
    assert metrics.value("kite_billing_records_total", kind="usage") == 1
    assert metrics.value("kite_billing_records_total", kind="command") == 1
    assert metrics.value("kite_dead_letters_total", service="billing") == 1


def test_a_usage_that_came_after_its_reservation_had_lapsed_is_charged_and_told() -> None:
    told, metrics = Told(), Metrics()
    billing = processor(told, metrics)
    inputs = [
        usage_input(at_ms=NOW + LAPSE_MS, event_id=make.event_id(1), reserved_at=NOW),
        usage_input(at_ms=NOW + LAPSE_MS + 1, event_id=make.event_id(2), reserved_at=NOW),
    ]
    billing.restored(3, {}, Position(0, 0))
    step = billing.step(3, inputs, {make.TEAM: make.account()}, 7)
    billing.committed(3, step, Position(7, NOW))
    assert len(facts(step, LEDGER.name)) == 2
    assert metrics.value("kite_billing_usages_late_total") == 1


def test_the_age_of_stream_time_is_shown_while_the_partition_is_ours() -> None:
    metrics = Metrics()
    one = processor(metrics=metrics)
    one.restored(3, {}, Position(7, 0))
    one.committed(3, Step({}, (), ()), Position(8, NOW))
    assert metrics.value("kite_billing_stream_time_age_seconds", partition="3") == 1.5
    one.released(3)
    assert metrics.value("kite_billing_stream_time_age_seconds", partition="3") == 0


class Billing(RuleBasedStateMachine):
    """Random usages and commands, in batches, some commands twice or late, teams in any order among themselves, with crashes before the
    commit and restarts from the written state, against plain sums."""

    def __init__(self) -> None:
        super().__init__()
        self.processor = processor()
        self.states: dict[str, AccountSnapshot] = {}
        self.written: dict[str, Record] = {}
        self.ledger: list[LedgerEntry] = []
        self.applied, self.at_ms, self.number = 0, NOW, 0
        self.batch: list[Input] = []
        self.sent: list[Input] = []
        # The model: balance of each open account, and ids of all that must have exactly one entry.
        self.balances: dict[str, int] = {}
        self.expected_ids: list[str] = []
        # Usages by team and day: those that count on that day, and those that may.
        self.certain: Counter[tuple[str, int]] = Counter()
        self.possible: Counter[tuple[str, int]] = Counter()

    def _id(self, kind: str) -> str:
        self.number += 1
        return f"{kind}-{self.number}"

    def _command(self, fact: Fact) -> None:
        one = command_input(fact, self.at_ms)
        self.batch.append(one)
        self.sent.append(one)

    @rule(team=st.sampled_from(TEAMS), balance=st.integers(0, 500))
    def open(self, team: str, balance: int) -> None:
        self._command(make.open_account(team_id=team, command_id=self._id("open"), balance_atomic=balance))

    @rule(team=st.sampled_from(TEAMS), amount=st.integers(0, 500))
    def credit(self, team: str, amount: int) -> None:
        self._command(make.credit_wallet(team_id=team, command_id=self._id("credit"), amount_atomic=amount))

    @rule(team=st.sampled_from(TEAMS), amount=st.integers(-300, 300))
    def adjust(self, team: str, amount: int) -> None:
        self._command(make.adjust_wallet(team_id=team, command_id=self._id("adjust"), amount_atomic=amount))

    @rule(team=st.sampled_from(TEAMS), plan=st.sampled_from(["starter", "growth"]))
    def subscribe(self, team: str, plan: str) -> None:
        self._command(make.subscribe(team_id=team, command_id=self._id("subscribe"), plan_id=make.plan(plan).id))

    @rule(team=st.sampled_from(TEAMS))
    def cancel(self, team: str) -> None:
        self._command(make.cancel_subscription(team_id=team, command_id=self._id("cancel")))

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def repeat_a_command(self, data: st.DataObject) -> None:
        # A sender whose wait ran out, or a person who pressed the button again.
        self.batch.append(data.draw(st.sampled_from(self.sent[-20:]))._replace(timestamp_ms=self.at_ms))

    @rule(team=st.sampled_from(TEAMS), price=st.integers(0, 200), late_ms=st.sampled_from([0, 500, LAPSE_MS + 1]))
    def use(self, team: str, price: int, late_ms: int) -> None:
        """`late_ms`: how long it stood in its gateway before the log took it."""
        self.number += 1
        usage = {"team_id": team, "event_id": make.event_id(self.number), "price_atomic": price, "reserved_at": self.at_ms - late_ms}
        self.batch.append(usage_input(self.at_ms, **usage))

    @rule(by_ms=st.sampled_from([1, 1_000, 3_600_000, 86_400_000, 35 * 86_400_000]))
    def time_passes(self, by_ms: int) -> None:
        self.at_ms += by_ms

    @rule(crash=st.booleans(), order=st.randoms(use_true_random=False))
    def step(self, crash: bool, order: Random) -> None:
        self.applied += len(self.batch)
        step = self.processor.step(0, self.batch, self.states, self.applied)
        self._same_whatever_the_order_of_teams(step, order)
        if crash:
            # The process ends before the commit: nothing has happened, the next owner makes the same step of the same inputs.
            self._restart()
            assert self.processor.step(0, self.batch, self.states, self.applied) == step
        self.states.update(step.states)
        self.written.update({key: self.processor.encode_state(key, state) for key, state in step.states.items()})
        self.ledger += facts(step, LEDGER.name)
        self._model()
        self.batch = []

    def _same_whatever_the_order_of_teams(self, step: Step[AccountSnapshot], order: Random) -> None:
        waiting = {team: [one for one in self.batch if one.key == team.encode()] for team in TEAMS}
        turns = [team for team, inputs in waiting.items() for _ in inputs]
        order.shuffle(turns)
        other = self.processor.step(0, [waiting[team].pop(0) for team in turns], self.states, self.applied)
        assert other.states == step.states
        for team in TEAMS:
            for one, two in ((step.records, other.records), (step.effects, other.effects)):
                assert [about for about in one if _is_of(team, about)] == [about for about in two if _is_of(team, about)]

    @rule()
    def restart(self) -> None:
        self._restart()

    def _restart(self) -> None:
        restored = [self.processor.decode_state(as_input(record, ACCOUNTS.name)) for record in self.written.values()]
        assert dict(restored) == self.states
        self.states = dict(restored)

    def _model(self) -> None:
        """The same in plain numbers: commands once per id, then usages."""
        for one in [one for one in self.batch if one.topic == COMMANDS.name]:
            self._model_command(decode(one.headers, one.value))
        for one in [one for one in self.batch if one.topic == EVENTS.name]:
            usage = usage_of(one)
            if usage.team_id in self.balances:
                self.balances[usage.team_id] -= min(usage.price_atomic, self.balances[usage.team_id])
                self.expected_ids.append(ledger_entry_of_event(EventId(usage.event_id)))
                self._model_day(usage.team_id, one.timestamp_ms // DAY_MS)

    def _model_day(self, team: str, day: int) -> None:
        """Commands of a batch come first: behind one of a later day that was carried out, a usage counts on that later day."""
        later = {one.timestamp_ms // DAY_MS for one in self.batch if one.topic == COMMANDS.name and one.key == team.encode()}
        days = {day, *(other for other in later if other > day)}
        self.possible.update((team, one) for one in days)
        self.certain[team, day] += len(days) == 1

    def _model_command(self, command: Any) -> None:
        entry_id, team = ledger_entry_of_command(CommandId(command.command_id)), command.team_id
        if entry_id in self.expected_ids:
            return
        amount = self._moved(command)
        if amount is not None:
            self.balances[team] = max(0, self.balances.get(team, 0) + amount)
            if amount:
                self.expected_ids.append(entry_id)

    def _moved(self, command: Any) -> int | None:
        """What a command moves; None if it is refused or moves nothing by its kind."""
        is_open = command.team_id in self.balances
        match command.kind:
            case "open-account":
                return None if is_open else int(command.balance_atomic)
            case "credit-wallet":
                return int(command.amount_atomic)
            case "adjust-wallet":
                return int(command.amount_atomic) if is_open else None
            case _:
                return None

    @invariant()
    def balances_agree(self) -> None:
        assert {team: account.balance_atomic for team, account in self.states.items()} == self.balances

    @invariant()
    def the_ledger_adds_up(self) -> None:
        for team, account in self.states.items():
            assert sum(entry.amount_atomic for entry in self.ledger if entry.team_id == team) == account.balance_atomic >= 0

    @invariant()
    def every_movement_has_exactly_one_entry(self) -> None:
        assert sorted(entry.id for entry in self.ledger) == sorted(self.expected_ids)

    @invariant()
    def a_day_counts_its_usages(self) -> None:
        for team, account in self.states.items():
            assert self.certain[team, account.day] <= account.day_used <= self.possible[team, account.day]

    @invariant()
    def an_account_stands_for_a_position_that_was_reached(self) -> None:
        assert all(account.applied <= self.applied for account in self.states.values())


def _is_of(team: str, about: object) -> bool:
    """Whether a record (with its topic) or an effect is about a team; how old a step's usages are is about none."""
    if isinstance(about, Charges):
        return False
    return about[1].key == team.encode() if isinstance(about, tuple) and isinstance(about[1], Record) else about.team_id == team  # type: ignore[attr-defined]


Billing.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestBilling = Billing.TestCase


def test_only_the_header_says_what_a_usage_is() -> None:
    assert is_usage(usage_input())
    assert not is_usage(as_input(make.event_record()))
