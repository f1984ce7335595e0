"""Commands of payments: applied by their seq, never refused as credits, pages, reversals, debt, and what the payments processor hears."""

from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kite_billing.application.run_command import Place, Ran, run_command
from kite_billing.domain.account import REMEMBERED_PAYMENT_DAYS, REMEMBERED_PAYMENTS, Rules
from kite_billing.domain.payment_credit import decide_payment, payment_of
from kite_billing.domain.tab import Tab
from kite_common.events.accounts import AccountSnapshot
from kite_common.events.commands import Command
from kite_common.events.ledger import LedgerEntry
from kite_common.ids import UNATTRIBUTED, CommandId, EventId, ledger_entry_of_debt, ledger_entry_of_event
from kite_common.money import UNLIMITED
from kite_common.plans import shipped_catalog
from kite_common.testing import make
from kite_common.x402.key import ledger_entry_of

RULES = Rules(shipped_catalog())
NOW = make.NOW_MS
DAY_MS = 86_400_000
KEY = make.PAYMENT_KEY


def run(account: AccountSnapshot | None, command: Command, at_ms: int = NOW) -> Ran:
    return run_command(account, command, at_ms, Place(3, 7), RULES)


def after(account: AccountSnapshot | None, *commands: Command) -> AccountSnapshot:
    def step(before: AccountSnapshot | None, command: Command) -> AccountSnapshot:
        account = run(before, command).account
        assert account is not None
        return account

    result = reduce(step, commands, account)
    assert result is not None
    return result


def amounts(ran: Ran) -> list[tuple[str, str, int, int]]:
    return [(entry.entry, entry.reason, entry.amount_atomic, entry.balance_after_atomic) for entry in ran.entries]


def test_a_payment_is_credited_under_an_id_of_its_own_and_answered() -> None:
    ran = run(make.account(), make.payment_credit())
    [entry] = ran.entries
    assert (entry.id, entry.payment) == (ledger_entry_of(KEY, 1), make.payment())
    assert amounts(ran) == [("credit", "deposit", 1_000_000, 2_000_000)]
    assert ran.credited == make.credit_applied(applied=7, partition=3)


def test_a_repeat_moves_nothing_and_is_answered_again() -> None:
    account = after(make.account(), make.payment_credit())
    ran = run(account, make.payment_credit())
    assert (ran.entries, ran.account is account, ran.outcome.refusal) == ((), True, None)
    assert ran.credited == make.credit_applied(applied=7, partition=3)


@pytest.mark.parametrize(("first", "second", "applied"), [(1, 1, False), (2, 1, False), (1, 2, True), (1, 3, True)])
def test_only_a_seq_above_the_last_one_is_applied(first: int, second: int, applied: bool) -> None:
    account = after(make.account(), make.payment_credit(make.settled_payment(seq=first)))
    ran = run(account, make.payment_credit(make.settled_payment(seq=second)))
    assert bool(ran.entries) is applied


def test_another_payment_has_a_count_of_its_own_and_case_is_the_senders() -> None:
    account = after(make.account(), make.payment_credit(make.settled_payment(seq=9)))
    assert run(account, make.payment_credit(make.settled_payment(payment_key="another|key|of|one"))).entries


def test_an_unknown_team_gets_an_account_without_a_plan() -> None:
    account = after(None, make.payment_credit(team_id=UNATTRIBUTED))
    assert (account.team_id, account.balance_atomic, account.subscription) == (UNATTRIBUTED, 1_000_000, None)


def test_a_bootstrap_opens_with_the_given_subscription_and_its_deposit() -> None:
    ran = run(None, make.open_account(payment=make.settled_payment(), subscription_id="sub-of-the-payment"))
    assert ran.account is not None
    assert ran.account.subscription is not None
    assert (ran.account.subscription.id, ran.account.balance_atomic) == ("sub-of-the-payment", 1_000_000)
    assert ran.credited is not None
    assert (ran.credited.refused, [entry.id for entry in ran.entries]) == (None, [ledger_entry_of(KEY, 1)])


def test_a_bootstrap_on_an_open_account_credits_and_leaves_it_as_it_is() -> None:
    before = make.account()
    ran = run(before, make.open_account(payment=make.settled_payment(), subscription_id="other"))
    assert ran.account is not None
    assert ran.credited is not None
    assert (ran.account.subscription, ran.account.balance_atomic) == (before.subscription, 2_000_000)
    assert (ran.outcome.refusal, ran.credited.refused) == (None, "account_exists")


def test_a_bootstrap_gives_an_account_without_a_plan_its_subscription() -> None:
    account = after(make.account(subscription=None), make.open_account(payment=make.settled_payment(), subscription_id="s"))
    assert account.subscription is not None
    assert (account.subscription.id, account.balance_atomic) == ("s", 2_000_000)


@pytest.mark.parametrize(("given", "refused"), [({"plan_id": "0" * 8}, "plan_not_found"), ({"provider": "clerk"}, "invalid_provider")])
def test_a_bootstrap_whose_plan_cannot_be_had_is_credited_all_the_same(given: dict[str, Any], refused: str) -> None:
    ran = run(None, make.open_account(payment=make.settled_payment(), **given))
    assert ran.account is not None
    assert ran.credited is not None
    assert (ran.account.balance_atomic, ran.account.subscription, ran.credited.refused) == (1_000_000, None, refused)


def test_a_page_is_debited_with_its_credit_and_the_rest_stays() -> None:
    ran = run(make.account(subscription=None, balance_atomic=0), make.payment_credit(amount_atomic=2_500, page=make.page_debit()))
    assert amounts(ran) == [("credit", "deposit", 2_500, 2_500), ("debit", "replay", -2_500, 0)]
    page = ran.entries[1]
    assert (page.id, page.event_id, page.quantity, page.payment) == (
        ledger_entry_of_event(EventId(make.event_id(9_000))), make.event_id(9_000), 250, None,
    )  # fmt: skip


def test_a_page_counts_as_charged_and_not_in_quotas() -> None:
    account = after(make.account(), make.payment_credit(amount_atomic=2_500, page=make.page_debit()))
    assert (account.period_charged_atomic, account.period_used, account.day_used) == (2_500, 0, 0)


def test_a_page_that_costs_more_than_there_is_stays_undone_and_the_credit_stands() -> None:
    ran = run(make.account(balance_atomic=0), make.payment_credit(amount_atomic=2_499, page=make.page_debit()))
    assert ran.credited is not None
    assert (amounts(ran), ran.credited.refused) == ([("credit", "deposit", 2_499, 2_499)], "insufficient_funds")


def test_a_credit_larger_than_a_wallet_holds_is_told_not_refused() -> None:
    [entry] = run(make.account(balance_atomic=UNLIMITED - 1), make.payment_credit()).entries
    assert (entry.amount_atomic, entry.balance_after_atomic, entry.shortfall_atomic) == (1, UNLIMITED, 999_999)


def test_a_reversal_takes_what_is_there_and_the_next_credits_pay_the_rest() -> None:
    account = after(make.account(balance_atomic=0), make.payment_credit())
    account = account.model_copy(update={"balance_atomic": 300_000})
    ran = run(account, make.reverse_credit())
    assert amounts(ran) == [("reversal", "reorg", -300_000, 0)]
    assert (ran.entries[0].id, ran.entries[0].shortfall_atomic) == (ledger_entry_of(KEY, 2), 700_000)
    assert ran.account is not None
    assert (ran.account.balance_atomic, ran.account.debt_atomic) == (0, 700_000)
    some = run(ran.account, make.credit_wallet(command_id="c1", amount_atomic=200_000))
    assert amounts(some) == [("credit", "deposit", 200_000, 200_000), ("reversal", "reorg", -200_000, 0)]
    assert some.entries[1].id == ledger_entry_of_debt(CommandId("c1"))
    assert some.account is not None
    rest = run(some.account, make.adjust_wallet(command_id="c2", amount_atomic=600_000))
    assert amounts(rest) == [("credit", "correction", 600_000, 600_000), ("reversal", "reorg", -500_000, 100_000)]
    assert rest.account is not None
    assert rest.account.debt_atomic == 0


def test_a_page_is_served_before_debt_is_paid() -> None:
    account = make.account(balance_atomic=0, debt_atomic=10_000)
    ran = run(account, make.payment_credit(amount_atomic=3_000, page=make.page_debit()))
    assert [entry[2] for entry in amounts(ran)] == [3_000, -2_500, -500]
    assert ran.account is not None
    assert (ran.account.balance_atomic, ran.account.debt_atomic) == (0, 9_500)


def test_a_payment_that_comes_back_after_its_reversal_is_credited_again() -> None:
    account = after(make.account(balance_atomic=0), make.payment_credit(), make.reverse_credit())
    again = run(account, make.payment_credit(make.settled_payment(seq=3)))
    assert amounts(again) == [("credit", "deposit", 1_000_000, 1_000_000)]


def test_a_reversal_where_nothing_was_credited_takes_nothing_and_is_answered() -> None:
    ran = run(None, make.reverse_credit())
    assert (ran.account, ran.entries) == (None, ())
    assert ran.credited is not None
    assert (ran.credited.refused, ran.credited.seq) == ("no_account", 2)


def test_payments_are_remembered_for_ninety_days_and_so_many_at_most() -> None:
    account = after(make.account(), make.payment_credit())
    late = run(account, make.payment_credit(make.settled_payment(payment_key="b")), NOW + REMEMBERED_PAYMENT_DAYS * DAY_MS).account
    assert late is not None
    assert len(late.payments) == 2
    later = run(account, make.payment_credit(make.settled_payment(payment_key="b")), NOW + (REMEMBERED_PAYMENT_DAYS + 1) * DAY_MS).account
    assert later is not None
    assert len(later.payments) == 1
    for number in range(REMEMBERED_PAYMENTS + 5):
        account = after(account, make.payment_credit(make.settled_payment(payment_key=f"key {number}"), amount_atomic=0))
    assert len(account.payments) == REMEMBERED_PAYMENTS
    assert len(account.to_json()) < 24_000


def test_payments_do_not_crowd_out_the_commands_of_people() -> None:
    account = after(make.account(), make.adjust_wallet(command_id="mine"))
    for number in range(100):
        account = after(account, make.payment_credit(make.settled_payment(payment_key=f"key {number}")))
    assert run(account, make.adjust_wallet(command_id="mine")).entries == ()


@dataclass
class Model:
    """What the chain paid, by payment, and what the team spent."""

    net: dict[str, int] = field(default_factory=dict)
    seqs: dict[str, int] = field(default_factory=dict)
    spent: int = 0
    corrected: int = 0


class Wallet(RuleBasedStateMachine):
    """Credits, reversals, pages, charges, corrections and switches in any order, with repeats of old commands mixed in."""

    def __init__(self) -> None:
        super().__init__()
        self.account = make.account(balance_atomic=0)
        self.ledger: list[LedgerEntry] = []
        self.sent: list[Command] = []
        self.model, self.number, self.at_ms = Model(), 0, NOW

    def _run(self, command: Command) -> None:
        ran = run(self.account, command, self.at_ms)
        assert ran.account is not None
        self.account, self.sent = ran.account, [*self.sent, command]
        self.ledger += ran.entries

    def _settled(self, name: str) -> Any:
        seq = self.model.seqs[name] = self.model.seqs.get(name, 0) + 1
        return make.settled_payment(payment_key=name, seq=seq)

    @rule(name=st.sampled_from("abc"), amount=st.integers(0, 500), page=st.none() | st.integers(1, 600))
    def credit_or_reverse(self, name: str, amount: int, page: int | None) -> None:
        """As the payments processor does: credit, reversal of the same amount, credit again, in turn."""
        credited = self.model.net.get(name, 0)
        if self.model.seqs.get(name, 0) % 2 == 1:
            self._run(make.reverse_credit(self._settled(name), amount_atomic=credited))
            self.model.net[name] = 0
            return
        self.number += 1
        bought = None if page is None else make.page_debit(event_id=make.event_id(self.number), amount_atomic=page)
        self._run(make.payment_credit(self._settled(name), amount_atomic=amount, page=bought))
        self.model.net[name] = amount

    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        if self.sent:
            before, entries = self.account, len(self.ledger)
            self._run(data.draw(st.sampled_from(self.sent)))
            assert (len(self.ledger), self.account.balance_atomic) == (entries, before.balance_atomic)

    @rule(amount=st.integers(-300, 300))
    def adjust(self, amount: int) -> None:
        self.number += 1
        self._run(make.adjust_wallet(command_id=f"adjust-{self.number}", amount_atomic=amount))

    @rule(price=st.integers(0, 200), kind=st.sampled_from(["message", "replay"]))
    def use(self, price: int, kind: str) -> None:
        self.number += 1
        tab = Tab(self.account, RULES.catalog)
        usage = make.usage(event_id=make.event_id(self.number), price_atomic=price, usage_kind=kind)
        self.ledger.append(tab.charge(usage, self.at_ms))
        self.account = tab.account(self.account.applied + 1)

    @rule(plan=st.sampled_from(["free", "starter", "growth"]), provider=st.sampled_from(["x402", "clerk"]))
    def switch(self, plan: str, provider: str) -> None:
        self.number += 1
        self._run(make.subscribe(command_id=f"switch-{self.number}", plan_id=make.plan(plan).id, provider=provider))

    @rule(by_ms=st.sampled_from([1_000, DAY_MS, 31 * DAY_MS]))
    def time_passes(self, by_ms: int) -> None:
        # Less than the memory of payments in all: repeats of older ones are nobody's.
        if self.at_ms + by_ms < NOW + 80 * DAY_MS:
            self.at_ms += by_ms

    @invariant()
    def the_ledger_adds_up_and_is_never_below_zero(self) -> None:
        balance = 0
        for entry in self.ledger:
            balance += entry.amount_atomic
            assert entry.balance_after_atomic == balance >= 0
        assert self.account.balance_atomic == balance

    @invariant()
    def every_entry_is_there_once(self) -> None:
        assert len({entry.id for entry in self.ledger}) == len(self.ledger)

    @invariant()
    def credits_less_reversals_less_debt_are_what_the_chain_has_paid(self) -> None:
        deposits = sum(entry.amount_atomic for entry in self.ledger if entry.contra == "deposits")
        assert deposits - self.account.debt_atomic == sum(self.model.net.values())

    @invariant()
    def a_snapshot_survives_being_written(self) -> None:
        assert AccountSnapshot.model_validate_json(self.account.to_json()) == self.account


Wallet.TestCase.settings = settings(max_examples=80, stateful_step_count=40)
TestWallet = Wallet.TestCase


def test_commands_of_people_are_no_payments() -> None:
    assert payment_of(make.open_account()) is None
    assert payment_of(make.credit_wallet()) is None
    command, settled = payment_of(make.payment_credit()) or (None, None)
    assert command is not None
    assert settled is not None
    assert decide_payment(make.account(), command, settled, NOW, RULES).facts
