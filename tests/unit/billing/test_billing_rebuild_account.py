"""Accounts made again from commands and ledger alone equal the live ones: whatever was sent, delayed, repeated, and rolled by time."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kite_billing.adapters.consumer import BillingProcessor
from kite_billing.application.rebuild_account import AccountFromLog, LoggedCommand, differences, settled_at
from kite_billing.domain.account import Rules
from kite_cli.admin.teams_of_log import Compared, TeamsOfLog
from kite_common.clock import FrozenClock, from_unix_ms
from kite_common.events.accounts import AccountSnapshot
from kite_common.events.codec import decode, encode
from kite_common.events.fact import Fact
from kite_common.events.ledger import LedgerEntry
from kite_common.plans import shipped_catalog
from kite_common.runtime.metrics import Metrics
from kite_common.stream.input import Input
from kite_common.stream.transaction import Position, Step
from kite_common.testing import make
from kite_common.topics import COMMANDS, EVENTS, LEDGER

TEAMS: Final = ("team_a", "team_b")
RULES: Final = Rules(shipped_catalog(), clerk_paid_plans=True)
DAY_MS: Final = 86_400_000


class Nobody:
    """A projection that is told and does nothing."""

    def restored(self, *_: object) -> None: ...
    def applied(self, *_: object) -> None: ...
    def released(self, *_: object) -> None: ...


class History:
    """One partition as it is lived: two topics in which inputs wait, billing's own step and tick, the ledger, the accounts."""

    def __init__(self) -> None:
        self.billing = BillingProcessor(RULES, Nobody(), FrozenClock(from_unix_ms(make.NOW_MS)), Metrics())
        self.states: dict[str, AccountSnapshot] = {}
        self.waiting: dict[str, list[Input]] = {COMMANDS.name: [], EVENTS.name: []}
        self.commands: list[Input] = []
        self.ledger: list[LedgerEntry] = []
        self.at_ms, self.applied, self.number, self.commands_to, self.usages = make.NOW_MS, 0, 0, 0, 0
        self.billing.restored(0, self.states, Position(0, 0))

    def send(self, make_command: Callable[..., Fact], team: str, **given_: Any) -> None:
        self.number += 1
        self._append(COMMANDS.name, make_command(team_id=team, **{"command_id": f"command-{self.number}"} | given_), len(self.commands))
        self.commands.append(self.waiting[COMMANDS.name][-1])

    def repeat(self, which: int) -> None:
        if self.commands:
            again = self.commands[which % len(self.commands)]._replace(offset=len(self.commands), timestamp_ms=self.at_ms)
            self.waiting[COMMANDS.name].append(again)
            self.commands.append(again)

    def use(self, team: str, price: int, quantity: int, kind: str) -> None:
        self.usages += 1
        usage = make.usage(team_id=team, event_id=make.event_id(self.usages), price_atomic=price, quantity=quantity, usage_kind=kind)
        self._append(EVENTS.name, usage, self.usages)

    def _append(self, topic: str, fact: Fact, offset: int) -> None:
        record = encode(fact)
        self.waiting[topic].append(Input(topic, 0, offset, self.at_ms, record.key, record.value, record.headers))

    def step(self, commands: int, events: int) -> None:
        """Billing takes so many of what waits in each topic: the one may be far behind the other."""
        taken = [*self.waiting[EVENTS.name][:events], *self.waiting[COMMANDS.name][:commands]]
        del self.waiting[EVENTS.name][:events], self.waiting[COMMANDS.name][:commands]
        self.commands_to = max([self.commands_to, *(one.offset + 1 for one in taken if one.topic == COMMANDS.name)])
        self.applied += len(taken)
        self._commit(self.billing.step(0, taken, self.states, self.applied))

    def tick(self) -> None:
        """Only where everything appended was applied does stream time pass."""
        if not any(self.waiting.values()):
            self.applied += 1
            self._commit(self.billing.tick(0, self.states, self.at_ms, self.applied))

    def _commit(self, step: Step[AccountSnapshot]) -> None:
        self.states |= step.states
        self.billing.committed(0, step, Position(self.applied, self.at_ms))
        for topic, record in step.records:
            fact = decode(record.headers, record.value) if topic == LEDGER.name else None
            if isinstance(fact, LedgerEntry):
                self.ledger.append(fact)

    def rebuilt(self, *, told: bool = True) -> dict[str, AccountFromLog]:
        """Every team's account from the log; not `told`: from a ledger whose entries do not say which commands came first."""
        commands: dict[str, list[LoggedCommand]] = defaultdict(list)
        for one in self.commands:
            command: Any = decode(one.headers, one.value)
            commands[command.team_id].append(LoggedCommand(one.offset, one.timestamp_ms, command))
        made = {team: AccountFromLog(commands[team], RULES) for team in TEAMS}
        for entry in self.ledger:
            made[entry.team_id].entry(entry if told else entry.model_copy(update={"commands_to": None}))
        return made

    def agrees(self, **given_: bool) -> None:
        for team, made in self.rebuilt(**given_).items():
            account, live = made.account(self.commands_to), self.states.get(team)
            assert (account is None) == (live is None)
            if account is not None and live is not None:
                later = self.at_ms + 40 * DAY_MS
                for at_ms in (self.at_ms, later):
                    assert differences(*(settled_at(one, at_ms, RULES.catalog) for one in (account, live))) == []
            assert made.problems == []
            assert made.left(self.commands_to) == []


PLANS: Final = st.sampled_from(["free", "starter", "growth"]).map(lambda name: make.plan(name).id)
PROVIDERS: Final = st.sampled_from(["x402", "clerk"])
SEQS: Final = st.integers(1, 3)


def settled(key: int, seq: int) -> Any:
    return make.settled_payment(payment_key=f"eip155:1:0x{'11' * 20}:0x{'22' * 20}:0x{key:064x}", seq=seq)


@st.composite
def deeds(draw: st.DrawFn) -> Callable[[History], None]:
    """One thing that happens."""
    team, amount = draw(st.sampled_from(TEAMS)), draw(st.integers(0, 500))
    plan, provider = draw(PLANS), draw(PROVIDERS)
    deed: Callable[[History], None] = draw(st.sampled_from([
        lambda h: h.send(make.open_account, team, plan_id=plan, provider=provider, balance_atomic=amount),
        lambda h: h.send(make.subscribe, team, plan_id=plan, provider=provider),
        lambda h: h.send(make.cancel_subscription, team),
        lambda h: h.send(make.set_past_due, team, past_due=amount % 2 == 0),
        lambda h: h.send(make.credit_wallet, team, amount_atomic=amount),
        lambda h: h.send(make.adjust_wallet, team, amount_atomic=amount - 300),
        lambda h: h.send(lambda **given_: make.payment_credit(settled(amount % 3, 1 + amount % 4), **given_), team, amount_atomic=amount),
        lambda h: h.send(lambda **given_: make.reverse_credit(settled(amount % 3, 2 + amount % 4), **given_), team, amount_atomic=amount),
        lambda h: h.repeat(amount),
        lambda h: h.use(team, amount // 5, 1 + amount % 2, "message"),
        # Enough to use a quota of the free plan up, so that blocks, warnings and their ends come about.
        lambda h: h.use(team, 0, 900 * (amount % 5), "hook"),
        lambda h: h.use(team, amount // 10, amount, "replay"),
        lambda h: setattr(h, "at_ms", h.at_ms + amount * 1_000),
        lambda h: setattr(h, "at_ms", h.at_ms + DAY_MS),
        lambda h: setattr(h, "at_ms", h.at_ms + 31 * DAY_MS),
        lambda h: h.step(amount % 4, amount % 7),
        lambda h: h.step(100, 0),
        lambda h: h.step(0, 100),
        lambda h: h.step(100, 100),
        lambda h: h.tick(),
    ]))  # fmt: skip
    return deed


@settings(max_examples=300)
@given(st.lists(deeds(), max_size=60))
def test_the_account_from_the_log_equals_the_live_one(happened: list[Callable[[History], None]]) -> None:
    history = History()
    for team in TEAMS:
        history.send(make.open_account, team, plan_id=make.plan("free").id, provider="x402", balance_atomic=400)
    for deed in happened:
        deed(history)
    history.agrees()
    history.step(100, 1_000)
    history.agrees()


def lived() -> History:
    """A switch and a new beginning between usages, in one step with them and in steps of their own."""
    history = History()
    history.send(make.open_account, "team_a", plan_id=make.plan("starter").id, balance_atomic=400)
    history.use("team_a", 10, 1, "message")
    history.step(9, 9)
    history.send(make.cancel_subscription, "team_a")
    history.send(make.subscribe, "team_a", plan_id=make.plan("growth").id, provider="x402")
    history.use("team_a", 10, 1, "message")
    history.step(0, 9)
    history.use("team_a", 10, 1, "message")
    history.step(9, 9)
    return history


def test_what_moves_no_money_stands_where_billing_had_it_and_not_where_its_time_is() -> None:
    history = lived()
    assert history.states["team_a"].period_used == 1
    history.agrees()
    with pytest.raises(AssertionError):
        history.agrees(told=False)


def test_entries_of_older_versions_are_ordered_by_time() -> None:
    history = History()
    for _ in range(3):
        history.send(make.open_account, "team_a", plan_id=make.plan("starter").id, balance_atomic=400)
        history.at_ms += 1_000
        history.use("team_a", 10, 1, "message")
        history.send(make.credit_wallet, "team_a", amount_atomic=7)
        history.step(9, 9)
        history.at_ms += 1_000
    history.agrees(told=False)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda ledger: ledger.pop(1), "balance"),
        (lambda ledger: ledger.insert(1, ledger[1]), "left"),
        (lambda ledger: ledger.__setitem__(1, ledger[1].model_copy(update={"amount_atomic": -9, "balance_after_atomic": 391})), "left"),
        (lambda ledger: ledger.pop(0), "not in the ledger"),
        (lambda ledger: ledger.append(ledger[0]), "no command leads to it"),
        (lambda ledger: ledger.append(ledger[1].model_copy(update={"team_id": "team_b"})), "no account yet"),
    ],
)  # fmt: skip
def test_a_ledger_that_is_not_what_billing_wrote_is_told(change: Callable[[list[LedgerEntry]], object], named: str) -> None:
    history = lived()
    change(history.ledger)
    made = history.rebuilt()
    account = made["team_a"].account(history.commands_to)
    assert account is not None
    told = [*differences(*(settled_at(one, history.at_ms, RULES.catalog) for one in (account, history.states["team_a"])))]
    told += [problem for one in made.values() for problem in (*one.problems, *one.left(history.commands_to))]
    assert any(named in text for text in told)


def test_an_account_that_is_not_what_the_log_says_is_told_by_its_field() -> None:
    live = make.account()
    assert differences(live, live.model_copy(update={"period_used": 7})) == [
        f"period_used: the log leads to {live.period_used}, the account says 7"
    ]  # fmt: skip


def test_without_the_beginning_of_a_team_nothing_is_made_up() -> None:
    made = AccountFromLog([], RULES)
    made.entry(make.ledger_entry())
    assert made.account(9) is None
    assert len(made.problems) == 1


@pytest.mark.parametrize("opening", [0, 1_000_000])
def test_an_account_that_only_a_late_credit_opens_is_compared_by_its_balance(opening: int) -> None:
    """Of teams older than the commands that are kept, the check made a second account out of the next deposit, and was red."""
    history = History()
    history.send(make.open_account, TEAMS[0], balance_atomic=opening)
    history.step(100, 100)
    history.at_ms += 100 * DAY_MS
    history.send(make.credit_wallet, TEAMS[0], amount_atomic=2_000_000)
    history.step(100, 100)

    def compared(live: AccountSnapshot) -> Compared:
        teams = TeamsOfLog(RULES, history.commands_to, history.at_ms)
        teams.commands(history.commands[1:])
        for offset, entry in enumerate(history.ledger):
            record = encode(entry)
            teams.entry(Input(LEDGER.name, 0, offset, history.at_ms, record.key, record.value, record.headers), recent=False)
        teams.compare(0, {TEAMS[0]: live})
        return teams.found

    live = history.states[TEAMS[0]]
    found = compared(live)
    assert (found.differing, found.equal, found.by_balance) == ([], 0, 1)
    assert not compared(live.model_copy(update={"balance_atomic": live.balance_atomic + 1})).ok


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_a_team_without_a_beginning_may_go_on_while_it_is_compared(taken: int) -> None:
    """Its account was read before, between, or after the entries that came meanwhile; a balance it never had is red all the same."""
    history = History()
    history.send(make.open_account, TEAMS[0], balance_atomic=1_000_000)
    history.step(100, 100)
    before = len(history.ledger)
    lived = [history.states[TEAMS[0]]]
    for _ in range(3):
        history.use(TEAMS[0], 80, 1, "message")
        history.step(100, 100)
        lived.append(history.states[TEAMS[0]])

    def compared(live: AccountSnapshot) -> Compared:
        teams = TeamsOfLog(RULES, history.commands_to, history.at_ms)
        for offset, entry in enumerate(history.ledger):
            record = encode(entry)
            teams.entry(Input(LEDGER.name, 0, offset, history.at_ms, record.key, record.value, record.headers), recent=offset >= before)
        teams.compare(0, {TEAMS[0]: live})
        return teams.found

    found = compared(lived[taken])
    assert (found.differing, found.by_balance) == ([], 1)
    assert not compared(lived[taken].model_copy(update={"balance_atomic": lived[taken].balance_atomic + 1})).ok
