"""What teams are told: at 80 % and 100 % of a limit, when the wallet cannot pay, when ingest works again, and each cause once."""

from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kite_billing.application.end_blocks import BlockEnds, end_blocks
from kite_billing.application.run_command import Place, Ran, run_command
from kite_billing.domain.account import Rules
from kite_billing.domain.notices import blocking, due_ms, noticed
from kite_billing.domain.tab import Tab
from kite_common.events.accounts import AccountSnapshot, Subscription
from kite_common.events.commands import Command
from kite_common.events.envelope import read_stored
from kite_common.events.notices import SubscriptionNotice
from kite_common.plans import Catalog, shipped_catalog
from kite_common.testing import make

RULES = Rules(shipped_catalog(), clerk_paid_plans=True)
NOW = make.NOW_MS
DAY_MS = 86_400_000
MIDNIGHT = (NOW // DAY_MS + 1) * DAY_MS


def limited(month: int = 1_000, day: int = 1_000, price: int = 100, **given: Any) -> AccountSnapshot:
    terms = make.terms(events_per_month=month, events_per_day=day, price_atomic_per_event=price)
    return make.account(**({"subscription": make.subscription(terms=terms)} | given))


def charge(account: AccountSnapshot, count: int, at_ms: int = NOW, first: int = 0) -> tuple[AccountSnapshot, list[SubscriptionNotice]]:
    tab = Tab(account, Catalog(()))
    for number in range(first, first + count):
        tab.charge(make.usage(event_id=make.event_id(number), price_atomic=_price(account)), at_ms)
    return tab.account(account.applied + 1), tab.notices


def _price(account: AccountSnapshot) -> int:
    return 0 if account.subscription is None else account.subscription.price_atomic_per_event


def told(notices: list[SubscriptionNotice] | tuple[SubscriptionNotice, ...]) -> list[tuple[str, str | None, int, int]]:
    return [(notice.kind, notice.reason, notice.events_used, notice.events_limit) for notice in notices]


def run(account: AccountSnapshot | None, command: Command, at_ms: int = NOW) -> Ran:
    return run_command(account, command, at_ms, Place(3, 9), RULES)


def changed(account: AccountSnapshot, command: Command, at_ms: int = NOW) -> tuple[AccountSnapshot, list[tuple[str, str | None, int, int]]]:
    ran = run(account, command, at_ms)
    assert ran.account is not None
    return ran.account, told(ran.notices)


def test_a_month_is_warned_of_at_eighty_percent_and_told_at_its_end() -> None:
    account, notices = charge(limited(month=10), 7)
    assert notices == []
    account, notices = charge(account, 3, first=7)
    assert told(notices) == [("quota_warning", "month", 8, 10), ("quota_exhausted", "month", 10, 10)]
    account, notices = charge(account, 3, first=10)
    assert (told(notices), [block.reason for block in account.blocks]) == ([], ["month"])


def test_a_day_has_counts_of_its_own() -> None:
    account, notices = charge(limited(day=5, period_used=300), 5)
    assert told(notices) == [("quota_warning", "day", 4, 5), ("quota_exhausted", "day", 5, 5)]
    _, notices = charge(account, 5, MIDNIGHT, first=5)
    assert told(notices) == [("quota_restored", "day", 0, 5), ("quota_warning", "day", 4, 5), ("quota_exhausted", "day", 5, 5)]


def test_a_wallet_that_cannot_pay_for_one_event_more_is_told_once_and_again_after_the_next_deposit() -> None:
    account, first = charge(limited(balance_atomic=250), 2)
    assert told(first) == [("quota_exhausted", "wallet", 2, 1_000)]
    assert first[0].balance_atomic == 50
    account, notices = charge(account, 1, first=2)
    assert notices == []
    account, restored = changed(account, make.credit_wallet(command_id="c1", amount_atomic=100))
    assert restored == [("quota_restored", "wallet", 3, 1_000)]
    _, again = charge(account, 1, first=3)
    assert [notice.kind for notice in again] == ["quota_exhausted"]
    assert again[0].event_id != first[0].event_id


def test_a_deposit_that_does_not_help_restores_nothing() -> None:
    account, _ = charge(limited(balance_atomic=100), 1)
    assert changed(account, make.credit_wallet(command_id="c1", amount_atomic=99))[1] == []


def test_nothing_is_restored_while_another_reason_stands() -> None:
    account, notices = charge(limited(day=2, balance_atomic=200), 2)
    assert [notice.reason for notice in notices] == ["day", "wallet"]
    account, restored = changed(account, make.credit_wallet(command_id="c1", amount_atomic=500))
    assert restored == []
    assert changed(account, make.credit_wallet(command_id="c2", amount_atomic=1), MIDNIGHT)[1] == [("quota_restored", "day", 0, 2)]


def test_who_is_told_that_all_is_gone_is_not_told_that_little_is_left() -> None:
    assert [notice.kind for notice in charge(limited(month=1), 1)[1]] == ["quota_exhausted"]
    assert [notice.kind for notice in charge(limited(month=4), 4)[1]] == ["quota_exhausted"]


def test_a_larger_plan_restores_and_a_smaller_one_ends_ingest_at_once() -> None:
    account, notices = changed(make.account(period_used=200_000), make.subscribe(command_id="a", plan_id=make.plan("starter").id))
    assert notices == [("quota_exhausted", "month", 200_000, 100_000)]
    account, notices = changed(account, make.subscribe(command_id="b", plan_id=make.plan("growth").id))
    assert notices == [("quota_restored", "month", 200_000, 1_000_000)]
    account, notices = changed(account, make.subscribe(command_id="c", plan_id=make.plan("starter").id))
    assert notices == [("quota_exhausted", "month", 200_000, 100_000)]


def test_a_flat_plan_knows_no_wallet() -> None:
    ran = run(make.account(balance_atomic=0, subscription=make.subscription("free", provider="clerk")), make.adjust_wallet(amount_atomic=0))
    assert ran.notices == ()
    account, notices = charge(limited(month=1, subscription=make.subscription(
        "free", provider="clerk", terms=make.terms("free", events_per_month=1)
    )), 1)  # fmt: skip
    assert [notice.balance_atomic for notice in notices] == [None]
    assert [block.reason for block in account.blocks] == ["month"]


def test_an_outside_payment_that_fails_is_told_when_past_due_begins() -> None:
    flat = make.account(subscription=make.subscription("growth", provider="clerk"))
    account, notices = changed(flat, make.set_past_due(command_id="f1"))
    assert notices == [("payment_failed", None, 0, 1_000_000)]
    assert account.subscription is not None
    assert account.subscription.status == "past_due"
    assert changed(account, make.set_past_due(command_id="f2"))[1] == []
    paid, notices = changed(account, make.set_past_due(command_id="f3", past_due=False))
    assert notices == []
    assert paid.subscription is not None
    assert paid.subscription.status == "active"
    assert [kind for kind, *_ in changed(paid, make.set_past_due(command_id="f4"))[1]] == ["payment_failed"]


@pytest.mark.parametrize(
    ("account", "refusal"),
    [(None, "no_account"), (make.account(subscription=None), "subscription_conflict"), (make.account(), "invalid_provider")],
)
def test_only_a_flat_plan_can_be_past_due(account: AccountSnapshot | None, refusal: str) -> None:
    assert run(account, make.set_past_due(command_id="x")).outcome.refusal == refusal


@pytest.mark.parametrize(
    ("plan", "provider", "status"),
    [("growth", "clerk", "past_due"), ("pro", "clerk", "past_due"), ("free", "clerk", "active"), ("growth", "x402", "active")],
)
def test_an_open_bill_is_not_left_by_a_plan_that_would_be_billed_the_same_way(plan: str, provider: str, status: str) -> None:
    owing = make.account(subscription=make.subscription("growth", provider="clerk", status="past_due"))
    account, _ = changed(owing, make.subscribe(command_id="x", plan_id=make.plan(plan).id, provider=provider))
    assert account.subscription is not None
    assert (account.subscription.plan_name, account.subscription.status) == (plan, status)


def test_without_an_active_subscription_blocks_are_forgotten_in_silence() -> None:
    account, _ = charge(limited(balance_atomic=100), 1)
    account, notices = changed(account, make.cancel_subscription(command_id="x"))
    assert (notices, account.blocks) == ([], ())
    assert noticed(make.account(subscription=None), "x", NOW).account == make.account(subscription=None)


def test_time_alone_ends_a_day_and_a_period() -> None:
    account, _ = charge(limited(day=2), 2)
    assert due_ms(account) == MIDNIGHT
    ends = BlockEnds([account, make.account(team_id="team_b")])
    assert ends.ended(MIDNIGHT - 1) == []
    assert ends.ended(MIDNIGHT) == [make.TEAM]
    [found] = end_blocks([make.TEAM], {make.TEAM: account}, MIDNIGHT, 20, RULES.catalog)
    assert (told(found.notices), found.account.applied, found.account.day_used) == ([("quota_restored", "day", 0, 2)], 20, 0)
    assert end_blocks([make.TEAM], {make.TEAM: found.account}, MIDNIGHT, 21, RULES.catalog) == []
    by_month, _ = charge(limited(month=2), 2)
    assert by_month.subscription is not None
    end = by_month.subscription.period_end
    assert due_ms(by_month) == end
    [over] = end_blocks([make.TEAM], {make.TEAM: by_month}, end, 20, Catalog(()))
    assert [notice.kind for notice in over.notices] == ["quota_restored"]
    assert due_ms(limited(balance_atomic=0, blocks=())) is None


def test_a_tick_and_a_usage_tell_the_same_end_by_the_same_id() -> None:
    account, _ = charge(limited(day=2), 2)
    [ticked] = end_blocks([make.TEAM], {make.TEAM: account}, MIDNIGHT, 20, Catalog(()))
    _, by_usage = charge(account, 1, MIDNIGHT + 5, first=2)
    assert ticked.notices[0].event_id == by_usage[0].event_id


def test_a_notice_is_a_cloud_event_of_kite() -> None:
    notice = make.notice()
    stored = read_stored(notice.to_event(), 4711)
    assert (stored.event_id, stored.type, stored.source) == (
        notice.event_id, "kite.subscription.quota_warning", "https://getkite.sh/billing",
    )  # fmt: skip
    event = orjson.loads(notice.to_event())
    assert event["data"] == {
        "reason": "month", "events_used": 80_000, "events_limit": 100_000, "balance_atomic": 1_000_000,
        "current_period_end": "2026-05-29T10:00:00.000Z",
    }  # fmt: skip
    assert event["kitesummary"] == "kite.subscription.quota_warning from kite"
    assert notice.record().headers[0] == ("kite-record", b"event")


@dataclass
class Told:
    """The events of a team's stream, as a reader keeps them."""

    ids: list[str] = field(default_factory=list)
    is_blocked: bool = False


class Telling(RuleBasedStateMachine):
    """Usages, deposits, corrections, switches, days and months in any order: what was told is what is so."""

    def __init__(self) -> None:
        super().__init__()
        self.account = limited(month=12, day=6, price=10, balance_atomic=60)
        self.at_ms, self.number, self.told = NOW, 0, Told()

    def _hear(self, account: AccountSnapshot | None, notices: Any) -> None:
        assert account is not None
        self.account = account
        for notice in notices:
            self.told.ids.append(notice.event_id)
            if notice.kind == "quota_exhausted":
                self.told.is_blocked = True
            elif notice.kind == "quota_restored":
                assert self.told.is_blocked, "restored what was not told to be gone"
                self.told.is_blocked = False

    @rule(count=st.integers(1, 5), kind=st.sampled_from(["message", "replay"]))
    def use(self, count: int, kind: str) -> None:
        tab = Tab(self.account, RULES.catalog)
        for _ in range(count):
            self.number += 1
            tab.charge(make.usage(event_id=make.event_id(self.number), price_atomic=_price(self.account), usage_kind=kind), self.at_ms)
        self._hear(tab.account(self.account.applied + 1), tab.notices)

    @rule(amount=st.integers(-40, 60))
    def adjust(self, amount: int) -> None:
        self._command(make.adjust_wallet(command_id=self._id(), amount_atomic=amount))

    @rule(plan=st.sampled_from(["free", "starter"]), provider=st.sampled_from(["x402", "clerk"]))
    def subscribe(self, plan: str, provider: str) -> None:
        self._command(make.subscribe(command_id=self._id(), plan_id=make.plan(plan).id, provider=provider))

    @rule(past_due=st.booleans())
    def bill(self, past_due: bool) -> None:
        self._command(make.set_past_due(command_id=self._id(), past_due=past_due))

    @rule(by_ms=st.sampled_from([1_000, DAY_MS // 2, 31 * DAY_MS]))
    def time_passes(self, by_ms: int) -> None:
        self.at_ms += by_ms
        ends = BlockEnds([self.account])
        for found in end_blocks(ends.ended(self.at_ms), {make.TEAM: self.account}, self.at_ms, self.account.applied + 1, RULES.catalog):
            self._hear(found.account, found.notices)

    def _command(self, command: Command) -> None:
        ran = run(self.account, command, self.at_ms)
        self._hear(ran.account, ran.notices)
        again = run(self.account, command, self.at_ms)
        assert (again.account, again.notices, again.entries) == (self.account, (), ())

    def _id(self) -> str:
        self.number += 1
        return f"command-{self.number}"

    @invariant()
    def what_was_told_is_what_is_so(self) -> None:
        current: Subscription | None = self.account.subscription
        assert current is not None
        if current.status == "active":
            reasons = blocking(self.account, current)
            assert tuple(block.reason for block in self.account.blocks) == reasons
            assert self.told.is_blocked == bool(reasons)
        else:
            self.told.is_blocked = False

    @invariant()
    def every_cause_is_told_once(self) -> None:
        assert len(set(self.told.ids)) == len(self.told.ids)


Telling.TestCase.settings = settings(max_examples=80, stateful_step_count=40)
TestTelling = Telling.TestCase


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 400), st.lists(st.integers(1, 6), max_size=12))
def test_however_usages_are_cut_into_steps_the_same_is_told(month: int, day: int, balance: int, steps: list[int]) -> None:
    start = limited(month=month, day=day, price=10, balance_atomic=balance)
    account, first, split = start, 0, []
    for count in steps:
        account, notices = charge(account, count, first=first)
        first += count
        split += notices
    whole, at_once = charge(start, first)
    assert (split, account.model_copy(update={"applied": whole.applied})) == (at_once, whole)
